"""What the engine needs is imported when it is first used, by one thread.

xarray imports the engines of all packages when anything is opened, so they must not take long.
Dask's modules import one another in circles, which fails where threads begin at different ends.
"""

from __future__ import annotations

from hda_fsspec.forks import ForkLock

_lock = ForkLock()


def load() -> None:
    """Import what takes time; others that call it wait until all of it is there."""
    with _lock:
        import dask

        import hda_fsspec.lazy.graphs
        import hda_fsspec.lazy.lazily
        import hda_fsspec.lazy.stacking

        assert dask
        assert hda_fsspec.lazy.stacking
