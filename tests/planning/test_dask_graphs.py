"""Which products an expression reads: those that computing it reads, told without reading."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from dask.blockwise import Blockwise
from dask.delayed import delayed
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import for_each
from xarray.backends import BackendEntrypoint
from xarray.core import indexing

from hda_fsspec.lazy.arrays import HDABackendArray
from hda_fsspec.lazy.product_table import ProductTable, Source
from hda_fsspec.planning.dask_graphs import products_read
from hda_fsspec.reading.indexing import key_lengths
from hda_fsspec.records import Product
from hda_fsspec.settings import Settings

STEPS, PER_PIECE = 12, 2

# What was read, by the name of the source; what is in _forbidden must not be read now.
_read: dict[str, set[int]] = {}
_forbidden: list[str] = []


@dataclasses.dataclass(frozen=True)
class _Options:
    name: str


class ToyStack(HDABackendArray):
    """A stack of products of so many steps each, that notes which of them are read."""

    def __init__(
        self, source: Source, name: str, shape: tuple[int, ...], per_piece: int = PER_PIECE
    ) -> None:
        super().__init__(source, name, shape, np.dtype("f8"))
        self.per_piece = per_piece

    def product_numbers_at(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        """Return the numbers of the products below a key."""
        if 0 in key_lengths(key, self.shape):
            return np.zeros(0, dtype="i8")
        return np.unique(np.arange(self.shape[0])[key[0]] // self.per_piece)

    def read(self, key: tuple[Any, ...]) -> Any:
        """Return numbers that count up along all axes."""
        assert not _forbidden, f"{self.name} was read at {key}"
        name = getattr(self.source.options, "name", "")
        _read.setdefault(name, set()).update(self.product_numbers_at(key).tolist())
        values = np.arange(np.prod(self.shape), dtype=self.dtype).reshape(self.shape)
        return values[_outer(key, self.shape)]


def _outer(key: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    kept = [np.arange(size)[one] for one, size in zip(key, shape, strict=True)]
    axes = tuple(axis for axis, one in enumerate(kept) if np.ndim(one) == 0)
    grid = np.ix_(*[np.atleast_1d(one) for one in kept])
    return tuple(part.squeeze(axes) for part in np.broadcast_arrays(*grid))


def make_source(name: str, count: int) -> Source:
    """Return a source of so many products."""
    pieces = ProductTable([Product("EO:X", f"{name}{number:05}") for number in range(count)])
    options: Any = _Options(name)
    return Source(Settings(cache_dir=Path("/nowhere")), pieces, options)


class _Engine(BackendEntrypoint):
    """Opens ``toy://name`` as a stack with data, a lazy coordinate, and a lazy 1-D variable."""

    open_dataset_parameters = ("filename_or_obj", "drop_variables", "steps", "per_piece")

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: str,
        *,
        drop_variables: Any = None,
        steps: int = STEPS,
        per_piece: int = PER_PIECE,
    ) -> xr.Dataset:
        source = make_source(filename_or_obj.rpartition("/")[2], -(-steps // per_piece))

        def variable(name: str, *dims: str) -> xr.Variable:
            shape = tuple({"time": steps, "lat": 3, "lon": 4}[dim] for dim in dims)
            data = indexing.LazilyIndexedArray(ToyStack(source, name, shape, per_piece))
            return xr.Variable(dims, data, encoding={"preferred_chunks": {"time": per_piece}})

        return xr.Dataset(
            {
                "a": variable("a", "time", "lat", "lon"),
                "b": variable("b", "time", "lat", "lon"),
                "offset": variable("offset", "time"),
            },
            coords={
                "time": xr.date_range("2000-01-25", periods=steps, freq="D"),
                "lat": [10.0, 20.0, 30.0],
                "lon": [0.0, 1.0, 2.0, 3.0],
                "seconds": variable("seconds", "time"),
            },
        )


def open_toy(name: str = "one", *, chunked: bool = True, **options: Any) -> xr.Dataset:
    """Open a toy data set through xarray, as users do, with all of xarray's adapters round it."""
    chunks: dict[str, int] | None = {} if chunked else None
    return xr.open_dataset(f"toy://{name}", engine=_Engine, chunks=chunks, **options)


@pytest.fixture(autouse=True)
def _nothing_read() -> Iterator[None]:
    _read.clear()
    yield
    _forbidden.clear()


def told(*objects: Any) -> dict[str, set[int]]:
    """Return what is told to be read, while nothing may be read."""
    _forbidden.append("anything")
    found = products_read(*objects)
    _forbidden.clear()
    for numbers in found.values():
        assert numbers.tolist() == sorted(set(numbers.tolist()))
    return {getattr(source.options, "name", ""): set(n.tolist()) for source, n in found.items()}


def read_by(compute: Callable[[], Any]) -> dict[str, set[int]]:
    """Return what computing reads."""
    _read.clear()
    compute()
    return {name: numbers for name, numbers in _read.items() if numbers}


T0 = np.datetime64("2000-01-28", "ns")
POINTS = {
    "time": xr.DataArray([1, 7, 7], dims="p"),
    "lat": xr.DataArray([0, 2, 1], dims="p"),
}
Expression = Callable[[xr.Dataset], Any]
SELECTIONS: dict[str, Expression] = {
    "everything": lambda d: d,
    "one variable": lambda d: d.a,
    "its variable": lambda d: d.a.variable,
    "integer": lambda d: d.isel(time=5),
    "negative integer": lambda d: d.isel(time=-1),
    "slice": lambda d: d.isel(time=slice(3, 6)),
    "slice with step": lambda d: d.isel(time=slice(1, None, 5)),
    "negative step": lambda d: d.isel(time=slice(None, None, -4)),
    "backwards from the middle": lambda d: d.a.isel(time=slice(6, 2, -1), lat=slice(2, None, -1)),
    "list": lambda d: d.isel(time=[9, 0, 0], lon=[3, 1]),
    "negative list": lambda d: d.a.isel(time=[-1, 2]),
    "empty slice": lambda d: d.isel(time=slice(4, 4)),
    "empty other axis": lambda d: d[["a"]].isel(lat=slice(0, 0)).drop_vars("seconds"),
    "boolean mask": lambda d: d.a[(d["time.day"] % 5 == 0).values],
    "mask of nothing": lambda d: d.a[np.zeros(STEPS, dtype=bool)],
    "labels": lambda d: d.sel(time=slice("2000-01-27", "2000-01-29")),
    "nearest label": lambda d: d.sel(time=T0 + np.timedelta64(5, "h"), method="nearest"),
    "a month": lambda d: d.sel(time="2000-01"),
    "pointwise": lambda d: d.a.isel(POINTS),
    "pointwise, then sliced": lambda d: d.a.isel(POINTS).isel(p=slice(0, 1)),
    "pointwise, then a scalar": lambda d: d.a.isel(POINTS).isel(p=1, lon=2),
    "two-dimensional pointwise": lambda d: d.a.isel(time=xr.DataArray([[0, 5], [5, 2]])),
    "sliced twice": lambda d: d.a.isel(time=slice(2, None)).isel(time=slice(None, 5, 3)),
    "sliced, then a list": lambda d: d.a.isel(time=slice(8, 1, -2)).isel(time=[2, 0]),
    "list, then sliced": lambda d: d.a.isel(time=[8, 1, 3]).isel(time=slice(1, 3)),
    "transposed": lambda d: d.a.T.isel(time=slice(4, 6)),
    "transposed after": lambda d: d.isel(time=slice(4, 6)).transpose("lon", "time", "lat"),
    "sortby": lambda d: d.a.sortby("time", ascending=False).isel(time=0),
    "head": lambda d: d.head(time=3),
    "thin": lambda d: d.thin(time=7),
    "groupby, one group": lambda d: d.a.groupby("time.month")[2],
    "expanded": lambda d: d.a.isel(time=3).expand_dims("x"),
    "renamed": lambda d: d.rename(a="c", time="t").isel(t=slice(0, 1)).swap_dims(t="seconds"),
    "assigned": lambda d: d.assign(c=d.a).isel(time=[11]),
    "without its coordinate": lambda d: d.a.isel(time=2).reset_coords(drop=True),
    "decoded once more": lambda d: xr.decode_cf(
        d.assign(a=d.a.assign_attrs(scale_factor=2.0))
    ).isel(time=slice(5, 8)),
    "loaded": lambda d: d.isel(time=slice(0, 3)).load(),
    "partly loaded": lambda d: d.isel(time=slice(0, 3)).assign(a=d.a.isel(time=[0, 1, 2]).load()),
    "rechunked": lambda d: d.isel(time=slice(3, 9)).chunk(time=5),
    "part of rechunked": lambda d: d.a.chunk(time=3, lat=2).isel(time=[2, 3]),
    "deep copy": lambda d: d.isel(time=slice(3, 5)).copy(deep=False),
}
CHUNKED: dict[str, Expression] = {
    "persisted": lambda d: d.persist(),
    "partly persisted": lambda d: d.assign(a=d.a.persist()).isel(time=slice(3, 5)),
    "mean of a time range": lambda d: d.isel(time=slice(2, 5)).mean(),
    "mean over time, of a variable": lambda d: d.a.mean("time"),
    "resample": lambda d: d.a.resample(time="3D").mean().isel(time=slice(1, 3)),
    "groupby over time": lambda d: d.a.groupby("time.month").mean().isel(month=1),
    "anomaly": lambda d: d - d.mean("time"),
    "one step of the anomaly": lambda d: (d.b - d.b.mean("time")).isel(time=3),
    "climatology": lambda d: (d.a.groupby("time.month") - d.a.groupby("time.month").mean()).isel(
        time=0
    ),
    "rolling": lambda d: d.a.rolling(time=3).mean().isel(time=5),
    "diff": lambda d: d.a.diff("time").isel(time=1),
    "shift": lambda d: d.a.shift(time=2).isel(time=slice(4, 6)),
    "coarsen": lambda d: d.a.coarsen(time=4).max().isel(time=2),
    "cumulated": lambda d: d.a.cumsum("time").isel(time=4),
    "map_blocks": lambda d: xr.map_blocks(lambda x: x * 2, d[["a"]]).isel(time=slice(4, 5)),
    "map_blocks with what is not chunked": lambda d: xr.map_blocks(
        lambda x: x + 1, d[["a"]].assign(b=open_toy("two", chunked=False).offset)
    ),
    "apply_ufunc": lambda d: xr.apply_ufunc(np.sqrt, d.a, dask="parallelized").isel(time=0),
    "map_overlap": lambda d: d.a.copy(data=d.a.data.map_overlap(lambda x: x, 1)).isel(time=5),
    "where": lambda d: d.a.where(d.b > 3).isel(time=slice(0, 2)),
    "where with other": lambda d: d.a.where(d.offset > 3, 0).isel(time=7),
    "stack": lambda d: d.a.stack(z=("time", "lat")).isel(z=slice(4, 8)),
    "stack and unstack": lambda d: d.a.stack(z=("lat", "lon")).unstack("z").isel(time=6),
    "concat": lambda d: xr.concat([d.a.isel(time=[0]), d.a.isel(time=[9])], "time"),
    "reindexed": lambda d: d.a.reindex(time=xr.date_range("2000-01-20", periods=40)).isel(time=2),
    "interpolated": lambda d: d.a.isel(time=slice(0, 4)).interp(lat=15.0),
    "padded": lambda d: d.a.pad(time=1).isel(time=slice(0, 2)),
    "merge of two queries": lambda d: xr.merge(
        [d[["a"]], open_toy("two")[["b"]]], compat="override"
    ).isel(time=[1, 6]),
    "arithmetic of two queries": lambda d: (
        d.a.isel(time=slice(0, 4)) - open_toy("two").a.isel(time=slice(2, 9))
    ),
    "mean of two queries": lambda d: xr.concat([d, open_toy("two")], "q").isel(time=[4]).mean(),
    "a Dask array": lambda d: d.a.data[4:7, :, ::2].sum(),
    "a Dask array with a new axis": lambda d: d.a.data[5][None],
    "delayed": lambda d: delayed(lambda x: x.sum())(d.a.isel(time=[3]).data),
    "a bag of blocks": lambda d: delayed(list)(list(d.a.data.to_delayed().ravel()[1:3])),
    "a block that was not optimised": lambda d: d.a.data.to_delayed(optimize_graph=False)[3, 0, 0],
    "quantile": lambda d: d.a.chunk(time=-1).isel(lat=0).quantile(0.5, "time"),
    "polynomial": lambda d: d.a.isel(time=slice(0, 6)).mean("lat").polyfit("time", 1),
}


@pytest.mark.slow
@for_each(
    ("expression", "chunked"),
    [
        *((f, is_chunked) for f in SELECTIONS.values() for is_chunked in (True, False)),
        *((f, True) for f in CHUNKED.values()),
    ],
)
def test_what_is_told_is_what_compute_reads(expression: Expression, chunked: bool) -> None:
    """The products told are those that computing then reads: no more and no fewer."""
    made = expression(open_toy(chunked=chunked))

    expected = told(made)

    if isinstance(made, xr.Variable):
        assert read_by(made.load) == expected
        assert told(made) == {}
    else:
        assert read_by(made.compute) == expected
        assert told(made) == expected, "computing leaves what was computed lazy"


@pytest.mark.parametrize("chunked", [True, False])
def test_loaded_data_has_none(chunked: bool) -> None:
    """What was loaded reads nothing more, and what was computed from it neither."""
    dataset = open_toy(chunked=chunked).load()

    assert told(dataset) == told(dataset.a.mean()) == told(dataset.compute()) == {}


def test_several_objects_together() -> None:
    """Objects that are asked for together give the union of what each reads, by source."""
    one, two = open_toy("one"), open_toy("two", chunked=False)
    objects = [one.a.isel(time=0), one.b[11], two.offset[[4]], one.a.data[5], None, 3]

    assert told(*objects) == {"one": {0, 2, 5}, "two": {2}}


def test_equal_sources_are_one() -> None:
    """Two openings of one query are one source."""
    found = products_read(open_toy().a.isel(time=[0]), open_toy().b.isel(time=[9]))

    assert [numbers.tolist() for numbers in found.values()] == [[0, 4]]


Step = Callable[[xr.DataArray], xr.DataArray]
_positions = st.integers(0, 10_000)


def _has_steps(array: xr.DataArray) -> bool:
    # Dask computes wrong shapes, or fails, where a step over a chunk left an empty one.
    return array.sizes.get("time", 0) > 0 and 0 not in array.variable.chunksizes.get("time", ())


def _along_time(select: Callable[[int], Any]) -> Step:
    return lambda a: a.isel(time=select(a.sizes["time"])) if _has_steps(a) else a


_selecting = st.one_of(
    st.builds(
        lambda i, j, k: _along_time(lambda n: slice(i % n, i % n + j % n + 1, k)),
        _positions,
        _positions,
        st.sampled_from([None, 1, 2, 3]),
    ),
    st.builds(lambda k: _along_time(lambda n: slice(None, None, -k)), st.integers(1, 4)),
    st.builds(
        lambda many: _along_time(lambda n: [i % n for i in many]),
        st.lists(_positions, max_size=4),
    ),
    st.builds(
        lambda many: _along_time(lambda n: xr.DataArray([i % n for i in many], dims="time")),
        st.lists(_positions, min_size=1, max_size=4),
    ),
    st.just(lambda a: a.transpose(*reversed(a.dims))),
    st.just(lambda a: a.isel(lat=[2, 0]) if a.sizes.get("lat", 0) == 3 else a),
    st.just(lambda a: a.isel(lon=-1) if "lon" in a.dims else a),
    st.just(lambda a: a.copy(deep=False)),
)
_computing = st.one_of(
    st.just(lambda a: a + 1),
    st.just(lambda a: a.where(a > 5)),
    st.just(lambda a: a.shift(time=1) if a.sizes["time"] > 1 else a),
    st.just(lambda a: a - a.mean("time")),
    st.just(lambda a: a.chunk(time=3)),
    st.just(lambda a: a.rolling(time=2, min_periods=1).sum()),
    st.just(lambda a: xr.concat([a, a.isel(time=slice(0, 1))], "time")),
)


@pytest.mark.slow
@settings(deadline=None, derandomize=True)
@given(st.booleans(), st.lists(_selecting, max_size=5), st.lists(_computing, max_size=2))
def test_chains_of_operations(chunked: bool, before: list[Step], then: list[Step]) -> None:
    """Whatever was selected in whatever order, what is told is what is read."""
    array = open_toy(chunked=chunked).a
    for step in before:
        array = step(array)
    if chunked:
        for step in then:
            array = step(array) if _has_steps(array) else array

    expected = told(array)

    assert read_by(array.compute) == expected


def test_what_is_read_as_a_whole_is_told_without_its_tasks() -> None:
    """A data set as it was opened, or computed chunk by chunk, may have a hundred thousand."""
    ds = open_toy()
    for expression in (ds["a"], ds, ds["a"] + ds["b"] * 2.0):
        (numbers,) = products_read(expression).values()

        assert numbers.tolist() == [*range(STEPS // PER_PIECE)]
        arrays = [expression] if isinstance(expression, xr.DataArray) else expression.values()
        layers = [each for array in arrays for each in array.data.dask.layers.values()]
        # Once its tasks are made a layer keeps them.
        assert not any(getattr(each, "_cached_dict", None) for each in layers)
        assert any(isinstance(each, Blockwise) for each in layers)


def test_a_slice_of_very_many_chunks_is_told_without_the_names_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a hundred thousand chunks ten may be wanted: those that nobody wants are not named."""
    named: list[str] = []

    def output_keys(layer: Blockwise) -> set[Any]:
        named.append(layer.output)
        return set()

    monkeypatch.setattr(Blockwise, "get_output_keys", output_keys)

    found = told(open_toy()[["a", "offset"]].isel(time=slice(4, 6)))

    assert found == {"one": {2}}
    assert named == []
