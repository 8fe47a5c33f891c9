"""Percent-encoding of one segment of a path, strict in both directions.

It knows which characters have a meaning in paths, patterns and chained URLs; it has never heard
of what the segments say.
"""

from __future__ import annotations

import re
import shlex
from urllib.parse import unquote_to_bytes

from hda_fsspec.errors import LocationError
from hda_fsspec.filenames import is_composed, is_device
from hda_fsspec.printable import is_shown

_ESCAPED = re.compile(r"[%/?*\[\]#=,\\]|\s|[\x00-\x1f\x7f]|::+|[^\x00-\x7f]+")
#: What nearly every id is made of, and what has no meaning anywhere.
_PLAIN = re.compile(r"[\w.+-]+", re.ASCII)
#: What nearly every product id is made of, and what means nothing as the name of a file either.
_PLAIN_NAME = re.compile(r"[\w+][\w.+-]*[\w+-]", re.ASCII)
#: What the name of a file cannot hold, begin with or end with everywhere.
_ODD_IN_A_NAME = re.compile(r"^[.\-]|[<>:\"|]|\.$")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)


def quote(text: str) -> str:
    """Percent-encode what has a meaning in paths, patterns or chained URLs, and what does not show.

    Raises
    ------
    LocationError
        The text holds lone surrogates, which no path can.
    """
    if text in {".", ".."}:
        return text.replace(".", "%2E")
    if _PLAIN.fullmatch(text):
        return text
    try:
        text.encode()
    except UnicodeEncodeError as err:
        msg = f"Cannot write {text!r} into a path: it is not valid Unicode text."
        raise LocationError(msg) from err
    return _ESCAPED.sub(_escape_match, text)


def quote_name(text: str) -> str:
    """Percent-encode as :func:`quote`, and also what means something in the name of a file.

    Products are copied under their ids: a leading dot or dash, what Windows reserves, the names
    of its devices, and all letters of a text that is not in composed form.

    Raises LocationError as :func:`quote` does.
    """
    if _PLAIN_NAME.fullmatch(text) and not is_device(text):
        return text
    quoted = quote(text)
    if is_device(text):
        quoted = escape(quoted[0]) + quoted[1:]
    quoted = _ODD_IN_A_NAME.sub(lambda match: escape(match.group()), quoted)
    # Last: an accent would be composed with the E of %2E before it.
    if not (is_composed(text) and is_composed(quoted)):
        quoted = _NOT_ASCII.sub(lambda match: escape(match.group()), quoted)
    return quoted


def _escape_match(match: re.Match[str]) -> str:
    found = match.group()
    if found.isascii():
        return escape(found)
    # Letters of all scripts stand as they are; spaces, marks of direction and such do not.
    return "".join(c if is_shown(c) and not c.isspace() else escape(c) for c in found)


def shell_word(text: str) -> str:
    """Return an id as a word of a shell, which the command line takes for that id.

    >>> print(shell_word("EO:X:DAT:SST"), shell_word("-$(id)"))
    "EO:X:DAT:SST" 'hda://-$(id)'
    """
    word = quote(text)
    word = f"hda://{word}" if word.startswith("-") else word
    quoted = shlex.quote(word)
    # What needs no quotes has some all the same, as a hint for whoever puts in another id.
    return f'"{word}"' if quoted == word else quoted


def escape(text: str) -> str:
    """Percent-encode every character."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


def unquote(text: str, whole: str) -> str:
    """Decode percent-encoding, strictly.

    Raises
    ------
    LocationError
        A ``%`` escapes nothing, or the bytes are not UTF-8; the message shows the `whole` path.
    """
    if "%" not in text:
        return text
    wrong = _NO_ESCAPE.search(text)
    if wrong is not None:
        msg = f"Cannot read {whole!r}: '{wrong[0]}' is no escape; write a percent sign as %25."
        raise LocationError(msg)
    try:
        return unquote_to_bytes(text.encode("utf-8", "surrogatepass")).decode()
    except UnicodeDecodeError as err:
        msg = f"Cannot read {whole!r}: its percent-encoded bytes are not UTF-8."
        raise LocationError(msg) from err
