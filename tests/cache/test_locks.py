"""Locks and slots among processes and threads, also on a disk that cannot lock."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from checkout import ROOT
from rows import for_each

from hda_fsspec.cache.folder import Folder
from hda_fsspec.cache.locks import FileLocks, Lock


def test_locks_exclude_and_are_freed_by_death(tmp_path: Path) -> None:
    """A lock has one holder, among processes and threads, and ends with its process."""
    script = (
        "import sys; from pathlib import Path; from hda_fsspec.cache.locks import FileLocks;"
        "lock = FileLocks(Path(sys.argv[1])).acquire('a'); print(lock is not None, flush=True);"
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
        assert locks.acquire("a") is None
        other.kill()
        other.wait(10)

    lock = locks.acquire("a")
    assert lock is not None
    assert lock.is_shared
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(FileLocks(tmp_path / "cache").acquire, "a").result() is None
        pool.submit(lock.release).result()
    lock.release()
    with FileLocks(tmp_path / "cache").acquire("a") as again:  # type: ignore[union-attr]
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

    lock = ours.acquire("a")

    assert lock is not None
    assert not lock.is_shared
    assert theirs.acquire("a") is None  # threads of one process still exclude each other
    lock.release()
    assert theirs.acquire("a") is not None
    assert ours.acquire("b") is not None
    assert [record.name for record in caplog.records] == ["hda_fsspec"] * 2


@pytest.mark.parametrize("times", [1, 100])
def test_a_folder_that_is_removed_meanwhile(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever deletes the cache at the wrong moment costs a lock at most, never an error."""
    make, left = Folder.make, [times]

    def make_in_vain(self: Folder, path: Path) -> None:
        make(self, path)
        if path.name == "locks" and left[0]:
            left[0] -= 1
            shutil.rmtree(tmp_path / "cache")
            path.stat()

    monkeypatch.setattr(Folder, "make", make_in_vain)

    lock = FileLocks(tmp_path / "cache").acquire("a")

    assert lock is not None
    assert lock.is_shared == (times == 1)
    lock.release()


def acquire_slot(locks: FileLocks, *numbers: int, name: str = "a") -> Lock:
    """Take one of some slots, of which one must be free."""
    slot = locks.acquire_slot(name, numbers)
    assert slot is not None
    return slot


def test_a_slot_has_one_holder(tmp_path: Path) -> None:
    """What one took no other gets, in this object or another, until it is given back."""
    first, second = (FileLocks(tmp_path / "cache") for _ in range(2))

    slot = acquire_slot(first, 3, 4)
    assert first.acquire_slot("a", [3]) is second.acquire_slot("a", [3]) is None
    acquire_slot(second, 3, 4)
    assert first.acquire_slot("a", [3, 4]) is None
    acquire_slot(second, 3, name="another name")
    slot.release()
    slot.release()
    acquire_slot(second, 3, 4)


def test_slots_are_shared_by_processes(tmp_path: Path) -> None:
    """What another process holds is not given, and is free when that process is killed."""
    script = (
        "import sys; from pathlib import Path; from hda_fsspec.cache.locks import FileLocks;"
        "locks = FileLocks(Path(sys.argv[1]));"
        "slots = [locks.acquire_slot('a', range(3)) for _ in range(2)];"
        "print(None not in slots, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cache")]
    locks = FileLocks(tmp_path / "cache")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        acquire_slot(locks, 0, 1, 2)
        assert locks.acquire_slot("a", range(3)) is None
        other.kill()
        other.wait(10)

    acquire_slot(locks, 0)
    acquire_slot(locks, 1)


def test_a_slot_leaves_no_more_files_open_than_there_are_slots(tmp_path: Path) -> None:
    """However often slots and locks are taken, given back, or refused, open files stay few."""
    locks, other = (FileLocks(tmp_path / "cache") for _ in range(2))
    held = acquire_slot(other, 0)
    before = len(list(Path("/proc/self/fd").iterdir()))

    for number in range(50):
        assert locks.acquire_slot("a", [0]) is None
        acquire_slot(locks, 0, 1).release()
        lock = locks.acquire(f"product {number}")
        assert lock is not None
        lock.release()

    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    held.release()


def test_a_fork_has_no_right_to_the_slots_of_its_parent(tmp_path: Path) -> None:
    """A child gets what its parent does not hold, and what it takes is free when it is killed."""
    ours = FileLocks(tmp_path / "cache")
    held = acquire_slot(ours, 0)
    acquire_slot(ours, 1).release()  # a file that both would have open
    reader, writer = os.pipe()

    pid = os.fork()
    if pid == 0:
        try:
            held.release()  # which is not the child's to give back
            got = [ours.acquire_slot("a", [number]) is not None for number in (0, 1)]
            os.write(writer, repr(got).encode())
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    told = os.read(reader, 100)
    os.close(reader)

    assert told == b"[False, True]"
    assert ours.acquire_slot("a", [1]) is None
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    acquire_slot(ours, 1)
    assert FileLocks(tmp_path / "cache").acquire_slot("a", [0]) is None


@pytest.mark.parametrize("is_held", [True, False])
def test_slots_survive_the_deletion_of_their_folder(is_held: bool, tmp_path: Path) -> None:
    """Where the cache folder is deleted, those who come later share slots again."""
    first, second = (FileLocks(tmp_path / "cache") for _ in range(2))
    slot = acquire_slot(first, 0)
    if not is_held:
        slot.release()
    shutil.rmtree(tmp_path / "cache")
    if is_held:
        slot.release()

    again = acquire_slot(first, 0)

    assert again.path.exists()
    assert again.is_shared
    assert second.acquire_slot("a", [0]) is None


def test_a_disk_that_cannot_lock_has_slots_for_each_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where flock is not implemented a process has all slots to itself, with one warning."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    locks = FileLocks(tmp_path / "cache")

    slots = [acquire_slot(locks, 0, 1) for _ in range(2)]

    assert not slots[0].is_shared
    assert locks.acquire_slot("a", [0, 1]) is None  # its own threads still share
    slots[1].release()
    acquire_slot(locks, 0, 1)
    assert len(caplog.records) == 1


@for_each("number", [errno.EMFILE, errno.EBADF, errno.ENOMEM])
def test_a_lock_that_cannot_be_taken_is_told(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the system that has nothing to do with the disk names lock and next step."""
    locks = FileLocks(tmp_path / "cache")

    def refuse(*_: object) -> None:
        raise OSError(number, "as the system says it")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        with pytest.raises(OSError, match=r"The lock .* cannot be taken: .*cache_dir") as err:
            locks.acquire("a")
        assert err.value.errno == number
        with pytest.raises(OSError, match=r"The lock .* cannot be taken"):
            locks.acquire_slot("a", [1])
    assert locks.acquire("a") is not None


def test_a_lock_that_cannot_be_given_back_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its file is closed, which frees it for other processes too, and the log says so once."""
    locks = FileLocks(tmp_path / "cache")
    taken = locks.acquire("a"), locks.acquire_slot("b", [1])

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "as the system says it")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        for lock in taken:
            assert lock is not None
            lock.release()
    with FileLocks(tmp_path / "cache").acquire("a") as again:  # type: ignore[union-attr]
        assert again.is_shared
    slot = locks.acquire_slot("b", [1])
    assert slot is not None
    assert slot.is_shared
    assert [record.getMessage().count("given back") for record in caplog.records] == [1]
