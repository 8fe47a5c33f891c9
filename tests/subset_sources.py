"""Sources of subset data sets, made small, and a plain client that orders what is cut from them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import requests
import xarray as xr

from hda_fsspec.emulator import Catalogue, DatasetEntry, Emulator

MARINE = "EO:MO:DAT:SEA_LEVEL:cmems_obs-sl_med_phy-ssh_my_0.125deg_P1D_202411"
ERA5 = "EO:ECMWF:DAT:REANALYSIS_ERA5_SINGLE_LEVELS"
_MARINE_LATITUDES = np.arange(40.0625, 44, 0.5).astype(np.float32)
_MARINE_LONGITUDES = np.arange(-5.9375, 6, 0.5).astype(np.float32)
_LATITUDES = np.arange(45.0, 39.9, -0.25)
_LONGITUDES = np.arange(-3.0, 3.1, 0.25)
#: A grid of four places, for what asks for no box.
SMALL: dict[str, Any] = {"latitudes": [45.0, 44.75], "longitudes": [0.0, 0.25]}
_PACKED = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 20.0, "_FillValue": -32767}


def values(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return numbers that differ, as float32."""
    return np.random.default_rng(seed).uniform(0, 40, shape).astype(np.float32)


def write_marine(
    path: Path,
    *,
    times: Any = None,
    latitudes: Any = _MARINE_LATITUDES,
    longitudes: Any = _MARINE_LONGITUDES,
    depths: Any = None,
) -> Path:
    """Write a source with packed numbers: daily ones of 2024 where no ``times`` are given."""
    if times is None:
        times = np.arange("2024-01-01", "2025-01-01", dtype="datetime64[D]")
    coords = {"time": np.asarray(times, "datetime64[ns]")}
    coords |= {} if depths is None else {"depth": np.asarray(depths, np.float32)}
    coords |= {"latitude": np.asarray(latitudes), "longitude": np.asarray(longitudes)}
    shape = [len(axis) for axis in coords.values()]
    names = ("adt", "sla")
    made = {name: (tuple(coords), values(*shape, seed=n)) for n, name in enumerate(names)}
    ds = xr.Dataset(made, coords, {"institution": "CLS"})
    ds["time"].encoding = {"units": "hours since 1950-01-01", "dtype": "float64"}
    ds.to_netcdf(path, engine="netcdf4", encoding=dict.fromkeys(names, _PACKED))
    return path


def write_era5(
    path: Path,
    *,
    times: Any = None,
    levels: Any = None,
    names: tuple[str, ...] = ("t2m", "msl", "tp"),
    latitudes: Any = _LATITUDES,
    longitudes: Any = _LONGITUDES,
    expver: bool = True,
) -> Path:
    """Write a source as the data stores convert one: six-hourly of two months by default."""
    if times is None:
        times = np.arange("2024-02-01", "2024-04-01", 6, dtype="datetime64[h]")
    coords: dict[str, Any] = {"valid_time": np.asarray(times, "datetime64[ns]")}
    coords |= {} if levels is None else {"pressure_level": np.asarray(levels, np.float64)}
    coords |= {"latitude": np.asarray(latitudes), "longitude": np.asarray(longitudes)}
    shape = [len(axis) for axis in coords.values()]
    made = {name: (tuple(coords), values(*shape, seed=n)) for n, name in enumerate(names)}
    ds = xr.Dataset(made, coords, {"Conventions": "CF-1.7"})
    numbers = {"t2m": 167, "msl": 151, "tp": 228, "u": 131, "v": 132}
    for name in names:
        kind = "accum" if name == "tp" else "instant"
        ds[name].attrs = {"GRIB_paramId": numbers.get(name, 1), "GRIB_stepType": kind, "units": "1"}
        chunks = (min(len(times), 120), *shape[1:])
        ds[name].encoding = {"zlib": True, "_FillValue": np.float32(np.nan), "chunksizes": chunks}
    ds["valid_time"].encoding = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    ds = ds.assign_coords(number=np.int64(0))
    if expver:
        ds = ds.assign_coords(expver=("valid_time", np.full(len(times), "0001", object)))
    ds.to_netcdf(path, engine="netcdf4")
    return path


@dataclasses.dataclass
class File:
    """What an order delivered."""

    name: str
    body: bytes

    @property
    def members(self) -> dict[str, File]:
        """The files of an archive."""
        with zipfile.ZipFile(io.BytesIO(self.body)) as archive:
            return {name: File(name, archive.read(name)) for name in archive.namelist()}

    def open(self, **options: Any) -> xr.Dataset:
        """Return the data set, read into memory."""
        with xr.open_dataset(io.BytesIO(self.body), engine="h5netcdf", **options) as ds:
            return ds.load()

    def stored(self) -> netCDF4.Dataset:
        """Return the file as it is stored."""
        return netCDF4.Dataset(self.name, memory=self.body)


class Plain:
    """A client that is logged in and hides nothing."""

    def __init__(self, emulator: Emulator, session: requests.Session) -> None:
        self.emulator = emulator
        self.session = session
        account = {"username": emulator.user, "password": emulator.password}
        url = emulator.url.replace("hda-broker", "identity") + "gettoken"
        token = session.post(url, json=account, timeout=10).json()["access_token"]
        session.headers["Authorization"] = f"Bearer {token}"

    def api(self, method: str, path: str, **given: Any) -> requests.Response:
        """Send one request below ``dataaccess``."""
        url = f"{self.emulator.url}api/v1/dataaccess/{path}"
        return self.session.request(method, url, timeout=30, **given)

    def properties(self, dataset: str) -> dict[str, Any]:
        """Return the properties of a schema."""
        found: dict[str, Any] = self.api("GET", f"queryable/{dataset}").json()["properties"]
        return found

    def search(self, dataset: str, **query: Any) -> dict[str, Any]:
        """Return the one feature that a search answers."""
        answer = self.api("POST", "search", json={"dataset_id": dataset, **query})
        assert answer.status_code == 200, answer.text
        (feature,) = answer.json()["features"]
        assert answer.json()["properties"]["totalResults"] == 1
        return dict(feature)

    def order(self, dataset: str, feature: dict[str, Any]) -> requests.Response:
        """Order a feature."""
        body = {"product_id": feature["id"], "location": feature["properties"]["location"]}
        return self.api("POST", "download", json={"dataset_id": dataset, **body})

    def status(self, dataset: str, feature: dict[str, Any]) -> tuple[str, str | None]:
        """Order a feature, and return the status of the order and its message."""
        download_id = self.order(dataset, feature).json()["download_id"]
        answer = self.api("GET", f"downloads?download_id={download_id}").json()
        (state,) = answer["features"]
        return state["status"], state["message"]

    def get(self, dataset: str, **query: Any) -> File:
        """Search, order and fetch."""
        download_id = self.order(dataset, self.search(dataset, **query)).json()["download_id"]
        answer = self.api("GET", f"download/{download_id}")
        assert answer.status_code == 200, answer.text
        name = answer.headers["Content-Disposition"].rpartition("=")[2]
        return File(name, answer.content)


@contextlib.contextmanager
def served(*datasets: DatasetEntry, **options: Any) -> Iterator[Plain]:
    """Serve data sets, and yield a client."""
    with Emulator(Catalogue(datasets), **options) as emulator, requests.Session() as session:
        yield Plain(emulator, session)
