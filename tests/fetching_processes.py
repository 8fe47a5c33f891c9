"""A program for tests: for each line that it reads it forks a process, which fetches.

A line is JSON: ``settings``, ``paths``, the number of ``threads`` which ask for all of the paths,
each in an order of its own and on a filesystem of its own, and ``outcome``, the file that the
process writes what it got to: the SHA-256 of each path, or the error. The id of the process is
printed. It starts in milliseconds, since everything is imported here already.

With ``again`` the process is a notebook, whose user presses Ctrl-C while it reads its one path, and
runs the cell again when the file of that name exists. With ``held`` it stops in the middle of
publishing, makes the file of that name, and goes on with the second attempt.

With ``locks_lie`` all file locks succeed, as on some network disks. With ``stdout`` and
``stderr`` its streams are the files of these names, and what it waits for is told at once. It has
the ``environment`` that the line says.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import hda_fsspec.client  # so that no process has to import it
from hda_fsspec import HDAFileSystem
from hda_fsspec.fetching import progress

assert hda_fsspec.client


def _fetch(job: dict[str, Any], number: int, got: dict[str, str]) -> None:
    fs = HDAFileSystem(**job["settings"])
    paths = list(job["paths"])
    random.Random(os.getpid() * 100 + number).shuffle(paths)
    if number % 2:
        fs.prefetch(paths)
    for path in paths:
        with fs.open(path) as handle:
            digest = hashlib.sha256(handle.read()).hexdigest()
        if got.setdefault(path, digest) != digest:
            got[path] = "two threads read different bytes"


def _as_notebook(job: dict[str, Any]) -> dict[str, str]:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    again, held = Path(job["again"]), Path(job["held"])
    sync = os.fsync

    def hold(fd: Any) -> None:
        held.touch()
        while not again.exists():
            time.sleep(0.005)
        sync(fd)

    if job["is_held"]:
        os.fsync = hold
    fs = HDAFileSystem(**job["settings"])
    (path,) = job["paths"]
    got: dict[str, str] = {}
    try:
        fs.cat(path)
    except KeyboardInterrupt:
        interrupted = Path(job["outcome"]).with_suffix(".interrupted")
        interrupted.touch()
        while not again.exists():
            time.sleep(0.005)
        got[path] = hashlib.sha256(fs.cat(path)).hexdigest()
    return got


def _show_at(stdout: str, stderr: str) -> None:
    for path, stream in ((stdout, sys.stdout), (stderr, sys.stderr)):
        with Path(path).open("wb") as target:
            os.dup2(target.fileno(), stream.fileno())
    progress.GRACE_SECONDS = 0.0
    progress._LOOK_EVERY_SECONDS = 0.02


def _work(job: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(job["environment"])
    if "stderr" in job:
        _show_at(job["stdout"], job["stderr"])
    if job.get("locks_lie"):
        fcntl.flock = lambda fd, operation: None
    if "again" in job:
        _write(job, _as_notebook(job))
        return
    got: dict[str, str] = {}

    def fetch(number: int) -> None:
        try:
            _fetch(job, number, got)
        except BaseException as err:
            got[f"thread {number}"] = repr(err)

    count = job.get("threads", 1)
    threads = [threading.Thread(target=fetch, args=(1 - number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _write(job, got)


def _write(job: dict[str, Any], got: dict[str, str]) -> None:
    sys.stdout.flush()
    outcome = Path(job["outcome"])
    outcome.with_suffix(".tmp").write_text(json.dumps(got))
    outcome.with_suffix(".tmp").rename(outcome)


def main() -> None:
    """Fork for each line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                _work(job)
            finally:
                os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
