"""Many products as one: what each is expected to be, and reading from each.

A :class:`Stack` is shared by all variables of a data set. Every product is checked when it is
first read in a process; one that differs raises, so that no value is ever silently shifted.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import warnings
import weakref
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hda_fsspec.errors import CANNOT_BE_HAD, ProductMismatchError
from hda_fsspec.forks import ForkLock
from hda_fsspec.interest import Interest
from hda_fsspec.lazy import headers, opened, patience
from hda_fsspec.lazy.filemarks import FileMark, file_mark
from hda_fsspec.lazy.headers import Header, KeptHeader
from hda_fsspec.lazy.keptheaders import filled_for, keep_header, kept_header
from hda_fsspec.lazy.layouts import Layout
from hda_fsspec.lazy.mismatches import Expected
from hda_fsspec.lazy.recipes import Key, Source
from hda_fsspec.reading.singly import are_numbers
from hda_fsspec.usecase.products import Entry, shared_products

_known: weakref.WeakValueDictionary[tuple[Source, bytes], Stack] = weakref.WeakValueDictionary()
_known_lock = ForkLock()


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
        Under which headers are kept; see :class:`hda_fsspec.lazy.keptheaders.KnownHeaders`.
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
        #: The files that were checked while the data set was opened, by the number of the product.
        self.checked_files: dict[int, tuple[Any, ...]] = {}
        self._checked: dict[int, tuple[Any, ...]] = {}
        self._told: set[int] = set()

    @functools.cached_property
    def _packed(self) -> bytes:
        layout, tolerance = self.layout, self.tolerance
        is_time = isinstance(tolerance, np.timedelta64)
        state = {
            "layout": dataclasses.asdict(layout),
            "template": self.template.essentials().to_json(),
            "lengths": _packed_array(self.lengths),
            "index": None if self.index is None else _packed_array(self.index),
            "tolerance": [
                is_time,
                int(tolerance / np.timedelta64(1, "ns")) if is_time else tolerance,
            ],
            "on_missing": self.on_missing,
            "mark": self.mark,
        }
        return zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 6)

    @staticmethod
    def _restore(source: Source, packed: bytes) -> Stack:
        # No class method: cloudpickle would copy those by value, together with the lock.
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
            found = Stack(
                source,
                Layout(**{**state["layout"], "stacked": tuple(state["layout"]["stacked"])}),
                template,
                _unpacked_array(state["lengths"]),
                None if state["index"] is None else _unpacked_array(state["index"]),
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
        lengths = headers.digest_of(self.lengths)
        facts = (*self.source.__dask_tokenize__(), self.layout, lengths, index, self.on_missing)
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
        try:
            products, product = shared_products(self.source.settings), self.source.pieces[number]
            return self._read(number, patience.wait(fetch, products, product), name, key)
        except CANNOT_BE_HAD as err:
            if self.on_missing != "nan":
                raise
            self._tell_missing(number, err)
            return None
        finally:
            opened.note_read(self.source, number)

    def read_present(self, number: int, name: str, key: Key) -> np.ndarray[Any, Any]:
        """Read part of a variable of one product, which is made local first and cannot miss."""
        values = self._read(number, opened.make_local(self.source, number), name, key)
        opened.note_read(self.source, number)
        return values

    def _read(self, number: int, entry: Entry, name: str, key: Key) -> np.ndarray[Any, Any]:
        def work(dataset: xr.Dataset, mark: FileMark) -> np.ndarray[Any, Any]:
            self._check(number, dataset, mark)
            return np.asarray(dataset.variables[name][key].values)

        found = self._read_known(number, entry, name, key)
        return opened.use(self.source, number, work, entry=entry) if found is None else found

    def _read_known(
        self, number: int, entry: Entry, name: str, key: Key
    ) -> np.ndarray[Any, Any] | None:
        """Read numbers of a file that is known to fit, and nothing else of it; else None."""
        variable = self.template.variables[name]
        if not are_numbers(variable.dtype, variable.encoding):
            return None
        try:
            mark = file_mark(entry)
        except FileNotFoundError:
            return None  # evicted in this moment
        if not self._is_known_to_fit(number, mark):
            return None
        return opened.read_number(self.source, entry, mark, name, key)

    def _check(self, number: int, dataset: xr.Dataset, mark: FileMark) -> None:
        if self._is_known_to_fit(number, mark):
            return
        header = filled_for(self.layout, Header.of(dataset), dataset)
        # Kept whether or not it fits: opened anew with scan=True, it is known what the file is.
        keep_header(self.source, self.mark, number, KeptHeader(header, mark))
        self.expected(number).check(header)
        self._checked[number] = mark

    def _is_known_to_fit(self, number: int, mark: FileMark) -> bool:
        """Whether this very file was checked before, or fits by the header that was kept of it."""
        if self._checked.get(number) == mark:
            return True
        if number in self.checked_files:
            fits = self.checked_files[number] == mark
        else:
            kept = kept_header(self.source, self.mark, number)
            fits = kept is not None and kept.file == mark and self._fits(number, kept.header)
        if fits:
            self._checked[number] = mark
        return fits

    def _fits(self, number: int, header: Header) -> bool:
        try:
            self.expected(number).check(header)
        except ProductMismatchError:
            # Perhaps it was taken for another template. What differs is told of the file itself.
            return False
        return True

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
        """Yield products in order, with the fetches of those that follow under way.

        No more are under way than half of the cache can hold, so that what is fetched does not
        push out what was not read yet.
        """
        with Interest() as interest:
            yield from self._fetch_ahead(numbers, interest)

    def _fetch_ahead(
        self, numbers: Sequence[int], interest: Interest
    ) -> Iterator[tuple[int, concurrent.futures.Future[Entry]]]:
        settings = self.source.settings
        products = shared_products(settings)
        most = settings.max_orders + settings.max_connections
        bound = products.cache.max_bytes
        queue: collections.deque[concurrent.futures.Future[Entry]] = collections.deque()
        largest = 0
        following = collections.deque(numbers)
        for number in numbers:
            while following and len(queue) < most:
                product = self.source.pieces[following[0]]
                largest = max(largest, products.size(product) or product.size or 0)
                if queue and bound is not None and (len(queue) + 1) * largest > bound // 2:
                    break
                following.popleft()
                queue.append(products.fetch(product, wanted=interest.is_alive))
            fetch = queue.popleft()
            yield number, fetch
            if fetch.done() and fetch.exception() is None:
                largest = max(largest, fetch.result().size)


def _packed_array(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return an array as JSON values that compress well: steps of an index are mostly equal."""
    if values.dtype.kind not in "iM":
        return headers.array_to_json(values)
    steps = np.diff(values.view("i8"), prepend=0) if values.dtype.itemsize == 8 else values
    return {"of": values.dtype.str, "steps": headers.array_to_json(steps)}


def _unpacked_array(value: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Read what :func:`_packed_array` returned."""
    if "of" not in value:
        return headers.array_from_json(value)
    steps = headers.array_from_json(value["steps"])
    return np.cumsum(steps).view(value["of"]) if steps.dtype == np.int64 else steps
