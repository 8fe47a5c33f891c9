"""With the real engine too, the products told are those that computing makes local."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hda_fsspec.engine.accessor  # noqa: F401  (registers it)
from hda_fsspec.client import close_clients, get_client
from hda_fsspec.emulator import dated_product
from hda_fsspec.engine.backend import HDABackendEntrypoint
from hda_fsspec.settings import Settings

Expression = Callable[[xr.Dataset], Any]
SELECTIONS: dict[str, Expression] = {
    "slice": lambda d: d.isel(time=slice(3, 6)),
    "list": lambda d: d.sst.isel(time=[1, 5]),
    "backwards": lambda d: d.sst.T.isel(time=slice(7, None, -3)),
    "without the dimension": lambda d: d.mask,
}
CHUNKED: dict[str, Expression] = {
    "mean": lambda d: d.sst.isel(time=slice(2, 7)).mean(),
    "anomaly": lambda d: (d - d.mean("time")).isel(time=2),
    "resample": lambda d: d.resample(time="2D").mean().isel(time=[1]),
    "rolling": lambda d: d.sst.rolling(time=3).mean().isel(time=5),
}
# Where groups cut a chunk, what Dask reads of it differs each time: see the last test.
WIDE = ("mean", "rolling")
PLAIN = ("list", "backwards", "without the dimension")
CASES = [
    *(pytest.param(f, {}, id=name) for name, f in {**SELECTIONS, **CHUNKED}.items()),
    *(pytest.param(CHUNKED[name], {"time": 3}, id=f"{name}, chunks of 3") for name in WIDE),
    *(pytest.param(SELECTIONS[name], None, id=f"{name}, not chunked") for name in PLAIN),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Eight daily files, by name."""
    folder: Path = tmp_path_factory.mktemp("files")
    found = {}
    for day in range(1, 9):
        path = folder / f"sst_202405{day:02}.nc"
        xr.Dataset(
            {"sst": (("time", "lat"), np.full((1, 3), float(day))), "mask": ("lat", [1.0, 2, 3])},
            coords={
                "time": [np.datetime64(f"2024-05-{day:02}T12:00", "ns")],
                "lat": [1.0, 2.0, 3.0],
                "flag": ("time", [float(day)]),
            },
        ).to_netcdf(path)
        found[path.name] = path.read_bytes()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("expression", "chunks"), CASES)
def test_what_is_told_becomes_local(
    bench: Any, files: dict[str, bytes], expression: Expression, chunks: Any
) -> None:
    """Nothing is ordered by telling; computing then makes those products local, and no others."""
    emulator = bench.start(products=[dated_product(name, body) for name, body in files.items()])
    options = bench.settings(emulator)
    cache = get_client(Settings.resolve(**options)).cache
    dataset = xr.open_dataset(
        bench.query, engine=HDABackendEntrypoint, chunks=chunks, storage_options=options
    )
    made = expression(dataset)
    orders = emulator.orders

    told = [product.product_id for product in made.hda.products]

    assert made.hda.plan().orders_needed == len(set(told) - _local(cache))
    assert emulator.orders == orders == 1
    # The template is local since the data set was opened.
    close_clients()
    cache.clear()
    made.compute()
    assert _local(cache) == set(told)
    assert made.compute().hda.products == []


CUTTING: dict[str, tuple[Expression, set[int]]] = {
    # The template is read for what does not lie along the dimension.
    "resample": (CHUNKED["resample"], {1, 2, 3, 4, 5, 6}),
    "resample, a variable": (lambda d: d.sst.resample(time="2D").mean()[1], {1, 2, 3, 4, 5, 6}),
    "two parts": (lambda d: d.sst[0] + d.sst[1], {1, 2, 3}),
    "one of two parts": (lambda d: xr.concat([d.sst[0:1], d.sst[4:5]], "time")[1], {5}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CUTTING)
def test_of_chunks_that_groups_cut_never_too_few_are_told(
    bench: Any, files: dict[str, bytes], name: str
) -> None:
    """Dask reads such a chunk whole or in part, each time anew: all of it is told, and no other."""
    expression, most = CUTTING[name]
    emulator = bench.start(products=[dated_product(name, body) for name, body in files.items()])
    options = bench.settings(emulator)
    cache = get_client(Settings.resolve(**options)).cache
    dataset = xr.open_dataset(
        bench.query, engine=HDABackendEntrypoint, chunks={"time": 3}, storage_options=options
    )
    made = expression(dataset)

    told = {product.product_id for product in made.hda.products}

    assert told == {f"sst_202405{day:02}.nc" for day in most}
    for _ in range(2):
        close_clients()
        cache.clear()
        made.compute()
        assert _local(cache) <= told


def _local(cache: Any) -> set[str]:
    return {entry.product.product_id for entry in cache.entries()}
