"""Samples in the manner of EO:ECMWF: ERA5 at the surface and on pressure levels, and CAMS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hda_fsspec.emulator.samples.patterns import COMMENT, cosine, phases, times_every, waves

if TYPE_CHECKING:
    import numpy.typing as npt

ERA5 = "EO:ECMWF:DAT:REANALYSIS_ERA5_SINGLE_LEVELS"
ERA5_LEVELS = "EO:ECMWF:DAT:REANALYSIS_ERA5_PRESSURE_LEVELS"
CAMS = "EO:ECMWF:DAT:CAMS_GLOBAL_REANALYSIS_EAC4"

_LEVELS_HPA = (1000, 925, 850, 700, 500, 300, 200)

_Variable = tuple[Sequence[str], "npt.NDArray[Any]", dict[str, Any]]


def era5(folder: Path) -> dict[str, Any]:
    """Write temperature and rain of midnights and noons, and return what the catalogue says."""
    import numpy as np

    times = times_every(12)
    latitudes, longitudes = np.arange(50.0, 41.9, -0.25), np.arange(0.0, 15.1, 0.25)
    season, day = phases(times)
    north, east = latitudes[None, :, None], longitudes[None, None, :]
    weather = waves(times, latitudes, longitudes)
    afternoon = np.where(day == 0.5, 4.0, -4.0)[:, None, None]
    temperature = 284 - 9 * cosine(season) - 0.7 * (north - 46) + afternoon + 3 * weather
    rain = np.clip(weather - 0.2, 0, None) * 0.004 * (1 + 0.02 * east)
    dims = ("valid_time", "latitude", "longitude")
    attrs = {
        "t2m": {"units": "K", "GRIB_paramId": 167, "long_name": "2 metre temperature"},
        "tp": {"units": "m", "GRIB_paramId": 228, "long_name": "Total precipitation"},
    }
    attrs["t2m"]["GRIB_stepType"], attrs["tp"]["GRIB_stepType"] = "instant", "accum"
    _write(
        folder / "era5.nc",
        {"t2m": (dims, temperature, attrs["t2m"]), "tp": (dims, rain, attrs["tp"])},
        {"valid_time": times, "latitude": latitudes, "longitude": longitudes},
    )
    return _entry(
        ERA5,
        "era5.nc",
        title="ERA5 hourly data on single levels from 1940 to present (invented values)",
        abstract="Temperature and rain of each midnight and noon in the Alps.",
        variables={"2m_temperature": "t2m", "total_precipitation": "tp"},
    )


def era5_levels(folder: Path) -> dict[str, Any]:
    """Write temperature of noons on pressure levels, and return what the catalogue says."""
    import numpy as np

    times = times_every(24, first_hour=12)
    latitudes, longitudes = np.arange(48.0, 43.9, -0.25), np.arange(6.0, 10.1, 0.25)
    levels = np.array(_LEVELS_HPA, "f8")
    # As in the standard atmosphere: colder by 6.5 degrees each kilometre, up to 11 km.
    heights_km = np.minimum(44.33 * (1 - (levels / 1013.25) ** 0.19), 11.0)
    season, _ = phases(times)
    surface = 288 - 9 * cosine(season) + 3 * waves(times, latitudes, longitudes)
    temperature = surface[:, None] - 6.5 * heights_km[None, :, None, None]
    attrs = {"units": "K", "GRIB_paramId": 130, "long_name": "Temperature"}
    _write(
        folder / "era5_levels.nc",
        {"t": (("valid_time", "pressure_level", "latitude", "longitude"), temperature, attrs)},
        {
            "valid_time": times,
            "pressure_level": levels,
            "latitude": latitudes,
            "longitude": longitudes,
        },
    )
    return _entry(
        ERA5_LEVELS,
        "era5_levels.nc",
        title="ERA5 hourly data on pressure levels from 1940 to present (invented values)",
        abstract="Temperature of each noon over the western Alps, on seven levels.",
        variables={"temperature": "t"},
    )


def cams(folder: Path) -> dict[str, Any]:
    """Write ozone and fine dust of midnights and noons, and return what the catalogue says."""
    import numpy as np

    times = times_every(12)
    latitudes, longitudes = np.arange(60.0, 39.9, -0.75), np.arange(-9.0, 15.1, 0.75)
    season, _ = phases(times)
    weather = waves(times, latitudes, longitudes, size=14)
    north = latitudes[None, :, None]
    ozone = (330 + 30 * cosine(season - 0.2) + 0.9 * (north - 50) + 12 * weather) * 2.1415e-5
    dust = np.exp(0.8 * weather + 0.3 * cosine(season)) * 9e-9
    dims = ("valid_time", "latitude", "longitude")
    attrs = {
        "gtco3": {
            "units": "kg m**-2",
            "GRIB_paramId": 210206,
            "long_name": "GEMS Total column ozone",
        },
        "pm2p5": {
            "units": "kg m**-3",
            "GRIB_paramId": 210073,
            "long_name": "Particulate matter d <= 2.5 um",
        },
    }
    _write(
        folder / "cams.nc",
        {"gtco3": (dims, ozone, attrs["gtco3"]), "pm2p5": (dims, dust, attrs["pm2p5"])},
        {"valid_time": times, "latitude": latitudes, "longitude": longitudes},
    )
    return _entry(
        CAMS,
        "cams.nc",
        title="CAMS global reanalysis (EAC4) (invented values)",
        abstract=(
            "Atmospheric composition: ozone and fine dust, which is air quality, of each midnight "
            "and noon over western Europe."
        ),
        variables={"total_column_ozone": "gtco3", "particulate_matter_2.5um": "pm2p5"},
    )


def _write(path: Path, variables: Mapping[str, _Variable], axes: Mapping[str, Any]) -> None:
    import numpy as np
    import xarray as xr

    made = {name: (dims, v.astype("f4"), attrs) for name, (dims, v, attrs) in variables.items()}
    coords = {**axes, "valid_time": axes["valid_time"].astype("datetime64[ns]")}
    ds = xr.Dataset(made, coords, {"Conventions": "CF-1.7", "comment": COMMENT})
    ds = ds.assign_coords(number=np.int64(0))
    ds["valid_time"].encoding = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    ds.to_netcdf(path, engine="netcdf4")


def _entry(dataset_id: str, file: str, *, abstract: str, **more: Any) -> dict[str, Any]:
    return {
        "dataset_id": dataset_id,
        "abstract": f"{abstract} {COMMENT}",
        "subset": "ecmwf",
        "file": file,
        "formats": ["netcdf"],
        **more,
    }
