"""Fetching ahead of those who will read: in their order, and never more than there is room for.

Orders take minutes, and readers wait for one product each. A batch keeps as many under way as may
be, and goes on as they arrive and are read. It saves time and nothing depends on it: a reader that
comes first, or finds nothing, fetches by itself. What fetching is comes as callables.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from hda_fsspec.errors import PER_PRODUCT_ERRORS
from hda_fsspec.records import Product

logger = logging.getLogger("hda_fsspec")

_Fetch = Callable[[Product], concurrent.futures.Future[Any]]


class Batch:
    """What one computation will read.

    Parameters
    ----------
    pump : ReadAhead
        How products are fetched.
    products : sequence of Product
        Which, in the order in which they are wanted, each as often as it will be read.
    """

    def __init__(self, pump: ReadAhead, products: Sequence[Product]) -> None:
        self._pump = pump
        self._lock = threading.Lock()
        self._reads_left = collections.Counter(products)
        self._to_come = collections.deque(self._reads_left)
        self._under_way: dict[Product, concurrent.futures.Future[Any] | None] = {}
        # Bytes of what is under way, or has not been read as often as it will be.
        self._unread: dict[Product, int] = {}
        self._largest = 0
        self._is_open = True
        self._is_advancing = False

    def close(self) -> None:
        """Fetch no more: the computation has ended, well or not. What was ordered goes on."""
        with self._lock:
            self._is_open = False
            self._to_come.clear()
            under_way = [fetch for fetch in self._under_way.values() if fetch is not None]
        self._pump.forget(self)
        for fetch in under_way:
            fetch.cancel()

    def read(self, product: Product) -> None:
        """Note that a product was read; after the last time its room in the cache is another's."""
        with self._lock:
            if product not in self._reads_left:
                return
            self._reads_left[product] -= 1
            if self._reads_left[product] > 0 or self._unread.pop(product, None) is None:
                return
        self.advance()

    def advance(self) -> None:
        """Fetch as many more as may be under way."""
        with self._lock:
            # Whoever is at it sees what is new, also this thread, which a fetch may call at once.
            if self._is_advancing:
                return
            self._is_advancing = True
        try:
            while (product := self._next()) is not None:
                self._begin(product)
        except Exception:
            # Called by whoever has fetched or read something, and no fault of theirs. Those who
            # will read fetch by themselves, and are told.
            logger.warning("Nothing more is fetched ahead of a computation:", exc_info=True)
            with self._lock:
                self._to_come.clear()
                self._is_advancing = False

    def _begin(self, product: Product) -> None:
        if self._pump.is_local(product):
            with self._lock:
                self._under_way.pop(product, None)
                self._unread.pop(product, None)
            return
        future = self._pump.fetch(product)
        with self._lock:
            self._under_way[product] = future
        future.add_done_callback(functools.partial(self._landed, product))
        if not self._is_open:
            future.cancel()

    def _next(self) -> Product | None:
        """Return the next product to be fetched; None if none may be now."""
        with self._lock:
            if self._to_come and len(self._under_way) < self._pump.at_a_time:
                product = self._to_come[0]
                weight = self._pump.weigh(product) or self._largest
                if self._has_room(weight):
                    self._under_way[self._to_come.popleft()] = None
                    self._unread[product] = weight
                    return product
            self._is_advancing = False
            return None

    def _has_room(self, weight: int) -> bool:
        bound = self._pump.room()
        # What was fetched must not drive out what was not read yet, nor what others read.
        return (
            not self._unread or bound is None or sum(self._unread.values()) + weight <= bound // 2
        )

    def _landed(self, product: Product, future: concurrent.futures.Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        with self._lock:
            self._under_way.pop(product, None)
            if error is not None:
                self._unread.pop(product, None)
                if not isinstance(error, PER_PRODUCT_ERRORS):
                    # It will meet all others too. Who reads is told.
                    self._to_come.clear()
            elif product in self._unread and not future.cancelled():
                self._unread[product] = future.result().size
                self._largest = max(self._largest, future.result().size)
        self.advance()


class ReadAhead:
    """The batches of one :class:`hda_fsspec.client.Client`.

    Parameters
    ----------
    fetch : callable
        Makes a product local.
    is_local : callable
        Whether a product is local already.
    weigh : callable
        The length of a product in bytes, None where nobody knows.
    room : callable
        The bound of the cache in bytes; None for none.
    at_a_time : int
        How many products of a batch may be under way.
    """

    def __init__(
        self,
        *,
        fetch: _Fetch,
        is_local: Callable[[Product], bool],
        weigh: Callable[[Product], int | None],
        room: Callable[[], int | None],
        at_a_time: int,
    ) -> None:
        self.fetch = fetch
        self.is_local = is_local
        self.weigh = weigh
        self.room = room
        self.at_a_time = at_a_time
        self._lock = threading.Lock()
        self._batches: tuple[Batch, ...] = ()

    def begin(self, products: Sequence[Product]) -> Batch:
        """Register a batch; it fetches nothing before :meth:`Batch.advance`."""
        batch = Batch(self, products)
        with self._lock:
            self._batches = (*self._batches, batch)
        return batch

    def forget(self, batch: Batch) -> None:
        """Take a batch out that is closed."""
        with self._lock:
            self._batches = tuple(each for each in self._batches if each is not batch)

    def mark_read(self, product: Product) -> None:
        """Note that a product was read."""
        for batch in self._batches:
            batch.read(product)
