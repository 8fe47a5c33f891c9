"""Graphs of odd kinds are read without touching any data, or count as reading everything."""

from __future__ import annotations

import functools
import operator
import pickle
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from costs import cpu_seconds
from dask import _task_spec, config
from dask.callbacks import Callback
from dask.delayed import Delayed
from rows import for_each
from xarray.core import indexing

from hda_fsspec.lazy.arrays import HDABackendArray
from hda_fsspec.lazy.product_table import ProductTable, Source
from hda_fsspec.planning.dask_graphs import products_in_order, products_read
from hda_fsspec.reading.indexing import key_lengths
from hda_fsspec.records import Product
from hda_fsspec.settings import Settings


class Untouchable(HDABackendArray):
    """A variable with a product for each step of its first axis, which must never be read."""

    def product_numbers_at(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        """Return the steps of a key."""
        if 0 in key_lengths(key, self.shape):
            return np.zeros(0, dtype="i8")
        return np.unique(np.arange(self.shape[0])[key[0]])

    def read(self, key: tuple[Any, ...]) -> Any:
        """Fail."""
        pytest.fail(f"{self.name} was read at {key}")


def untouchable(steps: int = 6, width: int = 4) -> Untouchable:
    """Return a variable of steps times width."""
    options: Any = "options"
    pieces = ProductTable([Product("EO:X", f"p{number}") for number in range(steps)])
    source = Source(Settings(cache_dir=Path("/nowhere")), pieces, options)
    return Untouchable(source, "a", (steps, width), np.dtype("f4"))


def adapted(recipe: HDABackendArray) -> Any:
    """Return a recipe as xarray gives it to Dask."""
    array: Any = indexing.LazilyIndexedArray(recipe)
    for adapter in (indexing.CopyOnWriteArray, indexing.MemoryCachedArray):
        array = adapter(array)
    return indexing.ImplicitToExplicitIndexingAdapter(array, indexing.OuterIndexer)


def numbers(found: dict[Source, np.ndarray[Any, Any]]) -> list[int]:
    """Return the products of the only source, [] if there is none."""
    assert len(found) <= 1
    return [number for each in found.values() for number in each.tolist()]


def delayed(key: str, graph: dict[str, Any]) -> Any:
    """Return what asks for one key of a graph."""
    make: Any = Delayed
    return make(key, graph)


def numbers_of_graph(graph: dict[str, Any]) -> list[int]:
    """Return the products that the tasks of a graph read."""
    return sorted({number for _, number in products_in_order(graph, list(graph))})


def from_array(chunks: Any = (1, 4), **options: Any) -> Any:
    """Return a Dask array over an untouchable variable."""
    make: Any = da.from_array
    return make(adapted(untouchable()), chunks, meta=np.empty((0, 0)), **options)


ALL = [0, 1, 2, 3, 4, 5]


@for_each(
    ("key", "expected"),
    [
        ((slice(1, 3), slice(None)), [1, 2]),
        ((2, slice(0, 2)), [2]),
        ((-1,), [5]),
        (4, [4]),
        (slice(None, 2), [0, 1]),
        ((Ellipsis, 0), ALL),
        ((Ellipsis, slice(1, 2), slice(None)), [1]),
        ((None, slice(4, None), None), [4, 5]),
        ((slice(None, None, -3),), [2, 5]),
        ((np.array([3, 1, 3]), slice(None)), [1, 3]),
        (([0, 5], slice(None)), [0, 5]),
        ((np.int32(3), slice(0, 0)), []),
        ((np.array([], dtype=int),), []),
        (("no", "key"), ALL),
        ((slice(None),) * 5, ALL),
        ({"not": "a key"}, ALL),
        (object(), ALL),
    ],
)
@for_each("getter", [da.core.getter, da.core.getter_nofancy, operator.getitem])
def test_keys_of_getters(getter: Any, key: Any, expected: list[int]) -> None:
    """Every kind of key is understood; what is no key counts as everything."""
    graph = {"array": adapted(untouchable()), "block": (getter, "array", key)}

    assert numbers_of_graph(graph) == expected


def test_only_what_is_asked_for_counts() -> None:
    """Tasks that no asked-for key needs do not count; if all are asked for they do."""
    array = adapted(untouchable())
    graph = {
        "a": array,
        "one": (da.core.getter, "a", (slice(1, 2),)),
        "two": (da.core.getter, "a", (slice(4, 5),)),
        "name of two": "two",
        "sum": (sum, ["name of two"]),
    }

    assert numbers(products_read(delayed("sum", graph))) == [4]
    assert numbers_of_graph(graph) == [1, 4]


def test_data_alone_read_nothing() -> None:
    """A variable that lies in a graph without a task that uses it is not read."""
    assert numbers_of_graph({"array": adapted(untouchable()), "other": 3}) == []
    assert numbers_of_graph({}) == []


@for_each(
    "hold",
    [
        lambda lazy: (len, lazy),
        lambda lazy: (len, [1, [lazy]]),
        lambda lazy: (len, {"x": {"y": lazy}}),
        lambda lazy: (functools.partial(zip, lazy), 3),
        lambda lazy: (functools.partial(dict, x=lazy), []),
        lambda lazy: (len, (list, [lazy])),
        lambda lazy: (len, xr.Variable(("t", "x"), lazy.array)),
        lambda lazy: (len, xr.DataArray(xr.Variable(("t", "x"), lazy.array))),
        lambda lazy: (len, xr.Dataset({"a": (("t", "x"), lazy.array)})),
    ],
)
def test_a_task_that_is_not_understood_reads_everything(hold: Any) -> None:
    """A task that holds a lazy variable, however deep, counts as one that reads all of it."""
    assert numbers_of_graph({"task": hold(adapted(untouchable()))}) == ALL


def test_a_part_that_is_held_counts_as_that_part() -> None:
    """Of a variable that was narrowed before it got into a task only that part is read."""
    variable = xr.Variable(("t", "x"), indexing.LazilyIndexedArray(untouchable()))

    assert numbers_of_graph({"task": (len, variable[2:4]._data)}) == [2, 3]


def test_containers_in_a_circle() -> None:
    """A container that holds itself is looked through once."""
    circle: list[Any] = [adapted(untouchable())]
    circle.append(circle)
    holder = _task_spec.DataNode("holder", circle)
    task = _task_spec.Task("task", len, _task_spec.TaskRef("holder"))

    assert numbers_of_graph({"holder": holder, "task": task}) == ALL


def test_references_to_what_is_not_there() -> None:
    """What another scheduler holds (persisted blocks) is no concern of ours."""
    reference = _task_spec.TaskRef("elsewhere")
    tasks = {
        "sum": _task_spec.Task("sum", sum, reference),
        "get": _task_spec.Task("get", da.core.getter, reference, (0,)),
    }

    assert numbers_of_graph(tasks) == []


@for_each("options", [{}, {"inline_array": True}, {"lock": True}, {"asarray": False}])
def test_dask_arrays_of_all_kinds(options: dict[str, Any]) -> None:
    """The ways in which Dask puts an array into a graph are understood."""
    array = from_array(**options)

    assert numbers(products_read(array[2:4].sum())) == [2, 3]
    assert numbers(products_read((array + 1)[::-4])) == [1, 5]
    assert numbers(products_read(array[[5, 0]].T)) == [0, 5]


def test_without_fusion() -> None:
    """A graph that was not fused tells the same."""
    with config.set({"optimization.fuse.active": False}):
        assert numbers(products_read(from_array()[3:, 2].max())) == [3, 4, 5]


@pytest.mark.slow
def test_a_long_chain_does_not_recurse() -> None:
    """A graph of ten thousand tasks in a row is read."""
    graph: dict[str, Any] = {"0": (da.core.getter, adapted(untouchable()), (slice(0, 1),))}
    graph.update({str(n): (abs, str(n - 1)) for n in range(1, 10_000)})

    assert numbers(products_read(delayed("9999", graph))) == [0]


class _Doubled(indexing.ExplicitlyIndexed):
    """An adapter that this package does not know, which keeps the shape."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape, self.ndim = array.shape, len(array.shape)


class _Longer(_Doubled):
    """One that changes the shape."""

    def __init__(self, array: Any) -> None:
        super().__init__(array)
        self.shape = (array.shape[0] * 2, array.shape[1])


class _Empty(indexing.ExplicitlyIndexed):
    """One that holds nothing."""


def test_adapters_that_are_not_known() -> None:
    """One that keeps the shape is looked through; below another everything counts."""
    lazy = indexing.LazilyIndexedArray(untouchable())
    key = indexing.BasicIndexer((slice(2, 3), slice(None)))

    assert numbers(products_read(indexing.LazilyIndexedArray(_Doubled(lazy), key))) == [2]
    assert numbers(products_read(indexing.LazilyIndexedArray(_Longer(lazy), key))) == ALL
    assert products_read(_Empty()) == {}


def test_not_ours() -> None:
    """Data in memory, other backends' data and other objects have no products."""
    dataset = xr.Dataset(
        {"a": ("x", np.arange(3.0)), "s": ("x", ["a", "b", "c"])}, {"x": [1, 2, 3]}
    )

    assert products_read(dataset, dataset.chunk(), dataset.a, "text", object(), da.ones(3)) == {}


def test_survives_pickling() -> None:
    """A data set that travelled tells the same."""
    variable = xr.Variable(("t", "x"), indexing.LazilyIndexedArray(untouchable()))
    dataset = xr.Dataset({"a": variable}).chunk(t=2)
    travelled = pickle.loads(pickle.dumps(dataset))

    assert numbers(products_read(travelled.isel(t=slice(3, 4)))) == [3]


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_from_a_scheduler(scheduler: str) -> None:
    """A callback of the local schedulers can tell what a compute is about to read."""
    seen: list[list[int]] = []
    array = from_array()[1:3].map_blocks(lambda block: block)

    class Stop(Exception):
        """Ends the compute before anything is read."""

    def start_state(dsk: Any, state: Any) -> None:
        found = products_in_order(dsk, state["dependencies"])
        seen.append(sorted({number for _, number in found}))
        raise Stop

    callback: Any = Callback
    with callback(start_state=start_state), pytest.raises(Stop):
        array.compute(scheduler=scheduler)

    assert seen == [[1, 2]]


@pytest.mark.slow
def test_ten_thousand_products() -> None:
    """A graph over ten thousand products costs twenty times what one over 500 does."""

    def mean(steps: int) -> xr.DataArray:
        recipe = untouchable(steps=steps)
        variable = xr.Variable(("t", "x"), indexing.LazilyIndexedArray(recipe))
        return (xr.DataArray(variable.chunk(t=1)) - 1.0).mean("t")

    few, many = mean(500), mean(10_000)
    found: list[Any] = []

    yardstick = cpu_seconds(lambda: products_read(few), tries=3)
    assert cpu_seconds(lambda: found.append(products_read(many)), tries=1) < 3 * 20 * yardstick
    assert len(numbers(found[0])) == 10_000
