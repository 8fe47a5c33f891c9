"""Opening a query of tiles: each a stack of its own, or all of one reference system side by side.

One product of each tile and kind is looked at; everything else stays lazy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hda_fsspec.client import Client
from hda_fsspec.errors import ProductMismatchError, QueryError, no_products_error
from hda_fsspec.lazy.arrays import Closer, recipe_of
from hda_fsspec.lazy.product import Nodes, check_can_be_read, open_query_tree
from hda_fsspec.lazy.sources import ProductTable, Source
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable
from hda_fsspec.reading.meaning import GRID_MAPPING, different_meaning, meaning_of
from hda_fsspec.reading.opening import OpenOptions
from hda_fsspec.records import Product
from hda_fsspec.stack.arrays import StackArray, TemplateArray
from hda_fsspec.stack.dataset import lazy_variable
from hda_fsspec.stack.kinds import find_kinds
from hda_fsspec.stack.mosaic_arrays import MosaicArray
from hda_fsspec.stack.open import MAX_TEMPLATES, StackOptions, open_pieces
from hda_fsspec.stack.pieces import Pieces
from hda_fsspec.stack.placement import MisplacedError, MosaicAxis, Placement
from hda_fsspec.stack.preflight import refuse_equal_times
from hda_fsspec.stack.tiles import Tile, are_archives, find_tiles, refuse_several_zones

_Array = np.ndarray[Any, Any]

_PLACE = "GeoTransform"
_X_NAMES = ("x", "lon", "longitude", "rlon")
_Y_NAMES = ("y", "lat", "latitude", "rlat")
_X_STANDARD = ("projection_x_coordinate", "longitude", "grid_longitude")
_Y_STANDARD = ("projection_y_coordinate", "latitude", "grid_latitude")
_TREE = (
    'xr.open_datatree(…, engine="hda") opens each tile as a node, to bring them to one grid, with '
    "ds.rio.reproject_match for instance."
)


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A tile as a data set, and its name."""

    tile: Tile
    dataset: xr.Dataset


def open_tiles(
    client: Client,
    location: Location,
    tiles: Sequence[Tile],
    options: OpenOptions,
    how: StackOptions,
) -> dict[str, xr.Dataset]:
    """Open each tile as a lazy data set of its own, in order, by its name.

    Raises
    ------
    QueryError
        More templates than may be ordered are needed.
    ProductMismatchError, HDAError
        As :func:`hda_fsspec.stack.open.open_pieces`.
    """
    check_can_be_read(location, [p for tile in tiles for p in tile.products], options)
    _refuse_many(location, tiles, how)
    if how.concat_dim in {None, "time"} and not how.scan and how.on_overlap == "raise":
        for tile in tiles:
            for numbers in tile.kinds.values():
                mine = [tile.products[number] for number in numbers]
                refuse_equal_times(location, mine, lambda p: client.header(p) is not None)
    # One after another they would be waited for one after another.
    client.fetch_all([product for tile in tiles for product in _templates(client, tile)])
    return {
        tile.name: open_pieces(
            client,
            location.path,
            Pieces.of_search(tile.products, tile.kinds),
            options,
            how,
        )
        for tile in tiles
    }


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
        As :func:`open_tiles`.
    """
    found = sorted(client.search(location), key=lambda p: (p.startdate or "", p.product_id))
    if not found:
        raise no_products_error("open", location.path)
    tiles = find_tiles(found, need_names=False)
    if not tiles:
        tiles = [Tile("", tuple(found), find_kinds(found))]
    refuse_several_zones(location.path, tiles)
    datasets = open_tiles(client, location, tiles, options, how)
    opened = [_Opened(tile, datasets[tile.name]) for tile in tiles]
    return _Mosaic(client, location.path, opened, options).dataset()


def open_query_nodes(
    client: Client,
    location: Location,
    options: OpenOptions,
    how: StackOptions,
    *,
    max_nodes: int,
) -> Nodes:
    """Open a query as the nodes of a tree: one for each tile, where its products are of tiles.

    Else it is a node for each product, all of which are fetched first; so it is for archives of
    many files of which ``member`` chooses none.

    Raises
    ------
    QueryError
        More products are to be fetched than ``max_nodes``, or more templates than may be ordered.
    FileNotFoundError, ProductMismatchError, HDAError
        As :func:`open_mosaic`.
    """
    found = client.search(location)
    if not found:
        raise no_products_error("open", location.path)
    in_order = sorted(found, key=lambda p: (p.startdate or "", p.product_id))
    is_whole = options.member is None and are_archives(found)
    tiles = [] if is_whole else find_tiles(in_order)
    if not tiles:
        _refuse_stacking(location, how)
        return open_query_tree(client, location, found, options, max_nodes=max_nodes)
    nodes = Nodes(Source(client.settings, ProductTable(in_order), options))
    for name, dataset in open_tiles(client, location, tiles, options, how).items():
        nodes[f"/{name}"] = dataset
    return nodes


def _refuse_stacking(location: Location, how: StackOptions) -> None:
    """Refuse options that nothing is stacked by."""
    plain = StackOptions()
    given = [
        field.name
        for field in dataclasses.fields(how)
        if getattr(how, field.name) != getattr(plain, field.name)
    ]
    if given:
        msg = (
            f"{given[0]} is an option of stacks, and {location.path} is opened with a node for "
            "each product: they are of no tiles. Leave it out, or open the query with "
            "xr.open_dataset."
        )
        raise QueryError(msg, key=given[0])


def _templates(client: Client, tile: Tile) -> list[Product]:
    """Return the products of a tile that are bound to be looked at, one of each kind."""
    wanted = []
    for numbers in tile.kinds.values():
        products = [tile.products[number] for number in numbers]
        is_known = any(
            client.header(p) is not None or client.cache.lookup(p, touch=False) is not None
            for p in products
        )
        if not is_known:
            wanted.append(products[0])
    return wanted


def _refuse_many(location: Location, tiles: Sequence[Tile], how: StackOptions) -> None:
    count = sum(len(tile.kinds) for tile in tiles)
    if count <= MAX_TEMPLATES or how.scan:
        return
    total = sum(len(tile.products) for tile in tiles)
    names = ", ".join(printable(tile.name) for tile in tiles[:3])
    kinds = max(len(tile.kinds) for tile in tiles)
    of_kinds = f" of {kinds} kinds" if kinds > 1 else ""
    msg = (
        f"{location.path} has {len(tiles)} tiles{of_kinds} ({names}, …). To see what each is like "
        f"takes a product of it, and no more than {MAX_TEMPLATES} are ordered for that. Narrow the "
        "query to the place that you need, by bbox or by a pattern over product ids, such as "
        f"*{printable(tiles[0].name)}*; or open with scan=True, which orders and reads all {total} "
        "products first."
    )
    raise QueryError(msg)


class _Mosaic:
    """Tiles that are being put side by side."""

    def __init__(
        self, client: Client, path: str, opened: Sequence[_Opened], options: OpenOptions
    ) -> None:
        self._path = path
        self._opened = opened
        pieces = [_products_of(each.dataset) for each in opened]
        table = ProductTable([product for each in pieces for product in each])
        self._source = Source(client.settings, table, options)
        counts = [len(each) for each in pieces]
        self._begins = (np.cumsum(counts) - counts).tolist()
        #: Of each variable the first tile that has it.
        self._holders: dict[str, _Opened] = {}
        for each in opened:
            for name in each.dataset.variables:
                self._holders.setdefault(str(name), each)
        self._mapping = self._same_grid_mapping()
        self._y = self._axis(_Y_NAMES, _Y_STANDARD, 5)
        self._x = self._axis(_X_NAMES, _X_STANDARD, 1)
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
        attrs = {
            name: value
            for name, value in first.attrs.items()
            if all(
                name in each.dataset.attrs and np.array_equal(each.dataset.attrs[name], value)
                for each in self._opened
            )
        }
        dataset = xr.Dataset(variables, attrs=attrs)
        coords = {name for name, each in self._holders.items() if name in each.dataset.coords}
        dataset = dataset.set_coords(sorted(coords))
        dataset.encoding["source"] = self._path
        ids: list[str] = []
        for each in self._opened:
            template = each.dataset.encoding["hda_template"]
            ids += [template] if isinstance(template, str) else template
        dataset.encoding["hda_template"] = ids[0] if len(ids) == 1 else ids
        dataset.set_close(Closer(self._source))
        return dataset

    def _refuse_other_variables(self) -> None:
        """Refuse tiles that lack a variable, unless that is one of a kind of products."""
        for name, holder in self._holders.items():
            mine = holder.dataset.variables[name]
            for each in self._opened:
                theirs = each.dataset.variables.get(name)
                if theirs is None and self._time in mine.dims and name != self._time:
                    continue  # missing there
                if theirs is None or theirs.dims != mine.dims:
                    has = "lacks it" if theirs is None else f"has it along {theirs.dims}"
                    what = (
                        f"{name!r} lies along {mine.dims} in one, and the other {has}. Narrow the "
                        f"query to tiles of one kind, or open with drop_variables=[{name!r}]."
                    )
                    raise self._differ(holder, each, what)
                for dim, size in theirs.sizes.items():
                    is_free = dim in {self._time, self._x.dim, self._y.dim}
                    if not is_free and size != mine.sizes[dim]:
                        what = f"{name!r} has {mine.sizes[dim]} and {size} elements along {dim!r}."
                        raise self._differ(holder, each, what)

    def _differ(self, one: _Opened, other: _Opened, what: str) -> ProductMismatchError:
        names = [printable(each.tile.products[0].product_id) for each in (one, other)]
        return ProductMismatchError(
            f"The tiles of {names[0]} and {names[1]} cannot be put side by side: {what}"
        )

    def _same_grid_mapping(self) -> dict[str, dict[str, Any]]:
        """Return the attributes of grid mappings, of which all tiles have the same."""
        found: dict[str, dict[str, Any]] = {}
        first = self._opened[0]
        for name, variable in first.dataset.variables.items():
            mine = _reference_system(variable)
            if variable.dims or not mine:
                continue
            for each in self._opened[1:]:
                theirs = _reference_system(each.dataset.variables.get(name, xr.Variable((), 0)))
                differs = different_meaning(mine, theirs)
                if differs is not None or mine.keys() != theirs.keys():
                    here, there = (_name_of_system(system) for system in (mine, theirs))
                    what = f"their coordinate reference systems are {here} and {there}. {_TREE}"
                    raise self._differ(first, each, what)
            found[str(name)] = dict(variable.attrs)
        return found

    def _axis(self, names: Sequence[str], standard: Sequence[str], place: int) -> MosaicAxis:
        first = self._opened[0].dataset
        dim = _dimension(first, names, standard)
        if dim is None:
            own = ", ".join(sorted(map(str, first.coords))) or "none"
            msg = (
                f"The products of {self._path} have no coordinate {names[0]!r} along which they "
                f"could be put side by side; their coordinates: {own}. {_TREE}"
            )
            raise ProductMismatchError(msg)
        values = [each.dataset.variables[dim].values for each in self._opened]
        steps = [self._resolution(each.dataset, place) for each in self._opened]
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
            for each in self._opened
            for variable in each.dataset.variables.values()
            if isinstance(recipe := recipe_of(variable), StackArray)
        }
        dim = next(iter(sorted(dims)), None)
        if dim is None:
            return None, None, None
        lengths = [each.dataset.sizes[dim] for each in self._opened]
        if dim not in first.variables:
            if len(set(lengths)) > 1:
                raise self._other_times(dim, "have other numbers of steps, and no times")
            return dim, np.tile(np.arange(lengths[0]), (len(lengths), 1)), None
        values = [each.dataset.variables[dim].values for each in self._opened]
        if all(np.array_equal(each, values[0]) for each in values):
            return dim, np.tile(np.arange(lengths[0]), (len(lengths), 1)), values[0]
        try:
            every = np.unique(np.concatenate(values))
        except TypeError:
            raise self._other_times(dim, "have times of several calendars") from None
        times = np.full((len(values), len(every)), -1, np.int64)
        for number, each in enumerate(values):
            if len(np.unique(each)) < len(each):
                raise self._other_times(dim, "have several steps of one time")
            times[number, np.searchsorted(every, each)] = np.arange(len(each))
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
            _data_of(each.dataset.variables[name]) if name in each.dataset.variables else nothing
            for each in self._opened
        ]
        array = MosaicArray(
            self._source, name, dims, tiles, begins=self._begins, placement=placement
        )
        encoding = {k: v for k, v in mine.encoding.items() if k != "preferred_chunks"}
        variable = lazy_variable(dims, array, mine.attrs, encoding)
        preferred: dict[str, Any] = {axis.dim: axis.chunks for axis in axes}
        if is_in_time and self._time is not None:
            lengths = {each.dataset.sizes[self._time] for each in self._opened}
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
        for number, each in enumerate(self._opened):
            variable = each.dataset.variables.get(name)
            if variable is None:
                times[number] = -1
                continue
            recipe = recipe_of(variable)
            if isinstance(recipe, StackArray) and recipe.stack.grid.has_gaps(recipe.kind):
                there = recipe.steps_with_products(str(self._time))
                steps = times[number]
                steps[(steps >= 0) & ~there[steps]] = -1
        return times

    def _shared(self, name: str, mine: xr.Variable) -> xr.Variable:
        """Return a variable that lies along no side: it must be the same in all tiles."""
        if name in self._mapping:
            found = mine.copy(deep=False)
            found.attrs = self._placed(dict(mine.attrs))
            return found
        holder = self._holders[name]
        for each in self._opened:
            theirs = each.dataset.variables.get(name)
            if each is not holder and (theirs is None or not self._is_same(mine, theirs)):
                what = (
                    f"{name!r}, which lies along neither {self._y.dim!r} nor {self._x.dim!r}, "
                    "is not known to be the same in both. Leave it out with "
                    f"drop_variables=[{name!r}]."
                )
                raise self._differ(holder, each, what)
        return mine

    def _is_same(self, mine: xr.Variable, theirs: xr.Variable) -> bool:
        """Whether a variable is the same in two tiles, as far as their headers tell."""
        if different_meaning(meaning_of(mine.attrs), meaning_of(theirs.attrs)) is not None:
            return False
        one, other = recipe_of(mine), recipe_of(theirs)
        if one is None and other is None:
            return bool(np.array_equal(mine.values, theirs.values))
        if isinstance(one, TemplateArray) and isinstance(other, TemplateArray):
            digests = {
                each.stack.templates[each.kind].header.variables[each.name].digest
                for each in (one, other)
            }
            return len(digests) == 1 and None not in digests
        if isinstance(one, StackArray) and self._times is not None:
            # The bounds of equal times; each product's are checked when it is read.
            template = one.stack.templates[one.kind]
            is_equal = bool((self._times == self._times[0]).all())
            return is_equal and one.name in template.layout.bounds_of(template.header)
        return False

    def _placed(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes of a grid mapping with the place of the whole."""
        numbers = _transform(attrs)
        if numbers is None:
            return attrs
        x, dx, _, y, _, dy = numbers
        x -= int(self._x.firsts[0]) * dx
        y -= int(self._y.firsts[0]) * dy
        numbers = [x, dx, numbers[2], y, numbers[4], dy]
        return {**attrs, _PLACE: " ".join(map(str, numbers))}


def _dimension(dataset: xr.Dataset, names: Sequence[str], standard: Sequence[str]) -> str | None:
    indexes = [n for n, v in dataset.variables.items() if v.dims == (n,) and v.dtype.kind in "iuf"]
    by_standard = [n for n in indexes if dataset[n].attrs.get("standard_name") in standard]
    by_name = [n for n in names if n in indexes]
    return next((str(n) for n in (*by_standard, *by_name)), None)


def _products_of(dataset: xr.Dataset) -> Sequence[Product]:
    """Return the products of a tile, by their numbers."""
    recipes = map(recipe_of, dataset.variables.values())
    source = next((recipe.source for recipe in recipes if recipe is not None), None)
    return () if source is None else source.pieces


def _data_of(variable: xr.Variable) -> Any:
    recipe = recipe_of(variable)
    return np.asarray(variable.values) if recipe is None else recipe


def _reference_system(variable: xr.Variable) -> dict[str, Any]:
    return {
        name: value
        for name, value in variable.attrs.items()
        if name in GRID_MAPPING and name != _PLACE
    }


def _name_of_system(attrs: Mapping[str, Any]) -> str:
    text = str(attrs.get("crs_wkt") or attrs.get("spatial_ref") or attrs.get("grid_mapping_name"))
    name = attrs.get("projected_crs_name") or attrs.get("geographic_crs_name")
    if name and name != "unknown":
        return printable(name)
    quoted = text.split('"')
    return printable(quoted[1] if len(quoted) > 1 else text)


def _transform(attrs: Mapping[str, Any]) -> list[float] | None:
    try:
        numbers = [float(number) for number in str(attrs[_PLACE]).split()]
    except (KeyError, ValueError):
        return None
    return numbers if len(numbers) == 6 else None
