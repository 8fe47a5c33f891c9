"""Real series as one lazy data set: equal to what xarray joins of the local files."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from real_series import SERIES, Series, assert_same, files_of, joined


@pytest.fixture(params=SERIES)
def series(request: pytest.FixtureRequest) -> Series:
    """Each series that can be opened here."""
    found = SERIES[request.param]
    if found.engine == "cfgrib" and importlib.util.find_spec("cfgrib") is None:
        pytest.skip("cfgrib is not installed")
    return found


@pytest.mark.slow
def test_a_series_is_identical_to_the_joined_files(
    stacks: Any, shared_data: Path, series: Series
) -> None:
    """One day of the catalogue per product: one order at opening, then every value as it is."""
    files = files_of(series, shared_data)
    stacks.serve({path.name: path for path in files})

    found = stacks.open(chunks={}, scan=series.scan)

    assert stacks.emulator.orders == series.orders
    assert_same(found.load(), joined(files, series), series)
    assert stacks.emulator.orders == series.count


REDUCTIONS: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
    "mean over time": lambda array: array.mean("time"),
    "mean by month": lambda array: array.groupby("time.month").mean(),
    "a place": lambda array: array.isel(latitude=3, longitude=[5, 2]),
}


@pytest.mark.slow
def test_reductions_of_a_series_are_those_of_the_files(stacks: Any, shared_data: Path) -> None:
    """What Dask computes of a stack is what it computes of the local files."""
    series = SERIES["duacs"]
    files = files_of(series, shared_data)
    stacks.serve({path.name: path for path in files})
    whole = joined(files, series)
    variable = next(str(n) for n, v in whole.data_vars.items() if v.ndim == 3)

    for name, reduce in REDUCTIONS.items():
        got = reduce(stacks.open(chunks={})[variable]).compute()
        wanted = reduce(whole[variable])

        np.testing.assert_allclose(got.to_numpy(), wanted.to_numpy(), rtol=1e-6, err_msg=name)
