r"""The record of a probe: a line of JSON for each request with its answer, without secrets.

The first line says what it is. Of each other one ``request`` has ``method``, ``path`` (such as
``/hda-broker/api/v1/terms``), and what else there was of ``query``, ``token``, ``range``, ``json``
and ``form``; ``response`` has ``status`` (0 for no answer, or none to the end), the telling
``headers``, and the body as ``json``, ``text`` or ``base64`` (packed by zlib). Of a file that is
too long to be kept stand its ``length`` and its beginning. User, password and tokens are words in
capitals, the same wherever they stood in what was said, also in what is packed. The emulator
answers from such a file: :class:`hda_fsspec.emulator.replay.Replay`.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from hda_fsspec._version import __version__
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.network.responses import read_json
from hda_fsspec.network.secret_spellings import find, merged, needles_of

FORMAT = "hda_fsspec recording 1"
#: Longer files are not kept whole.
KEPT_BYTES = 8 << 20
_HEAD_BYTES = 64 << 10
_HEADERS = frozenset(
    {
        *("accept-ranges", "cache-control", "content-disposition", "content-encoding"),
        *("content-length", "content-range", "content-type", "date", "etag", "last-modified"),
        *("location", "retry-after", "server", "transfer-encoding", "www-authenticate"),
        *("x-quota-limit", "x-quota-remaining", "x-quota-reset"),
    }
)
_LEAST = 8
#: Long texts are looked through in parts, which overlap by more than a secret has in any spelling.
_PART_CHARACTERS, _OVERLAP_CHARACTERS = 256 << 10, 16 << 10
#: In longer bodies that are no text secrets are looked for as they are, and not in escapes.
_LOOKED_THROUGH_BYTES = 256 << 10


class Recording:
    """A file that a probe writes; nobody else can read it until its owner says so.

    Parameters
    ----------
    path : Path or None
        The file, which must not exist; None to keep nothing.
    user, password : str or None
        What is never written.

    Raises
    ------
    ConfigurationError
        The file is there already, or cannot be written.
    """

    def __init__(self, path: Path | None, user: str | None, password: str | None) -> None:
        self._names = {
            secret: name for secret, name in ((password, "PASSWORD"), (user, "USER")) if secret
        }
        # A user, or a short password, stands in the middle of other words by chance.
        self._loose = {password} if password and len(password) >= _LEAST else set()
        self._tokens = 0
        self._stream = None
        if path is None:
            return
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as err:
            msg = f"Cannot write a recording to {path}: {err.strerror}. Name another file."
            raise ConfigurationError(msg) from err
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8")

    def begin(self, **facts: Any) -> None:
        """Write the first line."""
        self._write({"format": FORMAT, "written by": f"hda-fsspec {__version__}", **facts})

    def hide(self, token: object) -> None:
        """Take a token for a secret from now on."""
        if isinstance(token, str) and token and token not in self._names:
            self._tokens += 1
            self._names[token] = f"TOKEN-{self._tokens}"
            if len(token) >= _LEAST:
                self._loose.add(token)

    def redacted(self, text: str) -> str:
        """Return a text with each secret as the word that stands for it, longest secrets first."""
        if not _spots(text, self._names):
            return text
        for secret in sorted(self._names, key=len, reverse=True):
            spots = _spots(text, (secret,))
            if secret not in self._loose:
                spots = [spot for spot in spots if not _is_in_a_word(text, *spot)]
            for start, end in reversed(spots):
                text = text[:start] + self._names[secret] + text[end:]
        return text

    def add(
        self,
        request: Mapping[str, Any],
        *,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        file: Path | None = None,
    ) -> None:
        """Write a request and its answer, the body of which may be in a file."""
        told = {k: _plain(k, v) for k, v in headers.items() if k.lower() in _HEADERS}
        told_body = self._of_file(file) if file is not None else self._of_bytes(body)
        self._write(
            {
                "request": {k: self._redacted(v) for k, v in request.items() if v},
                "response": {"status": status, "headers": self._redacted(told), **told_body},
            }
        )

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._stream is None:
            return
        text = json.dumps(line, ensure_ascii=False)
        try:
            text.encode()
        except UnicodeEncodeError:  # half of a pair
            text = json.dumps(line)
        self._stream.write(text + "\n")
        # What is there when the power goes is worth as much as the whole.
        self._stream.flush()

    def _redacted(self, value: Any) -> Any:
        """Return a JSON value without secrets, be they keys, numbers, or parts of texts."""
        if isinstance(value, str):
            return self.redacted(value)
        if isinstance(value, Mapping):
            return {self.redacted(str(key)): self._redacted(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._redacted(item) for item in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            text = str(value)
            redacted = self.redacted(text)
            return value if redacted == text else redacted
        return value

    def _of_bytes(self, body: bytes) -> dict[str, Any]:
        if not body:
            return {}
        try:
            told = {"json": self._redacted(read_json(body))}
            json.dumps(told)
        except (ValueError, RecursionError):
            pass
        else:
            return told
        try:
            return {"text": self.redacted(body.decode())}
        except UnicodeError:
            return {"base64": _packed(self._without_secrets(body, self._names))}

    def _of_file(self, path: Path) -> dict[str, Any]:
        length = path.stat().st_size
        with path.open("rb") as stream:
            body = stream.read(length if length <= KEPT_BYTES else _HEAD_BYTES)
        # What is short stands in data by chance.
        kept = self._without_secrets(body, self._loose)
        return {"base64": _packed(kept), "length": length - len(body) + len(kept)}

    def _without_secrets(self, body: bytes, secrets: Collection[str]) -> bytes:
        """Return a body that is no text, or need be none, without secrets."""
        if len(body) <= _LOOKED_THROUGH_BYTES:
            text = body.decode("latin-1")
            return self.redacted(text).encode("latin-1") if _spots(text, secrets) else body
        for secret in sorted(secrets, key=len, reverse=True):
            word = self._names[secret].encode()
            for needle in needles_of(secret, _LEAST):
                if not needle.is_alone:
                    body = body.replace(needle.text.encode("utf-8", "surrogatepass"), word)
        return body


def _spots(text: str, secrets: Iterable[str]) -> list[tuple[int, int]]:
    """Return from where to where secrets stand in a text, in order."""
    needles = [needle for secret in secrets for needle in needles_of(secret, 0)]
    step = _PART_CHARACTERS - _OVERLAP_CHARACTERS
    found = [
        dataclasses.replace(spot, start=begin + spot.start, end=begin + spot.end)
        for begin in range(0, max(len(text) - _OVERLAP_CHARACTERS, 1), step)
        for spot in find(text[begin : begin + _PART_CHARACTERS], needles)
    ]
    return merged(sorted(found, key=lambda spot: spot.start))


def _is_in_a_word(text: str, start: int, end: int) -> bool:
    return text[max(start - 1, 0) : start].isalnum() or text[end : end + 1].isalnum()


def _plain(name: str, value: str) -> str:
    # The rest of an address may be a signature, which opens it.
    return value.partition("?")[0] if name.lower() == "location" else value


def _packed(body: bytes) -> str:
    return base64.b64encode(zlib.compress(body, 9)).decode()
