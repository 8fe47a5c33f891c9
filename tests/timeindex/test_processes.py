"""Prediction of made-up times: whatever the catalogue and the process, none is silently wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hda_fsspec.timeindex import catalogue_times

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
            share: Array = (ends - starts) // (2 if self.base == "middle" else 3)
            return starts + share
        months = starts.astype("datetime64[us]").astype("datetime64[M]")
        following = months + np.timedelta64(1, "M")
        begin, after = (m.astype("datetime64[us]").astype(np.int64) for m in (months, following))
        middle: Array = begin + (after - begin) // 2
        return middle


@st.composite
def processes(draw: st.DrawFn) -> Process:
    """Draw a process of the family that the rules are made for."""
    base = draw(st.sampled_from(BASES))
    unit, first = None, 0
    if base in {"start", "end"}:
        unit = draw(st.sampled_from([None, None, SECOND, MINUTE, HOUR, DAY]))
        first = draw(st.sampled_from([0, 0, 12 * HOUR, -HOUR, 90 * SECOND]))
    grid = draw(st.sampled_from([MILLISECOND, SECOND]))
    steps = draw(st.integers(1, 3))
    offsets = tuple(first + n * HOUR for n in range(steps))
    return Process(base, unit, draw(st.booleans()), offsets, grid)


def _settle(
    catalogue: Catalogue, truth: Array, *, grid: int, template: int
) -> catalogue_times.Prediction:
    """Predict as a caller does: see what is asked for, until it is decided."""
    seen = [template]
    while True:
        known = [_known(truth, piece, grid) for piece in seen]
        prediction = catalogue_times.predict(*catalogue.as_times, known)
        if not prediction.ask:
            return prediction
        assert len(seen) < 3
        assert not set(prediction.ask) & set(seen)
        seen += prediction.ask


def _known(truth: Array, piece: int, grid: int) -> catalogue_times.SeenProduct:
    unit = {MILLISECOND: "milliseconds", SECOND: "seconds"}[grid]
    encoding = catalogue_times.TimeEncoding(f"{unit} since 1970-01-01", None, np.dtype("i8"))
    return catalogue_times.SeenProduct(piece, _times(truth[piece]), None, encoding)


def _times(ticks: Array) -> Array:
    return ticks.astype("datetime64[us]").astype("datetime64[ns]")


def _gives_each_its_time(catalogue: Catalogue, truth: Array) -> bool:
    """Return whether disjoint products have times of their own, which is taken for granted."""
    return not (catalogue.is_apart & (truth[1:, 0] == truth[:-1, 0])).any()


@pytest.mark.slow
@settings(
    max_examples=4 * settings().max_examples,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(catalogues(), processes(), st.integers(0, 39))
def test_what_is_decided_is_right(catalogue: Catalogue, process: Process, template: int) -> None:
    """Times are right to the millisecond, or there is an error; three headers are the most."""
    truth = process.apply(catalogue)
    if not _gives_each_its_time(catalogue, truth):
        return
    try:
        prediction = _settle(catalogue, truth, grid=process.grid, template=template % len(truth))
    except catalogue_times.UnpredictableError:
        return

    assert prediction.values is not None
    away = np.abs(prediction.values - _times(truth.ravel()))
    assert away.max() <= np.timedelta64(1, "ms"), prediction.rules


@pytest.mark.slow
@settings(max_examples=2 * settings().max_examples, derandomize=True, deadline=None)
@given(catalogues(), st.integers(0, 999), st.sampled_from([SECOND, HOUR, DAY]))
def test_times_by_chance_are_refused(catalogue: Catalogue, seed: int, wide: int) -> None:
    """Times that follow no rule are refused as soon as three headers show them."""
    chance = np.random.default_rng(seed)
    truth = catalogue.starts[:, None] + chance.integers(0, wide, (len(catalogue.starts), 1))
    known = [catalogue_times.SeenProduct(piece, _times(truth[piece])) for piece in (0, 1, 3)]
    steps = np.diff(truth[[0, 1, 3], 0] - catalogue.starts[[0, 1, 3]])
    if (np.abs(steps) < 10 * MILLISECOND).any():
        return

    with pytest.raises(catalogue_times.UnpredictableError):
        catalogue_times.predict(*catalogue.as_times, known, asked=2)


@pytest.mark.slow
@settings(derandomize=True, deadline=None)
@given(catalogues(), processes(), st.randoms(use_true_random=False))
def test_seeing_more_changes_nothing(catalogue: Catalogue, process: Process, chance: Any) -> None:
    """A decided index stays what it is when more of its products are seen."""
    truth = process.apply(catalogue)
    if not _gives_each_its_time(catalogue, truth):
        return
    order = list(range(len(truth)))
    chance.shuffle(order)
    decided: Array | None = None
    for count in range(1, len(order) + 1):
        known = [_known(truth, piece, process.grid) for piece in order[:count]]
        try:
            prediction = catalogue_times.predict(*catalogue.as_times, known, asked=0)
        except catalogue_times.UnpredictableError:
            assert decided is None
            return
        if decided is not None:
            assert prediction.values is not None
            assert np.abs(prediction.values - decided).max() <= np.timedelta64(1, "ms")
        decided = prediction.values if decided is None else decided
