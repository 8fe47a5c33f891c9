"""Where the times of pieces stand that a query was cut into, told from the first of them."""

from __future__ import annotations

from datetime import date
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr
from checkout import SHARED
from hypothesis import assume, given
from hypothesis import strategies as st
from rows import for_each

from hda_fsspec.timeindex.catalogue_times import Prediction, SeenProduct
from hda_fsspec.timeindex.encoding import TimeEncoding
from hda_fsspec.timeindex.regular_times import RegularTimes, Undecided

Array = np.ndarray[Any, Any]
DATA = SHARED / "data"
MS = np.timedelta64(1, "ms")
EXACT = TimeEncoding()


def bounds(first: str, last: str, unit: str) -> tuple[Array, Array]:
    """Return the pieces of a range of whole days: calendar months, years, or so many days."""
    begin, stop = np.datetime64(first, "D"), np.datetime64(last, "D") + np.timedelta64(1, "D")
    count, unit = (1, unit) if unit in {"M", "Y"} else (int(unit), "D")
    length: Any = np.array(count, f"m8[{unit}]")
    edges = np.arange(begin.astype(f"M8[{unit}]"), stop.astype(f"M8[{unit}]") + length, length)
    inner = edges.astype("M8[D]").clip(begin, stop)
    cuts = np.unique(np.concatenate([[begin], inner, [stop]])).astype("M8[ms]")
    return cuts[:-1], cuts[1:] - MS


def inside(times: Array, pieces: tuple[Array, Array], n: int) -> Array:
    """Return the times of a piece."""
    found: Array = times[(times >= pieces[0][n]) & (times <= pieces[1][n])]
    return found


def settle(
    times: Array, pieces: tuple[Array, Array], *seen: int, **more: Any
) -> tuple[Prediction | Undecided, int]:
    """Predict from pieces that are read, and read those that are asked for; also count these."""
    encoding = more.pop("encoding", EXACT)
    known = [SeenProduct(n, inside(times, pieces, n), None, encoding) for n in seen or (0,)]
    for asked in range(4):
        found = RegularTimes(*pieces, **more).decide(known)
        if isinstance(found, Prediction) or found.ask is None:
            return found, asked
        assert found.ask not in {one.piece for one in known}
        known.append(SeenProduct(found.ask, inside(times, pieces, found.ask), None, encoding))
    return found, asked


def check(
    found: Prediction | Undecided,
    times: Array,
    pieces: tuple[Array, Array],
    encoding: TimeEncoding = EXACT,
) -> None:
    """Check that a prediction, as files store it, is the truth."""
    assert isinstance(found, Prediction), found
    lengths = [len(inside(times, pieces, n)) for n in range(len(pieces[0]))]
    there = [inside(times, pieces, n) for n in range(len(pieces[0]))]
    assert found.lengths.tolist() == lengths
    assert found.values is not None
    assert found.values.dtype == times.dtype
    assert np.array_equal(encoding.written(found.values), np.concatenate(there))


def every(step: str, start: str = "1999-12-01T00:00", years: int = 5) -> Array:
    """Return times at a step of one length, such as ``"6h"``."""
    count, unit = int(step[:-1]), step[-1]
    length = np.timedelta64(count, "s") * {"m": 60, "h": 3600, "D": 86400}[unit]
    first = np.datetime64(start, "ns")
    return np.arange(first, first + np.timedelta64(366 * years, "D"), length)


def monthly(place: str, count: int = 1, years: int = 6) -> Array:
    """Return times at a place of every so many months."""
    length = np.timedelta64(count, "M")
    first = np.datetime64("1999-01", "M")
    months = np.arange(first, first + np.timedelta64(12 * years, "M"), length)
    begin, after = months.astype("M8[ns]"), (months + length).astype("M8[ns]")
    places: dict[str, Array] = {
        "first": begin,
        "middle": begin + (after - begin) // 2,
        "last": after - np.timedelta64(1, "D"),
        "end": after - np.timedelta64(1, "s"),
        "15th": begin + np.timedelta64(14, "D"),
        "noon": begin + np.timedelta64(12, "h"),
    }
    return places[place]


@for_each("unit", ["M", "Y", "10"])
@for_each(
    ("step", "start"),
    [
        *(("1h", "1999-12-01T00:00"), ("1h", "1999-12-01T00:30"), ("3h", "1999-12-01T00:00")),
        *(("6h", "1999-12-01T03:00"), ("1D", "1999-12-01T00:00"), ("1D", "1999-12-01T12:00")),
        *(("15m", "1999-12-01T00:00"), ("3D", "1999-12-01T00:00"), ("2D", "1999-12-02T12:00")),
    ],
)
def test_steps_of_one_length(step: str, start: str, unit: str) -> None:
    """Hours, days and several days, wherever in the step they stand, in pieces of any length."""
    times = every(step, start, years=3)
    pieces = bounds("2000-01-10", "2002-02-20", unit)

    found, asked = settle(times, pieces)

    check(found, times, pieces)
    assert asked == 0


def test_weeks_may_leave_a_piece_empty() -> None:
    """A piece that no time lies in has none: the service would deliver the nearest one."""
    times = every("7D", "1999-12-01T00:00", years=2)
    pieces = bounds("2000-01-01", "2000-03-31", "3")

    # What is delivered for the first piece lies outside of it.
    known = [SeenProduct(0, times[4:5]), SeenProduct(1, inside(times, pieces, 1))]
    assert known[0].values[0] < pieces[0][0]
    assert len(known[1].values) == 1
    found = RegularTimes(*pieces, step=(7, "day")).decide(known)

    check(found, times, pieces)
    assert isinstance(found, Prediction)
    assert 0 in found.lengths.tolist()


@for_each("place", ["first", "middle", "last", "end", "15th", "noon"])
@for_each("unit", ["M", "Y"])
@for_each("step", [None, (1, "month")])
def test_months(place: str, unit: str, step: tuple[int, str] | None) -> None:
    """At their first, middle or last day: at most two more pieces tell which."""
    times = monthly(place)
    pieces = bounds("2000-01-01", "2003-12-31", unit)

    found, asked = settle(times, pieces, step=step)

    check(found, times, pieces)
    assert asked <= (0 if unit == "Y" else 1 if step else 2)


@for_each(("place", "count"), [("first", 3), ("middle", 3), ("first", 12), ("middle", 12)])
@for_each("unit", ["M", "Y"])
def test_quarters_and_years(place: str, count: int, unit: str) -> None:
    """Months without any time are empty pieces."""
    times = monthly(place, count)
    pieces = bounds("2000-01-01", "2003-12-31", unit)
    step = (1, "year") if count == 12 else (3, "month")
    first = int(np.flatnonzero([len(inside(times, pieces, n)) for n in range(len(pieces[0]))])[0])

    found, _ = settle(times, pieces, first, step=step)

    check(found, times, pieces)


@for_each(
    ("times", "count", "step"),
    [
        (every("1D"), 366, (1, "day")),
        (monthly("first"), 12, (1, "month")),
        (monthly("first", 12), 1, (1, "year")),
    ],
)
def test_one_time_does_not_tell_a_step(times: Array, count: int, step: tuple[int, str]) -> None:
    """A piece of a day with one time may be of days, months or years.

    Who guessed a year would never read what lies in the other pieces. So the next piece is asked
    for, until a step was seen.
    """
    pieces = bounds("2000-01-01", "2000-12-31", "1")

    first = RegularTimes(*pieces).decide([SeenProduct(0, inside(times, pieces, 0))])
    found, _ = settle(times, pieces)

    assert isinstance(first, Undecided)
    assert first.ask == 1
    assert isinstance(found, Prediction if count == 366 else Undecided)
    for result, asked in ((found, 1), settle(times, pieces, step=step)):
        if isinstance(result, Prediction):
            check(result, times, pieces)
            assert asked <= 1
    assert isinstance(settle(times, pieces, step=step)[0], Prediction)


def test_months_of_thirty_days_tell_no_step_alone() -> None:
    """From April to May lie a month and thirty days: another piece tells which."""
    pieces = bounds("2001-04-01", "2002-03-31", "10")
    for times in (every("30D", "2001-04-03T00:00", 3), monthly("first")):
        found, _ = settle(times, pieces, 0)
        if isinstance(found, Prediction):
            check(found, times, pieces)
    both = bounds("2001-04-01", "2002-03-31", "M")
    check(settle(monthly("first"), both)[0], monthly("first"), both)
    thirty = every("30D", "2001-04-01T00:00", 3)
    check(settle(thirty, both)[0], thirty, both)


def test_pieces_beside_each_other_tell_a_step() -> None:
    """Of single times in a row the distance is the step, be it a week or three days."""
    for step, length in (("7D", "7"), ("3D", "3")):
        times = every(step, "1999-12-02T12:00")
        pieces = bounds("2000-01-03", "2000-12-31", length)

        found, asked = settle(times, pieces)

        check(found, times, pieces)
        assert asked <= 2


def test_a_step_that_does_not_fit_is_not_believed() -> None:
    """Names of layers may be wrong; times are not."""
    times = every("6h")
    pieces = bounds("2000-01-01", "2000-12-31", "M")

    found, asked = settle(times, pieces, step=(1, "day"))

    check(found, times, pieces)
    assert asked == 0


def test_irregular_times_are_not_told() -> None:
    """Nothing is made up: the result says why."""
    pieces = bounds("2000-01-01", "2000-12-31", "M")
    odd = np.array(["2000-01-01", "2000-01-02", "2000-01-05"], "M8[ns]")

    for values in (odd, odd[::-1], np.array([1.0, 2.0]), np.array([1, 2], "m8[h]")):
        found = RegularTimes(*pieces).decide([SeenProduct(0, values)])
        assert isinstance(found, Undecided)
        assert found.ask is None
        assert found.reason
    crossing = RegularTimes(*pieces).decide(
        [SeenProduct(0, np.array(["2000-01-31", "2000-02-01"], "M8[ns]"))]
    )
    assert isinstance(crossing, Undecided)
    assert "outside of its own bounds" in crossing.reason


def test_no_time_at_all_asks_for_another_piece() -> None:
    """An empty template tells nothing, and is no failure."""
    pieces = bounds("2000-01-01", "2000-12-31", "M")
    empty = SeenProduct(0, np.array([], "M8[ns]"))

    found = RegularTimes(*pieces).decide([empty])
    assert isinstance(found, Undecided)
    assert found.ask == 6
    named_first = RegularTimes(*pieces, nominal=named(monthly("first"), pieces)).decide([empty])
    assert isinstance(named_first, Undecided)
    assert named_first.ask == 6
    later = monthly("first")[13:]
    check(settle(later, pieces, step=(1, "month"))[0], later, pieces)


def test_all_pieces_that_were_read_are_as_they_are() -> None:
    """With all seen there is nothing to predict."""
    pieces = bounds("2000-01-01", "2000-03-31", "M")
    odd = np.array(["2000-01-01", "2000-01-02", "2000-01-05", "2000-03-07"], "M8[ns]")

    found = RegularTimes(*pieces).decide(
        [SeenProduct(n, inside(odd, pieces, n)) for n in (2, 0, 1)]
    )

    check(found, odd, pieces)


def test_hours_that_are_counted_from_nowhere() -> None:
    """They are taken as they are where there is one piece, and tell nothing of several."""
    hours = SeenProduct(0, np.array([36.0, 40.0], "f4"))

    for nominal in (None, (np.array(["2000-01-01"], "M8[ms]"), np.array([1]))):
        found = RegularTimes(*bounds("2000-01-01", "2000-01-31", "M"), nominal=nominal).decide(
            [hours]
        )
        assert isinstance(found, Prediction)
        assert found.values is hours.values
        assert list(found.lengths) == [2]
    several = RegularTimes(*bounds("2000-01-01", "2000-03-31", "M")).decide([hours])
    assert isinstance(several, Undecided)
    assert "no time" in several.reason


@pytest.mark.parametrize("step", [None, (1, "hour")])
def test_the_last_piece_may_be_short(step: Any) -> None:
    """Near the present the last times are still to come; those of others are not changed by it."""
    times = every("1h", years=2)
    times = times[times <= np.datetime64("2000-12-20T05:00")]
    pieces = bounds("2000-01-01", "2000-12-31", "M")

    found, asked = settle(times, pieces, 0, 11, step=step)

    check(found, times, pieces)
    assert asked == 0
    only_last, _ = settle(times, pieces, 11, step=step)
    check(only_last, times, pieces)
    middle = times[times <= np.datetime64("2000-06-20")]
    short, _ = settle(middle, pieces, 4, 5, may_be_short=[5], step=step)
    assert isinstance(short, Prediction)
    assert short.lengths[:6].tolist() == [744, 696, 744, 720, 744, 19 * 24 + 1]
    refused, _ = settle(middle, pieces, 4, 5, step=step)
    assert isinstance(refused, Undecided)


def test_a_data_set_may_begin_in_its_first_piece() -> None:
    """The first piece lacks what was before; that does not make the step another one."""
    times = every("1D", "2000-01-17T00:00", years=1)
    pieces = bounds("2000-01-01", "2000-12-31", "M")

    check(settle(times, pieces)[0], times, pieces)


@for_each(
    ("units", "dtype"),
    [
        ("days since 1950-01-01", "i4"),
        ("hours since 1900-01-01", "i4"),
        ("days since 1950-01-01", "f4"),
        ("hours since 1950-01-01", "f4"),
        ("seconds since 1970-01-01", "i8"),
        ("days since 1950-01-01", "f8"),
    ],
)
@for_each("place", ["first", "middle"])
@for_each("unit", ["M", "Y"])
def test_months_as_files_store_them(units: str, dtype: str, place: str, unit: str) -> None:
    """Whole days have no middle of a month of 31 days, and floats are rounded: both are met."""
    encoding = TimeEncoding(units, None, np.dtype(dtype))
    times = stored(monthly(place), units, dtype)
    pieces = bounds("2000-01-01", "2003-12-31", unit)

    found, asked = settle(times, pieces, step=(1, "month"), encoding=encoding)

    check(found, times, pieces, encoding)
    assert asked <= 2


def stored(times: Array, units: str, dtype: str) -> Array:
    """Return times as they come out of a file of these units."""
    unit, _, since = units.partition(" since ")
    length = {"days": 86400, "hours": 3600, "seconds": 1}[unit] * 10**9
    numbers = (times.astype("M8[ns]") - np.datetime64(since, "ns")).astype(np.int64) / length
    raw = xr.Variable(
        "time",
        np.floor(numbers).astype(dtype) if dtype[0] == "i" else numbers.astype(dtype),
        {"units": units},
    )
    return np.asarray(xr.conventions.decode_cf_variable("time", raw).values)


@for_each("dtype", ["f4", "f8"])
@for_each("step", ["1h", "3h", "1D"])
def test_steps_as_floats(dtype: str, step: str) -> None:
    """Floats of 32 bits cannot store each hour since 1950, and what they store is predicted."""
    units = "hours since 1950-01-01" if step == "1D" else "days since 1950-01-01"
    times = stored(every(step, years=2), units, dtype)
    pieces = bounds("2000-01-01", "2001-06-30", "M")
    encoding = TimeEncoding(units, None, np.dtype(dtype))
    apart = np.unique(np.diff(times[:100]))

    found, _ = settle(times, pieces, encoding=encoding)

    assert dtype == "f8" or len(apart) > 1 or step != "1h"
    check(found, times, pieces, encoding)


def test_bounds_tell_the_middle_of_one_month() -> None:
    """With bounds that are the month a mean stands in its middle, and no other piece is asked."""
    times = monthly("middle")
    pieces = bounds("2000-01-01", "2003-12-31", "M")
    one = inside(times, pieces, 0)
    edges = np.array([["2000-01-01", "2000-02-01"]], "M8[ns]")

    found = RegularTimes(*pieces, step=(1, "month")).decide([SeenProduct(0, one, edges)])
    check(found, times, pieces)
    other = RegularTimes(*pieces, step=(1, "month")).decide(
        [SeenProduct(0, one, edges + np.timedelta64(15, "D"))]
    )
    assert isinstance(other, Undecided)


@for_each("calendar", ["noleap", "360_day", "proleptic_gregorian"])
def test_other_calendars(calendar: str) -> None:
    """Days and months of the calendar of the files; one without the days of pieces is told."""
    pieces = bounds("2000-01-01", "2003-12-31", "Y")
    length = {"noleap": 365, "360_day": 360, "proleptic_gregorian": 365.25}[calendar] * 4
    units = "days since 2000-01-01"
    days = cftime.num2date(
        np.arange(int(length)) + 0.5, units, calendar=calendar, only_use_cftime_datetimes=True
    )
    own = np.array([day for day in days if day.year == 2000], object)

    found = RegularTimes(*pieces).decide([SeenProduct(0, own)])

    assert isinstance(found, Prediction)
    assert found.values is not None
    assert found.values.tolist() == list(days)


# --- times that requests name -----------------------------------------------------------------


def named(times: Array, pieces: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return times as a grid names them."""
    parts = [inside(times, pieces, n) for n in range(len(pieces[0]))]
    return np.concatenate(parts).astype("M8[ms]"), np.array([len(part) for part in parts])


@for_each("shift", ["0h", "12h", "24h", "-1h"])
def test_days_that_are_named_tell_all_but_the_hour(shift: str) -> None:
    """Where in the day a value stands is read off one piece; gaps of the lists are kept."""
    days = every("1D")
    days = days[(days.astype("M8[M]").astype(int) % 12 > 5)]
    pieces = bounds("2000-01-01", "2001-12-31", "M")
    keep = [n for n in range(24) if len(inside(days, pieces, n))]
    pieces = (pieces[0][keep], pieces[1][keep])
    offset = np.timedelta64(int(shift[:-1]), "h")
    nominal = named(days, pieces)

    found = RegularTimes(*pieces, nominal=nominal).decide(
        [SeenProduct(0, inside(days, pieces, 0) + offset)]
    )

    assert isinstance(found, Prediction)
    assert found.values is not None
    assert np.array_equal(found.values, nominal[0] + offset)
    assert found.lengths.tolist() == nominal[1].tolist()


@for_each("place", ["first", "middle", "last", "15th", "noon"])
@for_each("unit", ["M", "Y"])
def test_months_that_are_named(place: str, unit: str) -> None:
    """The place in the month is read off one or two pieces."""
    times = monthly(place)
    pieces = bounds("2000-01-01", "2003-12-31", unit)
    nominal = named(monthly("first"), pieces)

    found, asked = settle(times, pieces, nominal=nominal, step=(1, "month"))

    check(found, times, pieces)
    assert asked <= (0 if unit == "Y" else 1)


def test_a_piece_that_is_not_what_was_named_is_told() -> None:
    """More or fewer times than asked for, or others; the last piece may be short."""
    times = every("12h")
    pieces = bounds("2000-01-01", "2000-04-30", "M")
    nominal = named(times, pieces)
    own = inside(times, pieces, 0)

    for values in (own[:-1], np.append(own, own[-1:] + np.timedelta64(1, "D")), own[:0]):
        found = RegularTimes(*pieces, nominal=nominal).decide([SeenProduct(0, values)])
        assert isinstance(found, Undecided)
    moved = RegularTimes(*pieces, nominal=nominal).decide(
        [SeenProduct(0, own + np.timedelta64(90, "D"))]
    )
    assert isinstance(moved, Undecided)
    last = SeenProduct(3, inside(times, pieces, 3)[:-5])
    short = RegularTimes(*pieces, nominal=nominal).decide([SeenProduct(0, own), last])
    assert isinstance(short, Prediction)
    assert short.lengths.tolist() == [62, 58, 62, 55]
    assert short.values is not None
    assert np.array_equal(short.values, nominal[0][:-5])


@pytest.mark.slow
@given(
    step=st.sampled_from(["1h", "3h", "6h", "1D", "2D", "3D", "7D"]),
    hour=st.integers(0, 23),
    first=st.dates(date(2000, 1, 1), date(2001, 1, 1)),
    length=st.integers(20, 700),
    unit=st.sampled_from(["M", "Y", "7", "10", "1"]),
    seen=st.integers(0, 10**6),
)
def test_a_prediction_is_the_truth_or_none(
    step: str, hour: int, first: Any, length: int, unit: str, seen: int
) -> None:
    """Whatever piece is the template: with the step known, the times are those that there are."""
    times = every(step, f"1999-12-01T{hour:02d}:00")
    begin = np.datetime64(first, "D")
    pieces = bounds(str(begin), str(begin + np.timedelta64(length, "D")), unit)
    template = seen % len(pieces[0])
    assume(len(inside(times, pieces, template)) > 0)
    known = (int(step[:-1]), "hour" if step.endswith("h") else "day")

    found, asked = settle(times, pieces, template, step=known)

    check(found, times, pieces)
    assert asked == 0


# --- real series --------------------------------------------------------------------------------

SERIES = [
    ("c3s/psl_ERA5_mon_194001-202212.nc", "time", (1, "month"), "Y"),
    ("c3s/era5land_stl_alaska_monthly_1999-2023.nc", "valid_time", (1, "month"), "M"),
    ("cams/egg4_ch4_alaska_monthly_2003-2020.nc", "valid_time", (1, "month"), "Y"),
    ("cams/eac4_co_siberia_2020JJAS_3h.nc", "valid_time", (3, "hour"), "M"),
    ("c3s/era5_pl_uv_etna_20250602-04_hourly.nc", "valid_time", (1, "hour"), "1"),
    ("c3s/sst_CMIP6_ssp245_mon_201501-210012.nc", "time", (1, "month"), "Y"),
]


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="no data")
@pytest.mark.parametrize(("name", "dimension", "step", "unit"), SERIES)
@pytest.mark.parametrize("is_told", [True, False])
def test_real_series(
    name: str, dimension: str, step: tuple[int, str], unit: str, is_told: bool
) -> None:
    """Real files cut by the calendar: all times are met as they are stored."""
    with xr.open_dataset(DATA / name, mask_and_scale=False) as ds:
        here = next(d for d in (dimension, "time", "valid_time") if d in ds.variables)
        times = np.asarray(ds[here].values)
        encoding = TimeEncoding.of(ds[here].encoding, ds[here].encoding.get("dtype"))
    days = times.astype("M8[D]")
    months = (days.min().astype("M8[M]"), days.max().astype("M8[M]") + 1)
    first, last = (str(days.min()), str(days.max()))
    if unit != "1":
        first, last = str(months[0].astype("M8[D]")), str(months[1].astype("M8[D]") - 1)
    pieces = bounds(first, last, unit)

    found, asked = settle(times, pieces, step=step if is_told else None, encoding=encoding)

    check(found, times, pieces, encoding)
    assert asked <= (1 if is_told else 2)
