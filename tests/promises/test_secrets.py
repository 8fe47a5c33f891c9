"""Secrets stay put: no token and no password in logs, errors, reprs, pickles, JSON, files."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import fsspec
import pytest
from dask.base import tokenize

from hda_fsspec.cache.orders import OrderBook, OrderCounts
from hda_fsspec.client import Client
from hda_fsspec.emulator import Emulator, Fault
from hda_fsspec.errors import ConfigurationError, HDAError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hda_fsspec.network.retries._FIRST_DELAY_SECONDS", 0.005)
    monkeypatch.setattr("hda_fsspec.network.retries._LONGEST_DELAY_SECONDS", 0.02)


def secrets_of(emulator: Emulator) -> list[str]:
    """Return the password and every token."""
    return [emulator.password, *emulator.tokens_issued]


def assert_none_in(text: str, emulator: Emulator) -> None:
    """Fail if a secret is in a text."""
    assert emulator.tokens_issued
    assert [secret for secret in secrets_of(emulator) if secret in text] == []


@contextlib.contextmanager
def told() -> Iterator[list[str]]:
    """Collect the errors of a block, with tracebacks and notes."""
    texts: list[str] = []
    try:
        yield texts
    except Exception as err:
        texts += [repr(err), str(err), "".join(traceback.format_exception(err))]
        texts.append(pickle.dumps(err).decode("latin-1"))


@pytest.mark.slow
def test_a_whole_job_at_debug(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A job with faults, renewals and errors leaves no secret in logs, errors or the cache."""
    caplog.set_level(logging.DEBUG)
    emulator = bench.start(days=6, preparation_seconds=0.05, token_seconds=2)
    fs = bench.filesystem(emulator)
    texts: list[str] = []

    fs.ls(bench.query)
    emulator.expire_tokens()
    fs.cat(bench.path(1))
    emulator.expire_tokens(refresh=True)
    for kind, more in (
        ("status", {"status": 401, "times": 2}),
        ("status", {"status": 500, "times": 4}),
        ("cut", {}),
        ("order-failed", {}),
        ("html", {"method": "POST", "path": "dataaccess/search"}),
        ("cut-json", {}),
        ("reset", {}),
    ):
        emulator.fault(Fault(kind, **more))
        with told() as said:
            fs.ls(bench.query, refresh=True)
            fs.prefetch(bench.query)
        texts += said
    emulator.clear_faults()
    fs.download(bench.query, bench.folder / "out")
    texts += [caplog.text, *(str(record.__dict__) for record in caplog.records)]

    assert len(emulator.tokens_issued) >= 4
    assert len(caplog.records) > 20
    assert_none_in("\n".join(texts), emulator)
    for path in [*bench.folder.rglob("*")]:
        assert_none_in(str(path), emulator)
        if path.is_file():
            assert_none_in(path.read_bytes().decode("latin-1"), emulator)


def test_an_echo_is_redacted(bench: Any) -> None:
    """A service that repeats token and password in its answer does not get them into an error."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator)
    fs.ls(bench.query)
    echo = f"invalid: Bearer {emulator.tokens_issued[0]} of {emulator.password}"
    emulator.fault(
        Fault("status", path="dataaccess", status=418, body={"detail": echo}, times=None)
    )

    with told() as texts:
        fs.ls(bench.query, refresh=True)

    assert texts
    assert_none_in("\n".join(texts), emulator)


def test_reprs_pickles_and_json(bench: Any) -> None:
    """Filesystems, open files and settings travel without the password and without tokens."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator)
    handle = fs.open(bench.path(1))
    lazy = fsspec.open(bench.path(1), **bench.settings(emulator))
    things = [fs, fs.settings, lazy, fs.get_mapper(bench.query)]
    texts = [fs.to_json(), json.dumps(fs.to_dict(), default=str), str(vars(fs.settings)["user"])]
    texts += [repr(handle), str(fs._fs_token), fs.fsid, tokenize(fs), str(hash(fs))]

    for thing in things:
        texts += [repr(thing), str(thing)]
        for dumps in (pickle.dumps, cloudpickle.dumps):
            texts.append(dumps(thing).decode("latin-1"))
    texts.append(pickle.dumps(handle).decode("latin-1"))
    handle.close()

    assert_none_in("\n".join(texts), emulator)
    assert emulator.user in fs.to_json()


def test_a_child_process_inherits_no_secret(bench: Any) -> None:
    """A job puts nothing into the environment, which child processes would inherit."""
    emulator = bench.start(days=1)
    bench.filesystem(emulator).cat(bench.path(1))
    script = "import os; print(dict(os.environ))"

    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert_none_in(child.stdout + str(os.environ), emulator)


def test_a_redirect_to_another_host_gets_no_token(bench: Any) -> None:
    """A download that is redirected to another host goes there without Authorization."""
    emulator = bench.start(days=2, redirect_downloads_to="localhost")

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)

    elsewhere = emulator.log.where(lambda record: record.path.startswith("/files/"))
    assert len(elsewhere) == 1
    assert [record.headers.get("Authorization") for record in elsewhere] == [None]


@pytest.mark.slow
@pytest.mark.parametrize("status_place", ["dataaccess/search", "dataaccess/download/"])
def test_a_scripted_redirect_gets_no_token(status_place: str, bench: Any) -> None:
    """Wherever a redirect is met, another server sees no token and no password."""
    stranger = bench.start(days=1)
    emulator = bench.start(days=1)
    method = "POST" if status_place.endswith("search") else "GET"
    emulator.fault(
        Fault("redirect", method=method, path=status_place, value=stranger.url, times=None)
    )

    with contextlib.suppress(HDAError, OSError):
        bench.filesystem(emulator, timeout=2).cat(bench.path(1))

    assert_none_in(str([vars(record) for record in stranger.log]), emulator)


def test_netrc_cannot_replace_the_token(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of ~/.netrc for the same host is not sent in place of the token."""
    netrc = bench.folder / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    emulator = bench.start(days=1)

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)

    sent = {record.headers.get("Authorization") for record in emulator.log} - {None}
    assert sent <= set(emulator.tokens_issued)


def test_a_cache_of_our_own_is_private(bench: Any) -> None:
    """A cache folder that we make, and all that is in it, is for this user alone."""
    emulator = bench.start(days=1)
    previous = os.umask(0)
    try:
        bench.filesystem(emulator).cat(bench.path(1))
    finally:
        os.umask(previous)

    modes = {path: path.stat().st_mode & 0o777 for path in bench.cache_dir.rglob("*")}
    assert bench.cache_dir.stat().st_mode & 0o777 == 0o700
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}


def test_an_existing_folder_keeps_its_mode(bench: Any) -> None:
    """The cache of a team keeps its mode, and its files can be read by the team."""
    bench.cache_dir.mkdir()
    bench.cache_dir.chmod(0o2770)
    emulator = bench.start(days=1)

    (local,) = bench.filesystem(emulator).prefetch(bench.query)

    assert bench.cache_dir.stat().st_mode & 0o7777 == 0o2770
    assert Path(local).stat().st_mode & 0o777 == 0o660


def test_a_world_writable_folder_is_refused(bench: Any) -> None:
    """A cache folder into which everybody may write is refused before anything is ordered."""
    bench.cache_dir.mkdir()
    bench.cache_dir.chmod(0o777)
    emulator = bench.start(days=1)

    for verb in ("open", "cat", "prefetch", "ls"):
        with pytest.raises(ConfigurationError, match="everybody"):
            getattr(bench.filesystem(emulator), verb)(bench.path(1))
    assert emulator.order_posts == 0
    assert list(bench.cache_dir.iterdir()) == []


@pytest.mark.slow
def test_orders_and_quota_are_kept_per_account(bench: Any) -> None:
    """Another account on the same cache does not take up an order that is not its own."""
    emulator = bench.start(days=1, preparation_seconds=0.2)
    client = Client(bench.filesystem(emulator).settings)
    other = Client(bench.filesystem(emulator, user="other", password="x").settings)
    (product,) = client.search(_query(bench))

    client.fetch(product).result()

    assert OrderBook(bench.cache_dir, client.account).get(product) is not None
    assert OrderBook(bench.cache_dir, other.account).get(product) is None
    assert OrderBook(bench.cache_dir, other.account).all() == OrderCounts(0, ())


def _query(bench: Any) -> Any:
    from hda_fsspec.paths.locations import Location

    return Location.parse(bench.query)
