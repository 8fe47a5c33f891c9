"""Members of an archive as local files: each unpacked when it is needed, once, and whole.

Sizes in an archive come from the network: nothing is written without a bound. The module knows
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
import uuid
import weakref
from pathlib import Path, PurePosixPath

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.fileformats.formats import check_complete, sniff
from hda_fsspec.forks import ForkLock
from hda_fsspec.printable import printable
from hda_fsspec.reading.archives import STREAMS, Member, damaged, opened

#: deflate reaches 1032:1 on zeros; data never come near it in files of this size.
BOMB_RATIO = 1000
BOMB_BYTES = 1 << 30

_BLOCK_BYTES = 1 << 20
_KEY_BYTES = 4096
_CANNOT_WRITE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

_guard = ForkLock()
_locks: weakref.WeakValueDictionary[Path, ForkLock] = weakref.WeakValueDictionary()
_temporary: dict[int, Path] = {}


def unpack(path: Path, member: Member, scratch: Path) -> Path:
    """Return a local file with the content of a member, unpacked unless it already is.

    The file appears under its name only when it is complete. Where ``scratch`` cannot be written,
    a temporary folder of this process takes its place.

    Raises
    ------
    ProductFormatError
        The member is damaged, encrypted, or grows beyond all measure.
    OSError
        The disk is full, or fails.
    """
    key = content_key(path)
    target = _target(scratch, key, member)
    if _is_unpacked(target, member):
        return target
    try:
        make_folder(target.parent)
        is_writable = os.access(target.parent, os.W_OK)
    except OSError as err:
        if err.errno not in _CANNOT_WRITE:
            raise
        is_writable = False
    if not is_writable:
        target = _target(_temporary_folder() / _name_of_file(path), key, member)
        make_folder(target.parent)
    with _guard:
        lock = _locks.setdefault(target, ForkLock())
    with lock:
        if not _is_unpacked(target, member):
            _unpack(path, member, target)
    return target


def content_key(path: Path) -> str:
    """Return a short name for what a file holds, from its length, beginning and end.

    It tells apart two versions of a product, and follows a file that is moved.
    """
    with path.open("rb") as stream:
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


def _target(folder: Path, key: str, member: Member) -> Path:
    return folder.joinpath("members", key, *PurePosixPath(member.name).parts)


def _is_unpacked(target: Path, member: Member) -> bool:
    try:
        facts = target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(facts.st_mode) and member.size in (None, facts.st_size)


def _unpack(path: Path, member: Member, target: Path) -> None:
    if sniff(path) in STREAMS:
        # Bounds the memory that the stream asks for, which Python's own readers do not.
        check_complete(path)
    _refuse_bomb(path, member, member.size or 0)
    room = shutil.disk_usage(target.parent).free
    if member.size is not None and member.size > room:
        msg = (
            f"Unpacking {printable(member.name)} of {path} needs {member.size} bytes, and the disk "
            f"of {target.parent} has {room} left. Make room, or choose another cache_dir."
        )
        raise OSError(errno.ENOSPC, msg)
    temporary = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with (
            opened(path) as archive,
            archive.open(member.name) as source,
            temporary.open("xb") as copy,
        ):
            written = 0
            while block := source.read(_BLOCK_BYTES):
                written += len(block)
                _refuse_bomb(path, member, written)
                copy.write(block)
            copy.flush()
            os.fsync(copy.fileno())
        if member.size not in (None, written):
            msg = f"it holds {written} bytes instead of {member.size}"
            raise damaged(path, member.name, msg)
        temporary.chmod(0o600 | (target.parent.stat().st_mode & 0o666))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_bomb(path: Path, member: Member, size: int) -> None:
    if size > BOMB_BYTES and size > BOMB_RATIO * max(member.packed, 1):
        msg = (
            f"Unpacking {printable(member.name)} of {path} was refused: {member.packed} packed "
            f"bytes become more than {BOMB_RATIO} times as many, as in an archive made to fill a "
            "disk."
        )
        raise ProductFormatError(msg)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each with the permissions of the one that holds it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(stat.S_IMODE(folder.parent.stat().st_mode) | stat.S_IRWXU)


def _temporary_folder() -> Path:
    """Return a private folder that this process deletes when it ends."""
    with _guard:
        pid = os.getpid()
        if pid not in _temporary:
            folder = _temporary[pid] = Path(tempfile.mkdtemp(prefix="hda-fsspec-"))
            atexit.register(_remove, folder, pid)
        return _temporary[pid]


def _remove(folder: Path, pid: int) -> None:
    # A child that was forked ends with the same list of things to clean up.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
