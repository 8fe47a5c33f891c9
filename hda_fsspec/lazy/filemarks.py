"""What tells one file of a product from another that lies at its path later.

A product may be evicted and fetched again after the service published it anew: the path is the
same, the file is not.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import xarray as xr

from hda_fsspec.client import Entry

_DECODED_BY = f"xarray {xr.__version__}"

#: When the file was fetched, its length and time of change, and what decodes it.
FileStamp = tuple[float, int, int, str]


def file_mark(entry: Entry) -> FileStamp:
    """Return what tells a file from what may lie there later, and how it is decoded.

    FileNotFoundError if another one lies there now, a link or a FIFO for instance.
    """
    found = os.lstat(entry.path)  # this is the hot path
    if (found.st_dev, found.st_ino) != entry.file_id:
        raise FileNotFoundError(errno.ENOENT, "The file was replaced", os.fspath(entry.path))
    return entry.fetched_at, found.st_size, found.st_mtime_ns, _DECODED_BY


def is_unchanged(path: str | Path, mark: FileStamp) -> bool:
    """Whether the file that lies there is still the one of a mark that was taken before.

    One that is gone is not: it may have been replaced before it was evicted.
    """
    try:
        found = os.lstat(path)  # this is the hot path
    except FileNotFoundError:
        return False
    return (found.st_size, found.st_mtime_ns) == mark[1:3] and stat.S_ISREG(found.st_mode)
