"""Closing what was opened, soon after its last reader is done with it.

Left to itself xarray closes a file only if no other is being read in that moment; one that was
deleted would keep its room on the disk.
"""

from __future__ import annotations

import collections
import contextlib
import weakref
from collections.abc import Callable
from typing import Any

_to_close: collections.deque[Callable[[], None]] = collections.deque()


def close_when_unused(opened: Any, *closers: Callable[[], None]) -> None:
    """Have these called by :func:`close_unused` once nothing refers to what was opened."""
    # Not at once: that may be in the middle of another read, which holds what closing waits for.
    weakref.finalize(opened, _to_close.extend, closers).atexit = False


def close_unused() -> None:
    """Close what nothing refers to any more."""
    while _to_close:
        with contextlib.suppress(IndexError):  # another thread was quicker
            _to_close.popleft()()


def close_nothing() -> None:
    """Forget what is to be closed, which a forked child must leave to its parent."""
    _to_close.clear()
