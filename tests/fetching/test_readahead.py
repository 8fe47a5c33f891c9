"""Fetching ahead: in order, bounded by what may be under way and by the room in the cache."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rows import for_each

from hda_fsspec.errors import AuthenticationError, DownloadError, OrderError, QuotaError
from hda_fsspec.fetching.readahead import Budget, ReadAhead
from hda_fsspec.records import Product


def products(count: int) -> list[Product]:
    """Return products, all of one data set."""
    return [Product("EO:TEST:DAT", f"p{number:05}") for number in range(count)]


class Service:
    """A client whose fetches end when the test says so."""

    def __init__(self, *, bound: int | None = None, size: int | None = 10, most: int = 3) -> None:
        self.local: set[Product] = set()
        self.asked: list[Product] = []
        self.touched = 0
        self.sized: set[Product] = set()
        self.on_lookup: Callable[[Product], None] = lambda _: None
        self.futures: dict[Product, concurrent.futures.Future[Any]] = {}
        self.reads_ahead: set[ReadAhead] = set()
        self.settings: Any = SimpleNamespace(max_in_flight=most)
        self.cache: Any = SimpleNamespace(max_bytes=bound, lookup=self._lookup)
        self._size = size

    def _lookup(self, product: Product, *, touch: bool) -> Any:
        self.touched += touch
        self.on_lookup(product)
        return SimpleNamespace(size=10) if product in self.local else None

    def fetch(self, product: Product) -> concurrent.futures.Future[Any]:
        """Ask for a product, once more if it has failed."""
        self.asked.append(product)
        return self.futures.setdefault(product, concurrent.futures.Future())

    def size(self, product: Product) -> int | None:
        """Return what all products weigh."""
        self.sized.add(product)
        return self._size

    def arrive(self, product: Product, size: int = 10) -> None:
        """Let a fetch end well."""
        self.futures[product].set_result(SimpleNamespace(size=size))

    def begin(self, wanted: list[Product]) -> ReadAhead:
        """Begin to fetch ahead."""
        ahead = ReadAhead(self, wanted)
        ahead.advance()
        return ahead


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
    """Local products take no place, be they many, and do not count as used before they are."""
    service = Service()
    wanted = products(5000)
    service.local = set(wanted[:4990])

    service.begin(wanted)

    assert service.asked == wanted[4990:4993]
    assert service.touched == 0


def test_the_size_of_what_is_local_is_not_looked_up() -> None:
    """It needs no room: the disk is not asked what thousands of local products weigh."""
    service = Service(bound=60)
    wanted = products(50)
    service.local = set(wanted[:48])

    service.begin(wanted)

    assert service.asked == wanted[48:]
    assert not service.sized & service.local


def test_what_was_read_before_its_turn_keeps_no_room() -> None:
    """Who reads may be quicker: then nobody is to come who would give the room back."""
    service = Service(bound=30)
    first, second, third = wanted = products(3)
    ahead = ReadAhead(service, wanted)
    service.on_lookup = lambda product: ahead.mark_read(first) if product == first else None

    ahead.advance()
    assert service.asked == [first, second]
    service.arrive(first)
    service.arrive(second)
    ahead.mark_read(second)

    assert service.asked == [first, second, third]


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
    ahead = service.begin([*wanted, wanted[0]])
    service.arrive(wanted[0])
    service.arrive(wanted[1])
    service.arrive(wanted[2])
    assert service.asked == wanted[:3]

    ahead.mark_read(wanted[0])
    assert service.asked == wanted[:3]
    ahead.mark_read(wanted[0])
    assert service.asked == wanted[:4]


def test_a_product_larger_than_the_room_goes_alone() -> None:
    """With less room than two products need, one at a time is fetched ahead."""
    service = Service(bound=15)
    wanted = products(3)
    ahead = service.begin(wanted)
    service.arrive(wanted[0])
    assert service.asked == wanted[:1]

    ahead.mark_read(wanted[0])

    assert service.asked == wanted[:2]


@pytest.mark.parametrize("error", [OrderError("x"), DownloadError("x")])
def test_one_product_that_cannot_be_had_stops_nothing(error: Exception) -> None:
    """The others are fetched; who reads the one is told."""
    service = Service(bound=60)
    wanted = products(8)
    service.begin(wanted)

    service.futures[wanted[0]].set_exception(error)

    assert service.asked == wanted[:4]


@for_each("error", [AuthenticationError("x"), QuotaError("x"), OSError(28, "full")])
def test_what_meets_all_stops_all(error: Exception) -> None:
    """After a refused login nothing more is tried ahead of those who will be told."""
    service = Service()
    wanted = products(100)
    service.begin(wanted)

    service.futures[wanted[0]].set_exception(error)
    service.arrive(wanted[1])

    assert service.asked == wanted[:3]


def test_what_is_closed_wants_nothing_more() -> None:
    """When the computation has ended, what was not ordered yet is not wanted any more."""
    service = Service()
    wanted = products(100)
    ahead = service.begin(wanted)
    service.arrive(wanted[0])
    assert not any(fetch.cancelled() for fetch in service.futures.values())

    ahead.close()

    assert service.asked == wanted[:4]
    cancelled = [product for product, fetch in service.futures.items() if fetch.cancelled()]
    assert cancelled == wanted[1:4]


def test_a_fault_of_a_look_is_told_once_and_ends_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A disk that cannot be looked at stops the fetching ahead, and nobody's read."""
    service = Service(bound=60)
    wanted = products(8)
    ahead = service.begin(wanted)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    service.cache.lookup = fail
    service.arrive(wanted[0])
    ahead.mark_read(wanted[0])

    assert service.asked == wanted[:3]
    assert len(caplog.records) == 1


@pytest.mark.slow
def test_fetches_that_end_at_once() -> None:
    """Thousands of fetches that end as they begin are no deep recursion."""
    service = Service()
    wanted = products(2000)
    for product in wanted:
        service.futures[product] = concurrent.futures.Future()
        service.futures[product].set_exception(OrderError("no"))

    service.begin(wanted)

    assert service.asked == wanted


def test_who_reads_gets_what_was_fetched_ahead() -> None:
    """The product that is read is asked for first and once, whatever comes of it."""
    service = Service()
    wanted = products(5)
    with ReadAhead(service, wanted) as ahead:
        first = ahead.fetch(wanted[0])
        assert service.asked == wanted[:4]
        service.futures[wanted[1]].set_exception(OrderError("no"))
        service.arrive(wanted[0])
        ahead.mark_read(wanted[0])
        second = ahead.fetch(wanted[1])

    assert first.result().size == 10
    assert isinstance(second.exception(), OrderError)
    assert service.asked == wanted


def test_what_is_read_has_its_room_too() -> None:
    """In a cache of two products nothing follows before the one that is read was read."""
    service = Service(bound=20)
    wanted = products(3)
    ahead = ReadAhead(service, wanted)

    ahead.fetch(wanted[0])
    service.arrive(wanted[0])
    assert service.asked == wanted[:1]

    ahead.mark_read(wanted[0])
    assert service.asked == wanted[:2]


def test_one_product_is_looked_up_by_its_fetch_alone() -> None:
    """Where nothing follows nothing is looked at."""
    service = Service()
    [product] = products(1)

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError

    service.cache.lookup = fail
    with ReadAhead(service, [product]) as ahead:
        ahead.fetch(product)

    assert service.asked == [product]


@pytest.mark.parametrize(("share", "fits"), [(1.0, 10), (0.5, 5)])
def test_a_budget_is_a_share_of_the_bound(share: float, fits: int) -> None:
    """What has room counts as long as it has it, with the length that it turned out to have."""
    service = Service(bound=100, size=None)
    budget = Budget(service, share)
    unknown, listed = products(2)
    listed = dataclasses.replace(listed, size=7)
    taken = [dataclasses.replace(unknown, product_id=str(number)) for number in range(fits)]

    assert (budget.expected(unknown), budget.expected(listed)) == (0, 7)
    for product in taken:
        assert budget.fits(10)
        budget.take(product, 10)
    assert not budget.fits(1)
    assert budget.expected(unknown) == 10
    budget.take(taken[0], 4)
    assert budget.fits(6)
    assert not budget.fits(7)
    assert budget.release(taken[1])
    assert not budget.release(taken[1])
    assert budget.fits(16)
    assert len(budget) == fits - 1


def test_a_cache_without_bound_has_room_for_all() -> None:
    """Without a bound everything fits; and for nothing no bound is asked for."""
    assert Budget(Service()).fits(10**18)
    service = Service()
    del service.cache.max_bytes
    assert Budget(service).fits(0)
