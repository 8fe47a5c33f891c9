"""Answers from a recording of a real service: the same requests get the answers that were recorded.

What was not asked when it was recorded is refused, in words. The format is told where recordings
are made, in the module ``hda_fsspec.probing.recording``.
"""

from __future__ import annotations

import base64
import collections
import hashlib
import json
import re
import threading
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from hda_fsspec.emulator.content import Content
from hda_fsspec.emulator.messages import Answer, FilePlan, Request, error_answer
from hda_fsspec.errors import ConfigurationError

_FORMAT = "hda_fsspec recording 1"
#: Files of more were not recorded whole.
_LONGEST_LINE = 64 << 20
_LONGEST_FILE = 256 << 20
_LONGEST_KEPT = 64 << 20
#: Those that belong to how an answer was sent, and not to what it says.
_HEADER = re.compile(r"[A-Za-z0-9-]+: [\t\x20-\x7e\xa0-\xff]*")
_OWN_HEADERS = frozenset({"date", "server"})
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_LOGINS = ("/identity/gettoken", "/hda-broker/gettoken")
_REFRESH = "/hda-broker/refreshtoken"


class Replay:
    """The recorded answers of a service, from a file.

    A request that was asked several times gets the recorded answers in order, and the last one from
    then on. Any user and password may log in, and one good token is as good as another.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    digest : str
        What tells it from other recordings.

    Raises
    ------
    ConfigurationError
        It cannot be read, or is no recording.
    """

    def __init__(self, path: Path) -> None:
        self._answers: dict[str, collections.deque[Mapping[str, Any]]] = {}
        self._tokens: list[str] = []
        self._lock = threading.Lock()
        try:
            text = Path(path).read_bytes()
            # By what ends a line here, and not by what may stand in a text.
            lines = text.decode().removesuffix("\n").split("\n")
            _check_first(lines)
            for line in lines[1:]:
                self._add(line)
        except (
            *(OSError, ValueError, LookupError, TypeError, AttributeError),
            *(OverflowError, RecursionError, zlib.error),
        ) as err:
            msg = f"Cannot replay {path}: {err}. Name a file that 'doctor --probe' has written."
            raise ConfigurationError(msg) from err
        self.digest = hashlib.sha256(text).hexdigest()

    def answer(self, request: Request) -> Answer:
        """Return what was answered to a request, or a refusal of one that was not asked."""
        asked = _as_recorded(request)
        tokens = [request.token]
        if request.token in self._tokens:
            tokens += reversed(self._tokens)
        keys = (_key_of({**asked, "token": token}) for token in tokens)
        with self._lock:
            answers = next((self._answers[key] for key in keys if key in self._answers), None)
            if answers is None:
                detail = f"{request.method} {request.path} was not asked when this was recorded"
                return error_answer(404, detail, "Not in the recording")
            told = answers.popleft() if len(answers) > 1 else answers[0]
        # Not before it is asked for: of a large file little was kept, and all of it is sent.
        return _answer_of(told)

    def _add(self, line: str) -> None:
        if len(line) > _LONGEST_LINE:
            msg = f"a line of it has {len(line)} characters"
            raise ValueError(msg)
        told = json.loads(line)
        request, response = told["request"], told["response"]
        _answer_of(response)  # raises for one that is none
        self._answers.setdefault(_key_of(request), collections.deque()).append(response)
        if request["path"] in {*_LOGINS, _REFRESH} and isinstance(response.get("json"), dict):
            token = response["json"].get("access_token")
            if isinstance(token, str):
                self._tokens.append(token)


def _as_recorded(request: Request) -> dict[str, Any]:
    form = None
    if request.path == _REFRESH:
        form = dict(parse_qsl(request.payload.decode("utf-8", "replace")))
    return {
        "method": request.method,
        "path": request.path,
        "query": dict(request.query),
        "range": request.headers.get("Range", ""),
        "json": None if form is not None else request.json(),
        "form": form,
    }


def _check_first(lines: Sequence[str]) -> None:
    first = json.loads(lines[0]) if lines else None
    if not isinstance(first, dict) or first.get("format") != _FORMAT:
        msg = f"its first line does not say {_FORMAT!r}"
        raise ValueError(msg)


def _key_of(request: Mapping[str, Any]) -> str:
    """Return what is equal for requests that get one answer: of a login its origin alone counts."""
    body, path = request.get("json"), request["path"]
    if path in _LOGINS:
        body = body.get("origin") if isinstance(body, dict) else None
    form = None if path == _REFRESH else request.get("form") or None
    query = {str(k): str(v) for k, v in (request.get("query") or {}).items()}
    told = [
        request["method"],
        path,
        query,
        request.get("token"),
        request.get("range") or "",
        body,
        form,
    ]
    return json.dumps(told, sort_keys=True)


def _answer_of(response: Mapping[str, Any]) -> Answer:
    status = int(response["status"])
    if not status:
        return Answer(0, ending="close")
    if not 100 <= status <= 599:
        msg = f"an answer of it has the status {status}"
        raise ValueError(msg)
    told = {str(k): str(v) for k, v in response.get("headers", {}).items()}
    if not all(_HEADER.fullmatch(f"{name}: {value}") for name, value in told.items()):
        msg = "a header of it is none"
        raise ValueError(msg)
    headers = {k: v for k, v in told.items() if k.lower() not in _OWN_HEADERS}
    names = {name.lower() for name in headers}
    if "base64" in response:
        body = _unpacked(response["base64"])
        length = int(response.get("length", len(body)))
        if not len(body) <= length <= _LONGEST_FILE:
            msg = f"a file of it is said to have {length} bytes"
            raise ValueError(msg)
        # What was not kept are zeros: of the right length, and no data.
        content = Content(body + bytes(length - len(body)))
        if "transfer-encoding" in names:
            return Answer(status, headers, file=FilePlan(content, 0, length, framing="chunked"))
        if "content-length" in names:
            return Answer(status, headers, file=FilePlan(content, 0, length))
        plan = FilePlan(content, 0, length, framing="close", ending="close")
        return Answer(status, headers, file=plan, ending="close")
    if "json" in response or "text" in response:
        text = json.dumps(response["json"]) if "json" in response else str(response["text"])
        plain = {k: v for k, v in headers.items() if k.lower() not in _FRAMING}
        return Answer(status, plain, text.encode())
    # To a HEAD, which tells the length of what it does not send, or does not.
    return Answer(status, headers, file=FilePlan(Content(b""), 0, 0))


def _unpacked(packed: str) -> bytes:
    unpacking = zlib.decompressobj()
    body = unpacking.decompress(base64.b64decode(packed), _LONGEST_KEPT)
    if not unpacking.eof:
        msg = f"a body of it does not end, or has more than {_LONGEST_KEPT >> 20} MiB"
        raise ValueError(msg)
    return body
