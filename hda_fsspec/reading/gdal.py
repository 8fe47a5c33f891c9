"""GDAL, kept to the one file that it is given.

By itself GDAL looks for files beside the one that it opens (metadata, overviews, masks, world
files), lets any of some two hundred drivers claim it, and opens addresses. Here the driver that
fits the content is named, and nothing beside the file or on a network is looked at, neither when
a file is opened nor when it is read.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing  # xarray documents this module for writers of backends

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import Format
from hda_fsspec.untrusted_files import reader_of

#: GDAL's settings around each opening and each read: of the thread, not of the process.
_SETTINGS: Mapping[str, str] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    # Only this name may be opened over a network, and nothing has it; what does not ask for that
    # goes through a port at which nobody is.
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "/vsicurl/none",
    "GDAL_HTTP_PROXY": "127.0.0.1:1",
    "GDAL_HTTP_MAX_RETRY": "0",
    "PROJ_NETWORK": "OFF",
}

#: The drivers for what is in a file, the usual one first.
_DRIVERS = {
    Format.TIFF: ("GTiff",),
    Format.JP2: ("JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "JPEG2000"),
    Format.GRIB: ("GRIB",),
    Format.NETCDF3: ("netCDF",),
    Format.HDF5: ("netCDF", "HDF5"),
}
#: Further formats that hold everything in themselves.
_PICTURES = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"RIFF", "WEBP"),
    (b"\x0e\x03\x13\x01", "HDF4"),
)


@contextlib.contextmanager
def confined() -> Iterator[None]:
    """Let nothing but the file that is opened be looked at, in this thread, by rasterio."""
    if not _has_rasterio():
        yield
        return
    import rasterio

    with rasterio.Env(**_SETTINGS):
        yield


@functools.cache
def _has_rasterio() -> bool:
    return importlib.util.find_spec("rasterio") is not None


def open_options(
    path: Path, format_: Format, given: Mapping[str, Any] | None, *, name: str
) -> dict[str, Any]:
    """Return the options for ``rasterio.open``: those that were given, and the driver.

    A driver that the caller names is that one.

    Raises ProductFormatError for a file of none of the formats that hold everything in themselves.
    """
    options = dict(given or {})
    if "driver" not in options:
        driver = _driver(path, format_, name)
        if driver is not None:
            options["driver"] = driver
    if format_ is Format.GRIB:
        options.setdefault("USE_IDX", "NO")
    return options


def _driver(path: Path, format_: Format, name: str) -> str | None:
    if format_ is Format.HDF5:
        with confined():
            return _hdf5_driver(path, name)
    names = _DRIVERS.get(format_, ())
    if not names:
        with reader_of(path) as stream:
            head = stream.read(16)
        names = tuple(driver for magic, driver in _PICTURES if head.startswith(magic))
    known = _registered()
    usable = [driver for driver in names if driver in known]
    if usable:
        return usable[0]
    if names:
        return names[0]  # whose absence rasterio tells
    formats = ", ".join([*_DRIVERS, *(driver for _, driver in _PICTURES)])
    msg = (
        f"{name} was not opened with rasterio: it is none of the formats that hold everything in "
        f"themselves ({formats}), and GDAL would look for other files. If you trust it, name the "
        'driver: product_engine_kwargs={"open_kwargs": {"driver": "…"}}.'
    )
    raise ProductFormatError(msg)


def _hdf5_driver(path: Path, name: str) -> str | None:
    """Return the driver that opens an HDF5 file, None where its parts need another than the whole.

    Any driver might then claim what stands before the signature, so that nothing may.
    """
    import rasterio

    for driver in _DRIVERS[Format.HDF5]:
        with (
            contextlib.suppress(rasterio.errors.RasterioIOError),
            rasterio.open(path, driver=driver) as found,
        ):
            if driver == "netCDF" or not found.subdatasets:
                return driver
            if _begins_with_hdf5(path):
                return None
            msg = (
                f"{name} was not opened with rasterio: something stands before its HDF5 content, "
                "which GDAL may take for another format. Leave product_engine out."
            )
            raise ProductFormatError(msg)
    return _DRIVERS[Format.HDF5][0]


def _begins_with_hdf5(path: Path) -> bool:
    with reader_of(path) as stream:
        return stream.read(8) == b"\x89HDF\r\n\x1a\n"


@functools.cache
def _registered() -> frozenset[str]:
    import rasterio

    with rasterio.Env() as env:
        return frozenset(env.drivers())


class _ConfinedArray(BackendArray):
    """Values that are read where nothing but their file is looked at.

    xarray closes files, and opens them again when they are read, in whatever thread that is.
    """

    def __init__(self, variable: xr.Variable) -> None:
        self._variable = variable
        self.shape = variable.shape
        self.dtype = variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        with confined():
            return np.asarray(self._variable[key].data)


def confine(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset of GDAL with its data variables read in the same way."""
    lazy = {
        name: indexing.LazilyIndexedArray(_ConfinedArray(dataset.variables[name]))
        for name in dataset.data_vars
    }
    kept = dataset.copy(data=lazy)
    kept.set_close(dataset.close)
    return kept
