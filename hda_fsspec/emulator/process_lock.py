"""Locks of an emulator in forked processes: a child gets locks of its own."""

from __future__ import annotations

import os
import threading


class ProcessLock:
    """A lock of the threads of each process: what a parent holds is free in its child.

    Another thread may hold it in the moment of the fork. The child does not have that thread, and
    would wait for it for ever.
    """

    def __init__(self) -> None:
        self._locks = {os.getpid(): threading.Lock()}

    def _own(self) -> threading.Lock:
        own = self._locks.get(os.getpid())
        return self._locks.setdefault(os.getpid(), threading.Lock()) if own is None else own

    def __enter__(self) -> None:
        self._own().acquire()

    def __exit__(self, *_: object) -> None:
        self._own().release()
