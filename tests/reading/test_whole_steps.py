"""Times in whole steps: those that xarray decodes, or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.reading.variables import decoded
from hda_fsspec.reading.whole_steps import WholeSteps

_COUNTS = [-3, -1, 0, 1, 2, 1000]


@pytest.mark.parametrize("calendar", ["standard", "proleptic_gregorian", None])
@pytest.mark.parametrize("dtype", ["i2", "<i4", ">i8"])
@pytest.mark.parametrize(
    "units", ["seconds since 1970-01-01", "hours since 1900-1-1 06:30", "days since 2024-02-28"]
)
def test_times_are_those_of_xarray(units: str, dtype: str, calendar: str | None) -> None:
    """To the bit, of any integers, and for one time alone too."""
    attrs = {"units": units} | ({} if calendar is None else {"calendar": calendar})
    steps = WholeSteps.of(np.array([1, 2], dtype), attrs)
    if steps is None:
        assert dtype == "i2"  # fifty years are more hours than it counts
        return

    for values in (np.array(_COUNTS, dtype), np.array(5, dtype), np.array([[1], [2]], dtype)):
        dims = [f"d{n}" for n in range(values.ndim)]
        expected = decoded("t", xr.Variable(dims, values, dict(attrs))).values
        found = steps.times(values)
        assert found is not None
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()


@for_each(
    ("dtype", "attrs"),
    [
        ("f8", {"units": "hours since 2024-01-01"}),
        ("u4", {"units": "hours since 2024-01-01"}),
        ("i4", {"units": "hours since 2024-01-01", "calendar": "noleap"}),
        ("i4", {"units": "hours since 2024-01-01", "_FillValue": np.int32(-1)}),
        ("i4", {"units": "hours since 2024-01-01", "scale_factor": 0.5}),
        ("i8", {"units": "days since 1700-01-01"}),
        ("i8", {"units": "days since 2250-01-01"}),
        ("i8", {"units": "hours"}),
        ("i8", {"units": "K"}),
        ("i8", {}),
    ],
)
def test_what_may_be_decoded_otherwise_is_left_to_xarray(dtype: str, attrs: dict[str, Any]) -> None:
    """Fractions, missing values, other calendars, durations, and times that are far away."""
    assert WholeSteps.of(np.array([1, 2], dtype), attrs) is None


def test_times_far_from_those_that_were_tried_are_left_to_xarray() -> None:
    """After some decades another one may not fit nanoseconds."""
    steps = WholeSteps.of(np.array([0, 1]), {"units": "days since 2024-01-01"})

    assert steps is not None
    assert steps.times(np.array([18_000, 18_250])) is not None
    assert steps.times(np.array([0, 18_251])) is None
    assert steps.times(np.array([], "i8")) is None
