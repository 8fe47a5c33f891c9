"""Locks of the package are free in a forked child, whoever held them in its parent."""

from __future__ import annotations

import pickle
import threading

import pytest
from forking import in_a_fork, status_of

from hda_fsspec.concurrency.forks import ForkLock
from hda_fsspec.lazy import product_table
from hda_fsspec.lazy.product_table import ProductTable
from hda_fsspec.records import Product
from hda_fsspec.stack import stack

_PATIENCE_SECONDS = 20.0


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("lock", [product_table._known_lock, stack._known_lock])
def test_a_child_unpickles_whatever_its_parent_did(lock: ForkLock) -> None:
    """A fork in the moment in which another thread unpickles lazy data hangs nobody."""
    table = pickle.dumps(ProductTable([Product("EO:TEST:DAT", "p")]))
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            go.wait(_PATIENCE_SECONDS)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(_PATIENCE_SECONDS)

    def work() -> bool:
        with lock:
            pass
        return len(pickle.loads(table)) == 1

    status = status_of(in_a_fork(work))
    go.set()
    thread.join()

    assert status == 0
