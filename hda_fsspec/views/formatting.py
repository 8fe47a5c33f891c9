"""Numbers, times and lists in the words of views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_DAY = len("2024-05-01")
_MINUTE = len("2024-05-01T00:00")


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


def orders_text(needed: int, under_way: int, local: int) -> str:
    """Say how many orders are needed, how many of them went out, and what needs none."""
    ordered = f", {under_way:,} of them under way" if under_way else ""
    return f"{needed:,} needed{ordered}, {local:,} local already"
