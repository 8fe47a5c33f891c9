"""What answers a client with the bytes of a fuzzer: a session without a server, and a server."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import threading
from typing import Any

from hda_fsspec.network.redaction import Secrets
from hda_fsspec.network.responses import ResponseHead
from hda_fsspec.network.session import Session
from hda_fsspec.settings import Settings

TOKEN = "0c2f4e0a-4b0e-8f0e-1234567890ab"


class Answering:
    """A session whose every answer is the same JSON value."""

    address = "https://broker.invalid/"
    secrets = Secrets("secret", ("a token of this session",))

    def __init__(self, value: Any) -> None:
        self._value = value
        self._left = 50  # a service may give pages without end; a test may not

    def json(self, *_: object, **__: object) -> Any:
        """Answer with the value, and in the end with no items."""
        self._left -= 1
        return self._value if self._left > 0 else {"features": []}

    order = json

    def head(self, *_: object, **__: object) -> ResponseHead:
        """Answer as a service does that has no HEAD."""
        return ResponseHead(405, {})


class Wire:
    """A server on this machine that answers a login, and then the same bytes to everybody."""

    def __init__(self) -> None:
        self.data = b""
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        self.session = Session(
            Settings.resolve(
                endpoint_url=f"http://127.0.0.1:{self._server.getsockname()[1]}/",
                user="user",
                password="secret",
                timeout=5,
            ),
            sleep=lambda _: None,
        )

    def _serve(self) -> None:
        token = json.dumps({"access_token": TOKEN, "expires_in": 10**9}).encode()
        login = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(token) + token
        while True:
            connection, _ = self._server.accept()
            with connection, contextlib.suppress(OSError):
                asked = connection.recv(65_536)
                connection.sendall(login if b"gettoken" in asked[:200] else self.data)


@functools.cache
def wire_server() -> Wire:
    """Return the one server of this process."""
    return Wire()
