"""Forks of a test process."""

from __future__ import annotations

import os
import time
from typing import Any

_PATIENCE_SECONDS = 20.0


def in_a_fork(work: Any) -> int:
    """Do something in a fork of this process, and return its id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return pid


def status_of(pid: int) -> int:
    """Wait for a fork to end, and return its exit status; a stuck one is ended."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return -9
