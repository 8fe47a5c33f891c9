"""Opening a query: from the catalogue's answer to one lazy dataset.

One product of each kind is looked at, the template; where all the others stand is predicted from
the catalogue, and checked when they are read. A second, at most a third product is looked at where
the prediction needs it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from hda_fsspec.client import Client
from hda_fsspec.errors import (
    OrderError,
    ProductMismatchError,
    QueryError,
    no_products_error,
)
from hda_fsspec.lazy.arrays import Closer
from hda_fsspec.lazy.open_product import check_can_be_read
from hda_fsspec.lazy.product_table import ProductTable, Source
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable
from hda_fsspec.reading.opening import OpenOptions
from hda_fsspec.records import Product, by_time
from hda_fsspec.stack.concat_dim import ConcatLayout, loose_times, run_start
from hda_fsspec.stack.dataset import make_dataset, tell_absent, with_product_ids
from hda_fsspec.stack.footprints import most_different_bbox
from hda_fsspec.stack.header import Header
from hda_fsspec.stack.header_store import HeaderIndex
from hda_fsspec.stack.product_checks import ExpectedProduct
from hda_fsspec.stack.product_grid import Pieces
from hda_fsspec.stack.product_kinds import find_kinds
from hda_fsspec.stack.product_positions import Steps, joined, layout_of, segments_of, steps_of
from hda_fsspec.stack.same_times import refuse_equal_times
from hda_fsspec.stack.split_dims import KeySplit, key_axis, split_dimension
from hda_fsspec.stack.stack import Stack, Template
from hda_fsspec.stack.stack_axes import NOTHING, Grid, GridAxis
from hda_fsspec.stack.variable_names import names_of
from hda_fsspec.timeindex.overlaps import time_order

_Array = np.ndarray[Any, Any]

#: So many products may have to be ordered to see what a data set is like.
MAX_TEMPLATES = 20
_SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackOptions:
    """The options of a stack; see :meth:`HDABackendEntrypoint.open_dataset` for each."""

    concat_dim: str | None = None
    scan: bool = False
    concat_variables: tuple[str, ...] = ()
    on_missing: str = "raise"
    on_overlap: str = "raise"
    grid_tolerance: float | None = None
    product_coord: str | None = None


def open_query(
    client: Client,
    location: Location,
    options: OpenOptions,
    how: StackOptions,
    found: Sequence[Product],
) -> xr.Dataset:
    """Open the products that a query found as one lazy dataset; what is raised: see the engine."""
    found = sorted(found, key=by_time)
    if not found:
        raise no_products_error("open", location.path)
    check_can_be_read(location, found, options)
    kinds = find_kinds(found)
    if how.concat_dim in {None, "time"} and not how.scan and how.on_overlap == "raise":
        for numbers in kinds.values():
            of_kind = [found[number] for number in numbers] if len(kinds) > 1 else found
            refuse_equal_times(location, of_kind, lambda p: client.header(p) is not None)
    return open_pieces(client, location.path, Pieces.of_search(found, kinds), options, how)


def open_pieces(
    client: Client, path: str, pieces: Pieces, options: OpenOptions, how: StackOptions
) -> xr.Dataset:
    """Open products on a grid as one lazy dataset.

    Parameters
    ----------
    client : Client
        What searches, orders and keeps products.
    path : str
        What is opened, for messages.
    pieces : Pieces
        The products.
    options : OpenOptions
        How each is opened.
    how : StackOptions
        How they are put together.
    """
    _refuse_many(pieces, path, how)
    table = ProductTable(pieces.products, pieces.origin)
    source = Source(client.settings, table, options)
    openings = [
        _KindOpening(client, source, pieces, kind, how) for kind in range(len(pieces.kinds))
    ]
    _refuse_unlike(openings, how)
    steps = joined(
        [opening.steps for opening in openings],
        [opening.time_parts for opening in openings],
        pieces.kinds,
    )
    order = np.arange(len(steps.lengths))
    if steps.is_ordered and steps.index is not None:
        order = time_order(steps.index, steps.lengths)
    firsts = _first_of_each(pieces, order)
    steps = steps if (order == np.arange(len(order))).all() else steps.take(order)
    grid, table, number_of = _laid(pieces, order, steps, openings, source.pieces)
    runs = _run_starts(openings) if how.scan else {}
    segments = segments_of(firsts, steps, how.on_overlap, runs)
    axis = dataclasses.replace(grid.axes[0], segments=segments)
    grid = dataclasses.replace(grid, axes=(axis, *grid.axes[1:]))
    seen = [opening.seen for opening in openings]
    names = names_of(pieces.kinds, seen, is_cut=options.is_computed)
    templates, absent = [], dict[str, list[int]]()
    for label, opening, its_names in zip(pieces.kinds, openings, names, strict=True):
        template = Template(
            opening.template,
            opening.layout,
            number_of[opening.template_product],
            is_scanned=opening.headers.is_complete,
            kind=label,
            names={name: shown for name, shown in its_names.items() if shown is not None},
        )
        templates.append(template)
        for name, numbers in opening.absent.items():
            if its_names.get(name, name) is not None:
                absent[template.shown(name)] = sorted(number_of[n] for n in numbers)
    stack = Stack(
        dataclasses.replace(source, pieces=table),
        grid,
        templates,
        absent=absent,
        on_missing=how.on_missing,
        grid_tolerance=how.grid_tolerance,
        mark=openings[0].headers.mark,
        cut_further=pieces.cut_further,
    )
    known: list[Header] = []
    for opening in openings:
        for number, header in opening.headers.known.items():
            product = int(opening.numbers[number])
            stack.check_known(number_of[product], opening.headers.kept[number])
            known.append(header)
    left_out = [{name for name, shown in by_name.items() if shown is None} for by_name in names]
    dataset = make_dataset(stack, known, left_out)
    tell_absent(stack, path)
    if how.product_coord is not None:
        dataset = with_product_ids(dataset, stack, how.product_coord)
    dataset.encoding["source"] = path
    dataset.set_close(Closer(stack.source))
    ids = [table[template.number].product_id for template in templates]
    dataset.encoding["hda_template"] = ids[0] if len(ids) == 1 else ids
    return dataset


def _refuse_many(pieces: Pieces, path: str, how: StackOptions) -> None:
    count = len(pieces.kinds)
    if count <= MAX_TEMPLATES or how.scan:
        return
    shown = ", ".join(map(printable, pieces.kinds[:_SHOWN]))
    if pieces.origin is not None:
        fewer = -(-count // MAX_TEMPLATES)
        msg = (
            f"{path} was cut into pieces of {count} kinds ({shown}, …), one for each variable. To "
            f"see what each is like takes an order, and no more than {MAX_TEMPLATES} are placed "
            f'for that. Put more variables into a piece, as with split={{"time": "month", '
            f'"variable": {fewer}}}, or ask for fewer. Nothing was ordered.'
        )
        raise QueryError(msg, key="split")
    msg = (
        f"{path} has products of {count} kinds ({shown}, …). To see what each is like takes a "
        f"product of it, and no more than {MAX_TEMPLATES} are ordered for that. Narrow the query "
        f"to the kinds that you need, by a key or by a pattern over product ids, such as "
        f"*{printable(pieces.kinds[0])}*; or open with scan=True, which orders and reads all "
        f"{len(pieces.products)} products first."
    )
    raise QueryError(msg)


def _refuse_unlike(openings: Sequence[_KindOpening], how: StackOptions) -> None:
    """Refuse kinds that share no grid, and names of variables that none of them has."""
    first, *others = openings
    if not others:
        return
    there = {name for opening in openings for name in opening.template.variables}
    for name in sorted({*how.concat_variables} - there):
        msg = (
            f"concat_variables names {name!r}, which the products do not have. They have: "
            f"{', '.join(sorted(there))}."
        )
        raise QueryError(msg, key="concat_variables")
    for opening in others:
        if opening.layout.dim != first.layout.dim:
            msg = (
                f"Products of {printable(first.seen[2])} lie along {first.layout.dim!r}, and of "
                f"{printable(opening.seen[2])} along {opening.layout.dim!r}. Open each kind by "
                "itself, with a pattern over product ids."
            )
            raise ProductMismatchError(msg)
        header, _, product_id = opening.seen
        ExpectedProduct(
            product_id,
            first.template,
            first.layout,
            grid_tolerance=how.grid_tolerance,
            is_scanned=opening.headers.is_complete,
        ).check_grid(header)


class _KindOpening:
    """The state of opening the products of one kind.

    Attributes
    ----------
    numbers : numpy.ndarray
        The products of the kind, along the grid; its headers are numbered by their places here.
    headers : HeaderIndex
        The headers that are known.
    template, template_product : Header and int
        What all must agree with, and the product that it is of.
    absent : dict of str to list of int
        Variables that some products lack, with these.
    time_parts : numpy.ndarray
        The parts of the axis of time that there are products of.
    steps : Steps
        Where these stand.
    splits : tuple of KeySplit or None
        For each key, along which dimension it splits the products; None where along none.
    """

    def __init__(
        self, client: Client, source: Source, pieces: Pieces, kind: int, how: StackOptions
    ) -> None:
        cells = pieces.cells[:, kind]
        places = np.argwhere(cells != NOTHING)
        self.numbers = cells[tuple(places.T)]
        self._products: Sequence[Product] = pieces.products
        if len(self.numbers) < len(pieces.products):
            self._products = [pieces.products[number] for number in self.numbers.tolist()]
            source = dataclasses.replace(source, pieces=ProductTable(self._products))
        self._pieces, self._places, self._how = pieces, places, how
        self.time_parts, part_of = np.unique(places[:, 0], return_inverse=True)
        self.splits: tuple[KeySplit | None, ...] = ()
        self.headers = HeaderIndex(
            client,
            source,
            concat_dim=how.concat_dim,
            concat_variables=how.concat_variables,
            may_miss=how.on_missing == "nan",
            keep_grids=how.grid_tolerance is not None,
            is_one_of_kinds=len(pieces.kinds) > 1,
        )
        asked = self._look()
        until = None if pieces.end is None else pieces.end.until()
        predictor = pieces.predictor(self.time_parts, until)
        self.steps = steps_of(self.headers, self._products, part_of.ravel(), predictor, asked)
        first = min(self.headers.known)
        self.template_product = int(self.numbers[first])
        self.template, self.absent = self.headers.known[first], dict[str, list[int]]()
        if self.headers.is_complete:
            self.template, lacking = self.headers.unite()
            self.absent = {
                name: [int(self.numbers[n]) for n in numbers] for name, numbers in lacking.items()
            }

    @property
    def layout(self) -> ConcatLayout:
        """The layout of the products."""
        split_dims = tuple(split.dim for split in self.splits if split is not None)
        return dataclasses.replace(layout_of(self.headers), split_dims=split_dims)

    @property
    def seen(self) -> tuple[Header, ConcatLayout, str]:
        """The template, as kinds are compared."""
        product = self._pieces.products[self.template_product]
        return self.template, self.layout, product.product_id

    def _look(self) -> int:
        """Take the headers that are needed in any case; return how many beside the template's."""
        headers, how = self.headers, self._how
        headers.load_stored()
        if how.scan:
            headers.read(range(len(self.numbers)))
        headers.find_template()
        self._look_at_the_end()
        self._split()
        asked = 0
        probe = most_different_bbox([product.bbox for product in self._products], headers.known)
        if probe is None and len(headers.known) == 1:
            probe = _another_time(headers, len(self.numbers))
        if probe is not None and not headers.is_complete:
            asked += 1
            headers.read([probe])
        template = headers.known[min(headers.known)]
        if headers.is_complete:
            template, _ = headers.unite()
        for number, header in headers.known.items():
            expected = ExpectedProduct(
                headers.product_id(number),
                template,
                self.layout,
                grid_tolerance=how.grid_tolerance,
                is_scanned=headers.is_complete,
            )
            try:
                expected.check(header)
            except ProductMismatchError:
                # By how much coordinates differ is told from values that are not at hand before.
                first = headers.with_grids(min(headers.known), template)
                theirs = headers.with_grids(number, header)
                dataclasses.replace(expected, template=first).check(theirs)
                raise
        return asked

    def _look_at_the_end(self) -> None:
        """Read a product of each part of time that may be shorter than it was asked for."""
        times, end = self._places[:, 0], self._pieces.end
        known = {int(times[number]) for number in self.headers.known}
        for part in self._pieces.provisional:
            if part in known:
                continue
            number = int(np.argmax(times == part))
            try:
                self.headers.read([number])
            except OrderError as err:
                if end is None or not end.is_told(self._products[number], err):
                    raise

    def _split(self) -> None:
        """Find along which dimensions keys split the products."""
        first = min(self.headers.known)
        header = self.headers.known[first]
        dim = layout_of(self.headers).dim
        self.splits = tuple(
            split_dimension(key, int(self._places[first, 1 + n]), header, dim)
            for n, key in enumerate(self._pieces.keys)
        )


def _another_time(headers: HeaderIndex, count: int) -> int | None:
    """Return the product that tells in which of several times the products differ.

    Where products have no time dimension, but several other times, such as the start of a run and
    its steps, one product does not tell along which of them it is stacked.
    """
    (number, header), *_ = headers.known.items()
    layout = layout_of(headers)
    if count == 1 or not layout.is_new or len(loose_times(header)) < 2:
        return None
    return count - 1 if number < count // 2 else 0


def _first_of_each(pieces: Pieces, order: _Array) -> list[Product]:
    """Return a product of each part of the axis of time, in an order of these."""
    rows = pieces.cells.reshape(len(pieces.cells), -1)[order]
    rows = np.where(rows == NOTHING, len(pieces.products), rows).min(axis=1)
    return [pieces.products[number] for number in rows.tolist()]


def _run_starts(openings: Sequence[_KindOpening]) -> dict[str, int]:
    """Return when the runs of products began that tell it themselves, by the ids of products."""
    return {
        opening.headers.product_id(number): start
        for opening in openings
        for number, header in opening.headers.known.items()
        if (start := run_start(header)) is not None
    }


def _laid(
    pieces: Pieces,
    order: _Array,
    steps: Steps,
    openings: Sequence[_KindOpening],
    table: ProductTable,
) -> tuple[Grid, ProductTable, dict[int, int]]:
    """Return the grid, its products, and what the number of each is among these.

    The parts of the axis of time are put in order.
    """
    cells = pieces.cells[order]
    flat = cells.ravel()
    numbers = flat[flat != NOTHING]
    if len(numbers) < len(table) or (numbers != np.arange(len(table))).any():
        table = ProductTable([pieces.products[number] for number in numbers.tolist()])
    axes = [GridAxis("time", openings[0].layout.dim, steps.lengths, steps.index, steps.shown)]
    if len(pieces.kinds) > 1:
        axes.append(GridAxis.of_kinds(len(pieces.kinds)))
    else:
        cells = cells[:, 0]
    axes += [
        key_axis(key, [opening.splits[n] for opening in openings])
        for n, key in enumerate(pieces.keys)
    ]
    number_of = {int(old): new for new, old in enumerate(numbers.tolist())}
    filled = np.full(flat.shape, NOTHING, np.int64)
    filled[flat != NOTHING] = np.arange(len(numbers))
    is_dense = len(numbers) == len(flat)
    grid = Grid(tuple(axes), None if is_dense else filled.reshape(cells.shape))
    return grid, table, number_of
