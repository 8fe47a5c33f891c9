"""Copernicus data on WEkEO, opened as if it were already on your disk.

``fsspec.filesystem("hda")`` and ``xr.open_dataset("hda://…", engine="hda")`` find their way here
by themselves; what stands below is for code that works with paths, settings and errors.
Importing the package loads neither xarray, netCDF4, dask nor requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hda_fsspec import errors
from hda_fsspec.locations import Location
from hda_fsspec.records import Product

if TYPE_CHECKING:
    from hda_fsspec.filesystem import HDAFileSystem
    from hda_fsspec.settings import Settings

__version__ = "0.1.0"

__all__ = ["HDAFileSystem", "Location", "Product", "Settings", "__version__", "errors"]


def __getattr__(name: str) -> Any:
    if name == "HDAFileSystem":
        from hda_fsspec.filesystem import HDAFileSystem

        return HDAFileSystem
    if name == "Settings":
        from hda_fsspec.settings import Settings

        return Settings
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
