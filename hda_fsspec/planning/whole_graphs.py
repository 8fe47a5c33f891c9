"""Recognition, without making a single task, of expressions that read all they are made of.

A data set as it was opened, and what is computed of it chunk by chunk, has few layers and may have
a hundred thousand chunks.
"""

from __future__ import annotations

from typing import Any

import dask.array as da
from dask.array import core as array_core
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArraySliceDep

#: Functions that take a chunk of an array by its slices.
GETTERS = (array_core.getter, array_core.getter_inline, array_core.getter_nofancy)


def read_in_whole(collection: Any) -> list[Any] | None:
    """Return what a Dask array is made of, if all of that is read by computing it; else None.

    So it is where all of its layers go chunk by chunk: each chunk of one is needed then. Whoever
    takes a slice adds a layer that does not.
    """
    if not isinstance(collection, da.Array):
        return None
    graph = collection.dask
    if not isinstance(graph, HighLevelGraph):
        return None
    held: list[Any] = []
    left, seen = [collection.name], set[str]()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        layer = graph.layers.get(name)
        if isinstance(layer, Blockwise):
            values = _held_by(layer)
            if values is None:
                return None
            held += values
        elif layer is None or len(layer) != 1 or name not in layer or graph.dependencies[name]:
            return None
        else:
            held.append(layer[name])
        left += graph.dependencies[name]
    return held


def _held_by(layer: Blockwise) -> list[Any] | None:
    """Return what the tasks of a layer hold beside other chunks; None if they read parts of it."""
    if layer.output_blocks is not None:
        return None
    args = [arg for arg, index in layer.indices if index is None]
    deps = list(layer.io_deps.values())
    if not deps:
        return [layer.task, *args]
    # The data themselves, each chunk by its slices: together they are all of it.
    func = getattr(layer.task, "func", None)
    is_getter = any(func is getter for getter in GETTERS)
    if not is_getter or len(deps) != 1 or not isinstance(deps[0], ArraySliceDep):
        return None
    return args
