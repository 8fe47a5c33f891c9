"""Where copies go: local files and folders, and the lines that copy to other filesystems."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from hda_fsspec.errors import LocationError
from hda_fsspec.fs.info import Paths, refuse_root, to_location
from hda_fsspec.fs.writing import explained
from hda_fsspec.localpaths import local_path, remote_scheme, shown
from hda_fsspec.printable import lines


def local_target(source: Paths, target: Any, *, settings: Mapping[str, Any] | None = None) -> Any:
    """Return the local path, or paths, that products are to be copied to.

    Parameters
    ----------
    source : str, Location, or a list of them
        What is to be copied.
    target : str, path, open file, or a list of them
        ``file://`` and ``~`` are understood; an open file is taken as it is.
    settings : mapping, optional
        Those that were given to the filesystem, and that another instance would not find.

    Raises
    ------
    LocationError
        It is not on this machine; the message has the lines that copy there.
    """
    if isinstance(target, (list, tuple)):
        sources = source if isinstance(source, (list, tuple)) else [source] * len(target)
        # Of different lengths: what fsspec makes of that is not decided here.
        pairs = zip(sources, target, strict=False)
        return [local_target(one, each, settings=settings) for one, each in pairs]
    if hasattr(target, "write"):
        return target
    scheme = remote_scheme(target)
    if scheme is None:
        return _checked(local_path(target))
    msg = (
        f"Cannot copy to {shown(target)}: get and download write local files, and {scheme}:// is "
        "another filesystem. Nothing was ordered. This copies there, in Python:"
    )
    raise LocationError(
        lines(msg, *(f"  {line}" for line in _lines(source, target, settings or {})))
    )


def _checked(path: str) -> str:
    """Return a local path that can be one, before anything is ordered for it."""
    try:
        is_path = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_path = False
    if not is_path:
        msg = f"Cannot copy to {path!r}: no local path can hold its characters. Give another one."
        raise LocationError(msg)
    with explained(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)  # knows which names are too long there
    return path


def _lines(source: Paths, target: Any, settings: Mapping[str, Any]) -> list[str]:
    """Return Python that copies products to another filesystem."""
    to = shown(target).strip()
    if isinstance(source, (list, tuple)):
        first, *others = source or ["hda://…"]
        to = to if not others or to.endswith("/") else f"{to}/"
        lines = _lines(first, to, settings)
        return [*lines, f"# and so the other {len(others)}"] if others else lines
    location = to_location(source)
    refuse_root(location, None)
    path = location.path
    if location.pattern is None and location.product is None:
        options = ""
        if settings:
            options = (
                ", inst_kwargs={'default_method': 'options', "
                "'storage_options': {'hda': fs.storage_options}}"
            )
        return [
            "import fsspec.generic",
            f"fsspec.generic.rsync({path!r}, {to.rstrip('/')!r}{options})",
        ]
    if location.pattern is None:
        to += location.name if to.endswith("/") else ""
        return _copy(repr(path), repr(to))
    copy = _copy("path", f"{to.rstrip('/') + '/'!r} + path.rpartition('/')[2]")
    return [*copy[:1], f"for path in fs.glob({path!r}):", *(f"    {line}" for line in copy[1:])]


def _copy(path: str, to: str) -> list[str]:
    return [
        "import fsspec, shutil",
        f"with fs.open({path}) as source, fsspec.open({to}, 'wb') as copy:",
        "    shutil.copyfileobj(source, copy)",
    ]
