"""Rules by which the times in a product may follow from the interval that a catalogue shows.

A rule has one free number for each step of a product, which is read off the products that were
seen. The module knows numbers; calendars, products and what to do when rules disagree are not its
business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from hda_fsspec.timeindex.calendars import DAY, HOUR, MILLISECOND, SECOND, Ticks, TimeAxis

_UNITS = (("second", SECOND), ("minute", 60 * SECOND), ("hour", HOUR), ("day", DAY))
#: Fractions of an interval are taken for simple up to here: quarters of an hour of a day.
_MAX_DIVISOR = 96
#: What was rounded tells fewer of them apart.
_MAX_ROUNDED_DIVISOR = 8
#: What people choose offsets in, the roundest first.
_ROUND_UNITS = (
    DAY,
    12 * HOUR,
    *(n * HOUR for n in (6, 3, 1)),
    *(n * 60 * SECOND for n in (30, 15, 10, 5, 1)),
    SECOND,
    MILLISECOND,
)
# Fractions are tried all at once on a table of so many products and steps.
_FEW, _BLOCK = 4, 64


#: Ways to round a time to what whole numbers can store.
DOWN, HALF_UP, HALF_DOWN, HALF_EVEN = ROUNDINGS = (
    "rounded down",
    "halves rounded up",
    "halves rounded down",
    "halves rounded to even",
)


@dataclasses.dataclass(frozen=True)
class TimeGrid:
    """The times that a file can store.

    Attributes
    ----------
    step : int or None
        Their distance, where whole numbers of a unit are stored.
    anchor : int
        One of them.
    parity : int
        Whether the number that stores it is odd.
    spacing : int
        The distance of neighbouring floats, where floats are stored.
    nearest : callable
        Returns what floats store of some times.
    """

    step: int | None = None
    anchor: int = 0
    parity: int = 0
    spacing: int = 1
    nearest: Callable[[Ticks], Ticks] = lambda ticks: ticks

    def is_on(self, ticks: Ticks, within: int) -> bool:
        """Whether times can be stored as they are, or nearly so."""
        if self.step is None:
            return True
        part = (ticks - self.anchor) % self.step
        return bool((np.minimum(part, self.step - part) <= within).all())

    def round(self, ticks: Ticks, rounding: str) -> Ticks:
        """Return what whole numbers store of some times."""
        if self.step is None:
            return ticks
        number, part = np.divmod(ticks - self.anchor, self.step)
        match rounding:
            case "halves rounded up":
                number = number + (2 * part >= self.step)
            case "halves rounded down":
                number = number + (2 * part > self.step)
            case "halves rounded to even":
                is_odd = (number + self.parity) % 2 == 1
                number = number + ((2 * part > self.step) | ((2 * part == self.step) & is_odd))
        stored: Ticks = self.anchor + number * self.step
        return stored


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
    def of(cls, axis: TimeAxis, starts: np.ndarray, ends: np.ndarray) -> Interval:
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


def _month(axis: TimeAxis, times: np.ndarray) -> tuple[Ticks, Ticks]:
    months = times.astype("datetime64[M]")
    # Few months hold many products, and dates of foreign calendars are slow to make.
    unique, which = np.unique(months, return_inverse=True)
    begin, _ = axis.place(unique)
    after, _ = axis.place(unique + np.timedelta64(1, "M"))
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
        self, rows: np.ndarray, seen: Ticks, *, within: int, grid: TimeGrid
    ) -> Iterator[tuple[int, Ticks, Ticks]]:
        """Yield what the rule predicts if it fits the products seen, in each way to round it.

        Parameters
        ----------
        rows : numpy.ndarray
            Which products were seen.
        seen : numpy.ndarray
            Their times: one row for each of them, one column for each step.
        within : int
            The largest error that is none.
        grid : TimeGrid
            The times that the file can store.

        Yields
        ------
        tuple of (int, numpy.ndarray, numpy.ndarray)
            The largest error, what the rule says, and the same as the file stores it.
        """
        if grid.spacing > within:
            for values in self._roughly(rows, seen, grid.spacing):
                stored = grid.nearest(values)
                if np.array_equal(stored[rows], grid.nearest(seen)):
                    yield 0, values, stored
            return
        for values in self._exact(rows, seen, within):
            error = int(np.abs(values[rows] - seen).max())
            if error > within:
                continue
            if grid.step is None:
                yield error, values, values
            elif grid.is_on(values, within):
                yield error, values, grid.round(values, HALF_UP)
        if grid.step is not None and self.span is not None:
            for rounding in ROUNDINGS:
                shares = self._rounded_shares(rows, seen, grid, rounding)
                if (shares >= 0).all():
                    values = self._at(shares)
                    yield 0, values, grid.round(values, rounding)

    def _roughly(self, rows: np.ndarray, seen: Ticks, spacing: int) -> Iterator[Ticks]:
        """Yield what fits times that floats have rounded to the nearest number."""
        half = spacing // 2 + 1
        into = seen - self.origin[rows, None]
        if self.span is None:
            low, high = (into - half).max(axis=0), (into + half).min(axis=0)
            if (low <= high).all():
                yield self.origin[:, None] + _roundest(low, high)
            return
        shares = _simple_shares(into, self.span[rows, None], half)
        if (shares >= 0).all():
            yield self._at(shares)

    def _rounded_shares(
        self, rows: np.ndarray, seen: Ticks, grid: TimeGrid, rounding: str
    ) -> np.ndarray:
        """Return the simplest fractions that give the times seen once they are rounded; else -1."""
        if self.span is None or grid.step is None:
            raise AssertionError
        origin, span = self.origin[rows, None], self.span[rows, None]
        # A moment that is rounded down lies half a step later, on average, than what is stored.
        shift = grid.step // 2 if rounding == DOWN else 0

        def fits(shares: np.ndarray, few: slice) -> np.ndarray:
            moments = origin[few] + np.rint(shares * span[few]).astype(np.int64)
            found: np.ndarray = grid.round(moments, rounding) == seen[few]
            return found

        most = _MAX_ROUNDED_DIVISOR
        return _shares_that_fit(seen - origin + shift, span, fits, max_divisor=most)

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


def _roundest(low: Ticks, high: Ticks) -> Ticks:
    """Return a number between two that is a multiple of the longest unit: what people choose."""
    found = (low + high) // 2
    is_open = np.ones(found.shape, np.bool_)
    for unit in _ROUND_UNITS:
        nearest = (found + unit // 2) // unit * unit
        is_round = is_open & (low <= nearest) & (nearest <= high)
        found = np.where(is_round, nearest, found)
        is_open &= ~is_round
    return found


def _simple_shares(into: Ticks, span: Ticks, within: int) -> np.ndarray:
    """Return the simplest fraction of each step that fits all products seen; -1 where none does.

    Any number fits one product, and errors of it grow with the interval. A process that knows the
    interval takes its middle, or some other simple fraction.
    """

    def at(block: Ticks) -> np.ndarray:
        def fits(shares: np.ndarray, few: slice) -> np.ndarray:
            found: np.ndarray = np.abs(shares * span[few] - block[few]) <= within
            return found

        return _shares_that_fit(block, span, fits)

    blocks = [into[:, start : start + _BLOCK] for start in range(0, into.shape[1], _BLOCK)]
    return np.concatenate([np.empty(0), *map(at, blocks)])


def _shares_that_fit(
    into: Ticks,
    span: Ticks,
    fits: Callable[[np.ndarray, slice], np.ndarray],
    *,
    max_divisor: int = _MAX_DIVISOR,
) -> np.ndarray:
    """Return the fraction of the smallest divisor for each step that fits all products seen.

    Parameters
    ----------
    into : numpy.ndarray
        How far into its interval each product stands, about: what fractions are tried for.
    span : numpy.ndarray
        The lengths of the intervals, one row for each product.
    fits : callable
        Says of fractions, one for each step, and of some products which of these they fit.
    """
    divisors = np.arange(1, max_divisor + 1)[:, None]
    found = np.rint(into[0] / span[0, 0] * divisors) / divisors
    # A few products rule out nearly all fractions.
    may_fit = fits(found[:, None], slice(_FEW)).all(axis=1) & (found >= 0) & (found <= 1)
    shares = np.full(into.shape[1], -1.0)
    for rule in np.flatnonzero(may_fit.any(axis=1)):
        fitting = may_fit[rule] & fits(found[rule], slice(None)).all(axis=0)
        shares = np.where(fitting & (shares < 0), found[rule], shares)
        if (shares >= 0).all():
            break
    return shares


def rules(interval: Interval, grid: TimeGrid) -> list[Rule]:
    """Return the rules that say different things of these products, the plainest first.

    A rule that puts two products into one moment whose intervals do not overlap is left out:
    six-hourly products do not stand at the start of their day.
    """
    found: list[Rule] = []
    for rule in _all_rules(interval, grid):
        if not any(rule.repeats(other) for other in found):
            found.append(rule)
    return found


def _all_rules(interval: Interval, grid: TimeGrid) -> Iterator[Rule]:
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
    for rule in _round_rules(interval, grid):
        moments = rule.origin[order]
        if not (apart & (moments[1:] == moments[:-1])).any():
            yield rule


def _round_rules(interval: Interval, grid: TimeGrid) -> Iterator[Rule]:
    # A last moment and the first one after it round differently at .999.
    bases = (("start", interval.start), ("end", interval.last), ("end", interval.end))
    for base, moments in bases:
        if moments is None:
            continue
        for unit, ticks in _UNITS:
            yield Rule(f"{unit} of the {base}", moments // ticks * ticks)
            yield Rule(f"{unit} nearest to the {base}", (moments + ticks // 2) // ticks * ticks)
        if grid.step is not None and not grid.is_on(moments, 0):
            # Of moments in milliseconds some lie at half a second by chance, which tells nothing.
            for rounding in ROUNDINGS if grid.step > SECOND else (DOWN, HALF_UP):
                name = f"{base} in units of the file, {rounding}"
                yield Rule(name, grid.round(moments, rounding))
    for base, (begin, length) in (("start", interval.start_month), ("end", interval.last_month)):
        yield Rule(f"day in the month of the {base}", begin)
        yield _fraction(f"fraction of the month of the {base}", begin, length)


def _fraction(name: str, origin: Ticks, span: Ticks) -> Rule:
    # A fraction of intervals of one length is an offset, and then repeats a simpler rule.
    return Rule(name, origin, None if (span == span[0]).all() else span)
