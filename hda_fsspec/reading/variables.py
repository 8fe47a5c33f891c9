"""Variables of a netCDF file one by one: opened and decoded without looking at the others.

Opening a file as a dataset decodes everything in it, which takes longer than a read. Where it is
known what the file holds, a variable of plain numbers can be decoded by itself: nothing in the
rest of the file changes its values.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import NetCDF4DataStore

from hda_fsspec.formats.detect import Format, sniff
from hda_fsspec.reading.library_locks import HDF5_LOCK
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.reading.selfcontained import refuse_references


def open_variables(
    path: Path, options: OpenOptions, *, name: str = "", scratch: Path | None = None
) -> NetCDFVariables | None:
    """Open a file for its single variables; None if it cannot be read so.

    The options must leave everything to xarray's defaults, and the netCDF library must read the
    file: what it refuses may be opened as a dataset all the same, with another library. The name
    is for messages, and ``scratch`` a folder for notes.

    Raises ProductFormatError for a file that leads to others.
    """
    plain = OpenOptions(group=options.group, drop_variables=options.drop_variables)
    if options != plain or sniff(path) not in {Format.HDF5, Format.NETCDF3}:
        return None
    refuse_references(path, name=name or str(path), scratch=scratch)
    try:
        return NetCDFVariables(path, options.group)
    except (FileNotFoundError, PermissionError):
        raise
    except (ImportError, OSError):
        return None


def are_numbers(dtype: np.dtype[Any], encoding: Any) -> bool:
    """Whether decoded values are plain numbers, and no times, durations or text."""
    return dtype.kind in "fiu" and "units" not in encoding


class NetCDFVariables:
    """An open netCDF file whose variables are decoded one by one.

    Parameters
    ----------
    path : Path
        A netCDF file.
    group : str or None
        The group.
    """

    def __init__(self, path: Path, group: str | None) -> None:
        open_store: Any = NetCDF4DataStore.open
        with HDF5_LOCK:
            self._store = open_store(os.fspath(path), group=group, lock=HDF5_LOCK)
        self._decoded: dict[str, xr.Variable] = {}

    def __getitem__(self, name: str) -> xr.Variable:
        found = self._decoded.get(name)
        if found is None:
            found = self._decoded[name] = self._decode(name)
        return found

    @property
    def closer(self) -> Callable[[], None]:
        """What closes the file, and does not keep this alive."""
        close: Callable[[], None] = self._store.close
        return close

    def _decode(self, name: str) -> xr.Variable:
        with HDF5_LOCK:
            raw = self._store.open_store_variable(name, self._store.ds.variables[name])
        # As xr.open_dataset does it, which leaves related variables aside by default too.
        variables, _, _ = xr.conventions.decode_cf_variables({name: raw}, {}, decode_coords=False)
        found: xr.Variable = variables[name]
        return found
