"""What nobody wants any more is not ordered; what somebody wants is, whoever else gave up."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from typing import Any

import pytest

from hda_fsspec.concurrency.tasks import SharedTasks, Task, sleep
from hda_fsspec.paths.locations import Location

_PATIENCE_SECONDS = 10.0


class Work:
    """Work that waits, then asks whether it is wanted, then costs something."""

    def __init__(self) -> None:
        self.tasks: SharedTasks[int] = SharedTasks(2)
        self.go = threading.Event()
        self.done = 0

    async def __call__(self, task: Task[int]) -> int:
        """Wait without a thread."""
        while not self.go.is_set():
            await sleep(0.002)
        task.check_wanted()
        self.done += 1
        return self.done


def test_a_task_that_nobody_wants_is_given_up() -> None:
    """When all who asked have cancelled the work is not done."""
    work = Work()
    futures = [work.tasks.submit("a", work) for _ in range(3)]
    assert all(future.cancel() for future in futures)
    work.go.set()

    until = time.monotonic() + _PATIENCE_SECONDS
    while len(work.tasks) and time.monotonic() < until:
        time.sleep(0.002)
    assert work.done == 0
    assert work.tasks.submit("a", work).result(_PATIENCE_SECONDS) == 1


@pytest.mark.parametrize("is_first", [True, False])
def test_one_who_wants_it_is_enough(is_first: bool) -> None:
    """Interest of one keeps the work going for all, whoever came first."""
    work = Work()
    futures = [work.tasks.submit("a", work) for _ in range(2)]
    futures[is_first].cancel()
    work.go.set()

    assert futures[not is_first].result(_PATIENCE_SECONDS) == 1
    assert futures[is_first].cancelled()


def test_who_comes_after_it_was_given_up_gets_a_new_one() -> None:
    """A task that was given up and has not ended yet is joined by nobody."""
    tasks: SharedTasks[int] = SharedTasks(2)
    cancelled, given_up, go = threading.Event(), threading.Event(), threading.Event()

    async def given_up_work(task: Task[int]) -> int:
        while not cancelled.is_set():
            await sleep(0.002)
        try:
            task.check_wanted()
        finally:
            given_up.set()
            while not go.is_set():
                await sleep(0.002)
        return 0

    async def other(_: Task[int]) -> int:
        return 7

    first = tasks.submit("a", given_up_work)
    first.cancel()
    cancelled.set()
    assert given_up.wait(_PATIENCE_SECONDS)
    assert tasks.submit("a", other).result(_PATIENCE_SECONDS) == 7
    second = tasks.submit("a", Work())
    go.set()

    assert not second.done()
    assert len(tasks) == 1


@pytest.mark.slow
def test_products_that_wait_for_quota_are_given_up(bench: Any) -> None:
    """Interest lost while the quota is waited for saves the order; what was ordered comes."""
    emulator = bench.start(days=3, quota=1, quota_window_seconds=0.8)
    fs = bench.filesystem(emulator)
    products = fs._client
    found = [products.product(Location.parse(bench.path(day))) for day in (1, 2, 3)]
    futures = [products.fetch(product) for product in found]
    done, waiting = concurrent.futures.wait(
        futures, _PATIENCE_SECONDS, concurrent.futures.FIRST_COMPLETED
    )
    assert len(done) == 1

    for future in waiting:
        assert future.cancel()

    until = time.monotonic() + _PATIENCE_SECONDS
    while len(products._tasks) and time.monotonic() < until:
        time.sleep(0.005)
    assert len(products._tasks) == 0
    assert emulator.orders == 1
    assert fs.cat(bench.path(3)) == bench.body(3)
