"""Times as whole microseconds, in the calendar of the files, and how exact a file can store them.

The axis knows calendars and encodings; it has never heard of products, catalogues or rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = np.ndarray[Any, Any]
Ticks = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

#: A tick is a microsecond; the catalogue writes milliseconds.
MILLISECOND = 1_000
SECOND = 1_000 * MILLISECOND
HOUR = 3_600 * SECOND
DAY = 24 * HOUR

_EPOCH_UNITS = "microseconds since 1970-01-01"
_UNIT_TICKS = {
    **dict.fromkeys(("microsecond", "microsec", "us"), 1),
    **dict.fromkeys(("millisecond", "millisec", "msec", "ms"), MILLISECOND),
    **dict.fromkeys(("second", "sec", "s"), SECOND),
    **dict.fromkeys(("minute", "min"), 60 * SECOND),
    **dict.fromkeys(("hour", "hr", "h"), HOUR),
    **dict.fromkeys(("day", "d"), DAY),
}
_MIXED = "mixed values"
_SINCE = re.compile(r"\s*([A-Za-z]+)\s+since\s+(-?\d{1,6})", re.IGNORECASE)
#: The year that the size of stored numbers is judged by where no value is at hand.
_ANY_YEAR = 2030


class UnpredictableError(Exception):
    """The catalogue does not tell where products stand; ``reason`` is a clause for a message."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Axis(Protocol):
    """A calendar in which times are numbers."""

    def ticks(self, values: Array) -> Ticks:
        """Return decoded times as microseconds since 1970."""

    def place(self, times: Array) -> tuple[Ticks, Flags]:
        """Return the catalogue's dates in this calendar, and which of them exist in it."""

    def times(self, ticks: Ticks) -> Array:
        """Return times of the kind that the files decode to."""


class StandardAxis:
    """The axis of times that decode to numpy's ``datetime64``."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def ticks(self, values: Array) -> Ticks:
        """Return decoded times as microseconds since 1970."""
        if np.isnat(values).any():
            raise UnpredictableError("a product has missing values in its index")
        return rounded_ticks(values)

    def place(self, times: Array) -> tuple[Ticks, Flags]:
        """Return the catalogue's dates, which all exist in this calendar."""
        return times.astype("datetime64[us]").astype(np.int64), np.ones(times.shape, np.bool_)

    def times(self, ticks: Ticks) -> Array:
        """Return ``datetime64`` of the unit that the files decode to."""
        # Where the unit is coarser than ours, the nearest, and not the one before.
        unit = np.ones(1, self.dtype.str.replace("M8", "m8"))
        half = int(unit[0] // np.timedelta64(2, "us"))
        values: Array = (ticks + half).astype("datetime64[us]").astype(self.dtype)
        if (np.abs(rounded_ticks(values) - ticks) > half).any():
            raise UnpredictableError(f"a time that follows from it does not fit {self.dtype}")
        return values


class CalendarAxis:
    """The axis of times that decode to cftime objects, such as a year of 360 days."""

    def __init__(self, calendar: str) -> None:
        self.calendar = calendar

    def ticks(self, values: Array) -> Ticks:
        """Return decoded times as microseconds since 1970 in their own calendar."""
        import cftime

        return np.asarray(cftime.date2num(values, _EPOCH_UNITS, calendar=self.calendar), np.int64)

    def place(self, times: Array) -> tuple[Ticks, Flags]:
        """Return the same year, month, day and clock in this calendar, where there is such a day.

        The catalogue writes the dates of a product of another calendar as if they were dates of
        ours, so components are carried over and not moments.
        """
        import cftime

        exists = np.ones(times.shape, np.bool_)
        placed = np.full(times.shape, cftime.datetime(1970, 1, 1, calendar=self.calendar), object)
        for number, time in enumerate(times.astype("datetime64[us]").tolist()):
            try:
                clock = (time.hour, time.minute, time.second, time.microsecond)
                day = (time.year, time.month, time.day)
                placed[number] = cftime.datetime(*day, *clock, calendar=self.calendar)
            except (ValueError, AttributeError):
                # No such day; or numpy gave a number, since Python's years end at 9999.
                exists[number] = False
        return self.ticks(placed), exists

    def times(self, ticks: Ticks) -> Array:
        """Return cftime objects."""
        import cftime

        return np.asarray(cftime.num2date(ticks, _EPOCH_UNITS, calendar=self.calendar), object)


def rounded_ticks(values: Array) -> Ticks:
    """Return ``datetime64`` as microseconds since 1970, the nearest ones."""
    ticks = values.astype("datetime64[us]")
    over = (values - ticks) / np.timedelta64(1, "us")
    nearest: Ticks = ticks.astype(np.int64) + (over >= 0.5)
    return nearest


def axis_of(arrays: Sequence[Array]) -> Axis | None:
    """Return the axis that some products' index values share; None where they are no times.

    Raises UnpredictableError if the products are of different kinds or calendars.
    """
    kinds = {_kind(values) for values in arrays}
    if len(kinds) > 1:
        names = " and ".join(sorted(kind or "numbers" for kind in kinds))
        raise UnpredictableError(f"the index of its products is of different kinds ({names})")
    kind = kinds.pop()
    if kind == _MIXED:
        raise UnpredictableError("a product has an index of values of different kinds")
    if kind is None:
        return None
    if kind == "datetime64":
        return StandardAxis(np.result_type(*{values.dtype for values in arrays}))
    return CalendarAxis(kind)


def _kind(values: Array) -> str | None:
    if values.dtype.kind == "M":
        return "datetime64"
    if values.dtype.kind != "O":
        return None
    calendars = {str(getattr(value, "calendar", "")) for value in values.tolist()}
    if len(calendars) == 1:
        return calendars.pop() or None
    return _MIXED


def resolution_of(
    attrs_units: str | None,
    dtype: npt.DTypeLike | None,
    calendar: str | None = None,  # noqa: ARG001  # part of an encoding, like the other two
    *,
    values: Array | None = None,
) -> np.timedelta64 | float:
    """Return how exact a file can store its index: a millisecond, or what its encoding allows.

    Parameters
    ----------
    attrs_units : str or None
        The units that the file names: ``"hours since 1900-01-01"``.
    dtype : dtype or None
        What the file stores, and not what it decodes to: whole hours for an integer, the distance
        of neighbouring numbers for a float (168.75 s for days since 1950 in 32 bits). A dtype
        that stores no such numbers counts as exact.
    calendar : str or None
        Ignored: the units that are understood are as long in all calendars.
    values : numpy.ndarray, optional
        Decoded values, which tell how large the stored numbers are.

    Returns
    -------
    numpy.timedelta64 or float
        At least one millisecond; or 0.0 where the units are not those of a time.
    """
    stored = np.dtype(dtype) if dtype is not None else np.dtype(np.float64)
    if stored.kind == "M":
        return np.timedelta64(MILLISECOND, "us")
    match = _SINCE.match(attrs_units or "")
    unit = match[1].lower() if match else ""
    ticks = _UNIT_TICKS.get(unit) or _UNIT_TICKS.get(unit.removesuffix("s"))
    if match is None or ticks is None:
        return 0.0
    steps = 0.0
    if stored.kind in "iu":
        steps = float(ticks)
    elif stored.kind == "f":
        years = abs(_year(values) - int(match[2])) + 1
        largest = np.asarray(years * 365.25 * DAY / ticks, stored)
        steps = float(np.spacing(largest)) * ticks
    return np.timedelta64(max(MILLISECOND, round(steps)), "us")


def _year(values: Array | None) -> int:
    if values is None or not values.size:
        return _ANY_YEAR
    first = values.ravel()[0]
    if values.dtype.kind == "M":
        years = int(first.astype("datetime64[Y]").astype(np.int64))
        return _ANY_YEAR if np.isnat(first) else years + 1970
    return int(getattr(first, "year", _ANY_YEAR))
