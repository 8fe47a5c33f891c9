"""The ``hda://`` filesystem: fsspec's verbs, in terms of locations and products.

Its coroutines hand all work to threads of their own, so that a wait for an order never blocks
fsspec's event loop. It holds nothing but what it was given: tokens, listings and connections
belong to :mod:`hda_fsspec.products`, of which all instances with equal settings share one.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

from fsspec.asyn import AsyncFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import stringify_path

from hda_fsspec.errors import ConfigurationError, LocationError
from hda_fsspec.files import Names, ProductFile, copy_out
from hda_fsspec.locations import PROTOCOL, Location
from hda_fsspec.products import Entry, Listener, Products, each, shared_products
from hda_fsspec.readonly import ReadOnly, refuse
from hda_fsspec.records import Product, parse_time
from hda_fsspec.settings import SETTING_NAMES, Settings

T = TypeVar("T")
Paths = str | Location | Sequence[str | Location]

_TRIES_TO_OPEN = 5


class HDAFileSystem(ReadOnly, AsyncFileSystem):
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
        password is part of no pickle and no token.

    Raises
    ------
    ConfigurationError
        A setting is unknown.
    """

    protocol = PROTOCOL
    local_file = True
    # fsspec's cache of instances leaves the password out of its key: who corrects a password would
    # get the instance with the wrong one. Instances are cheap, since nothing is in them.
    cachable = False
    _strip_tokenize_options = ("password",)

    def __init__(
        self,
        *,
        use_listings_cache: bool = True,
        asynchronous: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        batch_size: int | None = None,
        **settings: Any,
    ) -> None:
        unknown = sorted(set(settings) - SETTING_NAMES)
        if unknown:
            msg = f"Unknown setting {unknown[0]!r}. There are: {', '.join(sorted(SETTING_NAMES))}."
            raise ConfigurationError(msg)
        super().__init__(asynchronous=asynchronous, loop=loop, batch_size=batch_size)
        self._options = settings
        self._use_listings_cache = use_listings_cache

    @property
    def settings(self) -> Settings:
        """The settings as they resolve now."""
        return Settings.resolve(**self._options)

    @property
    def fsid(self) -> str:
        """A stable name of the broker, without secrets."""
        return f"hda-{hashlib.sha256(self.settings.url.encode()).hexdigest()[:16]}"

    @property
    def _products(self) -> Products:
        return shared_products(self.settings)

    async def _run(self, work: Callable[[], T]) -> T:
        """Do blocking work in a thread, off the event loop."""
        return await asyncio.wrap_future(self._products.run(work))

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, (list, tuple)):
            return [cls._strip_protocol(one) for one in path]
        return _name(_location(path))

    @classmethod
    def _parent(cls, path: Any) -> str:
        return _name(_location(path).parent)

    def invalidate_cache(self, path: Any = None) -> None:
        """Forget the listing of a path, or all of them."""
        self._products.catalogue.forget(None if path is None else _location(path))
        super().invalidate_cache(path)

    async def _ls(
        self, path: Any, detail: bool = True, refresh: bool = False, **kwargs: Any
    ) -> list[Any]:
        location = _location(path)
        is_anew = refresh or not self._use_listings_cache
        found = await self._run(lambda: _listing(self._products, location, refresh=is_anew))
        return found if detail else [info["name"] for info in found]

    async def _info(self, path: Any, refresh: bool = False, **kwargs: Any) -> dict[str, Any]:
        location = _location(path)
        if location.pattern is not None:
            raise _pattern_is_no_path(location)
        if location.product is not None:
            found: list[dict[str, Any]] = await self._ls(path, refresh=refresh)
            return found[0]
        await self._run(lambda: self._products.catalogue.check(location))
        return _directory(location)

    async def _exists(self, path: Any, **kwargs: Any) -> bool:
        try:
            await self._info(path, **kwargs)
        except FileNotFoundError:
            return False
        return True

    async def _isfile(self, path: Any) -> bool:
        return await self._has_type(path, "file")

    async def _isdir(self, path: Any) -> bool:
        return await self._has_type(path, "directory")

    async def _has_type(self, path: Any, kind: str) -> bool:
        try:
            return bool((await self._info(path))["type"] == kind)
        except FileNotFoundError:
            return False

    async def _walk(
        self,
        path: Any,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: str | Callable[[OSError], None] = "omit",
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        _refuse_root(_location(path), maxdepth)

        # fsspec leaves out whatever raises an OSError: a refused login would look like "empty".
        def tell(err: OSError) -> None:
            if on_error == "raise" or not isinstance(err, FileNotFoundError):
                raise err
            if callable(on_error):
                on_error(err)

        async for step in super()._walk(path, maxdepth, topdown, tell, **kwargs):
            yield step

    async def _find(
        self, path: Any, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any
    ) -> Any:
        _refuse_root(_location(path), maxdepth)
        return await super()._find(path, maxdepth=maxdepth, withdirs=withdirs, **kwargs)

    async def _glob(self, path: Any, maxdepth: int | None = None, **kwargs: Any) -> Any:
        if maxdepth is not None and maxdepth < 1:
            msg = f"maxdepth must be at least 1, and is {maxdepth}"
            raise ValueError(msg)
        location = _location(path)
        if location.dataset is None and "**" in (location.pattern or ""):
            _refuse_root(Location(), None)
        try:
            if location.pattern is None:
                found = [await self._info(path)]
            else:
                found = await self._ls(path)
        except FileNotFoundError:
            found = []
        by_name = {info["name"]: info for info in sorted(found, key=lambda info: info["name"])}
        return by_name if kwargs.get("detail") else list(by_name)

    async def _du(
        self, path: Any, total: bool = True, maxdepth: int | None = None, **kwargs: Any
    ) -> Any:
        _refuse_root(_location(path), None)
        found = await self._ls(path)
        unknown = sum(info["size"] is None for info in found)
        if unknown:
            warnings.warn(
                f"du of {path}: {unknown} of {len(found)} products have no known length before "
                "they are local, and count as 0 bytes",
                stacklevel=2,
            )
        sizes = {info["name"]: info["size"] or 0 for info in found}
        return sum(sizes.values()) if total else sizes

    async def _open_local(self, path: Any, listener: Listener | None = None) -> BinaryIO:
        """Make a product local, without holding a thread while it is waited for, and open it."""
        location = _location(path)
        product = await self._run(lambda: _product_to_open(self._products, location))
        _, handle = await asyncio.wrap_future(self._products.open(product, listener))
        return handle

    async def _cat_file(
        self, path: Any, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        handle = await self._open_local(path)

        def read() -> bytes:
            with handle:
                first, last, _ = slice(start, end).indices(handle.seek(0, os.SEEK_END))
                handle.seek(first)
                return handle.read(max(0, last - first))

        return await self._run(read)

    async def _get_file(
        self, rpath: Any, lpath: Any, callback: Any = DEFAULT_CALLBACK, **kwargs: Any
    ) -> None:
        if _location(rpath).product is None and await self._isdir(rpath):
            await self._run(lambda: Path(lpath).mkdir(parents=True, exist_ok=True))
            return

        def listener(done: int, total: int | None) -> None:
            if total is not None:
                callback.set_size(total)
            callback.absolute_update(done)

        handle = await self._open_local(rpath, listener)
        size = await self._run(lambda: copy_out(handle, lpath))
        listener(size, size)

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
        location = _location(path)
        products = self._products
        for left in reversed(range(_TRIES_TO_OPEN)):
            product = _product_to_open(products, location)
            entry = products.local(product) or products.fetch(product).result()
            try:
                return ProductFile(entry.path, _name(location), self.open)
            except FileNotFoundError:
                # Evicted in this moment, by another process or for lack of room.
                if not left:
                    raise
        raise AssertionError  # the last turn returns or raises

    def open_many(self, open_files: Any) -> list[Any]:
        """Make all files of a list local at one time, then open them (fsspec calls it)."""
        ours = [of.path for of in open_files if of.fs == self]
        if ours:
            self.prefetch(ours)
        return [of.__enter__() for of in open_files]

    def prefetch(self, path: Paths, callback: Any = DEFAULT_CALLBACK) -> list[str]:
        """Make products local, many at a time, and return where their files are.

        Parameters
        ----------
        path : str, Location, or a list of them
            Products, queries and patterns; what a query or pattern finds stands in its place.
        callback : fsspec.callbacks.Callback
            Counts products.

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
        entries = self._products.fetch_all(self._expanded(path), callback=callback)
        return [os.fspath(entry.path) for entry in entries]

    def download(
        self, rpath: Paths, lpath: Any, callback: Any = DEFAULT_CALLBACK, **kwargs: Any
    ) -> list[str]:
        """Copy products into a local folder, under the names with which the service delivers them.

        Unlike ``get``, which names files by product id as fsspec demands. The folder is made if
        needed; a file appears in it only when it is complete.

        Returns
        -------
        list of str
            The paths of the files, in the order of the products.

        Raises
        ------
        FileNotFoundError, HDAError
            As :meth:`prefetch`; but the cache need not hold all products at one time.
        """
        found = self._expanded(rpath)
        folder = Path(stringify_path(lpath)).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        names = Names()

        def keep(product: Product, opened: tuple[Entry, BinaryIO]) -> str:
            entry, handle = opened
            target = folder / names.claim(entry.delivered_name, product.product_id)
            copy_out(handle, target)
            return os.fspath(target)

        at_a_time = self.settings.max_orders + self.settings.max_connections
        return each(found, self._products.open, keep, callback, at_a_time=at_a_time)

    def accept_terms(self, path: str | Location) -> list[str]:
        """Accept the licences of a data set in the name of the account; this is for ever.

        Returns
        -------
        list of str
            The ids of the licences that were accepted now.
        """
        location = _location(path)
        if location.dataset is None:
            msg = "Cannot accept the licences of all data sets at once: name one data set."
            raise LocationError(msg)
        return self._products.catalogue.licences.accept(location.dataset)

    def created(self, path: Any) -> datetime:
        """Return the start of a product's interval, as an aware datetime."""
        return _date(self.info(path), "startdate")

    def modified(self, path: Any) -> datetime:
        """Return when a product's entry last changed, else the end of its interval."""
        return _date(self.info(path), "updated", "enddate")

    def ukey(self, path: Any) -> str:
        """Return a hash of a product's identity and version as the catalogue has them."""
        info = self.info(path)
        facts = [info.get(key) for key in _IDENTITY]
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def checksum(self, path: Any) -> int:
        """Return :meth:`ukey` as a number."""
        return int(self.ukey(path), 16)

    def _expanded(self, path: Paths) -> list[Product]:
        """Return the products that paths, queries and patterns mean, in order."""
        given = path if isinstance(path, (list, tuple)) else [path]
        products: list[Product] = []
        for location in map(_location, given):
            if location.product is not None:
                products.append(self._products.product_to_open(location))
                continue
            _refuse_root(location, None)
            found = self._products.search(location)
            if not found:
                msg = f"Nothing to fetch: {location.path} finds no product."
                raise FileNotFoundError(msg)
            products += found
        return products


_IDENTITY = ("dataset_id", "product_id", "catalogue_size", "startdate", "enddate", "updated")


def _location(path: Any) -> Location:
    return path if isinstance(path, Location) else Location.parse(stringify_path(path))


def _name(location: Location) -> str:
    """Return the path as fsspec names it, without protocol."""
    return location.path.removeprefix(f"{PROTOCOL}://")


def _listing(products: Products, location: Location, *, refresh: bool) -> list[dict[str, Any]]:
    """Return what is below a location, or matches it, as fsspec's dictionaries."""
    if location.dataset is None:
        every = products.datasets(refresh=refresh)
        wanted = (d for d in every if location.pattern is None or location.matches(d.dataset_id))
        return [_directory(Location(d.dataset_id), title=d.title) for d in wanted]
    if location.product is not None:
        found = [products.product(location, refresh=refresh)]
    else:
        found = products.search(location, refresh=refresh)
    directory = location.directory
    return [_file(directory, product, products.size(product)) for product in found]


def _directory(location: Location, **more: str) -> dict[str, Any]:
    told = {"dataset_id": location.dataset} if location.dataset else {}
    return {"name": _name(location), "size": 0, "type": "directory", **told, **more}


def _file(directory: Location, product: Product, size: int | None) -> dict[str, Any]:
    return {
        "name": _name(directory.child(product.product_id)),
        "size": size,
        "type": "file",
        "product_id": product.product_id,
        "dataset_id": product.dataset_id,
        "startdate": product.startdate,
        "enddate": product.enddate,
        "updated": product.updated,
        "catalogue_size": product.size,
        "properties": dict(product.properties),
    }


def _date(info: dict[str, Any], *keys: str) -> datetime:
    for key in keys:
        if info.get(key):
            return parse_time(info[key])
    msg = f"The catalogue tells no {' and no '.join(keys)} of {info['name']}."
    raise NotImplementedError(msg)


def _product_to_open(products: Products, location: Location) -> Product:
    if location.pattern is not None:
        raise _pattern_is_no_path(location)
    if location.product is None:
        _refuse_directory(location)
    return products.product_to_open(location)


def _refuse_directory(location: Location) -> NoReturn:
    msg = (
        f"Cannot open {location.path} as a file: it is a directory. fs.ls lists its products; "
        "fs.get, fs.download and fs.prefetch fetch them all."
    )
    raise IsADirectoryError(errno.EISDIR, msg)


def _pattern_is_no_path(location: Location) -> FileNotFoundError:
    msg = f"There is no file {location.path}: it is a pattern. fs.glob expands it."
    return FileNotFoundError(errno.ENOENT, msg)


def _refuse_root(location: Location, maxdepth: int | None) -> None:
    if location.dataset is None and location.pattern is None and maxdepth != 1:
        msg = (
            "Going through hda:// itself would search every data set of the service. Start at a "
            "data set or a query; fs.ls('hda://') lists the data sets."
        )
        raise LocationError(msg)
