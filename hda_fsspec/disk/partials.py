"""Folders of unfinished products: named after their writer, taken over when it is gone.

A partial is ``v1/partial/<key>.<version tag>.<writer>/``. The rename that takes it over decides
between claimants, so that no two processes ever write into one file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from hda_fsspec.disk import writers
from hda_fsspec.disk.entries import RECORD_NAME
from hda_fsspec.disk.folder import TRASH_PREFIX, Folder

# No delivered name can equal these: safe names do not begin with a dot.
DATA_NAME = ".data"
FACTS_NAME = ".facts.json"
_COPY_NAME = ".copy"


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
    place = folder.path / "partial" / f"{stem}.{writers.new_writer()}"
    folder.make(place.parent)
    if _claim(folder, place, stem, now=now):
        return place
    folder.make(place)
    try:
        with (place / DATA_NAME).open("xb"):
            pass
        folder.adopt(place / DATA_NAME)
    except OSError as err:
        raise folder.explained(err) from err
    folder.write(place / FACTS_NAME, b"{}")
    return place


def is_abandoned(place: Path, *, now: float) -> bool:
    """Whether nobody writes to this partial any more; what is being deleted counts as such."""
    if place.name.startswith(TRASH_PREFIX):
        return True
    writer = ".".join(place.name.split(".")[2:])
    return writers.is_abandoned(writer, idle_seconds=now - last_touched(place))


def last_touched(place: Path) -> float:
    """Return when a partial was last written to; 0 if it vanished."""
    times = [0.0]
    for path in (place, place / FACTS_NAME, *_held_files(place)):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            times.append(path.stat().st_mtime)
    return max(times)


def held_bytes(place: Path) -> int:
    """Return how many bytes a partial holds; 0 if it vanished."""
    total = 0
    for path in _held_files(place):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _held_files(place: Path) -> list[Path]:
    """Return the file of a partial; it already has its readable name if its writer died late."""
    try:
        return [
            path
            for path in place.iterdir()
            if path.name == DATA_NAME or not (path.name.startswith(".") or path.name == RECORD_NAME)
        ]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _claim(folder: Folder, place: Path, stem: str, *, now: float) -> bool:
    """Take over the largest partial of a stem that is abandoned, under a name of our own."""
    found = [
        (size, path)
        for path in place.parent.iterdir()
        if path.name.startswith(f"{stem}.") and (size := held_bytes(path))
    ]
    for _, path in sorted(found, reverse=True):
        if not is_abandoned(path, now=now):
            continue
        is_gone = writers.liveness(path.name.removeprefix(f"{stem}.")) is writers.Liveness.GONE
        try:
            path.rename(place)
            # Touched at once, lest its age makes somebody take it for abandoned again.
            os.utime(place)
            _take_over(folder, place, is_gone=is_gone)
        except (FileNotFoundError, PermissionError):
            # Another claimant was faster, or a colleague keeps it private.
            if place.exists():
                folder.discard(place)
            continue
        except OSError as err:
            folder.discard(place)
            raise folder.explained(err) from err
        return True
    return False


def _take_over(folder: Folder, place: Path, *, is_gone: bool) -> None:
    held = _held_files(place)
    if not held:
        raise FileNotFoundError(place)
    data = held[0]
    if not is_gone:
        # A suspended process elsewhere may wake up and write on, into the file it has open: go on
        # with a copy that it has never seen.
        data = place / _COPY_NAME
        shutil.copyfile(held[0], data)
        held[0].unlink()
    data.rename(place / DATA_NAME)
    folder.adopt(place / DATA_NAME)
    for path in place.iterdir():
        if path.name not in {DATA_NAME, FACTS_NAME}:
            path.unlink()
    if not (place / FACTS_NAME).exists():
        folder.write(place / FACTS_NAME, b"{}")
