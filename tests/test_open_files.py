"""What was evicted does not stay open: a file that is deleted, but open, still fills the disk."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec.lazy import opened
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


@pytest.fixture
def small(stacks: Any) -> Any:
    """Twelve products, and a cache that has room for three."""
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
        assert len([name for name in _open_files(small) if name.endswith("(deleted)")]) <= 1

    assert 1 <= len(_open_files(small)) <= 4


def test_what_is_dropped_while_another_is_read_is_closed(small: Any) -> None:
    """It cannot be closed in that moment, and is so when the next product was read."""
    found = [small.open(f"{small.query[:-1]}{_name(day)}") for day in (1, 2)]
    for each in found:
        each["sst"].load()
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
    is_over.set()
    reader.join(20)

    small.open(f"{small.query[:-1]}{_name(3)}")

    assert [Path(name).name for name in _open_files(small)] == [_name(3)]
