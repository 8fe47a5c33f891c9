"""Times seen in some pieces, compared with a rule: whether it is decided for all pieces.

A rule is a row of times, as files store them; each piece holds those that lie in its bounds. Which
rules there are is for others to say: see :mod:`hda_fsspec.timeindex.regular_times`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from hda_fsspec.timeindex.calendars import (
    DAY,
    HOUR,
    MILLISECOND,
    SECOND,
    Array,
    DurationAxis,
    Flags,
    Ticks,
    TimeAxis,
    axis_of,
    ranges,
)
from hda_fsspec.timeindex.catalogue_times import Prediction, SeenProduct, are_centred, stored_grid
from hda_fsspec.timeindex.prediction_rules import TimeGrid

#: Months around the pieces, of which a time may stand in the middle or at the end.
_MARGIN = 30
_ROUND_UNITS = (DAY, 12 * HOUR, 6 * HOUR, HOUR, 30 * 60 * SECOND, 60 * SECOND, SECOND, MILLISECOND)


@dataclasses.dataclass(frozen=True)
class Undecided:
    """The pieces seen do not decide the times of the other pieces.

    Attributes
    ----------
    reason : str
        A clause for a message.
    ask : int or None
        The piece whose times would tell more; None where none would.
    """

    reason: str
    ask: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class TimesRule:
    """Times in order, as files store them, and how many of them lie before and in each piece."""

    name: str
    times: Ticks
    low: Ticks
    high: Ticks

    def of(self, piece: int) -> Ticks:
        """Return the times of one piece."""
        return self.times[self.low[piece] : self.high[piece]]

    def of_all(self, pieces: Ticks) -> Ticks:
        """Return the times of several pieces as one array."""
        low, counts = self.low[pieces], (self.high - self.low)[pieces]
        found: Ticks = self.times[ranges(low, counts)]
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """The pieces on the axis of the files, and what was seen of some."""

    axis: TimeAxis
    start: Ticks
    end: Ticks
    #: The first and the last moment of all, as the catalogue writes them.
    span: tuple[np.datetime64, np.datetime64]
    own: dict[int, Ticks]
    grid: TimeGrid
    #: Pieces whose first, or whose last times may be missing.
    short_at_start: Collection[int]
    short_at_end: Collection[int]
    #: The last moment of which there are data by now; None where that is not known.
    until: int | None = None

    def rule(self, name: str, times: Ticks) -> TimesRule:
        """Return the rule that some times in order are those of all pieces."""
        if self.until is not None:
            times = times[: np.searchsorted(times, self.until, side="right")]
        low = np.searchsorted(times, self.start)
        return TimesRule(name, times, low, np.searchsorted(times, self.end, side="right"))

    @property
    def within(self) -> int:
        """The largest difference that is none."""
        return max(MILLISECOND, self.grid.spacing)


def nothing_seen(count: int, seen: Collection[int]) -> Undecided:
    """Return that only empty pieces were read, and another piece to read."""
    unseen = [piece for piece in range(count) if piece not in seen]
    return Undecided("no time lies in what was read", unseen[len(unseen) // 2] if unseen else None)


def look_at(
    starts: Array,
    ends: Array,
    known: Sequence[SeenProduct],
    may_be_short: Collection[int],
    until: np.datetime64 | None = None,
) -> Seen | Undecided:
    """Place pieces, and what was read of some, on the axis of the files.

    Times outside of the bounds of their piece are left out, if they are all there are.
    """
    values = [product.values for product in known if product.values.size]
    if not values and len(known) < len(starts):
        return nothing_seen(len(starts), [seen.piece for seen in known])
    axis = axis_of(values or [known[0].values])
    if axis is None or isinstance(axis, DurationAxis):
        return Undecided("its index is no time that could be decoded")
    start, has_start = axis.place(starts.astype("datetime64[us]"))
    after, has_after = axis.place(ends.astype("datetime64[us]") + np.timedelta64(1, "ms"))
    if not (has_start.all() and has_after.all()):
        return Undecided("the calendar of its files has other days than ours")
    end = after - MILLISECOND
    own: dict[int, Ticks] = {}
    at = moment_of(axis, until)
    last_there = [] if at is None else [at]
    for product in sorted(known, key=lambda product: product.piece):
        ticks = axis.ticks(product.values) if product.values.size else np.empty(0, np.int64)
        is_last = product.piece in may_be_short
        if is_last and ticks.size and (ticks < start[product.piece]).all():
            # The nearest time that there is lies before it: nothing has come since.
            last_there.append(int(ticks.max()))
        inside = (ticks >= start[product.piece]) & (ticks <= end[product.piece])
        if ticks.size and inside.any() and not inside.all():
            return Undecided(
                f"some times of piece {product.piece + 1} lie outside of its own bounds"
            )
        if (np.diff(ticks) <= 0).any():
            return Undecided(f"the times of piece {product.piece + 1} are in no order")
        own[product.piece] = ticks[inside]
    last = len(starts) - 1
    grid = grid_of(axis, known, own.values())
    span = (starts.min(), ends.max())
    edge: int | None = None
    short = {last, *may_be_short}
    if last_there:
        # Of what was seen the times are known, later ones, too.
        edge = max([min(last_there), *(int(ticks[-1]) for ticks in own.values() if ticks.size)])
        short |= set(np.flatnonzero(end > edge).tolist())
    return Seen(axis, start, end, span, own, grid, {0}, short, edge)


def moment_of(axis: TimeAxis, time: np.datetime64 | None) -> int | None:
    """Return where a moment lies on an axis."""
    return None if time is None else int(axis.place(np.array([time], "datetime64[us]"))[0][0])


def grid_of(axis: TimeAxis, known: Sequence[SeenProduct], own: Iterable[Ticks]) -> TimeGrid:
    """Return the times that files can store; all, where each file may count from its own time."""
    encodings = {product.encoding for product in known if product.values.size}
    telling = [ticks for ticks in own if ticks.size]
    if len(encodings) != 1 or not telling:
        return TimeGrid()
    ticks = np.concatenate(telling)
    return stored_grid(axis, encodings.pop(), ticks, is_of_one=len(telling) == 1)


def months_around(seen: Seen) -> tuple[Ticks, Ticks]:
    """Return the first moments of all months around the pieces, and their numbers since 1970."""
    margin = np.timedelta64(_MARGIN, "M")
    first, last = (edge.astype("datetime64[M]") for edge in seen.span)
    months = np.arange(first - margin, last + margin)
    return seen.axis.place(months)[0], months.astype(np.int64)


def place_in(begins: Ticks, ticks: Ticks) -> Ticks:
    """Return which of some intervals, by their beginnings, times lie in."""
    found: Ticks = np.searchsorted(begins, ticks, side="right") - 1
    return found


def fitting(seen: Seen, rules: Iterator[TimesRule]) -> Iterator[TimesRule]:
    """Yield rules that say what was seen.

    Only if there is none those that say more where pieces may be short, and then those that say
    times of pieces in which there are none.
    """
    all_rules = list(rules)
    for most in (0, 1, 2):
        found = [rule for rule in all_rules if _fits(seen, rule, most=most)]
        if found:
            yield from found
            return


def _fits(seen: Seen, rule: TimesRule, *, most: int) -> bool:
    for piece, own in seen.own.items():
        said = rule.of(piece)
        if len(said) > len(own) and most:
            if most > 1 and not len(own):
                continue
            missing = len(said) - len(own)
            if piece in seen.short_at_end and are_equal(seen, said[: len(own)], own):
                continue
            if piece in seen.short_at_start and are_equal(seen, said[missing:], own):
                continue
            return False
        if not are_equal(seen, said, own):
            return False
    return True


def are_equal(seen: Seen, said: Ticks, own: Ticks) -> bool:
    """Whether times are those that a rule says, as files store them."""
    if len(said) != len(own):
        return False
    if seen.grid.spacing > MILLISECOND:
        return bool(np.array_equal(said, seen.grid.nearest(own)))
    return not len(own) or int(np.abs(said - own).max()) <= MILLISECOND


def _centred(seen: Seen, rules: list[TimesRule], known: Sequence[SeenProduct]) -> list[TimesRule]:
    """Return the rules of the middle where bounds in files say that times stand there."""
    middles = [rule for rule in rules if "middle" in rule.name]
    if not middles or len(middles) == len(rules):
        return []
    begins, _ = months_around(seen)
    for product in known:
        own = seen.own.get(product.piece)
        if (
            product.bounds is None
            or own is None
            or not own.size
            or product.bounds.size != 2 * own.size
        ):
            continue
        pairs = seen.axis.ticks(product.bounds.ravel()).reshape(-1, 2)
        first = begins[place_in(begins, pairs.min(axis=1))]
        last = begins[place_in(begins, pairs.max(axis=1) + DAY // 2)]
        away = max(seen.within, (seen.grid.step or 0) // 2)
        if not are_centred(own, pairs, (first, last), within=away):
            return []
        return middles
    return []


def decide(
    seen: Seen, rules: list[TimesRule], known: Sequence[SeenProduct]
) -> Prediction | Undecided:
    """Return what all rules say alike, or the piece about which they differ most."""
    first, *others = _centred(seen, rules, known) or rules
    if not others:
        return joined(seen, first, known)
    is_open = np.ones(len(seen.start), np.bool_)
    is_open[list(seen.own)] = False
    differing = np.zeros(len(is_open), np.int64)
    for other in others:
        differing += is_open & _differs(first, other)
    if not differing.any():
        return joined(seen, first, known)
    names = ", ".join(dict.fromkeys(rule.name for rule in rules))
    reason = f"what was read does not tell which of these holds: {names}"
    return Undecided(reason, int(np.argmax(differing)))


def _differs(one: TimesRule, other: TimesRule) -> Flags:
    """Return the pieces of which two rules say another number of times, or other ones."""
    counts = one.high - one.low
    found: Flags = counts != other.high - other.low
    rows = np.flatnonzero(~found & (counts > 0))
    if rows.size:
        apart = np.abs(one.of_all(rows) - other.of_all(rows)) > MILLISECOND
        found[rows] = np.logical_or.reduceat(apart, np.cumsum(counts[rows]) - counts[rows])
    return found


def joined(seen: Seen, rule: TimesRule | None, known: Sequence[SeenProduct]) -> Prediction:
    """Return the times of all pieces, with the own values of those that were seen."""
    count = len(seen.start)
    lengths = np.zeros(count, np.int64) if rule is None else (rule.high - rule.low).astype(np.int64)
    own = {
        product.piece: product.values[: len(seen.own[product.piece])]
        for product in known
        if product.piece in seen.own
    }
    parts: list[Array] = []
    done = 0
    for piece in [*sorted(own), count]:
        if rule is not None and piece > done:
            parts.append(seen.axis.times(rule.of_all(np.arange(done, piece))))
        if piece < count:
            lengths[piece] = len(own[piece])
            parts.append(own[piece])
        done = piece + 1
    filled = [part for part in parts if part.size]
    values = np.concatenate(filled) if filled else known[0].values[:0]
    return Prediction(values, lengths, rules=() if rule is None else (rule.name,))


def roundest(value: int, within: int) -> int:
    """Return the multiple of the longest unit that lies near a number: what people choose."""
    for unit in _ROUND_UNITS:
        nearest = (value + unit // 2) // unit * unit
        if abs(nearest - value) <= within:
            return nearest
    return value
