"""Products and data sets in the manner of each family, for the scripts of the examples."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec.emulator import (
    DatasetEntry,
    ProductEntry,
    ecmwf_subset,
)

pytestmark = pytest.mark.slow


FAMILY = "EO:ECMWF:DAT:"


WATER = "EO:EUM:DAT:SENTINEL-3:OL_2_WFR___"


DAY_OF_WATER = "S3A_OL_2_WFR____{0}T{1}_{0}T{1}_{0}T{2}_0179_074_122_1980_MAR_O_NT_003.SEN3"


Files = Mapping[str, xr.Dataset | bytes]


def months(first: str, last: str) -> np.ndarray[Any, Any]:
    """Return the first days of months."""
    return np.arange(first, last, dtype="datetime64[M]").astype("datetime64[ns]")


def field(name: str, number: int, kind: str, data: Any, coords: Mapping[str, Any]) -> xr.Dataset:
    """Return a variable as the data stores convert one."""
    array = xr.DataArray(np.asarray(data, np.float32), coords, tuple(coords), name)
    array.attrs = {"GRIB_paramId": number, "GRIB_stepType": kind, "units": "1"}
    return array.to_dataset()


def stored(folder: Path, *fields: xr.Dataset) -> Path:
    """Write the source of a subset data set."""
    ds = xr.merge(fields)
    ds["valid_time"].encoding = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    path = folder / f"source-{len(list(folder.glob('source-*')))}.nc"
    ds.assign_coords(number=np.int64(0)).to_netcdf(path)
    return path


def grid(times: Any, latitudes: Any, longitudes: Any) -> dict[str, Any]:
    """Return coordinates as the data stores order them."""
    return {"valid_time": times, "latitude": latitudes, "longitude": longitudes}


def land_monthly(folder: Path, coords: Mapping[str, Any], rain: Any) -> DatasetEntry:
    """Serve the rain of ERA5-Land, monthly means in metres a day."""
    return ecmwf_subset(
        f"{FAMILY}REANALYSIS_ERA5_LAND_MONTHLY_MEANS",
        stored(folder, field("tp", 228, "avgas", rain, coords)),
        variables={"total_precipitation": "tp"},
        lists=("year", "month", "time"),
        parameters={"product_type": ["monthly_averaged_reanalysis"]},
    )


def zip_of(files: Files) -> bytes:
    """Return an archive."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else bytes(content.to_netcdf())
            archive.writestr(name, data)
    return body.getvalue()


def product(product_id: str, files: Files, start: str, end: str, **fields: Any) -> ProductEntry:
    """Return a product that is an archive of one folder, as those of Sentinel-3 are."""
    body = zip_of({f"{product_id}/{name}": content for name, content in files.items()})
    return ProductEntry(product_id, body, start, end, **fields)


FLAGS = ["INVALID", "WATER", "LAND", "CLOUD", "CLOUD_AMBIGUOUS", "COSMETIC", "SATURATED"]


def water_files(start: str, rows: int = 6, columns: int = 5, west: float = -52.5) -> Files:
    """Return the files of a water product; one pixel is cloud, one is black in the green."""
    dims = ("rows", "columns")
    shape = (rows, columns)
    latitude = np.linspace(-31.7, -32.8, rows)[:, None] + np.zeros(shape)
    longitude = np.linspace(west, west + 1.2, columns) + np.zeros(shape)
    wqsf = np.full(shape, 1 << FLAGS.index("WATER"), np.uint64)
    wqsf[2, 1] |= np.uint64(1 << FLAGS.index("CLOUD"))
    green = np.full(shape, 0.02)
    green[3, 2] = 0.0
    named = {
        "tsm_nn": ("TSM_NN", np.full(shape, 1.0)),
        "iop_nn": ("ADG443_NN", np.full(shape, -1.0)),
        "Oa04_reflectance": ("Oa04_reflectance", np.full(shape, 0.02)),
        "Oa06_reflectance": ("Oa06_reflectance", green),
        "chl_nn": ("CHL_NN", np.full(shape, 0.5)),
    }
    files = {
        f"{stem}.nc": xr.Dataset({name: (dims, data)}, attrs={"start_time": start})
        for stem, (name, data) in named.items()
    }
    place_of = {"latitude": (dims, latitude), "longitude": (dims, longitude)}
    files["geo_coordinates.nc"] = xr.Dataset(place_of)
    masks = np.array([1 << n for n in range(len(FLAGS))], np.uint64)
    attrs = {"flag_masks": masks, "flag_meanings": " ".join(FLAGS)}
    files["wqsf.nc"] = xr.Dataset({"WQSF": (dims, wqsf, attrs)})
    return {**files, "xfdumanifest.xml": b"<manifest/>"}


def water(day: str, at: str, **fields: Any) -> ProductEntry:
    """Return a water product of a day."""
    start = f"{day}T{at[:2]}:{at[2:4]}:{at[4:]}.000000Z"
    name = DAY_OF_WATER.format(day.replace("-", ""), at, f"{int(at) + 300:06}")
    west = fields.pop("west", -52.5)
    return product(name, water_files(start, west=west), start, start, **fields)


def fire_product(number: int, fires: list[tuple[float, float, float]]) -> ProductEntry:
    """Return a product of fires: latitude, longitude, and power."""
    columns = np.array(fires, float).reshape(-1, 3).T
    names = ("latitude", "longitude", "FRP_MWIR")
    dim = "fires_MWIR1km_standard"
    standard = xr.Dataset({name: (dim, data) for name, data in zip(names, columns, strict=True)})
    files = {"FRP_MWIR1km_standard.nc": standard, "FRP_SWIR500m.nc": xr.Dataset({"x": 1})}
    at = f"20250816T10{number:02}00"
    name = f"S3A_SL_2_FRP____{at}_{at}_20250816T125916_0299_129_208______MAR_O_NR_003.SEN3"
    start = f"2025-08-16T10:{number:02}:00.000Z"
    return product(name, files, start, start)


def layer_product(layer: str, day: str) -> DatasetEntry:
    """Serve a global product, on a coarse grid: values are longitudes."""
    lat, lon = np.arange(59.95, 49, -0.02), np.arange(8, 19, 0.02)
    data = np.broadcast_to(lon, (1, len(lat), len(lon))).astype(np.float32)
    coords = {"time": [np.datetime64(day, "ns")], "lat": lat, "lon": lon}
    ds = xr.Dataset({layer: (("time", "lat", "lon"), data)}, coords)
    ds["time"].encoding = {"units": "days since 1970-01-01", "dtype": "f8"}
    name = f"c_gls_{layer}300-RT2_{day.replace('-', '')}0000_GLOBE_PROBAV_V1.0.1.nc"
    one = ProductEntry(name, bytes(ds.to_netcdf()), f"{day}T00:00:00Z", f"{day}T23:59:59Z")
    parameters = {
        "productType": [f"{layer}300"],
        "productionStatus": ["ARCHIVED", "CANCELLED"],
        "productGroupId": ["RT0", "RT2", "RT6"],
    }
    dataset = f"EO:CLMS:DAT:CLMS_GLOBAL_{layer}_300M_V1_10DAILY_NETCDF"
    return DatasetEntry(dataset, [one], parameters=parameters)


def crop_tile(folder: Path, east: int, north: int) -> ProductEntry:
    """Return a tile of 100 km, of pixels of 1 km; the northern half of each is of its own crop."""
    rasterio: Any = pytest.importorskip("rasterio")
    pyproj: Any = pytest.importorskip("pyproj")
    name = f"CLMS_HRLVLCC_CTY_S2021_R10m_E{east}N{north}_03035_V01_R00"
    data = np.full((1, 100, 100), 1110, np.uint16)
    data[0, :50] = 1100 + east
    data[0, 99] = 65535
    profile = {"driver": "GTiff", "width": 100, "height": 100, "count": 1, "dtype": "uint16"}
    transform = rasterio.Affine(1000, 0, east * 100_000, 0, -1000, (north + 1) * 100_000)
    path = folder / f"{name}.tif"
    with rasterio.open(
        path, "w", crs="EPSG:3035", transform=transform, nodata=65535, **profile
    ) as f:
        f.write(data)
    files = {f"{name}.tif": path.read_bytes(), f"{name}.tif.vat.dbf": b"not a raster"}
    year = ("2021-01-01T00:00:00Z", "2021-12-31T23:59:59Z")
    corners = [(east + x, north + y) for x in (0, 1) for y in (0, 1)]
    places = pyproj.Transformer.from_crs(3035, 4326, always_xy=True).itransform(
        [(100_000 * x, 100_000 * y) for x, y in corners]
    )
    longitudes, latitudes = zip(*places, strict=True)
    box = (min(longitudes), min(latitudes), max(longitudes), max(latitudes))
    return product(name, files, *year, bbox=box, delivered_name=f"{name}.zip")
