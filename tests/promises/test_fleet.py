"""A fleet of processes on one cache: one order and one download each, and a bounded traffic."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import pytest

from hda_fsspec.cache.cache import Cache
from hda_fsspec.emulator import Emulator, Fault


def fleet(
    processes: Any,
    settings: dict[str, Any],
    paths: list[str],
    *,
    count: int,
    threads: int,
    **more: Any,
) -> list[dict[str, str]]:
    """Let processes fetch all paths in each of their threads; return what each process got."""
    for _ in range(count):
        processes.start(settings, paths, threads=threads, **more)
    outcomes: list[dict[str, str]] = processes.outcomes()
    return outcomes


def digests(bench: Any, days: int, size: int) -> dict[str, str]:
    """Return what must be read of each path."""
    return {
        bench.path(day): hashlib.sha256(bench.body(day, size)).hexdigest()
        for day in range(1, days + 1)
    }


@pytest.mark.slow
def test_a_fleet_orders_and_fetches_once(bench: Any, processes: Any) -> None:
    """8 processes of 8 threads that want the same 20 products cause 20 orders and 20 downloads.

    Together they never have more than `max_orders` orders in preparation.
    """
    size = 60_000
    emulator = bench.start(
        days=20, size=size, preparation_seconds=0.1, rate_bytes_per_second=size / 0.1
    )
    settings = bench.settings(emulator, max_orders=5)
    paths = [bench.path(day) for day in range(1, 21)]

    outcomes = fleet(processes, settings, paths, count=8, threads=8)

    assert outcomes == [digests(bench, 20, size)] * 8
    assert (emulator.orders, emulator.order_posts, emulator.downloads) == (20, 20, 20)
    assert emulator.max_in_preparation <= 5
    assert emulator.max_requests <= 20
    assert {entry.path.read_bytes() for entry in Cache(bench.cache_dir).entries()} == {
        bench.body(day, size) for day in range(1, 21)
    }


@pytest.mark.slow
def test_a_fleet_has_no_more_than_twenty_requests_under_way(bench: Any, processes: Any) -> None:
    """The service asks for no more than 20 requests at one time of an account, and gets no more.

    Thirty transfers would run at one time if nobody held them back, and listings besides.
    """
    size = 20_000
    emulator = bench.start(
        days=31, size=size, latency_seconds=0.01, rate_bytes_per_second=size / 0.5
    )
    settings = bench.settings(emulator, max_orders=40)
    paths = [bench.path(day) for day in range(1, 32)]

    outcomes = fleet(processes, settings, paths, count=5, threads=4)

    assert outcomes == [digests(bench, 31, size)] * 5
    assert emulator.downloads == 31
    assert 2 < emulator.max_requests <= 20


@pytest.mark.slow
def test_a_fleet_whose_locks_all_succeed(bench: Any, processes: Any) -> None:
    """Where every lock is given to everybody, work is done twice, and no byte is wrong."""
    size = 200_000
    emulator = bench.start(
        days=6, size=size, preparation_seconds=0.05, rate_bytes_per_second=size / 0.1
    )
    paths = [bench.path(day) for day in range(1, 7)]

    outcomes = fleet(processes, bench.settings(emulator), paths, count=4, threads=2, locks_lie=True)

    assert outcomes == [digests(bench, 6, size)] * 4
    assert emulator.orders == 6
    assert emulator.downloads > 6
    assert sorted(entry.path.read_bytes() for entry in Cache(bench.cache_dir).entries()) == sorted(
        bench.body(day, size) for day in range(1, 7)
    )


def sixteen_threads(bench: Any, emulator: Emulator, **settings: Any) -> list[bytes]:
    """Let sixteen threads fetch a product each, all at the same moment."""
    fs = bench.filesystem(emulator, **settings)
    start = threading.Barrier(16)
    got: dict[int, bytes] = {}

    def fetch(day: int) -> None:
        start.wait()
        with fs.open(bench.path(day)) as handle:
            got[day] = handle.read()

    threads = [threading.Thread(target=fetch, args=(day,)) for day in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [got[day] for day in range(1, 17)]


@pytest.mark.slow
@pytest.mark.parametrize("expired_status", [401, 403])
def test_sixteen_threads_log_in_anew_once(expired_status: int, bench: Any) -> None:
    """Sixteen threads that meet a token which expired, refresh token and all, log in once."""
    emulator = bench.start(days=16, expired_status=expired_status)
    bench.filesystem(emulator).ls(bench.query)
    assert emulator.logins == 1
    emulator.expire_tokens(refresh=True)

    bodies = sixteen_threads(bench, emulator)

    assert bodies == [bench.body(day) for day in range(1, 17)]
    assert emulator.logins == 2
    assert (emulator.order_posts, emulator.downloads) == (16, 16)


@pytest.mark.slow
def test_a_process_keeps_its_bound_over_hosts(bench: Any) -> None:
    """Where downloads lead to another host, `max_connections` counts the requests to both."""
    emulator = bench.start(
        days=16,
        size=20_000,
        redirect_downloads_to="localhost",
        preparation_seconds=0.1,
        latency_seconds=0.005,
        rate_bytes_per_second=200_000,
    )

    bodies = sixteen_threads(bench, emulator, max_connections=4)

    assert bodies == [bench.body(day, 20_000) for day in range(1, 17)]
    assert 2 <= emulator.max_requests <= 4


def test_one_connection_is_enough_for_everything(bench: Any) -> None:
    """With one connection a token that is refused in mid-job is renewed, and nothing hangs."""
    emulator = bench.start(days=3)
    fs = bench.filesystem(emulator, max_connections=1)
    fs.ls(bench.query)
    emulator.fault(Fault("status", method="GET", path="dataaccess/download/", status=401))

    assert [len(body) for body in fs.cat(f"{bench.query}/*").values()] == [2032] * 3
    assert emulator.max_requests == 1
