"""Many products as one lazy array: what each is expected to be, and reading across them.

A :class:`Stack` is shared by all variables of a data set. Every product is checked when it is
first read in a process; one that differs raises, so that no value is ever silently shifted.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import hashlib
import json
import logging
import threading
import warnings
import weakref
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hda_fsspec import headers, opened
from hda_fsspec.errors import DownloadError, OrderError, ProductFormatError
from hda_fsspec.headers import Header
from hda_fsspec.layouts import Expected, Layout
from hda_fsspec.opening import OpenOptions
from hda_fsspec.products import Entry, shared_products
from hda_fsspec.recipes import Key, RecipeArray, Source, key_lengths

logger = logging.getLogger("hda_fsspec")

# Only what the service or the network did to one product may become missing values; never a
# mismatch, and never what holds for all products alike (credentials, licences, quota, offline).
_CANNOT_BE_HAD = (OrderError, DownloadError, ProductFormatError)

_known: weakref.WeakValueDictionary[tuple[Source, bytes], Stack] = weakref.WeakValueDictionary()
_known_lock = threading.Lock()


class Stack:
    """Products along one dimension, as they are expected to be.

    Parameters
    ----------
    source : Source
        The products, in the order of the index.
    layout : Layout
        How they lie along the dimension.
    template : Header
        The header that all must agree with.
    lengths : numpy.ndarray
        Steps of each product, int64.
    index : numpy.ndarray or None
        The index of the whole, 1-D; None where the dimension has no coordinate.
    tolerance : numpy.timedelta64 or float
        How far a product's own index may be from it.
    on_missing : {"raise", "nan"}
        What to do with a product that cannot be had.
    mark : str
        Under which headers are kept; see :func:`headers_mark`.
    """

    def __init__(
        self,
        source: Source,
        layout: Layout,
        template: Header,
        lengths: np.ndarray[Any, Any],
        index: np.ndarray[Any, Any] | None,
        *,
        tolerance: Any,
        on_missing: str,
        mark: str,
    ) -> None:
        self.source = source
        self.layout = layout
        self.template = template
        self.lengths = lengths
        self.index = index
        self.tolerance = tolerance
        self.on_missing = on_missing
        self.mark = mark
        self.ends = np.cumsum(lengths)
        self._checked: set[tuple[int, str]] = set()
        self._told: set[int] = set()

    @functools.cached_property
    def _packed(self) -> bytes:
        layout, tolerance = self.layout, self.tolerance
        is_time = isinstance(tolerance, np.timedelta64)
        state = {
            "layout": [layout.dim, layout.is_new, layout.has_index, layout.is_from_catalogue],
            "stacked": layout.stacked,
            "template": self.template.to_json(),
            "lengths": headers.array_to_json(self.lengths),
            "index": None if self.index is None else headers.array_to_json(self.index),
            "tolerance": [
                is_time,
                int(tolerance / np.timedelta64(1, "ns")) if is_time else tolerance,
            ],
            "on_missing": self.on_missing,
            "mark": self.mark,
        }
        return zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 6)

    @classmethod
    def _restore(cls, source: Source, packed: bytes) -> Stack:
        with _known_lock:
            found = _known.get((source, packed))
            if found is not None:
                return found
            state = json.loads(zlib.decompress(packed))
            template = Header.from_json(state["template"])
            if template is None:
                msg = "Cannot read a pickled stack: another version of hda_fsspec wrote it."
                raise ValueError(msg)
            is_time, tolerance = state["tolerance"]
            found = cls(
                source,
                Layout(*state["layout"], stacked=tuple(state["stacked"])),
                template,
                headers.array_from_json(state["lengths"]),
                None if state["index"] is None else headers.array_from_json(state["index"]),
                tolerance=np.timedelta64(tolerance, "ns") if is_time else tolerance,
                on_missing=state["on_missing"],
                mark=state["mark"],
            )
            found.__dict__["_packed"] = packed
            _known[source, packed] = found
            return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Stack._restore, (self.source, self._packed)

    @functools.cached_property
    def digest(self) -> str:
        """A hash of products, options and index; which product was the template is left out."""
        index = "" if self.index is None else headers.digest_of(self.index)
        facts = (*self.source.__dask_tokenize__(), self.layout, index, self.on_missing)
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    @property
    def total(self) -> int:
        """The length of the dimension."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def numbers_at(self, positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return in which product each position along the dimension lies."""
        return np.searchsorted(self.ends, positions, side="right")

    def expected(self, number: int) -> Expected:
        """Return what one product must be like."""
        first = int(self.ends[number] - self.lengths[number])
        length = int(self.lengths[number])
        index = None
        if self.index is not None and self.layout.has_index:
            index = self.index[first : first + length]
        return Expected(
            product_id=self.source.pieces[number].product_id,
            template=self.template,
            layout=self.layout,
            index=index,
            length=length,
            tolerance=self.tolerance,
        )

    def read(
        self, fetch: concurrent.futures.Future[Entry], number: int, name: str, key: Key
    ) -> np.ndarray[Any, Any] | None:
        """Read part of a variable of one product; None if it is missing and may be."""

        def work(dataset: xr.Dataset, entry: Entry) -> np.ndarray[Any, Any]:
            self._check(number, dataset, entry)
            return np.asarray(dataset.variables[name][key].values)

        try:
            fetch.result()
            found: np.ndarray[Any, Any] = opened.use(self.source, number, work)
        except _CANNOT_BE_HAD as err:
            if self.on_missing != "nan":
                raise
            self._tell_missing(number, err)
            return None
        return found

    def _check(self, number: int, dataset: xr.Dataset, entry: Entry) -> None:
        mark = (number, str(entry.path))
        if mark in self._checked:
            return
        header = take_header(dataset, self.layout)
        self.expected(number).check(header)
        keep_header(self.source, self.mark, number, header)
        self._checked.add(mark)

    def _tell_missing(self, number: int, err: Exception) -> None:
        if number in self._told:
            return
        self._told.add(number)
        warnings.warn(
            f"The values of {self.source.pieces[number].product_id} are missing, since it cannot "
            f"be had: {err}",
            stacklevel=2,
        )

    def fetch_ahead(
        self, numbers: Sequence[int]
    ) -> Iterator[tuple[int, concurrent.futures.Future[Entry]]]:
        """Yield products in order, with the fetches of those that follow under way."""
        settings = self.source.settings
        products = shared_products(settings)
        ahead = settings.max_orders + settings.max_connections
        queue: collections.deque[concurrent.futures.Future[Entry]] = collections.deque()
        following = iter(numbers)
        for number in numbers:
            while len(queue) < ahead and (product := next(following, None)) is not None:
                queue.append(products.fetch(self.source.pieces[product]))
            yield number, queue.popleft()


class StackArray(RecipeArray):
    """A variable that lies along the dimension of a stack.

    Parameters
    ----------
    stack : Stack
        The products.
    name : str
        The variable.
    dims : sequence of str
        Its dimensions in the stack.
    """

    def __init__(self, stack: Stack, name: str, dims: Sequence[str]) -> None:
        dim = stack.layout.dim
        sizes = {**stack.template.sizes, dim: stack.total}
        dtype = stack.template.variables[name].dtype
        if stack.on_missing == "nan":
            dtype = _with_missing(dtype)
        super().__init__(stack.source, name, [sizes[d] for d in dims], dtype)
        self.stack = stack
        self.dims = tuple(dims)
        self._axis = self.dims.index(dim)
        # Variables that lack the dimension get it as a new first one.
        self._is_added = dim not in stack.template.variables[name].dims

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (type(self).__name__, self.stack.digest, self.name)

    def pieces_at(self, key: Key) -> np.ndarray[Any, Any]:
        """Return the numbers of the products that reading a key would read, sorted, each once."""
        if any(length == 0 for length in key_lengths(key, self.shape)):
            return np.zeros(0, dtype=np.int64)
        return np.unique(self.stack.numbers_at(np.atleast_1d(self._positions(key))))

    def _positions(self, key: Key) -> Any:
        """Return the positions along the dimension: an integer, or an array of them."""
        one = key[self._axis]
        if isinstance(one, slice):
            return np.arange(*one.indices(self.stack.total))
        positions = np.asarray(one)
        return np.where(positions < 0, positions + self.stack.total, positions)

    def read(self, key: Key) -> Any:
        """Return the values at a key, across products; what is not local is fetched first."""
        positions = np.asarray(self._positions(key))
        flat = np.atleast_1d(positions)
        lengths = key_lengths(key, self.shape)
        shape = [length for length, one in zip(lengths, key, strict=True) if np.ndim(_array(one))]
        if 0 in lengths:
            return np.empty(shape, dtype=self.dtype)
        numbers = self.stack.numbers_at(flat)
        wanted = list(dict.fromkeys(numbers.tolist()))
        out_axis = sum(np.ndim(_array(one)) > 0 for one in key[: self._axis])
        full = list(shape)
        if positions.ndim == 0:
            full.insert(out_axis, 1)
        out: np.ndarray[Any, Any] | None = None
        for number, fetch in self.stack.fetch_ahead(wanted):
            where = np.flatnonzero(numbers == number)
            start = int(self.stack.ends[number] - self.stack.lengths[number])
            read = functools.partial(self.stack.read, fetch, number, self.name)
            values = self._read_piece(read, flat[where] - start, key)
            if len(wanted) == 1 and values is not None:
                out = values.astype(self.dtype, copy=False)
                break
            if out is None:
                out = np.empty(full, dtype=self.dtype)
            target = (*[slice(None)] * out_axis, where)
            out[target] = _missing_value(self.dtype) if values is None else values
        if out is None:
            raise AssertionError
        return out.take(0, axis=out_axis) if positions.ndim == 0 else out

    def _read_piece(
        self,
        read: Callable[[Key], np.ndarray[Any, Any] | None],
        local: np.ndarray[Any, Any],
        key: Key,
    ) -> np.ndarray[Any, Any] | None:
        """Read positions of one product, along the dimension as an axis of its own."""
        axis = self._axis
        if not self._is_added:
            return read((*key[:axis], _compact(local), *key[axis + 1 :]))
        values = read((*key[:axis], *key[axis + 1 :]))
        if values is None:
            return None
        out_axis = sum(np.ndim(_array(one)) > 0 for one in key[:axis])
        return np.repeat(np.expand_dims(values, out_axis), len(local), axis=out_axis)


def _with_missing(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that also holds missing values, as xarray promotes it."""
    if dtype.kind in "fcmMO":
        return dtype
    if dtype.kind in "iu":
        return np.dtype("float32" if dtype.itemsize <= 2 else "float64")
    return np.dtype(object)


def _missing_value(dtype: np.dtype[Any]) -> Any:
    return np.array("NaT", dtype=dtype) if dtype.kind in "mM" else np.nan


def _array(one: Any) -> Any:
    """Return something whose ndim tells whether a key keeps its axis."""
    return [0] if isinstance(one, slice) else one


def _compact(positions: np.ndarray[Any, Any]) -> Any:
    """Return positions as a slice where they are one: formats read slices faster."""
    if len(positions) == 1:
        return slice(int(positions[0]), int(positions[0]) + 1)
    steps = np.diff(positions)
    if (steps == steps[0]).all() and steps[0] > 0:
        return slice(int(positions[0]), int(positions[-1]) + 1, int(steps[0]))
    return positions


def take_header(dataset: xr.Dataset, layout: Layout) -> Header:
    """Take the header that a layout needs from an open product."""
    bare = Header.of(dataset, keep=(), digest=())
    return Header.of(dataset, keep=layout.kept(bare), digest=layout.compared(bare))


def headers_mark(
    options: OpenOptions, concat_dim: str | None, concat_variables: Collection[str]
) -> str:
    """Return what tells headers apart that were taken with other options."""
    facts = (options, concat_dim, sorted(concat_variables))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def kept_header(source: Source, mark: str, number: int) -> Header | None:
    """Return the header of a product that was kept on disk, if it was taken with these options."""
    data = shared_products(source.settings).header(source.pieces[number])
    marked = None if data is None else headers.load(data)
    return marked[1] if marked is not None and marked[0] == mark else None


def keep_header(source: Source, mark: str, number: int, header: Header) -> None:
    """Keep the header of a product on disk, so that it survives the product's eviction."""
    product = source.pieces[number]
    try:
        data = headers.dump(mark, header)
    except TypeError as err:
        # Values of a kind that JSON cannot hold: the product is read again next time.
        logger.debug("The header of %s is not kept: %s", product.product_id, err)
        return
    shared_products(source.settings).keep_header(product, data)
