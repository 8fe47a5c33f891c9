"""The orders of an account: one file for each, which outlives its process and counts for the quota.

The file is empty while its order is on the way to the service, and holds the id that the service
gave it afterwards, and what was ordered. Its time of change is the moment from which the order
counts, so that the quota needs no file's content. Files that count no more are moved aside, and
found there by who resumes.

Who wants to order writes the file first, then counts all; who counts too many takes his own back.
So two that write at one time may both refrain, and never both go ahead: no lock is needed. The book
knows products, files and times; what the service grants is no concern of this module.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hda_fsspec import untrusted_files
from hda_fsspec.cache.folder import Folder, dump_json, read_json
from hda_fsspec.records import Product, is_name
from hda_fsspec.service_limits import QUOTA_WINDOW_SECONDS

_SUFFIX = ".order"
#: What an order's file says of its product: enough to tell it, and no locator.
_TOLD = ("dataset_id", "product_id", "broker", "size", "startdate", "enddate", "updated")

#: An order without an answer for so long has none coming: its process was killed.
_UNANSWERED_SECONDS = 180.0
#: Clocks of two hosts may differ by so much.
_AHEAD_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class OrderCounts:
    """The orders that count besides one's own.

    Attributes
    ----------
    reserved : int
        Orders that have not been answered yet.
    placed : tuple of float
        When each of the others began to count, in seconds since 1970.
    """

    reserved: int
    placed: tuple[float, ...]

    def since(self, moment: float) -> int:
        """Return how many were placed after a moment."""
        return sum(placed_at > moment for placed_at in self.placed)


@dataclasses.dataclass(frozen=True)
class PlacedOrder:
    """An order that the service took.

    Attributes
    ----------
    product : Product
        What was ordered, as far as it is needed to tell it.
    download_id : str
        The id that the service gave the order.
    placed_at : float
        Since when it counts, in seconds since 1970.
    """

    product: Product
    download_id: str
    placed_at: float


class OrderBook:
    """The orders of one account in a cache folder, for all processes that use it.

    Parameters
    ----------
    root : Path
        The cache folder.
    account : str
        The name under which they are kept.
    clock : callable
        Seconds since 1970. Hosts that share a folder are taken to agree within a second or so.
    """

    def __init__(self, root: Path, account: str, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = Folder(Path(root))
        self._recent = self._folder.path / "orders" / account
        self._quota_file = self._folder.path / "quota" / account / "told.json"
        self._quota_seen: tuple[int, int] | None = None
        self._clock = clock

    def get(self, product: Product) -> str | None:
        """Return the id of the order of this version of a product, if there is one."""
        return (self._find(product) or (None, None))[1]

    def was_ordered(self, product: Product) -> bool:
        """Whether the service took an order of it once, so that another one costs no quota."""
        return self._find(product) is not None

    def ordered_of(self, products: Iterable[Product]) -> set[Product]:
        """Return those of many products of which there is an order, as :meth:`get` tells it.

        The folders are listed once: most of thousands were never ordered.
        """
        if not self._folder.is_present():
            return set()
        folders = [self._recent, *(folder for folder, _ in self._folder.subfolders(self._recent))]
        names = {name for folder in folders for name, _ in self._folder.files(folder)}
        return {
            product
            for product in products
            if names and _file_name(product) in names and self.get(product) is not None
        }

    def reserve(self, product: Product) -> float:
        """Write that an order is about to go out, and return the time that was written.

        A product has one file, however many order it at a time: the service counts it once, too.
        """
        now = self._clock()
        path = self._path(product)
        with self._losing():
            there = self._folder.look(path)
            # One that may have been taken in before goes on to count from then.
            may_be_taken = there is not None and stat.S_ISREG(there.st_mode) and there.st_size
            if there is None or not may_be_taken or not _counts(now - there.st_mtime):
                self._write(path, b"", now)
        return now

    def release(self, product: Product) -> None:
        """Take back what :meth:`reserve` wrote; an order that was taken in meanwhile stays."""
        path = self._path(product)
        with self._losing():
            there = self._folder.look(path)
            if there is not None and not there.st_size:
                self._folder.unlink(path)

    def place(self, product: Product, download_id: str | None, counts_from: float) -> None:
        """Write that the service took an order, or may have done so.

        Parameters
        ----------
        product : Product
            What was ordered.
        download_id : str or None
            The id that the service gave it; None where nobody knows whether there is an order.
        counts_from : float
            From when on it counts, in seconds since 1970.
        """
        facts = {} if download_id is None else _facts(product, download_id)
        with self._losing():
            self._write(self._path(product), dump_json(facts), counts_from)

    def renew(self, product: Product, download_id: str | None) -> None:
        """Write another id for a product that was ordered before, which does not count anew."""
        path, _ = self._find(product) or (self._path(product), None)
        with self._losing():
            there = self._folder.look(path)
            counts_from = self._clock() if there is None else there.st_mtime
            self._write(path, dump_json(_facts(product, download_id)), counts_from)

    def drop(self, product: Product) -> None:
        """Forget the id of an order, and remember that there was one."""
        if self.was_ordered(product):
            self.renew(product, None)

    def others(self, product: Product) -> OrderCounts:
        """Count all orders but that of one product, and move aside what counts no more."""
        return self._count(self._path(product).name)

    def all(self) -> OrderCounts:
        """Count all orders, and move aside what counts no more."""
        return self._count(None)

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Keep what the service told of the quota, for other processes."""
        with self._losing():
            self._folder.write(self._quota_file, dump_json(dict(facts)))

    def told(self) -> Any:
        """Return what another process kept since this was last asked, None if there is no news."""
        try:
            there = self._folder.look(self._quota_file)
        except OSError as err:
            untrusted_files.tell_once(err)
            return None
        seen = None if there is None else (there.st_mtime_ns, there.st_ino)
        if seen is None or seen == self._quota_seen:
            return None
        value = read_json(self._folder, self._quota_file)
        if value is not None:
            self._quota_seen = seen
        return value

    def placed(self, *, within_seconds: float) -> list[PlacedOrder]:
        """Return the orders of the last time that the service may still know, newest first.

        Whether their products have come since is not known here.
        """
        if not self._folder.is_present():
            return []
        since = self._clock() - within_seconds
        folders = [self._recent, *(folder for folder, _ in self._folder.subfolders(self._recent))]
        paths = [
            (folder / name, facts.st_mtime)
            for folder in folders
            for name, facts in self._folder.files(folder)
            if name.endswith(_SUFFIX) and facts.st_size and facts.st_mtime >= since
        ]
        found = (_placed(read_json(self._folder, path), placed_at) for path, placed_at in paths)
        return sorted((order for order in found if order), key=lambda order: -order.placed_at)

    def _count(self, left_out: str | None) -> OrderCounts:
        now = self._clock()
        reserved = 0
        placed: list[float] = []
        for name, facts in self._folder.files(self._recent):
            if name == left_out or not name.endswith(_SUFFIX):
                continue
            age_seconds = now - facts.st_mtime
            if not _counts(age_seconds):
                self._move_aside(name)
            elif facts.st_size or age_seconds > _UNANSWERED_SECONDS:
                placed.append(facts.st_mtime)
            else:
                reserved += 1
        return OrderCounts(reserved, tuple(placed))

    def _move_aside(self, name: str) -> None:
        """Take a file out of the folder that is counted, whatever it holds by now."""
        path, aside = self._recent / name, self._aside(name)
        with self._losing():
            try:
                self._folder.rename(path, aside)
            except FileNotFoundError:
                self._folder.make(aside.parent)
                self._folder.rename(path, aside)

    def _find(self, product: Product) -> tuple[Path, str | None] | None:
        """Return the file of an order that the service took for certain, and the id in it."""
        if not self._folder.is_present():
            return None
        recent = self._path(product)
        # In this order: between the two looks a file may be moved aside, and none comes back.
        for path in (recent, self._aside(recent.name)):
            # Thousands are asked for in a row, and most are not there, which one call tells.
            facts = read_json(self._folder, path) if os.path.lexists(path) else None
            if isinstance(facts, dict) and "download_id" in facts:
                download_id = facts["download_id"]
                return path, download_id if isinstance(download_id, str) else None
        return None

    def _path(self, product: Product) -> Path:
        return self._recent / _file_name(product)

    def _aside(self, name: str) -> Path:
        return self._recent / name[:2] / name

    def _write(self, path: Path, data: bytes, modified_at: float) -> None:
        self._folder.prepare()
        self._folder.write(path, data, modified_at=modified_at)

    def _losing(self) -> contextlib.AbstractContextManager[None]:
        # Whatever the error: without its file the service still counts an order, and refuses what
        # is too much; and the answer to an order, which is at hand, must not be lost over it.
        return self._folder.losing(
            "Orders, which other processes and later runs would take up,", None
        )


def _facts(product: Product, download_id: str | None) -> dict[str, Any]:
    return {"download_id": download_id, **{name: getattr(product, name) for name in _TOLD}}


def _placed(facts: Any, placed_at: float) -> PlacedOrder | None:
    """Return the order that a file tells of; None where it tells of none, or not of what."""
    if not isinstance(facts, dict) or not is_name(facts.get("download_id")):
        return None
    try:
        product = Product.from_json({name: facts[name] for name in _TOLD})
    except (KeyError, TypeError, ValueError):
        return None
    return PlacedOrder(product, facts["download_id"], placed_at)


def _file_name(product: Product) -> str:
    return f"{product.key}.{product.version_tag}{_SUFFIX}"


def _counts(age_seconds: float) -> bool:
    """Whether an order so old counts; one from the future has a clock that was set back since."""
    return -_AHEAD_SECONDS <= age_seconds <= QUOTA_WINDOW_SECONDS
