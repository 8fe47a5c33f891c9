"""xarray's classical way of many files: what is opened is fetched, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hda_fsspec
from hda_fsspec import Location
from hda_fsspec.emulator import dated_product
from hda_fsspec.errors import QueryError

DAYS = 6


def _day(day: int) -> xr.Dataset:
    return xr.Dataset(
        {"sst": (("time", "x"), [[float(day), day + 0.5]]), "mask": ("x", [1.0, 2.0])},
        coords={"time": [np.datetime64(f"2024-05-{day:02}T12:00", "ns")], "x": [1.0, 2.0]},
    )


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Daily files."""
    folder: Path = tmp_path_factory.mktemp("daily")
    made = []
    for day in range(1, DAYS + 1):
        _day(day).to_netcdf(folder / "day.nc", engine="netcdf4")
        made.append((folder / "day.nc").read_bytes())
    return made


@pytest.fixture
def emulator(bench: Any, bodies: list[bytes]) -> Any:
    """Serve them, each order prepared for a moment."""
    products = [
        dated_product(bench.product_id(day), body) for day, body in enumerate(bodies, start=1)
    ]
    return bench.start(products=products, preparation_seconds=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [False, True])
def test_only_what_is_listed_is_fetched(
    bench: Any, emulator: Any, tmp_path: Path, parallel: bool
) -> None:
    """The result is that of the local files; the other products of the query are not touched."""
    chosen = [2, 4, 5]

    def preprocess(ds: xr.Dataset) -> xr.Dataset:
        return ds.drop_vars("mask").assign_attrs(file=ds.encoding["source"][-5:])

    ds = xr.open_mfdataset(
        [bench.path(day) for day in chosen],
        engine="hda",
        parallel=parallel,
        preprocess=preprocess,
        combine="nested",
        concat_dim="time",
        storage_options=bench.settings(emulator),
    )

    assert emulator.order_posts == len(chosen)
    xr.testing.assert_equal(ds, xr.concat([_day(day).drop_vars("mask") for day in chosen], "time"))
    assert ds.attrs == {"file": "02.nc"}
    assert emulator.downloads == len(chosen)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["query", "pattern", "location", "paths", "mixed"])
def test_products_are_fetched_together(bench: Any, emulator: Any, kind: str) -> None:
    """A query, a pattern, a Location and lists of them: all orders go out at one time."""
    days = {"query": range(1, 7), "pattern": [1, 2], "location": range(1, 7)}.get(kind, [3, 5, 6])
    paths: Any = {
        "query": bench.query,
        "pattern": f"{bench.query}/*2024050[12]*",
        "location": Location.parse(bench.query),
        "paths": [bench.path(day) for day in (3, 5, 6)],
        "mixed": [Location.parse(bench.path(3)), f"{bench.query}/*0[56].nc"],
    }[kind]
    emulator.hold_orders(len(days))

    ds = hda_fsspec.open_mfdataset(
        paths,
        storage_options=bench.settings(emulator),
        combine="by_coords",
        data_vars="minimal",
        coords="minimal",
        compat="override",
    )

    wanted = xr.concat([_day(day) for day in days], "time", data_vars="minimal")
    xr.testing.assert_equal(ds, wanted)
    assert emulator.order_posts == len(days)
    assert emulator.max_in_preparation == len(days)


def test_nothing_to_open(bench: Any, emulator: Any) -> None:
    """A query or pattern that finds nothing is not there; a wrong key is told as ever."""
    options = bench.settings(emulator)
    with pytest.raises(FileNotFoundError, match="finds no product"):
        hda_fsspec.open_mfdataset(f"{bench.query}/*none*", storage_options=options)
    with pytest.raises(FileNotFoundError, match="no path"):
        hda_fsspec.open_mfdataset([], storage_options=options)
    with pytest.raises(QueryError, match="bboxx"):
        hda_fsspec.open_mfdataset(f"{bench.query}/bboxx=1", storage_options=options)
    assert emulator.order_posts == 0
