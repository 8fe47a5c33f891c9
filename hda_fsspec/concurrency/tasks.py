"""Tasks that mostly wait: many coroutines on few threads, each shared by all who ask for it.

A coroutine awaits :func:`sleep` or a :class:`Semaphore`; while it waits it holds no thread. So
thousands of orders can be under way with a handful of threads, and nothing that waits keeps
anything else from running. Unlike on asyncio's loop it may block, since it has a thread to itself
while it runs. What the tasks do is unknown here.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextvars
import dataclasses
import heapq
import itertools
import logging
import threading
import time
import types
from collections.abc import Callable, Coroutine, Generator, Hashable
from typing import Any, Generic, TypeVar

from hda_fsspec.concurrency.futures import settle

logger = logging.getLogger("hda_fsspec")

T = TypeVar("T")
Listener = Callable[[int, int | None], None]

_IDLE_SECONDS = 10.0

#: What a coroutine is woken by: so many seconds have passed, or a future is done.
_Until = float | concurrent.futures.Future[Any]


@types.coroutine
def _pause(until: _Until) -> Generator[_Until, None, None]:
    yield until


async def sleep(seconds: float) -> None:
    """Let a time pass."""
    await _pause(seconds)


class Semaphore:
    """Lets a number of coroutines in at a time, first come, first served; for ``async with``."""

    def __init__(self, value: int) -> None:
        self._value = value
        self._lock = threading.Lock()
        self._waiting: collections.deque[concurrent.futures.Future[None]] = collections.deque()

    async def __aenter__(self) -> None:
        with self._lock:
            if self._value:
                self._value -= 1
                return
            turn: concurrent.futures.Future[None] = concurrent.futures.Future()
            self._waiting.append(turn)
        await _pause(turn)

    async def __aexit__(self, *_: object) -> None:
        with self._lock:
            if not self._waiting:
                self._value += 1
                return
            turn = self._waiting.popleft()
        turn.set_result(None)


@dataclasses.dataclass(eq=False, slots=True)
class Task(Generic[T]):
    """A piece of work under way, shared by all who asked for it.

    Attributes
    ----------
    tasks : SharedTasks
        Whose task it is.
    key : hashable
        What the work is; there is one task per key at a time.
    waiters : list of concurrent.futures.Future
        Of each who asked a future of the outcome. Who wants it no more cancels it.
    listeners : list of callable
        Called with (bytes done, bytes in all or None) as the work goes on.
    """

    tasks: SharedTasks[T]
    key: Hashable
    waiters: list[concurrent.futures.Future[T]] = dataclasses.field(default_factory=list)
    listeners: list[Listener] = dataclasses.field(default_factory=list)
    coroutine: Coroutine[Any, None, T] = dataclasses.field(init=False)
    context: contextvars.Context = dataclasses.field(default_factory=contextvars.copy_context)

    def check_wanted(self) -> None:
        """Raise CancelledError if all waiters have given up; who asks from now on gets a new task.

        The work itself calls this before it does what costs.
        """
        if self.tasks.abandon(self):
            raise concurrent.futures.CancelledError

    def tell(self, done: int, total: int | None) -> None:
        """Tell all listeners how far the work is; one that raises is told no more.

        What listens is one waiter's progress bar, and the work is that of all of them.
        """
        for listener in tuple(self.listeners):
            try:
                listener(done, total)
            except Exception:
                self.listeners.remove(listener)
                logger.warning("%r is told no more of this transfer:", listener, exc_info=True)


class SharedTasks(Generic[T]):
    """A few daemon threads that take turns at all tasks.

    Daemon threads, so that an interrupted program ends at once instead of after its last order.

    Parameters
    ----------
    workers : int
        How many threads at most; they are started as needed, and end when long unneeded.
    idle_seconds : float
        For how long a thread waits for new tasks while there are none.
    """

    def __init__(
        self,
        workers: int,
        *,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        self._workers = workers
        self._idle_seconds = idle_seconds
        self._condition = threading.Condition()
        self._due: list[tuple[float, int, Task[T]]] = []
        self._order = itertools.count()
        self._by_key: dict[Hashable, Task[T]] = {}
        self._threads = 0
        self._idle = 0

    def submit(
        self,
        key: Hashable,
        begin: Callable[[Task[T]], Coroutine[Any, None, T]],
        listener: Listener | None = None,
    ) -> concurrent.futures.Future[T]:
        """Return a future of the task of this key, which begins now unless it is under way.

        Parameters
        ----------
        key : hashable
            What the work is.
        begin : callable
            Returns the coroutine of a task. It runs in the context of who asked first.
        listener : callable, optional
            See :class:`Task`.

        Returns
        -------
        concurrent.futures.Future
            The caller's own: to cancel it says that the caller wants the outcome no more.
        """
        waiter: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._condition:
            task = self._by_key.get(key)
            is_new = task is None
            if task is None:
                task = self._by_key[key] = Task(self, key)
                task.coroutine = begin(task)
            task.waiters.append(waiter)
            if listener is not None:
                task.listeners.append(listener)
        if is_new:
            try:
                self._schedule(task, 0.0)
            except RuntimeError as err:
                # Not one thread can be had. Others may have joined this task by now.
                self._end(task, error=err)
        return waiter

    def abandon(self, task: Task[T]) -> bool:
        """Give up a task, and return True, if all its waiters have; see Task.check_wanted."""
        with self._condition:
            if not all(waiter.cancelled() for waiter in task.waiters):
                return False
            self._forget(task)
            return True

    def __len__(self) -> int:
        """Return how many tasks are under way."""
        with self._condition:
            return len(self._by_key)

    def _schedule(self, task: Task[T], delay: float) -> None:
        with self._condition:
            heapq.heappush(self._due, (time.monotonic() + delay, next(self._order), task))
            self._grow()
            self._condition.notify()

    def _grow(self) -> None:
        """Start a thread if none waits for what is due, now or later."""
        if not self._due or self._idle or self._threads >= self._workers:
            return
        self._threads += 1
        name = f"hda-tasks-{self._threads}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except RuntimeError:
            # The system has no more threads to give: those that run take their turns at it.
            self._threads -= 1
            if not self._threads:
                raise

    def _work(self) -> None:
        while (task := self._next()) is not None:
            self._advance(task)
            # The local name would keep the last task, and all it holds, alive while idle.
            del task

    def _next(self) -> Task[T] | None:
        """Wait for the next task that is due; None when this thread is not needed any more."""
        with self._condition:
            while not self._due or self._due[0][0] > time.monotonic():
                wait = self._due[0][0] - time.monotonic() if self._due else self._idle_seconds
                self._idle += 1
                is_woken = self._condition.wait(wait)
                self._idle -= 1
                if not is_woken and not self._due:
                    self._threads -= 1
                    return None
            task = heapq.heappop(self._due)[2]
            # A thread that was notified counts as idle until it runs, and this one is about to be
            # busy for who knows how long: what is still due must not depend on either.
            self._grow()
            return task

    def _advance(self, task: Task[T]) -> None:
        """Run the coroutine of a task until it waits again, or ends."""
        try:
            until = task.context.run(task.coroutine.send, None)
        except StopIteration as end:
            self._end(task, end.value)
        except BaseException as err:  # noqa: BLE001  (whoever waits for the task gets it)
            self._end(task, error=err)
        else:
            if isinstance(until, concurrent.futures.Future):
                until.add_done_callback(lambda _: self._schedule(task, 0.0))
            else:
                self._schedule(task, until)

    def _end(self, task: Task[T], result: Any = None, error: BaseException | None = None) -> None:
        with self._condition:
            self._forget(task)
            # No more: what could not be begun is still due, and ends once more with the next task.
            waiters, task.waiters = task.waiters, []
        task.coroutine.close()
        for waiter in waiters:
            settle(waiter, result, error)

    def _forget(self, task: Task[T]) -> None:
        if self._by_key.get(task.key) is task:
            del self._by_key[task.key]
