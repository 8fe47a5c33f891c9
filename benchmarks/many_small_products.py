"""64 products of about 100 kB: ``fs.prefetch`` against the official ``hda`` client.

Both talk to one emulator, in a process of its own, that answers at once; an order is ready when it
is asked for the second time. So this measures what the clients add, not the service. With ``hda``
that is above all the pause before it asks for the state of an order: one second before the first
time, 1.1 seconds before the second. It has two threads unless it is told otherwise, so it is
measured with 20 as well, which is the ``max_orders`` of this package. What a real service takes to
prepare an order would be added to both, for as many products at a time as each of them has under
way. ``hda`` writes plain files; this package also checks, records and publishes them in its cache.
Login and search are part of every time; every file is compared.
"""

from __future__ import annotations

import functools
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import netCDF4

from benchmarks import _official
from benchmarks._serving import Served, serve, verdict

DATASET = "EO:TEST:DAT:SMALL"
PRODUCTS = 64
VALUES = 25_000  # of four bytes each, random, so that a product is about 100 kB
ROUNDS = 3
POLLS = 1
AS_IT_COMES = "hda, as it comes"
OURS = "prefetch, empty cache"
MIN_RATIO = 20.0
QUERY = f"hda://{DATASET}/startdate=2024-01-01/enddate=2024-12-31"
REQUEST = {
    "dataset_id": DATASET,
    "startdate": "2024-01-01T00:00:00.000Z",
    "enddate": "2024-12-31T23:59:59.999Z",
}


def make_products(folder: Path) -> dict[str, bytes]:
    """Write the products, one a day, and return their bytes by name."""
    numbers = random.Random(20240101)
    made: dict[str, bytes] = {}
    for index in range(PRODUCTS):
        name = f"small_2024{1 + index // 28:02}{1 + index % 28:02}.nc"
        with netCDF4.Dataset(folder / name, "w") as file:
            file.createDimension("x", VALUES)
            variable = file.createVariable("value", "f4", ("x",))
            variable[:] = [numbers.random() for _ in range(VALUES)]
        made[name] = (folder / name).read_bytes()
    return made


def small_products(folder: str) -> list[Any]:
    """Return one data set of the products in a folder."""
    from hda_fsspec.emulator import DatasetEntry, dated_product

    files = sorted(Path(folder).iterdir())
    return [DatasetEntry(DATASET, [dated_product(path.name, path) for path in files])]


def with_prefetch(served: Served, target: Path) -> list[Path]:
    """Fetch the query into the cache ``target``."""
    fs = fsspec.filesystem("hda", **served.options(target), skip_instance_cache=True)
    return [Path(path) for path in fs.prefetch(QUERY)]


def with_hda(served: Served, target: Path, *, workers: int) -> list[Path]:
    """Download the same search with the official client into the folder ``target``."""
    return _official.download(_official.connect(served, max_workers=workers), REQUEST, target)


def timed(fetch: Callable[[], list[Path]], expected: dict[str, bytes]) -> float:
    """Return the seconds that a fetch takes; raises if what it fetched is not what was served."""
    started = time.perf_counter()
    paths = fetch()
    seconds = time.perf_counter() - started
    got = sorted(path.read_bytes() for path in paths)
    if got != sorted(expected.values()):
        msg = (
            f"{len(got)} files were fetched, and they are not the {len(expected)} that were served."
        )
        raise RuntimeError(msg)
    return seconds


def measure(folder: Path) -> tuple[dict[str, float], int]:
    """Return the median seconds of each way, and the bytes of all products."""
    (folder / "products").mkdir()
    expected = make_products(folder / "products")
    seconds: dict[str, list[float]] = {}
    make = "benchmarks.many_small_products:small_products"
    with serve(make, str(folder / "products"), options={"polls": POLLS}) as served:
        for number in range(ROUNDS):
            prefetch = functools.partial(with_prefetch, served, folder / f"cache-{number}")
            ways: dict[str, Callable[[], list[Path]]] = {
                OURS: prefetch,
                "prefetch, again": prefetch,
            }
            for name, workers in (("hda, 20 threads", 20), (AS_IT_COMES, 2)):
                target = folder / f"hda-{workers}-{number}"
                ways[name] = functools.partial(with_hda, served, target, workers=workers)
            for name, fetch in ways.items():
                # Else the order of one client would be ready for the next.
                served.forget_orders()
                seconds.setdefault(name, []).append(timed(fetch, expected))
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return medians, sum(map(len, expected.values()))


def main() -> None:
    """Measure, and print a table of medians; a ratio is to the official client as it comes."""
    with tempfile.TemporaryDirectory() as scratch:
        seconds, total = measure(Path(scratch))
    print(
        f"{PRODUCTS} products, {total / 1e6:.1f} MB, polls={POLLS}, hda {_official.version()}, "
        f"median of {ROUNDS} rounds\n"
    )
    print(f"{'':24}{'seconds':>9}{'products/s':>12}{'ratio':>9}{'target':>8}")
    base = seconds[AS_IT_COMES]
    for name, median in seconds.items():
        ratio = base / median
        line = f"{name:24}{median:9.2f}{PRODUCTS / median:12.1f}{ratio:8.1f}x"
        if name == OURS:
            line += f"{MIN_RATIO:7.0f}x  {verdict(is_met=ratio >= MIN_RATIO)}"
        print(line)


if __name__ == "__main__":
    main()
