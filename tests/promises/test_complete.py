"""A file in the cache is complete, or it is not there."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hda_fsspec.cache.cache import Cache
from hda_fsspec.emulator import Emulator, Fault, dated_product
from hda_fsspec.errors import DownloadError, ProductFormatError

_KILLS = 25


@functools.lru_cache(maxsize=31)
def archive(number: int, size: int) -> bytes:
    """Return a ZIP, which shows by itself whether it is whole."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for part in range(4):
            member = zipfile.ZipInfo(f"part-{part}.bin", date_time=(1980, 1, 1, 0, 0, 0))
            target.writestr(member, random.Random(f"{number} {part}").randbytes(size // 4))
    return buffer.getvalue()


def start(bench: Any, count: int = 1, size: int = 40_000, **options: Any) -> Emulator:
    """Start a service that delivers ZIPs, one a day."""
    products = [
        dated_product(bench.product_id(day), archive(day, size), delivered_name=f"{day}.zip")
        for day in range(1, count + 1)
    ]
    emulator: Emulator = bench.start(products=products, **options)
    return emulator


def wrong_entries(bench: Any, size: int = 40_000) -> list[str]:
    """Return the ids of what is in the cache and is not, byte by byte, what it should be."""
    return [
        entry.product.product_id
        for entry in Cache(bench.cache_dir).entries()
        if entry.path.read_bytes() != archive(int(entry.product.product_id[-5:-3]), size)
    ]


RECOVERABLE = {
    "a body that is cut": [Fault("cut")],
    "a body that is cut at once": [Fault("cut", after_bytes=0)],
    "a body that is cut before its last byte": [Fault("cut", after_bytes=40_400)],
    "a body that is cut three times": [Fault("cut", after_bytes=9_000, times=3)],
    "a reset before the answer": [Fault("reset")],
    "a reset in mid-body": [Fault("reset", after_bytes=20_000)],
    "a chunked body": [Fault("no-length")],
    "a body that ends with its connection": [Fault("no-length", value="close")],
    "a chunked body that is cut": [Fault("no-length", times=2), Fault("cut", after_bytes=20_000)],
    "a length that is too large": [Fault("wrong-length", value=100)],
    "a length that is too small": [Fault("wrong-length", value=-100)],
    "a length that is far too small": [Fault("wrong-length", value=-39_000)],
    "a file that is short once": [Fault("truncated-file", after_bytes=30_000)],
    "an empty file": [Fault("truncated-file", after_bytes=0)],
    "a page in place of the file": [Fault("html", method="GET", path="dataaccess/download/")],
    "a body without end that is cut": [
        Fault("no-length", value="close"),
        Fault("cut", after_bytes=20_000),
    ],
}


@pytest.mark.slow
def test_a_fault_that_passes_is_survived(bench: Any) -> None:
    """After a fault that strikes once or a few times the file is there, and it is whole."""
    emulator = start(bench, len(RECOVERABLE))
    fs = bench.filesystem(emulator)
    for day, (name, faults) in enumerate(RECOVERABLE.items(), start=1):
        before = len(emulator.log)
        for fault in faults:
            emulator.fault(dataclasses.replace(fault, product_id=bench.product_id(day)))

        body = fs.cat(bench.path(day))

        assert body == archive(day, 40_000), name
        struck = [fault for record in list(emulator.log)[before:] for fault in record.faults]
        assert set(struck) == {fault.kind for fault in faults}, name
        assert emulator.orders == day, name
    assert wrong_entries(bench) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("cut", after_bytes=20_000, times=None), DownloadError),
        (Fault("reset", after_bytes=20_000, times=None), DownloadError),
        (Fault("wrong-length", value=-100, times=None), ProductFormatError),
        (Fault("wrong-length", value=100, times=None), DownloadError),
        (Fault("truncated-file", after_bytes=30_000, times=None), ProductFormatError),
        (Fault("truncated-file", after_bytes=0, times=None), ProductFormatError),
        (
            Fault("html", method="GET", path="dataaccess/download/", times=None),
            ProductFormatError,
        ),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_a_fault_that_stays_leaves_nothing(
    fault: Fault, error: type[Exception], bench: Any
) -> None:
    """A fault that does not pass is a typed error, nothing is in the cache, and later it works."""
    emulator = start(bench, ranges=False)
    emulator.fault(fault)
    fs = bench.filesystem(emulator)

    with pytest.raises(error) as caught:
        fs.cat(bench.path(1))

    assert "again" in str(caught.value)
    assert list(Cache(bench.cache_dir).entries()) == []
    emulator.clear_faults()
    assert fs.cat(bench.path(1)) == archive(1, 40_000)
    assert emulator.orders == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let us mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_full_disk(is_told: bool, bench: Any, small_disk: Path) -> None:
    """A disk that is too small gives ENOSPC with the next step; what fits is still fetched."""
    products = [
        dated_product(bench.product_id(1), archive(1, 3_000_000)),
        dated_product(bench.product_id(2), archive(2, 40_000)),
    ]
    emulator = bench.start(products=products, sizes="exact" if is_told else "ND")
    bench.cache_dir = small_disk / "cache"
    fs = bench.filesystem(emulator)

    with pytest.raises(OSError, match="cache_dir") as caught:
        fs.cat(bench.path(1))

    assert caught.value.errno == 28
    assert list(Cache(bench.cache_dir).entries()) == []
    shutil.rmtree(bench.cache_dir / "v1" / "partial")
    assert fs.cat(bench.path(2)) == archive(2, 40_000)
    assert wrong_entries(bench) == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["while it is prepared", "in mid-body"])
def test_a_cache_that_is_deleted_under_a_job(moment: str, bench: Any) -> None:
    """A job goes on when its cache folder is deleted, and what it returns is whole."""
    size = 2_000_000
    emulator = start(bench, 2, size, preparation_seconds=0.2, rate_bytes_per_second=8e6)
    fs = bench.filesystem(emulator)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.extend(fs.cat(f"{bench.query}/*").values()))

    reader.start()
    while emulator.bytes_sent < 500_000 and (moment == "in mid-body" or emulator.orders < 2):
        time.sleep(0.005)
    shutil.rmtree(bench.cache_dir, ignore_errors=True)
    reader.join()

    assert got == [archive(1, size), archive(2, size)]
    assert wrong_entries(bench, size) == []


@pytest.mark.slow
def test_a_cache_that_is_deleted_again_and_again(bench: Any) -> None:
    """Whoever deletes the cache all the time gets an error told or a whole file, never a part."""
    size = 400_000
    emulator = start(bench, 6, size)
    fs = bench.filesystem(emulator)
    is_over = threading.Event()

    def delete() -> None:
        chance = random.Random(5)
        while not is_over.wait(chance.uniform(0.001, 0.02)):
            shutil.rmtree(bench.cache_dir, ignore_errors=True)

    deleter = threading.Thread(target=delete)
    deleter.start()
    try:
        for day in range(1, 7):
            with contextlib.suppress(OSError):
                assert fs.cat(bench.path(day)) == archive(day, size)
    finally:
        is_over.set()
        deleter.join()

    assert fs.cat(f"{bench.query}/*") == {
        bench.path(day).removeprefix("hda://"): archive(day, size) for day in range(1, 7)
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_kill_at_any_moment(seed: int, bench: Any, processes: Any, tmp_path: Path) -> None:
    """Processes that are killed at random moments leave whole files or none; the next completes."""
    size = 300_000
    emulator = start(bench, 30, size, preparation_seconds=0.03, rate_bytes_per_second=3e6)
    settings = bench.settings(emulator)
    paths = [bench.path(day) for day in range(1, 31)]
    outcome = tmp_path / "outcome"
    chance = random.Random(seed)
    killed = 0

    for _ in range(_KILLS):
        pid = processes.start(settings, paths, outcome=str(outcome))
        time.sleep(chance.uniform(0.0, 0.12))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        killed += not outcome.exists()
        assert wrong_entries(bench, size) == []

    bodies = bench.filesystem(emulator).cat(f"{bench.query}/*")
    assert list(bodies.values()) == [archive(day, size) for day in range(1, 31)]
    assert wrong_entries(bench, size) == []
    assert killed > _KILLS // 2
    assert emulator.orders == 30
