"""The way through the package: how many modules and functions each of three jobs goes through.

The jobs are: list a query, open it as one data set, and compute one chunk of it, each at first and
again. The emulator runs in another process, and all modules are imported before, so that neither is
counted. Numbers are for orientation: they have no target.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks._serving import run_alone, serve

DATASET = "EO:TEST:DAT:DAILY"
QUERY = f"hda://{DATASET}/startdate=2024-01-01/enddate=2024-01-31"

_WALK = """\
import collections, contextlib, importlib, pkgutil, sys, threading
import fsspec, xarray as xr
import hda_fsspec

root = hda_fsspec.__path__[0]
for module in pkgutil.walk_packages(hda_fsspec.__path__, "hda_fsspec."):
    if module.name.split(".")[1] not in {"cli", "emulator", "probing"}:
        importlib.import_module(module.name)
xr.backends.list_engines()
is_counting = False
calls, turns, last = collections.Counter(), collections.Counter(), threading.local()

def note(frame, event, _):
    code = frame.f_code
    if event != "call" or not is_counting or not code.co_filename.startswith(root):
        return
    if code.co_name.startswith("<"):  # a comprehension, or a lambda
        return
    calls[code] += 1
    if getattr(last, "file", None) != code.co_filename:
        last.file = code.co_filename
        turns["turns"] += 1

def walk(job):
    global is_counting
    calls.clear()
    turns.clear()
    is_counting = True
    found = job()
    is_counting = False
    modules = {code.co_filename for code in calls}
    return found, [len(modules), len(calls), sum(calls.values()), turns["turns"]]

# Before there is any other thread: each is profiled from its beginning.
threading.setprofile(note)
sys.setprofile(note)
fs = fsspec.filesystem("hda", **given["options"])
told = {}
if given["what"] == "list":
    for turn in ("cold", "warm"):
        _, told[f"fs.ls, {turn}"] = walk(lambda: fs.ls(given["query"]))
else:
    open_it = lambda: xr.open_dataset(
        given["query"], engine="hda", chunks={}, storage_options=given["options"]
    )
    ds, told[f"open_dataset, {given['what']}"] = walk(open_it)
    if given["what"] == "cold":
        _, told["open_dataset, again in one process"] = walk(open_it)
        for state in ("not local", "local, and open"):
            _, told[f"one chunk, {state}"] = walk(lambda: ds.sst[3].compute())
    else:
        _, told["one chunk, local"] = walk(lambda: ds.sst[3].compute())
print(json.dumps(told))
"""


def a_month(folder: str) -> list[Any]:
    """Return one data set of a month of daily products."""
    import numpy as np
    import xarray as xr

    from hda_fsspec.emulator import DatasetEntry, dated_product

    products = []
    for day in range(1, 32):
        path = Path(folder) / f"sst_202401{day:02}.nc"
        xr.Dataset(
            {"sst": (("time", "lat", "lon"), np.full((1, 4, 8), day, "f4"))},
            coords={"time": [np.datetime64(f"2024-01-{day:02}T12:00", "ns")]},
        ).to_netcdf(path)
        products.append(dated_product(path.name, path))
    return [DatasetEntry(DATASET, products)]


def main() -> None:
    """Walk, and print a table."""
    print(f"{'':38}{'modules':>9}{'functions':>11}{'calls':>8}{'changes of module':>19}")
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve("benchmarks.walks:a_month", scratch) as served,
    ):
        for what, cache in (("cold", "open"), ("with kept headers", "open"), ("list", "list")):
            options = served.options(Path(scratch) / cache)
            walks = run_alone(_WALK, {"what": what, "query": QUERY, "options": options})
            for name, (modules, functions, calls, turns) in walks.items():
                print(f"{name:38}{modules:9}{functions:11}{calls:8,}{turns:19,}")


if __name__ == "__main__":
    main()
