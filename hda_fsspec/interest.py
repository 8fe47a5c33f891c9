"""Whether somebody still wants what takes long to get."""

from __future__ import annotations

from typing import Self


class Interest:
    """Says that somebody waits, as long as somebody does; a context manager."""

    def __init__(self) -> None:
        self._is_alive = True

    def is_alive(self) -> bool:
        """Whether it is still wanted."""
        return self._is_alive

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_alive = False
