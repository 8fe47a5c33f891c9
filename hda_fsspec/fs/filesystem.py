"""The ``hda://`` filesystem: fsspec's verbs, in terms of locations and products.

Its coroutines hand all work to threads of their own, so that a wait for an order never blocks
fsspec's event loop. It holds nothing but what it was given: tokens, listings and connections
belong to :mod:`hda_fsspec.client`, of which all instances with equal settings share one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import hashlib
import os
import resource
import weakref
from collections.abc import Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec.callbacks import DEFAULT_CALLBACK

from hda_fsspec.concurrency.futures import wait_for
from hda_fsspec.errors import ConfigurationError, LocationError
from hda_fsspec.fetching.local_copies import files_in
from hda_fsspec.fetching.remote_folder import RemoteFolder
from hda_fsspec.fs.files import Deliveries, ProductFile, Targets, close_unwanted, copy_out
from hda_fsspec.fs.info import (
    Paths,
    name_of,
    product_name,
    product_to_open,
    products_of,
    to_strings,
)
from hda_fsspec.fs.listing import ListingFileSystem
from hda_fsspec.fs.readonly import ReadOnly, refuse
from hda_fsspec.fs.sync import first_error, sync_method
from hda_fsspec.fs.targets import local_target
from hda_fsspec.fs.write_errors import explained
from hda_fsspec.localpaths import remote_scheme, shown
from hda_fsspec.paths.locations import AnyPath, Location
from hda_fsspec.records import Product
from hda_fsspec.settings import SECRET_SETTINGS, Settings, refuse_unknown_settings

if TYPE_CHECKING:
    from hda_fsspec.client import Client, Entry, Listener

#: The targets of the `get` that a copy is part of, of which no two may be alike.
_targets_of_get: contextvars.ContextVar[Targets | None] = contextvars.ContextVar(
    "targets of get", default=None
)
#: The faults of that `get`; None where a copy is all that was asked for.
_faults_of_get: contextvars.ContextVar[list[tuple[str, Exception]] | None] = contextvars.ContextVar(
    "faults of get", default=None
)


class HDAFileSystem(ReadOnly, ListingFileSystem):
    """Copernicus data on WEkEO as a read-only filesystem.

    ``hda://DATASET/key=value/…`` is a directory, the query; the products it finds are the files in
    it. Looking (``ls``, ``info``, ``glob``, ``du``) orders nothing. Reading orders a product,
    downloads it into the cache once, verifies it, and opens the local file.

    Parameters
    ----------
    use_listings_cache : bool
        False to ask the service anew for each listing.
    asynchronous, loop, batch_size
        As for :class:`fsspec.asyn.AsyncFileSystem`.
    **settings
        Any attribute of :class:`hda_fsspec.settings.Settings`: ``user``, ``password``,
        ``cache_dir``, ``offline``, … What is not given is read from the environment at each use,
        so that a pickled filesystem uses the credentials of the machine it arrives at. The
        password and the options of a shared cache are part of no pickle and no token.

    Raises
    ------
    ConfigurationError
        A setting is unknown.
    """

    local_file = True
    # fsspec's cache of instances leaves secrets out of its key: who corrects a password would
    # get the instance with the wrong one. Instances are cheap, since nothing is in them.
    cachable = False
    _strip_tokenize_options = SECRET_SETTINGS

    def __init__(
        self,
        *,
        use_listings_cache: bool = True,
        asynchronous: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        batch_size: int | None = None,
        **settings: Any,
    ) -> None:
        refuse_unknown_settings(settings, "argument")
        super().__init__(asynchronous=asynchronous, loop=loop, batch_size=batch_size)
        self._options = settings
        self._use_listings_cache = use_listings_cache
        self._open_files: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, asyncio.Semaphore
        ] = weakref.WeakKeyDictionary()

    @property
    def _fs_token(self) -> str:
        # What equality, hashes and Dask's names go by. fsspec's own differs between processes.
        facts = sorted((k, str(v)) for k, v in self.storage_options.items() if k != "loop")
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    @property
    def settings(self) -> Settings:
        """The settings as they resolve now."""
        return Settings.resolve(**self._options)

    @property
    def fsid(self) -> str:
        """A stable name of the broker, without secrets."""
        return f"hda-{hashlib.sha256(self.settings.endpoint_url.encode()).hexdigest()[:16]}"

    @property
    def _client(self) -> Client:
        # Late, since it loads the HTTP client: who only names the class needs none.
        from hda_fsspec.client import get_client

        return get_client(self.settings)

    async def _get(
        self, rpath: Any, lpath: Any, *args: Any, progress: bool = True, **kwargs: Any
    ) -> Any:
        from hda_fsspec.client import quietly

        lpath = local_target(rpath, lpath)
        if isinstance(lpath, list):
            lpath = _with_folders(lpath)
        faults: list[tuple[str, Exception]] = []
        _faults_of_get.set(faults)
        _targets_of_get.set(Targets())
        try:
            with quietly(is_so=not progress), explained():
                done = await super()._get(to_strings(rpath), lpath, *args, **kwargs)
        finally:
            _faults_of_get.set(None)
            _targets_of_get.set(None)
        if faults:
            raise first_error(faults)
        return done

    def _few_open_files(self) -> asyncio.Semaphore:
        """Return what lets as many files be open at one time as can be fetched at one time."""
        loop = asyncio.get_running_loop()
        found = self._open_files.get(loop)
        if found is None:
            found = self._open_files[loop] = asyncio.Semaphore(self._at_a_time)
        return found

    @property
    def _at_a_time(self) -> int:
        settings = self.settings
        at_a_time = settings.max_in_flight
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Each of them may also have a lock, a connection, and the file that it is copied to.
        return at_a_time if soft == resource.RLIM_INFINITY else min(at_a_time, max(1, soft // 8))

    async def _open_local(self, path: Any) -> BufferedReader:
        """Make a product local, without holding a thread while it is waited for, and open it."""
        location = Location.parse(path)
        product = await self._run(lambda client: product_to_open(client, location))
        return await self._open_product(product)

    async def _open_product(
        self, product: Product, listener: Listener | None = None
    ) -> BufferedReader:
        opening = self._client.open(product, listener)
        try:
            _, handle = await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            # It may have been opened in this very moment.
            opening.add_done_callback(close_unwanted)
            raise
        return handle

    async def _cat_file(
        self, path: Any, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        async with self._few_open_files():
            handle = await self._open_local(path)

            def read(_: Client) -> bytes:
                with handle:
                    first, last, _step = slice(start, end).indices(handle.seek(0, os.SEEK_END))
                    handle.seek(first)
                    return handle.read(max(0, last - first))

            return await self._run(read)

    async def _get_file(
        self,
        rpath: Any,
        lpath: Any,
        callback: Any = DEFAULT_CALLBACK,
        skip_existing: bool = False,
        **kwargs: Any,
    ) -> None:
        faults = _faults_of_get.get()
        try:
            await self._copy_out(rpath, lpath, callback, skip_existing=skip_existing)
        except Exception as err:
            if faults is None:
                raise
            # One of many: the others go on, and `get` tells when they have ended.
            faults.append((Location.parse(rpath).name, err))

    async def _copy_out(
        self, rpath: Any, lpath: Any, callback: Any, *, skip_existing: bool
    ) -> None:
        lpath = local_target(rpath, lpath)
        if Location.parse(rpath).product is None and await self._isdir(rpath):
            with explained(lpath):
                await self._run(lambda _: Path(lpath).mkdir(parents=True, exist_ok=True))
            return

        def listener(done: int, total: int | None) -> None:
            if total is not None:
                callback.set_size(total)
            callback.absolute_update(done)

        location = Location.parse(rpath)
        copies = self._client.copies
        is_open_file = hasattr(lpath, "write")
        if not is_open_file:
            (_targets_of_get.get() or Targets()).claim(location.path, Path(lpath))
        product = await self._run(lambda client: product_to_open(client, location))
        if skip_existing and not is_open_file:
            path = Path(lpath)
            if await self._run(lambda _: copies.is_complete_copy(product, path)):
                size = await self._run(lambda _: path.stat().st_size)
                listener(size, size)
                return

        # Who names the file means it; what is named by an id replaces nothing of anybody else.
        is_named_by_id = not is_open_file and Path(lpath).name == location.name

        def copy(_: Client) -> int:
            size = copy_out(handle, lpath, copies.is_ours if is_named_by_id else None)
            if not is_open_file:
                copies.note(product, Path(lpath))
            return size

        async with self._few_open_files():
            handle = await self._open_product(product, listener)
            size = await self._run(copy)
        listener(size, size)

    cat = sync_method(ListingFileSystem._cat)
    cat_file = sync_method(_cat_file)
    cat_ranges = sync_method(ListingFileSystem._cat_ranges)
    get = sync_method(_get)
    get_file = sync_method(_get_file)

    def _open(
        self,
        path: Any,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Any = None,
        **kwargs: Any,
    ) -> ProductFile:
        if mode != "rb":
            refuse(f"open with mode {mode!r}", path)
        location = Location.parse(path)
        products = self._client
        product = product_to_open(products, location)
        entry = products.local(product)
        handle = None
        if entry is not None:
            with contextlib.suppress(FileNotFoundError):  # evicted in this moment
                handle = entry.open()
        if handle is None:
            _, handle = wait_for(products.open(product))
        blocksize = block_size if isinstance(block_size, int) else self.blocksize
        return ProductFile(handle, name_of(location), self.open, blocksize=blocksize)

    def open_many(self, open_files: Any) -> list[Any]:
        """Make all files of a list local at one time, then open them (fsspec calls it)."""
        ours = [of.path for of in open_files if of.fs == self and set(of.mode) <= set("rbt")]
        if ours:
            self.prefetch(ours)
        with contextlib.ExitStack() as opened:
            files = [opened.enter_context(of) for of in open_files]
            opened.pop_all()
        return files

    def prefetch(
        self, path: Paths, callback: Any = DEFAULT_CALLBACK, *, progress: bool = True
    ) -> list[str]:
        """Make products local, many at a time, and return where their files are.

        Parameters
        ----------
        path : str, Location, UPath, or several of them; or a view of a query
            Products, queries and patterns; what a query or pattern finds stands in its place.
        callback : fsspec.callbacks.Callback
            Counts products.
        progress : bool
            Whether to say on a terminal or in a notebook what is waited for.

        Returns
        -------
        list of str
            Local paths, in order. They are valid until the cache evicts them.

        Raises
        ------
        FileNotFoundError
            A query or pattern finds nothing, or a product is not there.
        OSError
            ``ENOSPC``: the cache is too small to hold them all at one time.
        HDAError
            The first product that cannot be had. All others are fetched first, and the notes of
            the error name those that failed too.
        """
        from hda_fsspec.client import quietly

        with quietly(is_so=not progress):
            entries = self._client.fetch_all(products_of(self._client, path), callback=callback)
        return [os.fspath(entry.path) for entry in entries]

    async def _flush_shared_cache(self) -> None:
        """Wait until all that was downloaded has been put into the shared cache.

        It goes there beside the reading, and what is under way when a program ends does not
        arrive. What cannot be put there is told in the log; without the setting ``shared_cache``
        there is nothing to wait for.
        """
        loop = asyncio.get_running_loop()
        # The bucket's filesystem may need this loop.
        await loop.run_in_executor(None, self._client.flush_shared_cache)

    flush_shared_cache = sync_method(_flush_shared_cache)

    def download(
        self,
        rpath: Paths,
        lpath: Any,
        callback: Any = DEFAULT_CALLBACK,
        *,
        skip_existing: bool = False,
        progress: bool = True,
        target_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Copy products into a folder or a bucket, under the names with which they are delivered.

        Unlike ``get``, which names files by product id as fsspec demands. The folder is made if
        needed; a file appears in it only when it is complete. Products of one call that are
        delivered under the same name get their ids in front of it. One product and a target that
        is no folder (it does not exist as one, and does not end in ``/``): that file.

        A target of any other fsspec filesystem (``s3://bucket/prefix/``) is written to from the
        cache, many files at a time, and is asked whether it is there before anything is ordered.

        Parameters
        ----------
        rpath : str, Location, UPath, or several of them; or a view of a query
            Products, queries and patterns.
        lpath : str, path or UPath
            The folder, or the file for one product; or the address of one elsewhere.
        callback : fsspec.callbacks.Callback
            Counts products.
        skip_existing : bool
            Leave complete copies in the target alone, and order nothing for them. A copy is told by
            what was noted when it was made, else by its name, which is the product's id. It has the
            length of the product where that is known, and its format is whole.
        progress : bool
            Whether to say on a terminal or in a notebook what is waited for.
        target_options : mapping, optional
            Storage options of the filesystem of the target, such as ``{"profile": "mine"}``.

        Returns
        -------
        list of str
            The paths, or the addresses, of the files, in the order of the products.

        Raises
        ------
        FileNotFoundError, HDAError
            As :meth:`prefetch`; but the cache need not hold all products at one time.
        OSError
            A target refuses the copies; what was fetched stays in the cache.
        """
        from hda_fsspec.client import gather_products, quietly

        if remote_scheme(lpath) is not None:
            from hda_fsspec.fs.uploading import upload

            with quietly(is_so=not progress):
                return upload(
                    self._client,
                    rpath,
                    RemoteFolder(lpath, target_options),
                    callback,
                    skip_existing=skip_existing,
                )
        if target_options:
            msg = f"target_options are for other filesystems, and {shown(lpath)} is local."
            raise ConfigurationError(msg)
        named = os.fspath(local_target(rpath, lpath))
        target = Path(named)
        name = product_name(rpath)
        is_file = name is not None and not named.endswith(("/", os.sep)) and not target.is_dir()
        found = products_of(self._client, rpath)
        copies = self._client.copies
        deliveries = Deliveries(target.parent if is_file else target, copies.is_ours)
        if skip_existing and is_file:
            here = {
                product: target for product in found if copies.is_complete_copy(product, target)
            }
        else:
            here = copies.find(found, files_in(target)) if skip_existing else {}
        for product, path in here.items():
            deliveries.keep(product, path)
        with explained(deliveries.folder):
            deliveries.folder.mkdir(parents=True, exist_ok=True)

        def deliver(
            product: Product, opened: concurrent.futures.Future[tuple[Entry, BufferedReader]]
        ) -> None:
            entry, handle = opened.result()
            if not is_file:
                deliveries.add(product, entry.delivered_name, handle)
                return
            # Who names the file means it, unless that is just the name of the product.
            is_named_by_id = target.name == name
            copy_out(handle, target, copies.is_ours if is_named_by_id else None)
            deliveries.keep(product, target)

        try:
            with quietly(is_so=not progress):
                gather_products(
                    [product for product in found if product not in here],
                    self._client.open,
                    deliver,
                    callback,
                    at_a_time=self._at_a_time,
                )
        finally:
            for product, path in deliveries.paths.items():
                if product not in here:
                    copies.note(product, path)
        return [os.fspath(deliveries.paths[product]) for product in found]

    def accept_terms(self, path: AnyPath) -> list[str]:
        """Accept the licences of a data set in the name of the account; this is for ever.

        Returns
        -------
        list of str
            The ids of the licences that were accepted now.
        """
        location = Location.parse(path)
        if location.dataset is None:
            msg = "Cannot accept the licences of all data sets at once: name one data set."
            raise LocationError(msg)
        return self._client.catalogue.terms.accept(location.dataset)


def _with_folders(targets: Sequence[Any]) -> list[str]:
    # fsspec makes the folder of each target, and a bare name has none that it could make.
    return [os.path.abspath(target) for target in targets]  # noqa: PTH100
