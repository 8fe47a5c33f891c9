# /// script
# requires-python = ">=3.11"
# dependencies = ["hda-fsspec"]
# ///
"""Three layers of vegetation, cut to three areas.

A product covers the globe: it is ordered once, whatever number of areas is cut from it.
"""

import xarray as xr

DAYS = {"FCOVER": "2018-03-31", "LAI": "2018-07-20", "FAPAR": "2018-01-01"}
AREAS = {  # west, south, east, north
    "stockholm": (17.75, 59.22, 18.2, 59.43),
    "sonderborg": (9.74, 54.88, 9.84, 54.94),
    "mannheim": (8.42, 49.44, 8.52, 49.54),
}
for layer, day in DAYS.items():
    query = (
        f"hda://EO:CLMS:DAT:CLMS_GLOBAL_{layer}_300M_V1_10DAILY_NETCDF/productType={layer}300"
        f"/productionStatus=ARCHIVED/productGroupId=RT2/startdate={day}/enddate={day}"
    )
    with xr.open_dataset(query, engine="hda") as ds:
        for area, (west, south, east, north) in AREAS.items():
            part = ds[layer].sel(lat=slice(north, south), lon=slice(west, east))
            part.to_netcdf(f"{layer}_{area}.nc")
            print(f"{layer} {area} {float(part.mean()):.2f}")
