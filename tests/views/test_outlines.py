"""Footprints as they are drawn: whole over the date line and around poles, or left out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rows import for_each

from hda_fsspec.geojson import footprint_of
from hda_fsspec.views.outlines import outlines_of


def _boxes(coordinates: Any, *, kind: str = "Polygon", bbox: str | None = None) -> list[Any]:
    footprint = footprint_of({"type": kind, "coordinates": coordinates})
    assert footprint is not None
    return [(o.west, o.south, o.east, o.north) for o in outlines_of(footprint, bbox)]


def _rectangle(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def test_an_outline_over_the_date_line_goes_on() -> None:
    """It is as wide as it is, in place of going around the rest of the Earth."""
    ring = [[175, 0], [-175, 1], [-174, 10], [176, 9], [175, 0]]

    assert _boxes([ring]) == [(175.0, 0.0, 186.0, 10.0)]
    assert _boxes([[[x + 360 * (x < 0), y] for x, y in ring]]) == [(175.0, 0.0, 186.0, 10.0)]
    assert _boxes([[[x - 360 * (x > 0), y] for x, y in ring]]) == [(175.0, 0.0, 186.0, 10.0)]


@pytest.mark.parametrize(("latitude", "pole"), [(70.0, 90.0), (-70.0, -90.0)])
def test_an_outline_around_a_pole_reaches_it(latitude: float, pole: float) -> None:
    """What lies within it is the pole, whichever way around it is told."""
    ring = [[float(x), latitude] for x in range(-170, 180, 20)]
    for one in (ring, ring[::-1]):
        [(west, south, east, north)] = _boxes([[*one, one[0]]])

        assert east - west == 360
        assert {south, north} == {latitude, pole}


@for_each(
    ("ring", "bbox", "box"),
    [
        (_rectangle(-180, -90, 180, 90), None, (-180, -90, 180, 90)),
        (_rectangle(-179.9, -80, 179.9, 80), None, (-179.9, -80, 179.9, 80)),
        (_rectangle(-179.9, -80, 179.9, 80)[::-1], None, (-179.9, -80, 179.9, 80)),
        (_rectangle(-120, -80, 120, 80), None, (-120, -80, 120, 80)),
        (_rectangle(170, -5, -170, 5), "170,-5,-170,5.1", (170, -5, 190, 5)),
        (_rectangle(0, -10, 340, 10), None, (0, -10, 340, 10)),
    ],
)
def test_rectangles_are_as_wide_as_they_are_told(
    ring: list[list[float]], bbox: str | None, box: tuple[float, ...]
) -> None:
    """A band around the Earth is one, and the box that a catalogue tells decides in doubt."""
    assert _boxes([ring], bbox=bbox) == [box]


def test_a_rectangle_that_may_be_either_is_left_out() -> None:
    """Clockwise, and more than half around: a box over the date line, or all but that."""
    assert _boxes([_rectangle(170, -5, -170, 5)]) == []


def test_each_part_of_several_is_drawn() -> None:
    """Islands, tracks and points, with their holes."""
    square, hole = _rectangle(0, 0, 10, 10), _rectangle(2, 2, 3, 3)
    several = [[square, hole], [_rectangle(175, 0, 179, 5)]]
    track = [[[170, 0], [-170, 10]], [[0, 0], [5, 5]]]

    assert _boxes(several, kind="MultiPolygon") == [(0, 0, 10, 10), (175, 0, 179, 5)]
    assert _boxes(track, kind="MultiLineString") == [(170, 0, 190, 10), (0, 0, 5, 5)]
    assert len(_boxes([[1, 2], [3, 4]], kind="MultiPoint")) == 2


@for_each(
    ("footprint", "bbox", "count"),
    [
        (None, None, 0),
        (None, "170,-5,-170,5", 1),
        (None, "0,-95,1,0", 0),
        (None, "0,5,1,0", 0),
        (None, "nan,0,1,1", 0),
        (None, "x", 0),
        ("{", "0,0,1,1", 0),
        (json.dumps({"type": "Polygon", "coordinates": 5}), None, 0),
        (json.dumps({"type": "Circle", "coordinates": [0, 0]}), None, 0),
        (json.dumps({"type": "Polygon", "coordinates": [[]]}), None, 0),
        (json.dumps([]), None, 0),
    ],
)
def test_what_cannot_be_drawn_is_nothing(
    footprint: str | None, bbox: str | None, count: int
) -> None:
    """What was kept on a disk may be anything; the box of what has no footprint is drawn."""
    assert len(outlines_of(footprint, bbox)) == count


@for_each(
    "told",
    [
        '{"type":"Polygon","coordinates":[[[1e400,0],[1,1],[2,2],[0,0]]]}',
        '{"type":"Polygon","coordinates":[[[1e308,0],[1,1],[-1e308,2],[0,0]]]}',
        f'{{"type":"Point","coordinates":[{10**400},2]}}',
        "[" * 5000,
    ],
)
def test_what_no_catalogue_tells_is_not_drawn(told: str) -> None:
    """A note on disk may hold anything."""
    assert outlines_of(told, None) == []
