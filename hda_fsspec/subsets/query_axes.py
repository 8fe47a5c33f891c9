"""The axes along which a query can be cut, from the schema of its data set and its values.

Time is one where the query says a range or lists of years, months and days. Each list of values
that a data set takes is another. A box is none: where it is moved, the service interpolates.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from hda_fsspec.errors import QueryError
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable
from hda_fsspec.records import Scalar
from hda_fsspec.schema.date_lists import DayLists
from hda_fsspec.schema.parameters import Parameter, text_of
from hda_fsspec.schema.schema import Schema
from hda_fsspec.schema.time_and_box import BOX, END, START, TIME_PAIRS, find_time_keys
from hda_fsspec.subsets.canonical_request import (
    ECMWF,
    MARINE,
    canonical_body,
    complete,
    shortest,
    sort_values,
    texts_of,
)
from hda_fsspec.subsets.query_times import DateLists, DateRange, Numbers, Times
from hda_fsspec.subsets.split_steps import (
    DAY,
    MINUTE,
    month_starts,
    step_of_layer,
    to_milliseconds,
)

#: The key of the times of day.
TIME_OF_DAY = "time"
#: The lists that a request is asked for times by, and that nothing can cut into shorter ones.
_NO_DATES = re.compile(
    r"(?:.*_)?(?:period|year|h?month|h?day|season|dekad|decade|date|time)s?(?:_range)?"
)
#: The numbers of years, months and days that there are.
_THERE = (range(1, 10_000), range(1, 13), range(1, 32))
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3])(?::?([0-5][0-9]))?(?::00)?", re.ASCII)

#: Spacing of the grids that the service interpolates from, by words of the data set's id.
_GRIDS = (
    (re.compile(r"ERA5[_-]LAND"), 0.1),
    (re.compile(r"ERA5"), 0.25),
    (re.compile(r"EAC4|EGG4"), 0.75),
)
_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Key:
    """A key that takes a list of values: an axis, if the query is cut along it.

    Attributes
    ----------
    name : str
        The data set's name of it.
    values : tuple
        The values asked for, in order, as a request holds them.
    is_list : bool
        Whether a single value is sent as a list.
    is_said : bool
        Whether the query names them; else it means all that there are.
    """

    name: str
    values: tuple[Scalar, ...]
    is_list: bool
    is_said: bool = True

    def chunk(self, position: int, count: int) -> list[Scalar] | Scalar:
        """Return some of the values as a request holds them."""
        values = list(self.values[position * count : (position + 1) * count])
        return values if self.is_list or len(values) > 1 else values[0]


@dataclasses.dataclass(frozen=True)
class Axes:
    """The request of a query, taken apart by axes.

    Attributes
    ----------
    dataset_id : str
        The data set.
    body : tuple of (str, value)
        The canonical request without its times and lists of values; other lists are tuples.
    times : DateRange, DateLists or None
        The times; None where the request has none that could be cut.
    keys : tuple of Key
        All keys that take lists, variables first.
    common : tuple of (str, str)
        The data set's own names of a range and a box, and the common ones.
    no_times : str
        Why there are no times, as a clause.
    left_out : str or None
        The first list of time that the data set has and the query does not name, as its months.
    """

    dataset_id: str
    body: tuple[tuple[str, Any], ...]
    times: Times | None
    keys: tuple[Key, ...]
    common: tuple[tuple[str, str], ...] = ()
    no_times: str = ""
    left_out: str | None = None

    @property
    def common_names(self) -> Mapping[str, str]:
        """The common names of a range and a box by the data set's own names of them."""
        return dict(self.common)

    @property
    def box(self) -> list[float] | None:
        """The box that is asked for: west, south, east, north."""
        own = next((own for own, common in self.common if common == BOX), BOX)
        found = dict(self.body).get(own)
        return None if found is None else list(found)

    @classmethod
    def of(cls, location: Location, schema: Schema) -> Axes:
        """Take a query apart.

        Raises
        ------
        QueryError
            The schema refuses it, or it asks for a range without any data.
        """
        query = complete(schema, location.query)
        interval = schema.interval(query)
        said = _range_names(schema, query)
        rest = {key: values for key, values in query.items() if key not in said}
        named = dict(schema.named)
        if schema.is_open:
            named |= {key: Parameter(key) for key in rest if key != BOX}
        body = canonical_body(schema, schema.request(rest))
        dataset_id = location.dataset or schema.dataset_id
        keys = _range_keys(schema, query)
        lists = DayLists.find(named)
        times: Times | None = None
        reason = ""
        if keys is not None and (any(interval) or dataset_id.startswith(MARINE)):
            times, reason = _range(dataset_id, keys, named, body, interval)
        elif any(interval) and lists is not None and said:
            times = _expanded(lists, named, body, lists.check_range(body, *interval))
        elif lists is not None and lists.years.name in body:
            times = _given(lists, named, body)
        if times is None:
            # One end alone is no range that could be cut, but it is asked for all the same.
            body = canonical_body(schema, schema.request(query))
            remark = "the data set takes one end of a range" if any(interval) else ""
            reason = reason or remark or _no_times(body, schema)
        used = set() if times is None else set(times.keys)
        # Times of day are no axis beside that of time: pieces would lie between each other.
        of_day = {TIME_OF_DAY} if times is not None else set()
        keys_of = [
            _key(named.get(name) or Parameter(name, is_box=name == BOX), value)
            for name, value in body.items()
            if name not in used | of_day
        ]
        keys_there = [key for key in keys_of if key is not None]
        keys_there += _unsaid(dataset_id, named, body)
        keys_there.sort(key=lambda key: (not key.name.startswith("variable"), key.name))
        taken = used | {key.name for key in keys_there}
        others = tuple(
            (name, tuple(value) if isinstance(value, list) else value)
            for name, value in body.items()
            if name not in taken
        )
        common: tuple[tuple[str, str], ...] = ()
        if schema.bbox_key is not None:
            common = ((schema.bbox_key, BOX),)
        if isinstance(times, DateRange) and not schema.is_open:
            common += tuple(zip(times.keys, (START, END), strict=True))
        parts = (lists.months, lists.days) if isinstance(times, DateLists) and lists else ()
        of_time = [part.name for part in parts if part is not None]
        if times is not None and TIME_OF_DAY in named and len(named[TIME_OF_DAY].choices) != 1:
            of_time.append(TIME_OF_DAY)
        left_out = next((name for name in of_time if name not in used | body.keys()), None)
        return cls(dataset_id, others, times, tuple(keys_there), common, reason, left_out)


def _range_names(schema: Schema, query: Mapping[str, Any]) -> set[str]:
    """Return the keys that say a range here, whatever else a data set has of these names."""
    if schema.is_open:
        start, end = find_time_keys(query)
        return ({START, start} if start else set()) | ({END, end} if end else set())
    if schema.time_keys is not None:
        earlier = {name for pair in TIME_PAIRS for name in pair if name not in schema.named}
        return {*schema.time_keys} | earlier
    common = {START, END}
    # A data set of lists of dates takes the common names for them.
    return common if common <= set(schema.keys) and common.isdisjoint(schema.named) else set()


def _range_keys(schema: Schema, query: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the names of start and end in requests; None where there is no range."""
    if schema.is_open:
        start, end = find_time_keys(query)
        return (start or START, end or END) if start or end else None
    return schema.time_keys


def _range(
    dataset_id: str,
    keys: tuple[str, str],
    named: Mapping[str, Parameter],
    body: Mapping[str, Any],
    interval: tuple[datetime | None, datetime | None],
) -> tuple[DateRange | None, str]:
    """Return the range that a query says, ended by what the schema knows of the data set."""
    told = [named[key] for key in keys if key in named]
    earliest = next((p.earliest for p in told if p.earliest is not None), None)
    latest = next((p.latest for p in reversed(told) if p.latest is not None), None)
    start, end = interval[0] or earliest, interval[1] or latest
    if start is None or end is None:
        return None, f"the query says no {START if start is None else END}"
    first, last = to_milliseconds(start), to_milliseconds(end)
    known = [None if t is None else to_milliseconds(t) for t in (earliest, latest)]
    if (known[1] is not None and first > known[1]) or (known[0] is not None and last < known[0]):
        msg = (
            f"{printable(dataset_id)} has no data from {start:%Y-%m-%d} to {end:%Y-%m-%d}: its "
            f"schema says that it goes from {_day(earliest)} to {_day(latest)}. Ask for a range "
            "within that."
        )
        raise QueryError(msg, key=START)
    is_whole = dataset_id.startswith(ECMWF)
    if is_whole:
        # The service drops the times of day.
        first, last = first // DAY * DAY, last // DAY * DAY + DAY - 1
    hours, per_day = (
        (_hours(body)[0], len(texts_of(body.get(TIME_OF_DAY, [""])))) if is_whole else ((), 1)
    )
    step = step_of_layer(dataset_id)
    if is_whole and hours:
        apart = np.unique(np.diff([*hours, hours[0] + DAY]))
        step = (int(apart[0]) // MINUTE, "minute") if len(apart) == 1 else None
    is_open = (interval[0] is None, interval[1] is None)
    made = DateRange(
        keys,
        first,
        last,
        hours,
        per_day,
        is_whole,
        step,
        earliest=known[0],
        latest=known[1],
        is_open=is_open,
    )
    return made, ""


def _day(time: datetime | None) -> str:
    return "its beginning" if time is None else f"{time:%Y-%m-%d}"


def _hours(body: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the times of day of a request in order, and their texts; none known, no numbers."""
    if TIME_OF_DAY not in body:
        return (), ()
    texts = texts_of(body[TIME_OF_DAY])
    matches = [_CLOCK.fullmatch(text) for text in texts]
    found = [60 * MINUTE * int(m[1]) + MINUTE * int(m[2] or 0) for m in matches if m is not None]
    if len(found) < len(texts) or len(set(found)) < len(found):
        return (), texts
    pairs = sorted(zip(found, texts, strict=True))
    return tuple(hour for hour, _ in pairs), tuple(text for _, text in pairs)


def _expanded(
    lists: DayLists,
    named: Mapping[str, Parameter],
    body: Mapping[str, Any],
    interval: tuple[datetime, datetime],
) -> DateLists:
    """Return the lists that stand for a range of days, months or years."""
    start, end = interval
    lists.check_whole(start, end)
    first, last = to_milliseconds(start), to_milliseconds(end)
    years = range(start.year, end.year + 1)
    found = _made(
        lists,
        named,
        (years, range(1, 13), range(1, 32)),
        (first, max(last, last // DAY * DAY + DAY - 1)),
        body,
    )
    if not found.years.asked or not found.units.size:
        msg = f"the data set offers nothing from {start:%Y-%m-%d} to {end:%Y-%m-%d}. "
        names = ", ".join(f"{key}=" for key in lists.keys)
        raise QueryError(f"{msg}It is asked for by {names}.", key=START)
    return found


def _given(
    lists: DayLists, named: Mapping[str, Parameter], body: Mapping[str, Any]
) -> DateLists | None:
    """Return the lists that a query gives by itself; None where their values are no numbers."""
    wanted: list[list[int]] = []
    for numbers in (lists.years, lists.months, lists.days):
        if numbers is None or numbers.name not in body:
            break
        known = {text: number for number, text in numbers.offered}
        texts = texts_of(body[numbers.name])
        found = [known.get(t, int(t) if t.isascii() and t.isdigit() else None) for t in texts]
        if None in found:
            return None
        numbers_asked = [number for number in found if number is not None]
        if not set(numbers_asked) <= set(_THERE[len(wanted)]):
            return None
        wanted.append(numbers_asked)
    years = wanted[0]
    used = DayLists(
        lists.years,
        lists.months if len(wanted) > 1 else None,
        lists.days if len(wanted) > 2 else None,
    )
    edges = month_starts(np.array([min(years) - 1970, max(years) - 1969], np.int64) * 12)
    found_lists = _made(used, named, wanted, (int(edges[0]), int(edges[1]) - 1), body)
    if not found_lists.units.size:
        asked = " ".join(f"{n.name}={','.join(t for _, t in n.asked)}" for n in found_lists.lists)
        msg = f"there is no such day: {asked}. Ask for days that the calendar has."
        raise QueryError(msg, key=used.keys[-1])
    return found_lists


def _made(
    lists: DayLists,
    named: Mapping[str, Parameter],
    wanted: Sequence[Iterable[int]],
    edges: tuple[int, int],
    body: Mapping[str, Any],
) -> DateLists:
    """Write numbers as a data set does, leaving out what it does not offer."""
    made: list[Numbers | None] = []
    for number, part in enumerate((lists.years, lists.months, lists.days)):
        if part is None:
            made.append(None)
            continue
        digits, there = 2 if number else 4, _THERE[number]
        texts = dict(part.offered)
        given = _texts_given(body.get(part.name))
        asked = tuple(
            (n, texts.get(n) or given.get(n) or f"{n:0{digits}d}")
            for n in sorted(set(wanted[number]))
            if part.offers(n)
        )
        everything = tuple((n, text) for n, text in sorted(part.offered) if n in there)
        if not part.offered and number:
            everything = tuple((n, f"{n:0{digits}d}") for n in there)
        is_list = named[part.name].is_list is True
        made.append(Numbers(part.name, asked, everything, part.takes_several, is_list))
    hours, texts_of_hours = _hours(body)
    years, months, days = made
    if years is None:
        raise AssertionError
    key = TIME_OF_DAY if TIME_OF_DAY in body else None
    return DateLists(
        years,
        months,
        days,
        *edges,
        hours,
        texts_of_hours,
        key,
        isinstance(body.get(TIME_OF_DAY), list),
    )


def _texts_given(value: Any) -> dict[int, str]:
    texts = () if value is None else texts_of(value)
    return {int(text): text for text in texts if text.isascii() and text.isdigit()}


def _no_times(body: Mapping[str, Any], schema: Schema) -> str:
    dated = [key for key in body if _NO_DATES.fullmatch(key)]
    if dated:
        said = ", ".join(f"{key}={','.join(texts_of(body[key]))}"[:60] for key in dated)
        return f"it is asked for by {said}, which names no days that could be told apart"
    if schema.time_keys:
        return f"the query says no {START} and no {END}"
    return "the query says no times"


def _key(parameter: Parameter, value: Any) -> Key | None:
    """Return a key that takes a list of values; None for any other."""
    several = isinstance(value, list)
    is_ordered = not parameter.choices and several and any(not isinstance(v, str) for v in value)
    if parameter.is_box or not several or is_ordered:
        return None
    return Key(parameter.name, tuple(value), parameter.is_list is True)


def _unsaid(dataset_id: str, named: Mapping[str, Parameter], body: Mapping[str, Any]) -> list[Key]:
    """Return the variables of a marine data set that the query does not name: it means all."""
    variables = named.get("variables")
    if not dataset_id.startswith(MARINE) or variables is None or "variables" in body:
        return []
    values = sort_values([shortest(choice.value) for choice in variables.choices])
    return (
        [Key("variables", tuple(values), variables.is_list is not False, is_said=False)]
        if values
        else []
    )


def box_warning(dataset_id: str, box: list[float] | None) -> str | None:
    """Return what to say of a box that the service interpolates to; None for any other.

    Its grid begins at the south-west corner that is asked for.
    """
    spacing = next((size for word, size in _GRIDS if word.search(dataset_id)), None)
    if box is None or spacing is None or not dataset_id.startswith(ECMWF):
        return None
    corner = [float(value) / spacing for value in box[:2]]
    if all(abs(value - round(value)) < _TOLERANCE for value in corner):
        return None
    west, south = (
        text_of(shortest(round(math.floor(v + _TOLERANCE) * spacing, 6))) for v in corner
    )
    outer = [math.ceil(float(v) / spacing - _TOLERANCE) * spacing for v in box[2:]]
    east, north = (text_of(shortest(round(v, 6))) for v in outer)
    asked = ",".join(text_of(shortest(value)) for value in box)
    return (
        f"The south-west corner of {BOX}={asked} is not on the grid of {printable(dataset_id)}, "
        f"which has a point each {text_of(spacing)} degrees: the service interpolates to a grid "
        f"that begins there. For values as they are, ask for {BOX}={west},{south},{east},{north}."
    )
