"""Tiles that are opened when they are first read: until then another tile stands for what they are.

Where a tile lies is predicted, and so are its times, which are those of the catalogue. All of it is
checked when the tile is opened; one that differs raises, so that nothing is silently misplaced.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hda_fsspec.client import get_client
from hda_fsspec.errors import ProductMismatchError
from hda_fsspec.lazy import openfiles
from hda_fsspec.lazy.arrays import HDABackendArray, recipe_of
from hda_fsspec.lazy.product_table import ProductTable, Source
from hda_fsspec.printable import printable
from hda_fsspec.reading.essential_attributes import GRID_MAPPING, different_meaning, meaning_of
from hda_fsspec.reading.indexing import Key, with_missing
from hda_fsspec.reading.opening import OpenOptions
from hda_fsspec.settings import Settings
from hda_fsspec.stack.arrays import StackArray, TemplateArray
from hda_fsspec.stack.dataset import lazy_variable
from hda_fsspec.stack.mosaic_placement import TOLERANCE
from hda_fsspec.stack.open_query import StackOptions, open_pieces
from hda_fsspec.stack.product_grid import Pieces, start_times
from hda_fsspec.stack.stack_axes import NOTHING
from hda_fsspec.stack.tiles import Tile

_Array = np.ndarray[Any, Any]

#: Where a raster lies; of tiles that differs.
PLACE = "GeoTransform"
_X = (
    ("x", "lon", "longitude", "rlon"),
    ("projection_x_coordinate", "longitude", "grid_longitude"),
)
_Y = (
    ("y", "lat", "latitude", "rlat"),
    ("projection_y_coordinate", "latitude", "grid_latitude"),
)
_STEP = "Open the tiles with scan=True, which looks at all of them first, or each by itself."


@dataclasses.dataclass(frozen=True)
class SharedVariable:
    """What two tiles must have alike of a variable.

    Attributes
    ----------
    dims : tuple of str
        Its dimensions.
    meaning : mapping
        The attributes that carry meaning, apart from the place.
    values : numpy.ndarray, str or None
        The values, or their digest; None where they differ, or are not known.
    """

    dims: tuple[str, ...]
    meaning: Mapping[str, Any]
    values: _Array | str | None

    @classmethod
    def of(cls, variable: xr.Variable) -> SharedVariable:
        """Return that of a variable that lies along no side."""
        recipe = recipe_of(variable)
        values: _Array | str | None = None
        if recipe is None:
            values = np.asarray(variable.values)
        elif isinstance(recipe, TemplateArray):
            values = recipe.stack.templates[recipe.kind].header.variables[recipe.name].digest
        meaning = {k: v for k, v in meaning_of(variable.attrs).items() if k != PLACE}
        return cls(tuple(map(str, variable.dims)), meaning, values)

    def has_meaning_of(self, other: SharedVariable) -> bool:
        """Whether the two mean the same, along the same dimensions."""
        same = different_meaning(self.meaning, other.meaning) is None
        return same and self.dims == other.dims

    def is_same(self, other: SharedVariable) -> bool:
        """Whether they have the same values, too, as far as that is known."""
        mine, theirs = self.values, other.values
        if not self.has_meaning_of(other):
            return False
        if isinstance(mine, str) and isinstance(theirs, str):
            return mine == theirs
        if not isinstance(mine, np.ndarray) or not isinstance(theirs, np.ndarray):
            return False
        are_floats = mine.dtype.kind == theirs.dtype.kind == "f"
        return bool(np.array_equal(mine, theirs, equal_nan=are_floats))


@dataclasses.dataclass(frozen=True)
class LikeAnother:
    """The expected structure of a tile: that of another one, but for its place.

    Attributes
    ----------
    product_id : str
        A product of the other tile, for messages.
    first : mapping of str to float
        The first value of each of the dimensions of its sides.
    steps : mapping of str to float
        From one value to the next.
    system : mapping
        The attributes that tell its coordinate reference system.
    shared : mapping of str to SharedVariable
        The variables that all tiles have alike, and its sides.
    """

    product_id: str
    first: Mapping[str, float]
    steps: Mapping[str, float]
    system: Mapping[str, Any]
    shared: Mapping[str, SharedVariable]


class LazyTile:
    """A tile that is opened when it is read.

    Parameters
    ----------
    settings : Settings
        Which service, as whom, with which cache.
    path : str
        What is opened, for messages.
    tile : Tile
        Its products. They have one time each, which is that of the catalogue.
    options : OpenOptions
        How each is opened.
    how : StackOptions
        How they are put together.
    like : LikeAnother
        What it must be like.
    """

    def __init__(
        self,
        settings: Settings,
        path: str,
        tile: Tile,
        *,
        options: OpenOptions,
        how: StackOptions,
        like: LikeAnother,
    ) -> None:
        self.path = path
        self.kinds = tile.kinds
        self.how = how
        self.like = like
        self.source = Source(settings, ProductTable(tile.products), options)
        pieces = Pieces.of_search(tile.products, tile.kinds)
        self.cells = pieces.cells
        firsts = np.where(self.cells == NOTHING, len(tile.products), self.cells).min(axis=1)
        #: The time of each step, as stacks of what has no time of its own have it.
        self.times = start_times(
            [(tile.products[n].product_id, tile.products[n].startdate) for n in firsts.tolist()]
        )
        self._opened: dict[str, xr.Dataset] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    @property
    def has_times_of_its_own(self) -> bool:
        """Whether all steps have a time, and no two of them the same."""
        is_told = not np.isnat(self.times).any()
        columns = [self.cells_of(kind) for kind in self.kinds]
        counts = [len(numbers) for numbers in self.kinds.values()]
        is_whole = all(
            int((column != NOTHING).sum()) == count
            for column, count in zip(columns, counts, strict=True)
        )
        return bool(is_told and is_whole and len(np.unique(self.times)) == len(self.times))

    def cells_of(self, kind: str) -> _Array:
        """Return the number of the product of each step; ``NOTHING`` where there is none."""
        found: _Array = self.cells[:, list(self.kinds).index(kind)]
        return found

    def array(self, kind: str, name: str, number: int) -> StackArray:
        """Return a variable of a kind of products, opened by way of one of these.

        Raises
        ------
        ProductMismatchError
            The tile is not as it was expected to be.
        """
        if kind not in self._opened:
            # Local, it is what is looked at: to read it orders no other product.
            openfiles.make_local(self.source, number)
            self._opened[kind] = self._open(kind)
        dataset = self._opened[kind]
        for variable in dataset.variables.values():
            recipe = recipe_of(variable)
            if isinstance(recipe, StackArray) and recipe.name == name:
                return recipe
        raise self._differs(f"it lacks the variable {name!r}")

    def _open(self, kind: str) -> xr.Dataset:
        products = [self.source.pieces[number] for number in self.kinds[kind]]
        alone = {kind: list(range(len(products)))}
        client = get_client(self.source.settings)
        pieces = Pieces.of_search(products, alone)
        dataset = open_pieces(client, self.path, pieces, self.source.options, self.how)
        self._check(dataset)
        return dataset

    def _check(self, dataset: xr.Dataset) -> None:
        for dim, first in self.like.first.items():
            step = self.like.steps[dim]
            if dim not in dataset.variables:
                raise self._differs(f"it has no coordinate {dim!r}")
            values = dataset.variables[dim].values.astype("f8")
            own = (values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else step
            if abs(own - step) * len(values) > TOLERANCE * abs(step):
                raise self._differs(
                    f"its resolution along {dim!r} is {abs(own):.10g}, not {abs(step):.10g}"
                )
            if abs(values[0] - first) > TOLERANCE * abs(step):
                raise self._differs(
                    f"it begins at {dim} = {values[0]:.10g}, where {first:.10g} was predicted"
                )
        like, own_system = self.like.system, system_of(dataset)
        if like.keys() != own_system.keys() or different_meaning(like, own_system) is not None:
            raise self._differs("its coordinate reference system is another one")
        for name, shared in self.like.shared.items():
            variable = dataset.variables.get(name)
            if variable is None and len(self.kinds) > 1:
                continue  # it is of products of another kind
            if variable is None:
                raise self._differs(f"it lacks the variable {name!r}")
            its_own = SharedVariable.of(variable)
            # Where it lies is told before; the value of a grid mapping says nothing.
            is_mapping = bool(reference_system(variable))
            is_same = shared.is_same(its_own)
            if name in self.like.first or is_mapping:
                is_same = shared.has_meaning_of(its_own)
            if not is_same:
                raise self._differs(f"its variable {name!r} is another one")

    def check(
        self,
        array: StackArray,
        shape: Sequence[int],
        dtype: np.dtype[Any],
        meaning: Mapping[str, Any],
    ) -> None:
        """Raise ProductMismatchError unless a variable is as it was expected to be."""
        if array.shape[1:] != tuple(shape[1:]):
            raise self._differs(f"{array.name!r} has {array.shape[1:]} elements, not {shape[1:]}")
        if not np.can_cast(array.dtype, dtype, "safe"):
            raise self._differs(f"{array.name!r} is of dtype {array.dtype}, not {dtype}")
        own = meaning_in_place(array)
        attr = different_meaning(meaning, own)
        if attr is not None:
            raise self._differs(
                f"the {attr} of {array.name!r} is {own.get(attr)!r}, not {meaning.get(attr)!r}"
            )

    def _differs(self, what: str) -> ProductMismatchError:
        mine = printable(self.source.pieces[0].product_id)
        other = printable(self.like.product_id)
        return ProductMismatchError(
            f"The tiles of {other} and {mine} cannot be put side by side: the latter was taken to "
            f"be like the former until it was read, but {printable(what)}. {_STEP}"
        )


class LazyTileArray(HDABackendArray):
    """A variable of a tile that is opened when it is read; its first dimension is that of time.

    Parameters
    ----------
    tile : LazyTile
        The tile.
    kind, name : str
        Which kind of products has it, and what they call it.
    shape, dtype, meaning
        As expected.
    """

    def __init__(
        self,
        tile: LazyTile,
        kind: str,
        name: str,
        *,
        shape: Sequence[int],
        dtype: np.dtype[Any],
        meaning: Mapping[str, Any],
    ) -> None:
        super().__init__(tile.source, name, shape, dtype)
        self.tile = tile
        self.kind = kind
        self.meaning = dict(meaning)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        like, how = self.tile.like, dataclasses.astuple(self.tile.how)
        place = (sorted(like.first.items()), sorted(like.steps.items()))
        return (*super().__dask_tokenize__(), self.kind, str(self.dtype), how, place)

    def read(self, key: Key) -> Any:
        """Return the values at a key; the tile is opened first."""
        steps, there = self._steps(key)
        array = self.tile.array(self.kind, self.name, int(steps[0]))
        self.tile.check(array, self.shape, self.dtype, self.meaning)
        # The stack of one kind has no steps at which that has no product.
        places = np.cumsum(there) - 1
        positions = np.atleast_1d(np.arange(len(there))[key[0]])
        own: Any = places[positions]
        own = int(own[0]) if np.ndim(key[0]) == 0 and not isinstance(key[0], slice) else own
        return np.asarray(array.read((own, *key[1:]))).astype(self.dtype, copy=False)

    def product_numbers_at(self, key: Key) -> _Array:
        """Return the numbers of the products that reading a key would read, sorted, each once."""
        return np.unique(self._steps(key)[0])

    def steps_with_products(self, dim: str) -> _Array:
        """Return for each step of time whether some product has it, as flags."""
        del dim  # it is the first one
        found: _Array = self.tile.cells_of(self.kind) != NOTHING
        return found

    def _steps(self, key: Key) -> tuple[_Array, _Array]:
        """Return the products of the steps of a key, and which of all steps have one."""
        cells = self.tile.cells_of(self.kind)
        there: _Array = cells != NOTHING
        numbers = np.atleast_1d(cells[key[0]])
        return numbers[numbers != NOTHING], there


def meaning_in_place(array: StackArray | TemplateArray) -> dict[str, Any]:
    """Return what the values of a variable mean, apart from where they lie."""
    header = array.stack.templates[array.kind].header.variables[array.name]
    return {name: value for name, value in header.meaning.items() if name != PLACE}


def is_predictable(dataset: xr.Dataset, sides: Sequence[str]) -> bool:
    """Whether all of a tile that has a place lies along time, which the catalogue tells."""
    for name, variable in dataset.variables.items():
        if name in sides or set(sides).isdisjoint(variable.dims):
            continue
        recipe = recipe_of(variable)
        if not isinstance(recipe, StackArray):
            return False
        layout = recipe.stack.templates[recipe.kind].layout
        if not layout.is_from_catalogue or layout.split_dims or variable.dims[0] != layout.dim:
            return False
    return True


def side_of(dataset: xr.Dataset, *, is_x: bool) -> str | None:
    """Return the dimension along which tiles lie east and west of each other, or north and south.

    It is told by its standard name, else by its own.
    """
    names, standard = _X if is_x else _Y
    indexes = [n for n, v in dataset.variables.items() if v.dims == (n,) and v.dtype.kind in "iuf"]
    by_standard = [n for n in indexes if dataset[n].attrs.get("standard_name") in standard]
    by_name = [n for n in names if n in indexes]
    return next((str(n) for n in (*by_standard, *by_name)), None)


def shared_of(dataset: xr.Dataset, sides: Sequence[str]) -> dict[str, SharedVariable]:
    """Return the sides of a tile, and what lies along neither them nor time."""
    recipes = map(recipe_of, dataset.variables.values())
    times = {
        recipe.stack.templates[recipe.kind].layout.dim
        for recipe in recipes
        if isinstance(recipe, StackArray)
    }
    apart = times.union(sides)
    return {
        str(name): SharedVariable.of(variable)
        for name, variable in dataset.variables.items()
        if name in sides or apart.isdisjoint(variable.dims)
    }


def reference_system(variable: xr.Variable) -> dict[str, Any]:
    """Return the attributes of a grid mapping that tell its reference system, not the place."""
    return {
        name: value
        for name, value in variable.attrs.items()
        if name in GRID_MAPPING and name != PLACE
    }


def system_of(dataset: xr.Dataset) -> dict[str, Any]:
    """Return the attributes that tell the coordinate reference system, but not the place."""
    for variable in dataset.variables.values():
        found = reference_system(variable)
        if found and not variable.dims:
            return found
    return {}


def dataset_like(lazy: LazyTile, like: xr.Dataset) -> xr.Dataset:
    """Return a tile as it is expected to be: as another one, with its own times and place."""
    recipes = map(recipe_of, like.variables.values())
    stacked = [recipe for recipe in recipes if isinstance(recipe, StackArray)]
    time = stacked[0].stack.templates[stacked[0].kind].layout.dim
    variables: dict[Any, xr.Variable] = {}
    for name, variable in like.variables.items():
        first = lazy.like.first.get(str(name))
        if first is not None:
            own = first + lazy.like.steps[str(name)] * np.arange(variable.size)
            own = own.astype(variable.dtype)
            variables[name] = xr.Variable(variable.dims, own, variable.attrs, variable.encoding)
            continue
        if name == time:
            times = lazy.times.astype(variable.dtype)
            variables[name] = xr.Variable((time,), times, variable.attrs, variable.encoding)
            continue
        recipe = recipe_of(variable)
        if not isinstance(recipe, StackArray):
            variables[name] = variable
            continue
        kind = recipe.stack.templates[recipe.kind].kind
        if kind not in lazy.kinds:
            continue
        header = recipe.stack.templates[recipe.kind].header.variables[recipe.name]
        has_gaps = bool((lazy.cells_of(kind) == NOTHING).any())
        dtype = with_missing(header.dtype) if has_gaps else header.dtype
        shape = (len(lazy.times), *recipe.shape[1:])
        meaning = meaning_in_place(recipe)
        array = LazyTileArray(lazy, kind, recipe.name, shape=shape, dtype=dtype, meaning=meaning)
        dims = tuple(map(str, variable.dims))
        variables[name] = lazy_variable(dims, array, variable.attrs, variable.encoding)
    dataset = xr.Dataset(variables, attrs=like.attrs)
    dataset = dataset.set_coords([name for name in like.coords if name in variables])
    dataset.encoding["hda_template"] = []
    return dataset
