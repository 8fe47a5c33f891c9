"""Index values that are no times, equal values in two products, and what encodings can store."""

from __future__ import annotations

from typing import Any

import cftime
import numpy as np
import pytest

from hda_fsspec.timing.timeline import Known, UnpredictableError, duplicates, predict, resolution_of

Array = np.ndarray[Any, Any]
DAY = np.timedelta64(1, "D")
MILLISECOND = np.timedelta64(1, "ms")


def _days(count: int) -> tuple[Array, Array]:
    starts = np.datetime64("2024-01-01", "us") + np.arange(count) * DAY
    return starts, starts + DAY - MILLISECOND


def _ones(count: int) -> Array:
    return np.ones(count, np.int64)


@pytest.mark.parametrize("value", [0.0, 36.0, np.nan, 7, "a"])
def test_a_number_that_is_the_same_in_two_products(value: Any) -> None:
    """One product does not tell that its number is that of all; the farthest in time is asked."""
    starts, ends = _days(5)
    own = np.array([value])

    first = predict(starts, ends, [Known(1, own)], tolerance=0.0)
    second = predict(starts, ends, [Known(1, own), Known(4, own)], tolerance=0.0)

    assert first.ask == (4,)
    assert second.constant
    np.testing.assert_array_equal(second.values, np.repeat(own, 5))
    assert duplicates(np.repeat(own, 5), _ones(5), starts, starts + 9 * DAY) == []


def test_a_number_that_differs_is_no_time() -> None:
    """Nothing is made of numbers that cannot be decoded, even if they look like days."""
    known = [Known(0, np.array([0.0])), Known(4, np.array([4.0]))]

    with pytest.raises(UnpredictableError, match="no time that could be decoded"):
        predict(*_days(5), known, tolerance=0.0)


def test_numbers_read_from_all_products() -> None:
    """Once all were seen, numbers may differ, and equal ones are known to be no duplicates."""
    different = [Known(piece, np.array([float(piece)])) for piece in range(3)]
    equal = [Known(piece, np.array([0.0])) for piece in range(3)]

    assert not predict(*_days(3), different, tolerance=0.0).constant
    assert predict(*_days(3), equal, tolerance=0.0).constant


def test_equal_times_without_overlap_are_no_duplicates() -> None:
    """Products whose intervals only touch may share a time at the border."""
    starts, _ = _days(3)
    values = np.repeat(starts[:1].astype("M8[ns]"), 3)

    assert duplicates(values, _ones(3), starts, starts + DAY) == []


def test_equal_times_with_overlap_are_named_in_pairs() -> None:
    """Each product that stands where an earlier one does is named, with that one."""
    starts, ends = (np.repeat(each, [1, 2, 3, 1]) for each in _days(4))

    pairs = duplicates(starts.astype("M8[ns]"), _ones(7), starts, ends)

    assert pairs == [(1, 2), (3, 4), (3, 5)]


def test_one_time_of_many_in_common_is_enough() -> None:
    """Products of several steps are duplicates if one step is; their own steps do not count."""
    starts, _ = _days(3)
    values = starts.astype("M8[ns]")[[0, 1, 1, 2, 2, 2]]

    assert duplicates(values, np.array([2, 2, 2]), starts, starts + 2 * DAY) == [(0, 1), (1, 2)]
    assert duplicates(values[[0, 0, 3]], np.array([2, 1]), starts[:2], starts[:2]) == []


def test_moments_overlap_where_they_are_equal() -> None:
    """An interval of no length overlaps itself, and one that starts there, not one that ends."""
    moment = np.array(["2024-01-02"], "M8[us]")
    starts, ends = _days(2)
    values = np.repeat(moment.astype("M8[ns]"), 2)

    def are_versions(start: Array, end: Array) -> bool:
        both = np.append(moment, start), np.append(moment, end)
        return bool(duplicates(values, _ones(2), *both))

    assert are_versions(moment, moment)
    assert are_versions(starts[1:], ends[1:])
    assert not are_versions(starts[:1], moment)


def test_an_untold_interval_overlaps_all() -> None:
    """Equal times are reported where the catalogue does not show that products are apart."""
    starts, ends = _days(2)
    values = np.repeat(starts[1:].astype("M8[ns]"), 2)
    starts[0] = np.datetime64("NaT")

    assert duplicates(values, _ones(2), starts, ends) == [(0, 1)]


def test_duplicates_of_another_calendar() -> None:
    """Times of cftime are compared like others."""
    starts, ends = _days(2)
    values = np.array([cftime.Datetime360Day(2024, 2, 30)] * 2)

    assert duplicates(values, _ones(2), starts, ends) == []
    assert duplicates(values, _ones(2), starts, ends + DAY) == [(0, 1)]
    assert duplicates(values[:0], _ones(0), starts[:0], ends[:0]) == []


@pytest.mark.parametrize(
    ("units", "dtype", "expected"),
    [
        ("hours since 1900-01-01 00:00:00.0", "int32", 3_600_000),
        ("days since 2010-01-01", "int64", 86_400_000),
        ("seconds since 1981-01-01", "int32", 1000),
        ("Minutes since 1970-01-01", "uint16", 60_000),
        ("milliseconds since 1970-01-01", "int64", 1),
        ("microseconds since 1970-01-01", "int64", 1),
        ("days since 1950-01-01", "float32", 168_750),
        ("hours since 1950-01-01", "float32", 225_000),
        ("days since 1950-01-01", "float64", 1),
        ("seconds since 1970-01-01", "float64", 1),
        ("days since 1950-01-01", None, 1),
        ("days since 1950-01-01", "datetime64[ns]", 1),
        (None, "datetime64[ns]", 1),
        ("days since 1850-01-01", object, 1),
    ],
)
def test_what_an_encoding_can_store(units: str | None, dtype: Any, expected: int) -> None:
    """Whole units for integers, neighbouring numbers for floats, a millisecond at least."""
    assert resolution_of(units, dtype, "standard") == np.timedelta64(expected, "ms")


@pytest.mark.parametrize("units", [None, "", "hours", "months since 1850-01-01", "K"])
def test_units_of_no_time_have_no_resolution(units: str | None) -> None:
    """Numbers that are not decoded to times have to be equal."""
    assert resolution_of(units, "float32", None) == 0.0


def test_small_floats_are_more_exact() -> None:
    """The values tell how large the stored numbers are, and so how exact."""
    near = np.array(["1950-01-02"], "M8[ns]")
    far = np.array([cftime.Datetime360Day(2030, 1, 1)])
    units = "days since 1950-01-01"

    exact = resolution_of(units, "float32", None, values=near)

    assert isinstance(exact, np.timedelta64)
    assert exact < np.timedelta64(5, "s")
    assert resolution_of(units, "float32", "360_day", values=far) == np.timedelta64(168_750, "ms")
    assert resolution_of(units, "f4", None, values=near[:0]) == np.timedelta64(168_750, "ms")
