"""Local targets and their paths: ``file://`` and ``~`` are local, ``s3://`` is not.

Pathlib and ``os.path`` take any URL for the name of a folder, so every place that writes to a
local target asks here first.
"""

from __future__ import annotations

import os
import re
from typing import Any

import fsspec

_LOCAL = ("file", "local")
# One letter is the drive of a Windows path.
_URL = re.compile(r"\s*(?P<scheme>[A-Za-z][A-Za-z0-9+._-]+):/(?P<slash>/?)")
_USERINFO = re.compile(r"(?<=://)[^/]*@")


def text_of(target: Any) -> str:
    """Return a path or URL as text, of strings, pathlib's paths, UPaths and fsspec's open files.

    Raises TypeError for anything else.
    """
    if isinstance(target, (str, bytes, os.PathLike)):
        return os.fsdecode(target)
    if hasattr(target, "full_name"):
        return str(target.full_name)
    if hasattr(target, "path"):
        # str(UPath("s3://…")) has the protocol that its path lacks.
        return str(target)
    msg = f"A path is a str, a pathlib.Path or a UPath, and {target!r} is none."
    raise TypeError(msg)


def remote_scheme(target: Any) -> str | None:
    """Return the scheme of a target that is not on this machine; None for a local one.

    >>> remote_scheme("s3://bucket/x"), remote_scheme("zip://a::file:///b.zip")
    ('s3', 'zip')
    >>> remote_scheme("file:///data"), remote_scheme("~/a::b"), remote_scheme("C:/data")
    (None, None, None)
    """
    text = text_of(target)
    first, *chained = text.split("::")
    known = fsspec.available_protocols()
    if chained and (first in known or any(_URL.match(link) for link in chained)):
        return (_scheme(first) or first).lower()
    match = _URL.match(text)
    if match is None:
        return None
    scheme = match["scheme"].lower()
    # pathlib leaves one slash of two: "s3:/bucket" was "s3://bucket" once.
    is_url = match["slash"] or scheme in known
    return scheme if is_url and scheme not in _LOCAL else None


def local_path(target: Any) -> str:
    """Return where a local target is, as fsspec's own local filesystem understands it.

    ``file://`` and ``local://`` are left out and ``~`` is the home folder; a slash at the end
    stays. Raises ValueError for a target that is not local.
    """
    scheme = remote_scheme(target)
    if scheme is not None:
        msg = f"{shown(target)} is no local path, but one of {scheme}://"
        raise ValueError(msg)
    text = text_of(target)
    for prefix in (f"{name}:{slashes}" for name in _LOCAL for slashes in ("//", "")):
        if text.startswith(prefix):
            text = text.removeprefix(prefix)
            break
    return os.path.expanduser(text)  # noqa: PTH111  (pathlib drops the slash at the end)


def can_be_path(text: str) -> bool:
    """Whether a local file system can hold the characters of a path."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def shown(target: Any) -> str:
    """Return a URL for a message: without a password, and without what may be a signature."""
    return _USERINFO.sub("", text_of(target)).partition("?")[0]


def _scheme(text: str) -> str | None:
    match = _URL.match(text)
    return None if match is None else match["scheme"]
