"""The view of a query: its products with when and where they are, and what is local of them.

It is made of one search. Looking at it orders nothing, and asks the service nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, overload

from hda_fsspec.client import Client, get_client
from hda_fsspec.errors import LocationError
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import format_bytes, lines, plural, printable
from hda_fsspec.records import Product
from hda_fsspec.settings import Settings
from hda_fsspec.views import markup
from hda_fsspec.views.formatting import ends_of, minute_of, orders_text
from hda_fsspec.views.markup import Markup, element
from hda_fsspec.views.outlines import Outline, outlines_of
from hda_fsspec.views.timebar import draw_times
from hda_fsspec.views.worldmap import Drawn, draw_map, place_of

if TYPE_CHECKING:
    import pandas as pd

CACHED, UNDER_WAY, MISSING = "cached", "under way", "missing"
#: From the ground of a picture upwards: what there is least of lies on top.
_CLASSES = {MISSING: "hda-missing", UNDER_WAY: "hda-under-way", CACHED: "hda-cached"}
_FIRST_ROWS, _LAST_ROWS = 20, 5
_FIRST_LINES, _LAST_LINES = 8, 3
#: So many footprints are read to draw some of them.
_MOST_TRIED = 2_500


@dataclasses.dataclass(frozen=True)
class _State:
    """The state of the products of a view."""

    states: tuple[str, ...]
    sizes: tuple[int | None, ...]
    limit: int | None
    left: int | None

    @property
    def orders(self) -> str:
        local, under_way = (self.states.count(state) for state in (CACHED, UNDER_WAY))
        return orders_text(len(self.states) - local, under_way, local)


class QueryView(Sequence[Product]):
    """The products of a query, as a sequence that shows itself; a slice of it is a view, too.

    In a notebook it is a table with a bar of time and a map, on a terminal it is text. What is
    cached, under way or missing is looked at whenever it is shown.

    Parameters
    ----------
    settings : Settings
        Whose cache and quota are shown.
    location : Location
        The query or pattern.
    products : sequence of Product
        What it found.
    origin : str, optional
        What answered it in the place of the service, which may have others.

    Attributes
    ----------
    location : Location
        The query or pattern that was asked for.
    products : tuple of Product
        The records, in the order of the service.
    origin : str or None
        What answered it, if it was not the service: offline that is what is kept here.
    """

    def __init__(
        self,
        settings: Settings,
        location: Location,
        products: Sequence[Product],
        *,
        origin: str | None = None,
    ) -> None:
        self._settings = settings
        self.location = location
        self.products = tuple(products)
        self.origin = origin

    @overload
    def __getitem__(self, index: int) -> Product: ...
    @overload
    def __getitem__(self, index: slice) -> QueryView: ...
    def __getitem__(self, index: int | slice) -> Product | QueryView:
        if isinstance(index, slice):
            part = self.products[index]
            return QueryView(self._settings, self.location, part, origin=self.origin)
        return self.products[index]

    def __len__(self) -> int:
        return len(self.products)

    def __iter__(self) -> Iterator[Product]:
        return iter(self.products)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QueryView):
            return NotImplemented
        mine = (self._settings, self.location, self.products)
        return mine == (other._settings, other.location, other.products)

    def __hash__(self) -> int:
        return hash((self.location, self.products))

    @property
    def paths(self) -> list[str]:
        """The ``hda://`` paths of the products."""
        return list(self.location.paths_of(product.product_id for product in self.products))

    @property
    def states(self) -> list[str]:
        """The state of each product: "cached", "under way" (it was ordered) or "missing"."""
        return list(self._look().states)

    def to_dataframe(self) -> pd.DataFrame:
        """Return the products as a table.

        Returns
        -------
        pandas.DataFrame or geopandas.GeoDataFrame
            One row for each product: ``product_id``, ``startdate``, ``enddate``, ``size`` (bytes,
            missing until it is known), ``catalogue_size``, ``state``, ``path``, ``bbox``, and what
            else the catalogue tells. Where GeoPandas is installed also ``geometry``: the footprint
            in degrees, cut at the date line, missing where it is not told.
        """
        from hda_fsspec.views.dataframe import dataframe_of

        state = self._look()
        return dataframe_of(self.products, self.paths, state.states, state.sizes)

    def __repr__(self) -> str:
        state = self._look()
        told = [self.location.path, *(f"  {name}: {text}" for name, text in self._facts(state))]
        if self.products:
            told += self._text_rows(state)
        return lines(*told)

    def _repr_html_(self) -> str:
        state = self._look()
        parts: list[Markup | None] = [
            markup.title(self.location.dataset or ""),
            markup.path_line(self.location.path),
            markup.facts(self._facts(state)),
        ]
        if self.products:
            parts += [_legend(state), *self._pictures(state), self._table(state)]
        return markup.view(*parts)

    @property
    def _client(self) -> Client:
        return get_client(self._settings)

    def _look(self) -> _State:
        client = self._client
        quota = client.quota()
        return _State(
            tuple(_states_of(client, self.products)),
            tuple(client.sizes(self.products)),
            quota.limit,
            quota.left,
        )

    def _facts(self, state: _State) -> Iterator[tuple[str, str]]:
        """Yield what is said of all products together."""
        total = len(self.products)
        yield "products", f"{total:,}"
        if self.origin is not None:
            yield "answered by", self.origin
        if not total:
            return
        yield "size", _total_size(self.products, state.sizes)
        yield "orders", state.orders
        if state.limit is not None:
            left = "" if state.left is None else f"{state.left:,} of "
            yield "quota", f"{left}{state.limit:,} orders an hour{' left' if left else ''}"

    def _rows(self, state: _State) -> list[tuple[Product, str, int | None]]:
        return list(zip(self.products, state.states, state.sizes, strict=True))

    def _text_rows(self, state: _State) -> Iterator[str]:
        head, between, tail = ends_of(self._rows(state), _FIRST_LINES, _LAST_LINES)
        for row in head:
            yield _line(*row)
        if between:
            yield f"  … {between:,} more"
        for row in tail:
            yield _line(*row)

    def _table(self, state: _State) -> Markup:
        head, between, tail = ends_of(self._rows(state), _FIRST_ROWS, _LAST_ROWS)
        more = [(f"… {between:,} more",)] if between else []
        return markup.table(
            ("product", "start", "end", "size", "state"),
            [*(_cells(*row) for row in head), *more, *(_cells(*row) for row in tail)],
            classes=("hda-id", "hda-fixed", "hda-fixed", "hda-number", "hda-fixed"),
        )

    def _pictures(self, state: _State) -> Iterator[Markup]:
        """Yield the bar of time and the map, and what is not in them."""
        classes = [_CLASSES[state_name] for state_name in state.states]
        pictures, notes = [], []
        intervals = [
            (*dates, kind)
            for product, kind in zip(self.products, classes, strict=True)
            if (dates := _dates_of(product)) is not None
        ]
        if intervals:
            pictures.append(draw_times(intervals, [*_CLASSES.values()]))
        if lost := len(self.products) - len(intervals):
            notes.append(f"{plural(lost, 'product')} without dates: not in the bar of time.")
        placed, lost = self._placed(classes)
        if placed:
            drawn, count = draw_map(placed, [*_CLASSES.values()])
            pictures.append(drawn)
            notes.append(f"The map shows {place_of(placed)}.")
            if count < len(self.products) - lost:
                notes.append(f"It has {count:,} of the footprints, evenly chosen.")
        if lost:
            notes.append(
                f"{plural(lost, 'product')} without a footprint that could be drawn: not in the "
                "map."
            )
        if pictures:
            yield element("div", *pictures, class_="hda-pictures")
        if notes:
            yield markup.note(" ".join(notes))

    def _placed(self, classes: Sequence[str]) -> tuple[list[Drawn], int]:
        """Return footprints to draw, evenly chosen of very many, and how many cannot be drawn."""

        @functools.cache
        def outlines(footprint: str | None, bbox: str | None) -> tuple[Outline, ...]:
            return tuple(outlines_of(footprint, bbox))

        told = [
            (product, kind)
            for product, kind in zip(self.products, classes, strict=True)
            if product.footprint is not None or product.bbox is not None
        ]
        kinds = {(product.footprint, product.bbox) for product, _ in told}
        tried = told if len(kinds) <= _MOST_TRIED else told[:: math.ceil(len(told) / _MOST_TRIED)]
        placed = [
            Drawn(found, kind, _label(product))
            for product, kind in tried
            if (found := outlines(product.footprint, product.bbox))
        ]
        return placed, len(self.products) - len(told) + len(tried) - len(placed)


def view_query(client: Client, location: Location, *, refresh: bool = False) -> QueryView:
    """Search what a location names, and return the view of it.

    Raises
    ------
    LocationError
        It is that of all data sets.
    FileNotFoundError
        There is no such data set or product; and whatever else a search raises.
    """
    if location.dataset is None:
        msg = (
            f"Cannot search {location.path}, which is all data sets: fs.datasets('words') finds "
            "one, and fs.queryables shows what it can be asked."
        )
        raise LocationError(msg)
    if location.product is not None:
        found = [client.product(location, refresh=refresh)]
    else:
        found = client.search(location, refresh=refresh)
    origin = client.catalogue.origin(location)
    return QueryView(client.settings, location, found, origin=origin)


def _states_of(client: Client, products: Sequence[Product]) -> Iterator[str]:
    under_way = client.under_way(products)
    for product in products:
        if client.cache.lookup(product, touch=False) is not None:
            yield CACHED
        else:
            yield UNDER_WAY if product in under_way else MISSING


def _total_size(products: Sequence[Product], sizes: Sequence[int | None]) -> str:
    """Return what products weigh, what is the catalogue's word told apart."""
    known = sum(size for size in sizes if size is not None)
    others = [p.size for p, size in zip(products, sizes, strict=True) if size is None]
    estimated = sum(size for size in others if size is not None)
    told = [format_bytes(known)] if known or not estimated else []
    if estimated:
        told.append(f"about {format_bytes(estimated)} by the catalogue")
    if unknown := others.count(None):
        if unknown == len(products):
            return "not told"
        told.append(f"{unknown:,} of unknown size")
    return ", ".join(told)


def _size_text(product: Product, size: int | None) -> str:
    if size is not None:
        return format_bytes(size)
    return "" if product.size is None else f"~{format_bytes(product.size)}"


def _line(product: Product, state: str, size: int | None) -> str:
    when = minute_of(product.startdate or product.enddate)
    return (
        f"  {when:<16}  {_size_text(product, size):>9}  {state:<9}  {printable(product.product_id)}"
    )


def _cells(product: Product, state: str, size: int | None) -> tuple[object, ...]:
    return (
        product.product_id,
        minute_of(product.startdate),
        minute_of(product.enddate),
        _size_text(product, size),
        markup.joined(_key(state), state),
    )


def _dates_of(product: Product) -> tuple[datetime, datetime] | None:
    start, end = product.start, product.end
    first, last = start or end, end or start
    return None if first is None or last is None else (min(first, last), max(first, last))


def _label(product: Product) -> str:
    return f"{printable(product.product_id)} {minute_of(product.startdate)}".rstrip()


def _legend(state: _State) -> Markup:
    told = []
    for name in reversed(_CLASSES):
        count = state.states.count(name)
        told.append(element("span", _key(name), f"{count:,} {name}"))
    return element("div", *told, class_="hda-facts")


def _key(state: str) -> Markup:
    return element("span", class_=f"hda-key {_CLASSES[state]}")
