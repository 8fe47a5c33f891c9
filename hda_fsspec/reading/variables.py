"""Variables of a netCDF file one by one: opened and decoded without looking at the others.

Opening a file as a dataset decodes everything in it, which takes longer than a read. Where it is
known what the file holds, a variable of plain numbers can be decoded by itself: nothing in the
rest of the file changes its values.
"""

from __future__ import annotations

import dataclasses
import functools
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


#: Shape, dtype and attributes of a variable, as it is stored.
VariableFacts = tuple[tuple[int, ...], np.dtype[Any], dict[str, Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class StoredStructure:
    """The variables of a netCDF file, as they are stored.

    Attributes
    ----------
    sizes : dict of str to int
        The dimensions, those included that a group has of the groups above it.
    variables : dict of str to tuple
        For each variable its dimensions, dtype and attributes.
    attrs : dict
        The attributes of the file, or of the group.
    """

    sizes: dict[str, int]
    variables: dict[str, tuple[tuple[str, ...], np.dtype[Any], dict[str, Any]]]
    attrs: dict[str, Any]

    def is_alike(self, other: StoredStructure) -> bool:
        """Whether another file holds the same, but for values and for attributes of the file."""
        return self.sizes == other.sizes and self._comparable == other._comparable

    def facts(self, name: str) -> VariableFacts | None:
        """Return shape, dtype and attributes of a variable."""
        if name not in self.variables:
            return None
        dims, dtype, attrs = self.variables[name]
        return tuple(self.sizes[dim] for dim in dims), dtype, attrs

    @functools.cached_property
    def _comparable(self) -> list[Any]:
        return [
            (name, dims, dtype.str, [(key, _comparable(value)) for key, value in attrs.items()])
            for name, (dims, dtype, attrs) in self.variables.items()
        ]


def _comparable(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        # Bytes, so that a missing value is equal to itself, and zero not to minus zero.
        array = np.asarray(value)
        return (array.dtype.str, array.shape, array.tobytes())
    return (type(value).__name__, value)


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
        self.group = group
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
        """A function that closes the file, and does not keep this alive."""
        close: Callable[[], None] = self._store.close
        return close

    def structure(self) -> StoredStructure | None:
        """Return what the file holds; None where it holds other than plain numbers."""
        with HDF5_LOCK:
            held = self._store.ds
            sizes = {name: len(dim) for name, dim in held.dimensions.items()}
            found = {}
            for name, variable in held.variables.items():
                if not _is_plain(variable):
                    return None
                attrs = {key: variable.getncattr(key) for key in variable.ncattrs()}
                sizes.update(zip(variable.dimensions, variable.shape, strict=True))
                found[name] = variable.dimensions, variable.dtype, attrs
            own = {key: held.getncattr(key) for key in held.ncattrs()}
        # xarray takes this one for a list of variables.
        return None if "coordinates" in own else StoredStructure(sizes, found, own)

    def facts(self, name: str) -> VariableFacts | None:
        """Return shape, dtype and attributes of a variable; None unless it is of plain numbers."""
        with HDF5_LOCK:
            variable = self._store.ds.variables.get(name)
            if variable is None or not _is_plain(variable):
                return None
            attrs = {key: variable.getncattr(key) for key in variable.ncattrs()}
            return variable.shape, variable.dtype, attrs

    def stored(self, name: str) -> np.ndarray[Any, Any]:
        """Return the values of a variable as they are stored, none of them decoded."""
        with HDF5_LOCK:
            variable = self._store.ds.variables[name]
            variable.set_auto_maskandscale(False)
            return np.asarray(variable[...])

    def _decode(self, name: str) -> xr.Variable:
        with HDF5_LOCK:
            raw = self._store.open_store_variable(name, self._store.ds.variables[name])
        return decoded(name, raw)


def _is_plain(variable: Any) -> bool:
    """Whether a variable of the library holds numbers, and none that stand for names."""
    dtype = variable.dtype
    is_number = isinstance(dtype, np.dtype) and dtype.kind in "iuf"
    return is_number and isinstance(variable.datatype, np.dtype)


def decode_stored(
    structure: StoredStructure, name: str, values: np.ndarray[Any, Any]
) -> xr.Variable:
    """Return a variable of a file, whose values were read as they are stored, as it is decoded."""
    dims, _, attrs = structure.variables[name]
    return decoded(name, xr.Variable(dims, values, attrs))


def decoded(name: str, raw: xr.Variable) -> xr.Variable:
    """Return a variable by itself, as xarray decodes it in a dataset."""
    # As xr.open_dataset does it, which leaves related variables aside by default too.
    variables, _, _ = xr.conventions.decode_cf_variables({name: raw}, {}, decode_coords=False)
    found: xr.Variable = variables[name]
    return found
