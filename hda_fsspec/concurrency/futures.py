"""Waiting for a future so that an interrupt ends the wait, and says that it is wanted no more."""

from __future__ import annotations

import concurrent.futures
from typing import TypeVar

T = TypeVar("T")

_LOOK_SECONDS = 0.5


def wait_for(future: concurrent.futures.Future[T]) -> T:
    """Wait for a future and return its result, or raise its error; an interrupt cancels it.

    A signal that arrives after Python last looked for one and before the thread sleeps wakes
    nobody, so the thread wakes up by itself now and then to look again.
    """
    try:
        # Not by result(timeout): the work may end in a TimeoutError of its own.
        while not concurrent.futures.wait([future], timeout=_LOOK_SECONDS).done:
            pass
    except BaseException:
        future.cancel()
        raise
    return future.result()
