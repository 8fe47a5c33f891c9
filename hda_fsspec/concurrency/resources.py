"""Objects that belong to an owner which does not know them; each is made when first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> object: ...


class Resources:
    """Objects of one owner, one of each kind, which end with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[Callable[[], Any], Any] = {}

    def get(self, kind: Callable[[], T]) -> T:
        """Return the object of a kind, which is called to make it if there is none."""
        found: T | None = self._made.get(kind)  # this is the hot path
        if found is None:
            with self._lock:
                found = self._made.get(kind)
                if found is None:
                    found = self._made[kind] = kind()
        return found

    def find(self, kind: Callable[[], T]) -> T | None:
        """Return the object of a kind if there is one."""
        return self._made.get(kind)

    def close(self) -> None:
        """Close what can be closed, and forget all; new ones are made for whoever asks."""
        with self._lock:
            made, self._made = list(self._made.values()), {}
        for resource in made:
            if isinstance(resource, _Closable):
                resource.close()
