"""Products that share an interval of the catalogue, and may be versions of one.

Pure: it knows intervals, and has never heard of rules or files.
"""

from __future__ import annotations

import numpy as np

from hda_fsspec.timeindex.calendars import Array, Flags


def unseen_duplicate(starts: Array, ends: Array, is_open: Flags) -> int | None:
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
