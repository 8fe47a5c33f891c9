"""How large pieces are, what ``auto`` chooses, and what is done when a piece is too large."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import subset_schemas as s
from rows import for_each

from hda_fsspec.errors import QueryError
from hda_fsspec.subsets.sizes import (
    compare,
    estimate,
    load,
    loads,
    refine,
    split_that_fits,
    unit_of,
)

LONG: dict[str, Any] = {"startdate": "2000", "enddate": "2023"}
THREE = ["2m_temperature", "total_precipitation", "mean_sea_level_pressure"]


@for_each(
    ("told", "split", "pieces", "query"),
    [
        # small: one job
        (
            s.ERA5,
            None,
            1,
            {"variable": THREE[0], "startdate": "2020-01", "enddate": "2020-03", "time": s.HOURS},
        ),
        (s.MEANS, None, 1, {"variable": "snow_albedo", "time": "00:00", **LONG}),
        (s.PERIODS, None, 1, {"period": "19500101-19991231"}),
        # a month is the natural unit
        (s.ERA5, "month", 288, {"variable": THREE[0], "time": s.HOURS, **LONG}),
        (s.ERA5, "month", 288, {"variable": THREE, "time": s.HOURS, **LONG}),
        # a year where it is small
        (s.ERA5, "year", 24, {"variable": THREE[0], "time": "00:00", **LONG}),
        (
            s.CAMS,
            "year",
            20,
            {"variable": "ozone", "time": s.HOURS[::3], "startdate": "2003", "enddate": "2022"},
        ),
        (
            s.MEANS,
            "year",
            24,
            {"variable": ["snow_albedo", "2m_temperature"], "time": s.HOURS, **LONG},
        ),
        # levels: by variable, then by level
        (
            s.LEVELED,
            {"time": "month", "variable": 1, "pressure_level": 4},
            288 * 2 * 2,
            {
                "variable": ["temperature", "geopotential"],
                "pressure_level": s.LEVELS,
                "time": s.HOURS,
                **LONG,
            },
        ),
        # statistics are made of hours, and take one year in a request
        (
            s.STATISTICS,
            "month",
            288,
            {"variable": THREE[:1], "daily_statistic": "daily_sum", **LONG},
        ),
        (
            s.STATISTICS,
            "year",
            24,
            {
                "variable": THREE[:1],
                "daily_statistic": "daily_sum",
                "frequency": "6_hourly",
                **LONG,
            },
        ),
    ],
)
def test_auto_counts_fields(told: Any, split: Any, pieces: int, query: dict[str, Any]) -> None:
    """EO:ECMWF counts variables, levels and times, whatever the box: 5,000 are enough."""
    grid = s.cut(told, "auto", **query)

    assert grid.split == split
    assert len(grid) == pieces
    assert load(grid) <= 5_000


@for_each(
    ("dataset", "size", "split"),
    [
        (s.MARINE_ID, 99_000_000, None),
        (s.MARINE_ID, 24 * 90_000_000, "year"),
        (s.MARINE_ID, 24 * 40_000_000, "2YS"),
        (s.MARINE_ID, 24 * 900_000_000, "month"),
        (s.MARINE_ID, 24 * 365 * 90_000_000, "day"),
        (s.MARINE_ID, 24 * 365 * 150_000_000, {"time": "day", "variables": 1}),
        (s.MONTHLY_ID, 24 * 12 * 150_000_000, {"time": "month", "variables": 1}),
        (s.MARINE_ID, None, "month"),
        (s.DAILY_ID, None, "year"),
        (s.MONTHLY_ID, None, None),
        ("EO:MO:DAT:X:layer_hm_202311", None, None),
    ],
)
def test_auto_goes_by_the_size_that_the_catalogue_tells(
    dataset: str, size: int | None, split: Any
) -> None:
    """EO:MO tells bytes: 100 MB a piece; where it tells none, the step of the layer decides."""
    grid = s.cut(s.marine(dataset), "auto", size, **LONG)

    assert grid.split == split
    assert size is None or load(grid) <= 100_000_000


def test_estimates_of_a_split() -> None:
    """Orders, fields and hours of quota, and the same for other splits."""
    query: dict[str, Any] = {"variable": THREE[:2], "time": ["00:00", "12:00"], **LONG}
    grid = s.cut(s.ERA5, "month", **query)

    told = estimate(grid)
    others = compare(grid)

    fields = 2 * 2 * 8766
    assert (told.split, told.pieces, told.fields, told.largest) == (
        "month",
        288,
        fields,
        2 * 2 * 31,
    )
    assert told.hours == pytest.approx(2.88)
    assert loads(grid).sum() == fields
    assert [(other.split, other.pieces) for other in others][:3] == [
        (None, 1),
        ({"variable": 1}, 2),
        ("year", 24),
    ]
    assert ("day", 8766) in [(other.split, other.pieces) for other in others]
    assert {other.fields for other in others} == {fields}
    marine = estimate(s.cut(s.marine(), "month", 10**9, **LONG))
    assert (marine.size, marine.fields, marine.pieces) == (10**9, None, 288)


def test_a_query_that_asks_for_nothing_has_no_pieces() -> None:
    """An empty list is told as such."""
    variables = ["2m_temperature", "snow_albedo"]
    grid = s.cut(s.MEANS, {"variable": 1}, variable=variables, time="00:00", **LONG)
    keys = tuple(dataclasses.replace(key, values=()) for key in grid.wanted.keys)
    empty = dataclasses.replace(grid, wanted=dataclasses.replace(grid.wanted, keys=keys))

    assert len(empty) == 0
    with pytest.raises(QueryError, match="asks for nothing"):
        refine(empty, 0)
    with pytest.raises(IndexError, match="There is no piece 5"):
        grid.position(5)


def test_fields_of_uneven_pieces() -> None:
    """The last chunk of a list is shorter, and so are cut months."""
    grid = s.cut(
        s.LEVELED,
        {"time": "month", "pressure_level": 3},
        startdate="2020-01-30",
        enddate="2020-02-29",
        pressure_level=s.LEVELS,
        variable="temperature",
        time=["00:00", "12:00"],
    )

    assert loads(grid).tolist() == [12, 12, 8, 174, 174, 116]
    assert estimate(grid).fields == 31 * 2 * 8
    assert estimate(grid).largest == 174
    assert unit_of(s.cut(s.marine(), "month", **LONG)) == "milliseconds"


def test_a_refused_split_is_made_finer_until_it_cannot_be() -> None:
    """Each time the pieces are half as large at most; at the end the error says what is left."""
    query: dict[str, Any] = {
        "variable": THREE,
        "time": s.HOURS,
        "startdate": "2020",
        "enddate": "2021",
    }
    grid = s.cut(s.ERA5, None, **query)
    seen = [grid.split]
    while load(grid) > 24:
        before = load(grid)
        grid = refine(grid, 0)
        assert load(grid) <= before * 0.51
        seen.append(grid.split)
    with pytest.raises(QueryError, match="cannot be cut further"):
        refine(grid, 0)

    assert seen == [
        None,
        "year",
        "month",
        {"time": "month", "variable": 1},
        {"time": "week", "variable": 1},
        {"time": "day", "variable": 1},
    ]


def test_a_limit_that_is_told_is_kept() -> None:
    """The split that is advised fits what the service said."""
    grid = s.cut(s.ERA5, None, variable=THREE, time=s.HOURS, **LONG)

    assert split_that_fits(grid, 0, "Requesting 631152 items, limit is 120000") == "year"
    assert split_that_fits(grid, 0, "Cost 631152 over 1000 limit") == {
        "time": "month",
        "variable": 1,
    }
    assert split_that_fits(grid, 0) == "year"


@for_each("most", [8, 20, 40])
@for_each("last", ["2024-02-28", "2024-03-03"])
def test_what_is_advised_for_a_piece_fits_the_whole_query(last: str, most: int) -> None:
    """A piece may be shorter than a month, and lie in two of them."""
    wanted: dict[str, Any] = {"variable": ["ozone", "carbon_monoxide"], "time": s.HOURS[::3]}
    piece = s.cut(s.CAMS, None, startdate="2024-02-26", enddate=last, **wanted)
    assert load(piece) > most

    advised = split_that_fits(piece, 0, f"Cost {load(piece):.0f} over {most} limit")

    years: dict[str, Any] = {"startdate": "2010", "enddate": "2023"}
    assert load(s.cut(s.CAMS, advised, **wanted, **years)) <= most


def test_marine_pieces_are_made_finer_by_their_size() -> None:
    """And by their length where nobody tells a size."""
    for size in (10**9, None):
        grid = s.cut(s.marine(), "year", size, **LONG)
        finer = refine(grid, 3)
        assert finer.split == "6MS"
        assert load(finer) <= load(grid) * 0.51
    monthly = s.cut(s.marine(s.MONTHLY_ID), {"time": "month", "variable": 1}, **LONG)
    with pytest.raises(QueryError, match="cannot be cut further"):
        refine(monthly, 0)


def test_keys_are_cut_evenly() -> None:
    """Ten levels of which six fit are five and five."""
    told = s.schema(
        "EO:ECMWF:DAT:X",
        {
            "pressure_level": s.many_of(*(str(n) for n in range(1, 11))),
            "startdate": s.DATE,
            "enddate": s.DATE,
            "time": s.many_of(*s.HOURS),
        },
    )
    grid = s.cut(
        told,
        "auto",
        startdate="2020-01",
        enddate="2020-01",
        time=s.HOURS,
        pressure_level=[str(n) for n in range(1, 11)],
    )

    assert grid.split == {"time": "month", "pressure_level": 5}
    assert math.prod(grid.shape) == 2
