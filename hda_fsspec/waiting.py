"""fsspec's blocking verbs, made of coroutines without losing what a time-out says."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fsspec.asyn import sync
from fsspec.exceptions import FSTimeoutError

from hda_fsspec.errors import HDAError


def blocking(coroutine: Callable[..., Any]) -> Callable[..., Any]:
    """Return the blocking form of a coroutine method.

    fsspec's own puts an error without a message in place of any TimeoutError, also of one that
    tells which order took too long and what to do.
    """

    @functools.wraps(coroutine)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return sync(self.loop, functools.partial(coroutine, self), *args, **kwargs)
        except FSTimeoutError as err:
            if isinstance(err.__cause__, HDAError):
                raise err.__cause__ from None
            raise

    method.__name__ = coroutine.__name__.removeprefix("_")
    return method
