"""The products of a query as one compact, picklable table.

All variables of a data set share one table, and so do all tasks of a process, however often it
is unpickled: what travels is some fifty bytes for each product.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import operator
import weakref
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from hda_fsspec.catalogue.json_codecs import pack_products, unpack_products
from hda_fsspec.client import Client, get_client
from hda_fsspec.concurrency.forks import ForkLock
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.records import Product
from hda_fsspec.settings import Settings
from hda_fsspec.subsets.piece_grid import PieceGrid

#: What no read needs; a record that a worker unpickles is without it.
_LEFT_OUT = frozenset({"properties", "bbox", "footprint"})
#: So many products are packed together: who reads one unpacks no more than these.
_BLOCK = 1024

_known: weakref.WeakValueDictionary[tuple[bytes, ...], ProductTable] = weakref.WeakValueDictionary()
_known_lock = ForkLock()


class ProductTable(Sequence[Product]):
    """Products by number.

    Tables are immutable, hashable, and equal if their products are. They are packed when they are
    first pickled, and unpacked as far as they are read; what a read does not need of a product,
    its further metadata, does not travel.

    Parameters
    ----------
    products : sequence of Product
        The products, in their order.
    origin : PieceGrid, optional
        How the query was cut that they are pieces of, numbered as they are. It says what they
        cost; no pickle carries it.
    """

    __slots__ = ("__dict__", "__weakref__", "_blocks", "_count", "origin")

    def __init__(self, products: Sequence[Product], origin: PieceGrid | None = None) -> None:
        self.origin = origin
        self._count = len(products)
        self._blocks: list[Sequence[Product] | None] = [
            tuple(products[first : first + _BLOCK]) for first in range(0, self._count, _BLOCK)
        ]

    @staticmethod
    def _restore(count: int, packed: tuple[bytes, ...]) -> ProductTable:
        # No class method: cloudpickle would copy those by value, together with the lock.
        with _known_lock:
            pieces = _known.get(packed)
            if pieces is None:
                pieces = ProductTable.__new__(ProductTable)
                pieces.origin = None
                pieces._count = count
                pieces._blocks = [None] * len(packed)
                pieces.__dict__["_packed"] = packed
                _known[packed] = pieces
            return pieces

    def __reduce__(self) -> tuple[Any, ...]:
        return ProductTable._restore, (self._count, self._packed)

    @functools.cached_property
    def _packed(self) -> tuple[bytes, ...]:
        return tuple(_packed_block(self._block(number)) for number in range(len(self._blocks)))

    def _block(self, number: int) -> Sequence[Product]:
        block = self._blocks[number]
        if block is None:
            block = self._blocks[number] = _unpacked_block(self._packed[number])
        return block

    @functools.cached_property
    def digest(self) -> str:
        """A hash of all products, their versions and locators, equal in all processes."""
        found = hashlib.sha256()
        for number in range(len(self._blocks)):
            block = self._block(number)
            texts = [p.key for p in block] + [p.location for p in block]
            # Their lengths keep the borders between them, in half of the time that JSON takes.
            facts = [[*column] for column in zip(*(p.version for p in block), strict=True)]
            found.update(json.dumps([*facts, [*map(len, texts)]]).encode())
            found.update("".join(texts).encode(errors="surrogatepass"))
        return found.hexdigest()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return tuple(self[index] for index in range(*number.indices(self._count)))
        place = operator.index(number)
        place += self._count if place < 0 else 0
        if not 0 <= place < self._count:
            msg = f"There is no product {number} among {self._count}."
            raise IndexError(msg)
        return self._block(place // _BLOCK)[place % _BLOCK]

    def __iter__(self) -> Iterator[Product]:
        for number in range(len(self._blocks)):
            yield from self._block(number)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, ProductTable) or self._count != other._count:
            return False
        return self._packed == other._packed

    def __hash__(self) -> int:
        # Equal tables have equal first and last products.
        return hash((self._count, *(self[n].product_id for n in (0, -1) if self._count)))

    def __dask_tokenize__(self) -> str:
        return self.digest

    def __repr__(self) -> str:
        return f"<ProductTable: {len(self)} products>"


def _packed_block(products: Sequence[Product]) -> bytes:
    columns = pack_products(products, left_out=_LEFT_OUT)
    text = json.dumps(columns, separators=(",", ":"), ensure_ascii=False)
    return zlib.compress(text.encode(errors="surrogatepass"), 6)


def _unpacked_block(packed: bytes) -> Sequence[Product]:
    found = unpack_products(json.loads(zlib.decompress(packed).decode(errors="surrogatepass")))
    if found is None:
        msg = "Cannot read a pickled table of products: another version of hda_fsspec wrote it."
        raise ValueError(msg)
    return tuple(found)


class _WithClient:
    """The client of a source, which no pickle carries."""

    __slots__ = ("_client",)
    _client: Client


@dataclasses.dataclass(frozen=True, slots=True)
class Source(_WithClient):
    """The source of values: products, settings, and how they are opened.

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
        """The client that makes the products local in this process."""
        # Each read asks, and to hash all settings takes as long as to find the file.
        found: Client | None = getattr(self, "_client", None)
        if found is None or found.is_closed:
            found = get_client(self.settings)
            object.__setattr__(self, "_client", found)
        return found

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        # Who reads does not change what is read.
        return (self.settings.endpoint_url, self.pieces.digest, repr(self.options), self.node)
