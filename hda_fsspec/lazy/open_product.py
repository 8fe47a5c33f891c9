"""One product as a lazy dataset, or a lazy tree: recipes in place of handles, else as it is."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import xarray as xr
from xarray.core import indexing  # xarray documents this module for writers of backends

from hda_fsspec.client import Client
from hda_fsspec.errors import ConfigurationError, QueryError, note_once
from hda_fsspec.lazy import openfiles
from hda_fsspec.lazy.arrays import Closer, HDAVariable, ProductArray
from hda_fsspec.lazy.fingerprint import StructureFingerprint
from hda_fsspec.lazy.open_file_pool import FileStamp
from hda_fsspec.lazy.product_table import ProductTable, Source
from hda_fsspec.paths.locations import Location
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.reading.requirements import check_installed
from hda_fsspec.records import Product

logger = logging.getLogger("hda_fsspec")

#: The node of a tree that the others stand below.
ROOT = "/"
_HINT_WITHIN_SECONDS = 60.0


class Nodes(dict[str, xr.Dataset]):
    """The data sets of a tree by their paths, and what closes them all.

    A tree is not told what closes the data sets that it is made of.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.closer = Closer(source)


def open_product(client: Client, location: Location, options: OpenOptions) -> xr.Dataset:
    """Open one product lazily, with its full encoding; it is fetched first if it is not local."""
    product = client.product_to_open(location)
    options = dataclasses.replace(options, is_computed=bool(product.request))
    source = _source(client, [product], options)
    entry = client.local(product)
    if entry is None:
        check_can_be_read(location, [product], options)
        with client.resources.get(SequentialOpenHint).waiting():
            entry = openfiles.make_local(source, 0)
    return openfiles.with_dataset(
        source, 0, lambda ds, mark: as_recipes(ds, source, location.path, mark), entry=entry
    )


def open_product_tree(client: Client, location: Location, options: OpenOptions) -> Nodes:
    """Open all groups of a product, or all files of an archive product, by their nodes."""
    product = client.product_to_open(location)
    check_can_be_read(location, [product], options)
    nodes = Nodes(_source(client, [product], options))
    nodes.update(_tree(client, product, options, location.path))
    return nodes


def open_query_tree(
    client: Client,
    location: Location,
    found: Sequence[Product],
    options: OpenOptions,
    *,
    max_nodes: int,
) -> Nodes:
    """Open each product of a query as a node, named by its id; all of them are fetched first.

    Raises QueryError if more than ``max_nodes`` are not local.
    """
    missing = [p for p in found if client.cache.lookup(p, touch=False) is None]
    if len(missing) > max_nodes:
        msg = (
            f"A tree of {location.path} needs all of its {len(found)} products, and {len(missing)} "
            f"are not local: more than max_nodes={max_nodes}. Fetch them first with "
            "fs.prefetch(…), narrow the query, or raise max_nodes."
        )
        raise QueryError(msg, key="max_nodes")
    check_can_be_read(location, found, options)
    client.fetch_all(found)
    tree = Nodes(_source(client, found, options))
    for product in found:
        path = location.directory.child(product.product_id).path
        node = product.product_id.replace(ROOT, "_")
        for name, dataset in _tree(client, product, options, path).items():
            tree[f"/{node}{name.rstrip(ROOT)}"] = dataset
    return tree


def check_can_be_read(location: Location, found: Sequence[Product], options: OpenOptions) -> None:
    """Raise ConfigurationError, before anything is ordered, where the installation lacks a reader.

    Parameters
    ----------
    location : Location
        What is opened.
    found : sequence of Product
        What the listing has of it.
    options : OpenOptions
        How each product will be opened.
    """
    try:
        check_installed(options, (product.product_id for product in found), location.query)
    except (QueryError, ConfigurationError) as err:
        note_once(err, "Nothing was ordered.")
        raise


def _source(client: Client, found: Sequence[Product], options: OpenOptions) -> Source:
    return Source(client.settings, ProductTable(found), options)


def _tree(
    client: Client, product: Product, options: OpenOptions, path: str
) -> dict[str, xr.Dataset]:
    source = dataclasses.replace(_source(client, [product], options), node=ROOT)

    def work(tree: dict[str, xr.Dataset], mark: FileStamp) -> dict[str, xr.Dataset]:
        return {
            node: as_recipes(dataset, dataclasses.replace(source, node=node), path, mark)
            for node, dataset in tree.items()
        }

    return openfiles.with_tree(source, 0, work)


def as_recipes(dataset: xr.Dataset, source: Source, path: str, mark: FileStamp) -> xr.Dataset:
    """Return an open product with recipes in place of its handles.

    Index coordinates are read; a file that does not fit them any more is not, later on.
    """
    opened_as = {
        name: v.to_index_variable().copy(deep=False) if v.dims == (name,) else v
        for name, v in dataset.variables.items()
    }
    outline = StructureFingerprint(opened_as, mark)
    variables: dict[str, xr.Variable] = {}
    for name, variable in opened_as.items():
        encoding = dict(variable.encoding)
        if "source" in encoding:
            encoding["source"] = path
        if variable.dims == (name,):
            variable.encoding = encoding
            variables[str(name)] = variable
            continue
        recipe = ProductArray(source, str(name), variable.shape, variable.dtype, outline)
        data = indexing.LazilyIndexedArray(recipe)
        variables[str(name)] = HDAVariable(variable.dims, data, variable.attrs, encoding)
    coords = {str(name): variables.pop(str(name)) for name in dataset.coords}
    # Making indexes again would take a tenth of the time of opening.
    indexes = dict(dataset.xindexes) or None
    lazy = xr.Dataset(variables, xr.Coordinates(coords, indexes), attrs=dataset.attrs)
    lazy.encoding = {**dataset.encoding, "source": path}
    lazy.set_close(Closer(source))
    return lazy


class SequentialOpenHint:
    """Says once that products are being waited for one after another.

    Parameters
    ----------
    clock : callable
        Seconds, from any start.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waited_until = float("-inf")
        self._is_told = False

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Take note of a wait for one product."""
        with self._lock:
            is_second = self._clock() - self._waited_until <= _HINT_WITHIN_SECONDS
            is_told, self._is_told = self._is_told, self._is_told or is_second
        if is_second and not is_told:
            logger.warning(
                "Products are ordered one after another as they are opened. fs.prefetch(…), or "
                "hda_fsspec.open_mfdataset, orders them all at one time."
            )
        try:
            yield
        finally:
            with self._lock:
                self._waited_until = self._clock()
