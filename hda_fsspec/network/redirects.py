"""Redirects: read, and followed or refused. Pure functions over addresses."""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin, urlsplit

#: Statuses of answers that name another address.
REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: A file may be led to over so many addresses.
MOST_REDIRECTS = 10

_LONGEST_ADDRESS = 16_384
_SHOWN_CHARACTERS = 100
_PORTS = {"http": 80, "https": 443}


class RedirectError(ValueError):
    """An address that is not gone to; the text says why, in words that follow its name."""


def next_address(
    address: str, status: int, location: str, *, hops: int, method: str, is_file: bool
) -> tuple[str, bool]:
    """Return where to send a request again, and whether that is another server.

    Parameters
    ----------
    address : str
        Where it was answered.
    status, location : int, str
        What the answer says.
    hops : int
        How often it was sent again already.
    method : str
        That of the request.
    is_file : bool
        Whether a file is asked for, which may lie elsewhere.

    Raises
    ------
    RedirectError
        It is sent nowhere.
    """
    if hops >= MOST_REDIRECTS:
        msg = f"is one of more than {MOST_REDIRECTS} in a row"
        raise RedirectError(msg)
    target = target_of(address, location if status in REDIRECTS else "")
    is_elsewhere = not is_same_origin(address, target)
    if is_elsewhere and not is_file:
        msg = "is another server, where only a file may be"
        raise RedirectError(msg)
    if status < 307 and method != "GET":
        msg = "is to be asked for without what was sent"
        raise RedirectError(msg)
    return target, is_elsewhere


def target_of(address: str, location: str) -> str:
    """Return the address that the answer of another one names in ``Location``.

    Raises
    ------
    RedirectError
        It is none, or it leads from an encrypted connection to an open one.
    """
    try:
        # The library reads headers as Latin-1; what is no ASCII there is UTF-8.
        text = location.encode("latin-1").decode("utf-8").strip()
    except (UnicodeEncodeError, UnicodeDecodeError):
        text = location.strip()
    if not text or len(text) > _LONGEST_ADDRESS or re.search(r"[\x00-\x1f\x7f-\x9f\\]", text):
        msg = "is no address"
        raise RedirectError(msg)
    try:
        # A percent sign stays: what is encoded already must not be so twice.
        encoded = quote(text, safe="%/:=&?~#+!$,;'@()*[]|")
        target = urljoin(address, encoded)
        parts = urlsplit(target)
        # Joined to another of the same scheme, "https:///x" is a path of that one's host.
        is_hostless = bool(urlsplit(encoded).scheme and not urlsplit(encoded).netloc)
        host, has_user = _host_of(target), "@" in parts.netloc
    except ValueError as err:
        msg = "is no address"
        raise RedirectError(msg) from err
    if parts.scheme not in _PORTS or not host or has_user or is_hostless:
        msg = "is no address of a file on the web"
        raise RedirectError(msg)
    if parts.scheme == "http" and urlsplit(address).scheme == "https":
        msg = "is not encrypted, as the address was that leads there"
        raise RedirectError(msg)
    return target.partition("#")[0]


def is_same_origin(one: str, other: str) -> bool:
    """Whether two addresses are of one server: the same scheme, host and port."""
    return urlsplit(one).scheme == urlsplit(other).scheme and _host_of(one) == _host_of(other)


def shown(address: str) -> str:
    """Return what may be told of an address elsewhere: its query may hold a key to the file."""
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = None
    if parts is None or not parts.netloc:
        return repr(address.partition("?")[0][:_SHOWN_CHARACTERS])[: _SHOWN_CHARACTERS + 2]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"[:_SHOWN_CHARACTERS]


def _host_of(address: str) -> tuple[str, int] | None:
    parts = urlsplit(address)
    port = parts.port or _PORTS.get(parts.scheme, 0)
    return (parts.hostname.rstrip("."), port) if parts.hostname else None
