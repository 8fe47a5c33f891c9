"""Copernicus data on WEkEO, opened as if it were already on your disk.

``fsspec.filesystem("hda")`` and ``xr.open_dataset("hda://…", engine="hda")`` find their way here
by themselves; what stands below is for code that works with paths, settings and errors.
Importing the package loads neither xarray, netCDF4, dask nor requests.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from hda_fsspec import errors
from hda_fsspec._version import __version__
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import PrintableRecords
from hda_fsspec.records import Product

if TYPE_CHECKING:
    from hda_fsspec.engine.map_products import map_products
    from hda_fsspec.engine.mfdataset import open_mfdataset
    from hda_fsspec.fs.filesystem import HDAFileSystem
    from hda_fsspec.settings import Settings

# On the logger, before all handlers of whoever listens.
logging.getLogger("hda_fsspec").addFilter(PrintableRecords())

__all__ = [
    "HDAFileSystem",
    "Location",
    "Product",
    "Settings",
    "__version__",
    "errors",
    "map_products",
    "open_mfdataset",
]

_LATE = {
    "HDAFileSystem": "hda_fsspec.fs.filesystem",
    "Settings": "hda_fsspec.settings",
    "map_products": "hda_fsspec.engine.map_products",
    "open_mfdataset": "hda_fsspec.engine.mfdataset",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_LATE[name]), name)
