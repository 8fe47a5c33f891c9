"""Lazy data in the threads and processes of Dask: waiting, and pickling."""
