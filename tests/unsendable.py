"""An error that no other process can have, for the worker of the emulator, which imports this."""

from __future__ import annotations

import threading


class UnsendableError(Exception):
    """Cannot be made from its arguments alone."""

    def __init__(self, said: str, *, detail: object) -> None:
        super().__init__(said)
        self.detail = detail


def raise_unsendable() -> None:
    """Raise what does not travel."""
    raise UnsendableError("it is so", detail=threading.Lock())
