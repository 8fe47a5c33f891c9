"""Proxies of the environment, which must not stand between us and this machine."""

from __future__ import annotations

import base64
import http.client
import http.server
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from raw_broker import RawBroker, json_answer

from hda_fsspec.errors import BrokerError
from hda_fsspec.network.session import Session
from hda_fsspec.settings import Settings


def test_no_proxy_stands_before_loopback(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator is reached directly, whatever proxy the environment names."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    emulator = bench.start(days=1)

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)


class Proxy(http.server.BaseHTTPRequestHandler):
    """Passes what it is asked for on to a broker of this machine, and keeps what it was told."""

    target = ("", 0)
    server_name = ""
    wants_password = False
    seen: ClassVar[list[tuple[str, bool]]] = []

    def _refuse(self) -> None:
        body = f"log in, {self.headers.get('Proxy-Authorization')} is wrong".encode()
        self.send_response(407)
        self.send_header("Proxy-Authenticate", "Basic")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    def _pass_on(self) -> None:
        if self.wants_password:
            self._refuse()
            return
        self.seen.append((f"{self.command} {self.path}", "Authorization" in self.headers))
        length = int(self.headers.get("Content-Length", 0))
        connection = http.client.HTTPConnection(*self.target)
        where = urlsplit(self.path)
        path = f"{where.path}?{where.query}" if where.query else where.path
        headers = {key: value for key, value in self.headers.items() if key != "Host"}
        connection.request(self.command, path, self.rfile.read(length), headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_POST = do_PUT = do_HEAD = _pass_on  # noqa: N815  (http.server's names)

    def do_CONNECT(self) -> None:
        """Refuse a tunnel."""
        self.seen.append((f"CONNECT {self.path}", "Authorization" in self.headers))
        self.send_error(407 if self.wants_password else 502)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Proxy]]:
    """Start a proxy on this machine, and name it in the environment."""
    Proxy.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    Proxy.wants_password = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    Proxy.server_name = f"127.0.0.1:{server.server_port}"
    yield Proxy
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_proxy_is_used(bench: Any, proxy: type[Proxy]) -> None:
    """A service that only the proxy can reach is searched, ordered from and downloaded from."""
    emulator = bench.start(days=1)
    address = urlsplit(emulator.storage_options["endpoint_url"])
    proxy.target = (str(address.hostname), int(address.port or 0))
    hidden = f"http://service.invalid{address.path}"

    fs = bench.filesystem(emulator, endpoint_url=hidden)

    assert fs.cat(bench.path(1)) == bench.body(1)
    assert emulator.orders == 1
    assert all("http://service.invalid/" in line for line, _ in proxy.seen)


def test_a_tunnel_is_told_no_token(
    bench: Any, proxy: type[Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For https the proxy is asked for a tunnel, without the token or the password."""
    monkeypatch.setattr("hda_fsspec.network.retries._FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr("hda_fsspec.network.retries._LONGEST_DELAY_SECONDS", 0.002)
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator, endpoint_url="https://service.invalid/hda-broker/")

    with pytest.raises(BrokerError):
        fs.cat(bench.path(1))

    assert proxy.seen
    assert {line for line, _ in proxy.seen} == {"CONNECT service.invalid:443"}
    assert not any(is_told for _, is_told in proxy.seen)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("password", ["", "p@ss%2Fword/1"])
def test_a_proxy_that_wants_a_password_is_told_as_that(
    bench: Any,
    proxy: type[Proxy],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    scheme: str,
    password: str,
) -> None:
    """At once, by its address without the password, and not as the credentials of the service."""
    proxy.wants_password = True
    account = f"me:{urllib.parse.quote(password, safe='')}@" if password else ""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://{account}{proxy.server_name}")
    waits: list[float] = []
    given = bench.settings(bench.start(), endpoint_url=f"{scheme}://service.invalid/hda-broker/")
    session = Session(Settings.resolve(**given), sleep=waits.append)

    with caplog.at_level("DEBUG"), pytest.raises(BrokerError, match="status 407") as caught:
        session.json("GET", "datasets")
    session.close()

    said = str(caught.value)
    assert f"the proxy http://{proxy.server_name}" in said
    assert "HTTPS_PROXY" in said
    assert "the account 'user'" not in said
    secret = base64.b64encode(f"me:{password}".encode()).decode().rstrip("=")
    for hidden in filter(None, (password, urllib.parse.quote(password, safe=""), secret)):
        assert not password or hidden not in said + caplog.text
    assert waits == []


def test_a_407_of_no_proxy_is_not_about_the_account() -> None:
    """A proxy on the way that nobody set is told as such."""
    with RawBroker(lambda *_: json_answer({"detail": "who are you?"}, 407)) as broker:
        session = Session(Settings.resolve(**broker.settings), sleep=lambda _: None)
        with pytest.raises(BrokerError, match=r"although none is set.*who are you\?"):
            session.json("GET", "datasets")
        session.close()
