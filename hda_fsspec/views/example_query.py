"""A small query that a data set answers, to start from: made of what its schema tells.

It guesses what people would try first, and keeps of that what the schema accepts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from hda_fsspec.errors import QueryError
from hda_fsspec.records import Dataset, parse_time
from hda_fsspec.schema.parameters import Parameter, text_of
from hda_fsspec.schema.schema import Schema
from hda_fsspec.schema.time_and_box import BOX, END, START

#: Data sets of these make no product unless they are told what shall be in it.
_MADE_TO_ORDER = "EO:ECMWF:"
#: Of these a query holds one, and which one depends on the rest.
_LEVELS = frozenset({"pressure_level", "model_level"})
#: What needs no library of its own to be read, whatever the service proposes.
_PREFERRED = ("netcdf", "netcdf4", "unarchived")
#: Where no end is told: products of these days are there by now.
_LAG = timedelta(days=100)
_MOST_DEGREES = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class StartingPoint:
    """A query to start from.

    Attributes
    ----------
    query : dict
        Texts by key, in the order of the schema.
    needs : tuple of str
        What the schema says that a query must hold, and for which there was no value to propose.
    """

    query: Mapping[str, tuple[str, ...]]
    needs: tuple[str, ...] = ()


def find_starting_point(
    schema: Schema, dataset: Dataset | None = None, *, now: datetime
) -> StartingPoint:
    """Return a small query that the schema accepts.

    Parameters
    ----------
    schema : Schema
        Of the data set.
    dataset : Dataset, optional
        Its entry, which may tell where it begins and ends.
    now : datetime
        Aware; a query for times to come would find nothing.
    """
    if schema.is_open:
        return StartingPoint({})
    query = _values(schema)
    if BOX in schema.keys and {BOX, schema.bbox_key} & {*schema.required}:
        query[BOX] = _box(dataset)
    kept: dict[str, tuple[str, ...]] = {}
    for dates in _dates(schema, dataset, now):
        kept = _accepted(schema, {**query, **dates})
        if dates.keys() <= kept.keys():
            break
    natives = {native: name for name, native in schema.native_names.items()}
    dated = schema.date_lists if START in kept else ()
    needs = [
        name
        for name in schema.required
        if any(name == parameter.name for parameter in schema.parameters)
        and not {name, natives.get(name)} & kept.keys()
        and name not in dated
        and name not in _LEVELS
    ]
    return StartingPoint(kept, tuple(needs))


def _accepted(schema: Schema, query: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return what the schema accepts of a query."""
    left = dict(query)
    while left:
        try:
            schema.request(left)
        except QueryError as err:
            refused = {START, END} if err.key in {START, END} else {err.key}
            if not refused & left.keys():
                return {}
            left = {key: values for key, values in left.items() if key not in refused}
        else:
            break
    return left


def _values(schema: Schema) -> dict[str, tuple[str, ...]]:
    """Return proposed values of all keys but those of time and box."""
    together = next(iter(schema.combinations), {})
    natives = {*schema.native_names.values(), START, END, *schema.date_lists}
    is_made_to_order = schema.dataset_id.startswith(_MADE_TO_ORDER)
    found: dict[str, tuple[str, ...]] = {}
    for parameter in schema.parameters:
        name = parameter.name
        if parameter.is_box or parameter.is_time or name in natives:
            continue
        if together and is_made_to_order and name not in together and parameter.choices:
            continue  # of another combination
        is_wanted = is_made_to_order or name in schema.required
        values = together.get(name, ()) if is_wanted else ()
        texts = [text_of(value) for value in values] or [c.text for c in parameter.choices]
        preferred = [text for text in _PREFERRED if text in texts]
        if is_made_to_order and preferred:
            found[name] = (preferred[0],)
        elif parameter.default and (not values or set(parameter.default) <= set(values)):
            found[name] = tuple(map(text_of, parameter.default))
        elif is_wanted and texts and not (name in _LEVELS and not together):
            found[name] = (texts[0],)
    return found


def _dates(
    schema: Schema, dataset: Dataset | None, now: datetime
) -> Iterator[dict[str, tuple[str, ...]]]:
    """Yield ranges of dates to propose, the best first; the last one is none at all."""
    if START in schema.keys and END in schema.keys:
        first, last = _period(schema, dataset)
        # A day that has begun may be the end of what is there, of data that come every day.
        is_told = last is not None and last.date() <= now.date()
        end = min(last, now) if last is not None and is_told else now - _LAG
        end = end if first is None else max(end, first)
        depth = len(schema.date_lists)
        if depth:
            form = ("%Y", "%Y-%m", "%Y-%m-%d")[depth - 1]
            moments = [end, *_offered(schema, end)]
            for moment in moments:
                yield dict.fromkeys((START, END), (f"{moment:{form}}",))
        else:
            # Two days: where the last product ends with a day, nothing begins on the next one.
            begin = end - timedelta(days=1)
            begin = begin if first is None else max(begin, first)
            yield {START: (f"{begin:%Y-%m-%d}",), END: (f"{end:%Y-%m-%d}",)}
    yield {}


def _period(schema: Schema, dataset: Dataset | None) -> tuple[datetime | None, datetime | None]:
    """Return where a data set begins and ends, as far as its entry or its schema tell."""
    firsts = [p.earliest for p in schema.parameters if p.is_time and p.earliest is not None]
    lasts = [p.latest for p in schema.parameters if p.is_time and p.latest is not None]
    if dataset is not None:
        firsts += [] if dataset.startdate is None else [parse_time(dataset.startdate)]
        lasts += [] if dataset.enddate is None else [parse_time(dataset.enddate)]
    return max(firsts, default=None), min(lasts, default=None)


def _offered(schema: Schema, end: datetime) -> Iterator[datetime]:
    """Yield the last day that lists of years, months and days offer, up to some time."""
    years, *others = (_numbers(schema.named[name]) for name in schema.date_lists)
    if not years:
        return
    year = max((year for year in years if year <= end.year), default=min(years))
    month, day, *_ = [*(min(numbers, default=1) for numbers in others), 1, 1]
    try:
        yield datetime(year, month, day, tzinfo=UTC)
    except ValueError:  # no lists of days after all
        return


def _numbers(parameter: Parameter) -> list[int]:
    return [int(choice.text) for choice in parameter.choices if choice.text.isdecimal()]


def _box(dataset: Dataset | None) -> tuple[str, ...]:
    """Return a box in the middle of what a data set covers."""
    if dataset is None or dataset.bbox is None:
        return ("0", "40", "10", "50")
    west, south, east, north = map(float, dataset.bbox.split(","))
    if west > east or not -90 <= south <= north <= 90:
        return ("0", "40", "10", "50")
    x, y = (west + east) / 2, (south + north) / 2
    half_x, half_y = min(_MOST_DEGREES, east - west) / 2, min(_MOST_DEGREES, north - south) / 2
    return tuple(f"{v:g}" for v in (x - half_x, y - half_y, x + half_x, y + half_y))
