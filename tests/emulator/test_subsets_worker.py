"""The process in which the emulator reads sources and makes files."""

from __future__ import annotations

import os
import posixpath
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from subset_sources import MARINE, write_marine

from hda_fsspec.emulator import marine_subset
from hda_fsspec.emulator.jobs import worker
from hda_fsspec.emulator.jobs.worker import Worker
from hda_fsspec.errors import ConfigurationError


@pytest.mark.slow
def test_calls_are_made_elsewhere() -> None:
    """A call returns or raises what it does in the other process, whatever that prints."""
    process = Worker()
    numbers = {process.call(os.getpid) for _ in range(3)}
    process.call(os.system, "echo what a library prints")
    with pytest.raises(FileNotFoundError):
        process.call(os.listdir, "/absent")

    assert len(numbers - {os.getpid()}) == 1
    assert process.call(posixpath.join, "a", "b") == "a/b"
    process.close()
    process.close()


@pytest.mark.slow
def test_a_process_that_ended_is_started_again() -> None:
    """A call that ends the process is a typed error, and the next one is answered."""
    process = Worker()
    with pytest.raises(ConfigurationError, match="in which the emulator calls _exit ended"):
        process.call(os._exit, 1)

    assert process.call(os.getpid) != os.getpid()
    process.close()


def test_sources_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is one of the folder in which the data set was described."""
    worker.call(os.getpid)  # it has a folder of its own from now on
    write_marine(tmp_path / "source.nc")
    monkeypatch.chdir(tmp_path)
    entry = marine_subset(MARINE, "source.nc")
    monkeypatch.chdir("/")

    assert "startdate" in entry.schema["properties"]


def test_threads_share_a_process() -> None:
    """Threads get the answers to their own calls."""
    process = Worker()
    found: dict[int, list[str]] = {}

    def ask(number: int) -> None:
        found[number] = [process.call(posixpath.join, str(number), str(n)) for n in range(20)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process.close()

    assert found == {number: [f"{number}/{n}" for n in range(20)] for number in range(4)}


@pytest.mark.slow
def test_it_ends_with_the_process_that_started_it() -> None:
    """Nothing is left behind by a program that ends, and nothing heavy loaded before its time."""
    program = (
        "import os, sys; import hda_fsspec.emulator; from hda_fsspec.emulator.jobs import worker; "
        "assert not {'numpy', 'xarray', 'netCDF4'} & set(sys.modules); "
        "print(worker.call(os.getpid))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
