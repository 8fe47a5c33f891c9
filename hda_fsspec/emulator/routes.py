"""The broker as routes: a function from requests to answers.

It knows the whole protocol and no socket: how an answer goes out is the server's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hda_fsspec.emulator import permanent_faults, searches
from hda_fsspec.emulator.accounts import Accounts
from hda_fsspec.emulator.catalogue import Catalogue
from hda_fsspec.emulator.dataset_entries import DatasetEntry, ProductEntry
from hda_fsspec.emulator.delivery import Delivery
from hda_fsspec.emulator.faults import Fault, Faults, instead, spoil
from hda_fsspec.emulator.jobs.job import JobFailedError, SubsetDataset
from hda_fsspec.emulator.messages import (
    API_PREFIX,
    Answer,
    Request,
    error_answer,
    html_answer,
    invalid_answer,
    json_answer,
)
from hda_fsspec.emulator.options import EmulatorOptions
from hda_fsspec.emulator.replay import Replay
from hda_fsspec.emulator.schemas import find_fault
from hda_fsspec.emulator.state import AcceptedTerms
from hda_fsspec.emulator.terms import describe, known_terms
from hda_fsspec.errors import ConfigurationError

_HOME = "<!DOCTYPE html><html><body><h1>HDA emulator</h1><p>The API is below.</p></body></html>"

_Handler = Callable[[Request, str, Faults], Answer]


class Routes:
    """The state of an emulated service, and its answers."""

    def __init__(
        self, catalogue: Catalogue, options: EmulatorOptions, user: str, password: str
    ) -> None:
        self.catalogue = catalogue
        self.options = options
        self.accounts = Accounts(user, password, options)
        self.licences = AcceptedTerms(known_terms(catalogue), options.accepted_terms)
        self.delivery = Delivery(catalogue, options)
        self.replay = None if options.replay is None else Replay(options.replay)
        self._last_search: tuple[DatasetEntry, Mapping[str, Any], list[ProductEntry]] | None = None
        self._table: list[tuple[str, re.Pattern[str], _Handler]] = [
            (method, re.compile(pattern), handler)
            for method, pattern, handler in (
                ("GET", r"datasets/?()", self._datasets),
                ("GET", r"datasets/([^/]+)", self._dataset),
                ("GET", r"dataaccess/queryable/([^/]+)", self._queryable),
                ("POST", r"dataaccess/search()", self._search),
                ("POST", r"dataaccess/download()", self._order),
                ("GET", r"dataaccess/download/([^/]+)", self.delivery.download),
                ("HEAD", r"dataaccess/download/([^/]+)", self.delivery.status),
                ("GET", r"dataaccess/downloads()", self.delivery.list_status),
                ("GET", r"terms/?()", self._terms),
                ("GET", r"termsaccepted/?()", self._accepted),
                ("PUT", r"termsaccepted/([^/]+)", self._accept),
                ("DELETE", r"termsaccepted/([^/]+)", self._accept),
            )
        ]

    def product_of(self, request: Request) -> str | None:
        """Return the id of the product that a request is about, None if it is about none."""
        if request.api == "dataaccess/download":
            body = request.json()
            given = body.get("product_id") if isinstance(body, dict) else None
            return given if isinstance(given, str) else None
        return self.delivery.product_of(request)

    def answer(self, request: Request, faults: tuple[Fault, ...] = ()) -> Answer:
        """Answer a request, with the faults that it meets."""
        by_kind = {fault.kind: fault for fault in faults}
        odd = () if faults else self.options.odd
        answer = instead(by_kind) or permanent_faults.instead(request, odd)
        answer = answer or self._answer_or_500(request, by_kind)
        if self.replay is None and answer.status:
            answer = answer.with_headers(self.delivery.quota_headers())
        answer = spoil(answer, by_kind)
        return permanent_faults.spoil(request, answer, odd)

    def _answer_or_500(self, request: Request, faults: Faults) -> Answer:
        try:
            return self._route(request, faults)
        except JobFailedError as err:
            return error_answer(500, err.detail, err.title or "Task Error")
        except (ConfigurationError, OSError) as err:
            # The source of a subset data set, which is looked at late, is none; or the file of a
            # product is there no more.
            return error_answer(500, str(err), "Task Error")

    def _route(self, request: Request, faults: Faults) -> Answer:
        if self.replay is not None:
            return self.replay.answer(request)
        if request.path == "/":
            return html_answer(_HOME)
        if request.path.startswith("/files/"):
            return self.delivery.signed_file(request, faults)
        answer = self.accounts.answer(request)
        if answer is not None:
            return answer
        if not request.path.startswith(API_PREFIX):
            return error_answer(404, "Not Found")
        if "expired" in faults and request.token is not None:
            self.accounts.tokens.expire_one(request.token)
        return self.accounts.refusal(request) or self._route_api(request, faults)

    def _route_api(self, request: Request, faults: Faults) -> Answer:
        is_known_path = False
        for method, pattern, handler in self._table:
            match = pattern.fullmatch(request.api)
            if match is not None and method == request.method:
                return handler(request, match.group(1), faults)
            is_known_path = is_known_path or match is not None
        return error_answer(*((405, "Method Not Allowed") if is_known_path else (404, "Not Found")))

    def _datasets(self, request: Request, _: str, _faults: Faults) -> Answer:
        wanted = request.query.get("q", "").lower()
        found = [entry for entry in self.catalogue if _is_wanted(entry, wanted)]
        return _paged(request, [entry.to_json() for entry in found])

    def _dataset(self, _: Request, dataset_id: str, _faults: Faults) -> Answer:
        dataset = self.catalogue.get(dataset_id)
        return json_answer(dataset.to_json()) if dataset else _no_dataset(dataset_id)

    def _queryable(self, _: Request, dataset_id: str, _faults: Faults) -> Answer:
        dataset = self.catalogue.get(dataset_id)
        return json_answer(dataset.schema) if dataset else _no_dataset(dataset_id)

    def _terms(self, request: Request, _: str, _faults: Faults) -> Answer:
        return _paged(request, [describe(term) for term in self.licences.known])

    def _accepted(self, request: Request, _: str, _faults: Faults) -> Answer:
        return _paged(request, [self._term_state(term) for term in self.licences.known])

    def _accept(self, request: Request, term: str, _faults: Faults) -> Answer:
        if term not in self.licences.known:
            return error_answer(404, f"Term {term} not found")
        self.licences.set(term, accepted=request.method == "PUT")
        return json_answer(self._term_state(term))

    def _term_state(self, term: str) -> dict[str, Any]:
        return {"term_id": term, "accepted": self.licences.is_accepted(term)}

    def _known_dataset(self, body: Mapping[str, Any]) -> DatasetEntry | Answer:
        dataset_id = body.get("dataset_id")
        if not isinstance(dataset_id, str):
            return invalid_answer("dataset_id", "field required", "value_error.missing")
        dataset = self.catalogue.get(dataset_id)
        if dataset is None:
            return _no_dataset(dataset_id)
        missing = self.licences.missing(dataset.terms)
        if missing:
            detail = f"Terms and conditions not accepted: {', '.join(missing)}"
            return error_answer(self.options.terms_status, detail)
        return dataset

    def _order(self, request: Request, _: str, faults: Faults) -> Answer:
        body = request.json()
        if not isinstance(body, dict):
            return invalid_answer("product_id", "field required", "value_error.missing")
        dataset = self._known_dataset(body)
        if isinstance(dataset, Answer):
            return dataset
        return self.delivery.order(dataset, body, faults)

    def _search(self, request: Request, _: str, faults: Faults) -> Answer:
        body = request.json()
        if not isinstance(body, dict):
            return invalid_answer("dataset_id", "field required", "value_error.missing")
        dataset = self._known_dataset(body)
        if isinstance(dataset, Answer):
            return dataset
        found = self._find(dataset, body)
        if isinstance(found, Answer):
            return found
        max_page = self.options.max_page if dataset.max_page is None else dataset.max_page
        start, length = searches.page_of(len(found), body, max_page=max_page)
        shown = found[start : start + length]
        if "empty-page" in faults:
            shown = []
        if "duplicate-ids" in faults:
            shown = [*found[max(0, start - 1) : start], *shown, *shown[-1:]]
        sizes = self.options.sizes if dataset.sizes is None else dataset.sizes
        style = self.options.paging if dataset.paging is None else dataset.paging
        answer = {
            "type": "FeatureCollection",
            "features": [searches.feature(product, sizes=sizes) for product in shown],
            "properties": searches.paging_properties(start, length, len(found), style=style),
        }
        return json_answer(answer)

    def _find(self, dataset: DatasetEntry, body: Mapping[str, Any]) -> list[ProductEntry] | Answer:
        is_subset = isinstance(dataset, SubsetDataset)
        wrong = find_fault(dataset.schema, body, takes_single_values=is_subset)
        if wrong is not None:
            return invalid_answer(*wrong)
        absent = [key for key in dataset.needed if key not in body]
        if absent:
            return error_answer(400, f"the request you have submitted is not valid: {absent[0]}")
        try:
            return self._matching(dataset, body)
        except JobFailedError as err:
            return error_answer(err.status or 400, err.detail, err.title or None)
        except ValueError as err:
            return error_answer(400, f"the request you have submitted is not valid: {err}")

    def _matching(self, dataset: DatasetEntry, body: Mapping[str, Any]) -> list[ProductEntry]:
        """Return what a search finds, which the request for its next page need not find again."""
        asked = {key: value for key, value in body.items() if key not in searches.PAGING_KEYS}
        if isinstance(dataset, SubsetDataset):
            return dataset.search(asked)
        last = self._last_search
        if last is not None and last[0] is dataset and last[1] == asked:
            return last[2]
        found = searches.matching(dataset, asked, inclusive=self.options.inclusive_dates)
        self._last_search = (dataset, asked, found)
        return found


def _is_wanted(entry: DatasetEntry, wanted: str) -> bool:
    """Return True if free text is in id or title; with a trailing ``*`` the id must begin so."""
    if wanted.endswith("*"):
        return entry.dataset_id.lower().startswith(wanted.rstrip("*"))
    text = f"{entry.dataset_id} {entry.title}".lower()
    return all(word in text for word in wanted.split())


def _no_dataset(dataset_id: str) -> Answer:
    return error_answer(404, f"Dataset {dataset_id} not found")


def _paged(request: Request, items: list[dict[str, Any]]) -> Answer:
    try:
        start, length = searches.page_of(len(items), request.query, max_page=10_000)
    except ValueError:
        return invalid_answer("startIndex", "value is not a valid integer", "type_error.integer")
    told = searches.paging_properties(start, length, len(items), style="total")
    return json_answer({"features": items[start : start + length], "properties": told})
