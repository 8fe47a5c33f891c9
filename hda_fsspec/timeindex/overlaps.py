"""Products that cover the same times: found, put in order, and cut so that each time is of one.

Pure: it knows times, and has never heard of rules, files or catalogues.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from hda_fsspec.timeindex.calendars import Array, Flags, Ticks, axis_of, ranges

_NEVER = np.iinfo(np.int64).max


@dataclasses.dataclass(frozen=True, eq=False)
class Segments:
    """Runs of neighbouring steps of products, one after another along a dimension.

    Attributes
    ----------
    products : numpy.ndarray
        The number of the product of each segment.
    firsts : numpy.ndarray
        Which step of its product each begins with.
    counts : numpy.ndarray
        How many steps each has.
    """

    products: Ticks
    firsts: Ticks
    counts: Ticks

    @classmethod
    def whole(cls, lengths: Ticks) -> Segments:
        """Return all steps of all products, in their order."""
        return cls(np.arange(len(lengths)), np.zeros(len(lengths), np.int64), lengths)

    def steps(self, lengths: Ticks) -> Ticks:
        """Return the position of each step among those of all products of these lengths."""
        begins = (np.cumsum(lengths) - lengths)[self.products] + self.firsts
        return ranges(begins, self.counts)


@dataclasses.dataclass(frozen=True, eq=False)
class _Spans:
    """The first and the last time of each product, in microseconds; none where it has no time."""

    ticks: Ticks
    owners: Ticks
    low: Ticks
    high: Ticks


def time_order(values: Array, lengths: Ticks) -> Ticks:
    """Return the order of products by their first times; those without a time stay behind others.

    Parameters
    ----------
    values : numpy.ndarray
        The times of all products, one after another: ``datetime64``, durations, cftime objects,
        or numbers.
    lengths : numpy.ndarray
        How many of them each product has.
    """
    low = first_times(values, lengths)
    for number in np.flatnonzero(low == _NEVER):
        low[number] = low[number - 1] if number else np.iinfo(np.int64).min
    return np.argsort(low, kind="stable")


def first_times(values: Array, lengths: Ticks) -> Ticks:
    """Return the first time of each product, as a number to compare with those of others.

    For the parameters see :func:`time_order`.
    """
    return _spans(values, lengths).low


def overlapping(values: Array, lengths: Ticks) -> list[tuple[int, int]]:
    """Return pairs of products of which one has times between the first and last of the other.

    Each product that begins before an earlier one has ended is named once, with the one of these
    that ends last. For the parameters see :func:`time_order`.
    """
    spans = _spans(values, lengths)
    order = np.argsort(spans.low, kind="stable")
    order = order[spans.low[order] != _NEVER]
    low, high = spans.low[order], spans.high[order]
    so_far = np.maximum.accumulate(high)
    again = np.flatnonzero(low[1:] <= so_far[:-1]) + 1
    return [
        _pair(int(order[np.flatnonzero(high[:at] == so_far[at - 1])[0]]), int(order[at]))
        for at in again
    ]


def _pair(one: int, other: int) -> tuple[int, int]:
    return min(one, other), max(one, other)


def without_overlaps(values: Array, lengths: Ticks, preference: Sequence[int]) -> Segments:
    """Return which steps of which products to take, in the order of time.

    A product gives its steps but for those between the first and the last time of one that is
    preferred to it, so that steps of two products are never mixed.

    Parameters
    ----------
    values, lengths : numpy.ndarray
        As for :func:`time_order`.
    preference : sequence of int
        All products, the preferred ones first.
    """
    spans = _spans(values, lengths)
    ends = np.cumsum(lengths)
    taken: list[Ticks] = []
    covered = np.zeros((0, 2), np.int64)
    for number in preference:
        steps = np.arange(ends[number] - lengths[number], ends[number])
        own = spans.ticks[steps]
        # The covered stretches lie apart, so the one that a time may be in is the last to begin.
        place = np.searchsorted(covered[:, 0], own, side="right") - 1
        is_free = (place < 0) | (own > covered[place, 1] if len(covered) else True)
        taken.append(steps[is_free])
        if spans.low[number] != _NEVER:
            covered = _with(covered, spans.low[number], spans.high[number])
    kept = np.concatenate([np.zeros(0, np.int64), *taken])
    kept = kept[np.lexsort((kept, spans.ticks[kept]))]
    return _segments(kept, spans.owners[kept], ends - lengths)


def _with(covered: Ticks, low: np.int64, high: np.int64) -> Ticks:
    """Add a stretch to those that are covered, which are kept apart and in order."""
    touches = (covered[:, 0] <= high) & (covered[:, 1] >= low)
    mine = np.vstack([covered[touches], [[low, high]]])
    merged = np.array([[mine[:, 0].min(), mine[:, 1].max()]])
    every: Ticks = np.vstack([covered[~touches], merged])
    return every[np.argsort(every[:, 0])]


def _segments(steps: Ticks, owners: Ticks, begins: Ticks) -> Segments:
    if not steps.size:
        none = np.zeros(0, np.int64)
        return Segments(none, none, none)
    is_new: Flags = np.append(True, (np.diff(steps) != 1) | (np.diff(owners) != 0))
    at = np.flatnonzero(is_new)
    counts = np.diff(np.append(at, len(steps)))
    return Segments(owners[at], steps[at] - begins[owners[at]], counts)


def _spans(values: Array, lengths: Ticks) -> _Spans:
    ticks = _ticks(values)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    low = np.full(len(lengths), _NEVER)
    high = np.full(len(lengths), np.iinfo(np.int64).min)
    is_told = ticks != _NEVER
    np.minimum.at(low, owners[is_told], ticks[is_told])
    np.maximum.at(high, owners[is_told], ticks[is_told])
    return _Spans(ticks, owners, low, high)


def _ticks(values: Array) -> Ticks:
    """Return times in microseconds, or ranks of numbers; the largest one for what is missing."""
    found = np.full(values.shape, _NEVER)
    is_told = values == values  # noqa: PLR0124  # what is missing is not equal to itself
    told = values[is_told]
    axis = axis_of([told]) if told.size else None
    if axis is not None:
        found[is_told] = axis.ticks(told)
    elif told.size:
        found[is_told] = np.unique(told, return_inverse=True)[1]
    return found
