"""The selection rule of the Copernicus Marine Toolbox, as pure functions of coordinates.

Its sources are subset-services A3 ("Marine: box, depth, time", A) and the toolbox itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hda_fsspec.emulator.jobs.job import JobFailedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def choose(values: NDArray[Any], low: Any, high: Any, *, name: str) -> NDArray[np.intp]:
    """Return the positions of values within a range that holds both of its ends.

    Where no value lies within a range that touches the coverage it is the nearest to its start,
    the larger one of two at equal distance.

    Parameters
    ----------
    values : numpy.ndarray
        A coordinate, in any order, at least one value.
    low, high : number or datetime64, or None
        The range, open where it is None.
    name : str
        The dimension, for the error.

    Raises
    ------
    JobFailedError
        The range is wholly outside of the coverage.
    """
    import numpy as np

    first, last = values.min(), values.max()
    low = first if low is None else low
    high = last if high is None else high
    if low > last or high < first or low > high:
        asked = f"[{_text(low)}, {_text(high)}]"
        msg = (
            f"Some of your subset selection {asked} for the {name} dimension exceed the dataset "
            f"coordinates [{_text(first)}, {_text(last)}]"
        )
        raise JobFailedError(msg, title="CoordinatesOutOfDatasetBounds", status=400)
    within = np.flatnonzero((values >= low) & (values <= high))
    if within.size:
        return within
    distance = np.abs(values - low)
    nearest = np.flatnonzero(distance == distance.min())
    return np.array([nearest[np.argmax(values[nearest])]], np.intp)


def _text(value: Any) -> str:
    text = str(value)
    if "T" in text:  # a time, which the toolbox prints as Python does
        return text.replace("T", " ").removesuffix(".000") + "+00:00"
    return str(float(value))


def choose_longitudes(
    values: NDArray[Any], west: float | None, east: float | None
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return positions of longitudes within a box, and what they are called in the subset.

    A box that is 360 degrees wide holds all of them. A west end that lies east of the east end
    goes over the date line, and so do the longitudes of the subset; a source from 0 to 360 is
    rolled.
    """
    import numpy as np

    rolled = np.where(values > 180, values - 360, values).astype(values.dtype)
    if west is not None and east is not None:
        if east - west >= 360:
            west = east = None
        elif east < west:
            rolled = ((rolled - west) % 360 + west).astype(values.dtype)
            east += 360
    chosen = choose(np.asarray(rolled, np.float64), west, east, name="longitude")
    order = chosen[np.argsort(rolled[chosen], kind="stable")]
    return order, rolled[order]
