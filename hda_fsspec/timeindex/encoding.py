"""Time encodings of files: units, calendar and dtype, and which times they can store.

A time that is predicted is compared with what a file stores as the file would store it: whole
units for integers, the nearest number for floats. One unit more is another time.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

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
)

_UNIT_TICKS = {
    **dict.fromkeys(("microsecond", "microsec", "us"), 1),
    **dict.fromkeys(("millisecond", "millisec", "msec", "ms"), MILLISECOND),
    **dict.fromkeys(("second", "sec", "s"), SECOND),
    **dict.fromkeys(("minute", "min"), 60 * SECOND),
    **dict.fromkeys(("hour", "hr", "h"), HOUR),
    **dict.fromkeys(("day", "d"), DAY),
}
_UNIT = re.compile(r"\s*([A-Za-z]+)")


@dataclasses.dataclass(frozen=True)
class TimeEncoding:
    """The encoding of an index in one file, as xarray has it for a variable.

    Attributes
    ----------
    units : str or None
        ``"days since 1950-01-01"``, or ``"hours"`` of a duration; None where the file has none.
    calendar : str or None
        The calendar of the units; None stands for ``"standard"``.
    dtype : numpy.dtype or None
        What the file stores, and not what it decodes to.
    scale, offset : float
        ``scale_factor`` and ``add_offset``: the numbers of the units are ``stored * scale +
        offset``.
    """

    units: str | None = None
    calendar: str | None = None
    dtype: np.dtype[Any] | None = None
    scale: float = 1.0
    offset: float = 0.0

    @classmethod
    def of(cls, encoding: Mapping[str, Any], stored: np.dtype[Any] | None) -> TimeEncoding:
        """Take it from the encoding of a decoded variable, and from the dtype in its file."""
        units, calendar = encoding.get("units"), encoding.get("calendar")
        return cls(
            units if isinstance(units, str) else None,
            calendar if isinstance(calendar, str) else None,
            stored,
            float(encoding.get("scale_factor", 1.0)),
            float(encoding.get("add_offset", 0.0)),
        )

    @functools.cached_property
    def unit(self) -> int | None:
        """The length of a unit in microseconds; None where it is none that has one length."""
        match = _UNIT.match(self.units or "")
        if match is None:
            return None
        name = match[1].lower()
        return _UNIT_TICKS.get(name) or _UNIT_TICKS.get(name.removesuffix("s"))

    @property
    def is_whole(self) -> bool:
        """Whether the file stores whole numbers."""
        return self.dtype is not None and self.dtype.kind in "iu"

    @property
    def is_float(self) -> bool:
        """Whether the file stores floats of a unit that is known."""
        return self.dtype is not None and self.dtype.kind == "f" and self.unit is not None

    @property
    def grid(self) -> int | None:
        """The distance in microseconds of the times that whole numbers store; None for others."""
        if not self.is_whole or self.unit is None:
            return None
        step = self.unit * abs(self.scale)
        return int(step) if step >= 1 and step == int(step) else None

    def counts_from_nearby(self, axis: TimeAxis, ticks: Ticks) -> bool:
        """Whether the units count from a time that may be of this file alone, such as its first."""
        if self.unit is None or isinstance(axis, DurationAxis):
            return False
        return int(ticks.min()) - self._epoch(axis) < max(2 * self.unit, 2 * DAY)

    def spacing(self, axis: TimeAxis, ticks: Ticks) -> int:
        """Return how far apart neighbouring floats lie at some times, in microseconds, rounded up.

        1 for files that store no floats.
        """
        if not self.is_float or not ticks.size:
            return 1
        numbers = np.abs(self._numbers(axis, ticks)).max()
        apart = float(np.spacing(np.asarray(numbers, self.dtype))) * (self.unit or 1)
        return max(1, int(np.ceil(apart * abs(self.scale))))

    def nearest(self, axis: TimeAxis, ticks: Ticks) -> Ticks:
        """Return the times that floats of this encoding store for some times."""
        if not self.is_float:
            return ticks
        stored = self._numbers(axis, ticks).astype(self.dtype).astype(np.float64)
        unit = float(self.unit or 1)
        away = np.rint((stored * self.scale + self.offset) * unit).astype(np.int64)
        found: Ticks = away + self._epoch(axis)
        return found

    def parity(self, axis: TimeAxis, tick: int) -> int:
        """Return whether the whole number that stores a time is odd (1) or even (0)."""
        return int(np.rint(self._numbers(axis, np.array([tick])))[0]) % 2

    def written(self, values: Array) -> Array:
        """Return times as they come out of a file of this encoding that they were written to.

        Only floats lose something; where values cannot be written they are returned as they are.
        """
        axis = axis_of([values]) if self.is_float and values.size else None
        if axis is None or _is_missing(values).any():
            return values
        numbers = self._numbers(axis, _exact_ticks(axis, values), _rest(values))
        return self._decoded(numbers.astype(self.dtype), values)

    def stores(self, predicted: Array, own: Array) -> Flags:
        """Return which values of a file of this encoding are those that were predicted.

        Parameters
        ----------
        predicted : numpy.ndarray
            Times, durations or numbers.
        own : numpy.ndarray
            What the file's values are decoded to; of the same shape.
        """
        same: Flags = np.asarray(predicted == own) | (_is_missing(predicted) & _is_missing(own))
        if same.all() or not self.is_float or predicted.dtype.kind != own.dtype.kind:
            return same
        both = ~(_is_missing(predicted) | _is_missing(own))
        if own.dtype.kind in "mMO" and both.any():
            same[both] |= np.asarray(self.written(predicted[both].astype(own.dtype)) == own[both])
        return same

    def _numbers(self, axis: TimeAxis, ticks: Ticks, rest: Array | None = None) -> Array:
        """Return times as numbers of the units, in 64 bits, the nearest ones.

        Parameters
        ----------
        axis : TimeAxis
            What the ticks count.
        ticks : numpy.ndarray
            Times in microseconds.
        rest : numpy.ndarray, optional
            Nanoseconds to be added.
        """
        # A unit never has more than a day, so whole units and the rest are each exact.
        unit = self.unit or 1
        whole, part = np.divmod(ticks - self._epoch(axis), unit)
        fraction = part if rest is None else part + rest / 1e3
        numbers: Array = whole + fraction / unit
        return (numbers - self.offset) / self.scale

    def _epoch(self, axis: TimeAxis) -> int:
        """Return the moment that the units count from, in microseconds since 1970."""
        if isinstance(axis, DurationAxis):
            return 0
        return _epoch_of(self.units or "", self.calendar or "standard")

    def _decoded(self, numbers: Array, like: Array) -> Array:
        """Return stored numbers as xarray decodes them, with the dtype of other values."""
        import xarray as xr

        attrs: dict[str, Any] = {"units": self.units}
        if self.calendar is not None:
            attrs["calendar"] = self.calendar
        if (self.scale, self.offset) != (1.0, 0.0):
            attrs |= {"scale_factor": self.scale, "add_offset": self.offset}
        times: Any = True
        if like.dtype.kind == "O":
            times = xr.coders.CFDatetimeCoder(use_cftime=True)
        raw = xr.Variable(("index",), numbers.ravel(), attrs)
        is_duration = like.dtype.kind == "m"
        found = xr.conventions.decode_cf_variable(
            "index", raw, decode_times=times, decode_timedelta=is_duration
        )
        decoded = np.asarray(found.values).reshape(numbers.shape)
        return decoded.astype(like.dtype) if decoded.dtype.kind == like.dtype.kind else like


@functools.lru_cache(maxsize=256)
def _epoch_of(units: str, calendar: str) -> int:
    import cftime

    first = cftime.num2date(0, units, calendar=calendar, only_use_cftime_datetimes=True)
    return int(cftime.date2num(first, "microseconds since 1970-01-01", calendar=first.calendar))


def _is_missing(values: Array) -> Flags:
    if values.dtype.kind in "mMf":
        # Both kinds of missing value are not equal to themselves.
        missing: Flags = values != values  # noqa: PLR0124
        return missing
    return np.zeros(values.shape, dtype=np.bool_)


def _exact_ticks(axis: TimeAxis, values: Array) -> Ticks:
    if values.dtype.kind not in "mM":
        return axis.ticks(values)
    # Rounded down, so that what is left of nanoseconds is never below zero.
    return values.astype(values.dtype.str[:2] + "8[us]").astype(np.int64)


def _rest(values: Array) -> Array | None:
    if values.dtype.kind not in "mM" or np.datetime_data(values.dtype)[0] != "ns":
        return None
    found: Array = values.astype(np.int64) % 1000
    return found
