"""Boxes that touch or hold one another, wherever the map ends."""

from __future__ import annotations

from rows import for_each

from hda_fsspec.catalogue.boxes import contains, touch

WORLD = (-180.0, -90.0, 180.0, 90.0)
PACIFIC = (170.0, -10.0, -170.0, 10.0)


@for_each(
    ("one", "other", "is_touched"),
    [
        (WORLD, PACIFIC, True),
        (PACIFIC, (175.0, 0.0, 180.0, 5.0), True),
        (PACIFIC, (0.0, 0.0, 160.0, 5.0), False),
        (PACIFIC, (-175.0, 11.0, -172.0, 20.0), False),
        ((0.0, -90.0, 360.0, 90.0), (-20.0, 0.0, -10.0, 5.0), True),
        ((340.0, 0.0, 350.0, 5.0), (-15.0, 0.0, -12.0, 5.0), True),
        ((340.0, 0.0, 350.0, 5.0), (-5.0, 0.0, 5.0, 5.0), False),
        ((190.0, 0.0, 200.0, 5.0), PACIFIC, True),
        ((170.0, 0.0, 180.0, 5.0), (-180.0, 0.0, -170.0, 5.0), True),
        ((170.0, 0.0, 180.0, 5.0), (180.0, 0.0, 190.0, 5.0), True),
        ((180.0, 0.0, 180.0, 0.0), (-180.0, 0.0, -180.0, 0.0), True),
        ((170.0, 0.0, 180.0, 5.0), (-180.0, 6.0, -170.0, 7.0), False),
        ((170.0, 0.0, 179.0, 5.0), (-180.0, 0.0, -170.0, 5.0), False),
    ],
)
def test_boxes_touch(one: tuple[float, ...], other: tuple[float, ...], is_touched: bool) -> None:
    """Longitudes go round the earth, in either convention; latitudes do not."""
    assert touch(one, other) is touch(other, one) is is_touched


@for_each(
    ("outer", "inner", "is_held"),
    [
        (WORLD, PACIFIC, True),
        (PACIFIC, (175.0, 0.0, -175.0, 5.0), True),
        (PACIFIC, (165.0, 0.0, -175.0, 5.0), False),
        ((180.0, 0.0, 290.0, 5.0), (180.0, 0.0, -130.0, 5.0), True),
        ((90.0, 0.0, 180.0, 5.0), (100.0, 0.0, -180.0, 5.0), True),
        ((-10.1, 30.0, 20.3, 60.0), (-5.1, 40.0, 20.3, 50.0), True),
        ((-10.1, 30.0, 20.3, 60.0), (-5.1, 20.0, 20.3, 50.0), False),
    ],
)
def test_boxes_hold_others(
    outer: tuple[float, ...], inner: tuple[float, ...], is_held: bool
) -> None:
    """Edges may be shared."""
    assert contains(outer, inner) is is_held
