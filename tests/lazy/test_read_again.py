"""What was read a moment ago is read again the short way: not looked up, and nothing kept open."""

from __future__ import annotations

import time
import types
from typing import Any

import pytest
import xarray as xr
from forking import in_a_fork, status_of

from hda_fsspec.lazy import closing, openfiles
from hda_fsspec.lazy.pool import Pool


def _name(day: int) -> str:
    return f"sst_2024050{day}.nc"


@pytest.fixture
def days(stacks: Any) -> Any:
    """Three daily products of two variables."""
    openfiles.clear_pool()
    made = {
        _name(day): xr.Dataset(
            {"sst": ("lon", [10.0 * day, 10.0 * day + 1]), "mask": ("lon", [0.0, 2.0])}
        )
        for day in (1, 2, 3)
    }
    stacks.serve(made)
    return stacks


def _open(days: Any, day: int = 2) -> xr.Dataset:
    found: xr.Dataset = days.open(f"{days.query[:-1]}{_name(day)}")
    return found


def test_nothing_holds_an_evicted_file_open(days: Any) -> None:
    """What was read a moment ago is looked up again by a reference that keeps nothing alive."""
    found = _open(days)
    found["sst"].load()
    (recent,) = openfiles._recent.values()
    assert recent.tree() is not None

    openfiles._pool.clear()

    assert recent.tree() is None


def test_the_short_way_to_read(days: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a moment a product is not looked up again; every read is told all the same."""
    now, looked_up, told = [0.0], [], []
    make_local, mark_read = openfiles.make_local, openfiles.mark_read

    def count(source: Any, number: int) -> Any:
        looked_up.append(number)
        return make_local(source, number)

    def tell(source: Any, number: int) -> None:
        told.append(source.pieces[number].product_id)
        mark_read(source, number)

    monkeypatch.setattr(openfiles, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(openfiles, "make_local", count)
    monkeypatch.setattr(openfiles, "mark_read", tell)
    found = _open(days)
    before = len(looked_up)

    for moment, times in ((0.4, 0), (0.6, 1), (0.9, 1), (1.2, 2)):
        now[0] = moment
        assert found["sst"].to_numpy().tolist() == [20.0, 21.0]
        assert len(looked_up) - before == times
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


def test_few_products_are_remembered(days: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many products are opened, what is kept of them does not grow."""
    monkeypatch.setattr(openfiles, "_OPEN_DATASETS", 2)

    for day in (1, 2, 3, 1, 2, 3):
        assert _open(days, day)["sst"].to_numpy().tolist() == [10.0 * day, 10.0 * day + 1]
        assert 1 <= len(openfiles._recent) <= 2


@pytest.mark.parametrize("seconds", [60.0, 0.0], ids=["again", "anew"])
def test_a_part_is_a_part(days: Any, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Every other value of all, and all in another order, are not all as they lie."""
    monkeypatch.setattr(openfiles, "_MOMENT_SECONDS", seconds)
    found = _open(days)["sst"]

    for step in (2, 3):
        assert found.isel(lon=slice(None, None, step)).to_numpy().tolist() == [20.0]
    assert found.isel(lon=slice(None, None, -1)).to_numpy().tolist() == [21.0, 20.0]
    assert found.isel(lon=[1, 0]).to_numpy().tolist() == [21.0, 20.0]
    for whole in (slice(0, 2), slice(-2, None), slice(0, 9)):
        assert found.isel(lon=whole).to_numpy().tolist() == [20.0, 21.0]


def test_what_was_guarded_may_be_evicted_once_read(
    days: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evicted before it was opened, it is kept until it was; a small cache has room again then."""
    found = _open(days)
    openfiles.clear_pool()
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


def test_a_child_begins_with_nothing_open(days: Any) -> None:
    """A handle of a format library is not used, or closed, on both sides of a fork."""
    assert _open(days)["sst"].to_numpy().tolist() == [20.0, 21.0]
    closed: list[str] = []
    closing._to_close.append(lambda: closed.append("a handle of the parent"))

    def work() -> bool:
        kept = (
            openfiles._pool._open,
            openfiles._singles._open,
            openfiles._recent,
            closing._to_close,
        )
        return not any(kept)

    assert status_of(in_a_fork(work)) == 0
    assert openfiles._recent
    openfiles.clear_pool()
    assert closed
