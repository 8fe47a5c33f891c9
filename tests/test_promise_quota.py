"""A used-up quota is waited for, or told, and bounded either way."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from hda_fsspec.emulator import Fault
from hda_fsspec.errors import QuotaError
from hda_fsspec.quota import Quota

_WINDOW_SECONDS = 0.8


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hda_fsspec.quota._UNTOLD_SECONDS", 0.3)


@pytest.mark.parametrize("unit", ["s", "ms"])
@pytest.mark.parametrize("nested", [True, False])
def test_a_used_up_quota_is_raised(unit: str, nested: bool, bench: Any) -> None:
    """With on_quota="raise" the error says when an order is possible again."""
    emulator = bench.start(
        days=4, quota=2, quota_window_seconds=60, quota_reset_unit=unit, quota_nested=nested
    )
    fs = bench.filesystem(emulator, on_quota="raise")

    with pytest.raises(QuotaError, match="on_quota is 'raise'") as caught:
        fs.prefetch(bench.query)

    assert caught.value.reset_at == pytest.approx(time.time() + 60, abs=5)
    assert emulator.orders == 2
    assert emulator.downloads == 2


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


def test_what_was_ordered_before_does_not_wait(bench: Any) -> None:
    """Products that are ordered already open while others wait for the quota."""
    emulator = bench.start(days=3, quota=2, quota_window_seconds=60)
    fs = bench.filesystem(emulator, max_wait=50)
    with pytest.raises(QuotaError, match="max_wait"):
        fs.prefetch(bench.query)
    local = [entry.product.product_id for entry in fs._products.cache.entries()]
    fs._products.cache.clear()

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

    assert time.monotonic() - began < 5
    assert caught.value.reset_at == pytest.approx(time.time() + 3600, abs=10)


def test_a_scripted_refusal(bench: Any) -> None:
    """A refusal of one order delays it, and is not told."""
    emulator = bench.start(days=1)
    emulator.fault(Fault("quota", seconds=0.2))

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)
    assert emulator.count("POST", "dataaccess/download") == 2


class Clock:
    """A clock that stands still."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_until_when() -> None:
    """The quota is closed until the time that was told, for all who ask."""
    clock = Clock()
    quota = Quota(clock=clock, jitter=lambda: 0.0)
    assert quota.seconds_left() == 0

    quota.refused(clock.now + 100)
    quota.refused(clock.now + 50)

    assert quota.seconds_left() == 100
    clock.now += 101
    assert quota.seconds_left() == 0


@pytest.mark.parametrize("reset_at", [None, 0.0, 1_600_000_000.0])
def test_untold_waits_grow(reset_at: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no time is told, or one that is over, waits double up to a bound; success resets."""
    monkeypatch.setattr("hda_fsspec.quota._UNTOLD_SECONDS", 5.0)
    clock = Clock()
    quota = Quota(clock=clock, jitter=lambda: 0.0)
    waits = []
    for _ in range(9):
        quota.refused(reset_at)
        waits.append(quota.seconds_left())
        clock.now += waits[-1] + 1

    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    quota.granted()
    quota.refused(reset_at)
    assert quota.seconds_left() == 5


def test_refusals_at_one_time_count_once() -> None:
    """Several orders that were refused at one time do not let the wait grow several times."""
    clock = Clock()
    quota = Quota(clock=clock, jitter=lambda: 0.0)

    for _ in range(8):
        quota.refused(None)

    assert quota.seconds_left() <= 0.6
