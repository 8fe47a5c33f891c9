"""xarray's classical way of many files, over products that are fetched together first.

xarray orders files by their coordinates alone, and says nothing where it leaves one out. So
products get the time that the catalogue tells where they have none, and what would be lost is
refused.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import xarray as xr

from hda_fsspec.engine.backend import HDABackendEntrypoint, refuse_unknown
from hda_fsspec.errors import LocationError, ProductMismatchError, no_products_error
from hda_fsspec.fs.filesystem import HDAFileSystem
from hda_fsspec.fs.info import Paths, list_of
from hda_fsspec.paths.locations import AnyPath, Location, is_remote_path
from hda_fsspec.reading.essential_attributes import different_meaning, meaning_of
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.reading.requirements import check_installed
from hda_fsspec.settings import SECRET_SETTINGS

#: Where one file lies on its grid: of many that is told by their coordinates.
_PLACE = "GeoTransform"


def open_mfdataset(
    paths: Paths,
    *,
    storage_options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> xr.Dataset:
    """Fetch products at one time, then open them with :func:`xarray.open_mfdataset`.

    A product without a time gets the start that the catalogue tells, as a dimension ``time`` of one
    step: with ``combine="by_coords"``, and with ``combine="nested"`` if ``concat_dim`` names it.
    So does a product of one scalar time. It is done after ``preprocess``.

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
    ProductMismatchError
        Coordinates do not tell two products apart, so that xarray would drop one; or values mean
        other things in them: another unit, another coordinate reference system.
    HDAError, OSError
        As :meth:`hda_fsspec.HDAFileSystem.prefetch`.
    """
    _refuse_unknown(kwargs)
    given = list_of(paths)
    settings = common_options(given) if storage_options is None else storage_options
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
    is_by_coords = options.get("combine", "by_coords") == "by_coords"
    prepare = _Prepare(
        _starts(fs, products),
        options.pop("preprocess", None),
        along=None if is_by_coords else _names(options.get("concat_dim")),
    )
    try:
        combined = xr.open_mfdataset(products, engine="hda", preprocess=prepare, **options)
    except ValueError as err:
        # xarray says that they cannot be put in order, and neither which nor what to do.
        if is_by_coords:
            prepare.check_order(cause=err)
        raise
    try:
        if options.get("parallel") and options.get("errors", "raise") == "raise":
            _prepare_here(prepare, products, options)
        if is_by_coords:
            prepare.check_order()
        prepare.check_meaning(combined)
    except BaseException:
        combined.close()
        raise
    return combined


class _Options(dict[str, Any]):
    """Storage options that leave secrets behind when they travel with a task."""

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, ({name: value for name, value in self.items() if name not in SECRET_SETTINGS},)

    def __repr__(self) -> str:
        return repr(self.__reduce__()[1][0])


def common_options(paths: Sequence[Any]) -> Mapping[str, Any]:
    """Return the storage options that all paths of universal_pathlib have in common."""
    options = [path.storage_options for path in paths if is_remote_path(path)]
    if any(kwargs != options[0] for kwargs in options):
        msg = (
            "Cannot open paths with different storage options as one data set: give "
            "storage_options, which then count for all of them."
        )
        raise LocationError(msg)
    return options[0] if options else {}


class _Facts(NamedTuple):
    """The facts about a product that matter when many are combined."""

    variables: frozenset[str]
    first: tuple[tuple[str, Any], ...]  # of each coordinate, by which xarray orders
    meaning: dict[str, dict[str, Any]]  # of each variable


@dataclasses.dataclass(eq=False, repr=False)
class _Prepare:
    """Gives each product its time after it was opened, and remembers where it lies.

    Parameters
    ----------
    starts : mapping
        When each product starts as the catalogue tells, by its path.
    own : callable or None
        The ``preprocess`` of the caller.
    along : collection of str or None
        The dimensions that products shall have; None for any.
    """

    starts: Mapping[str, str | None]
    own: Callable[[xr.Dataset], xr.Dataset] | None
    along: Collection[str] | None

    def __post_init__(self) -> None:
        self.seen: dict[str, _Facts] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # What a process elsewhere has seen stays there.
        return _prepare, (dict(self.starts), self.own, self.along)

    def __call__(self, dataset: xr.Dataset) -> xr.Dataset:
        path = str(dataset.encoding.get("source"))
        if self.own is not None:
            dataset = self.own(dataset)
        dataset = self._timed(dataset, path)
        self.seen[path] = _facts(dataset)
        return dataset

    def _timed(self, dataset: xr.Dataset, path: str) -> xr.Dataset:
        from hda_fsspec.stack.concat_dim import find_layout
        from hda_fsspec.stack.header import Header
        from hda_fsspec.stack.product_grid import start_times

        layout = find_layout(Header.of(dataset), None)
        if self.along is not None and layout.dim not in self.along:
            return dataset
        start = self.starts.get(path)
        if layout.is_from_catalogue and start is not None:
            time = start_times([(Location.parse(path).product or path, start)])
            step = xr.Variable((layout.dim,), time, {"standard_name": "time"})
            if layout.is_new:
                dataset = dataset.expand_dims(layout.dim)
            return dataset.assign_coords({layout.dim: step})
        return dataset.expand_dims(layout.dim) if layout.is_new and layout.has_index else dataset

    def check_order(self, cause: Exception | None = None) -> None:
        """Raise ProductMismatchError for two products of which xarray keeps one."""
        at: dict[Any, str] = {}
        for path in self.starts:
            if path not in self.seen:
                continue
            facts = self.seen[path]
            other = at.setdefault((facts.variables, facts.first), path)
            if other != path:
                raise self._lost(other, path, facts) from cause

    def _lost(self, one: str, other: str, facts: _Facts) -> ProductMismatchError:
        names = [Location.parse(path).product for path in (one, other)]
        where = ", ".join(f"{dim} from {value}" for dim, value in facts.first)
        msg = (
            f"The products {names[0]} and {names[1]} have the same variables at the same"
            f" coordinates ({where or 'none at all'}), and combine='by_coords' would keep one of"
            " them. If they are bands or other kinds, give their variables names of their own in"
            " preprocess, such as ds.rename(band_data=…); if they are versions of one product,"
            " narrow the query or the pattern. combine='nested' keeps them all along a concat_dim,"
            " and xr.open_datatree each by itself."
        )
        return ProductMismatchError(msg)

    def check_meaning(self, combined: xr.Dataset) -> None:
        """Raise ProductMismatchError for products whose values mean other things under one name."""
        first: dict[str, tuple[str, dict[str, Any]]] = {}
        for path, facts in self.seen.items():
            for variable, attrs in facts.meaning.items():
                other, theirs = first.setdefault(variable, (path, attrs))
                if theirs.get(_PLACE) != attrs.get(_PLACE):
                    # It would put the whole where the first product lies.
                    combined[variable].attrs.pop(_PLACE, None)
                here = {name: value for name, value in attrs.items() if name != _PLACE}
                attribute = different_meaning(theirs, here)
                if attribute is not None:
                    raise _differ(variable, attribute, {other: theirs, path: here})
                first[variable] = (other, {**here, **theirs})


def _differ(
    variable: str, attribute: str, by_path: Mapping[str, Mapping[str, Any]]
) -> ProductMismatchError:
    names = " and ".join(str(Location.parse(path).product) for path in by_path)
    values = " and ".join(_short(repr(attrs.get(attribute))) for attrs in by_path.values())
    msg = (
        f"The values of {variable} mean other things in the products {names}: the attribute"
        f" {attribute} differs ({values}), and xarray would keep the first one. Narrow the query to"
        " products that agree, or make them agree in preprocess; xr.open_datatree keeps each by"
        " itself."
    )
    return ProductMismatchError(msg)


def _prepare(starts: Mapping[str, str | None], own: Any, along: Any) -> _Prepare:
    return _Prepare(starts, own, along=along)


def _facts(dataset: xr.Dataset) -> _Facts:
    first = tuple(
        (str(dim), index[0])
        for dim, index in sorted(dataset.indexes.items(), key=lambda item: str(item[0]))
        if dim in dataset.dims and len(index)
    )
    meaning = {str(name): meaning_of(v.attrs) for name, v in dataset.variables.items()}
    return _Facts(frozenset(map(str, dataset.data_vars)), first, meaning)


def _prepare_here(prepare: _Prepare, products: Sequence[str], options: Mapping[str, Any]) -> None:
    """Look at those that other processes have opened; they are local."""
    combining = set(inspect.signature(xr.open_mfdataset).parameters) - {"kwargs"}
    engine = {name: value for name, value in options.items() if name not in combining}
    for path in products:
        if path not in prepare.seen:
            with xr.open_dataset(path, engine="hda", chunks={}, **engine) as dataset:
                prepare(dataset)


def _starts(fs: HDAFileSystem, paths: Sequence[str]) -> dict[str, str | None]:
    from hda_fsspec.client import get_client

    client = get_client(fs.settings)
    return {path: client.product_to_open(Location.parse(path)).startdate for path in paths}


def _names(concat_dim: Any) -> tuple[str, ...]:
    if concat_dim is None or isinstance(concat_dim, str):
        return () if concat_dim is None else (concat_dim,)
    return tuple(name for name in concat_dim if isinstance(name, str))


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that neither xarray nor the engine has, as Python does."""
    takers = (xr.open_mfdataset, xr.open_dataset)
    known = {name for taker in takers for name in inspect.signature(taker).parameters}
    known.update(HDABackendEntrypoint.open_dataset_parameters or ())
    known -= {"kwargs", "paths", "filename_or_obj", "engine"}
    refuse_unknown("hda_fsspec.open_mfdataset", options.keys(), known)


def _paths(fs: HDAFileSystem, paths: Sequence[AnyPath]) -> list[str]:
    """Return the paths of all products that are meant, in order."""
    if not paths:
        msg = "Nothing to open: no path was given. Give a query, a pattern, or paths of products."
        raise FileNotFoundError(msg)
    found: list[str] = []
    for location in map(Location.parse, paths):
        names = [location.path] if location.product else fs.ls(location.path, detail=False)
        if not names:
            raise no_products_error("open", location.path)
        found += [fs.unstrip_protocol(name) for name in names]
    return found
