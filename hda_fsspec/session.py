"""HTTP to the broker: one pool of connections, tokens, bounded retries, typed errors.

This is the only module that imports requests. It knows what an HTTP answer is and when asking
again helps; what is asked for is its caller's affair.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import requests
import requests.adapters

from hda_fsspec import __version__
from hda_fsspec.answers import Problem, explain, quota_state, retry_after
from hda_fsspec.errors import AuthenticationError, BrokerError, OfflineError, QuotaError
from hda_fsspec.settings import Settings
from hda_fsspec.tokens import Tokens

logger = logging.getLogger("hda_fsspec")

_ERROR_BODY_BYTES = 64 * 1024
_CONNECT_SECONDS = 10.0
_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 16.0
_LONGEST_RETRY_AFTER_SECONDS = 60.0
# How often each fault is retried. 500 is often permanent at this service: the official client
# retried it 500 times and hung for hours (ecmwf/hda#40).
_RETRIES = {408: 6, 429: 6, 500: 3, 502: 6, 503: 6, 504: 6}
_RETRIES_OF_A_PAGE = 2
_RETRIES_WHEN_NEVER_CONNECTED = 2
_RETRIES_OF_A_CONNECTION = 6
_RETRIES_OF_A_TIMEOUT = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer: its status and headers (looked up without regard to case)."""

    status: int
    headers: Mapping[str, str]


class _Bearer(requests.auth.AuthBase):
    """Sets the token as requests' own auth, so that a line of ~/.netrc cannot replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _NoAuth(requests.auth.AuthBase):
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _jitter() -> float:
    return random.uniform(0.8, 1.2)  # noqa: S311  (spreads retries, keeps no secret)


class Session:
    """Requests to one broker as one account.

    Parameters
    ----------
    settings : Settings
        Address, credentials, time-outs, TLS, the number of connections, offline.
    sleep, clock, jitter : callable
        For tests: how to wait (seconds), the time since 1970, a factor for each delay.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = _jitter,
    ) -> None:
        self._settings = settings
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter
        self._base = f"{settings.url}api/v1/"
        self._tokens = Tokens(settings.url, settings.user, settings.password, self._post_plain)
        self._has_connected = False
        self._http = requests.Session()
        self._http.headers.update(
            {
                # On-the-fly compression would hide the true length of a product.
                "Accept-Encoding": "identity",
                "User-Agent": f"hda_fsspec/{__version__}",
            }
        )
        adapter = requests.adapters.HTTPAdapter(
            pool_connections=4, pool_maxsize=settings.max_connections, pool_block=True
        )
        self._http.mount("http://", adapter)
        self._http.mount("https://", adapter)

    def close(self) -> None:
        """Close all idle connections."""
        self._http.close()

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> Any:
        """Send a request and return the JSON of its answer; see :meth:`head` for what is raised."""
        address = self._base + quote(path, safe="/:")
        for attempt in range(_RETRIES_OF_A_PAGE + 1):
            response = self._send(method, address, params=params, json=body)
            try:
                return response.json()
            except requests.exceptions.JSONDecodeError:
                problem = explain(response.status_code, response.content[:_ERROR_BODY_BYTES])
                if attempt < _RETRIES_OF_A_PAGE:
                    self._wait(attempt, f"{method} {path}", "an answer that is no JSON")
        what = "a web page" if problem.is_page else "something that is no JSON"
        msg = (
            f"{method} {address} answered {what} with status {problem.status}: "
            f"{self._redact(problem.text)!r}. Is HDA_URL={self._settings.url} the address of a "
            "broker? If it is, try again later."
        )
        raise BrokerError(msg, status=problem.status)

    def head(self, path: str, *, accept: Collection[int] = ()) -> Answer:
        """Ask for the head of a resource; redirects are not followed.

        Parameters
        ----------
        path : str
            Below ``api/v1/``.
        accept : collection of int
            Statuses of 400 and more which are an answer here and not an error.

        Raises
        ------
        AuthenticationError
            Credentials are refused, also after one renewal of the token.
        QuotaError
            The service answers 429, also after retries.
        BrokerError
            Any other error, or no answer at all; retried first where that can help.
        OfflineError
            The setting ``offline`` forbids it.
        """
        address = self._base + quote(path, safe="/:")
        response = self._send("HEAD", address, accept=accept, allow_redirects=False)
        return Answer(response.status_code, response.headers)

    def put(self, path: str, body: Any) -> None:
        """Put a body, and leave the answer's unread; raises what :meth:`head` raises."""
        self._send("PUT", self._base + quote(path, safe="/:"), json=body)

    @contextlib.contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str], accept: Collection[int] = ()
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """Get a resource as its head and an iterator over its body, in pieces of up to 1 MiB.

        A fault in the middle of the body is raised by the iterator as BrokerError; nothing is
        retried there, since only the caller knows what it holds already.
        """
        address = self._base + quote(path, safe="/:")
        response = self._send("GET", address, headers=headers, accept=accept, stream=True)
        try:
            yield Answer(response.status_code, response.headers), self._pieces(response, path)
        finally:
            response.close()

    def order(self, path: str, body: Any) -> Any:
        """Post an order and return the JSON of its answer; a 429 is not retried here.

        Raises QuotaError for a 429, with the reset time where the service tells it, and else what
        :meth:`head` raises.
        """
        address = self._base + quote(path, safe="/:")
        response = self._send("POST", address, json=body, retry_quota=False)
        try:
            return response.json()
        except requests.exceptions.JSONDecodeError as err:
            problem = explain(response.status_code, response.content[:_ERROR_BODY_BYTES])
            msg = (
                f"POST {address} answered something that is no JSON with status "
                f"{problem.status}: {self._redact(problem.text)!r}. Try again later."
            )
            raise BrokerError(msg, status=problem.status) from err

    def _pieces(self, response: requests.Response, path: str) -> Iterator[bytes]:
        try:
            yield from response.iter_content(1 << 20)
        except (requests.exceptions.RequestException, OSError) as err:
            msg = f"GET {path} from {self._settings.url} broke off: {self._redact(str(err))}."
            raise BrokerError(msg) from err

    def _send(
        self,
        method: str,
        address: str,
        *,
        accept: Collection[int] = (),
        retry_quota: bool = True,
        is_login: bool = False,
        **options: Any,
    ) -> requests.Response:
        if self._settings.offline:
            msg = (
                f"{method} {address} needs the network, and offline is set. "
                "Unset offline (or HDA_OFFLINE), or use only what the cache holds."
            )
            raise OfflineError(msg)
        failures: dict[int | str, int] = {}
        renewed = False
        while True:
            token = "" if is_login else self._tokens.current()
            auth = _NoAuth() if is_login else _Bearer(token)
            try:
                response = self._exchange(method, address, auth=auth, **options)
            except requests.exceptions.RequestException as err:
                self._retry_or_raise(method, address, err, failures)
                continue
            status = response.status_code
            if status < 400 or status in accept:
                return response
            if is_login and status not in _RETRIES:
                return response
            problem = explain(status, self._error_body(response))
            if status in {401, 403} and not renewed:
                renewed = True
                self._tokens.renew(token)
                continue
            allowed = (
                0 if problem.status == 429 and not retry_quota else _RETRIES.get(problem.status, 0)
            )
            failures[problem.status] = attempt = failures.get(problem.status, 0) + 1
            if attempt > allowed:
                raise self._error(method, address, problem, response.headers)
            told = retry_after(response.headers, self._clock())
            self._wait(attempt - 1, f"{method} {address}", f"status {problem.status}", told)

    def _exchange(self, method: str, address: str, **options: Any) -> requests.Response:
        started = time.monotonic()
        timeout = (min(_CONNECT_SECONDS, self._settings.timeout), self._settings.timeout)
        response = self._http.request(
            method, address, timeout=timeout, verify=self._settings.verify, **options
        )
        self._has_connected = True
        logger.debug(
            "%s %s: %d in %.3f s", method, address, response.status_code, time.monotonic() - started
        )
        return response

    def _retry_or_raise(
        self,
        method: str,
        address: str,
        err: requests.exceptions.RequestException,
        failures: dict[int | str, int],
    ) -> None:
        kind = "timeout" if isinstance(err, requests.exceptions.Timeout) else "connection"
        if kind == "timeout":
            allowed = _RETRIES_OF_A_TIMEOUT
        elif self._has_connected:
            allowed = _RETRIES_OF_A_CONNECTION
        else:
            allowed = _RETRIES_WHEN_NEVER_CONNECTED
        if isinstance(err, requests.exceptions.SSLError):
            allowed = 0
        failures[kind] = attempt = failures.get(kind, 0) + 1
        if attempt <= allowed:
            self._wait(attempt - 1, f"{method} {address}", type(err).__name__)
            return
        if isinstance(err, requests.exceptions.SSLError):
            step = "If your site has its own certificates, set verify (HDA_VERIFY) to their bundle"
        else:
            step = "Check the network, proxies and HDA_URL"
        msg = (
            f"{method} {address} got no answer in {attempt} tries: "
            f"{self._redact(str(err))[:300]}. {step}."
        )
        raise BrokerError(msg) from err

    def _wait(self, attempt: int, what: str, why: str, told: float | None = None) -> None:
        delay = min(_FIRST_DELAY_SECONDS * 2**attempt, _LONGEST_DELAY_SECONDS) * self._jitter()
        if told is not None:
            delay = max(delay, min(told, _LONGEST_RETRY_AFTER_SECONDS))
        logger.info("%s: %s; trying again in %.1f s", what, why, delay)
        self._sleep(delay)

    def _error_body(self, response: requests.Response) -> bytes:
        try:
            return next(response.iter_content(_ERROR_BODY_BYTES), b"")
        except (requests.exceptions.RequestException, OSError):
            # The status alone tells enough, and it is what the caller acts on.
            return b""
        finally:
            response.close()

    def _error(
        self, method: str, address: str, problem: Problem, headers: Mapping[str, str]
    ) -> Exception:
        said = f": {self._redact(problem.text)}" if problem.text else ""
        told = f"{method} {address} answered {problem.status}{said}."
        if problem.status == 429:
            reset_at = quota_state(headers).reset_at
            if reset_at is None and (seconds := retry_after(headers, self._clock())) is not None:
                reset_at = self._clock() + seconds
            msg = (
                f"{told} The account's quota, or that of the service behind the broker, is used up."
            )
            return QuotaError(msg, reset_at=reset_at)
        if problem.status in {401, 403}:
            msg = (
                f"{told} A new login did not help: has the account {self._settings.user!r} access?"
            )
            return AuthenticationError(msg)
        step = " Try again later." if problem.status >= 500 else ""
        return BrokerError(told + step, status=problem.status)

    def _post_plain(
        self,
        url: str,
        *,
        body: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, Any]]:
        response = self._send("POST", url, json=body, data=form, is_login=True)
        try:
            payload = response.json()
        except requests.exceptions.JSONDecodeError as err:
            if response.status_code != 200:
                return response.status_code, {}
            problem = explain(200, response.content[:_ERROR_BODY_BYTES])
            msg = (
                f"POST {url} answered something that is no JSON: {self._redact(problem.text)!r}. "
                f"Is HDA_URL={self._settings.url} the address of a broker?"
            )
            raise BrokerError(msg, status=200) from err
        return response.status_code, payload if isinstance(payload, Mapping) else {}

    def _redact(self, text: str) -> str:
        for secret in self._tokens.secrets():
            text = text.replace(secret, "***")
        return text
