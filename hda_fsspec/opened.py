"""Products that are open in this process: a small pool that makes local, opens, and reads.

A product is made local before any lock of a file format is taken, so that an order that is
waited for holds up no read of another product.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from hda_fsspec import patience
from hda_fsspec.formats import Format, sniff
from hda_fsspec.opening import OpenOptions, open_local
from hda_fsspec.products import Entry, shared_products
from hda_fsspec.trees import open_tree

if TYPE_CHECKING:
    from hda_fsspec.recipes import Source

T = TypeVar("T")

_OPEN_DATASETS = 64
_INDEXES = "create_default_indexes"
_CAN_DO_WITHOUT_INDEXES = _INDEXES in inspect.signature(xr.open_dataset).parameters
_ROOT = "/"
_TRIES = 5

_Key = tuple[Path, OpenOptions, bool]
_Tree = dict[str, xr.Dataset]


class Pool:
    """Datasets that were opened last; each file is opened by one thread while others wait.

    Parameters
    ----------
    size : int
        How many are kept. One that is dropped is closed when its last reader is done with it.
    """

    def __init__(self, size: int = _OPEN_DATASETS) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._open: collections.OrderedDict[_Key, _Tree] = collections.OrderedDict()
        self._opening: dict[_Key, threading.Lock] = {}

    def get(self, key: _Key, open_it: Callable[[], _Tree]) -> _Tree:
        """Return the open datasets of a product by their nodes, opening them if needed."""
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
                tree = open_it()
            finally:
                with self._lock:
                    self._opening.pop(key, None)
            with self._lock:
                self._open[key] = tree
                while len(self._open) > self._size:
                    self._open.popitem(last=False)
            return tree

    def drop(self, key: _Key) -> None:
        """Forget a dataset whose file is gone."""
        with self._lock:
            self._open.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._open.clear()


_pool = Pool()


def _forget_after_fork() -> None:
    # Handles of a format library must not be used on both sides of a fork.
    global _pool  # noqa: PLW0603
    _pool = Pool()


os.register_at_fork(after_in_child=_forget_after_fork)


def make_local(source: Source, number: int) -> Entry:
    """Make one product of a source local and return its entry; waits, and holds nothing."""
    return patience.make_local(shared_products(source.settings), source.pieces[number])


def use(source: Source, number: int, work: Callable[[xr.Dataset, Entry], T]) -> T:
    """Do something with the open dataset of a product, which is made local first."""
    node = _ROOT if source.node is None else source.node
    return use_tree(source, number, lambda tree, entry: work(tree[node], entry))


def use_tree(source: Source, number: int, work: Callable[[_Tree, Entry], T]) -> T:
    """Do something with all datasets of a product, by their nodes."""
    for left in reversed(range(_TRIES)):
        entry = make_local(source, number)
        key = (entry.path, source.options, source.node is not None)
        try:
            return work(_pool.get(key, functools.partial(_open, source, entry)), entry)
        except FileNotFoundError:
            # Evicted since, and its handle closed by xarray's own bound of open files.
            _pool.drop(key)
            if not left:
                raise
    raise AssertionError  # the last turn returns or raises


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
