"""Targets of ``get``: local files and folders; for other addresses, the line that copies there."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from hda_fsspec.errors import LocationError
from hda_fsspec.fs.info import Paths, is_one_path, list_of, refuse_root
from hda_fsspec.fs.write_errors import explained
from hda_fsspec.localpaths import can_be_path, local_path, remote_scheme, shown
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import lines


def local_target(source: Paths, target: Any) -> Any:
    """Return the local path, or paths, that products are to be copied to.

    Parameters
    ----------
    source : str, Location, or a list of them
        What is to be copied.
    target : str, path, open file, or a list of them
        ``file://`` and ``~`` are understood; an open file is taken as it is.

    Raises
    ------
    LocationError
        It is not on this machine; the message has the line that copies there.
    """
    if isinstance(target, (list, tuple)):
        sources = source if isinstance(source, (list, tuple)) else [source] * len(target)
        # Of different lengths: what fsspec makes of that is not decided here.
        pairs = zip(sources, target, strict=False)
        return [local_target(path, place) for path, place in pairs]
    if hasattr(target, "write"):
        return target
    scheme = remote_scheme(target)
    if scheme is None:
        return _checked(local_path(target))
    msg = (
        f"Cannot copy to {shown(target)}: get writes local files, and {scheme}:// is another "
        "filesystem. Nothing was ordered. This copies there, under the names that the service "
        "delivers:"
    )
    raise LocationError(lines(msg, f"  {_line(source, target)}"))


def _checked(path: str) -> str:
    """Return a local path that can be one, before anything is ordered for it."""
    if not can_be_path(path):
        msg = f"Cannot copy to {path!r}: no local path can hold its characters. Give another one."
        raise LocationError(msg)
    with explained(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)  # knows which names are too long there
    return path


def _line(source: Paths, target: Any) -> str:
    """Return Python that copies products to another filesystem."""
    several = [Location.parse(item) for item in list_of(source)]
    for location in several:
        refuse_root(location, None)
    paths = [location.path for location in several]
    to = shown(target).strip()
    return f"fs.download({(paths[0] if is_one_path(source) else paths)!r}, {to!r})"
