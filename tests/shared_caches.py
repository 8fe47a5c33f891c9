"""Machines that share a cache elsewhere, on a filesystem that fails as a test says."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from hda_fsspec import HDAFileSystem
from hda_fsspec.concurrency.tasks import SharedTasks

SECRET = "a-secret-of-the-bucket"


class Vault(LocalFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """A filesystem elsewhere, which may be away, refuse, or lose what is written."""

    protocol = "vault"
    cachable = False
    fails: Callable[[str, str], Exception | None] = staticmethod(lambda verb, path: None)

    def __init__(self, key: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.key = key

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("vault://")))

    def unstrip_protocol(self, name: str) -> str:
        """Return the address of a path."""
        return f"vault://{name}"

    def _check(self, verb: str, path: str) -> None:
        error = PermissionError("wrong key") if self.key != SECRET else type(self).fails(verb, path)
        if error is not None:
            raise error

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Look at a path."""
        self._check("info", path)
        return dict(super().info(path, **kwargs))

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        self._check("open", path)
        return super()._open(path, mode=mode, **kwargs)

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        """Copy a file there."""
        self._check("put", rpath)
        shutil.copyfile(lpath, rpath)


class Team:
    """Machines with a cache folder each and a shared cache, and one emulator."""

    def __init__(self, bench: Any, emulator: Any, place: Path | None = None) -> None:
        self.bench = bench
        self.emulator = emulator
        self.place: Path = place or bench.folder
        self.folder = self.place / "vault"
        self.folder.mkdir()
        self.url = f"vault://{self.folder}"

    def machine(self, name: str, **settings: Any) -> HDAFileSystem:
        """Return the filesystem of a machine."""
        given = {"shared_cache": self.url, "shared_cache_options": {"key": SECRET}, **settings}
        options = {"cache_dir": self.place / name, **given}
        fs = self.bench.filesystem(self.emulator, **options)
        assert isinstance(fs, HDAFileSystem)
        return fs

    def give(self, day: int = 1) -> bytes:
        """Let one machine fetch a product and put it into the shared cache; return its bytes."""
        fs = self.machine("first")
        data = fs.cat_file(self.bench.path(day))
        fs.flush_shared_cache()
        assert isinstance(data, bytes)
        return data

    def files(self) -> dict[str, Path]:
        """Return the files in the shared cache: record and data of one product."""
        return {
            "record" if file.name == "record.json" else "data": file
            for file in self.folder.rglob("*")
            if file.is_file()
        }


def run(work: Coroutine[Any, None, Any]) -> Any:
    """Run a coroutine as a task of fetching runs."""
    tasks: SharedTasks[Any] = SharedTasks(1)
    return tasks.submit(object(), lambda _: work).result()


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the log warned of."""
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
