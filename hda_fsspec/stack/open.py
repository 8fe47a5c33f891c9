"""Opening a query: from the catalogue's answer to one lazy dataset.

One product is looked at, the template; where all the others stand is predicted from the
catalogue, and checked when they are read. A second, at most a third product is looked at where
the prediction needs it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing  # xarray documents this module for writers of backends

from hda_fsspec.client import Client
from hda_fsspec.errors import ProductMismatchError, QueryError, no_products_error, note_once
from hda_fsspec.lazy.arrays import Closer, HDAVariable
from hda_fsspec.lazy.product import check_can_be_read
from hda_fsspec.lazy.sources import ProductTable, Source
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable, warn
from hda_fsspec.reading.opening import OpenOptions
from hda_fsspec.records import Product
from hda_fsspec.stack.arrays import StackArray, TemplateArray
from hda_fsspec.stack.checks import check_same_structure
from hda_fsspec.stack.footprints import most_different_bbox
from hda_fsspec.stack.header import Header
from hda_fsspec.stack.header_store import HeaderIndex
from hda_fsspec.stack.layout import ConcatLayout, loose_times
from hda_fsspec.stack.preflight import refuse_equal_times
from hda_fsspec.stack.stack import Stack
from hda_fsspec.timeindex import predict
from hda_fsspec.timeindex.overlaps import (
    Segments,
    first_times,
    overlapping,
    time_order,
    without_overlaps,
)

_Array = np.ndarray[Any, Any]

_SCAN = (
    "Open with scan=True, which orders every product and reads its header first; or narrow the "
    "query."
)
_NARROW = (
    "Narrow the query to one of them, by a key (timeliness, productVersion, …) or by a pattern "
    "over product ids, such as *_NT_*."
)
_LATEST = (
    'on_overlap="latest" takes each time from the product of the latest start, else of the latest '
    'publication, and on_overlap="earliest" from the earliest.'
)
_TILES = (
    "open those of one kind or place with a pattern over product ids, such as *_B04*; or each as a "
    'node of a tree, with xr.open_datatree(…, engine="hda"); or bring them to one grid with '
    "hda_fsspec.open_mfdataset(…, preprocess=…)."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackOptions:
    """How a query is stacked; see :meth:`HDABackendEntrypoint.open_dataset` for each."""

    concat_dim: str | None = None
    scan: bool = False
    concat_variables: tuple[str, ...] = ()
    on_missing: str = "raise"
    on_overlap: str = "raise"
    grid_tolerance: float | None = None
    product_coord: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Steps:
    """The steps of the products: how many each has, and where they are along the dimension.

    Attributes
    ----------
    lengths : numpy.ndarray
        Steps of each product.
    index : numpy.ndarray or None
        The index of all of them, as predicted; None where the dimension has no coordinate.
    shown : numpy.ndarray or None
        The same as files store it, where that is not just the same.
    is_ordered : bool
        Whether the index puts products in an order: numbers that are no times do not.
    """

    lengths: _Array
    index: _Array | None = None
    shown: _Array | None = None
    is_ordered: bool = False

    def take(self, order: _Array) -> _Steps:
        """Return the steps with the products in another order."""
        every = Segments(order, np.zeros(len(order), np.int64), self.lengths[order])
        steps = every.steps(self.lengths)
        index = None if self.index is None else self.index[steps]
        shown = None if self.shown is None else self.shown[steps]
        return dataclasses.replace(self, lengths=every.counts, index=index, shown=shown)


def open_query(
    client: Client, location: Location, options: OpenOptions, how: StackOptions
) -> xr.Dataset:
    """Open the products of a query as one lazy dataset; what is raised: see the engine."""
    found = sorted(client.search(location), key=lambda p: (p.startdate or "", p.product_id))
    if not found:
        raise no_products_error("open", location.path)
    check_can_be_read(location, found, options)
    if how.concat_dim in {None, "time"} and not how.scan and how.on_overlap == "raise":
        refuse_equal_times(location, found, lambda product: client.header(product) is not None)
    pieces = ProductTable(found)
    source = Source(client.settings, pieces, options)
    headers = HeaderIndex(
        client,
        source,
        concat_dim=how.concat_dim,
        concat_variables=how.concat_variables,
        may_miss=how.on_missing == "nan",
        keep_grids=how.grid_tolerance is not None,
    )
    asked = _look(headers, found, how)
    template_number = min(headers.known)
    steps = _steps(pieces, headers, asked)
    known = headers.known
    template, absent = known[template_number], dict[str, list[int]]()
    if headers.is_complete:
        template, absent = headers.unite()
    layout = _layout(headers)
    order = np.arange(len(found))
    if steps.is_ordered and steps.index is not None:
        order = time_order(steps.index, steps.lengths)
    place = {int(old): new for new, old in enumerate(order)}
    if list(place) != list(range(len(found))):
        found = [found[number] for number in place]
        pieces, steps = ProductTable(found), steps.take(order)
        source = dataclasses.replace(source, pieces=pieces)
    stack = Stack(
        source,
        layout,
        template,
        place[template_number],
        lengths=steps.lengths,
        index=steps.index,
        shown=steps.shown,
        segments=_segments(found, steps, how.on_overlap),
        absent={name: sorted(place[n] for n in numbers) for name, numbers in absent.items()},
        on_missing=how.on_missing,
        grid_tolerance=how.grid_tolerance,
        is_scanned=headers.is_complete,
        mark=headers.mark,
    )
    for number, header in known.items():
        stack.check_known(place[number], header, headers.files[number])
    dataset = _dataset(stack, place[template_number], list(known.values()))
    _tell_absent(stack, location.path)
    if how.product_coord is not None:
        dataset = _with_product_ids(dataset, stack, how.product_coord)
    dataset.encoding["source"] = location.path
    dataset.set_close(Closer(source))
    dataset.encoding["hda_template"] = pieces[place[template_number]].product_id
    return dataset


def _look(headers: HeaderIndex, found: Sequence[Product], how: StackOptions) -> int:
    """Take the headers that are needed in any case; return how many beside the template's."""
    headers.load_stored()
    if how.scan:
        headers.read(range(len(found)))
    headers.find_template()
    asked = 0
    probe = most_different_bbox([product.bbox for product in found], headers.known)
    if probe is None and len(headers.known) == 1:
        probe = _another_time(headers, len(found))
    if probe is not None and not headers.is_complete:
        asked += 1
        headers.read([probe])
    template = headers.known[min(headers.known)]
    if headers.is_complete:
        template, _ = headers.unite()
    check = functools.partial(
        check_same_structure,
        layout=_layout(headers),
        grid_tolerance=how.grid_tolerance,
        is_scanned=headers.is_complete,
    )
    for number, header in headers.known.items():
        try:
            check(headers.product_id(number), header, template)
        except ProductMismatchError:
            # By how much coordinates differ is told from values that are not at hand before.
            first = headers.with_grids(min(headers.known), template)
            check(headers.product_id(number), headers.with_grids(number, header), first)
            raise
    return asked


def _another_time(headers: HeaderIndex, count: int) -> int | None:
    """Return the product that tells in which of several times the products differ.

    Where products have no time dimension, but several other times, such as the start of a run and
    its steps, one product does not tell along which of them it is stacked.
    """
    (number, header), *_ = headers.known.items()
    layout = _layout(headers)
    if count == 1 or not layout.is_new or len(loose_times(header)) < 2:
        return None
    return count - 1 if number < count // 2 else 0


def _layout(headers: HeaderIndex) -> ConcatLayout:
    layout = headers.layout
    if layout is None:
        raise AssertionError
    if any(layout.length(header) != 1 for header in headers.known.values()):
        # One start for each product is no index for several steps.
        layout = dataclasses.replace(layout, is_from_catalogue=False)
    return layout


def _steps(pieces: ProductTable, headers: HeaderIndex, asked: int) -> _Steps:
    """Return how many steps the products have, and where they are."""
    layout = _layout(headers)
    interval = (_times(pieces, "startdate"), _times(pieces, "enddate"))
    if layout.is_from_catalogue:
        index = _catalogue_index(pieces, interval[0])
        return _Steps(np.ones(len(pieces), np.int64), index, is_ordered=True)
    if layout.has_index:
        return _predicted(headers, interval, asked)
    known = {n: layout.length(h) for n, h in headers.known.items()}
    if len(known) < len(pieces) and len(set(known.values())) > 1:
        raise _unpredictable("products have different numbers of steps", headers)
    lengths = np.full(len(pieces), known[min(known)], np.int64)
    lengths[list(known)] = list(known.values())
    return _Steps(lengths)


def _predicted(headers: HeaderIndex, interval: tuple[_Array, _Array], asked: int) -> _Steps:
    """Return where products lie; what is needed to tell is ordered."""
    while True:
        layout = _layout(headers)
        known = [
            predict.SeenProduct(
                number,
                values,
                layout.bounds_values(header),
                header.variables[layout.dim].time_encoding,
            )
            for number, header in sorted(headers.known.items())
            if (values := layout.index_values(header)) is not None
        ]
        variable = headers.known[min(headers.known)].variables[layout.dim]
        try:
            prediction = predict.predict(*interval, known, asked=asked)
        except predict.UnpredictableError as err:
            raise _unpredictable(str(err), headers) from err
        if not prediction.ask:
            break
        asked += len(prediction.ask)
        headers.read(prediction.ask)
        for number in prediction.ask:
            if number in headers.missing:
                fault = headers.missing[number]
                note_once(fault, f"Its times were to decide where the others stand. {_SCAN}")
                raise fault
    index, lengths = prediction.values, prediction.lengths
    if index is None:
        raise AssertionError
    units = str(variable.attrs.get("units", ""))
    is_time = index.dtype.kind in "mM" or variable.is_date or " since " in units
    is_ordered = is_time and not prediction.constant
    shown = _shown(index, lengths, known, variable.time_encoding)
    return _Steps(lengths, index, shown, is_ordered=is_ordered)


def _shown(
    index: _Array,
    lengths: _Array,
    known: Sequence[predict.SeenProduct],
    encoding: predict.TimeEncoding,
) -> _Array | None:
    """Return the index as files store it, if that is not the index itself."""
    if len(known) == len(lengths):
        return None
    shown = encoding.written(index)
    if shown is index:
        return None
    ends = np.cumsum(lengths)
    shown = shown.copy()
    for product in known:
        shown[ends[product.piece] - len(product.values) : ends[product.piece]] = product.values
    return None if np.array_equal(shown, index) else shown


def _unpredictable(why: str, headers: HeaderIndex) -> ProductMismatchError:
    dim = _layout(headers).dim
    if headers.is_complete:
        msg = (
            f"The products do not stack along {dim!r}: {why}. Narrow the query to products of one "
            "kind, or name another concat_dim. If calendars differ only in which dates numpy can "
            "hold, open with use_cftime=True."
        )
    else:
        msg = (
            f"Where the products lie along {dim!r} cannot be told from the catalogue's times: "
            f"{why}. {_SCAN}"
        )
    return ProductMismatchError(msg)


def _segments(found: Sequence[Product], steps: _Steps, on_overlap: str) -> Segments | None:
    """Return which steps to take where products cover the same times; None: all of them.

    Raises QueryError if they do and are to be refused, or if nothing tells which is the latest.
    """
    if steps.index is None or not steps.is_ordered:
        return None
    pairs = overlapping(steps.index, steps.lengths)
    if not pairs:
        return None
    if on_overlap == "raise":
        raise _overlap(found, pairs, steps.lengths)
    firsts = first_times(steps.index, steps.lengths).tolist()
    ranks = [
        (product.startdate or "", first, product.updated or "")
        for product, first in zip(found, firsts, strict=True)
    ]
    for one, other in _undecided(steps, ranks):
        msg = (
            f"The products {found[one].product_id} and {found[other].product_id} cover the "
            "same times, and the catalogue does not tell which is the later one: their starts "
            f"are equal, and so are their dates of publication. {_NARROW}"
        )
        raise QueryError(msg, key="on_overlap")
    is_latest = on_overlap == "latest"
    preference = sorted(range(len(found)), key=ranks.__getitem__, reverse=is_latest)
    return without_overlaps(steps.index, steps.lengths, preference)


def _undecided(steps: _Steps, ranks: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Yield products of one rank that overlap."""
    alike: dict[Any, list[int]] = {}
    for number, rank in enumerate(ranks):
        alike.setdefault(rank, []).append(number)
    for numbers in alike.values():
        if len(numbers) > 1:
            part = steps.take(np.array(numbers))
            if part.index is not None:
                for one, other in overlapping(part.index, part.lengths):
                    yield numbers[one], numbers[other]


def _overlap(
    found: Sequence[Product], pairs: Sequence[tuple[int, int]], lengths: _Array
) -> QueryError:
    first, second = (found[number] for number in pairs[0])
    more = f" (and {len(pairs) - 1} more such pairs)" if len(pairs) > 1 else ""
    if most_different_bbox([first.bbox, second.bbox], [0]) is not None:
        what = f"stand at the same time in different places{more}, as tiles do. {_TILES}"
    elif all(lengths[number] == 1 for number in pairs[0]):
        what = (
            f"stand at the same time{more}. If they are versions of one product, or steps of "
            f"several runs: {_NARROW} {_LATEST} If they are different bands or tiles: {_TILES}"
        )
    else:
        what = (
            f"cover the same times{more}, and steps of two products are never mixed. If they are "
            f"runs of a forecast, or versions: {_LATEST} {_NARROW}"
        )
    msg = f"The products {printable(first.product_id)} and {printable(second.product_id)} {what}"
    return QueryError(msg, key="on_overlap")


def _times(pieces: Sequence[Product], name: str) -> _Array:
    texts = [(getattr(product, name) or "NaT").removesuffix("Z") for product in pieces]
    return np.array(texts, dtype="datetime64[us]")


def _catalogue_index(pieces: ProductTable, starts: _Array) -> _Array:
    if np.isnat(starts).any():
        product = pieces[int(np.flatnonzero(np.isnat(starts))[0])]
        msg = (
            f"The products have no time coordinate, and the catalogue tells no start of "
            f"{printable(product.product_id)} either. Open products one by one, or name a "
            "concat_dim that they have."
        )
        raise QueryError(msg)
    return starts.astype("datetime64[ns]")


def _dataset(stack: Stack, template_number: int, known: Collection[Header]) -> xr.Dataset:
    """Put the variables together: stacked ones, the index, and those of the template."""
    layout, template = stack.layout, stack.template
    variables: dict[str, xr.Variable] = {}
    coordinates: dict[str, None] = {}
    for name, header in template.variables.items():
        if header.is_coordinate or name == layout.dim:
            coordinates[name] = None
        if name == layout.dim:
            continue
        if name in layout.stacked:
            dims = header.dims if layout.dim in header.dims else (layout.dim, *header.dims)
            data = indexing.LazilyIndexedArray(StackArray(stack, name, dims))
            variable: xr.Variable = HDAVariable(dims, data, header.attrs, dict(header.encoding))
            if stack.chunks:
                variable.encoding["preferred_chunks"] = {layout.dim: stack.chunks}
        elif header.values is not None:
            variable = xr.Variable(header.dims, header.values, header.attrs, dict(header.encoding))
        else:
            lazy = TemplateArray(stack, name, number=_holder(stack, name, template_number))
            data = indexing.LazilyIndexedArray(lazy)
            variable = HDAVariable(header.dims, data, header.attrs, dict(header.encoding))
        variables[name] = variable
    coordinate = stack.coordinate
    if coordinate is not None:
        mine = template.variables.get(layout.dim)
        attrs = dict(mine.attrs) if mine is not None else {"standard_name": "time"}
        encoding = dict(mine.encoding) if mine is not None else {}
        variables[layout.dim] = xr.Variable((layout.dim,), coordinate, attrs, encoding)
        coordinates[layout.dim] = None
    dataset = xr.Dataset(variables, attrs=_common_attrs(template, known))
    return dataset.set_coords([name for name in coordinates if name in variables])


def _with_product_ids(dataset: xr.Dataset, stack: Stack, name: str) -> xr.Dataset:
    if name in dataset.variables or name in dataset.sizes:
        msg = f"product_coord={name!r} is a name that the products use themselves. Choose another."
        raise QueryError(msg, key="product_coord")
    ids = np.array([product.product_id for product in stack.source.pieces], dtype=object)
    return dataset.assign_coords({name: (stack.layout.dim, ids[stack.numbers])})


def _holder(stack: Stack, name: str, template_number: int) -> int:
    """Return the template, or the first product that has a variable that the template lacks."""
    absent = set(stack.absent.get(name, np.zeros(0)).tolist())
    if template_number not in absent:
        return template_number
    return next(number for number in range(len(stack.lengths)) if number not in absent)


def _tell_absent(stack: Stack, path: str) -> None:
    """Warn, once, of variables that some products lack."""
    lacking = {name: stack.absent[name] for name in sorted(stack.absent)}
    if not lacking:
        return
    count = len(stack.source.pieces)
    told = "; ".join(
        f"{name!r} in {len(numbers)} of {count} products, the first of them "
        f"{stack.source.pieces[int(numbers[0])].product_id}"
        + ("" if name in stack.layout.stacked else " (taken from the others)")
        for name, numbers in lacking.items()
    )
    warn(
        f"Some products of {path} lack variables, whose values are missing there: {told}. Open "
        f"with drop_variables={list(lacking)} to do without them.",
        stacklevel=2,
    )


def _common_attrs(template: Header, known: Collection[Header]) -> dict[str, Any]:
    """Return the global attributes that are not known to differ between products."""
    return {
        name: value
        for name, value in template.attrs.items()
        if all(name in h.attrs and np.array_equal(h.attrs[name], value) for h in known)
    }
