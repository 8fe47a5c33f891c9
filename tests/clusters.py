"""Dask clusters of real worker processes, for tests: quick to start, and none is left behind.

The tests of a module share a cluster, and give its workers another environment for each test. All
workers of this process are forked from one server, which has imported what is large, but nothing
of this package: a worker imports that as its tasks ask for it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import dask
import numpy as np
import xarray as xr
from distributed import Client, LocalCluster
from distributed.utils import get_mp_context

#: What a setting of the machine must not decide.
_FOREIGN = ("HDA_", "FSSPEC_", "DASK_")
#: What tells an account, its settings and where its cache is.
_OURS = ("HDA_", "FSSPEC_", "HOME", "XDG_")
#: What a worker needs some seconds to import; xarray asks for the engines among it.
_LARGE = (
    *("distributed", "dask.array", "xarray", "netCDF4", "pandas", "requests", "fsspec.asyn"),
    *("cfgrib", "rioxarray", "h5netcdf", "scipy.sparse"),
)


@contextlib.contextmanager
def forked_workers() -> Iterator[None]:
    """Let clusters fork their workers from a server, with the environment that we have now."""
    # The server has the environment of the test that was the first to need it.
    ours = {name: value for name, value in os.environ.items() if name.startswith(_OURS)}
    with dask.config.set(
        {
            "distributed.worker.multiprocessing-method": "forkserver",
            "distributed.nanny.environ": ours,
            # What processes note of themselves, many times a second, and nobody looks at.
            "distributed.worker.profile.enabled": False,
            "distributed.admin.system-monitor.interval": "10s",
            "distributed.admin.tick.interval": "1s",
        }
    ):
        get_mp_context()  # it has a list of its own, which is the shorter one, for the first time
        multiprocessing.set_forkserver_preload(list(_LARGE))
        yield


class _Cluster(LocalCluster):  # type: ignore[misc]
    """A local cluster whose workers differ in their environment."""

    def __init__(
        self, environments: Sequence[Mapping[str, Any]], scratch: Path, **options: Any
    ) -> None:
        self._environments = list(environments)
        super().__init__(
            n_workers=0,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            local_directory=str(scratch),
            **options,
        )
        self.scale(len(environments))

    def new_worker_spec(self) -> dict[Any, Any]:
        """Give each worker the next environment."""
        ((name, spec),) = super().new_worker_spec().items()
        env = {key: str(value) for key, value in self._environments[len(self.worker_spec)].items()}
        return {name: {**spec, "options": {**spec["options"], "env": env}}}


@contextlib.contextmanager
def cluster(
    *environments: Mapping[str, Any], threads: int = 1, home: Path, **options: Any
) -> Iterator[Client]:
    """Start a worker process for each environment, on loopback.

    Parameters
    ----------
    *environments : mapping
        What each worker has in its environment, above what it needs.
    threads : int
        Of each worker.
    home : Path
        The home folder of all workers, unless an environment says otherwise.
    **options
        Of ``LocalCluster``.

    Yields
    ------
    distributed.Client
        The worker of an environment has its number as its name.
    """
    base = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    home.mkdir(exist_ok=True)
    # Restored at the end, for the nannies of this process set variables of their own, too.
    with mock.patch.dict(os.environ):
        for name in list(os.environ):
            if name.startswith(_FOREIGN) or name.lower().endswith("_proxy"):
                del os.environ[name]
        made = [{**base, **each} for each in environments]
        with (
            forked_workers(),
            _Cluster(made, home / "scratch", threads_per_worker=threads, **options) as running,
            Client(running, set_as_default=False) as client,
        ):
            client.wait_for_workers(len(made), timeout=60)
            yield client


class Workers:
    """The workers of a cluster, as one test uses them: each with an environment of its own."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def set(self, *environments: Mapping[str, Any]) -> None:
        """Put these variables into the environment of each worker, and no other of ours."""
        at = {info["name"]: address for address, info in self._infos()}
        for number, variables in enumerate(environments):
            given = {name: str(value) for name, value in variables.items()}
            self.client.run(_replace_environment, given, workers=[at[number]])

    def pids(self) -> dict[int, int]:
        """Return the process of each worker, by its number."""
        found = self.client.run(os.getpid)
        return {info["name"]: found[address] for address, info in self._infos()}

    def _infos(self) -> list[tuple[str, Any]]:
        # Not client.scheduler_info: a timer of the client overwrites it with nobody.
        found = self.client.sync(self.client.scheduler.identity, n_workers=-1)
        return list(found["workers"].items())

    def forget(self) -> None:
        """Let all workers forget what they were told and what they hold open."""
        self.client.run(_replace_environment, {})


def _replace_environment(variables: Mapping[str, str]) -> None:
    """Run on a worker: from now on it knows these variables alone, and holds nothing open."""
    from hda_fsspec.client import close_clients

    for name in [name for name in os.environ if name.startswith("HDA_")]:
        del os.environ[name]
    os.environ.update(variables)
    close_clients()


DAYS = 8
#: What :meth:`Job.compute` returns of all days.
VALUES = np.arange(1.0, DAYS + 1)


class Job:
    """Daily products, each of a value of its own, as one lazy data set that is to be computed.

    Parameters
    ----------
    stacks : Stacks
        Where they are served.
    width : int
        How many values each day has; eight bytes each.
    settings : mapping, optional
        More storage options. A ``cache_dir`` of None leaves that to the environment.
    **options
        Of the emulator.
    """

    def __init__(
        self,
        stacks: Any,
        *,
        width: int = 50,
        settings: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        days = {f"sst_202405{n:02}.nc": _day(n, width) for n in range(1, DAYS + 1)}
        stacks.serve(days, **options)
        self.emulator = stacks.emulator
        stacks.options |= settings or {}
        self.ds: xr.Dataset = stacks.open(chunks={})
        #: What a worker needs in its environment to log in.
        self.account = {"HDA_USER": self.emulator.user, "HDA_PASSWORD": self.emulator.password}

    @property
    def mean(self) -> xr.DataArray:
        """A lazy value for each day, made of all values of that day."""
        return self.ds["sst"].mean("x")

    def compute(self, client: Client, seconds: float = 60.0) -> np.ndarray[Any, Any]:
        """Compute a value for each day on a cluster."""
        return np.asarray(client.compute(self.mean).result(timeout=seconds).values)


def _day(number: int, width: int) -> xr.Dataset:
    noon = np.datetime64(f"2024-05-{number:02}T12:00", "ns")
    values = np.random.default_rng(number).random((1, width))
    return xr.Dataset(
        {"sst": (("time", "x"), values - values.mean() + number)}, coords={"time": [noon]}
    )


_at_work: list[None] = []


def read_and_meet(array: xr.DataArray) -> int:
    """Run on a worker: read, and return how many tasks of its process have read and go on now."""
    array.load()
    _at_work.append(None)
    try:
        time.sleep(0.2)
        return len(_at_work)
    finally:
        _at_work.pop()


def wait_until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that is bound to happen."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)
