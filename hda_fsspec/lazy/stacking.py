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

from hda_fsspec.errors import ProductMismatchError, QueryError, nothing_found
from hda_fsspec.lazy import orderahead
from hda_fsspec.lazy.footprints import elsewhere
from hda_fsspec.lazy.headers import Header
from hda_fsspec.lazy.keptheaders import KnownHeaders
from hda_fsspec.lazy.layouts import Layout
from hda_fsspec.lazy.mismatches import check_kind
from hda_fsspec.lazy.pieces import Pieces
from hda_fsspec.lazy.recipes import RecipeVariable, Source
from hda_fsspec.lazy.stack import Stack
from hda_fsspec.lazy.stackarrays import StackArray, TemplateArray
from hda_fsspec.paths.locations import Location
from hda_fsspec.reading.opening import OpenOptions
from hda_fsspec.records import Product
from hda_fsspec.timing import timeline
from hda_fsspec.usecase.products import Products

_Array = np.ndarray[Any, Any]

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


def open_query(
    products: Products, location: Location, options: OpenOptions, how: StackOptions
) -> xr.Dataset:
    """Open the products of a query as one lazy dataset; what is raised: see the engine."""
    found = sorted(products.search(location), key=lambda p: (p.startdate or "", p.product_id))
    if not found:
        raise nothing_found("open", location.path)
    orderahead.register()
    pieces = Pieces(found)
    source = Source(products.settings, pieces, options)
    headers = KnownHeaders(
        products,
        source,
        concat_dim=how.concat_dim,
        concat_variables=how.concat_variables,
        may_miss=how.on_missing == "nan",
    )
    layout, template_number, asked = _look(headers, [product.bbox for product in found], how)
    template = headers.known[template_number]
    lengths, index, tolerance = _index(pieces, headers, layout, template, asked)
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
    stack.checked_files.update(headers.files)
    dataset = _dataset(stack, template_number, list(headers.known.values()))
    if how.product_coord is not None:
        dataset = _with_product_ids(dataset, stack, how.product_coord)
    dataset.encoding["source"] = location.path
    dataset.encoding["hda_template"] = pieces[template_number].product_id
    return dataset


def _look(
    headers: KnownHeaders, boxes: Sequence[str | None], how: StackOptions
) -> tuple[Layout, int, int]:
    """Take the headers that are needed in any case.

    Returns
    -------
    tuple of (Layout, int, int)
        How products lie, which one is the template, and how many were ordered beside it.
    """
    asked = 0
    headers.recall()
    if how.scan:
        headers.look_at(range(len(boxes)))
    headers.find_template()
    template_number = min(headers.known)
    probe = elsewhere(boxes, headers.known)
    if probe is not None and not how.scan:
        asked += 1
        headers.look_at([probe])
    layout = headers.layout
    if layout is None:
        raise AssertionError
    for number, header in headers.known.items():
        product_id = headers.product_id(number)
        check_kind(product_id, header, headers.known[template_number], layout)
    if any(layout.length(header) != 1 for header in headers.known.values()):
        # One start for each product is no index for several steps.
        layout = dataclasses.replace(layout, is_from_catalogue=False)
    return layout, template_number, asked


def _index(
    pieces: Pieces, headers: KnownHeaders, layout: Layout, template: Header, asked: int
) -> tuple[_Array, _Array | None, Any]:
    """Return the steps of each product, the index of the whole, and how exact it is."""
    interval = (_times(pieces, "startdate"), _times(pieces, "enddate"))
    if layout.is_from_catalogue:
        lengths, index = np.ones(len(pieces), np.int64), _catalogue_index(pieces, interval[0])
        _refuse_duplicates(pieces, index, lengths, interval)
        return lengths, index, _MILLISECOND
    if layout.has_index:
        prediction, tolerance = _predicted(headers, layout, template, interval, asked)
        if prediction.values is None:
            raise _unpredictable("the rules that fit disagree", layout)
        _refuse_duplicates(pieces, prediction.values, prediction.lengths, interval)
        return prediction.lengths, prediction.values, tolerance
    known = {n: layout.length(h) for n, h in headers.known.items()}
    if len(known) < len(pieces) and len(set(known.values())) > 1:
        raise _unpredictable("products have different numbers of steps", layout)
    lengths = np.full(len(pieces), layout.length(template), np.int64)
    for number, length in known.items():
        lengths[number] = length
    return lengths, None, _MILLISECOND


def _predicted(
    headers: KnownHeaders,
    layout: Layout,
    template: Header,
    interval: tuple[_Array, _Array],
    asked: int,
) -> tuple[timeline.Prediction, Any]:
    """Return where products lie, and how exact it is; what is needed to tell is ordered."""
    variable = template.variables[layout.dim]
    tolerance = timeline.resolution_of(
        variable.encoding.get("units"),
        variable.stored,
        variable.encoding.get("calendar"),
        values=layout.index_values(template),
    )
    while True:
        known = [
            timeline.Known(number, values, layout.bounds_values(header))
            for number, header in sorted(headers.known.items())
            if (values := layout.index_values(header)) is not None
        ]
        try:
            prediction = timeline.predict(*interval, known, tolerance=tolerance, asked=asked)
        except timeline.UnpredictableError as err:
            raise _unpredictable(str(err), layout) from err
        if not prediction.ask:
            return prediction, tolerance
        asked += len(prediction.ask)
        headers.look_at(prediction.ask)
        for number in prediction.ask:
            if number in headers.missing:
                raise headers.missing[number]


def _unpredictable(why: str, layout: Layout) -> ProductMismatchError:
    msg = (
        f"Where the products lie along {layout.dim!r} cannot be told from the catalogue's times: "
        f"{why}. {_SCAN}"
    )
    return ProductMismatchError(msg)


def _refuse_duplicates(
    pieces: Pieces, index: _Array, lengths: _Array, interval: tuple[_Array, _Array]
) -> None:
    pairs = timeline.duplicates(index, lengths, *interval)
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


def _times(pieces: Sequence[Product], name: str) -> _Array:
    texts = [(getattr(product, name) or "NaT").removesuffix("Z") for product in pieces]
    return np.array(texts, dtype="datetime64[us]")


def _catalogue_index(pieces: Pieces, starts: _Array) -> _Array:
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
    coordinates: dict[str, None] = {}
    for name, header in template.variables.items():
        if header.is_coordinate or name == layout.dim:
            coordinates[name] = None
        if name == layout.dim:
            continue
        if name in layout.stacked:
            dims = header.dims if layout.dim in header.dims else (layout.dim, *header.dims)
            data = indexing.LazilyIndexedArray(StackArray(stack, name, dims))
            variable: xr.Variable = RecipeVariable(dims, data, header.attrs, dict(header.encoding))
            variable.encoding["preferred_chunks"] = {layout.dim: _chunks(stack.lengths)}
        elif header.values is not None:
            variable = xr.Variable(header.dims, header.values, header.attrs, dict(header.encoding))
        else:
            lazy = TemplateArray(stack, name, number=template_number)
            data = indexing.LazilyIndexedArray(lazy)
            variable = RecipeVariable(header.dims, data, header.attrs, dict(header.encoding))
        variables[name] = variable
    if stack.index is not None:
        mine = template.variables.get(layout.dim)
        attrs = dict(mine.attrs) if mine is not None else {"standard_name": "time"}
        encoding = dict(mine.encoding) if mine is not None else {}
        variables[layout.dim] = xr.Variable((layout.dim,), stack.index, attrs, encoding)
        coordinates[layout.dim] = None
    dataset = xr.Dataset(variables, attrs=_common_attrs(template, known))
    return dataset.set_coords([name for name in coordinates if name in variables])


def _with_product_ids(dataset: xr.Dataset, stack: Stack, name: str) -> xr.Dataset:
    if name in dataset.variables or name in dataset.sizes:
        msg = f"product_coord={name!r} is a name that the products use themselves. Choose another."
        raise QueryError(msg, key="product_coord")
    ids = np.array([product.product_id for product in stack.source.pieces], dtype=object)
    return dataset.assign_coords({name: (stack.layout.dim, ids.repeat(stack.lengths))})


def _chunks(lengths: _Array) -> int | tuple[int, ...]:
    return int(lengths[0]) if (lengths == lengths[0]).all() else tuple(lengths.tolist())


def _common_attrs(template: Header, known: Collection[Header]) -> dict[str, Any]:
    """Return the global attributes that are not known to differ between products."""
    return {
        name: value
        for name, value in template.attrs.items()
        if all(name in h.attrs and np.array_equal(h.attrs[name], value) for h in known)
    }
