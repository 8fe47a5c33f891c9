"""Placing one order: what must be asked before, and what a refusal means.

An order costs quota, so it is kept on disk as soon as there is one. What becomes of it is its
caller's affair.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from hda_fsspec.catalogue.terms import Terms
from hda_fsspec.errors import AuthenticationError, BrokerError, OrderError, QuotaError
from hda_fsspec.fetching.orders import Orders
from hda_fsspec.fetching.quota import Quota, QuotaWait
from hda_fsspec.network.api import Broker
from hda_fsspec.network.responses import is_about_licences
from hda_fsspec.printable import printable
from hda_fsspec.records import Product
from hda_fsspec.settings import Settings

logger = logging.getLogger("hda_fsspec")


class QuotaExhaustedError(Exception):
    """No order may go out now, but one may in so many ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Ordering:
    """The orders of one account go out here.

    Parameters
    ----------
    settings : Settings
        What to do when the quota is used up, and how long to wait for it.
    broker, licences, orders, quota
        Whom to ask, what is allowed, where orders are kept, and until when none may go out.
    clock : callable
        Seconds on a clock that never goes back.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        broker: Broker,
        licences: Terms,
        orders: Orders,
        quota: Quota,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._licences = licences
        self._orders = orders
        self._quota = quota
        self._clock = clock
        self._granted_at = float("-inf")

    def order(self, product: Product, began: float) -> str:
        """Order a product and return the id of the order.

        Parameters
        ----------
        product : Product
            What to order.
        began : float
            When it was asked for, by the clock. ``max_wait`` counts from then on, or from the last
            order of this process that went out: a long queue that moves is no reason to give up.

        Raises
        ------
        QuotaClosedError
            The quota is used up, and shall be waited for.
        QuotaError
            It is used up, and shall not.
        OrderError
            The service refuses the order.
        TermsNotAcceptedError, AuthenticationError, BrokerError
            It refuses the account, or cannot be asked.
        """
        is_new = not self._orders.was_ordered(product)
        if is_new:
            closed = self._quota.reserve(product)
            if closed is not None:
                raise self._closed(closed, began)
        try:
            download_id = self._post(product)
        except QuotaError as err:
            raise self._closed(self._quota.refused(product, err.reset_at), began) from err
        except BrokerError as err:
            if is_new and err.status is None:
                # Nobody knows whether the service took it.
                self._quota.granted(product)
            else:
                self._quota.release(product)
            if err.status is None or err.status >= 500:
                raise
            msg = order_failed(product, str(err))
            raise OrderError(msg, product_id=product.product_id) from err
        except BaseException:
            self._quota.release(product)
            raise
        self._orders.put(product, download_id)
        if is_new:
            self._quota.granted(product)
            self._granted_at = self._clock()
        logger.info("%s: ordered (%s)", product.product_id, download_id)
        return download_id

    def _post(self, product: Product) -> str:
        try:
            return self._broker.order(product)
        except (AuthenticationError, BrokerError) as err:
            is_refusal = isinstance(err, AuthenticationError) or (
                err.status is not None and (err.status == 404 or is_about_licences(err))
            )
            if not is_refusal:
                raise
            # An unaccepted licence looks like a lack of rights, or like an unknown product. The
            # latter is as likely by itself, unless the service says more.
            is_likely = isinstance(err, AuthenticationError)
            if not self._licences.check_after_refusal(product.dataset_id, err, is_likely=is_likely):
                raise
        return self._broker.order(product)

    def _closed(self, closed: QuotaWait, began: float) -> Exception:
        """Say what a used-up quota means here: an error, or how long to wait."""
        seconds = closed.seconds
        if closed.is_used_up and self._settings.on_quota == "raise":
            why = "on_quota is 'raise'"
        elif self._clock() + seconds - max(began, self._granted_at) > self._settings.max_wait:
            why = f"waiting for it would take longer than max_wait ({self._settings.max_wait:g} s)"
        else:
            if closed.is_used_up:
                self._quota.tell(closed)
            return QuotaExhaustedError(seconds)
        state = f"is used up for another {seconds:.0f} s"
        if not closed.is_used_up:
            state = "has no order left beside those of other processes, which wait for an answer"
        msg = (
            f"The order quota of {self._settings.user!r} {state}, and {why}. Products that were "
            "ordered before are not affected; try again then."
        )
        return QuotaError(msg, reset_at=time.time() + seconds)


def order_failed(product: Product, why: str) -> str:
    """Return the message for an order that the service did not carry out."""
    return (
        f"The service could not prepare {product}: "
        f"{printable(why).rstrip('.')}. Try again later, or narrow the query."
    )
