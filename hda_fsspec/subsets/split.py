"""The option ``split``: how a query of a subset data set is cut into pieces.

None makes one job, ``"auto"`` as few pieces as the service makes well, a step cuts time, and a
mapping cuts time and keys that take lists: ``{"time": "month", "variable": 1}``.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex

from hda_fsspec.errors import QueryError
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable
from hda_fsspec.schema.parameters import nearest
from hda_fsspec.schema.schema import Schema
from hda_fsspec.schema.time_and_box import END, START
from hda_fsspec.subsets.calendar_steps import DAY, UNIT_LENGTHS, Step, parse_step
from hda_fsspec.subsets.piece_grid import TIME, PieceGrid
from hda_fsspec.subsets.query_axes import TIME_OF_DAY, Axes, Key
from hda_fsspec.subsets.query_times import DateLists, DateRange
from hda_fsspec.subsets.sizes import Limit, choose

AUTO = "auto"

_BOXES = frozenset(
    {"bbox", "boundingbox", "bounding_box", "area", "extent", "latitude", "longitude"}
    | {"lat", "lon", "x", "y"}
)
_TIMES = frozenset({TIME, "valid_time", "forecast_reference_time", "date", "startdate", "enddate"})
#: Keys of lists of dates, by what one value of them lasts.
_UNITS = {
    **dict.fromkeys(("year", "hyear"), 12),
    **dict.fromkeys(("month", "hmonth"), 1),
    **dict.fromkeys(("day", "hday", "nominal_day"), 0),
}
#: What other dimensions of files are called, and the keys that ask for them.
_LEVELS = {"level": ("pressure_level", "model_level"), "variables": ("variable",)}
_LEVELS["variable"] = ("variables",)
_EXAMPLE = '{"time": "month", "variable": 1}'


def split_query(
    location: Location,
    schema: Schema,
    split: object = AUTO,
    *,
    size: int | None = None,
    limits: Sequence[Limit] = (),
) -> PieceGrid:
    """Cut a query of a subset data set into pieces.

    Parameters
    ----------
    location : Location
        Data set and query; a product or pattern is left out of account.
    schema : Schema
        What the data set takes.
    split : optional
        None (one job), ``"auto"``, a calendar step (``"day"``, ``"week"``, ``"month"``,
        ``"year"``), an offset of pandas or its text, or a mapping of dimensions or keys to a step
        or to how many values a piece asks for.
    size : int, optional
        The catalogue's size of the whole in bytes.
    limits : sequence of Limit
        What pieces may not exceed with ``"auto"``, beside what the service makes well.

    Raises
    ------
    QueryError
        The schema refuses the query, or it cannot be cut so; the message says what can be done.
    """
    wanted = Axes.of(location, schema)
    whole = PieceGrid(wanted, size=size)
    if is_auto(split):
        return _some(choose(whole, *limits))
    if isinstance(split, Mapping):
        return _some(_by_mapping(whole, split))
    if split is None:
        return _one(whole)
    if not isinstance(split, str) and _is_number(split):
        msg = f"split={split!r} does not say of what. Write a step of time, as in "
        raise QueryError(f'{msg}split="month", or split={_EXAMPLE}.', key="split")
    return _some(whole.cut(_step(whole, split), {}))


def is_auto(split: object) -> bool:
    """Whether a value of ``split`` leaves it to the package how a query is cut."""
    return isinstance(split, str) and split.strip().lower() == AUTO


def is_default(split: object) -> bool:
    """Whether a value of ``split`` asks for no cuts, so that it suits products, too."""
    return split is None or is_auto(split)


def refuse_split(dataset_id: str, split: object) -> QueryError:
    """Return the error of a split of a data set that has products, which are pieces already."""
    msg = (
        f"split={printable(split)!r} cuts queries that the service turns into one product. "
        f"{printable(dataset_id)} has products of its own, and each of them is read alone already: "
        "leave split out."
    )
    return QueryError(msg, key="split")


def _some(grid: PieceGrid) -> PieceGrid:
    if not len(grid):
        msg = f"{printable(grid.dataset_id)} has no data in the range that is asked for. Widen it."
        raise QueryError(msg, key="startdate")
    return grid


def _one(whole: PieceGrid) -> PieceGrid:
    count = len(_some(whole))
    if count == 1:
        return whole
    times = whole.wanted.times
    first, second = whole.bounds(0), whole.bounds(1)
    if not isinstance(times, DateLists) or first is None or second is None:
        raise AssertionError
    singles = [numbers.name for numbers in times.lists if not numbers.takes_several]
    reason = (
        f"a request takes one {singles[0]}"
        if singles
        else f"it delivers every combination of {', '.join(f'{key}=' for key in times.keys)}"
    )
    msg = (
        f"{printable(whole.dataset_id)} cannot be asked for all of this at once: {reason}. It "
        f"takes {count} requests, the first from {first[0]:%Y-%m-%d} to {first[1]:%Y-%m-%d}. Leave "
        'split out, or write split="month".'
    )
    raise QueryError(msg, key="split")


def _by_mapping(whole: PieceGrid, split: Mapping[Any, Any]) -> PieceGrid:
    step: Step | None = None
    units: dict[int, int] = {}
    counts: dict[str, int] = {}
    wanted = whole.wanted
    for name, value in split.items():
        key = _find_key(wanted, name) if isinstance(name, str) else None
        if key is not None:
            if key.name in counts:
                msg = f"split names {key.name} twice. Write it once."
                raise QueryError(msg, key="split")
            counts[key.name] = min(_count(name, value), len(key.values))
        elif isinstance(name, str) and name.lower() in _TIMES:
            step = _count_step(whole, value) if _is_number(value) else _step(whole, value)
        elif name in _UNITS and wanted.times is not None:
            units[_UNITS[name]] = _count(name, value)
        else:
            raise _unknown(whole, name)
    if units and step is not None:
        msg = f"split says of time twice. Write it once, as in split={_EXAMPLE}."
        raise QueryError(msg, key="split")
    if units:
        months, count = min(units.items())
        finest = Step.of_months(months * count) if months else Step.of_length(count * DAY)
        step = _checked(whole, finest)
    return whole.cut(step, counts)


def _find_key(wanted: Axes, name: str) -> Key | None:
    names = (name, *_LEVELS.get(name, ()))
    return next((key for other in names for key in wanted.keys if key.name == other), None)


def _count(name: object, value: object) -> int:
    if not isinstance(value, SupportsIndex) or isinstance(value, bool):
        msg = (
            f"split says {printable(value)!r} of {printable(name)}, which is cut by how many "
            f"values each piece asks for. Write a number, as in split={_EXAMPLE}."
        )
        raise QueryError(msg, key="split")
    count = operator.index(value)
    if count < 1:
        msg = f"split says {count} of {printable(name)}: a piece asks for 1 value at least."
        raise QueryError(msg, key="split")
    return count


def _is_number(value: object) -> bool:
    return isinstance(value, SupportsIndex) and not isinstance(value, bool)


def _step(whole: PieceGrid, value: object) -> Step | None:
    if value is None:
        return None
    try:
        step = parse_step(value)
    except QueryError:
        if not isinstance(value, str):
            raise
        if value.lower() in _BOXES:
            raise _by_box(value) from None
        if (key := _find_key(whole.wanted, value)) is None:
            raise
        msg = f"split={value!r} is a key, and does not say how many values a piece asks for. "
        raise QueryError(f'{msg}Write split={{"{key.name}": 1}}.', key="split") from None
    return _checked(whole, step)


def _checked(whole: PieceGrid, step: Step) -> Step:
    """Return a step that a query can be cut by."""
    times = whole.wanted.times
    name = printable(whole.dataset_id)
    if times is None:
        keys = [key.name for key in whole.wanted.keys if len(key.values) > 1]
        otherwise = (
            f'Cut it by a key, as in split={{"{keys[0]}": 1}}' if keys else "Leave split out"
        )
        msg = f"{name} cannot be cut in time: {whole.wanted.no_times}. {otherwise}."
        raise QueryError(msg, key="split")
    data = times.step
    parts = isinstance(times, DateLists) and times.days is not None and bool(times.hours)
    if times.is_whole_days and not step.is_whole_days and not parts:
        msg = (
            f"split={step.text!r} cuts days, and {name} is asked for whole days at least. Use "
            'split="day" or a longer step.'
        )
        raise QueryError(msg, key="split")
    if data is not None and step.is_finer_than(data):
        count, unit = data
        left_out = whole.wanted.left_out
        if left_out not in {None, TIME_OF_DAY} and unit in {"year", "month"}:
            msg = (
                f"split={step.text!r} cuts {unit}s, and {name} is asked for whole {unit}s: the "
                f"query names no {left_out}. Name each {left_out} that is wanted, as in "
                f"{left_out}=1,2,3, or ask by {START} and {END}."
            )
            raise QueryError(msg, key=left_out)
        if unit == "minute" and count % 60 == 0:
            count, unit = count // 60, "hour"
        every = f"{count} {unit}s" if count > 1 else unit
        msg = (
            f"split={step.text!r} is finer than the times of {name}, which has one every {every}: "
            f'pieces would be empty. Use a longer step, or split="auto".'
        )
        raise QueryError(msg, key="split")
    return step


def _count_step(whole: PieceGrid, value: object) -> Step:
    """Return the step that holds so many times."""
    count = _count(TIME, value)
    times = whole.wanted.times
    data = None if times is None else times.step
    if times is None:
        return _checked(whole, Step.of_length(DAY))
    if data is None:
        msg = (
            f"How many times lie in a step is not known of {printable(whole.dataset_id)} before "
            f"one is read, so time cannot be cut by a number. Write a step, as in split={_EXAMPLE}."
        )
        raise QueryError(msg, key="split")
    number, unit = data
    if unit in {"month", "year"}:
        months = number * (12 if unit == "year" else 1)
        per_unit = times.per_day
        if count % per_unit == 0:
            return _checked(whole, Step.of_months(months * count // per_unit))
    else:
        length = count * number * UNIT_LENGTHS[unit]
        if (
            not times.is_whole_days
            or length % DAY == 0
            or (isinstance(times, DateLists) and DAY % length == 0)
        ):
            return _checked(whole, Step.of_length(length))
    msg = (
        f"{count} times of {printable(whole.dataset_id)} are no whole number of days or months, "
        f"which it is asked for. Write a step, as in split={_EXAMPLE}."
    )
    raise QueryError(msg, key="split")


def _by_box(name: object) -> QueryError:
    msg = (
        f"A query cannot be cut by {printable(name)}: the service interpolates to a grid that "
        "begins at the corner of a box, so that pieces would not fit together. Cut it in time, by "
        f"variable or by level, as in split={_EXAMPLE}, and ask for the box you need."
    )
    return QueryError(msg, key="split")


def _unknown(whole: PieceGrid, name: object) -> QueryError:
    wanted = whole.wanted
    if isinstance(name, str) and name.lower() in _BOXES:
        return _by_box(name)
    there = [key.name for key in wanted.keys]
    names = [*([TIME] if wanted.times is not None else []), *there]
    single = dict(wanted.body)
    can = f"It can be cut by {', '.join(names)}." if names else "It cannot be cut."
    if name in single or name in {"minimum_depth", "maximum_depth", "depth", "elevation"}:
        msg = f"split names {printable(name)}, which takes no list of values in this query. {can}"
        return QueryError(msg, key="split", suggestions=tuple(names))
    if isinstance(wanted.times, DateRange) and name in _UNITS:
        can = 'Time is cut by a step, as in split={"time": "month"}.'
    near = nearest(str(name), ((n,) for n in names))
    meant = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    msg = f"split names {printable(name)!r}, which the query does not ask for. {meant}{can}"
    return QueryError(msg, key="split", suggestions=near or tuple(names))
