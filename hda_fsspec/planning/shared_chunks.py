"""Chunks that several slices are taken of: Dask reads them whole or in part, as it happens.

Dask moves a slice into the task that reads a chunk, where no other task needs the chunk. Tasks
that nobody asked for count too, until they are removed; and whether Dask removes them hangs on the
order of names that differ at each computation (a layer of n tasks is kept if, when it is its turn,
just n tasks of any kind are wanted). So one computation reads part of such a chunk, and the next
one all of it. Who tells beforehand has to take all of it.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dask._task_spec import GraphNode, convert_legacy_graph
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph

Layer = Mapping[Any, Any]


def shared_chunks(graphs: Iterable[Layer], is_ours: Callable[[Any], bool]) -> dict[Any, GraphNode]:
    """Return the tasks that read a chunk which several other tasks need, by their keys.

    Parameters
    ----------
    graphs : iterable of mapping
        Graphs that are computed together, as they are before any optimisation.
    is_ours : callable
        Whether a task, or what stands in its place, holds data that are read when indexed.
    """
    layers: dict[str, Layer] = {}
    readers: dict[str, set[str]] = collections.defaultdict(set)
    for graph in graphs:
        for name, layer, needed in _layers(graph):
            layers[name] = layer
            for key in needed:
                readers[key].add(name)
    shared: dict[Any, GraphNode] = {}
    for source in [name for name, layer in layers.items() if _begins_with(layer, is_ours)]:
        for name in (source, *readers[source]):
            chunks, followers = layers[name], [layers[reader] for reader in readers[name]]
            # Slices are no blockwise work. Where a graph has no layers, its one follows itself.
            if name in readers[name] or not all(
                isinstance(follower, Blockwise) for follower in followers
            ):
                shared |= _needed_twice(chunks, followers, layers[source])
    return shared


def _layers(graph: Layer) -> Iterable[tuple[str, Layer, set[str]]]:
    if isinstance(graph, HighLevelGraph):
        return [(name, layer, graph.dependencies[name]) for name, layer in graph.layers.items()]
    name = f"graph {id(graph)}"
    return [(name, graph, {name})]


def _begins_with(layer: Layer, is_ours: Callable[[Any], bool]) -> bool:
    """Whether a layer is the data themselves, or each of its tasks holds them."""
    if isinstance(layer, Blockwise):
        # It is all tasks in one, which are not made just to look at the first.
        return is_ours([layer.task, *(arg for arg, index in layer.indices if index is None)])
    return is_ours(next(iter(layer.values()), None))


def _needed_twice(chunks: Layer, followers: Iterable[Layer], source: Layer) -> dict[Any, GraphNode]:
    """Return the tasks of a layer that more than one task of others needs."""
    counts: collections.Counter[Any] = collections.Counter()
    for follower in followers:
        tasks = _tasks(follower, chunks, follower).values()
        counts.update(key for task in tasks for key in task.dependencies if _holds(chunks, key))
    keys = {key for key, count in counts.items() if count > 1}
    if not keys:
        return {}
    if isinstance(chunks, Blockwise):
        chunks, _ = chunks.cull(keys, keys)
    return _tasks({key: chunks[key] for key in keys}, chunks, source)


def _holds(layer: Layer, key: Any) -> bool:
    if isinstance(layer, Blockwise):
        # It is all of its tasks in one: none is made to look which keys it has.
        return isinstance(key, tuple) and key[0] == layer.output
    return key in layer


def _tasks(graph: Layer, *others: Layer) -> dict[Any, GraphNode]:
    """Return a graph as tasks, whose dependencies may lie in others."""
    nodes = dict(graph)
    if all(isinstance(node, GraphNode) for node in nodes.values()):
        return nodes
    found: dict[Any, GraphNode] = convert_legacy_graph(nodes, set[Any]().union(*others))
    return found
