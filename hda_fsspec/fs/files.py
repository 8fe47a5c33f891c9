"""Local files of products: opened so that they pickle as recipes, copied so that none is half."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import io
import itertools
import logging
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, SupportsIndex

from hda_fsspec.errors import LocationError
from hda_fsspec.filenames import MAX_NAME_BYTES, alike
from hda_fsspec.fs.write_errors import explained
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable
from hda_fsspec.records import Product
from hda_fsspec.untrusted_files import reader_of

logger = logging.getLogger("hda_fsspec")

_COPY_BYTES = 1 << 20
# Most file systems allow 255; some are left for a number that tells equal names apart.
_MAX_NAME_BYTES = 240
_NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EXDEV}
)

#: What names of files on some systems cannot have, or what leads elsewhere.
_UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)

MayReplace = Callable[[Path], bool]


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

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        # Of this name, which newer Pythons refuse for files, and look for first.
        del protocol
        return _open_again, (self._reopen, self.path, 0 if self.closed else self.tell())


def _open_again(reopen: Callable[[str], Any], path: str, position: int) -> Any:
    handle = reopen(path)
    handle.seek(position)
    return handle


def copy_out(source: BinaryIO, target: Any, may_replace: MayReplace | None = None) -> int:
    """Copy an open file to a path, or into another open file; return the bytes copied.

    The target appears only when complete: it is written under another name in the same folder
    and then renamed. The source is closed. ``may_replace`` is asked of a file that is there; None
    stands for the consent of who named the target.

    Raises FileExistsError for a file that must stay: see :func:`put`.
    """
    with source:
        if hasattr(target, "write"):
            shutil.copyfileobj(source, target, _COPY_BYTES)
            return source.tell()
        path = Path(target)
        with _part_of(source, path) as part:
            put(part, path, may_replace)
        return source.tell()


@contextlib.contextmanager
def _part_of(source: BinaryIO, target: Path) -> Iterator[Path]:
    """Copy an open file beside its target, under a passing name that is gone at the end."""
    part = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("xb") as handle:
                shutil.copyfileobj(source, handle, _COPY_BYTES)
        yield part
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be reached holds none either
            part.unlink(missing_ok=True)


def put(part: Path, path: Path, may_replace: MayReplace | None = None) -> None:
    """Give a complete file its name, and replace only what may be.

    That is what ``may_replace`` says yes to, and a file that is the beginning of the new one, or
    all of it, in which nothing is lost. With None, whatever is there.

    Raises
    ------
    FileExistsError
        Something else has that name.
    """
    with explained(path):
        # A folder is told by the system.
        is_asked = may_replace is not None and (path.is_symlink() or not path.is_dir())
        if is_asked and not os.path.lexists(path) and _link(part, path):
            return
        is_free = not is_asked or not os.path.lexists(path)
        if is_free or _may_go(path, part, may_replace):
            part.replace(path)
            return
    msg = (
        f"{path} is there already, and was not copied from a product of this cache, or was changed "
        "since: it was left as it is. Remove it, or choose another target."
    )
    raise FileExistsError(errno.EEXIST, printable(msg))


def _may_go(path: Path, part: Path, may_replace: MayReplace | None) -> bool:
    return may_replace is None or may_replace(path) or _is_beginning(path, part)


def _link(part: Path, path: Path) -> bool:
    """Name a file as another process cannot name one at the same time; False if it is too late.

    Not every disk can do that.
    """
    try:
        os.link(part, path, follow_symlinks=False)
    except OSError as err:
        if err.errno not in {errno.EEXIST, *_NO_HARD_LINKS}:
            raise
        return False
    part.unlink()
    return True


def _is_beginning(path: Path, part: Path) -> bool:
    """Whether a file holds nothing but the first bytes of another one."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with reader_of(path, is_given=False) as old, part.open("rb") as new:
            while block := old.read(_COPY_BYTES):
                if new.read(len(block)) != block:
                    return False
    except OSError:
        return False
    return True


class Targets:
    """The files that one ``get`` writes: no two of them alike, and each with a possible name."""

    def __init__(self) -> None:
        self._sources: dict[str, str] = {}

    def claim(self, source: str, target: Path) -> None:
        """Take a target for a product, before it is ordered.

        Raises
        ------
        LocationError
            Another product has one that some file systems take for the same.
        OSError
            ``ENAMETOOLONG``: no file system allows names of that length.
        """
        size = len(target.name.encode(errors="replace"))
        if size > MAX_NAME_BYTES:
            msg = (
                f"Cannot copy {source} to a file of that name: it has {size} bytes, and file "
                f"systems allow {MAX_NAME_BYTES}. Use fs.download, which makes shorter ones, or "
                "give the file a name of your own: fs.get_file(product, 'name')."
            )
            raise OSError(errno.ENAMETOOLONG, printable(msg))
        other = self._sources.setdefault(alike(os.path.abspath(target)), source)  # noqa: PTH100
        if other != source:
            msg = (
                f"Cannot copy {source} to {target}: that name and the one of {other} differ in "
                "nothing but case or form, so that one would replace the other on many disks. "
                "Use fs.download, or get them into different folders."
            )
            raise LocationError(msg)


class Deliveries:
    """Products copied into one folder, under the names with which they were delivered.

    Those that share a name, or have names that some file systems take for the same, get their ids
    in front of it, each of them: so it does not depend on which of them arrives first. So does one
    whose name somebody else's file has. Not for several threads.

    Parameters
    ----------
    folder : Path
        Where they go.
    may_replace : callable
        Says whether a file that is there already may be replaced.

    Attributes
    ----------
    paths : dict
        Where each product is.
    """

    def __init__(self, folder: Path, may_replace: MayReplace = lambda _: False) -> None:
        self.folder = folder
        self._may_replace = may_replace
        self._of_name: dict[str, list[Product]] = {}
        self._taken: set[str] = set()
        self.paths: dict[Product, Path] = {}

    def keep(self, product: Product, path: Path) -> None:
        """Leave a file that is a copy of a product already where it is."""
        self._taken.add(alike(path.name))
        self.paths[product] = path

    def add(self, product: Product, name: str, source: BinaryIO) -> None:
        """Copy an open file, and close it."""
        same = self._of_name.setdefault(alike(name), [])
        same.append(product)
        with source, _part_of(source, self.folder / name) as part:
            self._put(product, part, name, is_own_name_free=len(same) == 1)
        first = same[0]
        if len(same) == 2 and alike(self.paths[first].name) == alike(name):
            plain = self.paths[first]
            self._put(first, plain, plain.name, is_own_name_free=False)

    def _put(self, product: Product, part: Path, name: str, *, is_own_name_free: bool) -> None:
        for candidate in names_of(product, name, is_own_name_free=is_own_name_free):
            if alike(candidate) in self._taken:
                continue
            try:
                put(part, self.folder / candidate, self._may_replace)
            except (FileExistsError, IsADirectoryError) as err:
                logger.warning("%s Another name was taken for %s.", err, product.product_id)
            else:
                break
        self._taken.add(alike(candidate))
        self.paths[product] = self.folder / candidate


def names_of(product: Product, name: str, *, is_own_name_free: bool) -> Iterator[str]:
    """Yield names for the file of a product, best first: as it was delivered, then with its id."""
    if is_own_name_free:
        yield name
    # As it is written in paths, an id holds nothing that could lead elsewhere.
    written = Location(product.dataset_id, product=product.product_id).name
    if alike(name).startswith(alike(written)):
        # The id is there already; two data sets may have products of one id.
        written = _UNSAFE.sub("_", product.dataset_id)
    stem = written.encode()
    stem = stem[: max(0, _MAX_NAME_BYTES - len(name.encode()))]
    for suffix in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
        yield f"{stem.decode(errors='ignore')}{suffix}_{name}"


def close_unwanted(opening: concurrent.futures.Future[tuple[Any, io.BufferedReader]]) -> None:
    """Close the file that nobody waits for any more, if it was opened."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[1].close()
