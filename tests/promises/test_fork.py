"""Forks, and disks whose locks do not work: saved work may be lost, bytes never."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from forking import in_a_fork, status_of

from hda_fsspec.cache.cache import Cache
from hda_fsspec.cache.locks import FileLocks, Lock

_PATIENCE_SECONDS = 20.0


@pytest.mark.slow
def test_a_fork_after_use_works(bench: Any) -> None:
    """A process that forks after it fetched has children that fetch, with their own connections."""
    emulator = bench.start(days=4)
    fs = bench.filesystem(emulator)
    assert fs.cat(bench.path(1)) == bench.body(1)

    children = []
    for day in (2, 3):

        def work(day: int = day) -> bool:
            with fs.open(bench.path(day)) as handle:
                return bool(handle.read() == bench.body(day))

        children.append(in_a_fork(work))

    assert [status_of(pid) for pid in children] == [0, 0]
    assert fs.cat(bench.path(4)) == bench.body(4)
    assert (emulator.order_posts, emulator.downloads) == (4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["while it is prepared", "in mid-body"])
def test_a_fork_while_a_product_is_under_way(moment: str, bench: Any) -> None:
    """A child that is forked meanwhile disturbs nothing, and asks for the same product in vain."""
    size = 2_000_000
    emulator = bench.start(
        days=1, size=size, preparation_seconds=0.2, rate_bytes_per_second=size / 0.4
    )
    fs = bench.filesystem(emulator)
    got: list[bytes] = []
    job = threading.Thread(target=lambda: got.append(fs.cat(bench.path(1))))
    job.start()
    while emulator.bytes_sent < 500_000 and (moment == "in mid-body" or not emulator.orders):
        time.sleep(0.005)

    def work() -> bool:
        with fs.open(bench.path(1)) as handle:
            return bool(handle.read() == bench.body(1, size))

    child = in_a_fork(work)
    job.join()

    assert status_of(child) == 0
    assert got == [bench.body(1, size)]
    assert (emulator.order_posts, emulator.downloads) == (1, 1)


_FORKS_AND_EXITS = """
import os, sys, threading, time
from hda_fsspec import HDAFileSystem
fs = HDAFileSystem(cache_dir=sys.argv[1])
result = []
job = threading.Thread(target=lambda: result.append(fs.open(sys.argv[2]).read()))
job.start()
time.sleep(0.3)
pid = os.fork()
if pid == 0:
    sys.exit(0)   # through the whole shutdown of the interpreter
os.waitpid(pid, 0)
job.join()
print(len(result[0]))
"""


@pytest.mark.slow
def test_a_child_that_ends_gives_back_nothing_of_its_parent(bench: Any) -> None:
    """The end of a forked child releases neither the lock nor the partial of its parent."""
    size = 3_000_000
    emulator = bench.start(days=1, size=size, rate_bytes_per_second=size / 0.8)
    command = [sys.executable, "-c", _FORKS_AND_EXITS, str(bench.cache_dir), bench.path(1)]
    environment = {**os.environ, **emulator.environment}

    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == len(bench.body(1, size))
    assert (emulator.order_posts, emulator.downloads) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["succeeds always", "fails always"])
def test_locks_that_do_not_work(kind: str, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk whose locks always succeed, or never, each asker gets the right bytes."""
    emulator = bench.start(days=3, size=100_000, rate_bytes_per_second=1e6)

    def acquire(self: FileLocks, name: str) -> Lock | None:
        if kind == "fails always":
            return None
        return Lock(Path(name), is_shared=False, on_release=lambda: None)

    monkeypatch.setattr(FileLocks, "acquire", acquire)
    instances = [bench.filesystem(emulator, timeout=50 + n, max_wait=0.2) for n in range(4)]
    got: list[dict[str, bytes]] = []
    threads = [
        threading.Thread(target=lambda fs=fs: got.append(fs.cat(f"{bench.query}/*")))
        for fs in instances
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    expected = {
        bench.path(day).removeprefix("hda://"): bench.body(day, 100_000) for day in (1, 2, 3)
    }
    assert got == [expected] * 4
    assert emulator.orders == 3
    assert len(list(Cache(bench.cache_dir).entries())) == 3
