"""Formats of files: recognised by their bytes, and checked for completeness."""
