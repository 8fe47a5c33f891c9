"""Requests over real sockets: what is retried, how often, how long, and what is told in the end."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from raw_broker import RawBroker
from rows import for_each

from hda_fsspec.emulator import Emulator, Fault
from hda_fsspec.errors import AuthenticationError, BrokerError, OfflineError, QuotaError
from hda_fsspec.network.session import Session
from hda_fsspec.settings import Settings


class FakeSleep:
    """Remembers the waits, and waits for none of them."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def __call__(self, seconds: float) -> None:
        """Wait."""
        self.waits.append(seconds)


@pytest.fixture
def sleep() -> FakeSleep:
    """Return a way to wait that takes no time."""
    return FakeSleep()


@pytest.fixture
def connect(bench: Any, sleep: FakeSleep) -> Any:
    """Return a function from an emulator and settings to a session with recorded waits."""
    sessions: list[Session] = []

    def connect(emulator: Emulator, **given: Any) -> Session:
        settings = Settings.resolve(**bench.settings(emulator, **given))
        session = Session(settings, sleep=sleep, clock=lambda: 1000.0, jitter=lambda: 1.0)
        sessions.append(session)
        return session

    yield connect
    for session in sessions:
        session.close()


CALLS: dict[str, Callable[[Session], Any]] = {
    "json": lambda session: session.json("GET", "datasets"),
    "search": lambda session: session.json("POST", "dataaccess/search", body={"dataset_id": "x"}),
    "head": lambda session: session.head("dataaccess/download/abc"),
    "order": lambda session: session.order("dataaccess/download", {"product_id": "p"}),
}
PLACES = {
    "json": ("GET", "datasets"),
    "search": ("POST", "dataaccess/search"),
    "head": ("HEAD", "dataaccess/download"),
    "order": ("POST", "dataaccess/download"),
}
GROWING = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0, 16.0]


@pytest.mark.slow
@for_each(("status", "retries"), [(408, 6), (500, 3), (502, 9), (503, 9), (504, 9)])
@for_each("call", sorted(CALLS))
def test_a_fault_that_stays_is_told_after_its_retries(
    bench: Any, connect: Any, sleep: FakeSleep, call: str, status: int, retries: int
) -> None:
    """Each status is asked again so often, with waits that double up to a bound, and no more."""
    sleep.waits.clear()
    emulator = bench.start()
    emulator.fault(
        Fault("status", method=PLACES[call][0], path=PLACES[call][1], status=status, times=None)
    )
    with pytest.raises(BrokerError) as caught:
        CALLS[call](connect(emulator))

    assert caught.value.status == status
    assert f"{PLACES[call][0]} {emulator.url}api/v1/{PLACES[call][1]}" in str(caught.value)
    assert emulator.count(*PLACES[call]) == retries + 1
    assert sleep.waits == GROWING[:retries]


@pytest.mark.parametrize("status", [400, 404, 409, 410, 422, 501])
def test_what_does_not_help_is_not_retried(
    bench: Any, connect: Any, sleep: FakeSleep, status: int
) -> None:
    """A refusal is told at once, in the service's words."""
    emulator = bench.start()
    emulator.fault(
        Fault("status", path="datasets", status=status, body={"detail": "no such thing"})
    )
    with pytest.raises(BrokerError, match="no such thing") as caught:
        connect(emulator).json("GET", "datasets")

    assert caught.value.status == status
    assert sleep.waits == []


@pytest.mark.parametrize("times", [1, 3])
def test_a_fault_that_passes_is_not_told(bench: Any, connect: Any, times: int) -> None:
    """After the retries that were needed the answer is the answer."""
    emulator = bench.start()
    emulator.fault(Fault("status", path="datasets", status=500, times=times))

    assert connect(emulator).json("GET", "datasets")["features"]
    assert emulator.count("GET", "datasets") == times + 1


def test_quota_of_other_calls_is_waited_for_and_of_orders_is_told(
    bench: Any, connect: Any, sleep: FakeSleep
) -> None:
    """A 429 is retried, but that of an order is for the caller, with the time of the reset."""
    emulator = bench.start(quota=0, quota_reset_unit="s")
    session = connect(emulator)
    emulator.fault(Fault("status", path="datasets", status=429, times=None))
    with pytest.raises(QuotaError):
        session.json("GET", "datasets")
    assert len(sleep.waits) == 6

    sleep.waits.clear()
    product = session.json("POST", "dataaccess/search", body={"dataset_id": bench.dataset})
    feature = product["features"][0]
    body = {"dataset_id": bench.dataset, "product_id": feature["id"]}
    with pytest.raises(QuotaError) as caught:
        session.order(
            "dataaccess/download", {**body, "location": feature["properties"]["location"]}
        )
    assert sleep.waits == []
    assert caught.value.reset_at is not None
    # By the clock of this session, however wrong that is.
    assert 0 < caught.value.reset_at - 1000.0 < 3700


def test_retry_after_is_honoured_up_to_a_minute(
    bench: Any, connect: Any, sleep: FakeSleep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's own wait counts where it is longer than ours, and not for longer than 60 s."""
    waits = iter(["7", "0", "3600", "garbage"])
    emulator = bench.start()
    answer = emulator._broker.answer

    def answers(request: Any, faults: Any) -> Any:
        got = answer(request, faults)
        return got.with_headers({"Retry-After": next(waits)}) if got.status == 503 else got

    monkeypatch.setattr(emulator._broker, "answer", answers)
    emulator.fault(Fault("status", path="datasets", status=503, times=4))
    connect(emulator).json("GET", "datasets")

    assert sleep.waits == [7.0, 1.0, 60.0, 4.0]


@pytest.mark.parametrize("asked", [None, "300", "4"])
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("place", ["datasets", "identity/gettoken"])
def test_retries_end_with_max_wait(
    bench: Any, monkeypatch: pytest.MonkeyPatch, place: str, status: int, asked: str | None
) -> None:
    """A request waits no longer in all, at once where the service wants more, and says so."""
    emulator = bench.start()
    answer = emulator._broker.answer

    def answers(request: Any, faults: Any) -> Any:
        got = answer(request, faults)
        return got.with_headers({"Retry-After": asked}) if asked and got.status == status else got

    monkeypatch.setattr(emulator._broker, "answer", answers)
    emulator.fault(Fault("status", path=place, status=status, times=None))
    now = [5.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    settings = Settings.resolve(**bench.settings(emulator, max_wait=5))
    session = Session(settings, sleep=sleep, monotonic=lambda: now[0], jitter=lambda: 1.0)
    with pytest.raises((BrokerError, QuotaError), match="max_wait is 5 s") as caught:
        session.json("GET", "datasets")
    session.close()

    assert now[0] - 5.0 == {None: 3.5, "300": 0.0, "4": 4.0}[asked]
    assert ("asks to wait for 300 s" in str(caught.value)) == (asked == "300")


@pytest.mark.parametrize("fault", [Fault("reset", times=None), Fault("cut-json", times=None)])
def test_faults_of_the_connection_end_with_max_wait(bench: Any, fault: Fault) -> None:
    """Also the time that the tries themselves take counts."""
    emulator = bench.start()
    emulator.fault(dataclasses.replace(fault, path="datasets"))
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds + 0.4  # what a try takes

    settings = Settings.resolve(**bench.settings(emulator, max_wait=1))
    session = Session(settings, sleep=sleep, monotonic=lambda: now[0], jitter=lambda: 1.0)
    with pytest.raises(BrokerError, match="max_wait is 1 s"):
        session.json("GET", "datasets")
    session.close()

    assert now[0] <= 1
    assert emulator.count("GET", "datasets") == 2


@for_each(
    "sent",
    [
        *(b"What is this?\r\n\r\n", bytes(range(256)), b"HTTP/1.1 abc OK\r\n\r\n", b"\n\n\n"),
        *(b"HTTP/1.1 99999 OK\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n{}", b"A" * 100_000),
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300 + b"\r\n{}",
    ],
)
@for_each("logs_in", [True, False])
def test_what_is_no_head_of_an_answer_is_told_after_its_retries(
    sleep: FakeSleep, sent: bytes, logs_in: bool
) -> None:
    """Garbage in the place of a status line is asked for again twice, for a login as well."""
    sleep.waits.clear()
    with RawBroker(lambda *_: [sent], logs_in=logs_in) as broker:
        session = Session(Settings.resolve(**broker.settings), sleep=sleep, jitter=lambda: 1.0)
        with pytest.raises(BrokerError, match="got no answer in 3 tries") as caught:
            session.json("GET", "datasets")
        session.close()

    assert caught.value.status is None
    assert str(caught.value).isprintable()
    assert sleep.waits == [0.5, 1.0]


@pytest.mark.parametrize("kind", ["html", "cut-json"])
@pytest.mark.parametrize("call", ["json", "search"])
def test_what_is_no_json_is_asked_for_again(
    bench: Any, connect: Any, sleep: FakeSleep, kind: str, call: str
) -> None:
    """A page or half an answer is retried twice, then told, with what came and the address."""
    emulator = bench.start()
    session = connect(emulator)
    body = {"dataset_id": bench.dataset}
    method, path = PLACES[call]
    emulator.fault(Fault(kind, method=method, path=path, times=2))
    assert session.json(method, path, body=body if call == "search" else None)["features"]
    assert sleep.waits == [0.5, 1.0]

    emulator.fault(Fault(kind, method=method, path=path, times=None))
    with pytest.raises(BrokerError, match="HDA_URL") as caught:
        session.json(method, path, body=body if call == "search" else None)
    assert ("a web page" in str(caught.value)) == (kind == "html")
    assert caught.value.status == 200


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "", "null,"])
def test_odd_json_is_told_too(bench: Any, connect: Any, text: str) -> None:
    """Nesting without end and numbers of thousands of digits are no JSON to us."""
    emulator = bench.start()
    emulator.fault(Fault("status", path="datasets", status=200, body=text, times=None))
    with pytest.raises(BrokerError, match="no JSON"):
        connect(emulator).json("GET", "datasets")


@pytest.mark.slow
def test_resets_and_hangs(bench: Any, connect: Any, sleep: FakeSleep) -> None:
    """A lost connection is retried nine times, silence two times, each with its own count."""
    emulator = bench.start()
    session = connect(emulator, timeout=1)
    session.json("GET", "datasets")
    emulator.fault(Fault("reset", path="datasets", times=9))
    emulator.fault(Fault("hang", path="datasets", seconds=4, times=2))
    assert session.json("GET", "datasets")
    assert sleep.waits == [*GROWING, 0.5, 1.0]

    sleep.waits.clear()
    emulator.fault(Fault("reset", path="datasets", times=None))
    with pytest.raises(BrokerError, match="in 10 tries") as caught:
        session.json("GET", "datasets")
    assert caught.value.status is None
    assert sleep.waits == GROWING
    emulator.clear_faults()
    emulator.fault(Fault("hang", path="datasets", seconds=4, times=None))
    with pytest.raises(BrokerError, match="in 3 tries"):
        session.json("GET", "datasets")


_LOST = {
    "reset": Fault("reset", times=None),
    "closed": Fault("closed", times=None),
    "reset in the head": Fault("cut-head", value="reset", times=None),
    "closed in the head": Fault("cut-head", times=None),
    "closed in the status line": Fault("cut-head", after_bytes=5, times=None),
    "closed after the status line": Fault("cut-head", after_bytes=17, times=None),
}


@pytest.mark.slow
@for_each(
    ("path", "times", "lost"),
    [
        *((path, 9, lost) for path in ("identity/gettoken", "datasets") for lost in _LOST),
        ("identity/gettoken", None, "reset"),
        ("datasets", None, "closed"),
    ],
)
def test_a_first_request_that_is_lost_is_retried_like_any_other(
    bench: Any, connect: Any, sleep: FakeSleep, path: str, times: int | None, lost: str
) -> None:
    """An address that takes a connection has somebody: the login and the first request go on."""
    sleep.waits.clear()
    emulator = bench.start()
    session = connect(emulator)
    emulator.fault(dataclasses.replace(_LOST[lost], path=path, times=times))

    if times is not None:
        assert session.json("GET", "datasets")["features"]
    else:
        with pytest.raises(BrokerError):
            session.json("GET", "datasets")

    assert len(emulator.log.where(lambda r: r.api == path)) == 10
    assert sleep.waits == GROWING


@pytest.mark.slow
def test_a_handshake_that_is_cut_is_retried(bench: Any, connect: Any, sleep: FakeSleep) -> None:
    """A gateway that hangs up in the middle of TLS is there; a wrong certificate never mends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def hang_up() -> None:
            for _ in range(10):
                connection, _address = server.accept()
                connection.recv(4096)
                connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        with pytest.raises(BrokerError, match="in 10 tries"):
            connect(bench.start(), endpoint_url=f"https://127.0.0.1:{port}/").json(
                "GET", "datasets"
            )
        thread.join()

    assert sleep.waits == GROWING


def unreachable(bench: Any) -> list[str]:
    """Return addresses where nobody is: a port that is closed, and a host that is not known."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [f"http://127.0.0.1:{port}/", "http://no-such-host.invalid/"]


def test_a_host_that_was_never_reached(bench: Any, connect: Any, sleep: FakeSleep) -> None:
    """A host that never answered is tried twice more: it is probably a wrong address."""
    for url in unreachable(bench):
        sleep.waits.clear()
        with pytest.raises(BrokerError, match=r"in 3 tries.*HDA_URL"):
            connect(bench.start(), endpoint_url=url).json("GET", "datasets")
        assert sleep.waits == [0.5, 1.0]


def test_a_host_that_is_expected_to_be_there(bench: Any, connect: Any, sleep: FakeSleep) -> None:
    """Where the address is known to be right it is retried like any other lost connection."""
    for url in unreachable(bench):
        sleep.waits.clear()
        session = connect(bench.start(), endpoint_url=url)
        session.expect_broker()
        with pytest.raises(BrokerError, match=r"in 10 tries.*HDA_URL"):
            session.json("GET", "datasets")
        assert sleep.waits == GROWING


def test_a_broker_that_goes_away(bench: Any, connect: Any, sleep: FakeSleep) -> None:
    """A gateway that answered once and is refused then is a gateway that restarts."""
    emulator = bench.start()
    session = connect(emulator)
    session.json("GET", "datasets")
    emulator.stop()

    with pytest.raises(BrokerError, match="in 10 tries"):
        session.json("GET", "datasets")


def test_a_token_that_is_refused_for_ever(bench: Any, connect: Any, sleep: FakeSleep) -> None:
    """After one renewal a refusal is told: it is not the token's fault."""
    for status in (401, 403):
        emulator = bench.start()
        emulator.fault(Fault("status", path="datasets", status=status, times=None))
        with pytest.raises(AuthenticationError, match="'user'"):
            connect(emulator).json("GET", "datasets")

        assert emulator.count("GET", "datasets") == 2
        assert emulator.count("POST", "refreshtoken") == 1
    assert sleep.waits == []


def test_a_refusal_inside_another_answer_is_no_credential_error(bench: Any, connect: Any) -> None:
    """The service behind the broker refuses the broker, not this account."""
    emulator = bench.start()
    body = {"status_code": 500, "detail": "401, message='Unauthorized', url='https://up.int'"}
    emulator.fault(Fault("status", path="datasets", status=500, body=body, times=None))
    with pytest.raises(BrokerError, match="Unauthorized"):
        connect(emulator).json("GET", "datasets")

    assert emulator.count("POST", "refreshtoken") == 0


def test_offline_never_touches_the_network(bench: Any, connect: Any) -> None:
    """Every kind of call is refused before a socket is opened."""
    emulator = bench.start()
    session = connect(emulator, offline=True)
    calls: dict[str, Callable[[Session], Any]] = {
        **CALLS,
        "put": lambda session: session.put("termsaccepted/t", {}),
        "stream": lambda session: next(session.stream("a", headers={}).gen),
    }
    for call in calls.values():
        with pytest.raises(OfflineError, match="HDA_OFFLINE"):
            call(session)

    assert len(emulator.log) == 0
    assert emulator.max_connections == 0


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 3])
def test_connections_are_bounded(bench: Any, connect: Any, limit: int) -> None:
    """However many threads ask, no more sockets are open than were allowed."""
    emulator = bench.start(latency_seconds=0.01)
    session = connect(emulator, max_connections=limit)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: session.json("GET", "datasets"), range(24)))

    assert emulator.max_connections <= limit
    assert emulator.logins == 1


def test_a_stream_that_is_left_gives_its_connection_back(bench: Any, connect: Any) -> None:
    """Leaving a body unread, and refusals of streams, do not use up the connections."""
    emulator = bench.start(size=3_000_000)
    session = connect(emulator, max_connections=1, timeout=5)
    found = session.json("POST", "dataaccess/search", body={"dataset_id": bench.dataset})
    feature = found["features"][0]
    body = {"dataset_id": bench.dataset, "product_id": feature["id"]}
    order = {**body, "location": feature["properties"]["location"]}
    path = f"dataaccess/download/{session.order('dataaccess/download', order)['download_id']}"
    for _ in range(3):
        with session.stream(path, headers={}) as (answer, pieces):
            assert answer.status == 200
            assert next(pieces)
        with pytest.raises(BrokerError), session.stream("dataaccess/download/no", headers={}):
            pass
        assert session.head(path).status == 200
        with session.stream("dataaccess/download/no", headers={}, accept={404}) as (answer, _rest):
            assert answer.status == 404


def test_a_body_that_breaks_off_is_told_by_its_pieces(bench: Any, connect: Any) -> None:
    """A cut in the middle of a stream is an error of the iterator, and not retried there."""
    emulator = bench.start(size=100_000)
    session = connect(emulator)
    found = session.json("POST", "dataaccess/search", body={"dataset_id": bench.dataset})
    feature = found["features"][0]
    body = {"dataset_id": bench.dataset, "product_id": feature["id"]}
    order = {**body, "location": feature["properties"]["location"]}
    path = f"dataaccess/download/{session.order('dataaccess/download', order)['download_id']}"
    for kind in ("cut", "reset"):
        emulator.fault(Fault(kind, after_bytes=500))
        with (
            session.stream(path, headers={}) as (_, pieces),
            pytest.raises(BrokerError, match="broke off"),
        ):
            list(pieces)

    assert emulator.count("GET", path) == 2
