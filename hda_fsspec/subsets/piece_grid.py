"""A query as a grid of pieces: sub-queries that the service turns into one product each.

A grid holds what it was made of, and no list of pieces: requests, bounds and times are computed
when they are asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from hda_fsspec.paths.locations import Location
from hda_fsspec.records import Scalar
from hda_fsspec.subsets.calendar_steps import (
    MAX_PIECES,
    DataStep,
    Step,
    as_datetime64,
    to_datetime,
    too_many,
)
from hda_fsspec.subsets.canonical_request import identity, texts_of
from hda_fsspec.subsets.query_axes import Axes, Key, box_warning
from hda_fsspec.subsets.query_times import Cached, DateRange, Pieces
from hda_fsspec.timeindex.calendars import ranges

#: The name of the axis of time.
TIME = "time"

Split = None | str | dict[str, str | int]


@dataclasses.dataclass(frozen=True)
class PieceAxis:
    """One axis of a grid: its name, and how many pieces lie along it."""

    name: str
    length: int


@dataclasses.dataclass(frozen=True)
class PieceGrid(Cached):
    """The pieces of a query, numbered along its axes; the last axis runs fastest.

    Attributes
    ----------
    wanted : Axes
        What the whole query asks for.
    step : Step or None
        How time is cut; None: as little as requests allow.
    counts : tuple of (str, int)
        How many values of a key each piece asks for, for each key that the query is cut along.
    size : int or None
        The catalogue's size of the whole in bytes, where it tells one.
    """

    wanted: Axes
    step: Step | None = None
    counts: tuple[tuple[str, int], ...] = ()
    size: int | None = None

    @property
    def dataset_id(self) -> str:
        """The data set."""
        return self.wanted.dataset_id

    @functools.cached_property
    def axes(self) -> tuple[PieceAxis, ...]:
        """The axes in order: time where there is any, variables, other keys."""
        keys = tuple(
            PieceAxis(key.name, -(-len(key.values) // count)) for key, count in self._cut_keys
        )
        if self.wanted.times is None:
            return keys
        return (PieceAxis(TIME, len(self.pieces[0])), *keys)

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return tuple(axis.length for axis in self.axes)

    def __len__(self) -> int:
        return math.prod(self.shape)

    @property
    def split(self) -> Split:
        """The cut of the query, as a value of the option ``split``."""
        counts: dict[str, str | int] = dict(self.counts)
        if not counts and self.step is None:
            # One job has another name than the few that lists of dates need.
            return None if len(self) < 2 else "auto"
        if not counts:
            return None if self.step is None else self.step.text
        return counts if self.step is None else {TIME: self.step.text, **counts}

    @property
    def data_step(self) -> DataStep | None:
        """The distance of times, where it is known without any product: ``(1, "hour")``."""
        return None if self.wanted.times is None else self.wanted.times.step

    def cut(self, step: Step | None, counts: Mapping[str, int]) -> PieceGrid:
        """Return another grid of the same query.

        Raises
        ------
        QueryError
            It would have more than a million pieces.
        """
        names = [key.name for key in self.wanted.keys if key.name in counts]
        made = PieceGrid(self.wanted, step, tuple((n, counts[n]) for n in names), self.size)
        if len(made) > MAX_PIECES:
            raise too_many(len(made), made.split)
        return made

    def position(self, n: int) -> dict[str, int]:
        """Return where a piece stands along each axis.

        Raises
        ------
        IndexError
            There is no such piece.
        """
        number = n + len(self) if n < 0 else n
        if not 0 <= number < len(self):
            raise IndexError(f"There is no piece {n}: there are {len(self)}.")
        found: dict[str, int] = {}
        for axis in reversed(self.axes):
            number, found[axis.name] = divmod(int(number), axis.length)
        return found

    def body(self, n: int) -> dict[str, Any]:
        """Return the canonical request of a piece: typed parameters by the data set's own names."""
        at = self.position(n)
        counts = dict(self.counts)
        body: dict[str, Any] = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in self.wanted.body
        }
        for key in self.wanted.keys:
            if key.name in counts:
                body[key.name] = key.chunk(at[key.name], counts[key.name])
            elif key.is_said:
                body[key.name] = key.chunk(0, len(key.values))
        if self.wanted.times is not None:
            body |= self.wanted.times.values(*self._edges(at[TIME]))
        return {key: body[key] for key in sorted(body)}

    def request(self, n: int) -> dict[str, tuple[str, ...]]:
        """Return the query of a piece, by the common names of ranges and box."""
        return self._request(self.body(n))

    def _request(self, body: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        names = self.wanted.common_names
        times = self.wanted.times
        start, end = times.keys if isinstance(times, DateRange) else ("", "")
        return {
            names.get(key, key): (_as_day(value, is_end=key == end),)
            if key in (start, end)
            else texts_of(value)
            for key, value in body.items()
        }

    def location(self, n: int) -> Location:
        """Return the query of a piece as a path."""
        return Location(self.dataset_id, self.request(n))

    def named(self, n: int) -> tuple[str, Location]:
        """Return the identity of what a piece delivers, and :meth:`location`, in the time of one.

        See :func:`.canonical_request.identity`.
        """
        body = self.body(n)
        return identity(self.dataset_id, body), Location(self.dataset_id, self._request(body))

    def bounds(self, n: int) -> tuple[datetime, datetime] | None:
        """Return the first and last instant of a piece, both of them included; None without times.

        The instants are aware, in UTC, and whole milliseconds.
        """
        if self.wanted.times is None:
            return None
        start, end = self._edges(self.position(n)[TIME])
        return to_datetime(start), to_datetime(end)

    def index(self, axis: str) -> npt.NDArray[np.datetime64] | tuple[tuple[Scalar, ...], ...]:
        """Return what lies along an axis.

        Returns
        -------
        numpy.ndarray or tuple
            Of time the bounds, one row of first and last instant for each piece, in milliseconds;
            of a key the values that each piece asks for.

        Raises
        ------
        KeyError
            The grid has no such axis.
        """
        if axis == TIME and self.wanted.times is not None:
            return as_datetime64(np.stack(self.pieces, axis=1))
        for key, count in self._cut_keys:
            if key.name == axis:
                values = key.values
                return tuple(values[i : i + count] for i in range(0, len(values), count))
        raise KeyError(axis)

    def time_index(self) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.int64]] | None:
        """Return the times that the request names along all of time, and how many a piece has.

        They are days or months where it names no hours; None if it names none.
        """
        moments = self._nominal
        if moments is None:
            return None
        starts, ends = self.pieces
        low = np.searchsorted(moments, starts)
        counts = np.searchsorted(moments, ends, side="right") - low
        return as_datetime64(moments[ranges(low, counts)]), counts

    @functools.cached_property
    def warnings(self) -> tuple[str, ...]:
        """The warnings for whoever opens the query: each a sentence or two."""
        told = [box_warning(self.dataset_id, self.wanted.box), self._left_out()]
        return tuple(text for text in told if text is not None)

    @functools.cached_property
    def pieces(self) -> Pieces:
        """First and last milliseconds of pieces along time, both included."""
        if self.wanted.times is None:
            raise AssertionError
        return self.wanted.times.pieces(self.step)

    @functools.cached_property
    def _nominal(self) -> npt.NDArray[np.int64] | None:
        return None if self.wanted.times is None else self.wanted.times.nominal()

    @functools.cached_property
    def _cut_keys(self) -> list[tuple[Key, int]]:
        counts = dict(self.counts)
        return [(key, counts[key.name]) for key in self.wanted.keys if key.name in counts]

    def _edges(self, position: int) -> tuple[int, int]:
        return int(self.pieces[0][position]), int(self.pieces[1][position])

    def _left_out(self) -> str | None:
        times = self.wanted.times
        if not isinstance(times, DateRange):
            return None
        starts, ends = self.pieces
        if int(starts[0]) == times.first and int(ends[-1]) == times.last:
            return None
        first, last = to_datetime(int(starts[0])), to_datetime(int(ends[-1]))
        return (
            f"{self.dataset_id} has no data in a part of the range that is asked for, as its "
            f"schema says: the data set is that of {first:%Y-%m-%d} to {last:%Y-%m-%d}."
        )


def _as_day(text: str, *, is_end: bool) -> str:
    """Write an end of a range as a day where a day means the same."""
    return text[:10] if text.endswith("T23:59:59.999Z" if is_end else "T00:00:00.000Z") else text
