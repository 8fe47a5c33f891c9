"""A cached product needs no network: no request, no hash, no lock."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from hda_fsspec.client import close_clients
from hda_fsspec.emulator import Emulator
from hda_fsspec.errors import HDAError, OfflineError

# Opens a product in a process of its own, and tells what the process did meanwhile.
_OPENER = """
import hashlib, json, os, sys
opened, connected, hashed = [], [], 0
def watch(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        opened.append(os.fsdecode(args[0]))
    if event == "socket.connect":
        connected.append(str(args[1]))
real = hashlib.sha256
def counting(data=b"", **more):
    global hashed
    hashed += len(data)
    class Watched:
        def __init__(self): self.inner = real(data, **more)
        def update(self, more):
            global hashed
            hashed += len(more)
            self.inner.update(more)
        def __getattr__(self, name): return getattr(self.inner, name)
    return Watched()
hashlib.sha256 = hashlib.md5 = hashlib.sha1 = hashlib.blake2b = counting
def refuse(*given, **more): raise AssertionError("a file is hashed")
hashlib.file_digest = refuse
from hda_fsspec import HDAFileSystem
fs = HDAFileSystem(**json.loads(sys.argv[1]))
sys.addaudithook(watch)
with fs.open(sys.argv[2]) as handle:
    count = len(opened)
    length = len(handle.read())
print(json.dumps([length, opened[:count], connected, hashed]))
"""


def fetched(bench: Any, size: int = 2000, **options: Any) -> Emulator:
    """Start a service, fetch its first product, and begin as a new process does."""
    emulator: Emulator = bench.start(days=3, size=size, **options)
    bench.filesystem(emulator).cat(bench.path(1))
    close_clients()
    emulator.clear_log()
    return emulator


def run(script: str, settings: dict[str, Any], path: str) -> Any:
    """Run a script in a new process, and return what it printed as JSON."""
    command = [sys.executable, "-c", script, json.dumps(settings, default=str), path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_hit_in_a_new_process(bench: Any) -> None:
    """A new process opens a cached product without request, lock, or reading the file to hash it.

    The service is down, and what the process opened and hashed is watched.
    """
    emulator = fetched(bench, size=3_000_000)
    emulator.stop()

    length, opened, connected, hashed = run(_OPENER, bench.settings(emulator), bench.path(1))

    cache = [path for path in opened if str(bench.cache_dir) in path]
    assert length == len(bench.body(1, 3_000_000))
    assert connected == []
    assert [path for path in cache if "/locks/" in path] == []
    assert sum(path.endswith(bench.product_id(1)) for path in cache) == 1
    assert hashed < 20_000


def test_a_hit_after_listings_have_expired(bench: Any) -> None:
    """Also when no listing is trusted any more a cached product costs no request."""
    emulator = fetched(bench)
    emulator.stop()
    for note in (bench.cache_dir / "v1" / "listings").rglob("*.note"):
        os.utime(note, (1, 1))

    fs = bench.filesystem(emulator, listings_expiry_time=0.001)

    assert fs.cat(bench.path(1)) == bench.body(1)
    assert len(emulator.log) == 0


def test_a_hit_without_any_note(bench: Any) -> None:
    """Where nothing but the products is left of a cache, they open."""
    emulator = fetched(bench)
    emulator.stop()
    for note in (bench.cache_dir / "v1").rglob("*.note"):
        note.unlink()

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["cat", "open", "prefetch", "get", "download"])
def test_every_verb_hits(verb: str, bench: Any) -> None:
    """Each verb that reads a cached product does without request, also while the service is up."""
    emulator = fetched(bench)
    fs = bench.filesystem(emulator)
    locks = sorted((bench.cache_dir / "v1" / "locks").iterdir())
    before = [lock.stat().st_mtime_ns for lock in locks]
    target = [f"{bench.folder}/out/"] if verb in {"get", "download"} else []

    result = getattr(fs, verb)(bench.path(1), *target)

    if verb == "open":
        result.close()
    assert len(emulator.log) == 0
    assert sorted((bench.cache_dir / "v1" / "locks").iterdir()) == locks
    assert [lock.stat().st_mtime_ns for lock in locks] == before


def test_offline_opens_what_is_local(bench: Any) -> None:
    """With `offline` listings do not expire, and what is in the cache opens; no request is made."""
    emulator = fetched(bench)
    fs = bench.filesystem(emulator, offline=True, listings_expiry_time=0.001)

    assert fs.cat(bench.path(1)) == bench.body(1)
    assert len(fs.ls(bench.query)) == 3
    assert fs.exists(bench.path(2))
    assert len(emulator.log) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "path", "named"),
    [
        ("cat", "{query}/sst_20240502.nc", "sst_20240502.nc"),
        ("open", "{query}/sst_20240502.nc", "sst_20240502.nc"),
        ("prefetch", "{query}", "sst_20240502.nc"),
        ("ls", "hda://EO:TEST:DAT:DAILY/startdate=2023-01-01", "startdate=2023-01-01"),
        ("ls", "hda://EO:OTHER", "EO:OTHER"),
        ("ls", "hda://", "data sets|datasets"),
        ("exists", "hda://EO:OTHER", "EO:OTHER"),
        ("glob", "hda://EO:OTHER/*", "EO:OTHER"),
    ],
)
def test_offline_names_what_is_missing(verb: str, path: str, named: str, bench: Any) -> None:
    """With `offline` what is not local is an OfflineError that names it, and the setting."""
    emulator = fetched(bench)
    fs = bench.filesystem(emulator, offline=True)

    with pytest.raises(OfflineError, match=named) as caught:
        getattr(fs, verb)(path.format(query=bench.query))

    assert "HDA_OFFLINE" in str(caught.value)
    assert len(emulator.log) == 0


def test_offline_without_a_cache_makes_none(bench: Any) -> None:
    """With `offline` and no cache nothing is made on disk."""
    emulator = bench.start(days=1)

    with pytest.raises(OfflineError):
        bench.filesystem(emulator, offline=True).cat(bench.path(1))

    assert not bench.cache_dir.exists()
    assert len(emulator.log) == 0


def test_a_service_that_is_down_is_told_for_what_is_not_local(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without network a product that is not local is a typed error, and others still open."""
    monkeypatch.setattr("hda_fsspec.network.retries._FIRST_DELAY_SECONDS", 0.001)
    emulator = fetched(bench)
    emulator.stop()
    fs = bench.filesystem(emulator)

    with pytest.raises(HDAError, match="no answer"):
        fs.cat(bench.path(2))

    assert fs.cat(bench.path(1)) == bench.body(1)


def test_a_read_only_cache_opens(bench: Any) -> None:
    """A cache folder that may not be written to serves what it holds."""
    emulator = fetched(bench)
    emulator.stop()
    with _read_only(bench):
        assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)


@contextlib.contextmanager
def _read_only(bench: Any) -> Any:
    folder = str(bench.cache_dir)
    mount = ["mount", "--bind", "-o", "ro", folder, folder]
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder read-only for this process")
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let us mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
