"""Opening a query that the service makes one product of: cut into pieces that are ordered singly.

What such a query is shows in the answer to its search. Each piece is a query of its own, which is
searched and ordered when something of it is computed.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import xarray as xr

from hda_fsspec.catalogue.piece_records import record_of
from hda_fsspec.client import Client
from hda_fsspec.errors import (
    AuthenticationError,
    BrokerError,
    OfflineError,
    OrderError,
    QueryError,
    not_there,
    note_once,
)
from hda_fsspec.lazy.open_product import check_can_be_read
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import warn
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.records import Product, format_time, parse_time
from hda_fsspec.schema.schema import Schema
from hda_fsspec.stack.open_query import StackOptions, open_pieces, open_query
from hda_fsspec.stack.product_grid import Pieces
from hda_fsspec.subsets.canonical_request import is_subset_job, may_be_subset
from hda_fsspec.subsets.piece_grid import TIME, PieceGrid
from hda_fsspec.subsets.recency import latest_in, provisional_from
from hda_fsspec.subsets.refusals import is_too_large
from hda_fsspec.subsets.split_option import AUTO, is_auto, is_default, refuse_split, split_query

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
    now = datetime.fromtimestamp(clock(), UTC)
    computed = dataclasses.replace(options, is_computed=True)
    count = 0
    while True:
        grid, found = cut(client, location, split)
        if grid is None:
            return open_query(client, location, options, how, found)
        pieces = pieces_of(client, grid, now)
        if is_auto(split):
            # The template has what a product's own coordinates are called; pieces of one lack it.
            cut_further = functools.partial(
                _open_in_pieces, how=dataclasses.replace(how, product_coord=None)
            )
            pieces = dataclasses.replace(pieces, cut_further=cut_further)
        check_can_be_read(grid.location(0), pieces.products, options)
        for warning in () if count else grid.warnings:
            warn(warning, stacklevel=2)
        try:
            dataset = open_pieces(client, location.path, pieces, computed, how)
            break
        except OrderError as err:
            # The limit is known now: it is cut into smaller pieces, if there are any.
            if not is_auto(split) or not is_too_large(str(err)) or len(grid) <= count:
                raise
            count = len(grid)
    if 0 in dataset.sizes.values():
        msg = (
            f"Nothing to open: no time of {grid.dataset_id} lies in {location.path}, so that the "
            "service delivered the nearest one. Widen startdate and enddate."
        )
        raise not_there(msg)
    if isinstance(pieces.end, DataEnd):
        pieces.end.keep()
    dataset.encoding["hda_split"] = grid.split
    return dataset


def _open_in_pieces(
    client: Client, product: Product, options: OpenOptions, *, how: StackOptions
) -> xr.Dataset:
    """Open a piece that the service refused as too large, cut further by what it refused."""
    return open_split(client, Location.parse(product.request), options, how)


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
    except (QueryError, OfflineError, AuthenticationError, BrokerError) as err:
        is_large = is_too_large(str(err))
        if not may_be or not (is_large or isinstance(err, (QueryError, OfflineError))):
            raise
        if is_large:
            note_once(err, client.catalogue.limits.refused(location, err.answered or str(err)))
        grid = _split(client, location, split)
        if not _is_made_to_order(client, grid, err):
            raise
        return grid, []
    # A file of another family may be called like a job: that it is one is then for others to say.
    is_cut = location.pattern is None and (may_be or not is_default(split))
    if is_cut and is_subset_job([p.product_id for p in found]):
        return _split(client, location, split, found[0].size), found
    if not is_default(split):
        raise refuse_split(location.dataset or "", split)
    return None, found


def _split(client: Client, location: Location, split: Split, size: int | None = None) -> PieceGrid:
    limits = client.catalogue.limits.of(location.dataset or "")
    return split_query(location, _schema(client, location), split, size=size, limits=limits)


def _is_made_to_order(client: Client, grid: PieceGrid, err: Exception) -> bool:
    """Whether pieces of a query can be asked for, which cannot itself: offline, or as lists."""
    if isinstance(err, OfflineError):
        # What the service made was kept under the name that it has here: so it makes them.
        return any(
            client.header(piece) is not None
            or client.local(dataclasses.replace(piece, updated=None)) is not None
            for piece in _records(client, grid)
        )
    try:
        first = client.search(grid.location(0))
    except (QueryError, AuthenticationError, BrokerError) as refusal:
        # It is refused again when it is ordered, and noted then.
        if not is_too_large(str(refusal)):
            raise
        return True
    return is_subset_job([product.product_id for product in first])


def _records(client: Client, grid: PieceGrid) -> list[Product]:
    broker = client.settings.endpoint_url
    return [record_of(grid, n, broker=broker) for n in range(len(grid))]


def _schema(client: Client, location: Location) -> Schema:
    return client.catalogue.datasets.schema(location.dataset or "")


def pieces_of(client: Client, grid: PieceGrid, now: datetime) -> Pieces:
    """Return the pieces of a query as products on a grid, none of which is there yet.

    A piece that reaches near the present is another one each day. The last of them that has begun
    is to be looked at.

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
    products = _records(client, grid)
    if since is None or not grid.axes or grid.axes[0].name != TIME:
        return Pieces.of_grid(grid, products)
    starts, ends = np.asarray(grid.index(TIME)).T
    at, edge = (np.datetime64(t.astimezone(UTC).replace(tzinfo=None), "ms") for t in (now, since))
    near = np.flatnonzero(ends >= edge)
    if not near.size:
        return Pieces.of_grid(grid, products)
    begun = near[starts[near] <= at]
    rows = np.arange(len(products)).reshape(len(starts), -1)
    today = format_time(now.replace(hour=0, minute=0, second=0, microsecond=0))
    for number in rows[near].ravel().tolist():
        products[number] = _of_day(client, products[number], today)
    last = begun[-1:].tolist()
    end = DataEnd(client, [products[n] for part in last for n in rows[part].tolist()], today, at)
    looked_at = () if end.is_known else last
    return Pieces.of_grid(grid, products, provisional=looked_at, end=end)


def _of_day(client: Client, product: Product, today: str) -> Product:
    """Return a product as it is today; offline, as on the day on which it was looked at."""
    if client.settings.offline:
        entry = client.local(dataclasses.replace(product, updated=None))
        note = client.subset_note(_END.format(product.key)) if entry is None else None
        told = note.get("day") if isinstance(note, dict) else None
        today = told if isinstance(told, str) else today
        if entry is not None and entry.product.updated is not None:
            today = entry.product.updated
    return dataclasses.replace(product, updated=today)


def _moment(text: object) -> np.datetime64 | None:
    """Read a moment as it was kept; None for anything else."""
    try:
        return np.datetime64(parse_time(str(text)).replace(tzinfo=None), "ms")
    except ValueError:
        return None


#: The name of the note of where data end, by the key of the last piece.
_END = "end {}"


class DataEnd:
    """The end of the data of a query today, as far as an order told it.

    An order of times that are not there yet fails, and tells which are. That is remembered for the
    day.

    Parameters
    ----------
    client : Client
        What keeps it.
    products : sequence of Product
        The pieces that tell it: the last that have begun.
    today : str
        The day.
    now : numpy.datetime64
        The present: pieces that begin later are not there.
    """

    def __init__(
        self, client: Client, products: Sequence[Product], today: str, now: np.datetime64
    ) -> None:
        self._client = client
        self._products = products
        self._today = today
        self._until = now
        self._told: dict[str, str] = {}
        self.is_known = False
        for product in products:
            note = client.subset_note(_END.format(product.key))
            is_current = isinstance(note, dict) and note.get("day") in {today, product.updated}
            until = _moment(note.get("until")) if is_current else None
            if until is not None:
                self._until = min(now, until)
                self.is_known = True
        if client.settings.offline and not any(map(self._is_here, products)):
            self.is_known = True  # as far as it can be

    def _is_here(self, product: Product) -> bool:
        return self._client.header(product) is not None or self._client.local(product) is not None

    def until(self) -> np.datetime64:
        """Return the last moment of which there are data, or the present."""
        return self._until

    def is_told(self, product: Product, refusal: Exception) -> bool:
        """Take note of an order that was refused; False where it does not tell where data end."""
        found = latest_in(str(refusal))
        if found is None:
            return False
        self._until = min(self._until, np.datetime64(found.replace(tzinfo=None), "ms"))
        self._told[product.key] = format_time(found)
        self.keep()
        return True

    def keep(self) -> None:
        """Keep what is known for others that open the same today, and for who is offline."""
        if self.is_known:
            return
        for product in self._products:
            note = {"day": self._today, "until": self._told.get(product.key)}
            if self._client.subset_note(_END.format(product.key)) != note:
                self._client.keep_subset_note(_END.format(product.key), note)
