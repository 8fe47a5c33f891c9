"""Work that mostly waits: many flights on few threads.

A flight is a generator. It yields a number of seconds to be woken after, or a :class:`Gate` to be
woken once it has passed; while it waits it holds no thread. So thousands of orders can be under
way with a handful of threads, and nothing that waits keeps anything else from running. What the
flights do is unknown here.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Generator, Hashable
from typing import Generic, TypeVar

logger = logging.getLogger("hda_fsspec")

T = TypeVar("T")

_IDLE_SECONDS = 10.0


class Gate:
    """Lets a number of flights in at a time, first come, first served.

    A flight passes with ``yield gate`` and must call :meth:`leave` afterwards.
    """

    def __init__(self, capacity: int) -> None:
        self._free = capacity
        self._lock = threading.Lock()
        self._waiting: collections.deque[Callable[[], None]] = collections.deque()

    def enter(self, wake: Callable[[], None]) -> None:
        """Take a place and call ``wake``, now or when one gets free."""
        with self._lock:
            if self._free == 0:
                self._waiting.append(wake)
                return
            self._free -= 1
        wake()

    def leave(self) -> None:
        """Give a place back, to the flight that has waited longest if there is one."""
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            wake = self._waiting.popleft()
        wake()


Steps = Generator[float | Gate, None, T]


@dataclasses.dataclass(eq=False, slots=True)
class Flight(Generic[T]):
    """One piece of work under way, shared by all who asked for it.

    Attributes
    ----------
    key : hashable
        What the work is; there is one flight per key at a time.
    future : concurrent.futures.Future
        Its outcome. It cannot be cancelled, since others may wait for it too.
    listeners : list of callable
        Called with (bytes done, bytes in all or None) as the work goes on.
    wishes : list of callable or None
        Each says whether one of those who asked still wants it; None if somebody does in any case.
    """

    key: Hashable
    future: concurrent.futures.Future[T]
    listeners: list[Callable[[int, int | None], None]]
    wishes: list[Callable[[], bool]] | None
    steps: Steps[T] | None = None

    def tell(self, done: int, total: int | None) -> None:
        """Tell all listeners how far the work is; one that raises is told no more.

        What listens is one asker's progress bar, and the work is that of all of them.
        """
        for listener in tuple(self.listeners):
            try:
                listener(done, total)
            except Exception:
                self.listeners.remove(listener)
                logger.warning("%r is told no more of this transfer:", listener, exc_info=True)


class Flights(Generic[T]):
    """A few daemon threads that take turns at all flights.

    Daemon threads, so that an interrupted program ends at once instead of after its last order.

    Parameters
    ----------
    workers : int
        How many threads at most; they are started as needed, and end when long unneeded.
    clock : callable
        Seconds on a clock that never goes back.
    idle_seconds : float
        For how long a thread waits for new flights while there are none.
    """

    def __init__(
        self,
        workers: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        self._workers = workers
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._condition = threading.Condition()
        self._due: list[tuple[float, int, Flight[T]]] = []
        self._order = itertools.count()
        self._by_key: dict[Hashable, Flight[T]] = {}
        self._threads = 0
        self._idle = 0

    def submit(
        self,
        key: Hashable,
        begin: Callable[[Flight[T]], Steps[T]],
        listener: Callable[[int, int | None], None] | None = None,
        wanted: Callable[[], bool] | None = None,
    ) -> concurrent.futures.Future[T]:
        """Return the outcome of the flight of this key, which begins now unless it is under way.

        Parameters
        ----------
        key : hashable
            What the work is.
        begin : callable
            Returns the steps of a flight.
        listener : callable, optional
            See :class:`Flight`.
        wanted : callable, optional
            Says whether the caller still wants it; in any case if it is not given.
        """
        with self._condition:
            flight = self._by_key.get(key)
            is_new = flight is None
            if flight is None:
                flight = Flight(key, concurrent.futures.Future(), [], [])
                flight.future.set_running_or_notify_cancel()
                flight.steps = begin(flight)
                self._by_key[key] = flight
            if listener is not None:
                flight.listeners.append(listener)
            if wanted is None:
                flight.wishes = None
            elif flight.wishes is not None:
                flight.wishes.append(wanted)
        if is_new:
            try:
                self._schedule(flight, 0.0)
            except RuntimeError as err:
                # Not one thread can be had. Others may have joined this flight by now.
                self._land(flight)
                flight.future.set_exception(err)
        return flight.future

    def abandon(self, flight: Flight[T]) -> bool:
        """Give up a flight if nobody wants it any more; whoever asks from now on gets a new one.

        The flight itself calls this before it does what costs, and ends if the answer is True.
        """
        with self._condition:
            if flight.wishes is None or any(wanted() for wanted in flight.wishes):
                return False
            self._forget(flight)
            return True

    def __len__(self) -> int:
        """Return how many flights are under way."""
        with self._condition:
            return len(self._by_key)

    def _schedule(self, flight: Flight[T], delay: float) -> None:
        with self._condition:
            heapq.heappush(self._due, (self._clock() + delay, next(self._order), flight))
            self._grow()
            self._condition.notify()

    def _grow(self) -> None:
        """Start a thread if none waits for what is due, now or later."""
        if not self._due or self._idle or self._threads >= self._workers:
            return
        self._threads += 1
        name = f"hda-flights-{self._threads}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except RuntimeError:
            # The system has no more threads to give: those that run take their turns at it.
            self._threads -= 1
            if not self._threads:
                raise

    def _work(self) -> None:
        while (flight := self._next()) is not None:
            self._advance(flight)
            # The local name would keep the last flight, and all it holds, alive while idle.
            del flight

    def _next(self) -> Flight[T] | None:
        """Wait for the next flight that is due; None when this thread is not needed any more."""
        with self._condition:
            while not self._due or self._due[0][0] > self._clock():
                wait = self._due[0][0] - self._clock() if self._due else self._idle_seconds
                self._idle += 1
                is_woken = self._condition.wait(wait)
                self._idle -= 1
                if not is_woken and not self._due:
                    self._threads -= 1
                    return None
            flight = heapq.heappop(self._due)[2]
            # A thread that was notified counts as idle until it runs, and this one is about to be
            # busy for who knows how long: what is still due must not depend on either.
            self._grow()
            return flight

    def _advance(self, flight: Flight[T]) -> None:
        steps = flight.steps
        if steps is None:
            return
        try:
            step = next(steps)
        except StopIteration as end:
            self._land(flight)
            flight.future.set_result(end.value)
        except BaseException as err:  # noqa: BLE001  (whoever waits for the flight gets it)
            self._land(flight)
            flight.future.set_exception(err)
        else:
            if isinstance(step, Gate):
                step.enter(lambda: self._schedule(flight, 0.0))
            else:
                self._schedule(flight, step)

    def _land(self, flight: Flight[T]) -> None:
        flight.steps = None
        with self._condition:
            self._forget(flight)

    def _forget(self, flight: Flight[T]) -> None:
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]
