"""The kinds of answers of the catalogue, and their forms in JSON for the disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from hda_fsspec.records import Dataset, Product

ProductsById = Mapping[str, Product]

_FIELDS = dataclasses.fields(Product)
#: What the products of one answer have in common, so that it is written once.
_COMMON = ("dataset_id", "broker")


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """A kind of answer: its name, and how it is packed as JSON and unpacked (None: unreadable)."""

    name: str
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


def pack_products(products: Sequence[Product], *, left_out: Collection[str] = ()) -> dict[str, Any]:
    """Return records as JSON, column by column, which is smaller and quicker to read than rows.

    Parameters
    ----------
    products : sequence of Product
        The records.
    left_out : collection of str
        Fields that are not packed; they have their defaults when they are unpacked.
    """
    packed: dict[str, Any] = {
        field.name: [getattr(product, field.name) for product in products]
        for field in _FIELDS
        if field.name not in left_out and field.name != "properties"
    }
    for name in _COMMON:
        if len(set(packed[name])) == 1:
            packed[name] = packed[name][0]
    if "properties" not in left_out:
        packed["properties"] = _pack_properties(products)
    return packed


def unpack_products(value: Any) -> list[Product] | None:
    """Return the records that :func:`pack_products` packed; None for anything else."""
    try:
        count = len(value["product_id"])
        columns = []
        for field in _FIELDS:
            column = value.get(field.name)
            if column is None and field.name not in value:
                if field.default is dataclasses.MISSING:
                    return None
                column = [field.default] * count
            elif field.name == "properties":
                column = _unpack_properties(column)
            elif field.name in _COMMON and isinstance(column, str):
                column = [column] * count
            columns.append(column)
        return [Product(*row) for row in zip(*columns, strict=True)]
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        return None


def _pack_properties(products: Sequence[Product]) -> list[Any]:
    """Return the names, which most products share, once, and the values per product."""
    shapes: dict[tuple[str, ...], int] = {}
    rows: list[list[Any]] = []
    for product in products:
        names = tuple(name for name, _ in product.properties)
        shape = shapes.setdefault(names, len(shapes))
        rows.append([shape, *(value for _, value in product.properties)])
    return [[list(names) for names in shapes], rows]


def _unpack_properties(value: Any) -> list[tuple[tuple[str, Any], ...]]:
    shapes, rows = value
    return [tuple(zip(shapes[row[0]], row[1:], strict=True)) for row in rows]


def _unpack_datasets(value: Any) -> list[Dataset] | None:
    try:
        return [Dataset(str(i), tuple(terms), str(title)) for i, terms, title in value]
    except (TypeError, ValueError):
        return None


def _unpack_by_id(value: Any) -> dict[str, Product] | None:
    products = unpack_products(value)
    return None if products is None else {product.product_id: product for product in products}


DATASETS = Codec(
    "datasets", lambda found: [[d.dataset_id, d.terms, d.title] for d in found], _unpack_datasets
)
QUERYABLE = Codec(
    "queryable", lambda found: found, lambda value: value if isinstance(value, dict) else None
)
SEARCH = Codec("search", lambda found: pack_products(list(found.values())), _unpack_by_id)
