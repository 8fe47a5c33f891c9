"""What a Dask cluster gets from a service that prepares slowly, spoils answers and has one quota.

Four questions, each with a target: is anything lost in a storm of 8 processes with 8 threads each;
how near to the ideal do orders overlap; what does a compute over cached products cost beside the
same graph over local files; and does a compute by two threads wait for orders one after another.
``python -m benchmarks.dask_cluster storm`` asks only that one.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._clusters import QUERY, open_days, start_cluster, write_days
from benchmarks._serving import Served, serve, verdict

_DAILY = "benchmarks._clusters:daily"
_MAX_ORDERS = 20  # the default
_ROUNDS = 7


def storm(scratch: Path) -> bool:
    """8 processes of 8 threads which all compute the same 200 products, at 5 % faults."""
    import numpy as np

    count, processes = 200, 8
    wrong = lost = 0
    options = {"fault_rate": 0.05, "fault_seed": 3, "preparation_seconds": 0.2}
    with serve(_DAILY, count, 2000, options=options) as served:
        means = open_days(served, scratch / "cache")["value"].mean("x")
        with start_cluster(served, scratch, workers=processes, threads=8) as client:
            began = time.perf_counter()
            futures = [
                client.compute(means + number, workers=[number]) for number in range(processes)
            ]
            for number, future in enumerate(futures):
                try:
                    values = future.result().values
                except Exception as err:  # noqa: BLE001  (counted, and shown)
                    lost += 1
                    print(f"process {number}: {type(err).__name__}: {err}")
                else:
                    wrong += int((np.abs(values - number - np.arange(count)) > 1e-6).sum())
            seconds = time.perf_counter() - began
        counted = served.count()
    is_met = (counted.new_orders, counted.whole_files, wrong, lost) == (count, count, 0, 0)
    print(
        f"storm: {processes} processes x 8 threads, {count} products, "
        f"{sum(counted.faults.values())} of {counted.requests} answers spoilt, {seconds:.1f} s\n"
        f"  {counted.new_orders} new orders, {counted.whole_files} complete downloads, "
        f"{wrong} wrong values, {lost} errors; target {count}, {count}, 0, 0: "
        f"{verdict(is_met=is_met)}"
    )
    return is_met


def scaling(scratch: Path) -> bool:
    """200 products of 1 s preparation on 4 processes, against preparation overlapped fully."""
    count, width, preparation = 200, 60_000, 1.0
    options = {"preparation_seconds": preparation}
    with serve(_DAILY, count, width, options=options) as served:
        transfer = count * _seconds_of_one_stream(scratch)
        means = open_days(served, scratch / "cache")["value"].mean("x")
        with start_cluster(served, scratch, workers=4, threads=2) as client:
            began = time.perf_counter()
            client.compute(means).result()
            seconds = time.perf_counter() - began
        most = served.count().in_preparation
    ideal = math.ceil(count / _MAX_ORDERS) * preparation + transfer
    is_met = seconds <= 1.5 * ideal
    print(
        f"scaling: {count} products of {preparation:g} s on 4 processes: {seconds:.1f} s, at most "
        f"{most} in preparation\n"
        f"  ideal {ideal:.1f} s (transfer {transfer:.1f} s of it): {seconds / ideal:.2f}, "
        f"target 1.5: {verdict(is_met=is_met)}"
    )
    return is_met


def _seconds_of_one_stream(scratch: Path) -> float:
    """Return what one product takes that is ready when it is ordered, over one connection."""
    from hda_fsspec import HDAFileSystem

    with serve(_DAILY, 20, 60_000) as served:
        fs = HDAFileSystem(**served.options(scratch / "single"), max_connections=1)
        paths = fs.ls(QUERY.removesuffix("/*"), detail=False)
        fs.cat(paths[0])
        began = time.perf_counter()
        for path in paths[1:]:
            fs.cat(path)
        return (time.perf_counter() - began) / (len(paths) - 1)


def overhead(scratch: Path) -> bool:
    """Compute over 200 cached products, beside the same graph over local files."""
    import xarray as xr

    count, width = 200, 200_000
    files = scratch / "files"
    files.mkdir()
    paths = write_days(files, count, width)
    local = xr.open_mfdataset(
        paths, engine="netcdf4", chunks={}, combine="nested", concat_dim="time"
    )["value"].mean("x")
    with serve(_DAILY, count, width) as served:
        ours = open_days(served, scratch / "cache")["value"].mean("x")
        with start_cluster(served, scratch, workers=2, threads=1) as client:
            ratios = []
            for number in range(_ROUNDS + 1):
                ways = [ours, local] if number % 2 else [local, ours]
                seconds = {id(way): _seconds(client, way + number) for way in ways}
                # The first fetches what is not cached yet.
                if number:
                    ratios.append((seconds[id(ours)], seconds[id(local)]))
    ratio = statistics.median(a / b for a, b in ratios)
    is_met = ratio <= 1.1
    print(
        f"overhead: {count} cached products on 2 processes, median of {_ROUNDS} rounds side by "
        f"side\n  {statistics.median(a for a, _ in ratios):.2f} s, local files "
        f"{statistics.median(b for _, b in ratios):.2f} s: {ratio:.3f}, target 1.1: "
        f"{verdict(is_met=is_met)}"
    )
    return is_met


def _seconds(client: Any, lazy: Any) -> float:
    began = time.perf_counter()
    client.compute(lazy).result()
    return time.perf_counter() - began


def two_threads(scratch: Path) -> bool:
    """60 products of 3 s preparation on two threads: alone, and as a worker of a cluster."""
    count, preparation = 60, 3.0
    target = math.ceil(count / _MAX_ORDERS) * preparation
    is_met = True
    for number, way in enumerate(("threads", "a cluster of 1 worker")):
        options = {"preparation_seconds": preparation}
        with serve(_DAILY, count, 2000, options=options) as served:
            seconds = _two_threads(served, scratch / str(number), is_cluster=number == 1)
        # The template was ordered before.
        is_met = is_met and seconds <= target * 1.2
        print(
            f"two threads, {way}: {count} products of {preparation:g} s in {seconds:.1f} s, "
            f"target about {target:.0f} s: {verdict(is_met=seconds <= target * 1.2)}"
        )
    return is_met


def _two_threads(served: Served, scratch: Path, *, is_cluster: bool) -> float:
    means = open_days(served, scratch / "cache")["value"].mean("x")
    if not is_cluster:
        began = time.perf_counter()
        means.compute(scheduler="threads", num_workers=2)
        return time.perf_counter() - began
    with start_cluster(served, scratch, workers=1, threads=2) as client:
        return _seconds(client, means)


_QUESTIONS: dict[str, Callable[[Path], bool]] = {
    "storm": storm,
    "scaling": scaling,
    "overhead": overhead,
    "two_threads": two_threads,
}


def main(wanted: Sequence[str] = ()) -> None:
    """Ask the questions of these names, all if there are none."""
    for name in wanted or _QUESTIONS:
        with tempfile.TemporaryDirectory() as scratch:
            _QUESTIONS[name](Path(scratch))


if __name__ == "__main__":
    main(sys.argv[1:])
