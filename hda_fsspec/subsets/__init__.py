"""Data sets that make one product of whatever is asked for: queries, cut into pieces."""
