"""Schemas of data sets: the names, types and dates that a query may hold. No I/O."""
