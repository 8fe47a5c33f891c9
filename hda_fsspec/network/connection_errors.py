"""Causes of connection errors, unwrapped from the exceptions of the HTTP libraries."""

from __future__ import annotations

import errno
import http.client
import re
import socket
import ssl
from collections.abc import Iterator

from hda_fsspec.network.response_limits import LateError, TooLongError
from hda_fsspec.printable import warn

_UNREACHABLE = frozenset(
    {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}
)

#: The addresses that the user was warned of.
_unverified: dict[str, object] = {}


def causes_of(err: BaseException) -> Iterator[BaseException]:
    """Walk through what an error of requests was made of, by all the ways in which it is told."""
    left, seen = [err], set[int]()
    while left:
        error = left.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        told = (*error.args, error.__cause__, getattr(error, "reason", None))
        left.extend(other for other in told if isinstance(other, BaseException))


def words_of(err: BaseException) -> str:
    """Return what a fault says, or what it was made of: that of a library may say less."""
    ours = (cause for cause in causes_of(err) if isinstance(cause, (LateError, TooLongError)))
    said = str(next(ours, err))
    # The query of an address may hold a key to the file that is there.
    return re.sub(r"\?[^\s'\")]+", "?…", said)


def kind_beneath(err: BaseException) -> str:
    """Return the kind of a fault by what it was made of: a "connection" if nothing else."""
    kinds = {_kind_of(cause) for cause in causes_of(err)}
    ranked = ("proxy", "too long", "nobody there", "not HTTP")
    return next((kind for kind in ranked if kind in kinds), "connection")


def _kind_of(cause: BaseException) -> str:
    if "Tunnel connection failed: 407" in str(cause):
        return "proxy"
    if isinstance(cause, TooLongError):
        return "too long"
    is_unreachable = isinstance(cause, OSError) and cause.errno in _UNREACHABLE
    if isinstance(cause, socket.gaierror) or is_unreachable:
        return "nobody there"
    if isinstance(cause, http.client.BadStatusLine):
        # The half of one was cut, and nothing is wrong with it.
        is_whole = str(cause).endswith("\n")
        return "not HTTP" if is_whole else ""
    is_cut = isinstance(cause, http.client.IncompleteRead)
    return "not HTTP" if isinstance(cause, http.client.HTTPException) and not is_cut else ""


def is_handshake_cut(err: BaseException) -> bool:
    """Whether the other side hung up in the middle of a handshake."""
    cut = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
    return any(isinstance(cause, cut) for cause in causes_of(err))


def needs_network(what: str) -> str:
    """Say that something cannot be asked for offline."""
    return (
        f"{what} needs the network, and offline is set. "
        "Unset offline (or HDA_OFFLINE), or use only what the cache holds."
    )


def not_verified(endpoint_url: str) -> str:
    """Say what it means that certificates are not verified."""
    return (
        f"verify is False: the certificates of {endpoint_url}, and of what it leads to, are "
        "not verified, and whoever is on the way can read the password. If your site has its "
        "own certificates, set verify (HDA_VERIFY) to their bundle."
    )


def warn_unverified(endpoint_url: str, category: type[Warning]) -> None:
    """Warn once per process that the certificates of a broker are not verified."""
    mine = object()
    # In one step and without a lock, which a fork could leave held for ever.
    if _unverified.setdefault(endpoint_url, mine) is mine:
        warn(not_verified(endpoint_url), category, stacklevel=4)
