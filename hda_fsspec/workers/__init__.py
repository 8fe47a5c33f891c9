"""What lazy data needs in the threads and processes of Dask: waiting, and pickling."""
