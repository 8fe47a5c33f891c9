"""Pieces near the present, where data are still added and corrected."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from hda_fsspec.schema.date_lists import DayLists
from hda_fsspec.schema.schema import Schema

#: Preliminary data are replaced by final ones within about three months.
PROVISIONAL = timedelta(days=100)
_YEAR = timedelta(days=366)
_LATEST = re.compile(
    r"(?:latest date available[^0-9]{0,60}|time dimension exceed[^\[]{0,60}\[[^\],]{4,60},\s*)"
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[ T]([0-9]{2}):([0-9]{2}))?",
    re.IGNORECASE,
)


def provisional_from(schema: Schema, now: datetime) -> datetime | None:
    """Return the instant from which on data may be missing today or be corrected tomorrow.

    It is where the schema says that the data set ends, else 100 days ago. None for projections,
    which reach into the years to come and are complete.
    """
    _, end = schema.time_keys or ("", "")
    latest = schema.named[end].latest if end in schema.named else None
    if latest is not None and latest <= now:
        return latest
    lists = None if schema.time_keys else DayLists.find(schema.named)
    years = [number for number, _ in lists.years.offered] if lists is not None else []
    if (latest is not None and latest > now + _YEAR) or (years and max(years) > now.year + 1):
        return None
    return now - PROVISIONAL


def latest_in(text: str) -> datetime | None:
    """Return the last moment of which a refusal says that there are data; None where it does not.

    An hour that is named is there as a whole, and so is a day.

    Examples
    --------
    >>> latest_in("None of the data ... is available yet. The latest date available for this "
    ...           "dataset is: 2026-11-22 08:00").isoformat()
    '2026-11-22T08:59:59.999000+00:00'
    """
    match = _LATEST.search(text)
    if match is None:
        return None
    day, hour, minute = match.groups()
    try:
        found = datetime.fromisoformat(f"{day}T{hour or '00'}:{minute or '00'}").replace(tzinfo=UTC)
    except ValueError:
        return None
    length = timedelta(days=1) if hour is None else timedelta(hours=1)
    return found + length - timedelta(milliseconds=1)
