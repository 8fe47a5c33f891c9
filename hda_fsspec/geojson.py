"""Footprints of products: GeoJSON as catalogues answer it, made fit to be kept and drawn.

What comes from outside may be anything; what comes out is a geometry of finite coordinates on the
Earth, or nothing. Longitudes stay as they were told: who draws them knows about the date line.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Point = tuple[float, float]
#: Points in a row: an outline, a hole, a line, or points alone.
Row = list[Point]

#: An outline of more points is thinned: a listing holds thousands of footprints.
MOST_POINTS = 64
_MOST_ROWS = 32
#: Of all rows together; who tells more tells nothing.
_MOST_POINTS_OF_ALL = _MOST_ROWS * MOST_POINTS
#: A ten-thousandth of a degree is 11 m.
_DIGITS = 4

_NUMBERS = frozenset({int, float})
#: How deep the rows of points of each type are nested, and how many points they have at least.
_TYPES = {
    "Point": (-1, 1),
    "MultiPoint": (0, 1),
    "LineString": (0, 2),
    "MultiLineString": (1, 2),
    "Polygon": (1, 4),
    "MultiPolygon": (2, 4),
}


def footprint_of(geometry: object, bbox: str | None = None) -> str | None:
    """Return a GeoJSON geometry as text, its coordinates rounded and long outlines thinned.

    Parameters
    ----------
    geometry : object
        Whatever the catalogue answers.
    bbox : str, optional
        ``W,S,E,N``; a geometry that is just this box needs no telling.

    Returns
    -------
    str or None
        None for what is malformed, lies outside the Earth, or is the box.
    """
    # What JSON makes is one at a glance, where the abstract class takes longer to be asked.
    told: Mapping[str, Any] = (
        geometry if type(geometry) is dict or isinstance(geometry, Mapping) else {}
    )
    kind = told.get("type")
    if not isinstance(kind, str) or kind not in _TYPES:
        return None
    depth, least = _TYPES[kind]
    if kind == "Polygon" and bbox is not None and _is_box(told.get("coordinates"), bbox):
        return None  # as of most products of a listing, which need no closer look
    try:
        read: Any = (
            _point(told.get("coordinates"))
            if depth < 0
            else _nested(told.get("coordinates"), depth, least)
        )
    except (TypeError, ValueError):
        return None
    if depth == 2 and sum(len(row) for part in read for row in part) > _MOST_POINTS_OF_ALL:
        return None
    return json.dumps({"type": kind, "coordinates": read}, separators=(",", ":"))


def parts_of(footprint: str) -> tuple[str, list[list[Row]]]:
    """Return the kind of a footprint, and its parts, each of them rows of points.

    Parameters
    ----------
    footprint : str
        What :func:`footprint_of` returned.

    Returns
    -------
    tuple
        "Point", "LineString" or "Polygon", and the parts. The first row of a part of a polygon is
        its outline, others are holes.

    Raises
    ------
    ValueError, TypeError, KeyError
        It is no such text.
    """
    told = json.loads(footprint)
    kind, value = told["type"], told["coordinates"]
    single = kind.removeprefix("Multi")
    several = value if kind != single else [value]
    rows: dict[str, list[list[Row]]] = {
        "Point": [[[point]] for point in several] if single == "Point" else [],
        "LineString": [[row] for row in several],
        "Polygon": several,
    }
    return single, rows[single]


def corners(bbox: str) -> tuple[float, float, float, float] | None:
    """Return the numbers of a box, W, S, E, N; None for one that is not on the Earth."""
    try:
        west, south, east, north = map(float, bbox.split(","))
    except ValueError:
        return None
    is_there = -90 <= south <= north <= 90 and all(-360 <= x <= 360 for x in (west, east))
    return (west, south, east, north) if is_there else None


def _nested(value: Any, depth: int, least: int) -> list[Any]:
    if not isinstance(value, list) or not value:
        msg = "no coordinates"
        raise ValueError(msg)
    if depth:
        if len(value) > _MOST_ROWS:
            msg = "too many parts to be drawn"
            raise ValueError(msg)
        return [_nested(item, depth - 1, least) for item in value]
    points = list(_thinned([_point(point) for point in value]))
    if len(points) < least:
        msg = "too few points"
        raise ValueError(msg)
    return points


def _point(value: Any) -> list[float]:
    if not isinstance(value, list) or len(value) < 2:
        msg = "no point"
        raise ValueError(msg)
    x, y = value[:2]
    if type(x) not in _NUMBERS or type(y) not in _NUMBERS:
        msg = "no numbers"
        raise TypeError(msg)
    if not (-360 <= x <= 360 and -90 <= y <= 90):  # what is no number is nowhere, too
        msg = "not on the Earth"
        raise ValueError(msg)
    return [round(float(x), _DIGITS), round(float(y), _DIGITS)]


def _thinned(points: list[list[float]]) -> Iterator[list[float]]:
    """Yield so few points of a row that they can be kept, its ends among them."""
    step = math.ceil(len(points) / MOST_POINTS)
    yield from points[:-1:step]
    yield points[-1]


def _is_box(rings: Any, bbox: str) -> bool:
    """Whether a polygon, as it was told, is just a box; False for what is malformed."""
    try:
        (ring,) = rings
        if len(ring) != 5:
            return False
        if ring == _outline(bbox):
            return True  # as most are written
        west, south, east, north = map(float, bbox.split(","))
        points = [(point[0], point[1]) for point in ring]
        corners = {(west, south), (west, north), (east, south), (east, north)}
        if set(points) != corners:  # it costs less than to round all
            points, corners = _rounded(points), set(_rounded(corners))
    except (TypeError, ValueError, LookupError):
        return False
    return set(points) == corners and all(
        one[0] == other[0] or one[1] == other[1] for one, other in itertools.pairwise(points)
    )


@functools.lru_cache(maxsize=1024)
def _outline(bbox: str) -> list[list[float]]:
    west, south, east, north = map(float, bbox.split(","))
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def _rounded(points: Iterable[tuple[Any, Any]]) -> list[tuple[float, float]]:
    return [(round(x, _DIGITS), round(y, _DIGITS)) for x, y in points]
