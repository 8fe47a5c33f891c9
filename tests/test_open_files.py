"""What was evicted does not stay open: a file that is deleted, but open, still fills the disk."""

from __future__ import annotations

import os
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec.lazy import opened, pools
from hda_fsspec.reading.filelocks import HDF5_GUARD

DAYS = 12
_DESCRIPTORS = Path("/proc/self/fd")

pytestmark = pytest.mark.skipif(not _DESCRIPTORS.is_dir(), reason="nothing tells what is open")


def _name(day: int) -> str:
    return f"sst_202405{day:02}.nc"


def _open_files(stacks: Any) -> list[str]:
    """Return the files of products that this process has open."""
    found = [os.fspath(each.readlink()) for each in _DESCRIPTORS.iterdir() if each.is_symlink()]
    return [name for name in found if str(stacks.bench.cache_dir) in name and ".nc" in name]


def _deleted(stacks: Any) -> list[str]:
    return [name for name in _open_files(stacks) if name.endswith("(deleted)")]


@pytest.fixture
def small(stacks: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Twelve products, and a cache that has room for three; open files are always looked at."""
    monkeypatch.setattr(pools, "_LOOK_SECONDS", 0.0)
    opened.clear_pool()
    made = {
        _name(day): xr.Dataset(
            {"sst": (("time", "x"), np.full((1, 5000), float(day)))},
            {"time": [np.datetime64(f"2024-05-{day:02}", "ns")]},
        )
        for day in range(1, DAYS + 1)
    }
    paths = stacks.serve(made)
    stacks.options["cache_max_bytes"] = 3 * paths[0].stat().st_size + 20_000
    return stacks


@pytest.mark.parametrize("way", ["one by one", "stack", "headers known"])
def test_evicted_files_are_closed(small: Any, way: str) -> None:
    """Reading many products in a small cache leaves open no more than are in the cache."""
    if way == "headers known":
        small.open().load()
        small.forget()
    stack = small.open() if way != "one by one" else None

    for day in range(1, DAYS + 1):
        if stack is None:
            values = small.open(f"{small.query[:-1]}{_name(day)}")["sst"].to_numpy()
        else:
            values = stack["sst"].isel(time=day - 1).to_numpy()
        assert (values == day).all()
        assert len(_deleted(small)) <= 1

    assert 1 <= len(_open_files(small)) <= 4


def test_files_that_were_opened_in_another_way_are_closed_too(small: Any) -> None:
    """Those that a stack had open are closed when single products are opened in their place."""
    small.open().load()
    small.forget()
    small.open()["sst"].isel(time=slice(9, 12)).load()
    assert opened._singles._open

    for day in (1, 2, 3):
        small.open(f"{small.query[:-1]}{_name(day)}")["sst"].load()
        assert len(_deleted(small)) <= 1

    assert not opened._singles._open


def test_what_another_process_evicts_is_closed_in_time(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where this one opens nothing any more: all open files are looked at now and then."""
    now = [0.0]
    monkeypatch.setattr(pools, "_LOOK_SECONDS", 0.5)
    for pool in (opened._pool, opened._singles):
        monkeypatch.setattr(pool, "_looked_at", 0.0)
    monkeypatch.setattr(opened, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    found = {day: small.open(f"{small.query[:-1]}{_name(day)}", cache=False) for day in (1, 2, 3)}
    for entry in list(small.products.cache.entries()):
        if entry.product.product_id != _name(3):
            small.products.cache.remove(entry.key)

    for moment, count in ((0.4, 2), (0.6, 0)):
        now[0] = moment
        opened._recent.clear()
        assert (found[3]["sst"].to_numpy() == 3).all()
        assert len(_deleted(small)) == count


@pytest.mark.parametrize("way", ["products", "a stack of known headers"])
def test_what_is_dropped_while_another_is_read_is_closed(small: Any, way: str) -> None:
    """It cannot be closed in that moment, and is so when the next product was read."""
    if way == "products":
        for day in (1, 2):
            small.open(f"{small.query[:-1]}{_name(day)}")["sst"].load()
    else:
        small.open().load()
        small.forget()
        small.open()["sst"].isel(time=slice(10, 12)).load()
        assert not opened._pool._open
    assert len(_open_files(small)) == 2
    is_held, is_over = threading.Event(), threading.Event()

    def read_for_long() -> None:
        with HDF5_GUARD:
            is_held.set()
            is_over.wait(20)

    reader = threading.Thread(target=read_for_long)
    reader.start()
    is_held.wait(20)
    opened._pool.clear()
    opened._singles.clear()
    is_over.set()
    reader.join(20)

    small.open(f"{small.query[:-1]}{_name(3)}")

    assert [Path(name).name for name in _open_files(small)] == [_name(3)]


def test_what_was_opened_meanwhile_is_kept() -> None:
    """While a pool looks at a file, another thread may have opened the one that replaced it."""
    marks = {"old": (1.0, 1, 1, "xarray"), "new": (2.0, 1, 1, "xarray")}
    pool: pools.Pool[str, str]

    def open_the_other(key: str, _: Any) -> bool:
        pool.get(key, marks["new"], lambda: "new")
        return False

    pool = pools.Pool(4, open_the_other)
    pool.get("a file", marks["old"], lambda: "old")

    pool.drop_stale(0.0)

    assert pool.has("a file", marks["new"])
