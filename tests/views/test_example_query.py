"""A small query to start from: one that the schema accepts, for each kind of data set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import subset_schemas as subsets
from real_schemas import BOX, DATE, TEXT, many_of, one_of, schema
from rows import for_each

from hda_fsspec.records import Dataset
from hda_fsspec.schema.schema import Schema
from hda_fsspec.views.example_query import find_starting_point

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def _start(told: Schema, dataset: Dataset | None = None) -> dict[str, str]:
    point = find_starting_point(told, dataset, now=NOW)
    told.request(point.query)
    return {key: ",".join(values) for key, values in point.query.items()}


@for_each(
    ("told", "expected"),
    [
        (
            subsets.ERA5,
            {
                "product_type": "reanalysis",
                "variable": "2m_temperature",
                "time": "00:00",
                "data_format": "netcdf",
                "download_format": "unarchived",
                "startdate": "2026-08-19",
                "enddate": "2026-08-19",
            },
        ),
        (
            subsets.LAND,  # one month in a query
            {
                "variable": "2m_temperature",
                "time": "00:00",
                "startdate": "2026-08-19",
                "enddate": "2026-08-19",
            },
        ),
        (
            subsets.MEANS,  # no days: a month
            {
                "product_type": "monthly_averaged_reanalysis",
                "variable": "2m_temperature",
                "time": "00:00",
                "data_format": "netcdf",
                "download_format": "unarchived",
                "startdate": "2026-08",
                "enddate": "2026-08",
            },
        ),
        (subsets.YEARLY, {"variable": "area", "startdate": "2026", "enddate": "2026"}),
        (
            subsets.PERIODS,
            {
                "variable": "2m_temperature",
                "model": "ipsl_cm5a_lr",
                "period": "19500101-19991231",
            },
        ),
        (
            subsets.CAMS,
            {
                "variable": "carbon_monoxide",
                "time": "00:00",
                "data_format": "netcdf",
                "download_format": "unarchived",
                "startdate": "2024-12-30",
                "enddate": "2024-12-31",
            },
        ),
        (subsets.marine(), {"startdate": "2024-10-11", "enddate": "2024-10-12"}),
    ],
)
def test_each_kind_of_data_set_has_one(told: Schema, expected: dict[str, str]) -> None:
    """What must be chosen is chosen, the last days that there are are asked for, in their lists."""
    assert _start(told) == expected


def test_what_lists_do_not_offer_is_not_asked_for() -> None:
    """Where the last years are not offered it is a day of the last year that is."""
    told = subsets.schema(
        "EO:ECMWF:DAT:X",
        {
            "variable": subsets.many_of("a"),
            "year": subsets.many_of("1979", "1980"),
            "month": subsets.many_of("03"),
            "day": subsets.many_of(*subsets.DAYS),
        },
    )

    assert _start(told) == {"variable": "a", "startdate": "1980-03-01", "enddate": "1980-03-01"}


def test_the_entry_tells_where_a_data_set_ends() -> None:
    """The last two days of it, whatever it calls its dates; never a day before its first."""
    told = schema({"dtstart": DATE, "dtend": DATE})
    ended = Dataset(
        "EO:X", startdate="2020-01-01T00:00:00.000Z", enddate="2023-05-03T23:59:59.999Z"
    )
    one_day = Dataset(
        "EO:X", startdate="2023-05-03T00:00:00.000Z", enddate="2023-05-03T23:59:59.999Z"
    )
    future = Dataset("EO:X", enddate="2030-01-01T00:00:00.000Z")

    assert _start(told, ended) == {"startdate": "2023-05-02", "enddate": "2023-05-03"}
    assert _start(told, one_day) == {"startdate": "2023-05-03", "enddate": "2023-05-03"}
    today = Dataset("EO:X", enddate=f"{NOW:%Y-%m-%d}T23:59:59.999Z")

    assert _start(told, future) == {"startdate": "2026-08-18", "enddate": "2026-08-19"}
    assert _start(told, today) == {
        "startdate": f"{NOW - timedelta(days=1):%Y-%m-%d}",
        "enddate": f"{NOW:%Y-%m-%d}",
    }


def test_values_that_go_together() -> None:
    """Where a schema tells combinations, the first one; keys of others are left out."""
    told = Schema.from_queryable(
        "EO:ECMWF:DAT:X",
        {
            "type": "object",
            "properties": {
                "variable": many_of("a", "b", "c"),
                "level_type": many_of("surface", "pressure"),
                "pressure_level": many_of("1", "2"),
                "ensemble": many_of("1"),
            },
            "constraints": [
                {"variable": ["b"], "level_type": ["pressure"], "pressure_level": ["2"]},
                {"variable": ["a"], "ensemble": ["1"]},
            ],
        },
    )

    assert _start(told) == {"variable": "b", "level_type": "pressure", "pressure_level": "2"}


def test_required_keys_are_filled_as_far_as_that_can_be_done() -> None:
    """A default, the first choice, a box; what has no value to propose is named."""
    told = schema(
        {
            "timeliness": one_of("NR", "NT"),
            "cloud": {"type": "number", "default": 20},
            "orbit": TEXT,
            "sat": one_of("A", "B"),
            "bbox": BOX,
        },
        required=["dataset_id", "timeliness", "orbit", "bbox", "nowhere", 5],
    )
    point = find_starting_point(told, Dataset("EO:X", bbox="-10,30,40,32"), now=NOW)

    assert point.query == {
        "timeliness": ("NR",),
        "cloud": ("20",),
        "bbox": ("10", "30", "20", "32"),
    }
    assert point.needs == ("orbit",)


@for_each(
    "odd",
    [
        {"a": {"type": "string", "default": {"x": 1}}},
        {"a": {"type": "number", "default": "many"}},
        {"a": one_of("x", default="elsewhere")},
        {"a": {"type": "array", "default": [[1]], "items": 5}},
    ],
)
def test_an_odd_default_is_left_out(odd: dict[str, Any]) -> None:
    """A schema may propose what it does not take."""
    assert _start(schema(odd)) == {}


def test_what_is_read_without_more_is_preferred() -> None:
    """A service proposes GRIB, which needs libraries of its own."""
    told = subsets.schema(
        "EO:ECMWF:DAT:X", {"data_format": subsets.one_of("grib", "netcdf") | {"default": "grib"}}
    )

    assert _start(told) == {"data_format": "netcdf"}


def test_an_open_schema_has_nothing_to_start_from() -> None:
    """Nobody knows what such a data set takes."""
    assert _start(Schema("EO:X", is_open=True)) == {}
