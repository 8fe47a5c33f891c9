"""Ranges of days for data sets that take lists of years, months and days.

The service delivers every combination of such lists, so a range can be asked for only if its days
are exactly the combinations of some years, months and days. The module says which, or why not.
"""

from __future__ import annotations

import calendar
import dataclasses
import itertools
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime, time

from hda_fsspec.errors import QueryError
from hda_fsspec.schema.parameters import Parameter
from hda_fsspec.schema.time_and_box import END, START

#: What data sets call the lists of years, months and days; days may be missing, and months too.
_NAMES = (("year", "month", "day"), ("year", "month", "nominal_day"), ("hyear", "hmonth", "hday"))

# Not calendar.month_name, which follows the locale.
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_LAST_SECOND = time(23, 59, 59)


@dataclasses.dataclass(frozen=True, slots=True)
class _Numbers:
    """One of the lists: the name it has, and how each number that it offers is written."""

    name: str
    takes_several: bool
    offered: tuple[tuple[int, str], ...] = ()

    def offers(self, number: int) -> bool:
        return not self.offered or any(number == known for known, _ in self.offered)

    def write(self, numbers: set[int], *, digits: int) -> tuple[str, ...]:
        texts = dict(self.offered)
        written = tuple(texts.get(n, f"{n:0{digits}d}") for n in sorted(numbers))
        if len(written) > 1 and not self.takes_several:
            msg = (
                f"the data set takes one {self.name} in a query, and the range spans "
                f"{len(written)} ({written[0]} to {written[-1]}). Ask for one at a time."
            )
            raise QueryError(msg, key=START)
        return written


@dataclasses.dataclass(frozen=True, slots=True)
class DayLists:
    """The lists by which a data set is asked for days, or for whole months or years."""

    years: _Numbers
    months: _Numbers | None = None
    days: _Numbers | None = None

    @classmethod
    def find(cls, parameters: Mapping[str, Parameter]) -> DayLists | None:
        """Find the lists among the parameters of a data set; None if it has none to be used."""
        names = max(_NAMES, key=lambda names: sum(name in parameters for name in names))
        there = [name for name in names if name in parameters]
        lists = [numbers for name in there if (numbers := _numbers(parameters[name]))]
        usable = there == list(names[: len(there)]) and len(lists) == len(there) > 0
        return cls(*lists) if usable else None

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the lists, years first."""
        return tuple(numbers.name for numbers in self._lists())

    def expand(self, start: datetime, end: datetime) -> dict[str, tuple[str, ...]]:
        """Return the values of the lists whose combinations are exactly the days of a range.

        Only what the data set offers is returned, and counted.

        Raises
        ------
        QueryError
            No lists do that, or the data set offers none of the days.
        """
        first, last = start.date(), end.date()
        self.check_whole(start, end)
        year_offered, month_offered, day_offered = (
            numbers.offers if numbers else _any for numbers in (self.years, self.months, self.days)
        )
        offered = {day for day in range(1, 32) if day_offered(day)}
        wanted = {
            (year, month): days
            for year, month, low, high in _months(first, last)
            if year_offered(year)
            and month_offered(month)
            and (days := {day for day in offered if low <= day <= high})
        }
        if not wanted:
            msg = f"the data set offers nothing from {first} to {last}. {self._what()}"
            raise QueryError(msg, key=START)
        years, months = {year for year, _ in wanted}, {month for _, month in wanted}
        days = set[int]().union(*wanted.values())
        for year, month in itertools.product(years, months):
            length = calendar.monthrange(year, month)[1]
            if {day for day in days if day <= length} != wanted.get((year, month), set()):
                raise self._not_a_product(first, last)
        numbers = (years, months, days)
        return {
            numbered.name: numbered.write(values, digits=digits)
            for numbered, values, digits in zip(self._lists(), numbers, (4, 2, 2), strict=False)
        }

    def _lists(self) -> tuple[_Numbers, ...]:
        return tuple(n for n in (self.years, self.months, self.days) if n is not None)

    def _what(self) -> str:
        return f"It is asked for by {', '.join(f'{key}=' for key in self.keys)}."

    def check_range(
        self, given: Collection[str], start: datetime | None, end: datetime | None
    ) -> tuple[datetime, datetime]:
        """Return both ends of a range that the lists are to be written for.

        Raises
        ------
        QueryError
            One of the lists is given too, or an end is missing.
        """
        own = [key for key in self.keys if key in given]
        names = ", ".join(f"{key}=" for key in self.keys)
        if own:
            msg = f"{START} and {END} mean the same as {names} here: give the one or the other."
            raise QueryError(msg, key=own[0])
        if start is None or end is None:
            msg = f"the data set is asked for by {names}, so a range needs both {START} and {END}."
            raise QueryError(msg, key=START if end is None else END)
        return start, end

    def check_whole(self, start: datetime, end: datetime) -> None:
        """Raise QueryError for a range that cuts a day, or a month or year without days."""
        unit = "year" if self.months is None else "month" if self.days is None else "day"
        length = calendar.monthrange(end.year, end.month)[1]
        begins = start.time() == time() and (unit == "day" or start.day == 1)
        ends = end.time() >= _LAST_SECOND and (unit == "day" or end.day == length)
        if unit == "year":
            begins, ends = begins and start.month == 1, ends and end.month == 12
        if not begins or not ends:
            example = {"day": "2024-05-01", "month": "2024-05", "year": "2024"}[unit]
            msg = (
                f"the data set can be asked for whole {unit}s only, and the range cuts one. Write "
                f"both ends as a {unit}, as in {START}={example}. {self._what()}"
            )
            raise QueryError(msg, key=START if not begins else END)

    def _not_a_product(self, first: date, last: date) -> QueryError:
        # Both pieces named here can be asked for, or the second can be split once more.
        if first.day > 1:
            cut = date(first.year, first.month, calendar.monthrange(first.year, first.month)[1])
        elif last.year > first.year:
            cut = date(first.year, 12, 31)
        else:
            cut = date.fromordinal(date(last.year, last.month, 1).toordinal() - 1)
        after = date.fromordinal(cut.toordinal() + 1)
        msg = (
            f"the data set takes lists and delivers every combination of them, and the days from "
            f"{first} to {last} are not the combinations of any. Split the range ({first} to "
            f"{cut}, then {after} to {last}), or give the lists yourself. {self._what()}"
        )
        return QueryError(msg, key=START)


def _numbers(parameter: Parameter) -> _Numbers | None:
    offered: dict[int, str] = {}
    for choice in parameter.choices:
        number = _number(choice.text)
        if number is not None:
            offered.setdefault(number, choice.text)
    if parameter.choices and not offered:
        return None
    return _Numbers(parameter.name, parameter.is_list is not False, tuple(offered.items()))


def _any(_: int) -> bool:
    return True


def _number(text: str) -> int | None:
    if text.isascii() and text.isdigit() and len(text) <= 4:
        return int(text)
    short = text[:3].lower()
    return _MONTHS.index(short) + 1 if short in _MONTHS and text.isalpha() else None


def _months(first: date, last: date) -> Iterator[tuple[int, int, int, int]]:
    """Walk the months of a range: year, month, first and last day of it that lie in the range."""
    year, month = first.year, first.month
    while (year, month) <= (last.year, last.month):
        low = first.day if (year, month) == (first.year, first.month) else 1
        length = calendar.monthrange(year, month)[1]
        yield year, month, low, last.day if (year, month) == (last.year, last.month) else length
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
