"""Headers that are told by another file of the kind: what the open data set tells, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.reading.variables import NetCDFVariables
from hda_fsspec.stack.header import Header
from hda_fsspec.stack.header_reuse import AlikeFiles


def _write(path: Path, change: dict[str, Any]) -> Path:
    """Write a product: packed data on a grid, with a time, its bounds, and a scalar."""
    with netCDF4.Dataset(path, "w") as file:
        for dim, size in (("time", change.get("steps", 2)), ("lat", 3), ("nv", 2)):
            file.createDimension(dim, size)
        time = file.createVariable("time", change.get("stored", "f8"), ("time",))
        time.units, time.calendar = change.get("units", "hours since 2024-01-01"), "standard"
        time[:] = change.get("first", 0) + np.arange(len(time))
        if "bounds" in change:
            time.bounds = "time_bounds"
            bounds = file.createVariable("time_bounds", "f8", ("time", "nv"))
            bounds[:] = change["bounds"]
        lat = file.createVariable("lat", "f4", ("lat",))
        lat.units = "degrees_north"
        lat[:] = np.array(change.get("lat", [40.0, 41.0, 42.0]))
        height = file.createVariable("height", "f8", ())
        height[...] = change.get("height", 2.0)
        data = file.createVariable("t2m", "i2", ("time", "lat"), fill_value=-1)
        data.scale_factor = change.get("scale", 0.5)
        data.units = change.get("data_units", "K")
        data[:] = change.get("value", 280.0)
        file.setncatts({"history": change.get("history", "made"), **change.get("attrs", {})})
        if "text" in change:
            file.createVariable("name", str, ())[...] = change["text"]
    return path


def _header(path: Path) -> Header:
    with xr.open_dataset(path, engine="netcdf4") as dataset:
        return Header.of(dataset, keep=["time", "height"], digest=["lat"])


def _alike(path: Path) -> AlikeFiles | None:
    return AlikeFiles.of(NetCDFVariables(path, None), _header(path), ["t2m"])


def _look(alike: AlikeFiles, path: Path, group: str | None = None) -> Any:
    with path.open("rb") as stream:
        return alike.look(NetCDFVariables(path, group), stream)


@for_each(
    "change",
    [
        {},
        {"first": 24, "value": 250.0},
        {"history": "made anew", "attrs": {"more": 3}},
        {"lat": [40.0, 41.0, 42.5], "height": 10.0},
        {"lat": [40.0, np.nan, 42.0]},
    ],
)
def test_what_is_told_is_what_the_data_set_tells(tmp_path: Path, change: dict[str, Any]) -> None:
    """Times, coordinates and attributes of the file are those of the file that is looked at."""
    alike = _alike(_write(tmp_path / "first.nc", {}))
    other = _write(tmp_path / "other.nc", change)
    assert alike is not None

    told = _look(alike, other)

    assert told is not None
    header, stored, _ = told
    assert header.to_json() == _header(other).to_json()
    assert stored.keys() == {"t2m"}


def _look_at_bytes(alike: AlikeFiles, path: Path) -> Any:
    with path.open("rb") as stream:
        return alike.look_at_bytes(stream)


@pytest.mark.slow
@for_each("stored", ["f8", "i4", "i8"])
def test_what_its_bytes_tell_is_what_the_data_set_tells(tmp_path: Path, stored: str) -> None:
    """A file that is written in the way of one that was looked at needs no library."""
    common = {"stored": stored}
    alike = _alike(_write(tmp_path / "first.nc", common))
    assert alike is not None
    second = _write(tmp_path / "second.nc", common)
    assert _look_at_bytes(alike, second) is None
    alike.note(_look(alike, second))

    changes: list[dict[str, Any]] = [
        {},
        {"first": 24, "value": 250.0},
        {"first": -400_000},
        {"history": "once"},
        {"lat": [40.0, 41.0, 42.5], "height": 10.0},
    ]
    for change in changes:
        other = _write(tmp_path / "other.nc", {**common, **change})
        told = _look_at_bytes(alike, other)
        assert told is not None, change
        assert told.header.to_json() == _header(other).to_json()
        assert told.stored == _look(alike, other).stored

    for change in (
        {"units": "hours since 2024-01-02"},
        {"scale": 0.25},
        {"steps": 3},
        {"history": "anew"} | {"attrs": {"more": 3}},
        {"first": 10**8},
    ):
        other = _write(tmp_path / "other.nc", {**common, **change})
        assert _look_at_bytes(alike, other) is None, change


@pytest.mark.slow
@for_each(
    "change",
    [
        {"units": "hours since 2024-01-02"},
        {"stored": "i8"},
        {"scale": 0.25},
        {"data_units": "degC"},
        {"steps": 3},
        {"text": "a name"},
        {"bounds": 0.0},
        {"first": 1e7},
        {"first": 1e9},
        {"attrs": {"coordinates": "height"}},
    ],
)
def test_what_differs_in_more_is_not_told(tmp_path: Path, change: dict[str, Any]) -> None:
    """Other attributes, dtypes or sizes, and times that numpy cannot hold, are left to xarray."""
    alike = _alike(_write(tmp_path / "first.nc", {}))
    other = _write(tmp_path / "other.nc", change)
    assert alike is not None

    assert _look(alike, other) is None


def test_bounds_are_decoded_with_their_times(tmp_path: Path) -> None:
    """Their units are those of another variable: only if they are equal they are known."""
    first = _write(tmp_path / "first.nc", {"bounds": 0.0})
    other = _write(tmp_path / "other.nc", {"bounds": 1.0})
    with xr.open_dataset(first, engine="netcdf4") as dataset:
        header = Header.of(dataset, keep=["time", "time_bounds", "height"], digest=["lat"])
    alike = AlikeFiles.of(NetCDFVariables(first, None), header)
    assert alike is not None

    assert _look(alike, first) is not None
    assert _look(alike, other) is None


def test_products_that_all_differ_are_not_compared_for_ever(tmp_path: Path) -> None:
    """After three in a row nobody looks any more, since a look costs time."""
    alike = _alike(_write(tmp_path / "first.nc", {}))
    other = _write(tmp_path / "other.nc", {"scale": 0.25})
    same = _write(tmp_path / "same.nc", {})
    assert alike is not None

    assert [_look(alike, file) is None for file in (other, other, same)] == [True, True, False]
    assert [_look(alike, file) is None for file in (other, other, other, same)] == [True] * 4


def test_dimensions_of_the_groups_above_are_compared(tmp_path: Path) -> None:
    """A group whose sizes are told outside of it is not taken for one of other sizes."""

    def write(path: Path, size: int) -> Path:
        with netCDF4.Dataset(path, "w") as file:
            file.createDimension("lat", size)
            file.createGroup("data").createVariable("t2m", "f4", ("lat",))[:] = 280.0
        return path

    first = write(tmp_path / "first.nc", 3)
    with xr.open_dataset(tmp_path / "first.nc", engine="netcdf4", group="data") as dataset:
        alike = AlikeFiles.of(NetCDFVariables(first, "data"), Header.of(dataset), ["t2m"])
    assert alike is not None

    assert _look(alike, write(tmp_path / "same.nc", 3), "data") is not None
    assert _look(alike, write(tmp_path / "other.nc", 5), "data") is None
