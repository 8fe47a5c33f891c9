"""Lazy variables are recipes: they travel, survive eviction, and have names of their own."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize
from ready_processes import run_script

from hda_fsspec.client import close_clients, get_client
from hda_fsspec.emulator import dated_product
from hda_fsspec.settings import Settings

NAME = "sst_20240501.nc"


def _day() -> xr.Dataset:
    """Return a day of values with a missing one."""
    sst = np.round(np.linspace(270.0, 300.0, 12), 2).reshape(1, 3, 4)
    sst[0, 1, 1] = np.nan
    return xr.Dataset(
        {"sst": (("time", "lat", "lon"), sst, {"units": "K"})},
        coords={
            "time": [np.datetime64("2024-05-01T12:00", "ns")],
            "lat": [10.0, 5.0, 0.0],
            "lon": [1.0, 2.0, 3.0, 4.0],
            "area": (("lat", "lon"), np.arange(12.0).reshape(3, 4)),
        },
    )


class Served:
    """One product behind an emulator."""

    def __init__(self, bench: Any, body: bytes) -> None:
        self.emulator = bench.start(products=[dated_product(NAME, body)])
        self.options = bench.settings(self.emulator)
        self.path = f"{bench.query}/{NAME}"

    @property
    def cache(self) -> Any:
        """The cache of the client."""
        return get_client(Settings.resolve(**self.options)).cache

    def open(self, **options: Any) -> xr.Dataset:
        """Open it."""
        return xr.open_dataset(
            self.path, engine="hda", storage_options=self.options, cache=False, **options
        )


@pytest.fixture
def served(bench: Any, tmp_path: Path) -> Served:
    """Serve a netCDF-4 product."""
    _day().to_netcdf(tmp_path / NAME, engine="netcdf4")
    return Served(bench, (tmp_path / NAME).read_bytes())


def test_an_eviction_under_an_open_dataset(served: Served) -> None:
    """The next read fetches again, also when the file is closed by then."""
    ds = served.open()
    assert float(ds["sst"][0, 0, 0]) == 270.0

    close_clients()
    served.cache.clear()

    assert float(ds["sst"][0, 2, 3]) == 300.0
    assert served.emulator.downloads == 2


def test_closing_twice(served: Served) -> None:
    """Closing does no harm, twice or never; a data set can be opened again afterwards."""
    ds = served.open()
    ds.close()
    ds.close()
    with served.open() as again:
        again.load()
    assert float(ds["sst"][0, 0, 0]) == 270.0


@pytest.mark.slow
def test_a_recipe_travels(served: Served, tmp_path: Path) -> None:
    """It pickles small, and a fresh process with an empty cache fetches by itself."""
    ds, lazy = served.open(), served.open(chunks={})
    sizes = [
        len(pickle.dumps(each[name].variable)) for each in (ds, lazy) for name in ("sst", "area")
    ]
    assert max(sizes) < 10_000
    assert served.options["password"].encode() not in pickle.dumps(lazy)
    (tmp_path / "recipe").write_bytes(pickle.dumps((ds["sst"].variable, lazy["sst"])))
    code = (
        "import pickle, sys\n"
        "one, two = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert (one.values == two.values).sum() == 11\n"
        "print(float(two.sum()))\n"
    )
    served.cache.clear()

    environment = {**os.environ, "HDA_PASSWORD": served.options["password"]}
    told = run_script(code, [str(tmp_path / "recipe")], folder=tmp_path, environment=environment)

    assert float(told) == pytest.approx(float(_day()["sst"].sum()))
    assert served.emulator.downloads == 2


@pytest.mark.slow
def test_names_in_dask_are_those_of_the_products(bench: Any, tmp_path: Path) -> None:
    """The same products have the same names; after a new one arrived they are others."""
    products = []
    for day in (1, 2, 3):
        time = np.datetime64(f"2024-05-{day:02}T12:00", "ns")
        _day().assign_coords(time=[time]).to_netcdf(tmp_path / "one.nc")
        products.append(dated_product(bench.product_id(day), (tmp_path / "one.nc").read_bytes()))
    inside: dict[str, Any] = {"startdate": products[2].startdate, "enddate": products[2].enddate}
    outside: dict[str, Any] = {
        "startdate": "2023-01-01T00:00:00.000Z",
        "enddate": "2023-01-02T00:00:00.000Z",
    }
    emulator = bench.start(products=[*products[:2], dataclasses.replace(products[2], **outside)])
    options = bench.settings(emulator, listings_expiry_time=0.001)

    def query() -> xr.Dataset:
        return xr.open_dataset(bench.query, engine="hda", chunks={}, storage_options=options)

    with dask.config.set({"tokenize.ensure-deterministic": True}):
        first, second = query(), query()
        emulator.catalogue.replace(bench.dataset, products[2].product_id, **inside)
        third = query()
        assert tokenize(first) == tokenize(second) != tokenize(third)
    assert first["sst"].data.name == second["sst"].data.name != third["sst"].data.name
    assert first["area"].data.name == second["area"].data.name
    both = xr.concat([first["sst"], third["sst"]], "time")
    assert both.sizes["time"] == 5
    np.testing.assert_allclose(both.values, np.repeat(_day()["sst"].values, 5, axis=0))
