"""Boxes of west, south, east and north, in degrees; they may cross the edge of the map."""

from __future__ import annotations

from collections.abc import Sequence


def contains(outer: Sequence[float], inner: Sequence[float]) -> bool:
    """Whether a box lies in another one."""
    if not (outer[1] <= inner[1] and inner[3] <= outer[3]):
        return False
    return all(
        any(west <= first and last <= east for west, east in _longitudes(outer))
        for first, last in _longitudes(inner)
    )


def touch(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes have a place in common."""
    if one[1] > other[3] or one[3] < other[1]:
        return False
    mine, theirs = _longitudes(one), _longitudes(other)
    return _meet_at_edge(mine, theirs) or any(
        first <= east and west <= last for west, east in mine for first, last in theirs
    )


def _meet_at_edge(mine: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> bool:
    """Whether both reach the edge of the map: its two sides are the same meridian."""
    return all(
        any(west == -180 or east == 180 for west, east in ranges) for ranges in (mine, theirs)
    )


def _longitudes(box: Sequence[float]) -> list[tuple[float, float]]:
    """Return the longitudes of a box within -180 to 180; two ranges where it crosses the edge."""
    west, _, east, _ = box
    if not -180 <= min(west, east) <= max(west, east) <= 180:
        if not -360 < east - west < 360:
            return [(-180.0, 180.0)]
        west, east = ((edge + 180) % 360 - 180 for edge in (west, east))
    if west <= east:
        return [(west, east)]
    # One that begins or ends at the edge lies on one side of it.
    sides = ((west, 180.0), (-180.0, east))
    return [side for side in sides if side[0] < side[1]] or [(180.0, 180.0)]
