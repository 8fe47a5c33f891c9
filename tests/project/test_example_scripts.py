"""What people do with the service, as scripts: each runs unchanged, and its results are right."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from checkout import ROOT
from example_products import (
    FAMILY,
    FLAGS,
    WATER,
    crop_tile,
    field,
    fire_product,
    grid,
    land_monthly,
    layer_product,
    months,
    product,
    stored,
    water,
    zip_of,
)
from subset_sources import values

from hda_fsspec import HDAFileSystem
from hda_fsspec.client import close_clients
from hda_fsspec.emulator import (
    Catalogue,
    DatasetEntry,
    Emulator,
    ProductEntry,
    ecmwf_subset,
    multiple_choice,
)

pytestmark = pytest.mark.slow


class Place:
    """A working folder of a user, in which scripts run against an emulator."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, printed: Any) -> None:
        self.folder = folder
        self.orders = 0
        self._monkeypatch = monkeypatch
        self._printed = printed
        self._emulator: Emulator | None = None

    def serve(self, *datasets: DatasetEntry) -> None:
        """Serve data sets where the environment leads."""
        self.close()
        self._emulator = Emulator(Catalogue(datasets)).start()
        for name, value in self._emulator.environment.items():
            self._monkeypatch.setenv(name, value)

    def run(self, script: str, *arguments: str) -> list[str]:
        """Run a script; return what it printed, in lines. A warning is an error."""
        assert self._emulator is not None
        path, before = ROOT / "examples" / script, self._emulator.orders
        with self._monkeypatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", [str(path), *arguments])
            runpy.run_path(str(path), run_name="__main__")
        self.orders = self._emulator.orders - before
        printed: str = self._printed.readouterr().out
        return printed.splitlines()

    def read(self, name: str) -> xr.Dataset:
        """Read a file that a script wrote."""
        with xr.open_dataset(self.folder / name) as ds:
            return ds.load()

    def close(self) -> None:
        """End the service, and what this process knows of it."""
        if self._emulator is not None:
            self._emulator.stop()
        HDAFileSystem.clear_instance_cache()
        close_clients()


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Place]:
    """Make an empty working folder."""
    work = tmp_path / "work"
    work.mkdir()
    place = Place(work, monkeypatch, capsys)
    yield place
    place.close()


def test_yearly_rain(place: Place, tmp_path: Path) -> None:
    """One order gives the rain of ten years at the nearest point, by the length of each month."""
    times = months("2014-01", "2024-01")
    coords = grid(times, [45.8, 45.7], [4.8, 4.9])
    metres = np.arange(1, 121)[:, None, None] * 1e-4 * np.array([[2.0, 1.0], [1.0, 1.0]])

    place.serve(land_monthly(tmp_path, coords, metres))
    lines = place.run("yearly_rain.py")

    days = pd.DatetimeIndex(times).days_in_month
    wanted = pd.Series(np.arange(1, 121) * 0.2 * days).groupby(times.astype("M8[Y]")).sum()
    assert place.orders == 1
    assert [line.split()[1] for line in lines[1:-1]] == [str(v) for v in wanted.round()]
    assert lines[-1] == "wettest: 2023, driest: 2014"


def test_city_weather(place: Place, tmp_path: Path) -> None:
    """Temperatures come as netCDF and rain as GRIB; one order each, opened by the same line."""
    hours = np.arange("2022-05-01", "2022-06-01", dtype="datetime64[h]").astype("M8[ns]")
    at = ([45.9, 45.8], [4.9, 5.0])
    warmth = 280.15 + np.arange(31 * 24)[:, None, None] / 24 + np.zeros((2, 2))
    land = ecmwf_subset(
        f"{FAMILY}REANALYSIS_ERA5_LAND",
        stored(tmp_path, field("t2m", 167, "instant", warmth, grid(hours, *at))),
        variables={"2m_temperature": "t2m"},
        single=("year", "month"),
    )
    rain = np.full((72, 2, 2), 0.0015)
    monthly = land_monthly(tmp_path, grid(months("2018-01", "2024-01"), *at), rain)

    place.serve(land, monthly)
    lines = place.run("city_weather.py")

    assert place.orders == 2
    rows = [line.split() for line in lines if line[:2] == "20"]
    assert rows[0] == ["2022-05-01", "7.5"]
    assert rows[30] == ["2022-05-31", "37.5"]
    wanted = pd.date_range("2018-01-01", "2023-12-01", freq="MS")
    assert rows[31:] == [[f"{day:%Y-%m-%d}", f"{1.5 * day.days_in_month}"] for day in wanted]


def test_arctic_means(place: Place, tmp_path: Path) -> None:
    """Means and sums of 45 years are one data set and one order, and weighted by area."""
    times = months("1979-01", "2024-01")
    coords = grid(times, np.arange(90, 59, -15.0), np.arange(-180, 180, 60.0))
    shape = [len(axis) for axis in coords.values()]
    north = np.broadcast_to(np.array([90.0, 75, 60])[:, None], shape)
    warmth, rain, snow = 273 + north / 10, values(*shape), values(*shape, seed=1)
    source = stored(
        tmp_path,
        field("t2m", 167, "avgua", warmth, coords),
        field("tp", 228, "avgad", rain, coords),
        field("sf", 144, "avgad", snow, coords),
    )
    names = {"2m_temperature": "t2m", "total_precipitation": "tp", "snowfall": "sf"}
    means = ecmwf_subset(
        f"{FAMILY}REANALYSIS_ERA5_SINGLE_LEVELS_MONTHLY_MEANS",
        source,
        variables=names,
        lists=("year", "month", "time"),
        parameters={"product_type": ["monthly_averaged_reanalysis"]},
    )

    place.serve(means)
    place.run("arctic_means.py")

    assert place.orders == 1
    years = place.read("arctic.nc")
    weights = np.cos(np.deg2rad(coords["latitude"]))
    wanted = np.average(warmth.mean((0, 2)), weights=weights)
    np.testing.assert_allclose(years["t2m"], np.full(45, wanted), rtol=1e-6)
    rains = np.average(rain.reshape(45, 12, 3, 6).mean((1, 3)), axis=1, weights=weights)
    np.testing.assert_allclose(years["tp"], rains, rtol=1e-5)
    assert list(years["year"].values) == list(range(1979, 2024))


def test_air_quality(place: Place) -> None:
    """The table has a row for each time of the month, at the nearest point, with its date."""
    hours = (24 * np.arange(30)[:, None] + [8, 12, 16]).ravel().astype("f4")
    coords = {
        "time": ("time", hours, {"long_name": "ANALYSIS time from 20231002", "units": "hours"}),
        "level": np.zeros(1, "f4"),
        "latitude": np.arange(51.35, 51.1, -0.1, dtype="f4"),
        "longitude": np.arange(4.25, 4.6, 0.1, dtype="f4"),
    }
    names = ("pm10_conc", "pm2p5_conc", "no2_conc")
    made = {name: (tuple(coords), values(90, 1, 3, 4, seed=n)) for n, name in enumerate(names)}
    body = zip_of({"ENS_ANALYSIS.nc": xr.Dataset(made, coords)})
    job = f"cams-europe-air-quality-forecasts-{'0123456789abcdef' * 2}"
    dates = ("2023-10-02T00:00:00Z", "2023-10-31T00:00:00Z")
    asked = {"model": "ensemble", "type": "analysis", "level": "0", "leadtime_hour": "0"}
    particles = ("particulate_matter_10um", "particulate_matter_2.5um", "nitrogen_dioxide")
    parameters = {key: multiple_choice([value]) for key, value in asked.items()}
    parameters["variable"] = multiple_choice(particles)
    parameters["time"] = multiple_choice(["08:00", "12:00", "16:00"])
    one = ProductEntry(job, body, *dates, size="ND")
    dataset = f"{FAMILY}CAMS_EUROPE_AIR_QUALITY_FORECASTS"
    place.serve(DatasetEntry(dataset, [one], parameters=parameters))

    place.run("air_quality.py")

    assert place.orders == 1
    table = pd.read_csv(place.folder / "air_quality.csv", index_col=0, parse_dates=True)
    assert list(table.index[[0, 1, -1]]) == [
        pd.Timestamp("2023-10-02T08"),
        pd.Timestamp("2023-10-02T12"),
        pd.Timestamp("2023-10-31T16"),
    ]
    for name in names:
        np.testing.assert_allclose(table[name], made[name][1][:, 0, 1, 2], atol=0.0051)


def test_daily_download(place: Place) -> None:
    """All products of the days are there under their delivered names; a second run orders none."""
    name = (
        "S3A_SY_2_V10____202406{0}T000000_202406{1}T235959_20240701T120000_EUROPE____LN2_O_NT_002"
    )
    made = [
        product(
            f"{name.format(a, b)}.SEN3",
            {"B0.nc": xr.Dataset({"B0": ("x", [float(a)])})},
            f"2024-06-{a}T00:00:00.000Z",
            f"2024-06-{b}T23:59:59.999Z",
        )
        for a, b in (("01", "10"), ("11", "20"), ("21", "30"))
    ]
    parameters = {"productType": ["SY_2_V10___", "SY_2_VG1___"]}
    place.serve(DatasetEntry("EO:ESA:DAT:SENTINEL-3", made, parameters=parameters))
    arguments = ("2024-06-05", "2024-06-20", "synergy")

    lines = place.run("daily_download.py", *arguments)

    assert place.orders == 2
    assert [Path(line).name for line in lines] == [f"{one.product_id}.zip" for one in made[:2]]
    for line, one in zip(lines, made, strict=False):
        assert (place.folder / line).read_bytes() == one.source
    assert place.run("daily_download.py", *arguments) == lines
    assert place.orders == 0


REQUEST = {
    "dataset_id": "EO:TEST:DAT:SST",
    "startdate": "2024-05-01T00:00:00.000Z",
    "enddate": "2024-05-02T23:59:59.999Z",
    "itemsPerPage": 200,
    "startIndex": 0,
}


@pytest.mark.parametrize("is_file", [True, False], ids=["file", "text"])
def test_download_request(place: Place, is_file: bool) -> None:
    """What the web page shows, in a file or as a text, is downloaded."""
    body = bytes(xr.Dataset({"sst": ("x", [280.0, 281.0])}).to_netcdf())
    made = [
        ProductEntry(
            f"sst_{day}.nc", body, f"2024-05-0{day}T00:00:00Z", f"2024-05-0{day}T23:00:00Z"
        )
        for day in (1, 2, 3)
    ]
    request = json.dumps(REQUEST)
    (place.folder / "request.json").write_text(request, encoding="utf-8")

    given = "request.json" if is_file else request
    place.serve(DatasetEntry("EO:TEST:DAT:SST", made))
    lines = place.run("download_request.py", given, "here")

    assert lines[0].startswith("2 products of hda://EO:TEST:DAT:SST/")
    assert {path.name for path in (place.folder / "here").glob("[!.]*")} == {
        "sst_1.nc",
        "sst_2.nc",
    }
    assert (place.folder / "here" / "sst_1.nc").read_bytes() == body


FLAGS += ["SUSPECT", "HISOLZEN", "AC_FAIL", "HIGHGLINT", "WHITECAPS", "OCNN_FAIL"]
FLAGS += [f"RWNEG_O{band}" for band in range(1, 9)]


def test_newest_product(place: Place) -> None:
    """Of all products over the area the last one is downloaded, and no other is ordered."""
    made = [water(f"2024-05-0{day}", "101015") for day in (1, 3, 2)]

    place.serve(DatasetEntry(WATER, made))
    lines = place.run("newest_product.py", "-6,43,-1,46", "2024-05-01", "2024-05-03")

    newest = made[1].product_id
    assert place.orders == 1
    assert lines[0].split()[0] == newest
    assert lines[1] == f"downloads/{newest}.zip"
    assert "chl_nn" in lines[2]


def test_fires_of_a_day(place: Place) -> None:
    """The power of all fires lies in their cells; a product without fires adds none."""
    made = [
        fire_product(1, [(40.2, -8.3, 10.0), (40.7, -8.9, 5.0)]),
        fire_product(2, []),
        fire_product(3, [(-33.5, 150.5, 2.5)]),
    ]
    place.serve(DatasetEntry("EO:EUM:DAT:SENTINEL-3:0417", made, parameters={"fire": ["true"]}))

    lines = place.run("fires_of_a_day.py")

    assert place.orders == 3
    assert lines[-1] == "3 fires of 3 products, 18 MW in all"
    power = place.read("fires.nc")["FRP_MWIR"]
    assert power.shape == (180, 360)
    assert float(power.sel(latitude=40.5, longitude=-8.5)) == 15.0
    assert float(power.sum()) == 17.5


def test_iasi_day(place: Place) -> None:
    """The native files of a day are unpacked, and nothing beside them."""
    names = [
        f"IASI_SND_02_M01_20240715{hour}5400Z_20240715{hour}5959Z_N_O" for hour in ("00", "12")
    ]
    made = [
        product(
            name,
            {f"{name}.nat": name.encode() * 100, "EOPMetadata.xml": b"<x/>"},
            f"2024-07-15T{hour}:54:00Z",
            f"2024-07-15T{hour}:59:59Z",
            delivered_name=f"{name}.zip",
        )
        for name, hour in zip(names, ("00", "12"), strict=True)
    ]
    place.serve(DatasetEntry("EO:EUM:DAT:METOP:IASSND02", made, parameters={"sat": ["Metop-B"]}))

    lines = place.run("iasi_day.py", "2024-07-15", "iasi")

    assert place.orders == 2
    assert len(lines) == 2
    assert [(place.folder / "iasi" / line).read_bytes() for line in lines] == [
        name.encode() * 100 for name in names
    ]
    assert not list((place.folder / "iasi").rglob("*.xml"))


def test_lagoon_water(place: Place) -> None:
    """Products that show the lagoon leave a masked, cropped file; one beside it leaves none."""
    made = [
        water("2024-01-05", "124500"),
        water("2024-07-05", "124500"),
        water("2024-09-05", "124500", west=10.0),
    ]
    place.serve(DatasetEntry(WATER, made, parameters={"timeliness": ["NR", "NT"]}))

    lines = place.run("lagoon_water.py")

    assert place.orders == 3
    assert lines[-1].startswith("2 of 3 products show the lagoon: lagoon_2024-01-05T124500.nc ")
    kept = place.read("lagoon_2024-07-05T124500.nc")
    assert dict(kept.sizes) == {"rows": 4, "columns": 3}
    # Rows from 1 on and columns from 1 on are inside: cloud at (1, 0), no green at (2, 1).
    assert np.isnan(kept["TSM_NN"].values[1, 0])
    assert int(kept["TSM_NN"].count()) == 11
    np.testing.assert_allclose(kept["TSM_NN"].values[0], 10.0)
    np.testing.assert_allclose(kept["ADG443_NN"].values[0], 0.1)
    assert int(kept["CHL_OC2"].count()) == 10
    np.testing.assert_allclose(kept["CHL_OC2"].values[0], 10**0.319 - 0.071)


def test_vegetation_of_areas(place: Place) -> None:
    """Three areas of three layers cost three orders, and each file holds its area alone."""
    days = {"FCOVER": "2018-03-31", "LAI": "2018-07-20", "FAPAR": "2018-01-01"}

    place.serve(*(layer_product(*one) for one in days.items()))
    lines = place.run("vegetation_of_areas.py")

    assert place.orders == 3
    assert len(lines) == len(list(place.folder.glob("*.nc"))) == 9
    part = place.read("LAI_stockholm.nc")["LAI"]
    assert lines[3] == f"LAI stockholm {float(part.lon.mean()):.2f}"
    assert (part.sizes["lat"], part.sizes["lon"]) == (11, 23)
    assert 17.75 <= float(part.lon.min()) < float(part.lon.max()) <= 18.2
    assert 59.22 <= float(part.lat.min()) < float(part.lat.max()) <= 59.43
    assert str(part.time.values[0])[:10] == "2018-07-20"


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_crop_types(place: Place, tmp_path: Path) -> None:
    """The area is cut out of the tiles that it touches, and no other is ordered."""
    tiles = [crop_tile(tmp_path, east, north) for east in (41, 42, 43) for north in (29, 30)]
    parameters = {
        "productType": ["Crop Types", "Secondary Crop Types"],
        "resolution": ["10m", "100m"],
        "year": ["2020", "2021"],
    }
    place.serve(DatasetEntry("EO:EEA:DAT:HRL:CRL", tiles, date_keys=None, parameters=parameters))
    lines = place.run("crop_types.py")

    assert place.orders == 4
    with xr.open_dataset(place.folder / "crops.tif", engine="rasterio", mask_and_scale=False) as ds:
        crops = ds["band_data"].squeeze(drop=True).load()
    assert crops.dtype == np.uint16
    west, south, east, north = crops.rio.bounds()
    assert west <= 8.25 < 8.4 <= east
    assert south <= 50.05 < 50.15 <= north
    # Tiles meet here. To the south each has a crop of its own, to the north there is one of both,
    # and between them a line without.
    assert [set(row) for row in crops.values[::8]] == [{1110}, {1141, 1142}]
    assert set(crops.values[4]) == {0}
    counts = {int(line.split()[0]): int(line.split()[1]) for line in lines[-4:]}
    assert counts == {value: int((crops == value).sum()) for value in (0, 1110, 1141, 1142)}
