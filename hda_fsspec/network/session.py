"""HTTP to the broker: one pool of connections, tokens, bounded retries, typed errors.

This is the only module that imports requests. It knows what an HTTP answer is and when asking
again helps; what is asked for is its caller's affair.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.exceptions

from hda_fsspec import __version__
from hda_fsspec.errors import BrokerError, OfflineError
from hda_fsspec.network.answers import Answer, Problem, explain, read_json, redact, retry_after
from hda_fsspec.network.failures import (
    RETRIES,
    Failures,
    cannot_send,
    delay_seconds,
    error_of,
    no_answer,
)
from hda_fsspec.network.proxies import proxies_for
from hda_fsspec.network.tokens import Tokens
from hda_fsspec.printable import warn
from hda_fsspec.settings import Settings

logger = logging.getLogger("hda_fsspec")

_PIECE_BYTES = 1 << 20
_ERROR_BODY_BYTES = 64 * 1024
_CONNECT_SECONDS = 10.0
_UNREACHABLE = frozenset(
    {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}
)


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


class _Http(requests.Session):
    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Drop the token where a redirect leaves the host, and take no other from ~/.netrc."""
        if self.should_strip_auth(response.request.url, prepared_request.url):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("Authorization", None)


class _UnverifiedConnection(urllib3.connection.HTTPSConnection):
    @property
    def is_verified(self) -> bool:
        return True  # urllib3 reads it for its warning alone

    @is_verified.setter
    def is_verified(self, value: bool) -> None:
        pass


class _UnverifiedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _UnverifiedConnection


class _UnverifiedAdapter(requests.adapters.HTTPAdapter):
    """Has none of urllib3's warnings at each request, in place of which there is one notice.

    They could only be filtered for the whole process, and for others too.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        _make_quiet(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pools of connections through a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        _make_quiet(manager)
        return manager


def _make_quiet(manager: Any) -> None:
    manager.pool_classes_by_scheme = {
        **manager.pool_classes_by_scheme,
        "https": _UnverifiedPool,
    }


_unverified: dict[str, object] = {}


def _notice(endpoint_url: str) -> None:
    """Warn once per process that the certificates of a broker are not verified."""
    mine = object()
    # In one step and without a lock, which a fork could leave held for ever.
    if _unverified.setdefault(endpoint_url, mine) is mine:
        msg = (
            f"verify is False: the certificates of {endpoint_url}, and of what it leads to, are "
            "not verified, and whoever is on the way can read the password. If your site has its "
            "own certificates, set verify (HDA_VERIFY) to their bundle."
        )
        warn(msg, urllib3.exceptions.InsecureRequestWarning, stacklevel=3)


# Not the numbers of the module: who seeds those wants the same ones again, whatever is retried.
_random = random.SystemRandom()


class Session:
    """Requests to one broker as one account.

    Parameters
    ----------
    settings : Settings
        Address, credentials, time-outs, TLS, the number of connections, offline.
    heard : callable
        Told the headers of each answer, and when its request went out (seconds since 1970).
    calls : callable
        Returns a context in which one short call may go out; whoever streams sees to it himself.
    sleep, clock, jitter : callable
        For tests: how to wait (seconds), the time since 1970, a factor for each delay.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        heard: Callable[[Mapping[str, str], float], object] = lambda _headers, _sent_at: None,
        calls: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = lambda: _random.uniform(0.8, 1.2),
    ) -> None:
        self._settings = settings
        self._heard = heard
        self._calls = calls
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter
        self._base = f"{settings.endpoint_url}api/v1/"
        self._tokens = Tokens(
            settings.endpoint_url, settings.user, settings.password, self._post_plain
        )
        self._is_expected_there = False
        self._http = _Http()
        self._http.headers.update(
            {
                # On-the-fly compression would hide the true length of a product.
                "Accept-Encoding": "identity",
                "User-Agent": f"hda_fsspec/{__version__}",
            }
        )
        is_verified = settings.verify is not False
        adapter = (requests.adapters.HTTPAdapter if is_verified else _UnverifiedAdapter)(
            pool_connections=4, pool_maxsize=settings.max_connections, pool_block=True
        )
        self._http.mount("http://", adapter)
        self._http.mount("https://", adapter)

    @property
    def address(self) -> str:
        """The canonical address of the broker, by which its products are told from others'."""
        return self._settings.endpoint_url

    def close(self) -> None:
        """Close all idle connections."""
        self._http.close()

    def expect_broker(self) -> None:
        """Take it for sure that the address is right: where nobody is there, somebody will be."""
        self._is_expected_there = True

    def log_in(self) -> None:
        """Get a token where there is none; raises what :meth:`head` raises."""
        self._refuse_if_offline(f"A login at {self._settings.endpoint_url}")
        self._tokens.current()

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        retry_quota: bool = True,
        most_retries: int | None = None,
    ) -> Any:
        """Send a request and return the JSON of its answer; see :meth:`head` for what is raised.

        It is asked for no more often than `most_retries` again; None for as often as can help.
        """
        address = self._address(path)
        failures = Failures(most_retries)
        while True:
            response = self._send(
                method,
                address,
                params=params,
                json=body,
                retry_quota=retry_quota,
                most_retries=most_retries,
            )
            try:
                return read_json(response.content, self._tokens.secrets())
            # A number of thousands of digits, or nesting without end, is no JSONDecodeError.
            except (ValueError, RecursionError):
                kind = "connection" if _is_cut(response) else "not JSON"
            count = failures.count(kind)
            if failures.are_enough(kind):
                break
            self._wait(count, f"{method} {path}", "an answer that is no JSON")
        problem = self._explain(response)
        what = "a web page" if problem.is_page else "something that is no JSON"
        msg = (
            f"{method} {address} answered {what} with status {problem.status}: {problem.text!r}. "
            f"{self._is_it_a_broker}"
        )
        raise BrokerError(msg, status=problem.status)

    @property
    def _is_it_a_broker(self) -> str:
        return (
            f"Is {self._settings.endpoint_url} the address of a broker? If it is, try "
            "again later; else set endpoint_url, or HDA_URL in the environment."
        )

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
        address = self._address(path)
        response = self._send("HEAD", address, accept=accept, allow_redirects=False)
        return Answer(response.status_code, response.headers)

    def put(self, path: str, body: Any, *, most_retries: int | None = None) -> None:
        """Put a body, and leave the answer's unread; raises what :meth:`head` raises."""
        self._send("PUT", self._address(path), json=body, most_retries=most_retries)

    @contextlib.contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str], accept: Collection[int] = ()
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """Get a resource as its head and an iterator over its body, in pieces of up to 1 MiB.

        A fault in the middle of the body is raised by the iterator as BrokerError; nothing is
        retried there, since only the caller knows what it holds already.
        """
        address = self._address(path)
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
        # Repeating an order costs nothing, so a spoilt answer may be asked for again.
        return self.json("POST", path, body=body, retry_quota=False)

    def _address(self, path: str) -> str:
        # A percent sign stays: it is for the caller to encode an id that holds a slash.
        return self._base + quote(path, safe="/:%")

    def _pieces(self, response: requests.Response, path: str) -> Iterator[bytes]:
        try:
            # iter_content would collect a whole piece first, and lose what it has of it when the
            # body breaks off: over a slow, shaky line nothing would ever be kept.
            while piece := response.raw.read1(_PIECE_BYTES, decode_content=True):
                yield piece
        except (urllib3.exceptions.HTTPError, OSError) as err:
            address = self._settings.endpoint_url
            msg = f"GET {path} from {address} broke off: {self._redact(str(err))}."
            raise BrokerError(msg) from err

    def _send(
        self,
        method: str,
        address: str,
        *,
        accept: Collection[int] = (),
        retry_quota: bool = True,
        is_login: bool = False,
        most_retries: int | None = None,
        **options: Any,
    ) -> requests.Response:
        self._refuse_if_offline(f"{method} {address}")
        failures = Failures(most_retries)
        renewed = False
        while True:
            token = "" if is_login else self._tokens.current()
            auth = _NoAuth() if is_login else _Bearer(token)
            try:
                response = self._exchange(method, address, auth=auth, **options)
            except requests.exceptions.RequestException as err:
                self._retry_or_raise(method, address, err, failures)
                continue
            except OSError as err:  # what requests says of this machine's own files
                raise cannot_send(f"{method} {address}", self._redact(str(err))) from err
            except (ValueError, urllib3.exceptions.HTTPError) as err:
                # An address that requests takes, and what it is made of does not.
                raise no_answer(
                    f"{method} {address}", "address", 1, self._redact(str(err))
                ) from err
            status = response.status_code
            if status < 400 or status in accept:
                return response
            if is_login and status not in RETRIES:
                return response
            problem = self._explain(response)
            # What another request has replaced meanwhile is not this one's only renewal.
            if status in {401, 403} and (not renewed or self._tokens.is_replaced(token)):
                renewed = True
                self._tokens.renew(token)
                continue
            is_final = problem.status == 429 and not retry_quota
            count = failures.count(problem.status)
            if is_final or failures.are_enough(problem.status):
                raise error_of(
                    f"{method} {address}",
                    status,
                    problem,
                    response.headers,
                    user=self._settings.user,
                    now=self._clock(),
                )
            told = retry_after(response.headers, self._clock())
            self._wait(count, f"{method} {address}", f"status {problem.status}", told)

    def _refuse_if_offline(self, what: str) -> None:
        if self._settings.offline:
            msg = (
                f"{what} needs the network, and offline is set. "
                "Unset offline (or HDA_OFFLINE), or use only what the cache holds."
            )
            raise OfflineError(msg)

    def _exchange(self, method: str, address: str, **options: Any) -> requests.Response:
        timeout = (min(_CONNECT_SECONDS, self._settings.timeout), self._settings.timeout)
        self._notice_if_unverified(address)
        options |= {"verify": self._settings.verify, "proxies": proxies_for(address)}
        with contextlib.nullcontext() if options.get("stream") else self._calls():
            started, sent_at = time.monotonic(), self._clock()
            response = self._http.request(method, address, timeout=timeout, **options)
        self._notice_if_unverified(response.url)
        self._is_expected_there = True
        self._heard(response.headers, sent_at)
        logger.debug(
            "%s %s: %d in %.3f s", method, address, response.status_code, time.monotonic() - started
        )
        return response

    def _notice_if_unverified(self, address: str) -> None:
        if self._settings.verify is False and address.startswith("https:"):
            _notice(self._settings.endpoint_url)

    def _retry_or_raise(
        self,
        method: str,
        address: str,
        err: requests.exceptions.RequestException,
        failures: Failures,
    ) -> None:
        kind = kind_of_fault(err)
        if kind == "nobody there" and self._is_expected_there:
            # A gateway that restarts, or a worker that starts before the network is up.
            kind = "connection"
        count = failures.count(kind)
        if not failures.are_enough(kind):
            self._wait(count, f"{method} {address}", type(err).__name__)
            return
        said = self._redact(str(err))[:300]
        raise no_answer(f"{method} {address}", kind, count, said) from err

    def _wait(self, failures: int, what: str, why: str, told: float | None = None) -> None:
        delay = delay_seconds(failures, self._jitter(), told)
        logger.info("%s: %s; trying again in %.1f s", what, why, delay)
        self._sleep(delay)

    def _explain(self, response: requests.Response) -> Problem:
        """Say what an answer says, without the secrets that it may quote, and close it."""
        try:
            body = next(response.iter_content(_ERROR_BODY_BYTES), b"")
        except (requests.exceptions.RequestException, OSError):
            # The status alone tells enough, and it is what the caller acts on.
            body = b""
        finally:
            response.close()
        text = self._redact(body.decode("utf-8", "replace"))
        return explain(response.status_code, text.encode())

    def _post_plain(
        self,
        url: str,
        *,
        body: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, Any]]:
        failures = Failures()
        while True:
            # Not redirected: requests would post the password again, wherever the answer points.
            response = self._send(
                "POST", url, json=body, data=form, is_login=True, allow_redirects=False
            )
            try:
                payload = response.json()
            except (ValueError, RecursionError) as err:
                if response.status_code != 200:
                    return response.status_code, {}
                kind = "connection" if _is_cut(response) else "not JSON"
                problem = self._explain(response)
                count = failures.count(kind)
                if problem.is_page or failures.are_enough(kind):
                    # Half of an answer may hold a whole token, so only a page is quoted.
                    said = f"a web page ({problem.text!r})" if problem.is_page else "broken JSON"
                    msg = f"POST {url} answered {said}. {self._is_it_a_broker}"
                    raise BrokerError(msg, status=200) from err
                self._wait(count, f"POST {url}", "an answer that is no JSON")
                continue
            return response.status_code, payload if isinstance(payload, Mapping) else {}

    def _redact(self, text: str) -> str:
        return redact(text, self._tokens.secrets())


def kind_of_fault(err: requests.exceptions.RequestException) -> str:
    """Return which of the faults without an answer this is, by the names of :data:`RETRIES`.

    "nobody there" is an address where no broker is: the connection was refused, or the host is not
    known. Whatever was lost on the way or in the middle is a "connection".
    """
    causes = list(_causes(err))
    if isinstance(err, requests.exceptions.SSLError):
        # The other side hung up in the middle of the handshake: nothing is wrong with it.
        is_lost = any(isinstance(e, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) for e in causes)
        return "connection" if is_lost else "TLS"
    if isinstance(err, requests.exceptions.Timeout):
        return "timeout"
    lost = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)
    if not isinstance(err, lost):
        return "address"  # one that cannot be used, or that leads in a circle
    is_nobody = any(
        isinstance(e, socket.gaierror) or (isinstance(e, OSError) and e.errno in _UNREACHABLE)
        for e in causes
    )
    return "nobody there" if is_nobody else "connection"


def _causes(err: BaseException) -> Iterator[BaseException]:
    """Walk through what an error of requests was made of, by all the ways in which it is told."""
    left, seen = [err], set[int]()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        told = (*one.args, one.__cause__, getattr(one, "reason", None))
        left.extend(other for other in told if isinstance(other, BaseException))


def _is_cut(response: requests.Response) -> bool:
    """Whether an answer ended in its head: it has no body, nor a word of how long that is."""
    framed = {"Content-Length", "Transfer-Encoding"} & {name.title() for name in response.headers}
    return not response.content and not framed
