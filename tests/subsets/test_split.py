"""The option ``split``: what it takes, and what it refuses with the next step."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
import subset_schemas as s
from rows import for_each

from hda_fsspec.errors import QueryError
from hda_fsspec.schema.schema import Schema
from hda_fsspec.subsets.query_axes import box_warning
from hda_fsspec.subsets.recency import provisional_from
from hda_fsspec.subsets.split import refuse_split

YEAR: dict[str, Any] = {"startdate": "2020", "enddate": "2020"}
LISTS: dict[str, Any] = {"variable": ["2m_temperature", "total_precipitation"], **YEAR}


def starts(grid: Any) -> list[str]:
    """Return the first days of pieces."""
    return grid.index("time")[:, 0].astype("datetime64[D]").astype(str).tolist()  # type: ignore[no-any-return]


@for_each(
    ("split", "second", "text"),
    [
        ("month", "2020-02-01", "month"),
        ("Months", "2020-02-01", "month"),
        ("MS", "2020-02-01", "month"),
        ("ME", "2020-02-01", "month"),
        (pd.offsets.MonthBegin(), "2020-02-01", "month"),
        (pd.offsets.MonthEnd(2), "2020-03-01", "2MS"),
        (np.timedelta64(3, "M"), "2020-04-01", "3MS"),
        ("quarter", "2020-04-01", "3MS"),
        ("QE", "2020-04-01", "3MS"),
        ("QS-NOV", "2020-02-01", "QS-NOV"),
        ("QE-NOV", "2020-03-01", "QE-NOV"),
        ("YE-MAR", "2020-04-01", "YE-MAR"),
        ("week", "2020-01-06", "week"),
        ("W", "2020-01-06", "W-SUN"),
        ("W-WED", "2020-01-02", "W-WED"),
        ("7D", "2020-01-08", "7D"),
        ("10 days", "2020-01-11", "10D"),
        (timedelta(days=10), "2020-01-11", "10D"),
        (pd.Timedelta("10D"), "2020-01-11", "10D"),
        (np.timedelta64(240, "h"), "2020-01-11", "10D"),
        ("SMS", "2020-01-15", "SMS-15"),
        (pd.DateOffset(months=1, days=1), "2020-02-02", "<DateOffset: days=1, months=1>"),
        ({"time": "month"}, "2020-02-01", "month"),
        ({"valid_time": pd.offsets.MonthBegin()}, "2020-02-01", "month"),
        ({"month": 2}, "2020-03-01", "2MS"),
        ({"day": np.int64(10)}, "2020-01-11", "10D"),
        ({"year": 1, "month": 1}, "2020-02-01", "month"),
    ],
)
def test_steps_are_words_and_what_pandas_takes(split: Any, second: str, text: str) -> None:
    """Months, quarters and weeks stand in the calendar; other steps count from the first day."""
    is_of_lists = isinstance(split, dict) and not {"time", "valid_time"} & set(split)

    grid = s.cut(s.ERA5 if is_of_lists else s.marine(), split, **YEAR)

    assert starts(grid)[:2] == ["2020-01-01", second]
    assert grid.split == text


@for_each("split", ["month", "2YS", "10D", {"time": "week", "variable": 1}, None, "auto"])
def test_what_was_chosen_can_be_given_again(split: Any) -> None:
    """The value that a grid tells makes the same grid."""
    grid = s.cut(s.ERA5, split, **LISTS)

    assert s.cut(s.ERA5, grid.split, **LISTS) == grid


def test_a_number_of_times_is_a_step_where_the_step_is_known() -> None:
    """As in ``chunks``: so many times for each piece; days and months are never cut."""
    assert s.cut(s.marine(), {"time": 12}, **YEAR).split == "12h"
    assert s.cut(s.marine(s.DAILY_ID), {"time": 10}, **YEAR).split == "10D"
    assert s.cut(s.marine(s.MONTHLY_ID), {"time": 3}, **YEAR).split == "3MS"
    assert s.cut(s.ERA5, {"time": 48}, **YEAR, time=s.HOURS).split == "2D"
    assert s.cut(s.ERA5, {"time": 6}, **YEAR, time=s.HOURS).split == "6h"
    assert s.cut(s.MEANS, {"time": 12}, **YEAR, time="00:00").split == "year"
    assert s.cut(s.CAMS, {"time": 8}, **YEAR, time=s.HOURS[::3]).split == "day"
    refused(s.ERA5, {"time": 31}, "no whole number of days", time=s.HOURS)
    refused(s.CAMS, {"time": 3}, "no whole number of days", time=s.HOURS[::3])
    refused(s.ERA5, {"time": 4}, "not known", time=["00:00", "01:00", "12:00"])
    refused(s.marine("EO:MO:DAT:X:layer_hm_202311"), {"time": 4}, "not known")


def refused(told: Schema, split: Any, *parts: str, **query: Any) -> QueryError:
    """Check that a split is refused in a few lines that say what may be done."""
    with pytest.raises(QueryError) as caught:
        s.cut(told, split, **{**YEAR, **query})
    message = str(caught.value)
    for part in parts:
        assert part in message
    assert len(message) < 500
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.key) == (message, caught.value.key)
    return caught.value


@for_each(
    ("dataset", "split"),
    [
        (s.MONTHLY_ID, "day"),
        (s.MONTHLY_ID, "week"),
        (s.MONTHLY_ID, "30D"),
        (s.MARINE_ID, "30min"),
        (s.DAILY_ID, "12h"),
        (s.DAILY_ID, {"time": timedelta(hours=1)}),
        ("EO:MO:DAT:X:layer_P1Y-m_202311", "month"),
        ("EO:MO:DAT:X:layer_P7D-m_202311", "5D"),
        ("EO:MO:DAT:X:layer_P7D-m_202311", pd.offsets.BDay()),
    ],
)
def test_a_split_finer_than_the_step_is_refused(dataset: str, split: Any) -> None:
    """The service would deliver the nearest time again and again."""
    refused(s.marine(dataset), split, "is finer than the times", 'split="auto"')


@for_each(
    ("query", "split", "key"),
    [({}, "month", "month"), ({"month": ["01", "02"]}, "day", "day")],
)
def test_a_split_of_what_no_list_names_is_refused(
    query: dict[str, Any], split: str, key: str
) -> None:
    """What is cut must be named, though the data set has it."""
    lists = {"variable": ["2m_temperature"], "year": ["2024"], "time": ["00:00"], **query}
    with pytest.raises(QueryError, match=rf"names no {key}.*{key}=1,2,3") as caught:
        s.cut(s.ERA5, split, **lists)
    assert caught.value.key == key


def test_a_split_finer_than_lists_is_refused() -> None:
    """Lists of months hold no days, lists of days no hours."""
    refused(s.MEANS, "day", "is finer than the times", "one every month")
    refused(s.YEARLY, "month", "one every year", startdate="2020", enddate="2021")
    refused(s.ERA5, "6h", "whole days at least", 'split="day"')
    refused(s.ERA5, "6h", "one every 12 hours", time=["00:00", "12:00"])
    refused(s.CAMS, "36h", "whole days at least", time="03:00")


@for_each(
    ("split", "part"),
    [
        ("fortnight", 'Use "day", "week", "month", "year"'),
        ("", "no step of time"),
        ("0D", "not longer than nothing"),
        ("-1D", "not longer than nothing"),
        ("0 months", "not longer than nothing"),
        (np.timedelta64(0, "M"), "not longer than nothing"),
        (pd.offsets.MonthBegin(-1), "not longer than nothing"),
        ("5us", "finer than a millisecond"),
        (7, "does not say of what"),
        (True, "no step of time"),
        (["variable"], "no step of time"),
        ({"time": "fortnight"}, "no step of time"),
        ({"variable": 0}, "1 value at least"),
        ({"variable": -2}, "1 value at least"),
        ({"time": 0}, "1 value at least"),
        ({"variable": 1.5}, "Write a number"),
        ({"variable": True}, "Write a number"),
        ({"variable": "all"}, "Write a number"),
        ({"variable": 1, "variables": 1}, "twice"),
        ({"time": "month", "day": 1}, "twice"),
        ({"varable": 1}, "Did you mean 'variable'?"),
        ({"pressure_level": 1}, "does not ask for"),
        ({3: 1}, "does not ask for"),
        ({"data_format": 1}, "takes no list of values"),
        ("variable", '{"variable": 1}'),
        ("bbox", "interpolates"),
        ({"latitude": 2}, "interpolates"),
        ({"time": "month", "bbox": 2}, "interpolates"),
        ("1ms", "days"),
    ],
)
def test_what_is_no_split_is_refused(split: Any, part: str) -> None:
    """The error names what is wrong with it, and a value that does."""
    assert refused(s.ERA5, split, part, **LISTS).key == "split"


def test_a_million_pieces_are_a_slip() -> None:
    """They are counted before they are made."""
    every = "EO:MO:DAT:X:layer_hm_202311"
    error = refused(s.marine(every), "1ms", "more than 1000000")
    assert "longer step" in str(error)
    many: dict[str, Any] = {
        "startdate": "1993",
        "enddate": "2023",
        "variables": ["eastward_wind", "northward_wind"],
    }
    refused(s.marine(every), {"time": "20min", "variable": 1}, "more than 1000000", **many)


@for_each(
    ("told", "query", "parts"),
    [
        (
            s.PERIODS,
            {"period": ["19500101-19991231", "20000101-20051231"]},
            ("period=19500101", '{"period": 1}'),
        ),
        (s.PERIODS, {"period": "19500101-19991231"}, ("period=19500101", "Leave split out")),
        (s.HYDROLOGICAL, {"hydrological_year": ["2001_02"]}, ("hydrological_year=2001_02",)),
        (s.ERA5, {"month": "01"}, ("month=01",)),
        (
            s.schema("EO:ECMWF:DAT:X", {"variable": s.many_of("a", "b")}),
            {"variable": ["a", "b"]},
            ('{"variable": 1}',),
        ),
        (s.CAMS, {"variable": "ozone"}, ("no startdate",)),
    ],
)
def test_what_cannot_be_cut_in_time_says_so(
    told: Schema, query: dict[str, Any], parts: tuple[str, ...]
) -> None:
    """Periods and hydrological years have no parts that a request could name."""
    with pytest.raises(QueryError, match="cannot be cut in time") as caught:
        s.cut(told, "month", **query)
    assert all(part in str(caught.value) for part in parts)
    with pytest.raises(QueryError, match="cannot be cut in time"):
        s.cut(told, {"time": 1}, **query)
    assert len(s.cut(told, None, **query)) == 1
    assert s.cut(told, None, **query).bounds(0) is None


def test_a_range_without_data_is_refused() -> None:
    """Before an order, by what the schema tells of the data set."""
    error = refused(
        s.marine(), "month", "1993-01-01 to 2024-10-12", startdate="1980", enddate="1985"
    )
    assert error.key == "startdate"
    refused(s.marine(), None, "no data", startdate="2025", enddate="2026")
    refused(s.CAMS, "month", "no data", startdate="1999", enddate="2000")
    refused(s.ERA5, "month", "offers nothing", startdate="1900", enddate="1910")
    refused(s.ERA5, "month", "ends before", startdate="2020", enddate="2019")


def test_ranges_that_lists_cannot_be_cut_for_are_refused() -> None:
    """Parts of units, one end alone, and both a range and lists."""
    refused(s.ERA5, "month", "whole days only", startdate="2020-01-01T06:00:00Z")
    refused(s.MEANS, "month", "whole months only", enddate="2020-03-05")
    refused(s.ERA5, "month", "give the one or the other", year="2020")
    with pytest.raises(QueryError, match="needs both"):
        s.cut(s.ERA5, "month", startdate="2020")


def test_one_job_is_refused_where_it_takes_several() -> None:
    """The error counts the requests, and names the split that makes them."""
    refused(
        s.ERA5,
        None,
        "takes 2 requests",
        'split="month"',
        startdate="2020-01-15",
        enddate="2020-02-29",
    )
    refused(s.STATISTICS, None, "takes one year", startdate="2019", enddate="2020")
    refused(s.LAND, None, "takes one year", startdate="2020-01", enddate="2020-02")
    assert len(s.cut(s.ERA5, None, **YEAR)) == 1
    assert len(s.cut(s.ERA5, "auto", startdate="2020-01-15", enddate="2020-02-29")) == 2


def test_data_sets_of_products_are_not_split() -> None:
    """The error says what to do."""
    assert "leave split out" in str(refuse_split("EO:EUM:DAT:X", "month"))


@for_each(
    ("dataset", "box", "better"),
    [
        ("REANALYSIS_ERA5_SINGLE_LEVELS", [-10.1, 35, 5, 45], "-10.25,35,5,45"),
        ("REANALYSIS_ERA5_SINGLE_LEVELS", [-10, 35.05, 5.1, 45.3], "-10,35,5.25,45.5"),
        ("REANALYSIS_ERA5_SINGLE_LEVELS", [-10, 35.25, 5.1, 45.3], None),
        ("REANALYSIS_ERA5_LAND", [0.3, 0.7, 5, 45], None),
        ("REANALYSIS_ERA5_LAND", [0.25, 0.7, 5, 45], "0.2,0.7,5,45"),
        ("REANALYSIS_ERA5_LAND_MONTHLY_MEANS", [-0.05, 0, 5, 45], "-0.1,0,5,45"),
        ("CAMS_GLOBAL_REANALYSIS_EAC4", [0.75, 1.5, 5, 45], None),
        ("CAMS_GLOBAL_REANALYSIS_EAC4", [0.5, 1.5, 6, 45], "0,1.5,6,45"),
        ("CEMS_GLOFAS_HISTORICAL", [0.123, 1.5, 6, 45], None),
        ("REANALYSIS_ERA5_LAND", None, None),
    ],
)
def test_a_box_off_the_grid_is_told(
    dataset: str, box: list[float] | None, better: str | None
) -> None:
    """The service interpolates to a grid that begins at the south-west corner."""
    warning = box_warning(f"EO:ECMWF:DAT:{dataset}", box)

    assert (warning is None) is (better is None)
    assert better is None or f"bbox={better}." in str(warning)


def test_a_warning_is_told_once_for_all_pieces() -> None:
    """All pieces carry the same box."""
    grid = s.cut(s.ERA5, "month", **YEAR, bbox=[-10.1, 35, 5, 45])

    assert len(grid) == 12
    assert len(grid.warnings) == 1
    assert {tuple(grid.body(n)["bbox"]) for n in range(12)} == {(-10.1, 35, 5, 45)}
    assert s.cut(s.marine(), "month", **YEAR, bbox=[-10.1, 35, 5, 45]).warnings == ()


NOW = datetime(2024, 11, 1, tzinfo=UTC)


@for_each(
    ("told", "since"),
    [
        (s.marine(), "2024-10-12T23:59:59.999"),
        (s.marine(last="2021-06-30T00:00:00Z"), "2021-06-30T00:00:00"),
        (s.marine(last="2024-11-08"), "2024-07-24T00:00:00"),
        (s.marine(last="2100-12-31"), None),
        (s.schema("EO:ECMWF:X", {"startdate": s.DATE, "enddate": s.DATE}), "2024-07-24T00:00:00"),
        (s.schema("EO:ECMWF:X", {"year": s.many_of("2023", "2024")}), "2024-07-24T00:00:00"),
        (s.schema("EO:ECMWF:X", {"year": s.many_of("2015", "2100")}), None),
        (s.PERIODS, "2024-07-24T00:00:00"),
    ],
)
def test_where_data_may_still_change(told: Schema, since: str | None) -> None:
    """From the end that the schema tells, else 100 days ago; projections are complete."""
    found = provisional_from(told, NOW)

    assert (found and found.replace(tzinfo=None).isoformat(timespec="auto")[:19]) == (
        since and since[:19]
    )


def test_a_piece_near_the_present_may_be_short() -> None:
    """It is the last one of a data set that still grows."""
    told = s.schema("EO:ECMWF:X", {"startdate": s.DATE, "enddate": s.DATE})
    grid = s.cut(told, "month", startdate="2024-06", enddate="2024-11")

    since = provisional_from(told, NOW)
    ends = [bounds[1] for n in range(len(grid)) if (bounds := grid.bounds(n)) is not None]

    assert since is not None
    assert [end >= since for end in ends] == [False, True, True, True, True, True]
