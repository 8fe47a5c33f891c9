"""Requests of a probe, one at a time: each is sent once, counted, and recorded as it is answered.

What an answer means is for others to say; none of them is an error here.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hda_fsspec.errors import BrokerError
from hda_fsspec.network.responses import ResponseHead, parse_problem, read_json
from hda_fsspec.network.session import Session
from hda_fsspec.probing.recording import Recording

_LONGEST_ANSWER = 32 << 20
_FILES = frozenset({200, 206})


class SpentError(Exception):
    """A probe has sent as many requests as it may."""


@dataclasses.dataclass(frozen=True)
class Exchange:
    """An answer, as it came.

    Attributes
    ----------
    status : int
        Its HTTP status.
    headers : mapping
        By any spelling of their names.
    body : bytes
        As much of it as was read; nothing of a file that went to the disk.
    length : int
        How many bytes were read.
    is_whole : bool
        Whether it ended there.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    length: int
    is_whole: bool

    @cached_property
    def json(self) -> Any:
        """Its JSON, None if it is none."""
        try:
            return read_json(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def says(self) -> str:
        """Status and reason in a few words."""
        if self.status < 400:
            return str(self.status)
        return f"{self.status} {parse_problem(self.status, self.body).text}".strip()[:160]

    def get(self, *keys: str) -> Any:
        """Return what stands in its JSON under some keys, None if nothing does."""
        value = self.json
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


class Conversation:
    """The requests of a probe to a service, and the answers.

    Parameters
    ----------
    session : Session
        How requests are sent.
    recording : Recording
        Where they are written.
    most_requests : int
        How many there may be.

    Attributes
    ----------
    token : str or None
        The token that requests bear by default.
    all : list of (str, Exchange)
        All answers so far, with what was asked.
    """

    def __init__(self, session: Session, recording: Recording, most_requests: int) -> None:
        self._session = session
        self.recording = recording
        self._left = most_requests
        self.token: str | None = None
        self.all: list[tuple[str, Exchange]] = []

    def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = "mine",  # noqa: S107 - a word
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        form: Mapping[str, str] | None = None,
        byte_range: str = "",
        to_file: Path | None = None,
        most_bytes: int = _LONGEST_ANSWER,
    ) -> Exchange:
        """Send a request once, and return what comes back, whatever it is.

        Parameters
        ----------
        method, path : str
            What to ask: a path below ``api/v1/``, or from the root of the host if it begins with
            a slash.
        token : str or None
            "mine" for :attr:`token`, another one, or None for none.
        query, body, form : mapping
            What goes with it.
        byte_range : str
            What is asked of a file.
        to_file : Path, optional
            Where the body goes.
        most_bytes : int
            No more of the body is read.

        Raises
        ------
        SpentError
            There have been enough requests.
        BrokerError, OfflineError
            There is no answer.
        """
        if not self._left:
            msg = "the probe has sent as many requests as it may"
            raise SpentError(msg)
        self._left -= 1
        sent = self.token if token == "mine" else token  # noqa: S105 - a word
        base = urlsplit(self._session.address)
        home = base.path.partition("hda-broker")[0].rstrip("/")
        own = f"{base.path.rstrip('/')}/api/v1/"
        full = f"{home}{path}" if path.startswith("/") else f"{own}{path}"
        asked = {
            "method": method,
            "path": full.removeprefix(home),
            "query": dict(query or {}),
            "token": sent,
            "range": byte_range,
            "json": body,
            "form": dict(form or {}),
        }
        options = {
            "headers": {"Range": byte_range} if byte_range else {},
            "params": query,
            "json": body,
            "data": form,
        }
        address = f"{base.scheme}://{base.netloc}{full}"
        try:
            with self._session.ask(method, address, token=sent, **options) as (head, pieces):
                seen = _read(head, pieces, to_file, most_bytes)
        except BrokerError:
            self.recording.add(asked, status=0, headers={}, body=b"")
            raise
        for key in ("access_token", "refresh_token"):
            self.recording.hide(seen.get(key))
        is_file = to_file is not None and seen.status in _FILES
        self.recording.add(
            asked,
            status=seen.status,
            headers=seen.headers,
            body=seen.body,
            file=to_file if is_file else None,
        )
        self.all.append((f"{method} {path}", seen))
        return seen

    def json(self, method: str, path: str, **more: Any) -> Any:
        """Return the JSON of an answer; raises BrokerError for a refusal, or what is no JSON."""
        seen = self.ask(method, path, **more)
        if seen.status >= 400 or seen.json is None:
            msg = f"{method} {path} answered {seen.says}"
            raise BrokerError(msg, status=seen.status)
        return seen.json


def _read(
    head: ResponseHead, pieces: Iterator[bytes], to_file: Path | None, most_bytes: int
) -> Exchange:
    """Read an answer, up to a number of bytes; the body of a file goes to the disk."""
    is_file = to_file is not None and head.status in _FILES
    body = bytearray()
    length = 0
    with contextlib.ExitStack() as opened:
        stream = opened.enter_context(to_file.open("wb")) if to_file and is_file else None
        for piece in pieces:
            length += len(piece)
            if stream is not None:
                stream.write(piece)
            else:
                body += piece
            if length > most_bytes:
                return Exchange(head.status, head.headers, bytes(body), length, is_whole=False)
    return Exchange(head.status, head.headers, bytes(body), length, is_whole=True)
