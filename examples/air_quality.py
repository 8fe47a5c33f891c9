# /// script
# requires-python = ">=3.11"
# dependencies = ["hda-fsspec"]
# ///
"""A month of air quality around a town, as a table.

These files count hours from the first day that was asked for.
"""

import pandas as pd
import xarray as xr

LATITUDE, LONGITUDE, MARGIN = 51.2286, 4.4285, 0.1
START = "2023-10-02"
BOX = [LONGITUDE - MARGIN, LATITUDE - MARGIN, LONGITUDE + MARGIN, LATITUDE + MARGIN]
QUERY = (
    "hda://EO:ECMWF:DAT:CAMS_EUROPE_AIR_QUALITY_FORECASTS/model=ensemble/type=analysis/level=0"
    "/variable=particulate_matter_10um,particulate_matter_2.5um,nitrogen_dioxide"
    f"/startdate={START}/enddate=2023-10-31/time=08:00,12:00,16:00/leadtime_hour=0"
    "/bbox=" + ",".join(f"{degrees:.2f}" for degrees in BOX)
)
with xr.open_dataset(QUERY, engine="hda") as ds:
    here = ds.sel(latitude=LATITUDE, longitude=LONGITUDE % 360, method="nearest").squeeze(drop=True)
    table = here.to_dataframe()[["pm10_conc", "pm2p5_conc", "no2_conc"]]
table.index = pd.Timestamp(START) + pd.to_timedelta(table.index, unit="h")
table.round(2).to_csv("air_quality.csv")
print(table.describe().round(2).to_string())
