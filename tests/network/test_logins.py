"""Logins and renewals over real sockets, and what is never sent or told on the way."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import subprocess
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from urllib3.exceptions import InsecureRequestWarning

from hda_fsspec.emulator import Emulator, Fault
from hda_fsspec.errors import AuthenticationError, BrokerError, HDAError
from hda_fsspec.network.session import Session
from hda_fsspec.settings import Settings

SECRET = 's3cr3t/with "quotes" & ü'


@pytest.fixture
def connect(bench: Any) -> Any:
    """Return a function from an emulator and settings to a session that waits for nothing."""
    sessions: list[Session] = []

    def connect(emulator: Emulator, **given: Any) -> Session:
        settings = Settings.resolve(**bench.settings(emulator, **given))
        sessions.append(Session(settings, sleep=lambda seconds: None, jitter=lambda: 1.0))
        return sessions[-1]

    yield connect
    for session in sessions:
        session.close()


def order(session: Session, dataset_id: str) -> str:
    """Order the first product, and return the path of its file."""
    found = session.json("POST", "dataaccess/search", body={"dataset_id": dataset_id})
    feature = found["features"][0]
    body = {"dataset_id": dataset_id, "product_id": feature["id"]}
    body |= {"location": feature["properties"]["location"]}
    return f"dataaccess/download/{session.order('dataaccess/download', body)['download_id']}"


def read(session: Session, path: str) -> bytes:
    """Get a file."""
    with session.stream(path, headers={}) as (_, pieces):
        return b"".join(pieces)


@pytest.mark.slow
@pytest.mark.parametrize("expired_status", [401, 403])
def test_an_expired_token_is_renewed_once_by_one_of_many_threads(
    bench: Any, connect: Any, expired_status: int
) -> None:
    """Sixteen threads whose token expired make one refresh, no login, and all get answers."""
    emulator = bench.start(expired_status=expired_status, latency_seconds=0.01)
    session = connect(emulator, max_connections=16)
    session.json("GET", "datasets")
    emulator.expire_tokens()
    barrier = threading.Barrier(16)

    def ask(_: int) -> Any:
        barrier.wait()
        return session.json("GET", "datasets")["features"]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(16)))
    assert (emulator.count("POST", "refreshtoken"), emulator.logins) == (1, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"token_endpoint": "identity"},
        {"token_endpoint": "broker"},
        {"token_endpoint": "both"},
        {"origins": ["eumetsat"]},
        {"origins": ["cmems"], "token_endpoint": "broker", "token_error_in_200": True},
    ],
)
def test_logins_at_the_emulator(bench: Any, connect: Any, options: dict[str, Any]) -> None:
    """At either endpoint and for partners' accounts a login works, and again without refresh."""
    emulator = bench.start(**options)
    session = connect(emulator)
    assert session.json("GET", "datasets")["features"]
    emulator.expire_tokens(refresh=True)
    assert session.json("GET", "datasets")["features"]
    assert emulator.logins == 2


@pytest.mark.parametrize("in_200", [True, False])
def test_a_wrong_password_at_the_emulator(bench: Any, connect: Any, in_200: bool) -> None:
    """A refused login is an AuthenticationError at once, and the right one works later."""
    emulator = bench.start(token_error_in_200=in_200)
    with pytest.raises(AuthenticationError, match="Invalid user credentials") as caught:
        connect(emulator, password="wr0ng-pass").json("GET", "datasets")

    assert "wr0ng-pass" not in str(caught.value)
    assert connect(emulator).json("GET", "datasets")


@pytest.mark.parametrize("fault", ["status", "html", "cut-json"])
def test_a_broken_refresh_is_followed_by_a_login(bench: Any, connect: Any, fault: str) -> None:
    """Where only the renewal is out of order, the password still opens the door."""
    emulator = bench.start()
    session = connect(emulator)
    session.json("GET", "datasets")
    emulator.fault(Fault(fault, path="refreshtoken", times=None))
    emulator.expire_tokens()

    assert session.json("GET", "datasets")["features"]
    assert emulator.logins == 2


def test_netrc_does_not_replace_the_token(
    bench: Any, connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of ~/.netrc for the host is used neither at first nor after a redirect."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login thief password taken\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    emulator = bench.start()
    session = connect(emulator)
    target = f"{emulator.url}api/v1/datasets/{bench.dataset}"
    emulator.fault(Fault("redirect", method="GET", path="datasets", value=target))

    assert session.json("GET", "datasets")["dataset_id"] == bench.dataset
    sent = [
        record.headers.get("Authorization") for record in emulator.log if "datasets" in record.path
    ]
    assert len(sent) == 2
    assert set(sent) <= set(emulator.tokens_issued)
    assert "Authorization" not in emulator.log[0].headers


def test_a_redirect_to_another_host_carries_no_credentials(
    bench: Any, connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files may lie elsewhere; the token and ~/.netrc stay here."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login thief password taken\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    emulator = bench.start(redirect_downloads_to="localhost")
    session = connect(emulator)

    assert read(session, order(session, bench.dataset)) == bench.body(1)
    elsewhere = emulator.log.where(lambda record: record.path.startswith("/files/"))
    assert len(elsewhere) == 1
    assert "Authorization" not in elsewhere[0].headers
    assert elsewhere[0].headers["Host"].startswith("localhost:")


@pytest.mark.parametrize("place", ["identity/gettoken", "gettoken", "refreshtoken"])
def test_a_redirected_login_posts_no_password_elsewhere(
    bench: Any, connect: Any, place: str
) -> None:
    """The library would post the body again to where a 307 points; a login must not follow."""
    emulator, other = bench.start(token_endpoint="both"), bench.start()
    session = connect(emulator)
    if place == "refreshtoken":
        session.json("GET", "datasets")
        emulator.expire_tokens()
    answer = emulator._broker.answer

    def redirect(request: Any, faults: Any) -> Any:
        got = answer(request, faults)
        if request.api == place:
            return type(got)(307, {"Location": other.url + "gettoken"})
        is_login = place != "refreshtoken" and request.api.endswith("gettoken")
        return type(got)(404) if is_login else got

    emulator._broker.answer = redirect
    if place == "refreshtoken":
        assert session.json("GET", "datasets")["features"]
    else:
        with pytest.raises(BrokerError, match="HDA_URL"):
            session.json("GET", "datasets")

    assert len(other.log) == 0


def test_headers_of_every_request(bench: Any, connect: Any) -> None:
    """No compression is asked for, and only the logins go without a token."""
    emulator = bench.start(polls=1)
    session = connect(emulator)
    path = order(session, bench.dataset)
    session.head(path)
    read(session, path)

    assert {record.headers["Accept-Encoding"] for record in emulator.log} == {"identity"}
    assert {record.headers["User-Agent"].partition("/")[0] for record in emulator.log} == {
        "hda_fsspec"
    }
    bare = [record.api for record in emulator.log if "Authorization" not in record.headers]
    assert bare == ["identity/gettoken"]


@pytest.mark.slow
def test_secrets_are_in_no_error_and_no_log(
    bench: Any, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the service quotes in its answers, no message or log line holds a secret."""
    caplog.set_level(logging.DEBUG)
    emulator = bench.start(password=SECRET, token_seconds=3600)
    session = connect(emulator)
    session.json("GET", "datasets")
    emulator.expire_tokens()
    session.json("GET", "datasets")
    token = emulator.tokens_issued[2]
    told: list[str] = []
    for body in (
        f"<html>{token} {SECRET}</html>",
        {"detail": f"Bearer {token}", "message": SECRET},
        {"detail": [{"msg": "bad", "loc": ["body"], "input": {"password": SECRET}}]},
        {"x" * 280: token},
        f"{'x' * 280} {token}",
    ):
        for status in (200, 400, 401, 429, 500):
            emulator.fault(Fault("status", path="terms", status=status, body=body, times=9))
            try:
                session.json("GET", "terms")
            except HDAError as err:
                told += [str(err), repr(err), str(err.__cause__)]
            emulator.clear_faults()
    for broken in ("{" + f'"access_token": "{token}", "pass": "{SECRET}"', [SECRET]):
        emulator.expire_tokens(refresh=True)
        emulator.fault(Fault("status", path="identity/gettoken", status=200, body=broken, times=4))
        with pytest.raises((AuthenticationError, BrokerError)) as caught:
            session.json("GET", "datasets")
        told.append(str(caught.value))
        emulator.clear_faults()

    assert len(told) > 40
    everything = "\n".join([*told, caplog.text, repr(session)])
    assert [secret for secret in emulator.tokens_issued if secret in everything] == []
    assert token[:18] not in everything
    assert SECRET not in everything
    assert "s3cr3t" not in everything
    assert "urllib3" in caplog.text


@pytest.fixture
def tls_address(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve TLS with a certificate that nobody vouches for; yield address and certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is absent, and makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout", str(key)]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def serve() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                    with context.wrap_socket(plain, server_side=True) as connection:
                        # All of it: closing with bytes unread would reset the connection.
                        request = connection.makefile("rb")
                        length = 0
                        while (line := request.readline().lower()).strip():
                            if line.startswith(b"content-length:"):
                                length = int(line.partition(b":")[2])
                        request.read(length)
                        connection.sendall(
                            b"HTTP/1.1 404 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                        )
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/hda-broker/", certificate
        # A shutdown wakes the thread that waits for a connection; a close would not.
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_certificates(bench: Any, connect: Any, tls_address: tuple[str, Path]) -> None:
    """A certificate that nobody vouches for is told at once, with the setting; a bundle helps."""
    url, certificate = tls_address
    emulator = bench.start()
    with pytest.raises(BrokerError, match=r"in 1 try.*HDA_VERIFY"):
        connect(emulator, endpoint_url=url).json("GET", "datasets")
    with pytest.raises(BrokerError, match="address of a broker"):
        connect(emulator, endpoint_url=url, verify=certificate).json("GET", "datasets")


@pytest.mark.slow
def test_without_verification_there_is_one_notice(
    bench: Any, connect: Any, tls_address: tuple[str, Path]
) -> None:
    """That verify is False is told once, however many requests and sessions follow."""
    url, _ = tls_address
    emulator = bench.start()
    # As outside of tests: urllib3 has its own warning shown each time.
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            session = connect(emulator, endpoint_url=url, verify=False)
            for _ in range(3):
                with pytest.raises(BrokerError, match="address of a broker"):
                    session.json("GET", "datasets")

    assert [warning.category for warning in told] == [InsecureRequestWarning]
    assert url in str(told[0].message)
    assert "HDA_VERIFY" in str(told[0].message)


@pytest.mark.slow
def test_other_users_of_urllib3_keep_their_warnings(
    bench: Any, connect: Any, tls_address: tuple[str, Path]
) -> None:
    """Nothing is filtered for the process: a request that is not ours warns as ever."""
    url, _ = tls_address
    session = connect(bench.start(), endpoint_url=url, verify=False)
    with (
        pytest.warns(InsecureRequestWarning, match="verify is False"),
        pytest.raises(BrokerError),
    ):
        session.json("GET", "datasets")

    with pytest.warns(InsecureRequestWarning, match="Unverified HTTPS request"):
        requests.get(url, verify=False, timeout=5)
