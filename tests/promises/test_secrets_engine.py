"""Secrets of a job with xarray: in nothing that is logged, shown, pickled, saved or inherited."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cloudpickle
import dask.base
import numpy as np
import pytest
import xarray as xr

import hda_fsspec
from hda_fsspec import Location
from hda_fsspec.emulator import Emulator, Fault
from hda_fsspec.errors import HDAError

_DAYS = 2
#: Whatever logs somewhere below a job.
_LOGGERS = ("hda_fsspec", "urllib3", "requests", "fsspec", "asyncio", "dask")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hda_fsspec.network.retries._FIRST_DELAY_SECONDS", 0.005)
    monkeypatch.setattr("hda_fsspec.network.retries._LONGEST_DELAY_SECONDS", 0.02)


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Log everything, and return what was logged."""
    for name in (None, *_LOGGERS):
        caplog.set_level(logging.DEBUG, logger=name)

    def told() -> str:
        return "\n".join([caplog.text, *(str(record.__dict__) for record in caplog.records)])

    return told


def forms(emulator: Emulator) -> set[bytes]:
    """Return password and tokens, in every form in which something could hold them."""
    found = set()
    for secret in (emulator.password, *emulator.tokens_issued):
        basic = base64.b64encode(f"{emulator.user}:{secret}".encode())
        plain = base64.b64encode(secret.encode())
        for form in (secret, json.dumps(secret)[1:-1], quote(secret, safe="")):
            found |= {form.encode(), form.encode("utf-16-le")}
        found |= {basic, plain}
    return found


def leaks(emulator: Emulator, things: Iterator[tuple[str, bytes]]) -> list[str]:
    """Return where a secret is."""
    secrets = forms(emulator)
    return [name for name, data in things if any(secret in data for secret in secrets)]


def daily(day: int) -> xr.Dataset:
    """Return the data of one day."""
    time = np.array([f"2024-05-{day:02}T12:00"], dtype="M8[ns]")
    values = np.full((1, 20), float(day), dtype="f4")
    return xr.Dataset({"sst": (("time", "x"), values)}, {"time": time})


def with_faults(emulator: Emulator, work: Callable[[], Any]) -> Iterator[str]:
    """Do some work under each fault; yield what its errors say, with tracebacks and pickles."""
    token = emulator.tokens_issued[-2]
    echo = {"detail": f"invalid Bearer {token} of {emulator.user}:{emulator.password}"}
    for fault in (
        Fault("status", status=401, times=2),
        Fault("status", status=500, times=5, body=echo),
        Fault("status", status=418, body=echo),
        Fault("status", status=429, body=echo, method="POST", path="dataaccess/download"),
        Fault("cut"),
        Fault("order-failed", body=f"no rights for {token}"),
        Fault("html", status=502, body=str(echo)),
        Fault("truncated-file", times=3),
        Fault("reset"),
    ):
        emulator.fault(fault)
        try:
            work()
        except (HDAError, OSError, ValueError) as err:
            yield "".join(traceback.format_exception(err))
            yield repr(err) + str(getattr(err, "__notes__", ""))
            yield pickle.dumps(err).decode("latin-1")
        emulator.clear_faults()
        emulator.expire_tokens(refresh=fault.kind == "cut")


def shown(*things: Any) -> Iterator[str]:
    """Show and pickle things in every way that a notebook or a cluster does."""
    for thing in things:
        yield repr(thing)
        yield str(thing)
        if hasattr(thing, "_repr_html_"):
            yield thing._repr_html_()
        for dumps in (pickle.dumps, cloudpickle.dumps):
            yield dumps(thing).decode("latin-1")


@pytest.mark.slow
def test_a_whole_job_with_xarray(stacks: Any, logs: Callable[[], str]) -> None:
    """A job with faults, quota and renewals leaves no secret anywhere but in the settings."""
    stacks.serve(
        {f"sst_202405{day:02}.nc": daily(day) for day in range(1, _DAYS + 1)},
        quota=1,
        quota_window_seconds=0.3,
    )
    emulator: Emulator = stacks.emulator
    texts: list[str] = []

    ds = stacks.open(chunks={})
    plan = ds.hda.plan()
    texts += shown(ds, ds.sst, ds.hda, plan, Location.parse(stacks.query))
    texts += [repr(stacks.client), repr(stacks.client.settings), str(vars(plan))]
    texts += shown(ds.sst.data, ds.encoding, ds.attrs, ds.sst.encoding)
    texts.append(cloudpickle.dumps(dict(ds.__dask_graph__())).decode("latin-1"))
    (optimised,) = dask.base.optimize(ds.sst.sum().data)  # type: ignore[no-untyped-call]
    texts.append(str(optimised.name) + cloudpickle.dumps(optimised.dask).decode("latin-1"))

    def read() -> None:
        stacks.evict()
        emulator.forget_orders()  # so that they are placed, and fail, anew
        stacks.open(chunks={}).sst.mean("x").compute()

    texts += with_faults(emulator, read)
    ds.hda.prefetch()
    assert float(ds.sst.mean()) == np.mean(range(1, _DAYS + 1))
    saved = stacks.bench.folder / "saved.nc"
    ds.to_netcdf(saved)
    texts.append(json.dumps(ds.to_dict(data=False, encoding=True), default=str))
    fs = hda_fsspec.HDAFileSystem(**stacks.options)
    texts += [fs.to_json(), json.dumps(fs.to_dict(), default=str), str(fs.info(stacks.query[:-2]))]
    child = subprocess.run(
        [sys.executable, "-c", "import os, sys; print(dict(os.environ), sys.argv)"],
        capture_output=True,
        check=True,
    )
    files = [path for path in stacks.bench.folder.rglob("*") if path.is_file()]

    assert len(emulator.tokens_issued) >= 10
    assert emulator.orders == _DAYS
    assert len(texts) > 40
    assert "urllib3" in logs()
    assert len(files) > 3 * _DAYS
    assert leaks(emulator, _all(texts, logs(), child.stdout, files)) == []


def _all(
    texts: list[str], logged: str, environment: bytes, files: list[Path]
) -> Iterator[tuple[str, bytes]]:
    yield "the log", logged.encode("utf-8", "surrogateescape")
    yield "the environment of children", environment
    for number, text in enumerate(texts):
        data = text.encode("utf-8", "surrogateescape")
        yield f"text {number}: {text[-600:]}", data + text.encode("latin-1", "ignore")
    for path in files:
        yield f"the name {path}", str(path).encode()
        yield f"the file {path}", path.read_bytes()


def test_a_leak_would_be_found(bench: Any) -> None:
    """The search above finds a secret in each form, in texts and in files."""
    emulator = bench.start(days=1)
    bench.filesystem(emulator).ls(bench.query)
    for secret in (emulator.password, *emulator.tokens_issued):
        for form in (
            secret.encode(),
            base64.b64encode(secret.encode()),
            base64.b64encode(f"{emulator.user}:{secret}".encode()),
            quote(secret, safe="").encode(),
        ):
            assert leaks(emulator, iter([("here", b"x" + form + b"y"), ("there", b"xy")])) == [
                "here"
            ]
