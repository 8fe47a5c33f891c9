"""Products that share an interval of the catalogue, or a time, and may be versions of one.

Pure: it knows times and intervals, and has never heard of rules or files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hda_fsspec.timing.timeaxis import Array, Flags, Ticks, axis_of


def unseen_twin(starts: Array, ends: Array, is_open: Flags) -> int | None:
    """Return a product that was not seen, whose interval is that of another one.

    They may be two versions of a product; or the catalogue shows of many products only the month
    that they are in. The header of one shows which. Intervals that are not told are no twins.
    """
    order = np.lexsort((is_open, ends, starts))
    same = (starts[order][1:] == starts[order][:-1]) & (ends[order][1:] == ends[order][:-1])
    is_pair = same & is_open[order][1:]
    # Rather one whose twin was seen; a pair of which both were seen has told already.
    seen_pairs = np.flatnonzero(same & ~is_open[order][:-1])
    if not is_pair.any() or (~is_open[order][1:][seen_pairs]).any():
        return None
    candidates = seen_pairs if seen_pairs.size else np.flatnonzero(is_pair)
    return int(order[candidates[0] + 1])


def duplicates(values: Array, lengths: Ticks, starts: Array, ends: Array) -> list[tuple[int, int]]:
    """Return pairs of products with a time in common whose catalogue intervals overlap.

    They may be two versions of one product. Of many at one time not all pairs are named, but each
    product is. Values that are no times are never duplicates; an interval that the catalogue does
    not tell overlaps all others.
    """
    axis = axis_of([values]) if len(values) else None
    if axis is None:
        return []
    ticks = axis.ticks(values)
    order = np.argsort(ticks, kind="stable")
    again = np.flatnonzero(np.diff(ticks[order]) == 0)
    if not again.size:
        return []
    owners = np.repeat(np.arange(len(lengths)), lengths)[order]
    first = starts.astype("datetime64[us]").astype(np.int64)
    last = ends.astype("datetime64[us]").astype(np.int64)
    last[np.isnat(starts) | np.isnat(ends)] = np.iinfo(np.int64).max
    runs = np.split(again, np.flatnonzero(np.diff(again) > 1) + 1)
    found = {
        pair
        for run in runs
        for pair in _overlaps(np.unique(owners[run[0] : run[-1] + 2]), first, last)
    }
    return sorted(found)


def _overlaps(pieces: Array, first: Ticks, last: Ticks) -> Iterator[tuple[int, int]]:
    """Yield each piece that overlaps an earlier one, with the earlier one that ends last."""
    longest: Any = None
    for piece in sorted(pieces.tolist(), key=lambda each: (first[each], each)):
        if longest is not None and (first[piece] < last[longest] or first[piece] == first[longest]):
            yield min(longest, piece), max(longest, piece)
        if longest is None or last[piece] > last[longest]:
            longest = piece
