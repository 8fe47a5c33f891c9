"""The sample data sets: written once, whole, and opened in each of their manners."""

from __future__ import annotations

import datetime
import functools
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec import HDAFileSystem
from hda_fsspec.emulator import Catalogue, Emulator, samples, write_samples
from hda_fsspec.emulator.identity import name_of

pytestmark = pytest.mark.slow

#: The day up to which there are swaths.
TODAY = datetime.date(2026, 3, 10)


def _copy(folder: Path, target: Path) -> Path:
    """Return a second copy of a folder of samples, which takes no room."""
    return shutil.copytree(folder, target, copy_function=os.link)


@pytest.fixture(scope="module")
def written(samples: Path) -> Path:
    """Return the catalogue of samples as they are written into a folder of their own."""
    return samples


@pytest.fixture(scope="module")
def catalogue(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the catalogue of samples of a day that is always the same."""
    copied = _copy(written.parent, tmp_path_factory.mktemp("samples") / "made")
    return write_samples(copied, today=TODAY)


@pytest.fixture(scope="module")
def home(catalogue: Path) -> str:
    """Return the name of a service that offers the samples, for which all files are read."""
    return name_of(Catalogue.from_json(catalogue))


@pytest.fixture
def options(
    catalogue: Path, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """Serve the samples, and return the storage options of a client of them."""
    monkeypatch.setattr("hda_fsspec.emulator.emulator.name_of", lambda _: home)
    with Emulator(Catalogue.from_json(catalogue)) as emulator:
        yield {"cache_dir": str(tmp_path / "cache"), "emulator": emulator}


def _open(options: dict[str, Any], query: str, **given: Any) -> xr.Dataset:
    emulator = options["emulator"]
    storage = {"cache_dir": options["cache_dir"], **emulator.storage_options}
    return xr.open_dataset(query, engine="hda", chunks={}, storage_options=storage, **given)


def test_a_reanalysis_opens_by_months(options: dict[str, Any], catalogue: Path) -> None:
    """Two years of ERA5 are one data set, of which a month is one order, with the file's values."""
    box, hours = "bbox=5,45,10,47", "time=00:00,12:00"
    query = (
        f"hda://{samples.ERA5}/variable=2m_temperature/startdate=2023/enddate=2024/{hours}/{box}"
    )

    with (
        _open(options, query, split="month") as ds,
        xr.open_dataset(catalogue.parent / "era5.nc") as source,
    ):
        opened = options["emulator"].orders
        found = ds["t2m"].sel(valid_time="2023-07").load()
        wanted = source["t2m"].sel(
            valid_time="2023-07", latitude=slice(47, 45), longitude=slice(5, 10)
        )

        assert ds.sizes["valid_time"] == 2 * 731
        assert options["emulator"].orders == opened + 1
        np.testing.assert_array_equal(found, wanted)


def test_sea_level_opens_by_months(options: dict[str, Any], catalogue: Path) -> None:
    """Two years of a marine data set are one, cut to a box, with the file's values."""
    box = "bbox=-5,35.5,-3,36.5"
    query = f"hda://{samples.SEA_LEVEL}/startdate=2023-01-01/enddate=2024-12-31/{box}"

    with (
        _open(options, query, split="month") as ds,
        xr.open_dataset(catalogue.parent / "sea_level.nc") as source,
    ):
        found = ds["adt"].sel(time="2024-02").load()
        wanted = source["adt"].sel(
            time="2024-02", latitude=slice(35.5, 36.5), longitude=slice(-5, -3)
        )

        assert ds.sizes["time"] == 731
        np.testing.assert_array_equal(found, wanted)


def test_vegetation_opens_as_files(options: dict[str, Any], catalogue: Path) -> None:
    """Products of every ten days are one data set, and a value is that of its file."""
    query = f"hda://{samples.NDVI}/startdate=2023-01-01/enddate=2024-12-31"

    with _open(options, query) as ds:
        found = ds["NDVI"].sel(time="2024-06-11").load()
        name = "c_gls_NDVI300_202406110000_GLOBE_OLCI_V2.0.1.nc"
        with xr.open_dataset(catalogue.parent / "ndvi" / name) as source:
            assert ds.sizes["time"] == 72
            np.testing.assert_array_equal(found, source["NDVI"][0])


def test_levels_and_composition_open_by_time(options: dict[str, Any], catalogue: Path) -> None:
    """Pressure levels and a year of CAMS open with values of their files, at the levels asked."""
    noon, box = "time=12:00", "bbox=6,44,8,46"
    day = "startdate=2024-05-01/enddate=2024-05-02"
    levels = f"hda://{samples.ERA5_LEVELS}/variable=temperature/pressure_level=850,500/{day}"
    year = "startdate=2024-01-01/enddate=2024-12-31/time=00:00,12:00/bbox=-9,40.5,15,60"
    cams = f"hda://{samples.CAMS}/variable=total_column_ozone/{year}"

    with (
        _open(options, f"{levels}/{noon}/{box}") as ds,
        xr.open_dataset(catalogue.parent / "era5_levels.nc") as source,
    ):
        wanted = source["t"].sel(
            valid_time=slice("2024-05-01", "2024-05-02"),
            latitude=slice(46, 44),
            longitude=slice(6, 8),
            pressure_level=[850, 500],
        )
        np.testing.assert_array_equal(ds["t"].sel(pressure_level=[850, 500]), wanted)
    with (
        _open(options, cams, split="month") as ds,
        xr.open_dataset(catalogue.parent / "cams.nc") as source,
    ):
        assert ds.sizes["valid_time"] == 2 * 366
        np.testing.assert_array_equal(
            ds["gtco3"].sel(valid_time="2024-03-05"),
            source["gtco3"].sel(valid_time="2024-03-05"),
        )


def test_ice_is_there_in_winter_and_in_the_sea_only(options: dict[str, Any]) -> None:
    """A share between 0 and 100 % where the sea is, more of it in March than in July."""
    query = f"hda://{samples.SEA_ICE}/startdate=2024-03-01/enddate=2024-07-31/bbox=10,54,30,66"

    with _open(options, query) as ds:
        ice = ds["ice_concentration"].load()

    assert float(ice.min()) == 0
    assert float(ice.max()) == 100
    assert 0.5 < float(ice[0].isnull().mean()) < 0.95
    assert float(ice.sel(time="2024-03-10").mean()) > 20
    assert float(ice.sel(time="2024-07-10").mean()) == 0


def test_swaths_of_last_week_are_found_by_place(options: dict[str, Any]) -> None:
    """There is one a day over the Baltic Sea, up to today, in an archive with footprint."""
    emulator = options["emulator"]
    fs = HDAFileSystem(cache_dir=options["cache_dir"], **emulator.storage_options)
    week = f"hda://{samples.OLCI}/startdate=2026-03-04/enddate=2026-03-10"

    all_of_it = fs.query(week)
    baltic = fs.query(f"{week}/bbox=9,53,30,66")
    first = baltic.products[0]
    with _open(options, baltic.paths[0], member="*.nc") as ds:
        water = ds["CHL_NN"].where(ds["WQSF"] & 2 == 2).load()

    assert len(baltic) == 7
    assert len(baltic) < len(all_of_it)
    assert first.footprint is not None
    assert water.dims == ("rows", "columns")
    assert 0.02 < float(water.notnull().mean()) < 0.5
    assert first.bbox is not None
    assert float(ds["latitude"].min()) >= float(first.bbox.split(",")[1]) - 0.01


def test_no_week_is_without_a_swath(catalogue: Path) -> None:
    """From the first day to the last, as the catalogue tells the period, there is one a week."""
    described = {
        entry["dataset_id"]: entry for entry in json.loads(catalogue.read_text())["datasets"]
    }
    entry = described[samples.OLCI]
    days = sorted(
        {datetime.date.fromisoformat(product["startdate"][:10]) for product in entry["products"]}
    )

    gaps = [after - day for day, after in itertools.pairwise(days)]
    assert [days[0].isoformat(), days[-1].isoformat()] == entry["period"]
    assert max(gaps) <= datetime.timedelta(7)
    assert len(entry["products"]) < 250


def test_days_since_are_added(catalogue: Path, tmp_path: Path) -> None:
    """A folder that was written before gets the swaths of the days since, and nothing else."""
    copied = _copy(catalogue.parent, tmp_path / "made")
    catalogue = copied / catalogue.name
    before = {path: path.stat().st_mtime_ns for path in catalogue.parent.rglob("*.nc")}

    write_samples(tmp_path / "made", today=TODAY + datetime.timedelta(2))

    described = {
        entry["dataset_id"]: entry for entry in json.loads(catalogue.read_text())["datasets"]
    }
    ends = [product["enddate"][:10] for product in described[samples.OLCI]["products"]]
    assert max(ends) == "2026-03-12"
    assert {path: path.stat().st_mtime_ns for path in catalogue.parent.rglob("*.nc")} == before
    assert len(Catalogue.from_json(catalogue)) == 8


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_tiles_are_a_tree_and_a_mosaic(options: dict[str, Any]) -> None:
    """Four tiles of one zone, two kinds each; where two meet the pixels are those of both files."""
    emulator = options["emulator"]
    storage = {"cache_dir": options["cache_dir"], **emulator.storage_options}
    query = f"hda://{samples.TILES}/startdate=2024-05-01/enddate=2024-05-31"

    with xr.open_datatree(query, engine="hda", chunks={}, storage_options=storage) as tree:
        assert sorted(tree.children) == ["T32TPS", "T32TPT", "T32TQS", "T32TQT"]
        assert {*tree["T32TPS"].data_vars} == {"PPI", "QFLAG"}
        west = tree["T32TPS"]["PPI"].sel(time="2024-05-11").squeeze().load()
        east = tree["T32TQS"]["PPI"].sel(time="2024-05-11").squeeze().load()
    both = np.intersect1d(west.x, east.x)
    with _open(options, f"{query}/productType=PPI", mosaic=True) as ds:
        assert ds.rio.crs.to_epsg() == 32632
        assert ds.sizes["x"] == ds.sizes["y"] == 1049

    assert len(both) == 49
    np.testing.assert_array_equal(west.sel(x=both), east.sel(x=both))
    assert 0 <= float(west.min()) <= float(west.max()) <= 3


def test_samples_are_written_once(catalogue: Path) -> None:
    """What is there is left as it is, and a folder with something else keeps that."""
    before = {path: path.stat().st_mtime_ns for path in catalogue.parent.rglob("*")}

    assert write_samples(catalogue.parent, today=TODAY) == catalogue
    assert {path: path.stat().st_mtime_ns for path in catalogue.parent.rglob("*")} == before
    assert [path.name for path in catalogue.parent.parent.iterdir()] == [catalogue.parent.name]


def test_a_folder_that_is_used_keeps_what_it_holds(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples come beside files that are there already, but those of an earlier version go."""
    made = json.loads(written.read_text())["datasets"]
    makers = ("era5", "era5_levels", "cams", "sea_level", "sea_ice", "ndvi", "tiles", "olci")

    def take(entry: Any, folder: Path, *_: Any) -> Any:
        """Return what a maker has returned before, and take its files, which cost seconds."""
        for name in {each["file"] for each in entry.get("products", [entry])}:
            (folder / name).parent.mkdir(exist_ok=True)
            os.link(written.parent / name, folder / name)
        return entry

    for maker, entry in zip(makers, made, strict=True):
        monkeypatch.setattr(samples, maker, functools.partial(take, entry))
    (tmp_path / "mine.txt").write_text("kept")
    (tmp_path / "catalogue.json").write_text('{"datasets": []}')

    catalogue = write_samples(tmp_path)

    assert (tmp_path / "mine.txt").read_text() == "kept"
    assert json.loads(catalogue.read_text())["datasets"] == made
    files = {path.relative_to(written.parent) for path in written.parent.rglob("*.*")}
    assert files == {path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")} - {
        Path("mine.txt")
    }


def test_there_are_samples_of_each_manner(written: Path) -> None:
    """The data sets are these, and each says that its values are invented."""
    described = json.loads(written.read_text())["datasets"]

    assert [entry["dataset_id"] for entry in described] == [
        *(samples.ERA5, samples.ERA5_LEVELS, samples.CAMS, samples.SEA_LEVEL, samples.SEA_ICE),
        *(samples.NDVI, samples.TILES, samples.OLCI),
    ]
    assert "Invented values" in described[0]["abstract"]


def test_the_period_is_that_of_the_files(catalogue: Path) -> None:
    """The first and the last day that are told are those of the values."""
    first, last = (np.datetime64(day) for day in samples.PERIOD)

    with xr.open_dataset(catalogue.parent / "sea_level.nc") as ds:
        assert ds["time"].values[[0, -1]].astype("M8[D]").tolist() == [
            day.astype(datetime.date) for day in (first, last)
        ]
