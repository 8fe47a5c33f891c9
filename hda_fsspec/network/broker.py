"""The calls of the HDA service, one method each: what is sent, and what comes back as records.

Knows the protocol (see ``docs/service.md`` for what is certain of it) and nothing of caches,
paths or waiting.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from hda_fsspec.errors import BrokerError, QueryError
from hda_fsspec.network.answers import Answer, delivered_name
from hda_fsspec.network.paging import collect
from hda_fsspec.network.session import Session
from hda_fsspec.records import Dataset, Product, Term

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

        features = self._collect(page, "the list of data sets", page_size=_DATASETS_PAGE)
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
            features = self._collect(page, what, limit=self._max_products)
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
        return [Product.from_feature(dataset_id, f, broker=self._session.address) for f in features]

    def terms(self) -> dict[str, Term]:
        """Return all licences of the service, by id."""
        features = self._all_terms("terms", "the licences")
        terms = (Term.from_json(feature) for feature in features if "term_id" in feature)
        return {term.term_id: term for term in terms}

    def accepted_terms(self) -> frozenset[str]:
        """Return the ids of the licences that the account has accepted."""
        features = self._all_terms("termsaccepted", "the accepted licences")
        return frozenset(
            str(feature.get("term_id")) for feature in features if feature.get("accepted") is True
        )

    def accept_term(self, term_id: str) -> None:
        """Accept one licence in the name of the account, for ever."""
        self._session.put(f"termsaccepted/{_segment(term_id)}", {"accepted": True})

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
        return self._listed_status(download_id)

    def _listed_status(self, download_id: str) -> OrderStatus:
        try:
            page = self._session.json(
                "GET", "dataaccess/downloads", params={"download_id": download_id}
            )
        except BrokerError as err:
            if err.status in {404, 410}:
                return OrderStatus(OrderState.GONE)
            raise
        features = page.get("features") if isinstance(page, Mapping) else page
        if not isinstance(features, list | None):
            msg = (
                f"The orders were listed as {str(page)[:80]!r}, which is no list. Try again later."
            )
            raise BrokerError(msg)
        listed = [f for f in features or [] if isinstance(f, Mapping)]
        # A service that does not filter answers the orders of the whole account.
        told = next((f for f in listed if f.get("_id", download_id) == download_id), None)
        if told is None:
            return OrderStatus(OrderState.GONE)
        word = str(told.get("status", "")).strip().lower()
        if word in _DONE:
            return OrderStatus(OrderState.READY)
        if word in _FAILED:
            return OrderStatus(OrderState.FAILED, str(told.get("message") or word))
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
            answer = self._session.json("GET", f"{path}/{_segment(dataset_id)}")
        except BrokerError as err:
            if err.status not in {404, 410}:
                raise
            msg = f"There is no data set {dataset_id!r} at the service ({err})"
            raise FileNotFoundError(msg) from err
        if not isinstance(answer, Mapping):
            msg = f"GET {path}/{dataset_id} answered {str(answer)[:80]!r} instead of an object."
            raise BrokerError(msg)
        return answer

    def _collect(
        self,
        fetch: Callable[[int], Any],
        what: str,
        *,
        page_size: int = _PAGE,
        limit: int | None = None,
    ) -> list[Mapping[str, Any]]:
        return collect(fetch, what, page_size=page_size, workers=self._workers, limit=limit)

    def _all_terms(self, path: str, what: str) -> list[Mapping[str, Any]]:
        def page(start: int) -> Any:
            params = {"startIndex": start, "itemsPerPage": _PAGE}
            return self._session.json("GET", path, params=params)

        return self._collect(page, what)


def _download_path(download_id: str) -> str:
    return f"dataaccess/download/{_segment(download_id)}"


def _segment(name: str) -> str:
    """Write an id as one segment of an address, whatever a user or the network calls it."""
    if name in {".", ".."}:
        msg = f"{name!r} is no id that the service can be asked for."
        raise BrokerError(msg, status=404)
    return quote(name, safe=":")
