"""Waiting blocks nobody else: no thread, no connection and no other product's lock is held."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import fsspec.asyn
import pytest

from hda_fsspec.cache.locks import FileLocks
from hda_fsspec.emulator import Fault
from hda_fsspec.errors import OrderTimeoutError


@pytest.fixture
def slow_and_quick(bench: Any) -> Any:
    """Start a service where the products of day 1 and 2 are ready, and all others never are."""
    emulator = bench.start(days=40, preparation_seconds=60, polls=0)
    for day in (1, 2):
        order = emulator._broker.delivery.orders
        entry = emulator.catalogue.product(bench.dataset, bench.product_id(day))
        order.place(bench.dataset, entry.product_id, entry.locator).ready_at = 0.0
    return emulator


@pytest.mark.slow
def test_a_ready_product_opens_while_others_are_prepared(slow_and_quick: Any, bench: Any) -> None:
    """While orders are waited for, a ready product opens at once, on the same and another fs."""
    fs = bench.filesystem(slow_and_quick)
    waiting = [fs._client.fetch(fs._client.product(_at(bench, day))) for day in range(3, 13)]
    _wait_for_orders(slow_and_quick, 12)
    began = time.monotonic()

    assert fs.cat(bench.path(1)) == bench.body(1)
    assert bench.filesystem(slow_and_quick, timeout=55).cat(bench.path(2)) == bench.body(2)

    assert time.monotonic() - began < 30  # and the others take a minute
    assert not any(future.done() for future in waiting)


@pytest.mark.slow
def test_looking_goes_on_while_orders_are_waited_for(slow_and_quick: Any, bench: Any) -> None:
    """Listings, and fsspec's event loop, are as quick as ever while orders are waited for."""
    fs = bench.filesystem(slow_and_quick)
    loop = fsspec.asyn.get_loop()
    jobs = [
        asyncio.run_coroutine_threadsafe(fs._cat_file(bench.path(day)), loop)
        for day in range(3, 31)
    ]
    _wait_for_orders(slow_and_quick, 2 + 20)
    began = time.monotonic()

    assert len(fs.ls(bench.query, refresh=True)) == 31
    assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "ran"), loop).result(5) == "ran"

    assert time.monotonic() - began < 30
    for job in jobs:
        job.cancel()


@pytest.mark.slow
def test_a_waiting_order_holds_no_connection(slow_and_quick: Any, bench: Any) -> None:
    """With one connection to use, twenty orders wait and a ready product still comes."""
    fs = bench.filesystem(slow_and_quick, max_connections=1)
    for day in range(3, 22):
        fs._client.fetch(fs._client.product(_at(bench, day)))
    _wait_for_orders(slow_and_quick, 21)

    assert fs.cat(bench.path(1)) == bench.body(1)
    assert slow_and_quick.max_connections == 1


def _at(bench: Any, day: int) -> Any:
    from hda_fsspec.paths.locations import Location

    return Location.parse(bench.path(day))


def _wait_for_orders(emulator: Any, count: int) -> None:
    until = time.monotonic() + 20
    while emulator.order_posts < count:
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.slow
def test_orders_overlap(bench: Any) -> None:
    """20 products of 0.3 s take near twice 0.3 s with 10 orders at a time, not 20 times."""
    emulator = bench.start_many(20, preparation_seconds=0.3)
    fs = bench.filesystem(emulator, max_orders=10)
    fs.ls(bench.query)
    began = time.monotonic()

    assert len(fs.prefetch(bench.query)) == 20

    assert time.monotonic() - began < 20 * 0.3 / 2
    assert 1 < emulator.max_in_preparation <= 10
    assert emulator.downloads == 20


@pytest.mark.slow
def test_never_more_than_max_orders_over_processes(bench: Any, processes: Any) -> None:
    """Two processes and this one on a cache have no more than `max_orders` orders together."""
    emulator = bench.start_many(30, preparation_seconds=0.1)
    fs = bench.filesystem(emulator, max_orders=4)
    paths = [f"hda://{path}" for path in fs.ls(bench.query, detail=False)]
    settings = bench.settings(emulator, max_orders=4)

    for number in range(2):
        processes.start(settings, paths[number * 10 :])
    fs.prefetch(paths[20:])

    assert [len(got) for got in processes.outcomes()] == [30, 20]
    assert (emulator.order_posts, emulator.downloads) == (30, 30)
    assert emulator.max_in_preparation <= 4


@pytest.mark.slow
def test_threads_and_connections_stay_bounded(bench: Any) -> None:
    """Thirty products that are waited for need no more threads and sockets than a few."""
    emulator = bench.start_many(30, preparation_seconds=0.02)
    fs = bench.filesystem(emulator, max_orders=30, max_connections=8)
    fs.ls(bench.query)
    before = set(threading.enumerate())  # tests that just ended leave threads for some seconds
    most = 0
    job = threading.Thread(target=fs.prefetch, args=(bench.query,))

    job.start()
    while job.is_alive():
        ours = [thread for thread in threading.enumerate() if thread.name.startswith("hda-")]
        most = max(most, len(set(ours) - before))
        job.join(0.005)

    assert emulator.downloads == 30
    assert most <= 8 + 16
    assert emulator.max_connections <= 8


@pytest.mark.slow
def test_slow_transfers_do_not_hold_up_orders(bench: Any) -> None:
    """While all transfers that may run at a time crawl, orders are placed and polled."""
    emulator = bench.start(days=12)
    emulator.fault(Fault("slow", value=2000, times=7))
    fs = bench.filesystem(emulator, max_connections=8)
    job = threading.Thread(target=fs.prefetch, args=(bench.query,))

    job.start()
    _wait_for_orders(emulator, 12)

    assert emulator.downloads < 7
    job.join()
    assert emulator.downloads == 12


@pytest.mark.slow
def test_the_lock_of_a_stuck_process_is_waited_for_not_for_ever(bench: Any) -> None:
    """After `max_wait` a product is fetched although somebody still holds its lock."""
    emulator = bench.start(days=2)
    fs = bench.filesystem(emulator, max_wait=0.3)
    products = fs._client
    product = products.product(_at(bench, 1))
    locks = FileLocks(bench.cache_dir)
    held = locks.acquire(f"product {product.key}")
    assert held is not None

    with held:
        assert fs.cat(bench.path(2)) == bench.body(2)
        assert fs.cat(bench.path(1)) == bench.body(1)


@pytest.mark.slow
def test_slots_of_stuck_processes_are_told(bench: Any) -> None:
    """Where all orders at a time are taken for `max_wait`, the error says so."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator, max_wait=0.3, max_orders=1)
    name = f"orders of {fs._client.account}"
    taken = FileLocks(bench.cache_dir).acquire_slot(name, [0])
    assert taken is not None

    with pytest.raises(OrderTimeoutError, match="max_orders"):
        fs.open(bench.path(1))

    assert emulator.order_posts == 0
    taken.release()
    assert fs.cat(bench.path(1)) == bench.body(1)


_INTERRUPTED = """
import sys, threading, time
from hda_fsspec import HDAFileSystem
fs = HDAFileSystem(cache_dir=sys.argv[1])
threading.Thread(target=fs.open, args=(sys.argv[2],), daemon=True).start()
time.sleep(0.3)
print("up", flush=True)
fs.prefetch(sys.argv[3])
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_program_ends_at_once(sent: int, bench: Any, slow_and_quick: Any) -> None:
    """Ctrl-C ends a program that waits for orders at once, and its orders can be taken up."""
    command = [sys.executable, "-c", _INTERRUPTED, str(bench.cache_dir), bench.path(3), bench.query]
    environment = {**os.environ, **slow_and_quick.environment}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        _wait_for_orders(slow_and_quick, 10)
        began = time.monotonic()
        program.send_signal(sent)
        _, errors = program.communicate(timeout=40)

    assert time.monotonic() - began < 30  # and the orders take a minute
    assert errors.count("Traceback") <= 1
    assert "Exception ignored" not in errors
    assert bench.filesystem(slow_and_quick).cat(bench.path(1)) == bench.body(1)
