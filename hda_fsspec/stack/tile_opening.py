"""Opening the tiles of a query: each as a lazy stack of its own.

One product of each tile and kind is looked at. Where codes in ids tell the places of all tiles from
those of two, the others are looked at when they are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import xarray as xr

from hda_fsspec.client import Client
from hda_fsspec.errors import ProductFormatError, QueryError, no_products_error
from hda_fsspec.lazy import openfiles
from hda_fsspec.lazy.open_product import ROOT, Nodes, check_can_be_read, open_query_tree
from hda_fsspec.lazy.product_table import ProductTable, Source
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable
from hda_fsspec.reading.opening import OpenOptions
from hda_fsspec.records import Product, by_time
from hda_fsspec.stack.lazy_tiles import (
    LazyTile,
    LikeAnother,
    dataset_like,
    is_predictable,
    shared_of,
    side_of,
    system_of,
)
from hda_fsspec.stack.open_query import MAX_TEMPLATES, StackOptions, open_pieces
from hda_fsspec.stack.product_grid import Pieces
from hda_fsspec.stack.same_times import refuse_equal_times
from hda_fsspec.stack.tile_codes import Grid, corners_of, predict_firsts, probe_of
from hda_fsspec.stack.tiles import Tile, are_archives, find_tiles


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
        As :func:`hda_fsspec.stack.open_query.open_query`.
    """
    found = client.search(location)
    if not found:
        raise no_products_error("open", location.path)
    in_order = sorted(found, key=by_time)
    is_whole = options.member is None and are_archives(found)
    tiles = [] if is_whole else find_tiles(in_order)
    if not tiles:
        _refuse_stacking(location, how)
        return open_query_tree(client, location, found, options, max_nodes=max_nodes)
    nodes = Nodes(Source(client.settings, ProductTable(in_order), options))
    try:
        opened = TileOpener(client, location, options, how).open(tiles)
    except ProductFormatError:
        if not _has_several_nodes(client, tiles[0], options):
            raise
        # Archives of many files are no data set each, and told as such by what is in them alone.
        return open_query_tree(client, location, found, options, max_nodes=max_nodes)
    nodes.update({f"/{name}": dataset for name, dataset in opened.items()})
    return nodes


def _has_several_nodes(client: Client, tile: Tile, options: OpenOptions) -> bool:
    """Whether a product of a tile that is local is a tree of several data sets."""
    product = next((p for p in tile.products if client.local(p) is not None), None)
    if product is None or options.member is not None or options.group is not None:
        return False
    source = Source(client.settings, ProductTable([product]), options, node=ROOT)
    return openfiles.with_tree(source, 0, lambda tree, _: len(tree) > 1)


def _refuse_stacking(location: Location, how: StackOptions) -> None:
    """Refuse options of stacks where nothing is stacked."""
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


@dataclasses.dataclass(eq=False, repr=False)
class TileOpener:
    """Opens tiles of one query.

    Parameters
    ----------
    client : Client
        What searches, orders and keeps products.
    location : Location
        What is opened, for messages.
    options : OpenOptions
        How each product is opened.
    how : StackOptions
        How those of a tile are put together.
    """

    client: Client
    location: Location
    options: OpenOptions
    how: StackOptions

    def open(self, tiles: Sequence[Tile]) -> dict[str, xr.Dataset]:
        """Open each tile as a lazy data set of its own, by its name.

        Raises
        ------
        QueryError
            More templates than may be ordered are needed.
        ProductMismatchError, HDAError
            As :func:`hda_fsspec.stack.open_query.open_pieces`.
        """
        location, how = self.location, self.how
        check_can_be_read(location, [p for tile in tiles for p in tile.products], self.options)
        self._refuse_many(tiles)
        if how.concat_dim in {None, "time"} and not how.scan and how.on_overlap == "raise":
            for tile in tiles:
                for numbers in tile.kinds.values():
                    mine = [tile.products[number] for number in numbers]
                    refuse_equal_times(location, mine, self._is_known)
        # One after another they would be waited for one after another.
        self.client.fetch_all([p for tile in tiles for p in self._templates(tile)])
        return {
            tile.name: open_pieces(
                self.client,
                location.path,
                Pieces.of_search(tile.products, tile.kinds),
                self.options,
                how,
            )
            for tile in tiles
        }

    def open_lazily(self, tiles: Sequence[Tile]) -> dict[str, xr.Dataset]:
        """Open tiles; those that two of them tell all of are opened when they are read.

        What is raised: see :meth:`open`; and of a tile that is not as it was expected to be, when
        it is read, ProductMismatchError.
        """
        self._refuse_many(tiles)
        corners = corners_of([tile.name for tile in tiles])
        is_plain = self.how == StackOptions(grid_tolerance=self.how.grid_tolerance)
        is_like_the_first = all(tile.kinds.keys() <= tiles[0].kinds.keys() for tile in tiles)
        if len(tiles) < 3 or corners is None or not is_plain or not is_like_the_first:
            return self.open(tiles)
        looked_at = [0, probe_of(corners[0])]
        opened = self.open([tiles[number] for number in looked_at])
        grids = _grids([opened[tiles[number].name] for number in looked_at])
        firsts = None if grids is None else predict_firsts(*corners, looked_at, grids[1])
        if grids is not None and firsts is not None:
            sides, (grid, _) = grids
            for number, tile in enumerate(tiles):
                if number in looked_at:
                    continue
                first = dict(zip(sides, firsts[number].tolist(), strict=True))
                steps = {side: step for side, (_, step, _) in zip(sides, grid, strict=True)}
                lazy = self._like(tiles[0], opened[tiles[0].name], tile, first, steps=steps)
                if lazy is not None:
                    opened[tile.name] = lazy
        rest = [tile for tile in tiles if tile.name not in opened]
        return opened | self.open(rest) if rest else opened

    def _like(
        self,
        other: Tile,
        dataset: xr.Dataset,
        tile: Tile,
        first: Mapping[str, float],
        *,
        steps: Mapping[str, float],
    ) -> xr.Dataset | None:
        """Return a tile as it is expected to be, like another; None where times do not tell."""
        like = LikeAnother(
            other.products[0].product_id,
            first,
            steps,
            system_of(dataset),
            shared_of(dataset, list(first)),
        )
        lazy = LazyTile(
            self.client.settings,
            self.location.path,
            tile,
            options=self.options,
            how=self.how,
            like=like,
        )
        return dataset_like(lazy, dataset) if lazy.has_times_of_its_own else None

    def _is_known(self, product: Product) -> bool:
        return self.client.header(product) is not None

    def _templates(self, tile: Tile) -> list[Product]:
        """Return the products of a tile that are bound to be looked at, one of each kind."""
        wanted = []
        for numbers in tile.kinds.values():
            products = [tile.products[number] for number in numbers]
            is_at_hand = any(
                self._is_known(p) or self.client.cache.lookup(p, touch=False) is not None
                for p in products
            )
            if not is_at_hand:
                wanted.append(products[0])
        return wanted

    def _refuse_many(self, tiles: Sequence[Tile]) -> None:
        count = sum(len(tile.kinds) for tile in tiles)
        if count <= MAX_TEMPLATES or self.how.scan:
            return
        total = sum(len(tile.products) for tile in tiles)
        names = ", ".join(printable(tile.name) for tile in tiles[:3])
        kinds = max(len(tile.kinds) for tile in tiles)
        of_kinds = f" of {kinds} kinds" if kinds > 1 else ""
        msg = (
            f"{self.location.path} has {len(tiles)} tiles{of_kinds} ({names}, …). To see what "
            f"each is like takes a product of it, and no more than {MAX_TEMPLATES} are ordered for "
            "that. Narrow the query to the place that you need, by bbox or by a pattern over "
            f"product ids, such as *{printable(tiles[0].name)}*; or open with scan=True, which "
            f"orders and reads all {total} products first."
        )
        raise QueryError(msg)


def _grids(known: Sequence[xr.Dataset]) -> tuple[tuple[str, str], list[Grid]] | None:
    """Return the sides of tiles, and how each lies along them; None where that does not tell."""
    x, y = (side_of(known[0], is_x=is_x) for is_x in (True, False))
    if x is None or y is None or not all(is_predictable(dataset, (x, y)) for dataset in known):
        return None
    if any(dataset.sizes[side] < 2 for dataset in known for side in (x, y)):
        return None
    return (x, y), [(_line(dataset, x), _line(dataset, y)) for dataset in known]


def _line(dataset: xr.Dataset, dim: str) -> tuple[float, float, int]:
    values = dataset.variables[dim].values
    step = (float(values[-1]) - float(values[0])) / (len(values) - 1)
    return float(values[0]), step, len(values)
