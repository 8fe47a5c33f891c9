"""A grid of products: along which axes they are stacked, and in which of them a position lies.

Pure numbers: it has never heard of products, headers or files. An axis splits a dimension of the
data, and each of its parts holds some steps of that; one axis at most splits none, and tells kinds
of products apart, which hold different variables. A time series has one axis.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from hda_fsspec.lazy.fingerprint import digest_of
from hda_fsspec.timeindex.overlaps import Segments

Array = np.ndarray[Any, Any]

#: In place of a product where the grid has none.
NOTHING = -1


@dataclasses.dataclass(frozen=True, eq=False)
class GridAxis:
    """One axis of a grid.

    Attributes
    ----------
    name : str
        What it is called in messages: ``time``, a key of the query, ``kind``.
    dim : str or None
        The dimension of the data that it splits; None: it tells kinds of products apart.
    lengths : numpy.ndarray
        Steps of each part along the dimension, int64.
    index : numpy.ndarray or None
        What products hold as the coordinate of the dimension, as it is predicted: the values of
        all parts, 1-D; None where the dimension has no coordinate.
    shown : numpy.ndarray or None
        The same as files store it, where that is not just the same.
    segments : Segments or None
        Which steps of which parts the dimension is made of; None: all of them, in their order.
    """

    name: str
    dim: str | None
    lengths: Array
    index: Array | None = None
    shown: Array | None = None
    segments: Segments | None = None

    @classmethod
    def of_kinds(cls, count: int) -> GridAxis:
        """Return the axis of some kinds of products."""
        return cls("kind", None, np.ones(count, np.int64))

    @property
    def count(self) -> int:
        """How many parts there are."""
        return len(self.lengths)

    @functools.cached_property
    def parts(self) -> Segments:
        """The steps that the dimension is made of, in order."""
        return Segments.whole(self.lengths) if self.segments is None else self.segments

    @functools.cached_property
    def _ends(self) -> Array:
        return np.cumsum(self.parts.counts)

    @functools.cached_property
    def _begins(self) -> Array:
        return np.cumsum(self.lengths) - self.lengths

    @functools.cached_property
    def total(self) -> int:
        """The length of the dimension."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @functools.cached_property
    def chunks(self) -> int | tuple[int, ...]:
        """The chunks that the products prefer: none reads two of them."""
        counts = self.parts.counts[self.parts.counts > 0]
        if not counts.size:
            return 0
        return int(counts[0]) if (counts == counts[0]).all() else tuple(counts.tolist())

    @property
    def coordinate(self) -> Array | None:
        """The index as it is shown, one value for each step of the dimension."""
        shown = self.index if self.shown is None else self.shown
        if shown is None or self.segments is None:
            return shown
        return shown[self.segments.steps(self.lengths)]

    @property
    def part_of_each(self) -> Array:
        """The part that each step of the dimension lies in."""
        return self.parts.products.repeat(self.parts.counts)

    def located(self, positions: Array) -> tuple[Array, Array]:
        """Return the part that each position lies in, and which of its steps it is."""
        segment = np.searchsorted(self._ends, positions, side="right")
        parts = self.parts
        steps = positions - (self._ends - parts.counts)[segment] + parts.firsts[segment]
        return parts.products[segment], steps

    def parts_at(self, key: Any) -> Array:
        """Return the parts that a slice, an integer or an array of positions lies in.

        Each is named once, in no particular order.
        """
        if isinstance(key, slice):
            first, stop, step = key.indices(self.total)
            if step == 1:
                if first >= stop:
                    return np.zeros(0, np.int64)
                low = int(np.searchsorted(self._ends, first, side="right"))
                high = int(np.searchsorted(self._ends, stop - 1, side="right")) + 1
                found = self.parts.products[low:high]
                if self.segments is not None:
                    return np.unique(found[self.parts.counts[low:high] > 0])
                return found if high - low == 1 else found[self.lengths[low:high] > 0]
        return np.unique(self.located(np.atleast_1d(self.positions(key)))[0])

    def positions(self, key: Any) -> Any:
        """Return the positions of part of a key: an integer, or an array of them."""
        if isinstance(key, slice):
            return np.arange(*key.indices(self.total))
        positions = np.asarray(key)
        return np.where(positions < 0, positions + self.total, positions)

    def index_of(self, part: int) -> Array | None:
        """Return the values that one part of the index must have."""
        first = int(self._begins[part])
        return None if self.index is None else self.index[first : first + int(self.lengths[part])]

    @property
    def facts(self) -> tuple[Any, ...]:
        """The values that tell it from other axes, for hashes."""
        coordinate = self.coordinate
        parts = self.parts
        return (
            self.name,
            self.dim,
            "" if coordinate is None else digest_of(coordinate),
            *map(digest_of, (parts.products, parts.firsts, parts.counts)),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """Products by where they stand along each axis; the last axis runs fastest.

    Attributes
    ----------
    axes : tuple of GridAxis
        The axes, at least one.
    cells : numpy.ndarray or None
        The number of the product of each cell, of the shape of the grid, ``NOTHING`` where there
        is none; None: there is one in each, numbered along the axes.
    """

    axes: tuple[GridAxis, ...]
    cells: Array | None = None

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """How many parts each axis has."""
        return tuple(axis.count for axis in self.axes)

    @functools.cached_property
    def kind_axis(self) -> int | None:
        """The axis that tells kinds of products apart."""
        return next((n for n, axis in enumerate(self.axes) if axis.dim is None), None)

    def numbers(self, parts: Sequence[Any]) -> Array:
        """Return the numbers of the products at parts of each axis, which are broadcast."""
        if self.cells is None:
            if len(parts) == 1:
                return np.asarray(parts[0])
            found: Array = np.asarray(np.ravel_multi_index(np.broadcast_arrays(*parts), self.shape))
            return found
        return np.asarray(self.cells[tuple(parts)])

    def parts_of(self, number: int) -> tuple[int, ...]:
        """Return at which part of each axis a product stands."""
        if len(self.axes) == 1 and self.cells is None:
            return (number,)
        cell = number if self._cell_of is None else self._cell_of[number]
        return tuple(int(part) for part in np.unravel_index(cell, self.shape))

    @functools.cached_property
    def _cell_of(self) -> Array | None:
        """The cell of each product, counted along the axes."""
        if self.cells is None:
            return None
        flat = self.cells.ravel()
        filled = np.flatnonzero(flat != NOTHING)
        found = np.zeros(len(filled), np.int64)
        found[flat[filled]] = filled
        return found

    def has_gaps(self, kind: int) -> bool:
        """Whether products of a kind are missing in the grid."""
        if self.cells is None:
            return False
        kinds = 1 if self.kind_axis is None else self.shape[self.kind_axis]
        return self.numbers_of(kind).size < self.cells.size // kinds

    def numbers_of(self, kind: int) -> Array:
        """Return the numbers of all products of a kind, along the axes."""
        every = self.numbers(np.ogrid[tuple(slice(count) for count in self.shape)])
        if self.kind_axis is not None:
            every = every.take(kind, axis=self.kind_axis)
        numbers: Array = every.ravel()
        found: Array = numbers[numbers != NOTHING]
        return found
