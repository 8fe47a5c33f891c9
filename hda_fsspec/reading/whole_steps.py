"""Times that are counted in whole steps, decoded as xarray decodes them.

xarray takes longer to decode two times than to read them. How it decodes the steps of a file is
found out with xarray once, and holds for others of the same encoding, as far as that was tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from hda_fsspec.reading.direct_reads import coding_of
from hda_fsspec.reading.variables import decoded

_Array = np.ndarray[Any, Any]

#: So far around the times of the first file others are decoded.
_YEARS = 50
_DAY = np.timedelta64(1, "D")
#: As far on all of them fit nanoseconds, and the calendar leaves no day out.
_FIRST, _LAST = np.datetime64("1730-01-01"), np.datetime64("2210-01-01")


@dataclasses.dataclass(frozen=True)
class WholeSteps:
    """How steps that are counted from some moment become times.

    Attributes
    ----------
    origin : int
        A count of steps.
    moment : numpy.datetime64
        The time that it stands for.
    step : numpy.timedelta64
        From one to the next.
    most : int
        How far from the first other counts may be.
    """

    origin: int
    moment: np.datetime64
    step: np.timedelta64
    most: int

    @classmethod
    def of(cls, stored: _Array, attrs: Mapping[str, Any]) -> WholeSteps | None:
        """Find out how times of a file are decoded; None where it is no matter of whole steps.

        Parameters
        ----------
        stored : numpy.ndarray
            Values as they are stored.
        attrs : mapping
            The attributes of their variable.
        """
        if stored.dtype.kind != "i" or not stored.size or coding_of(attrs):
            return None
        origin = int(stored.ravel()[0])
        first = _decode([origin, origin + 1], stored, attrs)
        if first is None or not _FIRST < first[0] < first[1] < _LAST:
            return None
        step = first[1] - first[0]
        most = int(_YEARS * 365 * _DAY / step)
        ends = _decode([origin - most, origin + most], stored, attrs)
        is_even = ends is not None and ends[1] - first[0] == first[0] - ends[0] == most * step
        return cls(origin, first[0], step, most) if is_even else None

    def times(self, stored: _Array) -> _Array | None:
        """Return the times of stored values; None where they are too far from what was tried."""
        away = stored.astype("i8") - self.origin
        if not away.size or not -self.most <= away.min() <= away.max() <= self.most:
            return None
        return np.asarray(self.moment + away * self.step)


def _decode(counts: list[int], stored: _Array, attrs: Mapping[str, Any]) -> _Array | None:
    bounds = np.iinfo(stored.dtype)
    if not all(bounds.min <= count <= bounds.max for count in counts):
        return None
    raw = xr.Variable(("step",), np.array(counts, stored.dtype), dict(attrs))
    values = np.asarray(decoded("step", raw).values)
    return values if values.dtype.kind == "M" and not np.isnat(values).any() else None
