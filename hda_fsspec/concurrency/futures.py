"""Futures: waited for so that an interrupt ends the wait, and ended by whoever has the result."""

from __future__ import annotations

import concurrent.futures
from typing import Any, TypeVar

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


def settle(
    outcome: concurrent.futures.Future[Any], result: Any = None, error: BaseException | None = None
) -> bool:
    """End a future with a result or an error; return False if it was cancelled before."""
    if not outcome.set_running_or_notify_cancel():
        return False
    if error is None:
        outcome.set_result(result)
    else:
        outcome.set_exception(error)
    return True


def done_future(
    result: Any = None, error: BaseException | None = None
) -> concurrent.futures.Future[Any]:
    """Return a future that has ended already."""
    outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()
    settle(outcome, result, error)
    return outcome
