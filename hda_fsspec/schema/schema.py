"""The schema of a data set ("queryable"): what a query of it may hold, and the request it makes.

A schema types the values, speaks the one vocabulary for time and box, and refuses what the service
would not understand before anything is sent. It never refuses because something is missing: the
lists of required keys are wrong too often, so that is for the service to say. Names that a data
set had for its time range in an earlier year are taken for those it has now.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

from hda_fsspec.errors import BrokerError, QueryError
from hda_fsspec.printable import printable
from hda_fsspec.records import Scalar, format_time
from hda_fsspec.schema.date_lists import DayLists
from hda_fsspec.schema.parameters import Parameter, hint, nearest
from hda_fsspec.schema.time_and_box import (
    BOX,
    END,
    START,
    TIME_PAIRS,
    find_time_keys,
    read_box,
    read_instant,
    shown,
    single,
)

#: What every schema lists and no query may hold, with the reason.
_RESERVED = {
    "dataset_id": "the data set is the first part of the path",
    "itemsPerPage": "paging is done for you",
    "startIndex": "paging is done for you",
    "sortOrder": "paging is done for you, and listings have an order of their own",
}

#: Keys by which data sets filter by product name, the most specific first.
_NAME_KEYS = (
    "productIdentifier",
    "productName",
    "productId",
    "datasetIdentifier",
    "identifier",
    "title",
    "name",
    "fileName",
    "filename",
    "uid",
)

# What users of other services call a box; it is spelled too unlike to be found by likeness.
_BOX_NAMES = (BOX, "boundingbox", "bounding_box", "area", "extent")

_SCHEMA_WORDS = ("properties", "$schema", "required", "constraints", "additionalProperties")

Query = Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Schema:
    """The schema of one data set: what a query of it may hold.

    Attributes
    ----------
    dataset_id : str
        The data set.
    parameters : tuple of Parameter
        What can be asked for, in the order of the service. With none the schema is open: every
        key is passed through as it is given.
    is_open : bool
        Whether the service told no properties at all.
    required : tuple of str
        What it says that a query must hold, which is wrong too often: a hint, and no more.
    combinations : tuple of mappings
        Values by key that go together, where it tells some.
    """

    dataset_id: str
    parameters: tuple[Parameter, ...] = ()
    is_open: bool = False
    required: tuple[str, ...] = ()
    combinations: tuple[Mapping[str, tuple[Scalar, ...]], ...] = dataclasses.field(
        default=(), repr=False, compare=False
    )

    @classmethod
    def from_queryable(cls, dataset_id: str, document: Mapping[str, Any]) -> Schema:
        """Read the answer of ``dataaccess/queryable``; odd or missing parts are tolerated.

        Raises
        ------
        BrokerError
            The document is no JSON schema.
        """
        told: object = document
        if not isinstance(told, Mapping) or not _is_schema(told):
            msg = (
                f"The service was asked which parameters {printable(dataset_id)} takes and "
                f"answered no JSON schema ({str(told)[:80]!r}). Try again later; if it stays so, "
                "please report it."
            )
            raise BrokerError(msg, status=200)
        properties = told.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            return cls(dataset_id, is_open=True)
        return cls(
            dataset_id,
            tuple(
                Parameter.from_json(str(name), value)
                for name, value in properties.items()
                if name not in _RESERVED
            ),
            required=tuple(name for name in _listed(told.get("required")) if isinstance(name, str)),
            combinations=tuple(map(_combination, _listed(told.get("constraints")))),
        )

    @property
    def time_keys(self) -> tuple[str, str] | None:
        """The data set's own names of start and end; None if it has not both."""
        start, end = self._time
        return None if start is None or end is None else (start, end)

    @property
    def bbox_key(self) -> str | None:
        """The data set's own name of the box; None if it has none."""
        boxes = [parameter.name for parameter in self.parameters if parameter.is_box]
        return BOX if BOX in boxes else boxes[0] if boxes else None

    @property
    def name_keys(self) -> tuple[str, ...]:
        """The keys by which the data set can be asked for a product's name, best first."""
        return tuple(
            name
            for name in _NAME_KEYS
            if (parameter := self.named.get(name))
            and parameter.is_free_text
            and not parameter.is_time
        )

    @property
    def date_lists(self) -> tuple[str, ...]:
        """The lists of years, months and days by which it is asked for a range, if so."""
        return () if self._day_lists is None else self._day_lists.keys

    @property
    def native_names(self) -> dict[str, str]:
        """The common names that the data set has others for, with those: ``{"bbox": "box"}``."""
        common = zip((START, END, BOX), (*self._time, self.bbox_key), strict=True)
        return {name: native for name, native in common if native and native != name}

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that a query may hold, the common vocabulary first; empty if it is open."""
        start, end = self._time
        dated = self._day_lists is not None and not (start or end)
        common = ((START, start or dated), (END, end or dated), (BOX, self.bbox_key))
        return tuple(dict.fromkeys([name for name, there in common if there] + [*self.named]))

    def request(self, query: Query) -> dict[str, Any]:
        """Return the typed, flat parameters of a search, without data set and paging.

        Empty values are left out. Nothing is refused because something else is missing.

        Raises
        ------
        QueryError
            A key or value that the data set does not know, or a range that it cannot be asked for.
        """
        try:
            return self._request(query)
        except QueryError as err:
            raise self._refused(query, err) from None

    def interval(self, query: Query) -> tuple[datetime | None, datetime | None]:
        """Return start and end of the query in UTC, both inclusive; None where it is open.

        Raises
        ------
        QueryError
            A date is malformed, or the two are reversed.
        """
        try:
            return self._interval(_without_empty(query))
        except QueryError as err:
            raise self._refused(query, err) from None

    @cached_property
    def named(self) -> Mapping[str, Parameter]:
        """The parameters, by name."""
        return {parameter.name: parameter for parameter in self.parameters}

    @cached_property
    def _time(self) -> tuple[str | None, str | None]:
        names = [parameter.name for parameter in self.parameters if parameter.is_free_text]
        dated = [parameter.name for parameter in self.parameters if parameter.is_time]
        return find_time_keys(names, dated=dated)

    @cached_property
    def _earlier(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of start and end at other times or places, which mean nothing else here."""
        here = [name is not None for name in self._time]
        starts, ends = (
            tuple(dict.fromkeys(name for name in names if is_here and name not in self.named))
            for names, is_here in zip(zip(*TIME_PAIRS, strict=True), here, strict=True)
        )
        return starts, ends

    @cached_property
    def _day_lists(self) -> DayLists | None:
        return None if any(self._time) else DayLists.find(self.named)

    def _request(self, query: Query) -> dict[str, Any]:
        for key in query:
            self._check_key(key)
        query = _without_empty(query)
        interval = self._interval(query)
        start, end = self._time_names(query)
        times = dict(zip((start or START, end or END), interval, strict=True))
        box = BOX if self.is_open else self.bbox_key
        body: dict[str, Any] = {}
        if self._day_lists is not None and any(interval):
            lists = self._day_lists
            expanded = lists.expand(*lists.check_range(query, *interval))
            query = {k: v for k, v in query.items() if k not in (START, END)} | expanded
        starts, ends = self._earlier
        meant = dict.fromkeys((START, *starts), start or START)
        meant |= dict.fromkeys((END, *ends), end or END) | {BOX: box or BOX}
        for key, values in query.items():
            name = meant.get(key, key)
            if (instant := times.get(name)) is not None:
                body[name] = format_time(instant)
            elif name == box:
                body[name] = self._box(query, box)
            else:
                body[name] = self._parameter(name).convert(values, key=key)
        return body

    def _parameter(self, name: str) -> Parameter:
        return self.named.get(name) or Parameter(name)

    def _time_names(self, query: Query) -> tuple[str | None, str | None]:
        """Return the names of start and end; for an open schema the names the query uses."""
        if self._day_lists is not None:
            return START, END
        return find_time_keys(query) if self.is_open else self._time

    def _interval(self, query: Query) -> tuple[datetime | None, datetime | None]:
        start_name, end_name = self._time_names(query)
        starts, ends = self._earlier
        start_key, start = _instant(query, (START, start_name, *starts), last=False)
        end_key, end = _instant(query, (END, end_name, *ends), last=True)
        if start is not None and end is not None and start > end:
            msg = (
                f"the range ends before it starts: {start_key} is {format_time(start)}, {end_key} "
                f"is {format_time(end)}. Exchange the two."
            )
            raise QueryError(msg, key=start_key)
        return start, end

    def _box(self, query: Query, name: str) -> list[int | float]:
        boxes = {key: read_box(key, query[key]) for key in (BOX, name) if key in query}
        first, *others = boxes.values()
        if any(other != first for other in others):
            raise _both(BOX, name)
        return first

    def _check_key(self, key: str) -> None:
        if key in _RESERVED:
            msg = f"{key!r} is no part of a query: {_RESERVED[key]}. Leave it out."
            raise QueryError(msg, key=key)
        keys = self.keys
        if self.is_open or key in keys or any(key in names for names in self._earlier):
            return
        # A name of an earlier year is spelled quite unlike the common one that replaces it.
        meant = [START for start, _ in TIME_PAIRS if key == start and START in keys]
        meant += [END for _, end in TIME_PAIRS if key == end and END in keys]
        spelled = [_BOX_NAMES if name == BOX else (name,) for name in keys]
        near = tuple(dict.fromkeys([*meant, *nearest(key, spelled)]))
        msg = f"{key!r} is no key of this data set. " + (
            hint(near, keys, "Its keys are") if keys else "It takes none."
        )
        raise QueryError(msg, key=key, suggestions=near)

    def _refused(self, query: Query, err: QueryError) -> QueryError:
        key = err.key or ""
        asked = f"{key}={shown(query[key])}" if key in query else "a query"
        msg = printable(f"Did not ask {self.dataset_id} for {asked}: {err}")
        return QueryError(msg, key=err.key, suggestions=err.suggestions)


def _is_schema(document: Mapping[str, Any]) -> bool:
    # Whatever else is odd about it: what describes properties says what is to be known.
    properties = document.get("properties")
    if isinstance(properties, Mapping) and any(isinstance(p, Mapping) for p in properties.values()):
        return True
    kind = document.get("type", "object")
    is_object = "object" in kind if isinstance(kind, list) else kind == "object"
    told = not document or "type" in document or any(word in document for word in _SCHEMA_WORDS)
    return is_object and told


def _listed(told: object) -> list[Any]:
    return told if isinstance(told, list) else []


def _combination(told: object) -> dict[str, tuple[Scalar, ...]]:
    """Return the values by key of one entry of ``constraints``."""
    entries = told.items() if isinstance(told, Mapping) else ()
    return {
        str(key): scalars
        for key, values in entries
        if (scalars := tuple(v for v in _listed(values) if isinstance(v, (str, int, float))))
    }


def _without_empty(query: Query) -> dict[str, tuple[str, ...]]:
    full = {key: tuple(value for value in values if value) for key, values in query.items()}
    return {key: values for key, values in full.items() if values}


def _instant(
    query: Query, names: tuple[str, str | None, *tuple[str, ...]], *, last: bool
) -> tuple[str, datetime | None]:
    """Read one end of the range, by whichever name it is given; also return that name.

    The names are the common one, the data set's own, and earlier ones.
    """
    common, native, *_ = names
    told = {
        key: read_instant(key, single(key, query[key]), last=last)
        for key in names
        if key is not None and native is not None and key in query
    }
    if not told:
        return common, None
    (key, instant), *others = told.items()
    for name, other in others:
        if other != instant:
            raise _both(key, name)
    return key, instant


def _both(common: str, native: str) -> QueryError:
    msg = f"{common} and {native} are two names of one thing here, and differ: give one of them."
    return QueryError(msg, key=common)
