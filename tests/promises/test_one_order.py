"""One order and one download per product, however many ask at a time, and over restarts."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest

from hda_fsspec import HDAFileSystem
from hda_fsspec.emulator import Emulator


def digests(bench: Any, days: int, size: int = 2000) -> dict[str, str]:
    """Return what must be read of each path."""
    return {
        bench.path(day): hashlib.sha256(bench.body(day, size)).hexdigest()
        for day in range(1, days + 1)
    }


def test_thirty_two_threads_order_once(bench: Any) -> None:
    """32 threads on several filesystems that ask for the same products at one time share them."""
    emulator = bench.start(days=4, preparation_seconds=0.1)
    start = threading.Barrier(32)
    got: list[tuple[int, bytes]] = []

    def read(number: int, fs: HDAFileSystem) -> None:
        start.wait()
        day = number % 4 + 1
        with fs.open(bench.path(day)) as handle:
            got.append((day, handle.read()))

    instances = [bench.filesystem(emulator) for _ in range(5)]
    threads = [
        threading.Thread(target=read, args=(number, instances[number % 5])) for number in range(32)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(got) == 32
    assert all(body == bench.body(day) for day, body in got)
    assert (emulator.orders, emulator.order_posts, emulator.downloads) == (4, 4, 4)


@pytest.mark.slow
def test_filesystems_of_other_settings_order_once(bench: Any) -> None:
    """Two filesystems of this process that share only the cache folder order once, too."""
    emulator = bench.start(days=3, preparation_seconds=0.1)
    instances = [bench.filesystem(emulator, timeout=50 + number) for number in range(4)]
    threads = [threading.Thread(target=fs.prefetch, args=(bench.query,)) for fs in instances]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (emulator.order_posts, emulator.downloads) == (3, 3)


@pytest.mark.slow
def test_processes_order_once(bench: Any, processes: Any) -> None:
    """6 processes of 4 threads which ask for the same 10 products cause 10 orders, 10 downloads."""
    emulator = bench.start(days=10, preparation_seconds=0.05)
    settings = bench.settings(emulator)
    paths = [bench.path(day) for day in range(1, 11)]

    for _ in range(6):
        processes.start(settings, paths, threads=4)

    assert processes.outcomes() == [digests(bench, 10)] * 6
    assert (emulator.orders, emulator.order_posts, emulator.downloads) == (10, 10, 10)


@pytest.mark.slow
def test_an_order_under_way_is_resumed(bench: Any, processes: Any) -> None:
    """The order of a process that is killed while it waits is taken up by the next one."""
    emulator = bench.start(days=1)
    emulator.hold_orders(2)
    pid = processes.start(bench.settings(emulator), [bench.path(1)])
    processes.wait_until(lambda: emulator.count("HEAD", "dataaccess/download") > 0)

    processes.kill(pid)
    emulator.hold_orders(0)

    fs = bench.filesystem(emulator)
    assert fs.cat(bench.path(1)) == bench.body(1)
    assert (emulator.order_posts, emulator.downloads) == (1, 1)


def kill_in_mid_body(bench: Any, processes: Any, size: int, **options: Any) -> Emulator:
    """Kill a process when about a third of a file has arrived on disk."""
    emulator: Emulator = bench.start(days=1, size=size, rate_bytes_per_second=size / 0.6, **options)
    pid = processes.start(bench.settings(emulator), [bench.path(1)])
    processes.wait_until(lambda: emulator.bytes_sent > size / 3)
    processes.kill(pid)
    return emulator


@pytest.mark.slow
def test_a_partial_is_continued(bench: Any, processes: Any) -> None:
    """What a killed process has received of a file is not fetched again."""
    size = 6_000_000
    emulator = kill_in_mid_body(bench, processes, size)
    held = sum(path.stat().st_size for path in bench.cache_dir.rglob(".data"))

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1, size)
    (last,) = emulator.log.where(lambda r: r.method == "GET" and r.status == 206)
    assert held > 0
    assert last.range == f"bytes={held}-"
    assert last.bytes_sent == len(bench.body(1, size)) - held
    assert emulator.order_posts == 1


@pytest.mark.slow
def test_a_partial_is_continued_without_validator(bench: Any, processes: Any) -> None:
    """Without a validator only the last 64 kB of a partial are fetched again."""
    size = 6_000_000
    emulator = kill_in_mid_body(bench, processes, size, validators=None)
    held = sum(path.stat().st_size for path in bench.cache_dir.rglob(".data"))

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1, size)
    (last,) = emulator.log.where(lambda r: r.method == "GET" and r.status == 206)
    assert last.range == f"bytes={held - 65_536}-"
    assert emulator.order_posts == 1


@pytest.mark.slow
def test_a_restart_orders_nothing_that_is_local(bench: Any, processes: Any) -> None:
    """A product that another process fetched costs no order and no download."""
    emulator = bench.start(days=2)
    processes.start(bench.settings(emulator), [bench.path(1), bench.path(2)])
    assert processes.outcomes() == [digests(bench, 2)]
    emulator.clear_log()

    fs = bench.filesystem(emulator)

    assert fs.cat(bench.path(1)) == bench.body(1)
    assert [path for path in fs.prefetch(bench.query) if Path(path).stat().st_size != 2032] == []
    assert (emulator.order_posts, emulator.downloads) == (2, 2)
    assert len(emulator.log) == 0
