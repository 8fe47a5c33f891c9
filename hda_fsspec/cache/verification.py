"""Whether a product on disk still is what was fetched: its length, its checksum, its format.

The format is told by a callable. Nothing is removed here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from hda_fsspec.cache.entries import RECORD_NAME, Entry
from hda_fsspec.cache.folder import Folder
from hda_fsspec.errors import ProductFormatError


def verify_entry(folder: Folder, entry: Entry, check: Callable[[Path], object]) -> Entry:
    """Compare an entry with its record, call ``check(path)``, and return it with its checksum.

    A checksum that was not known is recorded; the time of last use stays.

    Raises
    ------
    ProductFormatError
        The length or the checksum differs; or whatever ``check`` raises.
    """
    with os.fdopen(folder.open(entry.path), "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        checksum = hashlib.file_digest(handle, "sha256").hexdigest() if size == entry.size else ""
    if size != entry.size:
        msg = (
            f"{entry.path} has {size} bytes, and had {entry.size} when it was fetched. Remove it,"
            " and it is fetched again."
        )
        raise ProductFormatError(msg)
    if entry.sha256 is not None and checksum != entry.sha256:
        msg = (
            f"{entry.path} has other bytes than when it was last verified. Remove it, and it is"
            " fetched again."
        )
        raise ProductFormatError(msg)
    check(entry.path)
    verified = dataclasses.replace(entry, sha256=checksum)
    if entry.sha256 is None:
        _record_checksum(folder, verified)
    return verified


def _record_checksum(folder: Folder, entry: Entry) -> None:
    record = entry.folder / RECORD_NAME
    # The folder may be read-only, or the entry evicted meanwhile: then the next verification
    # computes the checksum again.
    with contextlib.suppress(OSError):
        found = folder.look(record)
        if found is not None:
            folder.write(record, entry.record(), modified_at=found.st_mtime)
