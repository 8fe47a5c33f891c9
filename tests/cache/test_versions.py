"""Versions of a product in the cache: told apart by what the catalogue says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from cached_products import leave_partial, product, put
from clocks import Clock

from hda_fsspec.cache.cache import Cache
from hda_fsspec.records import Product


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return a cache without bound."""
    return Cache(tmp_path / "cache", max_bytes=None)


def test_partial_of_another_version_is_not_resumed(cache: Cache) -> None:
    """Bytes of one version are never the beginning of another."""
    leave_partial(cache, product(size=1), b"abc")

    with cache.stage(product(size=2)) as staging:
        assert staging.offset == 0


def test_versions_are_told_apart(cache: Cache) -> None:
    """Another size or date in the catalogue is another file; both can be there."""
    put(cache, product(size=1), b"one")
    put(cache, product(size=2), b"two")

    for size, data in ((1, b"one"), (2, b"two")):
        entry = cache.lookup(product(size=size))
        assert entry is not None
        assert entry.path.read_bytes() == data
    assert cache.lookup(product(size=3)) is None
    assert len(list(cache.entries())) == 2


@pytest.mark.parametrize(
    ("told", "other"),
    [
        (product(size=1), product(size=2)),
        (product(updated="2024-05-01"), product(updated="2024-05-02")),
        (product(startdate="2024-05-01"), product(startdate="2024-05-02")),
        (product(enddate="2024-05-01"), product(enddate="2024-05-02")),
    ],
)
def test_what_the_catalogue_does_not_tell_matches(
    cache: Cache, told: Product, other: Product
) -> None:
    """A missing fact, in the record or in the question, is no difference; a different one is."""
    put(cache, told)
    assert cache.lookup(product()) is not None
    assert cache.lookup(other) is None
    cache.remove(told)
    put(cache, product())
    assert cache.lookup(told) is not None
    assert cache.lookup(other) is not None


def test_newest_of_several_versions_answers_a_vague_question(tmp_path: Path) -> None:
    """A record without size or date gets what was fetched last."""
    clock = Clock()
    cache = Cache(tmp_path / "cache", max_bytes=None, clock=clock)
    for size in (2, 3, 1):
        clock.now += 10
        put(cache, product(size=size), bytes(size))

    entry = cache.lookup(product())

    assert entry is not None
    assert entry.size == 1


def test_keys_are_unambiguous() -> None:
    """No two pairs of data set and product id share a key."""
    pairs = [("a", "bc"), ("ab", "c"), ("a\0b", "c"), ("a", "b\0c"), ('a","b', "c"), ("a", 'b","c')]

    assert len({Product(*pair).key for pair in pairs}) == len(pairs)
    assert product(size=1).version_tag != product(updated="1").version_tag
