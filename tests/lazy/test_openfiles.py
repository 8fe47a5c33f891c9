"""Files that a client has open: read again as they are, closed with it, and left to a parent."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from forking import in_a_fork, status_of

from hda_fsspec.client import close_clients, get_client, open_clients
from hda_fsspec.lazy import open_file_pool, openfiles
from hda_fsspec.lazy.open_file_pool import Pool
from hda_fsspec.lazy.openfiles import OpenFiles
from hda_fsspec.settings import Settings


def _name(day: int) -> str:
    return f"sst_2024050{day}.nc"


@pytest.fixture
def days(stacks: Any) -> Any:
    """Three daily products of two variables."""
    made = {
        _name(day): xr.Dataset(
            {"sst": ("lon", [10.0 * day, 10.0 * day + 1]), "mask": ("lon", [0.0, 2.0])}
        )
        for day in (1, 2, 3)
    }
    stacks.serve(made)
    return stacks


def _open(days: Any, day: int = 2, **given: Any) -> xr.Dataset:
    found: xr.Dataset = days.open(f"{days.query[:-1]}{_name(day)}", **given)
    return found


def _files_open(days: Any) -> list[str]:
    """Return the names of the products that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the folder itself
            target = link.readlink()
            if days.bench.cache_dir in target.parents and ".nc" in target.name:
                found.append(target.name.removesuffix(" (deleted)"))
    return sorted(found)


def test_every_read_is_told_to_whoever_fetches_ahead(
    days: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each read of a product counts, however short the way to it is."""
    told: list[str] = []
    mark_read = openfiles.mark_read

    def tell(source: Any, number: int) -> None:
        told.append(source.pieces[number].product_id)
        mark_read(source, number)

    monkeypatch.setattr(openfiles, "mark_read", tell)
    found = _open(days)

    for _ in range(4):
        assert found["sst"].to_numpy().tolist() == [20.0, 21.0]
    assert told == [_name(2)] * 4


def test_a_node_is_read_again_as_itself(stacks: Any) -> None:
    """Where nodes of a product have variables of one name, each keeps its own values."""
    tree = xr.DataTree.from_dict(
        {"/": xr.Dataset({"v": ("x", [1.0, 2.0])}), "/fine": xr.Dataset({"v": ("y", [3.0, 4.0])})}
    )
    path = stacks.folder / _name(1)
    tree.to_netcdf(path)
    stacks.serve({path.name: path})

    found = xr.open_datatree(
        f"{stacks.query[:-1]}{path.name}", engine="hda", storage_options=stacks.options, cache=False
    )

    for _ in range(3):
        assert found["v"].to_numpy().tolist() == [1.0, 2.0]
        assert found["fine"]["v"].to_numpy().tolist() == [3.0, 4.0]


@pytest.mark.slow
def test_few_products_stay_open(days: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many products are read, the number of open files does not grow."""
    monkeypatch.setattr(open_file_pool, "MOST_OPEN", 2)

    for day in (1, 2, 3, 1, 2, 3):
        assert _open(days, day)["sst"].to_numpy().tolist() == [10.0 * day, 10.0 * day + 1]
        assert 1 <= len(_files_open(days)) <= 2


@pytest.mark.parametrize("is_open", [True, False], ids=["again", "anew"])
def test_a_part_is_a_part(days: Any, is_open: bool) -> None:
    """Every other value of all, and all in another order, are not all as they lie."""
    found = _open(days)["sst"]

    def part(**selection: Any) -> list[float]:
        if not is_open:
            days.client.resources.close()
        values: list[float] = found.isel(**selection).to_numpy().tolist()
        return values

    for step in (2, 3):
        assert part(lon=slice(None, None, step)) == [20.0]
    assert part(lon=slice(None, None, -1)) == [21.0, 20.0]
    assert part(lon=[1, 0]) == [21.0, 20.0]
    for whole in (slice(0, 2), slice(-2, None), slice(0, 9)):
        assert part(lon=whole) == [20.0, 21.0]


def test_what_was_guarded_may_be_evicted_once_read(
    days: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evicted before it was opened, it is kept until it was; a small cache has room again then."""
    found = _open(days)
    days.client.resources.close()
    get = Pool.get
    evicted: list[int] = []

    def evict_first(pool: Any, key: Any, mark: Any, open_it: Any) -> Any:
        if not evicted:
            (entry,) = days.client.cache.entries()
            evicted.append(days.client.cache.remove(entry.key))
        else:
            (entry,) = days.client.cache.entries()
            assert entry.used_at > time.time() + 60
        return get(pool, key, mark, open_it)

    monkeypatch.setattr(Pool, "get", evict_first)
    assert found["sst"].to_numpy().tolist() == [20.0, 21.0]

    assert len(evicted) == 1
    (entry,) = days.client.cache.entries()
    assert entry.used_at <= time.time() + 60


@pytest.mark.slow
@pytest.mark.parametrize("way", ["all clients", "its client"])
def test_files_close_with_their_client(days: Any, way: str) -> None:
    """Nothing stays open; data sets that are open go on with the client that follows."""
    single, stack = _open(days), days.open(f"{days.query[:-1]}{_name(1)[:-4]}*", concat_dim="n")
    single["sst"].to_numpy()
    stack["sst"].to_numpy()
    before = days.client
    assert set(_files_open(days)) == {_name(1), _name(2), _name(3)}
    orders = days.emulator.orders

    close_clients() if way == "all clients" else before.close()

    assert _files_open(days) == []
    assert single["sst"].to_numpy().tolist() == [20.0, 21.0]
    assert days.client is not before
    assert (before.is_closed, days.client.is_closed) == (True, False)
    assert days.emulator.orders == orders


def test_one_close_leaves_the_files_of_another_client(days: Any) -> None:
    """What is open belongs to the settings that it was opened with."""
    mine, other = _open(days, 1), _open(days, 2, settings={"timeout": 50})
    assert mine["sst"].to_numpy().tolist() == [10.0, 11.0]
    assert other["sst"].to_numpy().tolist() == [20.0, 21.0]
    assert _files_open(days) == [_name(1), _name(2)]

    days.client.close()

    assert _files_open(days) == [_name(2)]


def test_a_file_that_was_evicted_is_closed_whoever_has_it_open(
    days: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted, but open, it would take room on the disk until its own client reads again."""
    monkeypatch.setattr(openfiles, "_LOOK_SECONDS", 0.0)
    idle, busy = _open(days, 1, settings={"timeout": 50}), _open(days, 2)
    assert idle["sst"].to_numpy().tolist() == [10.0, 11.0]
    (entry,) = (e for e in days.client.cache.entries() if e.product.product_id == _name(1))
    days.client.cache.remove(entry.key)
    assert _name(1) in _files_open(days)

    assert busy["sst"].to_numpy().tolist() == [20.0, 21.0]

    assert _files_open(days) == [_name(2)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_child_begins_with_nothing_open(days: Any) -> None:
    """A handle of a format library is not used, or closed, on both sides of a fork."""
    found = _open(days)
    assert found["sst"].to_numpy().tolist() == [20.0, 21.0]
    parent, settings = days.client, Settings.resolve(**days.options)
    files = parent.resources.find(OpenFiles)
    closed: list[int] = []
    files.close_when_unused(found, lambda: closed.append(os.getpid()))

    def work() -> bool:
        is_empty = open_clients() == []
        client = get_client(settings)
        is_new = client is not parent and client.resources.find(OpenFiles) is None
        is_read = found["sst"].to_numpy().tolist() == [20.0, 21.0]
        return is_empty and is_new and is_read and not closed

    assert status_of(in_a_fork(work)) == 0
    assert days.client is parent
    assert _files_open(days) == [_name(2)]
    assert closed == []
