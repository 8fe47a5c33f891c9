"""Slow, stalling and silent servers; disks without room, or that may not be written to."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hda_fsspec.cache.cache import Cache
from hda_fsspec.emulator import Emulator, Fault
from hda_fsspec.errors import BrokerError, DownloadError

_PLACES = {
    "login": ("POST", "identity/gettoken"),
    "search": ("POST", "dataaccess/search"),
    "order": ("POST", "dataaccess/download"),
    "status": ("HEAD", "dataaccess/download/"),
    "file": ("GET", "dataaccess/download/"),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hda_fsspec.network.retries._FIRST_DELAY_SECONDS", 0.005)
    monkeypatch.setattr("hda_fsspec.network.retries._LONGEST_DELAY_SECONDS", 0.02)
    monkeypatch.setattr("hda_fsspec.fetching.transfer._FIRST_DELAY_SECONDS", 0.005)


def in_the_cache(bench: Any) -> list[bytes]:
    """Return the files that would be taken for products."""
    return [entry.path.read_bytes() for entry in Cache(bench.cache_dir).entries()]


def gets(emulator: Emulator) -> list[int]:
    """Return the statuses of what was answered to requests for files."""
    files = emulator.log.where(lambda r: r.method == "GET" and "/download/" in r.path)
    return [record.status for record in files]


@pytest.mark.slow
def test_a_slow_server_is_not_cut_off(bench: Any) -> None:
    """A body of 1 kB/s takes longer than the time-out, and comes in one piece all the same."""
    emulator = bench.start(days=1, size=1500)
    emulator.fault(Fault("slow", value=1000))

    assert bench.filesystem(emulator, timeout=1).cat(bench.path(1)) == bench.body(1, 1500)

    assert gets(emulator) == [200]


@pytest.mark.slow
def test_a_body_that_stalls_is_gone_on_with(bench: Any) -> None:
    """When no more bytes come for as long as the time-out, the rest is asked for anew."""
    emulator = bench.start(days=1)
    emulator.fault(Fault("stall", after_bytes=1500))

    assert bench.filesystem(emulator, timeout=2).cat(bench.path(1)) == bench.body(1)

    assert gets(emulator) == [200, 206]


@pytest.mark.slow
def test_a_body_that_always_stalls_is_told(bench: Any) -> None:
    """A body that never gets further is an error that says so, and the order is not wasted."""
    emulator = bench.start(days=1)
    emulator.fault(Fault("stall", after_bytes=0, times=None))
    fs = bench.filesystem(emulator, timeout=0.25)

    with pytest.raises(DownloadError, match="Open it again later"):
        fs.cat(bench.path(1))

    assert in_the_cache(bench) == []
    assert len(gets(emulator)) <= 8
    emulator.clear_faults()
    assert fs.cat(bench.path(1)) == bench.body(1)
    assert emulator.order_posts == 1


@pytest.mark.slow
@pytest.mark.parametrize("place", _PLACES)
def test_a_server_that_never_answers_is_given_up(place: str, bench: Any) -> None:
    """Wherever a server accepts and says nothing, three time-outs later that is told."""
    method, path = _PLACES[place]
    emulator = bench.start(days=1)
    emulator.fault(Fault("hang", method=method, path=path, times=None))
    fs = bench.filesystem(emulator, timeout=0.25)

    with pytest.raises(BrokerError, match="no answer in 3 tries") as caught:
        fs.cat(bench.path(1))

    assert "Check the network" in str(caught.value)
    assert emulator.count(method, path) == 3
    assert in_the_cache(bench) == []
    emulator.clear_faults()
    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)
    # An order that was never answered may have been taken: it is repeated, at no cost.
    assert emulator.orders == 1


@contextlib.contextmanager
def no_larger_files(most_bytes: int) -> Iterator[None]:
    """Let the system refuse this process larger files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize("size", [300_000, 6_000_000])
def test_a_file_that_may_not_grow(size: int, bench: Any) -> None:
    """Where a file may not grow any further the error says what to do, and later it goes on."""
    emulator = bench.start(days=1, size=size)
    fs = bench.filesystem(emulator)

    with no_larger_files(size // 2), pytest.raises(OSError, match="cache_dir") as caught:
        fs.cat(bench.path(1))

    assert caught.value.errno == errno.EFBIG
    assert in_the_cache(bench) == []
    assert fs.cat(bench.path(1)) == bench.body(1, size)
    assert in_the_cache(bench) == [bench.body(1, size)]
    assert emulator.order_posts == 1


@pytest.fixture
def read_only(bench: Any) -> Iterator[Path]:
    """Fetch a product into a cache which cannot be written to afterwards, not even by root."""
    emulator = bench.start(days=2)
    bench.filesystem(emulator).cat(bench.path(1))
    bench.emulator = emulator
    folder = str(bench.cache_dir)
    mount = ["mount", "--bind", "-o", "ro", folder, folder]
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder read-only for this process")
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let us mount")
    yield bench.cache_dir
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_read_only_cache_orders_nothing_in_vain(bench: Any, read_only: Path) -> None:
    """What cannot be kept is not ordered; the error says what to do, and hits are served."""
    emulator = bench.emulator
    fs = bench.filesystem(emulator, timeout=55)

    assert fs.cat(bench.path(1)) == bench.body(1)
    assert len(fs.ls(bench.query)) == 2
    with pytest.raises(OSError, match=r"is read-only .* Set cache_dir") as caught:
        fs.cat(bench.path(2))

    assert caught.value.errno in {errno.EROFS, errno.EACCES}
    assert emulator.order_posts == 1
