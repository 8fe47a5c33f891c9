"""Whether what opens something with xarray ends with exit code 0, with all extras installed.

``python exit_codes.py``, in an environment of its own. Native libraries that do not go together
abort Python at its end, after all work is done: a batch system then takes a job for failed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

TIMEOUT_SECONDS = 120
OPEN = "import xarray as xr; print(float(xr.open_dataset({path!r}).sst.sum()))"
FIRST = (
    "",
    "import eccodes; ",
    "import pyproj; ",
    "import rioxarray; ",
    "import cfgrib, rasterio; ",
)
SPOOL = ("-m", "distributed.cli.dask_worker", "--no-nanny", "--no-dashboard", "--nthreads", "1")


def run(what: str, *command: str) -> None:
    """Run a command, and end if it does not end well."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    judge(what, done.returncode, done.stderr)


def judge(what: str, code: int | None, stderr: str) -> None:
    """Tell an exit code, and end with it if it is not 0."""
    print(f"exit code {code}: {what}")
    if code != 0:
        sys.exit(stderr or f"{what} did not end well")


def run_worker(path: str, folder: Path) -> None:
    """Let a worker of Dask open the file, and end."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=0,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        worker = subprocess.Popen(
            [sys.executable, *SPOOL, cluster.scheduler_address, "--local-directory", str(folder)],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            client.wait_for_workers(1, timeout=TIMEOUT_SECONDS)
            total = client.submit(lambda: float(xr.open_dataset(path).sst.sum())).result()
            client.shutdown()
            _, stderr = worker.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            worker.kill()
    judge(f"a worker of Dask, which read {total}", worker.returncode, stderr)


def main() -> None:
    """Run all."""
    with tempfile.TemporaryDirectory() as name:
        path = str(Path(name) / "sst.nc")
        xr.Dataset({"sst": ("x", np.array([1.0, 2.0]))}).to_netcdf(path)
        for first in FIRST:
            run(
                f"python -c {first + 'open a file'!r}",
                sys.executable,
                "-c",
                first + OPEN.format(path=path),
            )
        run("hda-fsspec demo", sys.executable, "-m", "hda_fsspec.cli", "demo")
        run_worker(path, Path(name))


if __name__ == "__main__":
    main()
