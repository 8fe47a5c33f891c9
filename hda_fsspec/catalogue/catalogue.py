"""What the catalogue says, asked once: data sets, schemas, and the products of queries.

Answers are kept in memory and on disk for ``listings_expiry_time``, so that neither the threads
of a process nor the workers of a cluster ask the same thing twice. Nothing here orders.
"""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hda_fsspec.cache.metadata import MetadataStore
from hda_fsspec.catalogue import offline
from hda_fsspec.catalogue.codecs import DATASETS, QUERYABLE, SEARCH, Codec, ProductsById
from hda_fsspec.catalogue.terms import Terms
from hda_fsspec.errors import (
    AuthenticationError,
    BrokerError,
    HDAError,
    LocationError,
    OfflineError,
    QueryError,
    TooManyProductsError,
    not_there,
    note_once,
)
from hda_fsspec.network.api import Broker
from hda_fsspec.network.conveniences import UnavailableError
from hda_fsspec.network.responses import is_about_licences
from hda_fsspec.paths.locations import Location
from hda_fsspec.paths.renamed import RENAMED
from hda_fsspec.records import Dataset, Product
from hda_fsspec.schema.parameters import nearest
from hda_fsspec.schema.queryables import Schema
from hda_fsspec.settings import Settings

logger = logging.getLogger("hda_fsspec")

_REMEMBERED = 512

# How many ids are compared with one that is not there, to name the nearest.
_COMPARED = 500


def _alike(product_id: str, found: ProductsById) -> list[str]:
    """Return the ids that share the longest beginnings with one: few enough to be compared."""

    def shared(other: str) -> int:
        pairs = zip(product_id, other, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    return heapq.nlargest(_COMPARED, found, key=shared)


class Catalogue:
    """The catalogue of one broker.

    Parameters
    ----------
    settings : Settings
        Address, expiry, bounds, offline.
    broker : Broker
        Whom to ask.
    notes : MetadataStore
        Where answers are kept on disk.
    account : str
        The name under which accepted licences are kept.
    local : callable
        Returns the records of all local products; asked where nobody else may be.
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        metadata: MetadataStore,
        account: str,
        *,
        local: Callable[[], Iterable[Product]] = tuple,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._metadata = metadata
        self._clock = clock
        self._local = local
        self._origins: dict[str, str] = {}
        self._max_age = None if settings.offline else settings.listings_expiry_time
        self._memory: collections.OrderedDict[str, tuple[float, Any]] = collections.OrderedDict()
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._forgotten_at = float("-inf")
        self.terms = Terms(
            broker,
            metadata,
            account,
            accept=settings.accept_terms,
            terms_of=self._terms_of,
        )

    def datasets(self, *, refresh: bool = False) -> list[Dataset]:
        """Return all data sets, sorted by id."""
        return self._datasets(refresh=refresh)

    def _datasets(self, *, refresh: bool = False, is_convenience: bool = False) -> list[Dataset]:
        def ask() -> list[Dataset]:
            found = self._broker.datasets(is_convenience=is_convenience)
            return sorted(found, key=lambda dataset: dataset.dataset_id)

        found: list[Dataset] = self._answer(DATASETS, "", ask, refresh=refresh)
        return found

    def dataset(self, dataset_id: str, *, refresh: bool = False) -> Dataset:
        """Return one data set; raises FileNotFoundError that names the nearest ids."""
        return self._dataset(dataset_id, lambda: self._broker.dataset(dataset_id), refresh=refresh)

    def schema(self, dataset_id: str) -> Schema:
        """Return the schema of a data set's queries; raises FileNotFoundError like `dataset`.

        Where the service has none that can be read it is an open one: keys and values then go out
        as they are, and the service judges them.
        """

        def ask() -> Mapping[str, Any]:
            try:
                document = self._broker.queryable(dataset_id)
            except FileNotFoundError as err:
                if not self._may_exist(dataset_id):
                    raise self._no_dataset(dataset_id) from err
                msg = f"{err}, but there is such a data set"
                raise BrokerError(msg, status=404) from err
            Schema.from_queryable(dataset_id, document)  # what cannot be read is not kept
            return document

        def ask_as_convenience() -> Mapping[str, Any]:
            return self._broker.conveniences.ask(
                f"the schema of {dataset_id}",
                ask,
                "Its queries go out as they are written, and the service judges them.",
                silence=False,
            )

        try:
            document = self._answer(QUERYABLE, dataset_id, ask_as_convenience)
        except UnavailableError:
            return Schema(dataset_id, is_open=True)
        return Schema.from_queryable(dataset_id, document)

    def _dataset(
        self, dataset_id: str, ask_broker: Callable[[], Dataset], *, refresh: bool
    ) -> Dataset:
        def ask() -> list[Dataset]:
            try:
                return [ask_broker()]
            except FileNotFoundError as err:
                raise self._no_dataset(dataset_id) from err

        known = self._recall(DATASETS, "")
        if known is not None and not refresh:
            for dataset in known:
                if dataset.dataset_id == dataset_id:
                    return dataset  # type: ignore[no-any-return]
        found: list[Dataset] = self._answer(DATASETS, dataset_id, ask, refresh=refresh)
        return found[0]

    def _dataset_if_told(self, dataset_id: str, *, refresh: bool = False) -> Dataset:
        """Return one data set like `dataset`; UnavailableError where the service does not tell."""

        def ask() -> Dataset:
            return self._broker.conveniences.ask(
                f"the entry of {dataset_id}",
                lambda: self._broker.dataset(dataset_id, is_convenience=True),
                "Which licences it has, and whether it is there, the service itself will say.",
            )

        return self._dataset(dataset_id, ask, refresh=refresh)

    def _terms_of(self, dataset_id: str, *, is_convenience: bool) -> tuple[str, ...]:
        if is_convenience:
            return self._dataset_if_told(dataset_id).terms
        return self.dataset(dataset_id).terms

    def _may_exist(self, dataset_id: str) -> bool:
        """Whether the service has a data set, or does not say that it has none."""
        try:
            self._dataset_if_told(dataset_id)
        except FileNotFoundError:
            return False
        except UnavailableError:
            pass
        return True

    def validate(self, location: Location) -> None:
        """Check that a query exists as a directory, which costs no search.

        Raises
        ------
        FileNotFoundError
            There is no such data set.
        QueryError
            The schema of the data set refuses the query.
        """
        if location.dataset is None:
            return
        try:
            if location.query:
                schema = self.schema(location.dataset)
                schema.request(location.query)
                is_known = not schema.is_open
            else:
                try:
                    self._dataset_if_told(location.dataset)
                    is_known = True
                except UnavailableError:
                    is_known = not self.schema(location.dataset).is_open
            if not is_known:
                # Neither of the two has told that there is such a data set.
                self.dataset(location.dataset)
        except OfflineError:
            if not any(self._here(location.dataset)):
                raise
            self._schema_here(location.dataset).request(location.query)

    def search(self, location: Location, *, refresh: bool = False) -> ProductsById:
        """Return the products of a query by id, in the service's order.

        Raises
        ------
        FileNotFoundError
            There is no such data set.
        QueryError, TooManyProductsError, TermsNotAcceptedError
            The query, or the account, is refused.
        OfflineError
            Nobody may be asked, and what is here does not answer it.
        """
        directory = location.directory
        found: ProductsById
        try:
            found = self._answer(
                SEARCH, directory.path, lambda: self._search(directory), refresh=refresh
            )
        except OfflineError as err:
            found = self._find_here(directory, err)
        limit = self._settings.max_products
        if len(found) > limit:
            # Kept by somebody with a larger limit.
            msg = (
                f"{directory.path} finds {len(found)} products, and max_products is {limit}. "
                "Narrow the query, or raise max_products."
            )
            raise TooManyProductsError(msg, found=len(found), limit=limit)
        return found

    def origin(self, location: Location) -> str | None:
        """Return where the answer to a query was found, if the service did not answer just it."""
        return self._origins.get(location.path, self._origins.get(location.directory.path))

    def note_origin(self, location: Location, origin: str) -> None:
        """Note that the answer was found elsewhere than at the service."""
        self._origins[location.path] = origin

    def cached_product(self, location: Location) -> Product | None:
        """Return a product from a listing that is still trusted, without asking the service."""
        listing = self._recall(SEARCH, location.directory.path)
        return None if listing is None else listing.get(location.product)

    def product(self, location: Location, *, refresh: bool = False) -> Product:
        """Return the product that a location names.

        Raises
        ------
        FileNotFoundError
            The query does not find it.
        LocationError
            There is no query, and the data set is too large to be searched for one product.
        """
        product_id = location.product or ""
        if location.query:
            found = self.search(location, refresh=refresh)
        else:
            found = self._search_by_name(location, refresh=refresh)
        product = found.get(product_id)
        if product is None:
            near = nearest(product_id, ([other] for other in _alike(product_id, found)), limit=1)
            hint = f"The nearest is {near[0]!r}." if near else "fs.ls lists them."
            msg = (
                f"There is no product {product_id!r} in {location.directory.path}, which finds "
                f"{len(found)}. {hint}"
            )
            raise not_there(msg)
        return product

    def located(self, product: Product) -> Product:
        """Return a product with the locator that an order of it names.

        A search told it, if there is one; else the service knows the product by its id alone.
        """
        return product

    def invalidate(self, location: Location | None) -> None:
        """Forget the listings of a location, or all answers; the next question is asked anew."""
        with self._lock:
            if location is None:
                self._memory.clear()
                self._forgotten_at = self._clock()
                return
        names = [self._name(SEARCH, location.directory.path)]
        if location.dataset is None:
            names.append(self._name(DATASETS, ""))
        for name in names:
            with self._lock:
                self._memory.pop(name, None)
            self._metadata.listings.delete(name)

    def _search(self, location: Location) -> ProductsById:
        dataset_id = location.dataset or ""
        schema = self.schema(dataset_id)
        request = schema.request(location.query)
        start, end = schema.interval(location.query)
        self.terms.ensure_accepted(dataset_id)
        try:
            found = self._broker.search(dataset_id, request)
        except (AuthenticationError, BrokerError, QueryError) as err:
            if schema.is_open and isinstance(err, QueryError):
                note_once(
                    err,
                    f"The service told no schema of {dataset_id}, so that keys and values were "
                    "neither checked nor typed before they went out.",
                )
            # An unaccepted licence looks like an unknown data set, or like a lack of rights.
            is_likely = isinstance(err, AuthenticationError) or (
                isinstance(err, BrokerError) and err.status in {403, 404}
            )
            if not is_likely and not is_about_licences(err):
                raise
            with contextlib.suppress(UnavailableError):
                self._dataset_if_told(dataset_id, refresh=True)
            if not self.terms.check_after_refusal(dataset_id, err, is_likely=is_likely):
                raise
            found = self._broker.search(dataset_id, request)
        # The service's filter is inclusive at both ends and answers neighbours.
        return {p.product_id: p for p in found if p.overlaps(start, end)}

    def _find_here(self, location: Location, err: OfflineError) -> ProductsById:
        """Return what is here of a query while nobody may be asked; raises OfflineError."""
        dataset_id = location.dataset or ""
        kept, local = self._here(dataset_id)
        found = offline.find(location, self._schema_here(dataset_id), kept, local)
        if found is None:
            raise OfflineError(offline.nothing_here(location, kept, local)) from err
        if self._origins.get(location.path) != found.origin:
            logger.warning(
                "%s: offline, so %s answer it (%d products). The service may have others.",
                location.path,
                found.origin,
                len(found.products),
            )
        self.note_origin(location, found.origin)
        return found.products

    def _schema_here(self, dataset_id: str) -> Schema:
        try:
            return self.schema(dataset_id)
        except OfflineError:
            return Schema(dataset_id, is_open=True)

    def _here(self, dataset_id: str) -> tuple[list[offline.Kept], list[Product]]:
        """Return the kept answers of a data set, and the records of its local products."""
        kept = []
        prefix = self._name(SEARCH, Location(dataset_id).path)
        for note in self._metadata.listings.values():
            if not isinstance(note, dict) or not str(note.get("name")).startswith(prefix):
                continue
            location = Location.parse(str(note["name"]).removeprefix(self._name(SEARCH, "")))
            products = SEARCH.unpack(note.get("value"))
            if location.dataset == dataset_id and products is not None:
                kept.append(offline.Kept(location, float(note.get("at", 0.0)), products))
        return kept, [product for product in self._local() if product.dataset_id == dataset_id]

    def _search_by_name(self, location: Location, *, refresh: bool) -> ProductsById:
        """Find a product without a query: by a name filter if there is one, else in the whole."""
        dataset_id, product_id = location.dataset or "", location.product or ""
        stem = product_id.rpartition(".")[0]
        for key in self.schema(dataset_id).name_keys:
            for name in dict.fromkeys(filter(None, (product_id, stem))):
                try:
                    found = self.search(Location(dataset_id, {key: name}), refresh=refresh)
                except QueryError as err:
                    # Some filters take no dots, and whether one does is known by asking only.
                    logger.debug("%s cannot be asked for by %s: %s", product_id, key, err)
                    continue
                if product_id in found:
                    return found
        try:
            return self.search(location, refresh=refresh)
        except TooManyProductsError as err:
            msg = (
                f"Cannot find {location.path}: the data set has too many products to list, and no "
                "filter by name finds it. Put a query in front of the product id, such as "
                f"{location.directory.path}/startdate=…/enddate=…/{location.name}"
            )
            raise LocationError(msg) from err

    def _no_dataset(self, dataset_id: str) -> FileNotFoundError:
        near: tuple[str, ...] = ()
        renamed = RENAMED.get(dataset_id)
        try:
            known = self._datasets(is_convenience=True)
            near = nearest(dataset_id, ((d.dataset_id, d.title) for d in known))
        except HDAError as err:
            logger.debug("No suggestion for %s: %s", dataset_id, err)
        hint = f" The nearest: {', '.join(near)}." if near else ""
        hint = f" Since version 2 of the service it is {renamed}." if renamed else hint
        msg = f"There is no data set {dataset_id!r} at {self._settings.endpoint_url}.{hint}"
        return not_there(msg)

    def _answer(
        self, kind: Codec, what: str, ask: Callable[[], Any], *, refresh: bool = False
    ) -> Any:
        """Return an answer that is still trusted, or ask for it; one thread asks, others wait."""
        name = self._name(kind, what)
        if not refresh and (known := self._recall(kind, what)) is not None:
            return known
        asked_at = self._clock()
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            # Another thread may have asked while this one waited for its turn.
            dated = self._recall_dated(kind, what)
            if dated is not None and (not refresh or dated[0] > asked_at):
                return dated[1]
            try:
                value = ask()
            except OfflineError as err:
                msg = (
                    f"The {kind.name} of {what or self._settings.endpoint_url} is not in the "
                    "cache, and offline is set. Unset offline (or HDA_OFFLINE) and look at it once."
                )
                raise OfflineError(msg) from err
            now = self._clock()
            self._remember(name, now, value)
            note = {"at": now, "name": name, "value": kind.pack(value)}
            self._metadata.listings.put(name, note)
            return value

    def _recall(self, kind: Codec, what: str) -> Any:
        dated = self._recall_dated(kind, what)
        return None if dated is None else dated[1]

    def _recall_dated(self, kind: Codec, what: str) -> tuple[float, Any] | None:
        """Return an answer that is still trusted, with the time when it was given."""
        name = self._name(kind, what)
        with self._lock:
            known = self._memory.get(name)
            if known is not None and self._is_trusted(known[0]):
                self._memory.move_to_end(name)
                return known
        note = self._metadata.listings.get(name, max_age_seconds=self._max_age)
        if not isinstance(note, dict) or not isinstance(note.get("at"), (int, float)):
            return None
        at = float(note["at"])
        value = kind.unpack(note.get("value")) if self._is_trusted(at) else None
        if value is None:
            return None
        self._remember(name, at, value)
        return at, value

    def _is_trusted(self, at: float) -> bool:
        # An answer from the future is no younger: a clock was wrong, now or then.
        is_young = self._max_age is None or abs(self._clock() - at) <= self._max_age
        return is_young and at >= self._forgotten_at

    def _remember(self, name: str, at: float, value: Any) -> None:
        with self._lock:
            self._memory[name] = (at, value)
            self._memory.move_to_end(name)
            while len(self._memory) > _REMEMBERED:
                self._memory.popitem(last=False)

    def _name(self, kind: Codec, what: str) -> str:
        return f"{self._settings.endpoint_url} {kind.name} {what}"
