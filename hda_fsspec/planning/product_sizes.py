"""Estimated sizes of products that were not fetched yet.

It uses no product and asks the service nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from hda_fsspec.client import Client, Entry
from hda_fsspec.records import Product


@dataclasses.dataclass(frozen=True)
class ProductSizes:
    """The sizes of some products, and which of them are local.

    Attributes
    ----------
    products : tuple of Product
        All of them, each once.
    local : Mapping of Product to Entry
        Those that are local.
    known : Mapping of Product to int
        Lengths, of those that are local or were so once.
    estimated : Mapping of Product to int
        For the others, where there is something to go by.
    """

    products: tuple[Product, ...]
    local: Mapping[Product, Entry]
    known: Mapping[Product, int]
    estimated: Mapping[Product, int]

    @property
    def total(self) -> int:
        """The size of all together, in bytes."""
        return sum(self.known.values()) + sum(self.estimated.values())

    @property
    def needed(self) -> int:
        """The size of those that are not local, in bytes."""
        return self.total - sum(self.known[product] for product in self.local)

    def of(self, product: Product) -> int:
        """Return what a product weighs; 0 if nobody knows."""
        return self.known.get(product, self.estimated.get(product, 0))


def estimate_sizes(
    client: Client, wanted: Sequence[Product], given: Mapping[Product, int] | None = None
) -> ProductSizes:
    """Look how long the files of products are; uses none of them.

    Parameters
    ----------
    client : Client
        Who has them, or would fetch them.
    wanted : sequence of Product
        Which.
    given : mapping of Product to int, optional
        What some of them weigh by another estimate, where their length is not known.
    """
    unique = tuple(dict.fromkeys(wanted))
    local: dict[Product, Entry] = {}
    known: dict[Product, int] = {}
    missing = []
    there = set(client.cache.among(unique))
    for number, product in enumerate(unique):
        entry = client.cache.lookup(product, touch=False) if number in there else None
        if entry is None:
            missing.append(product)
        else:
            local[product] = entry
            known[product] = entry.size
    others = []
    for product, size in zip(missing, client.sizes(missing), strict=True):
        if size is None:
            others.append(product)
        else:
            known[product] = size
    return ProductSizes(unique, local, known, estimate(others, known, given or {}))


def estimate(
    products: Sequence[Product],
    known: Mapping[Product, int],
    given: Mapping[Product, int],
) -> dict[Product, int]:
    """Return the sizes of products whose length is not known, where there is something to go by.

    That is the catalogue, another estimate that is given, else the mean of those products of the
    data set whose length is known.
    """
    lengths: dict[str, list[int]] = {}
    for product, length in known.items():
        lengths.setdefault(product.dataset_id, []).append(length)
    means = {name: round(sum(of_dataset) / len(of_dataset)) for name, of_dataset in lengths.items()}
    sizes = {p: p.size or given.get(p) or means.get(p.dataset_id) for p in products}
    return {product: size for product, size in sizes.items() if size is not None}
