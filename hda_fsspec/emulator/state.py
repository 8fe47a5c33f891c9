"""The memory of the emulated service: tokens, orders, quota and licences.

It knows accounts and orders; it has never heard of HTTP. All classes are safe for threads.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
import uuid
from collections import deque
from collections.abc import Collection

from hda_fsspec.emulator.jobs.job import Job
from hda_fsspec.emulator.process_lock import ProcessLock

_YOUNG_SECONDS = 1.0


class IssuedTokens:
    """The tokens issued so far. Access tokens expire, refresh tokens do not by themselves."""

    def __init__(self, life_seconds: float) -> None:
        self._life_seconds = life_seconds
        self._lock = ProcessLock()
        self._access: dict[str, float] = {}
        self._refresh: set[str] = set()
        self.issued: list[str] = []

    def issue(self) -> tuple[str, str]:
        """Return a new pair of access and refresh token."""
        access, refresh = str(uuid.uuid4()), str(uuid.uuid4())
        with self._lock:
            self._access[access] = time.monotonic() + self._life_seconds
            self._refresh.add(refresh)
            self.issued += [access, refresh]
        return access, refresh

    def renew(self, refresh: str) -> tuple[str, str] | None:
        """Return a new pair for a refresh token, None if it is not a valid one."""
        with self._lock:
            known = refresh in self._refresh
            self._refresh.discard(refresh)
        return self.issue() if known else None

    def state(self, access: str | None) -> str:
        """Return "valid", "expired" or "unknown"."""
        expires = self._access.get(access or "")
        if expires is None:
            return "unknown"
        return "valid" if time.monotonic() < expires else "expired"

    def expire_one(self, access: str) -> None:
        """Let one access token expire now, unless it was issued just before.

        No service gives out tokens that expire between a renewal and what is asked again.
        """
        with self._lock:
            left = self._access.get(access, 0.0) - time.monotonic()
            if 0 < left < self._life_seconds - _YOUNG_SECONDS:
                self._access[access] = 0.0

    def expire(self, *, refresh: bool) -> None:
        """Let all access tokens expire now; with ``refresh`` the refresh tokens, too."""
        with self._lock:
            self._access = dict.fromkeys(self._access, 0.0)
            if refresh:
                self._refresh.clear()


class AcceptedTerms:
    """The licences that the account has accepted."""

    def __init__(self, known: Collection[str], accepted: Collection[str] | None) -> None:
        self.known = tuple(known)
        self._accepted = set(known if accepted is None else accepted)

    def is_accepted(self, term: str) -> bool:
        """Return True if a licence is accepted."""
        return term in self._accepted

    def missing(self, terms: Collection[str]) -> list[str]:
        """Return those of some licences which are not accepted."""
        return [term for term in terms if term not in self._accepted]

    def set(self, term: str, *, accepted: bool) -> None:
        """Accept a licence, or withdraw that."""
        (self._accepted.add if accepted else self._accepted.discard)(term)


@dataclasses.dataclass
class Order:
    """An order: what was ordered, and how far it is."""

    download_id: str
    dataset_id: str
    product_id: str
    ready_at: float
    polls_left: int
    failure: str | None = None
    job: Job | None = None
    started_at: float = dataclasses.field(default_factory=time.time)

    @property
    def is_ready(self) -> bool:
        """True as soon as preparation is over, well or not."""
        return self.polls_left <= 0 and time.monotonic() >= self.ready_at


@dataclasses.dataclass(frozen=True)
class RemainingQuota:
    """The quota as its headers tell it; ``reset_at`` in seconds since 1970."""

    limit: int
    remaining: int
    reset_at: float


class PlacedOrders:
    """The orders of one account, with its quota: a sliding window over new orders.

    The same product under the same location has the same download id when it is ordered again,
    and costs no quota, even after the id was forgotten.
    """

    def __init__(
        self,
        *,
        polls: int,
        preparation_seconds: float,
        quota: int | None,
        window_seconds: float,
        seed: int | None,
    ) -> None:
        self._polls = polls
        self._preparation_seconds = preparation_seconds
        self._quota = quota
        self._window_seconds = window_seconds
        # Ids of two emulators differ: a client must not take one's orders for the other's.
        self._salt = str(uuid.uuid4() if seed is None else seed)
        self._lock = ProcessLock()
        self._orders: dict[str, Order] = {}
        self._ids: dict[tuple[str, str, str], str] = {}
        self._paid: set[tuple[str, str, str]] = set()
        self._uses: deque[float] = deque()
        self._generation = 0
        self._preparing: dict[str, Order] = {}
        self._held_until = 0
        self.new = 0
        self.posts = 0
        self.max_in_preparation = 0

    def place(
        self,
        dataset_id: str,
        product_id: str,
        location: str,
        *,
        seconds: float = 0.0,
        failure: str | None = None,
        job: Job | None = None,
        keeps: bool = False,
    ) -> Order | None:
        """Place an order, or return the one there is; None if the quota is used up.

        Parameters
        ----------
        dataset_id, product_id, location : str
            What is ordered.
        seconds : float
            How much longer than others it is being prepared.
        failure : str, optional
            How its preparation ends, if not well.
        job : Job, optional
            What makes the file, of a product that does not lie ready.
        keeps : bool
            Whether an earlier order keeps its file although the job would make another one now.
        """
        key = (dataset_id, product_id, location)
        with self._lock:
            self.posts += 1
            if key not in self._paid:
                self._forget_uses()
                if self._quota is not None and len(self._uses) >= self._quota:
                    return None
                self._uses.append(time.monotonic())
                self._paid.add(key)
                self.new += 1
            if key not in self._ids:
                text = f"{self._salt} {self._generation} {key}"
                self._ids[key] = hashlib.sha256(text.encode()).hexdigest()[:24]
            download_id = self._ids[key]
            order = self._orders.get(download_id)
            is_new = order is None or order.failure is not None or failure is not None
            if order is None or is_new or (not keeps and _differs(order.job, job)):
                ready_at = time.monotonic() + self._preparation_seconds + seconds
                if self._held_until:
                    ready_at = math.inf
                order = Order(download_id, dataset_id, product_id, ready_at, self._polls)
                order.failure, order.job = failure, job
                self._orders[download_id] = self._preparing[download_id] = order
            self._count_preparing()
            return order

    def _count_preparing(self) -> None:
        for download_id in [i for i, order in self._preparing.items() if order.is_ready]:
            del self._preparing[download_id]
        self.max_in_preparation = max(self.max_in_preparation, len(self._preparing))
        if 0 < self._held_until <= len(self._preparing):
            self._let_go()

    def _let_go(self) -> None:
        for order in self._preparing.values():
            if order.ready_at == math.inf:
                order.ready_at = time.monotonic() + self._preparation_seconds
        self._held_until = 0

    def hold(self, count: int) -> None:
        """Let no order that comes be ready before so many are in preparation at one time."""
        with self._lock:
            self._held_until = count
            if not count:
                self._let_go()

    def get(self, download_id: str) -> Order | None:
        """Return an order, None if the id is not known (any more)."""
        return self._orders.get(download_id)

    def poll(self, order: Order) -> bool:
        """Ask whether an order is ready, which uses up one of its polls."""
        with self._lock:
            if order.is_ready:
                return True
            order.polls_left = max(0, order.polls_left - 1)
            return False

    def forget(self) -> None:
        """Forget all download ids; ordering again gives new ones, at no cost."""
        with self._lock:
            self._orders.clear()
            self._ids.clear()
            self._preparing.clear()
            self._generation += 1

    def _forget_uses(self) -> None:
        oldest = time.monotonic() - self._window_seconds
        while self._uses and self._uses[0] <= oldest:
            self._uses.popleft()

    def quota(self) -> RemainingQuota | None:
        """Return the state of the quota, None if there is no quota."""
        if self._quota is None:
            return None
        with self._lock:
            self._forget_uses()
            first = self._uses[0] if self._uses else time.monotonic()
            left = first + self._window_seconds - time.monotonic()
            return RemainingQuota(self._quota, self._quota - len(self._uses), time.time() + left)


def _differs(made: Job | None, job: Job | None) -> bool:
    return made is not None and job is not None and made.state != job.state
