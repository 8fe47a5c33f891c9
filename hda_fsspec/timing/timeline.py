"""Where products stand along a dimension, told from the times that a catalogue shows of them.

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

import numpy as np

from hda_fsspec.timing.timeaxis import (
    HOUR,
    MILLISECOND,
    SECOND,
    Array,
    Axis,
    Ticks,
    UnpredictableError,
    axis_of,
    resolution_of,
)
from hda_fsspec.timing.timebounds import are_centred, is_middle
from hda_fsspec.timing.timerules import Interval, rules
from hda_fsspec.timing.timetwins import duplicates, unseen_twin

__all__ = [
    "Known",
    "Prediction",
    "UnpredictableError",
    "duplicates",
    "predict",
    "resolution_of",
]

#: Products that are ordered beside the template to decide between rules.
MAX_ASKED = 2

_CONSTANT = "the same in all products"
_SEEN = "read from every product"


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """What is known of one product whose header was seen.

    Attributes
    ----------
    piece : int
        Its number in the catalogue's order.
    values : numpy.ndarray
        Its decoded values of the index: ``datetime64``, cftime objects, or numbers.
    bounds : numpy.ndarray or None
        Their bounds, two for each, where the product has some that are times of the same kind.
    """

    piece: int
    values: Array
    bounds: Array | None = None


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


def predict(
    starts: Array,
    ends: Array,
    known: Sequence[Known],
    *,
    tolerance: np.timedelta64 | float,
    asked: int | None = None,
) -> Prediction:
    """Predict the index of all products from the times of some.

    Every rule that fits all products seen is applied to the others. If they agree on all of them,
    to the millisecond, the index is decided; or if the bounds of products tell which rule it is.
    Else the product is named that tells most of them apart. Products that were seen keep their
    own values.

    Parameters
    ----------
    starts, ends : numpy.ndarray
        The intervals of the catalogue, ``datetime64[us]``; NaT where it tells none.
    known : sequence of Known
        Products that were seen, at least one.
    tolerance : numpy.timedelta64 or float
        What :func:`resolution_of` tells. Rules are held to a millisecond all the same: a coarser
        encoding adds rules that round to what it can store.
    asked : int, optional
        How many headers were ordered because this function asked; by default all known but one.

    Raises
    ------
    UnpredictableError
        No rule fits, or rules disagree and no more headers may be asked for.
    """
    seen = {one.piece: one.values for one in sorted(known, key=lambda one: one.piece)}
    if not seen:
        raise ValueError("At least one product must have been seen to predict the others.")
    axis = axis_of(list(seen.values()))
    sizes = {len(values) for values in seen.values()}
    if len(seen) == len(starts):
        return _all_seen(list(seen.values()), is_time=axis is not None)
    if len(sizes) > 1:
        counts = " and ".join(str(size) for size in sorted(sizes))
        raise UnpredictableError(f"its products hold different numbers of values ({counts})")
    asked = len(seen) - 1 if asked is None else asked
    if axis is None:
        return _predict_constant(starts, seen, tolerance)
    bounds = {one.piece: one.bounds for one in known if one.bounds is not None}
    return _predict_times(axis, (starts, ends), seen, bounds, tolerance=tolerance, asked=asked)


def _all_seen(arrays: list[Array], *, is_time: bool) -> Prediction:
    lengths = np.array([len(values) for values in arrays], np.int64)
    constant = not is_time and _are_equal(arrays, 0.0)
    return Prediction(np.concatenate(arrays), lengths, rules=(_SEEN,), constant=constant)


def _are_equal(arrays: list[Array], tolerance: float) -> bool:
    if len({values.shape for values in arrays}) > 1:
        return False
    stacked = np.stack(arrays)
    if stacked.dtype.kind in "fiu":
        return bool(np.isclose(stacked, stacked[0], rtol=0.0, atol=tolerance, equal_nan=True).all())
    return bool((stacked == stacked[0]).all())


def _predict_constant(
    starts: Array, seen: dict[int, Array], tolerance: np.timedelta64 | float
) -> Prediction:
    """Predict values that are no times: by them a product cannot stand anywhere but the others."""
    arrays = list(seen.values())
    first = arrays[0]
    if not _are_equal(arrays, 0.0 if isinstance(tolerance, np.timedelta64) else tolerance):
        reason = "its index is no time that could be decoded, and differs between products"
        raise UnpredictableError(reason)
    lengths = np.full(len(starts), len(first), np.int64)
    if len(arrays) == 1:
        # One product does not tell whether its number is that of all; the farthest in time does.
        away = np.abs(starts - starts[next(iter(seen))]).astype(np.int64)
        away[list(seen)] = np.iinfo(np.int64).min
        return Prediction(None, lengths, (int(np.argmax(away)),), (_CONSTANT,))
    values = np.tile(first, len(starts))
    for piece, own in seen.items():
        values[piece * len(first) : (piece + 1) * len(first)] = own
    return Prediction(values, lengths, rules=(_CONSTANT,), constant=True)


@dataclasses.dataclass(frozen=True, eq=False)
class _Fit:
    name: str
    error: int
    values: Ticks


def _predict_times(
    axis: Axis,
    interval: tuple[Array, Array],
    seen: dict[int, Array],
    bounds: dict[int, Array],
    *,
    tolerance: np.timedelta64 | float,
    asked: int,
) -> Prediction:
    pieces = np.array(list(seen))
    ticks = axis.ticks(np.concatenate(list(seen.values()))).reshape(len(seen), -1)
    starts, ends, is_usable = _usable(*interval, pieces)
    rows, own = pieces[is_usable], ticks[is_usable]
    exactness = _ticks_of(tolerance)
    within, grid = min(exactness, MILLISECOND), exactness if exactness > MILLISECOND else None
    placed = Interval.of(axis, starts, ends)
    fits = [
        _Fit(rule.name, error, values)
        for rule in rules(placed, grid=grid, anchor=int(own[0, 0]))
        for error, values in rule.fit(rows, own, within=within, grid=grid)
    ]
    if not fits:
        raise UnpredictableError(_why_none_fits(starts[rows], ends[rows]))
    bounded = np.array([int(row) in bounds for row in rows], np.bool_)
    # Of one step each, and stored exactly: a rounded time is not in the middle of anything.
    if grid is None and own.shape[1] == 1 and bounded.any():
        having = rows[bounded]
        pairs = axis.ticks(np.stack([bounds[int(row)].ravel() for row in having]))
        fits = _fits_by_bounds(fits, placed, (having, own[bounded, 0], pairs), within) or fits
    names = tuple(dict.fromkeys(fit.name for fit in fits))
    lengths = np.full(len(starts), own.shape[1], np.int64)
    is_open = np.ones(len(starts), np.bool_)
    is_open[pieces] = False
    twin = unseen_twin(*interval, is_open) if asked < MAX_ASKED else None
    if twin is not None:
        return Prediction(None, lengths, (twin,), names)
    spread = _spread(fits, is_open)
    if spread.max() > within:
        if asked >= MAX_ASKED:
            rest = f"{', '.join(names)} still fit the {len(seen)} headers that were read"
            raise UnpredictableError(f"{rest} and differ by up to {_duration(int(spread.max()))}")
        piece = int(np.flatnonzero(is_open)[_most_telling(fits, is_open, spread, within)])
        return Prediction(None, lengths, (piece,), names)
    best = min(fits, key=lambda fit: fit.error)
    values = axis.times(_settled(best.values, ticks, within).ravel())
    for piece, true in seen.items():
        values[piece * len(true) : (piece + 1) * len(true)] = true
    return Prediction(values, lengths, rules=names)


def _fits_by_bounds(
    fits: list[_Fit], interval: Interval, evidence: tuple[Array, Ticks, Ticks], within: int
) -> list[_Fit]:
    """Return the fits that put products in the middle, where bounds tell that they stand there.

    The evidence is which products have bounds, their times, and their bounds.
    """
    start, end = interval.start, interval.end
    rows, times, bounds = evidence
    if start is None or end is None:
        return []
    if not are_centred(times, bounds, (start[rows], end[rows]), within=within):
        return []
    return [fit for fit in fits if is_middle(fit.values, (start, end), within=within)]


def _why_none_fits(starts: Array, ends: Array) -> str:
    count = len(starts)
    if len(set(zip(starts.tolist(), ends.tolist(), strict=True))) < count:
        return "it shows the same interval for products of different times"
    headers = "the one header that was" if count == 1 else f"the {count} headers that were"
    return f"no rule fits {headers} read"


def _usable(starts: Array, ends: Array, pieces: Array) -> tuple[Array, Array, Array]:
    """Return intervals without gaps, and which of the products seen may tell of rules."""
    is_missing = np.isnat(starts) | np.isnat(ends)
    is_usable = ~is_missing[pieces]
    unseen = int(is_missing.sum()) - int((~is_usable).sum())
    if unseen or not is_usable.any():
        raise UnpredictableError(f"{unseen or 'all'} of them have no start or no end there")
    # Products that were seen need no prediction; a copy of another's interval adds no difference.
    row = pieces[is_usable][0]
    starts = np.where(is_missing, starts[row], starts)
    return starts, np.where(is_missing, ends[row], ends), is_usable


def _ticks_of(tolerance: np.timedelta64 | float) -> int:
    if not isinstance(tolerance, np.timedelta64):
        return MILLISECOND
    return max(1, int(tolerance / np.timedelta64(1, "us")))


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
