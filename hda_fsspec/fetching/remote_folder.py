"""A folder of another filesystem, such as a bucket, in which files appear whole or not at all.

Which files go there, and under which names, is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import inspect
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from fsspec.asyn import AsyncFileSystem
from fsspec.callbacks import Callback
from fsspec.core import url_to_fs
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

from hda_fsspec.errors import HDAError, LocationError, ProductFormatError
from hda_fsspec.fetching.local_copies import is_whole
from hda_fsspec.formats.detect import check_stream
from hda_fsspec.localpaths import remote_scheme, shown, text_of
from hda_fsspec.printable import flat, printable

_COPY_BYTES = 1 << 20
#: Formats are checked by small reads here and there, and each may be a request.
_LOOK_BYTES = 1 << 16
#: Parts of one file under way at a time, each of some 50 MB in memory: s3fs would take ten.
_PARTS_AT_A_TIME = 2
#: What filesystems call that which changes when a file is written anew, most telling first.
_STAMPS = (
    *("ETag", "etag", "md5Hash", "md5", "content_md5", "checksum"),
    *("mtime", "LastModified", "last_modified", "modified", "updated", "created"),
)
_PERMISSION = "Give credentials that may write there, in target_options or where that filesystem "
_STEPS = {
    errno.EACCES: f"{_PERMISSION}looks for them",
    errno.ENOENT: "Make the bucket, or correct its name",
}
_STEP = "Check the address and target_options, and run it again with skip_existing=True"


class UploadCancelledError(Exception):
    """An upload was cancelled between two of its parts."""


@contextlib.contextmanager
def explained_elsewhere(url: str, attempt: str = "write the copy") -> Iterator[None]:
    """Say of a refusal by another filesystem what was tried there, and the next step.

    What is raised is an OSError, and one of the same class where it was one.
    """
    try:
        yield
    except (UploadCancelledError, HDAError):
        raise
    except Exception as err:
        # Every filesystem has errors of its own, those of its HTTP client among them.
        number = err.errno if isinstance(err, OSError) and err.errno else _number(err)
        told = flat(err) or "no word why"
        msg = (
            f"Cannot {attempt} {shown(url)}: {type(err).__name__}: {told}. "
            f"{_STEPS.get(number, _STEP)}. What was fetched stays in the cache."
        )
        raise OSError(number, printable(msg)) from err


def _number(err: Exception) -> int:
    if isinstance(err, PermissionError) or "Credentials" in type(err).__name__:
        return errno.EACCES
    return errno.ENOENT if isinstance(err, FileNotFoundError) else errno.EIO


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file of another filesystem, as it was listed.

    Attributes
    ----------
    folder : RemoteFolder
        Where it is.
    name : str
        Its name in there.
    info : mapping
        What its filesystem tells of it.
    """

    folder: RemoteFolder
    name: str
    info: Mapping[str, Any] = dataclasses.field(repr=False, hash=False)

    @property
    def url(self) -> str:
        """Its address."""
        return self.folder.url_of(self.name)

    @property
    def size(self) -> int | None:
        """Its length in bytes, where its filesystem tells it."""
        size = self.info.get("size")
        return size if isinstance(size, int) else None

    @property
    def stamp(self) -> list[int | str] | None:
        """A text that changes when it is written anew; None where its filesystem tells nothing."""
        told = next((str(self.info[key]) for key in _STAMPS if self.info.get(key)), None)
        return None if told is None or self.size is None else [self.size, told]

    def is_complete(self, size: int | None) -> bool:
        """Whether it has a length, where that is known, and its format is whole."""
        if self.info.get("type") != "file" or size not in {None, self.size}:
            return False
        with explained_elsewhere(self.url, "look into"), self.open(_LOOK_BYTES) as stream:
            try:
                format_ = check_stream(stream, self.url)
            except ProductFormatError:
                return False
        return is_whole(format_, self.name, size)

    def begins(self, source: BinaryIO, size: int) -> bool:
        """Whether it holds nothing but the first bytes of an open file, or all of them."""
        if self.info.get("type") != "file" or self.size is None or self.size > size:
            return False
        source.seek(0)
        with explained_elsewhere(self.url, "compare"), self.open(_COPY_BYTES) as old:
            while block := old.read(_COPY_BYTES):
                if source.read(len(block)) != block:
                    return False
        return True

    def open(self, block_bytes: int) -> Any:
        """Open it, to be read in blocks."""
        fs, path = self.folder.fs, self.folder.path_of(self.name)
        return fs.open(path, "rb", block_size=block_bytes, cache_type="readahead")


class RemoteFolder:
    """A folder, prefix or bucket of another filesystem.

    Parameters
    ----------
    target : str, path, or UPath
        Its address.
    options : mapping, optional
        Storage options of that filesystem; those of a UPath are its own.

    Attributes
    ----------
    fs : AbstractFileSystem
        The filesystem.
    url : str
        The address, as it was given.

    Raises
    ------
    LocationError
        It is chained, or of a filesystem that is not known or not installed.
    OSError
        That filesystem cannot be reached with these options.
    """

    def __init__(self, target: Any, options: Mapping[str, Any] | None = None) -> None:
        scheme = remote_scheme(target) or "file"
        rest = text_of(target).strip()[len(scheme) + 1 :]
        # pathlib leaves one slash of two
        self.url = f"{scheme}://{rest.removeprefix('//' if rest.startswith('//') else '/')}"
        if "::" in self.url or scheme == "hda":
            msg = (
                f"Cannot copy to {shown(self.url)}: copies go to one filesystem that can be "
                "written to, and not through a chain. Give the address of a folder or bucket, "
                "such as s3://bucket/prefix/."
            )
            raise LocationError(msg)
        if {".", ".."} & {*rest.split("/")}:
            msg = (
                f"Cannot copy to {shown(self.url)}: what '.' and '..' mean there depends on the "
                "filesystem. Give the address without them."
            )
            raise LocationError(msg)
        given = {**getattr(target, "storage_options", {}), **(options or {})}
        with explained_elsewhere(self.url, "reach"):
            try:
                self.fs, self._root = url_to_fs(self.url, **given)
            except (ValueError, ImportError) as err:
                step = "Do so with pip, or give" if isinstance(err, ImportError) else "Give"
                msg = f"Cannot copy to {shown(self.url)}: {flat(err)}. {step} another target."
                raise LocationError(msg) from err
        self._root = self._root.rstrip("/")

    @property
    def is_folder(self) -> bool:
        """Whether its address is that of a folder: it ends so, or there is one."""
        if self.url.endswith("/"):
            return True
        with explained_elsewhere(self.url, "look at"):
            return bool(self.fs.isdir(self._root))

    def parent(self) -> RemoteFolder:
        """Return the folder that it is in, if it is taken for a file."""
        folder = RemoteFolder.__new__(RemoteFolder)
        folder.fs, folder.url = self.fs, self.url.rpartition("/")[0] + "/"
        folder._root = self._root.rpartition("/")[0]
        return folder

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self.url.rstrip("/").rpartition("/")[2]

    def path_of(self, name: str) -> str:
        """Return the path of a file in it, as its filesystem has it."""
        return f"{self._root}/{name}"

    def url_of(self, name: str) -> str:
        """Return the address of a file in it."""
        return str(self.fs.unstrip_protocol(self.path_of(name)))

    def check_bucket(self) -> None:
        """Raise FileNotFoundError if there is no such bucket, before anything is ordered for it.

        Who may write may not always look: that it is not told is no fault.
        """
        if not self._puts_whole or isinstance(self.fs, MemoryFileSystem) or "://" in self._root:
            return
        bucket = self._root.partition("/")[0]
        with explained_elsewhere(self.url, "reach"):
            self.fs.invalidate_cache()
            try:
                self.fs.info(bucket)
            except FileNotFoundError as err:
                raise FileNotFoundError(errno.ENOENT, f"there is no {bucket}") from err
            except PermissionError:
                return

    def files(self) -> list[RemoteFile]:
        """Return the files in it, by name; none where it is not there."""
        with explained_elsewhere(self.url, "list"):
            self.fs.invalidate_cache()
            try:
                infos = self.fs.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        named = {str(info["name"]).rstrip("/").rpartition("/")[2]: info for info in infos}
        return [
            RemoteFile(self, name, info)
            for name, info in sorted(named.items())
            if info.get("type") == "file"
        ]

    def file(self, name: str) -> RemoteFile | None:
        """Return a file in it, or whatever has that name; None if nothing has it.

        Where only writing is allowed, nothing is seen of what is there.
        """
        path = self.path_of(name)
        with explained_elsewhere(self.url_of(name), "look at"):
            self.fs.invalidate_cache(path)
            try:
                return RemoteFile(self, name, self.fs.info(path))
            except (FileNotFoundError, PermissionError):
                return None

    def put(self, source: BinaryIO, name: str, cancelled: threading.Event) -> RemoteFile | None:
        """Copy an open local file to a name in it, which then has all of it; else it has nothing.

        Returns
        -------
        RemoteFile or None
            The file as it is there; None if its filesystem lets nobody look.

        Raises
        ------
        OSError
            The filesystem refuses it, or holds another number of bytes afterwards.
        UploadCancelledError
            ``cancelled`` was set meanwhile.
        """
        size = os.fstat(source.fileno()).st_size
        target = self.path_of(name)
        with explained_elsewhere(self.url_of(name)):
            if self._puts_whole:
                self._put(source, target, cancelled)
            else:
                part = self.path_of(f".{uuid.uuid4().hex}.part")
                try:
                    self.fs.makedirs(self._root, exist_ok=True)
                    self._put(source, part, cancelled)
                    self._check_size(part, size)
                    self._move(part, target)
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        self.fs.rm_file(part)
            self.fs.invalidate_cache(target)
            self._check_size(target, size)
        return self.file(name)

    def rename(self, old: str, new: str) -> RemoteFile | None:
        """Give a file in it another name."""
        with explained_elsewhere(self.url_of(new)):
            self._move(self.path_of(old), self.path_of(new))
        return self.file(new)

    @property
    def _puts_whole(self) -> bool:
        """Whether a file that is put there appears when it is complete, as in object stores.

        Those of fsspec have coroutines; what writes bit by bit, such as SFTP, has none.
        """
        if isinstance(self.fs, MemoryFileSystem):
            return True
        own = getattr(type(self.fs), "_put_file", None)
        return isinstance(self.fs, AsyncFileSystem) and own is not AsyncFileSystem._put_file

    def _put(self, source: BinaryIO, path: str, cancelled: threading.Event) -> None:
        if cancelled.is_set():
            raise UploadCancelledError
        source.seek(0)
        if isinstance(self.fs, MemoryFileSystem):
            self.fs.pipe_file(path, source.read())
            return
        more = {}
        own = getattr(self.fs, "_put_file", None)
        if own is not None and "max_concurrency" in inspect.signature(own).parameters:
            more["max_concurrency"] = _PARTS_AT_A_TIME
        # By its descriptor: the cache may evict the path in this moment.
        local = f"/dev/fd/{source.fileno()}"
        self.fs.put_file(local, path, callback=_Cancel(cancelled), **more)

    def _check_size(self, path: str, size: int) -> None:
        try:
            there = self.fs.info(path).get("size")
        except PermissionError:
            return
        if there not in {None, size}:
            msg = f"{there} bytes of {size} arrived"
            raise OSError(errno.EIO, msg)

    def _move(self, old: str, new: str) -> None:
        if type(self.fs).mv is AbstractFileSystem.mv:
            # Whole as well, where the filesystem copies by itself. Its mv takes paths for patterns.
            self.fs.cp_file(old, new)
            self.fs.rm_file(old)
            return
        try:
            self.fs.mv(old, new)
        except OSError:
            # Some do not replace. What is there was asked for: it is to be replaced.
            if not self.fs.exists(new) or not self.fs.exists(old):
                raise
            self.fs.rm_file(new)
            self.fs.mv(old, new)


class _Cancel(Callback):  # type: ignore[misc]  # fsspec is untyped
    """Ends an upload between two parts. The filesystem then drops what it holds of it."""

    def __init__(self, cancelled: threading.Event) -> None:
        super().__init__()
        self._cancelled = cancelled

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self._cancelled.is_set():
            raise UploadCancelledError
