# /// script
# requires-python = ">=3.11"
# dependencies = ["hda-fsspec"]
# ///
"""List a query, open its products, print one line for each.

Run it with a query as its argument::

    python examples/open_products.py hda://DATASET/startdate=2024-05-01/enddate=2024-05-03

It talks to WEkEO, or to whatever broker ``HDA_URL`` names, with the account of ``HDA_USER`` and
``HDA_PASSWORD`` or of ``~/.hdarc``.
"""

from __future__ import annotations

import sys

import fsspec
import xarray as xr

from hda_fsspec.errors import HDAError


def main(query: str) -> None:
    """Fetch all products of a query together, then open them one by one."""
    fs = fsspec.filesystem("hda")
    products = fs.ls(query, detail=True)
    print(f"{len(products)} products; nothing is ordered so far")
    paths = fs.prefetch(query)
    for product, path in zip(products, paths, strict=True):
        with xr.open_dataset(path) as dataset:
            variables = ", ".join(map(str, dataset.data_vars))
        print(f"{product['product_id']}  {product['startdate']}  {variables}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: open_products.py QUERY")
    try:
        main(sys.argv[1])
    except HDAError as error:
        sys.exit(f"{type(error).__name__}: {error}")
