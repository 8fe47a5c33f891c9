"""What users do with a cache: verify, remove, clear and prune it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cached_products import accept, leave_partial, partials_in, product, put
from clocks import Clock

from hda_fsspec.cache.cache import Cache
from hda_fsspec.cache.product_entries import RECORD_NAME
from hda_fsspec.errors import ProductFormatError


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return a cache without bound."""
    return Cache(tmp_path / "cache", max_bytes=None)


def test_verify_tells_what_is_wrong_and_records_checksums(tmp_path: Path) -> None:
    """Good, shortened, altered and refused files are told apart, and the time of use stays."""
    cache = Cache(tmp_path / "cache", max_bytes=None, clock=Clock())
    entries = {name: put(cache, product(name), b"abc") for name in ("good", "short", "altered")}

    def refuse_nothing(path: Path) -> None:
        path.stat()

    assert [error for _, error in cache.verify(refuse_nothing)] == [None] * 3
    fresh = Cache(cache.root).lookup(product("good"), touch=False)
    assert fresh is not None
    assert fresh.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fresh.used_at == entries["good"].used_at

    os.truncate(entries["short"].path, 1)
    entries["altered"].path.write_bytes(b"xyz")
    told = {entry.product.product_id: error for entry, error in cache.verify(refuse_nothing)}

    assert told["good"] is None
    assert "has 1 bytes, and had 3" in str(told["short"])
    assert "other bytes" in str(told["altered"])

    def refuse(path: Path) -> None:
        raise ProductFormatError("no")

    assert [str(error) for entry, error in cache.verify(refuse) if entry.size == 3].count("no") == 1


def test_remove_and_clear(cache: Cache) -> None:
    """A product goes with all its versions; clearing leaves nothing but what is being written."""
    for size in (1, 2):
        put(cache, product("a", size=size))
    put(cache, product("b"))
    leave_partial(cache, product("c"), b"half")

    assert cache.remove(product("a")) > 0
    assert {e.product.product_id for e in cache.entries()} == {"b"}
    assert cache.remove(product("a").key) == 0
    with cache.stage(product("d")) as staging:
        with staging.open() as handle:
            handle.write(b"abc")
        assert cache.clear() > 0
        assert partials_in(cache) == [staging.path.parent]
        staging.publish("f", check=accept)
    assert {e.product.product_id for e in cache.entries()} == {"d"}


def test_prune_removes_what_is_of_no_use(tmp_path: Path) -> None:
    """Old partials, broken entries, remains and unused products go; the rest stays."""
    clock = Clock(now=4_000_000_000.0)
    cache = Cache(tmp_path / "cache", max_bytes=None, clock=clock)
    put(cache, product("old"))
    (put(cache, product("broken")).folder / RECORD_NAME).write_text("{")
    (cache.root / "v1" / "partial" / "trash-1").mkdir()
    leave_partial(cache, product("half"), b"half")
    clock.now += 1000
    put(cache, product("new"))

    cache.prune(older_than_seconds=500)

    assert {e.product.product_id for e in cache.entries()} == {"new"}
    assert partials_in(cache) == []


def test_prune_keeps_what_can_be_resumed(cache: Cache) -> None:
    """An interrupted download is not useless on the same day."""
    leave_partial(cache, product("half"), b"half")

    cache.prune()

    with cache.stage(product("half")) as staging:
        assert staging.offset == 4
