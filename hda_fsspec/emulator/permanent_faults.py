"""Answers that are odd for good: what a client can do without is missing, refused or malformed.

Pure functions over answers. Faults pass, and spoil what a job needs; an oddity stays, and spoils
what only helps: a client that stops at one has stopped for nothing.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

from hda_fsspec.emulator.messages import Answer, Request, error_answer, html_answer, json_answer
from hda_fsspec.errors import ConfigurationError

_PAGE = html_answer("<!DOCTYPE html><html><body><h1>Welcome</h1></body></html>")
_CLOSED = Answer(0, ending="close")

#: Oddities under which a search tells no locator, so that no order can repeat one.
WITHOUT_LOCATORS = frozenset({"features-without-properties", "features-null-properties"})

Change = Callable[[Answer], Answer]


def instead(request: Request, names: Collection[str]) -> Answer | None:
    """Return the answer to a request that is not even looked at, None if it is."""
    return next((odd for odd in _met(request, names) if isinstance(odd, Answer)), None)


def spoil(request: Request, answer: Answer, names: Collection[str]) -> Answer:
    """Return an answer as the named oddities leave it."""
    for odd in _met(request, names):
        if not isinstance(odd, Answer):
            answer = odd(answer)
    return answer


def _met(request: Request, names: Collection[str]) -> Iterator[Change | Answer]:
    odd: Change | Answer
    for name in names:
        method, path, odd = ODDITIES[name]
        if method in (None, request.method) and re.fullmatch(path, request.api):
            yield odd


def check(names: Collection[str]) -> None:
    """Raise ConfigurationError for a name that is none."""
    unknown = sorted(set(names) - set(ODDITIES))
    if unknown:
        known = ", ".join(ODDITIES)
        msg = f"The emulator has no odd answer {unknown[0]!r}: it has {known}."
        raise ConfigurationError(msg)


def _json(change: Callable[[Any], Any]) -> Change:
    """Return a change of the JSON of an answer; an error is left as it is."""

    def changed(answer: Answer) -> Answer:
        if answer.status != 200 or not answer.body:
            return answer
        spoilt = json_answer(change(json.loads(answer.body)))
        return dataclasses.replace(answer, body=spoilt.body)

    return changed


def _each_feature(change: Callable[[dict[str, Any]], Any]) -> Change:
    return _json(lambda page: {**page, "features": [change(f) for f in page["features"]]})


def _without(*keys: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda value: {k: v for k, v in value.items() if k not in keys}


def _numbered(feature: dict[str, Any]) -> dict[str, Any]:
    product_id = feature["id"]
    return {**feature, "id": int(product_id) if product_id.isdecimal() else product_id}


def _with_odd_entries(page: dict[str, Any]) -> dict[str, Any]:
    entries: list[Any] = [None, {"dataset_id": None, "terms": "none"}, {"metadata": []}, "EO:X"]
    return {**page, "features": [*entries, *page["features"]]}


def _unknown_words(schema: dict[str, Any]) -> dict[str, Any]:
    properties = {
        name: {"type": f"x-{value.get('type')}", "x-widget": {"rows": 3}, "allOf": [{"$ref": "#/"}]}
        for name, value in schema["properties"].items()
    }
    return {**schema, "type": "queryable", "x-order": [1], "properties": properties}


def _headers(**headers: str) -> Change:
    """Return a change of headers: their names with underscores."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda answer: dataclasses.replace(answer, headers={**answer.headers, **given})


def _without_quota(answer: Answer) -> Answer:
    left = {k: v for k, v in answer.headers.items() if not k.startswith("X-Quota")}
    return dataclasses.replace(answer, headers=left)


_ACCEPTED, _TERMS = r"termsaccepted/?", r"terms/?"
_DATASET, _DATASETS = r"datasets/.+", r"datasets/?"
_QUERYABLE, _SEARCH = r"dataaccess/queryable/.+", r"dataaccess/search"
_FILE, _ORDERS = r"dataaccess/download/.+", r"dataaccess/downloads"

#: By name: which requests meet it (method and path below ``api/v1/``), and what becomes
#: of an answer, or stands in its place.
ODDITIES: dict[str, tuple[str | None, str, Change | Answer]] = {
    "accepted-404": ("GET", _ACCEPTED, error_answer(404, None)),
    "accepted-500": ("GET", _ACCEPTED, error_answer(500, None)),
    "accepted-html": ("GET", _ACCEPTED, _PAGE),
    "accepted-closed": ("GET", _ACCEPTED, _CLOSED),
    "accepted-bare-list": ("GET", _ACCEPTED, _json(lambda page: page["features"])),
    "accepted-names": ("GET", _ACCEPTED, _json(lambda p: [f["term_id"] for f in p["features"]])),
    "accepted-wrong-shape": ("GET", _ACCEPTED, _json(lambda _: {"features": "all"})),
    "accepted-odd-entries": ("GET", _ACCEPTED, _each_feature(_without("accepted"))),
    "acceptance-405": ("PUT", r"termsaccepted/.+", error_answer(405, None)),
    "titles-404": ("GET", _TERMS, error_answer(404, None)),
    "titles-html": ("GET", _TERMS, _PAGE),
    "titles-missing": ("GET", _TERMS, _each_feature(_without("title", "abstract"))),
    "data-set-500": ("GET", _DATASET, error_answer(500, None)),
    "data-set-html": ("GET", _DATASET, _PAGE),
    "data-sets-odd-entries": ("GET", _DATASETS, _json(_with_odd_entries)),
    "data-sets-bare-list": ("GET", _DATASETS, _json(lambda page: page["features"])),
    "schema-404": ("GET", _QUERYABLE, error_answer(404, None)),
    "schema-500": ("GET", _QUERYABLE, error_answer(500, None)),
    "schema-html": ("GET", _QUERYABLE, _PAGE),
    "schema-bare-list": ("GET", _QUERYABLE, _json(lambda schema: list(schema["properties"]))),
    "schema-unknown-words": ("GET", _QUERYABLE, _json(_unknown_words)),
    "page-without-properties": ("POST", _SEARCH, _json(_without("properties"))),
    "features-without-properties": ("POST", _SEARCH, _each_feature(_without("properties"))),
    "features-null-properties": (
        "POST",
        _SEARCH,
        _each_feature(lambda f: {**f, "properties": None}),
    ),
    "features-number-ids": ("POST", _SEARCH, _each_feature(_numbered)),
    "head-403": ("HEAD", _FILE, error_answer(403, None)),
    "head-404": ("HEAD", _FILE, error_answer(404, None)),
    "head-405": ("HEAD", _FILE, error_answer(405, None)),
    "head-503": ("HEAD", _FILE, error_answer(503, None)),
    "orders-404": ("GET", _ORDERS, error_answer(404, None)),
    "orders-html": ("GET", _ORDERS, _PAGE),
    "orders-wrong-shape": ("GET", _ORDERS, _json(lambda _: {"status": "fine"})),
    "quota-headers-missing": (None, r".*", _without_quota),
    "quota-headers-garbage": (
        None,
        r".*",
        _headers(X_Quota_Limit="a hundred", X_Quota_Remaining="-1, none", X_Quota_Reset="soon"),
    ),
    "login-page": ("POST", r"identity/gettoken", _PAGE),
}
