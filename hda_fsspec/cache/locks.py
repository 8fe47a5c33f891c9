"""Locks and numbered slots that processes share: they save work, and nothing depends on them.

On some network disks every lock succeeds, and on some none does. Whoever holds a lock of this
module must therefore be right even if another holds it too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from hda_fsspec.cache.folder import READ_ONLY_ERRNOS, Folder
from hda_fsspec.concurrency.forks import ForkLock, on_fork
from hda_fsspec.errors import HDAError

#: The answers of a disk that cannot lock, or not here.
CANNOT_LOCK_ERRNOS = READ_ONLY_ERRNOS | {
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.EINVAL,
    errno.EIO,
    errno.ENOSPC,
    errno.EDQUOT,
    # Something lies there that is no lock file, and is left alone.
    errno.ELOOP,
}

#: What tells that the folder was removed, or made by another, in the middle of making a lock in it.
_CHANGING_ERRNOS = {errno.ENOENT, errno.EEXIST}
_TRIES = 4

# The locks that this process holds, with the descriptors of their files: where the disk cannot
# lock, its threads still exclude each other.
_held: dict[Path, int | None] = {}
_guard = ForkLock()


class Lock:
    """A lock that is held until :meth:`release`, or until its process ends; a context manager.

    Any thread may release it. Releasing it twice is harmless, and so is releasing in a forked child
    what the parent holds.

    Attributes
    ----------
    path : Path
        Its file.
    is_shared : bool
        Whether other processes see the lock; False where the disk cannot lock.
    """

    def __init__(self, path: Path, *, is_shared: bool, on_release: Callable[[], object]) -> None:
        self.path = path
        self.is_shared = is_shared
        self._on_release = on_release
        self._holder = os.getpid()
        self._is_held = True

    def release(self) -> None:
        """Give the lock back."""
        if self._is_held and os.getpid() == self._holder:
            self._is_held = False
            self._on_release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class FileLocks:
    """Locks and numbered slots in a cache folder, freed by the system when their process ends.

    Their files are never removed: a process that waits on a removed file and one that makes it anew
    would both hold the lock. A disk that cannot lock gives everything to each process, and one
    warning to the log.

    Parameters
    ----------
    root : Path
        The cache folder.
    """

    def __init__(self, root: Path) -> None:
        self._folder = Folder(Path(root))
        # Files of slots stay open, so that taking one for each request costs a few microseconds.
        # There are few of them; of names there are as many as of products.
        self._idle: dict[Path, int] = {}
        _all.add(self)
        weakref.finalize(self, _close_all, self._idle)

    def acquire(self, name: str) -> Lock | None:
        """Take the lock of that name without waiting; None if another holds it."""
        return self._acquire(self._folder.path / f"locks/{_digest(name)}.lock", is_slot=False)

    def acquire_slot(self, name: str, numbers: Iterable[int]) -> Lock | None:
        """Take the first slot of that name, of those with some numbers, that is free, if any is."""
        for number in numbers:
            lock = self._acquire(_slot(self._folder.path, name, number), is_slot=True)
            if lock is not None:
                return lock
        return None

    def _acquire(self, path: Path, *, is_slot: bool) -> Lock | None:
        with _guard:
            if path in _held:
                return None
            _held[path] = self._idle.pop(path, None)
        is_ours = False
        try:
            is_ours = self._lock(path)
        finally:
            if not is_ours:
                self._let_go(path, is_slot=is_slot)
        if not is_ours:
            return None
        return Lock(
            path,
            is_shared=_held[path] is not None,
            on_release=lambda: self._let_go(path, is_slot=is_slot),
        )

    def _lock(self, path: Path) -> bool:
        """Lock a file; False if another process holds it."""
        reason: OSError = FileNotFoundError(errno.ENOENT, "The lock file was removed")
        for _ in range(_TRIES):
            try:
                file = _held[path]
                if file is None:
                    file = _held[path] = self._open(path)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    is_free = True
                except BlockingIOError:
                    is_free = False
                if os.fstat(file).st_nlink:
                    return is_free
            except OSError as err:
                if err.errno not in CANNOT_LOCK_ERRNOS | _CHANGING_ERRNOS:
                    _close(path)
                    raise _cannot_lock(path, err) from err
                reason = err
            # Who comes later would lock another file.
            _close(path)
            if reason.errno in CANNOT_LOCK_ERRNOS:
                break
        is_told = reason.errno == errno.ELOOP
        self._folder.warn_once(
            "The cache folder %s cannot lock files (%s). Results stay right, but several processes"
            " may order or download the same product, and send more requests at one time than the"
            " service wants.",
            self._folder.root,
            str(reason).rstrip(".") if is_told else os.strerror(reason.errno or 0),
        )
        return True

    def _open(self, path: Path) -> int:
        self._folder.prepare()
        self._folder.make(path.parent)
        return self._folder.open_shared(path)

    def _let_go(self, path: Path, *, is_slot: bool) -> None:
        file = _held[path]
        is_kept = False
        try:
            # On disk first: another thread that sees the name free must find it so there.
            if file is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_UN)
                    is_kept = is_slot
                except OSError as err:
                    # It is free as soon as its file is closed.
                    self._folder.warn_once(
                        "A lock in the cache folder %s could not be given back (%s): its file is"
                        " closed, which does the same.",
                        self._folder.root,
                        os.strerror(err.errno or 0),
                    )
        finally:
            with _guard:
                del _held[path]
                if file is not None and is_kept:
                    self._idle[path] = file
                elif file is not None:
                    _close_quietly(file)


def _cannot_lock(path: Path, err: OSError) -> OSError:
    if isinstance(err, HDAError):
        return err
    msg = (
        f"The lock {path} cannot be taken: {os.strerror(err.errno or 0)}. Try again, or choose "
        "another cache_dir (HDA_CACHE_DIR)."
    )
    return OSError(err.errno, msg)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@functools.lru_cache(maxsize=1024)
def _slot(layout: Path, name: str, number: int) -> Path:
    return layout / f"locks/{_digest(name)}.{number}.slot"


def _close(path: Path) -> None:
    file, _held[path] = _held[path], None
    if file is not None:
        _close_quietly(file)


def _close_quietly(file: int) -> None:
    # Whatever it says of an earlier write, of which there is none, the descriptor is free then.
    with contextlib.suppress(OSError):
        os.close(file)


def _close_all(files: dict[Path, int]) -> None:
    while files:
        _close_quietly(files.popitem()[1])


_all: weakref.WeakSet[FileLocks] = weakref.WeakSet()


@on_fork
def _forget_after_fork() -> None:
    # Closed, not given back: the parent holds them on.
    for file in _held.values():
        if file is not None:
            _close_quietly(file)
    _held.clear()
    for locks in list(_all):
        _close_all(locks._idle)
