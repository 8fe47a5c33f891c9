"""Answers to queries while nobody can be asked: parts of kept answers, and what is local.

Pure: kept answers and records come as values. An answer that is here is one of these: that of
the same query in another spelling; a part of that of a wider query, which is complete; or, for
a whole data set, the products that are local, which may be few of many.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hda_fsspec.catalogue.boxes import contains, touch
from hda_fsspec.errors import QueryError
from hda_fsspec.paths.locations import Location
from hda_fsspec.records import Product, by_time
from hda_fsspec.schema.schema import Schema

#: Where products are found that no kept answer tells of.
LOCAL = "the products that are in the cache"

_SHOWN = 5
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)
# What the service makes for one request is no part of what it makes for another.
_MADE_TO_ORDER = re.compile(r"[0-9a-f]{32}(?:\.[A-Za-z0-9]+)?")


@dataclasses.dataclass(frozen=True)
class Kept:
    """The answer to a query that was kept.

    Attributes
    ----------
    location : Location
        The query.
    at : float
        When it was given, in seconds since 1970.
    products : mapping
        What it found, by id.
    """

    location: Location
    at: float
    products: Mapping[str, Product]


@dataclasses.dataclass(frozen=True)
class Found:
    """The products that answer a query among those that are known here.

    Attributes
    ----------
    products : dict
        The products, by id.
    origin : str
        Where they were found, in words.
    """

    products: dict[str, Product]
    origin: str


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A query in one spelling: its range, its box, and everything else."""

    start: datetime
    end: datetime
    box: tuple[float, ...] | None
    rest: Mapping[str, Any]

    @classmethod
    def of(cls, schema: Schema, location: Location) -> _Asked:
        request = schema.request(location.query)
        start, end = schema.interval(location.query)
        box = request.pop(schema.bbox_key or "bbox", None)
        # What is in the range need not be compared by its words, nor be under its own names.
        names = set(schema.time_keys or ()) | {"startdate", "enddate"}
        rest = {key: _spelled(value) for key, value in request.items() if key not in names}
        return cls(start or _EARLIEST, end or _LATEST, None if box is None else tuple(box), rest)


def _spelled(value: Any) -> Any:
    """Return a value as it is compared: a list in any order is one value."""
    return sorted(value, key=str) if isinstance(value, list) else value


def find(
    location: Location, schema: Schema, kept: Sequence[Kept], local: Iterable[Product]
) -> Found | None:
    """Return what is here of a query; None if that cannot be told.

    Parameters
    ----------
    location : Location
        The query.
    schema : Schema
        That of its data set.
    kept : sequence of Kept
        Kept answers of the same data set.
    local : iterable of Product
        The records of local products of the same data set.
    """
    asked = _Asked.of(schema, location)
    for answer in sorted(kept, key=lambda answer: -answer.at):
        try:
            wider = _Asked.of(schema, answer.location)
        except QueryError:
            continue  # it was asked when the schema was another
        if wider == asked:
            return Found(dict(answer.products), f"what was kept of {answer.location.path}")
        part = _part(asked, wider, answer.products)
        if part is not None:
            return Found(part, f"a part of what was kept of {answer.location.path}")
    if location.query:
        return None
    here = {product.product_id: product for product in sorted(local, key=by_time)}
    return Found(here, LOCAL) if here else None


def nothing_here(location: Location, kept: Sequence[Kept], local: Sequence[Product]) -> str:
    """Return the message for a query that what is here does not answer."""
    dataset = Location(location.dataset).path
    here = []
    if kept:
        shown = ", ".join(answer.location.path for answer in kept[:_SHOWN])
        here.append(f"kept are the answers to {shown}, and to whatever is a part of them")
    if local:
        here.append(f"{dataset} lists the products of it that are local ({len(local)})")
    what = f"What there is: {'; '.join(here)}. " if here else ""
    return (
        f"Cannot tell what {location.path} finds: its answer is not in the cache, nor that of a "
        f"wider query, and offline is set. {what}Unset offline (or HDA_OFFLINE) and look at it "
        "once."
    )


def _part(
    asked: _Asked, wider: _Asked, products: Mapping[str, Product]
) -> dict[str, Product] | None:
    """Return what of a wider answer is an answer to a query; None if that cannot be told."""
    if asked.start < wider.start or asked.end > wider.end:
        return None
    if wider.box is not None and (asked.box is None or not contains(wider.box, asked.box)):
        return None
    if any(key not in asked.rest or asked.rest[key] != told for key, told in wider.rest.items()):
        return None
    if any(_MADE_TO_ORDER.search(product_id) for product_id in products):
        return None
    more = {key: told for key, told in asked.rest.items() if key not in wider.rest}
    found = {}
    for product_id, product in products.items():
        told = {name.lower(): value for name, value in product.properties}
        if any(key.lower() not in told for key in more):
            return None
        if (
            product.overlaps(
                None if asked.start == _EARLIEST else asked.start,
                None if asked.end == _LATEST else asked.end,
            )
            # Where the catalogue tells no box, a product may lie in any.
            and (asked.box is None or asked.box == wider.box or _is_near(product, asked.box))
            and all(_is_among(told[key.lower()], value) for key, value in more.items())
        ):
            found[product_id] = product
    return found


def _is_among(told: Any, asked: Any) -> bool:
    values = asked if isinstance(asked, list) else [asked]
    return str(told) in {str(value) for value in values}


def _is_near(product: Product, box: Sequence[float]) -> bool:
    return product.bbox is None or touch([float(edge) for edge in product.bbox.split(",")], box)
