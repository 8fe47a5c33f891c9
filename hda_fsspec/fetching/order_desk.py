"""Orders go out here: what is asked before, what is written down, and what a refusal means.

An order costs quota, so it is kept on disk as soon as there is one; then its status is asked until
it is ready. What is fetched then is its caller's affair.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Iterator, Sized
from datetime import UTC, datetime

from hda_fsspec.cache.orders import OrderBook
from hda_fsspec.catalogue.catalogue import Catalogue
from hda_fsspec.concurrency import tasks
from hda_fsspec.errors import (
    AuthenticationError,
    BrokerError,
    OrderError,
    OrderTimeoutError,
    QueryError,
    QuotaError,
)
from hda_fsspec.fetching.quota import Quota, QuotaWait
from hda_fsspec.network.api import Broker, OrderState
from hda_fsspec.network.responses import is_about_licences
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable
from hda_fsspec.records import Product
from hda_fsspec.settings import Settings
from hda_fsspec.subsets.refusals import is_too_large

logger = logging.getLogger("hda_fsspec")

_LOG_EVERY_SECONDS = 60.0
_FIRST_POLL_SECONDS = 0.1
_POLL_GROWTH = 1.5
_LONGEST_POLL_SECONDS = 10.0


class QuotaExhaustedError(Exception):
    """No order may go out now, but one may in so many ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def poll_pauses() -> Iterator[float]:
    """Yield how many seconds to wait after each time that an order was not ready, without end."""
    pause = _FIRST_POLL_SECONDS
    while True:
        yield pause
        pause = min(pause * _POLL_GROWTH, _LONGEST_POLL_SECONDS)


class DeadOrderError(Exception):
    """The service does not know an order any more, or it failed in an earlier run."""


@dataclasses.dataclass(eq=False, repr=False)
class OrderDesk:
    """Places the orders of one account, and waits until the service has prepared them.

    Parameters
    ----------
    settings : Settings
        What to do when the quota is used up, and how long to wait for it.
    broker : Broker
        Whom to ask.
    catalogue : Catalogue
        Where products are, and which licences they need.
    book : OrderBook
        Where orders are kept.
    quota : Quota
        Whether one may go out.
    under_way : Sized
        All products that are being fetched, whose number the log tells.
    """

    settings: Settings
    broker: Broker
    catalogue: Catalogue
    book: OrderBook
    quota: Quota
    under_way: Sized = ()

    def __post_init__(self) -> None:
        self._granted_at = float("-inf")
        self._logged_at = float("-inf")
        self._log_lock = threading.Lock()

    def order(self, product: Product, began: float) -> str:
        """Order a product and return the id of the order.

        Parameters
        ----------
        product : Product
            What to order.
        began : float
            When it was asked for, on the monotonic clock. ``max_wait`` counts from then on, or from
            the last order of this process that went out: a long queue that moves is no reason to
            give up.

        Raises
        ------
        QuotaExhaustedError
            The quota is used up, and shall be waited for.
        QuotaError
            It is used up, and shall not.
        OrderError
            The service refuses the order, or that of what it makes of a request.
        TermsNotAcceptedError, AuthenticationError, BrokerError
            It refuses the account, or cannot be asked.
        """
        if product.request:
            # Of a data set that is read in parallel one order at most goes out in vain, or few.
            said = self.catalogue.limits.refusal(
                Location.parse(product.request), was_taken=self.book.was_ordered(product)
            )
            if said is not None:
                raise self._not_asked(product, said)
        try:
            # First: a search that fails leaves no order behind of which nobody knows.
            return self._order(product, self.catalogue.located(product), began)
        except (AuthenticationError, BrokerError, QueryError) as err:
            # Whatever the status: some stand for a lack of rights, too.
            if not product.request or not is_too_large(str(err)):
                raise
            raise self.failed(product, err.answered or str(err)) from err

    def _not_asked(self, product: Product, said: str) -> OrderError:
        """Return the error of an order that was not placed, for what the service said before."""
        advice = self.catalogue.limits.advice(Location.parse(product.request), said)
        msg = (
            f"{product} was not ordered, since the service refused as much as this within the last "
            f"minutes: {printable(said).rstrip('.')}. {advice}"
        )
        return OrderError(msg, product_id=product.product_id)

    def failed(self, product: Product, why: str, download_id: str | None = None) -> OrderError:
        """Return the error of an order that the service does not carry out, and take note of it."""
        msg = order_failed(product, why)
        if product.request and is_too_large(why):
            advice = self.catalogue.limits.refused(Location.parse(product.request), why)
            msg = f"The service could not prepare {product}: {printable(why).rstrip('.')}. {advice}"
        return OrderError(msg, product_id=product.product_id, download_id=download_id)

    async def wait_until_ready(self, product: Product, download_id: str) -> None:
        """Ask how an order stands until it is ready.

        Raises
        ------
        DeadOrderError
            The service does not know it any more.
        OrderError
            It failed.
        OrderTimeoutError
            It was not ready within the time that the settings give.
        """
        began = time.monotonic()
        for pause in poll_pauses():
            status = self.broker.status(download_id)
            if status.state is OrderState.READY:
                return
            if status.state is OrderState.GONE:
                raise DeadOrderError(download_id)
            if status.state is OrderState.FAILED:
                raise self.failed(product, status.message, download_id)
            if time.monotonic() - began > self.settings.max_wait:
                raise self.too_late(product, download_id)
            await tasks.sleep(pause)

    def too_late(self, product: Product, download_id: str) -> OrderTimeoutError:
        """Return the error that an order was not ready in time."""
        msg = (
            f"{product} was not ready {self.settings.max_wait:g} s after it was ordered "
            f"({printable(download_id)}). The order is kept: open it again later, or raise "
            "max_wait."
        )
        return OrderTimeoutError(msg, product_id=product.product_id, download_id=download_id)

    def _order(self, product: Product, located: Product, began: float) -> str:
        is_new = not self.book.was_ordered(product)
        if is_new:
            closed = self.quota.reserve(product)
            if closed is not None:
                raise self._closed(closed, began)
        try:
            download_id = self._post(located)
        except QuotaError as err:
            raise self._closed(self.quota.refused(product, err.reset_at), began) from err
        except BrokerError as err:
            if is_new and err.status is None:
                # Nobody knows whether the service took it.
                self.quota.granted(product, None)
            else:
                self.quota.release(product)
            if err.status is None or err.status >= 500:
                raise
            raise self.failed(product, str(err)) from err
        except BaseException:
            self.quota.release(product)
            raise
        if is_new:
            self.quota.granted(product, download_id)
            self._granted_at = time.monotonic()
        else:
            self.book.renew(product, download_id)
        logger.info("%s: ordered (%s)", product.product_id, download_id)
        return download_id

    def _post(self, product: Product) -> str:
        try:
            return self.broker.order(product)
        except (AuthenticationError, BrokerError) as err:
            is_refusal = isinstance(err, AuthenticationError) or (
                err.status is not None and (err.status == 404 or is_about_licences(err))
            )
            if not is_refusal:
                raise
            # An unaccepted licence looks like a lack of rights, or like an unknown product. The
            # latter is as likely by itself, unless the service says more.
            is_likely = isinstance(err, AuthenticationError)
            terms = self.catalogue.terms
            if not terms.check_after_refusal(product.dataset_id, err, is_likely=is_likely):
                raise
        return self.broker.order(product)

    def _closed(self, closed: QuotaWait, began: float) -> Exception:
        """Say what a used-up quota means here: an error, or how long to wait."""
        seconds = closed.seconds
        if closed.is_used_up and self.settings.on_quota == "raise":
            why = "on_quota is 'raise'"
        elif time.monotonic() + seconds - max(began, self._granted_at) > self.settings.max_wait:
            why = f"waiting for it would take longer than max_wait ({self.settings.max_wait:g} s)"
        else:
            if closed.is_used_up:
                self._log(closed)
            return QuotaExhaustedError(seconds)
        state = f"is used up for another {seconds:.0f} s"
        if not closed.is_used_up:
            state = "has no order left beside those of other processes, which wait for an answer"
        msg = (
            f"The order quota of {self.settings.user!r} {state}, and {why}. Products that were "
            "ordered before are not affected; try again then."
        )
        return QuotaError(msg, reset_at=time.time() + seconds)

    def _log(self, wait: QuotaWait) -> None:
        """Say in the log, at most once a minute, until when orders wait and how many products."""
        with self._log_lock:
            now = time.monotonic()
            if now - self._logged_at < _LOG_EVERY_SECONDS:
                return
            self._logged_at = now
        until = datetime.fromtimestamp(time.time() + wait.seconds, UTC).astimezone()
        logger.warning(
            "The order quota is used up until %s. Waiting; products left: %d.",
            until.isoformat(timespec="seconds"),
            len(self.under_way),
        )


def order_failed(product: Product, why: str) -> str:
    """Return the message for an order that the service did not carry out."""
    return (
        f"The service could not prepare {product}: "
        f"{printable(why).rstrip('.')}. Try again later, or narrow the query."
    )
