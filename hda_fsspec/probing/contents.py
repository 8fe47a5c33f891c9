"""Contents of a delivered file: its format, and of a subset its first and last time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hda_fsspec.errors import ConfigurationError, HDAError
from hda_fsspec.formats.detect import check_complete
from hda_fsspec.probing.facts import Fact, compared, left_open, settled
from hda_fsspec.probing.query import ProbePlan
from hda_fsspec.records import format_time, parse_time
from hda_fsspec.schema.schema import Schema

_TIMES = ("time", "valid_time")
_AXES = {"longitude": ("longitude", "lon", "x"), "latitude": ("latitude", "lat", "y")}


def look_at_id(plan: ProbePlan) -> Iterator[Fact]:
    """Tell what an id is made of, where that can be computed."""
    if not plan.is_subset:
        yield settled("id of the product", "no hash: a file of the archive", "a hash for subsets")
        return
    location, tail = plan.locator, plan.product_id[-32:]
    plain = unquote(location)
    is_md5 = hashlib.md5(location.encode(), usedforsecurity=False).hexdigest() == tail
    is_of_plain = hashlib.md5(plain.encode(), usedforsecurity=False).hexdigest() == tail
    told = "MD5 of the location" if is_md5 or is_of_plain else "another hash"
    told += f"{', percent-decoded' * is_of_plain}; the location is "
    told += "JSON" if plain.lstrip().startswith("{") else f"{plain.partition(':')[0][:40]!r}…"
    yield compared(
        "id of the product",
        "EO:ECMWF: MD5 of the location, JSON; EO:MO: not known",
        told,
        is_as_expected=is_md5 or is_of_plain,
    )


def look_into(
    path: Path, name: str, plan: ProbePlan, schema: Schema, scratch: Path
) -> Iterator[Fact]:
    """Tell the format of a file, and its box and times; of a subset beside what was asked for."""
    request = plan.request if plan.is_subset else {}
    format_ = check_complete(path)
    suffix = Path(name).suffix or "none"
    yield settled("delivered format", f"{format_.value}, suffix of the name: {suffix}", "by bytes")
    try:
        import xarray as xr

        from hda_fsspec.reading.opening import open_local
        from hda_fsspec.reading.options import OpenOptions

        with open_local(
            path, OpenOptions.make(), name=name, scratch=scratch, is_checked=True
        ) as ds:
            yield settled("dimensions", ", ".join(f"{k} {v}" for k, v in ds.sizes.items()))
            yield from _box(ds, request, schema)
            yield from _times(ds, request, schema, xr)
    except (HDAError, ConfigurationError, ImportError) as err:
        yield left_open("box and times of the file", err, "one gridded file")


def _box(ds: Any, request: Mapping[str, Any], schema: Schema) -> Iterator[Fact]:
    asked = request.get(schema.bbox_key or "bbox")
    for axis, (low, high) in (("longitude", (0, 2)), ("latitude", (1, 3))):
        name = next((name for name in _AXES[axis] if name in ds.coords), None)
        if name is None or ds[name].ndim != 1 or not ds[name].size:
            continue
        values = ds[name].values
        order = "ascending" if values[0] <= values[-1] else "descending"
        told = f"{float(values[0]):g} to {float(values[-1]):g}, {order}, {values.size} points"
        if asked is None:
            yield settled(f"{axis} of the file", told)
            continue
        inside = asked[low] <= values.min() and values.max() <= asked[high]
        yield compared(
            f"{axis} of the file",
            f"points with {asked[low]:g} <= {axis} <= {asked[high]:g}",
            told,
            is_as_expected=bool(inside),
        )


def _times(ds: Any, request: Mapping[str, Any], schema: Schema, xr: Any) -> Iterator[Fact]:
    name = next((name for name in _TIMES if name in ds.coords), None)
    if name is None or ds[name].dtype.kind != "M" or not ds[name].size:
        yield left_open("times of the file", "no coordinate of times was found")
        return
    values = xr.DataArray(ds[name].values.ravel())
    first, last = (
        parse_time(f"{str(v)[:19]}Z") for v in (values.min().values, values.max().values)
    )
    told = f"{format_time(first)} to {format_time(last)}, {values.size} in all"
    keys = schema.time_keys
    asked = [request.get(key) for key in keys] if keys is not None else []
    if not all(isinstance(text, str) for text in asked) or len(asked) != 2:
        yield settled("times of the file", told)
        return
    start, end = (parse_time(str(text)) for text in asked)
    is_within = start <= first and last <= end
    expected = f"{format_time(start)} to {format_time(end)}, both inclusive"
    yield compared("times of the file", expected, told, is_as_expected=is_within)
    nearest = "EO:MO: the nearest step, where none is within the range"
    if is_within:
        why = "the range holds steps; probe again with --query of a range between two of them"
        yield left_open("nearest step", why, nearest)
    elif values.size == 1:
        yield compared("nearest step", nearest, f"delivered: {told}", is_as_expected=True)
    else:
        yield compared("nearest step", nearest, f"several outside: {told}", is_as_expected=False)
