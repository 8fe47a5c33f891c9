"""10,000 products open as one lazy dataset: seconds and memory beyond listing them, and orders.

Each line is a fresh process with an empty cache, against an emulator in another process. Ids have
100 characters, and locators are as long as those of the real services. The second opening has the
listing and the header of the template on disk.
"""

from __future__ import annotations

import statistics
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks._serving import run_alone, serve, verdict

PRODUCTS = 10_000
DATASET = "EO:TEST:DAT:MANY"
QUERY = f"hda://{DATASET}/startdate=1900-01-01/enddate=2179-12-31"
ROUNDS = 3
MAX_SECONDS = 1.5
MAX_MEGABYTES = 200

_MEASURE = """\
import resource, time
import netCDF4, dask.array, xarray as xr
import hda_fsspec.engine.lazy_imports
from hda_fsspec.paths.locations import Location
from hda_fsspec.client import get_client
from hda_fsspec.settings import Settings
xr.backends.list_engines()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
before, began = peak(), time.perf_counter()
if given["what"] == "list":
    found = len(get_client(Settings.resolve(**given["options"])).search(
        Location.parse(given["query"])))
else:
    ds = xr.open_dataset(given["query"], engine="hda", chunks=given["chunks"],
                         storage_options=given["options"])
    found = ds.sizes["time"]
print(json.dumps([found, time.perf_counter() - began, peak() - before]))
"""


def many_products(folder: str, count: int = PRODUCTS) -> list[Any]:
    """Return one data set of as many products, a day each, which share the bytes of the first."""
    import numpy as np
    import xarray as xr

    from hda_fsspec.emulator import DatasetEntry, ProductEntry

    path = Path(folder) / "first.nc"
    first = datetime(1900, 1, 1, tzinfo=UTC)
    xr.Dataset(
        {name: (("time", "lat", "lon"), np.zeros((1, 4, 8), "f4")) for name in ("sst", "error")},
        coords={
            "time": [np.datetime64("1900-01-01T12:00", "ns")],
            "lat": np.arange(4.0),
            "lon": np.arange(8.0),
        },
    ).to_netcdf(path)
    body = path.read_bytes()
    products = []
    for number in range(count):
        day = f"{first + timedelta(days=number):%Y-%m-%d}"
        name = f"{day}120000-CENTRE-L4_GHRSST-SSTfnd-ANALYSIS-GLOB-v02.0-fv02.0"
        products.append(
            ProductEntry(
                f"{name}_{'X' * (96 - len(name))}.nc",
                body,
                f"{day}T00:00:00.000Z",
                f"{day}T23:59:59.999Z",
            )
        )
    return [DatasetEntry(DATASET, products)]


def main() -> None:
    """Measure, and print a table of medians."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with serve("benchmarks.open_query:many_products", scratch) as served:
            rows: dict[str, list[list[float]]] = {}
            orders: dict[str, int] = {}
            for turn in range(ROUNDS):
                for what, chunks, cache in (
                    ("list", None, "list"),
                    ("open", None, "open"),
                    ("open, chunks={}", {}, "chunks"),
                    ("open again", None, "open"),
                ):
                    given = {
                        "what": what,
                        "chunks": chunks,
                        "query": QUERY,
                        "options": served.options(folder / f"{cache}-{turn}"),
                    }
                    before = served.count().orders
                    found, seconds, megabytes = run_alone(_MEASURE, given)
                    if found != PRODUCTS:
                        msg = f"{found} products were found, not {PRODUCTS}."
                        raise RuntimeError(msg)
                    rows.setdefault(what, []).append([seconds, megabytes])
                    ordered = served.count().orders - before
                    orders[what] = max(ordered, orders.get(what, 0))
    seconds = {what: statistics.median(row[0] for row in each) for what, each in rows.items()}
    memory = {what: statistics.median(row[1] for row in each) for what, each in rows.items()}
    print(f"{PRODUCTS:,} products, median of {ROUNDS} rounds\n")
    print(f"{'':18}{'seconds':>9}{'beyond listing':>16}{'MB':>7}{'ratio':>8}{'orders':>8}")
    for what, median in seconds.items():
        beyond = median - seconds["list"]
        ratio = median / seconds["list"]
        print(
            f"{what:18}{median:9.2f}{beyond:16.2f}{memory[what]:7.0f}{ratio:7.2f}x{orders[what]:8}"
        )
    print(f"\norders: {max(orders.values())}, target 1: ", end="")
    print(verdict(is_met=max(orders.values()) == 1))
    worst = max(seconds[each] for each in seconds) - seconds["list"]
    print(f"beyond listing: {worst:.2f} s, target {MAX_SECONDS} s: ", end="")
    print(verdict(is_met=worst <= MAX_SECONDS))
    print(f"memory: {max(memory.values()):.0f} MB, target {MAX_MEGABYTES} MB: ", end="")
    print(verdict(is_met=max(memory.values()) < MAX_MEGABYTES))


if __name__ == "__main__":
    main()
