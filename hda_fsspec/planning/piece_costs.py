"""Sizes and costs of pieces of queries, computed from how the queries were cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from hda_fsspec.client import Client
from hda_fsspec.lazy.product_table import ProductTable
from hda_fsspec.records import Product
from hda_fsspec.subsets.piece_grid import PieceGrid, Split
from hda_fsspec.subsets.sizes import Estimate, compare, loads, unit_of


@dataclasses.dataclass(frozen=True)
class PieceCosts:
    """The sizes and costs of some products that are pieces of queries.

    Attributes
    ----------
    sizes : mapping of Product to int
        Their bytes, by those of other pieces of the same query and by how much each asks for; else
        by what the catalogue says of the whole.
    fields : int or None
        How many fields they hold; None where the data set counts none, or the query leaves out a
        list, such as that of hours, of which the service takes what it likes.
    split : None, str or dict
        How the first query was cut.
    splits : tuple of Estimate
        What the whole of that query would cost in other pieces.
    """

    sizes: Mapping[Product, int]
    fields: int | None
    split: Split
    splits: tuple[Estimate, ...]


def cut_of(client: Client, read: Sequence[tuple[ProductTable, np.ndarray]]) -> PieceCosts | None:
    """Return what is known of products that are pieces of queries; None where there are none.

    Parameters
    ----------
    client : Client
        Who has them, or would fetch them.
    read : sequence of (ProductTable, numpy.ndarray)
        Tables of products, and the numbers of those that are wanted.
    """
    sizes: dict[Product, int] = {}
    fields: int | None = None
    first: PieceGrid | None = None
    seen: dict[ProductTable, set[int]] = {}
    for table, numbers in read:
        if table.origin is not None:
            seen.setdefault(table, set()).update(numbers.tolist())
    for table, wanted in seen.items():
        grid = table.origin
        if grid is None:
            raise AssertionError
        first = first or grid
        per_piece = loads(grid)
        chosen = sorted(wanted)
        sizes |= _sizes(client, table, per_piece, chosen, grid.size)
        if unit_of(grid) == "fields" and grid.wanted.left_out is None:
            fields = (fields or 0) + int(per_piece[chosen].sum())
    return None if first is None else PieceCosts(sizes, fields, first.split, compare(first))


def _sizes(
    client: Client,
    table: ProductTable,
    per_piece: np.ndarray,
    wanted: Sequence[int],
    size: int | None,
) -> dict[Product, int]:
    known = client.sizes(list(table))
    there = [number for number, length in enumerate(known) if length]
    if there:
        rate = sum(known[number] or 0 for number in there) / float(per_piece[there].sum())
    elif size is not None:
        rate = size / float(per_piece.sum())
    else:
        return {}
    return {table[number]: round(rate * float(per_piece[number])) for number in wanted}
