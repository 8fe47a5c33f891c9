"""Data sets in the manner of EO:MO: subsets made by the Copernicus Marine Toolbox.

Behaviour, with its source in ``subset-services.md`` and its mark there:

=====================================================================================  ========
a search answers one feature; its size is that of the decoded subset (A1)              A
the id tells layer, variables, box, depths and dates as requested, no extension (A3)   A
the 32 hexadecimal digits are the same for the same request (A3)                       B
their rule, and what ``location`` holds (A3)                                           unknown
the schema: startdate, enddate with default, minimum, maximum; bbox; variables; depths A
``variables`` may be left out, null is refused with 422 (A2)                           A
a plain text in the place of the list of variables is taken (A2)                       A
points within the box, depths and times, both ends included, nothing rounded (A3)      A
the nearest step where none lies within (A3)                                           A
an error where the range is wholly outside (A3); who tells it: ``outside``             A, unknown
a box over the date line, or of 360 degrees (A3)                                       A
netCDF-4, contiguous, packing kept, latitude ascending, ``copernicusmarine_version``   A
=====================================================================================  ========
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from hda_fsspec.emulator.dataset_entries import WORLD, BBox, ProductEntry
from hda_fsspec.emulator.jobs.job import (
    Job,
    JobFailedError,
    Request,
    SubsetDataset,
    as_time,
    write_location,
)
from hda_fsspec.emulator.jobs.marine_selection import choose, choose_longitudes
from hda_fsspec.emulator.jobs.netcdf import Written, netcdf_bytes
from hda_fsspec.emulator.jobs.source_file import LATITUDE, LONGITUDE, TIME, SourceFile, Stored
from hda_fsspec.emulator.jobs.worker import call
from hda_fsspec.emulator.schemas import BBOX, PAGING_KEYS, choices, multiple_choice
from hda_fsspec.records import format_time, parse_time

_VERSION = re.compile(r"_[0-9]{6}(?:--.*)?\Z")
_DEPTHS = ("minimum_depth", "maximum_depth")
_UNIT_BYTES = 10_000_000
#: Attributes that name variables which a subset does not have.
_NAMING = frozenset({"bounds", "grid_mapping", "ancillary_variables", "cell_measures"})


@dataclasses.dataclass(frozen=True)
class MarineSubset(SubsetDataset):
    """A subset data set in the manner of EO:MO.

    Parameters
    ----------
    version : str
        The attribute ``copernicusmarine_version`` of files (A1: 1.3.3 in 2024, 2.4.1 in 2026).
    outside : str
        Who is told of a range that is wholly outside of the coverage: "status" (the download
        status of the order), "order" or "search" (A3: unknown).
    suffix : bool
        Whether delivered names end in ``.nc`` (A3: they do).
    """

    _: dataclasses.KW_ONLY
    version: str = "2.4.1"
    outside: str = "status"
    suffix: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("outside", "status", "order", "search")

    @functools.cached_property
    def _variables(self) -> dict[str, Stored]:
        return self.file.fields

    @property
    def schema(self) -> dict[str, Any]:
        """The answer of ``dataaccess/queryable``."""
        if self.queryable is not None:
            return dict(self.queryable)
        properties: dict[str, Any] = {
            "dataset_id": {"type": "string", "oneOf": choices([self.dataset_id])},
            "bbox": BBOX,
            "startdate": self.time_property(0),
            "enddate": self.time_property(1),
            "variables": multiple_choice(self._variables),
        }
        depth = self.file.axes.get("depth")
        if depth is not None:
            ends = {"minimum": float(depth.first), "maximum": float(depth.last)}
            for key, default in zip(_DEPTHS, ends.values(), strict=True):
                properties[key] = {"type": "number", "default": default, **ends}
        properties["file_format"] = {"type": "string", "default": "netcdf"}
        properties["file_format"]["oneOf"] = choices(["netcdf"])
        properties["itemsPerPage"] = properties["startIndex"] = {"type": "number"}
        return {
            "type": "object",
            "title": "Queryable",
            "properties": properties,
            "required": ["dataset_id", "variables"],
            "constraints": [],
        }

    def request_of(self, query: Request) -> dict[str, Any]:
        """Return the keys of a query that say what is wanted."""
        return {key: value for key, value in query.items() if key not in PAGING_KEYS}

    def _names(self, request: Request) -> list[str]:
        names = request.get("variables") or list(self._variables)
        return [names] if isinstance(names, str) else list(dict.fromkeys(names))

    def _times(self, request: Request) -> list[datetime | None]:
        keys = self.date_keys or ("startdate", "enddate")
        return [parse_time(str(request[key])) if key in request else None for key in keys]

    def product_of(self, request: Request) -> ProductEntry:
        """Return the job of a request, as a search answers it."""
        covered = self.coverage()
        asked = self._times(request)
        start, end = (a or c for a, c in zip(asked, covered, strict=True))
        try:
            size = self._size(request)
        except JobFailedError as err:
            if self.outside == "search":
                err.told_by = "search"
                raise
            size = 0
        digest = hashlib.md5(
            json.dumps(_canonical(request), sort_keys=True).encode(), usedforsecurity=False
        ).hexdigest()
        box: BBox = tuple(map(float, request["bbox"])) if "bbox" in request else WORLD  # type: ignore[assignment]
        product_id = "_".join([*self._told(request, start, end), digest])
        return ProductEntry(
            product_id,
            b"",
            format_time(start),
            format_time(end),
            bbox=box,
            size=size,
            delivered_name=f"{product_id}.nc" if self.suffix else product_id,
            location=write_location(request),
        )

    def _told(self, request: Request, start: datetime, end: datetime) -> list[str]:
        """Return the readable parts of an id: what is not asked for is left out."""
        names = self._names(request)
        parts = [_VERSION.sub("", self.dataset_id.rpartition(":")[2])]
        parts.append(names[0] if len(names) == 1 else "multi-vars")
        if "bbox" in request:
            west, south, east, north = map(float, request["bbox"])
            parts.append(f"{_degrees(west, 'WE')}-{_degrees(east, 'WE')}")
            parts.append(f"{_degrees(south, 'SN')}-{_degrees(north, 'SN')}")
        depth = self.file.axes.get("depth")
        if depth is not None and any(key in request for key in _DEPTHS):
            low = float(request.get(_DEPTHS[0], depth.first))
            high = float(request.get(_DEPTHS[1], depth.last))
            parts.append(f"{low:.2f}-{high:.2f}m")
        if any(asked is not None for asked in self._times(request)):
            parts.append(f"{start:%Y-%m-%d}-{end:%Y-%m-%d}")
        return parts

    def _positions(self, request: Request) -> tuple[dict[str, Any], Any]:
        """Return the positions along each dimension of the source, and the longitudes there."""
        import numpy as np

        axes = self.file.axes
        start, end = (None if t is None else as_time(t) for t in self._times(request))
        latest = self.latest()
        times = axes[TIME].values
        if latest is not None:
            times = times[times <= as_time(latest)]
            if not times.size:
                msg = "The dataset has no data yet"
                raise JobFailedError(msg, told_by=self.outside)
        west, south, east, north = map(float, request["bbox"]) if "bbox" in request else (None,) * 4
        try:
            chosen = {axes[TIME].name: choose(times, start, end, name="time")}
            latitudes = axes[LATITUDE].values
            found = choose(latitudes, south, north, name="latitude")
            chosen[axes[LATITUDE].name] = found[np.argsort(latitudes[found], kind="stable")]
            longitudes = np.asarray(self.file.raw(axes[LONGITUDE].name))
            chosen[axes[LONGITUDE].name], shown = choose_longitudes(longitudes, west, east)
            if "depth" in axes:
                ends = [request.get(key) for key in _DEPTHS]
                depth = axes["depth"]
                chosen[depth.name] = choose(depth.values, *ends, name="depth")
        except JobFailedError as err:
            err.told_by = self.outside
            raise
        return chosen, shown

    def _size(self, request: Request) -> int:
        chosen, _ = self._positions(request)
        variables = [self._variables[name] for name in self._names(request)]
        return sum(
            variable.decoded_itemsize * _product(chosen, self.file.raw, variable)
            for variable in variables
        )

    def start(self, request: Request) -> Job:
        """Start the job of a request."""
        chosen, longitudes = self._positions(request)
        product = self.product_of(request)
        size = product.size if isinstance(product.size, int) else 0
        seconds = self.seconds_per_job + self.seconds_per_unit * size / _UNIT_BYTES
        time = self.file.axes[TIME].name
        names = self._names(request)
        return Job(
            functools.partial(call, make_file, self.file, names, chosen, longitudes, self.version),
            name=product.name,
            seconds=seconds,
            state=chosen[time].tobytes(),
        )


def marine_subset(dataset_id: str, source: Path | str, **settings: Any) -> MarineSubset:
    """Return a subset data set in the manner of EO:MO.

    Parameters
    ----------
    dataset_id : str
        For example ``EO:MO:DAT:SEALEVEL_MED:cmems_obs-sl_med_phy-ssh_my_0.125deg_P1D_202112``.
    source : Path or str
        The netCDF file with all that can be asked for.
    **settings
        Fields of :class:`MarineSubset`, of :class:`SubsetDataset`, and of :class:`DatasetEntry`.
    """
    settings.setdefault("terms", ("Copernicus_Marine_Service_Product_License",))
    return MarineSubset(dataset_id, (), source=Path(source), **settings)


def make_file(
    file: SourceFile, names: list[str], chosen: Mapping[str, Any], longitudes: Any, version: str
) -> bytes:
    """Return the file of a subset.

    Parameters
    ----------
    file : SourceFile
        What is cut.
    names : list of str
        The variables.
    chosen : mapping of str to numpy.ndarray
        Positions along the dimensions of the source.
    longitudes : numpy.ndarray
        What the longitudes there are called.
    version : str
        Of the toolbox.
    """
    axes, stored = file.axes, file.variables
    renamed = {axes[key].name: key for key in (TIME, LATITUDE, LONGITUDE, "depth") if key in axes}
    data = file.read([*renamed, *names], chosen)
    data[axes[LONGITUDE].name] = longitudes
    variables = []
    for name in [*renamed, *names]:
        attrs = {k: v for k, v in stored[name].attrs.items() if k not in _NAMING}
        dims = tuple(renamed.get(dim, dim) for dim in stored[name].dims)
        if name in names:
            attrs.pop("coordinates", None)
        variables.append(Written(renamed.get(name, name), dims, data[name], attrs))
    attrs = {**file.attrs, "copernicusmarine_version": version}
    return netcdf_bytes(variables, attrs, is_compressed=False)


def _canonical(value: Any) -> Any:
    """Return a request in which a number is one number, however it is written."""
    if isinstance(value, Mapping):
        return {key: _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_canonical(inner) for inner in value]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number else value


def _degrees(value: float, letters: str) -> str:
    return f"{abs(value):.2f}{letters[value >= 0]}"


def _product(chosen: Mapping[str, Any], raw: Any, variable: Stored) -> int:
    count = 1
    for dim in variable.dims:
        count *= len(chosen[dim]) if dim in chosen else len(raw(dim))
    return count
