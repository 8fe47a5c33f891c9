r"""What was said in a probe, a line of JSON for each request with its answer, without secrets.

The first line says what it is. Of each other one ``request`` has ``method``, ``path`` (such as
``/hda-broker/api/v1/terms``), and what else there was of ``query``, ``token``, ``range``, ``json``
and ``form``; ``response`` has ``status`` (0 for no answer, or none to the end), the telling
``headers``, and the body as ``json``, ``text`` or ``base64`` (packed by zlib). Of a file that is
too long to be kept stand its ``length`` and its beginning. User, password and tokens are words in
capitals, the same wherever they stood. The emulator answers from such a file:
:class:`hda_fsspec.emulator.replay.Replay`.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hda_fsspec._version import __version__
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.network.responses import read_json
from hda_fsspec.network.spellings import Spot, find, merged, needles_of

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
            self._loose.add(token)

    def redacted(self, text: str) -> str:
        """Return a text with each secret as the word that stands for it, longest secrets first."""
        for secret in sorted(self._names, key=len, reverse=True):
            spots = find(text, needles_of(secret, 0))
            if secret not in self._loose:
                spots = [spot for spot in spots if not _is_in_a_word(text, spot)]
            for start, end in reversed(merged(spots)):
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
        told_body = _of_file(file) if file is not None else _of_bytes(body)
        answer = {"status": status, "headers": told, **told_body}
        self._write({"request": {k: v for k, v in request.items() if v}, "response": answer})

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._stream is None:
            return
        # Through the JSON: a secret may be a key, or stand in the middle of a text.
        self._stream.write(self.redacted(json.dumps(line, ensure_ascii=False)) + "\n")
        # What is there when the power goes is worth as much as the whole.
        self._stream.flush()


def _is_in_a_word(text: str, spot: Spot) -> bool:
    return text[spot.start - 1 : spot.start].isalnum() or text[spot.end : spot.end + 1].isalnum()


def _plain(name: str, value: str) -> str:
    # The rest of an address may be a signature, which opens it.
    return value.partition("?")[0] if name.lower() == "location" else value


def _of_bytes(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        return {"json": read_json(body)}
    except (ValueError, RecursionError):
        pass
    try:
        return {"text": body.decode()}
    except UnicodeError:
        return {"base64": _packed(body)}


def _of_file(path: Path) -> dict[str, Any]:
    length = path.stat().st_size
    with path.open("rb") as stream:
        body = stream.read(length if length <= KEPT_BYTES else _HEAD_BYTES)
    return {"base64": _packed(body), "length": length}


def _packed(body: bytes) -> str:
    return base64.b64encode(zlib.compress(body, 9)).decode()
