"""Interrupts in every phase: whole files or none, and the next attempt completes."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from hda_fsspec.cache.cache import Cache
from hda_fsspec.emulator import Emulator, Fault

SIZE = 1_500_000
_FILE = "dataaccess/download/"

#: What holds a job up in each phase, and how to see that it has got there.
PHASES: dict[str, tuple[list[Fault], Callable[[Emulator], bool]]] = {
    "login": (
        [Fault("hang", path="identity/gettoken", seconds=30)],
        lambda emulator: emulator.count("POST", "identity/gettoken") > 0,
    ),
    "search": (
        [Fault("hang", method="POST", path="dataaccess/search", seconds=30)],
        lambda emulator: emulator.count("POST", "dataaccess/search") > 0,
    ),
    "order": (
        [Fault("hang", method="POST", path="dataaccess/download", seconds=30)],
        lambda emulator: emulator.count("POST", "dataaccess/download") > 0,
    ),
    "waiting": (
        [Fault("status", method="HEAD", path=_FILE, status=202, times=None)],
        lambda emulator: emulator.count("HEAD", _FILE) > 1,
    ),
    "transfer": (
        [Fault("slow", value=3_000_000)],
        lambda emulator: emulator.bytes_sent > 300_000,
    ),
    "publish": ([], lambda emulator: emulator.downloads > 0),
}


class Job:
    """A process that reads one product, and is in one of the phases of that."""

    def __init__(self, phase: str, bench: Any, processes: Any) -> None:
        faults, is_there = PHASES[phase]
        folder = bench.folder / phase
        folder.mkdir()
        self.phase = phase
        self.bench = bench
        self.cache_dir = bench.cache_dir = folder / "cache"
        self.body = bench.body(1, SIZE)
        self.emulator: Emulator = bench.start(days=1, size=SIZE)
        for fault in faults:
            self.emulator.fault(fault)
        self.again = folder / "again"
        self.outcome = folder / "outcome"
        held = folder / "held"
        self.pid = processes.start(
            bench.settings(self.emulator),
            [bench.path(1)],
            again=str(self.again),
            held=str(held),
            is_held=phase == "publish",
            outcome=str(self.outcome),
        )
        processes.wait_until(
            lambda: is_there(self.emulator) and (phase != "publish" or held.exists())
        )

    def products(self) -> list[bytes]:
        """Return the files in the cache that would be taken for products."""
        return [entry.path.read_bytes() for entry in Cache(self.cache_dir).entries()]

    def end_faults(self) -> None:
        """Let everything go well, and end what still hangs."""
        self.emulator.clear_faults()
        self.emulator.stop()
        self.emulator.start()


@pytest.mark.slow
def test_an_interrupted_cell_can_be_run_again(bench: Any, processes: Any) -> None:
    """Ctrl-C ends the wait at once in every phase, and the same process reads the product later."""
    for phase in PHASES:
        job = Job(phase, bench, processes)

        os.kill(job.pid, signal.SIGINT)
        processes.wait_until(job.outcome.with_suffix(".interrupted").exists)
        assert job.products() in ([], [job.body]), phase
        job.end_faults()
        job.again.touch()
        processes.wait_until(job.outcome.exists)

        whole = hashlib.sha256(job.body).hexdigest()
        assert json.loads(job.outcome.read_text()) == {bench.path(1): whole}, phase
        assert job.products() == [job.body], phase
        assert job.emulator.orders == 1, phase


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["cat", "open", "get", "prefetch", "open_dataset"])
def test_an_interrupt_that_wakes_nobody_is_noticed(
    verb: str, bench: Any, processes: Any, tmp_path: Path
) -> None:
    """A signal in the moment before the thread sleeps, as one that another thread receives."""
    emulator = bench.start(days=1, preparation_seconds=600.0)
    fs, path = bench.filesystem(emulator), bench.path(1)
    verbs: dict[str, Callable[[], Any]] = {
        "cat": lambda: fs.cat(path),
        "open": lambda: fs.open(path),
        "get": lambda: fs.get(path, f"{tmp_path}/copy"),
        "prefetch": lambda: fs.prefetch(path),
        "open_dataset": lambda: xr.open_dataset(
            path, engine="hda", storage_options=bench.settings(emulator)
        ),
    }
    is_noticed = threading.Event()

    def interrupt() -> bool:
        processes.wait_until(lambda: emulator.orders > 0)
        time.sleep(0.3)  # the main thread sleeps by then
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        if not is_noticed.wait(10.0):
            emulator.stop()
        return is_noticed.is_set()

    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        in_time = executor.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            verbs[verb]()
        is_noticed.set()
        assert in_time.result()


@pytest.mark.slow
def test_the_next_process_completes_what_was_terminated(bench: Any, processes: Any) -> None:
    """SIGTERM in any phase leaves no part of a file, and costs neither an order nor bytes again."""
    for phase in PHASES:
        job = Job(phase, bench, processes)

        os.kill(job.pid, signal.SIGTERM)
        processes.wait_until(lambda gone=Path(f"/proc/{job.pid}"): not gone.exists())
        assert job.products() == [], phase
        job.emulator.clear_faults()

        assert bench.filesystem(job.emulator).cat(bench.path(1)) == job.body, phase
        assert job.products() == [job.body], phase
        assert job.emulator.orders == 1, phase
        gets = [r for r in job.emulator.log if r.method == "GET" and r.api.startswith(_FILE)]
        if phase == "transfer":
            assert [record.status for record in gets] == [200, 206]
            assert gets[1].bytes_sent < SIZE
        else:
            assert [record.status for record in gets] == [200], phase
