# /// script
# requires-python = ">=3.11"
# dependencies = ["hda-fsspec"]
# ///
"""A year of water colour over a lagoon: suspended matter and chlorophyll of Sentinel-3 OLCI.

Each product has a swath of its own. It is ordered ahead, opened in its archive, masked and cropped;
what is kept is a small file, and the product may leave the cache.
"""

import numpy as np
import xarray as xr

import hda_fsspec

WEST, SOUTH, EAST, NORTH = -52.33, -32.63, -51.41, -31.82
QUERY = (
    f"hda://EO:EUM:DAT:SENTINEL-3:OL_2_WFR___/bbox={WEST},{SOUTH},{EAST},{NORTH}"
    "/startdate=2023-12-29/enddate=2024-12-31/timeliness=NT"
)
BAD = {"LAND", "CLOUD", "CLOUD_AMBIGUOUS", "INVALID", "COSMETIC", "SATURATED", "SUSPECT"}
BAD |= {"HISOLZEN", "AC_FAIL", "HIGHGLINT", "WHITECAPS", "OCNN_FAIL"}
BAD |= {f"RWNEG_O{band}" for band in range(2, 9)}


def lagoon(product: xr.DataTree) -> str | None:
    """Write what is seen of the lagoon in a product; return the file's name, None for no file."""
    names = ("tsm_nn", "iop_nn", "geo_coordinates", "Oa04_reflectance", "Oa06_reflectance", "wqsf")
    swath = xr.merge([product[name].to_dataset() for name in names], combine_attrs="override")
    longitude, latitude = swath["longitude"], swath["latitude"]
    is_inside = (longitude > WEST) & (longitude < EAST) & (latitude > SOUTH) & (latitude < NORTH)
    flags = swath["WQSF"]
    bits = dict(zip(flags.attrs["flag_meanings"].split(), flags.attrs["flag_masks"], strict=True))
    is_good = (flags & np.bitwise_or.reduce([bits[name] for name in BAD])) == 0
    if not (is_inside & is_good).any():
        return None
    water = swath.where(is_inside & is_good, drop=True)  # only what is kept is read
    ratio = water["Oa04_reflectance"] / water["Oa06_reflectance"]
    x = np.log10(ratio.where(ratio > 0))
    kept = 10 ** water[["TSM_NN", "ADG443_NN"]]
    kept["CHL_OC2"] = 10 ** (0.319 - 2.336 * x + 0.879 * x**2 - 0.135 * x**3) - 0.071
    name = f"lagoon_{product['tsm_nn'].attrs['start_time'][:19].replace(':', '')}.nc"
    kept.to_netcdf(name)
    return name


tasks = hda_fsspec.map_products(QUERY, lagoon)
print(tasks.plan())
written = [name for name in tasks.compute() if name is not None]
print(f"{len(written)} of {len(tasks)} products show the lagoon:", *written)
