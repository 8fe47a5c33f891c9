"""The bound of the cache: what was used longest ago goes, what is needed stays."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest

from hda_fsspec.cache.cache import Cache, Entry
from hda_fsspec.records import Product


class _Clock:
    """A clock that is moved by hand."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def _accept(path: Path) -> None:
    """Find every file in order."""


def _product(name: str = "p1", **facts: object) -> Product:
    return dataclasses.replace(Product("EO:TEST:DAT", name), **facts)  # type: ignore[arg-type]


def _put(cache: Cache, record: Product, data: bytes = b"data", name: str = "file.nc") -> Entry:
    with cache.stage(record, expected_bytes=len(data)) as staging:
        staging.restart()
        with staging.open() as handle:
            handle.write(data)
        return staging.publish(name, check=_accept, expected_bytes=len(data))


def _leave_partial(cache: Cache, record: Product, data: bytes, **facts: object) -> None:
    with cache.stage(record) as staging:
        staging.remember(**facts)
        with staging.open() as handle:
            handle.write(data)


def _partials_in(cache: Cache) -> list[Path]:
    return sorted((cache.root / "v1" / "partial").iterdir())


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return a cache without bound."""
    return Cache(tmp_path / "cache", max_bytes=None)


def test_oldest_use_goes_first(tmp_path: Path) -> None:
    """Eviction follows the last use, not the order in which products came."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=30, clock=clock)
    for name in "abc":
        clock.now += 100
        _put(cache, _product(name), bytes(10))
    clock.now += 100
    cache.lookup(_product("a"))
    clock.now += 100

    _put(cache, _product("d"), bytes(10))

    assert [n for n in "abcd" if cache.lookup(_product(n))] == ["a", "c", "d"]


def test_looking_without_touching_is_no_use(tmp_path: Path) -> None:
    """A plan that looks what is local does not change what is evicted."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    for name in "ab":
        clock.now += 100
        _put(cache, _product(name), bytes(10))
    clock.now += 100
    cache.lookup(_product("a"), touch=False)

    assert [entry.product.product_id for entry in cache.evict(10)] == ["a"]


def test_bound_holds_with_two_products(tmp_path: Path) -> None:
    """A cache for two products never holds three."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    for number in range(6):
        clock.now += 1
        _put(cache, _product(str(number)), bytes(10))
        assert cache.usage().total_bytes <= 20

    assert {e.product.product_id for e in cache.entries()} == {"4", "5"}


def test_bound_counts_what_other_processes_put(tmp_path: Path) -> None:
    """Files of another cache object in the same folder count, and can be evicted."""
    clock = _Clock()
    ours, theirs = (Cache(tmp_path / "cache", max_bytes=20, clock=clock) for _ in range(2))
    _put(ours, _product("a"), bytes(10))
    clock.now += 1
    _put(theirs, _product("b"), bytes(10))
    clock.now += 1
    _put(ours, _product("c"), bytes(10))

    assert {e.product.product_id for e in Cache(ours.root).entries()} == {"b", "c"}


def test_unknown_size_is_evicted_for_afterwards(tmp_path: Path) -> None:
    """Where the size is known only in the end, the bound is restored then."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    _put(cache, _product("a"), bytes(15))
    clock.now += 1
    with cache.stage(_product("b")) as staging:
        with staging.open() as handle:
            handle.write(bytes(15))
        staging.publish("f", check=_accept)

    assert {e.product.product_id for e in cache.entries()} == {"b"}


def test_kept_keys_stay(tmp_path: Path) -> None:
    """What is in use now is not evicted, even if it was used longest ago."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    for name in "ab":
        clock.now += 1
        _put(cache, _product(name), bytes(10))

    evicted = cache.evict(10, keep={_product("a").key})

    assert [entry.product.product_id for entry in evicted] == ["b"]


def test_protection_ends_with_the_first_use_or_a_day(tmp_path: Path) -> None:
    """Protected products stay while others go, until they are read once or a day has passed."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=30, clock=clock)
    for name in "abc":
        clock.now += 1
        entry = _put(cache, _product(name), bytes(10))
        if name != "c":
            cache.protect(entry)
    other = Cache(cache.root, max_bytes=30, clock=clock)

    assert [e.product.product_id for e in other.evict(10)] == ["c"]
    assert other.evict(25) == []
    other.lookup(_product("b"))
    clock.now += 100
    assert [e.product.product_id for e in other.evict(25)] == ["b"]
    clock.now += 90_000
    assert [e.product.product_id for e in other.evict(25)] == ["a"]


def test_product_larger_than_the_bound_is_allowed_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One product that is too large for the bound is kept, with a warning."""
    cache = Cache(tmp_path / "cache", max_bytes=10)

    with caplog.at_level(logging.WARNING, "hda_fsspec"):
        _put(cache, _product(), bytes(20))

    assert cache.lookup(_product()) is not None
    assert "cache_max_bytes" in caplog.text


def test_abandoned_partials_are_evicted_in_their_turn(tmp_path: Path) -> None:
    """Bytes of an interrupted download count, and go when they are the oldest."""
    clock = _Clock(now=4_000_000_000.0)  # later than the partial, whose time is the disk's
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    _leave_partial(cache, _product("half"), bytes(10))
    _put(cache, _product("a"), bytes(10))
    assert cache.usage().partial_bytes == 10

    _put(cache, _product("b"), bytes(10))

    assert {e.product.product_id for e in cache.entries()} == {"a", "b"}
    assert _partials_in(cache) == []


def test_automatic_bound_is_agreed_on_by_all(tmp_path: Path) -> None:
    """Half of the free disk at first use, at most 50 GB, and the same for all that come later."""
    first = Cache(tmp_path / "cache", free_bytes=lambda _: 1000)
    _put(first, _product(), b"x")
    later = Cache(tmp_path / "cache", free_bytes=lambda _: 10**15)

    assert first.max_bytes == later.max_bytes == 500
    assert Cache(tmp_path / "new", free_bytes=lambda _: 10**15).max_bytes == 50_000_000_000


def test_garbled_bound_is_measured_again(tmp_path: Path) -> None:
    """A bound that cannot be read is no reason to fail."""
    (tmp_path / "cache" / "v1").mkdir(parents=True)
    (tmp_path / "cache" / "v1" / "bound.json").write_text("{")

    assert Cache(tmp_path / "cache", free_bytes=lambda _: 1000).max_bytes == 500


def test_reader_goes_on_after_eviction(cache: Cache) -> None:
    """Who has a file open reads it to its end, although it was evicted."""
    entry = _put(cache, _product(), b"0123456789")
    with entry.path.open("rb", buffering=0) as handle:
        assert handle.read(5) == b"01234"
        assert cache.remove(_product()) >= 10
        assert cache.lookup(_product()) is None
        assert handle.read() == b"56789"


def test_large_cache_is_not_walked_for_each_product(tmp_path: Path) -> None:
    """A slow walk is not repeated for each product that comes in."""
    clock = _Clock()

    class SlowDisk(_Clock):
        def __call__(self) -> float:
            clock.now += 1
            return clock.now

    cache = Cache(tmp_path / "cache", max_bytes=50, clock=SlowDisk())
    for number in range(12):
        _put(cache, _product(str(number)), bytes(10))

    assert cache.usage().total_bytes <= 50
