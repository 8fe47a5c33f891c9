"""The faults that both clients meet, each as a value: what is scripted, and what is played."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks._stage import Run, Stage

LIMIT_SECONDS = 120.0

_FILE = "dataaccess/download/"
_ORDER = {"method": "POST", "path": "dataaccess/download"}
_SEARCH = {"method": "POST", "path": "dataaccess/search"}
_HALF = 1_000_000
_RATE = 1_000_000.0

Play = Callable[[Stage], tuple[Run, str]]


def once(stage: Stage) -> tuple[Run, str]:
    """Run the client."""
    return stage.start().wait(LIMIT_SECONDS), ""


def twice(stage: Stage) -> tuple[Run, str]:
    """Run the client, and then again."""
    stage.start().wait(LIMIT_SECONDS)
    before = stage.served.count()
    run = stage.start().wait(LIMIT_SECONDS)
    after = stage.served.count()
    sent = (after.sent_bytes - before.sent_bytes) / 1e6
    return run, f"second run: {after.orders - before.orders} orders, {sent:.1f} MB"


def two_at_once(stage: Stage) -> tuple[Run, str]:
    """Run the client in two processes at one time."""
    first, second = stage.start(), stage.start()
    runs = [each.wait(LIMIT_SECONDS) for each in (first, second)]
    count = stage.served.count()
    worst = max(runs, key=lambda run: (run.raised is not None, len(run.logged), run.seconds))
    return worst, f"{count.whole_files} downloads"


def killed_and_restarted(stage: Stage) -> tuple[Run, str]:
    """Kill the client in the middle of the body, look, and start it again."""
    process = stage.start()
    stage.wait_until(lambda count: count.sent_bytes >= _HALF, LIMIT_SECONDS)
    process.kill()
    before = stage.served.count()
    left = stage.files()
    run = stage.start().wait(LIMIT_SECONDS)
    after = stage.served.count()
    sent = (after.sent_bytes - before.sent_bytes) / 1e6
    return run, (
        f"after the kill: {left}; restarted: {after.orders - before.orders} orders, {sent:.1f} MB"
    )


def token_expires(stage: Stage) -> tuple[Run, str]:
    """Let all tokens expire as soon as the first file is through."""
    process = stage.start()
    stage.wait_until(lambda count: count.whole_files >= 1, LIMIT_SECONDS)
    stage.served.expire_tokens()
    run = process.wait(LIMIT_SECONDS)
    return run, f"{stage.served.count().logins} logins"


def outage(seconds: float) -> Play:
    """Return a play that runs the client, and lets the fault end after a while."""

    def play(stage: Stage) -> tuple[Run, str]:
        process = stage.start()
        if not process.ends_within(seconds):
            stage.served.clear_faults()
        return process.wait(LIMIT_SECONDS), ""

    return play


def without_room(stage: Stage) -> tuple[Run, str]:
    """Let no file become larger than half of the product."""
    return stage.start(max_file_bytes=_HALF).wait(LIMIT_SECONDS), ""


def redirected(stage: Stage) -> tuple[Run, str]:
    """Look whether the token went along to the other host."""
    run, _ = once(stage)
    went = stage.token_went_to("localhost")
    told = {None: "no request", True: "token sent", False: "no token sent"}[went]
    return run, f"{told} to the other host"


@dataclasses.dataclass(frozen=True)
class Case:
    """One fault.

    Attributes
    ----------
    title : str
        For the table.
    faults : sequence of mapping
        What the emulator is told to do wrong.
    options : mapping
        Of the emulator.
    products, size : int
        How many products there are, and how many bytes each has.
    play : callable
        Runs the client; returns the run that counts, and what else was seen.
    """

    title: str
    faults: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    products: int = 1
    size: int = 2 * _HALF
    play: Play = once


def _fault(kind: str, **told: Any) -> dict[str, Any]:
    return {"kind": kind, **told}


CASES = (
    Case("none", products=3),
    Case("body cut in the middle, once", [_fault("cut", after_bytes=_HALF)]),
    Case("body cut in the middle, always", [_fault("cut", after_bytes=_HALF, times=None)],
         {"ranges": False}),
    Case("connection reset in the body, once", [_fault("reset", after_bytes=_HALF)]),
    Case("order answers 500 twice", [_fault("status", status=500, times=2, **_ORDER)]),
    Case("file answers 502 with HTML, once",
         [_fault("html", status=502, method="GET", path=_FILE)]),
    Case("file answers 200 with an HTML page, once", [_fault("html", method="GET", path=_FILE)]),
    Case("search answers 500 for ever", [_fault("status", status=500, times=None, **_SEARCH)]),
    Case("search answers 500 for 20 seconds", [_fault("status", times=None, **_SEARCH)],
         play=outage(20.0)),
    Case("search answers 503 for a minute", [_fault("status", status=503, times=None, **_SEARCH)],
         play=outage(60.0)),
    Case("one of three orders fails", [_fault("order-failed", times=None,
         product_id="faults_20240102.nc")], products=3),
    Case("token expires in mid-job, told by 401", options={"rate_bytes_per_second": _RATE},
         products=6, size=_HALF, play=token_expires),
    Case("token expires in mid-job, told by 403",
         options={"rate_bytes_per_second": _RATE, "expired_status": 403},
         products=6, size=_HALF, play=token_expires),
    Case("Content-Length 1000 bytes too long", [_fault("wrong-length", value=1000, times=None)]),
    Case("Content-Length 1000 bytes too short", [_fault("wrong-length", value=-1000, times=None)]),
    Case("no Content-Length (chunked), catalogue size ND",
         [_fault("no-length", times=None)], {"sizes": "ND"}),
    Case("no length at all and body cut, once",
         [_fault("no-length", value="close", times=None), _fault("cut", after_bytes=_HALF)],
         {"sizes": "ND"}),
    Case("quota of 3 orders in 20 s, 5 products", products=5, size=100_000,
         options={"quota": 3, "quota_window_seconds": 20.0}),
    Case("kill -9 in mid-download, then restart", options={"rate_bytes_per_second": _RATE},
         size=4 * _HALF, play=killed_and_restarted),
    Case("run again", products=3, play=twice),
    Case("two processes at once", products=4, play=two_at_once),
    Case("file name `../../evil.nc`", [_fault("name", value="../../evil.nc", times=None)]),
    Case("no room for the file on the disk", play=without_room),
    Case("slow server, 1 kB/s", options={"rate_bytes_per_second": 1000.0}, size=30_000),
    Case("GET of the file is never answered, once",
         [_fault("hang", seconds=3600.0, method="GET", path=_FILE)]),
    Case("file redirects to another host", options={"redirect_downloads_to": "localhost"},
         play=redirected),
    Case("licence not accepted yet", options={"accepted_terms": []}),
)  # fmt: skip
