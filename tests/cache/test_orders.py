"""The book of orders: each is written down once, counts for an hour, and is found for ever."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from clocks import Clock

from hda_fsspec.cache.folder import Folder
from hda_fsspec.cache.orders import OrderBook, OrderCounts
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.records import Product

_PRODUCT = Product("EO:TEST:DAT", "p1", size=5)
_OTHER = Product("EO:TEST:DAT", "p2")
_NOTHING = OrderCounts(0, ())


@pytest.fixture
def clock() -> Clock:
    """Return the clock of a test."""
    return Clock()


Make = Callable[[], OrderBook]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a cache folder that does not exist yet."""
    return tmp_path / "cache"


@pytest.fixture
def make(root: Path, clock: Clock) -> Make:
    """Return what makes the book as each process on one folder has it."""
    return lambda: OrderBook(root, "me", clock=clock)


def files(root: Path) -> list[Path]:
    """Return the files of all orders."""
    return sorted(path for path in (root / "v1" / "orders").rglob("*") if path.is_file())


def test_reading_makes_nothing(make: Make, root: Path) -> None:
    """Asking for orders that nobody placed leaves nothing on disk."""
    book = make()

    assert book.get(_PRODUCT) is None
    assert not book.was_ordered(_PRODUCT)
    assert book.all() == book.others(_PRODUCT) == _NOTHING
    assert book.told() is None
    book.drop(_PRODUCT)
    book.release(_PRODUCT)
    assert not root.exists()


def test_an_order_is_one_file_from_its_first_moment_on(
    make: Make, root: Path, clock: Clock
) -> None:
    """One file is reserved, placed and renewed; the next process reads it, and the quota counts."""
    book = make()
    book.reserve(_PRODUCT)
    (file,) = files(root)
    assert make().others(_OTHER) == OrderCounts(1, ())
    assert make().others(_PRODUCT) == _NOTHING
    assert not make().was_ordered(_PRODUCT)

    book.place(_PRODUCT, "abc", clock.now - 1)
    assert make().get(_PRODUCT) == "abc"
    assert make().all() == OrderCounts(0, (clock.now - 1,))

    clock.now += 5
    make().drop(_PRODUCT)
    assert (make().get(_PRODUCT), make().was_ordered(_PRODUCT)) == (None, True)
    make().renew(_PRODUCT, "def")
    assert make().get(_PRODUCT) == "def"
    assert make().all() == OrderCounts(0, (clock.now - 6,))  # which costs nothing anew
    assert files(root) == [file]


def test_what_is_released_was_never_there(make: Make, root: Path) -> None:
    """An order that came to nothing counts no more; one that was placed cannot be taken back."""
    mine, theirs = make(), make()
    mine.reserve(_PRODUCT)
    mine.release(_PRODUCT)
    assert (files(root), mine.all()) == ([], _NOTHING)

    mine.reserve(_PRODUCT)
    theirs.reserve(_PRODUCT)
    theirs.place(_PRODUCT, "theirs", 1_700_000_000.0)
    mine.release(_PRODUCT)

    assert mine.get(_PRODUCT) == "theirs"
    assert len(mine.all().placed) == 1


def test_an_order_of_unknown_outcome_counts(make: Make, clock: Clock) -> None:
    """Nobody knows whether it is one: it counts for an hour, and is no order to be resumed.

    Trying again, in vain or not, does not end that.
    """
    book = make()
    book.reserve(_PRODUCT)
    book.place(_PRODUCT, None, clock.now)
    assert not book.was_ordered(_PRODUCT)
    assert book.all().placed == (clock.now,)

    began, clock.now = clock.now, clock.now + 60
    book.reserve(_PRODUCT)
    book.release(_PRODUCT)
    assert book.all().placed == (began,)

    book.reserve(_PRODUCT)
    book.place(_PRODUCT, "abc", clock.now)
    assert book.get(_PRODUCT) == "abc"
    assert book.all().placed == (clock.now,)


def test_orders_are_told_apart(make: Make, root: Path, clock: Clock) -> None:
    """An order belongs to an account, a broker, and a version of a product."""
    make().place(_PRODUCT, "abc", clock.now)
    there = Product("EO:TEST:DAT", "p1", size=5, broker="https://other.example")

    assert OrderBook(root, "you", clock=clock).get(_PRODUCT) is None
    assert OrderBook(root, "you", clock=clock).all() == _NOTHING
    assert make().get(Product("EO:TEST:DAT", "p1", size=6)) is None
    assert make().get(there) is None


@pytest.mark.parametrize("age_seconds", [3601.0, 1e8, -61.0, -1e8])
def test_what_counts_no_more_can_be_resumed(age_seconds: float, make: Make, clock: Clock) -> None:
    """An order older than the hour, or of a clock that was set back, is moved aside, and found."""
    book = make()
    book.place(_PRODUCT, "abc", clock.now)
    book.reserve(_OTHER)
    clock.now += age_seconds

    assert book.all() == _NOTHING
    for again in (book, make()):
        assert again.get(_PRODUCT) == "abc"
        assert not again.was_ordered(_OTHER)
    make().renew(_PRODUCT, "def")
    assert (book.get(_PRODUCT), book.all()) == ("def", _NOTHING)
    book.reserve(_OTHER)
    assert book.all() == OrderCounts(1, ())


def test_counting_costs_as_much_as_an_hour_has_orders(make: Make, root: Path, clock: Clock) -> None:
    """However many orders there were over the years, those of the last hour alone are looked at."""
    book = make()
    for number in range(50):
        book.place(Product("EO:TEST:DAT", f"old{number}"), "abc", clock.now)
    clock.now += 4000
    book.place(_PRODUCT, "abc", clock.now)
    book.all()

    counted = [path for path in (root / "v1" / "orders" / "me").iterdir() if path.is_file()]

    assert len(counted) == 1
    assert len(files(root)) == 51
    assert book.get(Product("EO:TEST:DAT", "old7")) == "abc"


@pytest.mark.slow
def test_an_order_is_found_while_it_is_moved_aside(make: Make, clock: Clock) -> None:
    """Whoever asks at the moment when an order ceases to count finds it before or after that."""
    products = [Product("EO:TEST:DAT", f"p{number}") for number in range(300)]
    for product in products:
        make().place(product, "abc", clock.now)
    clock.now += 4000
    counting = threading.Thread(target=make().all)
    counting.start()

    lost = [product for product in products if make().get(product) != "abc"]
    counting.join()

    assert lost == []
    assert make().all() == _NOTHING


ACTS: dict[str, Callable[[OrderBook], object]] = {
    "reserve": lambda book: book.reserve(_PRODUCT),
    "place": lambda book: book.place(_PRODUCT, "new", Clock().now),
    "place of unknown outcome": lambda book: book.place(_PRODUCT, None, Clock().now),
    "renew": lambda book: book.renew(_PRODUCT, "new"),
    "drop": lambda book: book.drop(_PRODUCT),
    "count": OrderBook.all,
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("killed_in", ["rename", "unlink", "utime", "open"])
def test_a_kill_leaves_what_was_reserved_to_count(
    killed_in: str, act: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever call of the system is the last one, an order that may have gone out counts."""
    make().reserve(_PRODUCT)

    kill(make(), act, killed_in, monkeypatch)

    counts = make().others(_OTHER)
    assert counts.reserved + len(counts.placed) == 1


@pytest.mark.parametrize("act", ["renew", "drop", "count"])
@pytest.mark.parametrize("killed_in", ["rename", "unlink", "utime", "open"])
@pytest.mark.parametrize("age_seconds", [10.0, 4000.0])
def test_a_kill_leaves_what_was_placed_to_be_resumed(
    age_seconds: float,
    killed_in: str,
    act: str,
    make: Make,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever call of the system is the last one, it is known that there was an order."""
    make().place(_PRODUCT, "old", clock.now)
    clock.now += age_seconds

    kill(make(), act, killed_in, monkeypatch)

    assert make().was_ordered(_PRODUCT)
    possible: dict[str, list[str | None]] = {
        "renew": ["old", "new"],
        "drop": ["old", None],
        "count": ["old"],
    }
    assert make().get(_PRODUCT) in possible[act]
    assert len(make().all().placed) == (1 if age_seconds < 3600 else 0)


def kill(book: OrderBook, act: str, killed_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """End an act at a call of the system, if it comes to that."""

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(os, killed_in, die)
        ACTS[act](book)


def test_what_the_service_told_is_news_once(make: Make, root: Path) -> None:
    """What one process was told of the quota another learns, and is not bothered with again."""
    ours, theirs = make(), make()
    Folder(root).prepare()
    assert ours.told() is None

    for number in range(2):
        theirs.tell({"remaining": number})
        assert ours.told() == {"remaining": number}
        assert ours.told() is None
    assert make().told() == {"remaining": 1}


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"\xff\x00", b'{"a": ', b"[" * 100_000, b"3", b"[]", b'{"download_id": 3}'],
)
def test_garbage_is_no_id(damage: bytes, make: Make, root: Path, clock: Clock) -> None:
    """A damaged file is as good as none, and is replaced by the next order."""
    make().place(_PRODUCT, "abc", clock.now)
    (file,) = files(root)
    file.write_bytes(damage)

    assert make().get(_PRODUCT) is None
    make().reserve(_PRODUCT)
    make().place(_PRODUCT, "new", clock.now)
    assert make().get(_PRODUCT) == "new"


def test_what_an_earlier_layout_left_is_in_nobodys_way(
    make: Make, root: Path, clock: Clock
) -> None:
    """Files and folders of other names beside those of orders are neither read nor counted."""
    for name in ("orders/ab/abcd.note", "orders/me/abcd.note", "quota/me/abcd.granted"):
        path = root / "v1" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b'{"download_id": "abc"}')
    root.chmod(0o700)
    book = make()

    book.reserve(_PRODUCT)
    book.place(_PRODUCT, "abc", clock.now)

    assert book.all() == OrderCounts(0, (clock.now,))
    assert book.get(_PRODUCT) == "abc"


def test_a_folder_that_cannot_be_written_is_told_once(
    make: Make,
    root: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What cannot be written down goes out all the same, and the log says so once."""
    book = make()
    Folder(root).prepare()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "rename", refuse)
    with caplog.at_level(logging.WARNING, "hda_fsspec"):
        for _ in range(2):
            book.reserve(_PRODUCT)
            book.place(_PRODUCT, "abc", clock.now)
            book.drop(_PRODUCT)

    (record,) = caplog.records
    assert "Orders" in record.getMessage()
    assert "read-only" in record.getMessage()


def test_world_writable_folder_is_refused(make: Make, root: Path, clock: Clock) -> None:
    """Orders from a folder to which everybody may write are not believed."""
    root.mkdir()
    root.chmod(0o777)

    with pytest.raises(ConfigurationError):
        make().get(_PRODUCT)
    with pytest.raises(ConfigurationError):
        make().place(_PRODUCT, "abc", clock.now)
