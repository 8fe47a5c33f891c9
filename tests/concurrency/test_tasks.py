"""Tasks: work that waits holds no thread; one task per key; nothing is left behind."""

from __future__ import annotations

import concurrent.futures
import contextvars
import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from rows import for_each

from hda_fsspec.concurrency.tasks import Semaphore, SharedTasks, Task, sleep

_PATIENCE_SECONDS = 10.0


Work = Callable[[Task[int]], Coroutine[Any, None, int]]


def constant(value: int) -> Work:
    """Return work that ends at once."""

    async def work(_: Task[int]) -> int:
        return value

    return work


def waiting(seconds: float, value: int = 0) -> Work:
    """Return work that waits without a thread."""

    async def work(_: Task[int]) -> int:
        await sleep(seconds)
        return value

    return work


def wait_for_idle_threads(tasks: SharedTasks[int], count: int) -> None:
    """Wait until so many threads have started and wait."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while tasks._idle < count and time.monotonic() < until:
        time.sleep(0.001)


def test_the_result_is_returned() -> None:
    """A task's future holds what its work return."""
    tasks: SharedTasks[int] = SharedTasks(2)

    futures = [tasks.submit(number, constant(number)) for number in range(50)]

    assert [future.result(_PATIENCE_SECONDS) for future in futures] == list(range(50))
    assert len(tasks) == 0


def test_one_task_per_key() -> None:
    """Who asks for a key that is under way joins it; afterwards it begins anew."""
    tasks: SharedTasks[int] = SharedTasks(4)
    begun: list[int] = []
    go = threading.Event()

    async def work(_: Task[int]) -> int:
        begun.append(1)
        while not go.is_set():
            await sleep(0.005)
        return len(begun)

    futures = [tasks.submit("a", work) for _ in range(20)]
    assert len(tasks) == 1
    go.set()

    assert {future.result(_PATIENCE_SECONDS) for future in futures} == {1}
    assert tasks.submit("a", work).result(_PATIENCE_SECONDS) == 2


def test_a_fault_is_told_to_all_and_ends_nothing_else() -> None:
    """An exception goes to all who asked; the threads live on, and the key is free again."""
    tasks: SharedTasks[int] = SharedTasks(1)

    async def work(_: Task[int]) -> int:
        await sleep(0.02)
        raise KeyError("torn")

    futures = [tasks.submit("a", work) for _ in range(3)]

    for future in futures:
        with pytest.raises(KeyError, match="torn"):
            future.result(_PATIENCE_SECONDS)
    assert tasks.submit("a", constant(5)).result(_PATIENCE_SECONDS) == 5


@for_each("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_no_exception_kills_a_thread(kind: type[BaseException]) -> None:
    """Whatever work raise, it is their future's, and the one thread goes on."""
    tasks: SharedTasks[int] = SharedTasks(1)

    async def work(_: Task[int]) -> int:
        await sleep(0.0)
        raise kind

    future = tasks.submit("a", work)

    assert isinstance(future.exception(_PATIENCE_SECONDS), kind)
    assert tasks.submit("b", constant(1)).result(_PATIENCE_SECONDS) == 1


def test_waiting_holds_no_thread() -> None:
    """With one thread a hundred tasks wait side by side."""
    tasks: SharedTasks[int] = SharedTasks(1)
    began = time.monotonic()

    futures = [tasks.submit(number, waiting(0.1)) for number in range(100)]
    for future in futures:
        future.result(_PATIENCE_SECONDS)

    # One after the other they take 10 s.
    assert time.monotonic() - began < 5.0


def test_a_busy_thread_delays_nothing_that_is_due() -> None:
    """What becomes due while one thread is busy is done by another one, at its time."""
    tasks: SharedTasks[int] = SharedTasks(4)
    release = threading.Event()

    async def busy(_: Task[int]) -> int:
        release.wait(_PATIENCE_SECONDS)
        return 0

    later = tasks.submit("later", waiting(0.1, 7))
    wait_for_idle_threads(tasks, 2)
    with tasks._condition:  # so that both of them wake after this
        blocked = [tasks.submit(f"busy {number}", busy) for number in range(2)]

    try:
        assert later.result(2.0) == 7
    finally:
        release.set()
    assert [future.result(_PATIENCE_SECONDS) for future in blocked] == [0, 0]


def test_two_tasks_at_one_time_get_two_threads() -> None:
    """An idle thread counts for one task only, however quickly two of them come."""
    tasks: SharedTasks[int] = SharedTasks(4)
    tasks.submit("first", constant(0)).result(_PATIENCE_SECONDS)
    wait_for_idle_threads(tasks, 1)
    both = threading.Barrier(2)

    async def meet(_: Task[int]) -> int:
        return both.wait(2.0)

    with tasks._condition:  # so that the idle thread wakes after both
        futures = [tasks.submit("a", meet), tasks.submit("b", meet)]

    assert sorted(future.result(_PATIENCE_SECONDS) for future in futures) == [0, 1]


def test_threads_are_bounded_and_end() -> None:
    """There are never more threads than allowed, and none when there has been nothing to do."""
    tasks: SharedTasks[int] = SharedTasks(3, idle_seconds=0.05)
    before = set(threading.enumerate())  # of which those of earlier tests may end meanwhile
    most = 0

    def ours() -> set[threading.Thread]:
        return set(threading.enumerate()) - before

    async def work(_task: Task[int]) -> int:
        nonlocal most
        for _ in range(3):
            most = max(most, len(ours()))
            await sleep(0.001)
        return 0

    for future in [tasks.submit(number, work) for number in range(200)]:
        future.result(_PATIENCE_SECONDS)

    assert 1 <= most <= 3
    until = time.monotonic() + _PATIENCE_SECONDS
    while ours() and time.monotonic() < until:
        time.sleep(0.01)
    assert ours() == set()
    assert tasks.submit("again", constant(4)).result(_PATIENCE_SECONDS) == 4


@pytest.mark.slow
def test_forgotten_tasks_are_freed() -> None:
    """What a task held is freed when it has landed, and the tasks when nobody has them."""
    tasks: SharedTasks[Any] = SharedTasks(2, idle_seconds=0.02)

    class Big:
        pass

    big = Big()
    seen = weakref.ref(big)

    async def work(_: Task[Any], held: Big = big) -> Any:
        await sleep(0.0)
        return None

    tasks.submit("a", work).result(_PATIENCE_SECONDS)
    del work, big
    gone = weakref.ref(tasks)
    del tasks
    until = time.monotonic() + _PATIENCE_SECONDS
    while (seen() is not None or gone() is not None) and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)

    assert seen() is None
    assert gone() is None


def test_a_machine_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no thread the error is told, and the next attempt works."""
    tasks: SharedTasks[int] = SharedTasks(2)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        future = tasks.submit("a", constant(1))
        with pytest.raises(RuntimeError, match="thread"):
            future.result(_PATIENCE_SECONDS)

    assert tasks.submit("a", constant(1)).result(_PATIENCE_SECONDS) == 1


def test_a_semaphore_lets_in_so_many() -> None:
    """Never more than a semaphore's value are inside, and all come through in the end."""
    tasks: SharedTasks[int] = SharedTasks(8)
    semaphore = Semaphore(3)
    lock = threading.Lock()
    inside = most = 0

    async def work(task: Task[int]) -> int:
        nonlocal inside, most
        async with semaphore:
            try:
                with lock:
                    inside += 1
                    most = max(most, inside)
                await sleep(0.002)
                if task.key == 13:
                    raise KeyError(13)
            finally:
                with lock:
                    inside -= 1
        return 0

    futures = [tasks.submit(number, work) for number in range(60)]

    assert sum(future.exception(_PATIENCE_SECONDS) is None for future in futures) == 59
    assert most == 3
    assert inside == 0


def test_a_semaphore_is_fair() -> None:
    """Who waits longest goes first, also before who comes in the moment when a place gets free."""
    tasks: SharedTasks[int] = SharedTasks(1)
    semaphore = Semaphore(1)
    order: list[Any] = []

    async def work(task: Task[int]) -> int:
        async with semaphore:
            if task.key == 0:
                while len(tasks) < 5:
                    await sleep(0.002)
                tasks.submit("late", work)
            order.append(task.key)
        return 0

    futures = [tasks.submit(number, work) for number in range(5)]
    for future in futures:
        future.result(_PATIENCE_SECONDS)
    tasks.submit("last", work).result(_PATIENCE_SECONDS)

    assert order == [0, 1, 2, 3, 4, "late", "last"]


def test_each_waiter_cancels_for_itself() -> None:
    """Who cancels has an end at once; the others get what the work returns."""
    tasks: SharedTasks[int] = SharedTasks(1)
    go = threading.Event()

    async def work(_: Task[int]) -> int:
        while not go.is_set():
            await sleep(0.002)
        return 7

    first, second, third = (tasks.submit("a", work) for _ in range(3))
    assert first.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        first.result(0)
    go.set()

    assert second.result(_PATIENCE_SECONDS) == third.result(_PATIENCE_SECONDS) == 7
    assert not second.cancel()


def test_work_runs_in_the_context_of_who_asked() -> None:
    """What is set for a thread that asks is set for the work, before and after it waits."""
    tasks: SharedTasks[str] = SharedTasks(2)
    purpose = contextvars.ContextVar("purpose", default="none")

    async def work(_: Task[str]) -> str:
        before = purpose.get()
        await sleep(0.002)
        return f"{before} {purpose.get()}"

    token = purpose.set("template")
    future = tasks.submit("a", work)
    purpose.reset(token)

    assert future.result(_PATIENCE_SECONDS) == "template template"
    assert tasks.submit("b", work).result(_PATIENCE_SECONDS) == "none none"


def test_listeners_hear_what_they_joined() -> None:
    """All who asked for a task hear how far it is, from when they joined."""
    tasks: SharedTasks[int] = SharedTasks(2)
    go = threading.Event()
    first: list[int] = []
    second: list[int] = []

    async def work(task: Task[int]) -> int:
        task.tell(1, 2)
        while not go.is_set():
            await sleep(0.005)
        task.tell(2, 2)
        return 0

    future = tasks.submit("a", work, lambda done, _: first.append(done))
    while not first:
        time.sleep(0.002)
    tasks.submit("a", work, lambda done, _: second.append(done))
    go.set()
    future.result(_PATIENCE_SECONDS)

    assert (first, second) == ([1, 2], [2])


def test_a_listener_that_raises_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A progress bar that raises is told no more; the work and the other listeners go on."""
    tasks: SharedTasks[int] = SharedTasks(1)
    heard: list[int] = []
    asked: list[int] = []

    def broken(done: int, _: int | None) -> None:
        asked.append(done)
        raise ValueError("no terminal")

    async def work(task: Task[int]) -> int:
        task.listeners.append(lambda done, _: heard.append(done))
        for done in range(3):
            task.tell(done, 3)
            await sleep(0.0)
        return 3

    with caplog.at_level(logging.WARNING, "hda_fsspec"):
        assert tasks.submit("a", work, broken).result(_PATIENCE_SECONDS) == 3

    assert (asked, heard) == ([0], [0, 1, 2])
    assert "no terminal" in caplog.text
