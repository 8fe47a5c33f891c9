"""60 orders of 3 s preparation each: how near ``fs.prefetch`` comes to full overlap.

With ``max_orders`` of them under way at a time they need ceil(60 / max_orders) times 3 s, plus what
the same prefetch takes where orders are ready at once. One after another they would take 180 s.
"""

from __future__ import annotations

import importlib
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import fsspec

from benchmarks._serving import Served, serve, verdict

DATASET = "EO:TEST:DAT:PREPARED"
PRODUCTS = 60
BODY_BYTES = 100_000
PREPARATION_SECONDS = 3.0
MAX_ORDERS = (20, 10)
MAX_RATIO = 1.15
QUERY = f"hda://{DATASET}/startdate=2024-01-01/enddate=2024-12-31"


def prepared_products() -> list[Any]:
    """Return one data set of as many products, one a day."""
    from hda_fsspec.emulator import DatasetEntry, dated_product

    names = [f"prepared_2024{1 + i // 28:02}{1 + i % 28:02}.bin" for i in range(PRODUCTS)]
    body = bytes(range(250)) * (BODY_BYTES // 250)
    return [DatasetEntry(DATASET, [dated_product(name, body) for name in names])]


def seconds_of(served: Served, cache_dir: Path, max_orders: int) -> float:
    """Return the seconds of a prefetch into an empty cache."""
    options = {**served.options(cache_dir), "max_orders": max_orders}
    fs = fsspec.filesystem("hda", **options)
    began = time.perf_counter()
    found = fs.prefetch(QUERY)
    seconds = time.perf_counter() - began
    if len(found) != PRODUCTS:
        msg = f"{len(found)} products of {PRODUCTS} were fetched."
        raise RuntimeError(msg)
    return seconds


def main() -> None:
    """Measure, and print a table; a ratio is to the ideal."""
    importlib.import_module("hda_fsspec.client")  # now, not while it is measured
    make = "benchmarks.overlapping_orders:prepared_products"
    print(f"{PRODUCTS} products of {BODY_BYTES / 1000:.0f} kB, {PREPARATION_SECONDS:g} s each\n")
    print(
        f"{'':24}{'in preparation':>16}{'transfer, s':>13}{'ideal, s':>10}{'seconds':>9}"
        f"{'ratio':>8}{'target':>8}"
    )
    for max_orders in MAX_ORDERS:
        with tempfile.TemporaryDirectory() as scratch:
            with serve(make) as served:
                transfer = seconds_of(served, Path(scratch) / "at once", max_orders)
            with serve(make, options={"preparation_seconds": PREPARATION_SECONDS}) as served:
                seconds = seconds_of(served, Path(scratch) / "prepared", max_orders)
                most = served.count().in_preparation
        ideal = math.ceil(PRODUCTS / max_orders) * PREPARATION_SECONDS + transfer
        ratio = seconds / ideal
        print(
            f"{f'max_orders={max_orders}':24}{most:16}{transfer:13.2f}{ideal:10.2f}{seconds:9.2f}"
            f"{ratio:7.2f}x{MAX_RATIO:7.2f}x  {verdict(is_met=ratio <= MAX_RATIO)}"
        )


if __name__ == "__main__":
    main()
