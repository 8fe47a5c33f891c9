"""Products that are open in this process: made local, opened, kept open for a while, and read.

A product is made local before any lock of a file format is taken, so that an order that is
waited for holds up no read of another product.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import inspect
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import xarray as xr

from hda_fsspec.client import Client, Entry, open_clients
from hda_fsspec.formats.detect import Format, sniff
from hda_fsspec.lazy import open_file_pool
from hda_fsspec.lazy.open_file_pool import FileStamp, Pool, file_mark, is_unchanged, mark_seen
from hda_fsspec.lazy.product_table import Source
from hda_fsspec.printable import printable
from hda_fsspec.reading.direct_reads import StoredVariable, find_stored, read_stored
from hda_fsspec.reading.opening import OpenOptions, open_local
from hda_fsspec.reading.trees import open_tree
from hda_fsspec.reading.variables import NetCDFVariables, open_variables
from hda_fsspec.records import Product
from hda_fsspec.untrusted_files import UntrustedFileError, open_regular
from hda_fsspec.workers import computations, waiting

T = TypeVar("T")

_INDEXES = "create_default_indexes"
_CAN_DO_WITHOUT_INDEXES = _INDEXES in inspect.signature(xr.open_dataset).parameters
_ROOT = "/"
_TRIES = 16  # in a cache of two products, with processes that evict each other's
_LOOK_SECONDS = 0.5  # to look at 64 files so often takes a thousandth of the time
_HOLD_SECONDS = 3600.0  # and if the process is killed, no longer
_GUARD_SECONDS = 75.0  # a last use that lies less than a minute ahead protects from nothing

_Place = tuple[Path, OpenOptions, bool]
_WHOLE = slice(None)


class _Tree(dict[str, xr.Dataset]):
    """The open datasets of a product, by their nodes."""

    __slots__ = ("__weakref__",)


def _is_current(place: tuple[Any, ...], mark: FileStamp) -> bool:
    return is_unchanged(place[0], mark)


class OpenFiles:
    """The open files of the products of one client.

    Left to itself xarray closes a file only if no other is being read in that moment; one that was
    deleted would keep its room on the disk. So each is closed here, soon after its last reader is
    done with it.

    Attributes
    ----------
    trees : Pool
        Products as datasets, by path and options.
    variables : Pool
        Products whose variables are read one by one; None for a file that cannot be read so.
    held : Counter of Product
        Those that are kept in the cache until more was done with them than one read.
    """

    def __init__(self) -> None:
        self.trees: Pool[_Place, _Tree] = Pool(open_file_pool.MOST_OPEN, _is_current)
        self.variables: Pool[tuple[Path, str | None], NetCDFVariables | None] = Pool(
            open_file_pool.MOST_OPEN, _is_current
        )
        self.held: collections.Counter[Product] = collections.Counter()
        self._held_lock = threading.Lock()
        self._to_close: collections.deque[Callable[[], None]] = collections.deque()
        self._looked_at = float("-inf")

    def hold(self, product: Product, count: int) -> bool:
        """Count one who holds a product, or one less; return whether nobody does any more."""
        with self._held_lock:
            self.held[product] += count
            if self.held[product] > 0:
                return False
            del self.held[product]
            return True

    def close_when_unused(self, opened: Any, *closers: Callable[[], None]) -> None:
        """Have these called by :meth:`close_unused` once nothing refers to what was opened."""
        # Not at once: that may be in the middle of another read, which holds what closing waits
        # for.
        weakref.finalize(opened, self._to_close.extend, closers).atexit = False

    def close_unused(self) -> None:
        """Close what nothing refers to any more."""
        while self._to_close:
            with contextlib.suppress(IndexError):  # another thread was quicker
                self._to_close.popleft()()

    def drop_stale(self) -> None:
        """Let go of what was evicted or replaced: deleted, but open, it takes room on the disk."""
        self.trees.drop_stale()
        self.variables.drop_stale()
        self.close_unused()

    def tidy(self) -> None:
        """Close what nobody reads any more, and now and then what is stale in any client."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            for client in open_clients():
                files = client.resources.find(OpenFiles)
                if files is not None:
                    files.drop_stale()
        if self._to_close:
            self.close_unused()

    def drop_where(self, is_meant: Callable[[tuple[Any, ...]], bool]) -> None:
        """Close all whose place is meant; who reads one of them just now goes on with it."""
        self.trees.drop_where(is_meant)
        self.variables.drop_where(is_meant)
        self.close_unused()

    def close(self) -> None:
        """Close all; who reads one of them just now goes on with it."""
        self.drop_where(lambda _: True)


def _files_of(source: Source) -> OpenFiles:
    return source.client.resources.get(OpenFiles)


def make_local(source: Source, number: int) -> Entry:
    """Make one product of a source local and return its entry; waits, and holds nothing."""
    return _make_local(source.client, source.pieces[number])


def _make_local(client: Client, product: Product) -> Entry:
    files = client.resources.find(OpenFiles)
    if files is not None and product in files.held:
        # To be looked up as used now would end its protection.
        entry = client.cache.lookup(product, touch=False)
        if entry is not None:
            return entry
    return client.cache.lookup(product) or waiting.fetch_and_wait(client, product)


@contextlib.contextmanager
def held(source: Source, number: int) -> Iterator[None]:
    """Make a product local, and keep it in the cache for as long as something is done with it.

    It counts as read when that has ended, and may then be evicted. What is raised: see
    :func:`hda_fsspec.workers.waiting.fetch_and_wait`.
    """
    client, product, files = source.client, source.pieces[number], _files_of(source)
    entry = client.cache.lookup(product) or _guarded(source, number)
    files.hold(product, 1)
    try:
        client.cache.protect(entry, seconds=_HOLD_SECONDS)
        yield
    finally:
        if files.hold(product, -1):
            client.cache.lookup(product)  # looked up, it is protected no longer
        mark_read(source, number)


def with_dataset(
    source: Source,
    number: int,
    work: Callable[[xr.Dataset, FileStamp], T],
    *,
    entry: Entry | None = None,
) -> T:
    """Do something with the open dataset of a product, which is made local first.

    The mark of its file is given too. Where the file is replaced meanwhile it is done again, with
    the new one. Who has made it local just now gives its entry.
    """
    return with_tree(
        source, number, lambda tree, mark: work(tree[source.node or _ROOT], mark), entry=entry
    )


def with_tree(
    source: Source,
    number: int,
    work: Callable[[_Tree, FileStamp], T],
    *,
    entry: Entry | None = None,
) -> T:
    """Do something with all datasets of a product, by their nodes; as :func:`with_dataset`."""
    client, mark_of = source.client, file_mark
    if entry is None:
        entry, mark_of = _make_local(client, source.pieces[number]), mark_seen
    files = client.resources.get(OpenFiles)
    for left in range(_TRIES - 1, -1, -1):
        place = _place_of(source, entry)
        mark = None
        try:
            mark, mark_of = mark_of(entry), file_mark
            tree = files.trees.get(place, mark, functools.partial(_open, files, source, entry))
            result = work(tree, mark)
        except FileNotFoundError:
            # Evicted since, and its handle closed by xarray's own bound of open files.
            files.trees.drop(place)
            if not left:
                raise
            entry = _guarded(source, number)
            continue
        except Exception:
            # What was opened of one file may make no sense of another.
            if not left or mark is None or is_unchanged(entry.path, mark):
                raise
        else:
            # xarray opens a path again where it has too many open: it may be another file by then.
            if is_unchanged(entry.fspath, mark):
                if left < _TRIES - 1 and source.pieces[number] not in files.held:
                    # Looked up, it is guarded no longer.
                    client.local(source.pieces[number])
                files.tidy()
                return result
        files.trees.drop(place)
        path, entry = entry.path, _guarded(source, number)
    msg = f"{path} was replaced or removed each of {_TRIES} times that it was read. Read it later."
    raise OSError(errno.ESTALE, msg)


def _place_of(source: Source, entry: Entry) -> _Place:
    return entry.path, source.options, source.node is not None


def _guarded(source: Source, number: int) -> Entry:
    """Make a product local that was evicted before it was read, and keep it for a moment.

    In a cache of a few products many processes else take turns at evicting what others wait for.
    """
    client, product = source.client, source.pieces[number]
    is_done = threading.Event()

    def guard(fetch: concurrent.futures.Future[Entry]) -> None:
        try:
            if not fetch.cancelled() and fetch.exception() is None:
                client.cache.protect(fetch.result(), seconds=_GUARD_SECONDS)
        finally:
            is_done.set()

    fetch = waiting.fetch(client, product)
    # In the thread that has fetched it: until the one that waits wakes up it may be gone again.
    fetch.add_done_callback(guard)
    entry = waiting.wait(fetch, client, product)
    is_done.wait()  # who waits is told first, and the guard must not outlive the read
    return entry


def read(
    source: Source,
    number: int,
    name: str,
    key: tuple[Any, ...],
    *,
    check: Callable[[xr.Dataset, FileStamp], None],
) -> np.ndarray[Any, Any]:
    """Read part of a variable of a product, after its dataset and its file's mark are checked."""

    def work(tree: _Tree, mark: FileStamp) -> np.ndarray[Any, Any]:
        dataset = tree[source.node or _ROOT]
        check(dataset, mark)
        return _values(dataset.variables[name], key)

    values = with_tree(source, number, work)
    mark_read(source, number)
    return values


def _values(variable: xr.Variable, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    # To be indexed costs xarray more than a small read.
    is_whole = is_everything(key) or _is_whole(key, variable.shape)
    return np.asarray((variable if is_whole else variable[key]).data)


def mark_read(source: Source, number: int) -> None:
    """Say that a product was read, to whoever fetches ahead, which is only done for computes."""
    if not computations.are_under_way():
        return
    product = source.pieces[number]
    files = source.client.resources.find(OpenFiles)
    if files is None or product not in files.held:
        source.client.mark_read(product)


def read_variable_directly(
    source: Source, entry: Entry, mark: FileStamp, name: str, key: tuple[Any, ...]
) -> np.ndarray[Any, Any] | None:
    """Read part of a variable of plain numbers of a product whose header is known.

    Its file is opened without looking at what else is in it. None where that cannot be done, where
    it is open as a dataset already, or is gone or another than the one of this mark: it is then to
    be read as a dataset.
    """
    if is_open(source, entry, mark):
        return None
    return with_variables(
        source, entry, mark, lambda variables: np.asarray(variables[name][key].data)
    )


def is_open(source: Source, entry: Entry, mark: FileStamp) -> bool:
    """Whether a product's file is open as a dataset."""
    return _files_of(source).trees.has(_place_of(source, entry), mark)


def read_stored_directly(
    entry: Entry,
    mark: FileStamp,
    stored: StoredVariable,
    key: tuple[Any, ...],
    *,
    at_any_cost: bool = False,
) -> np.ndarray[Any, Any] | None:
    """Read part of a variable of plain numbers from where it lies in a product's file.

    None where the file is gone or another than the one of this mark, where its bytes make no sense,
    and, unless it shall be read at any cost, where the library reads it better.
    """
    try:
        descriptor = open_regular(entry.fspath, shown=entry.path)
    except (FileNotFoundError, UntrustedFileError):
        return None
    try:
        if not _is_of(descriptor, entry, mark):
            return None
        values = read_stored(descriptor, stored, key, at_any_cost=at_any_cost)
        return values if _is_of(descriptor, entry, mark) else None
    finally:
        os.close(descriptor)


def _is_of(descriptor: int, entry: Entry, mark: FileStamp) -> bool:
    found = os.fstat(descriptor)
    is_same_file = (found.st_dev, found.st_ino) == entry.file_id
    return is_same_file and (found.st_size, found.st_mtime_ns) == mark[1:3]


def find_stored_variables(
    source: Source, entry: Entry, mark: FileStamp, names: Collection[str]
) -> dict[str, StoredVariable]:
    """Return where variables of a product lie in its file, as far as that can be told."""

    def work(file: NetCDFVariables) -> dict[str, StoredVariable]:
        with entry.open() as stream:
            return find_stored(stream, file.facts, names, group=source.options.group)

    return with_variables(source, entry, mark, work) or {}


def with_variables(
    source: Source, entry: Entry, mark: FileStamp, work: Callable[[NetCDFVariables], T | None]
) -> T | None:
    """Do something with the single variables of a product's file, and return what that returns.

    None where they cannot be read one by one, or the file is gone or another than the one of this
    mark.
    """
    files = _files_of(source)
    place = (entry.path, source.options.group)

    def open_it() -> NetCDFVariables | None:
        if source.node is not None:
            return None
        name, scratch = printable(entry.product.product_id), _scratch_of(entry)
        found = open_variables(entry.path, source.options, name=name, scratch=scratch)
        if found is not None:
            files.close_when_unused(found, found.closer)
        return found

    try:
        variables = files.variables.get(place, mark, open_it)
        result = None if variables is None else work(variables)
    except FileNotFoundError:
        files.variables.drop(place)
        return None
    except Exception:
        if is_unchanged(entry.path, mark):
            raise
        return None
    files.tidy()
    return result if is_unchanged(entry.path, mark) else None


def with_bytes(entry: Entry, mark: FileStamp, work: Callable[[BinaryIO], T | None]) -> T | None:
    """Do something with a product's file without any library, and return what that returns.

    None where the file is gone or another than the one of this mark.
    """
    try:
        with entry.open() as stream:
            if not _is_of(stream.fileno(), entry, mark):
                return None
            result = work(stream)
            is_same = _is_of(stream.fileno(), entry, mark) and is_unchanged(entry.fspath, mark)
            return result if is_same else None
    except (FileNotFoundError, UntrustedFileError):
        return None


def is_everything(key: tuple[Any, ...]) -> bool:
    """Whether a key is the one that xarray gives for all values of a variable."""
    for indexer in key:  # noqa: SIM110  # a generator costs more than what it would look at
        if not isinstance(indexer, slice) or indexer != _WHOLE:
            return False
    return True


def _is_whole(key: tuple[Any, ...], shape: tuple[int, ...]) -> bool:
    """Whether a key selects everything, as it lies."""
    return all(
        isinstance(indexer, slice) and indexer.indices(size) == (0, size, 1)
        for indexer, size in zip(key, shape, strict=True)
    )


def _open(files: OpenFiles, source: Source, entry: Entry) -> _Tree:
    # What is in the cache was checked before it got there.
    how: dict[str, Any] = {
        "name": printable(entry.product.product_id),
        "scratch": _scratch_of(entry),
        "is_checked": True,
    }
    if source.node is not None:
        tree = _Tree(open_tree(entry.path, source.options, **how))
    else:
        options = _without_indexes(entry.path, source.options)
        tree = _Tree({_ROOT: open_local(entry.path, options, **how)})
    files.close_when_unused(tree, *(dataset.close for dataset in tree.values()))
    return tree


def _scratch_of(entry: Entry) -> Path:
    return entry.folder / ".scratch"


def _without_indexes(path: Path, options: OpenOptions) -> OpenOptions:
    """Let xarray make no indexes where it can: that is a third of the time, and none is used here.

    The products of a stack need none, and a data set that is given out gets its own.
    """
    given = options.product_engine_kwargs
    if not _CAN_DO_WITHOUT_INDEXES or sniff(path) not in {Format.HDF5, Format.NETCDF3}:
        return options
    return dataclasses.replace(options, product_engine_kwargs=(*given, (_INDEXES, False)))


def close(source: Source) -> None:
    """Close the files of a source's products; who reads one of them, now or later, still can."""
    files = source.client.resources.find(OpenFiles)
    if files is not None:
        keys = {product.key for product in source.pieces}
        files.drop_where(lambda place: place[0].parent.parent.name in keys)
