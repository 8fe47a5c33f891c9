# /// script
# requires-python = ">=3.11"
# dependencies = ["hda-fsspec"]
# ///
"""All products between two days, into a folder: for a cron job.

    python examples/daily_download.py 2024-06-01 2024-06-30 synergy/

What is in the folder already is neither ordered nor downloaded again.
"""

import sys

import fsspec

start, end, folder = sys.argv[1:]
query = f"hda://EO:ESA:DAT:SENTINEL-3/productType=SY_2_V10___/startdate={start}/enddate={end}"
for path in fsspec.filesystem("hda").download(query, folder, skip_existing=True):
    print(path)
