"""Locks of the package are free in a forked child, whoever held them in its parent."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time

import pytest

from hda_fsspec.forks import ForkLock
from hda_fsspec.lazy import pieces, stack
from hda_fsspec.lazy.pieces import Pieces
from hda_fsspec.records import Product

_PATIENCE_SECONDS = 20.0


def exit_code_of(pid: int) -> int:
    """Wait for a child, which is killed if it hangs."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("lock", [pieces._known_lock, stack._known_lock])
def test_a_child_unpickles_whatever_its_parent_did(lock: ForkLock) -> None:
    """A fork in the moment in which another thread unpickles lazy data hangs nobody."""
    table = pickle.dumps(Pieces([Product("EO:TEST:DAT", "p")]))
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            go.wait(_PATIENCE_SECONDS)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(_PATIENCE_SECONDS)
    pid = os.fork()
    if pid == 0:
        with lock:
            pass
        os._exit(len(pickle.loads(table)) - 1)

    code = exit_code_of(pid)
    go.set()
    thread.join()

    assert code == 0
