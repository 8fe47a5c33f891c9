"""What nobody wants any more is not ordered; what somebody wants is, whoever else gave up."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Any

import pytest

from hda_fsspec.concurrency.tasks import Flight, Flights, Steps
from hda_fsspec.paths.locations import Location

_PATIENCE_SECONDS = 10.0


class Work:
    """Steps that wait, then ask whether they are wanted, then cost something."""

    def __init__(self) -> None:
        self.flights: Flights[int] = Flights(2)
        self.go = threading.Event()
        self.done = 0

    def steps(self, flight: Flight[int]) -> Steps[int]:
        """Wait without a thread."""
        while not self.go.is_set():
            yield 0.002
        if self.flights.abandon(flight):
            raise concurrent.futures.CancelledError
        self.done += 1
        return self.done


def test_a_flight_that_nobody_wants_is_given_up() -> None:
    """When all who asked have lost interest the work is not done."""
    work = Work()
    futures = [work.flights.submit("a", work.steps, wanted=lambda: False) for _ in range(3)]
    work.go.set()

    for future in futures:
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(_PATIENCE_SECONDS)
    assert work.done == 0
    assert work.flights.submit("a", work.steps).result(_PATIENCE_SECONDS) == 1


@pytest.mark.parametrize("wanted", [None, lambda: True])
@pytest.mark.parametrize("is_first", [True, False])
def test_one_who_wants_it_is_enough(wanted: Any, is_first: bool) -> None:
    """Interest of one keeps the work going for all, whoever came first."""
    work = Work()
    wishes = [wanted, lambda: False] if is_first else [lambda: False, wanted]
    futures = [work.flights.submit("a", work.steps, wanted=wish) for wish in wishes]
    work.go.set()

    assert [future.result(_PATIENCE_SECONDS) for future in futures] == [1, 1]


def test_who_comes_after_it_was_given_up_gets_a_new_one() -> None:
    """A flight that was given up and has not ended yet is joined by nobody."""
    flights: Flights[int] = Flights(2)
    given_up, go = threading.Event(), threading.Event()

    def steps(flight: Flight[int]) -> Steps[int]:
        assert flights.abandon(flight)
        given_up.set()
        while not go.is_set():
            yield 0.002
        raise concurrent.futures.CancelledError

    def other(_: Flight[int]) -> Steps[int]:
        yield from ()
        return 7

    first = flights.submit("a", steps, wanted=lambda: False)
    assert given_up.wait(_PATIENCE_SECONDS)
    assert flights.submit("a", other).result(_PATIENCE_SECONDS) == 7
    second = flights.submit("a", Work().steps, wanted=lambda: True)
    go.set()

    with pytest.raises(concurrent.futures.CancelledError):
        first.result(_PATIENCE_SECONDS)
    assert not second.done()
    assert len(flights) == 1


def test_products_that_wait_for_quota_are_given_up(bench: Any) -> None:
    """Interest lost while the quota is waited for saves the order; what was ordered comes."""
    emulator = bench.start(days=3, quota=1, quota_window_seconds=0.8)
    fs = bench.filesystem(emulator)
    products = fs._client
    found = [products.product(Location.parse(bench.path(day))) for day in (1, 2, 3)]
    is_wanted = True
    futures = [products.fetch(product, wanted=lambda: is_wanted) for product in found]
    done, waiting = concurrent.futures.wait(
        futures, _PATIENCE_SECONDS, concurrent.futures.FIRST_COMPLETED
    )
    assert len(done) == 1

    is_wanted = False

    for future in waiting:
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(_PATIENCE_SECONDS)
    assert emulator.orders == 1
    assert fs.cat(bench.path(3)) == bench.body(3)
