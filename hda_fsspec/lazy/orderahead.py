"""Ordering ahead for Dask's local schedulers: what a compute will read is fetched in its order.

Tasks wait for one product each, and there are few threads. So when a compute starts its graph is
read, and the products that are not local are handed to the pump. Nothing depends on it, and it
does nothing for graphs without lazy data of this package. Workers of distributed do not call it:
their tasks leave their slots instead, see :mod:`hda_fsspec.lazy.patience`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from dask.callbacks import Callback

from hda_fsspec.fetching.pump import Batch
from hda_fsspec.lazy.recipes import Source
from hda_fsspec.records import Product
from hda_fsspec.usecase.products import Products, shared_products

logger = logging.getLogger("hda_fsspec")


class OrderAhead(Callback):
    """Called by the schedulers ``threads``, ``processes`` and ``sync`` where they start and end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()
        # By the state of each compute, which is kept with it so that no other one gets its id.
        self._begun: dict[int, tuple[Any, list[Batch]]] = {}

    def _start_state(self, dsk: Mapping[Any, Any], state: Mapping[str, Any]) -> None:
        # xarray loads the engines of all packages at the first open: Dask's arrays can wait.
        from hda_fsspec.lazy import graphs

        try:
            # Tasks that are ready are taken from the end. Those that wait for others seldom read.
            keys = [*reversed(state["ready"]), *state["waiting"]]
            batches = _begin(graphs.products_in_order(dsk, keys))
        except Exception:
            logger.debug("A graph is not read; its products come one by one.", exc_info=True)
            return
        if batches:
            with self._lock:
                self._begun[id(state)] = (state, batches)

    def _finish(self, _dsk: Mapping[Any, Any], state: Mapping[str, Any], failed: bool) -> None:
        with self._lock:
            _, batches = self._begun.pop(id(state), (None, []))
        for batch in batches:
            batch.close(is_broken=failed)


def _begin(reads: list[tuple[Source, int]]) -> list[Batch]:
    wanted: dict[Products, list[Product]] = {}
    for source, number in reads:
        wanted.setdefault(shared_products(source.settings), []).append(source.pieces[number])
    batches = []
    for products, its_reads in wanted.items():
        if products.settings.offline:
            continue
        batch = products.pump.begin(its_reads)
        batches.append(batch)
        # Not here: to look whether thousands are local takes time that the compute need not wait.
        products.run(batch.advance)
    return batches


_registered: list[OrderAhead] = []
_register_lock = threading.Lock()


def register() -> None:
    """See to it that computes of this process order ahead; once is enough."""
    with _register_lock:
        if not _registered:
            _registered.append(OrderAhead())
            _registered[0].register()
