"""The bound of the cache: what it holds is counted, and what was used longest ago goes first.

Sizes are taken from the disk, so that other processes' files count, and remembered for a while,
since a large cache on a network disk takes long to walk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Literal, NoReturn

from hda_fsspec import untrusted_files
from hda_fsspec.cache import partials
from hda_fsspec.cache.folder import Folder, dump_json, read_json
from hda_fsspec.cache.product_entries import RECORD_NAME, Entry, read_record
from hda_fsspec.errors import DownloadError

logger = logging.getLogger("hda_fsspec")

Bound = int | Literal["auto"] | None

_AUTO_BYTES = 50_000_000_000

# A walk is repeated after half a minute, or sooner if it is quick: it shall take at most 5 % of the
# time. Without this, a full cache would be walked for every product that comes in.
_WALK_MAX_AGE_SECONDS = 30.0
_WALK_SHARE = 0.05

#: For how long an entry can be protected.
LONGEST_PROTECTION_SECONDS = 86_400.0

# An entry that is marked as used this far in the future is protected; less, or more than a day, is
# a clock that is or was off.
_PROTECTED_SECONDS = 60.0
_TELL_EVERY_SECONDS = 60.0
# So many uses are noted between two walks.
_MOST_NOTED = 10_000
# So much is written before the disk is looked at again.
_LOOK_EVERY_BYTES = 8 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """The content of the cache: bytes and number of complete files, bytes of unfinished ones."""

    bytes: int = 0
    files: int = 0
    partial_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All bytes that count against the bound."""
        return self.bytes + self.partial_bytes


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class CacheItem:
    """A folder in the cache that weighs something, in the order of last use."""

    used_at: float
    path: Path
    size: int
    is_partial: bool

    @property
    def key(self) -> str:
        """The key of the product."""
        return self.path.name.partition(".")[0] if self.is_partial else self.path.parent.name


class Eviction:
    """The bound of a cache folder, and what is done to keep it.

    Parameters
    ----------
    folder : Folder
        The cache folder.
    bound : int, None or "auto"
        Bytes; no bound; or the smaller of 50 GB and half of the free disk when any process first
        asked.
    clock : callable
        The time in seconds since 1970.
    free_bytes : callable
        Free bytes of the disk that holds a folder.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        bound: Bound,
        clock: Callable[[], float],
        free_bytes: Callable[[Path], int],
    ) -> None:
        self._folder = folder
        self._bound = bound
        self._clock = clock
        self._told_at = float("-inf")
        self._free_bytes = free_bytes
        # By their folders, and those that are partials; and what all weigh together.
        self._items: dict[Path, CacheItem] = {}
        self._partials: set[Path] = set()
        self._total_bytes = 0
        self._used_since: dict[Path, float] = {}
        self._walked_at: float | None = None
        self._good_for_seconds = 0.0
        self._lock = threading.RLock()

    def bound(self) -> int | None:
        """Return the bound in bytes, None if there is none; "auto" is settled at the first call."""
        if self._bound != "auto":
            return self._bound
        bound = self._settle()
        if self._folder.is_present():
            self._bound = bound
        return bound

    def usage(self) -> Usage:
        """Walk the cache, and return what it holds."""
        with self._lock:
            start = self._clock()
            # A walk that fails leaves nothing that could be taken for all.
            self._walked_at = None
            self._used_since = {}
            self._items.clear()
            self._partials.clear()
            self._total_bytes = 0
            for item in walk(self._folder):
                self._add(item)
            self._walked_at = self._clock()
            took = max(self._walked_at - start, 0.0)
            self._good_for_seconds = min(_WALK_MAX_AGE_SECONDS, took / _WALK_SHARE)
            return _sum(self._items.values())

    def added(self, entry: Entry) -> None:
        """Count an entry that this process published since the last walk."""
        published = CacheItem(entry.used_at, entry.folder, entry.size, is_partial=False)
        with self._lock:
            # The same bytes may have been met as a partial, or as an entry that this one replaced.
            same = [path for path in self._partials if self._items[path].key == entry.key]
            for path in (published.path, *same):
                self._drop_item(path)
            self._add(published)

    def used(self, entry: Entry) -> None:
        """Note a use by this process since the last walk, or a protection that begins or ends.

        Without the lock, which is held through a walk: a reader waits for nobody.
        """
        if len(self._used_since) >= _MOST_NOTED:
            # A walk tells them all; without a bound there may never be one.
            self._used_since, self._walked_at = {}, None
        self._used_since[entry.folder] = entry.used_at

    def make_space(self, needed_bytes: int, keep: Collection[str]) -> list[Entry]:
        """Evict what must go before so many bytes are written, and return it.

        Products that were used longest ago go first, and abandoned partials with them; those
        whose key is in ``keep``, or that are protected, stay.

        Raises
        ------
        OSError
            ``ENOSPC``: the disk has not as much room, whatever is evicted.
        """
        with self._lock:
            evicted = self._evict(needed_bytes, keep)
        free = self._free(needed_bytes)
        if free is not None and free < needed_bytes:
            self._refuse(needed_bytes, free)
        return evicted

    def admit(self, size: int, more: int, total: int | None, keep: Collection[str]) -> None:
        """Refuse what would let a file that is being written become larger than may be.

        Parameters
        ----------
        size, more : int
            How many bytes it has, and how many are about to be written.
        total : int or None
            How many it will have. A length that was told is taken at its word as long as the disk
            has the room; a body of which nobody knows the end may have none.
        keep : collection of str
            Keys that must not be evicted for it.

        Raises
        ------
        DownloadError
            It is larger than the bound, and nobody knows by how much.
        OSError
            ``ENOSPC``: the disk has not as much room.
        """
        bound = self.bound() if total is None else None
        if bound is not None and size + more > bound:
            msg = (
                f"What arrives has no end that is told, and after {size:,} bytes it is about to be"
                f" larger than the cache may be ({bound:,} bytes): it was given up. If it is no"
                " fault of the service, raise cache_max_bytes (HDA_CACHE_MAX_BYTES)."
            )
            raise DownloadError(msg, received=size)
        if size and size // _LOOK_EVERY_BYTES == (size + more) // _LOOK_EVERY_BYTES:
            return
        needed = max(more, total - size if total is not None else _LOOK_EVERY_BYTES * bool(size))
        free = self._free(needed)
        if free is None or free >= needed:
            return
        # What can never fit drives nothing out.
        can_fit = total is not None and free + self.usage().total_bytes >= needed
        self.make_space(needed, keep) if can_fit else self._refuse(needed, free)

    def _add(self, item: CacheItem) -> None:
        self._items[item.path] = item
        self._total_bytes += item.size
        if item.is_partial:
            self._partials.add(item.path)

    def _drop_item(self, path: Path) -> None:
        item = self._items.pop(path, None)
        if item is not None:
            self._total_bytes -= item.size
            self._partials.discard(path)

    def _refuse(self, needed_bytes: int, free: int) -> NoReturn:
        msg = (
            f"The disk of the cache folder {self._folder.root} has {free:,} bytes free, and"
            f" {needed_bytes:,} are needed. Free some space, or set cache_dir (HDA_CACHE_DIR)"
            " to a larger disk."
        )
        raise OSError(errno.ENOSPC, msg)

    def _evict(self, needed_bytes: int, keep: Collection[str]) -> list[Entry]:
        evicted: list[Entry] = []
        shortage = self._shortage(needed_bytes)
        if shortage > 0 and self._drop(shortage, keep, evicted):
            # Some were used or taken over since the last walk: look again before giving up.
            self.usage()
            self._drop(self._shortage(needed_bytes), keep, evicted)
        shortage = self._shortage(needed_bytes)
        if shortage > 0 and self._clock() - self._told_at >= _TELL_EVERY_SECONDS:
            self._told_at = self._clock()
            logger.warning(
                "The cache %s lacks %s bytes to stay within its bound: the rest of it is in use or"
                " protected, or a product is larger than the bound. A larger cache_max_bytes"
                " (HDA_CACHE_MAX_BYTES) would help.",
                self._folder.root,
                f"{shortage:,}",
            )
        return evicted

    def _drop(self, shortage: int, keep: Collection[str], evicted: list[Entry]) -> bool:
        """Evict until nothing is short; True if that failed because of what changed meanwhile."""
        now = self._clock()
        was_outdated = False
        # A use that is yet to come tells nothing: the clock was off, and it may be long ago.
        latest = now + LONGEST_PROTECTION_SECONDS + _PROTECTED_SECONDS
        used = self._used_since.copy()  # readers add to it at any time
        for path in used.keys() & self._items.keys():
            self._items[path] = dataclasses.replace(self._items[path], used_at=used[path])
        items = sorted(self._items.values(), key=lambda item: (item.used_at <= latest, item))
        for item in items:
            if shortage <= 0:
                return False
            is_protected = now + _PROTECTED_SECONDS < item.used_at <= latest
            if item.key in keep or is_protected:
                continue
            if not self._is_still_due(item, now):
                was_outdated = True
                continue
            entry = None if item.is_partial else read_record(self._folder, item.path)
            if self._discard(item.path):
                shortage -= item.size
                self._drop_item(item.path)
                if entry is not None:
                    evicted.append(entry)
            else:
                was_outdated = True
        return was_outdated and shortage > 0

    def _shortage(self, needed_bytes: int) -> int:
        """Return how many bytes must go, walking the cache if what is known of it is too old."""
        bound = self.bound()
        free = self._free(needed_bytes)
        lacking = 0 if free is None else needed_bytes - free
        if bound is None and lacking <= 0:
            return lacking
        if not self._is_walk_fresh():
            self.usage()
        excess = 0 if bound is None else self._total_bytes + needed_bytes - bound
        return max(excess, lacking)

    def _is_walk_fresh(self) -> bool:
        if self._walked_at is None:
            return False
        # A clock that was set back must not make an old walk good for ever.
        return abs(self._clock() - self._walked_at) < self._good_for_seconds

    def _is_still_due(self, item: CacheItem, now: float) -> bool:
        """Whether nobody used or took over the folder since the walk."""
        if item.is_partial:
            return partials.is_abandoned(self._folder, item.path, now=now)
        with contextlib.suppress(OSError):
            record = self._folder.look(item.path / RECORD_NAME)
            if record is not None:
                return record.st_mtime <= item.used_at
            return self._folder.look(item.path) is not None
        return False

    def _discard(self, path: Path) -> bool:
        try:
            return self._folder.discard(path)
        except PermissionError:
            # A colleague's file in a shared folder: it is theirs to delete.
            logger.warning("The cache could not evict %s: permission denied.", path)
            return False

    def _free(self, needed_bytes: int) -> int | None:
        if needed_bytes <= 0:
            return None
        try:
            return self._free_bytes(self._folder.root)
        except OSError:
            # Some network disks do not tell; writing will.
            return None

    def _settle(self) -> int:
        path = self._folder.path / "bound.json"
        told = _bound_in(self._folder, path)
        if told is not None:
            return told
        nearest = next(p for p in (self._folder.root, *self._folder.root.parents) if p.exists())
        mine = min(_AUTO_BYTES, self._free_bytes(nearest) // 2)
        if not self._folder.is_present():
            return mine
        with contextlib.suppress(OSError):
            # Without a folder to write to, each process goes by its own measure.
            self._folder.write(path, dump_json({"max_bytes": mine}), is_first=True)
        return _bound_in(self._folder, path) or mine


def free_bytes(folder: Path) -> int:
    """Return how many bytes this process may still write to the disk of a folder."""
    return shutil.disk_usage(folder).free


def entry_folders(folder: Folder) -> Iterator[tuple[Path, int]]:
    """Go through the folders of all products and versions, whatever is in them.

    Each is given with a descriptor, which is good until the next one is asked for.
    """
    return folder.subfolders(folder.path / "products", 3)


def bytes_in(folder: Folder, path: Path) -> int:
    """Return what a folder weighs as the cache counts: notes of this package count nothing."""
    notes = {RECORD_NAME, partials.FACTS_NAME}
    return sum(facts.st_size for name, facts in folder.files(path) if name not in notes)


def walk(folder: Folder) -> Iterator[CacheItem]:
    """Go through all folders that weigh something, entries and partials, in no order."""
    for path, inside in entry_folders(folder):
        yield _weigh(path, untrusted_files.files_in(inside))
    for path, inside in folder.subfolders(folder.path / "partial"):
        held = [facts for name, facts in untrusted_files.files_in(inside) if partials.is_held(name)]
        size = sum(facts.st_size for facts in held)
        yield CacheItem(partials.last_touched(folder, path), path, size, is_partial=True)


def _sum(items: Collection[CacheItem]) -> Usage:
    whole = [item.size for item in items if not item.is_partial]
    unfinished = sum(item.size for item in items if item.is_partial)
    return Usage(bytes=sum(whole), files=len(whole), partial_bytes=unfinished)


def _weigh(path: Path, files: list[tuple[str, os.stat_result]]) -> CacheItem:
    size, used_at = 0, 0.0
    for name, facts in files:
        if name == RECORD_NAME:
            used_at = facts.st_mtime
        else:
            size += facts.st_size
    return CacheItem(used_at, path, size, is_partial=False)


def _bound_in(folder: Folder, path: Path) -> int | None:
    value = read_json(folder, path)
    told = value.get("max_bytes") if isinstance(value, dict) else None
    return told if type(told) is int and told > 0 else None
