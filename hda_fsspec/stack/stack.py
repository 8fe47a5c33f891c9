"""Many products as one: what each is expected to be, and reading from each.

A :class:`Stack` is shared by all variables of a data set. Every product is checked when it is
first read in a process; one that differs raises, so that no value is ever silently shifted.

The contract between what cuts a query, the stack, and what reads:

- Who opens a query gives :class:`.Pieces`: products, each with an identity of its own, and the
  cell of the grid that each stands in. Axes are time, kinds, then keys such as levels; products
  are numbered along them, the last axis runs fastest, and a cell may be empty.
- For time a predictor is given: a few products are looked at, it tells the times of all parts,
  or which one to look at next. A part may turn out to have no step; its products are never read.
- For a key the values that each part was asked for are given; which dimension they lie along is
  found in the template. Each kind has a template of its own, and reading one reads no other.
- A variable asks the grid which products a key lies in, and reads each through the stack, which
  fetches it, checks it, its part of every coordinate included, and returns its values by a key
  that counts from the product's own beginning.
- What travels to workers is the table of products, the grid, the templates without values.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import hashlib
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import xarray as xr

from hda_fsspec.client import Entry
from hda_fsspec.concurrency.forks import ForkLock
from hda_fsspec.errors import PER_PRODUCT_ERRORS, OrderError, ProductMismatchError
from hda_fsspec.fetching.readahead import fetch_in_order
from hda_fsspec.lazy import openfiles
from hda_fsspec.lazy.fingerprint import digest_of
from hda_fsspec.lazy.open_file_pool import FileStamp, file_mark
from hda_fsspec.lazy.product_table import Source
from hda_fsspec.printable import warn
from hda_fsspec.reading.direct_reads import read_stored
from hda_fsspec.reading.indexing import Key
from hda_fsspec.reading.variables import NetCDFVariables, are_numbers
from hda_fsspec.stack.array_packing import pack, unpack
from hda_fsspec.stack.concat_dim import ConcatLayout
from hda_fsspec.stack.header import Header
from hda_fsspec.stack.header_reuse import AlikeFiles, Told
from hda_fsspec.stack.header_store import (
    Read,
    filled_for,
    keep_header,
    kept_header,
    with_grids,
    with_stored,
)
from hda_fsspec.stack.kept_header import FittingFile, KeptHeader
from hda_fsspec.stack.product_checks import ExpectedPart, ExpectedProduct, lacks
from hda_fsspec.stack.product_grid import CutFurther, asked_for
from hda_fsspec.stack.stack_axes import Grid
from hda_fsspec.subsets.refusals import is_too_large
from hda_fsspec.workers import waiting

_Array = np.ndarray[Any, Any]

#: What tells preliminary data of ERA5 from final ones; files have it, or not, from month to month.
_VERSIONS = "expver"

_OPTIONS = ("absent", "on_missing", "grid_tolerance", "mark")

_known: weakref.WeakValueDictionary[tuple[Source, bytes], Stack] = weakref.WeakValueDictionary()
_known_lock = ForkLock()


@dataclasses.dataclass(frozen=True, eq=False)
class Template:
    """A product that stands for all of its kind: they must agree with it.

    Attributes
    ----------
    header : Header
        What it has.
    layout : ConcatLayout
        How products of the kind are laid.
    number : int
        Which product it is.
    is_scanned : bool
        Whether the headers of all products of the kind were known when the stack was made.
    kind : str
        What the kind is called, if there are several.
    names : mapping of str to str
        What variables are called in the stack, where that is not as in the products.
    """

    header: Header
    layout: ConcatLayout
    number: int
    is_scanned: bool = False
    kind: str = ""
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def shown(self, name: str) -> str:
        """Return what a variable is called in the stack."""
        return self.names.get(name, name)


class Stack:
    """Products on a grid, as they are expected to be.

    Parameters
    ----------
    source : Source
        The products, in the order of their numbers in the grid.
    grid : Grid
        Where they stand.
    templates : sequence of Template
        One for each kind of products, in the order of the grid's axis of kinds.
    absent : mapping of str to sequence of int
        Variables of the stack that are missing in some products of their kind, with the numbers of
        these.
    on_missing : {"raise", "nan"}
        What to do with a product that cannot be had.
    grid_tolerance : float or None
        How far the coordinates of a product may be from those of the template.
    mark : str
        Under which headers are kept; see :class:`hda_fsspec.stack.header_store.HeaderIndex`.
    cut_further : callable, optional
        What opens a product in pieces that the service refuses as too large.
    """

    def __init__(
        self,
        source: Source,
        grid: Grid,
        templates: Sequence[Template],
        *,
        absent: Mapping[str, Sequence[int]] | None = None,
        on_missing: str,
        grid_tolerance: float | None,
        mark: str,
        cut_further: CutFurther | None = None,
    ) -> None:
        self.source = source
        self.grid = grid
        self.templates = tuple(templates)
        self.absent = {name: np.asarray(numbers) for name, numbers in (absent or {}).items()}
        self.on_missing = on_missing
        self.grid_tolerance = grid_tolerance
        self.mark = mark
        self.cut_further = cut_further
        self._in_pieces: dict[int, xr.Dataset] = {}
        #: The files that were found to fit, by the number of the product.
        self._checked: dict[int, FittingFile] = {}
        #: For each kind a file that others may be like; None: no others can be told by it.
        self._alike: dict[int, AlikeFiles | None] = {}
        self._told: set[int] = set()
        self._has_told_more = False

    @functools.cached_property
    def _packed(self) -> bytes:
        # Made anew, they hold nothing that can be computed again.
        grid = Grid(tuple(map(dataclasses.replace, self.grid.axes)), self.grid.cells)
        templates = [dataclasses.replace(t, header=self._essentials(t)) for t in self.templates]
        options = {name: getattr(self, name) for name in _OPTIONS}
        return pack((grid, templates, options))

    def _essentials(self, template: Template) -> Header:
        """Return of a template what travels."""
        is_exact = self.grid_tolerance is None
        keep = () if is_exact else template.layout.variables_to_match(template.header)
        return template.header.essentials(keep)

    @staticmethod
    def _restore(source: Source, packed: bytes, cut_further: CutFurther | None = None) -> Stack:
        # No class method: cloudpickle would copy those by value, together with the lock.
        with _known_lock:
            found = _known.get((source, packed))
            if found is not None:
                return found
            grid, templates, options = unpack(packed)
            found = Stack(source, grid, templates, **options, cut_further=cut_further)
            found.__dict__["_packed"] = packed
            _known[source, packed] = found
            return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Stack._restore, (self.source, self._packed, self.cut_further)

    @functools.cached_property
    def digest(self) -> str:
        """A hash of products, options and index; which product was the template is left out."""
        grid = self.grid
        facts = (
            *self.source.__dask_tokenize__(),
            [(template.layout, sorted(template.names.items())) for template in self.templates],
            [axis.facts for axis in grid.axes],
            None if grid.cells is None else digest_of(grid.cells),
            sorted((name, numbers.tolist()) for name, numbers in self.absent.items()),
            self.on_missing,
            self.grid_tolerance,
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def kind_of(self, number: int) -> int:
        """Return which kind of products one is of."""
        axis = self.grid.kind_axis
        return 0 if axis is None else self.grid.parts_of(number)[axis]

    def expected(self, number: int) -> ExpectedProduct:
        """Return what one product must be like."""
        template = self.templates[self.kind_of(number)]
        layout = template.layout
        parts = []
        for axis, part in zip(self.grid.axes, self.grid.parts_of(number), strict=True):
            if axis.dim is not None:
                # The catalogue's times are no times of the product.
                is_held = axis.dim != layout.dim or layout.has_index
                index = axis.index_of(part) if is_held else None
                parts.append(ExpectedPart(axis.dim, int(axis.lengths[part]), index))
        product = self.source.pieces[number]
        return ExpectedProduct(
            product_id=product.product_id,
            template=template.header,
            layout=layout,
            parts=tuple(parts),
            grid_tolerance=self.grid_tolerance,
            is_scanned=template.is_scanned,
            asked=asked_for(product),
        )

    def check_known(self, number: int, kept: KeptHeader) -> None:
        """Check the header of a product's file, as it was known when the stack was made."""
        lacking = self._checked_header(number, kept.header)
        self._checked[number] = FittingFile(kept.file, lacking, kept.stored)

    def read(
        self, fetch: concurrent.futures.Future[Entry], number: int, name: str, key: Key
    ) -> _Array | None:
        """Read part of a variable of one product; None if it is missing and may be."""
        try:
            client, product = self.source.client, self.source.pieces[number]
            try:
                entry = waiting.wait(fetch, client, product)
            except OrderError as err:
                if self.cut_further is None or not is_too_large(str(err)):
                    raise
                return self._read_in_pieces(self.cut_further, number, name, key)
            return self._read(number, entry, name, key)
        except PER_PRODUCT_ERRORS as err:
            if self.on_missing != "nan":
                raise
            self._tell_missing(number, err)
            return None
        finally:
            openfiles.mark_read(self.source, number)

    def _read_in_pieces(
        self, cut_further: CutFurther, number: int, name: str, key: Key
    ) -> _Array | None:
        """Read part of a variable of a product that the service makes in smaller pieces only."""
        dataset = self._in_pieces.get(number)
        if dataset is None:
            dataset = cut_further(
                self.source.client, self.source.pieces[number], self.source.options
            )
            layout = self.templates[self.kind_of(number)].layout
            keep_grids = self.grid_tolerance is not None
            header = filled_for(layout, Header.of(dataset), dataset, keep_grids=keep_grids)
            self._checked_header(number, header)
            self._in_pieces[number] = dataset
        if name not in dataset.variables:
            if self._may_lack(number, name):
                return None
            self._refuse_absent(number, name, frozenset([name]))
        return np.asarray(dataset.variables[name][key].values)

    def read_present(self, number: int, name: str, key: Key) -> _Array:
        """Read part of a variable of one product, which is made local first and cannot miss."""
        values = self._read(number, openfiles.make_local(self.source, number), name, key)
        openfiles.mark_read(self.source, number)
        if values is None:
            raise AssertionError
        return values

    def _read(self, number: int, entry: Entry, name: str, key: Key) -> _Array | None:
        looked_at: list[KeptHeader] = []

        def work(dataset: xr.Dataset, mark: FileStamp) -> _Array | None:
            lacking = self._lacking(number, dataset, mark, looked_at)
            if name in lacking and self._may_lack(number, name):
                return None
            self._refuse_absent(number, name, lacking)
            return np.asarray(dataset.variables[name][key].values)

        found = self._read_known(number, entry, name, key)
        if found is None:
            found = openfiles.with_dataset(self.source, number, work, entry=entry)
            if found is not None:
                self._learn(number, entry, looked_at, (name, key, found))
        return found

    def _learn(
        self, number: int, entry: Entry, looked_at: Sequence[KeptHeader], read: Read
    ) -> None:
        """Note what the file of a product is stored like, after it was read as a dataset.

        Others of its kind may be alike. Where its own numbers lie is of use the next time.
        """
        kind = self.kind_of(number)
        if looked_at or number == self.templates[kind].number:
            self._note_stored(number, entry, read)
        if looked_at and kind not in self._alike:
            seen, checked = looked_at[-1], self._checked.get(number)
            placed = (checked and checked.stored) or {}
            self._alike[kind] = openfiles.with_variables(
                self.source, entry, seen.file, lambda file: AlikeFiles.of(file, seen.header, placed)
            )

    def _read_known(self, number: int, entry: Entry, name: str, key: Key) -> _Array | None:
        """Read numbers of a file that is known to fit, and nothing else of it; else None."""
        variable = self.templates[self.kind_of(number)].header.variables[name]
        if not are_numbers(variable.dtype, variable.encoding):
            return None
        try:
            mark = file_mark(entry)
        except FileNotFoundError:
            return None  # evicted in this moment
        checked = self._known(number, mark)
        if checked is None:
            return self._read_alike(number, entry, mark, name, key)
        if name in checked.lacking and self._may_lack(number, name):
            return None
        self._refuse_absent(number, name, checked.lacking)
        if checked.stored is not None and name in checked.stored:
            values = openfiles.read_stored_directly(entry, mark, checked.stored[name], key)
            if values is not None:
                return values
        values = openfiles.read_variable_directly(self.source, entry, mark, name, key)
        if values is not None:
            self._note_stored(number, entry, (name, key, values))
        return values

    def _read_alike(
        self, number: int, entry: Entry, mark: FileStamp, name: str, key: Key
    ) -> _Array | None:
        """Read numbers of a file that is stored like that of another product; else None."""
        alike = self._alike.get(self.kind_of(number))
        if alike is None or openfiles.is_open(self.source, entry, mark):
            return None
        seen: list[tuple[Told, frozenset[str]]] = []

        def read(
            told: Told | None, stream: BinaryIO, file: NetCDFVariables | None
        ) -> _Array | None:
            if told is None:
                return None
            try:
                lacking = self._checked_header(number, told.header)
            except ProductMismatchError:
                return None  # what is wrong is told of its dataset
            if name in lacking:
                return None
            place = told.stored.get(name)
            values = None if place is None else read_stored(stream.fileno(), place, key)
            if values is None and file is not None:
                values = np.asarray(file[name][key].data)
            seen.append((told, lacking))
            return values

        def look(file: NetCDFVariables) -> _Array | None:
            with entry.open() as stream:
                return read(alike.look(file, stream), stream, file)

        values = openfiles.with_bytes(
            entry, mark, lambda stream: read(alike.look_at_bytes(stream), stream, None)
        )
        if values is None:
            values = openfiles.with_variables(self.source, entry, mark, look)
        if values is not None:
            told, lacking = seen[-1]
            alike.note(told)
            keep_header(self.source, self.mark, number, KeptHeader(told.header, mark, told.stored))
            self._checked[number] = FittingFile(mark, lacking, told.stored)
        return values

    def _note_stored(self, number: int, entry: Entry, read: Read) -> None:
        """Keep where the numbers of a file lie whose header was kept before."""
        checked = self._checked.get(number)
        if checked is None or checked.stored is not None or read[2].dtype.kind not in "iuf":
            return
        kept = kept_header(self.source, self.mark, number)
        if kept is None or kept.file != checked.file:
            return
        template = self.templates[self.kind_of(number)].header
        kept = with_stored(self.source, entry, kept, template, read)
        keep_header(self.source, self.mark, number, kept)
        self._checked[number] = FittingFile(kept.file, checked.lacking, kept.stored)

    def _may_lack(self, number: int, name: str) -> bool:
        """Whether a variable is missing where a product has none: it says nothing of others."""
        if name != _VERSIONS or not self.source.options.is_computed:
            return False
        mine = self.templates[self.kind_of(number)].header.variables.get(name)
        return mine is None or mine.is_text

    def _refuse_absent(self, number: int, name: str, lacking: frozenset[str]) -> None:
        if name in lacking:
            is_scanned = self.templates[self.kind_of(number)].is_scanned
            raise lacks(self.source.pieces[number].product_id, name, is_scanned=is_scanned)

    def _lacking(
        self, number: int, dataset: xr.Dataset, mark: FileStamp, looked_at: list[KeptHeader]
    ) -> frozenset[str]:
        """Return what an open product lacks; raise ProductMismatchError if it does not fit.

        Its header is added to what was looked at, unless it was known before.
        """
        checked = self._known(number, mark)
        if checked is not None:
            return checked.lacking
        keep_grids = self.grid_tolerance is not None
        layout = self.templates[self.kind_of(number)].layout
        header = filled_for(layout, Header.of(dataset), dataset, keep_grids=keep_grids)
        # Kept whether or not it fits: opened anew with scan=True, it is known what the file is.
        seen = KeptHeader(header, mark)
        keep_header(self.source, self.mark, number, seen)
        lacking = self._checked_header(number, header)
        looked_at.append(seen)
        self._checked[number] = FittingFile(mark, lacking)
        return lacking

    def _known(self, number: int, mark: FileStamp) -> FittingFile | None:
        """Return what is known of this very file, if it was checked or its header was kept."""
        checked = self._checked.get(number)
        if checked is not None and checked.file == mark:
            return checked
        kept = kept_header(self.source, self.mark, number)
        if kept is None or kept.file != mark:
            return None
        try:
            lacking = self._checked_header(number, kept.header)
        except ProductMismatchError:
            # Perhaps it was taken for another template. What differs is told of the file itself.
            return None
        checked = self._checked[number] = FittingFile(mark, lacking, kept.stored)
        return checked

    def _checked_header(self, number: int, header: Header) -> frozenset[str]:
        expected = self.expected(number)
        mine = self.templates[self.kind_of(number)]
        header = self._without_other_versions(number, header, mine.header)
        try:
            lacking = expected.check(header)
        except ProductMismatchError:
            # By how much coordinates differ is told from values that are not at hand before.
            template, theirs = (
                with_grids(self.source, self.mark, mine.layout, side, known)
                for side, known in ((mine.number, mine.header), (number, header))
            )
            dataclasses.replace(expected, template=template).check(theirs)
            raise
        more = sorted(header.variables.keys() - mine.header.variables.keys())
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

    def _without_other_versions(self, number: int, header: Header, template: Header) -> Header:
        """Return a header without what tells preliminary data, where it tells it in another way."""
        theirs, mine = header.variables.get(_VERSIONS), template.variables.get(_VERSIONS)
        if theirs is None or not self._may_lack(number, _VERSIONS):
            return header
        if mine is not None and (theirs.dims, theirs.is_text) == (mine.dims, mine.is_text):
            return header
        others = {name: v for name, v in header.variables.items() if name != _VERSIONS}
        return dataclasses.replace(header, variables=others)

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
        yield from zip(numbers, fetch_in_order(self.source.client, products), strict=True)
