"""A program for tests: for each line that it reads it forks a process, which fetches.

A line is JSON: ``settings``, ``paths``, the number of ``threads`` which ask for all of the paths,
each in an order of its own and on a filesystem of its own, and ``outcome``, the file that the
process writes what it got to: the SHA-256 of each path, or the error. The id of the process is
printed. It starts in milliseconds, since everything is imported here already.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import hda_fsspec.products  # so that no process has to import it
from hda_fsspec import HDAFileSystem

assert hda_fsspec.products


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


def _work(job: dict[str, Any]) -> None:
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
