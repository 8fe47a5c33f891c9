"""A cache in which a neighbour plants things: which, where and how many is told by any bytes.

Each two bytes are one act: a path in the cache, and what is put there. What is left over is the
content of the files that are planted.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hda_fsspec.cache.cache import Cache
from hda_fsspec.cache.locks import FileLocks
from hda_fsspec.cache.metadata import MetadataStore
from hda_fsspec.cache.orders import OrderBook
from hda_fsspec.errors import HDAError
from hda_fsspec.records import Product

_MOST_ACTS = 8
_PRODUCTS = [Product("EO:TEST:DAT:FUZZ", name, size=4) for name in ("a", "b", "c")]
_SECRET = b"a private file"


class Changed(Exception):
    """Something outside of the cache was changed, or read as if it were in it."""


def plant_and_use(data: bytes) -> None:
    """Plant what the bytes say, and use the cache: typed errors, and nothing outside changes."""
    acts, content = _acts_in(data)
    with tempfile.TemporaryDirectory() as folder:
        outside = Path(folder) / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(_SECRET)
        (outside / "secret").chmod(0o600)
        before = _state_of(outside)
        root = Path(folder) / "cache"
        shutil.copytree(_template(), root)
        root.chmod(0o2770)
        names = _names()
        for where, what in acts:
            path = root / names[where % len(names)]
            if path.parent.resolve() != root.resolve() / path.parent.relative_to(root):
                continue  # a link was planted above it: this would be outside
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                _remove(path)
                _PLANTS[what % len(_PLANTS)](path, outside, content)
        for use in _uses(root):
            with contextlib.suppress(HDAError, OSError):
                use()
            if _state_of(outside) != before:
                raise Changed(outside)


def _acts_in(data: bytes) -> tuple[list[tuple[int, int]], bytes]:
    count = min(_MOST_ACTS, len(data) // 2)
    acts = [(data[2 * number], data[2 * number + 1]) for number in range(count)]
    return acts, data[2 * count :]


_PLANTS: list[Callable[[Path, Path, bytes], object]] = [
    lambda path, outside, _: path.symlink_to(outside / "secret"),
    lambda path, outside, _: path.symlink_to(outside),
    lambda path, outside, _: path.symlink_to(outside / "new"),
    lambda path, *_: os.mkfifo(path),
    lambda path, *_: path.mkdir(),
    lambda path, _, content: path.write_bytes(content),
    lambda path, outside, _: os.link(outside / "secret", path),
    lambda path, *_: _make_socket(path),
    lambda path, *_: path.mkdir(mode=0o777) or path.chmod(0o777),
]


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.suppress(OSError):
        made.bind(os.fspath(path))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _state_of(folder: Path) -> object:
    found = {}
    for path in [folder, *folder.rglob("*")]:
        facts = path.lstat()
        told = (facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns, facts.st_size)
        found[os.fspath(path)] = (told, None if path.is_dir() else path.read_bytes())
    return found


def _uses(root: Path) -> Iterator[Callable[[], object]]:
    cache = Cache(root, max_bytes=1000)
    for product in _PRODUCTS:
        yield functools.partial(_look_up, cache, product)
        yield functools.partial(_put, cache, product)
    yield lambda: list(cache.entries())
    yield cache.usage
    yield lambda: cache.evict(900)
    yield lambda: list(cache.verify(lambda path: None))
    yield lambda: _keep(root)
    yield lambda: _lock(root)
    yield lambda: cache.prune(older_than_seconds=0, partials_after_seconds=0)
    yield cache.clear
    yield lambda: MetadataStore(root).forget()


def _look_up(cache: Cache, product: Product) -> None:
    entry = cache.lookup(product)
    if entry is not None:
        with entry.open() as handle:
            if handle.read() == _SECRET and entry.path.lstat().st_nlink == 1:
                raise Changed(entry.path)


def _put(cache: Cache, product: Product) -> None:
    with cache.stage(product, expected_bytes=4) as staging:
        if staging.offset >= 4:
            staging.restart()
        with staging.open() as handle:
            handle.write(b"data"[handle.tell() :])
        staging.remember(total=4)
        staging.publish("a.nc", check=lambda path: None)


def _keep(root: Path) -> None:
    notes, orders = MetadataStore(root), OrderBook(root, "account")
    for product in _PRODUCTS:
        notes.put_header(product, notes.header(product) or b"x")
        notes.lengths.record(product, (notes.lengths.length_of(product) or 0) + 1)
        number = orders.get(product)
        orders.reserve(product)
        orders.release(product)
        orders.place(product, number, 0.0)
        orders.renew(product, number)
        orders.drop(product)
    orders.told()
    orders.tell({})
    orders.all()
    notes.listings.put("q", list(notes.listings.values()))


def _lock(root: Path) -> None:
    locks = FileLocks(root)
    for number in range(2):
        with contextlib.ExitStack() as held:
            lock = FileLocks(root).acquire(f"lock {number}")
            if lock is not None:
                held.enter_context(lock)
            locks.acquire_slot("requests", range(2))


@functools.cache
def _template() -> Path:
    """Return a cache that has a file of each kind; it stays until the process ends."""
    holder = tempfile.TemporaryDirectory(prefix="hda-fsspec-fuzz-")
    _kept.append(holder)
    root = Path(holder.name) / "cache"
    cache = Cache(root, max_bytes=None)
    for product in _PRODUCTS[:2]:
        _put(cache, product)
    with cache.stage(_PRODUCTS[2]) as staging, staging.open() as handle:
        handle.write(b"da")
    _keep(root)
    _lock(root)
    return root


_kept: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def _names() -> list[str]:
    root = _template()
    found = sorted(os.fspath(path.relative_to(root)) for path in root.rglob("*"))
    more = [f"{name}/x" for name in found if (root / name).is_dir()]
    return [*found, *more]
