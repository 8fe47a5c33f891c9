"""Processes that write the same product at once, or are killed while they write it.

The writers are real processes, forked by one small helper process and killed by their id. No lock
is taken anywhere: this is what happens on a disk where every lock succeeds.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cached_products import accept
from checkout import ROOT

from hda_fsspec.cache import partial_writers
from hda_fsspec.cache.cache import Cache
from hda_fsspec.cache.partial_writers import Liveness
from hda_fsspec.records import Product

_PRODUCT = Product("EO:TEST:DAT", "p1", size=7)
_CONTENT = random.Random(1).randbytes(64_000)


# Forks a writer for each line that it reads; each writes how it fared beside the cache.
_HELPER = """
import json, os, random, signal, sys, time
from pathlib import Path
from hda_fsspec.cache.cache import Cache
from hda_fsspec.records import Product

content = random.Random(1).randbytes(64_000)
product = Product("EO:TEST:DAT", "p1", size=7)

def write(job):
    cache = Cache(Path(job["root"]), max_bytes=None)
    go = Path(job["root"] + ".go")
    while not go.exists():
        time.sleep(0.001)
    with cache.stage(product, expected_bytes=len(content)) as staging:
        offset = staging.offset
        if content[:offset] != staging.path.read_bytes():
            raise RuntimeError("not a prefix")
        with staging.open() as handle:
            for start in range(offset, len(content), 2000):
                handle.write(content[start : start + 2000])
                handle.flush()
                time.sleep(job["pause"])
        entry = staging.publish("p1.nc", check=lambda path: None, expected_bytes=len(content))
    return [offset, str(entry.path), entry.path.read_bytes() == content]

if sys.argv[1] == "reap":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        try:
            outcome = write(job)
        except BaseException as err:
            outcome = repr(err)
        name = f"{job['root']}.{os.getpid()}"
        Path(name + ".tmp").write_text(json.dumps(outcome))
        Path(name + ".tmp").rename(name + ".done")
        os._exit(0)
    print(pid, flush=True)
"""


class _Writers:
    """Processes that write the product into one cache."""

    def __init__(self, root: Path, *, reap: bool = True) -> None:
        self.root = root
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HELPER, "reap" if reap else "keep"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.pids: set[int] = set()

    def start(self, *, pause: float = 0.0) -> int:
        """Start a writer that waits for :meth:`go`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"root": str(self.root), "pause": pause}
        print(json.dumps(job), file=self._process.stdin, flush=True)
        pid = int(self._process.stdout.readline())
        self.pids.add(pid)
        return pid

    def go(self) -> None:
        """Let all writers begin at the same moment."""
        self.root.with_name(f"{self.root.name}.go").touch()

    def outcome(self, pid: int) -> Any:
        """Wait for a writer to end, and return how it fared; None if it was killed."""
        done = self.root.with_name(f"{self.root.name}.{pid}.done")
        _wait_until(lambda: done.exists() or not Path(f"/proc/{pid}").exists())
        self.pids.discard(pid)
        return json.loads(done.read_text()) if done.exists() else None

    def close(self) -> None:
        """End all processes that were started."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _finish(cache: Cache) -> tuple[int, bytes]:
    """Write the rest of the product; return how much was there, and the published bytes."""
    with cache.stage(_PRODUCT) as staging:
        offset = staging.offset
        assert _CONTENT[:offset] == staging.path.read_bytes()
        with staging.open() as handle:
            handle.write(_CONTENT[offset:])
        entry = staging.publish("p1.nc", check=accept, expected_bytes=len(_CONTENT))
    return offset, entry.path.read_bytes()


def _partial(cache: Cache, writer: str, data: bytes) -> Path:
    """Leave a partial as a writer of that name would."""
    cache.prepare()
    name = f"{_PRODUCT.key}.{_PRODUCT.version_tag}.{writer}"
    place = cache.root / "v1" / "partial" / name
    place.mkdir(parents=True)
    (place / ".data").write_bytes(data)
    (place / ".facts.json").write_text("{}")
    return place


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[_Writers]:
    """Start the helper that forks writers."""
    crew = _Writers(tmp_path / "cache")
    yield crew
    crew.close()


@pytest.mark.slow
def test_kill_at_any_moment_leaves_nothing_that_is_taken_for_data(crew: _Writers) -> None:
    """After kill -9 at 25 random moments the product is whole or absent, and can be resumed."""
    chance = random.Random(20)
    cache = Cache(crew.root, max_bytes=None)
    crew.go()
    resumed = 0
    for _ in range(25):
        pid = crew.start(pause=0.0005)
        time.sleep(chance.random() * 0.03)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        outcome = crew.outcome(pid)
        assert outcome is None or outcome[2] is True

        for entry in cache.entries():
            assert entry.path.read_bytes() == _CONTENT
        if cache.lookup(_PRODUCT) is None:
            with cache.stage(_PRODUCT) as staging:
                held = staging.path.read_bytes()
            assert _CONTENT.startswith(held)
            resumed += len(held) > 0
        else:
            cache.remove(_PRODUCT)

    assert _finish(cache)[1] == _CONTENT
    assert resumed > 3


@pytest.mark.slow
def test_killed_writer_that_nobody_buried_is_gone(tmp_path: Path) -> None:
    """A killed process whose parent has not noticed yet does not block its partial."""
    crew = _Writers(tmp_path / "cache", reap=False)
    try:
        cache = Cache(crew.root, max_bytes=None)
        crew.go()
        pid = crew.start(pause=0.02)
        _wait_until(lambda: cache.usage().partial_bytes >= 2000)
        os.kill(pid, signal.SIGKILL)
        _wait_until(lambda: ") Z " in Path(f"/proc/{pid}/stat").read_text())

        offset, data = _finish(cache)

        assert offset >= 2000
        assert data == _CONTENT
    finally:
        crew.close()


@pytest.mark.slow
def test_partial_of_a_living_writer_is_not_touched(crew: _Writers) -> None:
    """While a process writes, another starts from nothing, and both end with the right bytes."""
    cache = Cache(crew.root, max_bytes=None)
    crew.go()
    pid = crew.start(pause=0.005)
    _wait_until(lambda: cache.usage().partial_bytes >= 2000)

    offset, data = _finish(cache)

    assert offset == 0
    assert data == _CONTENT
    outcome = crew.outcome(pid)
    assert outcome[0] == 0
    assert outcome[2] is True
    assert len(list(cache.entries())) == 1


@pytest.mark.slow
def test_many_writers_publish_one_entry(crew: _Writers) -> None:
    """Six processes that publish the same product at once leave one entry with the right bytes."""
    pids = [crew.start() for _ in range(6)]
    crew.go()
    outcomes = [crew.outcome(pid) for pid in pids]

    cache = Cache(crew.root)
    (entry,) = cache.entries()
    assert entry.path.read_bytes() == _CONTENT
    assert outcomes == [[0, str(entry.path), True]] * 6
    assert list((crew.root / "v1" / "partial").iterdir()) == []


@pytest.mark.slow
def test_abandoned_partial_has_one_heir(crew: _Writers) -> None:
    """Of six writers that find an abandoned partial, exactly one goes on with it."""
    _partial(Cache(crew.root), partial_writers.new_released(), _CONTENT[:30_000])
    pids = [crew.start(pause=0.002) for _ in range(6)]
    crew.go()
    outcomes = [crew.outcome(pid) for pid in pids]

    assert sorted(outcome[0] for outcome in outcomes) == [0] * 5 + [30_000]
    assert all(outcome[2] for outcome in outcomes)


def test_threads_publish_one_entry(tmp_path: Path) -> None:
    """Threads of one process that share a cache object do not disturb each other either."""
    cache = Cache(tmp_path / "cache", max_bytes=100_000)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: _finish(cache)[1], range(16)))

    assert all(data == _CONTENT for data in results)
    assert len(list(cache.entries())) == 1


def test_killed_before_the_last_step_is_resumed(tmp_path: Path) -> None:
    """A writer that died between naming the file and publishing it loses nothing."""
    cache = Cache(tmp_path / "cache")
    place = _partial(cache, partial_writers.new_released(), b"")
    (place / ".data").unlink()
    (place / "p1.nc").write_bytes(_CONTENT)
    (place / "record.json").write_text('{"half": ')

    assert _finish(cache) == (len(_CONTENT), _CONTENT)


def test_writer_elsewhere_is_given_up_after_ten_minutes(tmp_path: Path) -> None:
    """A partial of another machine is taken over when it did not change for ten minutes."""
    now = time.time()
    cache = Cache(tmp_path / "cache", clock=lambda: now + 590)
    place = _partial(cache, f"{'0' * 12}.1.1.{'0' * 32}", _CONTENT[:100])
    assert _finish(cache)[0] == 0
    cache.remove(_PRODUCT)
    assert place.exists()

    cache = Cache(tmp_path / "cache", clock=lambda: now + 610)
    with (place / ".data").open("ab") as sleeper:
        for path in (place, *place.iterdir()):
            os.utime(path, (now, now))
        with cache.stage(_PRODUCT) as staging:
            assert staging.offset == 100
            # The other machine wakes up and writes on: into a file that nobody uses any more.
            sleeper.write(b"something else")
            sleeper.flush()
            with staging.open() as handle:
                handle.write(_CONTENT[100:])
            entry = staging.publish("p1.nc", check=accept, expected_bytes=len(_CONTENT))

    assert entry.path.read_bytes() == _CONTENT


def test_largest_partial_is_taken(tmp_path: Path) -> None:
    """Of several abandoned partials the one that saves most is resumed."""
    cache = Cache(tmp_path / "cache")
    for size in (10, 30, 20):
        _partial(cache, partial_writers.new_released(), _CONTENT[:size])

    assert _finish(cache) == (30, _CONTENT)


def test_who_is_alive() -> None:
    """Only a process that exists under the same number since the same time is alive."""
    host, pid, start, unique = partial_writers.new_writer().split(".")

    assert partial_writers.liveness(f"{host}.{pid}.{start}.{unique}") is Liveness.ALIVE
    assert partial_writers.liveness(partial_writers.new_released()) is Liveness.GONE
    assert partial_writers.liveness(f"{'0' * 12}.{pid}.{start}.{unique}") is Liveness.UNKNOWN
    assert partial_writers.liveness("nonsense") is Liveness.UNKNOWN
    assert partial_writers.liveness(f"{host}.{2**40}.1.{unique}") is Liveness.GONE
    if platform.system() == "Linux":
        assert partial_writers.liveness(f"{host}.{pid}.{int(start) + 1}.{unique}") is Liveness.GONE
        assert partial_writers.liveness(f"{host}.{pid}.0.{unique}") is Liveness.ALIVE
