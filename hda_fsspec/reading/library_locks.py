"""The locks under which HDF5, netCDF-C and ecCodes are used: those of xarray, re-entrant.

None of these libraries is thread-safe. xarray takes a lock to open a handle and to read values,
but not while it reads the metadata of a file that is being opened: files opened in one thread
while another reads crash the process. Whoever holds a lock of this module keeps all users of
xarray's lock out, and may open, read and close files that were given it: it is not taken twice.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from xarray.backends import locks


class ReentrantLock:
    """A lock that one thread may take several times, around another which it may not.

    Parameters
    ----------
    inner : lock
        Taken at the first time, given back at the last.
    """

    def __init__(self, inner: Any) -> None:
        self._outer = threading.RLock()
        self._inner = inner
        self._depth = 0

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock; without ``blocking``, False if another thread has it."""
        if not self._outer.acquire(blocking=blocking):
            return False
        if self._depth == 0 and not self._inner.acquire(blocking):
            self._outer.release()
            return False
        self._depth += 1
        return True

    def release(self) -> None:
        """Give the lock back, once for each time it was taken."""
        self._depth -= 1
        if self._depth == 0:
            self._inner.release()
        self._outer.release()

    def locked(self) -> bool:
        """Whether some thread has it."""
        return self._depth > 0

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._inner,)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


#: For netCDF-3, netCDF-4 and HDF5 files.
HDF5_LOCK = ReentrantLock(locks.combine_locks([locks.NETCDFC_LOCK, locks.HDF5_LOCK]))

# A child that is forked while another thread is inside these libraries would wait for ever for a
# thread that it does not have, and find them half-way: forks wait until nobody is.
os.register_at_fork(
    before=HDF5_LOCK.acquire,
    after_in_parent=HDF5_LOCK.release,
    after_in_child=HDF5_LOCK.release,
)
