"""Files where others may write: reached without following links, opened without waiting.

Who shares a folder may put a link, a FIFO, a device or a folder of their own under any name in it,
at any moment. So whatever lies below such a folder is reached step by step, each step from the
descriptor of the one before, and only regular files are opened. What they mean is unknown here.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shlex
import shutil
import stat
import uuid
from collections.abc import Iterator
from io import BufferedReader, BufferedWriter, FileIO
from pathlib import Path
from typing import BinaryIO, Self

from hda_fsspec.errors import ConfigurationError

logger = logging.getLogger("hda_fsspec")

#: The longest small file that is read: a listing of a million products has some 300 MB.
MAX_BYTES = 1 << 29

# Without O_NONBLOCK, to open a FIFO or a file that somebody holds a lease on would wait for them.
_CAUTIOUS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# To pass through a folder needs no right to list it, where the system can tell the two apart.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

#: What systems answer for a link (ELOOP, EMLINK on FreeBSD), a socket, a FIFO that nobody reads, a
#: device that is not there.
_NO_FILE_ERRNOS = frozenset(
    {errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.EOPNOTSUPP}
)
_NO_FOLDER_ERRNOS = frozenset({errno.ELOOP, errno.EMLINK, errno.ENOTDIR})
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISREG, "a file"),
)
_NO_NAMES = frozenset({"", ".", ".."})
_MOST_TOLD = 1000
_WHO = (
    "Whoever may write to the folder that it lies in can put it there. If you know how it came to"
    " be there, remove it"
)

_told: set[str] = set()


class UntrustedFileError(ConfigurationError, OSError):
    """Something other than a file or folder of ours lies where we keep one; it was not touched.

    Attributes
    ----------
    path : str
        Where it lies.
    """

    def __new__(cls, *args: object, **_: object) -> Self:
        """Make an OSError: ValueError, which comes first, cannot."""
        return OSError.__new__(cls, *args)

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.errno = errno.ELOOP
        self.path = path


class SafeFolder:
    """A folder into which others may write.

    All paths are absolute and lie below it. Every method raises UntrustedFileError where a part of
    the path is a link or no folder, or a folder to which everybody may write, and what else the
    system answers as OSError.

    Parameters
    ----------
    root : Path
        The folder. It may be reached through links: it is where the user said that it is.
    is_given : bool
        False for a folder whose own name others may have replaced: it must be no link then.
    """

    def __init__(self, root: Path, *, is_given: bool = True) -> None:
        self.root = root
        self._text = os.fspath(root)
        self._prefix = f"{self._text.rstrip('/')}/"
        self._flags = 0 if is_given else os.O_NOFOLLOW
        self._owner: int | None = None

    @contextlib.contextmanager
    def inside(self, path: Path, *, is_listed: bool = False) -> Iterator[int]:
        """Give a descriptor of a folder: to pass through, or also to list and change it."""
        found = self._reach(path, is_listed=is_listed)
        try:
            yield found
        finally:
            os.close(found)

    def open(self, path: Path, flags: int = os.O_RDONLY) -> int:
        """Return a descriptor of a regular file. With O_EXCL it is made, for this user alone."""
        with self.inside(path.parent) as folder:
            return open_regular(path.name, flags, dir_fd=folder, shown=path)

    def read(self, path: Path) -> bytes:
        """Return what is in a small file."""
        with os.fdopen(self.open(path), "rb") as handle:
            return read_all(handle, path)

    def stat(self, path: Path) -> os.stat_result:
        """Look at what lies there, be it a link."""
        with self.inside(path.parent) as folder:
            return os.stat(path.name, dir_fd=folder, follow_symlinks=False)

    def make(self, path: Path) -> None:
        """Make a folder for this user alone."""
        with self.inside(path.parent) as folder:
            os.mkdir(path.name, 0o700, dir_fd=folder)

    def rename(self, path: Path, target: Path) -> None:
        """Rename whatever lies there; a file takes the place of what is no folder."""
        with self.inside(path.parent) as source:
            if path.parent == target.parent:
                os.rename(path.name, target.name, src_dir_fd=source, dst_dir_fd=source)
                return
            with self.inside(target.parent) as folder:
                os.rename(path.name, target.name, src_dir_fd=source, dst_dir_fd=folder)

    @contextlib.contextmanager
    def writing(self, path: Path, *, is_first: bool = False) -> Iterator[BufferedWriter]:
        """Write a file so that others see what was there or all of the new one, never a part.

        It is made for this user alone, and takes its place at the end of the block; nothing is left
        of one that raises. With `is_first` what is there by then stays, and the new one goes.
        """
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with self.inside(path.parent) as folder:
            made = open_regular(temporary.name, flags, dir_fd=folder, shown=temporary)
            try:
                with os.fdopen(made, "wb") as handle:
                    yield handle
                (_put_first if is_first else _replace)(temporary.name, path.name, folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary.name, dir_fd=folder)
                raise

    def unlink(self, path: Path) -> None:
        """Remove what lies there and is no folder."""
        with self.inside(path.parent) as folder:
            os.unlink(path.name, dir_fd=folder)

    def remove(self, path: Path) -> None:
        """Remove whatever lies there, as far as possible; what is gone is fine."""
        with contextlib.suppress(OSError), self.inside(path.parent) as folder:
            _remove(path.name, folder)

    def utime(self, path: Path, moment: float | None = None) -> None:
        """Set the times of what lies there, be it a link; to the present without one."""
        times = None if moment is None else (moment, moment)
        with self.inside(path.parent) as folder:
            os.utime(path.name, times, dir_fd=folder, follow_symlinks=False)

    def files(self, path: Path) -> list[tuple[str, os.stat_result]]:
        """Return name and facts of the regular files in a folder."""
        with self.inside(path, is_listed=True) as folder:
            return files_in(folder)

    def subfolders(self, path: Path, depth: int = 1) -> Iterator[tuple[Path, int]]:
        """Go through the folders that lie so many levels below one; others may remove them.

        Each is given with a descriptor, which is good until the next one is asked for. What cannot
        be looked into is left out.
        """
        with contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(self.inside(path, is_listed=True))
                names = _folders_in(folder)
            except (FileNotFoundError, PermissionError):
                return
            yield from _below(folder, os.fspath(path), names, depth)

    def owns(self, facts: os.stat_result, folder: Path) -> bool:
        """Whether what lies in a folder belongs to the user of this process.

        Network disks and containers may show the files of this process as those of another user:
        where the two differ, the disk is asked by making a file.
        """
        mine = os.geteuid()
        if facts.st_uid == mine:
            return True
        if self._owner is None:
            with self.inside(folder) as where:
                self._owner = _owner_of_new_files(where)
        return facts.st_uid == self._owner != mine

    def is_own(self, facts: os.stat_result, folder: Path) -> bool:
        """Whether it is a regular file of the user of this process, which has no other name."""
        is_one = stat.S_ISREG(facts.st_mode) and facts.st_nlink <= 1
        return is_one and self.owns(facts, folder)

    def _reach(self, path: Path, *, is_listed: bool = False) -> int:
        text = os.fspath(path)
        wanted = _LIST if is_listed else _PASS
        if f"{text}/" == self._prefix:
            return _open_folder(text, wanted | self._flags)
        names = text.removeprefix(self._prefix).split("/")
        if not text.startswith(self._prefix) or not _NO_NAMES.isdisjoint(names):
            msg = f"{text} does not lie below {self._prefix}"
            raise ValueError(msg)
        found = _open_folder(self._text, _PASS | self._flags)
        for left, name in zip(range(len(names) - 1, -1, -1), names, strict=True):
            above = found
            try:
                flags = _PASS if left else wanted
                found = os.open(name, flags | os.O_NOFOLLOW, dir_fd=above)
                if os.fstat(found).st_mode & stat.S_IWOTH:
                    os.close(found)
                    raise _open_to_all(_first(path, left))
            except OSError as err:
                if err.errno in _NO_FOLDER_ERRNOS and not isinstance(err, UntrustedFileError):
                    raise untrusted(_first(path, left), "a folder") from err
                raise
            finally:
                os.close(above)
        return found


def open_regular(
    name: str | Path,
    flags: int = os.O_RDONLY,
    *,
    dir_fd: int | None = None,
    shown: Path | None = None,
    is_given: bool = False,
) -> int:
    """Return a descriptor of a regular file, which neither follows a link nor waits.

    Parameters
    ----------
    name : str or Path
        The path, below the folder ``dir_fd`` if that is given.
    flags : int
        Those of ``os.open``.
    dir_fd : int, optional
        A descriptor of the folder.
    shown : Path, optional
        What to call the file in messages.
    is_given : bool
        Whether the path is the user's own word: then it may be a link.

    Raises
    ------
    UntrustedFileError
        It is a link, a FIFO, a device, a socket or a folder.
    OSError
        It cannot be opened.
    """
    shown = Path(name) if shown is None else shown
    cautious = _CAUTIOUS & ~os.O_NOFOLLOW if is_given else _CAUTIOUS
    try:
        found = os.open(name, flags | cautious, 0o600, dir_fd=dir_fd)
    except OSError as err:
        if err.errno in _NO_FILE_ERRNOS:
            raise untrusted(shown, "a file", is_given=is_given) from err
        raise
    mode = os.fstat(found).st_mode
    if not stat.S_ISREG(mode):
        os.close(found)
        if is_given and stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(shown))
        raise untrusted(shown, "a file", is_given=is_given)
    return found


def reader_of(path: Path, *, is_given: bool = True) -> BufferedReader:
    """Open a regular file for reading, which never waits for a FIFO; see :func:`open_regular`."""
    raw = FileIO(open_regular(path, is_given=is_given), "rb")
    raw.name = os.fspath(path)
    return BufferedReader(raw)


def read_all(handle: BinaryIO, path: Path) -> bytes:
    """Return what is in a small file; OSError (EFBIG) for one that is not small."""
    data = handle.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        msg = f"{path} is longer than any file of its kind ({MAX_BYTES:,} bytes): it was not read."
        raise OSError(errno.EFBIG, msg)
    return data


def files_in(folder: int) -> list[tuple[str, os.stat_result]]:
    """Return name and facts of the regular files in a folder, given its descriptor."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as items:
        for item in items:
            try:
                if item.is_file(follow_symlinks=False):
                    found.append((item.name, item.stat(follow_symlinks=False)))
            except FileNotFoundError:
                continue
    return found


def names_in(folder: int) -> list[str]:
    """Return the names of all that is in a folder, given its descriptor; nothing is looked at."""
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(folder)
    return []


def _owner_of_new_files(folder: int) -> int:
    name = f".{uuid.uuid4().hex}.tmp"
    try:
        probe = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CAUTIOUS, 0o600, dir_fd=folder
        )
    except OSError:
        return os.geteuid()
    try:
        return os.fstat(probe).st_uid
    finally:
        os.close(probe)
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)


def untrusted(path: Path, wanted: str, *, is_given: bool = False) -> UntrustedFileError:
    """Return the error for what lies where a file or a folder should be."""
    what = "something else"
    with contextlib.suppress(OSError):
        mode = (os.stat if is_given else os.lstat)(path).st_mode
        what = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "a device")
    if is_given:
        msg = f"{path} is {what} and not {wanted}: it was not opened. Name {wanted}."
        return UntrustedFileError(msg, path=os.fspath(path))
    msg = (
        f"{path} is {what} and not {wanted}: it was neither followed nor opened. {_WHO}:"
        f" `rm -r {shlex.quote(os.fspath(path))}`."
    )
    return UntrustedFileError(msg, path=os.fspath(path))


def tell_once(err: OSError) -> None:
    """Say in the log, once, that something untrusted was met, where the work can go on without."""
    if isinstance(err, UntrustedFileError) and err.path not in _told and len(_told) < _MOST_TOLD:
        _told.add(err.path)
        logger.warning("%s It counts as not there.", err)


def _open_folder(path: str, flags: int) -> int:
    try:
        return os.open(path, flags)
    except OSError as err:
        if flags & os.O_NOFOLLOW and err.errno in _NO_FOLDER_ERRNOS:
            raise untrusted(Path(path), "a folder") from err
        raise


def _open_to_all(path: Path) -> UntrustedFileError:
    msg = (
        f"The folder {path} may be written to by everybody on this machine, so its files cannot be"
        f" trusted. Run `chmod o-w {shlex.quote(os.fspath(path))}` once you know what is in it, or"
        " remove it."
    )
    return UntrustedFileError(msg, path=os.fspath(path))


def _first(path: Path, left: int) -> Path:
    return path.parents[left - 1] if left else path


def _below(folder: int, path: str, names: list[str], depth: int) -> Iterator[tuple[Path, int]]:
    for name in names:
        try:
            found = os.open(name, _LIST | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as err:
            if err.errno in _NO_FOLDER_ERRNOS | {errno.ENOENT, errno.EACCES, errno.EPERM}:
                continue  # removed or replaced just now, or a colleague's own
            raise
        try:
            inner = f"{path}/{name}"
            if depth == 1:
                yield Path(inner), found
            else:
                yield from _below(found, inner, _folders_in(found), depth - 1)
        finally:
            os.close(found)


def _folders_in(folder: int) -> list[str]:
    try:
        with os.scandir(folder) as items:
            return [item.name for item in items if item.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _replace(name: str, target: str, folder: int) -> None:
    """Put a file in the place of whatever lies there, a folder with all that is in it too."""
    try:
        os.rename(name, target, src_dir_fd=folder, dst_dir_fd=folder)
    except IsADirectoryError:
        aside = f".{uuid.uuid4().hex}.tmp"
        os.rename(target, aside, src_dir_fd=folder, dst_dir_fd=folder)
        _remove(aside, folder)
        os.rename(name, target, src_dir_fd=folder, dst_dir_fd=folder)


def _put_first(name: str, target: str, folder: int) -> None:
    """Give a file another name in its folder; where that one is taken, remove the file."""
    try:
        os.link(name, target, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError:
        # A disk without hard links: of two that write at the same time, the last one decides.
        try:
            os.stat(target, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, target, src_dir_fd=folder, dst_dir_fd=folder)
            return
    os.unlink(name, dir_fd=folder)


def _remove(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except (IsADirectoryError, PermissionError):  # what unlink says of folders, here and elsewhere
        shutil.rmtree(name, ignore_errors=True, dir_fd=folder)
