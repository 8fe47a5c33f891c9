"""Requests of an account at one time, and the places that processes share for them."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hda_fsspec.cache.slots import SharedSlots
from hda_fsspec.concurrency.tasks import sleep
from hda_fsspec.fetching.throttle import AT_ONCE, RequestLimiter


class Waits:
    """Remembers the waits, and lets a clock pass instead of waiting."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self, seconds: float) -> None:
        """Wait."""
        self.now += seconds

    def clock(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def waits() -> Waits:
    """Return a way to wait that takes no time."""
    return Waits()


def admission(folder: Path, waits: Waits, own: int = 100) -> RequestLimiter:
    """Return what another process on that cache folder would have."""
    places = SharedSlots(folder / "cache", "requests")
    return RequestLimiter(places, own=own, patience_seconds=60, sleep=waits, clock=waits.clock)


class Transfer:
    """A transfer that begins as soon as it may; it is asked to try again by its test."""

    def __init__(self, limiter: RequestLimiter) -> None:
        self.is_held = False
        self._work = self._run(limiter)

    async def _run(self, limiter: RequestLimiter) -> None:
        async with limiter.transfer():
            self.is_held = True
            await sleep(math.inf)

    def attempt(self) -> float:
        """Try to begin, and return for how long the transfer waits now."""
        return float(self._work.send(None))

    def close(self) -> None:
        """End it, or give it up."""
        self._work.close()


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[SharedSlots]:
    """Let others take all places."""
    places = SharedSlots(tmp_path / "cache", "requests")
    assert [places.acquire([number]) for number in range(AT_ONCE)] == [*range(AT_ONCE)]
    yield places
    for number in range(AT_ONCE):
        places.release(number)


def test_a_place_has_one_taker(tmp_path: Path) -> None:
    """What one took no other gets, in this object or another, until it is given back."""
    first, second = (SharedSlots(tmp_path / "cache", "a") for _ in range(2))

    assert first.acquire([3, 4]) == 3
    assert first.acquire([3]) is second.acquire([3]) is None
    assert second.acquire([3, 4]) == 4
    assert SharedSlots(tmp_path / "cache", "another name").acquire([3]) == 3
    first.release(3)
    assert second.acquire([3]) == 3


def test_a_fork_has_no_right_to_the_places_of_its_parent(tmp_path: Path) -> None:
    """A child gets what its parent does not hold, and what it takes is free when it is killed."""
    ours = SharedSlots(tmp_path / "cache", "a")
    assert ours.acquire([0]) == 0
    reader, writer = os.pipe()

    pid = os.fork()
    if pid == 0:
        got = [ours.acquire([0]), ours.acquire([1])]
        os.write(writer, repr(got).encode())
        signal.pause()
        os._exit(0)
    told = os.read(reader, 100)
    os.close(reader)
    os.close(writer)

    assert told == b"[None, 1]"
    assert ours.acquire([1]) is None
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert ours.acquire([1]) == 1
    assert SharedSlots(tmp_path / "cache", "a").acquire([0]) is None


def test_places_survive_the_deletion_of_their_folder(tmp_path: Path) -> None:
    """Where the cache folder is deleted, those who come later share places again."""
    first = SharedSlots(tmp_path / "cache", "a")
    assert first.acquire([0, 1]) == 0
    first.release(0)
    shutil.rmtree(tmp_path / "cache")
    second = SharedSlots(tmp_path / "cache", "a")

    assert first.acquire([0, 1]) == 0
    assert second.acquire([0, 1]) == 1


def test_a_disk_that_cannot_lock_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where flock is not implemented each process has all places to itself, with one warning."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    first, second = (SharedSlots(tmp_path / "cache", "a") for _ in range(2))

    assert [first.acquire([0, 1]), first.acquire([0, 1]), second.acquire([0, 1])] == [0, 1, 0]
    assert first.acquire([0, 1]) is None  # its own threads still share
    assert len(caplog.records) == 2


def test_transfers_leave_places_to_calls(tmp_path: Path, waits: Waits) -> None:
    """However many files are fetched, four calls go out at once, and the fifth waits."""
    others, ours = admission(tmp_path, waits), admission(tmp_path, waits)
    transfers = [Transfer(others) for _ in range(AT_ONCE)]
    for transfer in transfers:
        assert transfer.attempt() > 0

    assert sum(transfer.is_held for transfer in transfers) == AT_ONCE - 4
    with ours.request(), ours.request(), others.request(), others.request():
        assert waits.now == 0.0
        waiting = threading.Event()

        class Enough(Exception):
            pass

        def sleep(_: float) -> None:
            waiting.set()
            raise Enough

        fifth = admission(tmp_path, waits)
        fifth._sleep = sleep
        with pytest.raises(Enough), fifth.request():
            pass
        assert waiting.is_set()
    for transfer in transfers[: AT_ONCE - 4]:
        transfer.close()
    for transfer in transfers[AT_ONCE - 4 :]:
        transfer.attempt()
        assert transfer.is_held
        transfer.close()


def test_calls_use_what_transfers_leave(tmp_path: Path, waits: Waits) -> None:
    """While nothing is fetched, all twenty places are for calls."""
    ours = admission(tmp_path, waits)
    calls = [ours.request() for _ in range(AT_ONCE)]

    for call in calls:
        call.__enter__()

    assert waits.now == 0.0
    for call in calls:
        call.__exit__(None, None, None)


def test_waiting_is_told_and_bounded(
    taken: SharedSlots, tmp_path: Path, waits: Waits, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that waits for stuck processes says so after a while, and goes on in the end."""
    assert taken.acquire(range(AT_ONCE)) is None

    with admission(tmp_path, waits).request():
        pass

    assert 600 <= waits.now < 601
    assert [record.getMessage()[:20] for record in caplog.records] == ["All 20 requests that"]


def test_a_transfer_waits_without_a_thread(
    taken: SharedSlots, tmp_path: Path, waits: Waits
) -> None:
    """A transfer sleeps while there is no place, and after its patience it goes on without."""
    transfer = Transfer(admission(tmp_path, waits))

    while (pause := transfer.attempt()) < math.inf:
        waits(pause)

    assert transfer.is_held
    transfer.close()
    assert 60 <= waits.now < 61
    assert taken.acquire(range(AT_ONCE)) is None


def test_an_abandoned_wait_gives_back_what_it_had(tmp_path: Path, waits: Waits) -> None:
    """A transfer that is given up while it waits leaves its share of the process to others."""
    ours = admission(tmp_path, waits, own=2)
    blocker = SharedSlots(tmp_path / "cache", "requests")
    for number in range(AT_ONCE):
        blocker.acquire([number])
    for _ in range(5):
        transfer = Transfer(ours)
        transfer.attempt()
        assert not transfer.is_held
        transfer.close()
    blocker.release(7)

    transfer = Transfer(ours)
    transfer.attempt()
    assert transfer.is_held
    transfer.close()
