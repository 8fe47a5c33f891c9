"""The kinds of answers of the catalogue, and their forms in JSON for the disk."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from hda_fsspec.records import Dataset, Product

ProductsById = Mapping[str, Product]

_DATASET_COLUMNS = tuple(field.name for field in dataclasses.fields(Dataset))
_FIELDS = dataclasses.fields(Product)
#: What the products of one answer have in common, so that it is written once.
_COMMON = ("dataset_id", "broker", "request")


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """A kind of answer.

    Attributes
    ----------
    name : str
        Its name.
    pack, unpack : callable
        To and from JSON; what cannot be read is None.
    least_seconds : float
        How long it is trusted where listings are, for a shorter time or a longer one.
    """

    name: str
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]
    least_seconds: float = 0.0

    def max_age(self, listings_seconds: float | None) -> float | None:
        """Return how long it is trusted where listings are so long; None for without end."""
        return None if listings_seconds is None else max(self.least_seconds, listings_seconds)


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
        field.name: list(map(operator.attrgetter(field.name), products))
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
        names, values = zip(*product.properties, strict=True) if product.properties else ((), ())
        rows.append([shapes.setdefault(names, len(shapes)), *values])
    return [[list(names) for names in shapes], rows]


def _unpack_properties(value: Any) -> list[tuple[tuple[str, Any], ...]]:
    shapes, rows = value
    return [tuple(zip(shapes[row[0]], row[1:], strict=True)) for row in rows]


def _unpack_datasets(value: Any) -> list[Dataset] | None:
    try:
        rows = [dict(zip(_DATASET_COLUMNS, row, strict=True)) for row in value]
        if not all(map(_is_told_by_texts, rows)):
            return None
        return [Dataset(**{**row, "terms": tuple(row["terms"])}) for row in rows]
    except (TypeError, ValueError):
        return None


def _is_told_by_texts(row: Mapping[str, Any]) -> bool:
    terms, *texts = row["terms"], row["dataset_id"], row["title"], row["abstract"]
    may_lack = (row[name] for name in ("startdate", "enddate", "bbox") if row[name] is not None)
    return isinstance(terms, list) and all(
        isinstance(text, str) for text in (*terms, *texts, *may_lack)
    )


def _unpack_by_id(value: Any) -> dict[str, Product] | None:
    products = unpack_products(value)
    return None if products is None else {product.product_id: product for product in products}


def _pack_datasets(datasets: Sequence[Dataset]) -> list[Any]:
    return [[getattr(dataset, name) for name in _DATASET_COLUMNS] for dataset in datasets]


#: The list of all data sets takes long to get, and changes seldom.
DATASETS = Codec("datasets", _pack_datasets, _unpack_datasets, least_seconds=24 * 3600.0)
DATASET = Codec("data set", _pack_datasets, _unpack_datasets)
QUERYABLE = Codec(
    "queryable", lambda found: found, lambda value: value if isinstance(value, dict) else None
)
SEARCH = Codec("search", lambda found: pack_products(list(found.values())), _unpack_by_id)
