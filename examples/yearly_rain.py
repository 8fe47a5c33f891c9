# /// script
# requires-python = ">=3.11"
# dependencies = ["hda-fsspec"]
# ///
"""Yearly rain at a place, from monthly means of ERA5-Land.

The service makes one file of whatever is asked of ERA5-Land: here that is one order for ten years.
"""

import xarray as xr

QUERY = (
    "hda://EO:ECMWF:DAT:REANALYSIS_ERA5_LAND_MONTHLY_MEANS"
    "/product_type=monthly_averaged_reanalysis/variable=total_precipitation"
    "/startdate=2014/enddate=2023/time=00:00/bbox=4.8,45.7,4.9,45.8"
)
with xr.open_dataset(QUERY, engine="hda") as ds:
    rain = ds["tp"].sel(latitude=45.76, longitude=4.84, method="nearest")  # metres a day
    months = 1000 * rain * rain["valid_time"].dt.days_in_month
    years = months.groupby("valid_time.year").sum().to_series()
print(years.round().to_string())
print(f"wettest: {years.idxmax()}, driest: {years.idxmin()}")
