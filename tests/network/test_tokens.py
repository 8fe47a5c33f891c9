"""The token of an account: got where the service gives it, renewed once for all threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from rows import for_each

from hda_fsspec.errors import (
    AuthenticationError,
    BrokerError,
    ConfigurationError,
    HDAError,
    QuotaError,
)
from hda_fsspec.network.tokens import Tokens

URL = "https://h.int/hda-broker/"
IDENTITY = "https://h.int/identity/gettoken"
OLDER = "https://h.int/hda-broker/gettoken"
REFRESH = "https://h.int/hda-broker/refreshtoken"
PASSWORD = 'p"ass\\word'

Reply = tuple[int, Mapping[str, Any]] | HDAError


class Service:
    """A service that gives numbered tokens, unless a script says otherwise."""

    def __init__(
        self, reply: Callable[[str, Mapping[str, str]], Reply | None] | None = None
    ) -> None:
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.now = 1000.0
        self.seconds = 0.0
        self.reply = reply or (lambda url, sent: None)
        self._lock = threading.Lock()

    def post(
        self,
        url: str,
        *,
        body: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, Any]]:
        """Answer a login or a renewal."""
        assert (body is None) == (url == REFRESH)
        assert (form is None) == (url != REFRESH)
        sent = dict(body or form or {})
        with self._lock:
            self.calls.append((url, sent))
            number = len(self.calls)
        time.sleep(self.seconds)
        reply = self.reply(url, sent)
        if isinstance(reply, HDAError):
            raise reply
        return reply or (200, self.pair(number))

    @staticmethod
    def pair(number: int, **more: Any) -> dict[str, Any]:
        """Return the answer of a login."""
        tokens = {"access_token": f"a{number}", "refresh_token": f"r{number}", "expires_in": 3600}
        return tokens | more

    def tokens(self, user: str | None = "me", password: str | None = PASSWORD) -> Tokens:
        """Return the tokens of an account at this service."""
        return Tokens(URL, user, password, self.post, clock=lambda: self.now)

    @property
    def places(self) -> list[str]:
        """Where was asked, with the origin where there was one."""
        return [
            url.removeprefix("https://h.int/") + (f" {sent['origin']}" if "origin" in sent else "")
            for url, sent in self.calls
        ]


def test_one_login_serves_until_shortly_before_its_end() -> None:
    """A token is used for its life but a minute, then renewed by a form with the refresh token."""
    service = Service()
    tokens = service.tokens()

    assert service.calls == []
    assert [tokens.current(), tokens.current()] == ["a1", "a1"]
    assert service.calls == [(IDENTITY, {"username": "me", "password": PASSWORD})]
    service.now += 3539
    assert tokens.current() == "a1"
    service.now += 2
    assert tokens.current() == "a2"
    assert service.calls[1:] == [
        (REFRESH, {"grant_type": "refresh_token", "refresh_token": "r1"}),
    ]


@for_each(
    ("expires_in", "usable"), [(10, 9), (None, 3540), ("5", 3540), (-1, 3540), (float("nan"), 3540)]
)
def test_odd_lives(expires_in: Any, usable: float) -> None:
    """A short life has a short margin; a life that is no number is the usual hour."""
    service = Service(lambda url, sent: (200, Service.pair(7, expires_in=expires_in)))
    tokens = service.tokens()
    tokens.current()
    service.now += usable - 0.5
    tokens.current()
    assert len(service.calls) == 1
    service.now += 1
    tokens.current()
    assert len(service.calls) == 2


@for_each("status", [301, 302, 307, 404, 405, 410, 501])
def test_the_older_endpoint_is_found_once(status: int) -> None:
    """Where identity is not there the older place is asked, and remembered for the next login."""
    service = Service(lambda url, sent: (status, {}) if url == IDENTITY else None)
    tokens = service.tokens()
    assert tokens.current() == "a2"
    service.reply = lambda url, sent: (400, {}) if url == REFRESH else None
    assert tokens.renew("a2") == "a4"

    assert service.places == [
        "identity/gettoken",
        "hda-broker/gettoken",
        "hda-broker/refreshtoken",
        "hda-broker/gettoken",
    ]


@for_each("refusal", [(401, {"detail": "no"}), (200, {"error": "invalid_grant"})])
@for_each("origin", ["eumetsat", "cmems"])
def test_federated_accounts(origin: str, refusal: Reply) -> None:
    """An account of a partner is tried without an origin first, and its origin is remembered."""
    service = Service(lambda url, sent: None if sent.get("origin") == origin else refusal)
    tokens = service.tokens()
    tokens.current()
    asked = ["identity/gettoken", "identity/gettoken eumetsat", "identity/gettoken cmems"]
    assert service.places == asked[: asked.index(f"identity/gettoken {origin}") + 1]

    service.calls.clear()
    service.reply = lambda url, sent: (403, {}) if url == REFRESH else None
    tokens.renew(tokens.current())
    assert service.places == ["hda-broker/refreshtoken", f"identity/gettoken {origin}"]


def test_a_wrong_password_is_asked_few_times() -> None:
    """Accounts are locked by many refusals: each place and origin is asked once, and no more."""
    service = Service(lambda url, sent: (200, {"error": "e", "error_description": "Invalid user"}))
    with pytest.raises(AuthenticationError, match=r"'me': status 200 Invalid user.*HDA_USER"):
        service.tokens().current()

    assert service.places == [
        "identity/gettoken",
        "identity/gettoken eumetsat",
        "identity/gettoken cmems",
        "hda-broker/gettoken",
    ]


def test_a_service_that_quotes_the_password_is_not_quoted() -> None:
    """FastAPI repeats in its refusal what it was sent; the message must not."""
    echo = {"detail": [{"loc": ["body"], "msg": "bad", "input": {"password": PASSWORD}}]}
    with pytest.raises(AuthenticationError) as caught:
        Service(lambda url, sent: (422, echo)).tokens().current()

    assert "422" in str(caught.value)
    assert "***" in str(caught.value)
    assert not any(form in str(caught.value) for form in (PASSWORD, repr(PASSWORD)[1:-1]))


def test_an_address_without_a_login() -> None:
    """Where neither place is there, the address is the fault, and not the account."""
    service = Service(lambda url, sent: (404, {}))
    with pytest.raises(BrokerError, match="HDA_URL") as caught:
        service.tokens().current()

    assert caught.value.status is None
    assert service.places == ["identity/gettoken", "hda-broker/gettoken"]


@for_each(("user", "password"), [(None, None), ("me", None), (None, "x"), ("", "x")])
def test_missing_credentials(user: str | None, password: str | None) -> None:
    """Without credentials nothing is sent, and the error says where to write them."""
    service = Service()
    with pytest.raises(ConfigurationError, match=r"HDA_USER and HDA_PASSWORD.*\.hdarc"):
        service.tokens(user, password).current()

    assert service.calls == []


@for_each("access", [None, "", 5, ["a"], "a b", "a\nb", "tökén", "a" * 9000])
def test_what_is_no_token(access: Any) -> None:
    """An answer without a token that can stand in a header is a refusal."""
    service = Service(lambda url, sent: (200, Service.pair(1, access_token=access)))

    with pytest.raises(AuthenticationError):
        service.tokens().current()


@for_each(
    "reply",
    [
        (400, {}),
        (403, {}),
        (401, {}),
        (200, {"error": "x"}),
        (200, {}),
        BrokerError("m", status=500),
    ],
)
def test_a_refused_refresh_is_followed_by_a_login(reply: Reply) -> None:
    """Whatever is wrong with the refresh token, the password still works."""
    service = Service(lambda url, sent: reply if url == REFRESH else None)
    tokens = service.tokens()

    assert tokens.renew(tokens.current()) == "a3"
    assert service.places[1:] == ["hda-broker/refreshtoken", "identity/gettoken"]


def test_without_a_refresh_token_a_login_follows() -> None:
    """An answer may hold no refresh token."""
    service = Service(lambda url, sent: (200, {"access_token": f"t{len(service.calls)}"}))
    tokens = service.tokens()

    assert [tokens.current(), tokens.renew("t1")] == ["t1", "t2"]
    assert service.places == ["identity/gettoken"] * 2


def test_a_service_that_cannot_be_reached_is_not_asked_twice() -> None:
    """If the refresh fails for want of a network, so would the login."""
    service = Service()
    tokens = service.tokens()
    tokens.current()
    service.reply = lambda url, sent: BrokerError("no answer")
    with pytest.raises(BrokerError, match="no answer"):
        tokens.renew("a1")

    assert service.places == ["identity/gettoken", "hda-broker/refreshtoken"]


def _all_at_once(work: Callable[[], Any], threads: int = 16) -> list[Any]:
    barrier = threading.Barrier(threads)

    def run() -> Any:
        barrier.wait()
        try:
            return work()
        except HDAError as err:
            return err

    with ThreadPoolExecutor(threads) as pool:
        return [future.result() for future in [pool.submit(run) for _ in range(threads)]]


def test_one_of_many_threads_renews() -> None:
    """Sixteen threads that saw one token refused make one renewal, and all get its token."""
    service = Service()
    service.seconds = 0.03
    tokens = service.tokens()

    assert set(_all_at_once(tokens.current)) == {"a1"}
    assert set(_all_at_once(lambda: tokens.renew("a1"))) == {"a2"}
    assert tokens.renew("a1") == "a2"
    assert service.places == ["identity/gettoken", "hda-broker/refreshtoken"]


class CountingLock:
    """A lock that tells when a number of threads have come for it."""

    expected = 8

    def __init__(self) -> None:
        self.all_came = threading.Event()
        self._came = 0
        self._lock = threading.Lock()
        self._count_lock = threading.Lock()

    def __enter__(self) -> None:
        with self._count_lock:
            self._came += 1
            if self._came == self.expected:
                self.all_came.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@for_each(
    ("reply", "kind", "calls"),
    [
        ((401, {"detail": "no"}), AuthenticationError, 4),
        (BrokerError("m", status=503), BrokerError, 1),
        (BrokerError("unreachable"), BrokerError, 1),
        (QuotaError("m", reset_at=5.0), QuotaError, 1),
    ],
)
def test_waiting_threads_share_a_failure(reply: Reply, kind: type[HDAError], calls: int) -> None:
    """Who waited for a login that failed does not repeat it; who comes later does."""
    queue = CountingLock()

    def when_all_wait(url: str, sent: Mapping[str, str]) -> Reply:
        assert queue.all_came.wait(10)
        return reply

    service = Service(when_all_wait)
    tokens = service.tokens()
    tokens._lock = queue  # type: ignore[assignment]
    found = _all_at_once(tokens.current, threads=queue.expected)

    assert {type(error) for error in found} == {kind}
    assert len({id(error) for error in found}) == len(found)
    assert {getattr(error, "reset_at", 5.0) for error in found} == {5.0}
    assert len(service.calls) == calls
    service.reply = lambda url, sent: None
    assert tokens.current() == f"a{calls + 1}"


def test_secrets_and_repr() -> None:
    """What must not be shown is known, and shown by no repr."""
    service = Service()
    tokens = service.tokens()
    assert tokens.secrets() == (PASSWORD,)
    tokens.current()

    assert tokens.secrets() == (PASSWORD, "a1", "r1")
    assert PASSWORD not in repr(tokens)
    assert "'a1'" not in repr(vars(tokens)["_token"])
    tokens.renew("a1")
    assert tokens.secrets() == (PASSWORD, "a1", "r1", "a2", "r2")
