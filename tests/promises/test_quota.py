"""A used-up quota is waited for, or told, and bounded either way."""

from __future__ import annotations

import functools
import logging
import os
import time
import types
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec import client
from hda_fsspec.emulator import Fault
from hda_fsspec.errors import QuotaError
from hda_fsspec.fetching import progress

_WINDOW_SECONDS = 0.8


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hda_fsspec.fetching.quota._UNTOLD_SECONDS", 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["s", "ms"])
@pytest.mark.parametrize("nested", [True, False])
def test_a_used_up_quota_is_raised(unit: str, nested: bool, bench: Any) -> None:
    """With on_quota="raise" the error says when an order is possible again."""
    emulator = bench.start(
        days=4, quota=2, quota_window_seconds=60, quota_reset_unit=unit, quota_nested=nested
    )
    fs = bench.filesystem(emulator, on_quota="raise")

    began = time.time()
    with pytest.raises(QuotaError, match="on_quota is 'raise'") as caught:
        fs.prefetch(bench.query)

    assert caught.value.reset_at is not None
    assert began + 55 < caught.value.reset_at < time.time() + 65
    assert emulator.orders == 2
    assert emulator.downloads == 2


@pytest.mark.slow
def test_one_refusal_holds_back_all(bench: Any) -> None:
    """After a refusal no more orders are tried until the quota is back."""
    emulator = bench.start(days=30, quota=1, quota_window_seconds=60)
    fs = bench.filesystem(emulator, on_quota="raise", max_connections=2)

    with pytest.raises(QuotaError):
        fs.prefetch(bench.query)
    with pytest.raises(QuotaError):
        fs.prefetch(bench.query)

    assert emulator.orders == 1
    assert emulator.order_posts <= 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"quota_reset_unit": "ms"},
        {"quota_reset_unit": "s"},
        {"quota_nested": True},
        {"quota_headers": False},
        {"quota_headers": False, "quota_nested": True},
    ],
    ids=str,
)
def test_a_used_up_quota_is_waited_for(
    options: dict[str, Any], bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """With on_quota="wait" all products come, as the quota allows; the log says until when."""
    emulator = bench.start(days=4, quota=2, quota_window_seconds=_WINDOW_SECONDS, **options)
    began = time.monotonic()

    with caplog.at_level(logging.WARNING, "hda_fsspec"):
        bench.filesystem(emulator).prefetch(bench.query)

    assert time.monotonic() - began >= _WINDOW_SECONDS * 0.9
    assert (emulator.orders, emulator.downloads) == (4, 4)
    told = [record.getMessage() for record in caplog.records if "quota" in record.getMessage()]
    assert len(told) == 1
    assert "until 20" in told[0]
    assert "products left: " in told[0]


@pytest.mark.slow
def test_what_was_ordered_before_does_not_wait(bench: Any) -> None:
    """Products that are ordered already open while others wait for the quota."""
    emulator = bench.start(days=3, quota=2, quota_window_seconds=60)
    fs = bench.filesystem(emulator, max_wait=50)
    with pytest.raises(QuotaError, match="max_wait"):
        fs.prefetch(bench.query)
    local = [entry.product.product_id for entry in fs._client.cache.entries()]
    fs._client.cache.clear()

    assert len(local) == 2
    for product_id in local:
        assert len(fs.cat(f"{bench.query}/{product_id}")) == len(bench.body(1))
    assert (emulator.orders, emulator.downloads) == (2, 4)


def test_a_wait_beyond_max_wait_is_refused_at_once(bench: Any) -> None:
    """Where the quota comes back later than `max_wait` nobody waits for it in vain."""
    emulator = bench.start(days=2, quota=1, quota_window_seconds=3600)
    began = time.monotonic()

    with pytest.raises(QuotaError, match="max_wait") as caught:
        bench.filesystem(emulator, max_wait=600).prefetch(bench.query)

    assert time.monotonic() - began < 60
    assert caught.value.reset_at == pytest.approx(time.time() + 3600, abs=70)


@pytest.mark.slow
def test_a_scripted_refusal(bench: Any) -> None:
    """A refusal of one order delays it, and is not told."""
    emulator = bench.start(days=1)
    emulator.fault(Fault("quota", seconds=0.2))

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)
    assert emulator.count("POST", "dataaccess/download") == 2


@pytest.mark.slow
def test_a_repeated_order_is_no_new_one(bench: Any) -> None:
    """With the quota used up, what the service has forgotten is ordered again: it was paid for."""
    emulator = bench.start(days=3, quota=2, quota_window_seconds=60)
    fs = bench.filesystem(emulator, on_quota="raise")
    fs.prefetch([bench.path(1), bench.path(2)])
    fs._client.cache.clear()
    emulator.forget_orders()

    orders = bench.cache_dir / "v1" / "orders"
    two_hours_ago = time.time() - 7200
    for order in (path for path in orders.rglob("*") if path.is_file()):
        os.utime(order, (two_hours_ago, two_hours_ago))

    assert fs.cat(bench.path(1)) == bench.body(1)
    # Whichever of them is the one that was repeated: none counts for the present hour.
    times = [path.stat().st_mtime for path in orders.rglob("*") if path.is_file()]
    assert times == pytest.approx([two_hours_ago] * 2)
    with pytest.raises(QuotaError):
        fs.cat(bench.path(3))
    assert emulator.orders == 2


def test_a_repeated_order_opens_no_closed_quota(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal without a time holds back new orders also after an old one was repeated."""
    monkeypatch.setattr("hda_fsspec.fetching.quota._UNTOLD_SECONDS", 60.0)
    emulator = bench.start(days=3, quota=1, quota_window_seconds=60, quota_headers=False)
    fs = bench.filesystem(emulator, on_quota="raise")
    fs.cat(bench.path(1))
    with pytest.raises(QuotaError):
        fs.cat(bench.path(2))
    fs._client.cache.clear()
    emulator.forget_orders()
    fs.cat(bench.path(1))
    posts = emulator.order_posts

    with pytest.raises(QuotaError):
        fs.cat(bench.path(3))

    assert emulator.order_posts == posts


@pytest.mark.slow
def test_the_last_order_of_the_quota_is_used(bench: Any) -> None:
    """Exactly as many orders go out as the quota allows, and none is sent in vain."""
    emulator = bench.start(days=12, quota=10, quota_window_seconds=60)

    with pytest.raises(QuotaError):
        bench.filesystem(emulator, on_quota="raise").prefetch(bench.query)

    assert (emulator.orders, emulator.order_posts) == (10, 10)


@pytest.mark.slow
def test_processes_share_the_quota(bench: Any, processes: Any) -> None:
    """Six processes with 60 products and a quota of 20 order just 20 between them."""
    emulator = bench.start_many(60, quota=20, quota_window_seconds=600)
    settings = bench.settings(emulator, on_quota="raise")
    paths = [f"hda://{path}" for path in bench.filesystem(emulator).ls(bench.query, detail=False)]

    for number in range(6):
        processes.start(settings, paths[number * 10 : number * 10 + 10])
    outcomes = processes.outcomes()

    errors = [text for got in outcomes for text in got.values() if "QuotaError" in text]
    assert errors
    assert emulator.orders == 20
    # The service would refuse what is too much; it need not.
    assert emulator.order_posts <= 20 + 2


@pytest.mark.slow
def test_more_products_than_the_quota(bench: Any) -> None:
    """Several times as many products as the quota allows come one window after another."""
    emulator = bench.start_many(21, quota=6, quota_window_seconds=0.6)

    assert len(bench.filesystem(emulator).prefetch(bench.query)) == 21

    assert (emulator.orders, emulator.downloads) == (21, 21)
    assert emulator.order_posts <= 21 + 6


@pytest.mark.slow
def test_a_quota_that_is_used_elsewhere(bench: Any) -> None:
    """What others order under the same account is seen in the headers of any answer."""
    emulator = bench.start(days=5, quota=4, quota_window_seconds=60)
    mine = bench.filesystem(emulator, on_quota="raise")
    other = bench.filesystem(emulator, cache_dir=bench.folder / "other")
    mine.cat(bench.path(1))
    assert mine._client.quota().left == 3

    other.prefetch([bench.path(2), bench.path(3)])
    mine.ls(bench.query, refresh=True)

    assert mine._client.quota().left == 1


@pytest.mark.slow
def test_a_queue_that_moves_is_waited_for(bench: Any) -> None:
    """`max_wait` bounds the time without any order, not that of a long queue as a whole."""
    emulator = bench.start_many(12, quota=3, quota_window_seconds=1)

    fs = bench.filesystem(emulator, max_wait=2.5)

    assert len(fs.prefetch(bench.query)) == 12


@pytest.mark.slow
def test_who_waits_is_told_until_when(stacks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While orders wait for quota whoever looks is told so, and the plan what is left."""
    shown: list[str | None] = []
    screen = types.SimpleNamespace(show=shown.append)
    monkeypatch.setattr(progress, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_LOOK_EVERY_SECONDS", 0.02)
    watched = functools.partial(progress.Reporter, screen=screen, looks=lambda: True)
    monkeypatch.setattr(client, "Reporter", watched)
    made = {
        f"sst_2024010{day}.nc": xr.Dataset(
            {"sst": (("time", "x"), [[day, day]])},
            coords={"time": [np.datetime64(f"2024-01-0{day}", "ns")]},
        )
        for day in range(1, 6)
    }
    stacks.serve(made, quota=3, quota_window_seconds=2.5)
    dataset = stacks.open(chunks={})
    plan = dataset.hda.plan()
    assert (plan.quota_limit, plan.quota_left, plan.orders_needed) == (3, 2, 4)
    assert plan.seconds_at_quota == 3600

    dataset.hda.prefetch()

    assert "quota used up until" in " ".join(filter(None, shown))
    assert shown[-1] is None
    assert dataset.hda.plan().orders_needed == 0
