"""One cached netCDF product through ``engine="hda"``, against plain xarray on the same local file.

Both run in this process, by turns, so that what else the machine does meets both. The file is real
where ../shared/data is there (a day of sea level of the Mediterranean), else made up.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._serving import serve, verdict  # isort: skip

import numpy as np
import xarray as xr

DATASET = "EO:TEST:DAT:ONE"
PRODUCT = "dt_20050301.nc"
PATH = f"hda://{DATASET}/startdate=2005-03-01/enddate=2005-03-01/{PRODUCT}"
REAL = Path(__file__).resolve().parents[2] / "shared/data/cmems"
ROUNDS = 150
MAX_OPEN, MAX_READ = 1.3, 1.1


def one_product(path: str) -> list[Any]:
    """Return one data set of one product."""
    from hda_fsspec.emulator import DatasetEntry, dated_product

    return [DatasetEntry(DATASET, [dated_product(PRODUCT, Path(path))])]


def _file(folder: Path) -> Path:
    found = sorted(REAL.glob("duacs-med-adt-2005q2/**/*.nc"))
    if found:
        return found[0]
    path = folder / "made.nc"
    values = np.random.default_rng(1).random((1, 128, 344), "f4")
    xr.Dataset(
        dict.fromkeys(("sla", "adt", "ugos"), (("time", "latitude", "longitude"), values)),
        coords={
            "time": [np.datetime64("2005-03-01", "ns")],
            "latitude": np.arange(128.0),
            "longitude": np.arange(344.0),
        },
    ).to_netcdf(path, encoding={"sla": {"zlib": True}})
    return path


def _by_turns(ways: dict[str, Callable[[], float | None]], rounds: int) -> dict[str, float]:
    """Return the median of the seconds of each way, which it may measure by itself."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 3):
        for name, way in ways.items():
            began = time.perf_counter()
            inner = way()
            if turn >= 3:
                seconds[name].append(inner or time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in seconds.items()}


def main() -> None:
    """Measure, and print a table; a ratio is to plain xarray."""
    from hda_fsspec import HDAFileSystem, opened

    with tempfile.TemporaryDirectory() as scratch:
        file = _file(Path(scratch))
        told = f"{file.name}, {file.stat().st_size / 1000:.0f} kB, medians"
        with serve("benchmarks.cached_product:one_product", str(file)) as served:
            options = served.options(Path(scratch) / "cache")
            local = HDAFileSystem(**options).prefetch([PATH])[0]
        # The emulator is gone: nothing here needs it.

        def plain() -> None:
            xr.open_dataset(local, engine="netcdf4").close()

        def engine() -> None:
            xr.open_dataset(PATH, engine="hda", storage_options=options).close()
            # Else the file would be open when it is plain xarray's turn, and HDF5 open it faster.
            opened.clear_pool()

        def read(**how: Any) -> float:
            with xr.open_dataset(**how) as ds:
                began = time.perf_counter()
                ds.load()
                seconds = time.perf_counter() - began
            opened.clear_pool()
            return seconds

        def read_plain() -> float:
            return read(filename_or_obj=local, engine="netcdf4")

        def read_engine() -> float:
            return read(filename_or_obj=PATH, engine="hda", storage_options=options)

        opening = _by_turns({"plain": plain, "engine": engine}, ROUNDS)
        reading = _by_turns({"plain": read_plain, "engine": read_engine}, ROUNDS)

    print(f"{told}\n")
    print(f"{'':40}{'ms':>8}{'ratio':>8}")
    for title, times in (("open", opening), ("read all values", reading)):
        for name, median in times.items():
            label = f"{title}: {name}"
            print(f"{label:40}{median * 1000:8.2f}{median / times['plain']:7.2f}x")
    for title, times, target in (("open", opening, MAX_OPEN), ("read", reading, MAX_READ)):
        ratio = times["engine"] / times["plain"]
        print(f"\n{title}: {ratio:.2f}x, target {target}x: {verdict(is_met=ratio <= target)}")


if __name__ == "__main__":
    main()
