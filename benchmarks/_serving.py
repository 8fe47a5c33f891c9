"""An emulator in a process of its own, so that it takes no time of what is measured."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

with contextlib.suppress(ImportError):
    # Before anything imports ecCodes: with the wheels of 2026 Python else aborts at its exit.
    import pyproj  # noqa: F401

_CODE = """\
import json, pkgutil, sys
from hda_fsspec.emulator import Catalogue, Emulator
make, args = sys.argv[1], json.loads(sys.argv[2])
with Emulator(Catalogue(pkgutil.resolve_name(make)(*args))) as emulator:
    print(json.dumps([emulator.url, emulator.user, emulator.password]), flush=True)
    for _ in sys.stdin:
        counts = [emulator.order_posts, len(emulator.log), emulator.bytes_sent]
        print(json.dumps(counts), flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Counters:
    """What an emulator has counted so far."""

    orders: int
    requests: int
    sent_bytes: int


class Served:
    """An emulator in another process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url, self.user, self.password = self._answer()

    def options(self, cache_dir: Any) -> dict[str, Any]:
        """Return storage options with a cache folder."""
        return {
            "url": self.url,
            "user": self.user,
            "password": self.password,
            "cache_dir": str(cache_dir),
        }

    def count(self) -> Counters:
        """Ask what it has counted."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Counters(*self._answer())

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextlib.contextmanager
def serve(make: str, *args: Any) -> Iterator[Served]:
    """Serve the data sets that a function makes, named as ``module:function``."""
    command = [sys.executable, "-c", _CODE, make, json.dumps(args)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Served(process)
        finally:
            process.terminate()


def run_alone(code: str, argument: Any) -> Any:
    """Run code in a fresh process; ``given`` is its argument, and what it prints is JSON."""
    begin = "import json, sys\ngiven = json.loads(sys.argv[1])\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + code, json.dumps(argument)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def verdict(*, is_met: bool) -> str:
    """Return how a measurement compares with its target."""
    return "met" if is_met else "NOT MET"
