"""Index values that are no times, equal values in two products, and what encodings can store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rows import for_each

from hda_fsspec.timeindex.catalogue_times import SeenProduct, UnpredictableError, predict

Array = np.ndarray[Any, Any]
DAY = np.timedelta64(1, "D")
MILLISECOND = np.timedelta64(1, "ms")


def _days(count: int) -> tuple[Array, Array]:
    starts = np.datetime64("2024-01-01", "us") + np.arange(count) * DAY
    return starts, starts + DAY - MILLISECOND


def _ones(count: int) -> Array:
    return np.ones(count, np.int64)


@for_each("value", [0.0, 36.0, np.nan, 7, "a"])
def test_a_number_that_is_the_same_in_two_products(value: Any) -> None:
    """One product does not tell that its number is that of all; the farthest in time is asked."""
    starts, ends = _days(5)
    own = np.array([value])

    first = predict(starts, ends, [SeenProduct(1, own)])
    second = predict(starts, ends, [SeenProduct(1, own), SeenProduct(4, own)])

    assert first.ask == (4,)
    assert second.constant
    np.testing.assert_array_equal(second.values, np.repeat(own, 5))


def test_a_number_that_differs_is_no_time() -> None:
    """Nothing is made of numbers that cannot be decoded, even if they look like days."""
    known = [SeenProduct(0, np.array([0.0])), SeenProduct(4, np.array([4.0]))]

    with pytest.raises(UnpredictableError, match="no time that could be decoded"):
        predict(*_days(5), known)


def test_numbers_read_from_all_products() -> None:
    """Once all were seen, numbers may differ, and equal ones are known to be no duplicates."""
    different = [SeenProduct(piece, np.array([float(piece)])) for piece in range(3)]
    equal = [SeenProduct(piece, np.array([0.0])) for piece in range(3)]

    assert not predict(*_days(3), different).constant
    assert predict(*_days(3), equal).constant
