"""The cache folder itself: who may read and write it, and how small files appear in it whole.

It knows permissions and atomic renames; what the files mean is no concern of this module.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shlex
import stat
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from hda_fsspec import untrusted_files
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.untrusted_files import SafeFolder, UntrustedFileError

logger = logging.getLogger("hda_fsspec")

#: The answers of a file system that may be read but not written.
READ_ONLY_ERRNOS = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

#: The answers of a file system that has no room left; EFBIG is a file size limit of the process.
NO_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

#: The answers where something untrusted lies in the way, or an end of room: notes do without then.
CANNOT_KEEP_ERRNOS = READ_ONLY_ERRNOS | NO_ROOM_ERRNOS | {errno.ELOOP}

#: Begins the name of a folder in ``v1/partial`` that is being deleted.
TRASH_PREFIX = "trash-"

_PRIVATE_MODE = 0o700
_EFFECTIVE_IDS = os.access in os.supports_effective_ids

# A file that is being made has a second name for less than a millisecond.
_LOOKS = 25
_LOOK_SECONDS = 0.002


class Folder(SafeFolder):
    """A cache folder, made when something is first written to it.

    One that is made here is private (mode 0700). One that is there already keeps its mode and
    group, and what is made inside follows them, so that a team can share it. One that everybody
    may write to is refused, since anybody could have put the files there.

    Who may write to it can put a link, a FIFO or anything else under any name, at any moment. Below
    the folder no link is followed, regular files alone are opened, and modes are changed of what
    this object made and still holds open.

    Parameters
    ----------
    root : Path
        The folder of the setting ``cache_dir``; everything lies in its sub-folder ``v1``.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(Path(root))
        #: The sub-folder that holds this version of the layout.
        self.path = self.root / "v1"
        #: The same as text, for what is asked a hundred thousand times in a row.
        self.fspath = os.fspath(self.path)
        self._facts: os.stat_result | None = None
        self._has_warned = False

    def is_present(self) -> bool:
        """Whether the folder exists; makes nothing, asks the disk until the answer is yes.

        Raises ConfigurationError for a folder that everybody may write to.
        """
        if self._facts is None:
            self._facts = self._inspect()
        return self._facts is not None

    def prepare(self) -> None:
        """Make the folder if it is not there, even if it was there a moment ago."""
        self._facts = self._inspect()
        if self._facts is None:
            try:
                self.root.parent.mkdir(parents=True, exist_ok=True)
                self.root.mkdir(mode=_PRIVATE_MODE, exist_ok=True)
            except FileExistsError as err:
                msg = f"cache_dir is {self.root}, a link that leads nowhere. Set it to a folder."
                raise ConfigurationError(msg) from err
            except FileNotFoundError as err:
                # Not for a caller who would take it for "there is no such product".
                msg = (
                    f"The cache folder {self.root} cannot be made ({err.strerror}). Set cache_dir"
                    " (HDA_CACHE_DIR) to a folder that this process can make."
                )
                raise ConfigurationError(msg) from err
            except OSError as err:
                raise self.explained(err) from err
            self._facts = self._inspect()
        self.make(self.path)

    def check_writable(self) -> None:
        """Raise OSError, with the next step, if nothing can be added to the folder."""
        if os.access(self.path, os.W_OK | os.X_OK, effective_ids=_EFFECTIVE_IDS):
            return
        is_mounted_so = os.statvfs(self.path).f_flag & os.ST_RDONLY
        raise self.explained(OSError(errno.EROFS if is_mounted_so else errno.EACCES, ""))

    def check_passable(self, path: Path) -> None:
        """Raise UntrustedFileError if a part of this path is there and no folder of the cache."""
        with contextlib.suppress(FileNotFoundError), self.inside(path):
            pass

    def make(self, path: Path) -> None:
        """Make a sub-folder with the permissions of the root."""
        try:
            self._make(path)
        except OSError as err:
            raise self.explained(err) from err

    def file_mode(self) -> int:
        """Permission bits for a file of ours: those of the root, without execution."""
        return 0o600 | (self._mode() & 0o666)

    def write(
        self,
        path: Path,
        data: bytes,
        *,
        modified_at: float | None = None,
        is_first: bool = False,
    ) -> None:
        """Write a small file so that readers see the old one or the new one, never a part.

        Parameters
        ----------
        path : Path
            Where; its folder is made if it is not there.
        data : bytes
            All of it.
        modified_at : float, optional
            Its time of change in seconds since 1970; else the present.
        is_first : bool
            Leave what is there already: of many processes, the first one decides.
        """

        def write() -> None:
            with self.writing(path, is_first=is_first) as handle:
                handle.write(data)
                handle.flush()
                self.adopt(handle.fileno())
                if modified_at is not None:
                    os.utime(handle.fileno(), (modified_at, modified_at))

        try:
            try:
                write()
            except FileNotFoundError:
                self._make(path.parent)
                write()
        except OSError as err:
            raise self.explained(err) from err

    def create(self, path: Path) -> BinaryIO:
        """Make a file that is not there, for this user alone, and open it to be written."""
        return os.fdopen(self.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")

    def open_own(self, path: Path, flags: int) -> int:
        """Return a descriptor of a file to be written in place: of this user, with no other name.

        Raises UntrustedFileError for any other.
        """
        with self.inside(path.parent) as inside:
            return self.open_own_in(inside, path, flags)

    def open_own_in(self, inside: int, path: Path, flags: int) -> int:
        """Return the same, given a descriptor of the folder that the file is in."""
        for left in reversed(range(_LOOKS)):
            found = untrusted_files.open_regular(path.name, flags, dir_fd=inside, shown=path)
            facts = os.fstat(found)
            if self.is_own(facts, path.parent):
                return found
            os.close(found)
            if not left or facts.st_nlink != 2:
                break
            # Another thread may just be making it, by a second name that is gone in a moment.
            time.sleep(_LOOK_SECONDS)
        msg = (
            f"{path} is not a file of this user alone, and was not written to. Remove it:"
            " it is made anew."
        )
        raise UntrustedFileError(msg, path=os.fspath(path))

    def open_shared(self, path: Path) -> int:
        """Return a descriptor of a file that processes lock, made if it is not there."""
        try:
            return self.open(path, os.O_RDWR)
        except FileNotFoundError:
            # With its permissions from the first moment on: others come at any time.
            self.write(path, b"", is_first=True)
            return self.open(path, os.O_RDWR)

    def look(self, path: Path) -> os.stat_result | None:
        """Return the facts of what lies there, be it a link; None if nothing does."""
        try:
            return self.stat(path)
        except FileNotFoundError:
            return None

    def unlink(self, path: Path) -> None:
        """Remove what is under a name of ours, be it a folder; nothing if it is gone."""
        try:
            super().unlink(path)
        except FileNotFoundError:
            return
        except OSError as err:
            found = self.look(path)
            if found is None or not stat.S_ISDIR(found.st_mode):
                raise self.explained(err) from err
            self.discard(path)

    def files(self, path: Path) -> list[tuple[str, os.stat_result]]:
        """Return name and facts of the regular files in a folder; none if it is gone."""
        try:
            return super().files(path)
        except (FileNotFoundError, PermissionError, UntrustedFileError) as err:
            untrusted_files.tell_once(err)
            return []

    def names(self, path: Path) -> list[str]:
        """Return all names in a folder, whatever they stand for."""
        with self.inside(path, is_listed=True) as folder:
            return os.listdir(folder)  # noqa: PTH208  # a descriptor

    def subfolders(self, path: Path, depth: int = 1) -> Iterator[tuple[Path, int]]:
        """Go through the folders so many levels below one; see :meth:`SafeFolder.subfolders`."""
        try:
            yield from super().subfolders(path, depth)
        except UntrustedFileError as err:
            untrusted_files.tell_once(err)

    def discard(self, path: Path) -> bool:
        """Take what lies there out of the cache in one step, then delete it; False if it is gone.

        Who has a file of it open can go on reading. What cannot be deleted now (network disks keep
        open files under another name) stays in ``v1/partial`` and is tried again by each eviction.
        """
        trash = self.path / "partial" / f"{TRASH_PREFIX}{uuid.uuid4().hex}"
        try:
            try:
                self.rename(path, trash)
            except FileNotFoundError:
                self._make(trash.parent)
                self.rename(path, trash)
        except FileNotFoundError:
            return False
        except OSError as err:
            raise self.explained(err) from err
        self.remove(trash)
        return True

    @contextlib.contextmanager
    def losing(
        self, what: str, errnos: Collection[int] | None = CANNOT_KEEP_ERRNOS
    ) -> Iterator[None]:
        """Go on without what a block cannot write, since the work at hand does not need it.

        Parameters
        ----------
        what : str
            What is lost then, as the subject of a sentence for the log.
        errnos : collection of int, optional
            Which errors are no reason to fail; None for all. That the whole folder was removed at
            this very moment never is.
        """
        try:
            yield
        except FileNotFoundError:
            return
        except OSError as err:
            if errnos is not None and err.errno not in errnos:
                raise
            self.warn_once("%s are not kept: %s", what, err)

    def warn_once(self, message: str, *args: object) -> None:
        """Write the first of the warnings that this object is given to the log."""
        if not self._has_warned:
            self._has_warned = True
            logger.warning(message, *args)

    def adopt(self, handle: int) -> None:
        """Give an open file that this user made the permissions and group of the root."""
        self._give(handle, self.file_mode())

    def explained(self, err: OSError) -> OSError:
        """Return the error with the folder's name and the next step, where one is known."""
        code = err.errno
        if code in READ_ONLY_ERRNOS:
            msg = (
                f"The cache folder {self.root} is read-only for this process ({os.strerror(code)})."
                " What is in it can be read, but nothing can be added. Set cache_dir"
                " (HDA_CACHE_DIR) to a folder that you may write to."
            )
        elif code in NO_ROOM_ERRNOS:
            msg = (
                f"Writing to the cache folder {self.root} failed ({os.strerror(code)}). Free some"
                " space there (`hda-fsspec cache prune`), or set cache_dir (HDA_CACHE_DIR) to a"
                " larger disk."
            )
        else:
            return err
        return OSError(code, msg)

    def _inspect(self) -> os.stat_result | None:
        try:
            facts = self.root.stat()
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            facts = None
        if facts is None or not stat.S_ISDIR(facts.st_mode):
            msg = f"cache_dir is {self.root}, which is not a folder. Set it to a folder."
            raise ConfigurationError(msg)
        if facts.st_mode & stat.S_IWOTH:
            msg = (
                f"The cache folder {self.root} may be written to by everybody on this machine"
                f" (mode {stat.S_IMODE(facts.st_mode):04o}), so its files cannot be trusted. Run"
                f" `chmod o-w {shlex.quote(str(self.root))}`, or set cache_dir (HDA_CACHE_DIR) to"
                " a folder of your own."
            )
            raise ConfigurationError(msg)
        return facts

    def _mode(self) -> int:
        return _PRIVATE_MODE if self._facts is None else self._facts.st_mode

    def _make(self, path: Path) -> None:
        # Nearly all are there, and to see that is cheaper than to make one in vain.
        with contextlib.suppress(FileNotFoundError), self.inside(path):
            return
        try:
            super().make(path)
        except FileExistsError:
            with self.inside(path):
                return
        except FileNotFoundError:
            # A running job may lose the whole tree to a colleague's `rm -r`: start it again.
            if path == self.root:
                raise
            if path.parent == self.root:
                self.prepare()
            else:
                self._make(path.parent)
            self._make(path)
            return
        with self.inside(path, is_listed=True) as made:
            facts = os.fstat(made)
            # A colleague may have put another one in its place: theirs is not ours to change.
            if self.owns(facts, path.parent):
                # Only the set-group-id bit goes along: with a sticky bit colleagues could not
                # evict.
                self._give(made, 0o700 | (self._mode() & 0o2777))

    def _give(self, handle: int, mode: int) -> None:
        facts = os.fstat(handle)
        if self._facts is not None and facts.st_gid != self._facts.st_gid:
            try:
                os.fchown(handle, -1, self._facts.st_gid)
            except PermissionError:
                # Not a member of the team's group; the permission bits still serve the others.
                mode &= ~stat.S_ISGID
        if stat.S_IMODE(facts.st_mode) != mode:
            os.fchmod(handle, mode)


def read_json(folder: Folder, path: Path) -> Any:
    """Return the JSON value in a file; None where it is missing, unreadable or garbled.

    Files of ours appear whole, but a disk may still lose them in a power cut, and colleagues may
    keep theirs to themselves: in a cache all of that means "not there". So does what is no file,
    and the log says so once.
    """
    try:
        return json_or_none(folder.read(path))
    except OSError as err:
        untrusted_files.tell_once(err)
        return None


def json_or_none(data: bytes) -> Any:
    """Return the JSON value in some bytes; None where they are none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def dump_json(value: Any) -> bytes:
    """Return a JSON value as compact bytes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(
        errors="surrogatepass"
    )
