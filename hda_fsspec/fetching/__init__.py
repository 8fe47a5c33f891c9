"""How products get from the service into the cache: orders, quota, waiting, transfers."""
