"""Bounds of times: CF's ``bounds``, the interval that a value stands for.

Of one monthly mean alone nobody can tell the middle of the month from the 16th. But where its
bounds are the very interval that the catalogue shows, and its time is the middle of them, then it
stands in the middle because its writer put it there, and so do the others. It is evidence, and no
proof: like every prediction it is checked when a product is read.
"""

from __future__ import annotations

from hda_fsspec.timeindex.calendars import Ticks


def are_centred(times: Ticks, bounds: Ticks, interval: tuple[Ticks, Ticks], *, within: int) -> bool:
    """Whether products stand in the middle of bounds that are their interval in the catalogue.

    Parameters
    ----------
    times : numpy.ndarray
        One time for each product.
    bounds : numpy.ndarray
        Its bounds: one row of two for each product.
    interval : tuple of numpy.ndarray
        Start and end in the catalogue of each, where the end is the first moment after it, or a
        millisecond before, or anything between the two.
    within : int
        The largest difference that is none.
    """
    start, end = interval
    lower, upper = bounds.min(axis=1), bounds.max(axis=1)
    is_interval = (abs(lower - start) <= within) & (abs(upper - end) <= within)
    # Halves may be rounded either way.
    is_middle = abs(2 * times - lower - upper) <= 2 * within
    return bool(((upper > lower) & is_interval & is_middle).all())


def is_middle(values: Ticks, interval: tuple[Ticks, Ticks], *, within: int) -> bool:
    """Whether predicted values, one row for each product, are the middle of its interval."""
    start, end = interval
    return bool((abs(2 * values - (start + end)[:, None]) <= 2 * within).all())
