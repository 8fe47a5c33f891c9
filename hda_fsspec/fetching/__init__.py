"""Fetching: orders, quota, waiting, transfers, from the service into the cache."""
