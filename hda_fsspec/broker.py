"""The calls of the HDA service, one method each: what is sent, and what comes back as records.

Knows the protocol (see ``docs/service.md`` for what is certain of it) and nothing of caches,
paths or waiting.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import enum
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from hda_fsspec.answers import delivered_name
from hda_fsspec.errors import BrokerError, QueryError, TooManyProductsError
from hda_fsspec.records import Dataset, Product, Term
from hda_fsspec.session import Answer, Session

logger = logging.getLogger("hda_fsspec")

_PAGE = 200  # the viewer of WEkEO and EODAG ask for no more
_DATASETS_PAGE = 1400  # EODAG asks for all data sets at once; accepted
_NO_DATA = "there is no data matching your request"  # how EO:ECMWF says "empty" (CS-SI/eodag#1228)
_DONE = frozenset({"done", "completed", "complete", "ready", "success", "successful", "finished"})
_FAILED = frozenset({"error", "failed", "failure", "rejected", "cancelled", "canceled", "aborted"})


class OrderState(enum.Enum):
    """How an order stands."""

    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"
    GONE = "gone"


@dataclasses.dataclass(frozen=True, slots=True)
class OrderStatus:
    """How an order stands, with what the service says of it.

    Attributes
    ----------
    state : OrderState
        GONE if the service does not know the order (any more).
    message : str
        What the service says of a failure.
    name : str or None
        The file name that will be delivered, just as sent, where it is told already.
    """

    state: OrderState
    message: str = ""
    name: str | None = None


class Broker:
    """One broker, as one account sees it.

    Parameters
    ----------
    session : Session
        How requests are sent.
    max_products : int
        The longest search that is paged through.
    workers : int
        How many pages are fetched at a time.
    """

    def __init__(self, session: Session, *, max_products: int, workers: int) -> None:
        self._session = session
        self._max_products = max_products
        self._workers = workers
        self._heads_work = True

    def datasets(self) -> list[Dataset]:
        """Return all data sets of the catalogue."""

        def page(start: int) -> Any:
            params = {"startIndex": start, "itemsPerPage": _DATASETS_PAGE}
            return self._session.json("GET", "datasets", params=params)

        features = self._paged(page, "the list of data sets", limit=None)
        return [Dataset.from_json(feature) for feature in features if "dataset_id" in feature]

    def dataset(self, dataset_id: str) -> Dataset:
        """Return one data set; raises FileNotFoundError where the catalogue has none of that id."""
        answer = self._get_of_dataset("datasets", dataset_id)
        return Dataset.from_json({"dataset_id": dataset_id, **answer})

    def queryable(self, dataset_id: str) -> Mapping[str, Any]:
        """Return the schema of a data set's queries; raises FileNotFoundError likewise."""
        return self._get_of_dataset("dataaccess/queryable", dataset_id)

    def search(self, dataset_id: str, request: Mapping[str, Any]) -> list[Product]:
        """Return the products of a search, in the service's order, each once.

        Parameters
        ----------
        dataset_id : str
            Where to search.
        request : mapping
            Typed parameters, without data set and paging.

        Raises
        ------
        QueryError
            The service refuses the parameters.
        TooManyProductsError
            There are more than ``max_products``: told at the first page where the service gives
            a total, else as soon as the count passes it.
        """
        what = f"the search of {dataset_id}"

        def page(start: int) -> Any:
            body = {
                "dataset_id": dataset_id,
                **request,
                "itemsPerPage": _PAGE,
                "startIndex": start,
            }
            return self._session.json("POST", "dataaccess/search", body=body)

        try:
            features = self._paged(page, what, limit=self._max_products)
        except BrokerError as err:
            if _NO_DATA in str(err).lower():
                return []
            if err.status in {400, 422}:
                msg = (
                    f"The service refused {what} with {dict(request)}: {err} "
                    "Compare the query with what the data set's page on WEkEO offers."
                )
                raise QueryError(msg) from err
            raise
        return [Product.from_feature(dataset_id, feature) for feature in features]

    def terms(self) -> dict[str, Term]:
        """Return all licences of the service, by id."""
        features = self._paged(lambda start: self._terms_page("terms", start), "the licences", None)
        terms = (Term.from_json(feature) for feature in features if "term_id" in feature)
        return {term.term_id: term for term in terms}

    def accepted_terms(self) -> frozenset[str]:
        """Return the ids of the licences that the account has accepted."""
        features = self._paged(
            lambda start: self._terms_page("termsaccepted", start), "the accepted licences", None
        )
        return frozenset(
            str(feature.get("term_id")) for feature in features if feature.get("accepted") is True
        )

    def accept_term(self, term_id: str) -> None:
        """Accept one licence in the name of the account, for ever."""
        self._session.put(f"termsaccepted/{term_id}", {"accepted": True})

    def order(self, product: Product) -> str:
        """Order a product and return the id of the order.

        Repeating an order costs no quota. Raises QuotaError where the service answers 429.
        """
        body = {
            "dataset_id": product.dataset_id,
            "product_id": product.product_id,
            "location": product.location,
        }
        answer = self._session.order("dataaccess/download", body)
        download_id = answer.get("download_id") if isinstance(answer, Mapping) else None
        if not isinstance(download_id, str) or not download_id:
            msg = (
                f"The order of {product.product_id} ({product.dataset_id}) was answered without a "
                f"download_id: {str(answer)[:200]}. Try again later."
            )
            raise BrokerError(msg)
        return download_id

    def status(self, download_id: str) -> OrderStatus:
        """Return how an order stands; no order, no download, no waiting.

        HEAD of the file tells it at most places (202, then 200); where it does not, or tells of
        a failure, the list of downloads is asked, which also says why.
        """
        if not self._heads_work:
            return self._listed_status(download_id)
        path = _download_path(download_id)
        answer = self._session.head(path, accept={400, 404, 405, 410, 500, 501})
        if answer.status == 202:
            return OrderStatus(OrderState.WAITING)
        if answer.status < 400:
            return OrderStatus(OrderState.READY, name=delivered_name(answer.headers))
        if answer.status in {405, 501}:
            self._heads_work = False
        status = self._listed_status(download_id)
        if status.state is OrderState.READY and self._heads_work:
            # The two disagree; the file itself is not there yet.
            return OrderStatus(OrderState.WAITING)
        return status

    def _listed_status(self, download_id: str) -> OrderStatus:
        try:
            page = self._session.json(
                "GET", "dataaccess/downloads", params={"download_id": download_id}
            )
        except BrokerError as err:
            if err.status in {404, 410}:
                return OrderStatus(OrderState.GONE)
            raise
        features = page.get("features") if isinstance(page, Mapping) else None
        if not isinstance(features, list) or not features or not isinstance(features[0], Mapping):
            return OrderStatus(OrderState.GONE)
        word = str(features[0].get("status", "")).strip().lower()
        if word in _DONE:
            return OrderStatus(OrderState.READY)
        if word in _FAILED:
            return OrderStatus(OrderState.FAILED, str(features[0].get("message") or word))
        return OrderStatus(OrderState.WAITING)

    @contextlib.contextmanager
    def download(
        self, download_id: str, *, first_byte: int = 0, accept: Collection[int] = ()
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """Get the file of an order from a byte on: the head of the answer, and the body in pieces.

        With ``first_byte`` a range is asked for. The answer may still be whole (200), a refusal
        (416), or "not ready" (202); the caller must look.
        """
        headers = {"Range": f"bytes={first_byte}-"} if first_byte else {}
        with self._session.stream(
            _download_path(download_id), headers=headers, accept=accept
        ) as answered:
            yield answered

    def _get_of_dataset(self, path: str, dataset_id: str) -> Mapping[str, Any]:
        try:
            answer = self._session.json("GET", f"{path}/{dataset_id}")
        except BrokerError as err:
            if err.status not in {404, 410}:
                raise
            msg = f"There is no data set {dataset_id!r} at the service ({err})"
            raise FileNotFoundError(msg) from err
        if not isinstance(answer, Mapping):
            msg = f"GET {path}/{dataset_id} answered {str(answer)[:80]!r} instead of an object."
            raise BrokerError(msg)
        return answer

    def _terms_page(self, path: str, start: int) -> Any:
        return self._session.json("GET", path, params={"startIndex": start, "itemsPerPage": _PAGE})

    def _paged(
        self, fetch: Callable[[int], Any], what: str, limit: int | None
    ) -> list[Mapping[str, Any]]:
        """Collect all pages, in either style of paging; each id once."""
        first = fetch(0)
        features, properties = _read_page(first, what)
        total = properties.get("totalResults")
        if isinstance(total, int) and not isinstance(total, bool):
            _refuse_too_many(what, total, limit)
            features += self._rest_by_total(fetch, what, len(features), total)
            if len(features) < total:
                logger.warning(
                    "%s announced %d items and gave %d: the service stopped with an empty page",
                    what,
                    total,
                    len(features),
                )
        else:
            # The CDSE adapter (EO:ESA, EO:JRC) tells no total, only where the next page starts.
            start, following = 0, properties.get("nextIndex")
            while isinstance(following, int) and following > start:
                _refuse_too_many(what, len(features), limit, at_least=True)
                start = following
                page, properties = _read_page(fetch(start), what)
                if not page:
                    break
                features += page
                following = properties.get("nextIndex")
        unique = {str(feature.get("id", index)): feature for index, feature in enumerate(features)}
        _refuse_too_many(what, len(unique), limit, at_least=True)
        return list(unique.values())

    def _rest_by_total(
        self, fetch: Callable[[int], Any], what: str, step: int, total: int
    ) -> list[Mapping[str, Any]]:
        """Fetch the pages after the first in parallel; ``startIndex`` counts items, not pages."""
        if not 0 < step < total:
            return []

        def span(start: int) -> list[Mapping[str, Any]]:
            wanted = min(step, total - start)
            found: list[Mapping[str, Any]] = []
            while len(found) < wanted:
                page, _ = _read_page(fetch(start + len(found)), what)
                if not page:
                    break
                found += page
            return found

        starts = range(step, total, step)
        with concurrent.futures.ThreadPoolExecutor(
            min(self._workers, len(starts)), thread_name_prefix="hda-pages"
        ) as pool:
            spans = [pool.submit(span, start) for start in starts]
            try:
                return [feature for future in spans for feature in future.result()]
            except BaseException:
                for future in spans:
                    future.cancel()
                raise


def _download_path(download_id: str) -> str:
    return f"dataaccess/download/{download_id}"


def _read_page(page: Any, what: str) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    features = page.get("features") if isinstance(page, Mapping) else None
    if not isinstance(features, list) or not all(isinstance(f, Mapping) for f in features):
        msg = f"A page of {what} holds no list of features: {str(page)[:200]!r}. Try again later."
        raise BrokerError(msg)
    properties = page.get("properties")
    return list(features), properties if isinstance(properties, Mapping) else {}


def _refuse_too_many(what: str, found: int, limit: int | None, *, at_least: bool = False) -> None:
    if limit is None or found <= limit:
        return
    msg = (
        f"{what[0].upper()}{what[1:]} has {'more than ' if at_least else ''}"
        f"{found if not at_least else limit} products, and max_products is {limit}. Narrow it: a "
        "shorter startdate/enddate, a smaller bbox, or more keys; or raise max_products."
    )
    raise TooManyProductsError(msg, found=None if at_least else found, limit=limit)
