"""Numbers, times and lists in the words of views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_DAY = len("2024-05-01")
_MINUTE = len("2024-05-01T00:00")


def format_bytes(count: float) -> str:
    """Return a number of bytes as people read it.

    >>> format_bytes(1_234_567)
    '1.2 MB'
    """
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} PB"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "product"), counted(10_000, "product")
    ('1 product', '10,000 products')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def day_of(time: str | None) -> str:
    """Return the day of a canonical time; nothing for none."""
    return "" if time is None else time[:_DAY]


def minute_of(time: str | None) -> str:
    """Return a canonical time to the minute; nothing for none."""
    return "" if time is None else time[:_MINUTE].replace("T", " ")


def period_of(startdate: str | None, enddate: str | None) -> str:
    """Return a period in days, with an open end where it is not told."""
    if startdate is None and enddate is None:
        return "not told"
    first, last = day_of(startdate) or "…", day_of(enddate) or "…"
    return first if first == last else f"{first} to {last}"


def ends_of(rows: Sequence[T], first: int, last: int) -> tuple[Sequence[T], int, Sequence[T]]:
    """Return the first and the last of many rows, and how many lie between."""
    if len(rows) <= first + last + 1:
        return rows, 0, []
    return rows[:first], len(rows) - first - last, rows[len(rows) - last :]
