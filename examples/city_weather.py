# /// script
# requires-python = ">=3.11"
# dependencies = ["hda-fsspec[grib]"]
# ///
"""Hourly temperature and monthly rain of a city: netCDF and GRIB, opened in the same way."""

import xarray as xr

BOX = "bbox=4.9,45.8,5,45.9"
HOURS = ",".join(f"{hour:02}:00" for hour in range(24))
TEMPERATURE = (
    "hda://EO:ECMWF:DAT:REANALYSIS_ERA5_LAND/variable=2m_temperature"
    f"/startdate=2022-05-01/enddate=2022-05-31/time={HOURS}/{BOX}"
)
RAIN = (
    "hda://EO:ECMWF:DAT:REANALYSIS_ERA5_LAND_MONTHLY_MEANS"
    "/product_type=monthly_averaged_reanalysis/variable=total_precipitation"
    f"/startdate=2018/enddate=2023/time=00:00/data_format=grib/{BOX}"
)
with xr.open_dataset(TEMPERATURE, engine="hda") as ds:
    hourly = ds["t2m"].mean(("latitude", "longitude")) - 273.15
    days = hourly.resample(valid_time="1D").mean().to_series()
with xr.open_dataset(RAIN, engine="hda") as ds:
    daily = 1000 * ds["tp"].mean(("latitude", "longitude"))  # millimetres a day
    rain = (daily * daily["valid_time"].dt.days_in_month).to_series()
print(days.round(1).to_string())
print(rain.round(1).to_string())
