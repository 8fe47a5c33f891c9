"""The orders under way of an account: what was ordered and has not come, and how each stands.

It asks the service for the state of orders that are there; it places none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from hda_fsspec.cache.orders import OrderBook, PlacedOrder
from hda_fsspec.network.api import OrderState, OrderStatus
from hda_fsspec.records import Product

#: No service keeps what it prepared for longer.
_LONGEST_SECONDS = 7 * 86_400.0

_WORDS = {
    OrderState.WAITING: "being prepared",
    OrderState.READY: "ready to download",
    OrderState.FAILED: "failed",
    OrderState.GONE: "forgotten by the service",
}


@dataclasses.dataclass(frozen=True)
class OpenOrder:
    """An order whose product has not come.

    Attributes
    ----------
    product : Product
        What was ordered.
    download_id : str
        The id that the service gave the order.
    placed_at : float
        When it was placed, in seconds since 1970.
    state : str or None
        How it stands, in words; None where the service was not asked.
    message : str
        What the service says of a failure.
    """

    product: Product
    download_id: str
    placed_at: float
    state: str | None = None
    message: str = ""


def find_open_orders(book: OrderBook, is_local: Callable[[Product], bool]) -> list[PlacedOrder]:
    """Return the orders of the last week whose products are not local, the newest first."""
    return [o for o in book.placed(within_seconds=_LONGEST_SECONDS) if not is_local(o.product)]


def is_prepared(status: OrderStatus | None) -> bool:
    """Whether the service is known to prepare an order at this time."""
    return status is not None and status.state is OrderState.WAITING


def open_order(order: PlacedOrder, status: OrderStatus | None) -> OpenOrder:
    """Return an order with what the service said of it, if it was asked."""
    state = None if status is None else _WORDS[status.state]
    message = "" if status is None else status.message
    return OpenOrder(order.product, order.download_id, order.placed_at, state, message)
