"""The mean over a year of cached daily files, against a plain loop of netCDF4 over the same files.

Opening is included. Each time is a fresh process, which has imported everything. "First" has the
products in the cache and nothing else; "again" has been opened before, so that the headers of what
was read are kept. Results are compared.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._serving import run_alone, serve, verdict

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "cams" / "eac4-co-2022" / "daily"
DATASET = "EO:TEST:DAT:EAC4"
QUERY = f"hda://{DATASET}/startdate=2022-01-01/enddate=2022-12-31"
ROUNDS = 5
LOOP = "netCDF4, loop"
#: Whether Dask is used, and how many times the loop it may take.
WAYS: dict[str, tuple[bool, float]] = {
    "engine, chunks={}, first": (True, 2.0),
    "engine, chunks={}, again": (True, 2.0),
    "engine, without Dask, first": (False, 1.3),
    "engine, without Dask, again": (False, 1.3),
}

_MEASURE = """\
import contextlib, time
from pathlib import Path
import netCDF4, numpy as np, dask.array, xarray as xr
import hda_fsspec.engine.lazy_imports
with contextlib.suppress(ImportError):
    import distributed  # Dask loads it when it first computes
xr.backends.list_engines()
files = sorted(Path(given["folder"]).glob("*.nc"))
began, worked = time.perf_counter(), time.process_time()
if given["way"] == "loop":
    totals, count = {}, 0
    for file in files:
        with netCDF4.Dataset(file) as ds:
            count += len(ds.dimensions["valid_time"])
            for name, variable in ds.variables.items():
                if variable.dtype.kind == "f" and variable.dimensions[0] == "valid_time":
                    totals[name] = totals.get(name, 0) + variable[:].sum(axis=0, dtype="f8")
    result = {name: total / count for name, total in totals.items()}
else:
    chunks = {} if given["way"] == "chunks" else None
    with xr.open_dataset(
        given["query"], engine="hda", chunks=chunks, storage_options=given["options"]
    ) as ds:
        result = ds.mean("valid_time").compute()
total, seconds = time.perf_counter() - began, time.process_time() - worked
print(json.dumps([total, seconds, {str(name): float(result[name].sum()) for name in result}]))
"""


def a_year() -> list[Any]:
    """Return one data set of the files."""
    from hda_fsspec.emulator import DatasetEntry, dated_product

    return [DatasetEntry(DATASET, [dated_product(p.name, p) for p in sorted(FOLDER.glob("*.nc"))])]


def main() -> None:
    """Measure, and print a table of medians; a ratio is that of one turn."""
    from hda_fsspec import HDAFileSystem

    if not FOLDER.is_dir():
        print(f"Not run: the folder of real files {FOLDER} is absent.")
        return
    seen: dict[str, list[list[Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch, serve("benchmarks.mean_of_a_year:a_year") as it:
        for turn in range(ROUNDS):
            seen.setdefault(LOOP, []).append(_run("loop", {}))
            for name, (has_dask, _) in WAYS.items():
                options = it.options(Path(scratch) / f"{'dask' if has_dask else 'none'}-{turn}")
                if name.endswith("first"):
                    HDAFileSystem(**options).prefetch(QUERY)
                row = _run("chunks" if has_dask else "whole", options)
                _check(name, row[2], seen[LOOP][0][2])
                seen.setdefault(name, []).append(row)
    print(f"median of {ROUNDS} rounds, seconds\n")
    print(f"{'':30}{'in all':>8}{'CPU':>8}{'ratio':>9}{'target':>8}")
    for name, rows in seen.items():
        in_all, cpu = (statistics.median(row[column] for row in rows) for column in range(2))
        turns = zip(rows, seen[LOOP], strict=True)
        ratio = statistics.median(row[0] / plain[0] for row, plain in turns)
        line = f"{name:30}{in_all:8.2f}{cpu:8.2f}{ratio:8.2f}x"
        if name in WAYS:
            most = WAYS[name][1]
            line += f"{most:7.1f}x  {verdict(is_met=ratio <= most)}"
        print(line)


def _run(way: str, options: dict[str, Any]) -> list[Any]:
    given = {"way": way, "folder": str(FOLDER), "query": QUERY, "options": options}
    row: list[Any] = run_alone(_MEASURE, given)
    return row


def _check(name: str, found: dict[str, float], expected: dict[str, float]) -> None:
    import numpy as np

    wrong = [key for key in expected if not np.isclose(found[key], expected[key], rtol=1e-5)]
    if wrong:
        msg = f"{name} computes something else of {wrong[0]}: {found}, not {expected}."
        raise RuntimeError(msg)


if __name__ == "__main__":
    main()
