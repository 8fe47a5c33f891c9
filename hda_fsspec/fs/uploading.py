"""Products copied to another filesystem: fetched, named as delivered, and put there, many at once.

What a filesystem needs so that a file is whole in it is not known here.
"""

from __future__ import annotations

import concurrent.futures
import errno
import logging
import threading
from collections.abc import Iterator
from io import BufferedReader
from typing import TYPE_CHECKING, Any, Self

from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from hda_fsspec.concurrency.futures import done_future, settle
from hda_fsspec.fetching.remote_folder import RemoteFile, RemoteFolder, UploadCancelledError
from hda_fsspec.filenames import alike
from hda_fsspec.fs.files import close_unwanted, names_of
from hda_fsspec.fs.info import Paths, product_name, products_of
from hda_fsspec.printable import printable
from hda_fsspec.records import Product

if TYPE_CHECKING:
    from hda_fsspec.client import Client, Entry
    from hda_fsspec.fetching.local_copies import Copies

logger = logging.getLogger("hda_fsspec")

#: Each may hold parts of some 100 MB in memory.
_UPLOADS_AT_A_TIME = 4


def upload(
    client: Client,
    source: Paths,
    target: RemoteFolder,
    callback: Any,
    *,
    skip_existing: bool,
) -> list[str]:
    """Copy products to another filesystem, and return their addresses in order.

    Nothing is ordered for a bucket that is not there, and nothing more once one refuses a copy
    for a reason that holds for all.
    """
    from hda_fsspec.client import gather_products

    name = product_name(source)
    target.check_bucket()
    is_file = name is not None and not target.is_folder
    folder = target.parent() if is_file else target
    deliveries = _Deliveries(folder, client.copies, target.name if is_file else None)
    if is_file:
        deliveries.is_named_by_id = target.name == name
    found = products_of(client, source)
    if skip_existing:
        there = [folder.file(target.name)] if is_file else folder.files()
        given = [file for file in there if file is not None]
        if is_file:
            here = {p: f for p in found for f in given if client.copies.is_complete_copy(p, f)}
        else:
            here = client.copies.find(found, given)
        deliveries.keep(here)
    missing = [product for product in found if product not in deliveries.names]
    with _Uploads(client, deliveries) as uploads:
        try:
            gather_products(
                missing,
                uploads.begin,
                lambda _, done: done.result(),
                callback,
                at_a_time=client.settings.max_in_flight,
            )
        finally:
            uploads.stop()
            deliveries.settle()
    return [folder.url_of(deliveries.names[product]) for product in found]


class _Uploads:
    """Fetches products and puts them, until it is stopped; it is a context."""

    def __init__(self, client: Client, deliveries: _Deliveries) -> None:
        fs = deliveries.folder.fs
        # One connection of what has no coroutines, such as FTP, is seldom fit for several threads.
        is_shareable = isinstance(fs, AsyncFileSystem | MemoryFileSystem)
        workers = _UPLOADS_AT_A_TIME if is_shareable else 1
        self._threads = concurrent.futures.ThreadPoolExecutor(workers, "hda-uploads")
        self._client = client
        self._deliveries = deliveries
        self._cancelled = threading.Event()
        self._refusal: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End what is under way, between two parts of a file, and wait until it has ended."""
        self._cancelled.set()
        self._threads.shutdown(cancel_futures=True)

    def begin(self, product: Product) -> concurrent.futures.Future[None]:
        """Order a product, fetch it, and put it; return a future of when it is there."""
        if self._refusal is not None:
            return done_future(error=self._refusal)
        outcome: concurrent.futures.Future[None] = concurrent.futures.Future()
        opening = self._client.open(product)
        outcome.add_done_callback(lambda _: opening.cancel())

        def put(opened: concurrent.futures.Future[tuple[Entry, BufferedReader]]) -> None:
            try:
                entry, handle = opened.result()
            except BaseException as err:  # noqa: BLE001  (whoever waits for the outcome gets it)
                settle(outcome, error=err)
                return
            with handle:
                try:
                    self._deliveries.add(product, entry.delivered_name, handle, self._cancelled)
                except BaseException as err:  # noqa: BLE001  (likewise)
                    if isinstance(err, PermissionError | FileNotFoundError):
                        self._refusal = err
                    settle(outcome, error=err)
                    return
            settle(outcome)

        def drop(opened: concurrent.futures.Future[tuple[Entry, BufferedReader]]) -> None:
            close_unwanted(opened)
            settle(outcome, error=UploadCancelledError())

        def hand_over(opened: concurrent.futures.Future[tuple[Entry, BufferedReader]]) -> None:
            try:
                work = self._threads.submit(put, opened)
            except RuntimeError:  # it was stopped in this moment
                drop(opened)
            else:
                work.add_done_callback(lambda done: drop(opened) if done.cancelled() else None)

        opening.add_done_callback(hand_over)
        return outcome


class _Deliveries:
    """The names of products in a folder elsewhere, for several threads.

    Products that are delivered under one name get their ids in front of it, as on a disk: see
    :class:`hda_fsspec.fs.files.Deliveries`. The first of them does so at the end.

    Attributes
    ----------
    names : dict
        The name of each product that is there.
    is_named_by_id : bool
        Whether nobody chose the name of the one file.
    """

    def __init__(self, folder: RemoteFolder, copies: Copies, file: str | None) -> None:
        self.folder = folder
        self.names: dict[Product, str] = {}
        self.is_named_by_id = False
        self._copies = copies
        self._file = file
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self._of_name: dict[str, list[tuple[Product, str]]] = {}

    def keep(self, here: dict[Product, RemoteFile]) -> None:
        """Leave files that are copies of products already where they are."""
        for product, file in here.items():
            self.names[product] = file.name
            self._taken.add(alike(file.name))

    def add(
        self, product: Product, name: str, source: BufferedReader, cancelled: threading.Event
    ) -> None:
        """Copy an open file."""
        if self._file is not None:
            self._put(product, self._file, source, cancelled, may_replace=not self.is_named_by_id)
            return
        with self._lock:
            same = self._of_name.setdefault(alike(name), [])
            same.append((product, name))
            is_own_name_free = len(same) == 1
        for candidate in self._names(product, name, is_own_name_free=is_own_name_free):
            try:
                self._put(product, candidate, source, cancelled)
            except FileExistsError as err:
                logger.warning("%s Another name was taken for %s.", err, product.product_id)
            else:
                return

    def settle(self) -> None:
        """Give the first of several products of one name its id, too."""
        for (first, name), *others in self._of_name.values():
            if not others or self.names.get(first) != name:
                continue
            for candidate in self._names(first, name, is_own_name_free=False):
                if self.folder.file(candidate) is None:
                    break
            self._note(first, candidate, self.folder.rename(name, candidate))

    def _names(self, product: Product, name: str, *, is_own_name_free: bool) -> Iterator[str]:
        """Yield names that no other product of this call has, and take each of them."""
        for candidate in names_of(product, name, is_own_name_free=is_own_name_free):
            with self._lock:
                if alike(candidate) in self._taken:
                    continue
                self._taken.add(alike(candidate))
            yield candidate

    def _put(
        self,
        product: Product,
        name: str,
        source: BufferedReader,
        cancelled: threading.Event,
        *,
        may_replace: bool = False,
    ) -> None:
        """Put a file under a name, unless somebody else's has it, in which more would be lost."""
        there = None if may_replace else self.folder.file(name)
        if there is not None and not self._copies.is_ours(there):
            size = source.seek(0, 2)
            if not there.begins(source, size):
                msg = (
                    f"{there.url} is there already, and was not copied from a product of this "
                    "cache, or was changed since: it was left as it is. Remove it, or choose "
                    "another target."
                )
                raise FileExistsError(errno.EEXIST, printable(msg))
            if there.size == size:
                self._note(product, name, there)
                return
        self._note(product, name, self.folder.put(source, name, cancelled))

    def _note(self, product: Product, name: str, file: RemoteFile | None) -> None:
        self.names[product] = name
        if file is not None:
            self._copies.note(product, file)
