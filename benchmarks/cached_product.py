"""One cached netCDF product through ``engine="hda"``, against plain xarray on the same local file.

Both run in this process, by turns, so that what else the machine does meets both. The files are
real where ../shared/data is there (sea level of the Mediterranean, sea surface temperature of the
world), else made up.
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
REAL = Path(__file__).resolve().parents[2] / "shared/data"
ROUNDS = 150
MAX_OPEN, MAX_READ = 1.3, 1.1


def one_product(path: str) -> list[Any]:
    """Return one data set of one product."""
    from hda_fsspec.emulator import DatasetEntry, dated_product

    return [DatasetEntry(DATASET, [dated_product(PRODUCT, Path(path))])]


def _files(folder: Path) -> list[Path]:
    """Return a small and a large file: real ones, or one that is made up."""
    patterns = ("cmems/duacs-med-adt-2005q2/daily/*.nc", "other/oisst-avhrr-*.nc")
    found = [path for pattern in patterns for path in sorted(REAL.glob(pattern))[:1]]
    if found:
        return found
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
    return [path]


def _by_turns(ways: dict[str, Callable[[], float | None]], rounds: int) -> dict[str, float]:
    """Return the median of the seconds of each way, which it may measure by itself."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 3):
        # None is always the one that comes after the other.
        for name, way in sorted(ways.items(), reverse=turn % 2 == 1):
            began = time.perf_counter()
            inner = way()
            if turn >= 3:
                seconds[name].append(inner or time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in seconds.items()}


def _measure(file: Path, cache_dir: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return the seconds of opening a file, and of reading all of its values."""
    from hda_fsspec import HDAFileSystem
    from hda_fsspec.lazy import opened

    with serve("benchmarks.cached_product:one_product", str(file)) as served:
        options = served.options(cache_dir)
        local = HDAFileSystem(**options).prefetch([PATH])[0]
    # The emulator is gone: nothing here needs it.
    ours: dict[str, Any] = {
        "filename_or_obj": PATH,
        "engine": "hda",
        "storage_options": options,
    }
    theirs: dict[str, Any] = {"filename_or_obj": local, "engine": "netcdf4"}

    def plain() -> None:
        xr.open_dataset(**theirs).close()

    def engine() -> None:
        xr.open_dataset(**ours).close()
        # Else the file would be open when it is plain xarray's turn, and HDF5 open it faster.
        opened.clear_pool()

    def read(how: dict[str, Any]) -> float:
        with xr.open_dataset(**how) as ds:
            began = time.perf_counter()
            ds.load()
            seconds = time.perf_counter() - began
        opened.clear_pool()
        return seconds

    opening = _by_turns({"plain": plain, "engine": engine}, ROUNDS)
    reading = _by_turns({"plain": lambda: read(theirs), "engine": lambda: read(ours)}, ROUNDS)
    return opening, reading


def main() -> None:
    """Measure, and print a table; a ratio is to plain xarray."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, file in enumerate(_files(Path(scratch))):
            size = f"{file.stat().st_size / 1000:.0f} kB"
            opening, reading = _measure(file, Path(scratch) / f"cache-{number}")
            rows.append((f"open, {size}", opening, MAX_OPEN))
            rows.append((f"read all values, {size}", reading, MAX_READ))
    print(f"medians of {ROUNDS} rounds\n")
    print(f"{'':28}{'plain, ms':>10}{'engine, ms':>12}{'ratio':>8}{'target':>8}")
    for title, times, target in rows:
        plain, engine = times["plain"] * 1000, times["engine"] * 1000
        ratio = engine / plain
        line = f"{title:28}{plain:10.2f}{engine:12.2f}{ratio:7.2f}x{target:7.1f}x"
        print(f"{line}  {verdict(is_met=ratio <= target)}")


if __name__ == "__main__":
    main()
