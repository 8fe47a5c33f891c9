"""Numbered places that all processes on a cache folder share: cheap enough for each request.

A place is a ``flock`` on a file that stays open, so that taking one costs a few microseconds (a
lock of :mod:`hda_fsspec.cache.locks` opens, checks and closes its file each time). What the places
are for is unknown here. Like all locks they save work, and nothing depends on them.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path

from hda_fsspec.cache.folder import Folder
from hda_fsspec.cache.locks import CANNOT_LOCK_ERRNOS, reason
from hda_fsspec.concurrency.forks import on_fork

logger = logging.getLogger("hda_fsspec")


class SharedSlots:
    """So many places of one name in a cache folder, freed by the system when their taker ends.

    Parameters
    ----------
    root : Path
        The cache folder.
    name : str
        All processes that give the same name share the places.
    """

    def __init__(self, root: Path, name: str) -> None:
        self._folder = Folder(Path(root))
        self._name = hashlib.sha256(name.encode()).hexdigest()
        self._guard = threading.Lock()
        self._files: dict[int, int] = {}
        self._taken: set[int] = set()
        self._has_warned = False
        _all.add(self)
        weakref.finalize(self, _close, self._files)

    def acquire(self, among: Iterable[int]) -> int | None:
        """Take the first place of some that is free, and return its number; None if none is.

        A disk that cannot lock gives a place to each process, and one warning to the log.
        """
        with self._guard:
            for number in among:
                if number not in self._taken and self._is_ours(number):
                    self._taken.add(number)
                    return number
        return None

    def release(self, number: int) -> None:
        """Give a place back, from any thread."""
        with self._guard:
            if number in self._files:
                fcntl.flock(self._files[number], fcntl.LOCK_UN)
            self._taken.discard(number)

    def forget(self) -> None:
        """Begin anew in a fork: it has no right to its parent's places, nor to its files."""
        self._guard = threading.Lock()
        _close(self._files)
        self._taken.clear()

    def _is_ours(self, number: int) -> bool:
        try:
            file = self._open(number)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except (FileNotFoundError, FileExistsError):
            return True  # somebody deletes the cache folder at this very moment
        except OSError as err:
            if err.errno not in CANNOT_LOCK_ERRNOS:
                raise
            self._warn(err)
        return True

    def _open(self, number: int) -> int:
        """Return the file of a place, made anew if somebody deleted the cache folder."""
        file = self._files.get(number)
        if file is not None and os.fstat(file).st_nlink:
            return file
        path = self._folder.path / "locks" / f"{self._name}.{number}.place"
        if file is None:
            self._folder.prepare()
        self._folder.make(path.parent)
        new = self._folder.open_shared(path)
        self._files[number] = new
        if file is not None:
            os.close(file)
        return new

    def _warn(self, err: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "The cache folder %s cannot lock files (%s). Results stay right, but several"
                " processes may send more requests at one time than the service wants.",
                self._folder.root,
                reason(err),
            )


def _close(files: dict[int, int]) -> None:
    while files:
        os.close(files.popitem()[1])


_all: weakref.WeakSet[SharedSlots] = weakref.WeakSet()


@on_fork
def _forget_after_fork() -> None:
    for places in list(_all):
        places.forget()
