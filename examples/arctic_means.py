# /// script
# requires-python = ">=3.11"
# dependencies = ["hda-fsspec"]
# ///
"""Temperature, rain and snowfall of the Arctic, 1979 to 2023, from monthly means of ERA5.

Means and sums come in two files of one archive; they are one data set here.
"""

import numpy as np
import xarray as xr

QUERY = (
    "hda://EO:ECMWF:DAT:REANALYSIS_ERA5_SINGLE_LEVELS_MONTHLY_MEANS"
    "/product_type=monthly_averaged_reanalysis"
    "/variable=2m_temperature,total_precipitation,snowfall"
    "/startdate=1979/enddate=2023/time=00:00/bbox=-180,60,180,90"
)
ds = xr.open_dataset(QUERY, engine="hda", chunks={})
print(ds.hda.plan())
area = xr.apply_ufunc(np.cos, np.pi / 180 * ds["latitude"])
arctic = ds.weighted(area).mean(("latitude", "longitude"))
years = arctic.groupby("valid_time.year").mean()
years.to_netcdf("arctic.nc")
print(years.to_dataframe()[["t2m", "tp", "sf"]].to_string())
