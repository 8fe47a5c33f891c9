"""A server that sends whatever bytes a test makes, as no library for servers would."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

TOKEN = "0c2f4e0a-raw0-4b0e-8f0e-a-token-of-it"

#: What a test answers: the bytes, sent until the client goes away.
Answers = Callable[[str, str], Iterable[bytes]]


def head(status: int = 200, /, **headers: str) -> bytes:
    """Return the head of an answer; underscores in names are hyphens."""
    lines = [f"HTTP/1.1 {status} Whatever"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def json_answer(value: Any, status: int = 200, **headers: str) -> list[bytes]:
    """Return a whole answer with JSON."""
    body = json.dumps(value).encode()
    return [head(status, Content_Length=str(len(body)), **headers) + body]


def for_ever(piece: bytes) -> Iterator[bytes]:
    """Repeat a piece without end."""
    while True:
        yield piece


class RawBroker:
    """Logs in whoever asks, and answers everything else as the test says.

    Parameters
    ----------
    answer : callable
        Returns the bytes of the answer to a method and a path below ``api/v1/`` (or, elsewhere, the
        whole path).
    logs_in : bool
        Whether it does log in.
    """

    def __init__(self, answer: Answers, *, logs_in: bool = True) -> None:
        self._answer = answer
        self._logs_in = logs_in
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.asked: list[tuple[str, str, Mapping[str, str]]] = []
        self.sent_bytes = 0
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/hda-broker/"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that lead here."""
        return {"endpoint_url": self.url, "user": "user", "password": "a long password"}

    def headers_of(self, path: str) -> list[Mapping[str, str]]:
        """Return the headers of all requests for a path."""
        return [headers for _, asked, headers in self.asked if asked == path]

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self._open.add(connection)
                self._start(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
            line = stream.readline().decode()
            if line:
                method, target, _ = line.split()
                path = target.partition("api/v1/")[2] or target
                headers: dict[str, str] = {}
                while (line := stream.readline().decode().strip()) != "":
                    name, _, value = line.partition(":")
                    headers[name.title()] = value.strip()
                stream.read(int(headers.get("Content-Length", "0")))
                self.asked.append((method, path, headers))
                for piece in self._answers(method, path):
                    connection.sendall(piece)
                    self.sent_bytes += len(piece)
        self._open.discard(connection)

    def _answers(self, method: str, path: str) -> Iterable[bytes]:
        if self._logs_in and path.endswith("/identity/gettoken"):
            token = {"access_token": TOKEN, "refresh_token": TOKEN[::-1], "expires_in": 3600}
            return json_answer(token, Connection="close")
        return self._answer(method, path)
