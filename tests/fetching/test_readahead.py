"""Fetching ahead: in order, bounded by what may be under way and by the room in the cache."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from typing import Any

import pytest

from hda_fsspec.errors import AuthenticationError, DownloadError, OrderError, QuotaError
from hda_fsspec.fetching.readahead import Batch, ReadAhead
from hda_fsspec.records import Product


def products(count: int) -> list[Product]:
    """Return products, all of one data set."""
    return [Product("EO:TEST:DAT", f"p{number:05}") for number in range(count)]


@dataclasses.dataclass
class Fetched:
    """What a fetch ends in, as far as a pump looks."""

    size: int


class Service:
    """Fetches that end when the test says so."""

    def __init__(self, *, bound: int | None = None, size: int | None = 10, most: int = 3) -> None:
        self.local: set[Product] = set()
        self.asked: list[Product] = []
        self.futures: dict[Product, concurrent.futures.Future[Any]] = {}
        self.pump = ReadAhead(
            fetch=self._fetch,
            is_local=lambda product: product in self.local,
            weigh=lambda _: size,
            room=lambda: bound,
            at_a_time=most,
        )

    def _fetch(self, product: Product) -> concurrent.futures.Future[Any]:
        self.asked.append(product)
        self.futures[product] = concurrent.futures.Future()
        return self.futures[product]

    def arrive(self, product: Product, size: int = 10) -> None:
        """Let a fetch end well."""
        self.futures[product].set_result(Fetched(size))

    def begin(self, wanted: list[Product]) -> Batch:
        """Begin a batch, and let it fetch."""
        batch = self.pump.begin(wanted)
        batch.advance()
        return batch


def test_as_many_as_may_be_are_under_way_in_order() -> None:
    """The first ones are asked for, and one more for each that arrives."""
    service = Service()
    wanted = products(6)
    service.begin(wanted)
    assert service.asked == wanted[:3]

    service.arrive(wanted[1])
    assert service.asked == wanted[:4]
    for product in (wanted[0], wanted[3], wanted[2]):
        service.arrive(product)
    assert service.asked == wanted


def test_what_is_local_is_passed_over() -> None:
    """Local products take no place, be they many."""
    service = Service()
    wanted = products(5000)
    service.local = set(wanted[:4990])

    service.begin(wanted)

    assert service.asked == wanted[4990:4993]


def test_nothing_is_asked_for_twice() -> None:
    """A product that several tasks read is fetched once."""
    service = Service(most=10)
    one, other = products(2)

    service.begin([one, other, one, one])

    assert service.asked == [one, other]


@pytest.mark.parametrize("size", [10, None])
def test_no_more_than_half_of_the_cache_is_unread(size: int | None) -> None:
    """What was fetched waits in the cache until it is read as often as it will be."""
    service = Service(bound=60, size=size, most=2)
    wanted = products(6)
    batch = service.begin([*wanted, wanted[0]])
    service.arrive(wanted[0])
    service.arrive(wanted[1])
    service.arrive(wanted[2])
    assert service.asked == wanted[:3]

    batch.read(wanted[0])
    assert service.asked == wanted[:3]
    service.pump.mark_read(wanted[0])
    assert service.asked == wanted[:4]


def test_a_product_larger_than_the_room_goes_alone() -> None:
    """With less room than two products need, one at a time is fetched ahead."""
    service = Service(bound=15)
    wanted = products(3)
    batch = service.begin(wanted)
    service.arrive(wanted[0])
    assert service.asked == wanted[:1]

    batch.read(wanted[0])

    assert service.asked == wanted[:2]


@pytest.mark.parametrize("error", [OrderError("x"), DownloadError("x")])
def test_one_product_that_cannot_be_had_stops_nothing(error: Exception) -> None:
    """The others are fetched; who reads the one is told."""
    service = Service(bound=60)
    wanted = products(8)
    service.begin(wanted)

    service.futures[wanted[0]].set_exception(error)

    assert service.asked == wanted[:4]


@pytest.mark.parametrize("error", [AuthenticationError("x"), QuotaError("x"), OSError(28, "full")])
def test_what_meets_all_stops_all(error: Exception) -> None:
    """After a refused login nothing more is tried ahead of those who will be told."""
    service = Service()
    wanted = products(100)
    service.begin(wanted)

    service.futures[wanted[0]].set_exception(error)
    service.arrive(wanted[1])

    assert service.asked == wanted[:3]


def test_a_closed_batch_wants_nothing_more() -> None:
    """When the computation has ended, what was not ordered yet is not wanted any more."""
    service = Service()
    wanted = products(100)
    batch = service.begin(wanted)
    service.arrive(wanted[0])
    assert not any(fetch.cancelled() for fetch in service.futures.values())

    batch.close()

    assert service.asked == wanted[:4]
    cancelled = [product for product, fetch in service.futures.items() if fetch.cancelled()]
    assert cancelled == wanted[1:4]


def test_a_fault_of_a_look_is_told_once_and_ends_the_batch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A disk that cannot be looked at stops the fetching ahead, and nobody's read."""
    service = Service(bound=60)
    wanted = products(8)
    batch = service.begin(wanted)

    def fail(_: Product) -> bool:
        raise OSError(5, "Input/output error")

    service.pump.is_local = fail
    service.arrive(wanted[0])
    batch.read(wanted[0])

    assert service.asked == wanted[:3]
    assert len(caplog.records) == 1


def test_fetches_that_end_at_once() -> None:
    """Thousands of fetches that end as they begin are no deep recursion."""
    service = Service()

    def fetch(product: Product) -> concurrent.futures.Future[Any]:
        service.asked.append(product)
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_exception(OrderError("no"))
        return future

    service.pump.fetch = fetch

    service.begin(products(5000))

    assert len(service.asked) == 5000
