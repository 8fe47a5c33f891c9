"""Sizes of pieces, the split that suits the service, and what a split costs.

ECMWF's data stores count fields: variables times levels times times, whatever the box. Of marine
data sets the catalogue tells the size of the whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Iterator

import numpy as np

from hda_fsspec.errors import QueryError
from hda_fsspec.printable import printable
from hda_fsspec.service_limits import ORDERS_AN_HOUR
from hda_fsspec.subsets.calendar_steps import DAY, HOUR, WEEK, Step
from hda_fsspec.subsets.canonical_request import ECMWF, MARINE
from hda_fsspec.subsets.piece_grid import PieceGrid, Split
from hda_fsspec.subsets.query_times import DateLists
from hda_fsspec.subsets.refusals import limit_in

#: What one piece should not exceed.
MAX_FIELDS = 5_000
MAX_BYTES = 100_000_000
#: Half a year is a little longer than half of a year.
_HALF = 0.51

_LEVELS = ("pressure_level", "model_level")


@dataclasses.dataclass(frozen=True)
class Limit:
    """A limit of the size of a piece.

    Attributes
    ----------
    unit : str
        That of :func:`loads`: "fields", "bytes" or "milliseconds".
    most : float
        How many of them.
    """

    unit: str
    most: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The cost of a split.

    Attributes
    ----------
    split : None, str or dict
        The value of the option ``split``.
    pieces : int
        How many orders it takes to have all.
    fields : int or None
        Fields in all, as ECMWF's data stores count them; None where nothing tells.
    largest : int or None
        Fields of the largest piece.
    size : int or None
        Bytes in all, as the catalogue tells them.
    hours : float
        How long orders for all pieces take at 100 an hour.
    """

    split: Split
    pieces: int
    fields: int | None
    largest: int | None
    size: int | None
    hours: float


def estimate(grid: PieceGrid) -> Estimate:
    """Return what the pieces of a grid cost."""
    # Of a list that is left out the service takes all values, or what it holds to be usual.
    is_counted = unit_of(grid) == "fields" and not grid.wanted.left_out
    fields = loads(grid) if is_counted else None
    return Estimate(
        grid.split,
        len(grid),
        None if fields is None else int(fields.sum()),
        None if fields is None else int(fields.max(initial=0)),
        grid.size,
        len(grid) / ORDERS_AN_HOUR,
    )


def compare(grid: PieceGrid) -> tuple[Estimate, ...]:
    """Return what other splits of the same query would cost, the coarsest first."""
    whole = grid.cut(None, {})
    ways: list[tuple[Step | None, dict[str, int]]] = [(None, {})]
    if grid.wanted.times is not None:
        ways += [(step, {}) for step in _plain_steps(grid)]
    if _has_variables(grid):
        ways += [(step, {"variable": 1}) for step, _ in ways]
    others: list[PieceGrid] = []
    # What nobody could order is no other way.
    with contextlib.suppress(QueryError):
        others.append(choose(whole))
    for step, counts in ways:
        with contextlib.suppress(QueryError):
            others.append(whole.cut(step, counts))
    told = {
        repr(other.split): estimate(other)
        for other in sorted(others, key=len)
        if other.split != grid.split and len(other)
    }
    return tuple(told.values())


def choose(grid: PieceGrid, *limits: Limit) -> PieceGrid:
    """Return as few pieces as keep each of them of a size that the service makes well.

    That is about 5,000 fields (EO:ECMWF), where a month is the natural unit, and a year for
    monthly means; or 100 MB (EO:MO) where the catalogue tells the size of the whole. One job if
    that is small.

    Parameters
    ----------
    grid : PieceGrid
        Any grid of the query.
    *limits : Limit
        What else pieces may not exceed; those of another unit say nothing of them.
    """
    unit = unit_of(grid)
    known = [limit.most for limit in limits if limit.unit == unit]
    return _fewest(grid, min([_limit(grid), *known]))


def _fewest(grid: PieceGrid, most: float) -> PieceGrid:
    finest = whole = grid.cut(None, {})
    for finer in _ladder(whole, most):
        finest = finer
        if load(finer) <= most:
            break
    return _named(finest)


def _named(grid: PieceGrid) -> PieceGrid:
    """Return the same pieces by the step that makes them, where one does."""
    if grid.step is None and grid.wanted.times is not None and len(grid) > 1:
        for step in (Step.of_months(12), Step.of_months(1)):
            other = grid.cut(step, dict(grid.counts))
            if len(other) == len(grid):
                return other
    return grid


def refine(grid: PieceGrid, refused: int, text: str = "") -> PieceGrid:
    """Return a finer grid of the same query, after the service refused a piece as too large.

    Parameters
    ----------
    grid : PieceGrid
        The grid.
    refused : int
        The piece that was refused.
    text : str
        What the service said: a limit in it is believed.

    Raises
    ------
    QueryError
        The pieces cannot be cut into smaller ones, or the query asks for nothing.
    """
    if not len(grid):
        msg = (
            f"The query of {printable(grid.dataset_id)} asks for nothing: one of its lists is "
            "empty. Give each key at least one value, or leave it out."
        )
        raise QueryError(msg, key="split")
    most, half = _most_of(grid, refused, text)
    found = _fewest(grid, most)
    if load(found) > half or len(found) <= len(grid):
        msg = (
            f"The service refused a piece of {printable(grid.dataset_id)} as too large, and it "
            "cannot be cut further. Ask for fewer variables, levels or times, or a smaller box."
        )
        raise QueryError(msg, key="split")
    return found


def _most_of(grid: PieceGrid, refused: int, text: str) -> tuple[float, float]:
    """Return how large pieces may be after one was refused, and how large they may be at most."""
    half = float(loads(grid)[refused]) * _HALF
    told = limit_in(text) if unit_of(grid) == "fields" else None
    return (half if told is None else min(told, half)), half


def split_that_fits(grid: PieceGrid, refused: int, text: str = "") -> Split:
    """Return the value of ``split`` to advise after a piece was refused as too large.

    It fits longer queries, too: what was refused may be a piece of one, and shorter than a step.

    Raises QueryError as :func:`refine` does.
    """
    found = refine(grid, refused, text)
    most, _ = _most_of(grid, refused, text)
    fitting = (
        finer for finer in _ladder(grid.cut(None, {}), most) if _load_of_steps(finer) <= most
    )
    return _named(next(fitting, found)).split


def _load_of_steps(grid: PieceGrid) -> float:
    """Return the size of the largest piece, were none shorter than the step that time is cut by."""
    most = load(grid)
    if grid.step is None or grid.wanted.times is None:
        return most
    starts, ends = grid.pieces
    length = 31 * DAY * grid.step.months or grid.step.length
    is_shorter = ends[-1] - starts[0] < length
    return most * length / (int((ends - starts).max()) + 1) if is_shorter else most


def unit_of(grid: PieceGrid) -> str:
    """Return what :func:`loads` counts: fields, else bytes, else milliseconds."""
    if _fields(grid) is not None:
        return "fields"
    return "milliseconds" if grid.size is None else "bytes"


def loads(grid: PieceGrid) -> np.ndarray:
    """Return the size of each piece, as a part of the whole where nothing counts fields."""
    fields = _fields(grid)
    found = np.ones(1, np.float64)
    for axis in grid.axes:
        values = grid.index(axis.name)
        if isinstance(values, tuple):
            along = np.array([len(part) for part in values])
        elif fields is not None:
            along = fields[0]
        else:
            starts, ends = grid.pieces
            along = ends - starts + 1
        found = np.multiply.outer(found, along).ravel()
    if fields is not None:
        whole: float = int(fields[0].sum()) * fields[1]
    elif grid.size is not None:
        whole = grid.size
    else:
        whole = 1 if grid.wanted.times is None else int((grid.pieces[1] - grid.pieces[0] + 1).sum())
    return found * (whole / (found.sum() or 1))


def load(grid: PieceGrid) -> float:
    """Return the size of the largest piece."""
    return float(loads(grid).max(initial=0))


def _limit(grid: PieceGrid) -> float:
    if _fields(grid) is not None:
        return MAX_FIELDS
    if grid.size is not None:
        return MAX_BYTES
    # Nothing is known of sizes: a month of hours, a year of days, or all of longer steps.
    count, unit = grid.data_step or (1, "month")
    if not grid.dataset_id.startswith(MARINE) or unit in {"month", "year"}:
        return math.inf
    return 31 * DAY if unit in {"second", "minute", "hour"} else 366 * DAY * count


def _fields(grid: PieceGrid) -> tuple[np.ndarray, int] | None:
    """Return the times of each piece along time, and the fields of one time; None if not known."""
    if not grid.dataset_id.startswith(ECMWF):
        return None
    per_time = math.prod(len(key.values) for key in grid.wanted.keys) * _others(grid)
    if grid.wanted.times is None:
        return np.ones(1, np.int64), per_time
    counts = grid.wanted.times.counts(grid.pieces)
    return None if counts is None else (counts, per_time)


def _others(grid: PieceGrid) -> int:
    """Return how many fields are read for one: daily statistics are made of hours."""
    body = dict(grid.wanted.body)
    if "daily_statistic" not in body:
        return 1
    match = re.match(r"([0-9]+)", str(body.get("frequency", "1")))
    return max(1, 24 // max(1, int(match[1]))) if match else 24


def _has_variables(grid: PieceGrid) -> bool:
    return any(key.name == "variable" and len(key.values) > 1 for key in grid.wanted.keys)


def _plain_steps(grid: PieceGrid) -> Iterator[Step]:
    steps = (Step.of_months(12), Step.of_months(1), Step.of_length(DAY))
    data = grid.data_step
    for step in steps:
        if data is None or not step.is_finer_than(data):
            yield step


def _ladder(whole: PieceGrid, most: float) -> Iterator[PieceGrid]:
    """Yield grids of a query, the coarsest first."""
    yield whole
    if not whole.dataset_id.startswith(ECMWF):
        yield from _marine_ladder(whole, most)
        return
    times = whole.wanted.times
    step: Step | None = None
    finer: list[Step] = []
    if times is not None:
        units = [Step.of_months(12), Step.of_months(1)]
        is_long = isinstance(times, DateLists) and times.days is None
        steps = [step for step in units[:1] if is_long] or units
        finer = units[1:] if is_long else [Step.of_length(WEEK, text="week"), Step.of_length(DAY)]
        finer = [step for step in finer if times.step is None or not step.is_finer_than(times.step)]
        for step in steps:
            yield whole.cut(step, {})
    counts: dict[str, int] = {}
    yield from _by_keys(whole, step, counts, most)
    for candidate in finer:
        yield whole.cut(candidate, counts)


def _marine_ladder(whole: PieceGrid, most: float) -> Iterator[PieceGrid]:
    step: Step | None = None
    if whole.wanted.times is not None:
        steps = [Step.of_months(count) for count in (120, 60, 24, 12, 6, 3, 1)]
        steps += [Step.of_length(WEEK, text="week"), Step.of_length(DAY), Step.of_length(6 * HOUR)]
        steps += [Step.of_length(HOUR)]
        data = whole.data_step or (1, "day")
        for candidate in steps:
            if not candidate.is_finer_than(data) and (
                candidate.length >= DAY or most < _limit(whole)
            ):
                step = candidate
                yield whole.cut(candidate, {})
    yield from _by_keys(whole, step, {}, most)


def _by_keys(
    whole: PieceGrid, step: Step | None, counts: dict[str, int], most: float
) -> Iterator[PieceGrid]:
    """Yield grids cut by variable, then by level, then by other lists.

    The values of a list are dealt out evenly, and to as few pieces as fit.
    """
    keys = sorted(
        (key for key in whole.wanted.keys if len(key.values) > 1),
        key=lambda key: (not key.name.startswith("variable"), key.name not in _LEVELS),
    )
    for key in keys:
        length = len(key.values)
        alone = load(whole.cut(step, {**counts, key.name: 1}))
        fitting = max(1, min(length, int(most // alone))) if alone else length
        pieces = -(-length // fitting)
        counts[key.name] = -(-length // pieces)
        yield whole.cut(step, counts)
