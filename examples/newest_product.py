# /// script
# requires-python = ">=3.11"
# dependencies = ["hda-fsspec"]
# ///
"""The newest product over an area: found, downloaded, opened.

python examples/newest_product.py -6,43,-1,46 2024-05-01 2024-05-03
"""

import sys

import fsspec
import xarray as xr

box, start, end = sys.argv[1:]
fs = fsspec.filesystem("hda")
query = f"hda://EO:EUM:DAT:SENTINEL-3:OL_2_WFR___/bbox={box}/startdate={start}/enddate={end}"
newest = max(fs.ls(query, detail=True), key=lambda product: product["startdate"])
print(newest["product_id"], newest["startdate"], newest["catalogue_size"])
product = fs.unstrip_protocol(newest["name"])
print(*fs.download(product, "downloads/", skip_existing=True))
with xr.open_datatree(product, engine="hda") as tree:  # its files; nothing is unpacked by hand
    print(*tree.children)
