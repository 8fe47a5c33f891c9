"""Every answer has an end, in time and in bytes, whatever a service sends and wherever it does."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_broker import RawBroker, for_ever, head, json_answer
from rows import for_each

from hda_fsspec.emulator import Emulator, Fault
from hda_fsspec.errors import BrokerError, DownloadError, HDAError
from hda_fsspec.network import response_limits
from hda_fsspec.network.response_limits import Allowance, TooLongError
from hda_fsspec.network.session import Session
from hda_fsspec.settings import Settings

#: Longer than any real wait here; what takes long takes it by the clock of the test.
TIMEOUT = 20.0


class Clock:
    """Goes on by a little whenever somebody looks at it, as if the bytes took so long to come."""

    def __init__(self, step: float = 8.0) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        """Return the time."""
        self.now += self.step
        return self.now


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hda_fsspec.fetching.transfer._FIRST_DELAY_SECONDS", 0.0)


@pytest.fixture
def connect() -> Iterator[Callable[..., Session]]:
    """Return a function from settings to a session whose time is not real."""
    sessions: list[Session] = []

    def connect(given: dict[str, Any], **more: Any) -> Session:
        more = {"monotonic": Clock(), "sleep": lambda _: None, **more}
        settings = Settings.resolve(**{"timeout": TIMEOUT, **given})
        sessions.append(Session(settings, jitter=lambda: 1.0, **more))
        return sessions[-1]

    yield connect
    for session in sessions:
        session.close()


def _drip_in_chunks() -> Iterator[bytes]:
    yield head(Transfer_Encoding="chunked")
    yield from for_ever(b"1\r\n \r\n")


def _started(begin: bytes, piece: bytes) -> Iterable[bytes]:
    yield begin
    yield from for_ever(piece)


#: Answers that would go on for ever, each in another part of what an answer is.
ENDLESS: dict[str, Callable[[], Iterable[bytes]]] = {
    "body": lambda: _started(head(), b" " * 65_536),
    "body of a length": lambda: _started(head(Content_Length=str(10**15)), b" " * 65_536),
    "body of an error": lambda: _started(head(500), b"x" * 100),
    "chunks": _drip_in_chunks,
    "size of a chunk": lambda: _started(head(Transfer_Encoding="chunked"), b"0" * 100),
    "trailers": lambda: _started(
        head(Transfer_Encoding="chunked") + b"2\r\n{}\r\n0\r\n", b"X-Trailer: yes\r\n"
    ),
    "status line": lambda: _started(b"HTTP/1.1 200 ", b"O" * 100),
    "headers": lambda: _started(b"HTTP/1.1 200 OK\r\n", b"X-Header: yes\r\n"),
    "one header": lambda: _started(b"HTTP/1.1 200 OK\r\nX-Header: ", b"y" * 100),
    "go on": lambda: for_ever(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "hints": lambda: for_ever(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "headers of hints": lambda: _started(b"HTTP/1.1 103 Early Hints\r\n", b"Link: </a>\r\n"),
}


def _read_file(session: Session) -> int:
    with session.stream("dataaccess/download/abc", headers={}) as (_, pieces):
        # What has no end but is quick is for the room that there is to end.
        return sum(len(piece) for piece, _ in zip(pieces, range(200), strict=False))


OF_FILES = {"body", "body of a length"}
IN_BODIES = {"body", "body of a length", "chunks", "size of a chunk", "trailers"}
CALLS: dict[str, Callable[[Session], Any]] = {
    "json": lambda session: session.json("GET", "datasets"),
    "put": lambda session: session.put("termsaccepted/t", {}),
    "head": lambda session: session.head("dataaccess/download/abc"),
    "order": lambda session: session.order("dataaccess/download", {"product_id": "p"}),
    "file": _read_file,
}


@pytest.mark.slow
@for_each(
    ("part", "call"),
    # All calls are read by the same code, but for files: each part of an answer to two or three.
    # Whether chunks of one byte are too slow for a file is told by how many come at one time.
    [
        (part, call)
        for number, part in enumerate(ENDLESS)
        for turn, call in enumerate(CALLS)
        if (number + turn) % 2 == 0 and (part, call) != ("chunks", "file")
    ],
)
def test_an_answer_that_goes_on_is_given_up(
    part: str, call: str, connect: Callable[..., Session]
) -> None:
    """Wherever bytes keep coming, each try ends, and after a few the error says what was asked."""
    # The answer to a HEAD has no body, whatever comes; that of a file is for the room to end.
    is_harmless = (call == "head" and part in IN_BODIES) or (call == "file" and part in OF_FILES)
    with RawBroker(lambda _method, _path: ENDLESS[part]()) as broker:
        session = connect(broker.settings)
        if is_harmless:
            assert CALLS[call](session)
        else:
            with pytest.raises(BrokerError) as caught:
                CALLS[call](session)
            assert broker.url in str(caught.value)

    # A login, and as many tries as a lost connection and a silent one have together.
    assert len(broker.asked) <= 1 + 10 + 2


@pytest.mark.slow
def test_an_answer_has_a_time_for_all_of_it(connect: Callable[..., Session]) -> None:
    """A byte now and then keeps nobody waiting: three time-outs are enough for a whole answer."""
    clock = Clock(4.0)
    with RawBroker(lambda *_: _drip_in_chunks()) as broker:
        session = connect(broker.settings, monotonic=clock)
        session.log_in()
        began = clock.now
        with pytest.raises(BrokerError, match=r"in 3 tries: .* did not end within 60 s"):
            session.json("GET", "datasets")

    # Three tries of three time-outs, and as long again for looking at the clock.
    assert clock.now - began <= 3 * 2 * (response_limits.TIMEOUTS_PER_ANSWER * TIMEOUT + 8)


@pytest.mark.slow
def test_a_login_has_an_end_too(connect: Callable[..., Session]) -> None:
    """The same holds before there is a token."""
    deaf = RawBroker(lambda *_: _drip_in_chunks(), logs_in=False)
    with deaf as broker, pytest.raises(BrokerError, match="did not end within 60 s"):
        connect(broker.settings).log_in()


def test_what_is_quick_and_too_long_is_given_up_at_once(
    connect: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer larger than any is not asked for again: it would be no smaller."""
    monkeypatch.setattr("hda_fsspec.network.session.MOST_BYTES", 1 << 20)
    with RawBroker(lambda *_: _started(head(), b"[" * 65_536)) as broker:
        with pytest.raises(BrokerError, match="more than 1 MiB"):
            connect(broker.settings, monotonic=lambda: 0.0).json("GET", "datasets")

        assert len(broker.asked) == 2
    assert broker.sent_bytes < 32 << 20


def test_the_longest_answer_that_is_read() -> None:
    """The list of all data sets fits twice, with abstracts of 20 kB each."""
    assert response_limits.MOST_BYTES > 2 * 1_400 * 20_000


@pytest.mark.slow
@for_each(
    ("encoding", "call"),
    [
        *((e, "json") for e in ("gzip", "x-gzip", "deflate", "br", "gzip, identity", "GZIP")),
        *(("gzip", call) for call in ("order", "put", "file")),
    ],
)
def test_an_encoding_that_was_not_asked_for(
    encoding: str, call: str, connect: Callable[..., Session]
) -> None:
    """A few bytes of compression can be all the memory there is: none is unpacked."""
    packed = gzip.compress(json.dumps({"features": []}).encode() + b" " * 1_000_000)
    answer = [head(Content_Encoding=encoding, Content_Length=str(len(packed))) + packed]
    with RawBroker(lambda *_: answer) as broker:
        with pytest.raises(BrokerError, match=r"encoding .* not asked for") as caught:
            CALLS[call](connect(broker.settings))

        assert len(broker.asked) == 2
    assert caught.value.status == 200


def test_an_encoded_refusal_is_told_by_its_status(connect: Callable[..., Session]) -> None:
    """What an error says in an encoding is not read; its status is enough."""
    packed = gzip.compress(b'{"detail": "no"}')
    answer = [head(404, Content_Encoding="gzip", Content_Length=str(len(packed))) + packed]
    with RawBroker(lambda *_: answer) as broker, pytest.raises(BrokerError) as caught:
        CALLS["json"](connect(broker.settings))

    assert str(caught.value).endswith("answered 404.")


def test_what_comes_before_an_answer_is_passed_over(connect: Callable[..., Session]) -> None:
    """Hints that a gateway sends first are not taken for the answer."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + b"HTTP/1.1 100 Continue\r\n\r\n"
    with RawBroker(lambda *_: [hints, *json_answer({"features": [1]})]) as broker:
        assert connect(broker.settings).json("GET", "datasets") == {"features": [1]}


def test_a_slow_file_is_no_stalled_one() -> None:
    """A stream may take any time, as long as it brings 100 bytes a second."""
    clock = Clock(0.0)
    allowance = Allowance(1.0, clock=clock)

    def wait_and_read() -> int:
        clock.now += 0.9
        return 90

    allowance.begin_stream()
    for _ in range(1000):
        allowance.arrived(allowance.read(wait_and_read, lambda _: None))
    for _ in range(3):
        allowance.read(wait_and_read, lambda _: None)
    clock.now += 1
    allowance.read(wait_and_read, lambda _: None)
    with pytest.raises(TimeoutError, match="within 3 s"):
        allowance.read(wait_and_read, lambda _: None)


def test_time_is_counted_where_bytes_are_waited_for() -> None:
    """Whoever is slow to write what came, or stopped for a night, does not lose the rest."""
    clock = Clock(0.0)
    allowance = Allowance(1.0, clock=clock)
    allowance.begin_stream()
    for _ in range(100):
        allowance.read(lambda: 1, lambda _: None)
        clock.now += 3600


def test_the_wait_for_a_byte_is_no_longer_than_what_is_left() -> None:
    """The socket's time-out shrinks to the rest of the time that the answer has."""
    clock, waits = Clock(0.0), list[float]()
    allowance = Allowance(1.0, clock=clock)

    def wait_and_read() -> int:
        clock.now += 0.8
        return 1

    for _ in range(4):
        allowance.read(wait_and_read, waits.append)

    assert waits == pytest.approx([1.0, 1.0, 1.0, 0.6])


def test_a_wait_that_the_answer_has_no_more_time_for_says_so() -> None:
    """It is the whole of the answer that is late then, and not the next byte."""
    clock = Clock(0.0)
    allowance = Allowance(1.0, clock=clock)

    def wait(seconds: float) -> int:
        clock.now += seconds
        raise TimeoutError

    allowance.read(lambda: 1, lambda _: None)
    with pytest.raises(TimeoutError, match=r"^$"):
        allowance.read(lambda: wait(1.0), lambda _: None)
    for _ in range(2):
        clock.step = 0.625
        allowance.read(lambda: 1, lambda _: None)
        clock.step = 0.0
    with pytest.raises(response_limits.LateError, match="within 3 s"):
        allowance.read(lambda: wait(1.75), lambda _: None)


def test_framing_without_content_is_counted() -> None:
    """Bytes that are no body have a bound of their own, however quickly they come."""
    allowance = Allowance(1.0, clock=lambda: 0.0)
    allowance.begin_stream()
    for _ in range(1000):
        allowance.read(lambda: 1 << 20, lambda _: None)
        allowance.arrived(1 << 20)
    for _ in range(1000 * 15 + 16):
        allowance.read(lambda: 1 << 20, lambda _: None)
    with pytest.raises(TooLongError):
        allowance.read(lambda: 1, lambda _: None)


@pytest.fixture
def elsewhere() -> Iterator[Callable[[Iterable[bytes]], str]]:
    """Return a function that serves bytes, to which downloads can be led, and returns where."""
    servers: list[RawBroker] = []

    def serve(answer: Callable[[], Iterable[bytes]]) -> str:
        servers.append(RawBroker(lambda *_: answer()).__enter__())
        return servers[-1].url

    yield serve  # type: ignore[misc]
    for server in servers:
        server.__exit__()


def _led_to(bench: Any, url: str, **options: Any) -> Emulator:
    emulator: Emulator = bench.start(days=1, **options)
    emulator.fault(Fault("redirect", value=url, times=None))
    return emulator


def _held_bytes(bench: Any) -> int:
    return sum(path.stat().st_size for path in Path(bench.cache_dir).rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("framing", ["close", "chunked"])
def test_a_file_without_end_stops_at_the_bound(bench: Any, elsewhere: Any, framing: str) -> None:
    """A body whose end nobody knows is given up at ``cache_max_bytes``, and nothing stays."""
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    bodies = {
        "close": lambda: _started(head(), b"x" * 65_536),
        "chunked": lambda: _started(head(Transfer_Encoding="chunked"), chunk),
    }
    emulator = _led_to(bench, elsewhere(bodies[framing]))
    fs = bench.filesystem(emulator, cache_max_bytes=3_000_000)
    largest = 0

    def watch(*_: Any) -> None:
        nonlocal largest
        largest = max(largest, _held_bytes(bench))

    staging = "hda_fsspec.cache.staging.Staging.settle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, watch)
        patch.setattr("hda_fsspec.fetching.transfer._SETTLED_BYTES", 1)
        with pytest.raises(DownloadError, match="cache_max_bytes") as caught:
            fs.cat(bench.path(1))

    assert caught.value.received is not None
    assert 1_000_000 < caught.value.received <= 3_000_000
    assert 1_000_000 < largest <= 3_100_000
    assert _held_bytes(bench) < 100_000


@pytest.mark.parametrize("told", [None, 10**15])
def test_a_file_without_end_stops_at_the_room_of_the_disk(
    bench: Any, elsewhere: Any, told: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no bound it is the disk that ends it, and what is in the cache stays there."""
    length = {} if told is None else {"Content_Length": str(told)}
    emulator = bench.start(days=2)
    fs = bench.filesystem(emulator, cache_max_bytes=None)
    assert fs.cat(bench.path(2))
    emulator.fault(
        Fault(
            "redirect", value=elsewhere(lambda: _started(head(**length), b"x" * 65_536)), times=None
        )
    )
    monkeypatch.setattr(
        fs._client.cache._room, "_free_bytes", lambda _: 20_000_000 - _held_bytes(bench)
    )

    with pytest.raises(OSError, match=r"bytes free, and .* are needed"):
        fs.cat(bench.path(1))

    assert _held_bytes(bench) < 100_000
    assert fs.cat(bench.path(2))
    assert emulator.orders == 2


def test_a_body_longer_than_was_told(bench: Any, elsewhere: Any) -> None:
    """What goes on after its length is no file: it is given up after a few tries."""
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    part = head(206, Transfer_Encoding="chunked", Content_Range="bytes 0-99/100")
    emulator = _led_to(bench, elsewhere(lambda: _started(part, chunk)))

    with pytest.raises(HDAError):
        bench.filesystem(emulator).cat(bench.path(1))

    assert _held_bytes(bench) < 100_000


@pytest.mark.slow
def test_a_file_of_one_byte_at_a_time_is_given_up(bench: Any, elsewhere: Any) -> None:
    """Tries that bring next to nothing are progress, but not without end."""
    body = bench.body(1, 100_000)
    asked: list[None] = []

    def one_more() -> Iterable[bytes]:
        asked.append(None)
        held = len(asked) - 1
        total = len(body)
        if not held:
            return [head(200, Content_Length=str(total), ETag='"a"') + body[:1]]
        where = f"bytes {held}-{total - 1}/{total}"
        left = str(total - held)
        return [
            head(206, Content_Length=left, Content_Range=where, ETag='"a"') + body[held : held + 1]
        ]

    emulator = _led_to(bench, elsewhere(one_more))
    with pytest.raises(DownloadError, match="broke off"):
        bench.filesystem(emulator).cat(bench.path(1))

    assert 100 < len(asked) < 120


def test_a_file_that_drips_is_given_up(bench: Any, elsewhere: Any) -> None:
    """Tries that bring a few bytes in a long time are no progress, however many there are."""
    asked: list[None] = []
    total = 1_000_000
    # A byte, and for a long time nothing but what says how long the next one is.
    drip = b"1;" + b"a" * 60_000 + b"\r\nx\r\n"

    def answer() -> Iterable[bytes]:
        asked.append(None)
        part = f"bytes 0-{total - 1}/{total}"
        return _started(head(Transfer_Encoding="chunked", Content_Range=part, ETag='"a"'), drip)

    emulator = _led_to(bench, elsewhere(answer))
    fs = bench.filesystem(emulator, timeout=TIMEOUT)
    fs._client._session.monotonic = Clock()

    with pytest.raises(DownloadError, match=r"broke off 6 times .* did not end within 60 s"):
        fs.cat(bench.path(1))
    assert len(asked) == 6
