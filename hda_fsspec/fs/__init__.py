"""The fsspec filesystem."""
