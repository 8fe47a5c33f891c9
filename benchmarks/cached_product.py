"""One cached netCDF product through ``engine="hda"``, against plain xarray on the same local file.

Both run in this process, by turns, and a ratio is that of one turn: the speed of a machine that
others use changes within a run, and would be taken for that of one of them. The files are real
where ../shared/data is there (sea level of the Mediterranean, sea surface temperature of the
world), else made up.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._serving import serve, verdict  # isort: skip

import numpy as np
import xarray as xr

DATASET = "EO:TEST:DAT:ONE"
PRODUCT = "dt_20050301.nc"
PATH = f"hda://{DATASET}/startdate=2005-03-01/enddate=2005-03-01/{PRODUCT}"
REAL = Path(__file__).resolve().parents[2] / "shared/data"
ROUNDS = 300
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


class _Seen(NamedTuple):
    """Medians: the seconds of plain xarray and of the engine, and what the engine takes of it."""

    plain: float
    engine: float
    ratio: float


def _by_turns(
    plain: Callable[[], float], engine: Callable[[], float], rounds: int = ROUNDS
) -> _Seen:
    """Return what two ways take, which they measure by themselves."""
    turns = []
    for turn in range(rounds + 3):
        # None is always the one that comes after the other.
        if turn % 2:
            ours, theirs = engine(), plain()
        else:
            theirs, ours = plain(), engine()
        if turn >= 3:
            turns.append((theirs, ours, ours / theirs))
    return _Seen(*map(statistics.median, zip(*turns, strict=True)))


def _measure(file: Path, cache_dir: Path) -> tuple[_Seen, _Seen]:
    """Return what opening a file takes, and what reading all of its values does."""
    from hda_fsspec import HDAFileSystem, Settings
    from hda_fsspec.client import get_client

    with serve("benchmarks.cached_product:one_product", str(file)) as served:
        options = served.options(cache_dir)
        client = get_client(Settings.resolve(**options))
        local = HDAFileSystem(**options).prefetch([PATH])[0]
    # The emulator is gone: nothing here needs it.
    ours: dict[str, Any] = {
        "filename_or_obj": PATH,
        "engine": "hda",
        "storage_options": options,
    }
    theirs: dict[str, Any] = {"filename_or_obj": local, "engine": "netcdf4"}

    def opening(how: dict[str, Any]) -> float:
        began = time.perf_counter()
        xr.open_dataset(**how).close()
        if how is ours:
            # Else the file would be open when it is plain xarray's turn, and HDF5 open it faster.
            client.resources.close()
        return time.perf_counter() - began

    def reading(how: dict[str, Any]) -> float:
        with xr.open_dataset(**how) as ds:
            began = time.perf_counter()
            ds.load()
            seconds = time.perf_counter() - began
        client.resources.close()
        return seconds

    return (
        _by_turns(lambda: opening(theirs), lambda: opening(ours)),
        _by_turns(lambda: reading(theirs), lambda: reading(ours)),
    )


def main() -> None:
    """Measure, and print a table; a ratio is to plain xarray."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, file in enumerate(_files(Path(scratch))):
            size = f"{file.stat().st_size / 1000:.0f} kB"
            to_open, to_read = _measure(file, Path(scratch) / f"cache-{number}")
            rows.append((f"open, {size}", to_open, MAX_OPEN))
            rows.append((f"read all values, {size}", to_read, MAX_READ))
    print(f"medians of {ROUNDS} rounds\n")
    print(f"{'':28}{'plain, ms':>10}{'engine, ms':>12}{'ratio':>8}{'target':>8}")
    for title, seen, target in rows:
        line = f"{title:28}{seen.plain * 1000:10.2f}{seen.engine * 1000:12.2f}"
        line += f"{seen.ratio:7.2f}x{target:7.1f}x"
        print(f"{line}  {verdict(is_met=seen.ratio <= target)}")


if __name__ == "__main__":
    main()
