"""A program for tests: for each line that it reads it forks a process, which computes.

A line is JSON: ``query``, ``settings``, ``open`` (more options), ``variable``, ``over`` (the
dimensions of the mean), and ``outcome``, the file that the process writes the values to, or its
error. The id of the process is printed. It starts in milliseconds, since
everything is imported here already.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import netCDF4
import xarray as xr

import hda_fsspec.engine.lazy_imports

assert netCDF4
assert hda_fsspec.engine.lazy_imports


def _compute(job: dict[str, Any]) -> None:
    outcome = Path(job["outcome"])
    try:
        ds = xr.open_dataset(
            job["query"],
            engine="hda",
            chunks={},
            storage_options=job["settings"],
            **job["open"],
        )
        means = ds[job["variable"]].mean(job["over"])
        told = means.compute(scheduler="threads", num_workers=2).values.tolist()
    except BaseException as err:
        told = repr(err)
    outcome.with_suffix(".tmp").write_text(json.dumps(told))
    outcome.with_suffix(".tmp").rename(outcome)


def main() -> None:
    """Fork for each line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    xr.backends.list_engines()
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                _compute(job)
            finally:
                os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
