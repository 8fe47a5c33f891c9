"""Notes: small facts on disk that are whole or not known, and never an error."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clocks import Clock

from hda_fsspec.cache.folder import Folder
from hda_fsspec.cache.metadata import JsonStore, MetadataStore
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.records import Product

_PRODUCT = Product("EO:TEST:DAT", "p1", size=5)


def _only_file(folder: Path) -> Path:
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a cache folder that does not exist yet."""
    return tmp_path / "cache"


def test_reading_makes_nothing(root: Path) -> None:
    """Asking for facts that nobody noted leaves nothing on disk."""
    notes = MetadataStore(root)

    assert notes.listings.get("x") is None
    assert notes.header(_PRODUCT) is None
    assert notes.accepted_terms("me") == frozenset()
    assert notes.lengths.length_of(_PRODUCT) is None
    assert notes.lengths.sizes_of([_PRODUCT]) == [None]
    assert not root.exists()


def test_notes_are_for_the_next_process(root: Path) -> None:
    """What one object notes, another reads."""
    notes = MetadataStore(root)
    notes.put_header(_PRODUCT, b"\x00\xff")
    notes.add_accepted_terms("me", ["a", "b"])
    notes.add_accepted_terms("me", ["c"])
    notes.listings.put("query", {"x": ["é", 1, None]})

    later = MetadataStore(root)

    assert later.header(_PRODUCT) == b"\x00\xff"
    assert later.accepted_terms("me") == {"a", "b", "c"}
    assert later.listings.get("query") == {"x": ["é", 1, None]}


def test_notes_are_told_apart(root: Path) -> None:
    """Headers belong to a version of a product, licences to an account."""
    notes = MetadataStore(root)
    notes.add_accepted_terms("me", ["a"])
    notes.put_header(_PRODUCT, b"x")

    assert notes.header(Product("EO:TEST:DAT", "p1", size=6)) is None
    assert notes.header(Product("EO:TEST:DAT", "p2", size=5)) is None
    assert notes.accepted_terms("you") == frozenset()


def test_listing_expires(root: Path) -> None:
    """A listing older than asked for, or from the future, is not known; without limit it is."""
    clock = Clock()
    shelf = JsonStore(root, "listings", clock=clock)
    shelf.put("query", [1])

    clock.now += 3600
    assert shelf.get("query", max_age_seconds=3600) == [1]
    clock.now += 1
    assert shelf.get("query", max_age_seconds=3600) is None
    assert shelf.get("query") == [1]
    clock.now -= 10_000
    assert shelf.get("query", max_age_seconds=3600) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\x00", b'{"a": ', b"[" * 100_000, b"3", b"[]"])
def test_garbage_is_not_known(root: Path, damage: bytes) -> None:
    """A damaged note is as good as none, and is replaced by the next one."""
    notes = MetadataStore(root)
    notes.add_accepted_terms("me", ["a"])
    _only_file(root / "v1" / "terms").write_bytes(damage)

    assert notes.accepted_terms("me") == frozenset()

    notes.add_accepted_terms("me", ["b"])
    assert notes.accepted_terms("me") == {"b"}


def test_torn_write_keeps_the_old_note(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a write dies before its end the old note stays, and no remains."""
    shelf = JsonStore(root, "listings")
    shelf.put("query", "old")

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        shelf.put("query", "new")

    assert JsonStore(root, "listings").get("query") == "old"


@pytest.mark.slow
def test_readers_see_whole_notes(root: Path) -> None:
    """While one thread rewrites a note, others see one of its states, never a part."""
    shelf = JsonStore(root, "listings")
    states = ["a" * 50_000, "b" * 10]
    shelf.put("query", states[0])

    def write(number: int) -> None:
        shelf.put("query", states[number % 2])

    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(write, number) for number in range(60)]
        seen = [pool.submit(JsonStore(root, "listings").get, "query") for _ in range(200)]
    assert all(write.result() is None for write in writes)
    assert {value.result() for value in seen} <= set(states)


def test_full_or_read_only_disk_loses_a_note_and_says_so_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A note that cannot be kept is no reason to fail."""
    notes = MetadataStore(root)
    Folder(root).prepare()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "rename", refuse)
    monkeypatch.setattr(os, "write", refuse)
    with caplog.at_level(logging.WARNING, "hda_fsspec"):
        for _ in range(2):
            notes.put_header(_PRODUCT, b"x")
            notes.lengths.record(_PRODUCT, 5)

    assert notes.header(_PRODUCT) is None
    assert len(caplog.records) == 2
    assert "read-only" in caplog.text
    assert [path for path in (root / "v1" / "headers").rglob("*") if path.is_file()] == []


def test_world_writable_folder_is_refused(root: Path) -> None:
    """Facts from a folder to which everybody may write are not believed."""
    root.mkdir()
    root.chmod(0o777)

    with pytest.raises(ConfigurationError):
        MetadataStore(root).header(_PRODUCT)
    with pytest.raises(ConfigurationError):
        MetadataStore(root).put_header(_PRODUCT, b"x")


def test_a_folder_that_becomes_world_writable_gets_no_more_notes(root: Path) -> None:
    """It is looked at whenever something is kept, not only when it was first used."""
    notes = MetadataStore(root)
    notes.put_header(_PRODUCT, b"x")
    root.chmod(0o777)

    with pytest.raises(ConfigurationError):
        notes.put_header(_PRODUCT, b"y")
    root.chmod(0o700)
    assert notes.header(_PRODUCT) == b"x"


def test_notes_are_cleared(root: Path) -> None:
    """All of a kind go, also one that a clock which is ahead has dated."""
    shelf, other = JsonStore(root, "listings"), JsonStore(root, "headers")
    JsonStore(root, "listings", clock=lambda: time.time() + 100).put("ahead", 1)
    shelf.put("new", 2)
    other.put("new", 3)

    shelf.clear()

    assert (shelf.get("ahead"), shelf.get("new"), other.get("new")) == (None, None, 3)


def test_note_after_the_folder_was_deleted(root: Path) -> None:
    """A folder that is deleted under a running job is made again."""
    shelf = JsonStore(root, "listings")
    shelf.put("query", 1)
    root.rename(root.with_name("gone"))

    assert shelf.get("query") is None
    shelf.put("query", 2)
    assert shelf.get("query") == 2


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 25_000])
def test_which_of_many_products_have_headers(root: Path, count: int) -> None:
    """None that has one is left out; of very many those are told that need not be looked for."""
    products = [Product("EO:TEST:DAT", f"p{number}") for number in range(count)]
    notes = MetadataStore(root)
    assert all(notes.header(products[number]) is None for number in notes.with_header(products))
    notes.put_header(products[7], b"seven")

    found = MetadataStore(root).with_header(products)

    assert 7 in found
    assert len(found) <= 10
    assert [n for n in found if notes.header(products[n]) is not None] == [7]
