"""A product in the cache through ``fs.open``, against the builtin ``open`` and one ``stat``.

Both run in this process, by turns. The ``stat`` is that of the record beside the file: whoever
opens a file that may be evicted has to look at least once. The emulator, in another process, counts
the requests, of which there should be none.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec

from benchmarks._serving import Served, serve, verdict

DATASET = "EO:TEST:DAT:CACHED"
PRODUCT = "cached_20240101.bin"
PATH = f"hda://{DATASET}/startdate=2024-01-01/enddate=2024-01-01/{PRODUCT}"
ROUNDS = 2000
MAX_MILLISECONDS = 0.2


def cached_products() -> list[Any]:
    """Return one data set of one product."""
    from hda_fsspec.emulator import DatasetEntry, dated_product

    return [DatasetEntry(DATASET, [dated_product(PRODUCT, b"\x01" * 100_000)])]


def _by_turns(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median milliseconds of each way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 20):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn >= 20:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) * 1000 for name, each in seconds.items()}


def measure(served: Served, cache_dir: Path) -> tuple[dict[str, float], int]:
    """Return the median milliseconds of each way, and how many requests they made."""
    fs = fsspec.filesystem("hda", **served.options(cache_dir))
    local = Path(fs.prefetch(PATH)[0])
    record = local.with_name("record.json")

    def plain() -> None:
        with local.open("rb"):
            record.stat()

    def through_fsspec() -> None:
        with fs.open(PATH):
            pass

    before = served.count().requests
    seen = _by_turns({"open and stat": plain, "fs.open": through_fsspec})
    return seen, served.count().requests - before


def main() -> None:
    """Measure, and print a table of medians."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve("benchmarks.cached_open:cached_products") as served,
    ):
        seen, requests = measure(served, Path(scratch))
    print(f"medians of {ROUNDS} rounds\n")
    for name, milliseconds in seen.items():
        print(f"{name:16}{milliseconds:8.3f} ms")
    more = seen["fs.open"] - seen["open and stat"]
    print(
        f"{'more':16}{more:8.3f} ms, target {MAX_MILLISECONDS} ms  "
        f"{verdict(is_met=more <= MAX_MILLISECONDS)}"
    )
    print(f"{'requests':16}{requests:8}, target 0  {verdict(is_met=requests == 0)}")


if __name__ == "__main__":
    main()
