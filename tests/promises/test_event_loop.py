"""Waiting blocks nobody else: not fsspec's loop, not a user's own, not an interrupt."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import get_loop
from fsspec.generic import rsync

from hda_fsspec.emulator import Fault


async def now() -> float:
    """Tell the time, from whatever loop runs this."""
    return time.monotonic()


def ask_the_loop_meanwhile(emulator: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let each request be answered only once fsspec's loop has run something else meanwhile.

    Were the loop held by what waits for the answer, neither would ever come. Returns the paths of
    the requests so far.
    """
    answer = emulator._broker.answer
    asked: list[str] = []

    def answer_later(request: Any, faults: Any) -> Any:
        asyncio.run_coroutine_threadsafe(now(), get_loop()).result(timeout=60)
        asked.append(request.api)
        return answer(request, faults)

    monkeypatch.setattr(emulator._broker, "answer", answer_later)
    return asked


@pytest.mark.slow
def test_the_loop_of_fsspec_runs_on_while_rsync_waits(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a generic rsync waits for an order, other coroutines on fsspec's loop run at once."""
    emulator = bench.start(days=3, polls=2)
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    asked = ask_the_loop_meanwhile(emulator, monkeypatch)

    rsync(bench.query, "memory://loop")

    assert sum(path.startswith("dataaccess/download/") for path in asked) >= 3 * 3
    assert len(fsspec.filesystem("memory").find("/loop")) == 3


@pytest.mark.parametrize("verb", ["_cat_file", "_info", "_ls", "_get_file"])
def test_a_slow_service_does_not_hold_the_loop(
    bench: Any, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a search, nor an order, nor a transfer runs on the loop."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator)
    more = [f"{tmp_path}/x"] if verb == "_get_file" else []
    asked = ask_the_loop_meanwhile(emulator, monkeypatch)

    asyncio.run_coroutine_threadsafe(getattr(fs, verb)(bench.path(1), *more), get_loop()).result(90)

    assert "dataaccess/search" in asked


def test_asynchronous_use_in_a_loop_of_ones_own(bench: Any, tmp_path: Path) -> None:
    """With asynchronous=True the coroutines are awaited where the user runs them."""
    emulator = bench.start(days=4, preparation_seconds=0.1)
    emulator.hold_orders(4)
    fs = bench.filesystem(emulator, asynchronous=True)

    async def work() -> list[Any]:
        paths = [bench.path(day) for day in range(1, 5)]
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        bodies = await asyncio.gather(*(fs._cat_file(path) for path in paths))
        ticking.cancel()
        await fs._get(bench.query + "/", f"{tmp_path}/out/", recursive=True)
        return [
            bodies,
            ticks,
            await fs._exists(paths[0]),
            await fs._glob(bench.query + "/*1.nc"),
            [step async for step in fs._walk(bench.query)],
            await fs._cat_ranges(paths[:2], 0, 3),
        ]

    bodies, ticks, exists, matching, walked, ranges = asyncio.run(work())

    assert bodies == [bench.body(day) for day in range(1, 5)]
    assert ticks > 5
    assert exists is True
    assert len(matching) == 1
    assert len(walked[0][2]) == 4
    assert ranges == [b"CDF", b"CDF"]
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert emulator.max_in_preparation == 4


@pytest.mark.slow
def test_many_at_a_time_need_few_threads(bench: Any, tmp_path: Path) -> None:
    """A hundred waiting copies share the threads of one object; none waits in its own."""
    emulator = bench.start(days=20, polls=2, preparation_seconds=0.2)
    fs = bench.filesystem(emulator, max_connections=3, max_orders=40, asynchronous=True)
    most = 0

    async def work() -> None:
        nonlocal most
        paths = [bench.path(day) for day in range(1, 21)]
        copies = [
            asyncio.ensure_future(fs._get_file(path, f"{tmp_path}/{number}_{turn}"))
            for turn in range(5)
            for number, path in enumerate(paths)
        ]
        while not all(copy.done() for copy in copies):
            ours = [t for t in threading.enumerate() if t.name.startswith("hda-")]
            most = max(most, len(ours))
            await asyncio.sleep(0.01)
        for copy in copies:
            copy.result()

    before = len([t for t in threading.enumerate() if t.name.startswith("hda-")])
    asyncio.run(work())

    assert most - before <= 3 + 16
    assert len(list(tmp_path.glob("[0-9]*_*"))) == 100
    assert emulator.orders == emulator.downloads == 20


@pytest.mark.slow
def test_a_cancelled_wait_keeps_the_order_and_leaks_nothing(bench: Any, tmp_path: Path) -> None:
    """Who gives up waiting leaves no open file; the product arrives for others all the same."""
    emulator = bench.start(days=2, preparation_seconds=0.15)
    fs = bench.filesystem(emulator, asynchronous=True)
    waits = (
        lambda: fs._cat_file(bench.path(1)),
        lambda: fs._get_file(bench.path(2), f"{tmp_path}/x"),
    )
    for day, begin in enumerate(waits, start=1):

        async def give_up(begin: Callable[[], Any] = begin) -> None:
            await asyncio.wait_for(begin(), timeout=0.08)

        with pytest.raises(TimeoutError):
            asyncio.run(give_up())
        other = bench.filesystem(emulator)

        assert other.cat(bench.path(day)) == bench.body(day)
        assert emulator.orders == day
    assert not (tmp_path / "x").exists()
    gc.collect()


def test_a_fault_of_one_does_not_hold_the_others(bench: Any) -> None:
    """One product whose order never gets ready keeps no other waiting."""
    emulator = bench.start(days=4)
    emulator.fault(Fault("slow", product_id=bench.product_id(1), value=100))
    fs = bench.filesystem(emulator, max_connections=3)
    waiting = asyncio.run_coroutine_threadsafe(fs._cat_file(bench.path(1)), get_loop())

    began = time.monotonic()
    others = fs.cat([bench.path(day) for day in (2, 3, 4)])

    assert time.monotonic() - began < 15  # and the slow one takes twenty seconds
    assert list(others.values()) == [bench.body(day) for day in (2, 3, 4)]
    assert not waiting.done()
    emulator.stop()


@pytest.mark.slow
def test_an_interrupt_ends_a_wait_at_once(bench: Any, tmp_path: Path) -> None:
    """Ctrl-C while an order is waited for: KeyboardInterrupt, and in the end the process ends."""
    emulator = bench.start(days=4, preparation_seconds=3600)
    code = (
        "import sys, hda_fsspec\n"
        "fs, paths, target = hda_fsspec.HDAFileSystem(), sys.argv[1:-1], sys.argv[-1]\n"
        "calls = [fs.prefetch, fs.cat, fs.open, lambda path: fs.get(path, target)]\n"
        "for call, path in zip(calls, paths):\n"
        "    try:\n"
        "        call(path)\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted', flush=True)\n"
    )
    paths = [bench.path(day) for day in range(1, 5)]
    environment = {**os.environ, **emulator.environment, "HDA_CACHE_DIR": str(bench.cache_dir)}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *paths, f"{tmp_path}/x"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    began = time.monotonic()
    try:
        for number in range(1, 5):
            while emulator.orders < number and time.monotonic() < began + 60:
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n", number
        out, err = process.communicate(timeout=30)
        took = time.monotonic() - began
    finally:
        process.kill()
        process.communicate()

    assert (out, err, process.returncode) == ("", "", 0)
    assert took < 100  # and each order takes an hour
    assert emulator.orders == 4
    assert not (tmp_path / "x").exists()
