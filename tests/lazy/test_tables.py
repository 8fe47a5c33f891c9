"""The table of products that travels with lazy variables."""

from __future__ import annotations

import pickle

import pytest

from hda_fsspec.lazy.product_table import ProductTable
from hda_fsspec.records import Product

_PRODUCTS = [
    Product(
        "EO:TEST:DAT",
        f"p{number}\ud800",
        f"location {number}",
        size=None if number % 3 else number + 1,
        startdate=f"2024-01-01T00:00:00.{number % 1000:03}Z",
        properties=(("cloud", number),),
        bbox="1,2,3,4",
        broker="https://broker/" if number else "https://other/",
    )
    for number in range(3000)
]


def test_a_table_is_what_it_was_made_of() -> None:
    """Products are found by number, from the end too, by slices, and one after another."""
    table = ProductTable(_PRODUCTS)

    assert list(table) == _PRODUCTS
    assert (table[0], table[1024], table[-1]) == (_PRODUCTS[0], _PRODUCTS[1024], _PRODUCTS[-1])
    assert list(table[1020:1030:3]) == _PRODUCTS[1020:1030:3]
    assert _PRODUCTS[2999] in table
    for beyond in (3000, -3001):
        with pytest.raises(IndexError, match="among 3000"):
            table[beyond]
    assert list(ProductTable([])) == []


def test_a_table_travels_with_all_that_an_order_needs() -> None:
    """Locators and versions arrive, once for all who unpickle it; further metadata stays behind."""
    table = ProductTable(_PRODUCTS)
    data = pickle.dumps(table)

    there, again = pickle.loads(data), pickle.loads(data)

    assert there is again
    assert len(there) == 3000
    assert there[2047] == _PRODUCTS[2047]
    assert [p.location for p in there] == [p.location for p in _PRODUCTS]
    assert (there[5].properties, there[5].bbox) == ((), None)
    assert (there, hash(there), there.digest) == (table, hash(table), table.digest)
    assert pickle.dumps(there) == data


def test_tables_differ_in_any_product() -> None:
    """Another version or locator anywhere makes another table."""
    table = ProductTable(_PRODUCTS)
    other = Product("EO:TEST:DAT", _PRODUCTS[1500].product_id, "elsewhere")

    for products in (_PRODUCTS[:-1], [*_PRODUCTS[:1500], other, *_PRODUCTS[1501:]]):
        assert ProductTable(products) != table
        assert ProductTable(products).digest != table.digest
    assert ProductTable(list(_PRODUCTS)) == table
