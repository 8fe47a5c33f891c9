"""Folders of unfinished products: named after their writer, taken over when it is gone.

A partial is ``v1/partial/<key>.<version tag>.<writer>/``. The rename that takes it over decides
between claimants, so that no two processes ever write into one file. That of another user is never
written to: what it holds is copied.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from hda_fsspec import untrusted_files
from hda_fsspec.cache import partial_writers
from hda_fsspec.cache.folder import TRASH_PREFIX, Folder
from hda_fsspec.cache.product_entries import RECORD_NAME
from hda_fsspec.untrusted_files import UntrustedFileError

# No delivered name can equal these: safe names do not begin with a dot.
DATA_NAME = ".data"
FACTS_NAME = ".facts.json"
_COPY_NAME = ".copy"

_COPY_BYTES = 1 << 20
_STAT_BLOCK_BYTES = 512


def begin(folder: Folder, stem: str, *, now: float) -> Path:
    """Return a private folder for a new writer, with what an abandoned one of that stem held.

    Parameters
    ----------
    folder : Folder
        The cache folder, prepared.
    stem : str
        ``<key>.<version tag>`` of the product.
    now : float
        The time, to tell whether a writer on another machine gave up.
    """
    partial = folder.path / "partial" / f"{stem}.{partial_writers.new_writer()}"
    folder.make(partial.parent)
    if _claim(folder, partial, stem, now=now):
        return partial
    folder.make(partial)
    try:
        with folder.create(partial / DATA_NAME) as data:
            folder.adopt(data.fileno())
    except OSError as err:
        raise folder.explained(err) from err
    folder.write(partial / FACTS_NAME, b"{}")
    return partial


def is_abandoned(folder: Folder, partial: Path, *, now: float) -> bool:
    """Whether nobody writes to this partial any more; what is being deleted counts as such."""
    if partial.name.startswith(TRASH_PREFIX):
        return True
    writer = ".".join(partial.name.split(".")[2:])
    return partial_writers.is_abandoned(writer, idle_seconds=now - last_touched(folder, partial))


def last_touched(folder: Folder, partial: Path) -> float:
    """Return when a partial was last written to; 0 if it vanished."""
    found = folder.look(partial)
    if found is None:
        return 0.0
    held = [
        facts.st_mtime
        for name, facts in folder.files(partial)
        if name == FACTS_NAME or is_held(name)
    ]
    return max([found.st_mtime, *held])


def held_bytes(folder: Folder, partial: Path) -> int:
    """Return how many bytes a partial holds; 0 if it vanished."""
    return sum(facts.st_size for name, facts in folder.files(partial) if is_held(name))


def is_held(name: str) -> bool:
    """Whether this is the file of a partial; its writer may have died when it was renamed."""
    return name == DATA_NAME or not (name.startswith(".") or name == RECORD_NAME)


def _held_file(folder: Folder, partial: Path) -> tuple[Path, os.stat_result]:
    held = [(partial / name, facts) for name, facts in folder.files(partial) if is_held(name)]
    if not held:
        raise FileNotFoundError(partial)
    return max(held, key=lambda file: (file[0].name == DATA_NAME, file[1].st_size))


def _claim(folder: Folder, partial: Path, stem: str, *, now: float) -> bool:
    """Take over the largest partial of a stem that is abandoned, under a name of our own."""
    if folder.look(partial.parent) is None:
        raise FileNotFoundError(partial.parent)
    found = [
        (size, path)
        for path, _ in folder.subfolders(partial.parent)
        if path.name.startswith(f"{stem}.") and (size := held_bytes(folder, path))
    ]
    for _, path in sorted(found, reverse=True):
        if not is_abandoned(folder, path, now=now):
            continue
        is_gone = (
            partial_writers.liveness(path.name.removeprefix(f"{stem}."))
            is partial_writers.Liveness.GONE
        )
        try:
            if not _is_own(folder, path):
                _copy(folder, path, partial)
                with contextlib.suppress(OSError):
                    folder.discard(path)
                return True
            folder.rename(path, partial)
            # Touched at once, lest its age makes somebody take it for abandoned again.
            folder.utime(partial)
            _take_over(folder, partial, is_gone=is_gone)
        except (FileNotFoundError, PermissionError, UntrustedFileError) as err:
            # Another claimant was faster, a colleague keeps it private, or it is none.
            untrusted_files.tell_once(err)
            if folder.look(partial) is not None:
                folder.discard(partial)
            continue
        except OSError as err:
            folder.discard(partial)
            raise folder.explained(err) from err
        return True
    return False


def _is_own(folder: Folder, partial: Path) -> bool:
    """Whether a partial and its file are of this user alone."""
    facts = folder.look(partial)
    if facts is None:
        raise FileNotFoundError(partial)
    _, held = _held_file(folder, partial)
    is_ours = stat.S_ISDIR(facts.st_mode) and folder.owns(facts, partial.parent)
    return is_ours and folder.is_own(held, partial.parent)


def _copy(folder: Folder, theirs: Path, partial: Path) -> None:
    """Copy what another user's partial holds, and what was remembered of it, into one of ours."""
    held, _ = _held_file(folder, theirs)
    with os.fdopen(folder.open(held), "rb") as source:
        facts = os.fstat(source.fileno())
        # A file that is mostly holes would fill the disk with zeros, and a second name of a private
        # file would give it to all who read the cache.
        if facts.st_blocks * _STAT_BLOCK_BYTES < facts.st_size or facts.st_nlink > 1:
            raise FileNotFoundError(held)
        folder.make(partial)
        _write_copy(folder, source, partial / DATA_NAME)
    try:
        remembered = folder.read(theirs / FACTS_NAME)
    except FileNotFoundError:
        remembered = b"{}"
    folder.write(partial / FACTS_NAME, remembered)


def _write_copy(folder: Folder, source: BinaryIO, target: Path) -> None:
    # No more than there is now: whoever owns it may write on for ever.
    left = os.fstat(source.fileno()).st_size
    with folder.create(target) as copy:
        while left > 0 and (piece := source.read(min(left, _COPY_BYTES))):
            copy.write(piece)
            left -= len(piece)
        copy.flush()
        folder.adopt(copy.fileno())


def _take_over(folder: Folder, partial: Path, *, is_gone: bool) -> None:
    data, _ = _held_file(folder, partial)
    with os.fdopen(folder.open_own(data, os.O_RDWR), "rb") as source:
        if not is_gone:
            # A suspended process elsewhere may wake up and write on, into the file it has open: go
            # on with a copy that it has never seen.
            folder.unlink(partial / _COPY_NAME)
            _write_copy(folder, source, partial / _COPY_NAME)
            folder.unlink(data)
            data = partial / _COPY_NAME
        else:
            folder.adopt(source.fileno())
    folder.rename(data, partial / DATA_NAME)
    for name in folder.names(partial):
        if name not in {DATA_NAME, FACTS_NAME}:
            folder.unlink(partial / name)
    if folder.look(partial / FACTS_NAME) is None:
        folder.write(partial / FACTS_NAME, b"{}")
