"""Flights: work that waits holds no thread; one flight per key; nothing is left behind."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from hda_fsspec.concurrency.tasks import Flight, Flights, Gate, Steps

_PATIENCE_SECONDS = 10.0


def constant(value: int) -> Callable[[Flight[int]], Steps[int]]:
    """Return work that ends at once."""

    def steps(_: Flight[int]) -> Steps[int]:
        yield from ()
        return value

    return steps


def waiting(seconds: float, value: int = 0) -> Callable[[Flight[int]], Steps[int]]:
    """Return work that waits without a thread."""

    def steps(_: Flight[int]) -> Steps[int]:
        yield seconds
        return value

    return steps


def wait_for_idle_threads(flights: Flights[int], count: int) -> None:
    """Wait until so many threads have started and wait."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while flights._idle < count and time.monotonic() < until:
        time.sleep(0.001)


def test_the_result_is_returned() -> None:
    """A flight's future holds what its steps return."""
    flights: Flights[int] = Flights(2)

    futures = [flights.submit(number, constant(number)) for number in range(50)]

    assert [future.result(_PATIENCE_SECONDS) for future in futures] == list(range(50))
    assert len(flights) == 0


def test_one_flight_per_key() -> None:
    """Who asks for a key that is under way joins it; afterwards it begins anew."""
    flights: Flights[int] = Flights(4)
    begun: list[int] = []
    go = threading.Event()

    def steps(_: Flight[int]) -> Steps[int]:
        begun.append(1)
        while not go.is_set():
            yield 0.005
        return len(begun)

    futures = [flights.submit("a", steps) for _ in range(20)]
    assert len(flights) == 1
    go.set()

    assert {future.result(_PATIENCE_SECONDS) for future in futures} == {1}
    assert flights.submit("a", steps).result(_PATIENCE_SECONDS) == 2


def test_a_fault_is_told_to_all_and_ends_nothing_else() -> None:
    """An exception goes to all who asked; the threads live on, and the key is free again."""
    flights: Flights[int] = Flights(1)

    def steps(_: Flight[int]) -> Steps[int]:
        yield 0.02
        raise KeyError("torn")

    futures = [flights.submit("a", steps) for _ in range(3)]

    for future in futures:
        with pytest.raises(KeyError, match="torn"):
            future.result(_PATIENCE_SECONDS)
    assert flights.submit("a", constant(5)).result(_PATIENCE_SECONDS) == 5


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_no_exception_kills_a_thread(kind: type[BaseException]) -> None:
    """Whatever steps raise, it is their future's, and the one thread goes on."""
    flights: Flights[int] = Flights(1)

    def steps(_: Flight[int]) -> Steps[int]:
        yield 0.0
        raise kind

    future = flights.submit("a", steps)

    assert isinstance(future.exception(_PATIENCE_SECONDS), kind)
    assert flights.submit("b", constant(1)).result(_PATIENCE_SECONDS) == 1


def test_waiting_holds_no_thread() -> None:
    """With one thread a hundred flights wait side by side."""
    flights: Flights[int] = Flights(1)
    began = time.monotonic()

    futures = [flights.submit(number, waiting(0.1)) for number in range(100)]
    for future in futures:
        future.result(_PATIENCE_SECONDS)

    # One after the other they take 10 s.
    assert time.monotonic() - began < 5.0


def test_a_busy_thread_delays_nothing_that_is_due() -> None:
    """What becomes due while one thread is busy is done by another one, at its time."""
    flights: Flights[int] = Flights(4)
    release = threading.Event()

    def busy(_: Flight[int]) -> Steps[int]:
        yield from ()
        release.wait(_PATIENCE_SECONDS)
        return 0

    later = flights.submit("later", waiting(0.1, 7))
    wait_for_idle_threads(flights, 2)
    with flights._condition:  # so that both of them wake after this
        blocked = [flights.submit(f"busy {number}", busy) for number in range(2)]

    try:
        assert later.result(2.0) == 7
    finally:
        release.set()
    assert [future.result(_PATIENCE_SECONDS) for future in blocked] == [0, 0]


def test_two_flights_at_one_time_get_two_threads() -> None:
    """An idle thread counts for one flight only, however quickly two of them come."""
    flights: Flights[int] = Flights(4)
    flights.submit("first", constant(0)).result(_PATIENCE_SECONDS)
    wait_for_idle_threads(flights, 1)
    both = threading.Barrier(2)

    def meet(_: Flight[int]) -> Steps[int]:
        yield from ()
        return both.wait(2.0)

    with flights._condition:  # so that the idle thread wakes after both
        futures = [flights.submit("a", meet), flights.submit("b", meet)]

    assert sorted(future.result(_PATIENCE_SECONDS) for future in futures) == [0, 1]


def test_threads_are_bounded_and_end() -> None:
    """There are never more threads than allowed, and none when there has been nothing to do."""
    flights: Flights[int] = Flights(3, idle_seconds=0.05)
    before = threading.active_count()
    most = 0

    def steps(_flight: Flight[int]) -> Steps[int]:
        nonlocal most
        for _ in range(3):
            most = max(most, threading.active_count() - before)
            yield 0.001
        return 0

    for future in [flights.submit(number, steps) for number in range(200)]:
        future.result(_PATIENCE_SECONDS)

    assert 1 <= most <= 3
    until = time.monotonic() + _PATIENCE_SECONDS
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= before
    assert flights.submit("again", constant(4)).result(_PATIENCE_SECONDS) == 4


def test_forgotten_flights_are_freed() -> None:
    """What a flight held is freed when it has landed, and the flights when nobody has them."""
    flights: Flights[Any] = Flights(2, idle_seconds=0.02)

    class Big:
        pass

    big = Big()
    seen = weakref.ref(big)

    def steps(_: Flight[Any], held: Big = big) -> Steps[Any]:
        yield 0.0
        return None

    flights.submit("a", steps).result(_PATIENCE_SECONDS)
    del steps, big
    gone = weakref.ref(flights)
    del flights
    until = time.monotonic() + _PATIENCE_SECONDS
    while (seen() is not None or gone() is not None) and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)

    assert seen() is None
    assert gone() is None


def test_a_machine_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no thread the error is told, and the next attempt works."""
    flights: Flights[int] = Flights(2)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        future = flights.submit("a", constant(1))
        with pytest.raises(RuntimeError, match="thread"):
            future.result(_PATIENCE_SECONDS)

    assert flights.submit("a", constant(1)).result(_PATIENCE_SECONDS) == 1


def test_a_gate_lets_in_so_many() -> None:
    """Never more than a gate's capacity are inside, and all come through in the end."""
    flights: Flights[int] = Flights(8)
    gate = Gate(3)
    lock = threading.Lock()
    inside = most = 0

    def steps(flight: Flight[int]) -> Steps[int]:
        nonlocal inside, most
        yield gate
        try:
            with lock:
                inside += 1
                most = max(most, inside)
            yield 0.002
            if flight.key == 13:
                raise KeyError(13)
        finally:
            with lock:
                inside -= 1
            gate.leave()
        return 0

    futures = [flights.submit(number, steps) for number in range(60)]

    assert sum(future.exception(_PATIENCE_SECONDS) is None for future in futures) == 59
    assert most == 3
    assert inside == 0


def test_a_gate_is_fair() -> None:
    """Who waits longest goes first, also before who comes in the moment when a place gets free."""
    gate = Gate(1)
    order: list[int] = []
    for number in range(5):
        gate.enter(lambda number=number: order.append(number))  # type: ignore[misc]

    gate.leave()
    gate.enter(lambda: order.append(5))
    for _ in range(5):
        gate.leave()

    assert order == [0, 1, 2, 3, 4, 5]
    gate.enter(lambda: order.append(6))
    assert order[-1] == 6


def test_listeners_hear_what_they_joined() -> None:
    """All who asked for a flight hear how far it is, from when they joined."""
    flights: Flights[int] = Flights(2)
    go = threading.Event()
    first: list[int] = []
    second: list[int] = []

    def steps(flight: Flight[int]) -> Steps[int]:
        flight.tell(1, 2)
        while not go.is_set():
            yield 0.005
        flight.tell(2, 2)
        return 0

    future = flights.submit("a", steps, lambda done, _: first.append(done))
    while not first:
        time.sleep(0.002)
    flights.submit("a", steps, lambda done, _: second.append(done))
    go.set()
    future.result(_PATIENCE_SECONDS)

    assert (first, second) == ([1, 2], [2])


def test_a_listener_that_raises_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A progress bar that raises is told no more; the work and the other listeners go on."""
    flights: Flights[int] = Flights(1)
    heard: list[int] = []
    asked: list[int] = []

    def broken(done: int, _: int | None) -> None:
        asked.append(done)
        raise ValueError("no terminal")

    def steps(flight: Flight[int]) -> Steps[int]:
        flight.listeners.append(lambda done, _: heard.append(done))
        for done in range(3):
            flight.tell(done, 3)
            yield 0.0
        return 3

    with caplog.at_level(logging.WARNING, "hda_fsspec"):
        assert flights.submit("a", steps, broken).result(_PATIENCE_SECONDS) == 3

    assert (asked, heard) == ([0], [0, 1, 2])
    assert "no terminal" in caplog.text
