"""Footprints as they are drawn on a map of the world: whole where they cross the date line.

Longitudes of one outline go on beyond 180 degrees in place of jumping, and an outline around a pole
is closed along it. Pure functions of what the catalogue tells.
"""

from __future__ import annotations

import dataclasses
import itertools

from hda_fsspec.geojson import Point, Row, corners, parts_of

#: A rectangle as wide as this is a band around the Earth, however it is written.
_BAND_DEGREES = 350.0


@dataclasses.dataclass(frozen=True, slots=True)
class Outline:
    """The lines and areas drawn of one footprint.

    Attributes
    ----------
    is_area : bool
        Whether it has an inside.
    rows : list of rows
        Points in degrees, the last one of an area not repeated.
    west, south, east, north : float
        The box around it. West lies within -180 and 180, east may lie beyond.
    """

    is_area: bool
    rows: list[Row]
    west: float
    south: float
    east: float
    north: float


def outlines_of(footprint: str | None, bbox: str | None) -> list[Outline]:
    """Return the outlines of a footprint, else of its box; none where neither can be drawn."""
    if footprint is None:
        return [] if bbox is None else _outlines_of_box(bbox)
    try:
        kind, parts = parts_of(footprint)
        found = [_outline(kind, part, bbox) for part in parts]
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        # A note on disk may hold anything; what cannot be drawn is told as such.
        return []
    return [] if None in found else [outline for outline in found if outline is not None]


def _outlines_of_box(bbox: str) -> list[Outline]:
    box = corners(bbox)
    if box is None:
        return []
    west, south, east, north = box
    east = east if east >= west else east + 360
    if east - west >= 360:
        west, east = -180.0, 180.0
    return [_settled([[(west, south), (east, south), (east, north), (west, north)]])]


def _outline(kind: str, part: list[Row], bbox: str | None) -> Outline | None:
    """Return the outline of one part; None where what is meant cannot be told."""
    if kind != "Polygon":
        return _settled([_unwrapped(row) for row in part], is_area=False)
    rows = [[(x, y) for x, y in row] for row in part]
    if len(rows) == 1 and (box := _rectangle(rows[0])) is not None:
        west, south, east, north = box
        is_over_date_line = _is_crossing(rows[0], east - west, bbox)
        if is_over_date_line is None:
            return None
        if is_over_date_line:
            west, east = east, west + 360
        return _settled([[(west, south), (east, south), (east, north), (west, north)]])
    return _settled([_closed(_unwrapped(row)) for row in rows])


def _rectangle(row: Row) -> tuple[float, float, float, float] | None:
    """Return the box that an outline is, if it is one along meridians and parallels."""
    xs, ys = sorted({x for x, _ in row}), sorted({y for _, y in row})
    if len(row) != 5 or len(xs) != 2 or len(ys) != 2 or len(set(row)) != 4:
        return None
    is_along = all(
        (one[0] == other[0]) != (one[1] == other[1]) for one, other in itertools.pairwise(row)
    )
    return (xs[0], ys[0], xs[1], ys[1]) if is_along else None


def _is_crossing(row: Row, width: float, bbox: str | None) -> bool | None:
    """Whether a rectangle lies over the date line, and not around the rest; None: who knows."""
    if width <= 180 or width >= _BAND_DEGREES:
        return False
    told = None if bbox is None else corners(bbox)
    if told is not None and told[0] > told[2]:
        return True
    doubled = sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in itertools.pairwise(row))
    # Outlines go around counterclockwise. What goes the other way may be either.
    return False if doubled > 0 else None


def _unwrapped(row: Row) -> Row:
    """Return points of which none lies more than half around the Earth from the one before."""
    found: Row = []
    for x, y in row:
        if not found:
            found.append((x, y))
            continue
        turns = round((found[-1][0] - x) / 360)
        found.append((x + 360 * turns, y))
    return found


def _closed(row: Row) -> Row:
    """Return an outline without its last point, by way of the pole that it goes around."""
    (first_x, _), (last_x, _) = row[0], row[-1]
    if abs(last_x - first_x) < 180:
        return row[:-1] if row[0] == row[-1] else row
    pole = 90.0 if sum(y for _, y in row) > 0 else -90.0
    return [*row, (last_x, pole), (first_x, pole)]


def _settled(rows: list[Row], *, is_area: bool = True) -> Outline:
    """Return an outline whose west end lies between -180 and 180."""
    west = min(x for row in rows for x, _ in row)
    shift = -360.0 * ((west + 180) // 360)
    if shift:
        rows = [[(x + shift, y) for x, y in row] for row in rows]
    points: list[Point] = [point for row in rows for point in row]
    ys = [y for _, y in points]
    xs = [x for x, _ in points]
    return Outline(is_area, rows, min(xs), min(ys), max(xs), max(ys))
