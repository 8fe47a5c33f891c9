"""The bearer token: got, kept, renewed by one thread while all others wait.

Knows the two places where the service gives tokens and the federated origins of accounts; it
has never heard of HTTP libraries, since it is handed a function that posts.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hda_fsspec.errors import AuthenticationError, BrokerError, ConfigurationError, HDAError
from hda_fsspec.network.redaction import Secrets
from hda_fsspec.settings import rc_path

logger = logging.getLogger("hda_fsspec")

# hda 2.40 tries an account without an origin first, then these two in this order.
_ORIGINS = (None, "eumetsat", "cmems")
# Statuses of an address where no login is. A redirection is one: a password is sent to no address
# but the one that was set.
_ABSENT = frozenset({301, 302, 303, 307, 308, 404, 405, 410, 501})
_MARGIN_SECONDS = 60.0  # a token is renewed this long before its end, or at a tenth of its life


_TOKEN = re.compile(r"[!-~]{1,8192}")  # what can stand in a header


class Post(Protocol):
    """Post a body to an address, without a token; return status and the JSON of the answer."""

    def __call__(
        self,
        url: str,
        *,
        body: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, Any]]:
        """Send one of the two kinds of body."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class _Token:
    access: str
    refresh: str | None
    renew_at: float


@dataclasses.dataclass(eq=False, repr=False)
class Tokens:
    """The access token of one account in this process.

    Parameters
    ----------
    url : str
        Base address of the broker, ending in a slash.
    user, password : str or None
        The credentials; needed at the first request only.
    post : Post
        How to reach the service.
    clock : callable
        Seconds on a clock that never goes back.
    """

    url: str
    user: str | None
    password: str | None
    post: Post
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._token: _Token | None = None
        self._issued: collections.deque[str] = collections.deque(maxlen=100)
        #: The access token and all tokens, and what was made of them: each answer asks for it.
        self._known: tuple[tuple[str | None, tuple[str, ...]], Secrets] | None = None
        self._way: tuple[str, str | None] | None = None
        self._attempts = 0
        self._failure: HDAError | None = None

    def current(self) -> str:
        """Return a token that is believed to be valid, after a login where there is none."""
        token = self._token
        if token is not None and self.clock() < token.renew_at:
            return token.access
        return self.renew(None if token is None else token.access)

    def renew(self, stale: str | None) -> str:
        """Replace the token that the service refused, once for all threads that saw it refused.

        Raises
        ------
        ConfigurationError
            There is no user or no password.
        AuthenticationError
            The service refuses them.
        BrokerError
            There is no place to log in at this address, or it does not answer.
        """
        attempts = self._attempts
        with self._lock:
            token = self._token
            if token is not None and token.access != stale:
                return token.access
            if attempts != self._attempts and self._failure is not None:
                # Threads that waited here for one login share its failure.
                raise copy.copy(self._failure) from self._failure
            self._failure = None
            try:
                self._token = (token and self._refresh(token)) or self._login()
            except HDAError as err:
                self._failure = err
                raise
            finally:
                # Counted at the end: who comes while it goes on must see it as later.
                self._attempts += 1
            return self._token.access

    def is_replaced(self, access: str) -> bool:
        """Whether there is a newer token than this one."""
        return self._token is not None and self._token.access != access

    def secrets(self) -> tuple[str, ...]:
        """Return what must never appear in a message: the password and the tokens so far."""
        return self.known().all

    def known(self) -> Secrets:
        """Return the same, by its kinds."""
        access = None if self._token is None else self._token.access
        found = access, tuple(self._issued.copy())
        known = self._known
        if known is None or known[0] != found:
            known = self._known = found, Secrets(self.password, found[1], access, self.user)
        return known[1]

    def _refresh(self, token: _Token) -> _Token | None:
        if token.refresh is None:
            return None
        # Form data: the one call of the service that takes no JSON (hda 2.40, EODAG 4.10).
        form = {"grant_type": "refresh_token", "refresh_token": token.refresh}
        try:
            status, payload = self.post(f"{self.url}refreshtoken", form=form)
        except BrokerError as err:
            if err.status is None:
                raise
            logger.info("The token cannot be refreshed, so a login follows: %s", err)
            return None
        return self._read(payload) if status < 300 else None

    def _login(self) -> _Token:
        if not self.user or not self.password:
            missing = "user and password" if not self.user else f"password for {self.user!r}"
            msg = (
                f"Cannot log in at {self.url}: no {missing}. Set HDA_USER and HDA_PASSWORD, or "
                f"write 'user: …' and 'password: …' into {rc_path()} ('hda-fsspec login' does it). "
                "A password does not travel with lazy data: each Dask worker needs its own."
            )
            raise ConfigurationError(msg)
        # The endpoint moved in July 2026; which of the two answers is found out once.
        places = dict.fromkeys(
            (
                f"{self.url}gettoken".replace("hda-broker", "identity"),
                f"{self.url}gettoken",
            )
        )
        ways = [(place, origin) for place in places for origin in _ORIGINS]
        if self._way is not None:
            ways = [self._way, *(way for way in ways if way != self._way)]
        absent: set[str] = set()
        refused: set[str] = set()
        told = ""
        page: BrokerError | None = None
        for place, origin in ways:
            # A gateway may refuse an address that it does not know, so a refusal at one place is
            # asked again at the other; but only once, for accounts are locked by many refusals.
            if place in absent or (origin is not None and refused - {place}):
                continue
            body = {"username": self.user, "password": self.password}
            body |= {"origin": origin} if origin else {}
            try:
                status, payload = self.post(place, body=body)
            except BrokerError as err:
                if err.status != 200:
                    raise
                # A web page in the place of a login: there is none.
                page = page or err
                absent.add(place)
                continue
            if status in _ABSENT:
                told = told or self._said(status, payload)
                absent.add(place)
                continue
            token = self._read(payload) if status < 300 else None
            if token is not None:
                self._way = (place, origin)
                return token
            told = self._said(status, payload)
            if status >= 500:
                msg = f"Cannot log in at {place}: it answered {told}. Try again later."
                raise BrokerError(msg, status=status)
            refused.add(place)
        if page is not None and not refused:
            raise page
        if not refused:
            msg = (
                f"Cannot log in at {self.url}: neither {' nor '.join(places)} is there "
                f"({told}). Is that the address of a broker? If not, set endpoint_url, or "
                "HDA_URL in the environment."
            )
            # No status: a 404 would be taken for an answer about what was asked with the token.
            raise BrokerError(msg)
        msg = (
            f"Cannot log in at {self.url} as {self.user!r}: {told}. Check user and password "
            "(arguments, HDA_USER and HDA_PASSWORD, or ~/.hdarc) at https://www.wekeo.eu."
        )
        raise AuthenticationError(msg)

    def _said(self, status: int, payload: Mapping[str, Any]) -> str:
        reason = payload.get("error_description") or payload.get("detail") or ""
        # A service may quote in its refusal what it was sent.
        return f"status {status} {self.known().shown(reason)}".strip()

    def _read(self, payload: Mapping[str, Any]) -> _Token | None:
        """Read an answer; a 200 may still carry ``error`` and no token (seen since hda 2.38)."""
        access, refresh = payload.get("access_token"), payload.get("refresh_token")
        if payload.get("error") or not isinstance(access, str) or not _TOKEN.fullmatch(access):
            return None
        life = payload.get("expires_in")
        seconds = float(life) if isinstance(life, (int, float)) and life > 0 else 3600.0
        margin = min(_MARGIN_SECONDS, seconds / 10)
        refresh = refresh if isinstance(refresh, str) and refresh else None
        # A token that was replaced may live on at the service for the rest of its hour.
        self._issued.extend(text for text in (access, refresh) if text)
        return _Token(access, refresh, self.clock() + seconds - margin)
