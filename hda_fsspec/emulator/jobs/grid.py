"""The grid that MARS makes of a box, as pure functions of one axis.

The new grid begins at the south-west corner of the box, steps by the increment of the native grid
and does not pass the other edges; where it is off the native grid, values are interpolated
(subset-services A3, "ECMWF: space": A). Corners are delivered in thousandths of a degree, rounded
outwards: so are the four numbers that are recorded there (A; that this is the rule: C).
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TURN = 360.0
#: Nearer than this a point is one of the native grid, in degrees.
_TOLERANCE = 1e-6
_MILLI = 1000.0


@dataclasses.dataclass(frozen=True)
class Points:
    """Points of a new axis between points of the native one.

    Attributes
    ----------
    values : numpy.ndarray
        The new coordinate.
    before, after : numpy.ndarray
        Positions of the two native neighbours; equal where a point is a native one.
    weights : numpy.ndarray
        How far a point is on the way from the one to the other, 0 to 1.
    """

    values: NDArray[Any]
    before: NDArray[np.intp]
    after: NDArray[np.intp]
    weights: NDArray[np.float64]

    @property
    def is_native(self) -> bool:
        """True if no value has to be interpolated."""
        return not self.weights.any()

    def reversed(self) -> Points:
        """Return the points in the other order."""
        return Points(self.values[::-1], self.before[::-1], self.after[::-1], self.weights[::-1])


def native(values: NDArray[Any], positions: NDArray[np.intp]) -> Points:
    """Return points of the native grid."""
    import numpy as np

    return Points(values[positions], positions, positions, np.zeros(len(positions)))


def regular(values: NDArray[Any], low: float, high: float, *, is_longitude: bool) -> Points:
    """Return the points from one edge of a box to the other, ascending.

    Those beyond a source that does not go round the earth are left out.

    Parameters
    ----------
    values : numpy.ndarray
        The native coordinate, evenly spaced, in any order.
    low, high : float
        The edges in degrees; a west edge larger than the east one goes over the date line.
    is_longitude : bool
        Whether 360 degrees are a full turn.
    """
    import numpy as np

    order = np.argsort(values, kind="stable")
    known = np.asarray(values, np.float64)[order]
    if len(known) < 2:
        inside = (known >= low - _TOLERANCE) & (known <= high + _TOLERANCE)
        return native(values, order[inside])
    step = (known[-1] - known[0]) / (len(known) - 1)
    is_round = is_longitude and known[-1] - known[0] + step > _TURN - _TOLERANCE
    if not is_round and low <= known[0] and high >= known[-1] and low <= high:
        # Nothing is cut off this axis.
        return native(values, order)
    if is_longitude and high < low:
        high += _TURN
    count = math.floor((high - low) / step + _TOLERANCE) + 1
    if is_longitude:
        count = min(count, round(_TURN / step))
    if count < 1:
        return native(values, order[:0])
    ideal = low + step * np.arange(count)
    limit = len(known) if is_round else len(known) - 1
    exact = _steps(ideal, known[0], step, is_longitude=is_longitude)
    kept = (exact >= -_TOLERANCE) & (exact <= limit + _TOLERANCE)
    nearest = np.rint(exact[kept])
    if np.all(np.abs(exact[kept] - nearest) * step <= _TOLERANCE):
        at = nearest.astype(np.intp) % len(known)
        turns = np.rint((ideal[kept] - known[at]) / _TURN) if is_longitude else np.zeros(len(at))
        shown = (known[at] + _TURN * turns).astype(values.dtype)
        return Points(shown, order[at], order[at], np.zeros(len(at)))
    first = math.floor(round(low * _MILLI, 6)) / _MILLI
    last = math.ceil(round(float(ideal[-1]) * _MILLI, 6)) / _MILLI
    shown = np.linspace(first, last, count)
    exact = _steps(shown, known[0], step, is_longitude=is_longitude)
    kept = (exact >= -_TOLERANCE) & (exact <= limit + _TOLERANCE)
    exact = np.clip(exact[kept], 0, limit)
    before = np.minimum(np.floor(exact), limit - 1).astype(np.intp)
    after = (before + 1) % len(known)
    return Points(shown[kept], order[before], order[after], exact - before)


def _steps(
    values: NDArray[Any], first: float, step: float, *, is_longitude: bool
) -> NDArray[np.float64]:
    """Return how many steps values lie behind the first native point."""
    moved = values - first
    if is_longitude:
        moved = (moved + _TOLERANCE) % _TURN - _TOLERANCE
    return moved / step


def interpolate(data: NDArray[Any], rows: Points, columns: Points) -> NDArray[Any]:
    """Return data, whose last dimensions are the native grid, at points of another one."""
    import numpy as np

    if rows.is_native and columns.is_native:
        return data[..., rows.before, :][..., columns.before]
    values = np.asarray(data, np.float64)
    down = rows.weights[:, np.newaxis]
    low, high = values[..., rows.before, :], values[..., rows.after, :]
    # Native points stay what they are even beside missing ones.
    tall = np.where(down == 0, low, low * (1 - down) + high * down)
    left, right = tall[..., columns.before], tall[..., columns.after]
    across = columns.weights
    wide = np.where(across == 0, left, left * (1 - across) + right * across)
    return wide.astype(data.dtype)
