"""Whether somebody still wants what takes long to get, and how to wait for it."""

from __future__ import annotations

import concurrent.futures
from typing import Self, TypeVar

T = TypeVar("T")

_LOOK_SECONDS = 0.5


def wait_for(future: concurrent.futures.Future[T]) -> T:
    """Wait for a future and return its result, or raise its error; an interrupt ends the wait.

    A signal that arrives after Python last looked for one and before the thread sleeps wakes
    nobody, so the thread wakes up by itself now and then to look again.
    """
    # Not by result(timeout): the work may end in a TimeoutError of its own.
    while not concurrent.futures.wait([future], timeout=_LOOK_SECONDS).done:
        pass
    return future.result()


class CancelToken:
    """Says that somebody waits, as long as somebody does; a context manager."""

    def __init__(self) -> None:
        self._is_alive = True

    def should_continue(self) -> bool:
        """Whether it is still wanted."""
        return self._is_alive

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_alive = False
