"""How files store times, and whether a file stores the time that was predicted."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.timeindex.calendars import axis_of
from hda_fsspec.timeindex.encoding import TimeEncoding

Array = np.ndarray[Any, Any]
HOURS = np.datetime64("2024-05-01", "ns") + np.arange(48) * np.timedelta64(1, "h")


def encoding(units: str | None, dtype: str | None, **more: Any) -> TimeEncoding:
    """Return an encoding of the standard calendar."""
    return TimeEncoding(units, None, None if dtype is None else np.dtype(dtype), **more)


@for_each(
    ("units", "dtype", "grid"),
    [
        ("hours since 1900-01-01 00:00:00.0", "i4", 3_600_000_000),
        ("days since 2010-01-01", "i8", 86_400_000_000),
        ("Minutes since 1970-01-01", "u2", 60_000_000),
        ("microseconds since 1970-01-01", "i8", 1),
        ("nanoseconds since 1970-01-01", "i8", None),
        ("months since 1850-01-01", "i4", None),
        ("days since 1950-01-01", "f4", None),
        ("hours", "i2", 3_600_000_000),
        (None, "i4", None),
        ("K", "i4", None),
    ],
)
def test_the_grid_of_whole_numbers(units: str | None, dtype: str, grid: int | None) -> None:
    """Whole numbers of a unit of one length store times at that distance; others have no grid."""
    assert encoding(units, dtype).grid == grid


def test_packed_times_have_a_grid_of_their_own() -> None:
    """A scale factor makes the steps of a file longer or shorter than its unit."""
    assert encoding("hours since 2000-01-01", "i2", scale=0.5).grid == 1_800_000_000


@for_each(
    ("units", "dtype", "microseconds"),
    [
        ("days since 1950-01-01", "f4", 168_750_000),
        ("hours since 1950-01-01", "f4", 225_000_000),
        ("days since 2024-05-01", "f4", 322),
        ("days since 1950-01-01", "f8", 1),
        ("days since 1950-01-01", "i4", 1),
    ],
)
def test_the_spacing_of_floats(units: str, dtype: str, microseconds: int) -> None:
    """Neighbouring floats lie the farther apart the larger the numbers are."""
    axis = axis_of([HOURS])
    assert axis is not None

    found = encoding(units, dtype).spacing(axis, axis.ticks(HOURS[:1]) + 3_600_000_000)

    assert found == pytest.approx(microseconds, rel=0.6)


WAYS = {
    "days in 4 bytes": ("days since 1950-01-01", "f4"),
    "hours in 4 bytes": ("hours since 1900-01-01", "f4"),
    "seconds in 4 bytes": ("seconds since 1981-01-01", "f4"),
    "days": ("days since 1950-01-01", "f8"),
    "days since long ago": ("days since 0001-01-01", "f8"),
    "seconds": ("seconds since 1970-01-01", "f8"),
    "days since noon": ("days since 1970-01-01T12:00", "f8"),
    "whole hours": ("hours since 1900-01-01", "i4"),
    "whole seconds": ("seconds since 1981-01-01", "i4"),
}


@for_each("way", WAYS)
def test_what_a_file_stores_of_a_time(tmp_path: Path, way: str) -> None:
    """What is written here is what xarray reads of a file that stores the nearest numbers."""
    units, dtype = WAYS[way]
    mine = encoding(units, dtype)
    numbers = np.array([_exact_number(hour, units) for hour in HOURS])
    path = tmp_path / "times.nc"
    raw = xr.Dataset({"time": ("time", numbers.astype(dtype), {"units": units})})
    raw.to_netcdf(path)
    with xr.open_dataset(path) as stored:
        own = stored["time"].to_numpy()

    assert mine.stores(HOURS, own).all()
    np.testing.assert_array_equal(mine.written(HOURS).astype(own.dtype), own)


def _exact_number(hour: np.datetime64, units: str) -> float:
    """Return the number of 64 bits that is nearest to a time, by whole numbers alone."""
    epoch = cftime.num2date(0, units, calendar="standard", only_use_cftime_datetimes=True)
    between = cftime.date2num(epoch, "microseconds since 1970-01-01", calendar="standard")
    away = int((hour - np.datetime64("1970-01-01", "us")) / np.timedelta64(1, "us")) - int(between)
    unit = {"days": 86_400, "hours": 3_600, "seconds": 1}[units.split(maxsplit=1)[0]] * 1_000_000
    return float(Fraction(away, unit))


@for_each("way", WAYS)
def test_one_unit_more_is_another_time(way: str) -> None:
    """A file that stores the next number stores another time, however near it is."""
    units, dtype = WAYS[way]
    mine = encoding(units, dtype)
    axis = axis_of([HOURS])
    assert axis is not None
    unit = {"days": 86_400, "hours": 3_600, "seconds": 1}[units.split()[0]]
    spacing = unit * 1_000_000 if mine.is_whole else mine.spacing(axis, axis.ticks(HOURS))
    for sign in (1, -1):
        # The nearest number to a time one and a half spacings away is another one.
        own = mine.written(HOURS + sign * np.timedelta64(spacing * 3 // 2 + 1, "us"))
        if mine.is_whole:
            own = HOURS + sign * np.timedelta64(spacing, "us")

        assert not mine.stores(HOURS, own).any()


def test_times_of_another_calendar() -> None:
    """Dates of a year of 360 days are stored as others are."""
    times = np.array([cftime.Datetime360Day(2015, 2, day, 7) for day in range(1, 31)])
    mine = TimeEncoding("days since 1950-01-01", "360_day", np.dtype("f4"))

    own = mine.written(times)

    assert (own != times).any()
    assert mine.stores(times, own).all()
    assert not mine.stores(times, np.roll(own, 1)).any()


def test_durations() -> None:
    """The steps of a forecast are durations, in whole hours or in floats."""
    steps = np.arange(0, 48, 6).astype("m8[h]").astype("m8[ns]")

    for dtype in ("i4", "f4", "f8"):
        assert encoding("hours", dtype).stores(steps, steps.copy()).all()
        assert not encoding("hours", dtype).stores(steps, steps + np.timedelta64(1, "h")).any()
    assert encoding("days", "f4").stores(steps, encoding("days", "f4").written(steps)).all()


def test_missing_times_are_stored_as_missing() -> None:
    """NaT is NaT, and no time besides."""
    times = np.array(["2024-05-01", "NaT"], "M8[ns]")

    assert encoding("days since 1950-01-01", "f4").stores(times, times.copy()).all()
    assert encoding(None, None).stores(times, times[::-1]).tolist() == [False, False]


@for_each("values", [np.array([1.0, np.nan]), np.array([1, 2]), np.array(["a", "b"])])
def test_numbers_and_texts_are_stored_as_they_are(values: Array) -> None:
    """What is no time has to be equal, whatever units it has."""
    mine = encoding("K", "f4")

    assert mine.stores(values, values.copy()).all()
    assert mine.written(values) is values
    assert not mine.stores(values, values[::-1]).any()
