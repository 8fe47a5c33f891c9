"""HTTP to the broker: one pool of connections, tokens, bounded retries, typed errors.

This is the only module that imports requests. It knows what an HTTP answer is and when asking
again helps; what is asked for is its caller's affair.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import itertools
import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import requests
import requests.adapters
import urllib3.exceptions

from hda_fsspec.errors import BrokerError, HDAError, OfflineError
from hda_fsspec.network import connection_errors
from hda_fsspec.network.connections import (
    CONNECT_SECONDS,
    Bearer,
    no_auth,
    open_connections,
    stranger,
)
from hda_fsspec.network.proxies import proxies_for, secrets_of_proxy, shown_proxy
from hda_fsspec.network.redaction import Secrets
from hda_fsspec.network.redirects import REDIRECTS, RedirectError, next_address, shown
from hda_fsspec.network.response_limits import (
    MOST_BYTES,
    Allowance,
    Reply,
    TooLongError,
    allowing,
)
from hda_fsspec.network.responses import (
    ERROR_BODY_BYTES,
    Problem,
    ResponseHead,
    is_encoded,
    parse_problem,
    read_json,
    retry_after,
)
from hda_fsspec.network.retries import (
    RETRIES,
    cannot_send,
    error_for_response,
    no_answer,
    no_broker,
    refused_by_proxy,
)
from hda_fsspec.network.retry_budget import Patience, Tries
from hda_fsspec.network.tokens import Tokens
from hda_fsspec.settings import Settings

logger = logging.getLogger("hda_fsspec")

_PIECE_BYTES = 1 << 20


# Not the numbers of the module: who seeds those wants the same ones again, whatever is retried.
_random = random.SystemRandom()


@dataclasses.dataclass(eq=False, repr=False)
class Session:
    """Requests to one broker as one account.

    Parameters
    ----------
    settings : Settings
        Address, credentials, time-outs, TLS, the number of connections, offline.
    on_response : callable
        Told the headers of each answer, and when its request went out (seconds since 1970).
    calls : callable
        Returns a context in which one short call may go out; whoever streams sees to it himself.
    sleep, clock, jitter, monotonic : callable
        For tests: how to wait (seconds), the time since 1970, a factor for each delay, and seconds
        on a clock that never goes back.
    """

    settings: Settings
    on_response: Callable[[Mapping[str, str], float], object] = lambda _headers, _sent_at: None
    calls: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = lambda: _random.uniform(0.8, 1.2)
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        settings = self.settings
        self._base = f"{settings.endpoint_url}api/v1/"
        self._tokens = Tokens(
            settings.endpoint_url, settings.user, settings.password, self._post_plain
        )
        self._is_expected_there = False
        self._http = open_connections(
            is_verified=settings.verify is not False, most=settings.max_connections
        )

    @property
    def address(self) -> str:
        """The canonical address of the broker, by which its products are told from others'."""
        return self.settings.endpoint_url

    @property
    def secrets(self) -> Secrets:
        """The secrets that no error, log or record may quote."""
        return self._tokens.known()

    def close(self) -> None:
        """Close all idle connections."""
        self._http.close()

    def expect_broker(self) -> None:
        """Take it for sure that the address is right: where nobody is there, somebody will be."""
        self._is_expected_there = True

    def log_in(self) -> None:
        """Get a token where there is none; raises what :meth:`head` raises."""
        self._refuse_if_offline(f"A login at {self.settings.endpoint_url}")
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
        patience = self._patience()
        tries = Tries(f"{method} {path}", patience, most_retries)
        while True:
            reply = self._send(
                method,
                address,
                params=params,
                json=body,
                retry_quota=retry_quota,
                most_retries=most_retries,
                patience=patience,
            )
            try:
                return read_json(reply.body)
            # A number of thousands of digits, or nesting without end, is no JSONDecodeError.
            except (ValueError, RecursionError):
                kind = "connection" if reply.is_cut else "not JSON"
            if not tries.again(kind, "an answer that is no JSON"):
                break
        problem = self._explain(reply)
        what = "a web page" if problem.is_page else "something that is no JSON"
        said = f"answered {what} with status {problem.status}: {problem.text!r}"
        raise no_broker(
            f"{method} {address}", said, self.address, problem.status, given_up=tries.given_up
        )

    def head(self, path: str, *, accept: Collection[int] = ()) -> ResponseHead:
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
        reply = self._send("HEAD", address, accept={*REDIRECTS, *accept})
        return ResponseHead(reply.status, self.secrets.headers(reply.headers))

    def put(self, path: str, body: Any, *, most_retries: int | None = None) -> None:
        """Put a body, and leave the answer's unread; raises what :meth:`head` raises."""
        self._send("PUT", self._address(path), json=body, most_retries=most_retries)

    @contextlib.contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str], accept: Collection[int] = ()
    ) -> Iterator[tuple[ResponseHead, Iterator[bytes]]]:
        """Get a file as its head and an iterator over its body, in pieces of up to 1 MiB.

        Where the answer leads to another host the file is fetched there, without the token. A fault
        in the middle of the body is raised by the iterator as BrokerError; nothing is retried
        there, since only the caller knows what it holds already.
        """
        address = self._address(path)
        reply = self._send("GET", address, headers=headers, accept=accept, stream=True)
        try:
            head = ResponseHead(reply.status, self.secrets.headers(reply.headers))
            yield head, self._pieces(reply, path)
        finally:
            reply.response.close()

    @contextlib.contextmanager
    def ask(
        self, method: str, address: str, *, token: str | None, **options: Any
    ) -> Iterator[tuple[ResponseHead, Iterator[bytes]]]:
        """Send one request just once, and give its head and its body in pieces, whatever it says.

        Nothing is renewed, retried, followed or judged: it is for who wants to see how the service
        answers. ``options`` are those of a request: headers, params, json, data.

        Raises
        ------
        BrokerError
            There is no answer, or none that could be read.
        OfflineError
            The setting ``offline`` forbids it.
        """
        self._refuse_if_offline(f"{method} {address}")
        auth = no_auth if token is None else Bearer(token)
        try:
            reply = self._exchange(
                method, address, is_elsewhere=False, stream=True, auth=auth, **options
            )
        except requests.exceptions.RequestException as err:
            said = self.secrets.shown(connection_errors.words_of(err))
            raise no_answer(f"{method} {address}", kind_of_fault(err), 1, said) from err
        try:
            yield ResponseHead(reply.status, reply.headers), self._pieces(reply, address)
        finally:
            reply.response.close()

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

    def _pieces(self, reply: Reply, path: str) -> Iterator[bytes]:
        reply.allowance.begin_stream()
        try:
            while piece := _read(reply.response):
                reply.allowance.arrived(len(piece))
                yield piece
        except (urllib3.exceptions.HTTPError, OSError) as err:
            address = self.settings.endpoint_url
            said = self.secrets.shown(connection_errors.words_of(err))
            raise BrokerError(f"GET {path} from {address} broke off: {said}.") from err

    def _send(
        self,
        method: str,
        address: str,
        *,
        accept: Collection[int] = (),
        retry_quota: bool = True,
        is_login: bool = False,
        most_retries: int | None = None,
        patience: Patience | None = None,
        **options: Any,
    ) -> Reply:
        self._refuse_if_offline(f"{method} {address}")
        tries = Tries(f"{method} {address}", patience or self._patience(), most_retries)
        renewed = False
        while True:
            token = "" if is_login else self._tokens.current()
            options["auth"] = no_auth if is_login else Bearer(token)
            try:
                reply = self._follow(method, address, accept, is_login=is_login, **options)
            except requests.exceptions.RequestException as err:
                self._retry_or_raise(f"{method} {address}", address, err, tries)
                continue
            except HDAError:
                raise
            except OSError as err:  # what requests says of this machine's own files
                raise cannot_send(f"{method} {address}", self.secrets.shown(err)) from err
            except (ValueError, urllib3.exceptions.HTTPError) as err:
                # An address that requests takes, and what it is made of does not.
                said = self.secrets.shown(connection_errors.words_of(err))
                raise no_answer(f"{method} {address}", "address", 1, said) from err
            status = reply.status
            if status == http.client.PROXY_AUTHENTICATION_REQUIRED:
                raise self._refused_by_proxy(f"{method} {address}", reply.response.url, reply)
            if status < 400 or status in accept or (is_login and status not in RETRIES):
                return reply
            problem = self._explain(reply)
            # What another request has replaced meanwhile is not this one's only renewal.
            if status in {401, 403} and (not renewed or self._tokens.is_replaced(token)):
                renewed = True
                # Elsewhere the address that led there has expired, and not the token.
                if not reply.is_elsewhere:
                    self._tokens.renew(token)
                continue
            is_final = problem.status == 429 and not retry_quota
            told = retry_after(reply.headers, self.clock())
            if tries.again(problem.status, f"status {problem.status}", told, is_final=is_final):
                continue
            where = f", which leads to {shown(reply.response.url)}," * reply.is_elsewhere
            raise error_for_response(
                f"{method} {address}{where}",
                None if reply.is_elsewhere else status,
                problem,
                reply.headers,
                user=self.settings.user,
                now=self.clock(),
                given_up=tries.given_up,
            )

    def _refuse_if_offline(self, what: str) -> None:
        if self.settings.offline:
            raise OfflineError(connection_errors.needs_network(what))

    def _follow(
        self,
        method: str,
        address: str,
        accept: Collection[int],
        *,
        is_login: bool,
        **options: Any,
    ) -> Reply:
        """Send a request, and again to where the answer leads if it may go there."""
        asked, target, is_elsewhere = f"{method} {address}", address, False
        for hops in itertools.count():
            reply = self._exchange(method, target, is_elsewhere=is_elsewhere, **options)
            # A login's is not followed: the password would be posted again, wherever that leads.
            if reply.status // 100 != 3 or is_login or reply.status in accept:
                return reply
            reply.response.close()
            location = reply.headers.get("Location", "")
            is_file = bool(options.get("stream"))
            try:
                target, is_new = next_address(
                    target, reply.status, location, hops=hops, method=method, is_file=is_file
                )
            except RedirectError as err:
                where = self.secrets.shown(shown(location))
                said = f"answered {reply.status}, a redirect to {where}, which {err}"
                raise no_broker(asked, said, self.address, reply.status) from err
            options.pop("params", None)
            if is_new:
                # And not with it either if that leads back here.
                is_elsewhere, options["auth"] = True, stranger
                where = shown(target)
                logger.info("%s leads to %s: it is fetched there, without the token", asked, where)
        raise AssertionError  # the count has no end

    def _exchange(self, method: str, address: str, *, is_elsewhere: bool, **options: Any) -> Reply:
        timeout = self.settings.timeout
        if self.settings.verify is False and address.startswith("https:"):
            category = urllib3.exceptions.InsecureRequestWarning
            connection_errors.warn_unverified(self.settings.endpoint_url, category)
        is_stream = bool(options.pop("stream", False))
        options |= {"verify": self.settings.verify, "proxies": proxies_for(address)}
        allowance = Allowance(timeout, clock=self.monotonic)
        with contextlib.nullcontext() if is_stream else self.calls():
            started, sent_at = time.monotonic(), self.clock()
            with allowing(allowance):
                response = self._http.request(
                    method,
                    address,
                    timeout=(min(CONNECT_SECONDS, timeout), timeout),
                    stream=True,
                    allow_redirects=False,
                    **options,
                )
            self._is_expected_there = True
            if not is_elsewhere:
                self.on_response(response.headers, sent_at)
            status, headers = response.status_code, response.headers
            if status < 300 and method != "HEAD" and is_encoded(headers):
                response.close()
                encoding = self.secrets.shown(headers["Content-Encoding"], 80)
                said = f"answered in the encoding {encoding!r}, which was not asked for"
                raise no_broker(f"{method} {address}", said, self.address, status)
            body = b"" if is_stream or status // 100 == 3 else self._body(response)
        logger.debug(
            "%s %s: %d in %.3f s",
            method,
            shown(address) if is_elsewhere else address,
            status,
            time.monotonic() - started,
        )
        return Reply(status, headers, body, response, allowance, is_elsewhere)

    def _body(self, response: requests.Response) -> bytes:
        """Read the body of an answer, or as much of that of a refusal as is worth telling."""
        is_refusal = response.status_code >= 400
        most = ERROR_BODY_BYTES if is_refusal else MOST_BYTES
        body = bytearray()
        try:
            while len(body) <= most and (piece := _read(response)):
                body += piece
        except (urllib3.exceptions.HTTPError, OSError) as err:
            if not is_refusal:
                is_late = any(
                    isinstance(cause, TimeoutError) for cause in connection_errors.causes_of(err)
                )
                late, lost = requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError
                raise (late if is_late else lost)(connection_errors.words_of(err)) from err
            # The status alone tells enough, and it is what the caller acts on.
        finally:
            response.close()
        if len(body) > most and not is_refusal:
            msg = f"{response.request.method} {response.url} goes on for more than {most >> 20} MiB"
            raise requests.exceptions.ConnectionError(msg) from TooLongError(msg)
        return bytes(body[:most])

    def _retry_or_raise(
        self, asked: str, address: str, err: requests.exceptions.RequestException, tries: Tries
    ) -> None:
        kind = kind_of_fault(err)
        if kind == "proxy":
            raise self._refused_by_proxy(asked, address) from err
        if kind == "nobody there" and self._is_expected_there:
            # A gateway that restarts, or a worker that starts before the network is up.
            kind = "connection"
        if not tries.again(kind, type(err).__name__):
            said = self.secrets.shown(connection_errors.words_of(err))
            count, given_up = tries.count(kind), tries.given_up
            raise no_answer(asked, kind, count, said, given_up=given_up) from err

    def _patience(self) -> Patience:
        return Patience(self.settings.max_wait, self.monotonic, self.sleep, self.jitter)

    def _refused_by_proxy(self, asked: str, address: str, reply: Reply | None = None) -> HDAError:
        proxies = proxies_for(address)
        merged = self._http.merge_environment_settings(address, proxies, None, None, None)
        proxy = requests.utils.select_proxy(address, merged["proxies"])
        # A page of the proxy's says nothing more.
        problem = None if reply is None else self._explain(reply, secrets_of_proxy(proxy or ""))
        said = "" if problem is None or problem.is_page else problem.text
        return refused_by_proxy(asked, proxy and shown_proxy(proxy), said)

    def _explain(self, reply: Reply, more_secrets: Collection[str] = ()) -> Problem:
        """Say what an answer says, without the secrets that it may quote, and close it."""
        body = b"" if is_encoded(reply.headers) else reply.body or self._body(reply.response)
        reply.response.close()
        secrets = (*self.secrets.masked, *more_secrets)
        return parse_problem(reply.status, body[:ERROR_BODY_BYTES], secrets)

    def _post_plain(
        self,
        url: str,
        *,
        body: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, Any]]:
        patience = self._patience()
        tries = Tries(f"POST {url}", patience)
        while True:
            reply = self._send("POST", url, json=body, data=form, is_login=True, patience=patience)
            try:
                payload = read_json(reply.body)
            except (ValueError, RecursionError) as err:
                if reply.status != 200:
                    return reply.status, {}
                kind = "connection" if reply.is_cut else "not JSON"
                problem = self._explain(reply)
                if tries.again(kind, "an answer that is no JSON", is_final=problem.is_page):
                    continue
                # Half of an answer may hold a whole token, so only a page is quoted.
                said = f"a web page ({problem.text!r})" if problem.is_page else "broken JSON"
                said, given_up = f"answered {said}", tries.given_up
                raise no_broker(f"POST {url}", said, self.address, 200, given_up=given_up) from err
            return reply.status, payload if isinstance(payload, Mapping) else {}


def kind_of_fault(err: requests.exceptions.RequestException) -> str:
    """Return which of the faults without an answer this is, by the names of :data:`RETRIES`.

    "nobody there" is an address where no broker is: the connection was refused, or the host is not
    known. "proxy" is one that wants a password, and "not HTTP" what came in the place of an answer.
    Whatever was lost on the way or in the middle is a "connection".
    """
    if isinstance(err, requests.exceptions.SSLError):
        # The other side hung up in the middle of the handshake: nothing is wrong with it.
        return "connection" if connection_errors.is_handshake_cut(err) else "TLS"
    kind = connection_errors.kind_beneath(err)
    if kind in {"proxy", "too long"}:
        return kind
    if isinstance(err, requests.exceptions.Timeout):
        return "timeout"
    lost = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)
    return kind if isinstance(err, lost) else "address"  # one that cannot be used


def _read(response: requests.Response) -> bytes:
    # iter_content would collect a whole piece first, and lose what it has of it when the body
    # breaks off: over a slow, shaky line nothing would ever be kept.
    return response.raw.read1(_PIECE_BYTES, decode_content=False) or b""
