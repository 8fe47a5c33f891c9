"""What every test runs in: no network beyond loopback, no settings of the machine, no real home."""

from __future__ import annotations

import bisect
import collections
import contextlib
import fcntl
import functools
import gc
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from written_files import write_netcdf

from hda_fsspec import HDAFileSystem
from hda_fsspec.emulator import (
    Catalogue,
    DatasetEntry,
    Emulator,
    ProductEntry,
    dated_product,
    write_samples,
)

# A shell's job in the background ignores interrupts, and so would all that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("quick", deadline=None, max_examples=30)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("quick")

_REAL_CONNECT = socket.socket.connect
_REAL_CONNECT_EX = socket.socket.connect_ex
_REAL_GETADDRINFO = socket.getaddrinfo
_LOOPBACK = ("127.", "localhost", "::1")
_FETCHING = Path(__file__).with_name("fetching_processes.py")
_PATIENCE_SECONDS = 30.0
#: Folders with files of tests that take a quarter of a minute together.
_LONG = ("workers", "project")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Return one test process more than there are processors: a quarter of the time is waited."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return (len(affinity(0)) if affinity else os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Let each test process begin to collect at another folder.

    What pytest makes of a file, the first time, is kept for the processes that come to it later;
    all at the same file at the same time would each make it anew.
    """
    worker = getattr(config, "workerinput", None)
    if worker is None or config.args != config.getini("testpaths"):
        return
    folders = sorted(path for path in Path(__file__).parent.glob("[a-z]*") if path.is_dir())
    sizes = [sum(file.stat().st_size for file in each.glob("test_*.py")) for each in folders]
    share = sum(sizes) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    start = bisect.bisect_left(list(itertools.accumulate(sizes)), share)
    config.args = [str(path) for path in (*folders[start:], *folders[:start])]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that no process is left alone with one at the end."""
    if hasattr(config, "workerinput"):  # and began anywhere
        items.sort(key=lambda item: item.path)
    items.sort(key=lambda item: item.path.parent.name not in _LONG)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Let the garbage collector pass over what lasts until the end: modules, and the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in one line how many tests were skipped, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.write_line(line_of_skips(report.longrepr for report in skipped))


def line_of_skips(told: Iterable[Any]) -> str:
    """Return the line that counts skips by their reasons, given as pytest's reports have them."""
    reasons: collections.Counter[str] = collections.Counter()
    for one in told:
        reason = one[-1] if isinstance(one, tuple) else one
        reasons[str(reason).removeprefix("Skipped: ")] += 1
    each = "; ".join(f"{count} since {reason}" for reason, count in reasons.most_common())
    return f"{reasons.total()} skipped: {each}"


def _check_loopback(address: Any) -> None:
    if isinstance(address, tuple) and not str(address[0]).startswith(_LOOPBACK):
        msg = f"a test tried to reach {address[0]!r}; only loopback is allowed"
        raise AssertionError(msg)


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(self: socket.socket, address: Any) -> None:
        _check_loopback(address)
        _REAL_CONNECT(self, address)

    def connect_ex(self: socket.socket, address: Any) -> int:
        _check_loopback(address)
        return _REAL_CONNECT_EX(self, address)

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        # A name under .invalid never resolves (RFC 6761): ask nobody, answer as a resolver would.
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        _check_loopback((host,))
        return _REAL_GETADDRINFO(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("HDA_", "FSSPEC_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    """Leave nothing in fsspec's memory://, which all tests of a process share."""
    yield
    if MemoryFileSystem.store:
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real products; a test that asks for it skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "MANIFEST.tsv").is_file():
        pytest.skip("the folder ../shared/data with real products is absent")
    return folder


@pytest.fixture(scope="session")
def cases() -> Path:
    """Return the folder of small inputs that show faults; skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "cases"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/cases is absent")
    return folder


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the catalogue of the sample data sets of today, written once for a run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all processes of this run
    (folder / "samples").mkdir(exist_ok=True)
    with (folder / "samples.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return write_samples(folder / "samples" / "made")


DATASET = "EO:TEST:DAT:DAILY"
QUERY = f"hda://{DATASET}/enddate=2024-05-31/startdate=2024-05-01"


@pytest.fixture(autouse=True)
def _no_shared_products() -> Iterator[None]:
    """Each test begins without the tokens, listings and connections of the one before."""
    yield
    if "hda_fsspec.client" in sys.modules:
        sys.modules["hda_fsspec.client"].close_clients()


@functools.lru_cache(maxsize=32)  # of megabytes, some of them
def _body(seed: int, size: int) -> bytes:
    return b"CDF\x01" + bytes(28) + random.Random(seed).randbytes(size)


class Bench:
    """An emulator with small daily products of May 2024, and filesystems that use it."""

    dataset = DATASET
    query = QUERY

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache_dir = folder / "cache"
        self._stack = contextlib.ExitStack()

    def product_id(self, day: int = 1) -> str:
        """Return the id of a day's product."""
        return f"sst_202405{day:02}.nc"

    def path(self, day: int = 1) -> str:
        """Return the path of a day's product below :attr:`query`."""
        return f"{self.query}/{self.product_id(day)}"

    def body(self, day: int = 1, size: int = 2000) -> bytes:
        """Return a day's file: a valid netCDF-3 header, then bytes that differ from day to day."""
        return _body(day, size)

    def start(
        self,
        days: int = 5,
        *,
        size: int = 2000,
        products: Sequence[ProductEntry] | None = None,
        entry: Mapping[str, Any] | None = None,
        dataset: str = DATASET,
        **options: Any,
    ) -> Emulator:
        """Start an emulator; it stops when the test ends."""
        if products is None:
            products = [
                dated_product(self.product_id(day), self.body(day, size))
                for day in range(1, days + 1)
            ]
        datasets = [DatasetEntry(dataset, list(products), **dict(entry or {}))]
        emulator = Emulator(Catalogue(datasets), **options)
        self._stack.enter_context(emulator)
        return emulator

    def start_many(self, count: int, **options: Any) -> Emulator:
        """Start an emulator with more products than a month has days."""
        products = [
            dated_product(
                f"sst_20240501T{number:06}.nc",
                self.body(number),
                profile="exact",
                startdate="2024-05-01T00:00:00Z",
                enddate="2024-05-02T00:00:00Z",
            )
            for number in range(count)
        ]
        return self.start(products=products, **options)

    def settings(self, emulator: Emulator, **settings: Any) -> dict[str, Any]:
        """Return storage options for an emulator."""
        return {**emulator.storage_options, "cache_dir": self.cache_dir, **settings}

    def filesystem(self, emulator: Emulator, **settings: Any) -> HDAFileSystem:
        """Return a filesystem with its cache in the folder of the test."""
        return HDAFileSystem(**self.settings(emulator, **settings))

    def close(self) -> None:
        """Stop all emulators."""
        self._stack.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Emulators and filesystems for one test."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()


class Stacks:
    """Products that are written by a test, served, and opened as one data set."""

    dataset = DATASET
    query = f"hda://{DATASET}/*"

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.folder = bench.folder / "files"
        self.folder.mkdir()
        self.emulator: Any = None
        self.options: dict[str, Any] = {}

    def serve(
        self,
        products: Mapping[str, Any],
        *,
        profile: str = "day",
        fields: Mapping[str, Any] | None = None,
        netcdf: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> list[Path]:
        """Serve data sets, or files, by product id, and return the local files in that order.

        ``fields`` are those of each entry of the catalogue, or functions of the product id.
        """
        paths = []
        entries = []
        for name, source in products.items():
            path = source
            if not isinstance(source, Path):
                path = self.folder / name
                write_netcdf(source, path, **(netcdf or {}))
            own = {
                key: each(name) if callable(each) else each for key, each in (fields or {}).items()
            }
            entries.append(dated_product(name, path, profile=profile, **own))
            paths.append(path)
        self.emulator = self.bench.start(products=entries, **options)
        self.options = self.bench.settings(self.emulator)
        return paths

    def open(self, query: str | None = None, **given: Any) -> Any:
        """Open the products as one data set."""
        import xarray as xr

        given.setdefault("cache", False)
        options = self.options | given.pop("settings", {})
        return xr.open_dataset(query or self.query, engine="hda", storage_options=options, **given)

    @property
    def client(self) -> Any:
        """What all data sets of these settings share in this process."""
        from hda_fsspec.client import get_client
        from hda_fsspec.settings import Settings

        return get_client(Settings.resolve(**self.options))

    @property
    def ordered(self) -> list[str]:
        """The ids of the products that were ordered, in the order of the first order of each."""
        posts = self.emulator.log.where(
            lambda r: r.method == "POST" and r.api.startswith("dataaccess/download")
        )
        return list(dict.fromkeys(str(record.body["product_id"]) for record in posts))

    def evict(self) -> None:
        """Empty the cache under whatever is open; headers are kept."""
        self.client.resources.close()
        self.client.cache.clear()

    def forget(self) -> None:
        """Forget what this process knows, as a new one would; the disk keeps what it has."""
        from hda_fsspec.client import close_clients

        close_clients()


@pytest.fixture(scope="session")
def make_stacks() -> Callable[[Path], Stacks]:
    """Emulators and products for a module, which closes their bench."""
    return lambda folder: Stacks(Bench(folder))


@pytest.fixture
def stacks(bench: Bench) -> Stacks:
    """Products of a test as one data set."""
    return Stacks(bench)


class Processes:
    """Starts processes that fetch, and leaves none behind."""

    def __init__(self, folder: Path, program: Callable[[], subprocess.Popen[str]]) -> None:
        self._folder = folder
        self._pids: list[int] = []
        self._program = program

    def start(
        self, settings: dict[str, Any], paths: list[str], *, threads: int = 1, **more: Any
    ) -> int:
        """Start a process in our environment and return its id; for ``more`` see the program."""
        program = self._program()
        assert program.stdin is not None
        assert program.stdout is not None
        outcome = self._folder / f"outcome-{len(self._pids)}"
        job = {"settings": settings, "paths": paths, "threads": threads, "outcome": str(outcome)}
        job |= {"environment": dict(os.environ), **more}
        program.stdin.write(json.dumps(job, default=str) + "\n")
        program.stdin.flush()
        self._pids.append(int(program.stdout.readline()))
        return self._pids[-1]

    def outcomes(self) -> list[dict[str, str]]:
        """Wait for all processes, and return what each of them got."""
        files = [self._folder / f"outcome-{number}" for number in range(len(self._pids))]
        self.wait_until(lambda: all(file.exists() for file in files))
        return [json.loads(file.read_text()) for file in files]

    def kill(self, pid: int) -> None:
        """Kill one process as the system does when memory is short."""
        os.kill(pid, signal.SIGKILL)
        self.wait_until(lambda: not Path(f"/proc/{pid}").exists())

    def close(self) -> None:
        """End what still runs."""
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @staticmethod
    def wait_until(is_so: Callable[[], bool]) -> None:
        """Wait for something that is bound to happen."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while not is_so():
            assert time.monotonic() < until, "it did not happen"
            time.sleep(0.005)


@pytest.fixture(scope="session")
def _fetching_program() -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Return the program that forks processes for all tests, started when it is first needed."""
    started: list[subprocess.Popen[str]] = []

    def program() -> subprocess.Popen[str]:
        if not started:
            command = [sys.executable, str(_FETCHING)]
            pipe = subprocess.PIPE
            started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        return started[0]

    yield program
    for each in started:
        each.kill()
        each.communicate()


@pytest.fixture
def processes(
    tmp_path: Path, _fetching_program: Callable[[], subprocess.Popen[str]]
) -> Iterator[Processes]:
    """Real processes, ended with the test."""
    processes = Processes(tmp_path, _fetching_program)
    yield processes
    processes.close()
