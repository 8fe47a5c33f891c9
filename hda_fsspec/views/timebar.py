"""A bar of time as SVG: how many products cover each part of a period, by their state."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from hda_fsspec.views.markup import Markup, element

_WIDTH, _HEIGHT = 480, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 10, 26, 24
_BINS = 80

#: The first and last instant of a product, and the class of its colour.
Interval = tuple[datetime, datetime, str]


def draw_times(intervals: Sequence[Interval], order: Sequence[str]) -> Markup:
    """Draw how many of some intervals cover each part of the period of all.

    Parameters
    ----------
    intervals : sequence of (datetime, datetime, str)
        At least one: first and last instant, and state.
    order : sequence of str
        The states, from the ground upwards.
    """
    first = min(start for start, _, _ in intervals)
    last = max(end for _, end, _ in intervals)
    span = max(last - first, timedelta(seconds=1))
    counts = {state: _counted(intervals, state, first, span) for state in order}
    most = max(sum(column) for column in zip(*counts.values(), strict=True))
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    bars = []
    below = [0] * _BINS
    for state in order:
        steps = []
        for (from_bin, to_bin), count, ground in _runs(counts[state], below):
            x, right = (_LEFT + width * number / _BINS for number in (from_bin, to_bin))
            y, tall = (height * number / most for number in (ground + count, count))
            steps.append(f"M{x:.1f} {_TOP + height - y:.1f}H{right:.1f}v{tall:.1f}H{x:.1f}z")
        if steps:
            bars.append(element("path", class_=f"hda-bar {state}", d=Markup("".join(steps))))
        below = [one + more for one, more in zip(below, counts[state], strict=True)]
    axis = element("path", class_="hda-grid", d=f"M{_LEFT} {_TOP + height + 0.5}h{width}")
    text = [
        _text(_LEFT, 16, "products", "start"),
        _text(_LEFT, _HEIGHT - 7, _when(first, span), "start"),
        _text(_WIDTH - _RIGHT, _HEIGHT - 7, _when(last, span), "end"),
        _text(_LEFT - 6, _TOP + 9, f"{most:,}", "end"),
        _text(_LEFT - 6, _TOP + height, "0", "end"),
    ]
    return element(
        "svg",
        axis,
        *bars,
        *text,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"{len(intervals)} products from {_when(first, span)} to {_when(last, span)}",
    )


def _counted(
    intervals: Sequence[Interval], state: str, first: datetime, span: timedelta
) -> list[int]:
    """Return how many intervals of a state cover each bin."""
    changes = [0] * (_BINS + 1)
    for start, end, of_state in intervals:
        if of_state == state:
            # The bins of which it covers the middle: what follows without a gap adds up to one.
            low, high = (
                math.ceil((moment - first) / span * _BINS - 0.5) for moment in (start, end)
            )
            if low >= high:
                low = min(int((start + (end - start) / 2 - first) / span * _BINS), _BINS - 1)
                high = low + 1
            high -= 1
            changes[low] += 1
            changes[high + 1] -= 1
    return [*itertools.accumulate(changes)][:_BINS]


def _runs(counts: Sequence[int], below: Sequence[int]) -> list[tuple[tuple[int, int], int, int]]:
    """Return bins in a row that look alike as one: from where to where, how many, on what."""
    found = []
    number = 0
    for (count, ground), alike in itertools.groupby(zip(counts, below, strict=True)):
        length = len(list(alike))
        if count:
            found.append(((number, number + length), count, ground))
        number += length
    return found


def _when(moment: datetime, span: timedelta) -> str:
    return f"{moment:%Y-%m-%d}" if span > timedelta(days=2) else f"{moment:%Y-%m-%d %H:%M}"


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor, font_size=11)
