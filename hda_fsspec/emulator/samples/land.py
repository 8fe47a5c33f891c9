"""Samples in the manner of EO:CLMS and EO:EEA: files of vegetation, on one grid and in tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hda_fsspec.emulator.samples.geotiff import geotiff_bytes
from hda_fsspec.emulator.samples.patterns import COMMENT, cosine, phases, waves

NDVI = "EO:CLMS:DAT:CLMS_GLOBAL_NDVI_300M_V2_10DAILY_NETCDF"
TILES = "EO:EEA:DAT:CLMS_HRVPP_ST"

_DAYS = ("01", "11", "21")
#: Tiles of UTM zone 32: their code, west and north end in metres, and their box in degrees.
_TILES = {
    "T32TPS": (600_000, 5_200_000, (10.31, 45.93, 11.76, 46.95)),
    "T32TPT": (600_000, 5_300_000, (10.33, 46.83, 11.81, 47.85)),
    "T32TQS": (700_000, 5_200_000, (11.57, 45.89, 13.07, 46.91)),
    "T32TQT": (700_000, 5_300_000, (11.63, 46.79, 13.15, 47.81)),
}
#: Of the service they are 10 m.
_PIXEL_METRES = 200
#: Neighbours overlap by 9.8 km, as those of Sentinel-2 do.
_PIXELS = 549
_NO_DATA = -32768


def ndvi(folder: Path) -> dict[str, Any]:
    """Write a file for every ten days, and return what the catalogue says."""
    import numpy as np
    import xarray as xr

    latitudes, longitudes = np.arange(46.0, 45.0, -1 / 112), np.arange(8.0, 9.0, 1 / 112)
    days = [
        f"{year}-{month:02}-{day}"
        for year in (2023, 2024)
        for month in range(1, 13)
        for day in _DAYS
    ]
    season, _ = phases(np.array(days, "datetime64[D]"))
    ground = waves(np.array(days[:1], "datetime64[D]"), latitudes, longitudes, size=0.2)[0]
    packed = {"dtype": "uint8", "scale_factor": 0.004, "add_offset": -0.08, "_FillValue": 255}
    (folder / "ndvi").mkdir()
    products = []
    for day, phase in zip(days, season, strict=True):
        green = np.clip(0.45 - 0.25 * cosine(phase) + 0.15 * ground, -0.08, 0.92)
        ds = xr.Dataset(
            {"NDVI": (("time", "lat", "lon"), green[None], {"long_name": "NDVI 300M"})},
            {"time": [np.datetime64(day, "ns")], "lat": latitudes, "lon": longitudes},
            {"Conventions": "CF-1.6", "comment": COMMENT},
        )
        ds["time"].encoding = {"units": "days since 1970-01-01", "dtype": "int32"}
        name = f"c_gls_NDVI300_{day.replace('-', '')}0000_GLOBE_OLCI_V2.0.1.nc"
        ds.to_netcdf(folder / "ndvi" / name, engine="netcdf4", encoding={"NDVI": packed})
        products.append({"file": f"ndvi/{name}", "bbox": [8.0, 45.0, 9.0, 46.0]})
    return {
        "dataset_id": NDVI,
        "title": "Normalised Difference Vegetation Index, 300 m, every 10 days (invented values)",
        "abstract": f"Vegetation of a corner of Piedmont and Lombardy. {COMMENT}",
        "products": products,
        "bbox": [8.0, 45.0, 9.0, 46.0],
    }


def tiles(folder: Path) -> dict[str, Any]:
    """Write rasters of four tiles in the spring of 2024, and return what the catalogue says."""
    import numpy as np

    days = [f"2024-{month:02}-{day}" for month in (4, 5, 6) for day in _DAYS]
    season, _ = phases(np.array(days, "datetime64[D]"))
    (folder / "tiles").mkdir()
    products = []
    for code, (west, north, box) in _TILES.items():
        centres = (np.arange(_PIXELS) + 0.5) * _PIXEL_METRES
        ground = waves(
            np.array(days[:1], "datetime64[D]"), north - centres, west + centres, size=4e4
        )
        for day, phase in zip(days, season, strict=True):
            # Valleys green first; what is highest stays bare.
            green = np.clip(1.4 - 1.2 * cosine(phase) + 0.8 * ground[0], 0, 3)
            cloudy = waves(
                np.array([day], "datetime64[D]"), north - centres, west + centres, size=2e5
            )
            is_clear = cloudy[0] < 0.65
            stored = np.where(is_clear, np.round(green * 1e4), _NO_DATA).astype("<i2")
            kinds = {"PPI": (stored, 1e-4, _NO_DATA), "QFLAG": (is_clear.astype("u1"), None, None)}
            for kind, (values, scale, no_data) in kinds.items():
                name = f"ST_{day.replace('-', '')}T000000_S2_{code}-010m_V101_{kind}.tif"
                content = geotiff_bytes(
                    values,
                    west=west,
                    north=north,
                    pixel=_PIXEL_METRES,
                    epsg=32632,
                    scale=scale,
                    no_data=no_data,
                )
                (folder / "tiles" / name).write_bytes(content)
                metadata = {"productType": kind, "tileId": code[1:], "resolution": "10"}
                products.append({"file": f"tiles/{name}", "bbox": box, "metadata": metadata})
    return {
        "dataset_id": TILES,
        "title": "High Resolution Vegetation Phenology: Seasonal Trajectories (invented values)",
        "abstract": f"Plant Phenology Index of four Sentinel-2 tiles in the Alps. {COMMENT}",
        "products": products,
        "parameters": {
            "productType": ["PPI", "QFLAG"],
            "tileId": {"type": "string", "pattern": "[\\w-]+"},
            "resolution": ["10"],
        },
        "bbox": [10.3, 45.8, 13.2, 47.9],
        "ids_with_suffix": False,
    }
