"""Parsing of responses: error bodies, quota headers, file names, ranges.

Pure functions over status, headers and bytes. Whatever the network sends, they return a value;
they never raise (but one). Sources of the shapes: ``docs/service.md``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import functools
import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC
from typing import Any
from urllib.parse import unquote

from hda_fsspec.errors import LICENCES, NO_DATA, HDAError
from hda_fsspec.network.secret_spellings import Needle, Spot, find, merged, needles_of

#: So much is read of the body of an error.
ERROR_BODY_BYTES = 64 * 1024
_SHOWN_CHARACTERS = 300
_SKEW_SECONDS = 60.0  # less may be the way of an answer
_LICENCE_WORDS = re.compile(r"(?i)\b(terms|conditions|licen[cs]es?)\b")
_ACCEPTANCE_WORDS = re.compile(r"(?i)accept|agree")
_NO_DATA = "there is no data matching your request"  # how EO:ECMWF says "empty" (CS-SI/eodag#1228)
#: What stands in the place of a secret.
MASK = "***"
#: Shorter secrets are masked only where they are a value of their own.
SHORT_CHARACTERS = 4
_LOOKED_AT_PER_SHOWN = 100
_MOST_PER_BYTE = 6  # as "\\u00e4"
_MILLISECONDS_FROM = 1e11  # hda 2.35-2.39 read X-Quota-Reset as seconds, 2.40 as milliseconds


@dataclasses.dataclass(frozen=True, slots=True)
class ResponseHead:
    """The head of an answer: its status and headers (looked up without regard to case)."""

    status: int
    headers: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """An unwanted answer, reduced to what can be told and decided on.

    Attributes
    ----------
    status : int
        The HTTP status that counts: the innermost one, where an error is wrapped in another.
    text : str
        Title and detail, or the text of a page, in at most 300 characters, without secrets.
    is_page : bool
        Whether the body was HTML, which the broker itself never sends.
    subject : str or None
        What the text is about, as the service wrote it; see :class:`~hda_fsspec.errors.HDAError`.
    """

    status: int
    text: str
    is_page: bool = False
    subject: str | None = None


def parse_problem(status: int, body: bytes, secrets: Collection[str] = ()) -> Problem:
    """Say what an error answer says, and not the secrets that it may quote.

    ``detail`` may be text, a list of FastAPI's validation errors, or a text that holds the JSON of
    another error, whose status is then the one that counts: a quota error of the service behind
    the broker comes as a 500 with a 429 inside.
    """
    text, inner = body.decode("utf-8", "replace"), None
    value = _json_or_none(text)
    if isinstance(value, Mapping):
        with contextlib.suppress(RecursionError):
            inner, text = _unwrap(value, depth=0)
        return _problem(inner or status, text, redact(text, secrets))
    shown = redact(text, secrets)
    if len(body) >= ERROR_BODY_BYTES:
        shown = shown[: len(shown) - _longest(secrets)]  # it may end with the half of one
    is_page = text.lstrip()[:200].lower().startswith(("<!doctype", "<html", "<?xml", "<head"))
    if is_page:
        # An element or tag that never ends is taken to the end, so that the time is linear.
        text, shown = (
            re.sub(r"(?is)<(script|style)\b.*?(?:</\1>|\Z)|<[^<>]*>?", " ", form)
            for form in (text, shown)
        )
    return _problem(status, text, shown, is_page=is_page)


def _problem(status: int, text: str, shown: str, *, is_page: bool = False) -> Problem:
    # Its subject is decided by what the service wrote, and not by what may be shown of it.
    return Problem(status, _shorten(shown), is_page, _subject(_shorten(text)))


def _subject(text: str) -> str | None:
    if _NO_DATA in text.lower():
        return NO_DATA
    return LICENCES if _LICENCE_WORDS.search(text) and _ACCEPTANCE_WORDS.search(text) else None


def is_about_licences(refusal: BaseException) -> bool:
    """Whether a refusal says that licences ("terms and conditions") are not accepted."""
    said_by = refusal.__cause__ or refusal
    return isinstance(said_by, HDAError) and said_by.subject == LICENCES


def _unwrap(value: Mapping[str, Any], *, depth: int) -> tuple[int | None, str]:
    status = value.get("status_code")
    detail = value.get("detail", value.get("message", value.get("error_description")))
    inner: Any = _json_or_none(detail) if isinstance(detail, str) else detail
    if isinstance(inner, Mapping) and depth < 5:
        deeper, told = _unwrap(inner, depth=depth + 1)
        return deeper or _status(status), told
    if isinstance(inner, list):
        detail = "; ".join(_validation_error(entry) for entry in inner[:5])
    elif isinstance(detail, str) and (wrapped := re.match(r"\s*(4\d\d|5\d\d), message=", detail)):
        # The text form of the aiohttp error that the broker got from the service behind it.
        status = int(wrapped.group(1))
    title = value.get("title", value.get("error"))
    told = ": ".join(str(part) for part in (title, detail) if part)
    return _status(status), told or str(dict(value))


def _status(value: object) -> int | None:
    return value if isinstance(value, int) and 400 <= value <= 599 else None


def _validation_error(entry: object) -> str:
    if not isinstance(entry, Mapping):
        return str(entry)
    where = entry.get("loc")
    place = ".".join(str(part) for part in where) if isinstance(where, list) else ""
    return f"{place} {entry.get('msg', '')}".strip() or str(dict(entry))


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _shorten(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN_CHARACTERS else f"{flat[: _SHOWN_CHARACTERS - 1]}…"


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaState:
    """The quota headers of one answer; None where one is missing or no number.

    Attributes
    ----------
    limit, remaining : int or None
        Orders per window, and how many of them are left.
    reset_at : float or None
        When an order comes back, in seconds since 1970 (UTC).
    """

    limit: int | None = None
    remaining: int | None = None
    reset_at: float | None = None


def quota_state(headers: Mapping[str, str], now: float | None = None) -> QuotaState:
    """Read ``X-Quota-Limit``, ``-Remaining`` and ``-Reset`` (seconds or milliseconds).

    With ``now``, the time of this machine, the reset is told by its clock, however wrong that is.
    """
    reset = _number(headers.get("X-Quota-Reset"))
    if reset is not None and reset > _MILLISECONDS_FROM:
        reset /= 1000
    theirs = _date(headers.get("Date"))
    if reset is not None and now is not None and theirs is not None:
        skew_seconds = now - theirs
        reset += skew_seconds if abs(skew_seconds) > _SKEW_SECONDS else 0.0
    limit = _number(headers.get("X-Quota-Limit"))
    remaining = _number(headers.get("X-Quota-Remaining"))
    return QuotaState(
        None if limit is None else int(limit),
        None if remaining is None else int(remaining),
        reset,
    )


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read ``Retry-After``, in seconds or as a date, as seconds from ``now``."""
    value = headers.get("Retry-After")
    seconds = _number(value)
    if seconds is None:
        date = _date(value)
        if date is None:
            return None
        # By the clock of the service, where it is told: this machine's may be wrong.
        theirs = _date(headers.get("Date"))
        seconds = date - (now if theirs is None else theirs)
    return max(0.0, seconds)


def _date(value: str | None) -> float | None:
    """Read the date of a header as seconds since 1970."""
    if value is None:
        return None
    try:
        date = email.utils.parsedate_to_datetime(value)
        # A date of the zone "-0000" is in UTC, and yet comes without a zone.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _number(value: object) -> float | None:
    if not isinstance(value, str) or not re.fullmatch(r"(?a)\s*\d{1,18}(\.\d{1,9})?\s*", value):
        return None
    return float(value)


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Whether the body is not sent as it is stored."""
    named = headers.get("Content-Encoding", "").lower().split(",")
    return any(name.strip() not in {"", "identity"} for name in named)


def content_length(headers: Mapping[str, str]) -> int | None:
    """Read the length of the body as stored, None where it is missing, malformed or encoded.

    Where chunks tell the end it is not this header that does.
    """
    value = headers.get("Content-Length", "")
    is_length = not is_encoded(headers) and not headers.get("Transfer-Encoding")
    return int(value) if is_length and re.fullmatch(r"(?a)\s*\d{1,18}\s*", value) else None


def content_range(headers: Mapping[str, str]) -> tuple[int, int | None] | None:
    """Read ``Content-Range`` as (first byte, total length or None)."""
    found = re.fullmatch(
        r"(?a)\s*bytes\s+(\d{1,18})-\d{1,18}/(\d{1,18}|\*)\s*", headers.get("Content-Range", "")
    )
    if found is None:
        return None
    return int(found.group(1)), None if found.group(2) == "*" else int(found.group(2))


def delivered_name(headers: Mapping[str, str]) -> str | None:
    """Read the file name of ``Content-Disposition``, just as sent: it is not to be trusted."""
    value = headers.get("Content-Disposition", "")
    extended = re.search(r"filename\*\s*=\s*([\w-]*)'[^']*'([^;]+)", value, re.IGNORECASE)
    # Other character sets than the two of RFC 5987 are not read: Python knows "idna" and such, too.
    if extended is not None and extended.group(1).lower() in {"", "utf-8", "iso-8859-1"}:
        return unquote(extended.group(2).strip(), extended.group(1) or "utf-8") or None
    quoted = re.search(r'filename\s*=\s*"((?:\\.|[^"\\])*)"', value, re.IGNORECASE)
    if quoted is not None:
        return _as_sent(re.sub(r"\\(.)", r"\1", quoted.group(1))) or None
    plain = re.search(r"filename\s*=\s*([^;]+)", value, re.IGNORECASE)
    return (_as_sent(plain.group(1).strip().strip('"')) or None) if plain is not None else None


def _as_sent(text: str) -> str:
    """Read a header as UTF-8 where it is that: libraries read all of them as Latin-1."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def read_json(body: bytes) -> Any:
    """Read the JSON of an answer, as it is: what is shown or kept of it is another's affair.

    The one function here that raises: ValueError and RecursionError, as :func:`json.loads` does.
    """
    return json.loads(body.decode(json.detect_encoding(body), "surrogatepass"))


def redact(text: str, secrets: Collection[str]) -> str:
    """Replace secrets by asterisks, however addresses, JSON, HTML, Python or headers write them.

    Those of less than four characters stand in half of all words, and are replaced only where they
    are a value of their own. This is for what is shown: what is parsed must not go through here.
    """
    end, parts = 0, []
    for start, after in merged(_spots(text, secrets)):
        parts += [text[end:start], MASK]
        end = after
    return "".join([*parts, text[end:]]) if parts else text


def quotes(text: str, secrets: Collection[str]) -> bool:
    """Whether :func:`redact` would replace anything."""
    return bool(_spots(text, secrets))


def _spots(text: str, secrets: Collection[str]) -> list[Spot]:
    return find(text, needles_for(tuple(secrets))) if text else []


@functools.lru_cache(maxsize=32)
def needles_for(secrets: tuple[str, ...]) -> tuple[Needle, ...]:
    """Return what is looked for by :func:`redact`."""
    return tuple(needle for secret in secrets for needle in needles_of(secret, SHORT_CHARACTERS))


def excerpt(text: str, secrets: Collection[str], length: int) -> str:
    """Return the beginning of a text, without secrets, and without the half of one at its end."""
    looked_at = _LOOKED_AT_PER_SHOWN * length
    shown = redact(text[:looked_at], secrets)
    if len(text) > looked_at:
        shown = shown[: max(0, len(shown) - _longest(secrets))]
    return shown[:length]


def _longest(secrets: Collection[str]) -> int:
    lengths = (len(secret.encode("utf-8", "surrogatepass")) for secret in secrets)
    return _MOST_PER_BYTE * max(lengths, default=0)
