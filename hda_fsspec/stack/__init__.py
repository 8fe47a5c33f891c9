"""Many products of one grid as one lazy data set."""
