"""The formulas that sample values are made by: seasons, and patterns that wander over a map.

The same at each place and time in every process; it knows numbers, and no data set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

#: What each file says of itself.
COMMENT = "Invented values for trying things out; no observations, and no model."

#: The first and the last day of what has a fixed period.
PERIOD = ("2023-01-01", "2024-12-31")

_YEAR_DAYS = 365.2425


def times_every(hours: int, first_hour: int = 0) -> npt.NDArray[Any]:
    """Return the times of the whole period, so many hours apart."""
    import numpy as np

    first = np.datetime64(PERIOD[0], "h") + np.timedelta64(first_hour, "h")
    after = np.datetime64(PERIOD[1], "D") + np.timedelta64(1, "D")
    return np.arange(first, after, np.timedelta64(hours, "h"))


def phases(times: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the part of the year, and the part of the day, of each time."""
    days = _days(times)
    return days % _YEAR_DAYS / _YEAR_DAYS, days % 1


def cosine(phase: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a yearly wave that is 1 in the first days, as a column for maps."""
    import numpy as np

    wave = np.cos(2 * np.pi * np.asarray(phase))
    return wave[:, None, None] if wave.ndim else wave


def waves(
    times: npt.NDArray[Any],
    latitudes: npt.NDArray[Any],
    longitudes: npt.NDArray[Any],
    *,
    size: float = 6.0,
) -> npt.NDArray[Any]:
    """Return patterns that wander, of about 1, of some degrees; a map for each time.

    Latitudes and longitudes are the axes of a grid, or two maps.
    """
    import numpy as np

    days = _days(times)[:, None, None]
    if latitudes.ndim == 1:
        latitudes, longitudes = latitudes[:, None], longitudes[None, :]
    north, east = latitudes[None] / size, longitudes[None] / size
    return (
        np.sin(2 * np.pi * east - 0.9 * days / size)
        * np.cos(2 * np.pi * north + 0.23 * days / size)
        + 0.6 * np.sin(2 * np.pi * (east + north) * 1.7 - 0.41 * days)
    ) / 1.6


def _days(times: npt.NDArray[Any]) -> npt.NDArray[Any]:
    import numpy as np

    return (times - np.datetime64(PERIOD[0])) / np.timedelta64(1, "D")
