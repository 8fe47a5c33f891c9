"""Waiting for a product in the thread that reads it, so that it keeps nobody else from working.

A task of a Dask worker leaves its slot while it waits; a wait ends when the computation that it is
part of was cancelled.
"""

from __future__ import annotations

import concurrent.futures
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from hda_fsspec.client import Client, Entry
from hda_fsspec.concurrency.daskworkers import dask_worker
from hda_fsspec.concurrency.forks import on_fork
from hda_fsspec.records import Product
from hda_fsspec.workers import computations

logger = logging.getLogger("hda_fsspec")

# What comes as quickly as that is not worth leaving a slot for.
_GRACE_SECONDS = 0.1
_LOOK_SECONDS = 0.2
_LOG_EVERY_SECONDS = 60.0


def fetch_and_wait(client: Client, product: Product) -> Entry:
    """Fetch a product and wait for it, and return its local file.

    Raises
    ------
    HDAError, OSError
        It cannot be had.
    concurrent.futures.CancelledError
        The computation of Dask that wants it was cancelled.
    """
    return wait(fetch(client, product), client, product)


def fetch(client: Client, product: Product) -> concurrent.futures.Future[Entry]:
    """Begin to fetch a product; on a worker of Dask the broker is known to be there."""
    if dask_worker() is not None:
        client.expect_broker()
    return client.fetch(product)


def wait(fetched: concurrent.futures.Future[Entry], client: Client, product: Product) -> Entry:
    """Wait for a fetch of a product, which is cancelled if that is broken off.

    What is raised: see :func:`fetch_and_wait`.
    """
    try:
        if not fetched.done() and not _is_done(fetched, _GRACE_SECONDS):
            # Twice as many as are prepared at a time: those that come next are asked for already,
            # so that their orders go out in the moment in which they may.
            with _TaskSlot(2 * client.settings.max_orders) as slot:
                _wait_long(fetched, product, slot)
    finally:
        fetched.cancel()
    return fetched.result()


def _wait_long(fetch: concurrent.futures.Future[Entry], product: Product, slot: _TaskSlot) -> None:
    is_cancelled = _cancellation()
    began = told = time.monotonic()
    while not _is_done(fetch, slot.look_seconds()):
        if is_cancelled():
            msg = f"The computation that {product} was fetched for was cancelled."
            raise concurrent.futures.CancelledError(msg)
        now = time.monotonic()
        if now - told >= _LOG_EVERY_SECONDS:
            told = now
            logger.info("%s: waiting for %.0f s so far", product.product_id, now - began)


def _is_done(future: concurrent.futures.Future[Any], seconds: float) -> bool:
    # Not by result(timeout): a fetch may end in a TimeoutError of its own.
    return bool(concurrent.futures.wait([future], timeout=seconds).done)


def _cancellation() -> Callable[[], bool]:
    """Return what tells whether the computation that this thread works for was cancelled."""
    worker = dask_worker()
    if worker is not None:
        key = worker.get_current_task()
        return lambda: _is_dropped(worker, key)
    key = computations.current_task()
    return lambda: key is not None and computations.is_cancelled(key)


def _is_dropped(worker: Any, key: Any) -> bool:
    """Whether a worker does not want the outcome of a task any more, or is about to end."""
    if worker.status.name in {"closing", "closed", "failed"}:
        return True
    task = worker.state.tasks.get(key)
    return task is None or task.state == "cancelled"


class _SecededTasks:
    """Counts the tasks that have left their slots."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def enter(self, most: int) -> bool:
        """Count one more, unless there are so many."""
        with self._lock:
            if self._count >= most:
                return False
            self._count += 1
            return True

    def leave(self) -> None:
        """Count one less."""
        with self._lock:
            self._count -= 1


_away = _SecededTasks()


@on_fork
def _forget_after_fork() -> None:
    global _away  # noqa: PLW0603
    _away = _SecededTasks()


class _TaskSlot:
    """The slot of the task that this thread runs on a Dask worker, if it runs one.

    The task leaves it as soon as fewer than ``most`` are away, and comes back when it has waited.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._away = _away
        self._may_leave = dask_worker() is not None
        self._has_left = False

    def look_seconds(self) -> float:
        """Leave if that is possible now, and return when to look again."""
        if self._may_leave and not self._has_left and self._away.enter(self._most):
            self._has_left = True
            sys.modules["distributed"].secede()
        return _LOOK_SECONDS if self._has_left or not self._may_leave else _GRACE_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if not self._has_left:
            return
        # First let another one leave: it may be in the very slot that this one comes back to.
        self._away.leave()
        # A cancelled task ends, and its thread with it: it needs no slot again.
        if not isinstance(error, concurrent.futures.CancelledError):
            sys.modules["distributed"].rejoin()
