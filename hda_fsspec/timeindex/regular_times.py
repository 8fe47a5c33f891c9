"""Prediction of times of pieces that a query was cut into: at regular steps, or at known ones.

A piece of a range has as many times as lie in it, so that months have 28 to 31 days. The times of
a few pieces that were seen tell the step, and where in it a time stands; the step then tells the
times of all. Where the request names days or hours itself, only the place within them is left to be
told. The module does no I/O, and has never heard of files.

Like every prediction it has to be checked when a piece is first read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from hda_fsspec.printable import plural
from hda_fsspec.timeindex.calendars import (
    DAY,
    HOUR,
    MILLISECOND,
    SECOND,
    Array,
    DurationAxis,
    Ticks,
    UnpredictableError,
    axis_of,
)
from hda_fsspec.timeindex.catalogue_times import MAX_ASKED, Prediction, SeenProduct
from hda_fsspec.timeindex.observed_times import (
    Seen,
    TimesRule,
    Undecided,
    are_equal,
    decide,
    fitting,
    grid_of,
    joined,
    look_at,
    moment_of,
    months_around,
    nothing_seen,
    place_in,
    roundest,
)
from hda_fsspec.timeindex.prediction_rules import HALF_UP, ROUNDINGS

__all__ = ["RegularTimes", "Undecided"]

_LENGTHS = {"second": SECOND, "minute": 60 * SECOND, "hour": HOUR, "day": DAY}
_MONTHS = {"month": 1, "year": 12}
#: What a step is taken for where one time alone was seen; others may decide between them.
_GUESSES = ((1, "day"), (1, "month"), (1, "year"))
#: A day that every month has.
_LATEST_OFFSET = 28 * DAY
#: More times than these are no series of files.
_MAX_TIMES = 50_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class RegularTimes:
    """The predictor of pieces of a query, which hold all times of a step between their bounds.

    Pieces that were seen keep their own values. One whose times all lie outside of its bounds is
    empty: asked for a range without any time the service delivers the nearest one. Numbers that are
    no times tell nothing of other pieces; where there is no other one they are taken as they are.

    Attributes
    ----------
    starts, ends : numpy.ndarray
        The bounds of pieces in order, ``datetime64``; both are part of a piece.
    step : tuple of (int, str), optional
        The distance of times where something else tells it: ``(6, "hour")``. Units are second,
        minute, hour, day, month and year. It is believed if what was seen fits it.
    nominal : tuple of numpy.ndarray, optional
        The times that the requests name, ``datetime64`` of all pieces in order, and how many of
        them each piece has.
    may_be_short : collection of int
        Pieces that may lack their last times, since these are still to come.
    until : numpy.datetime64, optional
        The last moment of which there are data by now, where that is known.
    """

    starts: Array
    ends: Array
    step: tuple[int, str] | None = None
    nominal: tuple[Array, Array] | None = None
    may_be_short: Collection[int] = ()
    until: np.datetime64 | None = None

    def predict(self, known: Sequence[SeenProduct], *, asked: int) -> Prediction:
        """Predict the index, as :class:`hda_fsspec.timeindex.catalogue_times.Predictor` says."""
        found = self.decide(known)
        if isinstance(found, Prediction):
            return found
        if found.ask is None or asked >= MAX_ASKED:
            raise UnpredictableError(found.reason)
        return Prediction(None, np.zeros(len(self.starts), np.int64), (found.ask,))

    def decide(self, known: Sequence[SeenProduct]) -> Prediction | Undecided:
        """Predict the index of all pieces from the times of some, at least one.

        A prediction has always values. Lengths are 0 for pieces that no time lies in.
        """
        if len(self.starts) == 1 and known:
            return self._alone(known[0])
        try:
            if self.nominal is None:
                return self._at_steps(known, self.step)
            found = self._as_named(known, *self.nominal)
            if isinstance(found, Prediction) or found.ask is not None:
                return found
            # Not all that a request names need be there: of fields of eight days, or in some years.
            steps = self._at_steps(known, None)
            return found if isinstance(steps, Undecided) and steps.ask is None else steps
        except UnpredictableError as err:
            return Undecided(err.reason)

    def _alone(self, product: SeenProduct) -> Prediction:
        """Return the times of a piece that is the whole: its own, or none if they lie elsewhere."""
        values = product.values
        axis = axis_of([values]) if values.size and self.nominal is None else None
        if axis is not None and not isinstance(axis, DurationAxis):
            edges = np.array([self.starts[0], self.ends[0] + np.timedelta64(1, "ms")], "M8[us]")
            (first, after), exist = axis.place(edges)
            ticks = axis.ticks(values)
            if exist.all() and ((ticks < first) | (ticks >= after)).all():
                values = values[:0]
        return Prediction(values, np.array([len(values)], np.int64))

    def _at_steps(
        self, known: Sequence[SeenProduct], step: tuple[int, str] | None
    ) -> Prediction | Undecided:
        seen = look_at(self.starts, self.ends, known, self.may_be_short, self.until)
        if isinstance(seen, Undecided):
            return seen
        if len(seen.own) == len(self.starts):
            return joined(seen, None, known)
        if not any(ticks.size for ticks in seen.own.values()):
            return nothing_seen(len(self.starts), seen.own)
        rules = list(fitting(seen, _step_rules(seen, [step]))) if step else []
        if not rules:
            rules = list(fitting(seen, _step_rules(seen, _steps_of(seen))))
            # A piece that is said to be empty is never read. So a step that was guessed has to be
            # seen: two times of which one follows the other, with nothing unread between them.
            rules = [rule for rule in rules if _is_seen(seen, rule)]
        if not rules:
            return Undecided("the times that were read tell no regular step", _neighbour(seen))
        return decide(seen, rules, known)

    def _as_named(
        self, known: Sequence[SeenProduct], nominal: Array, counts: Array
    ) -> Prediction | Undecided:
        """Predict times that requests name: where in their day, month or year they stand."""
        values = [product.values for product in known if product.values.size]
        if not values:
            return nothing_seen(len(counts), [product.piece for product in known])
        axis = axis_of(values)
        if axis is None or isinstance(axis, DurationAxis):
            return Undecided("its index is no time that could be decoded")
        named, exist = axis.place(nominal.astype("datetime64[us]"))
        if not exist.all():
            return Undecided("the calendar of its files has other days than ours")
        high = np.cumsum(counts.astype(np.int64))
        low = high - counts
        end = moment_of(axis, self.until)
        own: dict[int, Ticks] = {}
        pairs: list[tuple[Ticks, Ticks]] = []
        short = {len(counts) - 1, *self.may_be_short}
        if end is not None:
            short |= {product.piece for product in known if named[high[product.piece] - 1] > end}
        for product in sorted(known, key=lambda product: product.piece):
            ticks = axis.ticks(product.values) if product.values.size else np.empty(0, np.int64)
            said = named[low[product.piece] : high[product.piece]]
            if len(ticks) > len(said) or (len(ticks) < len(said) and product.piece not in short):
                held = f"piece {product.piece + 1} holds {len(ticks)} times"
                return Undecided(f"{held}, and {len(said)} were asked for")
            own[product.piece] = ticks
            pairs.append((said[: len(ticks)], ticks))
        asked, there = (np.concatenate(part) for part in zip(*pairs, strict=True))
        grid = grid_of(axis, known, own.values())
        span = (nominal.min(), nominal.max())
        seen = Seen(axis, low, high, span, own, grid, (), short)
        if end is not None:
            # Of what was seen the times are known, later ones, too.
            latest = max([end, *(int(asked[-1]) for asked, _ in pairs if asked.size)])
            edge = np.searchsorted(named, latest, side="right")
            low, high = np.minimum(low, edge), np.minimum(high, edge)
        rules: list[TimesRule] = []
        offset = _offset(there - asked, seen)
        months = _MONTHS.get(self.step[1], 0) if self.step else 0
        most = _LATEST_OFFSET if months else DAY
        if offset is not None and abs(offset) <= most:
            name = "as asked for" if offset == 0 else f"{_told(offset)} after what was asked for"
            rules += [
                TimesRule(name, times, low, high) for _, times in _stored(seen, "", named + offset)
            ]
        if months and offset != 0:
            rules += _named_months(seen, months, (named, asked, there), (low, high))
        if not rules:
            return Undecided("the times that were read are not those that were asked for")
        return decide(seen, rules, known)


def _is_seen(seen: Seen, rule: TimesRule) -> bool:
    before: tuple[int, int] | None = None
    for piece in sorted(seen.own):
        low, high = int(rule.low[piece]), int(rule.high[piece])
        if not seen.own[piece].size:
            # Nothing lies in it, so that the times around it follow each other.
            before = (piece, before[1]) if before is not None and before[0] == piece - 1 else None
            continue
        if high - low > 1 or before == (piece - 1, low - 1):
            return True
        before = (piece, high - 1)
    return False


def _neighbour(seen: Seen) -> int | None:
    """Return the piece after one with a single time, where no distance was seen at all."""
    if any(ticks.size > 1 for ticks in seen.own.values()):
        return None
    for piece in sorted(seen.own):
        following = piece
        while following in seen.own:
            following += 1
        if seen.own[piece].size and following < len(seen.start):
            return following
    return None


def _in_a_row(seen: Seen) -> list[Ticks]:
    """Return pairs of times of two pieces between which nothing was left unread."""
    pairs: list[Ticks] = []
    before: tuple[int, int] | None = None
    for piece in sorted(seen.own):
        ticks = seen.own[piece]
        follows = before is not None and before[0] == piece - 1
        if ticks.size and before is not None and follows:
            pairs.append(np.array([before[1], ticks[0]]))
        if ticks.size:
            before = (piece, int(ticks[-1]))
        else:
            before = (piece, before[1]) if before is not None and follows else None
    return pairs


def _steps_of(seen: Seen) -> list[tuple[int, str]]:
    """Return the steps that times may have, in microseconds where they are of one length."""
    rows = [ticks for ticks in seen.own.values() if ticks.size > 1]
    guesses: list[tuple[int, str]] = []
    if not rows:
        guesses += _GUESSES
        rows = _in_a_row(seen)
    if not rows:
        return guesses
    distances = np.concatenate([np.diff(ticks) for ticks in rows])
    step = roundest(int(np.median(distances)), 2 * seen.within)
    # Times that lie within half a unit of their place may be that much off.
    if step > 0 and int(np.abs(distances - step).max()) <= 2 * seen.within:
        guesses.append((step, ""))
    begins, months = months_around(seen)
    between = np.unique(
        np.concatenate([np.diff(months[place_in(begins, ticks)]) for ticks in rows])
    )
    if len(between) == 1 and between[0] > 0:
        guesses.append((int(between[0]), "month"))
    return list(dict.fromkeys(guesses))


def _step_rules(seen: Seen, steps: Sequence[tuple[int, str]]) -> Iterator[TimesRule]:
    for count, unit in steps:
        if unit in _MONTHS:
            yield from _month_rules(seen, count * _MONTHS[unit])
        else:
            yield from _length_rules(seen, count * _LENGTHS.get(unit, 1))


def _length_rules(seen: Seen, length: int) -> Iterator[TimesRule]:
    """Yield the times that lie whole steps from one that was seen."""
    first = next(int(ticks[0]) for ticks in seen.own.values() if ticks.size)
    first = roundest(first, seen.grid.spacing) if seen.grid.spacing > MILLISECOND else first
    low, high = int(seen.start.min()), int(seen.end.max())
    if (high - low) // length > _MAX_TIMES:
        raise UnpredictableError("its times lie too close together to be told ahead")
    begin = low + (first - low) % length
    times = np.arange(begin, high + 1, length, dtype=np.int64)
    name = f"every {_told(length)}"
    if seen.grid.is_on(times, MILLISECOND):
        yield seen.rule(name, seen.grid.nearest(seen.grid.round(times, HALF_UP)))


def _month_rules(seen: Seen, count: int) -> Iterator[TimesRule]:
    """Yield times that stand at one place in every so many months."""
    begins, months = months_around(seen)
    ticks = np.concatenate([own for own in seen.own.values() if own.size])
    at = place_in(begins, ticks)
    if len(np.unique(months[at] % count)) > 1:
        return
    name = "year" if count == 12 else "month" if count == 1 else f"{count} months"
    phase = int(months[at[0]]) % count
    which = np.flatnonzero(months % count == phase)
    which = which[(which >= count) & (which < len(months) - count)]
    for place, times in _places(seen, (begins, at, which), ticks, count):
        yield seen.rule(f"every {name}, {place}", times)


def _places(
    seen: Seen, months: tuple[Ticks, Ticks, Ticks], ticks: Ticks, count: int
) -> Iterator[tuple[str, Ticks]]:
    """Yield times by where they stand in their months, with the name of the place."""
    begins, at, which = months
    offset = _offset(ticks - begins[at], seen)
    if offset is not None and offset < _LATEST_OFFSET:
        yield from _stored(seen, _day_name(offset), begins[which] + offset)
    before = _offset(begins[at + 1] - ticks, seen)
    if before is not None and 0 < before <= DAY:
        yield from _stored(seen, "at the end", begins[which + 1] - before)
    for shift in range(count):
        middles = [(begins[n - shift] + begins[n - shift + count]) // 2 for n in (at, which)]
        if np.abs(middles[0] - ticks).max() > max(seen.within, seen.grid.step or 0):
            continue
        if seen.grid.step is None:
            yield from _stored(seen, "in the middle", middles[1])
            continue
        for rounding in ROUNDINGS:
            if np.array_equal(seen.grid.round(middles[0], rounding), ticks):
                yield f"in the middle, {rounding}", seen.grid.round(middles[1], rounding)


def _stored(seen: Seen, name: str, times: Ticks) -> Iterator[tuple[str, Ticks]]:
    """Yield times as files store them, if they can."""
    if seen.grid.is_on(times, MILLISECOND):
        yield name, seen.grid.nearest(seen.grid.round(times, HALF_UP))


def _offset(distances: Ticks, seen: Seen) -> int | None:
    """Return the one distance that all are, as far as files tell; None if they differ."""
    middle = int(np.median(distances))
    offset = roundest(middle, seen.grid.spacing) if seen.grid.spacing > MILLISECOND else middle
    return offset if np.abs(distances - offset).max() <= seen.within else None


def _day_name(offset: int) -> str:
    if offset == 0:
        return "at the beginning"
    return f"{_told(offset)} after the beginning"


def _named_months(
    seen: Seen, count: int, ticks: tuple[Ticks, Ticks, Ticks], edges: tuple[Ticks, Ticks]
) -> list[TimesRule]:
    """Return rules by which times stand in the middle or at the end of months that are named."""
    named, asked, there = ticks
    begins, _ = months_around(seen)
    at, which = place_in(begins, asked), place_in(begins, named)
    # Where each month is named once for each time of day nothing but an offset can tell them apart.
    if len(np.unique(which)) < len(which):
        return []
    spans = (begins[at], begins[at + count]), (begins[which], begins[which + count])
    rules: list[TimesRule] = []
    before = _offset(spans[0][1] - there, seen)
    if before is not None and 0 < before <= DAY:
        found = _stored(seen, "at the end", spans[1][1] - before)
        rules += [TimesRule(name, times, *edges) for name, times in found]
    middles = [(low + high) // 2 for low, high in spans]
    if np.abs(middles[0] - there).max() <= max(seen.within, seen.grid.step or 0):
        ways = ROUNDINGS if seen.grid.step is not None else (HALF_UP,)
        for way in ways:
            if are_equal(seen, seen.grid.nearest(seen.grid.round(middles[0], way)), there):
                times = seen.grid.nearest(seen.grid.round(middles[1], way))
                rules.append(TimesRule(f"in the middle, {way}", times, *edges))
    return rules


def _told(length: int) -> str:
    for unit, name in ((DAY, "day"), (HOUR, "hour"), (60 * SECOND, "minute"), (SECOND, "second")):
        if length % unit == 0:
            return plural(length // unit, name)
    return f"{length / SECOND} seconds"
