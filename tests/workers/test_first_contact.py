"""First contact of a Dask worker: it may start before its network, and its job goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from clusters import cluster, wait_until
from distributed import Client

# More than a wrong address is given, where it is no task of a worker that asks.
_RETRIES = 4


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One worker."""
    with cluster({}, home=tmp_path_factory.mktemp("workers")) as client:
        yield client


def _note_retries(file: Path) -> None:
    """Run on the worker: write a line whenever something is tried again."""
    from hda_fsspec.client import close_clients
    from hda_fsspec.network import retries

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "trying again" in record.getMessage():
                with file.open("a") as stream:
                    stream.write("again\n")

    close_clients()
    retries._FIRST_DELAY_SECONDS = 0.05
    logger = logging.getLogger("hda_fsspec")
    logger.handlers = [Notes()]
    logger.setLevel(logging.INFO)


def _cat(options: dict[str, Any], path: str) -> bytes:
    from hda_fsspec import HDAFileSystem

    data: bytes = HDAFileSystem(**options).cat(path)
    return data


def _listed(fs: Any, path: str) -> list[str]:
    names: list[str] = fs.ls(path, detail=False)
    return names


def _opened(options: dict[str, Any], path: str) -> float:
    import xarray as xr

    with xr.open_dataset(path, engine="hda", storage_options=options) as ds:
        return float(ds["sst"].sum())


@pytest.mark.slow
@pytest.mark.parametrize("way", ["cat", "ls", "open"])
def test_nobody_is_there_yet(way: str, stacks: Any, client: Client, tmp_path: Path) -> None:
    """A refused connection is retried on a worker, whichever way the task asks."""
    stacks.serve({"sst_20240501.nc": xr.Dataset({"sst": ("x", [1.0, 2.0])})})
    path = f"{stacks.query[:-1]}sst_20240501.nc"
    notes = tmp_path / "retries"
    client.run(_note_retries, notes)
    stacks.emulator.stop()

    if way == "cat":
        future = client.submit(_cat, stacks.options, path, pure=False)
    elif way == "ls":
        fs = stacks.bench.filesystem(stacks.emulator)
        # The password travels with no filesystem.
        client.run(_give_password, stacks.options["password"])
        future = client.submit(_listed, fs, stacks.query[:-2], pure=False)
    else:
        future = client.submit(_opened, stacks.options, path, pure=False)
    wait_until(lambda: notes.exists() and len(notes.read_text().split()) >= _RETRIES)
    stacks.emulator.start()

    found = future.result(timeout=60)
    assert (
        found
        == {
            "cat": (stacks.folder / "sst_20240501.nc").read_bytes(),
            "ls": [path.removeprefix("hda://")],
            "open": 3.0,
        }[way]
    )


def _give_password(password: str) -> None:
    import os

    os.environ["HDA_PASSWORD"] = password
