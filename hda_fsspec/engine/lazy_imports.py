"""The lazy side of the package as the engine and ``ds.hda`` use it, imported at the first use.

All of it comes with this one module, which one thread imports while others wait. Dask's modules
import one another in circles: that fails where threads begin at different ends.
"""

from __future__ import annotations

import dask  # noqa: F401  (as a whole, before any of its modules)

from hda_fsspec.lazy.map_task import ProductTask, name_of
from hda_fsspec.lazy.open_product import (
    Nodes,
    check_can_be_read,
    open_product,
    open_product_tree,
)
from hda_fsspec.lazy.product_table import ProductTable, Source
from hda_fsspec.planning import dask_readahead
from hda_fsspec.planning.dask_graphs import products_read
from hda_fsspec.stack.open_mosaic import open_mosaic
from hda_fsspec.stack.open_query import StackOptions
from hda_fsspec.stack.open_split import open_split
from hda_fsspec.stack.open_tiles import open_query_nodes

__all__ = [
    "Nodes",
    "ProductTable",
    "ProductTask",
    "Source",
    "StackOptions",
    "check_can_be_read",
    "name_of",
    "open_mosaic",
    "open_product",
    "open_product_tree",
    "open_query_nodes",
    "open_split",
    "products_read",
]

# Whoever opens lazy data will compute it.
dask_readahead.register()
