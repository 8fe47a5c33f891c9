# /// script
# requires-python = ">=3.11"
# dependencies = ["hda-fsspec"]
# ///
"""Download what WEkEO's web page shows under "Show API request".

    python examples/download_request.py REQUEST.json FOLDER

Faults that pass are tried again, interrupted downloads are taken up, and a file under its final
name is complete. What cannot be had is an error and not an empty file.
"""

import argparse
import sys

import fsspec

from hda_fsspec import Location
from hda_fsspec.errors import HDAError

parser = argparse.ArgumentParser(description="Download what a request finds.")
parser.add_argument("request", help="a .json file, or the text of a request")
parser.add_argument("folder")
options = parser.parse_args()
try:
    query = Location.from_request(options.request)
    paths = fsspec.filesystem("hda").download(query, options.folder, skip_existing=True)
except HDAError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(f"{len(paths)} products of {query}")
