"""Real series under other catalogues and later on: the same values, or an error that asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from real_series import SERIES, assert_same, files_of, joined

from hda_fsspec.errors import ProductMismatchError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "profile", "count"),
    [
        ("duacs", "month", 4),
        ("sst", "exact", 3),
        ("eac4", "nominal+publication", 4),
        ("ostia", "day-before", 3),
        ("swi", "exact", 3),
        ("ssm", "sensing", 3),
        ("nemo", "month", 3),
        ("era5-grib", "sensing", 3),
    ],
)
def test_under_another_profile_it_is_identical_or_asks_for_a_scan(
    stacks: Any, shared_data: Path, name: str, profile: str, count: int
) -> None:
    """However a catalogue writes times, values never stand at another one without a word."""
    series = SERIES[name]
    if series.engine == "cfgrib":
        pytest.importorskip("cfgrib")
    files = files_of(series, shared_data)[:count]
    stacks.serve({path.name: path for path in files}, profile=profile)
    wanted = joined(files, series)

    told = ""
    try:
        found = stacks.open(chunks={})
        assert stacks.emulator.orders <= 3
        assert_same(found.load(), wanted, series)
    except ProductMismatchError as err:
        told = str(err)
    assert not told or "scan=True" in told
    assert_same(stacks.open(chunks={}, scan=True).load(), wanted, series)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["duacs", "ssm", "nemo"])
def test_a_series_that_was_read_before_is_the_same(
    stacks: Any, shared_data: Path, name: str
) -> None:
    """Another process knows the headers of what was read: the same values, and no order."""
    series = SERIES[name]
    files = files_of(series, shared_data)[:3]
    stacks.serve({path.name: path for path in files})
    wanted = joined(files, series)
    stacks.open(chunks={}).load()

    chunks: Any
    for chunks in ({}, None):
        stacks.forget()
        assert_same(stacks.open(chunks=chunks).load(), wanted, series)

    assert stacks.emulator.orders == len(files)


def test_products_of_different_length_say_so(stacks: Any, shared_data: Path) -> None:
    """Without a scan, files that hold a month or a season of days are not guessed at."""
    series = SERIES["cmip5"]
    stacks.serve({path.name: path for path in files_of(series, shared_data)})

    with pytest.raises(ProductMismatchError, match="scan=True"):
        stacks.open().load()


@pytest.mark.slow
def test_once_scanned_they_open_without_a_scan(stacks: Any, shared_data: Path) -> None:
    """Headers are kept: products of different length open without an order later on."""
    series = SERIES["cmip5"]
    files = files_of(series, shared_data)
    stacks.serve({path.name: path for path in files})
    stacks.open(scan=True)
    stacks.evict()
    orders = stacks.emulator.orders

    found = stacks.open(chunks={})

    assert stacks.emulator.orders == orders
    assert_same(found.load(), joined(files, series), series)
