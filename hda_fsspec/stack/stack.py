"""Many products as one: what each is expected to be, and reading from each.

A :class:`Stack` is shared by all variables of a data set. Every product is checked when it is
first read in a process; one that differs raises, so that no value is ever silently shifted.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hda_fsspec.client import Entry, get_client
from hda_fsspec.concurrency.forks import ForkLock
from hda_fsspec.errors import PER_PRODUCT_ERRORS, ProductMismatchError
from hda_fsspec.fetching.readahead import ReadAhead
from hda_fsspec.lazy import openfiles
from hda_fsspec.lazy.arrays import Key
from hda_fsspec.lazy.fingerprint import digest_of
from hda_fsspec.lazy.pool import FileStamp, file_mark
from hda_fsspec.lazy.sources import Source
from hda_fsspec.printable import warn
from hda_fsspec.reading.variables import are_numbers
from hda_fsspec.stack.checks import ExpectedProduct, lacks
from hda_fsspec.stack.header import Header, KeptHeader, array_from_json, array_to_json
from hda_fsspec.stack.header_store import filled_for, keep_header, kept_header, with_grids
from hda_fsspec.stack.layout import ConcatLayout
from hda_fsspec.timeindex.overlaps import Segments
from hda_fsspec.workers import waiting

_known: weakref.WeakValueDictionary[tuple[Source, bytes], Stack] = weakref.WeakValueDictionary()
_known_lock = ForkLock()


class Stack:
    """Products along one dimension, as they are expected to be.

    Parameters
    ----------
    source : Source
        The products, in the order of the index.
    layout : ConcatLayout
        How they lie along the dimension.
    template : Header
        The header that all must agree with.
    template_number : int
        The product that it was taken of.
    lengths : numpy.ndarray
        Steps of each product, int64.
    index : numpy.ndarray or None
        The predicted index of all steps of all products, 1-D; None where the dimension has no
        coordinate.
    shown : numpy.ndarray or None
        The same as files store it, where that is not just the same.
    segments : Segments or None
        Which steps of which products the stack is made of; None: all of them, in their order.
    absent : mapping of str to sequence of int
        Variables that are missing in some products, with the numbers of these.
    on_missing : {"raise", "nan"}
        What to do with a product that cannot be had.
    grid_tolerance : float or None
        How far the coordinates of a product may be from those of the template.
    is_scanned : bool
        Whether the headers of all products were known when the stack was made.
    mark : str
        Under which headers are kept; see :class:`hda_fsspec.stack.header_store.HeaderIndex`.
    """

    def __init__(
        self,
        source: Source,
        layout: ConcatLayout,
        template: Header,
        template_number: int,
        *,
        lengths: np.ndarray[Any, Any],
        index: np.ndarray[Any, Any] | None,
        shown: np.ndarray[Any, Any] | None = None,
        segments: Segments | None = None,
        absent: Mapping[str, Sequence[int]] | None = None,
        on_missing: str,
        grid_tolerance: float | None,
        is_scanned: bool,
        mark: str,
    ) -> None:
        self.source = source
        self.layout = layout
        self.template = template
        self.template_number = template_number
        self.lengths = lengths
        self.index = index
        self.shown = shown
        self.segments = segments
        self.absent = {name: np.asarray(numbers) for name, numbers in (absent or {}).items()}
        self.on_missing = on_missing
        self.grid_tolerance = grid_tolerance
        self.is_scanned = is_scanned
        self.mark = mark
        self._begins = np.cumsum(lengths) - lengths
        self._parts = Segments.whole(lengths) if segments is None else segments
        self._ends = np.cumsum(self._parts.counts)
        #: The files that were found to fit, and what they lack, by the number of the product.
        self._checked: dict[int, tuple[tuple[Any, ...], frozenset[str]]] = {}
        self._told: set[int] = set()
        self._has_told_more = False

    @functools.cached_property
    def _packed(self) -> bytes:
        segments = self.segments
        state = {
            "layout": dataclasses.asdict(self.layout),
            "template": self._essentials().to_json(),
            "template_number": self.template_number,
            "arrays": {
                name: None if array is None else _packed_array(array)
                for name, array in (
                    ("lengths", self.lengths),
                    ("index", self.index),
                    ("shown", self.shown),
                    ("products", None if segments is None else segments.products),
                    ("firsts", None if segments is None else segments.firsts),
                    ("counts", None if segments is None else segments.counts),
                )
            },
            "absent": {name: numbers.tolist() for name, numbers in self.absent.items()},
            "options": [self.on_missing, self.grid_tolerance, self.is_scanned, self.mark],
        }
        return zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 6)

    def _essentials(self) -> Header:
        """Return of the template what travels."""
        is_exact = self.grid_tolerance is None
        keep = () if is_exact else self.layout.variables_to_match(self.template)
        return self.template.essentials(keep)

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
            arrays: dict[str, Any] = {
                name: None if packed_array is None else _unpacked_array(packed_array)
                for name, packed_array in state["arrays"].items()
            }
            parts = [arrays.pop(name) for name in ("products", "firsts", "counts")]
            on_missing, grid_tolerance, is_scanned, mark = state["options"]
            found = Stack(
                source,
                ConcatLayout(**{**state["layout"], "stacked": tuple(state["layout"]["stacked"])}),
                template,
                state["template_number"],
                **arrays,
                segments=None if parts[0] is None else Segments(*parts),
                absent=state["absent"],
                on_missing=on_missing,
                grid_tolerance=grid_tolerance,
                is_scanned=is_scanned,
                mark=mark,
            )
            found.__dict__["_packed"] = packed
            _known[source, packed] = found
            return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Stack._restore, (self.source, self._packed)

    @functools.cached_property
    def digest(self) -> str:
        """A hash of products, options and index; which product was the template is left out."""
        coordinate = self.coordinate
        facts = (
            *self.source.__dask_tokenize__(),
            self.layout,
            "" if coordinate is None else digest_of(coordinate),
            *(digest_of(array) for array in (self._parts.products, self._parts.firsts)),
            digest_of(self._parts.counts),
            sorted((name, numbers.tolist()) for name, numbers in self.absent.items()),
            self.on_missing,
            self.grid_tolerance,
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    @property
    def coordinate(self) -> np.ndarray[Any, Any] | None:
        """The index as it is shown, one value for each step of the stack."""
        shown = self.index if self.shown is None else self.shown
        if shown is None or self.segments is None:
            return shown
        return shown[self.segments.steps(self.lengths)]

    @property
    def total(self) -> int:
        """The length of the dimension."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def chunks(self) -> int | tuple[int, ...]:
        """The chunks that the products prefer: none reads two of them."""
        counts = self._parts.counts[self._parts.counts > 0]
        if not counts.size:
            return 0
        return int(counts[0]) if (counts == counts[0]).all() else tuple(counts.tolist())

    @property
    def numbers(self) -> np.ndarray[Any, Any]:
        """The number of the product of each step."""
        return self._parts.products.repeat(self._parts.counts)

    def numbers_at(self, positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return in which product each position along the dimension lies."""
        return self.located(positions)[0]

    def located(
        self, positions: np.ndarray[Any, Any]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return the number of the product of each position, and which of its steps it is."""
        part = np.searchsorted(self._ends, positions, side="right")
        parts = self._parts
        steps = positions - (self._ends - parts.counts)[part] + parts.firsts[part]
        return parts.products[part], steps

    def expected(self, number: int) -> ExpectedProduct:
        """Return what one product must be like."""
        first, length = int(self._begins[number]), int(self.lengths[number])
        index = None
        if self.index is not None and self.layout.has_index:
            index = self.index[first : first + length]
        return ExpectedProduct(
            product_id=self.source.pieces[number].product_id,
            template=self.template,
            layout=self.layout,
            index=index,
            length=length,
            grid_tolerance=self.grid_tolerance,
            is_scanned=self.is_scanned,
        )

    def check_known(self, number: int, header: Header, file: tuple[Any, ...]) -> None:
        """Check the header of a product's file, as it was known when the stack was made."""
        self._checked[number] = file, self._checked_header(number, header)

    def read(
        self, fetch: concurrent.futures.Future[Entry], number: int, name: str, key: Key
    ) -> np.ndarray[Any, Any] | None:
        """Read part of a variable of one product; None if it is missing and may be."""
        try:
            products, product = get_client(self.source.settings), self.source.pieces[number]
            return self._read(number, waiting.wait(fetch, products, product), name, key)
        except PER_PRODUCT_ERRORS as err:
            if self.on_missing != "nan":
                raise
            self._tell_missing(number, err)
            return None
        finally:
            openfiles.mark_read(self.source, number)

    def read_present(self, number: int, name: str, key: Key) -> np.ndarray[Any, Any]:
        """Read part of a variable of one product, which is made local first and cannot miss."""
        values = self._read(number, openfiles.make_local(self.source, number), name, key)
        openfiles.mark_read(self.source, number)
        return values

    def _read(self, number: int, entry: Entry, name: str, key: Key) -> np.ndarray[Any, Any]:
        def work(dataset: xr.Dataset, mark: FileStamp) -> np.ndarray[Any, Any]:
            self._refuse_absent(number, name, self._lacking(number, dataset, mark))
            return np.asarray(dataset.variables[name][key].values)

        found = self._read_known(number, entry, name, key)
        return (
            openfiles.with_dataset(self.source, number, work, entry=entry)
            if found is None
            else found
        )

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
        lacking = self._known_lacking(number, mark)
        if lacking is None:
            return None
        self._refuse_absent(number, name, lacking)
        return openfiles.read_variable_directly(self.source, entry, mark, name, key)

    def _refuse_absent(self, number: int, name: str, lacking: frozenset[str]) -> None:
        if name in lacking:
            product_id = self.source.pieces[number].product_id
            raise lacks(product_id, name, is_scanned=self.is_scanned)

    def _lacking(self, number: int, dataset: xr.Dataset, mark: FileStamp) -> frozenset[str]:
        """Return what an open product lacks; raise ProductMismatchError if it does not fit."""
        lacking = self._known_lacking(number, mark)
        if lacking is not None:
            return lacking
        keep_grids = self.grid_tolerance is not None
        header = filled_for(self.layout, Header.of(dataset), dataset, keep_grids=keep_grids)
        # Kept whether or not it fits: opened anew with scan=True, it is known what the file is.
        keep_header(self.source, self.mark, number, KeptHeader(header, mark))
        lacking = self._checked_header(number, header)
        self._checked[number] = mark, lacking
        return lacking

    def _known_lacking(self, number: int, mark: FileStamp) -> frozenset[str] | None:
        """Return what this very file lacks, if it was checked before or its header was kept."""
        checked = self._checked.get(number)
        if checked is not None and checked[0] == mark:
            return checked[1]
        kept = kept_header(self.source, self.mark, number)
        if kept is None or kept.file != mark:
            return None
        try:
            lacking = self._checked_header(number, kept.header)
        except ProductMismatchError:
            # Perhaps it was taken for another template. What differs is told of the file itself.
            return None
        self._checked[number] = mark, lacking
        return lacking

    def _checked_header(self, number: int, header: Header) -> frozenset[str]:
        expected = self.expected(number)
        try:
            lacking = expected.check(header)
        except ProductMismatchError:
            # By how much coordinates differ is told from values that are not at hand before.
            template, theirs = (
                with_grids(self.source, self.mark, self.layout, each, known)
                for each, known in ((self.template_number, self.template), (number, header))
            )
            dataclasses.replace(expected, template=template).check(theirs)
            raise
        more = sorted(header.variables.keys() - self.template.variables.keys())
        if more and not self._has_told_more:
            self._has_told_more = True
            names = ", ".join(map(repr, more))
            warn(
                f"The product {self.source.pieces[number].product_id} has variables that the data "
                f"set was opened without: {names}. Open with scan=True to have them, which reads "
                f"the header of every product first; or with drop_variables={more}.",
                stacklevel=2,
            )
        return lacking

    def _tell_missing(self, number: int, err: Exception) -> None:
        if number in self._told:
            return
        self._told.add(number)
        warn(
            f"The values of {self.source.pieces[number].product_id} are missing, since it cannot "
            f"be had: {err}",
            stacklevel=2,
        )

    def fetch_ahead(
        self, numbers: Sequence[int]
    ) -> Iterator[tuple[int, concurrent.futures.Future[Entry]]]:
        """Yield products in order, with the fetches of those that follow under way.

        See :class:`hda_fsspec.fetching.readahead.ReadAhead` for how many.
        """
        products = [self.source.pieces[number] for number in numbers]
        with ReadAhead(self.source.client, products) as ahead:
            for number, product in zip(numbers, products, strict=True):
                yield number, ahead.fetch(product)
                ahead.mark_read(product)


def _packed_array(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return an array as JSON values that compress well: steps of an index are mostly equal."""
    if values.dtype.kind not in "iM":
        return array_to_json(values)
    steps = np.diff(values.view("i8"), prepend=0) if values.dtype.itemsize == 8 else values
    return {"of": values.dtype.str, "steps": array_to_json(steps)}


def _unpacked_array(value: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Read what :func:`_packed_array` returned."""
    if "of" not in value:
        return array_from_json(value)
    steps = array_from_json(value["steps"])
    return np.cumsum(steps).view(value["of"]) if steps.dtype == np.int64 else steps
