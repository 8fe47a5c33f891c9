"""Locks and slots among processes and threads, also on a disk that cannot lock."""

from __future__ import annotations

import errno
import fcntl
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from checkout import ROOT

from hda_fsspec.cache.folder import Folder
from hda_fsspec.cache.locks import FileLocks


def test_locks_exclude_and_are_freed_by_death(tmp_path: Path) -> None:
    """A lock has one holder, among processes and threads, and ends with its process."""
    script = (
        "import sys; from pathlib import Path; from hda_fsspec.cache.locks import FileLocks;"
        "lock = FileLocks(Path(sys.argv[1])).try_acquire('a'); print(lock is not None, flush=True);"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cache")]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        locks = FileLocks(tmp_path / "cache")
        assert locks.try_acquire("a") is None
        other.kill()
        other.wait(10)

    lock = locks.try_acquire("a")
    assert lock is not None
    assert lock.is_shared
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(FileLocks(tmp_path / "cache").try_acquire, "a").result() is None
        pool.submit(lock.release).result()
    lock.release()
    with FileLocks(tmp_path / "cache").try_acquire("a") as again:  # type: ignore[union-attr]
        assert again.path.exists()
    assert again.path.exists()


def test_disk_that_cannot_lock_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where flock is not implemented the lock is given, with one warning, and no marker stays."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    ours, theirs = (FileLocks(tmp_path / "cache") for _ in range(2))

    lock = ours.try_acquire("a")

    assert lock is not None
    assert not lock.is_shared
    assert theirs.try_acquire("a") is None  # threads of one process still exclude each other
    lock.release()
    assert theirs.try_acquire("a") is not None
    assert ours.try_acquire("b") is not None
    assert [record.name for record in caplog.records] == ["hda_fsspec"] * 2


@pytest.mark.parametrize("times", [1, 100])
def test_a_folder_that_is_removed_meanwhile(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever deletes the cache at the wrong moment costs a lock at most, never an error."""
    make, left = Folder.make, [times]

    def make_in_vain(self: Folder, path: Path) -> Path:
        made = make(self, path)
        if path.name == "locks" and left[0]:
            left[0] -= 1
            shutil.rmtree(tmp_path / "cache")
            made.stat()
        return made

    monkeypatch.setattr(Folder, "make", make_in_vain)

    lock = FileLocks(tmp_path / "cache").try_acquire("a")

    assert lock is not None
    assert lock.is_shared == (times == 1)
    lock.release()
