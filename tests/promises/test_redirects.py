"""Where answers lead: files may be elsewhere, without the token; nothing else is followed there."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from raw_broker import TOKEN, RawBroker, head, json_answer
from rows import for_each

from hda_fsspec.emulator import Fault
from hda_fsspec.errors import AuthenticationError, BrokerError, HDAError
from hda_fsspec.network.redirects import (
    MOST_REDIRECTS,
    RedirectError,
    is_same_origin,
    next_address,
    shown,
    target_of,
)
from hda_fsspec.network.session import Session
from hda_fsspec.settings import Settings

HERE = "https://broker.example/api/v1/dataaccess/download/5"


@for_each(
    ("location", "target"),
    [
        ("/x", "https://broker.example/x"),
        ("6?a=b", "https://broker.example/api/v1/dataaccess/download/6?a=b"),
        ("?a=b", f"{HERE}?a=b"),
        ("//other.example/x", "https://other.example/x"),
        (" https://other.example/x#part ", "https://other.example/x"),
        ("https://other.example/a b/%20c", "https://other.example/a%20b/%20c"),
        ("https://other.example/\u00c3\u00a9", "https://other.example/%C3%A9"),
        ("https://[::1]:8080/x", "https://[::1]:8080/x"),
        ("HTTPS://other.example/?X-Sig=a%2Fb+c", "https://other.example/?X-Sig=a%2Fb+c"),
    ],
)
def test_what_a_location_means(location: str, target: str) -> None:
    """Relative, encoded or not: it is read as browsers read it."""
    assert target_of(HERE, location).replace("HTTPS", "https") == target


@for_each(
    "location",
    [
        "",
        " ",
        "http://[",
        "https://[::1",
        "https://other.example:99999999/",
        "https://other.example:x/",
        "https://",
        "https:///x",
        "https://user:password@other.example/",
        "file:///etc/passwd",
        "ftp://other.example/x",
        "javascript:alert(1)",
        "data:,x",
        "https://other.example/\x00",
        "https://other.example/\nSet-Cookie: x",
        "https://other.example\\@evil.example/",
        "https://other.example/" + "x" * 20_000,
        "http://other.example/x",
        "http://broker.example/x",
    ],
)
def test_what_is_gone_nowhere(location: str) -> None:
    """What is no address, no web address, or no longer encrypted, is refused in words."""
    with pytest.raises(RedirectError, match=r"^is "):
        target_of(HERE, location)
    assert len(shown(location)) <= 102


def test_one_server() -> None:
    """Scheme, host and port tell servers apart, however they are written."""
    assert is_same_origin("https://A.example/x", "https://a.example:443/y")
    assert is_same_origin("http://a.example./x", "http://a.example:80")
    for other in ("http://a.example", "https://b.example", "https://a.example:444"):
        assert not is_same_origin("https://a.example", other)


def test_encryption_may_begin_and_not_end() -> None:
    """From http to https is another server, where a file may be."""
    there = {"hops": 0, "method": "GET"}
    found = next_address("http://a/", 302, "https://a/", is_file=True, **there)  # type: ignore[arg-type]
    assert found == ("https://a/", True)
    with pytest.raises(RedirectError, match="not encrypted"):
        next_address("https://a/", 302, "http://a/", is_file=True, **there)  # type: ignore[arg-type]


@pytest.fixture
def connect() -> Iterator[Callable[..., Session]]:
    """Return a function from settings to a session that waits for nothing."""
    with contextlib.ExitStack() as stack:

        def connect(given: dict[str, Any]) -> Session:
            session = Session(Settings.resolve(timeout=60, **given), sleep=lambda _: None)
            stack.callback(session.close)
            return session

        yield connect


@pytest.fixture
def serve() -> Iterator[Callable[..., RawBroker]]:
    """Return a function that starts a server."""
    with contextlib.ExitStack() as stack:
        yield lambda answer: stack.enter_context(RawBroker(answer))


CALLS: dict[str, Callable[[Session], Any]] = {
    "GET": lambda session: session.json("GET", "datasets", params={"q": "x"}),
    "POST": lambda session: session.json("POST", "datasets", body={"q": "x"}),
    "PUT": lambda session: session.put("datasets", {}),
    "order": lambda session: session.order("datasets", {"product_id": "p"}),
}


@pytest.mark.slow
@for_each("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", CALLS)
def test_json_is_asked_for_nowhere_else(
    call: str, status: int, connect: Any, serve: Callable[..., RawBroker]
) -> None:
    """The error says where the answer leads, and the other server never hears of it."""
    stranger = serve(lambda *_: json_answer({"features": []}))
    broker = serve(
        lambda *_: [head(status, Location=f"{stranger.url}x?secret=1", Content_Length="0")]
    )
    with pytest.raises(
        BrokerError, match=r"a redirect to http://127\.0\.0\.1:\d+, which is another"
    ) as caught:
        CALLS[call](connect(broker.settings))

    assert stranger.url.partition("/hda")[0] in str(caught.value)
    assert caught.value.status == status
    assert stranger.asked == []
    assert len(broker.asked) == 2


def test_json_may_lie_elsewhere_at_the_same_server(
    connect: Any, serve: Callable[..., RawBroker]
) -> None:
    """A gateway that corrects an address is followed, with what was asked and with the token."""

    def answer(method: str, path: str) -> Iterable[bytes]:
        if path.startswith("datasets"):
            return [head(307, Location="../v1/others/?b=c", Content_Length="0")]
        return json_answer([method, path])

    broker = serve(answer)
    assert connect(broker.settings).json("POST", "datasets", body={}) == ["POST", "others/?b=c"]
    assert connect(broker.settings).json("GET", "datasets", params={"q": "x"}) == [
        "GET",
        "others/?b=c",
    ]
    assert {h["Authorization"] for h in broker.headers_of("others/?b=c")} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("status", [301, 302, 303])
def test_what_was_sent_is_not_dropped(
    status: int, connect: Any, serve: Callable[..., RawBroker]
) -> None:
    """Libraries make a GET of a POST then, which asks for something else: it is an error."""
    broker = serve(lambda *_: [head(status, Location="others", Content_Length="0")])
    with pytest.raises(BrokerError, match="without what was sent"):
        CALLS["POST"](connect(broker.settings))

    assert broker.headers_of("others") == []


def read(session: Session) -> bytes:
    """Return the file."""
    with session.stream("dataaccess/download/5", headers={"Range": "bytes=1-"}) as (_, pieces):
        return b"".join(pieces)


def test_a_file_elsewhere(
    connect: Any, serve: Callable[..., RawBroker], caplog: pytest.LogCaptureFixture
) -> None:
    """It is fetched without token and cookie, and the log says where, but not with which key."""
    stranger = serve(lambda *_: [head(Content_Length="3") + b"abc"])
    broker = serve(
        lambda *_: [
            head(
                302,
                Location=f"{stranger.url}file?X-Signature=a-key",
                Set_Cookie="session=as-good-as-a-token",
                Content_Length="0",
            )
        ]
    )
    session = connect(broker.settings)
    with caplog.at_level(logging.DEBUG, logger="hda_fsspec"):
        assert read(session) == b"abc"
        assert read(session) == b"abc"

    (_, path, sent), _ = stranger.asked
    assert path.endswith("/file?X-Signature=a-key")
    assert sent["Range"] == "bytes=1-"
    assert {"Authorization", "Cookie"} & set(sent) == set()
    where = stranger.url.partition("/hda")[0]
    assert f"leads to {where}: it is fetched there, without the token" in caplog.text
    assert "a-key" not in caplog.text


def test_who_leads_back_gets_no_token_either(connect: Any, serve: Callable[..., RawBroker]) -> None:
    """A stranger does not get the broker to answer him in our name."""
    brokers: list[RawBroker] = []
    stranger = serve(
        lambda *_: [head(302, Location=f"{brokers[0].url}api/v1/me", Content_Length="0")]
    )

    def answer(_method: str, path: str) -> Iterable[bytes]:
        if path == "me":
            return [head(Content_Length="3") + b"abc"]
        return [head(302, Location=f"{stranger.url}x", Content_Length="0")]

    brokers.append(serve(answer))
    assert read(connect(brokers[0].settings)) == b"abc"

    assert [("Authorization" in sent) for sent in brokers[0].headers_of("me")] == [False]


@pytest.mark.parametrize("is_same", [True, False])
def test_addresses_in_a_circle(
    is_same: bool, connect: Any, serve: Callable[..., RawBroker]
) -> None:
    """Whoever leads on and on is left after a few."""
    count = 0

    def answer(*_: str) -> Iterable[bytes]:
        nonlocal count
        count += 1
        return [head(302, Location=f"/{'x' * count}", Content_Length="0")]

    stranger = serve(answer)
    broker = serve(
        answer if is_same else lambda *_: [head(302, Location=stranger.url, Content_Length="0")]
    )
    with pytest.raises(BrokerError, match="in a row"):
        read(connect(broker.settings))

    assert len(broker.asked) + len(stranger.asked) == 1 + MOST_REDIRECTS + 1


@pytest.mark.parametrize("status", [401, 403])
def test_an_expired_address_elsewhere(
    status: int, connect: Any, serve: Callable[..., RawBroker]
) -> None:
    """The broker is asked once more where the file is; the token is not blamed."""
    left = [status, status]

    def answer_elsewhere(*_: str) -> Iterable[bytes]:
        if left:
            return json_answer({"detail": "expired"}, left.pop())
        return [head(Content_Length="3") + b"abc"]

    stranger = serve(answer_elsewhere)
    broker = serve(lambda *_: [head(302, Location=f"{stranger.url}x?key=5", Content_Length="0")])
    with pytest.raises(BrokerError, match="expired") as caught:
        read(connect(broker.settings))
    assert not isinstance(caught.value, AuthenticationError)
    assert "key=5" not in str(caught.value)
    assert read(connect(broker.settings)) == b"abc"
    assert [path for _, path, _ in broker.asked if "token" in path] == ["/identity/gettoken"] * 2


def test_the_quota_of_others_is_not_ours(bench: Any, serve: Callable[..., RawBroker]) -> None:
    """What another server says of a quota is not taken for the broker's word."""
    body = bench.body(1)
    told = {"X_Quota_Remaining": "0", "X_Quota_Limit": "1", "X_Quota_Reset": "4000000000"}
    stranger = serve(lambda *_: [head(Content_Length=str(len(body)), **told) + body])
    emulator = bench.start(days=2)
    emulator.fault(Fault("redirect", value=stranger.url))
    fs = bench.filesystem(emulator, on_quota="raise")

    assert fs.cat(bench.path(1)) == body
    assert fs.cat(bench.path(2)) == bench.body(2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "location",
    ["", "http://[", "http://x:99999999/", "\udcff\udcfe", "file:///etc/passwd", "http:///"],
)
def test_a_malformed_location_is_told(bench: Any, location: str) -> None:
    """It is an error of ours that names the product or the address, for files and for JSON."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator)
    emulator.fault(Fault("redirect", value=location, times=None))
    with pytest.raises(HDAError, match="a redirect to"):
        fs.cat(bench.path(1))
    emulator.clear_faults()
    emulator.fault(Fault("redirect", method="POST", path="dataaccess/search", value=location))
    with pytest.raises(BrokerError, match="a redirect to"):
        fs.ls(bench.query, refresh=True)
