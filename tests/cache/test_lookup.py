"""What a look into the cache finds: whole products with all their facts, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cached_products import accept, partials_in, product, put
from clocks import Clock

from hda_fsspec.cache.cache import Cache
from hda_fsspec.cache.product_entries import RECORD_NAME


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return a cache without bound."""
    return Cache(tmp_path / "cache", max_bytes=None)


def test_looking_makes_nothing(tmp_path: Path) -> None:
    """A lookup, a listing and a measure of a cache that does not exist leave nothing on disk."""
    cache = Cache(tmp_path / "cache")

    assert cache.lookup(product()) is None
    assert list(cache.entries()) == []
    assert cache.usage().bytes == 0
    assert cache.max_bytes is not None
    assert not (tmp_path / "cache").exists()


def test_published_product_is_found_by_a_new_process(cache: Cache) -> None:
    """What one cache object published, another finds with all its facts."""
    put(cache, product(size=3), b"data", "S3A.SEN3.zip")

    entry = Cache(cache.root).lookup(product(size=3))

    assert entry is not None
    assert entry.path.read_bytes() == b"data"
    assert entry.path.name == entry.delivered_name == "S3A.SEN3.zip"
    assert entry.product == product(size=3)
    assert entry.size == 4
    assert entry.sha256 is None
    assert list(cache.entries()) == [entry]
    assert partials_in(cache) == []


def test_extra_facts_are_kept(cache: Cache) -> None:
    """What the publisher adds is in the record."""
    with cache.stage(product()) as staging:
        staging.publish("f", check=accept, extra={"licence": ["a"]})

    entry = Cache(cache.root).lookup(product())

    assert entry is not None
    assert entry.extra == {"licence": ["a"]}


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 2}', b'{"format": 1, "key": 3}', None],
)
def test_garbled_record_means_absent(cache: Cache, damage: bytes | None) -> None:
    """A record that is missing or cannot be read hides the product, and it can be fetched anew."""
    record = put(cache, product()).folder / RECORD_NAME
    if damage is None:
        record.unlink()
    else:
        record.write_bytes(damage)
    cache = Cache(cache.root)

    assert cache.lookup(product()) is None
    assert list(cache.entries()) == []

    assert put(cache, product(), b"new").path.read_bytes() == b"new"
    found = Cache(cache.root).lookup(product())
    assert found is not None
    assert found.size == 3


@pytest.mark.parametrize("name", ["../../../../x", "/etc/passwd", "", ".x", RECORD_NAME, 7])
def test_record_cannot_lead_elsewhere(cache: Cache, name: object) -> None:
    """A record edited by hand cannot make the cache serve a file outside its folder."""
    record = put(cache, product()).folder / RECORD_NAME
    record.write_text(json.dumps({**json.loads(record.read_text()), "name": name}))

    assert Cache(cache.root).lookup(product()) is None


def test_truncated_file_means_absent(cache: Cache) -> None:
    """A file that lost its end, in a power cut, is not there, remembered or not."""
    entry = put(cache, product(), b"12345")
    os.truncate(entry.path, 3)

    assert cache.lookup(product()) is None
    assert Cache(cache.root).lookup(product()) is None
    assert put(cache, product(), b"12345").path.read_bytes() == b"12345"


def test_repeated_hit_costs_one_stat(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hit that is remembered opens nothing: no record, no checksum, no listing."""
    put(cache, product())
    cache.lookup(product())

    def explode(*_: object, **__: object) -> None:
        raise AssertionError

    for name in ("open", "scandir", "utime", "listdir"):
        monkeypatch.setattr(os, name, explode)
    monkeypatch.setattr(Path, "read_bytes", explode)

    assert cache.lookup(product()) is not None


def test_use_is_noted_once_a_minute(tmp_path: Path) -> None:
    """The time of last use is exact to a minute, and no more is written."""
    clock = Clock()
    cache = Cache(tmp_path / "cache", max_bytes=None, clock=clock)
    record = put(cache, product()).folder / RECORD_NAME
    start = record.stat().st_mtime

    clock.now += 59
    cache.lookup(product())
    assert record.stat().st_mtime == start
    clock.now += 2
    cache.lookup(product())
    assert record.stat().st_mtime == start + 61


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 25_000])
def test_which_of_many_products_are_local(cache: Cache, count: int) -> None:
    """None that is local is left out; of very many those are told that need not be looked for."""
    products = [product(f"p{number}") for number in range(count)]
    assert all(cache.lookup(products[number]) is None for number in cache.among(products))
    put(cache, products[7])
    put(cache, product("another"))

    found = Cache(cache.root).among(products)

    assert 7 in found
    assert len(found) <= 10
    assert [n for n in found if cache.lookup(products[n]) is not None] == [7]
