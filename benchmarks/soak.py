"""Many products through a cluster, from a service that spoils some of its answers at random.

``python -m benchmarks.soak --products 2000 --fault-rate 0.05``. The emulator runs in a process of
its own. After each block of products every worker tells what it holds: files, sockets, threads,
memory. At the end that is compared with half-way, when pools are filled; then all products are read
again from the cache some times, and then the cached files by xarray alone: a worker, in which Dask
keeps logs of its own, must not grow faster by the former. All values are compared with what was
served.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._clusters import open_days, start_cluster
from benchmarks._serving import Counters, Served, serve, verdict

# What a worker may hold more at the end than half-way. Two pools of 64 open products, and the
# connections, may not have been full then; and each process keeps some kilobytes of each product.
_MORE_FILES = 80
_MORE_SOCKETS = 8
_MORE_THREADS = 8
_MORE_MEMORY_BYTES = 48 << 20
# … and how much more it may grow while all that is cached is read again, than over plain files.
_MORE_AGAIN_BYTES = 8 << 20


@dataclasses.dataclass(frozen=True)
class Held:
    """What a worker holds."""

    files: int
    sockets: int
    threads: int
    memory_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.files:5} files {self.sockets:4} sockets {self.threads:4} threads "
            f"{self.memory_bytes / 2**20:6.0f} MiB"
        )

    def is_at_most(self, other: Held) -> bool:
        """Whether this is no more than another one, but for what pools are filled with."""
        return (
            self.files <= other.files + _MORE_FILES
            and self.sockets <= other.sockets + _MORE_SOCKETS
            and self.threads <= other.threads + _MORE_THREADS
            and self.memory_bytes <= other.memory_bytes + _MORE_MEMORY_BYTES
        )


def held_here() -> Held:
    """Return what this process holds, after a collection of garbage."""
    import gc

    import psutil

    gc.collect()
    process = psutil.Process()
    kinds = [Path(f"/proc/self/fd/{fd.name}") for fd in Path("/proc/self/fd").iterdir()]
    targets = []
    for link in kinds:
        try:
            targets.append(str(link.readlink()))
        except FileNotFoundError:
            continue  # the listing itself
    sockets = sum(target.startswith("socket:") for target in targets)
    return Held(
        files=len(targets) - sockets,
        sockets=sockets,
        threads=process.num_threads(),
        memory_bytes=process.memory_info().rss,
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Run the soak; ends with status 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=2000)
    parser.add_argument("--width", type=int, default=5000, help="values of a product, 8 bytes each")
    parser.add_argument("--fault-rate", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=10, help="how often to look")
    parser.add_argument("--again", type=int, default=3, help="how often to read all again")
    given = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve(
            "benchmarks._clusters:daily",
            given.products,
            given.width,
            options={
                "fault_rate": given.fault_rate,
                "fault_seed": given.seed,
                "token_seconds": 60,
            },
        ) as served,
    ):
        verdicts = _soak(served, Path(scratch), given)
    print()
    for what, is_met in verdicts.items():
        print(f"{what}: {verdict(is_met=is_met)}")
    if not all(verdicts.values()):
        sys.exit(1)


def _soak(served: Served, scratch: Path, given: argparse.Namespace) -> dict[str, bool]:
    import numpy as np

    ds = open_days(served, scratch / "cache")
    means = ds["value"].mean("x")
    ends = [given.products * (n + 1) // given.blocks for n in range(given.blocks)]
    samples: list[dict[str, Held]] = []
    wrong = lost = 0
    began = time.perf_counter()
    with start_cluster(served, scratch, workers=given.workers, threads=given.threads) as client:
        for begin, end in zip([0, *ends], ends, strict=False):
            expected = np.arange(begin, end)
            try:
                values = client.compute(means[begin:end]).result().values
            except Exception as err:  # noqa: BLE001  (counted, and shown)
                lost += 1
                print(f"products {begin} to {end}: {type(err).__name__}: {err}")
            else:
                wrong += int((np.abs(values - expected) > 1e-6).sum())
            seconds = time.perf_counter() - began
            print(f"\n{end} products, {seconds:.0f} s, {wrong} wrong values, {lost} errors")
            samples.append(_look(client))
        again = _grown(client, means, "from the cache", given.again)
        plain = _grown(client, _open_plainly(scratch / "cache"), "by xarray alone", given.again)
        names = _look(client).keys()
    half = samples[(len(samples) - 1) // 2]
    counted = served.count()
    _tell(counted, given)
    return {
        f"all values right ({wrong} wrong)": wrong == 0,
        f"no error reached the job ({lost})": lost == 0,
        f"one new order for each product ({counted.new_orders} of {given.products})": (
            counted.new_orders == given.products
        ),
        f"one complete download for each product ({counted.whole_files})": (
            counted.whole_files == given.products
        ),
        "no worker holds more at the end than half-way": all(
            last.is_at_most(half[name]) for name, last in samples[-1].items()
        ),
        f"no worker grows faster than over plain files (by {again / 2**20:.0f} and "
        f"{plain / 2**20:.0f} MiB)": again <= plain + _MORE_AGAIN_BYTES,
        "no worker was lost": samples[0].keys() == names,
    }


def _open_plainly(cache_dir: Path) -> Any:
    import xarray as xr

    paths = list(cache_dir.rglob("products/**/*.nc"))
    by_name: list[Any] = sorted(paths, key=lambda path: path.name)
    ds = xr.open_mfdataset(
        by_name,
        engine="netcdf4",
        chunks={},
        combine="nested",
        concat_dim="time",
    )
    return ds["value"].mean("x")


def _grown(client: Any, means: Any, how: str, times: int) -> float:
    """Compute all means again and again, and return by how many bytes a worker grows meanwhile."""
    looks = []
    for number in range(1, times + 2):
        client.compute(means + number).result()
        print(f"\nall of them once more {how}, {number}")
        looks.append(_look(client))
    return statistics.median(
        last.memory_bytes - looks[0][name].memory_bytes for name, last in looks[-1].items()
    )


def _look(client: Any) -> dict[str, Held]:
    at = {address: info["name"] for address, info in _workers(client).items()}
    found = client.run(held_here)
    held = {str(at[address]): found[address] for address in sorted(found, key=lambda a: at[a])}
    for name, each in held.items():
        print(f"  worker {name}: {each}")
    return held


def _workers(client: Any) -> dict[str, Any]:
    # Not client.scheduler_info: what it returns, a timer of the client overwrites without workers.
    found: dict[str, Any] = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return found


def _tell(counted: Counters, given: argparse.Namespace) -> None:
    spoilt = sum(counted.faults.values())
    share = spoilt / max(1, counted.requests)
    print(
        f"\n{counted.requests} requests, {spoilt} answers spoilt ({share:.1%}; asked for "
        f"{given.fault_rate:.1%}): {dict(sorted(counted.faults.items()))}\n"
        f"{counted.orders} orders, {counted.new_orders} of them new; {counted.whole_files} "
        f"complete downloads, {counted.sent_bytes / 1e6:.1f} MB sent"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
