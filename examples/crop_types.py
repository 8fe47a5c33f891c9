# /// script
# requires-python = ">=3.11"
# dependencies = ["hda-fsspec[geotiff]"]
# ///
"""Crop types of an area that lies in several tiles, as one raster in degrees.

Tiles lie side by side in one lazy data set; those that the area does not touch are never ordered.
"""

import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr

AREA = WEST, SOUTH, EAST, NORTH = 8.25, 50.05, 8.4, 50.15
QUERY = (
    "hda://EO:EEA:DAT:HRL:CRL/productType=Crop%20Types/resolution=10m/year=2021"
    f"/bbox={WEST},{SOUTH},{EAST},{NORTH}"
)
tiles = xr.open_dataset(QUERY, engine="hda", chunks={}, mosaic=True)
area = tiles.squeeze(drop=True).rio.clip_box(*AREA, crs="EPSG:4326")
print(area.hda.plan())
crops = area["band_data"].rio.reproject("EPSG:4326").fillna(0).astype("uint16").rio.write_nodata(0)
crops.rio.to_raster("crops.tif")
print(crops.to_series().value_counts().to_string())
