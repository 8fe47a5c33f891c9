"""Daily products of a value each, and clusters of processes that compute those values."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks._serving import Served

DATASET = "EO:TEST:DAT:SOAK"
QUERY = f"hda://{DATASET}/*"
_FIRST_DAY = "2015-01-01"


def daily(count: int, width: int) -> list[Any]:
    """Return a data set of so many days, each of ``width`` values whose mean is its number."""
    from hda_fsspec.emulator import DatasetEntry, dated_product

    with tempfile.TemporaryDirectory() as folder:
        paths = write_days(Path(folder), count, width)
        products = [dated_product(path.name, path.read_bytes()) for path in paths]
    return [DatasetEntry(DATASET, products)]


def write_days(folder: Path, count: int, width: int) -> list[Path]:
    """Write the files of such a data set."""
    import netCDF4
    import numpy as np

    noise = np.random.default_rng(1).random(width)
    noise -= noise.mean()
    paths = []
    for number in range(count):
        date = np.datetime64(_FIRST_DAY) + number
        path = folder / f"day_{str(date).replace('-', '')}.nc"
        with netCDF4.Dataset(path, "w") as file:
            file.createDimension("time", 1)
            file.createDimension("x", width)
            time = file.createVariable("time", "f8", ("time",))
            time.units = f"days since {_FIRST_DAY}"
            time[:] = [number + 0.5]
            file.createVariable("value", "f8", ("time", "x"))[:] = np.roll(noise, number) + number
        paths.append(path)
    return paths


def open_days(served: Served, cache_dir: Path, **settings: Any) -> Any:
    """Open the served days as one lazy data set."""
    import xarray as xr

    options = served.options(cache_dir) | settings
    return xr.open_dataset(QUERY, engine="hda", chunks={}, storage_options=options)


@contextlib.contextmanager
def start_cluster(served: Served, scratch: Path, *, workers: int, threads: int) -> Iterator[Any]:
    """Start worker processes that can log in, on loopback, and yield their client."""
    from distributed import Client, LocalCluster

    with (
        mock.patch.dict(os.environ),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            local_directory=str(scratch / "workers"),
            env={"HDA_USER": served.user, "HDA_PASSWORD": served.password},
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(workers, timeout=120)
        # What a worker imports is not what is measured.
        client.run(_import_all)
        yield client


def _import_all() -> None:
    import netCDF4
    import xarray as xr

    import hda_fsspec.engine.lazy_imports

    assert netCDF4
    assert hda_fsspec.engine.lazy_imports
    xr.backends.list_engines()
