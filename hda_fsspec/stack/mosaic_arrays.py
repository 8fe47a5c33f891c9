"""A variable of tiles that lie beside each other: which of them an index lies in, and reading them.

Each tile is a variable of its own, which knows nothing of the others.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from dask.base import tokenize

from hda_fsspec.fetching.readahead import ReadAhead
from hda_fsspec.lazy.arrays import HDABackendArray, is_empty
from hda_fsspec.lazy.fingerprint import digest_of
from hda_fsspec.lazy.product_table import Source
from hda_fsspec.reading.indexing import Key, compact, missing_value, with_missing
from hda_fsspec.records import Product
from hda_fsspec.stack.arrays import together
from hda_fsspec.stack.mosaic_placement import Part, Placement

_Array = np.ndarray[Any, Any]

#: A variable of one tile: lazy, or values that are at hand.
TileArray = HDABackendArray | _Array


class MosaicArray(HDABackendArray):
    """A variable of which each tile holds a part; missing where there is no tile.

    Parameters
    ----------
    source : Source
        The products of all tiles, one tile after another.
    name : str
        The variable.
    dims : sequence of str
        Its dimensions.
    tiles : sequence of HDABackendArray or numpy.ndarray
        The variable of each tile.
    begins : sequence of int
        The number of the first product of each tile in the source.
    placement : Placement
        Where they lie.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        dims: Sequence[str],
        tiles: Sequence[TileArray],
        *,
        begins: Sequence[int],
        placement: Placement,
    ) -> None:
        self.dims = tuple(dims)
        self.tiles = tuple(tiles)
        self.begins = tuple(begins)
        self.placement = placement
        lengths = placement.lengths()
        sizes = np.max([tile.shape for tile in tiles], axis=0).tolist()
        shape = [lengths.get(dim, size) for dim, size in zip(self.dims, sizes, strict=True)]
        dtype = np.result_type(*(tile.dtype for tile in tiles))
        if placement.has_gaps():
            dtype = with_missing(dtype)
        super().__init__(source, name, shape, dtype)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        placement = self.placement
        facts = [
            (axis.dim, digest_of(axis.firsts), digest_of(axis.counts)) for axis in placement.axes
        ]
        times = None if placement.times is None else digest_of(placement.times)
        tokens = hashlib.sha256(repr([tokenize(tile) for tile in self.tiles]).encode()).hexdigest()
        return (type(self).__name__, tokens, self.name, repr(facts), times, str(self.dtype))

    def read(self, key: Key) -> Any:
        """Return the values at a key, across tiles; what is not local is fetched first."""
        wanted = self._positions(key)
        parts = list(self._parts(wanted))
        shape = [len(positions) for positions in wanted]
        covered = sum(int(np.prod([len(t) for t in part.targets.values()])) for part in parts)
        lengths = [n for n, dim in zip(shape, self.dims, strict=True) if dim in self.placement.dims]
        is_whole = covered == int(np.prod(lengths))
        out = (
            np.empty(shape, self.dtype)
            if is_whole
            else np.full(shape, missing_value(self.dtype), self.dtype)
        )
        products = [self._products(part, wanted) for part in parts]
        with ReadAhead(self.source.client, list(itertools.chain(*products))) as ahead:
            ahead.advance()
            for part, its_products in zip(parts, products, strict=True):
                target: list[Any] = [part.targets.get(dim, slice(None)) for dim in self.dims]
                out[together(target, shape)] = self._read(part, wanted)
                for product in its_products:
                    ahead.mark_read(product)
        taken = tuple(
            slice(None) if isinstance(indexer, slice) or np.ndim(indexer) else 0 for indexer in key
        )
        return out[(*taken, ...)]

    def product_numbers_at(self, key: Key) -> _Array:
        """Return the numbers of the products that reading a key would read, sorted, each once."""
        if is_empty(key, self.shape):
            return np.zeros(0, np.int64)
        wanted = self._positions(key)
        found = [self._numbers(part, wanted) for part in self._parts(wanted)]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *found]))

    def _positions(self, key: Key) -> list[_Array]:
        """Return the positions that a key selects along each axis."""
        return [
            np.atleast_1d(np.arange(size)[part]) for part, size in zip(key, self.shape, strict=True)
        ]

    def _parts(self, wanted: Sequence[_Array]) -> list[Part]:
        return list(self.placement.parts(dict(zip(self.dims, wanted, strict=True))))

    def _key(self, part: Part, wanted: Sequence[_Array]) -> Key:
        return tuple(
            compact(part.steps.get(dim, indexer))
            for dim, indexer in zip(self.dims, wanted, strict=True)
        )

    def _numbers(self, part: Part, wanted: Sequence[_Array]) -> _Array:
        tile = self.tiles[part.tile]
        if isinstance(tile, np.ndarray):
            return np.zeros(0, np.int64)
        numbers = tile.product_numbers_at(self._key(part, wanted))
        return numbers + self.begins[part.tile]

    def _products(self, part: Part, wanted: Sequence[_Array]) -> list[Product]:
        return [self.source.pieces[n] for n in self._numbers(part, wanted).tolist()]

    def _read(self, part: Part, wanted: Sequence[_Array]) -> _Array:
        tile, key = self.tiles[part.tile], self._key(part, wanted)
        if isinstance(tile, np.ndarray):
            values: _Array = tile[together(list(key), list(tile.shape))]
            return values
        return np.asarray(tile.read(key))
