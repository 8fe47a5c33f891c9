"""The products of a query as one compact, picklable table.

All variables of a data set share one table, and so do all tasks of a process, however often it
is unpickled: what travels is some fifty bytes for each product.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import weakref
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from hda_fsspec.client import Client, get_client
from hda_fsspec.concurrency.forks import ForkLock
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.records import Product
from hda_fsspec.settings import Settings
from hda_fsspec.subsets.grid import PieceGrid

_LEFT_OUT = ("properties", "bbox", "footprint")
_COLUMNS = tuple(f.name for f in dataclasses.fields(Product) if f.name not in _LEFT_OUT)
#: What the products of one query have in common, so that it is written once.
_COMMON = ("dataset_id", "broker", "request")

_known: weakref.WeakValueDictionary[bytes, ProductTable] = weakref.WeakValueDictionary()
_known_lock = ForkLock()


class ProductTable(Sequence[Product]):
    """Products by number, without their further metadata.

    Tables are immutable, hashable, and equal if their products are.

    Parameters
    ----------
    products : sequence of Product
        The products, in their order.
    origin : PieceGrid, optional
        How the query was cut that they are pieces of, numbered as they are. It says what they
        cost; no pickle carries it.
    """

    __slots__ = ("__dict__", "__weakref__", "_packed", "origin")

    def __init__(self, products: Sequence[Product], origin: PieceGrid | None = None) -> None:
        self.origin = origin
        columns = {name: [getattr(product, name) for product in products] for name in _COLUMNS}
        for name in _COMMON:
            if len(set(columns[name])) == 1:
                columns[name] = columns[name][:1]
        text = json.dumps(list(columns.values()), separators=(",", ":"), ensure_ascii=False)
        self._packed = zlib.compress(text.encode(errors="surrogatepass"), 6)

    @staticmethod
    def _restore(packed: bytes) -> ProductTable:
        # No class method: cloudpickle would copy those by value, together with the lock.
        with _known_lock:
            pieces = _known.get(packed)
            if pieces is None:
                pieces = ProductTable.__new__(ProductTable)
                pieces._packed = packed
                pieces.origin = None
                _known[packed] = pieces
            return pieces

    def __reduce__(self) -> tuple[Any, ...]:
        return ProductTable._restore, (self._packed,)

    @functools.cached_property
    def _products(self) -> tuple[Product, ...]:
        columns = dict(zip(_COLUMNS, json.loads(zlib.decompress(self._packed)), strict=True))
        count = len(columns["product_id"])
        for name in _COMMON:
            if len(columns[name]) == 1:
                columns[name] *= count
        # In the order of the fields: ten thousand products are made in a moment.
        every = [columns.get(f.name, [f.default] * count) for f in dataclasses.fields(Product)]
        return tuple(Product(*row) for row in zip(*every, strict=True))

    @functools.cached_property
    def digest(self) -> str:
        """A hash of all products, equal in all processes."""
        return hashlib.sha256(self._packed).hexdigest()

    def __len__(self) -> int:
        return len(self._products)

    def __getitem__(self, number: Any) -> Any:
        return self._products[number]

    def __iter__(self) -> Iterator[Product]:
        return iter(self._products)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProductTable) and self._packed == other._packed

    def __hash__(self) -> int:
        return hash(self._packed)

    def __dask_tokenize__(self) -> str:
        return self.digest

    def __repr__(self) -> str:
        return f"<Pieces: {len(self)} products>"


class _WithClient:
    """The client of a source, which no pickle carries."""

    __slots__ = ("_client",)
    _client: Client


@dataclasses.dataclass(frozen=True, slots=True)
class Source(_WithClient):
    """Where values come from.

    Attributes
    ----------
    settings : Settings
        Which service, as whom, with which cache.
    pieces : ProductTable
        The products.
    options : OpenOptions
        How they are opened.
    node : str or None
        Which dataset of the tree that a product is opened as; None where it is one dataset.
    """

    settings: Settings
    pieces: ProductTable
    options: OpenOptions
    node: str | None = None

    @property
    def client(self) -> Client:
        """What makes the products local in this process."""
        # Each read asks, and to hash all settings takes as long as to find the file.
        found: Client | None = getattr(self, "_client", None)
        if found is None or found.is_closed:
            found = get_client(self.settings)
            object.__setattr__(self, "_client", found)
        return found

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        # Who reads does not change what is read.
        return (self.settings.endpoint_url, self.pieces.digest, repr(self.options), self.node)
