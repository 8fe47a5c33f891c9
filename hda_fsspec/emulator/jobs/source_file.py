"""The netCDF file that a subset data set is cut from: its axes, and raw values of its variables.

It knows files, and no request. Its header is read by the worker; values are read where the worker
makes a file of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hda_fsspec.emulator.jobs.worker import call
from hda_fsspec.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TIME, LATITUDE, LONGITUDE = "time", "latitude", "longitude"

#: What files call the three axes, the most telling name first.
_NAMES = {
    TIME: ("valid_time", "time", "forecast_reference_time"),
    LATITUDE: ("latitude", "lat"),
    LONGITUDE: ("longitude", "lon"),
}

#: Other axes: the key that asks for their values, and what files call them.
LEVELS = {
    "pressure_level": ("pressure_level", "isobaricInhPa", "level", "plev"),
    "model_level": ("model_level", "hybrid"),
    "leadtime_hour": ("forecast_period", "step", "leadtime", "leadtime_hour"),
    "number": ("number",),
    "depth": ("depth",),
}

_PACKING = ("scale_factor", "add_offset")
_FILLS = ("_FillValue", "missing_value")


@dataclasses.dataclass(frozen=True)
class Coordinate:
    """A dimension with a coordinate.

    Attributes
    ----------
    name : str
        Of the dimension, and of its coordinate.
    values : numpy.ndarray
        Numbers as floats; of time ``datetime64[ms]``.
    """

    name: str
    values: NDArray[Any]

    @property
    def first(self) -> Any:
        """The lowest value."""
        return self.values.min()

    @property
    def last(self) -> Any:
        """The highest value."""
        return self.values.max()


@dataclasses.dataclass(frozen=True)
class Stored:
    """A variable as it is stored, without its values."""

    name: str
    dims: tuple[str, ...]
    dtype: Any
    attrs: Mapping[str, Any]

    @property
    def is_text(self) -> bool:
        """True for variable-length strings."""
        return self.dtype is str

    @property
    def is_packed(self) -> bool:
        """True for numbers that are written by a scale or an offset."""
        return any(name in self.attrs for name in _PACKING)

    @property
    def decoded_itemsize(self) -> int:
        """Bytes of one value as xarray decodes it."""
        import numpy as np
        import xarray as xr

        attrs = {k: v for k, v in self.attrs.items() if k in (*_PACKING, *_FILLS)}
        empty = xr.Dataset({"v": ("x", np.empty(0, self.dtype), attrs)})
        return int(xr.decode_cf(empty)["v"].dtype.itemsize)

    def decode(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Return stored values as numbers, NaN where there is none."""
        import numpy as np

        values = raw.astype(np.float64 if self.is_packed else np.float32)
        for name in _FILLS:
            if name in self.attrs:
                values[np.isin(raw, np.asarray(self.attrs[name], raw.dtype))] = np.nan
        if self.is_packed:
            values = values * self.attrs.get("scale_factor", 1) + self.attrs.get("add_offset", 0)
        return values.astype(np.float32)


_Header: TypeAlias = "tuple[dict[str, Stored], dict[str, Any], dict[str, NDArray[Any]]]"


class SourceFile:
    """One netCDF file, whose header is read when something of it is first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: _Header | None = None

    @property
    def _header(self) -> _Header:
        # Without the lock of a cached property (Python 3.11), which a child that was forked while
        # this goes on would find held for ever.
        if self._read is None:
            self._read = call(read_header, self.path)
        return self._read

    @property
    def variables(self) -> Mapping[str, Stored]:
        """All variables by name."""
        return self._header[0]

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The attributes of the file."""
        return self._header[1]

    @functools.cached_property
    def axes(self) -> dict[str, Coordinate]:
        """The axes: time, latitude, longitude, and others by the key that asks for them."""
        found: dict[str, Coordinate] = {}
        for key, names in (_NAMES | LEVELS).items():
            name = next((n for n in names if n in self._header[2]), None)
            if name is not None:
                found[key] = Coordinate(name, self._decode(key, name))
        missing = [key for key in _NAMES if key not in found]
        if missing:
            msg = (
                f"The emulator cannot cut subsets of {self.path}: it has no dimension of "
                f"{missing[0]} with a coordinate ({', '.join(_NAMES[missing[0]])})."
            )
            raise ConfigurationError(msg)
        return found

    def _decode(self, key: str, name: str) -> NDArray[Any]:
        import numpy as np
        import xarray as xr

        raw = self._header[2][name]
        attrs = dict(self.variables[name].attrs)
        if key == TIME:
            decoded = xr.decode_cf(xr.Dataset({name: (name, raw, attrs)}))[name].values
            return decoded.astype("datetime64[ms]")
        hours = _HOURS.get(str(attrs.get("units", "")).split(" ", 1)[0], 1.0)
        scale = hours if key == "leadtime_hour" else 1.0
        return np.asarray(raw, np.float64) * scale

    @functools.cached_property
    def fields(self) -> dict[str, Stored]:
        """The variables on the grid of latitude and longitude, by name."""
        needed = {self.axes[key].name for key in (LATITUDE, LONGITUDE)}
        return {
            name: variable
            for name, variable in self.variables.items()
            if needed <= set(variable.dims) and name not in self._header[2]
        }

    def raw(self, name: str) -> NDArray[Any]:
        """Return the stored values of the coordinate of a dimension."""
        return self._header[2][name]

    def read(self, names: Collection[str], where: Mapping[str, NDArray[np.intp]]) -> dict[str, Any]:
        """Return stored values of variables at positions along dimensions."""
        with _opened(self.path) as opened:
            return {name: _read(opened, opened[name], where) for name in names}


def read_header(
    path: Path,
) -> tuple[dict[str, Stored], dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the variables of a file, its attributes, and its coordinates as they are stored."""
    with _opened(path) as opened:
        variables = {
            name: Stored(name, v.dimensions, v.dtype, _attributes(v))
            for name, v in opened.variables.items()
        }
        coordinates = {name: opened[name][:] for name in opened.dimensions if name in variables}
        return variables, _attributes(opened), coordinates


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import netCDF4

    try:
        opened = netCDF4.Dataset(str(path))
    except OSError as err:
        msg = f"The emulator cannot cut subsets of {path}: {err}"
        raise ConfigurationError(msg) from err
    with contextlib.closing(opened):
        opened.set_auto_maskandscale(False)
        yield opened


def _read(opened: Any, variable: Any, where: Mapping[str, NDArray[np.intp]]) -> Any:
    import numpy as np

    positions = [
        np.asarray(where[dim], np.intp) if dim in where else np.arange(opened.dimensions[dim].size)
        for dim in variable.dimensions
    ]
    if not positions:
        return variable[...]
    if any(p.size == 0 for p in positions):
        return np.empty([p.size for p in positions], variable.dtype)
    # What lies between is read, too: one piece of the file is faster than many.
    corner = tuple(slice(int(p.min()), int(p.max()) + 1) for p in positions)
    return np.asarray(variable[corner])[np.ix_(*(p - p.min() for p in positions))]


_HOURS = {"seconds": 1 / 3600, "minutes": 1 / 60, "days": 24.0}


def _attributes(opened: Any) -> dict[str, Any]:
    return {name: opened.getncattr(name) for name in opened.ncattrs()}
