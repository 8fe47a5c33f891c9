"""The cache folder itself: who may read and write it, and how small files appear in it whole.

It knows permissions and atomic renames; what the files mean is no concern of this module.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import stat
import uuid
from pathlib import Path
from typing import Any

from hda_fsspec.errors import ConfigurationError

#: The answers of a file system that may be read but not written.
READ_ONLY_ERRNOS = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

#: The answers of a file system that has no room left; EFBIG is a file size limit of the process.
NO_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

#: Begins the name of a folder in ``v1/partial`` that is being deleted.
TRASH_PREFIX = "trash-"

_PRIVATE_MODE = 0o700
_EFFECTIVE_IDS = os.access in os.supports_effective_ids


class Folder:
    """A cache folder, made when something is first written to it.

    One that is made here is private (mode 0700). One that is there already keeps its mode and
    group, and what is made inside follows them, so that a team can share it. One that everybody
    may write to is refused, since anybody could have put the files there.

    Parameters
    ----------
    root : Path
        The folder of the setting ``cache_dir``; everything lies in its sub-folder ``v1``.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        #: The sub-folder that holds this version of the layout.
        self.path = self.root / "v1"
        self._facts: os.stat_result | None = None

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

    def make(self, path: Path) -> Path:
        """Make a sub-folder with the permissions of the root, and return it."""
        try:
            self._make(path)
        except OSError as err:
            raise self.explained(err) from err
        return path

    def file_mode(self) -> int:
        """Permission bits for a file of ours: those of the root, without execution."""
        return 0o600 | (self._mode() & 0o666)

    def write(self, path: Path, data: bytes) -> None:
        """Write a small file so that readers see the old one or the new one, never a part."""
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            try:
                handle = temporary.open("xb")
            except FileNotFoundError:
                self._make(path.parent)
                handle = temporary.open("xb")
            with handle:
                handle.write(data)
            self.adopt(temporary)
            temporary.replace(path)
        except OSError as err:
            temporary.unlink(missing_ok=True)
            raise self.explained(err) from err

    def write_first(self, path: Path, data: bytes) -> None:
        """Write a small file unless it is there: of many processes, the first one decides."""
        mine = path.with_name(f".{uuid.uuid4().hex}.tmp")
        self.write(mine, data)
        try:
            os.link(mine, path)
        except FileExistsError:
            pass
        except OSError:
            # A disk without hard links: of two that write at the same time, the last one decides.
            if not path.exists():
                mine.replace(path)
        finally:
            mine.unlink(missing_ok=True)

    def discard(self, path: Path) -> bool:
        """Take a folder out of the cache in one step, then delete it; False if it was not there.

        Who has a file of it open can go on reading. What cannot be deleted now (network disks keep
        open files under another name) stays in ``v1/partial`` and is tried again by each eviction.
        """
        trash = self.path / "partial" / f"{TRASH_PREFIX}{uuid.uuid4().hex}"
        try:
            try:
                path.rename(trash)
            except FileNotFoundError:
                self._make(trash.parent)
                path.rename(trash)
        except FileNotFoundError:
            return False
        except OSError as err:
            raise self.explained(err) from err
        shutil.rmtree(trash, ignore_errors=True)
        return True

    def adopt(self, path: Path) -> None:
        """Give a file that we made the permissions and group which the root calls for."""
        self._give(path, self.file_mode())

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
        try:
            path.mkdir(mode=_PRIVATE_MODE)
        except FileExistsError:
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
        # Only the set-group-id bit goes along: with a sticky bit colleagues could not evict.
        self._give(path, 0o700 | (self._mode() & 0o2777))

    def _give(self, path: Path, mode: int) -> None:
        facts = path.stat()
        if self._facts is not None and facts.st_gid != self._facts.st_gid:
            try:
                os.chown(path, -1, self._facts.st_gid)
            except PermissionError:
                # Not a member of the team's group; the permission bits still serve the others.
                mode &= ~stat.S_ISGID
        if stat.S_IMODE(facts.st_mode) != mode:
            path.chmod(mode)


def read_json(path: Path) -> Any:
    """Return the JSON value in a file; None where it is missing, unreadable or garbled.

    Files of ours appear whole, but a disk may still lose them in a power cut, and colleagues may
    keep theirs to themselves: in a cache all of that means "not there".
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def dump_json(value: Any) -> bytes:
    """Return a JSON value as compact bytes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(
        errors="surrogatepass"
    )
