"""Where the times of pieces stand that a query was cut into: at regular steps, or at known ones.

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

from hda_fsspec.timing.encoding import TimeEncoding
from hda_fsspec.timing.timeaxis import (
    DAY,
    HOUR,
    MILLISECOND,
    SECOND,
    Array,
    Axis,
    DurationAxis,
    Flags,
    Ticks,
    UnpredictableError,
    axis_of,
)
from hda_fsspec.timing.timebounds import are_centred
from hda_fsspec.timing.timeline import Known, Prediction
from hda_fsspec.timing.timerules import HALF_UP, ROUNDINGS, Grid

_LENGTHS = {"second": SECOND, "minute": 60 * SECOND, "hour": HOUR, "day": DAY}
_MONTHS = {"month": 1, "year": 12}
#: What a step is taken for where one time alone was seen; others may decide between them.
_GUESSES = ((1, "day"), (1, "month"), (1, "year"))
#: A day that every month has.
_LATEST_OFFSET = 28 * DAY
_ROUND_UNITS = (DAY, 12 * HOUR, 6 * HOUR, HOUR, 30 * 60 * SECOND, 60 * SECOND, SECOND, MILLISECOND)
#: Months around the pieces, of which a time may stand in the middle or at the end.
_MARGIN = 30
#: More times than these are no series of files.
_MAX_TIMES = 50_000_000


@dataclasses.dataclass(frozen=True)
class Undecided:
    """What was seen does not tell the times of the other pieces.

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
class _Rule:
    """Times in order, as files store them, and how many of them lie before and in each piece."""

    name: str
    times: Ticks
    low: Ticks
    high: Ticks

    def of(self, piece: int) -> Ticks:
        return self.times[self.low[piece] : self.high[piece]]

    def of_all(self, pieces: Ticks) -> Ticks:
        """Return the times of several pieces as one array."""
        low, counts = self.low[pieces], (self.high - self.low)[pieces]
        begin = np.repeat(low - np.cumsum(counts) + counts, counts)
        found: Ticks = self.times[np.arange(len(begin)) + begin]
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Seen:
    """The pieces on the axis of the files, and what was seen of some."""

    axis: Axis
    start: Ticks
    end: Ticks
    #: The first and the last moment of all, as the catalogue writes them.
    span: tuple[np.datetime64, np.datetime64]
    own: dict[int, Ticks]
    grid: Grid
    #: Pieces whose first, or whose last times may be missing.
    short_at_start: Collection[int]
    short_at_end: Collection[int]

    def rule(self, name: str, times: Ticks) -> _Rule:
        low = np.searchsorted(times, self.start)
        return _Rule(name, times, low, np.searchsorted(times, self.end, side="right"))

    @property
    def within(self) -> int:
        return max(MILLISECOND, self.grid.spacing)


def predict_regular(
    starts: Array,
    ends: Array,
    known: Sequence[Known],
    *,
    step: tuple[int, str] | None = None,
    nominal: tuple[Array, Array] | None = None,
    may_be_short: Collection[int] = (),
) -> Prediction | Undecided:
    """Predict the index of all pieces of a range from the times of some.

    Pieces that were seen keep their own values. One whose times all lie outside of its bounds is
    empty: asked for a range without any time the service delivers the nearest one.

    Parameters
    ----------
    starts, ends : numpy.ndarray
        The bounds of pieces in order, ``datetime64``; both are part of a piece.
    known : sequence of Known
        Pieces that were seen, at least one.
    step : tuple of (int, str), optional
        The distance of times where something else tells it: ``(6, "hour")``. Units are second,
        minute, hour, day, month and year. It is believed if what was seen fits it.
    nominal : tuple of numpy.ndarray, optional
        The times that the requests name, ``datetime64`` of all pieces in order, and how many of
        them each piece has.
    may_be_short : collection of int
        Pieces that may lack their last times, since these are still to come.

    Returns
    -------
    Prediction or Undecided
        A prediction has always values. Lengths are 0 for pieces that no time lies in.
    """
    try:
        if nominal is None:
            return _predict_steps(starts, ends, known, step, may_be_short)
        return _predict_named(len(starts), known, step, nominal, may_be_short)
    except UnpredictableError as err:
        return Undecided(err.reason)


def _predict_steps(
    starts: Array,
    ends: Array,
    known: Sequence[Known],
    step: tuple[int, str] | None,
    may_be_short: Collection[int],
) -> Prediction | Undecided:
    seen = _seen(starts, ends, known, may_be_short)
    if isinstance(seen, Undecided):
        return seen
    if len(seen.own) == len(starts):
        return _joined(seen, None, known)
    if not any(ticks.size for ticks in seen.own.values()):
        return _nothing_seen(len(starts), seen.own)
    rules = list(_fitting(seen, _step_rules(seen, [step]))) if step else []
    if not rules:
        rules = list(_fitting(seen, _step_rules(seen, _steps_of(seen))))
        # A piece that is said to be empty is never read. So a step that was guessed has to be seen:
        # two times of which one follows the other, with nothing between them that was not read.
        rules = [rule for rule in rules if _is_seen(seen, rule)]
    if not rules:
        return Undecided("the times that were read tell no regular step", _neighbour(seen))
    rules = _centred(seen, rules, known) or rules
    return _decided(seen, rules, known)


def _nothing_seen(count: int, seen: Collection[int]) -> Undecided:
    unseen = [piece for piece in range(count) if piece not in seen]
    return Undecided("no time lies in what was read", unseen[len(unseen) // 2] if unseen else None)


def _seen(
    starts: Array, ends: Array, known: Sequence[Known], may_be_short: Collection[int]
) -> _Seen | Undecided:
    values = [one.values for one in known if one.values.size]
    if not values and len(known) < len(starts):
        return _nothing_seen(len(starts), [one.piece for one in known])
    axis = axis_of(values or [known[0].values])
    if axis is None or isinstance(axis, DurationAxis):
        return Undecided("its index is no time that could be decoded")
    start, has_start = axis.place(starts.astype("datetime64[us]"))
    after, has_after = axis.place(ends.astype("datetime64[us]") + np.timedelta64(1, "ms"))
    if not (has_start.all() and has_after.all()):
        return Undecided("the calendar of its files has other days than ours")
    end = after - MILLISECOND
    own: dict[int, Ticks] = {}
    for one in sorted(known, key=lambda one: one.piece):
        ticks = axis.ticks(one.values) if one.values.size else np.empty(0, np.int64)
        inside = (ticks >= start[one.piece]) & (ticks <= end[one.piece])
        if ticks.size and inside.any() and not inside.all():
            return Undecided(f"some times of piece {one.piece + 1} lie outside of its own bounds")
        if (np.diff(ticks) <= 0).any():
            return Undecided(f"the times of piece {one.piece + 1} are in no order")
        own[one.piece] = ticks[inside]
    last = len(starts) - 1
    grid = _grid(axis, known, [ticks for ticks in own.values() if ticks.size])
    span = (starts.min(), ends.max())
    return _Seen(axis, start, end, span, own, grid, {0}, {last, *may_be_short})


def _grid(axis: Axis, known: Sequence[Known], telling: list[Ticks]) -> Grid:
    """Return the times that files can store; all, where each file may count from its own time."""
    encodings = {one.encoding for one in known if one.values.size}
    if len(encodings) != 1 or not telling:
        return Grid()
    encoding: TimeEncoding = encodings.pop()
    ticks = np.concatenate(telling)
    if len(telling) == 1 and encoding.counts_from_nearby(axis, ticks):
        return Grid()
    if encoding.grid is not None and encoding.grid > MILLISECOND:
        anchor = int(ticks[0])
        return Grid(encoding.grid, anchor, encoding.parity(axis, anchor))
    spacing = encoding.spacing(axis, ticks)
    return Grid(spacing=spacing, nearest=lambda values: encoding.nearest(axis, values))


def _is_seen(seen: _Seen, rule: _Rule) -> bool:
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


def _neighbour(seen: _Seen) -> int | None:
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


def _in_a_row(seen: _Seen) -> list[Ticks]:
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


def _steps_of(seen: _Seen) -> list[tuple[int, str]]:
    """Return the steps that times may have, in microseconds where they are of one length."""
    rows = [ticks for ticks in seen.own.values() if ticks.size > 1]
    guesses: list[tuple[int, str]] = []
    if not rows:
        guesses += _GUESSES
        rows = _in_a_row(seen)
    if not rows:
        return guesses
    distances = np.concatenate([np.diff(ticks) for ticks in rows])
    step = _roundest(int(np.median(distances)), 2 * seen.within)
    # Times that lie within half a unit of their place may be that much off.
    if step > 0 and int(np.abs(distances - step).max()) <= 2 * seen.within:
        guesses.append((step, ""))
    begins, months = _months(seen)
    between = np.unique(np.concatenate([np.diff(months[_place(begins, ticks)]) for ticks in rows]))
    if len(between) == 1 and between[0] > 0:
        guesses.append((int(between[0]), "month"))
    return list(dict.fromkeys(guesses))


def _step_rules(seen: _Seen, steps: Sequence[tuple[int, str]]) -> Iterator[_Rule]:
    for count, unit in steps:
        if unit in _MONTHS:
            yield from _month_rules(seen, count * _MONTHS[unit])
        else:
            yield from _length_rules(seen, count * _LENGTHS.get(unit, 1))


def _length_rules(seen: _Seen, length: int) -> Iterator[_Rule]:
    """Yield the times that lie whole steps from one that was seen."""
    first = next(int(ticks[0]) for ticks in seen.own.values() if ticks.size)
    first = _roundest(first, seen.grid.spacing) if seen.grid.spacing > MILLISECOND else first
    low, high = int(seen.start.min()), int(seen.end.max())
    if (high - low) // length > _MAX_TIMES:
        raise UnpredictableError("its times lie too close together to be told ahead")
    begin = low + (first - low) % length
    times = np.arange(begin, high + 1, length, dtype=np.int64)
    name = f"every {_told(length)}"
    if seen.grid.is_on(times, MILLISECOND):
        yield seen.rule(name, seen.grid.nearest(seen.grid.round(times, HALF_UP)))


def _months(seen: _Seen) -> tuple[Ticks, Ticks]:
    """Return the first moments of all months around the pieces, and their numbers since 1970."""
    margin = np.timedelta64(_MARGIN, "M")
    first, last = (edge.astype("datetime64[M]") for edge in seen.span)
    months = np.arange(first - margin, last + margin)
    return seen.axis.place(months)[0], months.astype(np.int64)


def _place(begins: Ticks, ticks: Ticks) -> Ticks:
    found: Ticks = np.searchsorted(begins, ticks, side="right") - 1
    return found


def _month_rules(seen: _Seen, count: int) -> Iterator[_Rule]:
    """Yield times that stand at one place in every so many months."""
    begins, months = _months(seen)
    ticks = np.concatenate([own for own in seen.own.values() if own.size])
    at = _place(begins, ticks)
    if len(np.unique(months[at] % count)) > 1:
        return
    name = "year" if count == 12 else "month" if count == 1 else f"{count} months"
    phase = int(months[at[0]]) % count
    which = np.flatnonzero(months % count == phase)
    which = which[(which >= count) & (which < len(months) - count)]
    for place, times in _places(seen, (begins, at, which), ticks, count):
        yield seen.rule(f"every {name}, {place}", times)


def _places(
    seen: _Seen, months: tuple[Ticks, Ticks, Ticks], ticks: Ticks, count: int
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


def _stored(seen: _Seen, name: str, times: Ticks) -> Iterator[tuple[str, Ticks]]:
    """Yield times as files store them, if they can."""
    if seen.grid.is_on(times, MILLISECOND):
        yield name, seen.grid.nearest(seen.grid.round(times, HALF_UP))


def _offset(distances: Ticks, seen: _Seen) -> int | None:
    """Return the one distance that all are, as far as files tell; None if they differ."""
    middle = int(np.median(distances))
    offset = _roundest(middle, seen.grid.spacing) if seen.grid.spacing > MILLISECOND else middle
    return offset if np.abs(distances - offset).max() <= seen.within else None


def _day_name(offset: int) -> str:
    if offset == 0:
        return "at the beginning"
    return f"{_told(offset)} after the beginning"


def _fitting(seen: _Seen, rules: Iterator[_Rule]) -> Iterator[_Rule]:
    """Yield rules that say what was seen; those that say more only where pieces may be short."""
    all_rules = list(rules)
    exact = [rule for rule in all_rules if _fits(seen, rule, is_exact=True)]
    yield from exact or [rule for rule in all_rules if _fits(seen, rule, is_exact=False)]


def _fits(seen: _Seen, rule: _Rule, *, is_exact: bool) -> bool:
    for piece, own in seen.own.items():
        said = rule.of(piece)
        if len(said) > len(own) and not is_exact:
            missing = len(said) - len(own)
            if piece in seen.short_at_end and _are_equal(seen, said[: len(own)], own):
                continue
            if piece in seen.short_at_start and _are_equal(seen, said[missing:], own):
                continue
            return False
        if not _are_equal(seen, said, own):
            return False
    return True


def _are_equal(seen: _Seen, said: Ticks, own: Ticks) -> bool:
    if len(said) != len(own):
        return False
    if seen.grid.spacing > MILLISECOND:
        return bool(np.array_equal(said, seen.grid.nearest(own)))
    return not len(own) or int(np.abs(said - own).max()) <= MILLISECOND


def _centred(seen: _Seen, rules: list[_Rule], known: Sequence[Known]) -> list[_Rule]:
    """Return the rules of the middle where bounds in files say that times stand there."""
    middles = [rule for rule in rules if "middle" in rule.name]
    if not middles or len(middles) == len(rules):
        return []
    begins, _ = _months(seen)
    for one in known:
        own = seen.own.get(one.piece)
        if one.bounds is None or own is None or not own.size or one.bounds.size != 2 * own.size:
            continue
        pairs = seen.axis.ticks(one.bounds.ravel()).reshape(-1, 2)
        first = begins[_place(begins, pairs.min(axis=1))]
        last = begins[_place(begins, pairs.max(axis=1) + DAY // 2)]
        away = max(seen.within, (seen.grid.step or 0) // 2)
        if not are_centred(own, pairs, (first, last), within=away):
            return []
        return middles
    return []


def _decided(seen: _Seen, rules: list[_Rule], known: Sequence[Known]) -> Prediction | Undecided:
    """Return what all rules say alike, or the piece about which they differ most."""
    first, *others = rules
    if not others:
        return _joined(seen, first, known)
    is_open = np.ones(len(seen.start), np.bool_)
    is_open[list(seen.own)] = False
    differing = np.zeros(len(is_open), np.int64)
    for other in others:
        differing += is_open & _differs(first, other)
    if not differing.any():
        return _joined(seen, first, known)
    names = ", ".join(dict.fromkeys(rule.name for rule in rules))
    reason = f"what was read does not tell which of these holds: {names}"
    return Undecided(reason, int(np.argmax(differing)))


def _differs(one: _Rule, other: _Rule) -> Flags:
    """Return the pieces of which two rules say another number of times, or other ones."""
    counts = one.high - one.low
    found: Flags = counts != other.high - other.low
    rows = np.flatnonzero(~found & (counts > 0))
    if rows.size:
        apart = np.abs(one.of_all(rows) - other.of_all(rows)) > MILLISECOND
        found[rows] = np.logical_or.reduceat(apart, np.cumsum(counts[rows]) - counts[rows])
    return found


def _joined(seen: _Seen, rule: _Rule | None, known: Sequence[Known]) -> Prediction:
    """Return the times of all pieces, with the own values of those that were seen."""
    count = len(seen.start)
    lengths = np.zeros(count, np.int64) if rule is None else (rule.high - rule.low).astype(np.int64)
    own = {
        one.piece: one.values[: len(seen.own[one.piece])] for one in known if one.piece in seen.own
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


def _predict_named(
    count: int,
    known: Sequence[Known],
    step: tuple[int, str] | None,
    nominal: tuple[Array, Array],
    may_be_short: Collection[int],
) -> Prediction | Undecided:
    """Predict times that requests name, but for where in their day, month or year they stand."""
    values = [one.values for one in known if one.values.size]
    if not values:
        return _nothing_seen(count, [one.piece for one in known])
    axis = axis_of(values)
    counts = nominal[1].astype(np.int64)
    if axis is None or isinstance(axis, DurationAxis):
        return Undecided("its index is no time that could be decoded")
    named, exist = axis.place(nominal[0].astype("datetime64[us]"))
    if not exist.all():
        return Undecided("the calendar of its files has other days than ours")
    high = np.cumsum(counts)
    low = high - counts
    own: dict[int, Ticks] = {}
    pairs: list[tuple[Ticks, Ticks]] = []
    short = {count - 1, *may_be_short}
    for one in sorted(known, key=lambda one: one.piece):
        ticks = axis.ticks(one.values) if one.values.size else np.empty(0, np.int64)
        said = named[low[one.piece] : high[one.piece]]
        if len(ticks) > len(said) or (len(ticks) < len(said) and one.piece not in short):
            reason = (
                f"piece {one.piece + 1} holds {len(ticks)} times, and {len(said)} were asked for"
            )
            return Undecided(reason)
        own[one.piece] = ticks
        pairs.append((said[: len(ticks)], ticks))
    asked, there = (np.concatenate(part) for part in zip(*pairs, strict=True))
    grid = _grid(axis, known, [ticks for ticks in own.values() if ticks.size])
    span = (nominal[0].min(), nominal[0].max())
    seen = _Seen(axis, low, high, span, own, grid, (), short)
    rules: list[_Rule] = []
    offset = _offset(there - asked, seen)
    months = _MONTHS.get(step[1], 0) if step else 0
    most = _LATEST_OFFSET if months else DAY
    if offset is not None and abs(offset) <= most:
        name = "as asked for" if offset == 0 else f"{_told(offset)} after what was asked for"
        rules += [_Rule(name, times, low, high) for _, times in _stored(seen, "", named + offset)]
    if months and offset != 0:
        rules += _named_months(seen, months, (named, asked, there), (low, high))
    if not rules:
        return Undecided("the times that were read are not those that were asked for")
    rules = _centred(seen, rules, known) or rules
    return _decided(seen, rules, known)


def _named_months(
    seen: _Seen, count: int, ticks: tuple[Ticks, Ticks, Ticks], edges: tuple[Ticks, Ticks]
) -> list[_Rule]:
    """Return rules by which times stand in the middle or at the end of months that are named."""
    named, asked, there = ticks
    begins, _ = _months(seen)
    at, which = _place(begins, asked), _place(begins, named)
    # Where each month is named once for each time of day nothing but an offset can tell them apart.
    if len(np.unique(which)) < len(which):
        return []
    spans = (begins[at], begins[at + count]), (begins[which], begins[which + count])
    rules: list[_Rule] = []
    before = _offset(spans[0][1] - there, seen)
    if before is not None and 0 < before <= DAY:
        found = _stored(seen, "at the end", spans[1][1] - before)
        rules += [_Rule(name, times, *edges) for name, times in found]
    middles = [(low + high) // 2 for low, high in spans]
    if np.abs(middles[0] - there).max() <= max(seen.within, seen.grid.step or 0):
        ways = ROUNDINGS if seen.grid.step is not None else (HALF_UP,)
        for way in ways:
            if _are_equal(seen, seen.grid.nearest(seen.grid.round(middles[0], way)), there):
                times = seen.grid.nearest(seen.grid.round(middles[1], way))
                rules.append(_Rule(f"in the middle, {way}", times, *edges))
    return rules


def _roundest(value: int, within: int) -> int:
    """Return the multiple of the longest unit that lies near a number: what people choose."""
    for unit in _ROUND_UNITS:
        nearest = (value + unit // 2) // unit * unit
        if abs(nearest - value) <= within:
            return nearest
    return value


def _told(length: int) -> str:
    for unit, name in ((DAY, "day"), (HOUR, "hour"), (60 * SECOND, "minute"), (SECOND, "second")):
        if length % unit == 0:
            return f"{length // unit} {name}{'s' if length // unit != 1 else ''}"
    return f"{length / SECOND} seconds"
