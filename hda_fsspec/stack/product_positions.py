"""Positions of products along the dimension of concatenation, and the steps taken of each.

What the headers do not tell is predicted, by a predictor that is given; what it asks for is read.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hda_fsspec.errors import ProductMismatchError, QueryError, note_once
from hda_fsspec.printable import printable
from hda_fsspec.records import Product
from hda_fsspec.stack.concat_dim import ConcatLayout
from hda_fsspec.stack.footprints import most_different_bbox
from hda_fsspec.stack.header_store import HeaderIndex
from hda_fsspec.stack.product_grid import start_times
from hda_fsspec.timeindex import catalogue_times
from hda_fsspec.timeindex.overlaps import (
    Segments,
    first_times,
    overlapping,
    without_overlaps,
)
from hda_fsspec.timeindex.regular_times import RegularTimes

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
    "open those of one kind or place with a pattern over product ids, such as *_B04*; or tiles "
    "side by side with mosaic=True; or each as a node of a tree, with "
    'xr.open_datatree(…, engine="hda").'
)


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
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

    def take(self, order: _Array) -> Steps:
        """Return the steps with the products in another order."""
        every = Segments(order, np.zeros(len(order), np.int64), self.lengths[order])
        steps = every.steps(self.lengths)
        index = None if self.index is None else self.index[steps]
        shown = None if self.shown is None else self.shown[steps]
        return dataclasses.replace(self, lengths=every.counts, index=index, shown=shown)

    @functools.cached_property
    def _begins(self) -> _Array:
        return np.cumsum(self.lengths) - self.lengths

    def of(self, part: int, *, is_shown: bool = False) -> _Array:
        """Return the index of one part, as it is predicted or as it is shown."""
        values = self.shown if is_shown and self.shown is not None else self.index
        if values is None:
            raise AssertionError
        return values[self._begins[part] : self._begins[part] + self.lengths[part]]


def layout_of(headers: HeaderIndex) -> ConcatLayout:
    """Return how products are laid, as far as the headers that are known tell."""
    layout = headers.layout
    if layout is None:
        raise AssertionError
    if any(layout.length(header) != 1 for header in headers.known.values()):
        # One start for each product is no index for several steps.
        layout = dataclasses.replace(layout, is_from_catalogue=False)
    return layout


def steps_of(
    headers: HeaderIndex,
    products: Sequence[Product],
    part_of: _Array,
    predictor: catalogue_times.Predictor,
    asked: int,
) -> Steps:
    """Return how many steps the parts of the axis of time have, and where they are.

    Parameters
    ----------
    headers : HeaderIndex
        What is known of the products of a kind; what is needed to tell is ordered.
    products : sequence of Product
        These products.
    part_of : numpy.ndarray
        The number of the part that each of them lies in, counted from 0, sorted.
    predictor : Predictor
        What tells the times of parts.
    asked : int
        How many headers were ordered beside the template's.

    Raises
    ------
    ProductMismatchError
        That cannot be told.
    """
    layout = layout_of(headers)
    firsts = np.flatnonzero(np.diff(part_of, prepend=-1))
    if layout.is_from_catalogue:
        index = _catalogue_index([products[number] for number in firsts.tolist()])
        return Steps(np.ones(len(firsts), np.int64), index, is_ordered=True)
    if layout.has_index:
        return _predicted(headers, part_of, firsts, predictor, asked)
    known = {int(part_of[number]): layout.length(h) for number, h in headers.known.items()}
    if len(known) < len(firsts) and len(set(known.values())) > 1:
        raise _unpredictable("products have different numbers of steps", headers)
    lengths = np.full(len(firsts), known[min(known)], np.int64)
    lengths[list(known)] = list(known.values())
    return Steps(lengths)


def _predicted(
    headers: HeaderIndex,
    part_of: _Array,
    firsts: _Array,
    predictor: catalogue_times.Predictor,
    asked: int,
) -> Steps:
    """Return where products lie; what is needed to tell is ordered."""
    while True:
        layout = layout_of(headers)
        seen: dict[int, catalogue_times.SeenProduct] = {}
        for number, header in sorted(headers.known.items()):
            part, values = int(part_of[number]), layout.index_values(header)
            if values is not None and part not in seen:
                encoding = header.variables[layout.dim].time_encoding
                seen[part] = catalogue_times.SeenProduct(
                    part, values, layout.bounds_values(header), encoding
                )
        known = list(seen.values())
        variable = headers.known[min(headers.known)].variables[layout.dim]
        try:
            prediction = predictor.predict(known, asked=asked)
        except catalogue_times.UnpredictableError as err:
            if isinstance(predictor, RegularTimes):
                is_time = variable.is_date or variable.dtype.kind == "M"
                raise _unpredictable_pieces(str(err), headers, is_time=is_time) from err
            raise _unpredictable(str(err), headers) from err
        if not prediction.ask:
            break
        asked += len(prediction.ask)
        wanted = [int(firsts[part]) for part in prediction.ask]
        headers.read(wanted)
        for number in wanted:
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
    return Steps(lengths, index, shown, is_ordered=is_ordered)


def _shown(
    index: _Array,
    lengths: _Array,
    known: Sequence[catalogue_times.SeenProduct],
    encoding: catalogue_times.TimeEncoding,
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


def _unpredictable_pieces(why: str, headers: HeaderIndex, *, is_time: bool) -> ProductMismatchError:
    scan = ", or with scan=True, which orders every piece and reads its header first"
    return ProductMismatchError(
        f"Where the pieces of the query lie along {layout_of(headers).dim!r} cannot be told from "
        f"those that were read: {why}. Open with split=None, which asks for all of it in one order"
        f"{scan if is_time and not headers.is_complete else ''}."
    )


def _unpredictable(why: str, headers: HeaderIndex) -> ProductMismatchError:
    dim = layout_of(headers).dim
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


def _catalogue_index(products: Sequence[Product]) -> _Array:
    starts = start_times([(product.product_id, product.startdate) for product in products])
    if np.isnat(starts).any():
        product = products[int(np.flatnonzero(np.isnat(starts))[0])]
        msg = (
            f"The products have no time coordinate, and the catalogue tells no start of "
            f"{printable(product.product_id)} either. Open products one by one, or name a "
            "concat_dim that they have."
        )
        raise QueryError(msg)
    return starts


def joined(steps: Sequence[Steps], parts: Sequence[_Array], kinds: Sequence[str]) -> Steps:
    """Return the steps of several kinds of products, which must stand at the same times.

    Parameters
    ----------
    steps : sequence of Steps
        Those of each kind, at least one.
    parts : sequence of numpy.ndarray
        Which parts of the axis of time each kind has, sorted.
    kinds : sequence of str
        What kinds are called.

    Raises
    ------
    ProductMismatchError
        They do not.
    """
    if len(steps) == 1:
        return steps[0]
    every = np.unique(np.concatenate(parts))
    lengths = np.full(len(every), -1, np.int64)
    chosen: list[tuple[Steps, int]] = [(steps[0], 0)] * len(every)
    for kind, its_steps, its_parts in zip(kinds, steps, parts, strict=True):
        if (its_steps.index is None) != (steps[0].index is None):
            raise _other_times(kind, kinds[0])
        for place, part in enumerate(np.searchsorted(every, its_parts).tolist()):
            if lengths[part] < 0:
                lengths[part], chosen[part] = its_steps.lengths[place], (its_steps, place)
            elif not _stand_alike(chosen[part], (its_steps, place)):
                raise _other_times(kind, kinds[0])
    if steps[0].index is None:
        return Steps(lengths)
    try:
        index = np.concatenate([chosen_steps.of(place) for chosen_steps, place in chosen])
    except TypeError as err:
        raise _other_times(kinds[1], kinds[0]) from err
    shown = None
    if any(kind_steps.shown is not None for kind_steps in steps):
        shown = np.concatenate(
            [chosen_steps.of(place, is_shown=True) for chosen_steps, place in chosen]
        )
    return Steps(
        lengths, index, shown, is_ordered=all(kind_steps.is_ordered for kind_steps in steps)
    )


def _stand_alike(one: tuple[Steps, int], other: tuple[Steps, int]) -> bool:
    if one[0].lengths[one[1]] != other[0].lengths[other[1]]:
        return False
    return one[0].index is None or np.array_equal(one[0].of(one[1]), other[0].of(other[1]))


def _other_times(kind: str, other: str) -> ProductMismatchError:
    return ProductMismatchError(
        f"Products of the kinds {printable(other)} and {printable(kind)} stand at other times, or "
        "have other numbers of steps. Open each kind by itself, with a key of the query or with a "
        f"pattern over product ids, such as *{printable(kind)}*."
    )


def segments_of(
    found: Sequence[Product], steps: Steps, on_overlap: str, runs: Mapping[str, int]
) -> Segments | None:
    """Return which steps to take where products cover the same times; None: all of them.

    Parameters
    ----------
    found : sequence of Product
        One product of each part of the axis of time.
    steps : Steps
        Where they lie.
    on_overlap : {"raise", "latest", "earliest"}
        What to do if they do.
    runs : mapping of str to int
        When runs began, by the ids of products: of equal starts in the catalogue that counts
        before the publication.

    Raises
    ------
    QueryError
        They do and are to be refused, or nothing tells which is the latest.
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
        (product.startdate or "", first, runs.get(product.product_id, 0), product.updated or "")
        for product, first in zip(found, firsts, strict=True)
    ]
    for one, other in _undecided(steps, ranks):
        msg = (
            f"The products {found[one].product_id} and {found[other].product_id} cover the "
            "same times, and the catalogue does not tell which is the later one: their starts "
            f"are equal, and so are their dates of publication. {_NARROW} If they are steps of "
            "several runs, which products tell themselves, scan=True reads it."
        )
        raise QueryError(msg, key="on_overlap")
    is_latest = on_overlap == "latest"
    preference = sorted(range(len(found)), key=ranks.__getitem__, reverse=is_latest)
    return without_overlaps(steps.index, steps.lengths, preference)


def _undecided(steps: Steps, ranks: Sequence[Any]) -> Iterator[tuple[int, int]]:
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
