"""What a look into the cache finds: whole products with all their facts, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from hda_fsspec.cache.cache import Cache, Entry
from hda_fsspec.cache.entries import RECORD_NAME
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


def _partials_in(cache: Cache) -> list[Path]:
    return sorted((cache.root / "v1" / "partial").iterdir())


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return a cache without bound."""
    return Cache(tmp_path / "cache", max_bytes=None)


def test_looking_makes_nothing(tmp_path: Path) -> None:
    """A lookup, a listing and a measure of a cache that does not exist leave nothing on disk."""
    cache = Cache(tmp_path / "cache")

    assert cache.lookup(_product()) is None
    assert list(cache.entries()) == []
    assert cache.usage().bytes == 0
    assert cache.max_bytes is not None
    assert not (tmp_path / "cache").exists()


def test_published_product_is_found_by_a_new_process(cache: Cache) -> None:
    """What one cache object published, another finds with all its facts."""
    _put(cache, _product(size=3), b"data", "S3A.SEN3.zip")

    entry = Cache(cache.root).lookup(_product(size=3))

    assert entry is not None
    assert entry.path.read_bytes() == b"data"
    assert entry.path.name == entry.delivered_name == "S3A.SEN3.zip"
    assert entry.product == _product(size=3)
    assert entry.size == 4
    assert entry.sha256 is None
    assert list(cache.entries()) == [entry]
    assert _partials_in(cache) == []


def test_extra_facts_are_kept(cache: Cache) -> None:
    """What the publisher adds is in the record."""
    with cache.stage(_product()) as staging:
        staging.publish("f", check=_accept, extra={"licence": ["a"]})

    entry = Cache(cache.root).lookup(_product())

    assert entry is not None
    assert entry.extra == {"licence": ["a"]}


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 2}', b'{"format": 1, "key": 3}', None],
)
def test_garbled_record_means_absent(cache: Cache, damage: bytes | None) -> None:
    """A record that is missing or cannot be read hides the product, and it can be fetched anew."""
    record = _put(cache, _product()).folder / RECORD_NAME
    if damage is None:
        record.unlink()
    else:
        record.write_bytes(damage)
    cache = Cache(cache.root)

    assert cache.lookup(_product()) is None
    assert list(cache.entries()) == []

    assert _put(cache, _product(), b"new").path.read_bytes() == b"new"
    found = Cache(cache.root).lookup(_product())
    assert found is not None
    assert found.size == 3


@pytest.mark.parametrize("name", ["../../../../x", "/etc/passwd", "", ".x", RECORD_NAME, 7])
def test_record_cannot_lead_elsewhere(cache: Cache, name: object) -> None:
    """A record edited by hand cannot make the cache serve a file outside its folder."""
    record = _put(cache, _product()).folder / RECORD_NAME
    record.write_text(json.dumps({**json.loads(record.read_text()), "name": name}))

    assert Cache(cache.root).lookup(_product()) is None


def test_truncated_file_means_absent(cache: Cache) -> None:
    """A file that lost its end, in a power cut, is not there, remembered or not."""
    entry = _put(cache, _product(), b"12345")
    os.truncate(entry.path, 3)

    assert cache.lookup(_product()) is None
    assert Cache(cache.root).lookup(_product()) is None
    assert _put(cache, _product(), b"12345").path.read_bytes() == b"12345"


def test_repeated_hit_costs_one_stat(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hit that is remembered opens nothing: no record, no checksum, no listing."""
    _put(cache, _product())
    cache.lookup(_product())

    def explode(*_: object, **__: object) -> None:
        raise AssertionError

    for name in ("open", "scandir", "utime", "listdir"):
        monkeypatch.setattr(os, name, explode)
    monkeypatch.setattr(Path, "read_bytes", explode)

    assert cache.lookup(_product()) is not None


def test_use_is_noted_once_a_minute(tmp_path: Path) -> None:
    """The time of last use is exact to a minute, and no more is written."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=None, clock=clock)
    record = _put(cache, _product()).folder / RECORD_NAME
    start = record.stat().st_mtime

    clock.now += 59
    cache.lookup(_product())
    assert record.stat().st_mtime == start
    clock.now += 2
    cache.lookup(_product())
    assert record.stat().st_mtime == start + 61
