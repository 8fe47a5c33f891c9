"""Pieces of queries as records of products, before the service has made them."""

from __future__ import annotations

from hda_fsspec.paths.locations import Location
from hda_fsspec.records import Product, format_time
from hda_fsspec.schema.schema import Schema
from hda_fsspec.subsets.piece_grid import PieceGrid
from hda_fsspec.subsets.query_axes import Axes


def record_of(grid: PieceGrid, n: int, *, broker: str) -> Product:
    """Return the record of a piece, which names its request and not yet what the service calls it.

    Parameters
    ----------
    grid : PieceGrid
        How the query was cut.
    n : int
        The number of the piece.
    broker : str
        Whose product it will be.
    """
    bounds = grid.bounds(n)
    start, end = (None, None) if bounds is None else map(format_time, bounds)
    product_id, location = grid.named(n)
    return Product(
        grid.dataset_id,
        product_id,
        startdate=start,
        enddate=end,
        # The state that a copy holds: here that of final data, which no copy has that was made
        # before they were.
        updated=end,
        broker=broker,
        request=location.path,
    )


def record_of_whole(location: Location, schema: Schema, *, broker: str) -> Product | None:
    """Return the record of what a query asks for; None if it takes several requests."""
    grid = PieceGrid(Axes.of(location, schema))
    return record_of(grid, 0, broker=broker) if len(grid) == 1 else None
