"""Locks that a forked child finds free."""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType


class ForkLock:
    """A lock, as a context manager, that is made anew in a forked child.

    Another thread may hold it in the moment of the fork. The child does not have that thread, and
    would wait for it for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _all.add(self)

    def renew(self) -> None:
        """Forget who holds it."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()


_all: weakref.WeakSet[ForkLock] = weakref.WeakSet()


def _renew_after_fork() -> None:
    for lock in list(_all):
        lock.renew()


os.register_at_fork(after_in_child=_renew_after_fork)
