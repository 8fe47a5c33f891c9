"""Made-up catalogues, and processes by which the times in products follow from them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from hypothesis import strategies as st

Array = np.ndarray[Any, Any]
SECOND, MINUTE, HOUR, DAY = (n * 1_000_000 for n in (1, 60, 3600, 86400))
MILLISECOND = 1000
#: What the axis of the products is divided into: regular steps, or months.
STEPS = {"six hours": 6 * HOUR, "day": DAY, "five days": 5 * DAY, "month": None}
BASES = ("start", "end", "middle", "third", "month middle")


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Intervals of products in microseconds since 1970, the last millisecond included."""

    starts: Array
    lasts: Array

    @property
    def as_times(self) -> tuple[Array, Array]:
        """Starts and ends as ``datetime64[us]``."""
        return self.starts.astype("datetime64[us]"), self.lasts.astype("datetime64[us]")

    @property
    def is_apart(self) -> Array:
        """Whether each product begins where the one before has ended."""
        apart: Array = self.starts[1:] >= self.lasts[:-1]
        return apart


@st.composite
def catalogues(draw: st.DrawFn) -> Catalogue:
    """Draw the catalogue of 4 to 40 products, regular or with chance in starts and lengths."""
    count = draw(st.integers(4, 40))
    chance = np.random.default_rng(draw(st.integers(0, 999)))
    step = STEPS[draw(st.sampled_from(sorted(STEPS)))]
    if step is None:
        months = np.datetime64("2003-05") + np.arange(count + 1)
        edges = months.astype("datetime64[us]").astype(np.int64)
    else:
        phase = draw(st.sampled_from([0, 0, HOUR, 12 * HOUR + SECOND]))
        edges = 12_000 * DAY + phase + step * np.arange(count + 1)
    starts, stops = edges[:-1], edges[1:]
    early = draw(st.sampled_from([0, 0, 1, 999, 3_600_000]))
    starts = starts + chance.integers(0, early + 1, count) * MILLISECOND
    match draw(st.sampled_from(["whole", "whole", "moment", "pass", "publication"])):
        case "moment":
            stops = starts + MILLISECOND
        case "pass":
            stops = starts + chance.integers(3 * MINUTE, 40 * MINUTE, count) // 1000 * 1000
        case "publication":
            stops = stops + chance.integers(2 * HOUR, 96 * HOUR, count) // 1000 * 1000
    return Catalogue(starts, stops - MILLISECOND)


@dataclasses.dataclass(frozen=True)
class Process:
    """How the times in products come about: a base, rounded to a unit, and an offset for each step.

    ``unit`` is what the base is rounded to, if any; ``grid`` what the file can store.
    """

    base: str
    unit: int | None
    rounds: bool
    offsets: tuple[int, ...]
    grid: int

    def apply(self, catalogue: Catalogue) -> Array:
        """Return true times, one row per product."""
        base = self._base(catalogue)
        if self.unit is not None:
            base = (base + (self.unit // 2 if self.rounds else 0)) // self.unit * self.unit
        times: Array = base[:, None] + np.array(self.offsets)
        stored: Array = times // self.grid * self.grid
        return stored

    def _base(self, catalogue: Catalogue) -> Array:
        starts, ends = catalogue.starts, catalogue.lasts + MILLISECOND
        if self.base == "start":
            return starts
        if self.base == "end":
            return catalogue.lasts if self.unit else ends
        if self.base in {"middle", "third"}:
            return starts + (ends - starts) // (2 if self.base == "middle" else 3)
        months = starts.astype("datetime64[us]").astype("datetime64[M]")
        begin, after = (m.astype("datetime64[us]").astype(np.int64) for m in (months, months + 1))
        return begin + (after - begin) // 2


@st.composite
def processes(draw: st.DrawFn) -> Process:
    """Draw a process of the family that the rules are made for."""
    base = draw(st.sampled_from(BASES))
    unit = None
    if base in {"start", "end"}:
        unit = draw(st.sampled_from([None, None, SECOND, MINUTE, HOUR, DAY]))
    grid = draw(st.sampled_from([MILLISECOND, SECOND]))
    steps = draw(st.integers(1, 3))
    first = draw(st.sampled_from([0, 0, 12 * HOUR, -HOUR, 90 * SECOND])) if unit or base in {
        "start", "end"} else 0
    offsets = tuple(first + n * HOUR for n in range(steps))
    return Process(base, unit, draw(st.booleans()), offsets, grid)
