"""A product while it is written: one writer's private folder, resumed, completed, published.

No lock is needed. Nobody writes into a folder that another may be writing to; an abandoned one
changes hands by a rename, which one claimant wins; and file and record appear in the cache by one
rename of the whole folder. Who else may write to the cache can take the folder away, or put another
in its place: what is written to is the file that was made here, or the staging is over. What the
bytes mean is told by a callable.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from hda_fsspec.cache import partial_writers, partials
from hda_fsspec.cache.folder import NO_ROOM_ERRNOS, Folder, dump_json, read_json
from hda_fsspec.cache.partials import DATA_NAME, FACTS_NAME
from hda_fsspec.cache.product_entries import (
    RECORD_NAME,
    Entry,
    read_entry,
    safe_name,
    versions_folder,
)
from hda_fsspec.errors import DownloadError, ProductFormatError
from hda_fsspec.records import Product
from hda_fsspec.untrusted_files import UntrustedFileError

_PUBLISH_ATTEMPTS = 8
_BEGIN_ATTEMPTS = 4


class Staging:
    """The private folder of one writer; a context manager.

    Leaving it without :meth:`publish` hands what was received to the next writer of the same
    version, or drops it if there is nothing. A process that is killed leaves the same behind.
    Errors of a disk without room, and of a folder that was deleted meanwhile, are OSErrors with
    ``ENOSPC`` (``EDQUOT``, ``EFBIG``) and ``ESTALE``; after the latter, staging again can help.
    """

    def __init__(
        self,
        folder: Folder,
        product: Product,
        *,
        clock: Callable[[], float],
        on_publish: Callable[[Entry], None],
        admit: Callable[[int, int, int | None], None],
    ) -> None:
        self.product = product
        self.key = product.key
        self._folder = folder
        self._clock = clock
        self._on_publish = on_publish
        #: Called before more is written, with the bytes held, how many more, and how many in all if
        #: that is known; it raises where there is no room for them.
        self.admit = admit
        self._stem = f"{self.key}.{product.version_tag}"
        self._partial: Path | None = None
        #: Which folder it is, and whose: another one may lie at its path later.
        self._id: tuple[int, int, int] | None = None
        self._facts: dict[str, Any] = {}
        self._begin()

    @property
    def path(self) -> Path:
        """The file being written."""
        return self._private() / DATA_NAME

    @property
    def offset(self) -> int:
        """The number of bytes that are held already; the disk is asked."""
        with self._explained(), os.fdopen(self._open_own(os.O_RDONLY), "rb") as handle:
            return os.fstat(handle.fileno()).st_size

    @property
    def facts(self) -> dict[str, Any]:
        """A copy of what was remembered of these bytes, by this writer or the one before."""
        return dict(self._facts)

    def remember(self, **facts: Any) -> None:
        """Keep facts (ETag, total, …) with the bytes for who resumes; JSON values, no secrets."""
        self._facts.update(facts)
        with self._explained():
            self._check_folder()  # a vanished one must not come back
            self._folder.write(self._private() / FACTS_NAME, dump_json(self._facts))

    def restart(self) -> None:
        """Drop the bytes, and what was remembered of them."""
        with self._explained():
            # In this order: bytes without their facts would be worse than facts without bytes.
            with os.fdopen(self._open_own(os.O_RDWR), "r+b") as handle:
                handle.truncate(0)
            self._facts = {}
            self.remember()

    def open(self) -> BinaryIO:
        """Open the file to write after the bytes that are held."""
        with self._explained():
            # Not to append: that would make a new file where another process took this one away.
            handle = os.fdopen(self._open_own(os.O_RDWR), "r+b")
            handle.seek(0, os.SEEK_END)
            return handle

    def settle(self, handle: BinaryIO, start: int, stop: int) -> None:
        """Let the disk begin to write a part of the file, while the rest is still arriving.

        :meth:`publish` waits until all of it is on the disk, which else begins only then.
        """
        handle.flush()
        if hasattr(os, "posix_fadvise"):
            # It is named after what it does to pages that are on the disk already: they may be
            # dropped from memory. Those of this part are not, and stay.
            with contextlib.suppress(OSError):  # advice, which a file system may refuse
                os.posix_fadvise(handle.fileno(), start, stop - start, os.POSIX_FADV_DONTNEED)

    def publish(
        self,
        delivered_name: str,
        *,
        check: Callable[[Path], object] | None = None,
        expected_bytes: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Verify what was received and put it into the cache, in one step.

        If another process published the same version meanwhile, its entry is returned and this one
        is dropped. A file that is too short stays for the next writer; one that is too long, or
        that ``check`` refuses, is dropped. Without ``check`` the caller has looked at :attr:`path`.

        Raises
        ------
        DownloadError
            The length is not ``expected_bytes``.
        ProductFormatError
            Or whatever else ``check`` raises.
        """
        with self._explained():
            size = self.offset
            self._check_length(size, expected_bytes)
            name = safe_name(delivered_name, self.product.product_id)
            # Under its readable name, since a check may go by the suffix.
            named = self._private() / name
            self._folder.rename(self.path, named)
        if check is not None:
            self._check(named, check)
        now = self._clock()
        entry = Entry(
            key=self.key,
            path=named,
            product=self.product,
            size=size,
            fetched_at=now,
            used_at=now,
            sha256=None,
            delivered_name=name,
            extra=dict(extra or {}),
        )
        with self._explained():
            published = self._move_into_place(self._complete(entry))
        self._on_publish(published)
        return published

    def discard(self) -> None:
        """Drop what was received."""
        if self._partial is not None:
            self._folder.discard(self._partial)
            self._partial = None

    def release(self) -> None:
        """Hand what was received to the next writer; drop it if there is nothing."""
        if self._partial is None:
            return
        partial, self._partial = self._partial, None
        # What cannot be handed over now keeps this process's name, and is free once it ends.
        with contextlib.suppress(OSError):
            if partials.held_bytes(self._folder, partial):
                released = partial.with_name(f"{self._stem}.{partial_writers.new_released()}")
                self._folder.rename(partial, released)
            else:
                self._folder.discard(partial)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.release()
        # What says more than the system does comes from here.
        is_told = isinstance(error, OSError) and error.strerror != os.strerror(error.errno or 0)
        if isinstance(error, OSError) and error.errno in NO_ROOM_ERRNOS and not is_told:
            explained = self._folder.explained(error)
            if str(explained) != str(error):
                raise explained from error

    def _begin(self) -> None:
        self._partial, self._id = self._new_partial()
        facts = read_json(self._folder, self._partial / FACTS_NAME)
        self._facts = facts if isinstance(facts, dict) else {}

    def _new_partial(self) -> tuple[Path, tuple[int, int, int]]:
        for _ in range(_BEGIN_ATTEMPTS):
            self._folder.prepare()
            # Somebody may remove the whole folder between any two steps.
            with contextlib.suppress(FileNotFoundError):
                partial = partials.begin(self._folder, self._stem, now=self._clock())
                with self._folder.inside(partial) as inside:
                    return partial, _id_and_owner(os.fstat(inside))
        msg = f"The cache folder {self._folder.path} disappears again and again. Set cache_dir."
        raise OSError(errno.ESTALE, msg)

    def _check_length(self, size: int, expected_bytes: int | None) -> None:
        if expected_bytes is None or size == expected_bytes:
            return
        if size > expected_bytes:
            self.discard()
        msg = (
            f"The download of {self.product} ended with"
            f" {size} bytes of {expected_bytes}. Open it again: "
            + (
                "it goes on from there."
                if size < expected_bytes
                else "it starts from the beginning."
            )
        )
        raise DownloadError(msg, expected=expected_bytes, received=size)

    def _check(self, named: Path, check: Callable[[Path], object]) -> None:
        try:
            check(named)
        except Exception as err:
            is_fault_of_machine = isinstance(err, OSError) and not isinstance(
                err, ProductFormatError
            )
            if not is_fault_of_machine:
                self.discard()
            raise

    def _complete(self, entry: Entry) -> Entry:
        """Write the record, and wait until all is on the disk."""
        record = entry.folder / RECORD_NAME
        data = self._open_own(os.O_RDWR, entry.path.name)
        try:
            facts = os.fstat(data)
            if facts.st_size != entry.size:
                raise FileNotFoundError(entry.path)
            self._folder.adopt(data)
            # Network disks and delayed allocation report a full disk only here.
            os.fsync(data)
        finally:
            os.close(data)
        self._folder.unlink(record)
        with self._folder.create(record) as handle:
            handle.write(entry.record())
            handle.flush()
            self._folder.adopt(handle.fileno())
            os.fsync(handle.fileno())
            os.utime(handle.fileno(), (entry.used_at, entry.used_at))
        self._folder.unlink(self._private() / FACTS_NAME)
        return dataclasses.replace(entry, file_id=(facts.st_dev, facts.st_ino))

    def _move_into_place(self, entry: Entry) -> Entry:
        partial = self._private()
        versions = versions_folder(self._folder.path, self.product.key)
        target = versions / self.product.version_tag
        for _ in range(_PUBLISH_ATTEMPTS):
            self._folder.make(target.parent)
            try:
                self._check_folder()
                self._folder.rename(partial, target)
            except OSError as err:
                if err.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                    theirs = read_entry(self._folder, target)
                    if theirs is not None:
                        self.discard()
                        return theirs
                    # Left by a power cut, damaged since, or no folder: what is complete takes its
                    # place.
                    self._folder.discard(target)
                elif err.errno != errno.ENOENT or self._folder.look(partial) is None:
                    raise
            else:
                self._partial = None
                return dataclasses.replace(entry, path=target / entry.path.name)
        msg = f"Publishing {entry.path.name} in {target} failed: others replace it all the time."
        raise OSError(errno.EBUSY, msg)

    def _open_own(self, flags: int, name: str = DATA_NAME) -> int:
        """Return a descriptor of the file, which nobody else made or has under another name."""
        with self._checked_folder() as inside:
            try:
                return self._folder.open_own_in(inside, self._private() / name, flags)
            except UntrustedFileError as err:
                raise FileNotFoundError(errno.ENOENT, str(err)) from err

    @contextlib.contextmanager
    def _checked_folder(self) -> Iterator[int]:
        """Give the folder; FileNotFoundError if it is gone, or another one lies at its path."""
        with self._folder.inside(self._private()) as inside:
            if _id_and_owner(os.fstat(inside)) != self._id:
                raise FileNotFoundError(errno.ENOENT, "The folder was replaced")
            yield inside

    def _check_folder(self) -> None:
        with self._checked_folder():
            pass

    def _private(self) -> Path:
        if self._partial is None:
            msg = f"The staging of {self.product} is over; stage it again."
            raise ValueError(msg)
        return self._partial

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as err:
            # Not FileNotFoundError: a caller would take it for "there is no such product".
            msg = (
                f"The folder in which {self.product} was being written disappeared from"
                f" the cache {self._folder.root}: it was cleared by someone else, or this process"
                " was suspended for long. Open the product again."
            )
            raise OSError(errno.ESTALE, msg) from err
        except OSError as err:
            raise self._folder.explained(err) from err


def _id_and_owner(facts: os.stat_result) -> tuple[int, int, int]:
    # Numbers of what was deleted are used again.
    return facts.st_dev, facts.st_ino, facts.st_uid
