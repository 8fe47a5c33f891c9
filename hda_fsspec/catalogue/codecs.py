"""The kinds of answers of the catalogue, and how each is kept on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from hda_fsspec.cache.metadata import pack_products, unpack_products
from hda_fsspec.records import Dataset, Product

ProductsById = Mapping[str, Product]


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """How one kind of answer is turned into JSON for the disk, and back (None: not readable)."""

    name: str
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


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
