"""Packages that a file needs to be opened, known from its name before the file is there.

Names promise and prove nothing: what is not told here is found out when the file is opened.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence

import xarray as xr

from hda_fsspec.errors import ConfigurationError
from hda_fsspec.formats.detect import Format, promised_format
from hda_fsspec.printable import printable
from hda_fsspec.reading.gribs import import_cfgrib
from hda_fsspec.reading.options import OpenOptions

_RASTERS = (Format.TIFF, Format.JP2)
_WORDS = {
    **dict.fromkeys(("grib", "grib1", "grib2", "grb"), Format.GRIB),
    **dict.fromkeys(("tiff", "tif", "geotiff", "cog"), Format.TIFF),
}


def check_installed(
    options: OpenOptions, product_ids: Iterable[str], query: Mapping[str, Sequence[str]]
) -> None:
    """Raise ConfigurationError if what opens some products is certainly not installed.

    Parameters
    ----------
    options : OpenOptions
        How they will be opened.
    product_ids : iterable of str
        Their ids, of which many end as files of their format do.
    query : mapping
        What was asked for, where some data sets name the format.
    """
    engine = options.product_engine
    if engine is not None:
        check_engine(engine, "the products")
        if engine == "cfgrib":
            import_cfgrib()
        return
    told: dict[Format, str] = {}
    for product_id in product_ids:
        format_ = promised_format(product_id)
        if format_ is not None:
            told.setdefault(format_, printable(product_id))
    for key, values in query.items():
        for value in values if key.lower().endswith("format") else ():
            if value.lower() in _WORDS:
                told.setdefault(_WORDS[value.lower()], f"What {key}={value} asks for")
    if Format.GRIB in told:
        import_cfgrib()
    for format_ in _RASTERS:
        if format_ in told:
            check_raster_engine(told[format_], format_)


def check_raster_engine(name: str, format_: Format) -> None:
    """Raise ConfigurationError if rasters cannot be opened."""
    if not is_installed("rioxarray"):
        msg = (
            f"{name} is a {format_} file, which needs rioxarray. Run: "
            'pip install "hda-fsspec[geotiff]"'
        )
        raise ConfigurationError(msg)


def check_engine(engine: str, name: str) -> None:
    """Raise ConfigurationError if xarray has no engine of a name."""
    known = sorted(xr.backends.list_engines())
    if engine not in known:
        msg = (
            f"xarray has no engine {engine!r} to open {name} with. Choose product_engine "
            f"among {', '.join(known)}, or leave it out."
        )
        raise ConfigurationError(msg)


def is_installed(module: str) -> bool:
    """Whether a package can be imported, as far as that shows without importing it."""
    return importlib.util.find_spec(module) is not None
