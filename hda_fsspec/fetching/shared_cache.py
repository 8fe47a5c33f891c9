"""A second cache, which machines without a common disk share: a folder of another filesystem.

What one of them ordered, downloaded and checked is put there beside the reading, and the others
take it from there in place of an order. What comes from there is trusted no more than what the
service sends. Nothing depends on it: where it is away, products are ordered as without it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import logging
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from hda_fsspec.cache.cache import Cache, Entry
from hda_fsspec.cache.staging import Staging
from hda_fsspec.concurrency.tasks import SharedTasks
from hda_fsspec.errors import HDAError
from hda_fsspec.fetching.remote_folder import RemoteFile, RemoteFolder
from hda_fsspec.localpaths import shown
from hda_fsspec.printable import printable
from hda_fsspec.records import Product

logger = logging.getLogger("hda_fsspec")

T = TypeVar("T")

_LAYOUT = "v1"
_RECORD = "record.json"
#: No record is longer: a name, a length and a checksum.
_MOST_RECORD_BYTES = 10_000
_PIECE_BYTES = 1 << 20
#: Each may hold parts of some 100 MB in memory.
_UPLOADS_AT_A_TIME = 4
#: For so long what could not be reached is not asked again.
_AWAY_SECONDS = 60.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class SharedCopy:
    """A copy of a product in the shared cache, as its record describes it.

    Attributes
    ----------
    name : str
        The delivered name.
    size : int
        Its length in bytes.
    sha256 : str
        Its checksum; it is the name of the file.
    """

    name: str
    size: int
    sha256: str

    def to_json(self) -> bytes:
        """Return the record."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> SharedCopy | None:
        """Return what a record says; None for what is none, since others may write there."""
        try:
            value = json.loads(data)
            name, size, sha256 = value["name"], value["size"], value["sha256"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        is_record = isinstance(name, str) and type(size) is int and size >= 0
        if not is_record or not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            return None
        return cls(name, size, sha256)


class _UnreachableError(Exception):
    """The shared cache, and not the disk or the product, is at fault."""


class SharedCache:
    """The shared cache of one client.

    Each version of a product has a folder of its own, ``v1/KEY[:2]/KEY/VERSION``, with the file
    under its SHA-256 and, put there last, ``record.json``.

    Parameters
    ----------
    url : str
        The address of the folder.
    options : mapping
        Storage options of its filesystem.
    timeout : float
        Seconds after which the question whether a product is there counts as not answered.
    clock : callable
        Seconds that go on whatever is done to the time of day.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        *,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.rstrip("/")
        self._options = dict(options)
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._away_until: dict[str, float] = {}
        self._is_told = False
        self._looks: SharedTasks[SharedCopy | None] = SharedTasks(_UPLOADS_AT_A_TIME)
        self._uploads: SharedTasks[None] = SharedTasks(_UPLOADS_AT_A_TIME)
        self._pending: set[concurrent.futures.Future[None]] = set()

    def find(self, product: Product) -> SharedCopy | None:
        """Return the copy of a product that is there; None if there is none, or it is away."""
        if self._is_away("read"):
            return None

        async def look() -> SharedCopy | None:
            return self._read_record(product)

        try:
            # What fsspec's filesystems wait for is theirs to bound, and some do not.
            return self._looks.submit(object(), lambda _: look()).result(self._timeout)
        except TimeoutError:
            self._note("read", f"it did not answer within {self._timeout:g} s")
        except _UnreachableError as err:
            self._note("read", str(err))
        return None

    def receive(
        self,
        product: Product,
        copy: SharedCopy,
        staging: Staging,
        tell: Callable[[int, int | None], object],
    ) -> bool:
        """Write a copy into the cache's staging; False, and nothing there, if it is of no use.

        Raises
        ------
        OSError
            The disk of the cache has no room for it.
        """
        digest, done = hashlib.sha256(), 0
        try:
            with staging.open() as handle:
                for piece in self._pieces(product, copy):
                    staging.admit(done, len(piece), copy.size)
                    handle.write(piece)
                    digest.update(piece)
                    done += len(piece)
                    tell(done, copy.size)
        except _UnreachableError as err:
            self._note("read", str(err))
            staging.restart()
            return False
        if done == copy.size and digest.hexdigest() == copy.sha256:
            return True
        staging.restart()
        self.refuse(product, f"it is not the {copy.size} bytes that its record tells of")
        return False

    def refuse(self, product: Product, why: str) -> None:
        """Say in the log that a copy is of no use; the one that is ordered will take its place."""
        logger.warning(
            "The copy of %s in the shared cache %s is damaged: %s. It was not used.",
            product,
            shown(self._url),
            why,
        )

    def put(self, product: Product, cache: Cache) -> None:
        """Copy a product of the cache there, some time from now; see :meth:`flush`."""
        if self._is_away("write"):
            return

        async def upload() -> None:
            try:
                self._upload(product, cache)
            except _UnreachableError as err:
                self._note("write", str(err))
            except OSError as err:
                logger.warning("Cannot put %s into the shared cache: %s", product, err)

        future = self._uploads.submit((product.key, product.version_tag), lambda _: upload())
        with self._lock:
            self._pending.add(future)
        future.add_done_callback(self._forget)

    def flush(self) -> None:
        """Wait until what was put has arrived, or was told to have failed."""
        with self._lock:
            pending = list(self._pending)
        for future in pending:
            future.result()

    def _forget(self, future: concurrent.futures.Future[None]) -> None:
        with self._lock:
            self._pending.discard(future)

    def _folder(self, product: Product) -> RemoteFolder:
        path = f"{_LAYOUT}/{product.key[:2]}/{product.key}/{product.version_tag}/"
        return RemoteFolder(f"{self._url}/{path}", self._options)

    def _read_record(self, product: Product) -> SharedCopy | None:
        with self._reached():
            file = self._file(product, _RECORD)
            if file is None or (file.size or 0) > _MOST_RECORD_BYTES:
                return None
            with file.open(_MOST_RECORD_BYTES) as stream:
                return SharedCopy.from_json(stream.read(_MOST_RECORD_BYTES))

    def _file(self, product: Product, name: str) -> RemoteFile | None:
        """Return a file of a product; whatever else lies there, such as a FIFO, is not opened."""
        folder = self._folder(product)
        path = folder.path_of(name)
        folder.fs.invalidate_cache(path)
        try:
            info = folder.fs.info(path)
        except FileNotFoundError:
            return None
        return RemoteFile(folder, name, info) if info.get("type") == "file" else None

    def _pieces(self, product: Product, copy: SharedCopy) -> Iterator[bytes]:
        """Yield the bytes of a copy; no more than one piece too many."""
        left = copy.size
        with contextlib.ExitStack() as opened:
            with self._reached():
                file = self._file(product, copy.sha256)
                if file is None:
                    return
                stream = opened.enter_context(file.open(_PIECE_BYTES))
            while left >= 0:
                with self._reached():
                    piece = stream.read(_PIECE_BYTES)
                if not piece:
                    return
                yield piece
                left -= len(piece)

    def _upload(self, product: Product, cache: Cache) -> None:
        entry: Entry | None = cache.lookup(product, touch=False)
        if entry is None or self._is_away("write"):
            return
        try:
            handle = entry.open()
        except FileNotFoundError:
            logger.info("%s was evicted before it was put into the shared cache", product)
            return
        with handle, tempfile.TemporaryFile() as record:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
            record.write(SharedCopy(entry.delivered_name, entry.size, digest).to_json())
            record.flush()
            never = threading.Event()
            with self._reached():
                folder = self._folder(product)
                folder.put(handle, digest, never)
                folder.put(record, _RECORD, never)

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except Exception as err:
            # Every filesystem has errors of its own.
            told = str(err) if isinstance(err, HDAError) else f"{type(err).__name__}: {err}"
            raise _UnreachableError(told) from err

    def _is_away(self, what: str) -> bool:
        with self._lock:
            return self._clock() < self._away_until.get(what, float("-inf"))

    def _note(self, what: str, why: str) -> None:
        """Leave it alone for a while, and say so once."""
        with self._lock:
            self._away_until[what] = self._clock() + _AWAY_SECONDS
            is_told, self._is_told = self._is_told, True
        logger.log(
            logging.DEBUG if is_told else logging.WARNING,
            "Cannot %s the shared cache %s: %s. Products are ordered as without it. Correct "
            "shared_cache or shared_cache_options, or leave both out.",
            what,
            shown(self._url),
            printable(why),
        )
