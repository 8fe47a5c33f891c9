"""Looking at ``hda://``: listing, finding, matching, measuring. Nothing here orders or opens.

Blocking work goes to threads of its own, so that a wait never blocks fsspec's event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from fsspec.asyn import AsyncFileSystem
from fsspec.mapping import FSMap

from hda_fsspec.concurrency.daskworkers import dask_worker
from hda_fsspec.fs.info import (
    date_of,
    directory_entry,
    identity_of,
    is_one_path,
    list_infos,
    name_of,
    pattern_is_no_path,
    refuse_root,
    to_strings,
)
from hda_fsspec.paths.locations import PROTOCOL, Location
from hda_fsspec.printable import warn

if TYPE_CHECKING:
    from hda_fsspec.client import Client
    from hda_fsspec.views.datasets import DatasetsView
    from hda_fsspec.views.query import QueryView
    from hda_fsspec.views.queryables import QueryablesView

T = TypeVar("T")


class ListingFileSystem(AsyncFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """The half of the filesystem that costs no order.

    Faults of login, quota or network are raised by all verbs: they never look like "not there".
    """

    protocol = PROTOCOL
    _use_listings_cache = True

    @property
    def _client(self) -> Client:
        """The client of the settings as they are now."""
        raise NotImplementedError

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the coroutines.

        Blocking verbs ask for it in the thread of their caller: only here can it be seen that this
        is a task of a Dask worker.
        """
        if dask_worker() is not None:
            self._client.expect_broker()
        return super().loop  # type: ignore[no-any-return]

    async def _run(self, work: Callable[[Client], T]) -> T:
        """Do blocking work with the client in a thread, off the event loop."""
        client = self._client  # which resolves all settings: once is enough
        return await asyncio.wrap_future(client.run(lambda: work(client)))

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if not is_one_path(path):
            return [cls._strip_protocol(item) for item in path]
        return name_of(Location.parse(path))

    @classmethod
    def _parent(cls, path: Any) -> str:
        return name_of(Location.parse(path).parent)

    def unstrip_protocol(self, name: Any) -> str:
        """Return a path with ``hda://`` in front."""
        return Location.parse(name).path

    def get_mapper(self, root: Any = "", *args: Any, **kwargs: Any) -> FSMap:
        """Return a mapping of the names below a path to the contents of products."""
        return super().get_mapper(to_strings(root), *args, **kwargs)

    def tree(self, path: Any = "/", *args: Any, **kwargs: Any) -> str:
        """Return what is below a path, drawn as a tree."""
        drawn: str = super().tree(Location.parse(path).path, *args, **kwargs)
        return drawn

    def invalidate_cache(self, path: Any = None) -> None:
        """Forget the listing of a path, or all of them."""
        self._client.catalogue.invalidate(None if path is None else Location.parse(path))
        super().invalidate_cache(path)

    def datasets(
        self,
        words: str | Iterable[str] = (),
        *,
        period: Any = None,
        bbox: Any = None,
        family: str | None = None,
        refresh: bool = False,
    ) -> DatasetsView:
        """Find data sets by words, period, box and family; what fits best comes first.

        The list of all is kept in the cache for a day. Those that do not tell their period or box
        may fit, and are told apart.

        Parameters
        ----------
        words : str or several
            Each of them must be in id, title or abstract, in any case; ``*`` and ``?`` stand for
            letters.
        period : str or a pair of dates, optional
            What they shall cover some of: ``2024``, ``2024-05``, ``2020/2023``, ``2020/..``, or
            (start, end), of which one may be None.
        bbox : str or four numbers, optional
            What they shall cover some of: W, S, E, N in degrees.
        family : str, optional
            The beginning of their ids: ``MO``, ``EO:EUM``, ``EO:EUM:DAT:SENTINEL-3``.
        refresh : bool
            Whether to ask for the list anew.

        Returns
        -------
        DatasetsView
            A sequence of records that shows itself, in a notebook as a table.

        Raises
        ------
        QueryError
            The period, box or family cannot be read, or there is no such family.
        """
        from hda_fsspec.catalogue.dataset_search import Wanted
        from hda_fsspec.views.datasets import find_view

        wanted = Wanted.read(words, period=period, bbox=bbox, family=family)
        is_anew = refresh or not self._use_listings_cache
        return find_view(self._client.datasets(refresh=is_anew), wanted)

    def queryables(self, path: Any) -> QueryablesView:
        """Return what a data set can be asked: keys, types, choices, defaults and ranges.

        Parameters
        ----------
        path : str, Location or UPath
            A data set: its id, or any path of it.

        Returns
        -------
        QueryablesView
            A mapping of keys to what they take, which shows itself. Its ``path`` is one to start
            from.

        Raises
        ------
        LocationError
            It is the path of all data sets.
        FileNotFoundError
            There is no such data set.
        """
        from hda_fsspec.views.queryables import view_queryables

        return view_queryables(self._client, Location.parse(path))

    def query(self, path: Any, *, refresh: bool = False) -> QueryView:
        """Search once, and return a view of what was found; it orders nothing.

        Parameters
        ----------
        path : str, Location or UPath
            A query, pattern or product.
        refresh : bool
            Whether to ask the service whatever is known.

        Returns
        -------
        QueryView
            A sequence of products that shows itself: in a notebook as a table with a bar of time
            and a map. Slices are views, too; ``to_dataframe()`` is a table of pandas.

        Raises
        ------
        LocationError
            It is the path of all data sets.
        FileNotFoundError
            There is no such data set, or no such product. A query that finds nothing is an empty
            view.
        QueryError, TooManyProductsError, TermsNotAcceptedError
            The query, or the account, is refused.
        """
        from hda_fsspec.views.query import view_query

        return view_query(
            self._client, Location.parse(path), refresh=refresh or not self._use_listings_cache
        )

    async def _ls(
        self,
        path: Any,
        detail: bool = True,
        refresh: bool = False,
        **kwargs: Any,  # noqa: ARG002  (fsspec's signature)
    ) -> list[Any]:
        location = Location.parse(path)
        is_anew = refresh or not self._use_listings_cache
        found = await self._run(lambda client: list_infos(client, location, refresh=is_anew))
        return found if detail else [info["name"] for info in found]

    async def _info(
        self,
        path: Any,
        refresh: bool = False,
        **kwargs: Any,  # noqa: ARG002  (fsspec's signature)
    ) -> dict[str, Any]:
        location = Location.parse(path)
        if location.pattern is not None:
            raise pattern_is_no_path(location)
        if location.product is not None:
            found: list[dict[str, Any]] = await self._ls(path, refresh=refresh)
            return found[0]
        await self._run(lambda client: client.catalogue.validate(location))
        return directory_entry(location)

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
        refuse_root(Location.parse(path), maxdepth)

        # fsspec leaves out whatever raises an OSError: a refused login would look like "empty".
        def tell(err: OSError) -> None:
            if on_error == "raise" or not isinstance(err, FileNotFoundError):
                raise err
            if callable(on_error):
                on_error(err)

        if not topdown:  # before fsspec 2026.7 the method does not know the word
            kwargs["topdown"] = topdown
        async for step in super()._walk(path, maxdepth, on_error=tell, **kwargs):
            yield step

    async def _find(
        self, path: Any, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any
    ) -> Any:
        refuse_root(Location.parse(path), maxdepth)
        return await super()._find(path, maxdepth=maxdepth, withdirs=withdirs, **kwargs)

    async def _glob(self, path: Any, maxdepth: int | None = None, **kwargs: Any) -> Any:
        _refuse_no_depth(maxdepth)
        detail, withdirs = kwargs.pop("detail", False), kwargs.pop("withdirs", True)
        location = Location.parse(path)
        if location.dataset is None and "**" in (location.pattern or ""):
            refuse_root(location, None)
        try:
            if location.pattern is None:
                found = [await self._info(path, **kwargs)]
            else:
                found = await self._ls(path, **kwargs)
        except FileNotFoundError:
            found = []
        by_name = {
            info["name"]: info
            for info in sorted(found, key=lambda info: info["name"])
            if withdirs or info["type"] == "file"
        }
        return by_name if detail else list(by_name)

    async def _du(
        self,
        path: Any,
        total: bool = True,
        maxdepth: int | None = None,
        withdirs: bool = False,
        **kwargs: Any,
    ) -> Any:
        _refuse_no_depth(maxdepth)
        location = Location.parse(path)
        refuse_root(location, None)
        found = await self._ls(path, **kwargs)
        if withdirs and location.product is None and location.pattern is None:
            found = [directory_entry(location), *found]
        sizes = {info["name"]: _size_or_estimate(info) for info in found}
        _warn_of_estimates(location, found)
        return sum(sizes.values()) if total else sizes

    async def _expand_path(
        self,
        path: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> Any:
        path = to_strings(path)
        if recursive:
            for item in [path] if isinstance(path, str) else path:
                refuse_root(Location.parse(item), maxdepth)
        return await super()._expand_path(path, recursive, maxdepth, **kwargs)

    def created(self, path: Any) -> datetime:
        """Return the start of a product's interval, as an aware datetime."""
        return date_of(self.info(path), "startdate")

    def modified(self, path: Any) -> datetime:
        """Return when a product's entry last changed, else the end of its interval."""
        return date_of(self.info(path), "updated", "enddate")

    def ukey(self, path: Any) -> str:
        """Return a hash of a product's identity and version as the catalogue has them."""
        return identity_of(self.info(path), broker=self._client.settings.endpoint_url)

    def checksum(self, path: Any) -> int:
        """Return :meth:`ukey` as a number."""
        return int(self.ukey(path), 16)


def _size_or_estimate(info: dict[str, Any]) -> int:
    # An estimate is better than nothing: the catalogue's size may be off by a factor.
    return int(info["size"] if info["size"] is not None else info.get("catalogue_size") or 0)


def _warn_of_estimates(location: Location, found: list[dict[str, Any]]) -> None:
    unknown = [info for info in found if info["size"] is None]
    nothing = sum(not info.get("catalogue_size") for info in unknown)
    if unknown:
        counted = f"{len(unknown) - nothing} count as the catalogue's size, which is an estimate"
        rest = f", and {nothing} as 0 bytes" if nothing else ""
        warn(
            f"du of {location.path}: {len(unknown)} of {len(found)} products have no known length "
            f"before they are local; {counted}{rest}.",
            stacklevel=3,
        )


def _refuse_no_depth(maxdepth: int | None) -> None:
    # The tree below a query is one level deep, so any depth will do.
    if maxdepth is not None and maxdepth < 1:
        msg = f"maxdepth must be at least 1, and is {maxdepth}"
        raise ValueError(msg)
