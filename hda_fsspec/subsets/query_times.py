"""The times of a query as moments in order, and pieces of them as stretches between two cuts.

Two kinds of query have times: those of a range, and those of lists of years, months, days and hours
of which every combination is delivered. Both are cut by a step, and say what to ask for so that a
piece holds just its own moments.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from hda_fsspec.records import Scalar
from hda_fsspec.subsets.split_steps import DAY, DataStep, Milliseconds, Step, month_starts

Pieces = tuple[Milliseconds, Milliseconds]


class Times(Protocol):
    """The times that a query asks for.

    Pieces are two arrays: their first and their last milliseconds, both of them included.
    """

    @property
    def step(self) -> DataStep | None:
        """The distance of times, as far as it is known without any product."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the query that say when."""

    @property
    def per_day(self) -> int:
        """How many times of day the query names; 1 if none."""

    @property
    def hours(self) -> tuple[int, ...]:
        """Times of day that the query names, in milliseconds; empty if none that are known."""

    @property
    def is_whole_days(self) -> bool:
        """Whether whole days, months or years are asked for, so that no piece can cut one."""

    def pieces(self, step: Step | None) -> Pieces:
        """Cut the times; None makes as few pieces as requests can say."""

    def values(self, start: int, end: int) -> dict[str, list[Scalar] | Scalar]:
        """Return what a request for a piece holds."""

    def counts(self, pieces: Pieces) -> Milliseconds | None:
        """Return how many times each piece holds; None if that is not known."""

    def nominal(self) -> Milliseconds | None:
        """Return all times that the request itself names, in order; None if it names none.

        They are the days or months where it names no times of day.
        """


class Cached:
    """Leaves out of a pickle what can be computed again."""

    def __getstate__(self) -> dict[str, Any]:
        names = {field.name for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in self.__dict__.items() if name in names}


@dataclasses.dataclass(frozen=True)
class DateRange(Cached):
    """A range of time, between a first and a last millisecond that are both part of it.

    Attributes
    ----------
    keys : tuple of str
        The data set's names of start and end.
    first, last : int
        Both ends.
    hours : tuple of int
        Times of day that the query names, in milliseconds; empty if it names none.
    per_day : int
        How many these are.
    is_whole_days : bool
        Whether the service makes whole days of it.
    step : tuple of (int, str), optional
        The distance of times, where it is known.
    earliest, latest : int, optional
        Where the data set begins and ends. Pieces beyond are left out.
    is_open : tuple of bool
        Which ends the query does not name: the first or last piece does not name it either, since
        the end of a data set moves.
    """

    keys: tuple[str, str]
    first: int
    last: int
    hours: tuple[int, ...] = ()
    per_day: int = 1
    is_whole_days: bool = False
    step: DataStep | None = None
    earliest: int | None = None
    latest: int | None = None
    is_open: tuple[bool, bool] = (False, False)

    def pieces(self, step: Step | None) -> Pieces:
        """Cut the range; the last piece of a data set is as long as it was asked for."""
        cuts = np.empty(0, np.int64) if step is None else step.cuts(self.first, self.last)
        starts = np.concatenate([np.array([self.first], np.int64), cuts])
        ends = np.concatenate([cuts - 1, np.array([self.last], np.int64)])
        is_there = np.ones(len(starts), np.bool_)
        if self.earliest is not None:
            is_there &= ends >= self.earliest
        if self.latest is not None:
            is_there &= starts <= self.latest
        return starts[is_there], ends[is_there]

    def values(self, start: int, end: int) -> dict[str, list[Scalar] | Scalar]:
        """Return the two ends, as the service writes them."""
        left_out = (self.is_open[0] and start == self.first, self.is_open[1] and end == self.last)
        ends = zip(self.keys, map(iso, (start, end)), left_out, strict=True)
        return {key: text for key, text, is_left_out in ends if not is_left_out}

    def counts(self, pieces: Pieces) -> Milliseconds | None:
        """Return how many times each piece holds, where that follows from days and hours."""
        if not self.is_whole_days:
            return None
        found: Milliseconds = (pieces[1] - pieces[0] + 1) // DAY * self.per_day
        return found

    def nominal(self) -> Milliseconds | None:
        """Return the times of each day, where the query names them."""
        if not self.is_whole_days or not self.hours:
            return None
        days = np.arange(self.first, self.last, DAY, dtype=np.int64)
        return np.add.outer(days, np.array(self.hours, np.int64)).ravel()


@dataclasses.dataclass(frozen=True)
class Numbers(Cached):
    """The numbers that one list asks for, and how they are written.

    Attributes
    ----------
    name : str
        The key.
    asked : tuple of (int, str)
        In order.
    offered : tuple of (int, str)
        All that the data set has, to be asked for where that means the same.
    takes_several : bool
        Whether one request may ask for more than one.
    is_list : bool
        Whether a single one is sent as a list.
    """

    name: str
    asked: tuple[tuple[int, str], ...]
    offered: tuple[tuple[int, str], ...] = ()
    takes_several: bool = True
    is_list: bool = True

    @functools.cached_property
    def numbers(self) -> Milliseconds:
        """The numbers alone."""
        return np.array([number for number, _ in self.asked], np.int64)

    @functools.cached_property
    def texts(self) -> Mapping[int, str]:
        """The text of each number."""
        return dict(self.asked)

    def value(self, numbers: list[int]) -> list[Scalar] | Scalar:
        """Return some of the numbers as a request holds them."""
        texts: list[Scalar] = [self.texts[number] for number in numbers]
        return texts if self.is_list or len(texts) > 1 else texts[0]


@dataclasses.dataclass(frozen=True)
class DateLists(Cached):
    """Lists of years, of months and of days, as far as a data set has them, and of times of day.

    Attributes
    ----------
    years : Numbers
        The years that are asked for.
    months, days : Numbers, optional
        The same of months and days. Without days whole months are asked for, without months years.
    first, last : int
        What lies outside of these milliseconds is not asked for, whatever the lists say.
    hours : tuple of int
        Times of day that the query names, in milliseconds; empty if it names none that are known.
    hour_texts : tuple of str
        The same as they are written.
    hour_key : str, optional
        The key of these.
    hours_are_list : bool
        Whether a single one is sent as a list.
    """

    years: Numbers
    months: Numbers | None
    days: Numbers | None
    first: int
    last: int
    hours: tuple[int, ...] = ()
    hour_texts: tuple[str, ...] = ()
    hour_key: str | None = None
    hours_are_list: bool = True

    is_whole_days = True

    @property
    def lists(self) -> tuple[Numbers, ...]:
        """The lists of numbers that there are, years first."""
        return tuple(n for n in (self.years, self.months, self.days) if n is not None)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the lists, years first."""
        names = tuple(numbers.name for numbers in self.lists)
        return names if self.hour_key is None else (*names, self.hour_key)

    @property
    def per_day(self) -> int:
        """How many times of day the query names; 1 if none."""
        return max(1, len(self.hour_texts))

    @property
    def step(self) -> DataStep | None:
        """The distance of days, months or years; of hours where they name an even distance."""
        if self.months is None:
            return (1, "year")
        if self.days is None:
            return (1, "month")
        apart = (
            np.unique(np.diff([*self.hours, self.hours[0] + DAY])) if self.hours else np.empty(0)
        )
        if len(apart) == 1 and len(self.hours) > 1:
            return (int(apart[0]) // 60_000, "minute")
        return (1, "day") if len(self.hours) < 2 else None

    @functools.cached_property
    def units(self) -> Milliseconds:
        """The beginnings of all days asked for, or of all months or years without days."""
        return self._units(self.days)[0]

    @functools.cached_property
    def unit_ends(self) -> Milliseconds:
        """The last milliseconds of the same."""
        if self.days is not None:
            return self.units + (DAY - 1)
        months = self.units.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
        return month_starts(months + (1 if self.months is not None else 12)) - 1

    def _units(self, days: Numbers | None) -> tuple[Milliseconds, Milliseconds]:
        """Return the beginnings of units, and the month since 1970 of each."""
        ones = np.zeros(1, np.int64)
        months = ones if self.months is None else self.months.numbers - 1
        grid = np.add.outer((self.years.numbers - 1970) * 12, months).ravel()
        starts, ends = month_starts(grid), month_starts(grid + (12 if self.months is None else 1))
        if days is not None:
            numbers = (days.numbers - 1) * DAY
            found = np.add.outer(starts, numbers)
            is_there = found < ends[:, None]
            which = np.broadcast_to(grid[:, None], found.shape)
            found, grid = found[is_there], which[is_there]
        else:
            found = starts
        is_asked = (found >= self.first) & (found <= self.last)
        return found[is_asked], grid[is_asked]

    @functools.cached_property
    def _month_of_units(self) -> Milliseconds:
        return self._units(self.days)[1]

    def pieces(self, step: Step | None) -> Pieces:
        """Cut the times so that the combinations of the lists of each piece are its own times.

        Whole months never share a request with a month that is cut, so that other queries ask for
        the same.
        """
        if step is not None and not step.is_whole_days:
            return self._parts_of_days(step)
        units = self.units
        if not units.size:
            return units, units
        cuts = step.cuts(int(units[0]), int(self.unit_ends[-1])) if step else np.empty(0, np.int64)
        segment = np.searchsorted(cuts, units, side="right")
        begins = np.flatnonzero(self._begins(segment))
        ends = np.append(begins[1:], len(units)) - 1
        return units[begins], self.unit_ends[ends]

    def _parts_of_days(self, step: Step) -> Pieces:
        moments = self.nominal()
        if moments is None or not moments.size:
            return self.units, self.unit_ends
        day = moments // DAY
        first, last = int(self.units[0]), int(self.unit_ends[-1])
        cuts = step.cuts(first, last)
        segment = np.searchsorted(cuts, moments, side="right")
        is_new = np.ones(len(moments), np.bool_)
        is_new[1:] = (np.diff(segment) != 0) | (np.diff(day) != 0)
        begins = np.flatnonzero(is_new)
        number = segment[begins]
        midnight = day[begins] * DAY
        starts = np.maximum(np.concatenate([[first], cuts])[number], midnight)
        ends = np.minimum(np.append(cuts - 1, last)[number], midnight + DAY - 1)
        return starts, ends

    def _begins(self, segment: Milliseconds) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which units begin a piece: a new segment, or what no one product of lists holds.

        Complete years make one product of all lists, and so do complete months of one year. What
        is cut stands alone.
        """
        month = self._month_of_units
        year = month // 12
        is_new = np.ones(len(segment), np.bool_)
        is_new[1:] = (np.diff(segment) != 0) | (np.diff(month) != 0)
        groups = np.flatnonzero(is_new)  # of one segment and month
        size = np.diff(np.append(groups, len(segment)))
        group_year, group_segment = year[groups], segment[groups]
        is_whole_month = size == self._days_of(month[groups])
        changes = np.ones(len(groups), np.bool_)
        changes[1:] = (np.diff(group_year) != 0) | (np.diff(group_segment) != 0)
        years = np.flatnonzero(changes)
        year_size = np.add.reduceat(size, years)
        is_whole_year = year_size == self._days_of_years(group_year[years])
        of_year = np.cumsum(changes) - 1
        alone = np.arange(len(groups)) + 10**9
        kind = np.where(
            is_whole_year[of_year], -(10**9), np.where(is_whole_month, group_year, alone)
        )
        starts = np.ones(len(groups), np.bool_)
        starts[1:] = (np.diff(kind) != 0) | (np.diff(group_segment) != 0)
        if not self.years.takes_several:
            starts |= changes
        if self.months is not None and not self.months.takes_several:
            starts[:] = True
        found = np.zeros(len(segment), np.bool_)
        found[groups[starts]] = True
        if self.days is not None and not self.days.takes_several:
            found[:] = True
        return found

    def _days_of(self, months: Milliseconds) -> Milliseconds:
        """Return how many units the lists have in some months, whatever the ends of the range."""
        if self.days is None:
            return np.ones(len(months), np.int64)
        unique, which = np.unique(months, return_inverse=True)
        lengths = (month_starts(unique + 1) - month_starts(unique)) // DAY
        counts: Milliseconds = (self.days.numbers <= lengths[:, None]).sum(axis=1)[which]
        return counts

    def _days_of_years(self, years: Milliseconds) -> Milliseconds:
        months = np.zeros(1, np.int64) if self.months is None else self.months.numbers - 1
        unique, which = np.unique(years, return_inverse=True)
        grid = np.add.outer(unique * 12, months)
        counts: Milliseconds = self._days_of(grid.ravel()).reshape(grid.shape).sum(axis=1)[which]
        return counts

    def values(self, start: int, end: int) -> dict[str, list[Scalar] | Scalar]:
        """Return the lists of a piece: all days that there are where it holds whole months."""
        low = int(np.searchsorted(self.units, start // DAY * DAY))
        high = int(np.searchsorted(self.units, end, side="right"))
        month = np.unique(self._month_of_units[low:high])
        found: dict[str, list[Scalar] | Scalar] = {}
        found[self.years.name] = self.years.value(np.unique(month // 12 + 1970).tolist())
        if self.months is not None:
            found[self.months.name] = self.months.value(np.unique(month % 12 + 1).tolist())
        if self.days is not None:
            found[self.days.name] = self._days_value(low, high, month)
        if self.hour_key is not None:
            hours = self._hours_of(start, end)
            is_single = not self.hours_are_list and len(hours) == 1
            found[self.hour_key] = hours[0] if is_single else list(hours)
        return found

    def _days_value(self, low: int, high: int, months: Milliseconds) -> list[Scalar] | Scalar:
        if self.days is None:
            raise AssertionError
        offered = np.array([number for number, _ in self.days.offered], np.int64)
        lengths = (month_starts(months + 1) - month_starts(months)) // DAY
        if offered.size and int((offered <= lengths[:, None]).sum()) == high - low:
            texts: list[Scalar] = [text for _, text in self.days.offered]
            if self.days.takes_several:
                return texts
        starts = month_starts(self._month_of_units[low:high])
        return self.days.value(np.unique((self.units[low:high] - starts) // DAY + 1).tolist())

    def _hours_of(self, start: int, end: int) -> tuple[str, ...]:
        if end - start >= DAY - 1:
            return self.hour_texts
        midnight = start // DAY * DAY
        pairs = zip(self.hours, self.hour_texts, strict=True)
        return tuple(text for hour, text in pairs if start <= midnight + hour <= end)

    def counts(self, pieces: Pieces) -> Milliseconds | None:
        """Return how many times each piece holds."""
        moments = self.nominal() if self.hours else self.units
        if moments is None:
            raise AssertionError
        low = np.searchsorted(moments, pieces[0])
        high = np.searchsorted(moments, pieces[1], side="right")
        found: Milliseconds = (high - low) * (1 if self.hours else self.per_day)
        return found

    def nominal(self) -> Milliseconds | None:
        """Return the times of day of all days; days, months or years without any."""
        if not self.hours:
            return self.units
        return np.add.outer(self.units, np.array(self.hours, np.int64)).ravel()


def iso(milliseconds: int) -> str:
    """Write a moment as the service does."""
    return f"{np.datetime64(int(milliseconds), 'ms')}Z"
