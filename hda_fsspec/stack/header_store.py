"""The headers that are known of the products of a query: taken from files, or kept on disk.

Headers outlive their files in the cache, so that the second opening of a query needs no order.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import logging
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hda_fsspec.client import Client, Entry, gather_products
from hda_fsspec.errors import PER_PRODUCT_ERRORS
from hda_fsspec.lazy import openfiles
from hda_fsspec.lazy.open_file_pool import FileStamp, file_mark
from hda_fsspec.lazy.product_table import Source
from hda_fsspec.reading.indexing import Key
from hda_fsspec.reading.opening import OpenOptions
from hda_fsspec.reading.variables import are_numbers
from hda_fsspec.stack import kept_header as kept_headers
from hda_fsspec.stack.concat_dim import (
    ConcatLayout,
    differing_times,
    find_layout,
    grid_names,
    loose_times,
)
from hda_fsspec.stack.header import Header
from hda_fsspec.stack.kept_header import KeptHeader
from hda_fsspec.stack.variable_union import unite

logger = logging.getLogger("hda_fsspec")


#: A variable, a key, and the values there.
Read = tuple[str, Key, np.ndarray[Any, Any]]


class HeaderIndex:
    """The headers that are known while a query is opened.

    Parameters
    ----------
    products : Client
        What makes products local.
    source : Source
        The products of the query.
    concat_dim : str or None
        The dimension that the caller asked for.
    concat_variables : collection of str
        The variables that the caller wants stacked.
    may_miss : bool
        Whether products that cannot be had are put up with.
    keep_grids : bool
        Whether the values of all coordinates are kept, to tell by how much they differ.
    is_one_of_kinds : bool
        Whether products of other kinds may have the variables that the caller wants stacked.

    Attributes
    ----------
    mark : str
        Tells these headers from others of the same products.
    layout : ConcatLayout or None
        How products are laid, once one was seen.
    known : dict of int to Header
        The headers, by the number of the product.
    kept : dict of int to KeptHeader
        The same, each with the file that it was taken from.
    missing : dict of int to Exception
        Why products cannot be had.
    """

    def __init__(
        self,
        client: Client,
        source: Source,
        *,
        concat_dim: str | None,
        concat_variables: Collection[str],
        may_miss: bool,
        keep_grids: bool,
        is_one_of_kinds: bool = False,
    ) -> None:
        self._client = client
        self._source = source
        self._wanted = (concat_dim, concat_variables)
        self._may_miss = may_miss
        self._keep_grids = keep_grids
        self._is_one_of_kinds = is_one_of_kinds
        self.mark = _mark(source.options, concat_dim, concat_variables, keep_grids)
        self.layout: ConcatLayout | None = None
        self.known: dict[int, Header] = {}
        self.kept: dict[int, KeptHeader] = {}
        self.missing: dict[int, Exception] = {}

    def load_stored(self) -> None:
        """Take up what was kept of earlier openings."""
        for number in self._client.with_header(self._source.pieces):
            kept = kept_header(self._source, self.mark, number)
            if kept is not None and not self._is_replaced(number, kept):
                self.known[number], self.kept[number] = kept.header, kept
        self._settle()

    def _is_replaced(self, number: int, kept: KeptHeader) -> bool:
        """Whether another file of the product is local than that of its kept header."""
        entry = self._client.cache.lookup(self._source.pieces[number], touch=False)
        try:
            return entry is not None and kept.file != file_mark(entry)
        except FileNotFoundError:
            return False  # evicted in this moment

    def read(self, numbers: Sequence[int]) -> None:
        """Take the headers of products, which are ordered where they are not local."""
        wanted = {self._source.pieces[n]: n for n in numbers if n not in self.known}
        gather_products(
            list(wanted),
            self._client.fetch,
            lambda product, fetched: self._take(wanted[product], fetched),
            at_a_time=self._source.settings.max_in_flight,
        )
        self._settle()

    def find_template(self) -> None:
        """See to it that at least one header is known: the earliest that costs no order, if any."""
        pieces = self._source.pieces
        first_kept = min(self.known, default=len(pieces))
        cache = self._client.cache
        for number in cache.among(pieces) if first_kept else ():
            if number >= first_kept:
                break
            if cache.lookup(pieces[number], touch=False) is not None:
                self.read([number])
                break
        candidates = iter(range(min(_TEMPLATES, len(pieces))))
        while not self.known:
            number = next(candidates, -1)
            if number < 0:
                raise next(iter(self.missing.values()))
            self.read([number])

    def product_id(self, number: int) -> str:
        """Return which product a number stands for."""
        return str(self._source.pieces[number].product_id)

    def _take(self, number: int, fetched: concurrent.futures.Future[Entry]) -> None:
        def work(dataset: xr.Dataset, mark: FileStamp) -> KeptHeader:
            # Until the template is known, a product of its kind is laid as it is itself.
            bare = Header.of(dataset)
            own = self.layout or self._find_layout(bare)
            header = filled_for(own, bare, dataset, keep_grids=self._keep_grids)
            return KeptHeader(header, mark)

        try:
            fetched.result()
            kept = openfiles.with_dataset(self._source, number, work)
        except PER_PRODUCT_ERRORS as err:
            if not self._may_miss:
                raise
            self.missing[number] = err
            return
        self.known[number], self.kept[number] = kept.header, kept
        keep_header(self._source, self.mark, number, kept)

    def _settle(self) -> None:
        # Products arrive in any order; the earliest one decides.
        if self.known:
            self.layout = self._find_layout(self.known[min(self.known)])

    def with_grids(self, number: int, header: Header) -> Header:
        """Return the header of a product with the values of its grid, if they are at hand."""
        layout = self.layout
        if layout is None:
            return header
        return with_grids(self._source, self.mark, layout, number, header)

    @property
    def is_complete(self) -> bool:
        """Whether the headers of all products are known that can be had."""
        return len(self.known.keys() | self.missing.keys()) == len(self._source.pieces)

    def unite(self) -> tuple[Header, dict[str, list[int]]]:
        """Return a header with what all products have, and which products lack which variable."""
        template, absent = unite(self.known)
        self.layout = self._find_layout(template)
        return template, absent

    def _find_layout(self, header: Header) -> ConcatLayout:
        concat_dim, names = self._wanted
        if self._is_one_of_kinds:
            names = [name for name in names if name in header.variables]
        return find_layout(header, concat_dim, names, differing_times(self.known.values()))


#: So many products are tried as template where some may be missing.
_TEMPLATES = 3


def filled_for(
    layout: ConcatLayout, bare: Header, dataset: xr.Dataset, *, keep_grids: bool = False
) -> Header:
    """Return the header of an open product with the values that a layout needs."""
    compared, keep = layout.variables_to_match(bare), layout.variables_to_store(bare)
    if keep_grids:
        keep |= compared & grid_names(bare)
    # Whether other times differ is looked at anew with each header, stacked or not.
    return bare.filled(dataset, keep=keep, digest=compared | loose_times(bare))


def with_grids(
    source: Source, mark: str, layout: ConcatLayout, number: int, header: Header
) -> Header:
    """Return the header of a product with the values of its grid, as far as they are at hand.

    They are read of its file, if that is local, or are those that were kept; nothing is ordered.
    """
    entry = source.client.cache.lookup(source.pieces[number], touch=False)
    kept = kept_header(source, mark, number)
    full = None if kept is None else kept.header
    if entry is not None:

        def work(dataset: xr.Dataset, _: FileStamp) -> Header:
            return filled_for(layout, Header.of(dataset), dataset, keep_grids=True)

        full = openfiles.with_dataset(source, number, work, entry=entry)
    if full is None:
        return header
    variables = {
        name: full.variables.get(name, mine) if mine.values is None else mine
        for name, mine in header.variables.items()
    }
    return dataclasses.replace(header, variables=variables)


def keep_header(source: Source, mark: str, number: int, kept: KeptHeader) -> None:
    """Keep the header of a product on disk, so that it survives the product's eviction."""
    product = source.pieces[number]
    try:
        data = kept_headers.dump(mark, kept)
    except TypeError as err:
        # Values of a kind that JSON cannot hold: the product is read again next time.
        logger.debug("The header of %s is not kept: %s", product.product_id, err)
        return
    source.client.keep_header(product, data)


def kept_header(source: Source, mark: str, number: int) -> KeptHeader | None:
    """Return the header of a product that was kept for the same use, if there is one."""
    data = source.client.header(source.pieces[number])
    return None if data is None else kept_headers.load(data, mark)


def with_stored(
    source: Source, entry: Entry, kept: KeptHeader, template: Header, read: Read
) -> KeptHeader:
    """Return the header of a file with where the numbers lie in it that a template has.

    What was just read of it by other means must be what lies there, to the bit.
    """
    names = [n for n, v in template.variables.items() if are_numbers(v.dtype, v.encoding)]
    stored = openfiles.find_stored_variables(source, entry, kept.file, names)
    name, key, values = read
    if name in stored:
        found = openfiles.read_stored_directly(
            entry, kept.file, stored[name], key, at_any_cost=True
        )
        if found is None or not _is_identical(found, values):
            stored = {}
    return dataclasses.replace(kept, stored=stored)


def _is_identical(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    is_alike = (one.dtype, one.shape) == (other.dtype, other.shape)
    return is_alike and one.tobytes() == other.tobytes()


def _mark(
    options: OpenOptions, concat_dim: str | None, concat_variables: Collection[str], *more: bool
) -> str:
    # How values are decoded changes between releases of xarray.
    facts = (xr.__version__, options, concat_dim, sorted(concat_variables), *more)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
