"""An emulator in a process of its own, so that it takes no time of what is measured."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

_CODE = """\
import json, pkgutil, sys
from hda_fsspec.emulator import Catalogue, Emulator, Fault
make, args, options = sys.argv[1], *map(json.loads, sys.argv[2:])
with Emulator(Catalogue(pkgutil.resolve_name(make)(*args)), **options) as emulator:
    def answer(value):
        print(json.dumps(value), flush=True)

    def count():
        return {
            "orders": emulator.order_posts,
            "new_orders": emulator.orders,
            "requests": len(emulator.log),
            "sent_bytes": emulator.bytes_sent,
            "whole_files": emulator.downloads,
            "logins": emulator.logins,
            "in_preparation": emulator.max_in_preparation,
            "faults": emulator.chance_faults,
        }

    def requests():
        return [[r.method, r.api, r.status, r.headers.get("Host", ""),
                 "Authorization" in r.headers] for r in emulator.log]

    commands = {
        "count": count,
        "requests": requests,
        "fault": lambda **told: emulator.fault(Fault(**told)),
        "clear": emulator.clear_faults,
        "expire": emulator.expire_tokens,
        "forget": emulator.forget_orders,
    }
    answer([emulator.url, emulator.user, emulator.password])
    for line in sys.stdin:
        name, told = json.loads(line)
        answer(commands[name](**told))
"""


@dataclasses.dataclass(frozen=True)
class Counters:
    """What an emulator has counted so far.

    Attributes
    ----------
    orders, new_orders : int
        Orders that were placed, and those of them that were for a product for the first time.
    whole_files : int
        Transfers of files that went to the last byte.
    in_preparation : int
        The most orders that were in preparation at one time.
    faults : dict
        How many answers were spoilt at random, by kind.
    """

    orders: int
    new_orders: int
    requests: int
    sent_bytes: int
    whole_files: int
    logins: int
    in_preparation: int
    faults: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Seen:
    """One request as an emulator saw it."""

    method: str
    path: str
    status: int
    host: str
    has_token: bool


def storage_options(account: Mapping[str, str], cache_dir: Any) -> dict[str, Any]:
    """Return the options of this package for what the official client calls an account."""
    given = {"endpoint_url": account["url"], "user": account["user"]}
    return {**given, "password": account["password"], "cache_dir": str(cache_dir)}


class Served:
    """An emulator in another process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url, self.user, self.password = self._answer()

    @property
    def account(self) -> dict[str, str]:
        """How to reach it, by the names that the official client has for that."""
        return {"url": self.url, "user": self.user, "password": self.password}

    def options(self, cache_dir: Any) -> dict[str, Any]:
        """Return storage options with a cache folder."""
        return storage_options(self.account, cache_dir)

    def count(self) -> Counters:
        """Ask what it has counted."""
        return Counters(**self._ask("count"))

    def requests(self) -> list[Seen]:
        """Ask for all requests so far, in the order of their answers."""
        return [Seen(*each) for each in self._ask("requests")]

    def fault(self, kind: str, **told: Any) -> None:
        """Script a fault; see :class:`hda_fsspec.emulator.Fault`."""
        self._ask("fault", kind=kind, **told)

    def clear_faults(self) -> None:
        """Let it do nothing wrong any more."""
        self._ask("clear")

    def expire_tokens(self) -> None:
        """Let all access tokens expire now."""
        self._ask("expire")

    def forget_orders(self) -> None:
        """Let it forget all orders, so that whoever orders next waits for the preparation."""
        self._ask("forget")

    def _ask(self, command: str, **told: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, told]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextlib.contextmanager
def serve(make: str, *args: Any, options: Mapping[str, Any] | None = None) -> Iterator[Served]:
    """Serve the data sets that a function makes, named as ``module:function``.

    ``options`` are those of the emulator.
    """
    told = [json.dumps(args), json.dumps(dict(options or {}))]
    command = [sys.executable, "-c", _CODE, make, *told]
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
