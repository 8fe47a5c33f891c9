"""Blocking verbs made of coroutines: what they raise, and what an interrupt ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

from hda_fsspec.concurrency.futures import wait_for
from hda_fsspec.errors import note_others


def sync_method(coroutine: Callable[..., Any]) -> Callable[..., Any]:
    """Return the blocking form of a coroutine method.

    Unlike fsspec's own it keeps what a TimeoutError says (fsspec puts an empty one in its place),
    and an interrupt ends the coroutine too, which else would go on writing files.
    """

    @functools.wraps(coroutine)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        loop = self.loop
        if loop is None or loop.is_closed():
            msg = f"{coroutine.__name__} needs a running loop; await it, or leave asynchronous out."
            raise RuntimeError(msg)
        is_inside = False
        with contextlib.suppress(RuntimeError):
            is_inside = asyncio.get_running_loop() is loop
        if is_inside:
            msg = f"{coroutine.__name__} would wait for the loop that it is called in; await it."
            raise NotImplementedError(msg)
        work = asyncio.run_coroutine_threadsafe(coroutine(self, *args, **kwargs), loop)
        return wait_for(work)

    method.__name__ = coroutine.__name__.removeprefix("_")
    return method


def first_error(faults: Sequence[tuple[str, Exception]]) -> Exception:
    """Return the first of several faults of named products, with the others in its notes."""
    (_, first), *others = faults
    note_others(first, others, "copies")
    return first
