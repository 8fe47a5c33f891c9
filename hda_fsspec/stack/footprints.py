"""Footprints compared: whether products lie on the same ground, by the boxes of a catalogue.

It knows boxes and nothing else; that products of one box share a grid is for others to find out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

#: Boxes may differ by so much of their extent: edges of pixels or their centres, rounded or not.
TOLERANCE = 0.01


def most_different_bbox(boxes: Sequence[str | None], known: Collection[int]) -> int | None:
    """Return the product whose box differs most from those of some products, if one differs.

    Parameters
    ----------
    boxes : sequence of str or None
        The box of each product, ``W,S,E,N``; None where it is not told.
    known : collection of int
        Numbers of the products to compare with.

    Returns
    -------
    int or None
        None if no box differs from that of the first of them by more than 1 % of its extent; or
        if one of them does, for then it is known what that means.
    """
    first = next((number for number in sorted(known) if boxes[number] is not None), None)
    if first is None or len({*boxes} - {None}) == 1:
        return None
    nowhere = ",".join(["nan"] * 4)
    edges = np.array([(box or nowhere).split(",") for box in boxes], dtype=np.float64)
    west, south, east, north = edges[first]
    extent = np.array([east - west, north - south] * 2)
    allowed = TOLERANCE * np.abs(extent)
    over = np.nan_to_num(np.abs(edges - edges[first]) - allowed, nan=-1.0).max(axis=1)
    if over.max() <= 0 or any(over[number] > 0 for number in known):
        return None
    return int(np.argmax(over))
