"""Samples in the manner of EO:MO: a daily sea level, and the ice of the Baltic Sea."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hda_fsspec.emulator.samples.patterns import COMMENT, cosine, phases, times_every, waves

if TYPE_CHECKING:
    import numpy.typing as npt

SEA_LEVEL = (
    "EO:MO:DAT:SEALEVEL_EUR_PHY_L4_MY_008_068:"
    "cmems_obs-sl_eur_phy-ssh_my_allsat-l4-duacs-0.0625deg_P1D_202411"
)
SEA_ICE = "EO:MO:DAT:SEAICE_BAL_PHY_L4_MY_011_019:cmems_obs-si_bal_seaice-conc_my_1km_202112"

#: The Baltic Sea, roughly: ellipses with centre and half axes, in degrees east and north.
_BALTIC = (
    (18.9, 56.8, 2.6, 2.6),
    (15.0, 54.9, 3.6, 0.7),
    (19.3, 61.3, 1.6, 2.2),
    (22.6, 64.6, 2.0, 1.1),
    (25.5, 59.8, 3.8, 0.45),
    (23.3, 57.8, 0.9, 0.8),
)


def sea_level(folder: Path) -> dict[str, Any]:
    """Write a daily sea level of the Alboran Sea, and return what the catalogue says."""
    import numpy as np

    times = times_every(24)
    latitudes = np.arange(35.03125, 38, 0.0625, dtype="f4")
    longitudes = np.arange(-5.96875, 0, 0.0625, dtype="f4")
    season, _ = phases(times)
    eddies = waves(times, latitudes, longitudes, size=1.2)
    height = 0.05 * cosine(season - 0.8) + 0.12 * eddies
    attrs = {"units": "m", "standard_name": "sea_surface_height_above_geoid"}
    _write(folder / "sea_level.nc", "adt", height, attrs, (times, latitudes, longitudes))
    return {
        "dataset_id": SEA_LEVEL,
        "title": "European Seas gridded L4 sea surface heights (invented values)",
        "abstract": f"Daily absolute dynamic topography of the Alboran Sea. {COMMENT}",
        "subset": "marine",
        "file": "sea_level.nc",
    }


def sea_ice(folder: Path) -> dict[str, Any]:
    """Write the daily ice of the Baltic Sea, and return what the catalogue says."""
    import numpy as np

    times = times_every(24)
    latitudes = np.arange(54.05, 66, 0.15, dtype="f4")
    longitudes = np.arange(10.1, 30, 0.25, dtype="f4")
    season, _ = phases(times)
    # It grows from the north, is widest in March, and gone by June.
    edge = 66.5 - 7 * np.clip(cosine(season - 0.18), -0.3, None)
    north = latitudes[None, :, None] + 0.8 * waves(times, latitudes, longitudes, size=3)
    share = np.clip((north - edge) * 40 + 50, 0, 100)
    share[:, ~is_baltic(*np.meshgrid(longitudes, latitudes))] = np.nan
    attrs = {
        "units": "%",
        "standard_name": "sea_ice_area_fraction",
        "long_name": "sea ice concentration",
    }
    _write(folder / "sea_ice.nc", "ice_concentration", share, attrs, (times, latitudes, longitudes))
    return {
        "dataset_id": SEA_ICE,
        "title": "Baltic Sea - Sea Ice Concentration and Thickness Charts (invented values)",
        "abstract": f"Daily ice concentration of the Baltic Sea. {COMMENT}",
        "subset": "marine",
        "file": "sea_ice.nc",
    }


def is_baltic(longitudes: npt.NDArray[Any], latitudes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return where places lie in the Baltic Sea, or in what stands for it here."""
    import numpy as np

    inside = [
        ((longitudes - x) / half_x) ** 2 + ((latitudes - y) / half_y) ** 2 < 1
        for x, y, half_x, half_y in _BALTIC
    ]
    found: npt.NDArray[Any] = np.logical_or.reduce(inside)
    return found


def _write(
    path: Path,
    name: str,
    values: npt.NDArray[Any],
    attrs: dict[str, str],
    axes: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]],
) -> None:
    import xarray as xr

    times, latitudes, longitudes = axes
    ds = xr.Dataset(
        {name: (("time", "latitude", "longitude"), values, attrs)},
        {"time": times.astype("datetime64[ns]"), "latitude": latitudes, "longitude": longitudes},
        {"Conventions": "CF-1.6", "comment": COMMENT},
    )
    ds["time"].encoding = {"units": "days since 1950-01-01", "dtype": "int32"}
    step = 1e-4 if attrs["units"] == "m" else 0.01
    packed = {"dtype": "int32", "scale_factor": step, "_FillValue": -2147483647, "zlib": True}
    ds.to_netcdf(path, engine="netcdf4", encoding={name: packed})
