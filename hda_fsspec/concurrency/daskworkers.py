"""The Dask worker whose task a thread runs, if it runs one; Dask itself is not imported."""

from __future__ import annotations

import sys
from typing import Any


def dask_worker() -> Any:
    """Return the Dask worker whose task this thread runs, None if it runs none.

    Dask's package of workers is asked only if it is there already. It may be there in part, while
    another thread imports it: nobody runs a task by then.
    """
    get_worker = getattr(sys.modules.get("distributed"), "get_worker", None)
    if get_worker is None:
        return None
    try:
        return get_worker()
    except ValueError:
        return None
