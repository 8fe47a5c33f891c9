"""Opening the tiles of a query side by side, as one lazy data set of one reference system."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hda_fsspec.client import Client
from hda_fsspec.errors import ProductMismatchError, no_products_error
from hda_fsspec.lazy.arrays import Closer, recipe_of
from hda_fsspec.lazy.product_table import ProductTable, Source
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable
from hda_fsspec.reading.essential_attributes import different_meaning, meaning_of
from hda_fsspec.reading.opening import OpenOptions
from hda_fsspec.records import Product, by_time
from hda_fsspec.stack.arrays import StackArray, TemplateArray
from hda_fsspec.stack.dataset import common_attrs, lazy_variable
from hda_fsspec.stack.lazy_tiles import (
    PLACE,
    LazyTileArray,
    SharedVariable,
    meaning_in_place,
    reference_system,
    side_of,
)
from hda_fsspec.stack.mosaic_arrays import MosaicArray
from hda_fsspec.stack.open_query import StackOptions
from hda_fsspec.stack.product_checks import is_promoted
from hda_fsspec.stack.product_kinds import find_kinds
from hda_fsspec.stack.tile_opening import TileOpener
from hda_fsspec.stack.tile_placement import MisplacedError, MosaicAxis, Placement
from hda_fsspec.stack.tiles import Tile, find_tiles, refuse_several_zones

_Array = np.ndarray[Any, Any]

_TEXT = "OSU"
_TREE = (
    'xr.open_datatree(…, engine="hda") opens each tile as a node, to bring them to one grid, with '
    "ds.rio.reproject_match for instance."
)


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A tile as a data set, and its name."""

    tile: Tile
    dataset: xr.Dataset


def open_mosaic(
    client: Client, location: Location, options: OpenOptions, how: StackOptions
) -> xr.Dataset:
    """Open the tiles of a query side by side, as one lazy data set.

    Where tiles overlap, values are those of the first one by product id that has a product at
    that time; where there is no tile they are missing.

    Raises
    ------
    ProductMismatchError
        Tiles differ in their coordinate reference system, their resolution, or in where their
        pixels lie.
    QueryError, HDAError
        As :meth:`hda_fsspec.stack.tile_opening.TileOpener.open`.
    """
    found = sorted(client.search(location), key=by_time)
    if not found:
        raise no_products_error("open", location.path)
    tiles = find_tiles(found, need_names=False)
    if not tiles:
        tiles = [Tile("", tuple(found), find_kinds(found))]
    refuse_several_zones(location.path, tiles)
    datasets = TileOpener(client, location, options, how).open_lazily(tiles)
    opened = [_Opened(tile, datasets[tile.name]) for tile in tiles]
    return _Mosaic(client, location.path, opened, options).dataset()


class _Mosaic:
    """Tiles that are being put side by side."""

    def __init__(
        self, client: Client, path: str, opened: Sequence[_Opened], options: OpenOptions
    ) -> None:
        self._path = path
        self._opened = opened
        pieces = [_products_of(tile.dataset) for tile in opened]
        table = ProductTable([product for per_tile in pieces for product in per_tile])
        self._source = Source(client.settings, table, options)
        counts = [len(per_tile) for per_tile in pieces]
        self._begins = (np.cumsum(counts) - counts).tolist()
        #: Of each variable the first tile that has it.
        self._holders: dict[str, _Opened] = {}
        for tile in opened:
            for name in tile.dataset.variables:
                self._holders.setdefault(str(name), tile)
        self._mapping = self._same_grid_mapping()
        self._y, self._x = self._axis(is_x=False), self._axis(is_x=True)
        self._time, self._times, self._index = self._same_times()
        self._refuse_other_variables()

    def dataset(self) -> xr.Dataset:
        """Put the variables together."""
        first = self._opened[0].dataset
        variables = {name: self._variable(name) for name in self._holders}
        for axis in (self._y, self._x):
            mine = first.variables[axis.dim]
            variables[axis.dim] = xr.Variable(
                (axis.dim,), axis.coordinate, mine.attrs, dict(mine.encoding)
            )
        attrs = common_attrs(first.attrs, [tile.dataset.attrs for tile in self._opened])
        dataset = xr.Dataset(variables, attrs=attrs)
        coords = {name for name, tile in self._holders.items() if name in tile.dataset.coords}
        dataset = dataset.set_coords(sorted(coords))
        dataset.encoding["source"] = self._path
        ids: list[str] = []
        for tile in self._opened:
            template = tile.dataset.encoding["hda_template"]
            ids += [template] if isinstance(template, str) else template
        dataset.encoding["hda_template"] = ids[0] if len(ids) == 1 else ids
        dataset.set_close(Closer(self._source))
        return dataset

    def _refuse_other_variables(self) -> None:
        """Refuse tiles that lack a variable, unless that is one of a kind of products."""
        for name, holder in self._holders.items():
            mine = holder.dataset.variables[name]
            for tile in self._opened:
                theirs = tile.dataset.variables.get(name)
                if theirs is None and self._time in mine.dims and name != self._time:
                    continue  # missing there
                if theirs is None or theirs.dims != mine.dims:
                    has = "lacks it" if theirs is None else f"has it along {theirs.dims}"
                    what = (
                        f"{name!r} lies along {mine.dims} in one, and the other {has}. Narrow the "
                        f"query to tiles of one kind, or open with drop_variables=[{name!r}]."
                    )
                    raise self._differ(holder, tile, what)
                self._refuse_other_meaning(name, holder, tile)
                for dim, size in theirs.sizes.items():
                    is_free = dim in {self._time, self._x.dim, self._y.dim}
                    if not is_free and size != mine.sizes[dim]:
                        what = f"{name!r} has {mine.sizes[dim]} and {size} elements along {dim!r}."
                        raise self._differ(holder, tile, what)

    def _refuse_other_meaning(self, name: str, one: _Opened, other: _Opened) -> None:
        """Refuse a variable that is another thing in another tile."""
        mine, theirs = (tile.dataset.variables[name] for tile in (one, other))
        here, there = (_meaning_of(variable) for variable in (mine, theirs))
        attr = different_meaning(here, there)
        what = f"the {attr} of {name!r} is {here.get(attr or '')!r} and {there.get(attr or '')!r}"
        if attr is None and is_promoted(mine.dtype, theirs.dtype):
            return
        if attr is None:
            if mine.dtype.kind in _TEXT and theirs.dtype.kind in _TEXT:
                return
            what = f"{name!r} is of dtype {mine.dtype} and {theirs.dtype}"
        raise self._differ(one, other, f"{printable(what)}. Narrow the query to tiles of one kind.")

    def _differ(self, one: _Opened, other: _Opened, what: str) -> ProductMismatchError:
        names = [printable(opened.tile.products[0].product_id) for opened in (one, other)]
        return ProductMismatchError(
            f"The tiles of {names[0]} and {names[1]} cannot be put side by side: {what}"
        )

    def _same_grid_mapping(self) -> dict[str, dict[str, Any]]:
        """Return the attributes of grid mappings, of which all tiles have the same."""
        found: dict[str, dict[str, Any]] = {}
        first = self._opened[0]
        for name, variable in first.dataset.variables.items():
            mine = reference_system(variable)
            if variable.dims or not mine:
                continue
            for tile in self._opened[1:]:
                theirs = reference_system(tile.dataset.variables.get(name, xr.Variable((), 0)))
                differs = different_meaning(mine, theirs)
                if differs is not None or mine.keys() != theirs.keys():
                    here, there = (_name_of_system(system) for system in (mine, theirs))
                    what = f"their coordinate reference systems are {here} and {there}. {_TREE}"
                    raise self._differ(first, tile, what)
            found[str(name)] = dict(variable.attrs)
        return found

    def _axis(self, *, is_x: bool) -> MosaicAxis:
        first = self._opened[0].dataset
        dim = side_of(first, is_x=is_x)
        if dim is None:
            own = ", ".join(sorted(map(str, first.coords))) or "none"
            msg = (
                f"The products of {self._path} have no coordinate {'x' if is_x else 'y'!r} along "
                f"which they could be put side by side; their coordinates: {own}. {_TREE}"
            )
            raise ProductMismatchError(msg)
        values = [tile.dataset.variables[dim].values for tile in self._opened]
        steps = [self._resolution(tile.dataset, 1 if is_x else 5) for tile in self._opened]
        try:
            return MosaicAxis.of_tiles(dim, values, steps)
        except MisplacedError as err:
            one, other = (self._opened[number] for number in err.tiles)
            raise self._differ(one, other, f"{err}. {_TREE}") from err

    def _resolution(self, dataset: xr.Dataset, place: int) -> float | None:
        for name in self._mapping:
            numbers = _transform(dataset.variables[name].attrs)
            if numbers is not None:
                return numbers[place]
        return None

    def _same_times(self) -> tuple[str | None, _Array | None, _Array | None]:
        """Return the dimension of time, which step of each tile a step is, and the index."""
        first = self._opened[0].dataset
        dims = {
            recipe.stack.templates[recipe.kind].layout.dim
            for tile in self._opened
            for variable in tile.dataset.variables.values()
            if isinstance(recipe := recipe_of(variable), StackArray)
        }
        dim = next(iter(sorted(dims)), None)
        if dim is None:
            return None, None, None
        lengths = [tile.dataset.sizes[dim] for tile in self._opened]
        if dim not in first.variables:
            if len(set(lengths)) > 1:
                raise self._other_times(dim, "have other numbers of steps, and no times")
            return dim, np.tile(np.arange(lengths[0]), (len(lengths), 1)), None
        values = [tile.dataset.variables[dim].values for tile in self._opened]
        if all(np.array_equal(coordinate, values[0]) for coordinate in values):
            return dim, np.tile(np.arange(lengths[0]), (len(lengths), 1)), values[0]
        try:
            every = np.unique(np.concatenate(values))
        except TypeError:
            raise self._other_times(dim, "have times of several calendars") from None
        times = np.full((len(values), len(every)), -1, np.int64)
        for number, coordinate in enumerate(values):
            if len(np.unique(coordinate)) < len(coordinate):
                raise self._other_times(dim, "have several steps of one time")
            times[number, np.searchsorted(every, coordinate)] = np.arange(len(coordinate))
        return dim, times, every

    def _other_times(self, dim: str, what: str) -> ProductMismatchError:
        return ProductMismatchError(
            f"The tiles of {self._path} {what} along {dim!r}, so that it is not known which of "
            f"them belong together. Narrow the query to one time; {_TREE}"
        )

    def _variable(self, name: str) -> xr.Variable:
        mine = self._holders[name].dataset.variables[name]
        if name == self._time and self._index is not None:
            return xr.Variable((name,), self._index, mine.attrs, dict(mine.encoding))
        axes = tuple(axis for axis in (self._y, self._x) if axis.dim in mine.dims)
        if not axes:
            return self._shared(name, mine)
        is_in_time = self._time in mine.dims
        times = self._presence(name) if is_in_time else None
        placement = Placement(axes, self._time if is_in_time else None, times)
        dims = tuple(map(str, mine.dims))
        nothing = np.empty((0,) * mine.ndim, mine.dtype)
        tiles = [
            _data_of(tile.dataset.variables[name]) if name in tile.dataset.variables else nothing
            for tile in self._opened
        ]
        array = MosaicArray(
            self._source, name, dims, tiles, begins=self._begins, placement=placement
        )
        encoding = {k: v for k, v in mine.encoding.items() if k != "preferred_chunks"}
        variable = lazy_variable(dims, array, mine.attrs, encoding)
        preferred: dict[str, Any] = {axis.dim: axis.chunks for axis in axes}
        if is_in_time and self._time is not None:
            lengths = {tile.dataset.sizes[self._time] for tile in self._opened}
            is_same = lengths == {array.shape[dims.index(self._time)]}
            own = mine.encoding.get("preferred_chunks", {}).get(self._time, 1)
            preferred[self._time] = own if is_same else 1
        variable.encoding["preferred_chunks"] = preferred
        return variable

    def _presence(self, name: str) -> _Array | None:
        """Return which step of each tile has a product of a variable; -1 for none."""
        if self._times is None:
            return None
        times = self._times.copy()
        for number, tile in enumerate(self._opened):
            variable = tile.dataset.variables.get(name)
            if variable is None:
                times[number] = -1
                continue
            recipe = recipe_of(variable)
            if isinstance(recipe, StackArray | LazyTileArray):
                there = recipe.steps_with_products(str(self._time))
                steps = times[number]
                steps[(steps >= 0) & ~there[steps]] = -1
        return times

    def _shared(self, name: str, mine: xr.Variable) -> xr.Variable:
        """Return a variable that lies along no side: it must be the same in all tiles."""
        if name in self._mapping:
            found = mine.copy(deep=False)
            found.attrs = self._placed(dict(mine.attrs), self._opened.index(self._holders[name]))
            return found
        holder = self._holders[name]
        for tile in self._opened:
            theirs = tile.dataset.variables.get(name)
            if tile is not holder and (theirs is None or not self._is_same(mine, theirs)):
                what = (
                    f"{name!r}, which lies along neither {self._y.dim!r} nor {self._x.dim!r}, "
                    "is not known to be the same in both. Leave it out with "
                    f"drop_variables=[{name!r}]."
                )
                raise self._differ(holder, tile, what)
        return mine

    def _is_same(self, mine: xr.Variable, theirs: xr.Variable) -> bool:
        """Whether a variable is the same in two tiles, as far as their headers tell."""
        here, there = SharedVariable.of(mine), SharedVariable.of(theirs)
        if here.is_same(there):
            return True
        recipe = recipe_of(mine)
        if (
            isinstance(recipe, StackArray)
            and self._times is not None
            and here.has_meaning_of(there)
        ):
            # The bounds of equal times; each product's are checked when it is read.
            template = recipe.stack.templates[recipe.kind]
            is_equal = bool((self._times == self._times[0]).all())
            return is_equal and recipe.name in template.layout.bounds_of(template.header)
        return False

    def _placed(self, attrs: dict[str, Any], tile: int) -> dict[str, Any]:
        """Return the attributes of the grid mapping of a tile with the place of the whole."""
        numbers = _transform(attrs)
        if numbers is None:
            return attrs
        x, dx, _, y, _, dy = numbers
        x -= int(self._x.firsts[tile]) * dx
        y -= int(self._y.firsts[tile]) * dy
        numbers = [x, dx, numbers[2], y, numbers[4], dy]
        return {**attrs, PLACE: " ".join(map(str, numbers))}


def _products_of(dataset: xr.Dataset) -> Sequence[Product]:
    """Return the products of a tile, by their numbers."""
    recipes = [recipe_of(variable) for variable in dataset.variables.values()]
    # What all tiles share may be another tile's.
    own = [recipe for recipe in recipes if isinstance(recipe, StackArray | LazyTileArray)]
    source = next((recipe.source for recipe in (*own, *recipes) if recipe is not None), None)
    return () if source is None else source.pieces


def _meaning_of(variable: xr.Variable) -> dict[str, Any]:
    recipe = recipe_of(variable)
    if isinstance(recipe, LazyTileArray):
        return recipe.meaning
    if isinstance(recipe, StackArray | TemplateArray):
        return meaning_in_place(recipe)
    return {k: v for k, v in meaning_of(variable.attrs).items() if k != PLACE}


def _data_of(variable: xr.Variable) -> Any:
    recipe = recipe_of(variable)
    return np.asarray(variable.values) if recipe is None else recipe


def _name_of_system(attrs: Mapping[str, Any]) -> str:
    text = str(attrs.get("crs_wkt") or attrs.get("spatial_ref") or attrs.get("grid_mapping_name"))
    name = attrs.get("projected_crs_name") or attrs.get("geographic_crs_name")
    if name and name != "unknown":
        return printable(name)
    quoted = text.split('"')
    return printable(quoted[1] if len(quoted) > 1 else text)


def _transform(attrs: Mapping[str, Any]) -> list[float] | None:
    try:
        numbers = [float(number) for number in str(attrs[PLACE]).split()]
    except (KeyError, ValueError):
        return None
    return numbers if len(numbers) == 6 else None
