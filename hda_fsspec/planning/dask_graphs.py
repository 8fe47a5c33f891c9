"""The products that computing an expression reads, found in its variables and its Dask graph.

Nothing is computed, ordered or read here. What this package knows of Dask's task classes stands in
this module, since they change between releases. A task that holds a lazy variable in a way that is
not understood counts as one that reads all of it: that costs time, and is never an error.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from dask._task_spec import (
    Alias,
    DataNode,
    GraphNode,
    Task,
    TaskRef,
    _execute_subgraph,
    convert_legacy_graph,
    cull,
)
from dask.array import Array, chunk
from dask.base import is_dask_collection, optimize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from hda_fsspec.lazy.map_task import ProductTask
from hda_fsspec.lazy.product_table import Source
from hda_fsspec.planning.selections import LazySelection, arrays_of, is_lazy
from hda_fsspec.planning.shared_chunks import shared_chunks
from hda_fsspec.planning.whole_graphs import GETTERS, read_in_whole

Numbers = np.ndarray[Any, Any]

# Functions that index their first argument with their second one, and read what they get.
_GETTERS = (*GETTERS, chunk.getitem, operator.getitem)
_PLAIN = (str, bytes, int, float, complex, slice, np.ndarray, np.generic, type(None))
_COMPUTED = object()
_LONGEST_CHAIN = 100  # names of names; a graph in which they go round in circles cannot be computed


def products_read(*objects: Any) -> dict[Source, Numbers]:
    """Return which products computing some objects together would read.

    Parameters
    ----------
    *objects : Dataset, DataArray, Variable or Dask collection
        What would be computed. Coordinates count, since they are computed too.

    Returns
    -------
    dict of Source to numpy.ndarray
        For each source the numbers of its products, sorted, each once. Data that are loaded, or
        not ours, have none. Of a chunk of several products that Dask may read whole or in part,
        each time anew, all are named.
    """
    found = _Found()
    collections = []
    for item in objects:
        is_xarray = isinstance(item, xr.Dataset | xr.DataArray | xr.Variable)
        for array in arrays_of(item) if is_xarray else [item]:
            if is_dask_collection(array):
                whole = read_in_whole(array)
                if whole is None:
                    collections.append(array)
                else:
                    found.add_all_of(whole)
            else:
                found.add_all_of(array)
    if collections:
        found.never_in_part(
            shared_chunks([_graph_of(collection) for collection in collections], _holds_lazy)
        )
        found.add_graph(*_optimised_graph(collections))
    return found.products()


def products_in_order(dsk: Mapping[Any, Any], keys: Iterable[Any]) -> list[tuple[Source, int]]:
    """Return which products the tasks of some keys read, in the order of the keys.

    Parameters
    ----------
    dsk : mapping
        A graph as schedulers get it.
    keys : iterable
        Tasks that will run; what they need is in their order only if it stands there, too.

    Returns
    -------
    list of tuple of (Source, int)
        Source and number of a product, once for each task that reads it.
    """
    graph = convert_legacy_graph(dsk)
    found = _Found()
    found.add_tasks((graph[key] for key in keys if key in graph), graph)
    return found.in_order()


def _optimised_graph(collections: list[Any]) -> tuple[dict[Any, Any], list[Any]]:
    """Return one graph of all collections, and the keys of what they ask for."""
    told = map(_with_data_as_tasks, collections)
    optimised = optimize(*told, traverse=False)  # type: ignore[no-untyped-call]
    keys = [list(flatten(collection.__dask_keys__())) for collection in optimised]  # type: ignore[no-untyped-call]
    # They share one graph, as Dask documents. It is large: it is not merged once for each.
    graph = dict(optimised[0].__dask_graph__())
    for collection, its_keys in zip(optimised[1:], keys[1:], strict=True):
        if any(key not in graph for key in its_keys):
            graph.update(collection.__dask_graph__())
    return graph, [key for its_keys in keys for key in its_keys]


def _with_data_as_tasks(collection: Any) -> Any:
    """Return a collection whose graph has no layer that is bare data.

    For one of those Dask makes the names of all chunks of all layers, of which there may be a
    hundred thousand, to see whether the data hold names.
    """
    graph = _graph_of(collection)
    # Others may not be made anew of a graph: a delayed chunk of an array is of no layer by its key.
    if not isinstance(graph, HighLevelGraph) or not isinstance(collection, Array):
        return collection
    layers = {
        name: layer
        if graph.dependencies[name] or not _is_bare(layer)
        else MaterializedLayer(convert_legacy_graph(layer))
        for name, layer in graph.layers.items()
    }
    rebuild, args = collection.__dask_postpersist__()  # type: ignore[no-untyped-call]
    return rebuild(HighLevelGraph(layers, graph.dependencies), *args)


def _is_bare(layer: Mapping[Any, Any]) -> bool:
    return isinstance(layer, MaterializedLayer) and len(layer) == 1 and _holds_lazy(layer)


class _Found:
    """The products that were found so far."""

    def __init__(self) -> None:
        self._reads: list[tuple[Source, Numbers]] = []
        # What is remembered by id is kept with it, so that nothing else can get that id.
        self._chosen: dict[int, tuple[Any, LazySelection | None]] = {}
        self._added: dict[int, Any] = {}
        self._whole: Mapping[Any, GraphNode] = {}

    def never_in_part(self, tasks: Mapping[Any, GraphNode]) -> None:
        """Take what some tasks read as they stand here, whatever slices are moved into them."""
        self._whole = tasks

    def products(self) -> dict[Source, Numbers]:
        """Return them by source."""
        by_id: dict[int, tuple[Source, list[Numbers]]] = {}
        for source, numbers in self._reads:
            by_id.setdefault(id(source), (source, []))[1].append(numbers)
        by_source: dict[Source, list[Numbers]] = {}
        for source, chosen in by_id.values():
            by_source.setdefault(source, []).extend(chosen)
        joined = {source: np.unique(np.concatenate(parts)) for source, parts in by_source.items()}
        return {source: numbers for source, numbers in joined.items() if numbers.size}

    def in_order(self) -> list[tuple[Source, int]]:
        """Return them one by one as they were found."""
        return [(source, number) for source, numbers in self._reads for number in numbers.tolist()]

    def add_all_of(self, value: Any) -> None:
        """Add what reading everything that a value holds would read."""
        if isinstance(value, _PLAIN) or id(value) in self._added:
            return
        self._added[id(value)] = value
        for array in _arrays_in(value):
            chosen = self._chosen_below(array)
            if chosen is not None:
                self._add(chosen, key=_COMPUTED)

    def add_graph(self, dsk: Mapping[Any, Any], keys: Iterable[Any] | None) -> None:
        """Add what the tasks of a graph read, or those that some keys need."""
        graph = convert_legacy_graph(dsk)
        if keys is not None:
            graph = cull(graph, list(keys))
        self.add_tasks(graph.values(), graph)

    def add_tasks(self, nodes: Iterable[Any], graph: Mapping[Any, Any]) -> None:
        """Add what some tasks of a graph read."""
        for node in nodes:
            # Data, and other names of data, are read only by the tasks that refer to them.
            if isinstance(node, Task):
                self._add_task(node, graph)

    def _add_task(self, task: Task, scope: Mapping[Any, Any]) -> None:
        func, args = task.func, task.args
        if isinstance(func, ProductTask):
            self._reads.append((func.source, np.zeros(1, np.int64)))
            return
        if func is _execute_subgraph and len(args) >= 3 and isinstance(args[0], Mapping):
            inner, _, names, *given = args
            self._add_subgraph(inner, zip(names, given, strict=False), scope)
            return
        if len(args) >= 2 and _is_getter(func):
            chosen = self._chosen_below(_resolved(args[0], scope))
            if chosen is not None:
                self._add(chosen, key=_resolved(args[1], scope))
                return
        for value in (*args, *task.kwargs.values()):
            self._add_argument(value, scope)
        if isinstance(func, functools.partial):
            self._add_argument([*func.args, *func.keywords.values()], scope)

    def _add_subgraph(
        self,
        inner: Mapping[Any, Any],
        given: Iterable[tuple[Any, Any]],
        scope: Mapping[Any, Any],
    ) -> None:
        """Add what a fused task reads: a graph of its own, to which some values are given."""
        inner_scope = dict(inner)
        for name, value in given:
            if isinstance(value, Task):
                self._add_task(value, scope)
            inner_scope[name] = DataNode(name, _resolved(value, scope))
        for key, node in inner_scope.items():
            if isinstance(node, Task):
                whole = self._whole.get(key)
                self._add_task(whole if isinstance(whole, Task) else node, inner_scope)

    def _add_argument(self, value: Any, scope: Mapping[Any, Any]) -> None:
        if isinstance(value, Task):
            self._add_task(value, scope)
        elif isinstance(value, list | tuple | set | frozenset):
            for item in value:
                self._add_argument(item, scope)
        elif isinstance(value, dict):
            for item in value.values():
                self._add_argument(item, scope)
        else:
            self.add_all_of(_resolved(value, scope))

    def _add(self, chosen: LazySelection, *, key: Any) -> None:
        source = chosen.recipe.source
        numbers = chosen.pieces() if key is _COMPUTED else chosen.product_numbers_at(key)
        self._reads.append((source, numbers))

    def _chosen_below(self, array: Any) -> LazySelection | None:
        if not is_lazy(array):
            return None
        # The array is kept with it, so that no other one can get its id.
        known = self._chosen.get(id(array))
        if known is None:
            known = self._chosen[id(array)] = (array, LazySelection.from_array(array))
        return known[1]


def _graph_of(collection: Any) -> Mapping[Any, Any]:
    graph: Mapping[Any, Any] = collection.__dask_graph__()
    return graph


def _holds_lazy(value: Any) -> bool:
    """Whether a task, or what stands in its place in a graph, holds a lazy array."""
    if isinstance(value, DataNode):
        value = value.value
    if isinstance(value, Task):
        return any(map(_holds_lazy, (*value.args, *value.kwargs.values())))
    return next(_arrays_in(value), None) is not None


def _is_getter(func: Any) -> bool:
    return any(func is getter for getter in _GETTERS)


def _resolved(value: Any, scope: Mapping[Any, Any]) -> Any:
    """Return what an argument is before anything is computed, _COMPUTED if that is not known."""
    for _ in range(_LONGEST_CHAIN):
        if isinstance(value, TaskRef):
            value = scope.get(value.key, _COMPUTED)
        elif isinstance(value, Alias):
            value = scope.get(value.target, _COMPUTED)
        elif isinstance(value, DataNode):
            value = value.value
        else:
            break
    return _COMPUTED if isinstance(value, GraphNode | TaskRef) else value


def _arrays_in(value: Any) -> Iterator[Any]:
    """Go through the lazy arrays that a value holds, in containers and in xarray's objects."""
    left, seen = [value], set()
    while left:
        item = left.pop()
        if isinstance(item, _PLAIN) or id(item) in seen:
            continue
        seen.add(id(item))
        if is_lazy(item):
            yield item
        elif isinstance(item, xr.Dataset | xr.DataArray | xr.Variable):
            left.extend(arrays_of(item))
        elif isinstance(item, Mapping):
            left.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            left.extend(item)
