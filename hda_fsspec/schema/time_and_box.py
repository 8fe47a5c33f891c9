"""The one vocabulary for time and box: which parameter is meant, and how a value is read.

The module knows names and texts. It has never heard of types and choices; those are in
:mod:`hda_fsspec.schema.parameters`.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

from hda_fsspec.errors import QueryError
from hda_fsspec.records import parse_time

START, END, BOX = "startdate", "enddate", "bbox"

#: What the service has called the two ends of a time range, the names of today first.
TIME_PAIRS = (
    (START, END),
    ("start", "end"),
    ("dtstart", "dtend"),
    ("min_date", "max_date"),
    ("start_datetime", "end_datetime"),
    ("startDate", "completionDate"),
    ("startDate", "endDate"),
    ("observed_start", "observed_end"),
    ("creationDateStart", "creationDateEnd"),
)

_START_WORDS = ("beginning", "begin", "start", "since", "from", "min")
_END_WORDS = ("completion", "ending", "until", "stop", "end", "max", "to")

# A range of these is not a range of what was observed, so it must never stand in for one.
_NOT_OBSERVED = re.compile(r"publi|creat|process|ingest|modif|updat|insert|availab", re.IGNORECASE)

_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_DAY = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?Z?", re.ASCII)
_CLOCK = re.compile(r"[T ][0-9]{2}:[0-9]{2}", re.ASCII | re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?[0-9]{1,300}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_CLIP = 80


def find_time_keys(
    names: Collection[str], *, dated: Iterable[str] = ()
) -> tuple[str | None, str | None]:
    """Find the names of a start and an end.

    Parameters
    ----------
    names : collection of str
        Names which may hold a time, in the order of the schema.
    dated : iterable of str
        Those among them which certainly hold one. Only they are paired up by how they are
        spelled, where no pair of known names is there.

    Returns
    -------
    tuple of (str or None, str or None)
        A pair where there is one, else whichever end stands alone under a known name.
    """
    for start, end in TIME_PAIRS:
        if start in names and end in names:
            return start, end
    dated = [name for name in dated if not _NOT_OBSERVED.search(name)]
    for start in dated:
        stems = _stems(start, _START_WORDS)
        for end in dated:
            if end != start and stems & _stems(end, _END_WORDS):
                return start, end
    starts, ends = zip(*TIME_PAIRS, strict=True)
    return next((n for n in starts if n in names), None), next(
        (n for n in ends if n in names), None
    )


def _stems(name: str, words: Sequence[str]) -> set[str]:
    """Return what is left of a name without one of the words, for each place one is found at."""
    tokens = [token.lower() for token in _TOKEN.findall(name)]
    flat = "".join(tokens)
    inside = {"".join(tokens[:i] + tokens[i + 1 :]) for i, t in enumerate(tokens) if t in words}
    first = {flat.removeprefix(word) for word in words if flat.startswith(word)}
    last = {flat.removesuffix(word) for word in words if flat.endswith(word)}
    return inside | first | last


def shown(values: Sequence[str]) -> str:
    """Write the values of one key for a message, cut where they are long."""
    text = ",".join(values)
    return text if len(text) <= _CLIP else f"{text[:_CLIP]}…"


def single(key: str, values: Sequence[str]) -> str:
    """Return the only value of a key; several are a QueryError."""
    if len(values) != 1:
        msg = f"{key} takes one value, not {len(values)}."
        raise QueryError(msg, key=key)
    return values[0]


def read_instant(key: str, text: str, *, last: bool = False) -> datetime:
    """Read a date or time as an instant in UTC.

    A day, a month (``2024-05``) or a year (``2024``) is its first instant, or with `last` its
    last millisecond. A time is itself.

    Raises
    ------
    QueryError
        The text is neither.
    """
    try:
        if match := _DAY.fullmatch(text):
            year, month, day = (None if part is None else int(part) for part in match.groups())
            return _bound(year or 0, month, day, last=last)
        if _CLOCK.search(text):
            return parse_time(text)
    except (ValueError, OverflowError):
        pass
    msg = (
        f"{shown([text])!r} is not a date or time. Write a day as {key}=2024-05-01 (or 2024-05, "
        f"2024), or a time as {key}=2024-05-01T12:30:00Z."
    )
    raise QueryError(msg, key=key)


def _bound(year: int, month: int | None, day: int | None, *, last: bool) -> datetime:
    if not last:
        return datetime(year, month or 1, day or 1, tzinfo=UTC)
    month = month or 12
    # A month that does not exist must fail as a ValueError, which IllegalMonthError is.
    day = day or calendar.monthrange(year, month)[1]
    return datetime(year, month, day, 23, 59, 59, 999_000, tzinfo=UTC)


def read_number(key: str, text: str) -> int | float:
    """Read a finite number; one that looks like an integer is an int."""
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    msg = f"{shown([text])!r} is not a finite number, which {key} takes."
    raise QueryError(msg, key=key)


def read_box(key: str, values: Sequence[str]) -> list[int | float]:
    """Read a box in degrees: west, south, east, north.

    West may lie east of east: such a box crosses the date line.
    """
    order = f"Write {key}=W,S,E,N in degrees, as in {key}=-6,43,-1,46."
    if len(values) != 4:
        msg = f"A box has four numbers, not {len(values)}. {order}"
        raise QueryError(msg, key=key)
    try:
        west, south, east, north = (_whole(read_number(key, value)) for value in values)
    except QueryError as err:
        msg = f"{err} {order}"
        raise QueryError(msg, key=key) from None
    if not all(-180 <= longitude <= 360 for longitude in (west, east)):
        msg = f"A longitude lies outside -180 to 360. {order}"
        raise QueryError(msg, key=key)
    if not all(-90 <= latitude <= 90 for latitude in (south, north)):
        msg = f"A latitude lies outside -90 to 90. {order}"
        raise QueryError(msg, key=key)
    if south > north:
        msg = f"South ({south}) lies north of north ({north}). {order}"
        raise QueryError(msg, key=key)
    return [west, south, east, north]


def _whole(number: float) -> int | float:
    return int(number) if isinstance(number, float) and number.is_integer() else number
