"""The order quota of an account: until when it is used up, as far as the service has told.

Flights ask before they order, so that one refusal holds back all of them. Knows neither orders
nor HTTP.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

logger = logging.getLogger("hda_fsspec")

# How long to wait where a refusal does not say: doubled up to the longer one at each refusal.
_UNTOLD_SECONDS = 5.0
_UNTOLD_LONGEST_SECONDS = 300.0
_LOG_EVERY_SECONDS = 60.0


class Quota:
    """Until when the account of this process may not order.

    Parameters
    ----------
    products_left : callable
        How many products are under way, for the log.
    clock : callable
        Seconds since 1970.
    jitter : callable
        A small number of seconds that is added to each wait, so that many do not wake as one.
    """

    def __init__(
        self,
        *,
        products_left: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = lambda: random.uniform(0.0, 0.2),  # noqa: S311
    ) -> None:
        self._products_left = products_left
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._closed_until = 0.0
        self._untold_in_a_row = 0
        self._logged_at = float("-inf")

    def seconds_left(self) -> float:
        """Return how long to wait before the next order; 0 if it may go out now."""
        left = self._closed_until - self._clock()
        return left + self._jitter() if left > 0 else 0.0

    def granted(self) -> None:
        """Note that an order was accepted."""
        self._untold_in_a_row = 0

    def refused(self, reset_at: float | None) -> None:
        """Note a refusal.

        Parameters
        ----------
        reset_at : float or None
            When the service says that an order is possible again, in seconds since 1970; a time
            in the past counts as not told.
        """
        now = self._clock()
        with self._lock:
            if reset_at is None or reset_at <= now:
                seconds = min(_UNTOLD_SECONDS * 2**self._untold_in_a_row, _UNTOLD_LONGEST_SECONDS)
                if self._closed_until <= now:
                    self._untold_in_a_row += 1
                reset_at = now + seconds
            self._closed_until = max(self._closed_until, reset_at)

    def tell(self) -> None:
        """Say in the log, at most once a minute, until when orders wait and how many products."""
        with self._lock:
            now = self._clock()
            if now - self._logged_at < _LOG_EVERY_SECONDS:
                return
            self._logged_at = now
        until = datetime.fromtimestamp(self._closed_until, UTC).astimezone()
        left = self._products_left()
        logger.warning(
            "The order quota is used up until %s. Waiting; products left: %d.",
            until.isoformat(timespec="seconds"),
            left,
        )
