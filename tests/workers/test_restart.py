"""A job that is killed and started again repeats no order and no complete download."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from checkout import TESTS
from clusters import DAYS, VALUES, Job, wait_until
from cubes import cubes_of
from subset_sources import ERA5, SMALL, write_era5

from hda_fsspec.emulator import ecmwf_subset

_PROGRAM = TESTS.joinpath("computing_processes.py")
WIDE = 300_000


class Computing:
    """Starts a process that computes a query, as often as it is asked to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._program = subprocess.Popen(
            [sys.executable, str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        query: str,
        settings: dict[str, Any],
        *,
        variable: str = "sst",
        over: Sequence[str] = ("x",),
        **options: Any,
    ) -> tuple[int, Path]:
        """Start a process; return its id, and the file that will hold what it got."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        outcome = self._folder / f"outcome-{self._count}"
        self._count += 1
        job = {
            "query": query,
            "settings": settings,
            "open": options,
            "variable": variable,
            "over": over,
            "outcome": outcome,
        }
        self._program.stdin.write(json.dumps(job, default=str) + "\n")
        self._program.stdin.flush()
        return int(self._program.stdout.readline()), outcome

    def close(self) -> None:
        """End the program."""
        self._program.kill()
        self._program.communicate()


@pytest.fixture(scope="module")
def computing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computing]:
    """Return real processes that compute."""
    computing = Computing(tmp_path_factory.mktemp("computing"))
    yield computing
    computing.close()


def kill(pid: int) -> None:
    """Kill a process, if it still runs, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def complete(log: Any) -> dict[str, int]:
    """Return how often each file was sent whole in one answer."""
    counts: dict[str, int] = {}
    for record in log:
        if record.method == "GET" and record.status == 200 and record.bytes_sent > WIDE * 8:
            counts[record.api] = counts.get(record.api, 0) + 1
    return counts


@pytest.mark.slow
def test_a_job_that_is_killed_again_and_again(stacks: Any, computing: Computing) -> None:
    """Killed at random moments and started again it ends with what one run would have cost."""
    size = WIDE * 8
    job = Job(stacks, width=WIDE, rate_bytes_per_second=size / 0.3, preparation_seconds=0.2)
    emulator = job.emulator
    moments = random.Random(1)
    outcome = Path()

    for _ in range(5):
        pid, outcome = computing.start(stacks.query, stacks.options)
        time.sleep(moments.uniform(0.05, 0.7))
        kill(pid)
    if not outcome.exists():
        _, outcome = computing.start(stacks.query, stacks.options)
        wait_until(outcome.exists, 60)

    assert json.loads(outcome.read_text()) == pytest.approx(VALUES.tolist())
    assert emulator.orders == DAYS
    # An order may go out in the moment in which its number was not written down yet.
    assert emulator.order_posts <= DAYS + 5
    assert set(complete(emulator.log).values()) <= {1}
    # What was held of a file was not sent again.
    resumed = emulator.log.where(lambda record: record.status == 206)
    assert all(int(str(record.range)[len("bytes=") : -1]) > 0 for record in resumed)


@pytest.mark.slow
def test_a_partial_file_goes_on(stacks: Any, computing: Computing) -> None:
    """A compute that is killed in a file's body leaves what the next one goes on with."""
    size = WIDE * 8
    job = Job(stacks, width=WIDE, rate_bytes_per_second=size / 0.6)
    emulator = job.emulator
    before = emulator.bytes_sent
    pid, _ = computing.start(stacks.query, stacks.options)
    wait_until(lambda: emulator.bytes_sent > before + 2 * size)

    kill(pid)
    held = sum(path.stat().st_size for path in stacks.bench.cache_dir.rglob("partial/**/.data"))
    _, outcome = computing.start(stacks.query, stacks.options)
    wait_until(outcome.exists, 60)

    assert json.loads(outcome.read_text()) == pytest.approx(VALUES.tolist())
    resumed = emulator.log.where(lambda record: record.status == 206)
    assert held > size / 10
    assert sum(int(str(record.range)[len("bytes=") : -1]) for record in resumed) == held
    assert (emulator.orders, emulator.order_posts) == (DAYS, DAYS)


@pytest.mark.slow
def test_pieces_of_a_job_that_is_killed_again_and_again(
    tmp_path: Path, computing: Computing
) -> None:
    """Each piece is ordered once by all runs, though it is searched when it is ordered."""
    days = np.arange("2024-01-01", "2024-08-01", dtype="datetime64[D]")
    source = write_era5(tmp_path / "era5.nc", names=("t2m",), times=days, expver=False, **SMALL)
    entry = ecmwf_subset(
        ERA5,
        source,
        variables={"2m_temperature": "t2m"},
        seconds_per_job=0.1,
        seconds_per_unit=0.0,
    )
    query = f"{ERA5}/variable=2m_temperature/startdate=2024-01-01/enddate=2024-07-31/time=00:00"
    moments = random.Random(2)
    outcome = Path()

    with (
        cubes_of(tmp_path, entry, job_time_scale=1.0) as cubes,
        xr.open_dataset(source) as whole,
    ):

        def start() -> tuple[int, Path]:
            return computing.start(
                f"hda://{query}",
                cubes.options,
                variable="t2m",
                over=("latitude", "longitude"),
                split="month",
            )

        for _ in range(4):
            pid, outcome = start()
            time.sleep(moments.uniform(0.05, 0.5))
            kill(pid)
        if not outcome.exists():
            _, outcome = start()
            wait_until(outcome.exists, 60)

        expected = whole.t2m.mean(("latitude", "longitude"))
        assert json.loads(outcome.read_text()) == pytest.approx(expected.values.tolist())
        assert len(cubes.ordered) == cubes.emulator.orders == 7
        # An order may go out in the moment in which its number was not written down yet, and then
        # the service is asked for the same one again.
        assert cubes.emulator.order_posts <= 7 + 4
