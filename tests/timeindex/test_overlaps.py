"""Products that cover the same times: which they are, and which steps of them are taken."""

from __future__ import annotations

from typing import Any

import cftime
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import for_each

from hda_fsspec.timeindex.overlaps import Segments, overlapping, time_order, without_overlaps

Array = np.ndarray[Any, Any]
FIRST = np.datetime64("2024-05-01", "ns")
HOUR = np.timedelta64(1, "h")


def hours(*numbers: float) -> Array:
    """Return times of a day."""
    return FIRST + (np.array(numbers) * 3600).astype("m8[s]").astype("m8[ns]")


def joined(*products: Array) -> tuple[Array, Array]:
    """Return the times of products one after another, and how many each has."""
    return np.concatenate(products), np.array([len(product) for product in products])


APART = {
    "one after another": (hours(0, 1), hours(2, 3)),
    "out of order": (hours(2, 3), hours(0, 1)),
    "single steps": (hours(0), hours(1), hours(2)),
    "no step": (hours(), hours(0), hours()),
    "missing times": (hours(0, 1), np.array(["NaT"], "M8[ns]"), hours(2)),
}
TOGETHER = {
    "the same time": ((hours(0), hours(1), hours(1)), [(1, 2)]),
    "the end of one": ((hours(0, 6), hours(6, 12)), [(0, 1)]),
    "between the steps of another": ((hours(0, 6), hours(3)), [(0, 1)]),
    "interleaved": ((hours(0, 6, 12), hours(3, 9, 15)), [(0, 1)]),
    "one within a long one": ((hours(0, 24), hours(1), hours(2)), [(0, 1), (0, 2)]),
    "in the wrong order": ((hours(12, 18), hours(0, 12)), [(0, 1)]),
}


@for_each("case", APART)
def test_products_apart(case: str) -> None:
    """Each product ends before the next one begins."""
    assert overlapping(*joined(*APART[case])) == []


@for_each("case", TOGETHER)
def test_products_that_overlap(case: str) -> None:
    """A product that begins before an earlier one has ended is named with that."""
    products, pairs = TOGETHER[case]

    assert overlapping(*joined(*products)) == pairs


def test_dates_of_a_calendar_and_durations_overlap_too() -> None:
    """Steps of forecasts, and dates that only their calendar has, are compared like others."""
    dates = np.array([cftime.Datetime360Day(2024, 2, 30)] * 2)
    steps = np.array([0, 6, 6], "m8[h]").astype("m8[ns]")

    assert overlapping(dates, np.array([1, 1])) == [(0, 1)]
    assert overlapping(steps, np.array([2, 1])) == [(0, 1)]


def test_the_order_of_products_is_that_of_their_times() -> None:
    """Products without a time stay where they are, behind the one before them."""
    values, lengths = joined(hours(5), hours(), hours(1, 2), hours(0))

    assert time_order(values, lengths).tolist() == [3, 2, 0, 1]


def test_runs_of_a_forecast() -> None:
    """The latest run gives all its steps, the others what is not covered by a later one."""
    runs = [hours(*range(first, first + 48, 12)) for first in (0, 24, 48)]
    values, lengths = joined(*runs)

    latest = without_overlaps(values, lengths, [2, 1, 0])
    earliest = without_overlaps(values, lengths, [0, 1, 2])

    assert latest.products.tolist() == [0, 1, 2]
    assert latest.counts.tolist() == [2, 2, 4]
    assert earliest.counts.tolist() == [4, 2, 2]
    assert earliest.firsts.tolist() == [0, 2, 2]
    for found in (latest, earliest):
        np.testing.assert_array_equal(values[found.steps(lengths)], hours(*range(0, 96, 12)))


def test_steps_of_two_products_are_never_mixed() -> None:
    """Between the first and the last step of a preferred product, no other gives a step."""
    values, lengths = joined(hours(0, 3, 6, 9, 12), hours(4, 8))

    found = without_overlaps(values, lengths, [1, 0])

    np.testing.assert_array_equal(values[found.steps(lengths)], hours(0, 3, 4, 8, 9, 12))
    assert found.products.tolist() == [0, 1, 0]


def test_whole_products_in_another_order() -> None:
    """Segments say where each step of each product is among all of them."""
    lengths = np.array([2, 0, 3])
    segments = Segments(np.array([2, 0]), np.array([0, 1]), np.array([3, 1]))

    assert Segments.whole(lengths).steps(lengths).tolist() == [0, 1, 2, 3, 4]
    assert segments.steps(lengths).tolist() == [2, 3, 4, 1]


@pytest.mark.slow
@given(
    st.lists(
        st.lists(st.integers(0, 40), min_size=0, max_size=5, unique=True).map(sorted),
        min_size=1,
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_each_time_is_of_one_product(products: list[list[int]], chance: Any) -> None:
    """Whatever is preferred: times rise, and the preferred ones are whole."""
    values, lengths = joined(*(hours(*steps) for steps in products))
    preference = list(range(len(products)))
    chance.shuffle(preference)

    found = without_overlaps(values, lengths, preference)

    steps = found.steps(lengths)
    assert (np.diff(values[steps]) > 0 * HOUR).all()
    owners = found.products.repeat(found.counts)
    assert (owners == preference[0]).sum() == lengths[preference[0]]
    spans = [(min(steps), max(steps)) if steps else (1, 0) for steps in products]
    for rank, owner in enumerate(preference):
        taken = set(((values[steps[owners == owner]] - FIRST) / HOUR).tolist())
        better = [spans[other] for other in preference[:rank]]
        wanted = {
            hour for hour in products[owner] if not any(low <= hour <= high for low, high in better)
        }
        assert taken == wanted
