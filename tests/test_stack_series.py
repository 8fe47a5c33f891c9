"""Real series as one lazy data set: equal to what xarray joins of the local files."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec.errors import ProductMismatchError
from hda_fsspec.reading.gribs import import_pyproj_first

import_pyproj_first()


@dataclasses.dataclass(frozen=True)
class Series:
    """Files of one series, how they are joined, and how many are ordered to open them."""

    pattern: str
    count: int
    dim: str = "time"
    orders: int = 1
    scan: bool = False
    engine: str = "netcdf4"


SERIES = {
    "duacs": Series("cmems/duacs-med-adt-2005q2/daily/*.nc", 91),
    "sst": Series("cmems/sst-med-l3s-2022-jja/daily/*.nc", 92),
    # The whole year, under each way to write times, is the matter of benchmarks/series_by_profile.
    "eac4": Series("cams/eac4-co-2022/daily/*_20220[1-3]*.nc", 90, "valid_time"),
    "ostia": Series("cmems/ostia-anomaly-3days/*.nc", 3),
    "ssm": Series("clms/ssm1km-3days/*.nc", 3),
    "swi": Series("clms/swi1km-3days/*.nc", 3),
    "cmip5": Series("c3s/c3s-cmip5-ec-earth-tas-day/*.nc", 16, orders=16, scan=True),
    "era5-grib": Series("c3s/era5-2t-uk-2019-03-grib/daily/*.grib", 31, engine="cfgrib"),
    "nemo": Series("other/nemo-360day-3months/*.nc", 3, "time_counter", orders=2),
}


@pytest.fixture(params=SERIES)
def series(request: pytest.FixtureRequest) -> Series:
    """Each series that can be opened here."""
    found = SERIES[request.param]
    if found.engine == "cfgrib" and importlib.util.find_spec("cfgrib") is None:
        pytest.skip("cfgrib is not installed")
    return found


def files_of(series: Series, folder: Path) -> list[Path]:
    """Return the files of a series, in the order of their dates."""
    found = sorted(folder.glob(series.pattern))
    assert len(found) == series.count
    return found


def joined(files: list[Path], series: Series) -> xr.Dataset:
    """Join local files the classical way."""
    given: dict[str, Any] = {"indexpath": ""} if series.engine == "cfgrib" else {}
    parts = [
        xr.open_dataset(path, engine=series.engine, backend_kwargs=given, cache=False)
        for path in files
    ]
    try:
        return xr.concat(
            parts,
            series.dim,
            data_vars="minimal",
            coords="minimal",
            compat="override",
            join="exact",
            combine_attrs="override",
        ).load()
    finally:
        for part in parts:
            part.close()


def assert_same(found: xr.Dataset, wanted: xr.Dataset, series: Series) -> None:
    """Assert that all is identical; of global attributes some may be left out, if they differ."""
    # cfgrib writes the minute and the path of opening into "history".
    differing = {n for n in found.attrs if n != "history" and found.attrs[n] != wanted.attrs[n]}
    assert not differing or series.scan
    xr.testing.assert_identical(found.drop_attrs(deep=False), wanted.drop_attrs(deep=False))


def test_a_series_is_identical_to_the_joined_files(
    stacks: Any, shared_data: Path, series: Series
) -> None:
    """One day of the catalogue per product: one order at opening, then every value as it is."""
    files = files_of(series, shared_data)
    stacks.serve({path.name: path for path in files})

    found = stacks.open(chunks={}, scan=series.scan)

    assert stacks.emulator.orders == series.orders
    assert_same(found.load(), joined(files, series), series)
    assert stacks.emulator.orders == series.count


@pytest.mark.parametrize(
    ("name", "profile", "count"),
    [
        ("duacs", "exact", 6),
        ("duacs", "sensing", 6),
        ("duacs", "nominal+publication", 6),
        ("sst", "sensing", 4),
        ("sst", "exact", 4),
        ("eac4", "nominal+publication", 8),
        ("eac4", "exact", 8),
        ("ostia", "exact", 3),
        ("ostia", "day-before", 3),
        ("swi", "exact", 3),
        ("ssm", "sensing", 3),
        ("nemo", "exact", 3),
        ("nemo", "month", 3),
        ("duacs", "month", 6),
        ("eac4", "month", 8),
        ("era5-grib", "sensing", 4),
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


@pytest.mark.parametrize("name", ["duacs", "sst", "ssm", "nemo"])
def test_a_series_that_was_read_before_is_the_same(
    stacks: Any, shared_data: Path, name: str
) -> None:
    """Another process knows the headers of what was read: the same values, and no order."""
    series = SERIES[name]
    files = files_of(series, shared_data)[:4]
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


REDUCTIONS: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
    "mean over time": lambda array: array.mean("time"),
    "mean by month": lambda array: array.groupby("time.month").mean(),
    "a place": lambda array: array.isel(latitude=3, longitude=[5, 2]),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_of_a_series_are_those_of_the_files(
    stacks: Any, shared_data: Path, name: str
) -> None:
    """What Dask computes of a stack is what it computes of the local files."""
    series = SERIES["duacs"]
    files = files_of(series, shared_data)[25:40]
    stacks.serve({path.name: path for path in files})
    found = stacks.open(chunks={})
    variable = next(str(n) for n, v in found.data_vars.items() if v.ndim == 3)

    got = REDUCTIONS[name](found[variable]).compute()
    wanted = REDUCTIONS[name](joined(files, series)[variable])

    np.testing.assert_allclose(got.to_numpy(), wanted.to_numpy(), rtol=1e-6)
