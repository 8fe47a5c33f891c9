"""Local files of products: opened so that they pickle as recipes, copied so that none is half."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from hda_fsspec.fs.writing import explained
from hda_fsspec.paths.locations import Location
from hda_fsspec.records import Product

_COPY_BYTES = 1 << 20
# Most file systems allow 255; some are left for a number that tells equal names apart.
_MAX_NAME_BYTES = 240


class ProductFile(io.BufferedReader):
    """The open file of a product, which is local and seekable; it takes over an open handle.

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
    blocksize : int
        What the caller said of the blocks that it will read; ``blockcache::`` keeps books by it.
    """

    def __init__(
        self,
        handle: io.BufferedReader,
        path: str,
        reopen: Callable[[str], Any],
        *,
        blocksize: int = io.DEFAULT_BUFFER_SIZE,
    ) -> None:
        super().__init__(handle.detach())
        self.path = path
        self.blocksize = blocksize
        self.size = os.fstat(self.fileno()).st_size
        self._reopen = reopen

    @property
    def full_name(self) -> str:
        """The ``hda://`` path."""
        return Location.parse(self.path).path

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return super().closed

    @closed.setter
    def closed(self, value: bool) -> None:
        # blockcache:: says so of a file after it has closed it.
        if value:
            super().close()

    def _fetch_range(self, start: int, end: int) -> bytes:
        """Return bytes by their positions; blockcache:: asks for those that it lacks."""
        return os.pread(self.fileno(), end - start, start)

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
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("xb") as handle:
                    shutil.copyfileobj(source, handle, _COPY_BYTES)
                part.replace(path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    part.unlink()
                raise
        return source.tell()


class Deliveries:
    """Products copied into one folder, under the names with which they were delivered.

    Those that share a name get their ids in front of it, each of them: so it does not depend on
    which of them arrives first. Not for several threads.

    Attributes
    ----------
    folder : Path
        Where they go.
    paths : dict
        Where each product is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._of_name: dict[str, list[Product]] = {}
        self._taken: set[Path] = set()
        self.paths: dict[Product, Path] = {}

    def keep(self, product: Product, path: Path) -> None:
        """Leave a file that is a copy of a product already where it is."""
        self._taken.add(path)
        self.paths[product] = path

    def add(self, product: Product, name: str, source: BinaryIO) -> None:
        """Copy an open file, and close it."""
        same = self._of_name.setdefault(name, [])
        same.append(product)
        target = plain = self.folder / name
        if len(same) > 1 or plain in self._taken:
            target = self._own_path(product, name)
        copy_out(source, target)
        self._taken.add(target)
        self.paths[product] = target
        first = same[0]
        if len(same) == 2 and self.paths[first] == plain:
            self.paths[first] = plain.replace(self._own_path(first, name))
            self._taken.add(self.paths[first])

    def _own_path(self, product: Product, name: str) -> Path:
        # As it is written in paths, an id holds nothing that could lead elsewhere.
        stem = Location(product.dataset_id, product=product.product_id).name.encode()
        stem = stem[: max(0, _MAX_NAME_BYTES - len(name.encode()))]
        for suffix in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
            path = self.folder / f"{stem.decode(errors='ignore')}{suffix}_{name}"
            if path not in self._taken:
                return path
        raise AssertionError  # numbers do not end
