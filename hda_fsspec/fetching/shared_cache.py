"""A second cache, which machines without a common disk share: a folder of another filesystem.

What one of them ordered, downloaded and checked is put there beside the reading, and the others
take it from there in place of an order. What comes from there is trusted no more than what the
service sends. Nothing depends on it: where it is away, products are ordered as without it. Its
filesystem may hang, or need an event loop that is busy: it is called in threads that nobody joins.
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
from datetime import UTC, datetime
from typing import Any, TypeVar

from hda_fsspec.cache.cache import Cache, Entry
from hda_fsspec.cache.staging import Staging
from hda_fsspec.concurrency import tasks
from hda_fsspec.concurrency.futures import settle
from hda_fsspec.concurrency.tasks import SharedTasks
from hda_fsspec.errors import HDAError
from hda_fsspec.fetching.remote_folder import RemoteFile, RemoteFolder
from hda_fsspec.localpaths import shown
from hda_fsspec.printable import printable
from hda_fsspec.records import Product, parse_time
from hda_fsspec.subsets.canonical_request import is_subset_job
from hda_fsspec.subsets.recency import PROVISIONAL

logger = logging.getLogger("hda_fsspec")

T = TypeVar("T")

_LAYOUT = "v1"
_RECORD = "record.json"
#: No record is longer: a name, a length and a checksum.
_MOST_RECORD_BYTES = 10_000
_PIECE_BYTES = 4 << 20
#: Each may hold parts of some 100 MB in memory.
_UPLOADS_AT_A_TIME = 4
#: For so long what could not be reached is not asked again, and twice as long each time.
_AWAY_SECONDS = 60.0
_LONGEST_AWAY_SECONDS = 3600.0
_PAUSES = (0.001, 0.05)
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Of options, texts that are no secret: too short, and part of many words.
_SHORTEST_SECRET = 4
#: What is noted of bytes in a staging that come from here, as the checksum of the whole.
_SHARED_FACT = "shared"


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


def is_settled(product: Product, now: datetime) -> bool:
    """Whether products of this name and version are one and the same for ever, as far as is known.

    What the service computes near the present is corrected later under the same name; and without
    a size or the time of an update nothing tells two versions apart.
    """
    if not product.request and not is_subset_job([product.product_id]):
        return product.size is not None or product.updated is not None
    try:
        end = parse_time(product.enddate or "")
    except ValueError:
        return False
    return now - end > PROVISIONAL


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
        Seconds without an answer after which it counts as away.
    clock : callable
        Seconds that go on whatever is done to the time of day.
    now : callable
        The time of day.

    Attributes
    ----------
    url : str
        Its address.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        *,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.url = url
        self._options = dict(options)
        self._secrets = sorted(_texts_in(options), key=len, reverse=True)
        self._timeout = timeout
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}
        self._away_until: dict[str, float] = {}
        self._uploads: SharedTasks[None] = SharedTasks(_UPLOADS_AT_A_TIME)
        self._pending: dict[concurrent.futures.Future[None], Product] = {}

    @property
    def pending(self) -> list[tuple[Product, concurrent.futures.Future[None]]]:
        """What is on its way there, each with a future of when it has arrived or failed."""
        with self._lock:
            return [(product, future) for future, product in self._pending.items()]

    async def find(self, product: Product) -> SharedCopy | None:
        """Return the copy of a product that is there; None if there is none, or it is away."""
        if self._is_away("read") or not is_settled(product, self._now()):
            return None
        try:
            copy, there = await self._wait(_in_thread(lambda: self._look(product)))
        except _UnreachableError as err:
            self._note("read", str(err))
            return None
        self._forgive("read")
        if copy is not None and there != copy.size:
            # Before room is made for it.
            self.refuse(product, f"it has {there} bytes, and its record tells of {copy.size}")
            return None
        return copy

    async def receive(
        self,
        product: Product,
        copy: SharedCopy,
        staging: Staging,
        tell: Callable[[int, int | None], object],
    ) -> bool:
        """Write a copy into the cache's staging; False if it is of no use, or not needed.

        What an order has brought already is left to go on from there.

        Raises
        ------
        OSError
            The disk of the cache has no room for it, or the staging was taken away.
        """
        facts = staging.facts
        if staging.offset and facts and _SHARED_FACT not in facts:
            return False
        staging.restart()
        staging.remember(**{_SHARED_FACT: copy.sha256})
        digest, done = hashlib.sha256(), 0
        stream: Any = None
        try:
            stream = await self._wait(_in_thread(lambda: self._open(product, copy)))
            with staging.open() as handle:
                while done <= copy.size:
                    piece = await self._wait(_in_thread(lambda: self._read(stream)))
                    if not piece:
                        break
                    staging.admit(done, len(piece), copy.size)
                    handle.write(piece)
                    digest.update(piece)
                    done += len(piece)
                    tell(done, copy.size)
        except _UnreachableError as err:
            self._note("read", str(err))
            staging.restart()
            return False
        finally:
            if stream is not None:
                # That a stream of which all was read cannot be closed changes nothing.
                _in_thread(stream.close)
        if done == copy.size and digest.hexdigest() == copy.sha256:
            return True
        staging.restart()
        self.refuse(product, "its bytes are not those that its record tells of")
        return False

    def refuse(self, product: Product, why: str) -> None:
        """Say in the log that a copy is of no use; the one that is ordered will take its place."""
        logger.warning(
            "The copy of %s in the shared cache %s is damaged: %s. It was not used.",
            product,
            shown(self.url),
            why,
        )

    def put(self, product: Product, cache: Cache) -> None:
        """Copy a product of the cache there, some time from now; see :attr:`pending`."""
        is_away = self._is_away("read") or self._is_away("write")
        if is_away or not is_settled(product, self._now()):
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
            self._pending[future] = product
        future.add_done_callback(self._forget)

    def _forget(self, future: concurrent.futures.Future[None]) -> None:
        with self._lock:
            self._pending.pop(future, None)

    def _folder(self, product: Product) -> RemoteFolder:
        path = f"{_LAYOUT}/{product.key[:2]}/{product.key}/{product.version_tag}/"
        return RemoteFolder(f"{self.url.rstrip('/')}/{path}", self._options)

    def _file(self, product: Product, name: str) -> RemoteFile | None:
        """Return a file of a product; whatever else lies there, such as a FIFO, is not opened."""
        folder = self._folder(product)
        path = folder.path_of(name)
        folder.fs.invalidate_cache(path)
        try:
            info = folder.fs.info(path)
        except FileNotFoundError:
            return None
        is_file = info.get("type") == "file" and not info.get("islink")
        return RemoteFile(folder, name, info) if is_file else None

    def _look(self, product: Product) -> tuple[SharedCopy | None, int | None]:
        """Return what the record of a product says, and the length of the file that it names."""
        with self._reached():
            file = self._file(product, _RECORD)
            if file is None or (file.size or 0) > _MOST_RECORD_BYTES:
                return None, None
            with file.open(_MOST_RECORD_BYTES) as stream:
                copy = SharedCopy.from_json(stream.read(_MOST_RECORD_BYTES))
            data = None if copy is None else self._file(product, copy.sha256)
            return copy, None if data is None else data.size

    def _open(self, product: Product, copy: SharedCopy) -> Any:
        with self._reached():
            file = self._file(product, copy.sha256)
            if file is None:
                msg = "it was removed"
                raise FileNotFoundError(msg)
            return file.open(_PIECE_BYTES)

    def _read(self, stream: Any) -> bytes:
        with self._reached():
            piece: bytes = stream.read(_PIECE_BYTES)
            return piece

    def _upload(self, product: Product, cache: Cache) -> None:
        entry: Entry | None = cache.lookup(product, touch=False)
        if entry is None or self._is_away("write"):
            return
        try:
            handle = entry.open()
        except FileNotFoundError:
            logger.info("%s was evicted before it was put into the shared cache", product)
            return
        never = threading.Event()
        with handle, tempfile.TemporaryFile() as record:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
            record.write(SharedCopy(entry.delivered_name, entry.size, digest).to_json())
            record.flush()
            with self._reached():
                folder = self._folder(product)
                folder.put(handle, digest, never)
                folder.put(record, _RECORD, never)
        self._forgive("write")

    async def _wait(self, future: concurrent.futures.Future[T]) -> T:
        """Wait for an answer, without a thread, for as long as may be."""
        give_up_at = self._clock() + self._timeout
        pause, longest = _PAUSES
        while not future.done():
            if self._clock() >= give_up_at:
                raise _UnreachableError(f"it did not answer within {self._timeout:g} s")
            await tasks.sleep(pause)
            pause = min(2 * pause, longest)
        return future.result()

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except Exception as err:  # noqa: BLE001  (every filesystem has errors of its own)
            # They may quote what it was given.
            cause = err if isinstance(err, HDAError) or err.__cause__ is None else err.__cause__
            told = str(cause) if isinstance(cause, HDAError) else f"{type(cause).__name__}: {cause}"
            for secret in self._secrets:
                told = told.replace(secret, "…")
            # Without its cause, for the same reason.
            raise _UnreachableError(printable(told).rstrip(".")) from None

    def _is_away(self, what: str) -> bool:
        with self._lock:
            return self._clock() < self._away_until.get(what, float("-inf"))

    def _forgive(self, what: str) -> None:
        """Forget how often it could not be reached: now it was."""
        with self._lock:
            self._failures.pop(what, None)

    def _note(self, what: str, why: str) -> None:
        """Leave it alone for a while, and say so once."""
        with self._lock:
            number = self._failures.get(what, 0)
            self._failures[what] = number + 1
            away = min(_AWAY_SECONDS * 2**number, _LONGEST_AWAY_SECONDS)
            is_told = what in self._away_until
            self._away_until[what] = self._clock() + away
        logger.log(
            logging.DEBUG if is_told else logging.WARNING,
            "Cannot %s the shared cache %s: %s. Products are ordered as without it. Correct "
            "shared_cache (HDA_SHARED_CACHE) or shared_cache_options "
            "(HDA_SHARED_CACHE_OPTIONS), or leave both out.",
            what,
            shown(self.url),
            why,
        )


def _in_thread(work: Callable[[], T]) -> concurrent.futures.Future[T]:
    """Do what may hang in a thread of its own, which ends with the process if not before."""
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            settle(outcome, work())
        except BaseException as err:  # noqa: BLE001  (whoever waits for the outcome gets it)
            settle(outcome, error=err)

    threading.Thread(target=run, name="hda-shared-cache", daemon=True).start()
    return outcome


def _texts_in(value: Any) -> set[str]:
    """Return the texts in options, however deep, of which any may be a secret."""
    if isinstance(value, str):
        return {value} if len(value) >= _SHORTEST_SECRET else set()
    inner = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, (Mapping, list, tuple, set)):
        return set().union(*map(_texts_in, inner))
    return set()
