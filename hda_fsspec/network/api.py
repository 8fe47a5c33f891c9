"""The calls of the HDA service, one method each: what is sent, and what comes back as records.

Knows the protocol (see ``docs/service.md`` for what is certain of it) and nothing of caches,
paths or waiting.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hda_fsspec.errors import (
    NO_DATA,
    AuthenticationError,
    BrokerError,
    HDAError,
    QueryError,
    QuotaError,
    not_there,
)
from hda_fsspec.network.optional_requests import Conveniences
from hda_fsspec.network.pagination import collect, page_parameters
from hda_fsspec.network.responses import ResponseHead, delivered_name
from hda_fsspec.network.retries import RETRIES_OF_CONVENIENCES
from hda_fsspec.printable import printable
from hda_fsspec.records import Dataset, Product, Term, is_name

if TYPE_CHECKING:
    from hda_fsspec.network.session import Session

logger = logging.getLogger("hda_fsspec")

_PAGE = 200  # the viewer of WEkEO and EODAG ask for no more

_DATASETS_PAGE = 1400  # EODAG asks for all data sets at once; accepted
_LONGEST_ORDER_ID = 1000
_DONE = frozenset({"done", "completed", "complete", "ready", "success", "successful", "finished"})
_FAILED = frozenset({"error", "failed", "failure", "rejected", "cancelled", "canceled", "aborted"})


class OrderState(enum.Enum):
    """The state of an order."""

    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"
    GONE = "gone"


@dataclasses.dataclass(frozen=True, slots=True)
class OrderStatus:
    """The state of an order, with what the service says of it.

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
    session : callable
        Returns what sends requests; not called before there is one.
    max_products : int
        The longest search that is paged through.
    workers : int
        How many pages are fetched at a time.

    Attributes
    ----------
    conveniences : Conveniences
        Asks for what the job can do without.
    """

    def __init__(self, session: Callable[[], Session], *, max_products: int, workers: int) -> None:
        self._get_session = session
        self._max_products = max_products
        self._collect = functools.partial(
            collect, page_size=_PAGE, workers=workers, show=self._shown
        )
        # Both tell how an order stands; whether either is there is found out. None: not yet.
        self._heads_work: bool | None = None
        self._lists_work: bool | None = None
        self.conveniences = Conveniences(self._log_in)

    @property
    def _session(self) -> Session:
        return self._get_session()

    def datasets(self, *, is_convenience: bool = False) -> list[Dataset]:
        """Return all data sets of the catalogue; with little patience if it is a convenience."""
        most = RETRIES_OF_CONVENIENCES if is_convenience else None

        def page(start: int) -> Any:
            params = page_parameters(start, _DATASETS_PAGE)
            return self._session.json("GET", "datasets", params=params, most_retries=most)

        what = "the list of data sets"
        features = self._collect(page, what, dict, page_size=_DATASETS_PAGE, is_lenient=True)
        named = [f for f in features if is_name(f.get("dataset_id"))]
        if len(named) < len(features):
            lost = len(features) - len(named)
            logger.warning("%s holds entries without a dataset_id, left out: %d", what, lost)
        secrets = self._session.secrets
        return [secrets.dataset(Dataset.from_json(feature)) for feature in named]

    def dataset(self, dataset_id: str, *, is_convenience: bool = False) -> Dataset:
        """Return one data set; raises FileNotFoundError where the catalogue has none of that id.

        With ``is_convenience`` little patience is spent on it.
        """
        most = RETRIES_OF_CONVENIENCES if is_convenience else None
        answer = self._get_of_dataset("datasets", dataset_id, most_retries=most)
        found = Dataset.from_json({**answer, "dataset_id": dataset_id})
        return self._session.secrets.dataset(found)

    def queryable(self, dataset_id: str) -> Mapping[str, Any]:
        """Return the schema of a data set's queries; raises FileNotFoundError likewise."""
        document = self._get_of_dataset("dataaccess/queryable", dataset_id)
        return self._session.secrets.schema(dataset_id, document)

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
        what = f"the search of {printable(dataset_id)}"

        def page(start: int) -> Any:
            body = {"dataset_id": dataset_id, **request, **page_parameters(start, _PAGE)}
            return self._session.json("POST", "dataaccess/search", body=body)

        secrets, address = self._session.secrets, self._session.address

        def product(feature: Mapping[str, Any]) -> Product:
            return Product.from_feature(dataset_id, feature, broker=address, show=secrets.shown)

        try:
            products = self._collect(page, what, product, limit=self._max_products)
        except BrokerError as err:
            if err.subject == NO_DATA:
                return []
            if err.status in {400, 422}:
                msg = (
                    f"The service refused {what} with {dict(request)}: {err} "
                    "Compare the query with what the data set's page on WEkEO offers."
                )
                raise QueryError(msg) from err
            raise
        named = secrets.products([p for p in products if is_name(p.product_id)])
        if len(named) < len(products):
            lost = next(p.product_id for p in products if not is_name(p.product_id))
            logger.warning(
                "%s found products whose ids are no text, such as %r, left out: %d",
                *(what, secrets.shown(lost), len(products) - len(named)),
            )
        return named

    def terms(self) -> dict[str, Term]:
        """Return all licences of the service, by id."""
        features = self._all_terms("terms", "the list of licences", is_lenient=True)
        secrets = self._session.secrets
        terms = (
            secrets.term(Term.from_json(f)) for f in features if isinstance(f.get("term_id"), str)
        )
        return {term.term_id: term for term in terms}

    def accepted_terms(self) -> frozenset[str]:
        """Return the ids of the licences that the account has accepted.

        Raises BrokerError where any part of the list cannot be read: what it says of the licence
        that is looked for may stand in that part.
        """
        what = "the list of accepted licences"
        accepted: set[str] = set()
        for feature in self._all_terms("termsaccepted", what):
            term, state = feature.get("term_id"), feature.get("accepted")
            if not isinstance(term, str) or not isinstance(state, bool):
                msg = f"{what} holds {self._shown(dict(feature), 80)!r}, which cannot be read."
                raise BrokerError(msg, status=200)
            if state:
                accepted.add(self._session.secrets.term(Term(term)).term_id)
        return frozenset(accepted)

    def accept_term(self, term_id: str, *, most_retries: int | None = None) -> None:
        """Accept one licence in the name of the account, for ever."""
        path = f"termsaccepted/{_segment(term_id)}"
        self._session.put(path, {"accepted": True}, most_retries=most_retries)

    def order(self, product: Product) -> str:
        """Order a product and return the id of the order.

        Repeating an order costs no quota. Raises QuotaError where the service answers 429.
        """
        body = {"dataset_id": product.dataset_id, "product_id": product.product_id}
        if product.location:  # else the search told none, and null or "" would be refused
            if not self._session.secrets.can_reveal(product.location):
                self._session.log_in()  # it has a place for a token, and there is none yet
            body["location"] = self._session.secrets.revealed(product.location)
        answer = self._session.order("dataaccess/download", body)
        download_id = answer.get("download_id") if isinstance(answer, Mapping) else None
        if not is_name(download_id) or len(download_id) > _LONGEST_ORDER_ID:
            msg = (
                f"The order of {product} was answered without a "
                f"download_id: {self._shown(answer)}. Try again later."
            )
            raise BrokerError(msg)
        return self._session.secrets.order_id(download_id)

    def status(self, download_id: str) -> OrderStatus:
        """Return how an order stands; no order, no download, no waiting.

        HEAD of the file tells it at most places (202, then 200); where it does not, or tells of
        a failure, the list of downloads is asked, which also says why. Where neither tells, the
        order is said to be ready: the file itself then answers whether it is.
        """
        if self._heads_work is False:
            return self._listed_status(download_id)
        try:
            path = _download_path(download_id)
            answer = self._session.head(path, accept={400, 404, 405, 410, 500, 501})
        except (AuthenticationError, BrokerError, QuotaError) as err:
            if isinstance(err, BrokerError) and err.status is None:
                raise
            self._do_without_heads(err)
            return self._listed_status(download_id)
        if answer.status < 400:
            self._heads_work = True
        if answer.status == 202:
            return OrderStatus(OrderState.WAITING)
        if answer.status < 400:
            return OrderStatus(OrderState.READY, name=delivered_name(answer.headers))
        if answer.status in {405, 501}:
            self._do_without_heads(f"status {answer.status}")
        return self._listed_status(download_id)

    def _do_without_heads(self, why: HDAError | str) -> None:
        self._heads_work = False
        self.conveniences.tell(
            "the head of an order's file", why, "The list of orders is asked instead."
        )

    def _listed_status(self, download_id: str) -> OrderStatus:
        try:
            page = self._session.json(
                "GET",
                "dataaccess/downloads",
                params={"download_id": download_id},
                most_retries=RETRIES_OF_CONVENIENCES if self._lists_work is False else None,
            )
        except (AuthenticationError, BrokerError, QuotaError) as err:
            if isinstance(err, BrokerError) and err.status is None:
                raise
            is_absent = isinstance(err, BrokerError) and err.status in {404, 410}
            # Said where one of the two is known to be there, it is about the order.
            if is_absent and (self._heads_work or self._lists_work):
                return OrderStatus(OrderState.GONE)
            return self._do_without_lists(err)
        features = page.get("features") if isinstance(page, Mapping) else page
        if not isinstance(features, list):
            return self._do_without_lists(f"{self._shown(page, 80)!r} is no list of orders")
        self._lists_work = True
        listed = [f for f in features if isinstance(f, Mapping)]
        # A service that does not filter answers the orders of the whole account.
        told = next((f for f in listed if f.get("_id", download_id) == download_id), None)
        return OrderStatus(OrderState.GONE) if told is None else self._status_of(told)

    def _do_without_lists(self, why: HDAError | str) -> OrderStatus:
        self._lists_work = False
        consequence = "Whether an order is ready is found out by asking for its file."
        self.conveniences.tell("the list of orders", why, consequence)
        return OrderStatus(OrderState.READY)

    def _log_in(self) -> None:
        self._session.log_in()

    @contextlib.contextmanager
    def download(
        self, download_id: str, *, first_byte: int = 0, accept: Collection[int] = ()
    ) -> Iterator[tuple[ResponseHead, Iterator[bytes]]]:
        """Get the file of an order from a byte on: the head of the answer, and the body in pieces.

        With ``first_byte`` a range is asked for. The answer may still be whole (200), a refusal
        (416), or "not ready" (202); the caller must look.
        """
        headers = {"Range": f"bytes={first_byte}-"} if first_byte else {}
        with self._session.stream(
            _download_path(download_id), headers=headers, accept=accept
        ) as answered:
            yield answered

    def file_name(self, answer: ResponseHead, product_id: str) -> str | None:
        """Return the name under which an answer delivers a product's file, just as sent."""
        return self._session.secrets.file_name(delivered_name(answer.headers), product_id)

    def _shown(self, answer: object, length: int = 200) -> str:
        return self._session.secrets.shown(answer, length)

    def _status_of(self, listed: Mapping[str, Any]) -> OrderStatus:
        """Return how an order stands by its entry in the list."""
        word = str(listed.get("status", "")).strip().lower()
        if word in _DONE:
            return OrderStatus(OrderState.READY)
        if word in _FAILED:
            said = self._shown(listed.get("message") or word, 300)
            return OrderStatus(OrderState.FAILED, said)
        return OrderStatus(OrderState.WAITING)

    def _get_of_dataset(
        self, path: str, dataset_id: str, *, most_retries: int | None = None
    ) -> Mapping[str, Any]:
        try:
            answer = self._session.json(
                "GET", f"{path}/{_segment(dataset_id)}", most_retries=most_retries
            )
        except BrokerError as err:
            if err.status not in {404, 410}:
                raise
            msg = f"There is no data set {dataset_id!r} at the service ({err})"
            raise not_there(msg) from err
        if not isinstance(answer, Mapping):
            asked = f"GET {path}/{printable(dataset_id)}"
            msg = f"{asked} answered {self._shown(answer, 80)!r} instead of an object."
            raise BrokerError(msg, status=200)
        return answer

    def _all_terms(
        self, path: str, what: str, *, is_lenient: bool = False
    ) -> list[Mapping[str, Any]]:
        def page(start: int) -> Any:
            params = page_parameters(start, _PAGE)
            return self._session.json(
                "GET", path, params=params, most_retries=RETRIES_OF_CONVENIENCES
            )

        return self._collect(page, what, dict, is_lenient=is_lenient)


def _download_path(download_id: str) -> str:
    return f"dataaccess/download/{_segment(download_id)}"


def _segment(name: str) -> str:
    """Write an id as one segment of an address, whatever a user or the network calls it."""
    if name in {".", ".."}:
        msg = f"{name!r} is no id that the service can be asked for."
        raise BrokerError(msg, status=404)
    if not is_name(name):
        msg = f"{name!r} is no id that the service can be asked for: it is no text."
        raise BrokerError(msg, status=404)
    return quote(name, safe=":")
