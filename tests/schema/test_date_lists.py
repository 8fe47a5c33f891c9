"""Ranges of days for data sets that take lists of years, months and days."""

from __future__ import annotations

import calendar
import itertools
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_schemas import BOX, Query, many_of, one_of, refused, schema
from rows import for_each

from hda_fsspec.errors import QueryError

MONTHS = [f"{n:02d}" for n in range(1, 13)]


DAYS = [f"{n:02d}" for n in range(1, 32)]


ERA5 = schema(
    {
        "variable": many_of("2m_temperature", "total_precipitation"),
        "year": many_of(*(str(n) for n in range(1940, 2026))),
        "month": many_of(*MONTHS),
        "day": many_of(*DAYS),
        "time": many_of("00:00", "12:00"),
        "data_format": one_of("grib", "netcdf"),
        "bbox": BOX,
    }
)


DAILY = schema(
    {
        "year": one_of(*(str(n) for n in range(1940, 2026))),
        "month": many_of(*MONTHS),
        "day": many_of(*DAYS),
    }
)


def days_asked(body: dict[str, Any]) -> set[date]:
    """Return all days that a request by lists stands for."""

    def numbers(key: str) -> list[int]:
        value = body[key]
        return [int(v) for v in (value if isinstance(value, list) else [value])]

    return {
        date(y, m, d)
        for y, m, d in itertools.product(numbers("year"), numbers("month"), numbers("day"))
        if d <= calendar.monthrange(y, m)[1]
    }


@for_each(
    ("year", "month", "day"),
    [("year", "month", "day"), ("hyear", "hmonth", "hday"), ("year", "month", "nominal_day")],
)
@for_each("months", [MONTHS, [str(n) for n in range(1, 13)], list(calendar.month_name)[1:]])
def test_the_common_dates_work_for_lists_of_days(
    year: str, month: str, day: str, months: list[str]
) -> None:
    """A range becomes the data set's own lists, written as its choices are."""
    lower = [name.lower() for name in months]
    data_set = schema({year: many_of("2023", "2024"), month: many_of(*lower), day: many_of(*DAYS)})
    body = data_set.request({"startdate": ("2024-02-27",), "enddate": ("2024-02-29",)})
    assert body == {year: ["2024"], month: [lower[1]], day: ["27", "28", "29"]}
    assert data_set.time_keys is None


def test_a_reference_year_is_asked_for_by_the_common_dates() -> None:
    """A data set with nothing but a year is asked for whole years."""
    grassland = schema({"year": one_of("2017", "2018"), "productType": one_of("Grassland")})
    assert grassland.request({"startdate": ("2018",), "enddate": ("2018",)}) == {"year": "2018"}
    assert "whole years" in str(
        refused(grassland, {"startdate": ("2018",), "enddate": ("2018-05",)})
    )
    assert "one year" in str(refused(grassland, {"startdate": ("2017",), "enddate": ("2018",)}))


@for_each(
    ("start", "end", "years", "months", "days"),
    [
        ("2024-05-30", "2024-05-31", [2024], [5], [30, 31]),
        ("2024-02", "2024-02", [2024], [2], range(1, 30)),
        ("2023-02", "2023-02", [2023], [2], range(1, 29)),
        ("2024-02", "2024-03", [2024], [2, 3], range(1, 32)),
        ("2024-04", "2024-04", [2024], [4], range(1, 31)),
        ("2024-03-01", "2024-05-31", [2024], range(3, 6), range(1, 32)),
        ("2022", "2024", range(2022, 2025), range(1, 13), range(1, 32)),
        ("2024-01-01T00:00:00Z", "2024-01-01T23:59:59Z", [2024], [1], [1]),
        ("1930", "1941", [1940, 1941], range(1, 13), range(1, 32)),
    ],
)
def test_a_range_becomes_lists_that_mean_just_its_days(
    start: str, end: str, years: Any, months: Any, days: Any
) -> None:
    """Days in a month, whole months in a year and whole years are combinations of lists."""
    body = ERA5.request({"startdate": (start,), "enddate": (end,)})
    assert body == {
        "year": [str(n) for n in years],
        "month": [f"{n:02d}" for n in months],
        "day": [f"{n:02d}" for n in days],
    }


@for_each(
    ("start", "end", "problem"),
    [
        ("2024-05-20", "2024-06-10", r"2024-05-20 to 2024-05-31, then 2024-06-01 to 2024-06-10"),
        ("2024-01-01", "2024-05-20", r"2024-01-01 to 2024-04-30, then 2024-05-01 to 2024-05-20"),
        ("2023-03", "2024-05", r"2023-03-01 to 2023-12-31, then 2024-01-01 to 2024-05-31"),
        ("2023-12-31", "2024-01-01", "2023-12-31 to 2023-12-31, then 2024-01-01 to 2024-01-01"),
        ("2024-05-01T06:00:00Z", "2024-05-02", "whole days"),
        ("2024-05-01", "2024-05-02T00:00:00Z", "whole days"),
        ("1850", "1851", "offers nothing"),
    ],
)
def test_a_range_that_lists_cannot_say_is_refused(start: str, end: str, problem: str) -> None:
    """The error says why, and how to split the range or give the lists."""
    error = refused(ERA5, {"startdate": (start,), "enddate": (end,)})
    assert problem in str(error)
    assert "year=, month=, day=" in str(error)


def test_lists_that_are_given_are_not_expanded() -> None:
    """Who gives the lists gets them as they are; a range beside them is a contradiction."""
    lists: Query = {"year": ("2024",), "month": ("01", "03"), "day": ("31",)}
    assert ERA5.request(lists) == {"year": ["2024"], "month": ["01", "03"], "day": ["31"]}
    assert ERA5.interval(lists) == (None, None)
    both: Query = {**lists, "startdate": ("2024",), "enddate": ("2024",)}
    assert refused(ERA5, both).key == "year"
    assert "needs both" in str(refused(ERA5, {"startdate": ("2024",)}))
    assert "needs both" in str(refused(ERA5, {"enddate": ("2024",)}))


def test_a_year_that_is_a_string() -> None:
    """Where the schema takes one year, several are refused and one is no list."""
    body = DAILY.request({"startdate": ("2024-09",), "enddate": ("2024-09",)})
    assert body == {"year": "2024", "month": ["09"], "day": DAYS[:30]}
    error = refused(DAILY, {"startdate": ("2023",), "enddate": ("2024",)})
    assert "takes one year" in str(error)


def test_only_what_is_offered_is_asked_for() -> None:
    """A data set of single days is asked for those in the range, and counted by them."""
    dekads = schema(
        {"year": many_of(2024), "month": many_of(*range(1, 13)), "day": many_of("1", "11", "21")}
    )
    body = dekads.request({"startdate": ("2024-03-05",), "enddate": ("2024-03-30",)})
    assert body == {"year": [2024], "month": [3], "day": ["11", "21"]}
    error = refused(dekads, {"startdate": ("2024-03-12",), "enddate": ("2024-03-20",)})
    assert "offers nothing" in str(error)


def test_monthly_data_are_asked_for_whole_months() -> None:
    """Without a list of days a range has to be of whole months."""
    monthly = schema({"year": many_of("2023", "2024"), "month": many_of(*MONTHS)})
    body = monthly.request({"startdate": ("2024-02-01",), "enddate": ("2024-03",)})
    assert body == {"year": ["2024"], "month": ["02", "03"]}
    assert "whole months" in str(
        refused(monthly, {"startdate": ("2024-02-02",), "enddate": ("2024-03",)})
    )


def test_numbers_without_choices_are_written_by_their_type() -> None:
    """Lists without choices take what their type says: numbers, or padded texts."""
    free = schema(
        {
            "year": {"type": "number"},
            "month": {"type": "array", "items": {"type": "string"}},
            "day": {"type": "array", "items": {"type": "number"}},
        }
    )
    body = free.request({"startdate": ("2024-03-01",), "enddate": ("2024-03-02",)})
    assert body == {"year": 2024, "month": ["03"], "day": [1, 2]}


def test_lists_of_something_else_are_not_expanded() -> None:
    """Years that are no numbers, or days without months, are no calendar."""
    for properties in (
        {"year": many_of("1980_81")},
        {"year": many_of("2024"), "day": many_of("01")},
    ):
        data_set = schema(properties)
        assert refused(data_set, {"startdate": ("2024",), "enddate": ("2024",)}).key == "startdate"


some_days = st.dates(date(2019, 1, 1), date(2024, 12, 31))


@pytest.mark.slow
@settings(deadline=None, derandomize=True)
@given(
    first=some_days,
    length=st.one_of(st.integers(0, 70), st.integers(300, 1200)),
    whole=st.sampled_from(["", "month", "year"]),
)
def test_law_lists_mean_exactly_the_days_of_the_range(first: date, length: int, whole: str) -> None:
    """A range is either expressed exactly, or no lists of days express it."""
    last = min(first + timedelta(days=length), date(2025, 12, 31))
    if whole:
        first = first.replace(day=1, month=first.month if whole == "month" else 1)
        month = last.month if whole == "month" else 12
        last = last.replace(month=month, day=calendar.monthrange(last.year, month)[1])
    wanted = {first + timedelta(days=n) for n in range((last - first).days + 1)}
    query: Query = {"startdate": (str(first),), "enddate": (str(last),)}
    try:
        assert days_asked(ERA5.request(query)) == wanted
    except QueryError:
        smallest = {
            unit: sorted({getattr(day, unit) for day in wanted})
            for unit in ("year", "month", "day")
        }
        assert days_asked(smallest) > wanted
