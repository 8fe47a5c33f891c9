"""Whether a piece reaches near the present, where data are still added and corrected."""

from __future__ import annotations

from datetime import datetime, timedelta

from hda_fsspec.schema.date_lists import DayLists
from hda_fsspec.schema.queryables import Schema

#: Preliminary data are replaced by final ones within about three months.
PROVISIONAL = timedelta(days=100)
_YEAR = timedelta(days=366)


def provisional_from(schema: Schema, now: datetime) -> datetime | None:
    """Return the instant from which on data may be missing today or be corrected tomorrow.

    It is where the schema says that the data set ends, else 100 days ago. None for projections,
    which reach into the years to come and are complete.
    """
    named = {parameter.name: parameter for parameter in schema.parameters}
    _, end = schema.time_keys or ("", "")
    latest = named[end].latest if end in named else None
    if latest is not None and latest <= now:
        return latest
    lists = None if schema.time_keys else DayLists.find(named)
    years = [number for number, _ in lists.years.offered] if lists is not None else []
    if (latest is not None and latest > now + _YEAR) or (years and max(years) > now.year + 1):
        return None
    return now - PROVISIONAL


def near_present(bounds: tuple[datetime, datetime] | None, schema: Schema, now: datetime) -> bool:
    """Whether a piece may be short now, and longer or corrected tomorrow.

    Parameters
    ----------
    bounds : tuple of datetime or None
        Its first and last instant; without times it is taken for complete.
    schema : Schema
        What the data set takes.
    now : datetime
        The present, aware.
    """
    since = provisional_from(schema, now)
    return bounds is not None and since is not None and bounds[1] >= since
