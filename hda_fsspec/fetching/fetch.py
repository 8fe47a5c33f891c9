"""The steps that bring one product into the cache: order, wait, transfer, publish.

Told as a coroutine (see :mod:`hda_fsspec.concurrency.tasks`), so that whatever waits holds no
thread, no connection, and no lock that another product needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hda_fsspec.cache.cache import Cache, Entry, Staging
from hda_fsspec.cache.locks import FileLocks
from hda_fsspec.cache.orders import OrderBook
from hda_fsspec.catalogue.terms import Terms
from hda_fsspec.concurrency import tasks
from hda_fsspec.concurrency.tasks import Semaphore, Task
from hda_fsspec.errors import (
    BrokerError,
    OrderError,
    OrderTimeoutError,
    ProductFormatError,
)
from hda_fsspec.fetching.order_desk import (
    DeadOrderError,
    OrderDesk,
    QuotaExhaustedError,
    order_failed,
    poll_pauses,
)
from hda_fsspec.fetching.throttle import RequestLimiter
from hda_fsspec.fetching.transfer import NotReadyError, Received, transfer
from hda_fsspec.formats.detect import check_complete, extension, name_contradicts, sniff
from hda_fsspec.network.api import Broker
from hda_fsspec.records import Product
from hda_fsspec.settings import Settings
from hda_fsspec.untrusted_files import reader_of

if TYPE_CHECKING:
    from hda_fsspec.fetching.shared_cache import SharedCache, SharedCopy

logger = logging.getLogger("hda_fsspec")

_LOCK_POLL_SECONDS = 0.1
_SLOT_POLL_SECONDS = 0.25
# A finished order may be forgotten by the service (how long it lives is not documented), a file
# may arrive damaged, the cache may be cleared meanwhile: how often to start anew.
_TRIES = 3
_SHOWN_BYTES = 20


@dataclasses.dataclass(eq=False, repr=False)
class Fetcher:
    """The way of products from the service into the cache.

    Parameters
    ----------
    settings : Settings
        The bounds: orders, connections, waiting; and what to do when the quota is used up.
    broker, cache
        Where products come from, and where they go.
    locks : FileLocks
        By which processes on the cache see to it that each product is fetched by one of them.
    account : str
        Whose orders in preparation are counted, one slot for each, over all processes.
    limiter : RequestLimiter
        How many transfers may be under way.
    orders, desk
        Where orders are kept, and how one is placed.
    terms : Terms
        Which licences a data set demands.
    size_of : callable
        Returns the length of a product in bytes, None where it is not known for certain.
    on_bytes, on_fetched : callable
        Told each product and how many bytes of how many are here, as they arrive; and in the end
        its true length.
    shared : SharedCache, optional
        Where a product is looked for before it is ordered.
    """

    settings: Settings
    broker: Broker
    cache: Cache
    locks: FileLocks
    account: str
    limiter: RequestLimiter
    orders: OrderBook
    desk: OrderDesk
    terms: Terms
    size_of: Callable[[Product], int | None]
    on_bytes: Callable[[Product, int, int | None], object]
    on_fetched: Callable[[Product, int], object]
    shared: SharedCache | None = None

    def __post_init__(self) -> None:
        # New orders wait for quota in a queue, of which the first few ask: thousands need not.
        self._queue = Semaphore(self.settings.max_in_flight)
        # Bounds the lock files that are open at one time.
        self._locking = Semaphore(self.settings.max_in_flight)
        self._preparing = Semaphore(self.settings.max_orders)
        # One connection stays free for orders and polls.
        self._transfers = Semaphore(max(1, self.settings.max_connections - 1))

    async def fetch(self, product: Product, task: Task[Entry]) -> Entry:
        """Make a product local.

        Raises
        ------
        HDAError
            What went wrong, after what can be retried was.
        OSError
            The cache folder cannot be written, or its disk is full.
        concurrent.futures.CancelledError
            Nobody wanted it any more before it was ordered.
        """
        began = time.monotonic()
        self.cache.prepare()
        # Before the queue of those that wait for quota, which what is there already needs not.
        if self.shared is not None:
            entry = await self._take_shared(self.shared, product, task)
            if entry is not None:
                return entry
        blocked_since: float | None = None
        while True:
            is_new = not self.orders.was_ordered(product)
            async with self._queue if is_new else contextlib.nullcontext():
                entry = await self._fetch_in_turn(product, task, began, blocked_since)
            if entry is not None:
                return entry
            # Another process fetches it, which is waited for without a place in the queue.
            blocked_since = blocked_since or time.monotonic()
            await tasks.sleep(_LOCK_POLL_SECONDS)

    async def _fetch_in_turn(
        self, product: Product, task: Task[Entry], began: float, blocked_since: float | None
    ) -> Entry | None:
        """Fetch a product as soon as the quota allows; None while another process does so."""
        while True:
            task.check_wanted()
            try:
                async with self._locking:
                    lock = self.locks.acquire(f"product {product.key}")
                    # Whoever holds it so long is stuck, and nothing but work depends on it.
                    if lock is None and not self._has_passed(blocked_since):
                        return None
                    with lock or contextlib.nullcontext():
                        entry = self.cache.lookup(product)
                        return entry or await self._order_and_receive(product, task, began)
            except QuotaExhaustedError as closed:
                seconds = closed.seconds
            # Without a lock, so that others go on.
            await tasks.sleep(seconds)

    def _has_passed(self, since: float | None) -> bool:
        return since is not None and time.monotonic() - since >= self.settings.max_wait

    async def _order_and_receive(self, product: Product, task: Task[Entry], began: float) -> Entry:
        self.cache.check_writable(product)  # an order would be wasted
        terms = list(self.terms.ensure_accepted(product.dataset_id))
        for attempt in range(1, _TRIES + 1):
            try:
                download_id = await self._prepare(product, task, began)
                ready = time.monotonic()
                entry = await self._receive(product, download_id, task, terms)
            except DeadOrderError as err:
                self.orders.drop(product)
                if attempt == _TRIES:
                    msg = order_failed(product, f"{attempt} orders of it are of no use: {err}")
                    raise OrderError(msg, product_id=product.product_id) from err
                logger.info("%s: the order is gone (%s); ordering anew", product.product_id, err)
            except ProductFormatError as err:
                self.orders.drop(product)
                if attempt == _TRIES:
                    msg = (
                        f"{err} It was fetched {attempt} times. Try again later; if it always "
                        "arrives like this it is damaged at the service: report it there."
                    )
                    raise ProductFormatError(msg) from err
                logger.warning("%s Fetching it again.", err)
            except OSError as err:
                # ESTALE: somebody cleared the cache folder while this was written into it.
                if err.errno != errno.ESTALE or attempt == _TRIES:
                    raise
                logger.warning("%s Fetching it again.", err)
            else:
                self.on_fetched(product, entry.size)
                if self.shared is not None:
                    self.shared.put(product, self.cache)
                logger.info(
                    "%s: fetched %d bytes in %.1f s, %.1f s after it was asked for",
                    product.product_id,
                    entry.size,
                    time.monotonic() - ready,
                    time.monotonic() - began,
                )
                return entry
        raise AssertionError  # the last attempt returns or raises

    async def _take_shared(
        self, shared: SharedCache, product: Product, task: Task[Entry]
    ) -> Entry | None:
        """Take a product from the shared cache; None if it has to be ordered."""
        async with self._locking:
            lock = self.locks.acquire(f"product {product.key}")
            if lock is None:
                return None  # another process fetches it
            with lock:
                entry = self.cache.lookup(product)
                if entry is not None:
                    return entry
                self.cache.check_writable(product)
                terms = list(self.terms.ensure_accepted(product.dataset_id))
                copy = await shared.find(product)
                if copy is None:
                    return None
                async with self._transfers:
                    entry = await self._receive_shared(shared, product, copy, task, terms)
        if entry is not None:
            self.on_fetched(product, entry.size)
            logger.info("%s: taken from the shared cache", product.product_id)
        return entry

    async def _receive_shared(
        self,
        shared: SharedCache,
        product: Product,
        copy: SharedCopy,
        task: Task[Entry],
        terms: Sequence[str],
    ) -> Entry | None:
        try:
            with self.cache.stage(product, expected_bytes=copy.size) as staging:
                if not await shared.receive(product, copy, staging, self._teller(product, task)):
                    return None
                received = Received(copy.name, copy.size, resumed=False)
                return _publish(product, staging, received, terms)
        except ProductFormatError as err:
            shared.refuse(product, str(err))
        except OSError as err:
            # ESTALE: somebody cleared the cache folder while this was written into it.
            if err.errno != errno.ESTALE:
                raise
            logger.info("%s", err)
        return None

    def _teller(self, product: Product, task: Task[Entry]) -> Callable[[int, int | None], None]:
        def tell(done: int, total: int | None) -> None:
            self.on_bytes(product, done, total)
            task.tell(done, total)

        return tell

    async def _prepare(self, product: Product, task: Task[Entry], began: float) -> str:
        """Order a product, or take up its order of an earlier run, and wait until it is ready."""
        async with self._preparing, self._slot(product):
            download_id = self.orders.get(product)
            is_old = download_id is not None
            if download_id is None:
                task.check_wanted()
                download_id = self.desk.order(product, began)
            try:
                await self.desk.wait_until_ready(product, download_id)
            except OrderTimeoutError:
                raise
            except OrderError as err:
                self.orders.drop(product)
                if is_old:
                    raise DeadOrderError(str(err)) from err
                raise
            return download_id

    @contextlib.asynccontextmanager
    async def _slot(self, product: Product) -> AsyncIterator[None]:
        """Take one of the orders that the processes of the account may have in preparation."""
        give_up_at = time.monotonic() + self.settings.max_wait
        numbers = range(self.settings.max_orders)
        while (slot := self.locks.acquire_slot(f"orders of {self.account}", numbers)) is None:
            if time.monotonic() > give_up_at:
                raise self._too_many(product)
            await tasks.sleep(_SLOT_POLL_SECONDS)
        with slot:
            yield

    def _too_many(self, product: Product) -> OrderTimeoutError:
        msg = (
            f"{product} could not be ordered within "
            f"{self.settings.max_wait:g} s: other processes on this cache have all "
            f"{self.settings.max_orders} orders (max_orders) in preparation. Open it again later."
        )
        return OrderTimeoutError(msg, product_id=product.product_id)

    async def _receive(
        self, product: Product, download_id: str, task: Task[Entry], terms: Sequence[str]
    ) -> Entry:
        tell = self._teller(product, task)
        began = time.monotonic()
        for pause in poll_pauses():
            try:
                async with self._transfers, self.limiter.transfer():
                    expected = self.size_of(product)
                    with self.cache.stage(product, expected_bytes=expected) as staging:
                        received = await transfer(self.broker, download_id, staging, tell)
                        return _publish(product, staging, received, terms)
            except NotReadyError:
                if time.monotonic() - began > self.settings.max_wait:
                    raise self.desk.too_late(product, download_id) from None
            except BrokerError as err:
                # What the service refuses to hand out may be had by a new order.
                if err.status is not None and err.status not in {401, 403}:
                    raise DeadOrderError(str(err)) from err
                raise
            await tasks.sleep(pause)
        raise AssertionError  # pauses do not end


def _publish(product: Product, staging: Staging, received: Received, terms: Sequence[str]) -> Entry:
    name = received.name or product.product_id
    try:
        return staging.publish(
            name + extension(sniff(staging.path), name),
            # What was put together from two answers may be half of each: a ZIP can tell.
            check=functools.partial(
                _check, names=(name, product.product_id), deep=received.resumed
            ),
            expected_bytes=received.total,
            extra={"terms": list(terms)},
        )
    except ProductFormatError as err:
        # Not by the path of what is gone in a moment.
        why = err.__cause__ or err
        msg = f"What arrived for {product} is damaged: {why}."
        raise ProductFormatError(msg) from err
    except FileNotFoundError as err:
        # Not for our caller, who would take it for "there is no such product".
        msg = f"The file of {product} disappeared from the cache while it was checked."
        raise OSError(errno.ESTALE, msg) from err


def _check(path: Path, *, names: Sequence[str], deep: bool) -> None:
    if name_contradicts(check_complete(path, deep=deep), *names):
        with reader_of(path) as stream:
            head = stream.read(_SHOWN_BYTES)
        msg = f"it begins with {head!r}, not as a file of its name does"
        raise ProductFormatError(msg)
