"""Every way to wait for products is told to whoever looks, and can be turned off."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import os
import pickle
import pty
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
import xarray as xr
from looking import Looking

from hda_fsspec import HDAFileSystem, client
from hda_fsspec.cli import main
from hda_fsspec.emulator import dated_product
from hda_fsspec.settings import Settings


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> Looking:
    """Whatever waits from now on is looked at by the test."""
    looking = Looking()
    monkeypatch.setattr(
        client,
        "Reporter",
        lambda quota, *, is_shown, begin: looking.make(quota, is_shown=is_shown),
    )
    return looking


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return three days of data."""
    file = tmp_path_factory.mktemp("days") / "day.nc"
    bodies = []
    for day in (1, 2, 3):
        xr.Dataset(
            {"sst": (("time", "x"), [[1.0, day]])}, {"time": [f"2024-05-{day:02}T12:00"]}
        ).assign_coords(time=lambda ds: ds.time.astype("datetime64[ns]")).to_netcdf(file)
        bodies.append(file.read_bytes())
    return bodies


@pytest.fixture
def emulator(bench: Any, bodies: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve three days of data that are not ready before the test says so."""
    entries = [dated_product(bench.product_id(day), body) for day, body in enumerate(bodies, 1)]
    emulator = bench.start(products=entries, preparation_seconds=3600, quota=50)
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    return emulator


def release(emulator: Any) -> None:
    """Have all orders ready, those to come as well."""
    orders = emulator._broker.delivery.orders
    orders._preparation_seconds = 0.0
    for order in list(orders._orders.values()):
        order.ready_at = 0.0


def told_of(
    work: Callable[[], Any], emulator: Any, looking: Looking, processes: Any, orders: int
) -> str | None:
    """Return what is shown after two seconds of waiting within some work, which then ends."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        processes.wait_until(lambda: emulator.order_posts >= orders or running.done())
        told = looking.after(2.0)
        release(emulator)
        running.result(60)
    assert looking.after(2.0) in {None, told if not looking.shown else None}
    return told


def lazily(bench: Any, **options: Any) -> xr.Dataset:
    """Open the three days."""
    return xr.open_dataset(bench.query, engine="hda", chunks={}, storage_options=options or None)


WAYS: dict[str, tuple[int, str, Callable[[Any, Path], Any]]] = {
    "get": (3, "and 2 more", lambda b, out: fsspec.filesystem("hda").get(f"{b.query}/*", out)),
    "get_file": (1, "since", lambda b, out: fsspec.filesystem("hda").get_file(b.path(1), out)),
    "download": (3, "3 of 3 left", lambda b, out: fsspec.filesystem("hda").download(b.query, out)),
    "open": (1, "waiting for", lambda b, out: fsspec.filesystem("hda").open(b.path(1)).close()),
    "cat": (3, "and 2 more", lambda b, out: fsspec.filesystem("hda").cat(f"{b.query}/*")),
    "prefetch": (3, "and 2 more", lambda b, out: fsspec.filesystem("hda").prefetch(b.query)),
    "open_local": (3, "and 2 more", lambda b, out: fsspec.open_local(f"{b.query}/*")),
    "open_dataset": (1, "(the template of ", lambda b, out: lazily(b)),
    "a product": (1, "waiting for", lambda b, out: xr.open_dataset(b.path(1), engine="hda")),
    "a tree": (3, "(the nodes of hda", lambda b, out: xr.open_datatree(b.query, engine="hda")),
    "the command": (3, "and 2 more", lambda b, out: main(["get", b.query, str(out)])),
}


@pytest.mark.slow
@pytest.mark.parametrize(("orders", "says", "work"), WAYS.values(), ids=WAYS)
def test_every_way_to_wait_is_told(
    orders: int,
    says: str,
    work: Callable[[Any, Path], Any],
    bench: Any,
    emulator: Any,
    looking: Looking,
    processes: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each verb that orders tells after two seconds what is waited for, and the quota."""
    told = told_of(lambda: work(bench, tmp_path / "out"), emulator, looking, processes, orders)

    assert told is not None
    assert says in told
    assert "sst_202405" in told
    assert " of 50 orders an hour left" in told
    assert "hda:" not in capsys.readouterr().out


class Terminal(io.StringIO):
    """A standard error that somebody looks at."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--delivered-names"]])
@pytest.mark.parametrize("count", [1, 3])
def test_bars_take_the_place_of_the_line(
    words: list[str],
    count: int,
    bench: Any,
    emulator: Any,
    looking: Looking,
    processes: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the command draws bars, which tell what is waited for, no line is drawn into them."""
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    path = bench.path(1) if count == 1 else bench.query

    told = told_of(
        lambda: main(["get", *words, path, str(tmp_path / "out")]),
        emulator,
        looking,
        processes,
        count,
    )

    assert told is None
    assert len(list((tmp_path / "out").iterdir())) == count


@pytest.mark.slow
@pytest.mark.parametrize("way", ["compute", "persist", "values", "prefetch"])
def test_a_computation_is_told(
    way: str, bench: Any, emulator: Any, looking: Looking, processes: Any
) -> None:
    """What computing waits for is told as well, with Dask's threads and without."""
    release(emulator)
    dataset = lazily(bench)
    emulator._broker.delivery.orders._preparation_seconds = 3600
    ways: dict[str, Callable[[], Any]] = {
        "compute": lambda: dataset.sst.sum().compute(scheduler="threads"),
        "persist": lambda: dataset.sst.persist(scheduler="threads"),
        "values": lambda: xr.open_dataset(bench.query, engine="hda").sst[2].values,
        "prefetch": dataset.hda.prefetch,
    }

    told = told_of(ways[way], emulator, looking, processes, 2 if way == "values" else 3)

    assert told is not None
    assert "waiting for sst_202405" in told
    assert "template" not in told


@pytest.mark.slow
@pytest.mark.parametrize(
    "work",
    [
        lambda fs, b, out: fs.get(f"{b.query}/*", out, progress=False),
        lambda fs, b, out: fs.download(b.query, out, progress=False),
        lambda fs, b, out: fs.prefetch(b.query, progress=False),
        lambda fs, b, out: HDAFileSystem(progress=False).get(f"{b.query}/*", out),
        lambda fs, b, out: HDAFileSystem(progress=False).open(b.path(1)).close(),
        lambda fs, b, out: lazily(b, progress=False),
    ],
    ids=["get", "download", "prefetch", "filesystem", "open", "open_dataset"],
)
def test_progress_can_be_turned_off(
    work: Any, bench: Any, emulator: Any, looking: Looking, processes: Any, tmp_path: Path
) -> None:
    """With ``progress=False``, of a call or as a setting, nothing is shown."""
    fs = fsspec.filesystem("hda")

    told_of(lambda: work(fs, bench, str(tmp_path / "o")), emulator, looking, processes, 1)

    assert looking.shown == []


@pytest.mark.slow
def test_the_environment_turns_it_off(
    monkeypatch: pytest.MonkeyPatch,
    bench: Any,
    emulator: Any,
    looking: Looking,
    processes: Any,
) -> None:
    """``HDA_PROGRESS=0`` is the setting of all that does not say otherwise."""
    monkeypatch.setenv("HDA_PROGRESS", "0")

    told_of(lambda: HDAFileSystem().prefetch(bench.query), emulator, looking, processes, 3)

    assert looking.shown == []
    assert Settings.resolve(progress=True).progress


def test_data_sets_are_the_same_with_it_and_without(bench: Any, emulator: Any) -> None:
    """The setting is part of no name of Dask, no equality, and travels where it was given."""
    release(emulator)
    loud, quiet = lazily(bench), lazily(bench, progress=False)

    assert loud.sst.data.name == quiet.sst.data.name
    assert Settings.resolve(progress=False) == Settings.resolve()
    assert not pickle.loads(pickle.dumps(Settings.resolve(progress=False))).progress


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "columns"),
    [("terminal", 80), ("terminal", 0), ("file", 80), ("terminal, turned off", 80)],
)
def test_a_real_terminal_shows_it(
    kind: str,
    columns: int,
    bench: Any,
    emulator: Any,
    processes: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A terminal gets the line, on standard error; a file, or whoever turned it off, none."""
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    shown: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # how the end of a terminal is told
            while chunk := os.read(controller, 4096):
                shown.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    output, errors = bench.folder / "output", bench.folder / "errors"
    errors.touch()
    if "off" in kind:
        monkeypatch.setenv("HDA_PROGRESS", "no")
    stderr = errors if kind == "file" else os.ttyname(terminal)
    try:
        processes.start({}, [bench.path(1)], stdout=output, stderr=stderr)
        processes.wait_until(lambda: emulator.order_posts == 1)
        if kind == "terminal":
            processes.wait_until(lambda: b"waiting for" in b"".join(shown))
        release(emulator)
        (got,) = processes.outcomes()
    finally:
        os.close(terminal)
        processes.close()
        reader.join(30)
        os.close(controller)

    assert list(got) == [bench.path(1)]
    assert output.read_bytes() == b""
    assert (b"waiting for sst_20240501.nc" in b"".join(shown)) is (kind == "terminal")
    assert errors.read_bytes() == b""
