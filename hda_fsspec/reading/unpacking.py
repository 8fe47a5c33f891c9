"""Members of an archive as local files: each unpacked when it is needed, once, and whole.

Sizes in an archive come from the network: nothing is written without a bound. Others may write to
the folder that members are unpacked in: only what this user unpacked is read. The module knows
nothing of xarray, and of the cache only a folder in which it may write.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from hda_fsspec.concurrency.forks import ForkLock
from hda_fsspec.errors import ProductFormatError
from hda_fsspec.filenames import plain_name
from hda_fsspec.formats.detect import check_complete, sniff
from hda_fsspec.printable import printable
from hda_fsspec.reading.archives import STREAMS, Member, damaged, opened
from hda_fsspec.untrusted_files import SafeFolder, UntrustedFileError, reader_of, tell_once

#: A product may unpack to so many bytes, or to so many times its own length if that is more.
#: Data come nowhere near it in products of this size; deflate reaches 1032:1 on zeros.
BOMB_RATIO = 250
BOMB_BYTES = 1 << 30

_BLOCK_BYTES = 1 << 20
_KEY_BYTES = 4096
#: Systems allow 4096 bytes, of which the cache folder has some.
_MOST_OF_A_PATH = 1024
_CANNOT_WRITE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

_guard = ForkLock()
_locks: weakref.WeakValueDictionary[Path, ForkLock] = weakref.WeakValueDictionary()
_temporary: dict[int, tuple[Path, os.stat_result]] = {}


class UnpackAllowance:
    """The bytes that may still be unpacked of a product, with all archives inside of its archives.

    Parameters
    ----------
    path : Path
        The product as it is in the cache.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._packed = path.stat().st_size
        self._counted: dict[Path, int] = {}

    def count(self, path: Path, size: int) -> None:
        """Take note of what all members of an archive have together; once, or the larger one.

        Raises
        ------
        ProductFormatError
            All archives of the product together grow beyond all measure.
        """
        self._counted[path] = max(size, self._counted.get(path, 0))
        total = sum(self._counted.values())
        if total > BOMB_BYTES and total > BOMB_RATIO * max(self._packed, 1):
            msg = (
                f"Unpacking {path} of {self._name} was refused: {self._packed} packed bytes become "
                f"{total} or more, more than {BOMB_RATIO} times as many, as in an archive made to "
                "fill a disk. If you trust it, make it local with fsspec.open_local and unpack it "
                "by hand."
            )
            raise ProductFormatError(msg)


def unpack(
    path: Path, member: Member, scratch: Path, *, allowance: UnpackAllowance | None = None
) -> Path:
    """Return a local file with the content of a member, unpacked unless it already is.

    The file appears under its name only when it is complete. Where ``scratch`` cannot be written,
    or is no folder, a temporary folder of this process takes its place. ``allowance`` is that of
    the product which the archive is a part of; None if it is the product itself.

    Raises
    ------
    ProductFormatError
        The member is damaged or encrypted, or all members together grow beyond all measure.
    OSError
        The disk is full, or fails.
    """
    key = content_key(path)
    target = _target(scratch, key, member)
    is_writable = False
    try:
        folder = folder_above(scratch)
        if _is_unpacked(folder, target, member):
            return target
        make_folder(folder, target.parent)
        is_writable = os.access(target.parent, os.W_OK)
    except UntrustedFileError as err:
        tell_once(err)
    except OSError as err:
        if err.errno not in _CANNOT_WRITE:
            raise
    if not is_writable:
        base = temporary_folder()
        folder, target = SafeFolder(base), _target(base / _name_of_file(path), key, member)
        make_folder(folder, target.parent)
    with _guard:
        lock = _locks.setdefault(target, ForkLock())
    with lock:
        if not _is_unpacked(folder, target, member):
            _unpack(path, member, folder, target, allowance or UnpackAllowance(path))
    return target


def require_room(path: Path, members: Sequence[Member], scratch: Path) -> None:
    """Raise OSError if the disk has no room for those members that are not unpacked yet.

    Asked before the first of several: half of them would only fill the disk.
    """
    if len(members) < 2:
        return
    missing = [member for member in members if not _is_here(scratch, content_key(path), member)]
    folder = next(parent for parent in (scratch, *scratch.parents) if parent.is_dir())
    size = sum(member.size or 0 for member in missing)
    _require_room(size, f"{len(missing)} files of {path}", folder)


def _is_here(scratch: Path, key: str, member: Member) -> bool:
    try:
        return _is_unpacked(folder_above(scratch), _target(scratch, key, member), member)
    except OSError:
        return False  # it will be unpacked elsewhere, or say what is wrong


def _require_room(size: int, what: str, folder: Path) -> None:
    room = shutil.disk_usage(folder).free
    if size > room:
        msg = (
            f"Unpacking {what} needs {size} bytes, and the disk of {folder} has {room} left. Make "
            "room, or choose another cache_dir."
        )
        raise OSError(errno.ENOSPC, msg)


def content_key(path: Path) -> str:
    """Return a short name for what a file holds, from its length, beginning and end.

    It tells apart two versions of a product, and follows a file that is moved.
    """
    with reader_of(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        digest = hashlib.blake2b(size.to_bytes(8, "big"), digest_size=8)
        digest.update(stream.read(_KEY_BYTES))
        stream.seek(max(0, size - _KEY_BYTES))
        digest.update(stream.read(_KEY_BYTES))
    return digest.hexdigest()


def _name_of_file(path: Path) -> str:
    """Return a name for a file at this path in this state, in a folder that all files share.

    What :func:`content_key` looks at may be the same in files of other values.
    """
    facts = path.stat()
    name = f"{path} {facts.st_ino} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:32]


def inner_path(name: str) -> PurePosixPath:
    """Return where a member goes in a folder of ours: under its name, as far as that is harmless.

    Names of which some mean something, or that are longer than disks allow, become others.
    """
    found = PurePosixPath(*map(plain_name, PurePosixPath(name).parts))
    if len(str(found)) <= _MOST_OF_A_PATH:
        return found
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return PurePosixPath(digest, found.name)


def _target(folder: Path, key: str, member: Member) -> Path:
    # Of each user by themselves: what others unpacked could hold anything.
    mine = f"members-{os.geteuid()}"
    return folder / mine / key / inner_path(member.name)


def _is_unpacked(folder: SafeFolder, target: Path, member: Member) -> bool:
    try:
        facts = folder.stat(target)
    except FileNotFoundError:
        return False
    return member.size in (None, facts.st_size) and folder.is_own(facts, target.parent)


def _unpack(
    path: Path, member: Member, folder: SafeFolder, target: Path, allowance: UnpackAllowance
) -> None:
    if sniff(path) in STREAMS:
        # A cut stream is told as such, before anything is written.
        check_complete(path)
    _require_room(member.size or 0, f"{printable(member.name)} of {path}", target.parent)
    with folder.writing(target) as copy, opened(path) as archive:
        allowance.count(path, sum(member.size or 0 for member in archive.members))
        with archive.open(member.name) as source:
            written = 0
            while block := source.read(_BLOCK_BYTES):
                written += len(block)
                allowance.count(path, written)
                copy.write(block)
        copy.flush()
        with folder.inside(target.parent) as inside:
            os.fchmod(copy.fileno(), 0o600 | (os.fstat(inside).st_mode & 0o666))
        os.fsync(copy.fileno())
        if member.size not in (None, written):
            msg = f"it holds {written} bytes instead of {member.size}"
            raise damaged(path, member.name, msg)


def folder_above(scratch: Path) -> SafeFolder:
    """Return the folder that a scratch folder lies in, made if it is not there."""
    scratch.parent.mkdir(parents=True, exist_ok=True)
    return SafeFolder(scratch.parent, is_given=False)


def make_folder(folder: SafeFolder, path: Path) -> None:
    """Make a folder and those above it, each with the permissions of the one that holds it."""
    try:
        with folder.inside(path):
            return
    except FileNotFoundError:
        make_folder(folder, path.parent)
    with contextlib.suppress(FileExistsError):
        folder.make(path)
        with folder.inside(path.parent) as above, folder.inside(path, is_listed=True) as made:
            facts = os.fstat(made)
            # Others may have put one of theirs in its place: that is not ours to change.
            if folder.owns(facts, path.parent):
                os.fchmod(made, stat.S_IMODE(os.fstat(above).st_mode) | stat.S_IRWXU)


def temporary_folder() -> Path:
    """Return a private folder that this process deletes when it ends."""
    with _guard:
        pid = os.getpid()
        if pid not in _temporary or not _is_there(*_temporary[pid]):
            folder = Path(tempfile.mkdtemp(prefix="hda-fsspec-"))
            _temporary[pid] = (folder, folder.lstat())
            atexit.register(_remove, folder, pid)
        return _temporary[pid][0]


def _is_there(folder: Path, made: os.stat_result) -> bool:
    """Whether a folder is the one that was made: one that was tidied away may be another's now."""
    try:
        facts = folder.lstat()
    except FileNotFoundError:
        return False
    told = (facts.st_mode, facts.st_uid, facts.st_dev, facts.st_ino)
    return told == (made.st_mode, made.st_uid, made.st_dev, made.st_ino)


def _remove(folder: Path, pid: int) -> None:
    # A child that was forked ends with the same list of things to clean up.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
