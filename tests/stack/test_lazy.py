"""A stack is a recipe: looking costs nothing, and it can be read again anywhere."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys
from typing import Any

import dask.base
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize
from ready_processes import run_script

import hda_fsspec.engine.accessor  # noqa: F401  (registers ds.hda)
from hda_fsspec import HDAFileSystem, Location
from hda_fsspec.emulator import dated_product

DAYS = 4
NAMES = """
import json, os, sys, warnings
import xarray as xr
from hda_fsspec.engine.backend import HDABackendEntrypoint

warnings.simplefilter("error")
ds = xr.open_dataset(sys.argv[1], engine=HDABackendEntrypoint, chunks={})
print(json.dumps({str(name): ds[name].data.name for name in ds.data_vars}), flush=True)
os._exit(0)  # how Python ends is the matter of another test
"""
READ = """
import pickle, sys, warnings

warnings.simplefilter("error")
with open(sys.argv[1], "rb") as handle:
    ds = pickle.load(handle)
print(ds["sst"].isel(time=3).compute().values.tolist())
"""


def name(day: int) -> str:
    """Return the id of a day's product."""
    return f"p_202405{day:02}.nc"


def product(day: int) -> xr.Dataset:
    """Return a day's product."""
    time = np.datetime64(f"2024-05-{day:02}T12:00", "ns")
    return xr.Dataset(
        {
            "sst": (("time", "x"), np.full((1, 3), day * 1.5)),
            "mask": ("x", np.array([1, 0, 1], dtype="i1")),
        },
        coords={"time": [time], "x": [1.0, 2.0, 3.0], "orbit": ("time", [day])},
    )


def serve(stacks: Any, *days: int, **options: Any) -> None:
    """Serve some days; four by default."""
    stacks.serve({name(day): product(day) for day in days or range(1, DAYS + 1)}, **options)


def environment(stacks: Any, cache: str) -> dict[str, str]:
    """Return what a process of its own has in its environment, with a cache of that name."""
    mine = {**os.environ, **stacks.emulator.environment}
    return mine | {"HDA_CACHE_DIR": str(stacks.bench.folder / cache)}


@pytest.mark.slow
def test_looking_orders_nothing_but_the_template(stacks: Any) -> None:
    """Opening, showing, choosing, planning, copying, pickling and building graphs cost nothing."""
    serve(stacks)
    choices: list[Any] = [None, {}]
    for chunks in choices:
        ds = stacks.open(chunks=chunks)
        repr(ds), ds._repr_html_(), repr(ds["sst"]), ds.nbytes, str(ds["sst"].variable)
        chosen = ds.isel(time=slice(1, 4)).sel(x=2.0).transpose()
        repr(chosen), chosen.sizes, chosen["time"].to_numpy(), chosen.hda.plan()
        copy.copy(ds), copy.deepcopy(ds), pickle.loads(pickle.dumps(ds)), tokenize(ds.chunk())
        ds.rename(sst="t").drop_vars("mask").assign_attrs(a=1).set_coords("t").reset_coords()
        mean = ds.chunk(time=1).mean("time") - ds.isel(time=0)
        assert dict(mean.__dask_graph__())
        assert dask.base.optimize(mean)  # type: ignore[no-untyped-call]
        pickle.loads(pickle.dumps(mean))
    assert stacks.ordered == [name(1)]


@pytest.mark.slow
def test_one_chunk_orders_one_product(stacks: Any) -> None:
    """What is computed is ordered, and nothing beside it."""
    serve(stacks)
    ds = stacks.open(chunks={})

    assert ds["sst"].isel(time=3, x=0).compute() == 6.0
    assert stacks.ordered == [name(1), name(4)]
    assert ds["orbit"].isel(time=[2, 2]).compute().to_numpy().tolist() == [3, 3]
    assert stacks.ordered == [name(1), name(4), name(3)]
    assert ds["sst"].isel(time=[]).compute().size == 0
    assert stacks.open()["sst"].isel(x=[]).to_numpy().size == 0
    assert len(stacks.ordered) == 3


@pytest.mark.slow
def test_a_wide_read_places_its_orders_together(stacks: Any) -> None:
    """An unchunked read does not wait for one product after another."""
    serve(stacks)
    ds = stacks.open()
    stacks.emulator.hold_orders(DAYS - 1)

    assert ds["orbit"].to_numpy().tolist() == [1, 2, 3, 4]
    assert stacks.emulator.max_in_preparation == DAYS - 1


@pytest.mark.slow
def test_the_second_opening_needs_no_order(stacks: Any) -> None:
    """Headers are kept when products are evicted; a later process needs nothing to look."""
    serve(stacks)
    first = stacks.open(chunks={})
    stacks.evict()
    stacks.forget()

    second = stacks.open(chunks={})

    assert stacks.emulator.orders == 1
    assert second["mask"].dtype == "i1"
    xr.testing.assert_identical(second.coords["time"], first.coords["time"])
    assert len(list(stacks.client.cache.entries())) == 0
    xr.testing.assert_identical(second.load(), first.load())


def test_the_template_is_the_earliest_that_costs_nothing(stacks: Any) -> None:
    """A local product is the template, or one whose header was kept, whichever is earlier."""
    serve(stacks)
    fs = HDAFileSystem(**stacks.options)
    fs.prefetch(f"hda://{stacks.dataset}/{name(4)}")

    assert stacks.open().encoding["hda_template"] == name(4)
    stacks.evict()
    assert stacks.open().encoding["hda_template"] == name(4)
    fs.prefetch(f"hda://{stacks.dataset}/{name(2)}")
    assert stacks.open().encoding["hda_template"] == name(2)
    assert stacks.ordered == [name(4), name(2)]


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, {}], ids=["in memory", "chunked"])
def test_an_evicted_product_is_fetched_again(stacks: Any, chunks: Any) -> None:
    """An open data set survives the loss of all its files."""
    serve(stacks)
    ds = stacks.open(chunks=chunks)
    wanted = ds.compute()

    for _ in range(2):
        stacks.client.cache.clear()
        xr.testing.assert_identical(ds.compute(), wanted)
    assert len(list(stacks.client.cache.entries())) == DAYS


@pytest.mark.slow
def test_a_cache_that_holds_three_products(stacks: Any) -> None:
    """What is fetched ahead does not push out what was not read yet: each is ordered once."""
    serve(stacks, *range(1, 7))
    size = (stacks.folder / name(1)).stat().st_size
    given = {"cache_max_bytes": 3 * size + size // 2}

    orbits = stacks.open(settings=given)["orbit"].to_numpy()

    assert orbits.tolist() == [1, 2, 3, 4, 5, 6]
    assert stacks.emulator.downloads == 6


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, {}], ids=["in memory", "chunked"])
def test_a_fresh_process_reads_by_itself(
    stacks: Any, monkeypatch: pytest.MonkeyPatch, chunks: Any
) -> None:
    """Unpickled elsewhere, with credentials from there and an empty cache, it fetches."""
    serve(stacks)
    for key, value in stacks.emulator.environment.items():
        monkeypatch.setenv(key, value)
    ds = xr.open_dataset(stacks.query, engine="hda", chunks=chunks, cache=False)
    path = stacks.bench.folder / "ds.pickle"
    path.write_bytes(pickle.dumps(ds))

    told = run_script(
        READ, [str(path)], folder=path.parent, environment=environment(stacks, "other")
    )

    assert json.loads(told) == [6.0] * 3
    assert stacks.ordered == [name(1), name(4)]


@pytest.mark.slow
def test_names_are_the_same_in_every_process(stacks: Any) -> None:
    """Dask knows what it has computed, whichever product was the template there."""
    serve(stacks)

    def names_here(**settings: Any) -> dict[str, str]:
        ds = stacks.open(chunks={}, settings=settings)
        return {str(each): ds[each].data.name for each in ds.data_vars}

    here = names_here()
    # A Python of its own, whose hashes have another seed.
    told = subprocess.run(
        [sys.executable, "-c", NAMES, stacks.query],
        env=environment(stacks, stacks.bench.cache_dir.name),
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(told.stdout) == here
    two = {"cache_dir": stacks.bench.folder / "two"}
    HDAFileSystem(**stacks.options | two).prefetch(f"hda://{stacks.dataset}/{name(3)}")
    assert names_here(**two) == here


@pytest.mark.slow
def test_other_products_have_other_names(stacks: Any) -> None:
    """A query that finds another product tomorrow is another array, not a part of the old one."""
    serve(stacks, 1, 2, 3)
    before = stacks.open(chunks={})
    path = stacks.folder / name(4)
    product(4).to_netcdf(path)
    new = dated_product(name(4), path)
    fields = {field.name: getattr(new, field.name) for field in dataclasses.fields(new)}
    stacks.emulator.catalogue.replace(stacks.dataset, name(1), **fields)
    stacks.client.search(Location.parse(stacks.query), refresh=True)
    after = stacks.open(chunks={})

    assert after["time"].to_numpy()[0] == np.datetime64("2024-05-02T12:00")
    for variable in ("sst", "orbit"):
        assert before[variable].data.name != after[variable].data.name
    both = xr.concat([before["sst"].isel(time=[0, 1]), after["sst"]], "time")
    assert both.isel(x=0).compute().to_numpy().tolist() == [1.5, 3.0, 3.0, 4.5, 6.0]


@pytest.mark.slow
def test_names_depend_on_options(stacks: Any) -> None:
    """Raw values are other values, and so are those that may be missing."""
    serve(stacks)
    ways: list[dict[str, Any]] = [
        {},
        {"mask_and_scale": False},
        {"on_missing": "nan"},
        {"concat_variables": ["mask"]},
    ]

    names = {stacks.open(chunks={}, **way)["sst"].data.name for way in ways}

    assert len(names) == len(ways)


@pytest.mark.slow
def test_kept_headers_do_not_use_up_the_orders(stacks: Any) -> None:
    """Four months of 31 days leave open where the others stand; one more may be ordered for it."""
    made = {}
    for month in range(1, 9):
        first, after = (np.datetime64(f"2023-{m:02}-01", "ns") for m in (month, month + 1))
        kind = "long" if after - first == np.timedelta64(31, "D") else "short"
        middle = first + (after - first) // 2
        made[f"{kind}_2023{month:02}.nc"] = product(1).assign_coords(time=[middle])
    stacks.serve(made, profile="month")
    stacks.open(f"hda://{stacks.dataset}/long_*")["orbit"].load()
    known = len(stacks.ordered)

    found = stacks.open(chunks={})

    assert known == 5
    assert len(stacks.ordered) == known + 1
    assert found["orbit"].load().size == 8
