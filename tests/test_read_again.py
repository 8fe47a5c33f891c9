"""What was read a moment ago is read again the short way: not looked up, and nothing kept open."""

from __future__ import annotations

import types
from typing import Any

import pytest
import xarray as xr

from hda_fsspec.lazy import opened


def _name(day: int) -> str:
    return f"sst_2024050{day}.nc"


@pytest.fixture
def days(stacks: Any) -> Any:
    """Three daily products of two variables."""
    opened.clear_pool()
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
    (recent,) = opened._recent.values()
    assert recent.tree() is not None

    opened._pool.clear()

    assert recent.tree() is None


def test_the_short_way_to_read(days: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a moment a product is not looked up again; every read is told all the same."""
    now, looked_up, told = [0.0], [], []
    make_local, note_read = opened.make_local, opened.note_read

    def count(source: Any, number: int) -> Any:
        looked_up.append(number)
        return make_local(source, number)

    def tell(source: Any, number: int) -> None:
        told.append(source.pieces[number].product_id)
        note_read(source, number)

    monkeypatch.setattr(opened, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(opened, "make_local", count)
    monkeypatch.setattr(opened, "note_read", tell)
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
    monkeypatch.setattr(opened, "_OPEN_DATASETS", 2)

    for day in (1, 2, 3, 1, 2, 3):
        assert _open(days, day)["sst"].to_numpy().tolist() == [10.0 * day, 10.0 * day + 1]
        assert 1 <= len(opened._recent) <= 2
