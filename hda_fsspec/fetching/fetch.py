"""How one product gets from the service into the cache: order, wait, transfer, publish.

Told as steps of a flight (see :mod:`hda_fsspec.concurrency.tasks`), so that whatever waits holds no
thread, no connection, and no lock that another product needs.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hda_fsspec.cache.cache import Cache, Entry, Staging
from hda_fsspec.cache.locks import FileLocks, Lock
from hda_fsspec.cache.slots import SharedSlots
from hda_fsspec.catalogue.terms import Terms
from hda_fsspec.concurrency.tasks import Flight, Gate, Steps
from hda_fsspec.errors import (
    BrokerError,
    OrderError,
    OrderTimeoutError,
    ProductFormatError,
)
from hda_fsspec.fetching.ordering import Ordering, QuotaExhaustedError, order_failed
from hda_fsspec.fetching.orders import Orders
from hda_fsspec.fetching.quota import Quota
from hda_fsspec.fetching.throttle import RequestLimiter
from hda_fsspec.fetching.transfer import NotReadyError, Received, transfer
from hda_fsspec.formats.detect import check_complete, extension, name_contradicts, sniff
from hda_fsspec.network.api import Broker, OrderState
from hda_fsspec.printable import printable
from hda_fsspec.records import Product
from hda_fsspec.safefiles import reader_of
from hda_fsspec.settings import Settings

logger = logging.getLogger("hda_fsspec")

_FIRST_POLL_SECONDS = 0.1
_POLL_GROWTH = 1.5
_LONGEST_POLL_SECONDS = 10.0
_LOCK_POLL_SECONDS = 0.1
_PLACE_POLL_SECONDS = 0.25
# A finished order may be forgotten by the service (how long it lives is not documented), a file
# may arrive damaged, the cache may be cleared meanwhile: how often to start anew.
_TRIES = 3
_SHOWN_BYTES = 20


class _DeadOrderError(Exception):
    """The service does not know an order any more, or it failed in an earlier run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halves:
    """What a fetch brings together: the network half, the disk half, and who is asked or told.

    Attributes
    ----------
    preparing : SharedSlots
        A place for each order in preparation, of those that all processes of the account share.
    learn : callable
        Told the true length of each product that was fetched.
    report : callable
        Told each product, and how many bytes of how many are here, as they arrive.
    expected : callable
        Returns the length of a product in bytes, None where it is not known for certain.
    abandon : callable
        Says whether nobody wants a flight any more, so that it should end before it orders.
    """

    broker: Broker
    cache: Cache
    locks: FileLocks
    limiter: RequestLimiter
    orders: Orders
    preparing: SharedSlots
    quota: Quota
    licences: Terms
    learn: Callable[[Product, int], object]
    report: Callable[[Product, int, int | None], object]
    expected: Callable[[Product], int | None]
    abandon: Callable[[Flight[Entry]], bool]


class Fetches:
    """The way of products from the service into the cache.

    Parameters
    ----------
    settings : Settings
        The bounds: orders, connections, waiting; and what to do when the quota is used up.
    halves : Halves
        The parts it works with.
    clock : callable
        Seconds on a clock that never goes back.
    """

    def __init__(
        self, settings: Settings, halves: Halves, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._halves = halves
        self._clock = clock
        self._ordering = Ordering(
            settings,
            broker=halves.broker,
            licences=halves.licences,
            orders=halves.orders,
            quota=halves.quota,
            clock=clock,
        )
        # New orders wait for quota in a line, of which the first few ask: thousands need not.
        self._line = Gate(settings.max_orders + settings.max_connections)
        # Bounds the lock files that are open at one time.
        self._under_way = Gate(settings.max_orders + settings.max_connections)
        self._preparing = Gate(settings.max_orders)
        self._places = range(settings.max_orders)
        # One connection stays free for orders and polls.
        self._transfers = Gate(max(1, settings.max_connections - 1))

    def steps(self, product: Product, flight: Flight[Entry]) -> Steps[Entry]:
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
        began = self._clock()
        blocked_since: float | None = None
        is_in_line = False
        self._halves.cache.prepare()
        try:
            while True:
                if not is_in_line and not self._halves.orders.was_ordered(product):
                    yield self._line
                    is_in_line = True
                if self._halves.abandon(flight):
                    raise concurrent.futures.CancelledError
                yield self._under_way
                lock = None
                try:
                    lock = self._try_lock(product)
                    if lock is None:
                        blocked_since = blocked_since or self._clock()
                    # Whoever holds it so long is stuck, and nothing but work depends on it.
                    if lock or self._has_passed(blocked_since):
                        with lock or contextlib.nullcontext():
                            return (yield from self._look_and_fetch(product, flight, began))
                    pause = _LOCK_POLL_SECONDS
                except QuotaExhaustedError as closed:
                    pause = closed.seconds
                finally:
                    self._under_way.leave()
                # Another process fetches this product, or the quota is used up. Both are waited
                # for without a lock and without a place, so that others go on.
                if lock is None and is_in_line:
                    self._line.leave()
                    is_in_line = False
                yield pause
        finally:
            if is_in_line:
                self._line.leave()

    def _try_lock(self, product: Product) -> Lock | None:
        return self._halves.locks.try_acquire(f"product {product.key}")

    def _has_passed(self, since: float | None) -> bool:
        return since is not None and self._clock() - since >= self._settings.max_wait

    def _look_and_fetch(
        self, product: Product, flight: Flight[Entry], began: float
    ) -> Steps[Entry]:
        entry = self._halves.cache.lookup(product)
        return entry if entry is not None else (yield from self._fetch(product, flight, began))

    def _fetch(self, product: Product, flight: Flight[Entry], began: float) -> Steps[Entry]:
        self._halves.cache.check_writable(product)  # an order would be wasted
        terms = list(self._halves.licences.ensure_accepted(product.dataset_id))
        for attempt in range(1, _TRIES + 1):
            try:
                download_id = yield from self._prepare(product, flight, began)
                ready = self._clock()
                entry = yield from self._receive(product, download_id, flight, terms)
            except _DeadOrderError as err:
                self._halves.orders.drop(product)
                if attempt == _TRIES:
                    msg = order_failed(product, f"{attempt} orders of it are of no use: {err}")
                    raise OrderError(msg, product_id=product.product_id) from err
                logger.info("%s: the order is gone (%s); ordering anew", product.product_id, err)
            except ProductFormatError as err:
                self._halves.orders.drop(product)
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
                self._halves.learn(product, entry.size)
                logger.info(
                    "%s: fetched %d bytes in %.1f s, %.1f s after it was asked for",
                    product.product_id,
                    entry.size,
                    self._clock() - ready,
                    self._clock() - began,
                )
                return entry
        raise AssertionError  # the last attempt returns or raises

    def _prepare(self, product: Product, flight: Flight[Entry], began: float) -> Steps[str]:
        """Order a product, or take up its order of an earlier run, and wait until it is ready."""
        yield self._preparing
        place = None
        give_up_at = self._clock() + self._settings.max_wait
        try:
            while (place := self._halves.preparing.acquire(self._places)) is None:
                if self._clock() > give_up_at:
                    raise self._too_many(product)
                yield _PLACE_POLL_SECONDS
            download_id = self._halves.orders.get(product)
            is_old = download_id is not None
            if download_id is None:
                if self._halves.abandon(flight):
                    raise concurrent.futures.CancelledError
                download_id = self._ordering.order(product, began)
            try:
                yield from self._wait_until_ready(product, download_id)
            except OrderTimeoutError:
                raise
            except OrderError as err:
                self._halves.orders.drop(product)
                if is_old:
                    raise _DeadOrderError(str(err)) from err
                raise
            return download_id
        finally:
            try:
                if place is not None:
                    self._halves.preparing.release(place)
            finally:
                self._preparing.leave()

    def _wait_until_ready(self, product: Product, download_id: str) -> Steps[None]:
        began = self._clock()
        pause = _FIRST_POLL_SECONDS
        while True:
            status = self._halves.broker.status(download_id)
            if status.state is OrderState.READY:
                return
            if status.state is OrderState.GONE:
                raise _DeadOrderError(download_id)
            if status.state is OrderState.FAILED:
                msg = order_failed(product, status.message)
                raise OrderError(msg, product_id=product.product_id, download_id=download_id)
            if self._clock() - began > self._settings.max_wait:
                raise self._too_late(product, download_id)
            yield pause
            pause = min(pause * _POLL_GROWTH, _LONGEST_POLL_SECONDS)

    def _too_many(self, product: Product) -> OrderTimeoutError:
        msg = (
            f"{product} could not be ordered within "
            f"{self._settings.max_wait:g} s: other processes on this cache have all "
            f"{self._settings.max_orders} orders (max_orders) in preparation. Open it again later."
        )
        return OrderTimeoutError(msg, product_id=product.product_id)

    def _too_late(self, product: Product, download_id: str) -> OrderTimeoutError:
        msg = (
            f"{product} was not ready {self._settings.max_wait:g} s after it was ordered "
            f"({printable(download_id)}). The order is kept: open it again later, or raise "
            "max_wait."
        )
        return OrderTimeoutError(msg, product_id=product.product_id, download_id=download_id)

    def _receive(
        self, product: Product, download_id: str, flight: Flight[Entry], terms: Sequence[str]
    ) -> Steps[Entry]:
        began = self._clock()
        pause = _FIRST_POLL_SECONDS
        while True:
            yield self._transfers
            try:
                with (
                    (yield from self._halves.limiter.transfer()),
                    self._halves.cache.stage(
                        product, expected_bytes=self._halves.expected(product)
                    ) as staging,
                ):

                    def tell(done: int, total: int | None) -> None:
                        self._halves.report(product, done, total)
                        flight.tell(done, total)

                    received = yield from transfer(self._halves.broker, download_id, staging, tell)
                    return _publish(product, staging, received, terms)
            except NotReadyError:
                if self._clock() - began > self._settings.max_wait:
                    raise self._too_late(product, download_id) from None
            except BrokerError as err:
                # What the service refuses to hand out may be had by a new order.
                if err.status is not None and err.status not in {401, 403}:
                    raise _DeadOrderError(str(err)) from err
                raise
            finally:
                self._transfers.leave()
            yield pause
            pause = min(pause * _POLL_GROWTH, _LONGEST_POLL_SECONDS)


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
