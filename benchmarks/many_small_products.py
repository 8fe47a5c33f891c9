"""64 products of about 100 kB: ``fs.prefetch`` against the official ``hda`` client.

Both talk to one emulator, in a process of its own, that answers at once and prepares orders at
once. So this measures what the clients add, not the service. With ``hda`` that is above all a
sleep of one second before it first asks for the state of each order; it has two threads unless it
is told otherwise, so it is measured with 20 as well, which is the ``max_orders`` of this package.
What a real service takes to prepare an order would be added to both, for as many products at a time
as each of them has under way. ``hda`` writes plain files; this package also checks, records and
publishes them in its cache. Login and search are part of every time; every file is compared.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import io
import logging
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import netCDF4

DATASET = "EO:TEST:DAT:SMALL"
PRODUCTS = 64
VALUES = 25_000  # of four bytes each, random, so that a product is about 100 kB
ROUNDS = 3
AS_IT_COMES = "hda, as it comes"
QUERY = f"hda://{DATASET}/startdate=2024-01-01/enddate=2024-12-31"


@dataclasses.dataclass(frozen=True)
class Broker:
    """How to reach the emulator."""

    url: str
    user: str
    password: str


def make_products(folder: Path) -> dict[str, bytes]:
    """Write the products, one a day, and return their bytes by name."""
    numbers = random.Random(20240101)
    folder.mkdir(parents=True)
    made: dict[str, bytes] = {}
    for index in range(PRODUCTS):
        name = f"small_2024{1 + index // 28:02}{1 + index % 28:02}.nc"
        with netCDF4.Dataset(folder / name, "w") as file:
            file.createDimension("x", VALUES)
            variable = file.createVariable("value", "f4", ("x",))
            variable[:] = [numbers.random() for _ in range(VALUES)]
        made[name] = (folder / name).read_bytes()
    return made


@contextlib.contextmanager
def emulator(folder: Path) -> Iterator[Broker]:
    """Serve a folder from a process of its own."""
    command = [sys.executable, "-m", "hda_fsspec.cli", "emulator", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().strip() for _ in range(3)]
            told = dict(line.partition("=")[::2] for line in lines)
            yield Broker(told["HDA_URL"], told["HDA_USER"], told["HDA_PASSWORD"])
        finally:
            process.terminate()


def with_prefetch(broker: Broker, target: Path) -> list[Path]:
    """Fetch the query into the cache ``target``."""
    fs = fsspec.filesystem(
        "hda",
        url=broker.url,
        user=broker.user,
        password=broker.password,
        cache_dir=target,
        skip_instance_cache=True,
    )
    return [Path(path) for path in fs.prefetch(QUERY)]


def with_hda(broker: Broker, target: Path, *, workers: int) -> list[Path]:
    """Download the same search with the official client into the folder ``target``."""
    import hda

    target.mkdir(exist_ok=True)
    configuration = hda.Configuration(url=broker.url, user=broker.user, password=broker.password)
    client = hda.Client(configuration, progress=False, max_workers=workers)
    matches = client.search(
        {
            "dataset_id": DATASET,
            "startdate": "2024-01-01T00:00:00.000Z",
            "enddate": "2024-12-31T23:59:59.999Z",
        }
    )
    # It announces each file on standard output, where the table belongs.
    with contextlib.redirect_stdout(io.StringIO()):
        matches.download(str(target))
    return sorted(target.iterdir())


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


def main() -> None:
    """Measure, and print a table of medians; a ratio is to the official client as it comes."""
    logging.getLogger("hda").setLevel(logging.CRITICAL)
    version = importlib.metadata.version("hda")
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        expected = make_products(folder / "catalogue" / DATASET)
        with emulator(folder / "catalogue") as broker:
            for number in range(ROUNDS):
                prefetch = functools.partial(with_prefetch, broker, folder / f"cache-{number}")
                rounds: dict[str, Callable[[], list[Path]]] = {
                    "prefetch, empty cache": prefetch,
                    "prefetch, again": prefetch,
                }
                for name, workers in (("hda, 20 threads", 20), (AS_IT_COMES, 2)):
                    target = folder / f"hda-{workers}-{number}"
                    rounds[name] = functools.partial(with_hda, broker, target, workers=workers)
                for name, fetch in rounds.items():
                    seconds.setdefault(name, []).append(timed(fetch, expected))
    megabytes = sum(map(len, expected.values())) / 1e6
    print(f"{PRODUCTS} products, {megabytes:.1f} MB, hda {version}, median of {ROUNDS} rounds\n")
    print(f"{'':24}{'seconds':>9}{'products/s':>12}{'ratio':>8}")
    base = statistics.median(seconds[AS_IT_COMES])
    for name, each in seconds.items():
        median = statistics.median(each)
        print(f"{name:24}{median:9.2f}{PRODUCTS / median:12.1f}{base / median:7.1f}x")


if __name__ == "__main__":
    main()
