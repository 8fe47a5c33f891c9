"""The cache folder and all that is kept in it. Knows no network."""
