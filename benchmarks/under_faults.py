"""What becomes of the official client, and of this package, under the same faults.

Each line is measured: one emulator, one fresh process of one client, both as they come, with a time
limit. Faults and time limit are in ``_faults.py``. Several lines run at one time, since most of
them wait; so seconds are told in whole ones. Prints a Markdown table.
"""

from __future__ import annotations

import concurrent.futures
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path

import netCDF4
import numpy as np

import hda_fsspec
from benchmarks import _official
from benchmarks._faults import CASES, LIMIT_SECONDS, Case
from benchmarks._job import OFFICIAL, OURS
from benchmarks._serving import serve
from benchmarks._stage import Run, Stage

AT_A_TIME = 6

_writing = threading.Lock()


def make_products(folder: Path, count: int, size: int) -> None:
    """Write netCDF-4 files of about as many bytes, one a day, that cannot be compressed."""
    folder.mkdir()
    # The library is not safe for threads.
    with _writing:
        _write_products(folder, count, size)


def _write_products(folder: Path, count: int, size: int) -> None:
    numbers = np.random.default_rng(count)
    for day in range(1, count + 1):
        with netCDF4.Dataset(folder / f"faults_202401{day:02}.nc", "w") as file:
            file.createDimension("x", size // 4)
            file.createVariable("value", "f4", ("x",))[:] = numbers.random(size // 4, "f4")


def observe(case: Case, client: str) -> str:
    """Play a case with a client, and return its line of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = folder / "source"
        make_products(source, case.products, case.size)
        make = "benchmarks._stage:products_in"
        with serve(make, str(source), options=case.options) as served:
            for fault in case.faults:
                served.fault(**fault)
            (folder / "client").mkdir()
            stage = Stage(served, client, folder / "client", source)
            run, note = case.play(stage)
            count = served.count()
            files = stage.files()
    seen = f"{files}; {note}" if note else files
    cells = [_ending(run), seen, f"{count.orders}", f"{count.requests}", f"{run.seconds:.0f}"]
    return f"| {case.title} | `{client}` | " + " | ".join(cells) + " |"


def _ending(run: Run) -> str:
    if not run.ended:
        return f"still trying after {LIMIT_SECONDS:.0f} s"
    if run.raised is not None:
        return f"raises `{run.raised.partition(':')[0]}`"
    if run.logged:
        return f"no error; logs {', '.join(f'`{name}`' for name in sorted(set(run.logged)))}"
    return "no error"


def main() -> None:
    """Observe all, and print the table."""
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        lines = [
            pool.submit(observe, case, client) for case in CASES for client in (OFFICIAL, OURS)
        ]
        today = datetime.now(UTC).date().isoformat()
        print(f"hda {_official.version()}, hda_fsspec {hda_fsspec.__version__}, {today}\n")
        print(
            "| fault | client | ends with | files under their final names | orders | requests | s |"
        )
        print("|---|---|---|---|---|---|---|")
        for line in lines:
            print(line.result(), flush=True)


if __name__ == "__main__":
    main()
