"""Sockets: reads requests, sends answers, counts both.

The server knows HTTP/1.1 and nothing of the protocol above it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from hda_fsspec.emulator.content import CHUNK_BYTES
from hda_fsspec.emulator.messages import Answer, FilePlan, Request, RequestRecord
from hda_fsspec.emulator.process_lock import ProcessLock

# Larger bodies are not worth a copy: the kernel sends them from the file.
_SENDFILE_BYTES = 1 << 18
# A throttled body goes out so often in a second, which looks steady enough to a client.
_THROTTLE_STEPS = 50

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_TITLES = {"etag": "ETag"}


@dataclasses.dataclass
class Traffic:
    """Counters of what went over the sockets."""

    bytes_sent: int = 0
    downloads: int = 0
    max_connections: int = 0
    max_requests: int = 0
    lock: ProcessLock = dataclasses.field(default_factory=ProcessLock)

    def add(self, *, sent: int = 0, downloads: int = 0) -> None:
        """Count bytes of files, and complete files."""
        with self.lock:
            self.bytes_sent += sent
            self.downloads += downloads


class Server(ThreadingHTTPServer):
    """Threads and sockets of an emulator; ``stop`` leaves none of them behind."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, respond: Callable[[Request], Exchange]) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.respond = respond
        self.traffic = Traffic()
        self.stopping = threading.Event()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._asking: set[socket.socket] = set()
        self._open_lock = ProcessLock()
        self._accepting: threading.Thread | None = None
        self._started_in = os.getpid()

    def start(self) -> None:
        """Serve from a thread of its own."""
        self._accepting = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._accepting.start()

    def stop(self) -> None:
        """Close all sockets and wait for all threads.

        In a process that was forked there are no such threads: its copies of the sockets are
        closed, and the parent serves on.
        """
        self.stopping.set()
        if os.getpid() != self._started_in:
            for connection in list(self._open):
                connection.close()
            self.server_close()
            return
        # Closing would not do while a child that was forked has a copy: whoever asks then would
        # wait for an answer that nobody gives.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.shutdown()
        if self._accepting is not None:
            self._accepting.join()
        with self._open_lock:
            left = dict(self._open)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in left.values():
            thread.join()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection from a thread of its own, which ``stop`` will wait for."""
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        with self._open_lock:
            self._open[request] = thread
            count = sum(map(_is_open, self._open))
        with self.traffic.lock:
            self.traffic.max_connections = max(self.traffic.max_connections, count)
        thread.start()

    def request_begins(self, connection: socket.socket) -> None:
        """Count a request as under way, together with those whose clients still wait."""
        with self._open_lock:
            self._asking.add(connection)
            count = sum(map(_is_open, self._asking))
        with self.traffic.lock:
            self.traffic.max_requests = max(self.traffic.max_requests, count)

    def request_ends(self, connection: socket.socket) -> None:
        """Count a request no longer: to be called before the client can see its last byte."""
        with self._open_lock:
            self._asking.discard(connection)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, which is no longer counted before the client can see that."""
        with self._open_lock:
            self._open.pop(request, None)
            self._asking.discard(request)
        if request.fileno() >= 0:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@dataclasses.dataclass
class Exchange:
    """An answer, the record of it, and how long the client has to wait for it."""

    answer: Answer
    record: RequestRecord
    wait_seconds: float = 0.0
    log: Callable[[RequestRecord], None] = lambda _record: None


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "HDAEmulator"
    disable_nagle_algorithm = True

    @property
    def _server(self) -> Server:
        return cast("Server", self.server)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
        """Print nothing: the emulator keeps its own log."""

    def handle(self) -> None:
        """Serve requests until either side closes the connection."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().handle()

    def _serve(self) -> None:
        self._server.request_begins(self.connection)
        given = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not given.isdecimal():
            self.send_error(411)
            self.close_connection = True
            return
        length = int(given)
        payload = self.rfile.read(length) if length else b""
        parts = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=unquote(parts.path),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={_title(name): value for name, value in self.headers.items()},
            payload=payload,
        )
        exchange = self._server.respond(request)
        if self.command != "HEAD" and exchange.answer.file is None:
            exchange.record.bytes_sent = len(exchange.answer.body)
        # Before the bytes go out: a client that has its answer must find it in the log.
        exchange.log(exchange.record)
        if exchange.wait_seconds > 0:
            self._server.stopping.wait(exchange.wait_seconds)
        if self._server.stopping.is_set():
            self.close_connection = True
            return
        self._send(exchange)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - names are inherited

    def _send(self, exchange: Exchange) -> None:
        answer, record = exchange.answer, exchange.record
        is_head = self.command == "HEAD"
        plan = None if is_head else answer.file
        if answer.status:
            head = self._head(answer)
            if answer.head_bytes is not None:
                count = answer.head_bytes if answer.head_bytes >= 0 else len(head) // 2
                self._server.request_ends(self.connection)
                self.connection.sendall(head[:count])
            elif plan is not None:
                self._send_file(head, plan, record)
            else:
                self._server.request_ends(self.connection)
                self.connection.sendall(head if is_head else head + answer.body)
        if answer.ending == "stall" and plan is not None:
            self._server.stopping.wait()
        is_cut = answer.head_bytes is not None
        if answer.ending != "keep" and (is_cut or not (is_head and answer.file is not None)):
            self._end(is_reset=answer.ending == "reset")

    def _head(self, answer: Answer) -> bytes:
        headers = {"Server": self.server_version, "Date": self.date_time_string()}
        headers.update(answer.headers)
        if answer.file is None:
            headers["Content-Length"] = str(len(answer.body))
        elif answer.ending == "close":
            headers["Connection"] = "close"
        phrase = _PHRASES.get(answer.status, "Unknown")
        lines = [f"HTTP/1.1 {answer.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        # Names from a fault go out as they are, in whatever bytes.
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")

    def _send_file(self, head: bytes, plan: FilePlan, record: RequestRecord) -> None:
        file = plan.content.file
        is_plain = plan.rate_bytes_per_second is None and plan.framing != "chunked"
        if is_plain and file is not None and plan.length > _SENDFILE_BYTES:
            self.connection.sendall(head)
            sent = self._send_from_disk(file, plan, record)
        else:
            sent = self._send_pieces(head, plan, record)
        if sent < plan.length:
            # The file became shorter, or the emulator stops: the client must not wait for more.
            self.close_connection = True

    def _send_from_disk(self, file: Path, plan: FilePlan, record: RequestRecord) -> int:
        self._account(record, plan.length, is_complete=plan.is_complete)
        with file.open("rb") as opened:
            opened.seek(plan.start)
            try:
                sent = self.connection.sendfile(opened, plan.start, plan.length - 1)
                self._server.request_ends(self.connection)
                last = self.connection.sendfile(opened, plan.start + sent, plan.length - sent)
                return int(sent + last)
            except OSError:
                missing = plan.length - (opened.tell() - plan.start)
                record.bytes_sent -= missing
                self._server.traffic.add(sent=-missing, downloads=-int(plan.is_complete))
                raise

    def _send_pieces(self, head: bytes, plan: FilePlan, record: RequestRecord) -> int:
        rate = plan.rate_bytes_per_second
        step = max(1, int(rate / _THROTTLE_STEPS)) if rate else CHUNK_BYTES
        is_chunked = plan.framing == "chunked"
        end = b"0\r\n\r\n" if is_chunked and plan.cut_at is None else b""
        sent, pending = 0, head
        for piece in plan.content.chunks(plan.start, plan.start + plan.length, step):
            if rate and self._server.stopping.wait(len(piece) / rate):
                return sent
            sent += len(piece)
            is_last = sent == plan.length
            self._account(record, len(piece), is_complete=is_last and plan.is_complete)
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece
            if is_last and plan.ending != "stall":
                self._server.request_ends(self.connection)
            self.connection.sendall(pending + framed + (end if is_last else b""))
            pending = b""
        if not plan.length:
            self._server.request_ends(self.connection)
            self.connection.sendall(head + end)
        return sent

    def _account(self, record: RequestRecord, sent: int, *, is_complete: bool) -> None:
        record.bytes_sent += sent
        self._server.traffic.add(sent=sent, downloads=int(is_complete))

    def _end(self, *, is_reset: bool) -> None:
        self.close_connection = True
        if is_reset:
            # A linger time of zero turns the close into a reset, which must not follow a FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()

    def finish(self) -> None:
        """Close what reads and writes, if the connection is not gone already."""
        with contextlib.suppress(OSError, ValueError):
            super().finish()


def _is_open(connection: socket.socket) -> bool:
    """Return True if the client has not closed a connection; its thread may not know yet."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _title(name: str) -> str:
    return _TITLES.get(name.lower(), name.title())
