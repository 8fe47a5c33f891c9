"""Tiles and pieces on a cluster: workers order and read each once for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from clusters import Workers, cluster
from cubes import cubes_of, plain

from hda_fsspec.emulator import ecmwf_subset

WEST, DAYS = {"X00Y01": 0.0, "X01Y01": 4.0}, (1, 11)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Start two worker processes, which compute all of this module."""
    with cluster({}, {}, home=tmp_path_factory.mktemp("home")) as client, client.as_current():
        yield Workers(client)


def tile(west: float, day: int) -> xr.Dataset:
    """Return a tile of latitude and longitude at a day."""
    lon, lat = west + np.arange(4.0), 50 - np.arange(3.0)
    values = day + np.zeros((1, 3, 1)) + lon / 100
    return xr.Dataset(
        {"lai": (("time", "lat", "lon"), values), "crs": ((), 0, {"epsg_code": "EPSG:4326"})},
        coords={
            "time": [np.datetime64(f"2024-05-{day:02}", "ns")],
            "lat": ("lat", lat, {"standard_name": "latitude"}),
            "lon": ("lon", lon, {"standard_name": "longitude"}),
        },
    )


@pytest.mark.slow
def test_tiles(stacks: Any, workers: Workers) -> None:
    """A mosaic is computed there, and each of its products is ordered once."""
    stacks.serve(
        {
            f"c_LAI_202405{day:02}_{name}.nc": tile(west, day)
            for name, west in WEST.items()
            for day in DAYS
        }
    )
    environment = {
        "HDA_USER": stacks.options["user"],
        "HDA_PASSWORD": stacks.options["password"],
    }
    workers.set(environment, environment)

    found = stacks.open(mosaic=True, chunks={}).lai[:, 1].compute(scheduler=workers.client)

    np.testing.assert_array_equal(found, [day + np.arange(8) / 100 for day in DAYS])
    assert len(stacks.ordered) == stacks.emulator.order_posts == stacks.emulator.downloads == 4


@pytest.mark.slow
def test_pieces(shared_data: Path, tmp_path: Path, workers: Workers) -> None:
    """A query that is cut by time, variable and level is computed there, each piece once."""
    file = shared_data / "c3s/era5_pl_uv_etna_20250602-04_hourly.nc"
    hours = ",".join(f"{hour:02}:00" for hour in range(24))
    entry = ecmwf_subset("EO:ECMWF:DAT:REANALYSIS_ERA5_PRESSURE_LEVELS", file)
    asked = f"variable=u,v/pressure_level=800,1000/year=2025/month=06/day=02,03/time={hours}"
    split = {"time": "day", "variable": 1, "pressure_level": 1}
    with cubes_of(tmp_path, entry) as cubes:
        environment = {
            **cubes.emulator.environment,
            "HDA_CACHE_DIR": cubes.options["cache_dir"],
            "HDA_ACCEPT_TERMS": "true",
        }
        workers.set(environment, environment)
        lazy = cubes.open(f"{entry.dataset_id}/{asked}", split=split, chunks={})
        found = plain(lazy.compute(scheduler=workers.client))

        assert len(cubes.ordered) == 8
        assert len(cubes.posted("dataaccess/download", "product_id")) == 8
    with xr.open_dataset(file) as whole:
        flat = [name for name in whole if {"latitude", "longitude"} - set(whole[name].dims)]
        days = whole.drop_vars(flat).sel(valid_time=slice("2025-06-02", "2025-06-03"))
        wanted = plain(days.sortby("latitude", ascending=False))
    xr.testing.assert_identical(found, wanted.transpose(*found.dims))
