"""A bounded number of open files, the last used of them, shared by threads.

A product may be evicted and fetched again after the service published it anew: the path is the
same, the file is not. So what is open is kept under the stamp of its file.
"""

from __future__ import annotations

import collections
import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import xarray as xr

from hda_fsspec.client import Entry

K = TypeVar("K")
T = TypeVar("T")

#: So many are open at a time in a process, the last used.
MOST_OPEN = 64
_DECODED_BY = f"xarray {xr.__version__}"

#: When the file was fetched, its length and time of change, and what decodes it.
FileStamp = tuple[float, int, int, str]


def file_mark(entry: Entry) -> FileStamp:
    """Return what tells a file from what may lie there later, and how it is decoded.

    FileNotFoundError if another one lies there now, a link or a FIFO for instance.
    """
    found = os.lstat(entry.fspath)  # this is the hot path
    if (found.st_dev, found.st_ino) != entry.file_id:
        raise FileNotFoundError(errno.ENOENT, "The file was replaced", os.fspath(entry.path))
    return entry.fetched_at, found.st_size, found.st_mtime_ns, _DECODED_BY


def mark_seen(entry: Entry) -> FileStamp:
    """Return the mark of a file as it was just looked up; :func:`file_mark` looks again."""
    if entry.changed_ns is None:
        return file_mark(entry)
    return entry.fetched_at, entry.size, entry.changed_ns, _DECODED_BY


def is_unchanged(path: str | Path, mark: FileStamp) -> bool:
    """Whether the file that lies there is still the one of a mark that was taken before.

    One that is gone is not: it may have been replaced before it was evicted.
    """
    try:
        found = os.lstat(path)  # this is the hot path
    except FileNotFoundError:
        return False
    return (found.st_size, found.st_mtime_ns) == mark[1:3] and stat.S_ISREG(found.st_mode)


class Pool(Generic[K, T]):
    """The files opened last; each is opened by one thread while others wait.

    Parameters
    ----------
    size : int
        How many are kept.
    is_current : callable
        Whether a file of a mark still lies under a key.
    """

    def __init__(self, size: int, is_current: Callable[[K, FileStamp], bool]) -> None:
        self._size = size
        self._is_current = is_current
        self._lock = threading.Lock()
        self._open: collections.OrderedDict[K, tuple[FileStamp, T]] = collections.OrderedDict()
        self._opening: dict[K, threading.Lock] = {}

    def get(self, key: K, mark: FileStamp, open_it: Callable[[], T]) -> T:
        """Return what is open under a key, opening it if needed.

        What was opened of a file of another mark is dropped: its header does not decode this one.
        """
        with self._lock:
            found = self._open.get(key)
            if found is not None and found[0] == mark:
                self._open.move_to_end(key)
                return found[1]
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:
            with self._lock:
                found = self._open.get(key)
            if found is not None and found[0] == mark:
                return found[1]
            try:
                opened = open_it()
            finally:
                with self._lock:
                    self._opening.pop(key, None)
            with self._lock:
                self._open[key] = (mark, opened)
                while len(self._open) > self._size:
                    self._open.popitem(last=False)
            return opened

    def drop_stale(self) -> None:
        """Forget those whose file is gone, or is another one by now."""
        with self._lock:
            marks = [(key, mark) for key, (mark, _) in self._open.items()]
        stale = [(key, mark) for key, mark in marks if not self._is_current(key, mark)]
        with self._lock:
            for key, mark in stale:
                if key in self._open and self._open[key][0] == mark:
                    del self._open[key]

    def has(self, key: K, mark: FileStamp) -> bool:
        """Whether a file of this mark is open under a key."""
        with self._lock:
            found = self._open.get(key)
        return found is not None and found[0] == mark

    def drop(self, key: K) -> None:
        """Forget one whose file is gone."""
        with self._lock:
            self._open.pop(key, None)

    def drop_where(self, is_meant: Callable[[K], bool]) -> None:
        """Forget all whose keys are meant; who reads one of them just now goes on with it."""
        with self._lock:
            for key in [key for key in self._open if is_meant(key)]:
                del self._open[key]

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)
