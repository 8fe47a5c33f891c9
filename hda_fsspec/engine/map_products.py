"""One task of Dask for each product of a query: what is done where products share no grid.

Nothing is ordered before tasks are computed, and then ahead of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import xarray as xr

from hda_fsspec.client import Client, get_client
from hda_fsspec.engine import lazy_imports
from hda_fsspec.engine.backend import HDABackendEntrypoint
from hda_fsspec.engine.mfdataset import common_options
from hda_fsspec.errors import LocationError, ProductMismatchError, QueryError, no_products_error
from hda_fsspec.fs.info import FILESYSTEM_OPTIONS, Paths, list_of
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable
from hda_fsspec.reading.options import DECODERS, OpenOptions
from hda_fsspec.records import Product, by_time
from hda_fsspec.settings import Settings
from hda_fsspec.stack.product_grid import start_times

# After lazy_imports, which imports Dask as a whole.
from dask import threaded  # isort: skip
from dask.base import DaskMethodsMixin  # isort: skip
from dask.delayed import Delayed, optimize  # isort: skip

if TYPE_CHECKING:
    from hda_fsspec.planning.plan import Plan

_OWN_OPTIONS = ("group", "member", "drop_variables", "product_engine", "product_engine_kwargs")
_TIME = "time"


def map_products(
    query: Paths,
    function: Callable[[Any], Any],
    *,
    concat_dim: str | None = None,
    as_tree: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> ProductTasks:
    """Call a function with each product of a query, in a task of Dask for each.

    For what shares no grid, such as swaths: crop, mask, regrid, keep a little, go on. Nothing is
    ordered before tasks are computed; then products are ordered ahead, in the order of the tasks.
    A product is kept in the cache while the function is at work, and may be evicted afterwards.

    Parameters
    ----------
    query : str, Location, UPath, or several of them
        A query, a pattern, or products.
    function : callable
        Is given an opened product, whose values are read as they are used. Values of what it
        returns are loaded in the task.
    concat_dim : str, optional
        The results, data sets or arrays, are put together along this dimension when all tasks are
        computed together. Results that are None are left out. Results that have no ``"time"`` get
        the start of their product in the catalogue, if that is the dimension. With ``member`` also
        the dimension along which files of an archive lie that hold the same variables.
    as_tree : bool, optional
        Whether the function is given a tree. None: where a product has several groups or files,
        and no variables beside them, and neither ``group`` nor ``member`` chooses.
    storage_options : mapping, optional
        Settings; see :class:`hda_fsspec.HDAFileSystem`. They count before those of a UPath.
    **options
        ``group``, ``member``, ``drop_variables``, ``product_engine``, ``product_engine_kwargs`` and
        xarray's decoders, as for ``xr.open_dataset(…, engine="hda")``.

    Returns
    -------
    ProductTasks
        A sequence of ``dask.delayed`` tasks, in the order of the products' starts, with
        ``.compute()``, ``.products`` and ``.plan()``.

    Raises
    ------
    FileNotFoundError
        A query or pattern finds nothing, or the list is empty.
    TypeError
        There is no such option.
    HDAError
        The listing cannot be had, or the installation lacks what products are read with.

    Examples
    --------
    >>> import dask, hda_fsspec  # doctest: +SKIP
    >>> def mean(swath):
    ...     return float(swath.CHL_NN.where(swath.latitude > 45).mean())
    >>> tasks = hda_fsspec.map_products("hda://EO:EUM:DAT:…/*_NT_*", mean)  # doctest: +SKIP
    >>> tasks.plan()  # doctest: +SKIP
    >>> means = dask.compute(*tasks)  # doctest: +SKIP
    """
    _refuse_unknown(options)
    _check_function(function)
    given = list_of(query)
    settings = common_options(given) if storage_options is None else storage_options
    client = get_client(
        Settings.resolve(**{k: v for k, v in settings.items() if k not in FILESYSTEM_OPTIONS})
    )
    opened_as = OpenOptions.make(member_dim=concat_dim, **options)
    chosen = options.get("member") is not None or options.get("group") is not None
    if as_tree is None and chosen:
        as_tree = False
    name = lazy_imports.name_of(function)
    graph: dict[str, Any] = {}
    products: list[Product] = []
    for path, product in _products(client, given, opened_as):
        source = lazy_imports.Source(
            client.settings, lazy_imports.ProductTable([product]), opened_as
        )
        task = lazy_imports.ProductTask(source, path, function, as_tree=as_tree)
        key = f"{name}-{uuid.uuid4().hex}"
        graph[key] = (task,)
        products.append(product)
    return ProductTasks(graph, products, concat_dim)


class ProductTasks(Sequence[Delayed], DaskMethodsMixin):
    """Tasks of Dask, one for each product; computed together, a list of their results.

    With ``concat_dim`` that is one data set, or one array, of all results.

    Parameters
    ----------
    graph : mapping of str to task
        The tasks by their keys, in order, or what became of them.
    products : sequence of Product
        The product of each.
    concat_dim : str, optional
        The dimension along which results are put together.

    Attributes
    ----------
    products : list of Product
        The products, in the order of the tasks.
    concat_dim : str or None
        The dimension.
    """

    __dask_scheduler__ = staticmethod(threaded.get)
    __dask_optimize__ = staticmethod(optimize)

    def __init__(
        self, graph: Mapping[str, Any], products: Sequence[Product], concat_dim: str | None = None
    ) -> None:
        self.products = list(products)
        self.concat_dim = concat_dim
        self._graph = dict(graph)
        self._keys = list(graph)

    def compute(self, **options: Any) -> Any:
        """Compute all tasks: a list of results, or with ``concat_dim`` what they make together.

        Parameters
        ----------
        **options
            As for :func:`dask.compute`, such as ``scheduler``.
        """
        return super().compute(**options)  # type: ignore[no-untyped-call]

    def plan(self) -> Plan:
        """Return what computing all tasks costs: orders, bytes, time, room. Orders nothing."""
        from hda_fsspec.planning.plan import Plan, plan_of

        wanted = lazy_imports.products_read(self)
        if not wanted:
            return Plan()
        client = next(iter(wanted)).client
        return plan_of(client, [product for source in wanted for product in source.pieces])

    @overload
    def __getitem__(self, number: int) -> Delayed: ...

    @overload
    def __getitem__(self, number: slice) -> ProductTasks: ...

    def __getitem__(self, number: int | slice) -> Delayed | ProductTasks:
        if isinstance(number, slice):
            graph = {key: self._graph[key] for key in self._keys[number]}
            return ProductTasks(graph, self.products[number], self.concat_dim)
        key = self._keys[number]
        return Delayed(key, {key: self._graph[key]})  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Delayed]:
        return (self[number] for number in range(len(self)))

    def __dask_graph__(self) -> dict[str, Any]:
        return self._graph

    def __dask_keys__(self) -> list[str]:
        return self._keys

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (type(self).__name__, tuple(self._keys), self.concat_dim)

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _put_together, (self.products, self.concat_dim)

    def __dask_postpersist__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _rebuilt, (self._keys, self.products, self.concat_dim)

    def __repr__(self) -> str:
        along = "" if self.concat_dim is None else f" along {self.concat_dim!r}"
        return f"<ProductTasks: {len(self)} products{along}>"


def _products(
    client: Client, given: Sequence[Any], options: OpenOptions
) -> list[tuple[str, Product]]:
    """Return the path and the record of each product that is meant, in order."""
    if not given:
        msg = "Nothing to map: no path was given. Give a query, a pattern, or paths of products."
        raise FileNotFoundError(msg)
    found: list[tuple[str, Product]] = []
    for location in map(Location.parse, given):
        if location.dataset is None:
            msg = f"Cannot map {location.path}: name a data set, and a query or a product of it."
            raise LocationError(msg)
        if location.product is not None:
            products = [client.product_to_open(location)]
        else:
            products = sorted(client.search(location), key=by_time)
        if not products:
            raise no_products_error("map", location.path)
        lazy_imports.check_can_be_read(location, products, options)
        directory = location.directory
        found += [(directory.child(product.product_id).path, product) for product in products]
    return found


def _check_function(function: object) -> None:
    if not callable(function):
        msg = f"map_products calls a function with each product, and {function!r} is none."
        raise TypeError(msg)


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that products are not opened with, as Python does."""
    known = {*_OWN_OPTIONS, *DECODERS}
    for name in sorted(options.keys() - known):
        if name in {"chunks", "cache", *(HDABackendEntrypoint.open_dataset_parameters or ())}:
            why = "which belongs to a whole query: here each product is opened by itself"
        else:
            why = f"which products are not opened with; there are {', '.join(sorted(known))}"
        msg = f"map_products was given {name}=, {why}. Leave it out. Nothing was ordered."
        raise TypeError(msg)


def _put_together(
    results: Sequence[Any], products: Sequence[Product], concat_dim: str | None
) -> Any:
    """Return the results as a list, or as one along a dimension."""
    if concat_dim is None:
        return list(results)
    pairs = [
        (result, product)
        for result, product in zip(results, products, strict=True)
        if result is not None
    ]
    if not pairs:
        msg = (
            f"Nothing to put together along {concat_dim!r}: for each of {len(products)} products "
            "the function returned None. Give a function that returns a data set or an array."
        )
        raise QueryError(msg, key="concat_dim")
    kind = xr.DataArray if isinstance(pairs[0][0], xr.DataArray) else xr.Dataset
    for result, product in pairs:
        if not isinstance(result, kind):
            msg = (
                f"Results are put together along {concat_dim!r} if all are data sets, or all "
                f"arrays of xarray; for {printable(product.product_id)} the function returned a "
                f"{type(result).__name__}. Leave concat_dim out to have a list of results."
            )
            raise QueryError(msg, key="concat_dim")
    values: list[Any] = [result for result, _ in pairs]
    if concat_dim == _TIME and not any(
        _TIME in result.dims or _TIME in result.coords for result in values
    ):
        values = [_timed(result, product) for result, product in pairs]
    is_new = not any(concat_dim in result.dims for result in values)
    try:
        return xr.concat(
            values,
            concat_dim,
            data_vars="all" if is_new else "minimal",
            coords="minimal",
            compat="equals",
            join="exact",
            combine_attrs="drop_conflicts",
        )
    except ValueError as err:
        msg = (
            f"The results of {len(values)} products cannot be put together along {concat_dim!r}: "
            f"{printable(err)}. Bring them to one grid in the function; or leave concat_dim out, "
            "and put the list of results together with xr.concat or xr.merge as you need it."
        )
        raise ProductMismatchError(msg) from err


def _timed(result: Any, product: Product) -> Any:
    if product.startdate is None:
        return result
    (start,) = start_times([(product.product_id, product.startdate)])
    return result.assign_coords({_TIME: ((), start, {"standard_name": "time"})})


def _rebuilt(
    graph: Mapping[str, Any],
    keys: Sequence[str],
    products: Sequence[Product],
    concat_dim: str | None,
    *,
    rename: Mapping[str, str] | None = None,
) -> ProductTasks:
    """Return tasks as they stand in another graph: optimised, or as results or futures of them."""
    names = [(rename or {}).get(key, key) for key in keys]
    return ProductTasks({name: graph[name] for name in names}, products, concat_dim)
