"""Where products lie, as the catalogue tells it, and whether that is the same ground."""

from __future__ import annotations

from typing import Any

from rows import for_each

from hda_fsspec.records import Product
from hda_fsspec.stack.footprints import most_different_bbox

RING = [[[-6, 43], [-1, 43], [-1.5, 46.25], [-6, 46], [-6, 43]]]


@for_each(
    ("feature", "expected"),
    [
        ({"bbox": [-6, 43, -1, 46.25]}, "-6,43,-1,46.25"),
        ({"bbox": [-6, 43, -1, 46], "geometry": {"coordinates": RING}}, "-6,43,-1,46"),
        ({"geometry": {"type": "Polygon", "coordinates": RING}}, "-6,43,-1,46.25"),
        (
            {"geometry": {"type": "MultiPolygon", "coordinates": [RING, [[[9, 50, 3]]]]}},
            "-6,43,9,50",
        ),
        ({"geometry": {"type": "Point", "coordinates": [5, 6]}}, "5,6,5,6"),
        ({"bbox": [0, 0, 1]}, None),
        ({"bbox": [0, 0, "1", 1]}, None),
        ({"bbox": [0, 0, float("nan"), 1]}, None),
        ({"bbox": [True, 0, 1, 1]}, None),
        ({"bbox": "0,0,1,1"}, None),
        ({"geometry": None}, None),
        ({"geometry": "POLYGON ((0 0, 1 1))"}, None),
        ({"geometry": {"coordinates": []}}, None),
        ({"geometry": {"coordinates": [["a", "b"], [None, 1]]}}, None),
        ({}, None),
    ],
)
def test_the_box_of_a_feature(feature: dict[str, Any], expected: str | None) -> None:
    """The box that is told, else that around all points; what is no box is not known."""
    product = Product.from_feature("EO:X", {"id": "p", **feature})

    assert product.bbox == expected
    assert Product.from_json(product.to_json()) == product


@for_each(
    ("boxes", "known", "expected"),
    [
        (["0,0,10,10"] * 3, {0}, None),
        (["0,0,10,10", "0,0,10.1,10", "0.1,0,10,10"], {0}, None),
        (["0,0,10,10", "0,0,10.2,10", "0,0,10,11"], {0}, 2),
        (["0,0,10,10", "0,0,10.2,10", "0,0,10,11"], {0, 1}, None),
        (["0,0,10,10", "0,0,10,10", "0,0,10,11"], {0, 1}, 2),
        (["0,0,10,10", None, "0,0,20,10"], {0}, 2),
        ([None, "0,0,10,10", "0,0,20,10"], {0}, None),
        ([None, "0,0,10,10", "0,0,20,10"], {0, 1}, 2),
        ([None, None], {0}, None),
        (["5,5,5,5", "5,5,5,5", "5,5,5.001,5"], {0}, 2),
        (["-180,-90,180,90", "-180,-90,179.75,90"], {0}, None),
    ],
)
def test_which_product_is_on_other_ground(
    boxes: list[str | None], known: set[int], expected: int | None
) -> None:
    """The one that differs most, if none of those seen differs already; unknown boxes never do."""
    assert most_different_bbox(boxes, known) == expected
