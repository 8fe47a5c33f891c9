"""The catalogue: which products a query finds, as the service tells or, offline, as is known here.

Answers are kept for ``listings_expiry_time``. Nothing here orders.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import itertools
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from hda_fsspec.cache.metadata import MetadataStore
from hda_fsspec.catalogue import offline
from hda_fsspec.catalogue.answer_cache import Answers
from hda_fsspec.catalogue.datasets import Datasets
from hda_fsspec.catalogue.json_codecs import DATASETS, SEARCH, ProductsById
from hda_fsspec.catalogue.terms import Terms
from hda_fsspec.concurrency.resources import Resources
from hda_fsspec.errors import (
    AuthenticationError,
    BrokerError,
    LocationError,
    OfflineError,
    OrderError,
    QueryError,
    TooManyProductsError,
    not_there,
    note_once,
)
from hda_fsspec.network.api import Broker
from hda_fsspec.network.optional_requests import UnavailableError
from hda_fsspec.network.responses import is_about_licences
from hda_fsspec.paths.locations import Location
from hda_fsspec.records import Product
from hda_fsspec.schema.parameters import nearest
from hda_fsspec.schema.schema import Schema
from hda_fsspec.settings import Settings
from hda_fsspec.subsets.canonical_request import is_subset_job

if TYPE_CHECKING:
    from hda_fsspec.catalogue.order_limits import Limits

logger = logging.getLogger("hda_fsspec")

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
    metadata : MetadataStore
        Where answers are kept on disk.
    account : str
        The name under which accepted licences are kept.
    local : callable
        Returns the records of all local products; asked where nobody else may be.
    clock : callable
        Seconds since 1970.

    Attributes
    ----------
    datasets : Datasets
        The data sets and their schemas.
    terms : Terms
        Which licences the account has accepted.
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
        self._local = local
        self._origins: dict[str, str] = {}
        self._answers = Answers(settings, metadata.listings, clock=clock)
        self.datasets = Datasets(settings, broker, self._answers)
        self._refused_sizes = metadata.subsets
        self._made = Resources()
        self.terms = Terms(broker, metadata, account, self.datasets, settings.accept_terms)

    @property
    def limits(self) -> Limits:
        """How much data sets deliver in one order."""
        return self._made.get(self._make_limits)

    def _make_limits(self) -> Limits:
        # It counts with numpy, which takes longer to import than to look into a kept listing.
        from hda_fsspec.catalogue.order_limits import Limits

        return Limits(self._settings.endpoint_url, self._refused_sizes, self.datasets.schema)

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
                schema = self.datasets.schema(location.dataset)
                schema.request(location.query)
                is_known = not schema.is_open
            else:
                try:
                    self.datasets.get_if_told(location.dataset)
                    is_known = True
                except UnavailableError:
                    is_known = not self.datasets.schema(location.dataset).is_open
            if not is_known:
                # Neither of the two has told that there is such a data set.
                self.datasets.get(location.dataset)
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
            found = self._answers.get(
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
        listing = self._answers.recall(SEARCH, location.directory.path)
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
        product = found.get(product_id) or self._made_to_order(location, found)
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
        """Return a product as an order of it names it: by the service's id, and its locator.

        A search told both, unless the service makes the product of a query when it is ordered:
        then that is searched now. Otherwise a product without a locator is known by its id alone.

        Raises
        ------
        OrderError
            The search does not answer one product that is made of the query.
        HDAError
            It is refused, or cannot be asked.
        """
        if not product.request:
            return product
        found = list(self.search(Location.parse(product.request)).values())
        if not is_subset_job([product.product_id for product in found]):
            msg = (
                f"Cannot order {product}: a search of {product.request} answered {len(found)} "
                "products, and not the one that is made of this query. The data set may have "
                "changed; open the query anew."
            )
            raise OrderError(msg, product_id=product.product_id)
        return found[0]

    def _made_to_order(self, location: Location, found: ProductsById) -> Product | None:
        """Return what the service makes of a query, if it is asked for by what it is called here.

        So pieces of data sets are called: see :func:`.requests.identity`.
        """
        if not location.query or not is_subset_job(list(found)):
            return None
        # As with the limits: it cuts queries with numpy.
        from hda_fsspec.catalogue.piece_records import record_of_whole

        schema = self.datasets.schema(location.dataset or "")
        broker = self._settings.endpoint_url
        piece = record_of_whole(location.directory, schema, broker=broker)
        if piece is None or piece.product_id != location.product:
            return None
        # Whatever state of it there is.
        return dataclasses.replace(piece, updated=None)

    def invalidate(self, location: Location | None) -> None:
        """Forget the listings of a location, or all answers; the next question is asked anew."""
        if location is None:
            self._answers.invalidate_all()
            return
        self._answers.invalidate(SEARCH, location.directory.path)
        if location.dataset is None:
            self._answers.invalidate(DATASETS, "")

    def _search(self, location: Location) -> ProductsById:
        dataset_id = location.dataset or ""
        schema = self.datasets.schema(dataset_id)
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
                self.datasets.get_if_told(dataset_id, refresh=True)
            if not self.terms.check_after_refusal(dataset_id, err, is_likely=is_likely):
                raise
            found = self._broker.search(dataset_id, request)
        if is_subset_job([product.product_id for product in found]):
            # It is made of just this query, whatever period the service shows of it.
            return {product.product_id: product for product in found}
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
            return self.datasets.schema(dataset_id)
        except OfflineError:
            return Schema(dataset_id, is_open=True)

    def _here(self, dataset_id: str) -> tuple[list[offline.Kept], list[Product]]:
        """Return the kept answers of a data set, and the records of its local products."""
        kept = []
        for path, at, products in self._answers.stored(SEARCH, Location(dataset_id).path):
            try:
                location = Location.parse(path)
            except LocationError as err:
                logger.debug("What was kept of %s is of no query: %s", path, err)
                continue
            if location.dataset == dataset_id:
                kept.append(offline.Kept(location, at, products))
        return kept, [product for product in self._local() if product.dataset_id == dataset_id]

    def _search_by_name(self, location: Location, *, refresh: bool) -> ProductsById:
        """Find a product without a query: by a name filter if there is one, else in the whole."""
        dataset_id, product_id = location.dataset or "", location.product or ""
        stem = product_id.rpartition(".")[0]
        for key in self.datasets.schema(dataset_id).name_keys:
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
