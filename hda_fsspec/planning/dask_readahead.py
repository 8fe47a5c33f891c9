"""Ordering ahead for Dask's local schedulers: what a compute will read is fetched in its order.

Tasks wait for one product each, and there are few threads. So when a compute starts its graph is
read, and the products that are not local are fetched ahead. Nothing depends on it, and it does
nothing for graphs without lazy data of this package. Workers of distributed do not call it:
their tasks leave their slots instead, see :mod:`hda_fsspec.workers.waiting`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from dask.callbacks import Callback

from hda_fsspec.client import Client, get_client
from hda_fsspec.concurrency.forks import ForkLock
from hda_fsspec.fetching.readahead import ReadAhead
from hda_fsspec.records import Product
from hda_fsspec.workers import computations

logger = logging.getLogger("hda_fsspec")


class PrefetchCallback(Callback):
    """Called by the schedulers ``threads``, ``processes`` and ``sync`` where they start and end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._lock = ForkLock()
        # By the state of each compute, which is kept with it so that no other one gets its id.
        self._begun: dict[int, tuple[Any, int, list[ReadAhead]]] = {}

    def _start_state(self, dsk: Mapping[Any, Any], state: Mapping[str, Any]) -> None:
        # Tasks that are ready are taken from the end. Those that wait for others seldom read.
        keys = [*reversed(state["ready"]), *state["waiting"]]
        reads: list[ReadAhead] = []
        try:
            _fetch_ahead(dsk, keys, reads)
        except Exception:
            # A graph that is not understood costs time, and is never an error.
            logger.debug("Products of a graph come one by one.", exc_info=True)
        with self._lock:
            self._begun[id(state)] = (state, computations.begin(keys), reads)

    def _finish(self, _dsk: Mapping[Any, Any], state: Mapping[str, Any], failed: bool) -> None:
        with self._lock:
            begun = self._begun.pop(id(state), None)
        if begun is None:
            return
        _, number, reads = begun
        computations.end(number, is_broken=failed)
        for ahead in reads:
            ahead.close()


def _fetch_ahead(dsk: Mapping[Any, Any], keys: list[Any], reads: list[ReadAhead]) -> None:
    """Begin to fetch what the tasks of some keys read, and note it among the reads."""
    # xarray loads the engines of all packages at the first open: Dask's arrays can wait.
    from hda_fsspec.planning import dask_graphs

    wanted: dict[Client, list[Product]] = {}
    for source, number in dask_graphs.products_in_order(dsk, keys):
        wanted.setdefault(get_client(source.settings), []).append(source.pieces[number])
    for client, products in wanted.items():
        if not client.settings.offline:
            reads.append(client.read_ahead(products))
            # Not here: to look whether thousands are local takes time that nobody need wait.
            client.run(reads[-1].advance)


_registered: list[PrefetchCallback] = []
_register_lock = ForkLock()


def register() -> None:
    """See to it that computes of this process order ahead; once is enough."""
    with _register_lock:
        if not _registered:
            _registered.append(PrefetchCallback())
            _registered[0].register()
