"""Opening a query: from the catalogue's answer to one lazy dataset.

One product is looked at, the template; where all the others stand is predicted from the
catalogue, and checked when they are read. A second, at most a third product is looked at where
the prediction needs it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing  # xarray documents this module for writers of backends

from hda_fsspec import opened, timeline
from hda_fsspec.errors import ProductMismatchError, QueryError
from hda_fsspec.headers import Header
from hda_fsspec.layouts import Layout, find_layout
from hda_fsspec.locations import Location
from hda_fsspec.opening import OpenOptions
from hda_fsspec.pieces import Pieces
from hda_fsspec.products import Entry, Products, each
from hda_fsspec.recipes import ProductArray, Source
from hda_fsspec.records import Product
from hda_fsspec.stack import (
    Stack,
    StackArray,
    headers_mark,
    keep_header,
    kept_header,
    take_header,
)

_SCAN = (
    "Open with scan=True, which orders every product and reads its header first; or narrow the "
    "query."
)
_MILLISECOND = np.timedelta64(1, "ms")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackOptions:
    """How a query is stacked; see :meth:`HDABackendEntrypoint.open_dataset` for each."""

    concat_dim: str | None = None
    scan: bool = False
    concat_variables: tuple[str, ...] = ()
    on_missing: str = "raise"
    product_coord: str | None = None


class _Headers:
    """The headers that are known while a query is opened."""

    def __init__(self, products: Products, source: Source, options: StackOptions) -> None:
        self._products = products
        self._source = source
        self._options = options
        self.mark = headers_mark(source.options, options.concat_dim, options.concat_variables)
        self.layout: Layout | None = None
        self.known: dict[int, Header] = {}

    def recall(self) -> None:
        """Take up what was kept of earlier openings."""
        for number in range(len(self._source.pieces)):
            header = kept_header(self._source, self.mark, number)
            if header is not None:
                self._add(number, header)

    def look_at(self, numbers: Sequence[int]) -> None:
        """Take the headers of products, which are ordered where they are not local."""
        missing = {self._source.pieces[n]: n for n in numbers if n not in self.known}
        settings = self._source.settings
        each(
            list(missing),
            self._products.fetch,
            lambda product, _: self._take(missing[product]),
            at_a_time=settings.max_orders + settings.max_connections,
        )

    def first_local(self) -> int:
        """Return the earliest product that is local; the first one if none is."""
        for number, product in enumerate(self._source.pieces):
            if self._products.cache.lookup(product, touch=False) is not None:
                return number
        return 0

    def _take(self, number: int) -> None:
        def work(dataset: xr.Dataset, _: Entry) -> Header:
            if self.layout is None:
                bare = Header.of(dataset, keep=(), digest=())
                self.layout = self._find_layout(bare)
            return take_header(dataset, self.layout)

        header = opened.use(self._source, number, work)
        self._add(number, header)
        keep_header(self._source, self.mark, number, header)

    def _add(self, number: int, header: Header) -> None:
        if self.layout is None:
            self.layout = self._find_layout(header)
        self.known[number] = header

    def _find_layout(self, header: Header) -> Layout:
        return find_layout(header, self._options.concat_dim, self._options.concat_variables)


def open_query(
    products: Products, location: Location, options: OpenOptions, how: StackOptions
) -> xr.Dataset:
    """Open the products of a query or pattern as one lazy dataset; what is raised: see the engine."""
    found = products.search(location)
    if not found:
        msg = (
            f"Nothing to open: {location.path} finds no product. Compare dates, box and keys with "
            "the data set's page, or list a wider query with fs.ls."
        )
        raise FileNotFoundError(msg)
    pieces = Pieces(sorted(found, key=lambda p: (p.startdate or "", p.product_id)))
    source = Source(products.settings, pieces, options)
    headers = _Headers(products, source, how)
    headers.recall()
    if how.scan:
        headers.look_at(range(len(pieces)))
    elif not headers.known:
        headers.look_at([headers.first_local()])
    layout = headers.layout
    if layout is None:
        raise AssertionError
    template_number = min(headers.known)
    template = headers.known[template_number]
    lengths, index, tolerance = _index(pieces, headers, layout, template)
    stack = Stack(
        source,
        layout,
        template,
        lengths,
        index,
        tolerance=tolerance,
        on_missing=how.on_missing,
        mark=headers.mark,
    )
    for number, header in headers.known.items():
        stack.expected(number).check(header)
    dataset = _dataset(stack, template_number, list(headers.known.values()))
    if how.product_coord is not None:
        ids = np.array([product.product_id for product in pieces], dtype=object)
        dataset = dataset.assign_coords({how.product_coord: (layout.dim, ids.repeat(lengths))})
    dataset.encoding["source"] = location.path
    dataset.encoding["hda_template"] = pieces[template_number].product_id
    return dataset


def _index(
    pieces: Pieces, headers: _Headers, layout: Layout, template: Header
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None, Any]:
    """Return the steps of each product, the index of the whole, and how exact it is."""
    starts, ends = (_times(pieces, name) for name in ("startdate", "enddate"))
    if layout.is_from_catalogue:
        return np.ones(len(pieces), np.int64), _catalogue_index(pieces, starts), _MILLISECOND
    if layout.has_index:
        return _predicted(pieces, headers, layout, template, (starts, ends))
    known = {n: layout.length(h) for n, h in headers.known.items()}
    if len(known) < len(pieces) and len(set(known.values())) > 1:
        raise _unpredictable("products have different numbers of steps", layout)
    lengths = np.full(len(pieces), layout.length(template), np.int64)
    for number, length in known.items():
        lengths[number] = length
    return lengths, None, _MILLISECOND


def _predicted(
    pieces: Pieces,
    headers: _Headers,
    layout: Layout,
    template: Header,
    interval: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], Any]:
    variable = template.variables[layout.dim]
    tolerance = timeline.resolution_of(
        variable.encoding.get("units"), variable.dtype, variable.encoding.get("calendar")
    )
    while True:
        known = [
            timeline.Known(number, values)
            for number, header in sorted(headers.known.items())
            if (values := layout.index_values(header)) is not None
        ]
        try:
            prediction = timeline.predict(*interval, known, tolerance=tolerance)
        except timeline.UnpredictableError as err:
            raise _unpredictable(str(err), layout) from err
        if not prediction.ask:
            break
        headers.look_at(prediction.ask)
    if prediction.values is None:
        raise _unpredictable("the rules that fit disagree", layout)
    _refuse_duplicates(pieces, prediction, interval)
    return prediction.lengths, prediction.values, tolerance


def _unpredictable(why: str, layout: Layout) -> ProductMismatchError:
    msg = (
        f"Where the products lie along {layout.dim!r} cannot be told from the catalogue's times: "
        f"{why}. {_SCAN}"
    )
    return ProductMismatchError(msg)


def _refuse_duplicates(
    pieces: Pieces,
    prediction: timeline.Prediction,
    interval: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
) -> None:
    if prediction.values is None:
        return
    pairs = timeline.duplicates(prediction.values, prediction.lengths, *interval)
    if not pairs:
        return
    first, second = (pieces[number].product_id for number in pairs[0])
    more = f" (and {len(pairs) - 1} more such pairs)" if len(pairs) > 1 else ""
    msg = (
        f"The products {first} and {second} stand at the same time{more}: they may be two versions "
        "of one product. Narrow the query to one of them, by a key (timeliness, productVersion, …) "
        "or by a pattern over product ids, such as *_NT_*."
    )
    raise QueryError(msg)


def _times(pieces: Sequence[Product], name: str) -> np.ndarray[Any, Any]:
    texts = [(getattr(product, name) or "NaT").removesuffix("Z") for product in pieces]
    return np.array(texts, dtype="datetime64[us]")


def _catalogue_index(pieces: Pieces, starts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if np.isnat(starts).any():
        product = pieces[int(np.flatnonzero(np.isnat(starts))[0])]
        msg = (
            f"The products have no time coordinate, and the catalogue tells no start of "
            f"{product.product_id} either. Open products one by one, or name a concat_dim that "
            "they have."
        )
        raise QueryError(msg)
    return starts.astype("datetime64[ns]")


def _dataset(stack: Stack, template_number: int, known: Collection[Header]) -> xr.Dataset:
    """Put the variables together: stacked ones, the index, and those of the template."""
    layout, template = stack.layout, stack.template
    variables: dict[str, xr.Variable] = {}
    coordinates = set()
    for name, header in template.variables.items():
        if header.is_coordinate or name == layout.dim:
            coordinates.add(name)
        if name == layout.dim:
            continue
        if name in layout.stacked:
            dims = header.dims if layout.dim in header.dims else (layout.dim, *header.dims)
            data = indexing.LazilyIndexedArray(StackArray(stack, name, dims))
            variable = xr.Variable(dims, data, header.attrs, dict(header.encoding))
            variable.encoding["preferred_chunks"] = {layout.dim: _chunks(stack.lengths)}
        elif header.values is not None:
            variable = xr.Variable(header.dims, header.values, header.attrs, dict(header.encoding))
        else:
            sizes = [template.sizes[dim] for dim in header.dims]
            lazy = ProductArray(stack.source, name, sizes, header.dtype, number=template_number)
            data = indexing.LazilyIndexedArray(lazy)
            variable = xr.Variable(header.dims, data, header.attrs, dict(header.encoding))
        variables[name] = variable
    if stack.index is not None:
        mine = template.variables.get(layout.dim)
        attrs = dict(mine.attrs) if mine is not None else {"standard_name": "time"}
        encoding = dict(mine.encoding) if mine is not None else {}
        variables[layout.dim] = xr.Variable((layout.dim,), stack.index, attrs, encoding)
        coordinates.add(layout.dim)
    dataset = xr.Dataset(variables, attrs=_common_attrs(template, known))
    return dataset.set_coords([name for name in coordinates if name in variables])


def _chunks(lengths: np.ndarray[Any, Any]) -> int | tuple[int, ...]:
    return int(lengths[0]) if (lengths == lengths[0]).all() else tuple(lengths.tolist())


def _common_attrs(template: Header, known: Collection[Header]) -> dict[str, Any]:
    """Return the global attributes that are not known to differ between products."""
    return {
        name: value
        for name, value in template.attrs.items()
        if all(name in h.attrs and np.array_equal(h.attrs[name], value) for h in known)
    }
