"""A bar of time as SVG: how many products lie in each part of a period, by their state."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from hda_fsspec.views.markup import Markup, element

_WIDTH, _HEIGHT = 480, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 10, 26, 24
#: A bin is as long as one of these, so that what comes daily is not seen as coming now and then.
_LENGTHS = tuple(
    timedelta(seconds=seconds)
    for seconds in (
        *(1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 3 * 3600, 6 * 3600, 12 * 3600),
        *(days * 86_400 for days in (1, 2, 5, 10, 30, 91, 365, 1826, 3652, 36_524, 365_242)),
    )
)
_MOST_BINS = 48

#: The first and last instant of a product, and the class of its colour.
Interval = tuple[datetime, datetime, str]


def draw_times(intervals: Sequence[Interval], order: Sequence[str]) -> Markup:
    """Draw how many of some intervals lie in each part of the period of all.

    Parameters
    ----------
    intervals : sequence of (datetime, datetime, str)
        At least one: first and last instant, and state.
    order : sequence of str
        The states, from the ground upwards.
    """
    first = min(start for start, _, _ in intervals)
    last = max(end for _, end, _ in intervals)
    bins = _Bins.over(first, last)
    counts = {state: bins.count(intervals, state) for state in order}
    most = max(sum(column) for column in zip(*counts.values(), strict=True))
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    bars = []
    below = [0] * bins.number
    for state in order:
        steps = []
        for (from_bin, to_bin), count, ground in _runs(counts[state], below):
            x, right = (_LEFT + width * number / bins.number for number in (from_bin, to_bin))
            y, tall = (height * number / most for number in (ground + count, count))
            steps.append(f"M{x:.1f} {_TOP + height - y:.1f}H{right:.1f}v{tall:.1f}H{x:.1f}z")
        if steps:
            bars.append(element("path", class_=f"hda-bar {state}", d=Markup("".join(steps))))
        below = [height + more for height, more in zip(below, counts[state], strict=True)]
    axis = element("path", class_="hda-grid", d=f"M{_LEFT} {_TOP + height + 0.5}h{width}")
    begins, ends = (_when(moment, last - first) for moment in (first, last))
    text = [
        _text(_LEFT, 16, "products", "start"),
        _text(_LEFT, _HEIGHT - 7, begins, "start"),
        _text(_WIDTH - _RIGHT, _HEIGHT - 7, ends, "end"),
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
        aria_label=f"{len(intervals)} products from {begins} to {ends}",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Bins:
    """Parts of a period that are as long as each other."""

    first: datetime
    length: timedelta
    number: int

    @classmethod
    def over(cls, first: datetime, last: datetime) -> _Bins:
        """Return bins that hold a period, which begin with a day, an hour, …."""
        span = last - first
        length = next((length for length in _LENGTHS if length * _MOST_BINS >= span), _LENGTHS[-1])
        day = first.replace(hour=0, minute=0, second=0, microsecond=0)
        begin = day if length >= timedelta(days=1) else day + length * ((first - day) // length)
        return cls(begin, length, max(1, math.ceil((last - begin) / length)))

    def count(self, intervals: Sequence[Interval], state: str) -> list[int]:
        """Return how many intervals of a state lie in each bin.

        A long one is in the bins of which it covers the middle, so that what follows without a gap
        adds up to one; a short one is in the bin of its own middle.
        """
        changes = [0] * (self.number + 1)
        for start, end, of_state in intervals:
            if of_state != state:
                continue
            low, high = (
                math.ceil((moment - self.first) / self.length - 0.5) for moment in (start, end)
            )
            if low >= high:
                middle = start + (end - start) / 2 - self.first
                low = min(int(middle / self.length), self.number - 1)
                high = low + 1
            changes[low] += 1
            changes[high] -= 1
        return [*itertools.accumulate(changes)][: self.number]


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
