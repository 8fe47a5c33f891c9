"""Bounds of times as evidence: when one product tells where all stand, and when it does not."""

from __future__ import annotations

import itertools
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.errors import ProductMismatchError
from hda_fsspec.timeindex.catalogue_times import SeenProduct, predict

Array = np.ndarray[Any, Any]
MILLISECOND = np.timedelta64(1, "ms")
DAY = np.timedelta64(1, "D")
HOUR = np.timedelta64(1, "h")

MONTHS = np.datetime64("2023-04", "M") + np.arange(13).astype("m8[M]")
STARTS = MONTHS[:-1].astype("M8[us]")
ENDS = MONTHS[1:].astype("M8[us]")
MIDDLE = STARTS + (ENDS - STARTS) // 2


def _known(times: Array, bounds: Array | None, *pieces: int) -> list[SeenProduct]:
    return [
        SeenProduct(piece, times[piece : piece + 1], None if bounds is None else bounds[piece])
        for piece in pieces
    ]


@for_each("last", [MILLISECOND, 0 * MILLISECOND, np.timedelta64(1, "us")])
@for_each("order", [1, -1])
def test_the_middle_of_bounds_that_are_the_interval_needs_one_product(
    last: np.timedelta64, order: int
) -> None:
    """Of a month of 30 days alone, bounds tell the middle from the 16th; an end is either form."""
    bounds = np.stack([STARTS, ENDS], axis=1)[:, ::order]

    prediction = predict(STARTS, ENDS - last, _known(MIDDLE, bounds, 0))

    assert prediction.ask == ()
    np.testing.assert_array_equal(prediction.values, MIDDLE)


def test_bounds_of_another_calendar() -> None:
    """In a calendar of its own, whose months differ from ours, bounds tell the same."""
    years = (2023, 2024)
    edges = [cftime.DatetimeNoLeap(year, m, 1) for year in years for m in range(1, 13)]
    edges.append(cftime.DatetimeNoLeap(2025, 1, 1))
    truth = np.array([a + (b - a) / 2 for a, b in itertools.pairwise(edges)])
    months = np.datetime64("2023-01", "M") + np.arange(25).astype("m8[M]")
    bounds = np.array([edges[3:5]])

    prediction = predict(
        months[:-1].astype("M8[us]"),
        months[1:].astype("M8[us]") - MILLISECOND,
        [SeenProduct(3, truth[3:4], bounds)],
    )

    assert prediction.values is not None
    assert prediction.values.tolist() == truth.tolist()


NO_EVIDENCE: dict[str, tuple[Array, Array | None]] = {
    "no bounds": (MIDDLE, None),
    "other bounds": (MIDDLE, np.stack([STARTS + DAY, ENDS - DAY], axis=1)),
    "only the start": (MIDDLE, np.stack([STARTS, ENDS - DAY], axis=1)),
    "no width": (MIDDLE, np.stack([MIDDLE, MIDDLE], axis=1)),
    "not the middle": (STARTS + 14 * DAY, np.stack([STARTS, ENDS], axis=1)),
}


@for_each("case", NO_EVIDENCE)
def test_without_evidence_another_product_is_asked_for(case: str) -> None:
    """Bounds that do not tell leave everything as it is without them."""
    times, bounds = NO_EVIDENCE[case]

    told = predict(STARTS, ENDS - MILLISECOND, _known(times, bounds, 0))
    plain = predict(STARTS, ENDS - MILLISECOND, _known(times, None, 0))

    assert told.ask == plain.ask != ()


def test_a_second_product_overrules_bounds() -> None:
    """On the 16th of April and of May, of which one is the middle: what both share is taken."""
    times = STARTS + 15 * DAY
    bounds = np.stack([STARTS, ENDS], axis=1)

    prediction = predict(STARTS, ENDS - MILLISECOND, _known(times, bounds, 0, 1))

    np.testing.assert_array_equal(prediction.values, times)


def _month(number: int, time: Array, **netcdf: Any) -> xr.Dataset:
    """Return a monthly mean with bounds, which xarray decodes as it decodes the time."""
    dataset = xr.Dataset(
        {
            "sst": (("time", "lat"), np.full((1, 2), float(number))),
            "time_bnds": (("time", "nv"), [[STARTS[number], ENDS[number]]]),
        },
        coords={"time": [time], "lat": [1.0, 2.0]},
    )
    dataset["time"].attrs["bounds"] = "time_bnds"
    dataset["time"].encoding = {"units": "hours since 2000-01-01", "dtype": "f8"} | netcdf
    return dataset


def _names(count: int) -> list[str]:
    return [f"mean_{str(month).replace('-', '')}.nc" for month in MONTHS[:count]]


@pytest.mark.slow
@pytest.mark.parametrize("given", [{}, {"decode_coords": "all"}], ids=["plain", "coordinates"])
def test_a_year_of_monthly_means_opens_with_one_order(stacks: Any, given: dict[str, Any]) -> None:
    """From files too, whether bounds are variables or coordinates; and every time is true."""
    months = {name: _month(n, MIDDLE[n]) for n, name in enumerate(_names(12))}
    paths = stacks.serve(months, profile="month")

    found = stacks.open(chunks={}, **given)

    assert stacks.emulator.orders == 1
    wanted = xr.concat(
        [xr.load_dataset(path, **given) for path in paths], "time", data_vars="minimal"
    )
    xr.testing.assert_identical(found.load(), wanted)


@pytest.mark.slow
def test_a_month_that_keeps_to_another_rule_is_an_error_and_never_shifted(stacks: Any) -> None:
    """The 16th is the middle of April alone: reading May says so, and a scan puts all right."""
    truth = STARTS + 15 * DAY
    stacks.serve({name: _month(n, truth[n]) for n, name in enumerate(_names(4))}, profile="month")

    found = stacks.open(chunks={})

    assert stacks.emulator.orders == 1
    assert found.sst.isel(time=0).values.tolist() == [0.0, 0.0]
    with pytest.raises(ProductMismatchError, match=r"2023-05-16.*was predicted.*scan=True"):
        found.sst.isel(time=1).load()
    np.testing.assert_array_equal(stacks.open(scan=True).time, truth[:4])


@pytest.mark.slow
@pytest.mark.parametrize("given", [{}, {"drop_variables": "time_bnds"}], ids=["numbers", "none"])
def test_bounds_that_are_no_times_are_no_evidence(stacks: Any, given: dict[str, Any]) -> None:
    """A bounds attribute may name nothing, or missing values: another product is asked for."""
    months = {name: _month(n, MIDDLE[n]) for n, name in enumerate(_names(4))}
    for number, month in enumerate(months.values()):
        month["time_bnds"] = ("time", "nv"), [[float(number), np.nan]]
    stacks.serve(months, profile="month")

    found = stacks.open(**given)

    assert stacks.emulator.orders == 2
    np.testing.assert_array_equal(found.time, MIDDLE[:4])
