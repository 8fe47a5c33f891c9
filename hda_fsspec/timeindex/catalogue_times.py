"""Prediction of an index of products, from the times that a catalogue shows of them.

Opening a query as one dataset needs the index of the dimension along which products are stacked,
and reading it would order every product. A few products that were seen tell by which rule their
times follow from their intervals in the catalogue; the rule then tells the times of the others.
The module does no I/O, and has never heard of files.

What cannot be known from here: whether a product that was not seen keeps to the pattern of those
that were, in its times or in how many it holds. It has to be checked when it is first read. Two
things are taken for granted: products whose intervals do not overlap have times of their own, and
products have as many times as those seen, unless their intervals make that doubtful.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hda_fsspec.timeindex.calendars import (
    HOUR,
    MILLISECOND,
    SECOND,
    Array,
    Flags,
    Ticks,
    TimeAxis,
    UnpredictableError,
    axis_of,
)
from hda_fsspec.timeindex.encoding import TimeEncoding
from hda_fsspec.timeindex.prediction_rules import Interval, TimeGrid, rules

__all__ = [
    "CatalogueTimes",
    "Prediction",
    "Predictor",
    "SeenProduct",
    "TimeEncoding",
    "UnpredictableError",
    "predict",
]

#: Products that are ordered beside the template to decide between rules.
MAX_ASKED = 2

_CONSTANT = "the same in all products"
_SEEN = "read from every product"


#: How times are taken to be stored where nothing is known of it, or each file has a way of its own.
_EXACT = TimeEncoding()


@dataclasses.dataclass(frozen=True, eq=False)
class SeenProduct:
    """The times of one product whose header was seen.

    Attributes
    ----------
    piece : int
        Its number in the catalogue's order.
    values : numpy.ndarray
        Its decoded values of the index: ``datetime64``, cftime objects, or numbers.
    bounds : numpy.ndarray or None
        Their bounds, two for each, where the product has some that are times of the same kind.
    encoding : TimeEncoding
        How its file stores them.
    """

    piece: int
    values: Array
    bounds: Array | None = None
    encoding: TimeEncoding = _EXACT


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """The index of all products, or the product that would decide between two of them.

    Attributes
    ----------
    values : numpy.ndarray or None
        The values of all products in the order of pieces; None as long as rules disagree.
    lengths : numpy.ndarray
        How many values each product holds.
    ask : tuple of int
        The piece whose header is needed to decide; empty when decided.
    rules : tuple of str
        The rules that still fit, for messages.
    constant : bool
        The values are no times and are equal in all products (NEMO's ``time_counter``, which is
        0), so equal ones are no duplicates.
    """

    values: Array | None
    lengths: Ticks
    ask: tuple[int, ...] = ()
    rules: tuple[str, ...] = ()
    constant: bool = False


class Predictor(Protocol):
    """Predicts the index of all products, or pieces of a query, from the times of a few.

    The rules of :func:`predict` are one. Others know more: that pieces hold all times of a regular
    step between their bounds, or which times a request itself names.
    """

    def predict(self, known: Sequence[SeenProduct], *, asked: int) -> Prediction:
        """Predict the index.

        Parameters
        ----------
        known : sequence of SeenProduct
            Products that were seen, at least one.
        asked : int
            How many headers were ordered because the predictor asked.

        Raises
        ------
        UnpredictableError
            What was seen does not tell, and no more headers may be asked for.
        """


@dataclasses.dataclass(frozen=True, eq=False)
class CatalogueTimes:
    """The predictor of products of which a catalogue shows the intervals; see :func:`predict`.

    Attributes
    ----------
    starts, ends : numpy.ndarray
        The intervals, ``datetime64[us]``; NaT where it tells none.
    """

    starts: Array
    ends: Array

    def predict(self, known: Sequence[SeenProduct], *, asked: int) -> Prediction:
        """Predict the index."""
        return predict(self.starts, self.ends, known, asked=asked)


def predict(
    starts: Array,
    ends: Array,
    known: Sequence[SeenProduct],
    *,
    asked: int | None = None,
) -> Prediction:
    """Predict the index of all products from the times of some.

    Every rule that fits all products seen is applied to the others. If they agree on all of them,
    to the millisecond, the index is decided; or if the bounds of products tell which rule it is.
    Else the product is named that tells most of them apart. Products that were seen keep their
    own values; those without any step tell nothing of the others. Where files store whole units,
    or coarse floats, ways to round to them are rules of their own.

    Parameters
    ----------
    starts, ends : numpy.ndarray
        The intervals of the catalogue, ``datetime64[us]``; NaT where it tells none.
    known : sequence of SeenProduct
        Products that were seen, at least one.
    asked : int, optional
        How many headers were ordered because this function asked; by default all known but one.

    Raises
    ------
    UnpredictableError
        No rule fits, or rules disagree and no more headers may be asked for.
    """
    seen = {
        product.piece: product.values
        for product in sorted(known, key=lambda product: product.piece)
    }
    if not seen:
        raise ValueError("At least one product must have been seen to predict the others.")
    telling = {piece: values for piece, values in seen.items() if values.size}
    axis = axis_of(list(telling.values())) if telling else None
    if len(seen) == len(starts):
        return _all_seen(list(seen.values()), is_time=axis is not None)
    asked = len(seen) - 1 if asked is None else asked
    if not telling:
        if asked >= MAX_ASKED:
            raise UnpredictableError(f"the {len(seen)} products that were read have no step")
        unseen = next(piece for piece in range(len(starts)) if piece not in seen)
        return Prediction(None, np.zeros(len(starts), np.int64), (unseen,))
    sizes = {len(values) for values in telling.values()}
    if len(sizes) > 1:
        counts = " and ".join(str(size) for size in sorted(sizes))
        raise UnpredictableError(f"its products hold different numbers of values ({counts})")
    if axis is None:
        return _predict_constant(starts, seen)
    bounds = {product.piece: product.bounds for product in known if product.bounds is not None}
    encodings = {product.encoding for product in known if product.values.size}
    # Each file may count from a time of its own, and then nothing follows from one of them.
    encoding = encodings.pop() if len(encodings) == 1 else _EXACT
    return _predict_times(axis, (starts, ends), seen, bounds, encoding=encoding, asked=asked)


def _all_seen(arrays: list[Array], *, is_time: bool) -> Prediction:
    lengths = np.array([len(values) for values in arrays], np.int64)
    telling = [values for values in arrays if values.size] or arrays[:1]
    constant = not is_time and _are_equal(telling)
    return Prediction(np.concatenate(telling), lengths, rules=(_SEEN,), constant=constant)


def _are_equal(arrays: list[Array]) -> bool:
    if len({values.shape for values in arrays}) > 1:
        return False
    stacked = np.stack(arrays)
    same = stacked == stacked[0]
    if stacked.dtype.kind == "f":
        same |= np.isnan(stacked) & np.isnan(stacked[0])
    return bool(np.all(same))


def _joined(rows: Array, seen: dict[int, Array]) -> tuple[Array, Ticks]:
    """Return predicted rows as one index, with the own values of products seen; and lengths."""
    lengths = np.full(len(rows), rows.shape[1], np.int64)
    lengths[list(seen)] = [len(values) for values in seen.values()]
    if any(values.size == 0 for values in seen.values()):
        parts = [seen.get(piece, row) for piece, row in enumerate(rows)]
        return np.concatenate([part for part in parts if part.size]), lengths
    values = rows.copy()
    for piece, own in seen.items():
        values[piece] = own
    return values.ravel(), lengths


def _predict_constant(starts: Array, seen: dict[int, Array]) -> Prediction:
    """Predict values that are no times: by them a product cannot stand anywhere but the others."""
    telling = {piece: values for piece, values in seen.items() if values.size}
    arrays = list(telling.values())
    first = arrays[0]
    if not _are_equal(arrays):
        reason = "its index is no time that could be decoded, and differs between products"
        raise UnpredictableError(reason)
    if len(arrays) == 1:
        # One product does not tell whether its number is that of all; the farthest in time does.
        away = np.abs(starts - starts[next(iter(telling))]).astype(np.int64)
        away[list(seen)] = np.iinfo(np.int64).min
        lengths = np.full(len(starts), len(first), np.int64)
        return Prediction(None, lengths, (int(np.argmax(away)),), (_CONSTANT,))
    values, lengths = _joined(np.tile(first, (len(starts), 1)), seen)
    return Prediction(values, lengths, rules=(_CONSTANT,), constant=True)


@dataclasses.dataclass(frozen=True, eq=False)
class _Fit:
    """The index that a rule gives: as it is, and as files store it."""

    name: str
    error: int
    exact: Ticks
    values: Ticks


def _predict_times(
    axis: TimeAxis,
    interval: tuple[Array, Array],
    seen: dict[int, Array],
    bounds: dict[int, Array],
    *,
    encoding: TimeEncoding,
    asked: int,
) -> Prediction:
    pieces = np.array([piece for piece, values in seen.items() if values.size])
    ticks = axis.ticks(np.concatenate([seen[piece] for piece in pieces])).reshape(len(pieces), -1)
    starts, ends, is_usable = _usable(*interval, pieces, np.array(list(seen)))
    rows, own = pieces[is_usable], ticks[is_usable]
    placed = Interval.of(axis, starts, ends)
    grid = stored_grid(axis, encoding, own.ravel(), is_of_one=len(own) == 1)
    within = MILLISECOND
    fits = _fits(placed, (rows, own), grid, within)
    if not fits and grid != TimeGrid():
        # Each file may have units of its own, such as the longest that its few times allow.
        grid = TimeGrid()
        fits = _fits(placed, (rows, own), grid, within)
    if not fits:
        return _evenly_spaced(axis, placed, seen, (rows, own), asked)
    # Of rules that miss what was seen by parts of a millisecond, the nearest ones.
    least = min(fit.error for fit in fits)
    fits = [fit for fit in fits if fit.error == least]
    bounded = np.array([int(row) in bounds for row in rows], np.bool_)
    if own.shape[1] == 1 and bounded.any():
        having = rows[bounded]
        pairs = axis.ticks(np.stack([bounds[int(row)].ravel() for row in having]))
        away = max(within, grid.spacing, (grid.step or 0) // 2)
        evidence = (having, own[bounded, 0], pairs)
        fits = _fits_by_bounds(fits, placed, evidence, (away, within)) or fits
    names = tuple(dict.fromkeys(fit.name for fit in fits))
    lengths = np.full(len(starts), own.shape[1], np.int64)
    is_open = np.ones(len(starts), np.bool_)
    is_open[list(seen)] = False
    twin = _unseen_duplicate(*interval, is_open) if asked < MAX_ASKED else None
    if twin is not None:
        return Prediction(None, lengths, (twin,), names)
    spread = _spread(fits, is_open)
    if spread.max() > within:
        if asked >= MAX_ASKED:
            rest = f"{', '.join(names)} still fit the {len(seen)} headers that were read"
            raise UnpredictableError(f"{rest} and differ by up to {_duration(int(spread.max()))}")
        piece = int(np.flatnonzero(is_open)[_most_telling(fits, is_open, spread, within)])
        return Prediction(None, lengths, (piece,), names)
    best = fits[0].values
    if grid.step is None and grid.spacing <= within:
        best = _settled(best, ticks, within)
    values, lengths = _joined(axis.times(best.ravel()).reshape(best.shape), seen)
    return Prediction(values, lengths, rules=names)


def _fits(
    interval: Interval, evidence: tuple[Array, Ticks], grid: TimeGrid, within: int
) -> list[_Fit]:
    """Return what each rule says, in each way to round it, that fits the products seen."""
    rows, own = evidence
    return [
        _Fit(rule.name, error, exact, stored)
        for rule in rules(interval, grid)
        for error, exact, stored in rule.fit(rows, own, within=within, grid=grid)
    ]


def _evenly_spaced(
    axis: TimeAxis,
    interval: Interval,
    seen: dict[int, Array],
    evidence: tuple[Array, Ticks],
    asked: int,
) -> Prediction:
    """Predict single steps that are as evenly spaced as the starts of their intervals are.

    The steps of a run that a catalogue shows a day each, say. It takes three products to tell.
    """
    rows, own = evidence
    start, count = interval.start, len(interval.start_month[0])
    fails = UnpredictableError(_why_none_fits(interval, rows))
    if start is None or own.shape[1] != 1 or len(set(start[rows].tolist())) < min(len(rows), 2):
        raise fails
    if len(rows) < 3:
        unseen = [piece for piece in range(count) if piece not in seen]
        if asked >= MAX_ASKED or len(rows) < 2:
            raise fails
        return Prediction(None, np.ones(count, np.int64), (unseen[len(unseen) // 2],))
    first, last = (int(np.argmin(start[rows])), int(np.argmax(start[rows])))
    length = int(start[rows[last]] - start[rows[first]])
    span, away = int(own[last, 0] - own[first, 0]), start - start[rows[first]]
    # Whole numbers, so that no time is rounded: python's have no bound.
    ticks = [int(own[first, 0]) + int(ahead) * span // length for ahead in away]
    if any(int(ahead) * span % length for ahead in away) or any(
        ticks[row] != time for row, time in zip(rows, own[:, 0], strict=True)
    ):
        raise fails
    values, lengths = _joined(axis.times(np.array(ticks, np.int64)).reshape(-1, 1), seen)
    return Prediction(values, lengths, rules=("evenly spaced",))


def stored_grid(
    axis: TimeAxis, encoding: TimeEncoding, ticks: Ticks, *, is_of_one: bool
) -> TimeGrid:
    """Return what files of an encoding can store, told by times of one product or of several."""
    if is_of_one and encoding.counts_from_nearby(axis, ticks):
        # Each file may count from its own day.
        return TimeGrid()
    step = encoding.grid
    if step is not None and step > MILLISECOND:
        anchor = int(ticks[0])
        return TimeGrid(step, anchor, encoding.parity(axis, anchor))
    spacing = encoding.spacing(axis, ticks)
    return TimeGrid(spacing=spacing, nearest=lambda values: encoding.nearest(axis, values))


def _fits_by_bounds(
    fits: list[_Fit],
    interval: Interval,
    evidence: tuple[Array, Ticks, Ticks],
    within: tuple[int, int],
) -> list[_Fit]:
    """Return the fits that put products in the middle, where bounds tell that they stand there.

    The evidence is which products have bounds, their times, and their bounds. How far from the
    middle is still in it is told for times that files have rounded, and for those of rules.
    """
    start, end = interval.start, interval.end
    rows, times, bounds = evidence
    if start is None or end is None:
        return []
    if not are_centred(times, bounds, (start[rows], end[rows]), within=within[0]):
        return []
    return [fit for fit in fits if _is_middle(fit.exact, (start, end), within=within[1])]


def _why_none_fits(interval: Interval, rows: Array) -> str:
    count = len(rows)
    shown = [
        () if ticks is None else ticks[rows].tolist() for ticks in (interval.start, interval.end)
    ]
    if all(shown) and len(set(zip(*shown, strict=True))) < count:
        return "it shows the same interval for products of different times"
    headers = "the one header that was" if count == 1 else f"the {count} headers that were"
    return f"no rule fits {headers} read"


def _usable(starts: Array, ends: Array, pieces: Array, seen: Array) -> tuple[Array, Array, Array]:
    """Return intervals without gaps, and which of the products seen may tell of rules."""
    is_missing = np.isnat(starts) | np.isnat(ends)
    is_usable = ~is_missing[pieces]
    unseen = int(is_missing.sum()) - int(is_missing[seen].sum())
    if unseen or not is_usable.any():
        raise UnpredictableError(f"{unseen or 'all'} of them have no start or no end there")
    # Products that were seen need no prediction; a copy of another's interval adds no difference.
    row = pieces[is_usable][0]
    starts = np.where(is_missing, starts[row], starts)
    return starts, np.where(is_missing, ends[row], ends), is_usable


def _spread(fits: list[_Fit], is_open: Array) -> Ticks:
    """Return how far the rules differ about each product that was not seen."""
    low = high = fits[0].values
    for fit in fits[1:]:
        low, high = np.minimum(low, fit.values), np.maximum(high, fit.values)
    spread: Ticks = (high - low).max(axis=1)[is_open]
    return spread


def _most_telling(fits: list[_Fit], is_open: Array, spread: Ticks, within: int) -> int:
    """Return the product about which most rules differ; of several, where they differ most."""
    # Between the first and the last step nothing is told that those two do not tell.
    steps = np.stack([fit.values[is_open][:, [0, -1]] for fit in fits])
    steps.sort(axis=0)
    opinions = (np.diff(steps, axis=0) > within).sum(axis=0).max(axis=1)
    return int(np.lexsort((-spread, -opinions))[0])


def _settled(values: Ticks, seen: Ticks, within: int) -> Ticks:
    """Round to the unit that all times seen are whole numbers of, where that moves nothing far.

    The middle of an interval that ends at 23:59:59.999 is 12:00:00.000 and not half of a
    millisecond before.
    """
    for unit in (HOUR, 60 * SECOND, SECOND, MILLISECOND):
        if not (seen % unit).any():
            nearest = (values + unit // 2) // unit * unit
            return np.where(np.abs(nearest - values) <= within, nearest, values)
    return values


def _duration(ticks: int) -> str:
    if ticks < SECOND:
        return f"{ticks / MILLISECOND:.0f} ms"
    return f"{ticks // SECOND} s" if ticks < 2 * HOUR else f"{ticks / HOUR:.1f} h"


def are_centred(times: Ticks, bounds: Ticks, interval: tuple[Ticks, Ticks], *, within: int) -> bool:
    """Whether products stand in the middle of bounds that are their interval in the catalogue.

    Of one monthly mean alone nobody can tell the middle of the month from the 16th. But where its
    bounds are the very interval that the catalogue shows, and its time is the middle of them, then
    it stands in the middle because its writer put it there, and so do the others. It is evidence,
    and no proof: like every prediction it is checked when a product is read.

    Parameters
    ----------
    times : numpy.ndarray
        One time for each product.
    bounds : numpy.ndarray
        Its bounds: one row of two for each product.
    interval : tuple of numpy.ndarray
        Start and end in the catalogue of each, where the end is the first moment after it, or a
        millisecond before, or anything between the two.
    within : int
        The largest difference that is none.
    """
    start, end = interval
    lower, upper = bounds.min(axis=1), bounds.max(axis=1)
    is_interval = (abs(lower - start) <= within) & (abs(upper - end) <= within)
    # Halves may be rounded either way.
    is_middle = abs(2 * times - lower - upper) <= 2 * within
    return bool(((upper > lower) & is_interval & is_middle).all())


def _is_middle(values: Ticks, interval: tuple[Ticks, Ticks], *, within: int) -> bool:
    """Whether predicted values, one row for each product, are the middle of its interval."""
    start, end = interval
    return bool((abs(2 * values - (start + end)[:, None]) <= 2 * within).all())


def _unseen_duplicate(starts: Array, ends: Array, is_open: Flags) -> int | None:
    """Return a product that was not seen, whose interval is that of another one.

    They may be two versions of a product; or the catalogue shows of many products only the month
    that they are in. The header of one shows which. Intervals that are not told are no twins.
    """
    order = np.lexsort((is_open, ends, starts))
    same = (starts[order][1:] == starts[order][:-1]) & (ends[order][1:] == ends[order][:-1])
    is_pair = same & is_open[order][1:]
    # Rather one whose twin was seen; a pair of which both were seen has told already.
    seen_pairs = np.flatnonzero(same & ~is_open[order][:-1])
    if not is_pair.any() or (~is_open[order][1:][seen_pairs]).any():
        return None
    candidates = seen_pairs if seen_pairs.size else np.flatnonzero(is_pair)
    return int(order[candidates[0] + 1])
