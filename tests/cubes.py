"""Subset data sets that are served, and opened with the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xarray as xr

from hda_fsspec.client import Client, close_clients, get_client
from hda_fsspec.emulator import Catalogue, DatasetEntry, Emulator
from hda_fsspec.settings import Settings

#: What the service, or the place of a file, adds to each file.
PER_FILE = ("history", "copernicusmarine_version")


class Cubes:
    """Subset data sets behind an emulator, and one cache.

    Parameters
    ----------
    emulator : Emulator
        That serves them.
    folder : Path
        Where the cache is.
    """

    def __init__(self, emulator: Emulator, folder: Path) -> None:
        self.emulator = emulator
        self.options: dict[str, Any] = {
            **emulator.storage_options,
            "cache_dir": folder / "cache",
            "accept_terms": True,
        }

    def open(self, query: str, **given: Any) -> xr.Dataset:
        """Open ``DATASET/key=value/…`` as one data set."""
        given.setdefault("cache", False)
        options = self.options | given.pop("settings", {})
        return xr.open_dataset(f"hda://{query}", engine="hda", storage_options=options, **given)

    @property
    def client(self) -> Client:
        """What all data sets of these settings share in this process."""
        return get_client(Settings.resolve(**self.options))

    @property
    def ordered(self) -> list[str]:
        """The service's ids of what was ordered, in the order of the first order of each."""
        return list(dict.fromkeys(self.posted("dataaccess/download", "product_id")))

    def posted(self, api: str, key: str) -> list[str]:
        """Return a value of the bodies that were sent to an address."""
        log = self.emulator.log
        posts = log.where(lambda r: r.method == "POST" and r.api.split("?")[0] == api)
        return [str(record.body[key]) for record in posts]

    def forget(self) -> None:
        """Forget what this process knows, as a new one would; the disk keeps what it has."""
        close_clients()


@contextlib.contextmanager
def cubes_of(folder: Path, *datasets: DatasetEntry, **options: Any) -> Iterator[Cubes]:
    """Serve data sets, and yield what opens them."""
    with Emulator(Catalogue(datasets), **options) as emulator:
        yield Cubes(emulator, folder)


def plain(dataset: xr.Dataset) -> xr.Dataset:
    """Return a data set in memory, without what differs from file to file."""
    loaded = dataset.load()
    loaded.attrs = {name: v for name, v in loaded.attrs.items() if name not in PER_FILE}
    return loaded.drop_encoding()
