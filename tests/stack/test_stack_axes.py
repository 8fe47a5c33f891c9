"""Products on a grid of axes: which of them a key reads, and where their values come."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from xarray.core import indexing

import hda_fsspec.engine.accessor  # noqa: F401  (registers ds.hda)
from hda_fsspec.errors import ProductMismatchError, QueryError
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.stack.arrays import StackArray
from hda_fsspec.stack.concat_dim import ConcatLayout
from hda_fsspec.stack.header import Header, VariableHeader
from hda_fsspec.stack.open_query import StackOptions, open_pieces
from hda_fsspec.stack.product_grid import KeyAxis, Pieces
from hda_fsspec.stack.stack import Stack, Template
from hda_fsspec.stack.stack_axes import NOTHING, Grid, GridAxis
from hda_fsspec.timeindex.catalogue_times import Prediction, SeenProduct
from hda_fsspec.timeindex.overlaps import Segments

DIMS = ("time", "level", "member")


class _Blocks(Stack):
    """A stack whose products are blocks of one array, which are read from memory."""

    def __init__(self, grid: Grid, template: Template, blocks: dict[int, Any]) -> None:
        super().__init__(
            None,  # type: ignore[arg-type]  # nothing is fetched
            grid,
            [template] * (1 if grid.kind_axis is None else grid.shape[grid.kind_axis]),
            on_missing="raise",
            grid_tolerance=None,
            mark="",
        )
        self.blocks = blocks
        self.was_read: list[int] = []

    def fetch_ahead(self, numbers: Sequence[int]) -> Iterator[tuple[int, Future[Any]]]:
        """Yield products at once."""
        for number in numbers:
            yield number, Future()

    def read(self, fetch: Any, number: int, name: str, key: tuple[Any, ...]) -> Any:
        """Return part of a block."""
        self.was_read.append(number)
        variable = xr.Variable(
            [f"d{n}" for n in range(self.blocks[number].ndim)], self.blocks[number]
        )
        return variable[key].values


def _segments(draw: Any, lengths: list[int]) -> Segments | None:
    """Return other steps than all of them in order: parts cut, turned round, left out."""
    if not draw(st.booleans()):
        return None
    found = []
    for part in draw(st.permutations(range(len(lengths)))):
        first = draw(st.integers(0, lengths[part]))
        count = draw(st.integers(0, lengths[part] - first))
        if count:
            found.append((part, first, count))
    return Segments(*np.array(found or np.zeros((0, 3)), np.int64).T.reshape(3, -1))


@st.composite
def grids(draw: Any) -> tuple[_Blocks, StackArray, np.ndarray[Any, Any]]:
    """Draw a grid, a variable on it, and what this is as one array."""
    count = draw(st.integers(1, 3))
    has_kinds = draw(st.booleans())
    lengths = [draw(st.lists(st.integers(0, 3), min_size=1, max_size=3)) for _ in range(count)]
    added = [draw(st.booleans()) for _ in range(count)]
    lengths = [[1] * len(its) if new else its for its, new in zip(lengths, added, strict=True)]
    axes = [
        GridAxis(dim, dim, np.array(its, np.int64), segments=_segments(draw, its))
        for dim, its in zip(DIMS, lengths, strict=False)
    ]
    other = draw(st.integers(1, 3))
    own = [dim for dim, new in zip(DIMS, added, strict=False) if not new]
    dims = draw(st.permutations([*own, "x"]))
    header = Header(
        {**dict.fromkeys(own, 1), "x": other},
        {
            "v": VariableHeader(
                tuple(dims), np.dtype("f8"), is_coordinate=False, attrs={}, encoding={}
            )
        },
        {},
    )
    layout = ConcatLayout(
        dim="time",
        is_new=added[0],
        has_index=False,
        is_from_catalogue=False,
        stacked=("v",),
        split_dims=tuple(DIMS[1:count]),
    )
    shape = [len(axis.lengths) for axis in axes]
    kind = 0
    if has_kinds:
        axes.insert(1, GridAxis.of_kinds(2))
        shape.insert(1, 2)
        kind = draw(st.integers(0, 1))
    cells = np.arange(np.prod(shape)).reshape(shape)
    is_full = not draw(st.booleans())
    if not is_full:
        gaps = np.array(draw(st.lists(st.booleans(), min_size=cells.size, max_size=cells.size)))
        cells = np.where(gaps.reshape(shape), NOTHING, 0).ravel()
        cells[cells == 0] = np.arange((cells == 0).sum())
        cells = cells.reshape(shape)
    out_dims = layout.dims_of(header, "v")
    sizes = {dim: sum(its) for dim, its in zip(DIMS, lengths, strict=False)} | {"x": other}
    whole = np.arange(np.prod([sizes[d] for d in out_dims]), dtype="f8")
    whole = whole.reshape([sizes[d] for d in out_dims])
    blocks: dict[int, Any] = {}
    ends = [np.cumsum([0, *its]) for its in lengths]
    for at in itertools.product(*(range(len(its)) for its in lengths)):
        cell = list(at)
        if has_kinds:
            cell.insert(1, kind)
        number = int(cells[tuple(cell)])
        place = {d: slice(e[p], e[p + 1]) for d, e, p in zip(DIMS, ends, at, strict=False)}
        where = tuple(place.get(dim, slice(None)) for dim in out_dims)
        if number == NOTHING:
            whole[where] = np.nan
        else:
            squeezed = [axis for axis, dim in enumerate(out_dims) if dim not in dims]
            blocks[number] = whole[where].squeeze(tuple(squeezed))
    for axis, its in zip([a for a in axes if a.dim], lengths, strict=True):
        if axis.segments is not None:
            whole = whole.take(
                axis.segments.steps(np.array(its)), axis=out_dims.index(str(axis.dim))
            )
    stack = _Blocks(
        Grid(tuple(axes), None if is_full else cells), Template(header, layout, 0), blocks
    )
    array = StackArray.__new__(StackArray)
    stack.source = None  # type: ignore[assignment]
    array.__init__(stack, kind, "v")  # type: ignore[misc]
    return stack, array, whole


@st.composite
def keys(draw: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Draw an outer key: an integer, a slice or a list of positions for each axis."""
    found: list[Any] = []
    for size in shape:
        edge = st.none() | st.integers(-size - 1, size + 1)
        ways: list[st.SearchStrategy[Any]] = [
            st.builds(slice, edge, edge, st.none() | st.integers(1, 3))
        ]
        if size:
            position = st.integers(-size, size - 1)
            lists = st.lists(position, max_size=5)
            ways += [position, lists.map(lambda numbers: np.array(numbers, np.int64))]
        found.append(draw(st.one_of(ways)))
    return tuple(found)


@pytest.mark.slow
@settings(deadline=None, max_examples=2 * settings().max_examples)
@given(st.data())
def test_any_key_of_any_grid_is_what_numpy_gives(data: Any) -> None:
    """Values come from where they would in one array, and no product is read for nothing."""
    stack, array, whole = data.draw(grids())
    assert array.shape == whole.shape
    key = data.draw(keys(array.shape))

    values = array[indexing.OuterIndexer(key)]

    wanted = whole
    for axis, part in reversed(list(enumerate(key))):
        wanted = wanted[(slice(None),) * axis + (part,)]
    np.testing.assert_array_equal(values, wanted)
    assert values.shape == wanted.shape
    lists = [np.arange(size)[part] for size, part in zip(array.shape, key, strict=True)]
    told = array.product_numbers_at(key).tolist()
    assert told == sorted(set(stack.was_read))
    if all(np.size(part) for part in lists):
        assert len(stack.was_read) == len(told)


LEVELS = (1000.0, 850.0, 500.0, 250.0)
PIECES, STEPS = 2, 3


def whole_field(name: str) -> xr.Dataset:
    """Return what all pieces of a query are parts of: levels from below, six-hourly times."""
    time = np.datetime64("2024-05-01", "ns") + np.arange(PIECES * STEPS) * np.timedelta64(6, "h")
    values = np.arange(PIECES * STEPS * 4 * 2, dtype="f4").reshape(PIECES * STEPS, 4, 2)
    field = xr.Dataset(
        {name: (("time", "level", "x"), values + (100 if name == "u" else 0), {"units": name})},
        coords={"time": time, "level": list(LEVELS), "x": [1.0, 2.0]},
    )
    field[f"surface_{name}"] = ("time", np.arange(1.0 * PIECES * STEPS))
    field[f"a_{name}"] = ("level", np.arange(4.0))
    field.time.encoding = {"units": "hours since 1950-01-01", "dtype": "i4"}
    return field


class Named:
    """The times that a request names itself, whatever a catalogue shows."""

    def __init__(self, times: Any) -> None:
        self.times = times

    def predict(self, known: Sequence[SeenProduct], *, asked: int) -> Prediction:
        """Return them."""
        assert (len(known), asked) == (1, 0)
        return Prediction(self.times, np.full(len(self.times) // STEPS, STEPS, np.int64))


def serve_pieces(
    stacks: Any,
    parts: Sequence[Sequence[float]],
    *,
    names: Sequence[str] = ("t", "u"),
    **given: Any,
) -> Any:
    """Serve a query that was cut by time, variable and level, and open it as one data set."""
    files = {}
    for time, name, (number, levels) in itertools.product(range(PIECES), names, enumerate(parts)):
        piece = whole_field(name).sel(level=[value for value in LEVELS if value in levels])
        piece = piece.isel(time=slice(time * STEPS, (time + 1) * STEPS))
        files[f"p{time}_{name}_{number}_2024050{time + 1}.nc"] = piece
    if given.pop("change", None):
        files = given.pop("changed")(files)
    stacks.serve(files)
    found = {p.product_id: p for p in stacks.client.search(_location(stacks))}
    products = [found[name] for name in files]
    pieces = Pieces(
        products,
        np.arange(len(products)).reshape(PIECES, len(names), len(parts)),
        lambda times, _: Named(
            whole_field(names[0]).time.values.reshape(PIECES, -1)[times].ravel()
        ),
        kinds=tuple(names) if len(names) > 1 else ("",),
        keys=(KeyAxis("pressure", tuple(tuple(str(int(v)) for v in part) for part in parts)),),
    )
    return open_pieces(stacks.client, "pieces", pieces, OpenOptions(), StackOptions(**given))


def _location(stacks: Any) -> Any:
    from hda_fsspec.paths.locations import Location

    return Location.parse(stacks.query)


PARTS: list[Any] = [
    [(1000, 850), (500, 250)],
    [(250, 500), (850, 1000)],
    [(1000,), (850,), (500,), (250,)],
    [(1000, 850, 500), (250,)],
]


@pytest.mark.slow
@pytest.mark.parametrize("parts", PARTS[:3])
def test_pieces_of_three_axes_are_the_whole(stacks: Any, parts: Any) -> None:
    """Cut by time, variable and level, put together it is what it was, in the order of files."""
    dataset = serve_pieces(stacks, parts)

    assert len(stacks.ordered) == 2
    wanted = xr.merge([whole_field("t"), whole_field("u")])
    xr.testing.assert_identical(dataset.drop_encoding(), wanted.drop_encoding())
    assert dataset.t.encoding["preferred_chunks"]["time"] == STEPS


@pytest.mark.slow
def test_one_piece_of_three_axes_is_read_alone(stacks: Any) -> None:
    """A cell is one order, and what plan() names is what is read, in a copy that travelled, too."""
    dataset = serve_pieces(stacks, PARTS[0])
    part = dataset.u.isel(time=[4, 5]).sel(level=500.0)
    assert [product.product_id for product in part.hda.products] == ["p1_u_1_20240502.nc"]
    assert len(stacks.ordered) == 2

    values = part.values

    np.testing.assert_array_equal(values, whole_field("u").u.isel(time=[4, 5]).sel(level=500))
    assert stacks.ordered[2:] == ["p1_u_1_20240502.nc"]
    travelled = pickle.loads(pickle.dumps(part))
    assert travelled.hda.products == part.hda.products
    np.testing.assert_array_equal(travelled.values, values)
    assert len(stacks.ordered) == 3


@pytest.mark.slow
def test_a_variable_without_levels_is_read_of_one_part(stacks: Any) -> None:
    """What all parts of a key hold alike is read of the first of them."""
    dataset = serve_pieces(stacks, PARTS[0])

    assert {p.product_id[-13:-12] for p in dataset.surface_t.hda.products} == {"0"}
    assert [p.product_id for p in dataset.a_u.hda.products] == [
        "p0_u_0_20240501.nc",
        "p0_u_1_20240501.nc",
    ]


@pytest.mark.slow
def test_chunks_follow_the_pieces(stacks: Any) -> None:
    """With chunks={} no chunk reads two products, and all of them give the whole."""
    dataset = serve_pieces(stacks, PARTS[3])
    dataset = dataset.chunk(dataset.t.encoding["preferred_chunks"])

    assert dataset.t.chunks == ((3, 3), (3, 1), (2,))
    assert all(
        len(dataset.t[3 * n : 3 * n + 3, k : k + 3].hda.products) == 1
        for n in range(PIECES)
        for k in (0,)
    )
    xr.testing.assert_equal(
        dataset.compute(scheduler="threads"), xr.merge([whole_field("t"), whole_field("u")])
    )


def _other_levels(files: dict[str, Any]) -> dict[str, Any]:
    name = "p1_t_1_20240502.nc"
    return files | {name: files[name].assign_coords(level=[500.0, 300.0])}


def _other_count(files: dict[str, Any]) -> dict[str, Any]:
    name = "p1_t_1_20240502.nc"
    return files | {name: files[name].isel(level=[0])}


def _other_times(files: dict[str, Any]) -> dict[str, Any]:
    name = "p1_t_1_20240502.nc"
    moved = files[name].time + np.timedelta64(1, "h")
    moved.encoding = files[name].time.encoding
    return files | {name: files[name].assign_coords(time=moved)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (_other_levels, "its level is 500.0 … 300.0, where 500.0 … 250.0 was predicted"),
        (_other_count, "1 steps along 'level', not 2"),
        (_other_times, "its time is 2024-05-01T19.* was predicted"),
    ],
)
def test_each_part_of_a_coordinate_is_checked(stacks: Any, changed: Any, says: str) -> None:
    """A piece of other levels or times than it was asked for is refused when it is read."""
    dataset = serve_pieces(stacks, PARTS[0], change=True, changed=changed)
    np.testing.assert_array_equal(dataset.t[:3], whole_field("t").t[:3])

    with pytest.raises(ProductMismatchError, match=says):
        dataset.t[3:].load()


def test_a_key_that_no_coordinate_holds(stacks: Any) -> None:
    """Values that are no coordinate of what was delivered cannot be put together."""
    with pytest.raises(
        QueryError, match=r"along 'pressure'.*\(1, 2, 3, …\).*out of split"
    ) as refused:
        serve_nonsense(stacks)

    assert refused.value.key == "split"


def serve_nonsense(stacks: Any) -> Any:
    """Open pieces that were asked for by something that they do not show."""
    stacks.serve({"p_20240501.nc": whole_field("t").isel(time=slice(STEPS))})
    products = stacks.client.search(_location(stacks))
    pieces = Pieces(
        products,
        np.zeros((1, 1, 1), np.int64),
        lambda _, __: Named(whole_field("t").time.values[:STEPS]),
        keys=(KeyAxis("pressure", (("1", "2", "3"),)),),
    )
    return open_pieces(stacks.client, "pieces", pieces, OpenOptions(), StackOptions())
