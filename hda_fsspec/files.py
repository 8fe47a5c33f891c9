"""Local files of products: opened so that they pickle as recipes, copied so that none is half."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from hda_fsspec.locations import Location

_COPY_BYTES = 1 << 20


class ProductFile(io.BufferedReader):
    """The open file of a product, which is local and seekable.

    A pickle of it says which product is open, and where in it; it is fetched again where it is
    unpickled, if it is not local there.

    Attributes
    ----------
    name : str
        The local path.
    path : str
        The path on the filesystem, without ``hda://``.
    size : int
        Length in bytes.
    """

    def __init__(self, local: Path, path: str, reopen: Callable[[str], Any]) -> None:
        super().__init__(io.FileIO(os.fspath(local)))
        self.path = path
        self.size = os.fstat(self.fileno()).st_size
        self._reopen = reopen

    @property
    def full_name(self) -> str:
        """The ``hda://`` path."""
        return Location.parse(self.path).path

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self._reopen, self.path, 0 if self.closed else self.tell())


def _open_again(reopen: Callable[[str], Any], path: str, position: int) -> Any:
    handle = reopen(path)
    handle.seek(position)
    return handle


def copy_out(source: BinaryIO, target: Any) -> int:
    """Copy an open file to a path, or into another open file; return the bytes copied.

    The target appears only when complete: it is written under another name in the same folder
    and then renamed. The source is closed.
    """
    with source:
        if hasattr(target, "write"):
            shutil.copyfileobj(source, target, _COPY_BYTES)
            return source.tell()
        path = Path(target)
        part = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with part.open("xb") as handle:
                shutil.copyfileobj(source, handle, _COPY_BYTES)
            part.replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
            raise
        return source.tell()


class Names:
    """Gives each of many files its own name in one folder."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._lock = threading.Lock()

    def claim(self, name: str, otherwise: str) -> str:
        """Return ``name`` if it is free, else one that begins with ``otherwise``."""
        with self._lock:
            number = 1
            candidate = name
            while candidate in self._taken:
                suffix = "" if number == 1 else f"-{number}"
                candidate = f"{otherwise.replace(os.sep, '_')}{suffix}_{name}"
                number += 1
            self._taken.add(candidate)
            return candidate
