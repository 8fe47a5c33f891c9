# /// script
# requires-python = ">=3.11"
# dependencies = ["hda-fsspec"]
# ///
"""Fires of a day around the globe: fire radiative power on a grid of one degree.

Each product is ordered ahead, opened in its archive, and may leave the cache once it was read.
"""

import numpy as np
import xarray as xr

import hda_fsspec

QUERY = "hda://EO:EUM:DAT:SENTINEL-3:0417/startdate=2025-08-16/enddate=2025-08-16/fire=true"


def fires(product: xr.Dataset) -> xr.Dataset:
    """Return where fires are, and their power in megawatts."""
    return product[["latitude", "longitude", "FRP_MWIR"]].rename(
        {product["FRP_MWIR"].dims[0]: "fire"}
    )


tasks = hda_fsspec.map_products(QUERY, fires, member="FRP_MWIR1km_standard.nc", concat_dim="fire")
print(tasks.plan())
day = tasks.compute()
edges = {"latitude": np.arange(-90, 91), "longitude": np.arange(-180, 181)}
power, *_ = np.histogram2d(
    day["latitude"], day["longitude"], bins=list(edges.values()), weights=day["FRP_MWIR"]
)
centres = {name: values[:-1] + 0.5 for name, values in edges.items()}
xr.DataArray(power, centres, name="FRP_MWIR", attrs={"units": "MW"}).to_netcdf("fires.nc")
print(f"{day.sizes['fire']} fires of {len(tasks)} products, {power.sum():.0f} MW in all")
