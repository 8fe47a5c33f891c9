"""Threads, processes, workers and forks: nobody waits for another's order, and nothing crashes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from forking import in_a_fork, status_of
from ready_processes import ready_processes, run_script

from hda_fsspec.client import close_clients, get_client
from hda_fsspec.emulator import dated_product
from hda_fsspec.lazy.openfiles import OpenFiles
from hda_fsspec.reading.library_locks import HDF5_LOCK
from hda_fsspec.settings import Settings

_PATIENCE_SECONDS = 20.0
DAYS = 6


def _day(day: int) -> xr.Dataset:
    return xr.Dataset(
        {"sst": (("time", "lat"), np.full((1, 50), float(day)))},
        coords={
            "time": [np.datetime64(f"2024-05-{day:02}T12:00", "ns")],
            "lat": np.arange(50.0),
        },
    )


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Daily netCDF-4 files."""
    folder = tmp_path_factory.mktemp("daily")
    made = []
    for day in range(1, DAYS + 1):
        _day(day).to_netcdf(folder / "day.nc", engine="netcdf4")
        made.append((folder / "day.nc").read_bytes())
    return made


class Served:
    """Daily products behind an emulator."""

    def __init__(self, bench: Any, bodies: list[bytes], **options: Any) -> None:
        self.bench = bench
        self.emulator = bench.start(
            products=[
                dated_product(bench.product_id(day), body)
                for day, body in enumerate(bodies, start=1)
            ],
            **options,
        )
        self.options = bench.settings(self.emulator)

    def open(self, path: str | None = None, **options: Any) -> xr.Dataset:
        """Open the query, or a path."""
        return xr.open_dataset(
            path or self.bench.query, engine="hda", storage_options=self.options, **options
        )

    def forget(self) -> None:
        """Evict all products."""
        close_clients()
        get_client(Settings.resolve(**self.options)).cache.clear()


@pytest.mark.slow
@pytest.mark.parametrize("is_query", [False, True], ids=["product", "query"])
def test_no_lock_is_held_while_an_order_is_waited_for(
    bench: Any, bodies: list[bytes], tmp_path: Path, is_query: bool
) -> None:
    """A plain read of a local file goes on at once while another thread waits."""
    count = 2 if is_query else 1
    served = Served(bench, bodies[:3])
    ds = served.open(f"{bench.query}/*_2024050[12]*" if is_query else bench.path(1))
    served.forget()
    served.emulator.forget_orders()
    served.emulator.hold_orders(count + 1)
    before = served.emulator.order_posts
    local = tmp_path / "local.nc"
    _day(9).to_netcdf(local, engine="netcdf4")
    waiting = threading.Thread(target=ds.load)
    waiting.start()
    _wait_until(lambda: served.emulator.order_posts == before + count)

    with xr.open_dataset(local, engine="netcdf4") as plain:
        assert float(plain["sst"].max()) == 9.0
    is_free = HDF5_LOCK.acquire(blocking=False)
    if is_free:
        HDF5_LOCK.release()
    is_waiting = waiting.is_alive()
    bench.filesystem(served.emulator).prefetch(bench.path(3))  # one more, and all are ready
    waiting.join(_PATIENCE_SECONDS)

    assert is_free
    assert is_waiting
    assert float(ds["sst"].max()) == float(len(ds["time"]))


def _wait_until(condition: Any) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.slow
def test_threads_that_open_and_read_at_once(
    bench: Any, bodies: list[bytes], tmp_path: Path
) -> None:
    """Eight threads open and read twelve files, whose handles are dropped: nothing crashes."""
    products = []
    for number in range(12):
        source = bodies[number % DAYS]
        products.append(dated_product(f"P{number:02}_20240501.nc", source))
    emulator = bench.start(products=products)
    bench.filesystem(emulator).prefetch(bench.query)
    options = {k: str(v) for k, v in bench.settings(emulator).items()}
    code = (
        "import faulthandler; faulthandler.enable()\n"
        "import concurrent.futures, json, random, sys, xarray as xr\n"
        "from hda_fsspec.client import close_clients\n"
        "query, options = json.loads(sys.argv[1])\n"
        "paths = [f'{query}/P{n:02}_20240501.nc' for n in range(12)]\n"
        "def work(seed):\n"
        "    order = random.Random(seed).sample(range(12), 12)\n"
        "    total = 0.0\n"
        "    for turn, n in enumerate(order):\n"
        "        ds = xr.open_dataset(paths[n], engine='hda', storage_options=options)\n"
        "        total += float(ds['sst'][0, n % 7])\n"
        "        if turn % 8 == seed:\n"
        "            close_clients()\n"
        "        total += float(ds['sst'].mean())\n"
        "    return total\n"
        "with concurrent.futures.ThreadPoolExecutor(8) as pool:\n"
        "    assert list(pool.map(work, range(8))) == [84.0] * 8\n"
    )

    run_script(code, [json.dumps([bench.query, options])], folder=tmp_path)

    assert emulator.order_posts == 12


@pytest.mark.slow
def test_threads_that_use_the_engine_first_at_once(bench: Any, bodies: list[bytes]) -> None:
    """Modules that import one another in circles are imported by one thread, in one order."""
    served = Served(bench, bodies[:2])
    options = {k: str(v) for k, v in served.options.items()}
    code = (
        "import concurrent.futures, json, os, sys, threading, xarray as xr\n"
        "from hda_fsspec.engine import backend\n"
        "query, path, options = json.loads(sys.argv[1])\n"
        "engine = backend.HDABackendEntrypoint()\n"
        "ways = [lambda: engine.open_dataset(query, storage_options=options),\n"
        "        lambda: engine.open_dataset(path, storage_options=options),\n"
        "        lambda: engine.open_groups_as_dict(path, storage_options=options),\n"
        "        lambda: xr.Dataset({'a': 1}).hda.products]\n"
        "barrier = threading.Barrier(len(ways))\n"
        "sys.setswitchinterval(1e-5)\n"
        "def work(way):\n"
        "    barrier.wait()\n"
        "    return way()\n"
        "with concurrent.futures.ThreadPoolExecutor(len(ways)) as pool:\n"
        "    assert 'dask' not in sys.modules\n"
        "    list(pool.map(work, ways))\n"
        "os._exit(0)\n"  # how Python ends is the matter of another test
    )
    given = json.dumps([bench.query, bench.path(1), options])

    done = subprocess.run(
        [sys.executable, "-c", code, given],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr[-3000:]


def test_many_threads_ask_for_one_product(bench: Any, bodies: list[bytes]) -> None:
    """It is ordered once, and opened once."""
    served = Served(bench, bodies[:1], preparation_seconds=0.1)
    found: list[float] = []

    def work() -> None:
        found.append(float(served.open(bench.path(1))["sst"].mean()))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE_SECONDS)

    assert found == [1.0] * 8
    assert (served.emulator.order_posts, served.emulator.downloads) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_schedulers_of_dask(
    scheduler: str, bench: Any, bodies: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each computes the same, and orders each product once; workers log in by themselves."""
    served = Served(bench, bodies)
    monkeypatch.setenv("HDA_PASSWORD", served.options["password"])
    lazy = served.open(chunks={})["sst"]
    assert lazy.data.numblocks[0] == DAYS

    with ready_processes(), dask.config.set(scheduler=scheduler, num_workers=2):
        result = (lazy - lazy.mean("time")).compute()

    np.testing.assert_array_equal(result[:, 7], np.arange(1.0, 7.0) - 3.5)
    assert served.emulator.order_posts == DAYS
    assert served.emulator.downloads == DAYS


@pytest.mark.slow
def test_a_fork_after_use(bench: Any, bodies: list[bytes]) -> None:
    """Children that are forked after products were read read them, and fetch others."""
    served = Served(bench, bodies)
    ds = served.open()
    assert float(ds["sst"][2, 0]) == 3.0

    children = [in_a_fork(lambda: float(ds["sst"][2:4].sum()) == 350.0) for _ in range(2)]
    for _ in range(20):
        assert float(ds["sst"][2, 3]) == 3.0

    assert [status_of(pid) for pid in children] == [0, 0]
    assert float(ds["sst"][3, 0]) == 4.0
    assert served.emulator.downloads == 3


@pytest.mark.slow
def test_a_fork_while_a_file_is_read(bench: Any, bodies: list[bytes]) -> None:
    """The fork waits until the thread is done; no child waits for a lock that nobody gives back."""
    served = Served(bench, bodies[:1])
    ds = served.open(bench.path(1))
    is_held = threading.Event()

    def hold() -> None:
        with HDF5_LOCK:
            is_held.set()
            time.sleep(0.05)

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait(_PATIENCE_SECONDS)
    child = in_a_fork(lambda: float(ds["sst"].sum()) == 50.0)
    status = status_of(child)
    holder.join(_PATIENCE_SECONDS)

    assert status == 0
    assert float(ds["sst"].sum()) == 50.0


@pytest.mark.slow
def test_reads_while_the_package_of_workers_is_imported(
    bench: Any, bodies: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread imports it: it is there, and has nothing in it yet."""
    monkeypatch.setitem(sys.modules, "distributed", types.ModuleType("distributed"))
    served = Served(bench, bodies, preparation_seconds=0.3)

    assert float(served.open()["sst"][:, 0].sum()) == 21.0


@pytest.mark.slow
def test_a_fork_soon_after_a_read(bench: Any, bodies: list[bytes]) -> None:
    """A child reads nothing by what its parent read a moment ago, even if that is still open."""
    served = Served(bench, bodies[:1])
    ds = served.open(bench.path(1), cache=False)
    assert float(ds["sst"].sum()) == 50.0
    settings = Settings.resolve(**served.options)
    still_open = get_client(settings).resources.find(OpenFiles)
    assert still_open is not None
    assert len(still_open.trees) == 1

    def work() -> bool:
        nothing_open = get_client(settings).resources.find(OpenFiles) is None
        return nothing_open and float(ds["sst"].sum()) == 50.0

    child = in_a_fork(work)

    assert status_of(child) == 0
