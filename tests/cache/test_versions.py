"""Versions of a product in the cache: told apart by what the catalogue says of them."""

from __future__ import annotations

import dataclasses
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


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return a cache without bound."""
    return Cache(tmp_path / "cache", max_bytes=None)


def test_partial_of_another_version_is_not_resumed(cache: Cache) -> None:
    """Bytes of one version are never the beginning of another."""
    _leave_partial(cache, _product(size=1), b"abc")

    with cache.stage(_product(size=2)) as staging:
        assert staging.offset == 0


def test_versions_are_told_apart(cache: Cache) -> None:
    """Another size or date in the catalogue is another file; both can be there."""
    _put(cache, _product(size=1), b"one")
    _put(cache, _product(size=2), b"two")

    for size, data in ((1, b"one"), (2, b"two")):
        entry = cache.lookup(_product(size=size))
        assert entry is not None
        assert entry.path.read_bytes() == data
    assert cache.lookup(_product(size=3)) is None
    assert len(list(cache.entries())) == 2


@pytest.mark.parametrize(
    ("told", "other"),
    [
        (_product(size=1), _product(size=2)),
        (_product(updated="2024-05-01"), _product(updated="2024-05-02")),
        (_product(startdate="2024-05-01"), _product(startdate="2024-05-02")),
        (_product(enddate="2024-05-01"), _product(enddate="2024-05-02")),
    ],
)
def test_what_the_catalogue_does_not_tell_matches(
    cache: Cache, told: Product, other: Product
) -> None:
    """A missing fact, in the record or in the question, is no difference; a different one is."""
    _put(cache, told)
    assert cache.lookup(_product()) is not None
    assert cache.lookup(other) is None
    cache.remove(told)
    _put(cache, _product())
    assert cache.lookup(told) is not None
    assert cache.lookup(other) is not None


def test_newest_of_several_versions_answers_a_vague_question(tmp_path: Path) -> None:
    """A record without size or date gets what was fetched last."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=None, clock=clock)
    for size in (2, 3, 1):
        clock.now += 10
        _put(cache, _product(size=size), bytes(size))

    entry = cache.lookup(_product())

    assert entry is not None
    assert entry.size == 1


def test_keys_are_unambiguous() -> None:
    """No two pairs of data set and product id share a key."""
    pairs = [("a", "bc"), ("ab", "c"), ("a\0b", "c"), ("a", "b\0c"), ('a","b', "c"), ("a", 'b","c')]

    assert len({Product(*pair).key for pair in pairs}) == len(pairs)
    assert _product(size=1).version_tag != _product(updated="1").version_tag
