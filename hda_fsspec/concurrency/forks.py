"""The one fork handler of the package, and locks that are made anew in a forked child.

What a module, or a client, must do in a child is registered here, so that the order is known:
first all locks are free, then the functions are called in the order of their registration.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

_Reset = TypeVar("_Reset", bound=Callable[[], None])


class ForkLock:
    """A lock, as a context manager, that is made anew in a forked child.

    Another thread may hold it in the moment of the fork. The child does not have that thread, and
    would wait for it for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def renew(self) -> None:
        """Forget who holds it."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_locks: weakref.WeakSet[ForkLock] = weakref.WeakSet()
_resets: list[Callable[[], None]] = []


def on_fork(reset: _Reset) -> _Reset:
    """Have a function called in each forked child, before anything else runs there; a decorator.

    It is for state of a module. It must neither wait nor fail, and takes no lock but a
    :class:`ForkLock`.
    """
    _resets.append(reset)
    return reset


def _begin_anew() -> None:
    for lock in list(_locks):
        lock.renew()
    for reset in _resets:
        reset()


os.register_at_fork(after_in_child=_begin_anew)
