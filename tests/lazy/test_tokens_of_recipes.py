"""Dask's tokens of lazy data: told by what they are made of, without reading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize

from hda_fsspec.emulator import Emulator, dated_product


@pytest.fixture
def emulator(bench: Any, tmp_path: Path) -> Emulator:
    """Four daily products with one variable."""
    products = []
    for day in range(1, 5):
        path = tmp_path / f"sst_202405{day:02}.nc"
        times = [np.datetime64(f"2024-05-{day:02}T12:00", "ns")]
        values = (("time", "lat"), np.full((1, 3), float(day)))
        xr.Dataset({"sst": values}, coords={"time": times}).to_netcdf(path)
        products.append(dated_product(path.name, path.read_bytes()))
    found: Emulator = bench.start(products=products)
    return found


def test_a_token_of_unchunked_data_reads_nothing(bench: Any, emulator: Emulator) -> None:
    """A lazy data set gets its token without an order; another selection gets another token."""
    options = bench.settings(emulator)

    def opened() -> xr.Dataset:
        return xr.open_dataset(bench.query, engine="hda", storage_options=options)

    with dask.config.set({"tokenize.ensure-deterministic": True}):
        first, again = opened(), opened()
        tokens = [
            tokenize(each)
            for each in (first, again, first.isel(time=1), first.isel(time=2), first.sst[:, ::2])
        ]

    assert emulator.orders == 1
    assert tokens[0] == tokens[1]
    assert len(set(tokens)) == 4


@pytest.mark.slow
def test_loaded_data_have_the_token_of_their_values(bench: Any, emulator: Emulator) -> None:
    """What was loaded is told by its values, as xarray tells it."""
    options = bench.settings(emulator)
    loaded = xr.open_dataset(bench.query, engine="hda", storage_options=options).load()

    changed = loaded.copy(deep=True)
    changed["sst"][0, 0] = -1.0

    assert tokenize(loaded) != tokenize(changed)
