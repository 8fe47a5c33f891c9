"""One local file of any format as a dataset. Knows nothing of where it came from."""
