"""Fetching ahead of those who will read: in their order, and never more than there is room for.

Orders take minutes, and readers wait for one product each. So as many as may be are under way,
and more as they arrive and are read. It saves time and nothing depends on it: a reader that comes
first, or finds nothing, fetches by itself.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self

from hda_fsspec.cache.cache import Cache, Entry
from hda_fsspec.concurrency.futures import done_future
from hda_fsspec.errors import PER_PRODUCT_ERRORS
from hda_fsspec.records import Product
from hda_fsspec.settings import Settings

logger = logging.getLogger("hda_fsspec")


class Client(Protocol):
    """The part of :class:`hda_fsspec.client.Client` that fetching ahead needs."""

    settings: Settings
    cache: Cache
    reads_ahead: set[ReadAhead]

    def fetch(self, product: Product) -> concurrent.futures.Future[Entry]:
        """Make a product local."""

    def size(self, product: Product) -> int | None:
        """Return the length of a product's file in bytes, None where it is not known."""


class Budget:
    """The room in a cache for products that shall be in it at one time.

    Parameters
    ----------
    client : Client
        Whose cache it is.
    share : float
        Which part of the cache's bound they may take.
    """

    def __init__(self, client: Client, share: float = 1.0) -> None:
        self._client = client
        self._share = share
        self._sizes: dict[Product, int] = {}
        self._total = 0
        self._largest = 0

    def __len__(self) -> int:
        """Return how many products have room."""
        return len(self._sizes)

    def expected(self, product: Product) -> int:
        """Return the likely length of a product: as known, or listed, or as the largest so far."""
        return self._client.size(product) or product.size or self._largest

    def fits(self, size: int) -> bool:
        """Whether there is room for so many bytes more; asks for no bound if there are none."""
        bound = self._client.cache.max_bytes if size else None
        return bound is None or self._total + size <= bound * self._share

    def take(self, product: Product, size: int) -> None:
        """Give room to a product, or as much more or less as it turns out to need."""
        self._total += size - self._sizes.get(product, 0)
        self._sizes[product] = size
        self._largest = max(self._largest, size)

    def release(self, product: Product) -> bool:
        """Take the room of a product back, and return whether it had any."""
        size = self._sizes.pop(product, None)
        self._total -= size or 0
        return size is not None


class ReadAhead:
    """Products that one computation, or one read, will read; a context manager that closes it.

    Parameters
    ----------
    client : Client
        Who fetches them.
    products : sequence of Product
        Which, in the order in which they are wanted, each as often as it will be read.
    """

    def __init__(self, client: Client, products: Sequence[Product]) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._reads_left = collections.Counter(products)
        self._to_come = collections.deque(self._reads_left)
        self._under_way: set[Product] = set()
        # Of what was not read as often as it will be.
        self._fetches: dict[Product, concurrent.futures.Future[Entry]] = {}
        # For what is under way, or has not been read as often as it will be. It must not drive out
        # what was not read yet, nor what others read.
        self._budget = Budget(client, share=0.5)
        self._is_open = True
        self._is_advancing = False
        # Whether products are read through this object, and not each by its own task.
        self._is_read_here = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Fetch no more, and cancel what is under way: what was ordered already goes on."""
        with self._lock:
            self._is_open = False
            self._to_come.clear()
            fetches = [*self._fetches.values()]
        self._client.reads_ahead.discard(self)
        for fetch in fetches:
            fetch.cancel()

    def fetch(self, product: Product) -> concurrent.futures.Future[Entry]:
        """Return a fetch of the product that is read next; those that follow are under way then."""
        with self._lock:
            self._is_read_here = True
            fetch = self._fetches.get(product)
            if self._to_come and self._to_come[0] == product:
                self._to_come.popleft()
                if self._to_come:
                    self._budget.take(product, self._budget.expected(product))
        if fetch is None:
            fetch = self._client.fetch(product)
        self.advance()
        return fetch

    def mark_read(self, product: Product) -> None:
        """Note that a product was read; after the last time its room in the cache is another's."""
        with self._lock:
            if product not in self._reads_left:
                return
            self._reads_left[product] -= 1
            if self._reads_left[product] > 0:
                return
            self._fetches.pop(product, None)
            if not self._budget.release(product):
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

    def _next(self) -> Product | None:
        """Return the next product to be fetched; None if none may be now."""
        with self._lock:
            if self._to_come and len(self._under_way) < self._client.settings.max_in_flight:
                product = self._to_come[0]
                # One goes in any case, however large: somebody will read it. What is local needs no
                # room, so a size is not asked for before somebody has to fetch.
                if not self._budget or self._budget.fits(self._budget.expected(product)):
                    self._under_way.add(self._to_come.popleft())
                    return product
            self._is_advancing = False
            return None

    def _begin(self, product: Product) -> None:
        entry = self._client.cache.lookup(product, touch=self._is_read_here)
        if entry is not None:
            with self._lock:
                self._under_way.remove(product)
                # So large may be the next one, of which nobody knows it.
                self._budget.take(product, entry.size)
                self._budget.release(product)
                if self._is_read_here:
                    # Looked up once is enough: it is read in a moment.
                    self._fetches[product] = done_future(entry)
            return
        with self._lock:
            if self._reads_left[product] > 0:
                self._budget.take(product, self._budget.expected(product))
        fetch = self._client.fetch(product)
        with self._lock:
            self._fetches[product] = fetch
        fetch.add_done_callback(functools.partial(self._landed, product))
        if not self._is_open:
            fetch.cancel()

    def _landed(self, product: Product, fetch: concurrent.futures.Future[Any]) -> None:
        error = None if fetch.cancelled() else fetch.exception()
        with self._lock:
            self._under_way.remove(product)
            if fetch.cancelled() or error is not None:
                self._budget.release(product)
                if error is not None and not isinstance(error, PER_PRODUCT_ERRORS):
                    # It will meet all others too. Who reads is told.
                    self._to_come.clear()
            elif self._reads_left[product] > 0:
                self._budget.take(product, fetch.result().size)
        self.advance()


def fetch_in_order(
    client: Client, products: Sequence[Product]
) -> Iterator[concurrent.futures.Future[Entry]]:
    """Yield the fetches of products that are read one after another, each read before the next."""
    if len(products) == 1:
        # As most chunks have it: nothing follows that could be fetched ahead.
        yield client.fetch(products[0])
        return
    with ReadAhead(client, products) as ahead:
        for product in products:
            yield ahead.fetch(product)
            ahead.mark_read(product)
