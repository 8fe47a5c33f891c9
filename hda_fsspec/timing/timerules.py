"""Rules by which the times in a product may follow from the interval that a catalogue shows.

A rule has one free number for each step of a product, which is read off the products that were
seen. The module knows numbers; calendars, products and what to do when rules disagree are not its
business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from hda_fsspec.timing.timeaxis import DAY, HOUR, MILLISECOND, SECOND, Axis, Ticks

_UNITS = (("second", SECOND), ("minute", 60 * SECOND), ("hour", HOUR), ("day", DAY))
#: Fractions of an interval are taken for simple up to here: quarters of an hour of a day.
_MAX_DIVISOR = 96
# Fractions are tried all at once on a table of so many products and steps.
_FEW, _BLOCK = 4, 64


@dataclasses.dataclass(frozen=True)
class Interval:
    """The intervals of the catalogue as numbers, one row per product.

    ``None`` where a date of some product does not exist in the calendar of the files.
    """

    start: Ticks | None
    #: The last moment that is part of it, as catalogues write it: 23:59:59.999.
    last: Ticks | None
    #: The first moment after it.
    end: Ticks | None
    #: Begin and length of the month of the start, and of the last moment.
    start_month: tuple[Ticks, Ticks]
    last_month: tuple[Ticks, Ticks]

    @classmethod
    def of(cls, axis: Axis, starts: np.ndarray, ends: np.ndarray) -> Interval:
        """Place the catalogue's dates on an axis."""
        start, has_start = axis.place(starts)
        last, has_last = axis.place(ends)
        end, has_end = axis.place(ends + np.timedelta64(1, "ms"))
        # Where the day after is missing from the calendar, the moment after may still exist.
        end = np.where(has_end, end, last + MILLISECOND)
        return cls(
            start if has_start.all() else None,
            last if has_last.all() else None,
            end if (has_end | has_last).all() else None,
            _month(axis, starts),
            _month(axis, ends),
        )


def _month(axis: Axis, times: np.ndarray) -> tuple[Ticks, Ticks]:
    months = times.astype("datetime64[M]")
    # Few months hold many products, and dates of foreign calendars are slow to make.
    unique, which = np.unique(months, return_inverse=True)
    begin, _ = axis.place(unique)
    after, _ = axis.place(unique + 1)
    return begin[which], (after - begin)[which]


@dataclasses.dataclass(frozen=True)
class Rule:
    """``origin + p`` or, where there is a span, ``origin + p * span`` with p from 0 to 1.

    The origin is a moment of each product, and p a constant of each step in a product.
    """

    name: str
    origin: Ticks
    span: Ticks | None = None

    def repeats(self, other: Rule) -> bool:
        """Return whether another rule says the same of every product, for some other p."""
        if not np.array_equal(self.origin - self.origin[0], other.origin - other.origin[0]):
            return False
        if self.span is None or other.span is None:
            return self.span is other.span
        return np.array_equal(self.span, other.span)

    def fit(
        self, rows: np.ndarray, seen: Ticks, *, within: int, grid: int | None
    ) -> Iterator[tuple[int, Ticks]]:
        """Yield what the rule predicts, with its largest error, if it fits the products seen.

        Parameters
        ----------
        rows : numpy.ndarray
            Which products were seen.
        seen : numpy.ndarray
            Their times: one row for each of them, one column for each step.
        within : int
            The largest error that is none.
        grid : int or None
            The distance of times that the file can store, where that is larger.
        """
        for values in self._exact(rows, seen, within):
            error = int(np.abs(values[rows] - seen).max())
            if error <= within:
                yield error, values
        if grid is not None and self.span is not None:
            for values in self._stored(rows, seen, grid):
                yield 0, values

    def _exact(self, rows: np.ndarray, seen: Ticks, within: int) -> Iterator[Ticks]:
        if self.span is None:
            yield self.origin[:, None] + (seen[0] - self.origin[rows[0]])
            return
        into, span = seen - self.origin[rows, None], self.span[rows, None]
        shares = _simple_shares(into, span, within)
        if (shares >= 0).all():
            yield self._at(shares)
        if len(shares) > 1 and shares[0] >= 0:
            # The steps may as well follow the first one at distances that are always the same.
            yield self._at(shares[:1]) + (seen[0] - seen[0, 0])

    def _at(self, shares: np.ndarray) -> Ticks:
        span = 0 if self.span is None else self.span[:, None]
        return self.origin[:, None] + np.rint(shares * span).astype(np.int64)

    def _stored(self, rows: np.ndarray, seen: Ticks, grid: int) -> Iterator[Ticks]:
        """Yield what the smallest and the largest fraction predict that fit rounded times.

        Whether the file's writer rounded or cut off is not known: either is "the grid point at or
        before some moment", for a fraction that the times seen enclose. Intervals that lie on no
        grid points themselves never narrow it enough.
        """
        anchor = seen[0, 0]
        if self.span is None or (self.span % grid).any() or ((self.origin - anchor) % grid).any():
            return
        origin, span = self.origin[:, None], self.span[:, None]
        into = seen - origin[rows]
        low = (into / span[rows]).max(axis=0)
        high = ((into + grid - 1) / span[rows]).min(axis=0)
        # The step may have been rounded up, so the fraction itself may lie below the lowest.
        least = np.maximum(low - (grid / span[rows]).min(axis=0), 0.0)
        is_simple = np.zeros(low.shape, np.bool_)
        for divisor in range(1, _MAX_DIVISOR + 1):
            is_simple |= np.ceil(least * divisor) <= np.minimum(high, 1.0) * divisor
        if (low > high).any() or not is_simple.all():
            return
        for fraction in (low, high):
            moment = origin - anchor + np.rint(fraction * span).astype(np.int64)
            values = anchor + moment // grid * grid
            if np.array_equal(values[rows], seen):
                yield values


def _simple_shares(into: Ticks, span: Ticks, within: int) -> np.ndarray:
    """Return the simplest fraction of each step that fits all products seen; -1 where none does.

    Any number fits one product, and errors of it grow with the interval. A process that knows the
    interval takes its middle, or some other simple fraction.
    """
    blocks = [into[:, at : at + _BLOCK] for at in range(0, into.shape[1], _BLOCK)]
    return np.concatenate([np.empty(0), *(_shares_of(block, span, within) for block in blocks)])


def _shares_of(into: Ticks, span: Ticks, within: int) -> np.ndarray:
    divisors = np.arange(1, _MAX_DIVISOR + 1)[:, None]
    found = np.rint(into[0] / span[0, 0] * divisors) / divisors
    # A few products rule out nearly all fractions.
    errors = np.abs(found[:, None] * span[:_FEW] - into[:_FEW])
    may_fit = (errors <= within).all(axis=1) & (found >= 0) & (found <= 1)
    shares = np.full(into.shape[1], -1.0)
    for each in np.flatnonzero(may_fit.any(axis=1)):
        fits = may_fit[each] & (np.abs(found[each] * span - into) <= within).all(axis=0)
        shares = np.where(fits & (shares < 0), found[each], shares)
        if (shares >= 0).all():
            break
    return shares


def rules(interval: Interval, *, grid: int | None, anchor: int) -> list[Rule]:
    """Return the rules that say different things of these products, the plainest first.

    A rule that puts two products into one moment whose intervals do not overlap is left out:
    six-hourly products do not stand at the start of their day.
    """
    found: list[Rule] = []
    for rule in _all_rules(interval, grid, anchor):
        if not any(rule.repeats(other) for other in found):
            found.append(rule)
    return found


def _all_rules(interval: Interval, grid: int | None, anchor: int) -> Iterator[Rule]:
    start, last, end = interval.start, interval.last, interval.end
    if start is not None:
        yield Rule("offset from the start", start)
    if end is not None:
        yield Rule("offset from the end", end)
    if start is not None:
        for name, stop in (("fraction of the interval", end), ("fraction up to the end", last)):
            if stop is not None and (stop > start).all():
                yield _fraction(name, start, stop - start)
    if start is None or end is None:
        return
    order = np.argsort(start, kind="stable")
    begins, ends = start[order], end[order] - MILLISECOND
    apart = (begins[1:] > begins[:-1]) & (begins[1:] >= ends[:-1])
    for rule in _round_rules(interval, grid, anchor):
        moments = rule.origin[order]
        if not (apart & (moments[1:] == moments[:-1])).any():
            yield rule


def _round_rules(interval: Interval, grid: int | None, anchor: int) -> Iterator[Rule]:
    # A last moment and the first one after it round differently at .999.
    bases = (("start", interval.start), ("end", interval.last), ("end", interval.end))
    units = [(name, ticks, 0) for name, ticks in _UNITS]
    if grid is not None and (grid not in dict(_UNITS).values() or anchor % grid):
        units.append(("unit of the file", grid, anchor))
    for base, moments in bases:
        for unit, ticks, zero in units:
            if moments is None:
                continue
            since = moments - zero
            yield Rule(f"{unit} of the {base}", since // ticks * ticks)
            yield Rule(f"{unit} nearest to the {base}", (since + ticks // 2) // ticks * ticks)
    for base, (begin, length) in (("start", interval.start_month), ("end", interval.last_month)):
        yield Rule(f"day in the month of the {base}", begin)
        yield _fraction(f"fraction of the month of the {base}", begin, length)


def _fraction(name: str, origin: Ticks, span: Ticks) -> Rule:
    # A fraction of intervals of one length is an offset, and then repeats a simpler rule.
    return Rule(name, origin, None if (span == span[0]).all() else span)
