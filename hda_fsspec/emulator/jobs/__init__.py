"""Subset jobs: data sets that have no files, but make one of whatever is ordered."""
