"""A progress bar over products, which also says until when their orders wait for quota."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fsspec.callbacks import TqdmCallback
from tqdm.auto import tqdm

from hda_fsspec.usecase.products import Products

_LOOK_EVERY_SECONDS = 1.0


class QuotaBar(tqdm):  # type: ignore[type-arg]
    """A bar that looks at the quota, once a second at most.

    Parameters
    ----------
    *args, **kwargs
        As for :class:`tqdm.tqdm`.
    products : Products
        Whose quota.
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        *args: Any,
        products: Products,
        clock: Callable[[], float] = time.time,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._products = products
        self._clock = clock
        self._looked_at = float("-inf")
        self._is_told = False

    def update(self, n: float | None = 1) -> bool | None:
        """Count ``n`` more; with 0 only the quota is looked at."""
        shown = super().update(n)
        now = self._clock()
        if not self.disable and now - self._looked_at >= _LOOK_EVERY_SECONDS:
            self._looked_at = now
            self._look()
        return shown

    def _look(self) -> None:
        until = self._products.quota().closed_until
        if until is not None:
            local = datetime.fromtimestamp(until, UTC).astimezone()
            self.set_postfix_str(f"quota used up until {local:%H:%M:%S}")
        elif self._is_told:
            self.set_postfix_str("")
        self._is_told = until is not None


def bar_of(products: Products, *, shown: bool) -> TqdmCallback:
    """Return a callback of fsspec that draws a bar, or draws nothing."""
    options = {"desc": "hda", "unit": " products", "disable": not shown, "products": products}
    return TqdmCallback(options, tqdm_cls=QuotaBar)
