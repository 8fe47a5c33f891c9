"""What a piece of work costs, told so that neither the speed nor the load of a machine matters."""

from __future__ import annotations

import time
from collections.abc import Callable


def cpu_seconds(work: Callable[[], object], *, tries: int = 5) -> float:
    """Return the least processor time that a piece of work took in this thread.

    Other processes take none of it; how fast the machine is, it still tells. So it is compared with
    the cost of other work on the same machine, and never with a number of seconds.
    """
    spent = []
    for _ in range(tries):
        began = time.thread_time()
        work()
        spent.append(time.thread_time() - began)
    return min(spent)
