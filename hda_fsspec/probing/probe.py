"""A probe of a service: what is uncertain of it is asked for, with one order at most.

It never loops: requests, bytes and waiting have bounds. A fact that cannot be found out is a row
that says why, and the others are asked for all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hda_fsspec.errors import ConfigurationError, HDAError, OfflineError
from hda_fsspec.paths.locations import Location
from hda_fsspec.probing.conversation import Conversation, Exchange, SpentError
from hda_fsspec.probing.facts import FAILED, Fact, compared, left_open, settled
from hda_fsspec.probing.query import ProbePlan, small_query
from hda_fsspec.records import Dataset
from hda_fsspec.schema.schema import Schema

#: Of these, polls of an order are at most `_MOST_POLLS`.
MOST_REQUESTS = 100
#: Larger files are not fetched to their end.
MOST_BYTES = 200 << 20
_PAGE = 200
_LARGE_PAGE = 1000
_ORIGINS: tuple[str | None, ...] = (None, "eumetsat", "cmems")
_WRONG_TOKEN = "00000000-0000-4000-8000-000000000000"  # noqa: S105 - it opens nothing


class Probe:
    """The part of a probe before anything is ordered.

    Parameters
    ----------
    talk : Conversation
        With whom.
    dataset : Location
        The data set, or a query of it.
    user, password : str
        The account.

    Attributes
    ----------
    plan : ProbePlan or None
        What can be ordered, after :meth:`look`.
    schema : Schema
        That of the data set.
    """

    def __init__(
        self, talk: Conversation, dataset: Location, *, user: str | None, password: str | None
    ) -> None:
        if dataset.dataset is None or dataset.pattern is not None or dataset.product is not None:
            msg = f"Cannot probe {dataset.path}: name a data set, or a query of one."
            raise ConfigurationError(msg)
        if not user or not password:
            msg = "Cannot probe without a login: 'hda-fsspec login' writes one."
            raise ConfigurationError(msg)
        self._talk = talk
        self._location = dataset
        self._dataset = dataset.dataset
        self._user, self._password = user, password
        self.plan: ProbePlan | None = None
        self.schema = Schema(self._dataset, is_open=True)
        self._document: Mapping[str, Any] = {}
        self._missing: list[str] = []
        self._covered: str | None = None
        self._refresh_token: object = None

    def look(self) -> Iterator[Fact]:
        """Ask for all that costs no order."""
        yield from guarded("login", self._log_in)
        if self._talk.token is None:
            return
        yield from guarded("tokens", self._tokens)
        yield from guarded("licences", self._licences)
        yield from guarded("data set", self._describe)
        yield from guarded("search", self._search)
        yield from guarded("other addresses", self._others)

    def _log_in(self) -> Iterator[Fact]:
        places = {"/identity/gettoken": "200", "/hda-broker/gettoken": "404, or 200 as until 2026"}
        works: list[str | None] = []
        for place, expected in places.items():
            # Accounts are locked by many refusals: what one place has refused is asked once more.
            for origin in works[:1] or (_ORIGINS if place.startswith("/identity") else (None,)):
                body = {"username": self._user, "password": self._password}
                seen = self._talk.ask(
                    "POST", place, token=None, body=body | ({"origin": origin} if origin else {})
                )
                token = seen.get("access_token")
                told = f"{seen.says}{f', origin {origin}' * bool(origin)}"
                if isinstance(token, str) and token and not seen.get("error"):
                    break
                if seen.status < 300:
                    told += ", and no token" + f": {seen.get('error')}" * bool(seen.get("error"))
                if seen.status in {404, 405}:
                    break
            is_there = isinstance(token, str) and bool(token) and not seen.get("error")
            may_be_absent = place != "/identity/gettoken" and seen.status in {404, 405}
            yield compared(
                f"login at {place}", expected, told, is_as_expected=is_there or may_be_absent
            )
            if is_there:
                if not works:
                    self._talk.token = str(token)
                    self._refresh_token = seen.get("refresh_token")
                    life = seen.get("expires_in")
                    yield compared("life of a token", "3600 s", life, is_as_expected=life == 3600)
                works.append(origin)
        if not works:
            yield Fact("login", "a token", "refused everywhere: check user and password", FAILED)

    def _tokens(self) -> Iterator[Fact]:
        for what, token, expected in (
            ("a token that is none", _WRONG_TOKEN, "401, or 403"),
            ("no token", None, "401, or 403"),
        ):
            seen = self._talk.ask("GET", "termsaccepted", token=token)
            yield compared(what, expected, seen.says, is_as_expected=seen.status in {401, 403})
        seen = self._talk.ask("GET", "datasets/" + self._dataset, token=None)
        yield settled("the catalogue without a login", seen.says)
        if not isinstance(self._refresh_token, str):
            yield left_open("renewal of a token", "the login gave none to renew it with", "200")
            return
        old = self._talk.token
        form = {"grant_type": "refresh_token", "refresh_token": self._refresh_token}
        seen = self._talk.ask("POST", "/hda-broker/refreshtoken", token=None, form=form)
        token = seen.get("access_token")
        is_new = isinstance(token, str) and bool(token)
        yield compared("renewal of a token", "200", seen.says, is_as_expected=is_new)
        if is_new:
            self._talk.token = str(token)
            seen = self._talk.ask("GET", "termsaccepted", token=old)
            yield settled("a token that was renewed", seen.says, "401, 403, or good to its end")

    def _licences(self) -> Iterator[Fact]:
        page = {"startIndex": 0, "itemsPerPage": _PAGE}
        seen = self._talk.ask("GET", "terms", query=page)
        yield compared("titles of licences", "200", seen.says, is_as_expected=_is_page(seen))
        seen = self._talk.ask("GET", "termsaccepted", query=page)
        yield compared("accepted licences", "200", seen.says, is_as_expected=_is_page(seen))
        states = {f.get("term_id"): f.get("accepted") for f in _features(seen)}
        seen = self._talk.ask("GET", f"datasets/{self._dataset}")
        entry = seen.json if isinstance(seen.json, Mapping) else {}
        self._covered = Dataset.from_json({**entry, "dataset_id": self._dataset}).bbox
        told = seen.get("terms")
        terms = [str(term) for term in told] if isinstance(told, list) else []
        self._missing = [term for term in terms if states.get(term) is False]
        yield settled(
            "licences of the data set",
            f"{len(terms)}, of which not accepted: {', '.join(self._missing) or 'none'}",
            "accepted by hand",
        )

    def _describe(self) -> Iterator[Fact]:
        self._document = self._talk.json("GET", f"dataaccess/queryable/{self._dataset}")
        self.schema = Schema.from_queryable(self._dataset, self._document)
        pair = self.schema.time_keys
        told = " and ".join(pair) if pair else "none"
        yield compared(
            "keys of dates",
            "startdate and enddate, or lists",
            f"{told}; all keys: {', '.join(self.schema.keys)}"[:400],
            is_as_expected=pair in {None, ("startdate", "enddate")},
        )
        constraints = self._document.get("constraints")
        told = (
            f"required: {self._document.get('required')}; constraints: {type(constraints).__name__}"
        )
        yield settled("what the schema demands", told[:300], "not to be relied on")

    def _search(self) -> Iterator[Fact]:
        location = self._location
        if not location.query:
            location = small_query(self.schema, self._document, self._covered)
        request, body, first = self._ask_for(location)
        features = _features(first)
        if (
            first.status < 400
            and not features
            and "bbox" in location.query
            and not self._location.query
        ):
            # It may cover a box only here and there.
            query = {key: values for key, values in location.query.items() if key != "bbox"}
            location = Location(self._dataset, query=query)
            request, body, first = self._ask_for(location)
            features = _features(first)
        if first.status >= 400 and self._missing:
            is_so = first.status == 404
            yield compared("search without the licence", "404", first.says, is_as_expected=is_so)
            told = "look at them: hda-fsspec terms list; accept them: hda-fsspec terms accept "
            yield Fact("search", "200 and products", f"{told}{self._dataset}; probe again", FAILED)
            return
        if first.status >= 400 or not features:
            told = first.says if first.status >= 400 else "it finds nothing: give another --query"
            yield Fact("search", "200 and products", f"{told} ({location.path})", FAILED)
            return
        yield compared("search", "200", f"{first.says}: {location.path}", is_as_expected=True)
        chosen = min(features, key=_size_order)
        self.plan = ProbePlan(
            location,
            request,
            self._dataset,
            str(chosen.get("id")),
            str(_property(chosen, "location") or ""),
            _size(chosen),
        )
        yield from self._pages(body, first, features)
        sizes = {type(_property(f, "size")).__name__ for f in features}
        told = f"{_property(chosen, 'size')!r} ({', '.join(sorted(sizes))})"
        yield settled("size in the catalogue", told, 'bytes, "ND", an estimate or missing')
        keys = sorted({key for f in features for key in _properties(f)})
        dates = f"{_property(chosen, 'startdate')} to {_property(chosen, 'enddate')}"
        yield settled("properties of a product", f"{', '.join(keys)}; dates {dates}"[:300])

    def _ask_for(self, location: Location) -> tuple[Mapping[str, Any], dict[str, Any], Exchange]:
        """Search, and return what was asked for, all that was sent, and the answer."""
        request = self.schema.request(location.query)
        body = {"dataset_id": self._dataset, **request, "itemsPerPage": _PAGE, "startIndex": 0}
        return request, body, self._talk.ask("POST", "dataaccess/search", body=body)

    def _pages(
        self, body: dict[str, Any], first: Exchange, features: list[Mapping[str, Any]]
    ) -> Iterator[Fact]:
        again = self._talk.ask("POST", "dataaccess/search", body=body)
        for what, facts in (
            ("id", [[f.get("id") for f in page] for page in (features, _features(again))]),
            (
                "location",
                [[_property(f, "location") for f in page] for page in (features, _features(again))],
            ),
        ):
            is_equal = facts[0] == facts[1]
            told = "equal" if is_equal else "different"
            yield compared(f"{what} of two searches", "equal", told, is_as_expected=is_equal)
        total, following = (first.get("properties", k) for k in ("totalResults", "nextIndex"))
        yield compared(
            "style of paging",
            "totalResults, or nextIndex",
            f"totalResults {total}, nextIndex {following}, {len(features)} on the page",
            is_as_expected=isinstance(total, int)
            or isinstance(following, int)
            or len(features) < _PAGE,
        )
        if len(features) > 1:
            second = self._talk.ask(
                "POST", "dataaccess/search", body={**body, "itemsPerPage": 1, "startIndex": 1}
            )
            ids = [f.get("id") for f in _features(second)]
            is_so = ids == [features[1].get("id")]
            told = "products" if is_so else f"otherwise: {ids[:3]}"
            yield compared("startIndex counts", "products", told, is_as_expected=is_so)
        else:
            yield left_open("startIndex counts", "the query finds one product", "products")
        large = self._talk.ask(
            "POST", "dataaccess/search", body={**body, "itemsPerPage": _LARGE_PAGE}
        )
        count = len(_features(large))
        told = f"{large.says}: asked for {_LARGE_PAGE}, {count} came, itemsPerPage "
        told += f"{large.get('properties', 'itemsPerPage')}"
        may_be_more = following is not None or (isinstance(total, int) and total > count)
        if large.status >= 400 or count > _PAGE or may_be_more:
            yield settled("largest page", told)
        else:
            yield left_open("largest page", f"{told}; the query finds no more than {_PAGE}")

    def _others(self) -> Iterator[Fact]:
        for what, path in (("STAC", "stac/"), ("OpenAPI", "/hda-broker/openapi.json")):
            seen = self._talk.ask("GET", path)
            yield settled(f"{what} at {path}", seen.says, "200, as hda 2.40 has it")


def guarded(what: str, step: Callable[[], Iterator[Fact]]) -> Iterator[Fact]:
    """Yield the facts of a step; what ends it early is one of them."""
    try:
        yield from step()
    except OfflineError:
        raise
    except (HDAError, OSError, SpentError) as err:
        yield Fact(what, "an answer", f"{type(err).__name__}: {err}"[:400], FAILED)


def _is_page(seen: Exchange) -> bool:
    return seen.status == 200 and isinstance(seen.get("features"), list)


def _features(seen: Exchange) -> list[Mapping[str, Any]]:
    told = seen.get("features")
    return [f for f in told if isinstance(f, Mapping)] if isinstance(told, list) else []


def _properties(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    told = feature.get("properties")
    return told if isinstance(told, Mapping) else {}


def _property(feature: Mapping[str, Any], key: str) -> Any:
    return _properties(feature).get(key)


def _size(feature: Mapping[str, Any]) -> int | None:
    size = _property(feature, "size")
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def _size_order(feature: Mapping[str, Any]) -> tuple[bool, int]:
    size = _size(feature)
    return size is None, size or 0
