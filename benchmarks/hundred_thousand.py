"""100,000 products as one lazy dataset: opened, planned as a whole, and ten of them planned.

Each line is a fresh process, against an emulator in another process. Ids have 100 characters, and
locators are as long as those of the real services. "Kept" has the listing and the header of the
template on disk. Memory is the most that was used beyond what the imports take.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks._serving import run_alone, serve, verdict
from benchmarks.open_query import QUERY

PRODUCTS = 100_000
ROUNDS = 1
MAX_OPEN_SECONDS = 1.5
MAX_PLAN_SECONDS = 3.0
MAX_TEN_SECONDS = 0.2
MAX_MEGABYTES = 300

_MEASURE = """\
import resource, time
import netCDF4, dask.array, xarray as xr
import hda_fsspec.engine.lazy_imports, hda_fsspec.engine.accessor, hda_fsspec.planning.prefetch
import hda_fsspec.planning.dask_graphs
from hda_fsspec.paths.locations import Location
from hda_fsspec.client import get_client
from hda_fsspec.settings import Settings
xr.backends.list_engines()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
before, times = peak(), []
def timed(work):
    began = time.perf_counter()
    result = work()
    times.append(time.perf_counter() - began)
    return result
client = get_client(Settings.resolve(**given["options"]))
found = len(timed(lambda: client.search(Location.parse(given["query"]))))
ds = timed(lambda: xr.open_dataset(given["query"], engine="hda", chunks=given["chunks"],
                                   storage_options=given["options"]))
assert ds.sizes["time"] == found, ds.sizes
every = timed(lambda: ds.hda.plan())
ten = timed(lambda: ds.isel(time=slice(5000, 5010)).hda.plan())
assert (len(every.products), len(ten.products)) == (found, 10)
print(json.dumps([found, *times, peak() - before]))
"""


def main() -> None:
    """Measure, and print a table of medians."""
    rows: dict[str, list[list[float]]] = {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve("benchmarks.open_query:many_products", scratch, PRODUCTS) as served,
    ):
        for turn in range(ROUNDS):
            for name, chunks in (("", None), ("chunks={}", {}), ("kept", None)):
                options = served.options(Path(scratch) / f"{'dask' if name[:1] == 'c' else turn}")
                options["max_products"] = 2 * PRODUCTS
                given = {"query": QUERY, "chunks": chunks, "options": options}
                found, *row = run_alone(_MEASURE, given)
                if found != PRODUCTS:
                    msg = f"{found} products were found, not {PRODUCTS}."
                    raise RuntimeError(msg)
                rows.setdefault(name or "empty cache", []).append(row)
    print(f"{PRODUCTS:,} products, median of {ROUNDS} rounds, seconds\n")
    print(f"{'':14}{'listing':>9}{'opening':>9}{'plan of all':>13}{'plan of ten':>13}{'MB':>6}")
    medians = {
        name: list(map(statistics.median, zip(*each, strict=True))) for name, each in rows.items()
    }
    for name, (listing, opening, every, ten, megabytes) in medians.items():
        print(f"{name:14}{listing:9.2f}{opening:9.2f}{every:13.2f}{ten:13.3f}{megabytes:6.0f}")
    print()
    targets = (MAX_OPEN_SECONDS, MAX_PLAN_SECONDS, MAX_TEN_SECONDS, MAX_MEGABYTES)
    titles = ("opening", "plan of all", "plan of ten", "memory, MB")
    for column, (title, most) in enumerate(zip(titles, targets, strict=True), start=1):
        worst = max(row[column] for row in medians.values())
        print(f"{title}: {worst:.2f}, target {most}: {verdict(is_met=worst <= most)}")


if __name__ == "__main__":
    main()
