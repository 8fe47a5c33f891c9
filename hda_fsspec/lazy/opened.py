"""Products that are open in this process: a small pool that makes local, opens, and reads.

A product is made local before any lock of a file format is taken, so that an order that is
waited for holds up no read of another product.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import inspect
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import xarray as xr

from hda_fsspec.fileformats.formats import Format, sniff
from hda_fsspec.interest import Interest
from hda_fsspec.lazy import patience
from hda_fsspec.reading.opening import OpenOptions, open_local
from hda_fsspec.reading.singly import SingleVariables, open_singly
from hda_fsspec.reading.trees import open_tree
from hda_fsspec.usecase.products import Entry, shared_products

if TYPE_CHECKING:
    from hda_fsspec.lazy.recipes import Source

T = TypeVar("T")
K = TypeVar("K")

_OPEN_DATASETS = 64
_INDEXES = "create_default_indexes"
_CAN_DO_WITHOUT_INDEXES = _INDEXES in inspect.signature(xr.open_dataset).parameters
_ROOT = "/"
_TRIES = 16  # in a cache of two products, with processes that evict each other's
_MOMENT_SECONDS = 0.5
_GUARD_SECONDS = 75.0  # a last use that lies less than a minute ahead protects from nothing

_Tree = dict[str, xr.Dataset]


class Pool(Generic[K, T]):
    """What was opened last; each file is opened by one thread while others wait.

    Parameters
    ----------
    size : int
        How many are kept. One that is dropped is closed when its last reader is done with it.
    """

    def __init__(self, size: int = _OPEN_DATASETS) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._open: collections.OrderedDict[K, T] = collections.OrderedDict()
        self._opening: dict[K, threading.Lock] = {}

    def get(self, key: K, open_it: Callable[[], T]) -> T:
        """Return what is open under a key, opening it if needed."""
        with self._lock:
            found = self._open.get(key)
            if found is not None:
                self._open.move_to_end(key)
                return found
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:
            with self._lock:
                found = self._open.get(key)
            if found is not None:
                return found
            try:
                found = open_it()
            finally:
                with self._lock:
                    self._opening.pop(key, None)
            with self._lock:
                self._open[key] = found
                while len(self._open) > self._size:
                    self._open.popitem(last=False)
            return found

    def __contains__(self, key: K) -> bool:
        with self._lock:
            return key in self._open

    def drop(self, key: K) -> None:
        """Forget one whose file is gone."""
        with self._lock:
            self._open.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._open.clear()


_pool: Pool[tuple[Path, OpenOptions, bool], _Tree] = Pool()
_singles: Pool[tuple[Path, str | None], SingleVariables | None] = Pool()
_looked_up: dict[tuple[Source, int], tuple[float, Entry]] = {}


def _forget_after_fork() -> None:
    # Handles of a format library must not be used on both sides of a fork.
    global _pool, _singles
    _pool, _singles = Pool(), Pool()
    _looked_up.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


def make_local(source: Source, number: int) -> Entry:
    """Make one product of a source local and return its entry; waits, and holds nothing."""
    return patience.make_local(shared_products(source.settings), source.pieces[number])


def use(
    source: Source,
    number: int,
    work: Callable[[xr.Dataset, Entry], T],
    *,
    entry: Entry | None = None,
) -> T:
    """Do something with the open dataset of a product, which is made local first.

    Who has made it local just now gives its entry.
    """
    node = _ROOT if source.node is None else source.node
    return use_tree(source, number, lambda tree, entry: work(tree[node], entry), entry=entry)


def use_tree(
    source: Source,
    number: int,
    work: Callable[[_Tree, Entry], T],
    *,
    entry: Entry | None = None,
) -> T:
    """Do something with all datasets of a product, by their nodes; as :func:`use`."""
    for left in reversed(range(_TRIES)):
        entry = entry or _local_now(source, number)
        key = (entry.path, source.options, source.node is not None)
        try:
            result = work(_pool.get(key, functools.partial(_open, source, entry)), entry)
        except FileNotFoundError:
            # Evicted since, and its handle closed by xarray's own bound of open files.
            _pool.drop(key)
            _looked_up.pop((source, number), None)
            if not left:
                raise
            entry = _guarded(source, number)
        else:
            if left < _TRIES - 1:
                # Looked up, it is guarded no longer.
                shared_products(source.settings).local(source.pieces[number])
            return result
    raise AssertionError  # the last turn returns or raises


def _guarded(source: Source, number: int) -> Entry:
    """Make a product local that was evicted before it could be opened, and keep it for a moment.

    In a cache of a few products many processes else take turns at evicting what others wait for.
    """
    products, product = shared_products(source.settings), source.pieces[number]

    def guard(fetch: concurrent.futures.Future[Entry]) -> None:
        if fetch.exception() is None:
            products.cache.protect(fetch.result(), seconds=_GUARD_SECONDS)

    with Interest() as interest:
        fetch = products.fetch(product, wanted=interest.is_alive)
        # In the thread that has fetched it: until the one that waits wakes up it may be gone again.
        fetch.add_done_callback(guard)
        return patience.wait(fetch, products, product)


def _local_now(source: Source, number: int) -> Entry:
    """Make a product local; one that was looked up a moment ago is not looked up again.

    To look costs a tenth of a small read, and the variables of a product are read in a row.
    """
    mark, now = (source, number), time.monotonic()
    found = _looked_up.get(mark)
    if found is not None and now - found[0] < _MOMENT_SECONDS:
        return found[1]
    if len(_looked_up) >= _OPEN_DATASETS:
        _looked_up.clear()
    entry = make_local(source, number)
    _looked_up[mark] = (now, entry)
    return entry


def read(source: Source, number: int, name: str, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    """Read part of a variable of a product."""

    def work(dataset: xr.Dataset, _: Entry) -> np.ndarray[Any, Any]:
        variable = dataset.variables[name]
        # To be indexed costs xarray more than a small read.
        part = variable if _is_whole(key, variable.shape) else variable[key]
        return np.asarray(part.values)

    values = use(source, number, work)
    note_read(source, number)
    return values


def note_read(source: Source, number: int) -> None:
    """Say that a product was read, to whoever fetches ahead."""
    shared_products(source.settings).pump.was_read(source.pieces[number])


def read_number(
    source: Source, entry: Entry, name: str, key: tuple[Any, ...]
) -> np.ndarray[Any, Any] | None:
    """Read part of a variable of plain numbers of a product whose header is known.

    Its file is opened without looking at what else is in it. None where that cannot be done, where
    it is open as a dataset already, or is gone: it is then to be read as a dataset.
    """
    if (entry.path, source.options, source.node is not None) in _pool:
        return None
    mark = (entry.path, source.options.group)

    def open_it() -> SingleVariables | None:
        return open_singly(entry.path, source.options) if source.node is None else None

    try:
        variables = _singles.get(mark, open_it)
        return None if variables is None else np.asarray(variables[name][key].values)
    except FileNotFoundError:
        _singles.drop(mark)
        return None


def _is_whole(key: tuple[Any, ...], shape: tuple[int, ...]) -> bool:
    """Whether a key selects everything, as it lies."""
    return all(
        isinstance(one, slice) and one.indices(size) == (0, size, 1)
        for one, size in zip(key, shape, strict=True)
    )


def _open(source: Source, entry: Entry) -> _Tree:
    scratch = entry.folder / ".scratch"
    name = entry.product.product_id
    if source.node is not None:
        return open_tree(entry.path, source.options, name=name, scratch=scratch)
    options = _without_indexes(entry.path, source.options)
    return {_ROOT: open_local(entry.path, options, name=name, scratch=scratch)}


def _without_indexes(path: Path, options: OpenOptions) -> OpenOptions:
    """Let xarray make no indexes where it can: that is a third of the time, and none is used here.

    The products of a stack need none, and a data set that is given out gets its own.
    """
    given = options.product_engine_kwargs
    if not _CAN_DO_WITHOUT_INDEXES or sniff(path) not in {Format.HDF5, Format.NETCDF3}:
        return options
    return dataclasses.replace(options, product_engine_kwargs=(*given, (_INDEXES, False)))


def clear_pool() -> None:
    """Close what is open and not being read (for tests, and before files are removed)."""
    _pool.clear()
    _singles.clear()
    _looked_up.clear()
