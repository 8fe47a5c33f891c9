"""An interrupt ends a copy: nothing is written behind the back of who gave up."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from fsspec.asyn import get_loop

from hda_fsspec.concurrency import futures
from hda_fsspec.fs import sync


def test_an_interrupt_ends_the_coroutine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was under way on the loop is cancelled when the wait for it is interrupted."""
    begun, ended = threading.Event(), threading.Event()

    async def work(_: Any) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    def interrupted(*_: Any, **__: Any) -> None:
        begun.wait(10)
        raise KeyboardInterrupt

    waiting = SimpleNamespace(futures=SimpleNamespace(wait=interrupted))
    monkeypatch.setattr(futures, "concurrent", waiting)

    with pytest.raises(KeyboardInterrupt):
        sync.sync_method(work)(SimpleNamespace(loop=get_loop()))

    assert ended.wait(10)


def test_a_wait_inside_the_loop_is_refused() -> None:
    """A blocking verb that is called in the loop it needs says so, and does not hang."""

    async def work(_: Any) -> None:
        return None

    async def inside() -> None:
        sync.sync_method(work)(SimpleNamespace(loop=get_loop()))

    began = time.monotonic()
    with pytest.raises(NotImplementedError, match="await it"):
        asyncio.run_coroutine_threadsafe(inside(), get_loop()).result(timeout=10)
    assert time.monotonic() - began < 10
