"""Footprints: whatever catalogues answer becomes a geometry on the Earth, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rows import for_each

from hda_fsspec.geojson import MOST_POINTS, footprint_of, parts_of
from hda_fsspec.records import Product

RING = [[0, 0], [10, 0], [10.123456, 10], [0, 12], [0, 0]]


@for_each(
    ("kind", "coordinates", "parts"),
    [
        ("Point", [1, 2, 30], ("Point", [[[[1.0, 2.0]]]])),
        ("MultiPoint", [[1, 2], [3, 4]], ("Point", [[[[1.0, 2.0]]], [[[3.0, 4.0]]]])),
        ("LineString", [[1, 2], [3, 4]], ("LineString", [[[[1.0, 2.0], [3.0, 4.0]]]])),
        ("Polygon", [RING], ("Polygon", [[[[0, 0], [10, 0], [10.1235, 10], [0, 12], [0, 0]]]])),
        (
            "MultiPolygon",
            [[RING], [RING, RING]],
            ("Polygon", [[[[0, 0], [10, 0], [10.1235, 10], [0, 12], [0, 0]]]] * 1),
        ),
    ],
)
def test_geometries_come_through(kind: str, coordinates: Any, parts: tuple[str, list[Any]]) -> None:
    """Each type is kept with rounded coordinates, and read back in parts of rows of points."""
    text = footprint_of({"type": kind, "coordinates": coordinates})

    assert text is not None
    found = parts_of(text)
    assert found[0] == parts[0]
    assert found[1][: len(parts[1])] == parts[1]
    assert len(found[1]) == (2 if kind.startswith("Multi") else 1)


@pytest.mark.slow
@for_each(
    "geometry",
    [
        None,
        [],
        "POLYGON ((0 0))",
        {"type": "Polygon"},
        {"type": ["Polygon"], "coordinates": [RING]},
        {"type": "Polygon", "coordinates": RING},
        {"type": "Polygon", "coordinates": [[]]},
        {"type": "Polygon", "coordinates": [RING[:3]]},
        {"type": "Polygon", "coordinates": [[["0", 0], *RING[1:]]]},
        {"type": "Polygon", "coordinates": [[[True, 0], *RING[1:]]]},
        {"type": "Polygon", "coordinates": [[[float("nan"), 0], *RING[1:]]]},
        {"type": "Polygon", "coordinates": [[[0, 91], *RING[1:]]]},
        {"type": "Polygon", "coordinates": [[[1e300, 0], *RING[1:]]]},
        {"type": "Polygon", "coordinates": [[[10**400, 0], *RING[1:]]]},
        {"type": "MultiPolygon", "coordinates": [[RING]] * 1000},
        {"type": "MultiPolygon", "coordinates": [[RING * 10] * 32] * 32},
        {"type": "GeometryCollection", "geometries": []},
    ],
)
def test_what_is_no_footprint_is_none(geometry: object) -> None:
    """Malformed, not on the Earth, or of too many parts: nothing, and no error."""
    assert footprint_of(geometry) is None
    assert Product.from_feature("EO:A", {"id": "p", "geometry": geometry}).footprint is None


def test_a_box_of_numbers_that_are_none_is_none() -> None:
    """JSON has whole numbers beyond any float; they are no place, and no fault."""
    assert Product.from_feature("EO:A", {"id": "p", "bbox": [10**400, 0, 1, 1]}).bbox is None


def test_a_box_is_told_once() -> None:
    """A footprint that is just the box of a product is left to that."""
    ring = [[170, -5], [-170, -5], [-170, 5], [170, 5], [170, -5]]
    feature = {
        "id": "p",
        "bbox": [170, -5, -170, 5],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    other = {**feature, "bbox": [170, -5, -170, 6]}

    assert Product.from_feature("EO:A", feature).footprint is None
    assert Product.from_feature("EO:A", other).footprint is not None


@pytest.mark.slow
def test_outlines_of_very_many_points_are_thinned() -> None:
    """Both ends stay; what is kept of thousands of products stays small."""
    ring = [[n / 1000, (n % 7) / 10] for n in range(50_000)]
    text = footprint_of({"type": "Polygon", "coordinates": [[*ring, ring[0]]]}) or ""
    row = json.loads(text)["coordinates"][0]

    assert row[0] == row[-1] == [0.0, 0.0]
    assert len(row) <= MOST_POINTS + 1
