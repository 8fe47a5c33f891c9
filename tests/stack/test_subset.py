"""Queries that the service turns into one product are opened in pieces, ordered when computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from checkout import SHARED
from cubes import Cubes, cubes_of, plain
from subset_sources import ERA5, MARINE, SMALL, write_era5, write_marine

from hda_fsspec.emulator import dated_product, ecmwf_subset, marine_subset
from hda_fsspec.emulator.dataset_entries import DatasetEntry, ProductEntry
from hda_fsspec.errors import OfflineError, OrderError, ProductMismatchError, QueryError

NAMES = {"2m_temperature": "t2m", "mean_sea_level_pressure": "msl"}
HOURS = "time=00:00,06:00,12:00,18:00"
SPRING = f"{MARINE}/startdate=2024-02-10/enddate=2024-05-20"
FIELDS = f"{ERA5}/variable=2m_temperature,mean_sea_level_pressure/{HOURS}"
FILES = "EO:EUM:DAT:FILES"
FAMILY = "EO:ECMWF:DAT:"
REGIONAL = SHARED / "data" / "cams" / "test_adaptor.cams_regional_fc.nc"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of a marine data set, and of one in the manner of ERA5."""
    folder = tmp_path_factory.mktemp("sources")
    names = tuple(NAMES.values())
    return {
        MARINE: write_marine(folder / "marine.nc"),
        ERA5: write_era5(folder / "era5.nc", names=names, expver=False),
    }


@pytest.fixture
def cubes(sources: dict[str, Path], tmp_path: Path) -> Iterator[Cubes]:
    """Both data sets, served, and one of files."""
    files = DatasetEntry(FILES, [dated_product("f_20240501.nc", sources[MARINE])])
    marine = marine_subset(MARINE, sources[MARINE])
    era5 = ecmwf_subset(ERA5, sources[ERA5], variables=NAMES)
    with cubes_of(tmp_path, marine, era5, files) as cubes:
        yield cubes


def source(sources: dict[str, Path], name: str, **selection: Any) -> xr.Dataset:
    """Return a part of a source."""
    with xr.open_dataset(sources[name]) as ds:
        return plain(ds.sel(**selection).load())


@pytest.mark.slow
def test_months_of_a_marine_data_set(cubes: Cubes, sources: dict[str, Path]) -> None:
    """One order opens it; a day in another month costs a second, and all of it is the source."""
    ds = cubes.open(SPRING, split="month", chunks={})

    assert ds.encoding["hda_split"] == "month"
    assert ds.chunksizes["time"] == (20, 31, 30, 20)
    assert len(cubes.ordered) == 1
    ds.adt.sel(time="2024-04-03").load()
    assert len(cubes.ordered) == 2
    wanted = source(sources, MARINE, time=slice("2024-02-10", "2024-05-20"))
    xr.testing.assert_identical(plain(ds), wanted)
    assert len(cubes.ordered) == 4


@pytest.mark.slow
def test_variables_and_months_of_lists(cubes: Cubes, sources: dict[str, Path]) -> None:
    """A range of days goes out as lists; a variable is a piece of its own that orders no other."""
    query = f"{FIELDS}/startdate=2024-02-01/enddate=2024-03-31"

    ds = cubes.open(query, split={"time": "month", "variable": 1})

    assert len(cubes.ordered) == 2
    ds.t2m.sel(valid_time="2024-03-05").load()
    assert len(cubes.ordered) == 3
    xr.testing.assert_identical(plain(ds), source(sources, ERA5))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "shown", "pieces"),
    [("auto", "year", 2), (pd.offsets.MonthBegin(2), "2MS", 2), ("week", "week", 5)],
    ids=["auto", "offset", "week"],
)
def test_a_range_that_no_request_can_say(
    cubes: Cubes, sources: dict[str, Path], split: Any, shown: str, pieces: int
) -> None:
    """Parts of two months are no combination of lists: they are asked for in several pieces."""
    ds = cubes.open(f"{FIELDS}/startdate=2024-02-12/enddate=2024-03-06", split=split)

    assert len({product.product_id for product in ds.hda.products}) == pieces
    assert ds.encoding["hda_split"] == shown
    wanted = source(sources, ERA5, valid_time=slice("2024-02-12", "2024-03-06"))
    xr.testing.assert_identical(plain(ds), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("split", [None, "auto"])
def test_what_is_small_is_one_order(cubes: Cubes, split: Any) -> None:
    """With split=None, and by itself."""
    ds = cubes.open(SPRING, split=split).load()

    assert (len(cubes.ordered), ds.encoding["hda_split"]) == (1, None)


@pytest.mark.slow
def test_pieces_are_shared_by_queries_and_processes(cubes: Cubes) -> None:
    """The same month of another query, written in another way, is ordered once for all."""
    box = "bbox=-3,41,3.0,43"
    first = cubes.open(f"{SPRING}/{box}/variables=sla,adt", split="month").load()
    count = len(cubes.ordered)
    cubes.forget()
    query = f"{MARINE}/startdate=2024-03-01/enddate=2024-04-30/bbox=-3.0,41.0,3,43"

    again = cubes.open(f"{query}/variables=adt,sla", split="month").load()

    assert len(cubes.ordered) == count == 4
    xr.testing.assert_identical(again.adt, first.adt.sel(time=slice("2024-03-01", "2024-04-30")))


@pytest.mark.slow
def test_offline_what_is_local_opens(cubes: Cubes) -> None:
    """Pieces that are local need no network, in a query that was never searched, too."""
    online = cubes.open(SPRING, split="month", drop_variables="sla")
    online.adt.sel(time="2024-03").load()
    cubes.forget()
    part = f"{MARINE}/startdate=2024-03-01/enddate=2024-04-30"

    ds = cubes.open(part, split="month", settings={"offline": True}, drop_variables="sla")

    assert np.array_equal(ds.adt.sel(time="2024-03"), online.adt.sel(time="2024-03"))
    with pytest.raises(OfflineError, match="2024-04-01"):
        ds.adt.sel(time="2024-04").load()


@pytest.mark.parametrize("query", [SPRING, f"{FIELDS}/startdate=2024-02-01/enddate=2024-03-31"])
def test_a_piece_has_a_path(cubes: Cubes, query: str) -> None:
    """Its query and what it is called here open it, and cost no second order."""
    ds = cubes.open(query, split="month", chunks={})
    product = ds.hda.products[0]
    count = len(cubes.ordered)

    piece = cubes.open(f"{product.request.removeprefix('hda://')}/{product.product_id}")

    dim = next(dim for dim in ds.sizes if "time" in str(dim))
    assert piece.sizes[dim] == ds.chunksizes[dim][0]
    assert len(cubes.ordered) == count


@pytest.mark.parametrize(
    ("query", "split", "said"),
    [
        (f"{FILES}/startdate=2024-05-01", "month", "has products of its own"),
        (f"{FILES}/startdate=2024-05-01/f_20240501.nc", "month", "names one product"),
        (SPRING, "hour", "finer than the times"),
        (SPRING, {"bbox": 2}, "cannot be cut by bbox"),
        (SPRING, {"time": "month", "level": 1}, "does not ask for"),
        (SPRING, 3, "does not say of what"),
        (f"{FIELDS}/startdate=2024-02-12/enddate=2024-03-06", None, "takes 2 requests"),
        (f"{MARINE}/startdate=1990-01-01/enddate=1990-02-01", "month", "2024-01-01"),
        (f"{ERA5}/variable=snow/startdate=2024-02-12/enddate=2024-03-06", "auto", "snow"),
    ],
)
def test_what_cannot_be_cut_is_refused(cubes: Cubes, query: str, split: Any, said: str) -> None:
    """Before an order, with what to do instead."""
    with pytest.raises(QueryError, match=said):
        cubes.open(query, split=split)
    assert cubes.ordered == []


@pytest.mark.slow
def test_other_families(sources: dict[str, Path], tmp_path: Path) -> None:
    """A product that is called like a job opens as it is; a job of any family is cut if asked."""
    dataset_id = "EO:CRYO:DAT:COMPUTED"
    entry = ecmwf_subset(dataset_id, sources[ERA5], variables=NAMES)
    query = f"{dataset_id}/variable=2m_temperature/year=2024/month=02,03/day=01,02/{HOURS}"
    with cubes_of(tmp_path, entry) as cubes:
        whole = cubes.open(f"{query}/data_format=netcdf")
        assert whole.encoding.get("hda_split", "none") == "none"
        months = cubes.open(query, split="month")
        assert len(months.hda.products) == 2
        xr.testing.assert_equal(months.load(), whole.load())


@pytest.mark.slow
def test_too_many_kinds_are_refused(cubes: Cubes, tmp_path: Path) -> None:
    """No more than twenty orders show what a data set is like."""
    names = tuple(f"v{number:02}" for number in range(21))
    entry = ecmwf_subset(ERA5, write_era5(tmp_path / "many.nc", names=names, expver=False, **SMALL))
    with cubes_of(tmp_path / "many", entry) as many:
        query = f"{ERA5}/variable={','.join(names)}/{HOURS}/year=2024/month=02/day=01"
        with pytest.raises(QueryError, match=r'"variable": 2.*Nothing was ordered'):
            many.open(query, split={"variable": 1})
        assert many.ordered == []
        ds = many.open(query, split={"variable": 3})
        assert len(many.ordered) == 7
        assert set(ds) == set(names)


@pytest.mark.skipif(not REGIONAL.is_file(), reason="no data")
def test_hours_that_are_counted_from_nowhere(tmp_path: Path) -> None:
    """As of CAMS for Europe: one order opens as its file does, several tell how to have one."""
    dataset = f"{FAMILY}CAMS_EUROPE_AIR_QUALITY_FORECASTS"
    job = f"cams-europe-air-quality-forecasts-{'0' * 32}"
    dates = ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z")
    entry = DatasetEntry(dataset, [ProductEntry(job, REGIONAL, *dates, size="ND")])
    query = f"{dataset}/startdate=2020-01-01/enddate=2020-01-02"
    with cubes_of(tmp_path, entry) as cubes, xr.open_dataset(REGIONAL) as regional:
        for split in ("auto", None):
            xr.testing.assert_identical(cubes.open(query, split=split).load(), regional)
        for scan in (False, True):
            with pytest.raises(ProductMismatchError, match="no time that") as raised:
                cubes.open(query, split="day", scan=scan)
            assert str(raised.value).endswith("split=None, which asks for all of it in one order.")


def test_the_name_that_others_have_for_it(cubes: Cubes) -> None:
    """What earthkit calls split_on is called split here."""
    with pytest.raises(QueryError, match="split="):
        cubes.open(SPRING, split_on="month")


def test_a_box_off_the_grid_is_warned_of(cubes: Cubes) -> None:
    """The service interpolates to a grid that begins at its corner."""
    with pytest.warns(UserWarning, match=r"ask for bbox=-3,40,3,45"):
        cubes.open(f"{FIELDS}/startdate=2024-02-01/enddate=2024-02-03/bbox=-2.9,40.1,3,45")


def test_a_piece_that_is_none_any_more(cubes: Cubes) -> None:
    """Where a search answers files in place of a job nothing is ordered, and the error says why."""
    product = cubes.open(SPRING, split="month").hda.products[1]
    moved = dataclasses.replace(product, request=f"hda://{FILES}/startdate=2024-05-01")

    with pytest.raises(OrderError, match="open the query anew"):
        cubes.client.fetch(moved).result()
    assert len(cubes.ordered) == 1
