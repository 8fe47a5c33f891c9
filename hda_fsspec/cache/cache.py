"""The cache: products on disk, complete or not there, shared by any number of processes.

It knows keys, bytes and records; it has never heard of HTTP, of brokers or of file formats. The
files are the truth: there is no index, and nothing here needs a lock. What another member of a team
has published is read like one's own; nothing else of theirs is (see
:mod:`hda_fsspec.cache.folder`).
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from hda_fsspec.cache import eviction, partials
from hda_fsspec.cache.eviction import Bound, Eviction, Usage
from hda_fsspec.cache.folder import READ_ONLY_ERRNOS, TRASH_PREFIX, Folder
from hda_fsspec.cache.product_entries import (
    RECORD_NAME,
    Entry,
    among,
    read_entry,
    read_record,
    verify_entry,
    versions_folder,
    versions_name,
)
from hda_fsspec.cache.staging import Staging
from hda_fsspec.errors import ProductFormatError
from hda_fsspec.records import Product
from hda_fsspec.untrusted_files import names_in

__all__ = ["Cache", "Entry", "Staging", "Usage"]

# Last use is noted no more often than this: eviction needs no better order, and network disks no
# more traffic.
_TOUCH_SECONDS = 60.0

_MAX_REMEMBERED = 100_000

# The length of a file, when it changed, and its number on the disk.
_State = tuple[int, int, int]

# What an interrupted download left is good for another day.
_RESUMABLE_SECONDS = 86_400.0


class Cache:
    """Products in a folder, found by their record.

    Nothing is read or written before the first call of a method.

    Parameters
    ----------
    root : Path
        The folder. It is made, for this user alone, when the first product is staged.
    max_bytes : int, None or "auto"
        The bound. "auto" is the smaller of 50 GB and half of the disk's free space when the folder
        was first used; None is no bound.
    clock, free_bytes : callable
        The time, and the free bytes of a folder's disk; given by tests.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_bytes: Bound = "auto",
        clock: Callable[[], float] = time.time,
        free_bytes: Callable[[Path], int] = eviction.free_bytes,
    ) -> None:
        self._folder = Folder(Path(root))
        self._clock = clock
        self._room = Eviction(self._folder, bound=max_bytes, clock=clock, free_bytes=free_bytes)
        self._remembered: dict[Product, tuple[Entry, _State]] = {}
        self._held: collections.Counter[str] = collections.Counter()
        self._guard = threading.Lock()

    @property
    def root(self) -> Path:
        """The folder of the setting ``cache_dir``."""
        return self._folder.root

    @property
    def max_bytes(self) -> int | None:
        """The bound in bytes, None if there is none; "auto" is settled when it is first asked."""
        return self._room.bound()

    def prepare(self) -> None:
        """Make the folder if it is not there; cheap when it is.

        Raises
        ------
        ConfigurationError
            Everybody may write to it, or it is not a folder.
        OSError
            It cannot be made.
        """
        self._folder.prepare()

    def check_writable(self, product: Product) -> None:
        """Raise OSError, with the next step, if a product cannot be added: ask before an order.

        The folder must have been prepared.
        """
        self._folder.check_writable()
        versions = versions_folder(self._folder.path, product.key)
        for path in (self._folder.path / "partial", versions):
            self._folder.check_passable(path)

    def lookup(self, product: Product, *, touch: bool = True) -> Entry | None:
        """Return the complete file of this version of a product, or None.

        Costs no checksum, no network and no lock, and one stat if it was found before. With
        ``touch`` it counts as a use, which also ends a protection.
        """
        entry, state = self._remembered.get(product, (None, None))
        is_new = entry is None or _state(entry) != state
        if is_new:
            self._remembered.pop(product, None)
            entry = self._find(product)
        if entry is None:
            return None
        if touch and abs(self._clock() - entry.used_at) > _TOUCH_SECONDS:
            entry, is_new = self._mark_used(entry, self._clock()), True
        if is_new:
            self._remember(product, entry)
        return entry

    def among(self, products: Sequence[Product]) -> list[int]:
        """Return which of some products, by their numbers, :meth:`lookup` may find."""
        return among(products, self._keys)

    def stage(
        self,
        product: Product,
        *,
        expected_bytes: int | None = None,
        keep: Collection[str] = (),
    ) -> Staging:
        """Begin to write a product, or go on where a writer that is gone stopped.

        To be called when bytes are about to arrive: a staging in which nothing happens for ten
        minutes may be taken over from another machine.

        Parameters
        ----------
        product : Product
            The record as it was ordered.
        expected_bytes : int, optional
            Its length if known: room is made for it.
        keep : collection of str
            Keys that are in use and must not be evicted.
        """
        staging = Staging(
            self._folder,
            product,
            clock=self._clock,
            on_publish=self._count_published,
            admit=lambda held, more, total: self._room.admit(
                held, more, total, {*keep, *self._in_use(), product.key}
            ),
        )
        try:
            missing = 0 if expected_bytes is None else max(0, expected_bytes - staging.offset)
            self._room.make_space(missing, {*keep, *self._in_use(), staging.key})
        except BaseException:
            staging.release()
            raise
        return staging

    @contextlib.contextmanager
    def hold(self, product: Product) -> Iterator[None]:
        """Keep a product from being evicted by this process, which is about to open it."""
        key = product.key
        with self._guard:
            self._held[key] += 1
        try:
            yield
        finally:
            with self._guard:
                self._held -= collections.Counter([key])

    def entries(self) -> Iterator[Entry]:
        """Go through all complete products, in no particular order."""
        for folder in self._entry_folders():
            entry = read_entry(self._folder, folder)
            if entry is not None:
                yield entry

    def usage(self) -> Usage:
        """Walk the folder, and return what it holds."""
        return self._room.usage()

    def evict(self, needed_bytes: int = 0, keep: Collection[str] = ()) -> list[Entry]:
        """Make room for so many bytes within the bound; return what was evicted.

        What was used longest ago goes first. Keys in ``keep`` and protected entries stay.
        """
        return self._room.make_space(needed_bytes, keep)

    def protect(
        self, entry: Entry, *, seconds: float = eviction.LONGEST_PROTECTION_SECONDS
    ) -> None:
        """Keep an entry from eviction until it is looked up, or until so many seconds have passed.

        It holds for all processes, and for a day at most.
        """
        # A last use in the future: it needs no further file, and ends by itself.
        ends_after = min(seconds, eviction.LONGEST_PROTECTION_SECONDS)
        marked = self._mark_used(entry, self._clock() + ends_after)
        self._remember(entry.product, marked)

    def verify(
        self, check: Callable[[Path], object]
    ) -> Iterator[tuple[Entry, OSError | ValueError | None]]:
        """Go through all products, and tell of each what is wrong with it, if anything.

        Compares the length, and the checksum if one is recorded, else records it; then calls
        ``check(path)``. Nothing is removed.
        """
        for folder in self._entry_folders():
            entry = read_record(self._folder, folder)
            if entry is None:
                continue
            try:
                verified = verify_entry(self._folder, entry, check)
            except FileNotFoundError:
                if self._folder.look(folder) is None:
                    continue  # evicted while we looked
                msg = f"{entry.path} is missing. Remove the entry, and it is fetched again."
                yield entry, ProductFormatError(msg)
            except (OSError, ValueError) as err:
                yield entry, err
            else:
                yield verified, None

    def remove(self, product_or_key: Product | str) -> int:
        """Remove a product in all its versions; return the bytes that were freed."""
        given = product_or_key
        key = given.key if isinstance(given, Product) else given
        return self._discard_all(self._versions(key))

    def clear(self) -> int:
        """Remove all products, and partials that nobody writes; return the bytes freed."""
        return self._discard_all(self._entry_folders()) + self.prune(partials_after_seconds=0)

    def prune(
        self,
        *,
        older_than_seconds: float | None = None,
        partials_after_seconds: float = _RESUMABLE_SECONDS,
    ) -> int:
        """Remove what is of no use; return the bytes that were freed.

        That is: what was interrupted and not taken up again for a day, folders without a complete
        product, remains of evictions, and, if a time is given, products not used for so long.
        """
        now = self._clock()
        useless = [
            path
            for path, _ in self._folder.subfolders(self._folder.path / "partial")
            if partials.is_abandoned(self._folder, path, now=now)
            and (
                path.name.startswith(TRASH_PREFIX)
                or partials.held_bytes(self._folder, path) == 0
                or now - partials.last_touched(self._folder, path) >= partials_after_seconds
            )
        ]
        for folder in self._entry_folders():
            entry = read_entry(self._folder, folder)
            if entry is None or (
                older_than_seconds is not None and now - entry.used_at > older_than_seconds
            ):
                useless.append(folder)
        return self._discard_all(useless)

    def _in_use(self) -> set[str]:
        with self._guard:
            return set(self._held)

    def _find(self, product: Product) -> Entry | None:
        if not self._folder.is_present():
            return None
        # A hundred thousand are looked up in a row, and a path is made at four times the cost.
        if not os.path.isdir(f"{self._folder.fspath}/{versions_name(product.key)}"):  # noqa: PTH112
            return None
        versions = versions_folder(self._folder.path, product.key)
        exact = read_entry(self._folder, versions / product.version_tag)
        if exact is not None and exact.product.is_same_version(product):
            return exact
        # What the catalogue does not tell matches anything, so another tag may be the same version.
        folders = self._versions(product.key)
        read = (read_entry(self._folder, folder) for folder in folders)
        found = [entry for entry in read if entry is not None]
        matching = [entry for entry in found if entry.product.is_same_version(product)]
        return max(matching, key=lambda entry: entry.fetched_at, default=None)

    def _versions(self, key: str) -> list[Path]:
        """Return the folders of all versions of a product, read before any of them is removed."""
        above = versions_folder(self._folder.path, key)
        return [folder for folder, _ in self._folder.subfolders(above)]

    def _remember(self, product: Product, entry: Entry) -> None:
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        state = _state(entry)
        if state is not None and state[0] == entry.size:
            self._remembered[product] = (dataclasses.replace(entry, changed_ns=state[1]), state)

    def _mark_used(self, entry: Entry, time_of_use: float) -> Entry:
        record = entry.folder / RECORD_NAME
        try:
            self._folder.utime(record, time_of_use)
        except FileNotFoundError:
            pass  # evicted just now: the caller finds out when it opens the file
        except OSError as err:
            if err.errno not in READ_ONLY_ERRNOS:
                raise
            # In a read-only cache nothing is evicted from here; in a colleague's file only the
            # present may be noted as time of use.
            with contextlib.suppress(OSError):
                self._folder.utime(record)
        marked = dataclasses.replace(entry, used_at=time_of_use)
        self._room.used(marked)
        return marked

    def _entry_folders(self) -> list[Path]:
        if not self._folder.is_present():
            return []
        return [path for path, _ in eviction.entry_folders(self._folder)]

    def _keys(self) -> Iterator[str]:
        """Go through the keys of all products that may be there; no file is looked at."""
        if self._folder.is_present():
            for _, inside in self._folder.subfolders(self._folder.path / "products"):
                yield from names_in(inside)

    def _discard_all(self, folders: list[Path]) -> int:
        freed = 0
        for folder in folders:
            size = eviction.bytes_in(self._folder, folder)
            if self._folder.discard(folder):
                freed += size
        return freed

    def _count_published(self, entry: Entry) -> None:
        self._remember(entry.product, entry)
        self._room.added(entry)
        # Its size may not have been known before.
        self._room.make_space(0, {*self._in_use(), entry.key})


def _state(entry: Entry) -> _State | None:
    """Return what tells an entry's file from one that another process may put in its place."""
    try:
        found = os.lstat(entry.fspath)  # this is the hot path
    except OSError:
        return None
    if (found.st_dev, found.st_ino) != entry.file_id:
        return None  # another one than the file that was found here without following a link
    return found.st_size, found.st_mtime_ns, found.st_ino
