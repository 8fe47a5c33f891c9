"""Locks between processes: they save work, and nothing depends on them.

On some network disks every lock succeeds, and on some none does. Whoever holds a lock of this
module must therefore be right even if another holds it too.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from hda_fsspec.cache.folder import READ_ONLY_ERRNOS, Folder
from hda_fsspec.concurrency.forks import on_fork

logger = logging.getLogger("hda_fsspec")

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

# The locks that this process holds, with the descriptor of their file: where the disk cannot lock,
# its threads still exclude each other.
_held: dict[Path, int | None] = {}
_held_guard = threading.Lock()


@on_fork
def _forget_after_fork() -> None:
    global _held_guard  # noqa: PLW0603  # another thread may have held it when the process forked
    # Closed, not given back: the parent holds them on.
    for file in _held.values():
        if file is not None:
            os.close(file)
    _held.clear()
    _held_guard = threading.Lock()


class Lock:
    """A lock that is held until :meth:`release`, or until its process ends; a context manager.

    Any thread may release it. Releasing it twice is harmless, and so is releasing in a forked child
    what the parent holds.
    """

    def __init__(self, path: Path, file: int | None) -> None:
        self.path = path
        self._file = file
        self._holder = os.getpid()
        self._is_held = True

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the lock; False where the disk cannot lock."""
        return self._file is not None

    def release(self) -> None:
        """Give the lock back."""
        if not self._is_held or os.getpid() != self._holder:
            return
        self._is_held = False
        # Given back on disk first: another thread that sees the name free must find it so there.
        try:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            with _held_guard:
                _held.pop(self.path, None)
            if self._file is not None:
                os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def reason(err: OSError) -> str:
    """Return why a file cannot be locked, for a message."""
    return str(err).rstrip(".") if err.errno == errno.ELOOP else os.strerror(err.errno or 0)


class FileLocks:
    """Named locks in a cache folder, freed by the system when their process ends.

    The files are never removed: a process that waits on a removed file and one that makes it anew
    would both hold the lock.
    """

    def __init__(self, root: Path) -> None:
        self._folder = Folder(Path(root))
        self._has_warned = False

    def try_acquire(self, name: str) -> Lock | None:
        """Take the lock of that name without waiting; None if another holds it.

        A disk that cannot lock gives the lock to each process, and one warning to the log.
        """
        digest = hashlib.sha256(name.encode()).hexdigest()
        path = self._folder.path / "locks" / f"{digest}.lock"
        with _held_guard:
            if path in _held:
                return None
            _held[path] = None
        lock: Lock | None = None
        try:
            lock = self._lock(path)
        finally:
            if lock is None:
                with _held_guard:
                    _held.pop(path, None)
        return lock

    def _lock(self, path: Path) -> Lock | None:
        left = _TRIES
        while True:
            left -= 1
            try:
                file = self._acquired(path)
            except BlockingIOError:
                return None
            except OSError as err:
                if left and err.errno in _CHANGING_ERRNOS:
                    continue
                if err.errno not in CANNOT_LOCK_ERRNOS | _CHANGING_ERRNOS:
                    raise
                self._warn(err)
                return Lock(path, None)
            with _held_guard:
                _held[path] = file
            return Lock(path, file)

    def _acquired(self, path: Path) -> int:
        self._folder.prepare()
        self._folder.make(path.parent)
        file = self._folder.open_shared(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.fstat(file).st_nlink > 0
        except BaseException:
            os.close(file)
            raise
        if not is_there:
            os.close(file)
            raise FileNotFoundError(errno.ENOENT, "The lock file was removed", os.fspath(path))
        return file

    def _warn(self, err: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "The cache folder %s cannot lock files (%s). Results stay right, but several"
                " processes may order or download the same product.",
                self._folder.root,
                reason(err),
            )
