"""The bound on requests of an account at one time, over all processes on a cache.

The service asks for no more than 20 searches and downloads at one time from one user. Idle sockets
do not count. Transfers, which take long, leave a few slots to the short calls, so that orders go
out and are polled whatever is being fetched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

from hda_fsspec.cache.locks import FileLocks, Lock
from hda_fsspec.concurrency import tasks

logger = logging.getLogger("hda_fsspec")

#: "Each user can run at most 20 simultaneous search and download calls": the service's help.
AT_ONCE = 20
_FOR_CALLS = 4

_TRANSFER_SLOTS = range(AT_ONCE - _FOR_CALLS)
_CALL_SLOTS = (*range(AT_ONCE - _FOR_CALLS, AT_ONCE), *reversed(_TRANSFER_SLOTS))

_FIRST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.05
_TRANSFER_PAUSE_SECONDS = 0.1
_TELL_AFTER_SECONDS = 10.0
# Whoever keeps all slots for so long is stuck, and nothing but the service's patience depends on
# them. A short call seldom takes more than a second.
_CALL_PATIENCE_SECONDS = 600.0


@dataclasses.dataclass(eq=False, repr=False)
class RequestLimiter:
    """Lets requests through, so many at a time.

    Parameters
    ----------
    locks : FileLocks
        By which the processes share slots.
    name : str
        That of the slots: all processes that give the same name share them.
    own : int
        How many requests this process may have under way, whatever hosts they go to.
    patience_seconds : float
        For how long a transfer waits for a slot; then it goes on without.
    sleep, clock : callable
        How to wait, and seconds on a clock that never goes back.
    """

    locks: FileLocks
    name: str
    own: int
    patience_seconds: float
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        # Of one, a transfer may need a second one: to log in anew when its token is refused.
        self._room = threading.Semaphore(max(2, self.own))

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Wait until a short call may go out, and count it until the block ends."""
        with self._room, self._wait_for_slot() or contextlib.nullcontext():
            yield

    @contextlib.asynccontextmanager
    async def transfer(self) -> AsyncIterator[None]:
        """Wait, without a thread, until a transfer may begin, and count it until the block ends."""
        give_up_at = self.clock() + self.patience_seconds
        with contextlib.ExitStack() as held:
            while not self._room.acquire(blocking=False):
                await tasks.sleep(_TRANSFER_PAUSE_SECONDS)
            held.callback(self._room.release)
            while (slot := self.locks.acquire_slot(self.name, _TRANSFER_SLOTS)) is None:
                if self.clock() >= give_up_at:
                    break
                await tasks.sleep(_TRANSFER_PAUSE_SECONDS)
            else:
                held.enter_context(slot)
            yield

    def _wait_for_slot(self) -> Lock | None:
        began = self.clock()
        pause = _FIRST_PAUSE_SECONDS
        has_told = False
        while (slot := self.locks.acquire_slot(self.name, _CALL_SLOTS)) is None:
            waited = self.clock() - began
            if waited >= _CALL_PATIENCE_SECONDS:
                break
            if waited >= _TELL_AFTER_SECONDS and not has_told:
                has_told = True
                logger.warning(
                    "All %d requests that the service allows at one time are under way in other"
                    " processes on this cache; waiting for one of them to end.",
                    AT_ONCE,
                )
            self.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        return slot
