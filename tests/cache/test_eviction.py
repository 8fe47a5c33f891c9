"""The bound of the cache: what was used longest ago goes, what is needed stays."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from cached_products import accept, leave_partial, partials_in, product, put
from clocks import Clock

from hda_fsspec.cache import eviction
from hda_fsspec.cache.cache import Cache


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return a cache without bound."""
    return Cache(tmp_path / "cache", max_bytes=None)


def test_oldest_use_goes_first(tmp_path: Path) -> None:
    """Eviction follows the last use, not the order in which products came."""
    clock = Clock()
    cache = Cache(tmp_path / "cache", max_bytes=30, clock=clock)
    for name in "abc":
        clock.now += 100
        put(cache, product(name), bytes(10))
    clock.now += 100
    cache.lookup(product("a"))
    clock.now += 100

    put(cache, product("d"), bytes(10))

    assert [n for n in "abcd" if cache.lookup(product(n))] == ["a", "c", "d"]


def test_looking_without_touching_is_no_use(tmp_path: Path) -> None:
    """A plan that looks what is local does not change what is evicted."""
    clock = Clock()
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    for name in "ab":
        clock.now += 100
        put(cache, product(name), bytes(10))
    clock.now += 100
    cache.lookup(product("a"), touch=False)

    assert [entry.product.product_id for entry in cache.evict(10)] == ["a"]


def test_bound_holds_with_two_products(tmp_path: Path) -> None:
    """A cache for two products never holds three."""
    clock = Clock()
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    for number in range(6):
        clock.now += 1
        put(cache, product(str(number)), bytes(10))
        assert cache.usage().total_bytes <= 20

    assert {e.product.product_id for e in cache.entries()} == {"4", "5"}


def test_bound_counts_what_other_processes_put(tmp_path: Path) -> None:
    """Files of another cache object in the same folder count, and can be evicted."""
    clock = Clock()
    ours, theirs = (Cache(tmp_path / "cache", max_bytes=20, clock=clock) for _ in range(2))
    put(ours, product("a"), bytes(10))
    clock.now += 1
    put(theirs, product("b"), bytes(10))
    clock.now += 1
    put(ours, product("c"), bytes(10))

    assert {e.product.product_id for e in Cache(ours.root).entries()} == {"b", "c"}


def test_unknown_size_is_evicted_for_afterwards(tmp_path: Path) -> None:
    """Where the size is known only in the end, the bound is restored then."""
    clock = Clock()
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    put(cache, product("a"), bytes(15))
    clock.now += 1
    with cache.stage(product("b")) as staging:
        with staging.open() as handle:
            handle.write(bytes(15))
        staging.publish("f", check=accept)

    assert {e.product.product_id for e in cache.entries()} == {"b"}


def test_kept_keys_stay(tmp_path: Path) -> None:
    """What is in use now is not evicted, even if it was used longest ago."""
    clock = Clock()
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    for name in "ab":
        clock.now += 1
        put(cache, product(name), bytes(10))

    evicted = cache.evict(10, keep={product("a").key})

    assert [entry.product.product_id for entry in evicted] == ["b"]


def test_protection_ends_with_the_first_use_or_a_day(tmp_path: Path) -> None:
    """Protected products stay while others go, until they are read once or a day has passed."""
    clock = Clock()
    cache = Cache(tmp_path / "cache", max_bytes=30, clock=clock)
    for name in "abc":
        clock.now += 1
        entry = put(cache, product(name), bytes(10))
        if name != "c":
            cache.protect(entry)
    other = Cache(cache.root, max_bytes=30, clock=clock)

    assert [e.product.product_id for e in other.evict(10)] == ["c"]
    assert other.evict(25) == []
    other.lookup(product("b"))
    clock.now += 100
    assert [e.product.product_id for e in other.evict(25)] == ["b"]
    clock.now += 90_000
    assert [e.product.product_id for e in other.evict(25)] == ["a"]


@pytest.mark.parametrize("ends", [True, False])
def test_a_protection_that_begins_or_ends_between_two_walks(ends: bool, tmp_path: Path) -> None:
    """A process knows what it did itself since the last walk, however long a walk took."""
    clock = Clock()

    class SlowDisk(Clock):
        def __call__(self) -> float:
            clock.now += 1
            return clock.now

    cache = Cache(tmp_path / "cache", max_bytes=30, clock=SlowDisk())
    entries = [put(cache, product(name), bytes(10)) for name in "ab"]
    if ends:
        cache.protect(entries[0])
    cache.usage()
    if ends:
        cache.lookup(product("a"))
        cache.protect(entries[1])
        expected = ["b", "c", "d"]
    else:
        cache.protect(entries[0])
        expected = ["a", "c", "d"]

    for name in "cd":
        put(cache, product(name), bytes(10))

    assert [name for name in "abcd" if cache.lookup(product(name))] == expected


def test_more_uses_than_are_noted_cost_a_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing grows with the uses of a long job, and what was used longest ago still goes first."""
    monkeypatch.setattr(eviction, "_MOST_NOTED", 2)
    clock = Clock()
    cache = Cache(tmp_path / "cache", max_bytes=50, clock=clock)
    for name in "abcde":
        clock.now += 100
        put(cache, product(name), bytes(10))
    cache.usage()
    for name in "cabd":
        clock.now += 100
        cache.lookup(product(name))

    for name in "fg":
        clock.now += 100
        put(cache, product(name), bytes(10))

    assert [n for n in "abcdefg" if cache.lookup(product(n))] == ["a", "b", "d", "f", "g"]


def test_a_reader_waits_for_no_walk(tmp_path: Path) -> None:
    """A use that is noted, and a protection that begins, need no lock of who walks the cache."""
    walks, goes_on = threading.Event(), threading.Event()
    now = 0.0

    def clock() -> float:
        if threading.current_thread().name == "walker":
            walks.set()
            assert goes_on.wait(60)
        return now

    cache = Cache(tmp_path / "cache", max_bytes=30, clock=clock)
    entry = put(cache, product("a"), bytes(10))
    now = 100.0
    walker = threading.Thread(target=cache.usage, name="walker")
    walker.start()
    assert walks.wait(60)
    noted = threading.Event()

    def read() -> None:
        cache.lookup(product("a"))
        cache.protect(entry)
        noted.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert noted.wait(60)
    finally:
        goes_on.set()
        walker.join()
        reader.join()


def test_product_larger_than_the_bound_is_allowed_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One product that is too large for the bound is kept, with a warning."""
    cache = Cache(tmp_path / "cache", max_bytes=10)

    with caplog.at_level(logging.WARNING, "hda_fsspec"):
        put(cache, product(), bytes(20))

    assert cache.lookup(product()) is not None
    assert "cache_max_bytes" in caplog.text


def test_abandoned_partials_are_evicted_in_their_turn(tmp_path: Path) -> None:
    """Bytes of an interrupted download count, and go when they are the oldest."""
    clock = Clock(now=4_000_000_000.0)  # later than the partial, whose time is the disk's
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    leave_partial(cache, product("half"), bytes(10))
    put(cache, product("a"), bytes(10))
    assert cache.usage().partial_bytes == 10

    put(cache, product("b"), bytes(10))

    assert {e.product.product_id for e in cache.entries()} == {"a", "b"}
    assert partials_in(cache) == []


def test_automatic_bound_is_agreed_on_by_all(tmp_path: Path) -> None:
    """Half of the free disk at first use, at most 50 GB, and the same for all that come later."""
    first = Cache(tmp_path / "cache", free_bytes=lambda _: 1000)
    put(first, product(), b"x")
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
    entry = put(cache, product(), b"0123456789")
    with entry.path.open("rb", buffering=0) as handle:
        assert handle.read(5) == b"01234"
        assert cache.remove(product()) >= 10
        assert cache.lookup(product()) is None
        assert handle.read() == b"56789"


def test_large_cache_is_not_walked_for_each_product(tmp_path: Path) -> None:
    """A slow walk is not repeated for each product that comes in."""
    clock = Clock()

    class SlowDisk(Clock):
        def __call__(self) -> float:
            clock.now += 1
            return clock.now

    cache = Cache(tmp_path / "cache", max_bytes=50, clock=SlowDisk())
    for number in range(12):
        put(cache, product(str(number)), bytes(10))

    assert cache.usage().total_bytes <= 50
