"""The process in which the emulator reads sources and makes files."""

from __future__ import annotations

import os
import posixpath
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from forking import in_a_fork, status_of
from subset_sources import MARINE, write_marine
from unsendable import raise_unsendable

from hda_fsspec.emulator import marine_subset
from hda_fsspec.emulator.jobs import worker
from hda_fsspec.emulator.jobs.worker import Worker
from hda_fsspec.errors import ConfigurationError


@pytest.fixture(scope="module")
def process() -> Iterator[Worker]:
    """Return a process for all tests, which is started by the first that calls it."""
    process = Worker()
    yield process
    process.close()


@pytest.mark.slow
def test_calls_are_made_elsewhere(process: Worker) -> None:
    """A call returns or raises what it does in the other process, whatever that prints."""
    numbers = {process.call(os.getpid) for _ in range(3)}
    process.call(os.system, "echo what a library prints")
    with pytest.raises(FileNotFoundError):
        process.call(os.listdir, "/absent")

    assert len(numbers - {os.getpid()}) == 1
    assert process.call(posixpath.join, "a", "b") == "a/b"


@pytest.mark.slow
def test_a_process_that_ended_is_started_again(process: Worker) -> None:
    """A call that ends the process is a typed error, and the next one is answered."""
    with pytest.raises(ConfigurationError, match="in which the emulator calls _exit ended"):
        process.call(os._exit, 1)

    assert process.call(os.getpid) != os.getpid()


def test_sources_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is one of the folder in which the data set was described."""
    worker.call(os.getpid)  # it has a folder of its own from now on
    write_marine(tmp_path / "source.nc")
    monkeypatch.chdir(tmp_path)
    entry = marine_subset(MARINE, "source.nc")
    monkeypatch.chdir("/")

    assert "startdate" in entry.schema["properties"]


@pytest.mark.slow
def test_threads_share_a_process(process: Worker) -> None:
    """Threads get the answers to their own calls."""
    found: dict[int, list[str]] = {}

    def ask(number: int) -> None:
        found[number] = [process.call(posixpath.join, str(number), str(n)) for n in range(20)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

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


@pytest.mark.slow
def test_a_fork_does_not_keep_the_process_alive() -> None:
    """It ends when this process is done with it, although a child holds its pipes open."""
    process = Worker()
    number = process.call(os.getpid)
    read, write = os.pipe()
    child = in_a_fork(lambda: os.read(read, 1) == b"x")
    process.close()
    process.close()

    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    os.write(write, b"x")
    assert status_of(child) == 0
    os.close(read)
    os.close(write)


@pytest.mark.slow
def test_a_fork_in_the_middle_of_a_call(process: Worker) -> None:
    """The child calls a process of its own, whoever holds the lock of its parent's."""
    process.call(os.getpid)
    with process._lock:
        child = in_a_fork(lambda: worker.call(os.getpid) != os.getpid() and _ends())

    assert status_of(child) == 0
    assert process.call(posixpath.join, "a", "b") == "a/b"


def _ends() -> bool:
    worker.close()
    return True


@pytest.mark.slow
def test_an_error_that_cannot_be_sent_arrives_as_text(process: Worker) -> None:
    """What a library raises may be made of what no other process can have."""
    with pytest.raises(ConfigurationError, match="UnsendableError: it is so"):
        process.call(raise_unsendable)
    assert process.call(posixpath.join, "a", "b") == "a/b"
