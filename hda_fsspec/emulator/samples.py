"""Data sets of invented values, in the manner of three families, for trying things out.

Ids, keys, names, containers and grids are those of the service; values are made by a formula, and
each file says so. What is served is small: a few hundred kilometres, two years.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

ERA5 = "EO:ECMWF:DAT:REANALYSIS_ERA5_SINGLE_LEVELS"
SEA_LEVEL = (
    "EO:MO:DAT:SEALEVEL_EUR_PHY_L4_MY_008_068:"
    "cmems_obs-sl_eur_phy-ssh_my_allsat-l4-duacs-0.0625deg_P1D_202411"
)
NDVI = "EO:CLMS:DAT:CLMS_GLOBAL_NDVI_300M_V2_10DAILY_NETCDF"

#: The first and the last day of all of them.
PERIOD = ("2023-01-01", "2024-12-31")

_CATALOGUE = "catalogue.json"
_COMMENT = "Invented values for trying things out; no observations, and no model."
_YEAR_DAYS = 365.2425


def write_samples(folder: Path | str) -> Path:
    """Write sample data sets into a folder, unless they are there, and return their catalogue.

    Parameters
    ----------
    folder : Path or str
        It gets about 30 MB of netCDF files: the sources of two subset data sets, in the manner of
        EO:ECMWF (two variables, 12-hourly, 0.25 degrees) and of EO:MO (daily, 0.0625 degrees), and
        the products of a collection of files (every ten days), all of 2023 and 2024.

    Returns
    -------
    Path
        A JSON file for :meth:`Catalogue.from_json`, or for ``hda-fsspec emulator``.
    """
    folder = Path(folder)
    catalogue = folder / _CATALOGUE
    if catalogue.is_file():
        return catalogue
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A folder is whole, or it is not there: two that begin at once do not see halves of each other.
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        datasets = [_era5(made), _sea_level(made), _ndvi(made)]
        text = json.dumps({"datasets": datasets}, indent=1)
        (made / _CATALOGUE).write_text(text, encoding="utf-8")
        made.chmod(0o755)
        _put_in_place(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return catalogue


def _put_in_place(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not (folder / _CATALOGUE).is_file():  # it is there, and holds something else
            shutil.copytree(made, folder, dirs_exist_ok=True)


def _era5(folder: Path) -> dict[str, Any]:
    import numpy as np
    import xarray as xr

    times = np.arange(PERIOD[0], "2025-01-01", 12, dtype="datetime64[h]")
    latitudes, longitudes = np.arange(50.0, 41.9, -0.25), np.arange(0.0, 15.1, 0.25)
    season, day = _phases(times)
    north, east = latitudes[None, :, None], longitudes[None, None, :]
    weather = _waves(times, latitudes, longitudes)
    afternoon = np.where(day == 0.5, 4.0, -4.0)[:, None, None]
    temperature = 284 - 9 * _cosine(season) - 0.7 * (north - 46) + afternoon + 3 * weather
    rain = np.clip(weather - 0.2, 0, None) * 0.004 * (1 + 0.02 * east)
    dims = ("valid_time", "latitude", "longitude")
    made = {
        "t2m": (dims, temperature.astype("f4"), {"units": "K", "GRIB_paramId": 167}),
        "tp": (dims, rain.astype("f4"), {"units": "m", "GRIB_paramId": 228}),
    }
    coords = {"valid_time": times.astype("datetime64[ns]"), "latitude": latitudes}
    coords["longitude"] = longitudes
    ds = xr.Dataset(made, coords, {"Conventions": "CF-1.7", "comment": _COMMENT})
    ds["t2m"].attrs |= {"long_name": "2 metre temperature", "GRIB_stepType": "instant"}
    ds["tp"].attrs |= {"long_name": "Total precipitation", "GRIB_stepType": "accum"}
    ds = ds.assign_coords(number=np.int64(0))
    ds["valid_time"].encoding = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    ds.to_netcdf(folder / "era5.nc", engine="netcdf4")
    return {
        "dataset_id": ERA5,
        "title": "ERA5 hourly data on single levels from 1940 to present (invented values)",
        "abstract": "Temperature and rain of each midnight and noon in the Alps. " + _COMMENT,
        "subset": "ecmwf",
        "file": "era5.nc",
        "variables": {"2m_temperature": "t2m", "total_precipitation": "tp"},
        "formats": ["netcdf"],
    }


def _sea_level(folder: Path) -> dict[str, Any]:
    import numpy as np
    import xarray as xr

    times = np.arange(PERIOD[0], "2025-01-01", dtype="datetime64[D]")
    latitudes = np.arange(35.03125, 38, 0.0625, dtype="f4")
    longitudes = np.arange(-5.96875, 0, 0.0625, dtype="f4")
    season, _ = _phases(times)
    eddies = _waves(times, latitudes, longitudes, size=1.2)
    height = 0.05 * _cosine(season - 0.8) + 0.12 * eddies
    dims = ("time", "latitude", "longitude")
    attrs = {"units": "m", "standard_name": "sea_surface_height_above_geoid"}
    packed = {"dtype": "int32", "scale_factor": 1e-4, "_FillValue": -2147483647}
    ds = xr.Dataset(
        {"adt": (dims, height, attrs)},
        {"time": times.astype("datetime64[ns]"), "latitude": latitudes, "longitude": longitudes},
        {"Conventions": "CF-1.6", "comment": _COMMENT},
    )
    ds["time"].encoding = {"units": "days since 1950-01-01", "dtype": "int32"}
    ds.to_netcdf(folder / "sea_level.nc", engine="netcdf4", encoding={"adt": packed})
    return {
        "dataset_id": SEA_LEVEL,
        "title": "European Seas gridded L4 sea surface heights (invented values)",
        "abstract": "Daily absolute dynamic topography of the Alboran Sea. " + _COMMENT,
        "subset": "marine",
        "file": "sea_level.nc",
    }


def _ndvi(folder: Path) -> dict[str, Any]:
    import numpy as np
    import xarray as xr

    latitudes, longitudes = np.arange(46.0, 45.0, -1 / 112), np.arange(8.0, 9.0, 1 / 112)
    days = [
        f"{year}-{month:02}-{day:02}"
        for year in (2023, 2024)
        for month in range(1, 13)
        for day in (1, 11, 21)
    ]
    season, _ = _phases(np.array(days, "datetime64[D]"))
    land = _waves(np.array(days[:1], "datetime64[D]"), latitudes, longitudes, size=0.2)[0]
    packed = {"dtype": "uint8", "scale_factor": 0.004, "add_offset": -0.08, "_FillValue": 255}
    (folder / "ndvi").mkdir()
    products = []
    for day, phase in zip(days, season, strict=True):
        green = np.clip(0.45 - 0.25 * _cosine(phase) + 0.15 * land, -0.08, 0.92)
        ds = xr.Dataset(
            {"NDVI": (("time", "lat", "lon"), green[None], {"long_name": "NDVI 300M"})},
            {"time": [np.datetime64(day, "ns")], "lat": latitudes, "lon": longitudes},
            {"Conventions": "CF-1.6", "comment": _COMMENT},
        )
        ds["time"].encoding = {"units": "days since 1970-01-01", "dtype": "int32"}
        name = f"c_gls_NDVI300_{day.replace('-', '')}0000_GLOBE_OLCI_V2.0.1.nc"
        ds.to_netcdf(folder / "ndvi" / name, engine="netcdf4", encoding={"NDVI": packed})
        products.append({"file": f"ndvi/{name}", "bbox": [8.0, 45.0, 9.0, 46.0]})
    return {
        "dataset_id": NDVI,
        "title": "Normalised Difference Vegetation Index, 300 m, every 10 days (invented values)",
        "abstract": "Vegetation of a corner of Piedmont and Lombardy. " + _COMMENT,
        "products": products,
    }


def _phases(times: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the part of the year, and the part of the day, of each time."""
    import numpy as np

    days = (times - np.datetime64("2023-01-01")) / np.timedelta64(1, "D")
    return days % _YEAR_DAYS / _YEAR_DAYS, days % 1


def _cosine(phase: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a yearly wave that is 1 in the first days, as a column for maps."""
    import numpy as np

    wave = np.cos(2 * np.pi * np.asarray(phase))
    return wave[:, None, None] if wave.ndim else wave


def _waves(
    times: npt.NDArray[Any],
    latitudes: npt.NDArray[Any],
    longitudes: npt.NDArray[Any],
    *,
    size: float = 6.0,
) -> npt.NDArray[Any]:
    """Return patterns that wander, of about 1: the same at each place and time in every process."""
    import numpy as np

    days = ((times - np.datetime64("2023-01-01")) / np.timedelta64(1, "D"))[:, None, None]
    north, east = latitudes[None, :, None] / size, longitudes[None, None, :] / size
    return (
        np.sin(2 * np.pi * east - 0.9 * days / size)
        * np.cos(2 * np.pi * north + 0.23 * days / size)
        + 0.6 * np.sin(2 * np.pi * (east + north) * 1.7 - 0.41 * days)
    ) / 1.6
