"""A stage for one client and one fault: an emulator, empty folders, and what is seen afterwards."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._job import DATASET
from benchmarks._serving import Counters, Served


@dataclasses.dataclass
class Run:
    """One process of a client.

    Attributes
    ----------
    raised : str or None
        The error that ended it, as class and message.
    logged : list of str
        The classes of errors that were only logged.
    ended : bool
        False if it had to be stopped at the time limit.
    seconds : float
        From its start to its end.
    """

    raised: str | None
    logged: list[str]
    ended: bool
    seconds: float


class Process:
    """A client's process that is under way."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._began = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks._job", json.dumps(given)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.communicate()

    def ends_within(self, seconds: float) -> bool:
        """Wait for so long at most, and return whether it has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait(self, limit_seconds: float) -> Run:
        """Wait for its end; at the time limit it is killed."""
        try:
            told, _ = self._process.communicate(timeout=limit_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return Run(None, [], ended=False, seconds=time.perf_counter() - self._began)
        report = json.loads(told)
        return Run(**report, ended=True, seconds=time.perf_counter() - self._began)


class Stage:
    """Where one client meets one fault.

    Parameters
    ----------
    served : Served
        The emulator.
    client : str
        Which client.
    folder : Path
        An empty folder; all that the client writes should be in its sub-folders.
    source : Path
        The folder of the products as they are served.
    """

    def __init__(self, served: Served, client: str, folder: Path, source: Path) -> None:
        self.served = served
        self.client = client
        self.folder = folder
        self._source = source
        self.target = folder / "outer" / "target"
        self.target.mkdir(parents=True)

    def start(self, *, max_file_bytes: int = 0) -> Process:
        """Start a process that fetches all products."""
        return Process(
            {
                "client": self.client,
                "account": self.served.account,
                "target": str(self.target),
                "cache_dir": str(self.folder / "cache"),
                "max_file_bytes": max_file_bytes,
            }
        )

    def wait_until(self, is_reached: Callable[[Counters], bool], limit_seconds: float) -> None:
        """Wait until the emulator has counted so far; raises TimeoutError."""
        until = time.perf_counter() + limit_seconds
        while not is_reached(self.served.count()):
            if time.perf_counter() > until:
                msg = f"{self.client} did not get so far in {limit_seconds} s."
                raise TimeoutError(msg)
            time.sleep(0.02)

    def files(self) -> str:
        """Say what lies in the target folder, and what outside of it."""
        expected = {path.name: path.read_bytes() for path in sorted(self._source.iterdir())}
        found = sorted(path for path in self.target.rglob("*") if path.is_file())
        kinds: dict[str, int] = {}
        for path in found:
            kind = _kind(path, expected)
            kinds[kind] = kinds.get(kind, 0) + 1
        missing = len(expected) - len(found)
        if missing > 0:
            kinds["absent"] = missing
        known = {*found, *(self.folder / "cache").rglob("*")}
        escaped = [p for p in self.folder.rglob("*") if p.is_file() and p not in known]
        told = [f"{count} {kind}" for kind, count in kinds.items()]
        told += [f"`{path.name}` outside of the folder" for path in escaped]
        return ", ".join(told)

    def token_went_to(self, host: str) -> bool | None:
        """Whether a request to a host brought a token; None if there was no request to it."""
        brought = [r.has_token for r in self.served.requests() if r.host.startswith(host)]
        return any(brought) if brought else None


def _kind(path: Path, expected: dict[str, bytes]) -> str:
    content = path.read_bytes()
    if content in expected.values():
        return "complete" if path.name in expected else f"complete (as `{path.name}`)"
    whole = expected.get(path.name)
    if whole is None:
        return f"unknown (`{path.name}`)"
    if whole.startswith(content):
        return f"truncated ({len(content)} of {len(whole)} bytes)"
    return f"wrong ({len(content)} bytes)"


def products_in(folder: str) -> list[Any]:
    """Return one data set of the products in a folder."""
    from hda_fsspec.emulator import DatasetEntry, dated_product

    files = sorted(Path(folder).iterdir())
    return [DatasetEntry(DATASET, [dated_product(path.name, path) for path in files])]
