"""A query of which the service makes one product when it is ordered, cut into pieces of that kind.

What such a query is shows in the answer to its search. Each piece is a query of its own, which is
searched and ordered when something of it is computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import xarray as xr

from hda_fsspec.client import Client
from hda_fsspec.errors import OfflineError, QueryError
from hda_fsspec.lazy.product import check_can_be_read
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import warn
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.records import Product, format_time
from hda_fsspec.schema.queryables import Schema
from hda_fsspec.stack.open import StackOptions, open_pieces, open_query
from hda_fsspec.stack.pieces import Pieces
from hda_fsspec.subsets.grid import TIME, PieceGrid
from hda_fsspec.subsets.recency import provisional_from
from hda_fsspec.subsets.requests import is_subset_job, may_be_subset
from hda_fsspec.subsets.split import AUTO, is_default, refuse_split, split_query

#: A value of the option ``split``.
Split = None | str | Mapping[str, str | int] | object


def open_split(
    client: Client,
    location: Location,
    options: OpenOptions,
    how: StackOptions,
    split: Split = AUTO,
    *,
    clock: Callable[[], float] = time.time,
) -> xr.Dataset:
    """Open a query as one lazy dataset: of its products, or of the pieces that it is cut into.

    Parameters
    ----------
    client : Client
        What searches, orders and keeps products.
    location : Location
        The query, or a pattern over the ids of its products.
    options : OpenOptions
        How each product is opened.
    how : StackOptions
        How they are put together.
    split : optional
        How a query is cut; see :func:`.split_query`.
    clock : callable
        Seconds since 1970: what reaches near the present may be another tomorrow.

    Raises
    ------
    QueryError
        The query cannot be cut so, or it finds products, which are no pieces of one.
    HDAError
        What is raised otherwise: see the engine.
    """
    grid, found = cut(client, location, split)
    if grid is None:
        return open_query(client, location, options, how, found)
    for warning in grid.warnings:
        warn(warning, stacklevel=2)
    pieces = pieces_of(client, grid, datetime.fromtimestamp(clock(), UTC))
    check_can_be_read(grid.location(0), pieces.products, options)
    dataset = open_pieces(client, location.path, pieces, options, how)
    dataset.encoding["hda_split"] = grid.split
    return dataset


def cut(
    client: Client, location: Location, split: Split = AUTO
) -> tuple[PieceGrid | None, Sequence[Product]]:
    """Cut a query into pieces, if the service makes one product of whatever it asks for.

    Parameters
    ----------
    client : Client
        Whom to ask.
    location : Location
        The query, or a pattern over the ids of its products.
    split : optional
        How it is cut; see :func:`.split_query`.

    Returns
    -------
    tuple of PieceGrid or None, and sequence of Product
        None where the query finds products; then these follow.

    Raises
    ------
    QueryError
        The query cannot be cut so, or it finds products, and ``split`` says to cut it.
    """
    may_be = location.pattern is None and may_be_subset(location.dataset or "")
    try:
        found = client.search(location)
    except (QueryError, OfflineError) as err:
        if not may_be:
            raise
        grid = split_query(location, _schema(client, location), split)
        if not _is_made_to_order(client, grid, err):
            raise
        return grid, []
    if location.pattern is None and is_subset_job([p.product_id for p in found]):
        return split_query(location, _schema(client, location), split, size=found[0].size), found
    if not is_default(split):
        raise refuse_split(location.dataset or "", split)
    return None, found


def _is_made_to_order(client: Client, grid: PieceGrid, err: Exception) -> bool:
    """Whether pieces of a query can be asked for, which cannot itself: offline, or as lists."""
    if isinstance(err, OfflineError):
        # What the service made was kept under the name that it has here: so it makes them.
        known = (_product(client, grid, n) for n in range(len(grid)))
        return any(client.header(p) is not None or client.local(p) is not None for p in known)
    first = client.search(grid.location(0))
    return is_subset_job([product.product_id for product in first])


def _schema(client: Client, location: Location) -> Schema:
    return client.catalogue.datasets.schema(location.dataset or "")


def pieces_of(client: Client, grid: PieceGrid, now: datetime) -> Pieces:
    """Return the pieces of a query as products on a grid, none of which is there yet.

    A piece that reaches near the present is another one each day.

    Parameters
    ----------
    client : Client
        Whose products they will be.
    grid : PieceGrid
        How the query was cut.
    now : datetime
        The present, aware.
    """
    since = provisional_from(client.catalogue.datasets.schema(grid.dataset_id), now)
    today = format_time(now.replace(hour=0, minute=0, second=0, microsecond=0))
    products = [_product(client, grid, n, since, today) for n in range(len(grid))]
    return Pieces.of_grid(grid, products, provisional=_near_present(grid, since, now))


def _product(
    client: Client, grid: PieceGrid, n: int, since: datetime | None = None, today: str = ""
) -> Product:
    bounds = grid.bounds(n)
    start, end = (None, None) if bounds is None else map(format_time, bounds)
    is_provisional = bounds is not None and since is not None and bounds[1] >= since
    return Product(
        grid.dataset_id,
        grid.product_id(n),
        startdate=start,
        enddate=end,
        # The state that a copy holds. One of another day is not taken for it, nor is one that was
        # made before the data were final.
        updated=today if is_provisional else end,
        broker=client.settings.endpoint_url,
        request=grid.location(n).path,
    )


def _near_present(grid: PieceGrid, since: datetime | None, now: datetime) -> tuple[int, ...]:
    """Return the part of time in which the data may end: the last one that has begun."""
    if since is None or not grid.axes or grid.axes[0].name != TIME:
        return ()
    starts, ends = np.asarray(grid.index(TIME)).T
    at, edge = (np.datetime64(t.astimezone(UTC).replace(tzinfo=None), "ms") for t in (now, since))
    begun = np.flatnonzero((starts <= at) & (ends >= edge))
    return (int(begun[-1]),) if begun.size else ()
