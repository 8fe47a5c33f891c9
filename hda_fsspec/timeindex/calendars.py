"""Times as whole microseconds, in the calendar of the files.

The axis knows calendars; it has never heard of files, products, catalogues or rules.
"""

from __future__ import annotations

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
_MIXED = "mixed values"


class UnpredictableError(Exception):
    """The catalogue does not tell where products stand; ``reason`` is a clause for a message."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TimeAxis(Protocol):
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
        try:
            values: Array = (ticks + half).astype("datetime64[us]").astype(self.dtype)
            does_fit = bool((np.abs(rounded_ticks(values) - ticks) <= half).all())
        except OverflowError:  # older numpys wrap around
            does_fit = False
        if not does_fit:
            raise UnpredictableError(f"a time that follows from it does not fit {self.dtype}")
        return values


class DurationAxis(StandardAxis):
    """The axis of durations, such as the steps of a forecast: microseconds since its run began.

    Where the catalogue shows the moment that a step is valid at, it is the duration since some
    moment that all products share.
    """

    def times(self, ticks: Ticks) -> Array:
        """Return ``timedelta64`` of the unit that the files decode to."""
        values: Array = ticks.astype("timedelta64[us]").astype(self.dtype)
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


_NUMPY_AXES = {"datetime64": StandardAxis, "timedelta64": DurationAxis}


def rounded_ticks(values: Array) -> Ticks:
    """Return ``datetime64`` as microseconds since 1970, or durations as such, the nearest ones."""
    ticks = values.astype(f"{values.dtype.kind}8[us]")
    over = (values - ticks) / np.timedelta64(1, "us")
    nearest: Ticks = ticks.astype(np.int64) + (over >= 0.5)
    return nearest


def axis_of(arrays: Sequence[Array]) -> TimeAxis | None:
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
    if kind in _NUMPY_AXES:
        return _NUMPY_AXES[kind](np.result_type(*{values.dtype for values in arrays}))
    return CalendarAxis(kind)


def _kind(values: Array) -> str | None:
    if values.dtype.kind in "mM":
        return str(values.dtype.name.partition("[")[0])
    if values.dtype.kind != "O":
        return None
    calendars = {str(getattr(value, "calendar", "")) for value in values.tolist()}
    if len(calendars) == 1:
        return calendars.pop() or None
    return _MIXED


def ranges(firsts: Ticks, counts: Ticks) -> Ticks:
    """Return whole numbers in a row from each of some first ones, so many of each."""
    found: Ticks = np.arange(counts.sum()) + np.repeat(firsts - np.cumsum(counts) + counts, counts)
    return found
