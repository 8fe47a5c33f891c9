"""The files inside a ZIP, a TAR or a compressed file: their names, and a stream of each.

Names in an archive come from the network: one that leads out of it is refused. The module writes
nothing; that is done in :mod:`hda_fsspec.reading.unpacking`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.filenames import alike
from hda_fsspec.formats.archive_completeness import damage_errors, is_damage
from hda_fsspec.formats.detect import Format, sniff
from hda_fsspec.printable import printable

#: Streams hold one file, whose name and length only they themselves know.
STREAMS = frozenset({Format.GZIP})
ARCHIVES = STREAMS | {Format.ZIP, Format.TAR}

#: Enough for every format, an HDF5 user block of up to 2048 bytes included.
_HEAD_BYTES = 4096
#: Files that every Zarr store has, of format 2 or 3.
_ZARR_MARKS = frozenset({".zgroup", ".zarray", ".zmetadata", "zarr.json"})
_Info = TypeVar("_Info")


@dataclasses.dataclass(frozen=True)
class Member:
    """One file of an archive.

    Attributes
    ----------
    name : str
        Its path inside the archive: relative, without ``.`` and ``..``.
    size : int or None
        Its length when unpacked; None for a stream, which does not tell.
    packed : int
        How many bytes of the archive it comes from, at most.
    format : Format
        What it is, told by its first bytes.
    """

    name: str
    size: int | None
    packed: int
    format: Format = Format.OTHER


def list_members(path: Path) -> list[Member]:
    """Return the files of an archive in its own order; an empty list for any other file.

    Raises
    ------
    ProductFormatError
        The archive is damaged, or holds a name or a link that leads out of it.
    """
    if sniff(path) not in ARCHIVES:
        return []
    with opened(path) as archive:
        found = []
        for member in archive.members:
            with archive.open(member.name) as stream:
                head = stream.read(_HEAD_BYTES)
            found.append(dataclasses.replace(member, format=sniff(head)))
        return found


def shared_folder(members: Sequence[Member]) -> str:
    """Return the folder that all members lie in, with a slash at its end; "" if there is none."""
    folders = [member.name.split("/")[:-1] for member in members]
    shared = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*folders, strict=False))
    return "".join(f"{names[0]}/" for names in shared)


def zarr_roots(names: Iterable[str]) -> list[str]:
    """Return the folders of an archive that are Zarr stores; "" for the archive itself.

    >>> zarr_roots(["a.zarr/.zgroup", "a.zarr/v/.zarray", "a.zarr/v/0.0", "b.nc"])
    ['a.zarr']
    """
    marked = sorted(
        name.rpartition("/")[0] for name in names if name.rpartition("/")[2] in _ZARR_MARKS
    )
    roots: list[str] = []
    for folder in marked:
        if not any(root == "" or f"{folder}/".startswith(f"{root}/") for root in roots):
            roots.append(folder)
    return roots


class Reader:
    """The members of an open archive, and how to read one.

    Attributes
    ----------
    members : list of Member
        Its files; what each one is has not been looked at.
    reading : str
        The name of the member that was opened last.
    """

    def __init__(
        self, members: list[Member], handles: Mapping[str, Any], read: Callable[[Any], Any]
    ) -> None:
        self.members = members
        self.reading = ""
        self._handles = handles
        self._read = read

    def open(self, name: str) -> IO[bytes]:
        """Return the unpacked bytes of a member as a stream."""
        self.reading = name
        try:
            handle = self._handles[name]
        except KeyError:
            msg = "it is not there any more"
            raise ValueError(msg) from None
        stream: IO[bytes] = self._read(handle)
        return stream


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Reader]:
    """Open an archive for reading, and tell what goes wrong with its content in one error.

    Raises
    ------
    ProductFormatError
        The archive is damaged or packed in an unknown way, or holds a name or a link that leads
        out of it; also when that shows while the caller reads a member.
    OSError
        The file system could not read it.
    """
    reader: Reader | None = None
    try:
        with contextlib.ExitStack() as stack:
            reader = _open(path, stack)
            yield reader
    except ProductFormatError:
        raise
    except damage_errors() as err:
        # Of what a file says, memory is short where it is checked; here another thing may need it.
        if isinstance(err, MemoryError) or not is_damage(err):
            raise
        problem = str(err) or type(err).__name__
        raise damaged(path, reader.reading if reader else "", problem) from err


def damaged(path: Path, member: str, problem: str) -> ProductFormatError:
    """Return the error for an archive, or a member of one, that cannot be read."""
    where = f"{member} in {path}" if member else f"the archive {path}"
    msg = f"Reading {where} failed: {problem}. Fetch the product again."
    return ProductFormatError(printable(msg))


def _open(path: Path, stack: contextlib.ExitStack) -> Reader:
    size = path.stat().st_size
    format_ = sniff(path)
    if format_ is Format.ZIP:
        archive = stack.enter_context(zipfile.ZipFile(path))
        infos = _by_name(path, ((info.filename, info) for info in _zip_files(path, archive)))
        members = [Member(name, i.file_size, i.compress_size) for name, i in infos.items()]
        return Reader(members, infos, archive.open)
    if format_ is Format.TAR:
        tar = stack.enter_context(tarfile.TarFile(path))
        entries = _by_name(path, ((info.name, info) for info in _tar_files(path, tar)))
        members = [Member(name, entry.size, size) for name, entry in entries.items()]
        return Reader(members, entries, tar.extractfile)
    if format_ in STREAMS:
        name = _stream_name(path.name)
        return Reader([Member(name, None, size)], {name: path}, _open_gzip)
    msg = f"it is not an archive but a file of the format {format_}"
    raise ValueError(msg)


def _open_gzip(path: Path) -> Any:
    import gzip

    return gzip.open(path)


def _zip_files(path: Path, archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _unsafe(path, info.filename, "is a link or a device")
        if not info.filename:
            raise _unsafe(path, "", "has no name")
        if info.is_dir():
            _check_folder(path, info.filename)
        else:
            yield info


def _tar_files(path: Path, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for info in archive:
        if info.isdir():
            _check_folder(path, info.name)
        elif info.isfile():
            yield info
        else:
            raise _unsafe(path, info.name, "is a link or a device")


def _by_name(path: Path, found: Iterable[tuple[str, _Info]]) -> dict[str, _Info]:
    """Return the files of an archive by safe names, of which no two could be one file.

    Raises ProductFormatError for two of one name, or of names that differ in case or form alone,
    and for a file that stands where the folder of another one does.
    """
    by_name: dict[str, _Info] = {}
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for given, info in found:
        name = _safe(path, given)
        own = alike(name)
        if own in files:
            raise _clash(path, files[own], name)
        files[own] = name
        by_name[name] = info
        parts = own.split("/")
        for end in range(len(parts) - 1, 0, -1):
            folder = "/".join(parts[:end])
            if folder in folders:
                break
            folders[folder] = name
    for own, name in files.items():
        if own in folders:
            raise _clash(path, name, folders[own])
    return by_name


def _clash(path: Path, one: str, other: str) -> ProductFormatError:
    msg = (
        f"The archive {path} was refused: its members {one!r} and {other!r} cannot both be "
        "unpacked, since on some disks or all they are one file, or one is the folder of the "
        "other. If you trust the file, unpack it by hand."
    )
    return ProductFormatError(msg)


def _safe(path: Path, name: str) -> str:
    """Return a member's name as a relative path that stays below any folder it is put into."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name or not parts:
        raise _unsafe(path, name, "would be written outside its folder")
    return "/".join(parts)


def _check_folder(path: Path, name: str) -> None:
    # One that is the archive itself ("/", "./") leads nowhere, and is made for nobody.
    if any(part not in ("", ".") for part in name.split("/")):
        _safe(path, name)


def _unsafe(path: Path, name: str, why: str) -> ProductFormatError:
    msg = (
        f"The archive {path} was refused: its member {name!r} {why}. No product needs that; if "
        "you trust the file, unpack it by hand."
    )
    return ProductFormatError(msg)


def _stream_name(name: str) -> str:
    """Return the name of the file that a compressed file holds."""
    stem, dot, suffix = name.rpartition(".")
    if dot and suffix.lower() == "tgz":
        return f"{stem}.tar"
    return stem if stem and suffix.lower() == "gz" else name
