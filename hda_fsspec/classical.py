"""xarray's classical way of many files, over products that are fetched together first."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from hda_fsspec.errors import LocationError, nothing_found
from hda_fsspec.fs.filesystem import HDAFileSystem
from hda_fsspec.fs.listing import Paths, list_of
from hda_fsspec.paths.locations import AnyPath, Location, is_remote_path
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.reading.requirements import check_installed
from hda_fsspec.xarray_backend import HDABackendEntrypoint


def open_mfdataset(
    paths: Paths,
    *,
    storage_options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> xr.Dataset:
    """Fetch products at one time, then open them with :func:`xarray.open_mfdataset`.

    Parameters
    ----------
    paths : str, Location, UPath, or several of them
        A query, a pattern, or the paths of products. (xarray itself refuses a single remote
        string.)
    storage_options : mapping, optional
        Settings; see :class:`hda_fsspec.HDAFileSystem`. They count before those of a UPath.
    **kwargs
        As for :func:`xarray.open_mfdataset`: ``combine``, ``preprocess``, ``parallel``, …, and
        the options of the engine.

    Raises
    ------
    FileNotFoundError
        A query or pattern finds nothing, or the list is empty.
    LocationError
        Paths of UPath have different storage options, and none are given.
    HDAError, OSError
        As :meth:`hda_fsspec.HDAFileSystem.prefetch`.
    """
    _refuse_unknown(kwargs)
    given = list_of(paths)
    settings = _common_options(given) if storage_options is None else storage_options
    fs = HDAFileSystem(**settings)
    products = _paths(fs, given)
    # What fails for another reason than the products must not cost the orders of all of them.
    opened_as = OpenOptions.make(product_engine=kwargs.get("product_engine"))
    for location in map(Location.parse, products):
        check_installed(opened_as, [location.product or ""], location.query)
    fs.prefetch(products)
    options: dict[str, Any] = dict(kwargs)
    if settings:
        options["storage_options"] = _Options(settings)
    return xr.open_mfdataset(products, engine="hda", **options)


class _Options(dict[str, Any]):
    """Storage options that leave the password behind when they travel with a task."""

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, ({name: value for name, value in self.items() if name != "password"},)

    def __repr__(self) -> str:
        return repr(self.__reduce__()[1][0])


def _common_options(paths: Sequence[Any]) -> Mapping[str, Any]:
    """Return the storage options that all paths of universal_pathlib have in common."""
    options = [path.storage_options for path in paths if is_remote_path(path)]
    if any(each != options[0] for each in options):
        msg = (
            "Cannot open paths with different storage options as one data set: give "
            "storage_options, which then count for all of them."
        )
        raise LocationError(msg)
    return options[0] if options else {}


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that neither xarray nor the engine has, as Python does."""
    takers = (xr.open_mfdataset, xr.open_dataset, HDABackendEntrypoint.open_dataset)
    known = {name for taker in takers for name in inspect.signature(taker).parameters}
    known -= {"self", "kwargs", "paths", "filename_or_obj", "engine"}
    unknown = sorted(options.keys() - known)
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        msg = f"hda_fsspec.open_mfdataset has no option {unknown[0]!r}.{hint} Nothing was ordered."
        raise TypeError(msg)


def _paths(fs: HDAFileSystem, paths: Sequence[AnyPath]) -> list[str]:
    """Return the paths of all products that are meant, in order."""
    if not paths:
        msg = "Nothing to open: no path was given. Give a query, a pattern, or paths of products."
        raise FileNotFoundError(msg)
    found: list[str] = []
    for location in map(Location.parse, paths):
        names = [location.path] if location.product else fs.ls(location.path, detail=False)
        if not names:
            raise nothing_found("open", location.path)
        found += [fs.unstrip_protocol(name) for name in names]
    return found
