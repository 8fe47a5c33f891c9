"""What takes a process a second to import, for processes that are forked when it is there."""

from __future__ import annotations

import dask.array
import dask.multiprocessing
import netCDF4
import xarray as xr

import hda_fsspec.engine.lazy_imports

assert dask.array
assert dask.multiprocessing
assert netCDF4
assert hda_fsspec.engine.lazy_imports

xr.backends.list_engines()
