"""Plans as values: time at a quota, plans of several caches together, and how they look."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from rows import for_each

from hda_fsspec.planning.plan import Plan, merge_plans
from hda_fsspec.planning.product_sizes import ProductSizes, estimate
from hda_fsspec.records import Product


def make(count: int = 3, dataset: str = "EO:A", **given: Any) -> Plan:
    """Return a plan of so many products of 1 MB, all to be ordered."""
    products = tuple(Product(dataset, f"p{number}") for number in range(count))
    facts = {
        "products": products,
        "orders_needed": count,
        "bytes_known": count * 1_000_000,
        "bytes_needed": count * 1_000_000,
    }
    return Plan(**{**facts, **given})


@for_each(
    ("orders", "under_way", "limit", "left", "seconds", "hours"),
    [
        (0, 0, None, None, 0, 0),
        (3, 0, None, None, None, 0.03),
        (3, 0, 0, 0, None, 0.03),
        (100, 0, 100, None, 0, 1),
        (101, 0, 100, None, 3600, 1.01),
        (100, 0, 100, 100, 0, 1),
        (100, 0, 100, 99, 3600, 1),
        (100, 1, 100, 99, 0, 0.99),
        (250, 0, 100, 100, 7200, 2.5),
        (250, 0, 100, 0, 10800, 2.5),
        (250, 50, 100, 0, 7200, 2),
        (3, 0, 100, 0, 3600, 0.03),
        (3, 3, 100, 0, 0, 0),
        (3, 3, None, None, 0, 0),
    ],
)
def test_time_at_a_quota(
    orders: int,
    under_way: int,
    limit: int | None,
    left: int | None,
    seconds: float | None,
    hours: float,
) -> None:
    """Orders beyond what is left wait for the hours in which they fit; those under way do not."""
    plan = make(orders, under_way=under_way, quota_limit=limit, quota_left=left)

    assert plan.seconds_at_quota == seconds
    assert plan.hours_of_quota == pytest.approx(hours)


def test_repr() -> None:
    """The repr is a few lines: products, orders, bytes, quota, cache and disk."""
    plan = make(
        12,
        local=3,
        orders_needed=9,
        bytes_estimated=500_000_000,
        sizes_unknown=1,
        cache_bound=50_000_000_000,
        quota_limit=100,
        quota_left=4,
        fits_disk=False,
        disk_free=1000,
    )

    assert repr(plan).splitlines() == [
        "Plan: 12 products of EO:A",
        "  orders 9 needed, 3 local already",
        "  bytes  12.0 MB known, 500.0 MB estimated, 1 of unknown size; 12.0 MB to download",
        "  quota  4 of 100 orders an hour left; 60 min of waiting for it",
        "  cache  50.0 GB: fits",
        "  disk   1.0 kB free: does not fit",
    ]


def test_repr_where_little_is_known() -> None:
    """What is not known or not bounded is said in words."""
    text = repr(make(1))

    assert "1 product of EO:A" in text
    assert "quota  not known" in text
    assert "no bound: fits" in text
    assert "disk   not known: fits" in text
    assert "6 h of waiting" in repr(make(700, quota_limit=100))
    assert "orders an hour;" in repr(make(700, quota_limit=100))


def test_html_is_escaped() -> None:
    """Names of data sets come from the network: in HTML they are text, and nothing else."""
    text = make(2, dataset="<script>alert('&')</script>")._repr_html_()

    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "<table" in text


def test_many_data_sets() -> None:
    """Of many data sets the first few are named."""
    products = tuple(Product(f"EO:{number}", "p") for number in range(7))

    assert "7 products of EO:0, EO:1, EO:2 and 4 more" in repr(make(products=products))


def test_plans_of_several_caches() -> None:
    """Sums are over all; the bound and the free space are those of the cache that is fullest."""
    wide = make(2, cache_bound=None, disk_free=10_000_000, disk_room=10_000_000, local=1)
    tight = make(4, cache_bound=3_000_000, disk_free=9_000_000, disk_room=9_000_000)
    both = merge_plans([wide, dataclasses.replace(tight, fits_cache=False)])

    assert (both.orders_needed, both.local, both.bytes_needed) == (6, 1, 6_000_000)
    assert len(both.products) == 4, "two of them are the same in both"
    assert (both.cache_bound, both.disk_free) == (3_000_000, 9_000_000)
    assert (both.fits_cache, both.fits_disk, both.fits) == (False, True, False)


def test_estimates() -> None:
    """The catalogue goes before what is given, and that before the mean of the data set."""
    told, silent, other = Product("A", "1", size=7), Product("A", "2"), Product("B", "3")
    known = {Product("A", "4"): 10, Product("A", "5"): 21}

    assert estimate([told, silent], known, {told: 1, silent: 9}) == {told: 7, silent: 9}
    found = estimate([told, silent, other], known, {})
    assert found == {told: 7, silent: 16}
    weights = ProductSizes((told, silent, other, *known), {}, known, found)
    assert (weights.total, weights.needed) == (54, 54)
    assert [weights.of(p) for p in weights.products] == [7, 16, 0, 10, 21]
