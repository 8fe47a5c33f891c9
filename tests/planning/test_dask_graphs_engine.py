"""With the real engine too, the products told are those that computing makes local."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rows import for_each

import hda_fsspec.engine.accessor  # noqa: F401  (registers it)
from hda_fsspec.client import close_clients, get_client
from hda_fsspec.emulator import ProductEntry, dated_product
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
CASES: list[tuple[str, Expression, Any]] = [
    *((name, f, {}) for name, f in {**SELECTIONS, **CHUNKED}.items()),
    *((name, CHUNKED[name], {"time": 3}) for name in WIDE),
    *((name, SELECTIONS[name], None) for name in PLAIN),
]


class Served:
    """Daily products behind an emulator, and one cache."""

    def __init__(self, bench: Any, products: list[ProductEntry]) -> None:
        self.emulator = bench.start(products=products)
        self.query = bench.query
        self.options = bench.settings(self.emulator)

    @property
    def cache(self) -> Any:
        """Where what is fetched is kept."""
        return get_client(Settings.resolve(**self.options)).cache

    def open(self, chunks: Any) -> xr.Dataset:
        """Open all of them as one data set."""
        return xr.open_dataset(
            self.query, engine=HDABackendEntrypoint, chunks=chunks, storage_options=self.options
        )

    def evict(self) -> None:
        """Empty the cache; headers are kept."""
        close_clients()
        self.cache.clear()

    @property
    def sent(self) -> tuple[int, int]:
        """How often something was ordered, and downloaded."""
        return self.emulator.order_posts, self.emulator.downloads

    @property
    def local(self) -> set[str]:
        """The ids of what is in the cache."""
        return {entry.product.product_id for entry in self.cache.entries()}


@pytest.fixture
def served(bench: Any, products: list[ProductEntry]) -> Served:
    """Serve eight daily products."""
    return Served(bench, products)


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> list[ProductEntry]:
    """Write eight daily files."""
    folder: Path = tmp_path_factory.mktemp("files")
    found = []
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
        found.append(dated_product(path.name, path.read_bytes()))
    return found


@pytest.mark.slow
@for_each(("name", "expression", "chunks"), CASES)
def test_what_is_told_becomes_local(
    served: Served, name: str, expression: Expression, chunks: Any
) -> None:
    """Nothing is ordered by telling; computing then makes those products local, and no others."""
    made = expression(served.open(chunks))
    # Of the first row that of the template, then what the row before has left.
    before, sent = served.local, served.sent
    assert before

    told = {product.product_id for product in made.hda.products}

    assert made.hda.plan().orders_needed == len(told - before), name
    assert served.local == before
    assert served.sent == sent
    served.evict()
    computed = made.compute()
    assert served.local == told
    assert computed.hda.products == []


CUTTING: dict[str, tuple[Expression, set[int]]] = {
    # The template is read for what does not lie along the dimension.
    "resample": (CHUNKED["resample"], {1, 2, 3, 4, 5, 6}),
    "resample, a variable": (lambda d: d.sst.resample(time="2D").mean()[1], {1, 2, 3, 4, 5, 6}),
    "two parts": (lambda d: d.sst[0] + d.sst[1], {1, 2, 3}),
    "one of two parts": (lambda d: xr.concat([d.sst[0:1], d.sst[4:5]], "time")[1], {5}),
}


@pytest.mark.slow
@for_each("name", CUTTING)
def test_of_chunks_that_groups_cut_never_too_few_are_told(served: Served, name: str) -> None:
    """Dask reads such a chunk whole or in part, each time anew: all of it is told, and no other."""
    expression, most = CUTTING[name]
    made = expression(served.open({"time": 3}))

    told = {product.product_id for product in made.hda.products}

    assert told == {f"sst_202405{day:02}.nc" for day in most}
    for _ in range(2):
        served.evict()
        made.compute()
        assert served.local <= told
