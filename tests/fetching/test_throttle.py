"""Requests of an account at one time, over all processes on a cache."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hda_fsspec.cache.locks import FileLocks, Lock
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


def limiter(folder: Path, waits: Waits, own: int = 100) -> RequestLimiter:
    """Return what another process on that cache folder would have."""
    locks = FileLocks(folder / "cache")
    return RequestLimiter(
        locks, "requests", own=own, patience_seconds=60, sleep=waits, clock=waits.clock
    )


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


def take(folder: Path) -> list[Lock]:
    """Take all slots, as others would."""
    locks = FileLocks(folder / "cache")
    slots = [locks.acquire_slot("requests", [number]) for number in range(AT_ONCE)]
    return [slot for slot in slots if slot is not None]


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[list[Lock]]:
    """Let others take all slots."""
    slots = take(tmp_path)
    assert len(slots) == AT_ONCE
    yield slots
    for slot in slots:
        slot.release()


def test_transfers_leave_slots_to_calls(tmp_path: Path, waits: Waits) -> None:
    """However many files are fetched, four calls go out at once, and the fifth waits."""
    others, ours = limiter(tmp_path, waits), limiter(tmp_path, waits)
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

        fifth = limiter(tmp_path, waits)
        fifth.sleep = sleep
        with pytest.raises(Enough), fifth.request():
            pass
        assert waiting.is_set()
    for transfer in transfers[:-1]:
        transfer.close()
    transfers[-1].attempt()
    assert transfers[-1].is_held
    transfers[-1].close()


def test_calls_use_what_transfers_leave(tmp_path: Path, waits: Waits) -> None:
    """While nothing is fetched, all twenty slots are for calls."""
    ours = limiter(tmp_path, waits)
    calls = [ours.request() for _ in range(AT_ONCE)]

    for call in calls:
        call.__enter__()

    assert waits.now == 0.0
    for call in calls:
        call.__exit__(None, None, None)


@pytest.mark.slow
def test_waiting_is_told_and_bounded(
    taken: list[Lock], tmp_path: Path, waits: Waits, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that waits for stuck processes says so after a while, and goes on in the end."""
    with limiter(tmp_path, waits).request():
        pass

    assert 600 <= waits.now < 601
    assert [record.getMessage()[:20] for record in caplog.records] == ["All 20 requests that"]


def test_a_transfer_waits_without_a_thread(taken: list[Lock], tmp_path: Path, waits: Waits) -> None:
    """A transfer sleeps while there is no slot, and after its patience it goes on without."""
    transfer = Transfer(limiter(tmp_path, waits))

    while (pause := transfer.attempt()) < math.inf:
        waits(pause)

    assert transfer.is_held
    transfer.close()
    assert 60 <= waits.now < 61
    assert take(tmp_path) == []


def test_an_abandoned_wait_gives_back_what_it_had(
    taken: list[Lock], tmp_path: Path, waits: Waits
) -> None:
    """A transfer that is given up while it waits leaves its share of the process to others."""
    ours = limiter(tmp_path, waits, own=2)
    for _ in range(5):
        transfer = Transfer(ours)
        transfer.attempt()
        assert not transfer.is_held
        transfer.close()
    taken[7].release()

    transfer = Transfer(ours)
    transfer.attempt()
    assert transfer.is_held
    transfer.close()
