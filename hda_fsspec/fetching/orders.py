"""The orders of one account, as notes on disk: an order outlives the process that placed it."""

from __future__ import annotations

import time

from hda_fsspec.cache.metadata import MetadataStore
from hda_fsspec.records import Product


class Orders:
    """Which products were ordered, and under which id the service knows the order.

    Parameters
    ----------
    notes : MetadataStore
        Where they are kept.
    account : str
        Whose orders they are.
    """

    def __init__(self, metadata: MetadataStore, account: str) -> None:
        self._metadata = metadata
        self._account = account

    def get(self, product: Product) -> str | None:
        """Return the id of the order of a product, if there is one."""
        facts = self._metadata.order(self._account, product)
        download_id = facts.get("download_id") if facts else None
        return download_id if isinstance(download_id, str) else None

    def was_ordered(self, product: Product) -> bool:
        """Whether the product was ordered once, so that ordering it again costs no quota."""
        return self._metadata.order(self._account, product) is not None

    def put(self, product: Product, download_id: str) -> None:
        """Keep the id of an order."""
        self._put(product, download_id)

    def drop(self, product: Product) -> None:
        """Forget the id of an order, and remember that there was one."""
        if self.was_ordered(product):
            self._put(product, None)

    def _put(self, product: Product, download_id: str | None) -> None:
        self._metadata.put_order(
            self._account, product, download_id=download_id, ordered_at=time.time()
        )
