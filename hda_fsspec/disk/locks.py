"""Locks between processes: they save work, and nothing depends on them.

On some network disks every lock succeeds, and on some none does. Whoever holds a lock of this
module must therefore be right even if another holds it too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import filelock

from hda_fsspec.disk.folder import READ_ONLY_ERRNOS, Folder

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
}

#: What tells that the folder was removed, or made by another, in the middle of making a lock in it.
_CHANGING_ERRNOS = {errno.ENOENT, errno.EEXIST}
_TRIES = 4

# The locks that this process holds: where the disk cannot lock, its threads still exclude each
# other.
_held: set[Path] = set()
_held_guard = threading.Lock()


def _forget_after_fork() -> None:
    global _held_guard  # noqa: PLW0603  # another thread may have held it when the process forked
    _held.clear()
    _held_guard = threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)


class Lock:
    """A lock that is held until :meth:`release`, or until its process ends; a context manager.

    Any thread may release it. Releasing it twice is harmless.
    """

    def __init__(self, path: Path, lock: filelock.BaseFileLock | None) -> None:
        self.path = path
        self._lock = lock
        self._is_held = True

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the lock; False where the disk cannot lock."""
        return self._lock is not None

    def release(self) -> None:
        """Give the lock back."""
        if not self._is_held:
            return
        self._is_held = False
        # Given back on disk first: another thread that sees the name free must find it so there.
        try:
            if self._lock is not None:
                self._lock.release()
        finally:
            with _held_guard:
                _held.discard(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


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
            _held.add(path)
        lock: Lock | None = None
        try:
            lock = self._lock(path)
        finally:
            if lock is None:
                with _held_guard:
                    _held.discard(path)
        return lock

    def _lock(self, path: Path) -> Lock | None:
        left = _TRIES
        while True:
            left -= 1
            try:
                lock = self._acquired(path)
            except filelock.Timeout:
                return None
            except OSError as err:
                if left and err.errno in _CHANGING_ERRNOS:
                    continue
                if err.errno not in CANNOT_LOCK_ERRNOS | _CHANGING_ERRNOS:
                    raise
                self._warn(err)
                return Lock(path, None)
            with contextlib.suppress(OSError):
                self._folder.adopt(path)
            return Lock(path, lock)

    def _acquired(self, path: Path) -> filelock.BaseFileLock:
        self._folder.prepare()
        self._folder.make(path.parent)
        lock = filelock.FileLock(
            path,
            thread_local=False,
            mode=self._folder.file_mode(),
            # Without it a disk that cannot lock would get a marker file, which outlives a
            # process that is killed.
            preserve_lock_file=True,
        )
        lock.acquire(blocking=False)
        return lock

    def _warn(self, err: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "The cache folder %s cannot lock files (%s). Results stay right, but several"
                " processes may order or download the same product.",
                self._folder.root,
                os.strerror(err.errno or 0),
            )
