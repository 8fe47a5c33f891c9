"""Clocks that are wrong, or jump: nothing expires into an error, and nothing waits for years."""

from __future__ import annotations

import json
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from clocks import Clock
from ready_processes import run_script
from rows import for_each

from hda_fsspec.cache.cache import Cache, Entry
from hda_fsspec.cache.orders import OrderBook
from hda_fsspec.fetching.quota import Quota
from hda_fsspec.network.responses import quota_state, retry_after
from hda_fsspec.records import Product

YEARS = 365 * 86_400.0


@pytest.fixture
def clock() -> Clock:
    """Return the clock of a test."""
    return Clock()


@pytest.fixture
def quota(tmp_path: Path, clock: Clock) -> Callable[[], Quota]:
    """Return what makes the quota as each process on one folder has it."""
    return lambda: Quota(
        OrderBook(tmp_path / "cache", "me", clock=clock), clock=clock, jitter=lambda: 0.0
    )


def put(cache: Cache, name: str) -> Entry:
    """Publish a product of ten bytes."""
    with cache.stage(product(name)) as staging:
        with staging.open() as handle:
            handle.write(bytes(10))
        return staging.publish(name)


def product(name: str) -> Product:
    """Return a product."""
    return Product("EO:TEST:DAT", name)


_JUMPS_ABOUT = """
import json, sys, time

real, offset = time.time, [0.0]
time.time = lambda: real() + offset[0]

from hda_fsspec import HDAFileSystem

given = json.loads(sys.argv[1])
fs = HDAFileSystem(**given["settings"], max_wait=50)
got = []
for number, jump in enumerate(given["jumps"]):
    offset[0] = jump
    began = time.monotonic()
    new, old = given["paths"][number], given["paths"][0]
    listed = len(fs.ls(given["query"], detail=False))
    bodies = [fs.cat(path).hex() for path in (new, old)]
    got.append([listed, *bodies, time.monotonic() - began])
print(json.dumps(got))
"""


@pytest.mark.slow
def test_a_job_goes_on_while_the_clock_jumps(bench: Any, tmp_path: Path) -> None:
    """By years and hours, to and fro: products are listed, ordered within the quota, and opened."""
    jumps = [0.0, 10 * YEARS, -20 * YEARS, 0.0, -5400.0, 86_400.0, 0.0]
    emulator = bench.start(days=len(jumps), quota=2, quota_window_seconds=0.4)
    job = {
        "settings": bench.settings(emulator),
        "jumps": jumps,
        "paths": [bench.path(day) for day in range(1, len(jumps) + 1)],
        "query": bench.query,
    }

    told = run_script(_JUMPS_ABOUT, [json.dumps(job, default=str)], folder=tmp_path)

    for day, (listed, new, old, seconds) in enumerate(json.loads(told.splitlines()[-1]), start=1):
        assert listed == len(jumps)
        assert (new, old) == (bench.body(day).hex(), bench.body(1).hex())
        assert seconds < 20  # no wait was reckoned by the clock that jumps
    assert emulator.orders == len(jumps)
    assert emulator.downloads == len(jumps)


@for_each("skew", [-10 * YEARS, -3600.0, 3600.0, 10 * YEARS])
def test_the_reset_is_told_by_the_clock_that_will_be_asked(skew: float) -> None:
    """Where a machine's clock is off, the service's own time tells how far ahead a reset is."""
    theirs = 1_700_000_000.0
    now = theirs + skew
    headers = {
        "Date": formatdate(theirs, usegmt=True),
        "X-Quota-Reset": str(int((theirs + 100) * 1000)),
        "Retry-After": formatdate(theirs + 30, usegmt=True),
    }

    assert quota_state(headers, now).reset_at == pytest.approx(now + 100)
    assert retry_after(headers, now) == pytest.approx(30)


def test_a_clock_that_is_right_is_believed() -> None:
    """Seconds on the way of an answer, or a service without a clock, move no reset."""
    reset = {"X-Quota-Reset": "1700000100"}
    late = {"Date": formatdate(1_700_000_000, usegmt=True)}

    assert quota_state(reset | late, 1_700_000_030.0).reset_at == 1_700_000_100.0
    assert quota_state(reset, 1_600_000_000.0).reset_at == 1_700_000_100.0
    assert quota_state(reset | {"Date": "yesterday"}, 1.0).reset_at == 1_700_000_100.0


@pytest.mark.parametrize("is_told", [True, False])
def test_what_a_wrong_clock_noted_of_the_quota_is_forgotten(
    is_told: bool, quota: Callable[[], Quota], clock: Clock
) -> None:
    """A refusal, or a quota of zero, from a time that is yet to come closes nothing."""
    ours, theirs = quota(), quota()
    clock.now += 10 * YEARS
    if is_told:
        headers = {"X-Quota-Remaining": "0", "X-Quota-Reset": str(int(clock.now + 60))}
        theirs.on_response(headers, clock.now)
    else:
        theirs.refused(product("a"), clock.now + 60)
    assert ours.reserve(product("b")) is not None
    clock.now -= 10 * YEARS

    assert ours.reserve(product("b")) is None
    assert theirs.reserve(product("c")) is None
    assert quota().reserve(product("d")) is None


def test_an_order_of_the_future_holds_nobody_up(quota: Callable[[], Quota], clock: Clock) -> None:
    """What a killed process with a wrong clock had asked for is no order that is under way."""
    clock.now += 10 * YEARS
    assert quota().reserve(product("a")) is None
    clock.now -= 10 * YEARS
    ours = quota()
    headers = {"X-Quota-Remaining": "1", "X-Quota-Reset": str(int(clock.now + 60))}
    ours.on_response(headers, clock.now)

    assert ours.reserve(product("b")) is None


def test_a_use_in_the_far_future_protects_nothing(tmp_path: Path, clock: Clock) -> None:
    """What was used or protected while the clock was years ahead can be evicted afterwards."""
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    clock.now += 10 * YEARS
    put(cache, "a")
    cache.protect(put(cache, "b"))
    clock.now -= 10 * YEARS
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)

    put(cache, "c")
    put(cache, "d")

    assert {entry.product.product_id for entry in cache.entries()} == {"c", "d"}


def test_a_protection_lasts_a_day_at_most(tmp_path: Path, clock: Clock) -> None:
    """Whoever protects for longer protects for a day: nobody can block a cache for ever."""
    cache = Cache(tmp_path / "cache", max_bytes=10, clock=clock)
    cache.protect(put(cache, "a"), seconds=10 * YEARS)

    assert cache.evict(10) == []
    clock.now += 86_401
    assert [entry.product.product_id for entry in cache.evict(10)] == ["a"]
