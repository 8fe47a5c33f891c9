"""The order quota of an account: whether one more new order may go out now, and if not, when.

It goes by what the service tells in its headers, less what processes on this cache have ordered
since. An order that is refused all the same is asked for again later. Knows no HTTP.
"""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from hda_fsspec.cache.orders import OrderBook, OrderCounts
from hda_fsspec.network.responses import quota_state
from hda_fsspec.records import Product

# How long to wait where a refusal does not say: doubled up to the longer one at each refusal.
_UNTOLD_SECONDS = 5.0
_UNTOLD_LONGEST_SECONDS = 300.0
# Others have asked for what is left, and will soon know what the service makes of it.
_ANSWER_SECONDS = 0.2
# Every answer tells the quota; other processes need not know each of them.
_TELL_EVERY_SECONDS = 1.0
# Not the numbers of the module: who seeds those wants the same ones again, whatever waits.
_random = random.SystemRandom()
# Where so many were left lately, it is enough to count after the order has been written.
_PLENTY = 20
# Clocks of two hosts may differ by so much.
_AHEAD_SECONDS = 60.0
# No quota comes back later: a time beyond that is in another unit, or a mistake.
_FARTHEST_SECONDS = 86_400.0


@dataclasses.dataclass(frozen=True)
class ServiceQuota:
    """The quota as the service told it last.

    Attributes
    ----------
    limit, remaining : int or None
        Orders per window, and how many were left.
    reset_at : float
        When one comes back; 0 if not told. All times are in seconds since 1970.
    sent_at, heard_at : float
        When the request went out, and when its answer came. What was ordered in between may be
        counted in it or not.
    closed_until, refused_at : float
        An order was refused, at that time, and none shall go out before the other.
    """

    limit: int | None = None
    remaining: int | None = None
    reset_at: float = 0.0
    sent_at: float = 0.0
    heard_at: float = 0.0
    closed_until: float = 0.0
    refused_at: float = 0.0

    def at(self, now: float) -> ServiceQuota:
        """Return what still means something: not what a clock noted that was set back since."""
        told = self
        if told.heard_at > now + _AHEAD_SECONDS:
            told = ServiceQuota(closed_until=told.closed_until, refused_at=told.refused_at)
        if told.reset_at > now + _FARTHEST_SECONDS:
            told = dataclasses.replace(told, reset_at=0.0)
        is_absurd = told.closed_until > now + _FARTHEST_SECONDS
        if is_absurd or told.refused_at > now + _AHEAD_SECONDS:
            told = dataclasses.replace(told, closed_until=0.0, refused_at=0.0)
        return told

    @classmethod
    def from_json(cls, value: Any) -> ServiceQuota | None:
        """Read what another process kept; None for anything else."""
        try:
            told = cls(**value)
            numbers = [number for number in dataclasses.astuple(told) if number is not None]
            return told if all(isinstance(number, int | float) for number in numbers) else None
        except TypeError:
            return None


@dataclasses.dataclass(frozen=True)
class QuotaWait:
    """No new order may go out now.

    Attributes
    ----------
    seconds : float
        When to ask again.
    is_used_up : bool
        Whether that is for the quota; False if it is only for the answer to an order of others.
    """

    seconds: float
    is_used_up: bool


@dataclasses.dataclass(frozen=True)
class QuotaView:
    """The state of the quota of an account, as far as it is known here.

    Attributes
    ----------
    limit, left : int or None
        Orders per hour, and how many are left; None where the service has not told.
    closed_until : float or None
        When orders are possible again, in seconds since 1970; None if they are now.
    """

    limit: int | None
    left: int | None
    closed_until: float | None


class Quota:
    """Gives leave for new orders of one account.

    Parameters
    ----------
    book : OrderBook
        What all processes on this cache have ordered.
    clock : callable
        Seconds since 1970.
    jitter : callable
        A small number of seconds that is added to each wait, so that many do not wake as one.
    """

    def __init__(
        self,
        book: OrderBook,
        *,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = lambda: _random.uniform(0.0, 0.2),
    ) -> None:
        self._book = book
        self._clock = clock
        self._jitter = jitter
        self._asking = threading.Lock()  # held while the disk is asked
        self._lock = threading.Lock()  # never held for long: every answer of the service takes it
        self._asked_at: dict[Product, float] = {}
        self._of_thread = threading.local()
        self._told = ServiceQuota()
        self._untold_in_a_row = 0
        self._left_lately = 0.0
        self._written_at = float("-inf")

    def on_response(self, headers: Mapping[str, str], sent_at: float) -> None:
        """Take note of the headers of any answer, to a request that went out at a time."""
        if "X-Quota-Remaining" not in headers:
            return
        now = self._clock()
        state = quota_state(headers, now)
        if state.remaining is None:
            return
        self._of_thread.heard_at = now
        with self._lock:
            told = self._told
            is_overtaken = sent_at < told.sent_at
            if is_overtaken and now >= told.heard_at:  # else the clock was set back
                # Which of the two the service wrote last is not known: the smaller one counts.
                if told.remaining is not None:
                    left = min(state.remaining, told.remaining)
                    self._told = dataclasses.replace(told, remaining=left)
                return
            self._told = ServiceQuota(
                limit=state.limit,
                remaining=state.remaining,
                reset_at=state.reset_at or 0.0,
                sent_at=sent_at,
                heard_at=now,
                closed_until=told.closed_until,
                refused_at=told.refused_at,
            ).at(now)
            is_news = state.remaining == 0 or now - self._written_at >= _TELL_EVERY_SECONDS
        if is_news:
            self._pass_on()

    def reserve(self, product: Product) -> QuotaWait | None:
        """Ask for leave to order a product that was not ordered before.

        Returns
        -------
        QuotaWait or None
            None: go ahead, and say what became of it with :meth:`granted`, :meth:`refused` or
            :meth:`release`.
        """
        with self._asking:
            self._learn()
            if self._is_scarce():
                # Looked at before anything is written: most who ask while it is used up go by this.
                closed = self._verdict(self._book.others(product))
                if closed is not None:
                    return closed
            self._asked_at[product] = self._book.reserve(product)
            closed = self._verdict(self._book.others(product))
            if closed is not None:
                self.release(product)
            return closed

    def granted(self, product: Product, download_id: str | None) -> None:
        """Write down that the service took an order, or may have done so.

        Parameters
        ----------
        product : Product
            What was ordered.
        download_id : str or None
            The id of the order; None where nobody knows whether there is one.
        """
        asked_at = self._asked_at.pop(product, 0.0)
        with self._lock:
            self._untold_in_a_row = 0
            self._told = dataclasses.replace(self._told, closed_until=0.0)
        # What was told in answer to this very order, in this thread, has counted it.
        heard_at = getattr(self._of_thread, "heard_at", 0.0)
        counts_from = heard_at if heard_at >= asked_at else self._clock()
        self._book.place(product, download_id, counts_from)

    def release(self, product: Product) -> None:
        """Note that an order came to nothing."""
        self._asked_at.pop(product, None)
        self._book.release(product)

    def refused(self, product: Product, reset_at: float | None) -> QuotaWait:
        """Note that an order was refused for the quota, and return how long to wait.

        Parameters
        ----------
        product : Product
            What was ordered.
        reset_at : float or None
            When the service says that an order is possible again, in seconds since 1970; a time
            in the past counts as not told.
        """
        self.release(product)
        now = self._clock()
        with self._lock:
            told = self._told.at(now)
            if reset_at is None or not now < reset_at <= now + _FARTHEST_SECONDS:
                seconds = min(_UNTOLD_SECONDS * 2**self._untold_in_a_row, _UNTOLD_LONGEST_SECONDS)
                if told.closed_until <= now:
                    self._untold_in_a_row += 1
                reset_at = now + seconds
            # Also where the headers tell of orders that are left: it may be the quota of the
            # service behind the broker.
            closed_until = max(told.closed_until, reset_at)
            self._told = dataclasses.replace(told, closed_until=closed_until, refused_at=now)
            closed = self._closed(now, self._spent_until(now))
        self._pass_on()
        return closed

    def view(self) -> QuotaView:
        """Return how the quota stands."""
        with self._asking:
            self._learn()
            counted = self._book.all()
        now = self._clock()
        with self._lock:
            told = self._told
            left = None if told.remaining is None else max(0, int(self._left(counted)))
            return QuotaView(told.limit, left, self._spent_until(now) or None)

    def _verdict(self, others: OrderCounts) -> QuotaWait | None:
        """Say whether one more order may go out beside those of others."""
        now = self._clock()
        with self._lock:
            spent_until = self._spent_until(now)
            if spent_until:
                return self._closed(now, spent_until)
            self._left_lately = left = self._left(others)
            if left >= 1:
                return None
            if others.reserved:
                return QuotaWait(_ANSWER_SECONDS + self._jitter(), is_used_up=False)
            # At its time one order tries what there is, and is told.
            reset_at = self._told.reset_at
            return self._closed(now, reset_at) if now < reset_at else None

    def _is_scarce(self) -> bool:
        """Whether there may be no order left, as far as that is known without counting."""
        with self._lock:
            return self._left_lately < _PLENTY or self._spent_until(self._clock()) > 0

    def _left(self, others: OrderCounts) -> float:
        """Return how many orders are left beside those of others, in doubt fewer."""
        told = self._told
        if told.remaining is None:
            return float("-inf") if self._untold_in_a_row else float("inf")
        if others.reserved:
            return told.remaining - others.reserved - others.since(told.sent_at)
        return told.remaining - others.since(told.heard_at)

    def _spent_until(self, now: float) -> float:
        """Return until when the service has refused, or told that none is left; 0 if it has not."""
        told = self._told
        until = max(told.closed_until, 0.0 if told.remaining else told.reset_at)
        return until if until > now else 0.0

    def _closed(self, now: float, until: float) -> QuotaWait:
        return QuotaWait(max(0.0, until - now) + self._jitter(), is_used_up=True)

    def _learn(self) -> None:
        """Take up what another process was told since."""
        theirs = ServiceQuota.from_json(self._book.told()) or ServiceQuota()
        now = self._clock()
        with self._lock:
            mine, theirs = self._told.at(now), theirs.at(now)
            newer = theirs if theirs.sent_at > mine.sent_at else mine
            closed = max(theirs, mine, key=lambda told: told.closed_until)
            self._told = dataclasses.replace(
                newer, closed_until=closed.closed_until, refused_at=closed.refused_at
            )

    def _pass_on(self) -> None:
        # What another process was told must not be lost: it may have been refused meanwhile.
        self._learn()
        with self._lock:
            self._written_at = self._clock()
            facts: Mapping[str, Any] = dataclasses.asdict(self._told)
        self._book.tell(facts)
