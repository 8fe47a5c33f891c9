"""The pieces of a query ask together for what it asks for, and no two of them for the same."""

from __future__ import annotations

import calendar
import itertools
import pickle
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
import subset_schemas as s
from hypothesis import given, settings
from hypothesis import strategies as st
from random_inputs import examples
from rows import for_each

from hda_fsspec.errors import QueryError
from hda_fsspec.paths.locations import Location
from hda_fsspec.schema.schema import Schema
from hda_fsspec.subsets.canonical_request import canonical_body
from hda_fsspec.subsets.piece_grid import PieceGrid
from hda_fsspec.subsets.split import split_query

STEPS = [
    "auto",
    "day",
    "week",
    "month",
    "year",
    "QS",
    "10D",
    "5MS",
    "2YS",
    "QS-NOV",
    "SMS",
    "W-WED",
]
DAY = timedelta(days=1)
FIRST, LAST = date(1940, 1, 1), date(2030, 12, 31)
DATES = st.dates(FIRST, LAST)


def numbers(values: Any) -> list[int]:
    """Return the numbers that a list of a request means."""
    texts = values if isinstance(values, list) else [values]
    return [s.MONTH_NAMES.index(t) + 1 if t in s.MONTH_NAMES else int(t) for t in texts]


def days_of(body: dict[str, Any]) -> set[date]:
    """Return all days that a request by lists stands for, as the service reads it."""
    year, month, day = (
        numbers(body.get(key, body.get(f"h{key}"))) for key in ("year", "month", "day")
    )
    return {
        date(y, m, d)
        for y, m, d in itertools.product(year, month, day)
        if d <= calendar.monthrange(y, m)[1]
    }


def days_between(first: date, last: date) -> set[date]:
    """Return the days from one to another, both included."""
    return {first + n * DAY for n in range((last - first).days + 1)}


def check_pieces(grid: PieceGrid, wanted: set[date]) -> None:
    """Check that pieces along time hold the days wanted, each once and in order."""
    seen: Counter[date] = Counter()
    before = date.min
    for n in range(len(grid)):
        days = days_of(grid.body(n))
        bounds = grid.bounds(n)
        assert bounds is not None
        assert days
        assert (bounds[0].date(), bounds[1].date()) == (min(days), max(days))
        assert min(days) > before
        before = max(days)
        seen.update(days)
    assert set(seen) == wanted
    assert set(seen.values()) <= {1}


@pytest.mark.slow
@settings(max_examples=examples(60))
@given(
    told=st.sampled_from([s.ERA5, s.STATISTICS, s.LAND, s.FLOODS]),
    first=DATES,
    length=st.integers(0, 1500),
    step=st.sampled_from(STEPS),
)
def test_pieces_of_a_range_are_its_days(told: Schema, first: date, length: int, step: str) -> None:
    """No day is asked for twice, none is missing, none lies outside of the range."""
    last = min(first + length * DAY, LAST)

    grid = s.cut(told, step, startdate=first, enddate=last)

    check_pieces(grid, days_between(first, last))


@pytest.mark.slow
@settings(max_examples=examples(60))
@given(
    told=st.sampled_from([s.ERA5, s.LEVELED, s.FLOODS]),
    years=st.sets(st.integers(1940, 2030), min_size=1, max_size=6),
    months=st.sets(st.integers(1, 12), min_size=1),
    days=st.sets(st.integers(1, 31), min_size=1),
    step=st.sampled_from(STEPS),
)
def test_pieces_of_lists_are_their_days(
    told: Schema, years: set[int], months: set[int], days: set[int], step: str
) -> None:
    """Lists with gaps, and with days that some months lack, are split by what they hold."""
    wanted = {
        date(y, m, d)
        for y, m, d in itertools.product(years, months, days)
        if d <= calendar.monthrange(y, m)[1]
    }
    h = "h" if told is s.FLOODS else ""
    names = s.MONTH_NAMES if h else s.MONTHS
    query: dict[str, Any] = {
        f"{h}year": [str(y) for y in years],
        f"{h}month": [names[m - 1] for m in months],
        f"{h}day": [f"{d:02d}" for d in days],
    }
    if not wanted:
        with pytest.raises(QueryError, match="no such day"):
            s.cut(told, step, **query)
        return

    check_pieces(s.cut(told, step, **query), wanted)


@pytest.mark.slow
@given(first=DATES, length=st.integers(0, 4000), step=st.sampled_from(STEPS))
def test_pieces_of_whole_days_follow_each_other(first: date, length: int, step: str) -> None:
    """A range of EO:ECMWF is cut between days; both days of a piece are part of it."""
    told = s.schema("EO:ECMWF:DAT:CAMS_X", {"startdate": s.DATE, "enddate": s.DATE})
    last = min(first + length * DAY, LAST)

    grid = s.cut(told, step, startdate=first, enddate=last)

    following = first
    for n in range(len(grid)):
        body = grid.body(n)
        assert body["startdate"] == f"{following}T00:00:00.000Z"
        assert body["enddate"].endswith("T23:59:59.999Z")
        following = date.fromisoformat(body["enddate"][:10]) + DAY
    assert following == last + DAY


@pytest.mark.slow
@given(
    day=st.dates(date(1993, 1, 1), date(2024, 1, 1)),
    clock=st.timedeltas(timedelta(0), DAY),
    length=st.timedeltas(timedelta(0), timedelta(days=900)),
    step=st.sampled_from([*STEPS, "6h", "36h", "90min", pd.Timedelta("5D"), timedelta(hours=12)]),
)
def test_pieces_of_a_marine_range_share_no_millisecond(
    day: date, clock: timedelta, length: timedelta, step: Any
) -> None:
    """Both ends of a request are inclusive, so a piece ends a millisecond before the next one."""
    moment = timedelta(milliseconds=1)
    first = datetime(day.year, day.month, day.day, tzinfo=UTC) + clock // moment * moment
    last = first + length // moment * moment
    told = s.marine(last="2030-01-01")

    grid = s.cut(told, step, startdate=first, enddate=last)
    starts, ends = grid.index("time").T  # type: ignore[union-attr]

    assert (starts[1:] - ends[:-1] == np.timedelta64(1, "ms")).all()
    assert (ends >= starts).all()
    assert grid.bounds(0) is not None
    assert grid.bounds(0)[0] == first  # type: ignore[index]
    assert grid.bounds(-1)[1] == last  # type: ignore[index]


@for_each(
    ("told", "split", "query"),
    [
        (s.ERA5, "month", {"startdate": "2000-01-20", "enddate": "2001-03-02", "time": "00:00"}),
        (s.ERA5, "year", {"year": ["2000", "2004"], "month": ["02", "06"], "day": ["29", "30"]}),
        (s.FLOODS, {"day": 5}, {"startdate": "2000-02", "enddate": "2000-03"}),
        (
            s.LAND,
            "auto",
            {
                "startdate": "2000-02",
                "enddate": "2000-03",
                "variable": "snow_depth",
                "bbox": "-6,35.10,5,45",
            },
        ),
        (s.CAMS, "week", {"startdate": "2020-02-27", "enddate": "2020-03-20", "time": "03:00"}),
        (s.marine(), "6h", {"startdate": "2024-01-01T03:00:00Z", "enddate": "2024-01-02"}),
        (
            s.marine(),
            {"variable": 1},
            {
                "startdate": "2024",
                "enddate": "2024",
                "minimum_depth": 0.0,
                "bbox": [-6.0, 35, 5.50, 45],
            },
        ),
        (s.PERIODS, {"period": 1}, {"period": ["19500101-19991231"], "variable": "2m_temperature"}),
    ],
)
def test_the_query_of_a_piece_is_its_request(told: Schema, split: Any, query: Any) -> None:
    """The path of a piece makes the very request of it, and cut again it stays what it is."""
    grid = s.cut(told, split, **query)

    for n in range(len(grid)):
        again = Location.parse(grid.location(n).path)
        assert canonical_body(told, told.request(again.query)) == grid.body(n)
        alone = split_query(again, told, None)
        assert [alone.product_id(k) for k in range(len(alone))] == [grid.product_id(n)]
        assert alone.location(0) == again


def test_whole_months_are_shared_by_queries_of_other_ends() -> None:
    """A month is asked for in one way, by whichever range, list and way to write it."""
    base: dict[str, Any] = {"variable": "2m_temperature", "time": ["12:00", "00:00"]}
    queries: list[dict[str, Any]] = [
        {"startdate": "2000-01-10", "enddate": "2000-03-05"},
        {"startdate": "2000-02", "enddate": "2000-02"},
        {"year": "2000", "month": ["03", "02"], "day": s.DAYS},
        {"year": "2000", "month": "02", "day": s.DAYS[:29]},
        {"startdate": "1990", "enddate": "2010", "data_format": "netcdf"},
    ]

    ids = [
        {grid.product_id(n) for n in range(len(grid))}
        for grid in (s.cut(s.ERA5, "month", **base, **query) for query in queries)
    ]

    (shared,) = set.intersection(*ids)
    assert "2000_02_01-to-31" in shared
    marine = [
        {grid.product_id(n) for n in range(len(grid))}
        for grid in (
            s.cut(s.marine(), "month", startdate="2000-01-10T04:00:00Z", enddate="2000-03-05"),
            s.cut(s.marine(), "month", startdate="1999", enddate="2000"),
        )
    ]
    assert len(set.intersection(*marine)) == 1


def test_february_is_asked_for_with_31_days() -> None:
    """The service drops days that do not exist, and then the request is the same in leap years."""
    grid = s.cut(s.ERA5, "month", startdate="2023-01-15", enddate="2023-03-15")

    days = [grid.body(n)["day"] for n in range(3)]

    assert days == [s.DAYS[14:], s.DAYS, s.DAYS[:15]]


def test_a_cut_year_is_asked_for_in_its_own_lists() -> None:
    """A cut month never shares a request with whole ones."""
    grid = s.cut(s.ERA5, "year", startdate="2000-03-15", enddate="2002-02-10")

    told = [(b["year"], b["month"], b["day"]) for b in map(grid.body, range(len(grid)))]

    assert told == [
        (["2000"], ["03"], s.DAYS[14:]),
        (["2000"], s.MONTHS[3:], s.DAYS),
        (["2001"], s.MONTHS, s.DAYS),
        (["2002"], ["01"], s.DAYS),
        (["2002"], ["02"], s.DAYS[:10]),
    ]


def test_hours_are_split_where_the_query_names_them() -> None:
    """Parts of a day are asked for by the day and its own hours."""
    query: dict[str, Any] = {
        "startdate": "2020-02-28",
        "enddate": "2020-02-29",
        "time": s.HOURS[::3],
    }

    grid = s.cut(s.ERA5, "12h", **query)

    assert len(grid) == 4
    assert (grid.body(1)["day"], grid.body(1)["time"]) == (["28"], s.HOURS[12::3])
    times = np.concatenate([grid.times(n) for n in range(4)])
    assert (np.diff(times) == np.timedelta64(3, "h")).all()


def test_times_are_those_that_the_lists_name() -> None:
    """Impossible days are no times; without hours only the days are known."""
    query: dict[str, Any] = {"year": ["2001"], "month": ["02", "03"], "day": ["28", "29", "31"]}

    hourly = s.cut(s.ERA5, "month", **query, time=["12:00", "00:00"])
    daily = s.cut(s.ERA5, "month", **query)

    assert hourly.times(0).astype(str).tolist() == [  # type: ignore[union-attr]
        "2001-02-28T00:00:00.000",
        "2001-02-28T12:00:00.000",
    ]
    values, counts = hourly.time_index()  # type: ignore[misc]
    assert counts.tolist() == [2, 6]
    assert np.array_equal(values, np.concatenate([hourly.times(0), hourly.times(1)]))
    assert daily.times(0) is None
    assert daily.nominal_times(1).astype("datetime64[D]").astype(str).tolist() == [  # type: ignore[union-attr]
        "2001-03-28",
        "2001-03-29",
        "2001-03-31",
    ]
    cams = s.cut(
        s.CAMS, "day", startdate="2020-01-01", enddate="2020-01-03", time=["21:00", "03:00"]
    )
    assert cams.times(2).astype(str).tolist() == [  # type: ignore[union-attr]
        "2020-01-03T03:00:00.000",
        "2020-01-03T21:00:00.000",
    ]
    assert s.cut(s.marine(), "day", startdate="2020-01-01", enddate="2020-01-03").times(0) is None


def test_months_and_years_without_days() -> None:
    """A data set of whole months, or years, is split by these."""
    grid = s.cut(s.MEANS, {"time": 24}, startdate="2000-03", enddate="2005-06", time="00:00")
    assert grid.split == "2YS"
    assert [grid.body(n)["year"] for n in (0, 1, 2)] == [["2000"], ["2001"], ["2002", "2003"]]
    assert grid.times(1).astype("datetime64[M]").astype(str).tolist() == [  # type: ignore[union-attr]
        f"2001-{m}" for m in s.MONTHS
    ]
    assert grid.bounds(0) == (
        datetime(2000, 3, 1, tzinfo=UTC),
        datetime(2000, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
    )
    years = s.cut(s.YEARLY, {"year": 2}, year=["2000", "2001", "2003", "2004"])
    assert [years.body(n)["year"] for n in range(3)] == [["2000", "2001"], ["2003"], ["2004"]]


def test_keys_are_axes() -> None:
    """Each list is an axis: variables first; levels in the order of their numbers."""
    grid = s.cut(
        s.LEVELED,
        {"pressure_level": 3, "time": "month", "variable": 1},
        variable=["temperature", "geopotential"],
        pressure_level=["1000", "850", "1", "10", "500"],
        startdate="2000-01",
        enddate="2000-02",
        time="00:00",
    )

    assert [(axis.name, axis.length) for axis in grid.axes] == [
        ("time", 2),
        ("variable", 2),
        ("pressure_level", 2),
    ]
    assert grid.index("pressure_level") == (("1", "10", "500"), ("850", "1000"))
    assert grid.index("variable") == (("geopotential",), ("temperature",))
    assert grid.position(5) == {"time": 1, "variable": 0, "pressure_level": 1}
    body = grid.body(5)
    assert (body["variable"], body["pressure_level"], body["month"]) == (
        ["geopotential"],
        ["850", "1000"],
        ["02"],
    )
    assert len({grid.product_id(n) for n in range(8)}) == 8
    with pytest.raises(KeyError):
        grid.index("month")
    for beyond in (8, -9):
        with pytest.raises(IndexError, match="there are 8"):
            grid.body(beyond)


def test_variables_that_are_not_named_are_all() -> None:
    """Marine requests without variables mean all of them, and can be split by them."""
    query: dict[str, Any] = {"startdate": "2020-01-01", "enddate": "2020-01-02"}

    assert "variables" not in s.cut(s.marine(), "day", **query).body(0)
    grid = s.cut(s.marine(), {"variable": 1}, **query)

    assert [grid.body(n)["variables"] for n in range(2)] == [["eastward_wind"], ["northward_wind"]]


def test_an_open_end_stays_open() -> None:
    """Where the query names no end the last piece names none, since that of the data set moves."""
    grid = s.cut(s.marine(), "year", startdate="2023-06-01")

    assert [grid.body(n).get("enddate") for n in range(2)] == ["2023-12-31T23:59:59.999Z", None]
    assert s.cut(s.marine(), None).body(0) == {}
    whole = s.cut(s.marine(), "10YS")
    assert [whole.body(n) for n in range(len(whole))] == [
        {"enddate": "1999-12-31T23:59:59.999Z"},
        {"startdate": "2000-01-01T00:00:00.000Z", "enddate": "2009-12-31T23:59:59.999Z"},
        {"startdate": "2010-01-01T00:00:00.000Z", "enddate": "2019-12-31T23:59:59.999Z"},
        {"startdate": "2020-01-01T00:00:00.000Z"},
    ]


def test_pieces_beyond_the_data_set_are_left_out_and_told() -> None:
    """The schema says where a data set begins and ends; a piece on the border stays as it is."""
    grid = s.cut(s.marine(), "year", startdate="1990-05", enddate="2026")

    assert len(grid) == 32
    assert grid.body(0)["startdate"] == "1993-01-01T00:00:00.000Z"
    assert grid.body(31)["enddate"] == "2024-12-31T23:59:59.999Z"
    (warning,) = grid.warnings
    assert "1993-01-01 to 2024-12-31" in warning


def test_a_grid_is_a_small_value() -> None:
    """100,000 pieces take some kilobytes to send, and are the same when they arrive."""
    query: dict[str, Any] = {
        "startdate": "1940",
        "enddate": "2030",
        "time": s.HOURS,
        "product_type": "reanalysis",
    }
    variables = ["2m_temperature", "total_precipitation", "mean_sea_level_pressure"]
    grid = s.cut(s.ERA5, {"time": "day", "variable": 1}, **query, variable=variables)
    bodies = [grid.body(n) for n in (0, 50_000, len(grid) - 1)]

    sent = pickle.dumps(grid)
    there: PieceGrid = pickle.loads(sent)

    assert len(grid) == 33238 * 3
    assert len(sent) < 10_000
    assert there == grid
    assert [there.body(n) for n in (0, 50_000, len(grid) - 1)] == bodies


def test_a_grid_is_not_changed_by_what_it_gives_away() -> None:
    """Requests are new each time, and the grid is a value that can be a key."""
    query: dict[str, Any] = {"startdate": "2020", "enddate": "2020", "bbox": [-6, 35, 5, 45]}
    grid, other = s.cut(s.ERA5, "month", **query), s.cut(s.ERA5, "month", **query)

    grid.body(0)["bbox"].clear()
    grid.body(0)["day"].clear()

    assert grid.body(0)["bbox"] == [-6, 35, 5, 45]
    assert grid.body(0)["day"] == s.DAYS
    assert {grid: 1}[other] == 1


def test_numbers_that_are_no_dates_are_not_taken_for_some() -> None:
    """A day 00 or a month 13 says something else, and is asked for as it is."""
    told = s.schema(
        "EO:ECMWF:DAT:X",
        {
            "year": s.many_of("0000", "2020"),
            "month": s.many_of(*s.MONTHS, "13"),
            "day": s.many_of("00", *s.DAYS),
        },
    )
    for odd in ({"day": ["00", "01"]}, {"month": "13"}, {"year": "0000"}):
        query: dict[str, Any] = {"year": "2020", "month": "01", "day": "01", **odd}
        assert s.cut(told, None, **query).bounds(0) is None
        with pytest.raises(QueryError, match="cannot be cut in time"):
            s.cut(told, "month", **query)

    whole = s.cut(told, "month", startdate="2020-01", enddate="2020-02")
    assert whole.body(1) == {"year": ["2020"], "month": ["02"], "day": s.DAYS}


def test_a_data_set_without_a_schema_is_cut_by_what_the_query_says() -> None:
    """Ranges and lists are known by their names, and are sent under them."""
    told = Schema("EO:ECMWF:DAT:X", is_open=True)

    dated = s.cut(told, "month", dtstart="2020-01-15", dtend="2020-02-10")
    assert dated.request(0) == {"dtstart": ("2020-01-15",), "dtend": ("2020-01-31",)}
    listed = s.cut(told, "month", year="2020", month=["01", "02"], day=s.DAYS, variable=["b", "a"])
    assert listed.request(1)["month"] == ("02",)
    assert listed.request(1)["variable"] == ("a", "b")


@for_each(
    "told",
    [
        s.schema("EO:ECMWF:DAT:X", {"startdate": s.DATE, "enddate": s.DATE}),
        s.schema("EO:ECMWF:DAT:X", {"dtstart": s.DATE}),
        Schema("EO:ECMWF:DAT:X", is_open=True),
    ],
)
def test_one_end_of_a_range_is_asked_for(told: Schema) -> None:
    """It cannot be cut where nobody knows the other end, but it is part of the request."""
    grid = s.cut(told, None, startdate="2020-01")

    assert list(grid.body(0).values()) == ["2020-01-01T00:00:00.000Z"]
    assert split_query(Location.parse(grid.location(0).path), told, None).body(0) == grid.body(0)
    with pytest.raises(QueryError, match=r"no enddate|one end of a range"):
        s.cut(told, "month", startdate="2020-01")
