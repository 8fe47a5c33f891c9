"""The sample data sets: written once, whole, and opened in each of their manners."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec.emulator import Catalogue, Emulator, samples, write_samples

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the catalogue of samples."""
    return write_samples(tmp_path_factory.mktemp("samples") / "made")


@pytest.fixture
def options(catalogue: Path, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Serve the samples, and return the storage options of a client of them."""
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


def test_samples_are_written_once(catalogue: Path) -> None:
    """What is there is left as it is, and a folder with something else keeps that."""
    before = {path: path.stat().st_mtime_ns for path in catalogue.parent.rglob("*")}

    assert write_samples(catalogue.parent) == catalogue
    assert {path: path.stat().st_mtime_ns for path in catalogue.parent.rglob("*")} == before
    assert [path.name for path in catalogue.parent.parent.iterdir()] == [catalogue.parent.name]


def test_a_folder_that_is_used_keeps_what_it_holds(tmp_path: Path) -> None:
    """Samples come beside files that are there already."""
    (tmp_path / "mine.txt").write_text("kept")

    catalogue = write_samples(tmp_path)

    assert (tmp_path / "mine.txt").read_text() == "kept"
    described = json.loads(catalogue.read_text())["datasets"]
    assert [entry["dataset_id"] for entry in described] == [
        samples.ERA5,
        samples.SEA_LEVEL,
        samples.NDVI,
    ]
    assert "Invented values" in described[0]["abstract"]


def test_the_period_is_that_of_the_files(catalogue: Path) -> None:
    """The first and the last day that are told are those of the values."""
    first, last = (np.datetime64(day) for day in samples.PERIOD)

    with xr.open_dataset(catalogue.parent / "sea_level.nc") as ds:
        assert ds["time"].values[[0, -1]].astype("M8[D]").tolist() == [
            day.astype(datetime.date) for day in (first, last)
        ]
