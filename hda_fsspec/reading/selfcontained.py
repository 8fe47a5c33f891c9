"""No product reads another file: what leads out of one is refused before any library opens it.

What was found of a file holds as long as it is the same file, and is kept for other processes of
the same user: to look through the header of a product takes as long as a small read.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import Format, sniff
from hda_fsspec.formats.file_reader import CorruptFileError, FileBytes, Reference
from hda_fsspec.formats.references import find_reference
from hda_fsspec.reading.unpacking import folder_above, make_folder
from hda_fsspec.untrusted_files import SafeFolder, reader_of, tell_once

#: To be raised when more kinds of references are told than before.
_RULES = 2
_MOST_REMEMBERED = 10_000
_MOST_SHOWN = 200
#: Formats in which there is so little to look at that it need not be noted.
_AT_A_GLANCE = frozenset({Format.GRIB, Format.NETCDF3})

_Stamp = tuple[int, int, int, int]
_trusted: dict[str, _Stamp] = {}


def refuse_references(path: Path, *, name: str, scratch: Path | None) -> None:
    """Raise unless everything that a file is made of is in the file.

    Parameters
    ----------
    path : Path
        The file, of any format.
    name : str
        What to call it in messages.
    scratch : Path or None
        A folder in which may be noted, for this user alone, which file was looked at.

    Raises
    ------
    ProductFormatError
        Something in the file leads to another file or to an address; the message says what it
        is, where it stands, and what it leads to. Or the file cannot be looked through.
    """
    place = os.fspath(path)
    stamp = _stamp(os.stat(place))  # noqa: PTH116  # this is done at each opening
    if _trusted.get(place) == stamp:
        return
    note = f"{_RULES}-" + "-".join(f"{number:x}" for number in stamp)
    if scratch is None or not _is_noted(scratch, note):
        _look_through(path, name, stamp)
        if scratch is not None and sniff(path) not in _AT_A_GLANCE:
            _note(scratch, note)
    if len(_trusted) >= _MOST_REMEMBERED:
        _trusted.clear()
    _trusted[place] = stamp


def _stamp(found: os.stat_result) -> _Stamp:
    # The time of the last change of any kind cannot be set by anybody.
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _look_through(path: Path, name: str, stamp: _Stamp) -> None:
    with reader_of(path) as stream:
        is_same = _stamp(os.fstat(stream.fileno())) == stamp
        try:
            found = find_reference(FileBytes(stream))
        except CorruptFileError as damage:
            msg = (
                f"{name} was not opened: whether it leads to other files cannot be told, since "
                f"{damage}. If it opens with other tools and you trust it, make it local with "
                "fsspec.open_local and open it with them; else fetch it again."
            )
            raise ProductFormatError(msg) from damage
        is_same = is_same and _stamp(os.fstat(stream.fileno())) == stamp
    if found is not None:
        raise _leads_out(name, found)
    if not is_same:
        msg = f"{name} was not opened: its file {path} changed in that moment. Open it again."
        raise ProductFormatError(msg)


def _leads_out(name: str, found: Reference) -> ProductFormatError:
    inside, target = (text[:_MOST_SHOWN] for text in (found.inside, found.target))
    return ProductFormatError(
        f"{name} was not opened: it holds {found.kind}, {inside!r}, which leads to {target!r}. "
        "A product must hold all of its data, since what leads out of it could read any file of "
        "yours. If you trust it, make it local with fsspec.open_local and open it with xarray."
    )


def _is_noted(scratch: Path, note: str) -> bool:
    safe = SafeFolder(scratch.parent, is_given=False)
    try:
        with safe.inside(_folder(scratch)) as folder:
            if not _is_private(safe, folder, scratch):
                return False
            found = os.stat(note, dir_fd=folder, follow_symlinks=False)
            return stat.S_ISDIR(found.st_mode)
    except OSError as err:
        tell_once(err)
        return False


def _note(scratch: Path, note: str) -> None:
    try:
        safe = folder_above(scratch)
        make_folder(safe, scratch)
        with contextlib.suppress(FileExistsError):
            safe.make(_folder(scratch))
        with safe.inside(_folder(scratch), is_listed=True) as folder:
            if _is_private(safe, folder, scratch):
                for former in os.listdir(folder):  # noqa: PTH208  (by its descriptor)
                    os.rmdir(former, dir_fd=folder)
                os.mkdir(note, 0o700, dir_fd=folder)
    except OSError as err:
        tell_once(err)  # without a note the next process looks again


def _folder(scratch: Path) -> Path:
    return scratch / f"checked-{os.geteuid()}"


def _is_private(safe: SafeFolder, folder: int, scratch: Path) -> bool:
    """Whether what is in a folder can only be from this user: others' notes say nothing."""
    facts = os.fstat(folder)
    return safe.owns(facts, scratch) and not facts.st_mode & 0o022
