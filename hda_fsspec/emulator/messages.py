"""Requests and answers as plain values, and the log of them.

It opens no socket and takes no decision.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, overload

from hda_fsspec.emulator.content import Content
from hda_fsspec.emulator.process_lock import ProcessLock

API_PREFIX = "/hda-broker/api/v1/"
BROKER_PREFIX = "/hda-broker/"


def relative_path(path: str) -> str:
    """Return a request path as tests write it: relative to the API, or to the broker.

    >>> relative_path("/hda-broker/api/v1/terms"), relative_path("/identity/gettoken")
    ('terms', 'identity/gettoken')
    """
    for prefix in (API_PREFIX, BROKER_PREFIX):
        if path.startswith(prefix):
            return path.removeprefix(prefix)
    return path.lstrip("/")


@dataclasses.dataclass(frozen=True)
class Request:
    """One request, read to its end. ``path`` is decoded, ``api`` is relative to the API."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    payload: bytes = dataclasses.field(repr=False, default=b"")

    @property
    def api(self) -> str:
        """The path relative to ``api/v1/``, or to the broker."""
        return relative_path(self.path)

    @property
    def token(self) -> str | None:
        """The text of the bearer token, where there is one."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None

    def json(self) -> Any:
        """Return the payload as JSON, None if it is not."""
        try:
            return json.loads(self.payload)
        except ValueError:
            return None


@dataclasses.dataclass(frozen=True)
class FilePlan:
    """The way in which the body of a file is sent.

    Attributes
    ----------
    content : Content
        The bytes.
    start, stop : int
        The part of them that the answer is about.
    cut_at : int or None
        Stop after so many bytes of the part, although more was promised.
    framing : str
        "length", "chunked" or "close": how the client learns where the body ends.
    ending : str
        What happens after it: "keep" the connection, "close" it, "reset" it, or "stall": nothing
        happens until the emulator stops.
    rate_bytes_per_second : float or None
        Throttle.
    """

    content: Content
    start: int
    stop: int
    cut_at: int | None = None
    framing: str = "length"
    ending: str = "keep"
    rate_bytes_per_second: float | None = None

    @property
    def length(self) -> int:
        """The number of bytes that will be sent."""
        whole = self.stop - self.start
        return whole if self.cut_at is None else min(whole, self.cut_at)

    @property
    def is_complete(self) -> bool:
        """True if the last byte of the content is sent."""
        return self.start + self.length >= self.content.length


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer: status, headers, and a small body or a file; ``ending`` as in FilePlan.

    Of one that is cut in its head only ``head_bytes`` are sent, half of the head if that is
    negative.
    """

    status: int
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    file: FilePlan | None = None
    ending: str = "keep"
    head_bytes: int | None = None

    def with_headers(self, headers: Mapping[str, str]) -> Answer:
        """Return the answer with more headers; those it has win."""
        return dataclasses.replace(self, headers={**headers, **self.headers})


def json_answer(value: object, status: int = 200) -> Answer:
    """Return an answer with a JSON body."""
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


def html_answer(text: str, status: int = 200) -> Answer:
    """Return an answer with an HTML body."""
    return Answer(status, {"Content-Type": "text/html; charset=utf-8"}, text.encode())


def error_answer(status: int, detail: object, title: str | None = None) -> Answer:
    """Return an error as the broker words it: ``{status_code, title, detail}``."""
    title = title or (HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error")
    return json_answer({"status_code": status, "title": title, "detail": detail}, status)


def invalid_answer(key: str, message: str, kind: str) -> Answer:
    """Return a refusal of one key of a request, as FastAPI words it."""
    return json_answer({"detail": [{"loc": ["body", key], "msg": message, "type": kind}]}, 422)


@dataclasses.dataclass
class RequestRecord:
    """One line of the log.

    ``headers`` has names in title case, and ``Authorization`` is reduced to the token text.
    ``bytes_sent`` counts the body, and is settled before the last byte goes out, so that a client
    which has its answer finds it here.
    """

    method: str
    path: str
    query: Mapping[str, str]
    body: Any = dataclasses.field(repr=False)
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    status: int = 0
    bytes_sent: int = 0
    at: float = dataclasses.field(default_factory=time.monotonic)
    faults: tuple[str, ...] = ()

    @property
    def api(self) -> str:
        """The path relative to ``api/v1/``, or to the broker."""
        return relative_path(self.path)

    @property
    def range(self) -> str | None:
        """The Range header of the request."""
        return self.headers.get("Range")

    @classmethod
    def of(cls, request: Request, status: int, faults: tuple[str, ...] = ()) -> RequestRecord:
        """Make the record of a request and the status of its answer."""
        headers = dict(request.headers)
        if "Authorization" in headers:
            headers["Authorization"] = headers["Authorization"].partition(" ")[2]
        return cls(
            method=request.method,
            path=request.path,
            query=request.query,
            body=request.json() if request.payload else None,
            headers=headers,
            status=status,
            faults=faults,
        )


class RequestLog(Sequence[RequestRecord]):
    """All requests so far, in the order in which they were answered; safe for threads."""

    def __init__(self) -> None:
        self._records: list[RequestRecord] = []
        self._lock = ProcessLock()

    def append(self, record: RequestRecord) -> None:
        """Add a record."""
        with self._lock:
            self._records.append(record)

    def clear(self) -> None:
        """Forget all records."""
        with self._lock:
            self._records.clear()

    def snapshot(self) -> list[RequestRecord]:
        """Return the records of this moment."""
        with self._lock:
            return list(self._records)

    def where(self, is_wanted: Callable[[RequestRecord], bool]) -> list[RequestRecord]:
        """Return the records for which a test holds."""
        return [record for record in self.snapshot() if is_wanted(record)]

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> RequestRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[RequestRecord]: ...
    def __getitem__(self, index: int | slice) -> RequestRecord | list[RequestRecord]:
        return self.snapshot()[index]

    def __iter__(self) -> Iterator[RequestRecord]:
        return iter(self.snapshot())

    def __repr__(self) -> str:
        return f"<RequestLog of {len(self)}>"
