# /// script
# requires-python = ">=3.11"
# dependencies = ["hda-fsspec"]
# ///
"""A day of IASI soundings as the files that other tools read (EPS native, for CODA).

    python examples/iasi_day.py 2024-07-15 iasi/

The archives are fetched together, complete or not at all, and kept in the cache.
"""

import sys
import zipfile

import fsspec

day, folder = sys.argv[1:]
query = f"hda://EO:EUM:DAT:METOP:IASSND02/sat=Metop-B/startdate={day}/enddate={day}"
for archive in fsspec.filesystem("hda").prefetch(query):
    with zipfile.ZipFile(archive) as product:
        native = [name for name in product.namelist() if name.endswith(".nat")]
        product.extractall(folder, native)
    print(*native)
