"""Computations of Dask's local schedulers: those under way, and those that broke off.

A task is told by nobody that its computation was interrupted; its thread waits on. So the keys of
computes are kept here, and a task that waits for long looks whether its own is still wanted.
"""

from __future__ import annotations

import collections
import inspect
import itertools
from collections.abc import Hashable, Iterable

from hda_fsspec.concurrency.forks import ForkLock

# Threads of a computation that broke off look within seconds; more computations than these do not
# break off in that time.
_REMEMBERED = 16

_lock = ForkLock()
_numbers = itertools.count()
_under_way: dict[int, frozenset[Hashable]] = {}
_broken: collections.deque[frozenset[Hashable]] = collections.deque(maxlen=_REMEMBERED)


def begin(keys: Iterable[Hashable]) -> int:
    """Note that tasks are going to be computed, and return a number for :func:`end`."""
    with _lock:
        number = next(_numbers)
        _under_way[number] = frozenset(keys)
        return number


def end(number: int, *, is_broken: bool) -> None:
    """Note that a computation has ended, or broke off."""
    with _lock:
        keys = _under_way.pop(number)
        if is_broken:
            _broken.append(keys)


def are_under_way() -> bool:
    """Whether any computation of this process is under way."""
    return bool(_under_way)


def is_cancelled(key: Hashable) -> bool:
    """Whether the computation of a task broke off, and no other one wants the task."""
    with _lock:
        wanted = any(key in keys for keys in _under_way.values())
        return not wanted and any(key in keys for keys in _broken)


def current_task() -> Hashable | None:
    """Return the key of the task of a local scheduler that this thread runs, None if it runs none.

    The schedulers do not tell their tasks; their own frame on the stack knows.
    """
    frame = inspect.currentframe()
    while frame is not None:
        is_scheduler = frame.f_globals.get("__name__") == "dask.local"
        if is_scheduler and frame.f_code.co_name == "execute_task":
            key: Hashable = frame.f_locals.get("key")
            return key
        frame = frame.f_back
    return None
