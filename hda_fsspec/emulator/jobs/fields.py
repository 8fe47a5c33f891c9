"""The files that a data store makes of a cut: netCDF, GRIB, and archives of them.

Layout and names of netCDF files are those of the converter of the data stores (subset-services A5:
A); of data sets that are files, the producer's own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hda_fsspec.emulator.jobs.grib import Message, grib_bytes
from hda_fsspec.emulator.jobs.grid import Points, interpolate, native, regular
from hda_fsspec.emulator.jobs.netcdf import Written, netcdf_bytes, zip_bytes
from hda_fsspec.emulator.jobs.source_file import LATITUDE, LONGITUDE, TIME, SourceFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RENAMED = ("pressure_level", "model_level")
_ALWAYS_KEPT = frozenset({"number", "expver"})
_TIME_ATTRS = {
    "long_name": "time",
    "standard_name": "time",
    "units": "seconds since 1970-01-01",
    "calendar": "proleptic_gregorian",
}
#: Attributes of fields that follow from packing, or name what files of data stores do not have.
_DROPPED = frozenset(
    {"_FillValue", "missing_value", "scale_factor", "add_offset", "bounds", "grid_mapping"}
    | {"valid_min", "valid_max", "valid_range", "ancillary_variables", "cell_measures"}
)


@dataclasses.dataclass(frozen=True)
class Cut:
    """The part of a source that a request is given.

    Attributes
    ----------
    steps : numpy.ndarray
        Positions along time.
    levels : mapping of str to numpy.ndarray
        Positions along other dimensions, by name.
    names : mapping of str to list of str
        The variables of the source by what the request calls them.
    kinds : mapping of str to str
        The step type of each of them.
    area : tuple of float or None
        North, west, south, east.
    is_native : bool
        Existing points, in the layout of the source.
    files_per, stream, statistic : str
        What has a file of its own, and parts of the names of such files.
    versions : tuple of str or None
        ``expver`` of each step; None for what the source has.
    made : datetime
        When.
    """

    steps: NDArray[np.intp]
    levels: Mapping[str, NDArray[np.intp]]
    names: Mapping[str, list[str]]
    kinds: Mapping[str, str]
    area: tuple[float, ...] | None
    is_native: bool
    files_per: str
    stream: str
    statistic: str
    versions: tuple[str, ...] | None
    made: datetime

    def rows(self, file: SourceFile) -> Points:
        """Return the points along latitude, north first."""
        values = file.raw(file.axes[LATITUDE].name)
        return self._points(values, 2, 0, is_longitude=False).reversed()

    def columns(self, file: SourceFile) -> Points:
        """Return the points along longitude, west first."""
        values = file.raw(file.axes[LONGITUDE].name)
        return self._points(values, 1, 3, is_longitude=True)

    def _points(self, values: NDArray[Any], low: int, high: int, *, is_longitude: bool) -> Points:
        import numpy as np

        order = np.argsort(values, kind="stable")
        if self.area is None:
            return native(values, order)
        ends = self.area[low], self.area[high]
        if not self.is_native:
            return regular(values, *ends, is_longitude=is_longitude)
        start, stop = ends
        turns: tuple[float, ...] = (0.0,)
        if is_longitude:
            stop += 360.0 if stop < start else 0.0
            turns = (-360.0, 0.0, 360.0)
        sorted_values = np.asarray(values, np.float64)[order]
        inside = [(sorted_values + t >= start) & (sorted_values + t <= stop) for t in turns]
        return native(values, order[np.any(inside, axis=0)])

    def shape(self, file: SourceFile) -> tuple[int, ...]:
        """Return the lengths of time, other dimensions, latitude and longitude."""
        lengths = [len(self.steps), *map(len, self.levels.values())]
        return (*lengths, len(self.rows(file).values), len(self.columns(file).values))

    def groups(self) -> dict[str, list[str]]:
        """Return the variables of each netCDF file by its name in an archive."""
        if self.files_per == "variable":
            kind = f"_{self.statistic.replace('_', '-')}" if self.statistic else ""
            return {
                f"{key}_stream-{self.stream}{kind}.nc": names for key, names in self.names.items()
            }
        found: dict[str, list[str]] = {}
        for name, kind in self.kinds.items():
            member = f"data_stream-{self.stream}_stepType-{kind}.nc"
            found.setdefault(member, []).append(name)
        return found

    def container(self, data_format: str, *, is_zip: bool) -> str:
        """Return what is delivered: "zip", "grib" or "netcdf"."""
        if is_zip or (data_format != "grib" and len(self.groups()) > 1):
            return "zip"
        return "grib" if data_format == "grib" else "netcdf"


def make_file(file: SourceFile, cut: Cut, data_format: str, container: str) -> bytes:
    """Return the bytes of what is delivered."""
    if cut.is_native:
        return zip_bytes({_native_name(file, cut): _native_file(file, cut)})
    if data_format == "grib":
        content = grib_bytes(_messages(file, cut))
        return zip_bytes({"data.grib": content}) if container == "zip" else content
    members = {member: _netcdf_file(file, cut, names) for member, names in cut.groups().items()}
    return zip_bytes(members) if container == "zip" else next(iter(members.values()))


def _native_name(file: SourceFile, cut: Cut) -> str:
    if cut.area is None:
        return f"{file.path.stem}.nc"
    box = ".".join(f"{edge:g}" for edge in cut.area)
    return f"{file.path.stem}.area-subset.{box}.nc"


def _native_file(file: SourceFile, cut: Cut) -> bytes:
    import numpy as np

    axes = file.axes
    # In the order of the source, whatever that is.
    where = {
        axes[TIME].name: cut.steps,
        axes[LATITUDE].name: np.sort(cut.rows(file).before),
        axes[LONGITUDE].name: np.sort(cut.columns(file).before),
        **cut.levels,
    }
    wanted = {name for names in cut.names.values() for name in names}
    names = [name for name in file.variables if name in wanted or name not in file.fields]
    data = file.read(names, where)
    stored = [file.variables[name] for name in names]
    variables = [Written(v.name, v.dims, data[v.name], v.attrs, v.dtype) for v in stored]
    return netcdf_bytes(variables, file.attrs, is_compressed=True)


def _netcdf_file(file: SourceFile, cut: Cut, names: list[str]) -> bytes:
    import numpy as np

    axes, rows, columns = file.axes, cut.rows(file), cut.columns(file)
    renamed = _new_names(file)
    where = {axes[TIME].name: cut.steps, **cut.levels}
    extras = _extras(file, where)
    data = file.read(extras, where)
    variables = []
    for name in extras:
        stored = file.variables[name]
        dims = tuple(renamed.get(dim, dim) for dim in stored.dims)
        values = data[name]
        if name == "expver" and cut.versions is not None:
            values = np.array(cut.versions, object)
        variables.append(Written(name, dims, values, stored.attrs, stored.dtype))
    if cut.versions is not None and "expver" not in extras:
        new = renamed[axes[TIME].name]
        variables.append(Written("expver", (new,), np.array(cut.versions, object), {}, str))
        extras = [*extras, "expver"]
    variables.append(_time(file, cut, renamed[axes[TIME].name]))
    for dim, positions in cut.levels.items():
        attrs = file.variables[dim].attrs
        variables.append(Written(renamed[dim], (renamed[dim],), file.raw(dim)[positions], attrs))
    for key, points in ((LATITUDE, rows), (LONGITUDE, columns)):
        attrs = {k: v for k, v in file.variables[axes[key].name].attrs.items() if k != "bounds"}
        if key == LATITUDE and "stored_direction" in attrs:
            attrs["stored_direction"] = "decreasing"
        variables.append(Written(key, (key,), points.values, attrs))
    for name, (dims, values) in _grids(file, cut, names).items():
        attrs = _field_attrs(file, name, rows, columns, extras)
        variables.append(Written(name, tuple(renamed.get(dim, dim) for dim in dims), values, attrs))
    kinds = [cut.kinds[name] for name in names]
    history = {
        "source": "data.grib",
        "filter_by_keys": {"stream": [cut.stream], "stepType": sorted(set(kinds))},
        "encode_cf": ["parameter", "time", "geography", "vertical"],
    }
    attrs = {k: v for k, v in file.attrs.items() if k != "history"}
    converter = "GRIB to CDM+CF via cfgrib-0.9.15.1/ecCodes-2.42.0"
    attrs["history"] = f"{cut.made:%Y-%m-%dT%H:%M} {converter} with {json.dumps(history)}"
    return netcdf_bytes(variables, attrs, is_compressed=True)


def _new_names(file: SourceFile) -> dict[str, str]:
    """Return the names of dimensions in files of data stores, by those in the source."""
    new = {}
    for key, axis in file.axes.items():
        if key == TIME:
            new[axis.name] = "valid_time" if axis.name == "time" else axis.name
        else:
            is_new = key in (LATITUDE, LONGITUDE, *_RENAMED)
            new[axis.name] = key if is_new else axis.name
    return new


def _extras(file: SourceFile, where: Mapping[str, Any]) -> list[str]:
    """Return the coordinates of the source that are no dimensions."""
    listed = {
        name
        for field in file.fields.values()
        for name in str(field.attrs.get("coordinates", "")).split()
    }
    return [
        name
        for name, variable in file.variables.items()
        if name in listed | _ALWAYS_KEPT and name not in where and set(variable.dims) <= set(where)
    ]


def _time(file: SourceFile, cut: Cut, new: str) -> Written:
    import numpy as np

    axis = file.axes[TIME]
    stored = file.variables[axis.name]
    if new == axis.name:
        return Written(new, (new,), file.raw(axis.name)[cut.steps], stored.attrs)
    seconds = axis.values[cut.steps].astype("datetime64[s]").astype(np.int64)
    return Written(new, (new,), seconds, _TIME_ATTRS)


def _grids(
    file: SourceFile, cut: Cut, names: list[str]
) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    """Return dimensions and values of fields on the new grid, latitude and longitude last."""
    import numpy as np

    axes, rows, columns = file.axes, cut.rows(file), cut.columns(file)
    place = (axes[LATITUDE].name, axes[LONGITUDE].name)
    where = {axes[TIME].name: cut.steps, **cut.levels}
    found = {}
    for name, raw in file.read(names, where).items():
        stored = file.variables[name]
        dims = (*(dim for dim in stored.dims if dim not in place), *place)
        ordered = np.transpose(raw, [stored.dims.index(dim) for dim in dims])
        found[name] = dims, interpolate(stored.decode(ordered), rows, columns)
    return found


def _field_attrs(
    file: SourceFile, name: str, rows: Points, columns: Points, extras: list[str]
) -> dict[str, Any]:
    import numpy as np

    attrs = {k: v for k, v in file.variables[name].attrs.items() if k not in _DROPPED}
    told = {
        "GRIB_Nx": np.int64(len(columns.values)),
        "GRIB_Ny": np.int64(len(rows.values)),
        "GRIB_numberOfPoints": np.int64(len(rows.values) * len(columns.values)),
        "GRIB_latitudeOfFirstGridPointInDegrees": np.float64(rows.values[0]),
        "GRIB_latitudeOfLastGridPointInDegrees": np.float64(rows.values[-1]),
        "GRIB_longitudeOfFirstGridPointInDegrees": np.float64(columns.values[0]),
        "GRIB_longitudeOfLastGridPointInDegrees": np.float64(columns.values[-1]),
    }
    attrs.update({key: value for key, value in told.items() if key in attrs})
    listed = str(attrs.get("coordinates", "")).split()
    listed += [extra for extra in extras if extra not in listed]
    if listed:
        attrs["coordinates"] = " ".join(listed)
    return {"_FillValue": np.float32(np.nan), **attrs}


def _messages(file: SourceFile, cut: Cut) -> list[Message]:
    """Return the fields of a cut, one by one: by time, then variable, then level."""
    import numpy as np

    names = [name for group in cut.names.values() for name in group]
    rows, columns = cut.rows(file), cut.columns(file)
    times = file.axes[TIME].values[cut.steps]
    levels = {axis.name: key for key, axis in file.axes.items()}
    found = []
    for name, (dims, values) in _grids(file, cut, names).items():
        others = dims[1:-2] if dims[0] == file.axes[TIME].name else dims[:-2]
        for at in np.ndindex(values.shape[:-2]):
            place = dict(zip(dims, at, strict=False))
            numbers = {
                levels[dim]: float(file.axes[levels[dim]].values[cut.levels[dim][place[dim]]])
                for dim in others
            }
            step = place.get(file.axes[TIME].name, 0)
            found.append(
                Message(
                    parameter=int(file.variables[name].attrs["GRIB_paramId"]),
                    time=times[step].astype("datetime64[s]").astype(datetime),
                    levels=numbers,
                    kind=cut.kinds[name],
                    version=(cut.versions or ("0001",) * len(times))[step],
                    latitudes=rows.values,
                    longitudes=columns.values,
                    values=values[at],
                )
            )
    return sorted(found, key=lambda message: message.time)
