"""Steps that time is cut by: calendar months and years, days, and what pandas calls offsets.

Times are whole milliseconds since 1970 in UTC, as the service writes them. Months, years, weeks and
what divides a day stand where the calendar has them, so that other queries cut at the same places.
Other steps are counted from the first day of a query.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from hda_fsspec.errors import QueryError
from hda_fsspec.printable import printable

Milliseconds = npt.NDArray[np.int64]

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
#: The first Monday since 1970.
_MONDAY = 4 * DAY
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: More pieces than these are a slip, and would fill the memory.
MAX_PIECES = 1_000_000

_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_FIXED = {"hour": HOUR, "day": DAY, "week": WEEK}
_WORD = re.compile(r"(?:([0-9]{1,6}) ?)?(hour|day|week|month|quarter|year)s?", re.IGNORECASE)

#: pandas' offsets that are calendar months, with the length of one.
_CALENDAR = {"Month": 1, "Quarter": 3, "HalfYear": 6, "Year": 12}
_EXAMPLES = '"day", "week", "month", "year", or an offset of pandas such as "10D" or "QS"'

_LAYER = re.compile(r"_(P(?:T?)[0-9]{1,3}[SMHDWY])(?=[_\-]|$)")
_DURATION = re.compile(r"P(T?)([0-9]+)([SMHDWY])")
_DURATION_UNITS = {
    ("T", "S"): (1, "second"),
    ("T", "M"): (1, "minute"),
    ("T", "H"): (1, "hour"),
    # Names of layers have hours without the T, too.
    ("", "H"): (1, "hour"),
    ("", "D"): (1, "day"),
    ("", "W"): (7, "day"),
    ("", "M"): (1, "month"),
    ("", "Y"): (1, "year"),
}
UNIT_LENGTHS = {"second": 1000, "minute": MINUTE, "hour": HOUR, "day": DAY}

#: How many of which unit lie between the times of a data set: ``(3, "hour")``.
DataStep = tuple[int, str]


def to_milliseconds(time: datetime) -> int:
    """Return an aware time as milliseconds since 1970, rounded down."""
    return (time - _EPOCH) // timedelta(milliseconds=1)


def to_datetime(milliseconds: int) -> datetime:
    """Return an aware datetime in UTC."""
    return _EPOCH + timedelta(milliseconds=int(milliseconds))


def as_datetime64(milliseconds: Milliseconds) -> npt.NDArray[np.datetime64]:
    """Return times as numpy has them."""
    return milliseconds.astype("datetime64[ms]")


def month_of(milliseconds: Milliseconds) -> npt.NDArray[np.int64]:
    """Return the months that times lie in, counted since 1970."""
    return milliseconds.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)


def month_starts(months: npt.NDArray[np.int64]) -> Milliseconds:
    """Return the first moments of months that are counted since 1970."""
    return months.astype("datetime64[M]").astype("datetime64[ms]").astype(np.int64)


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A step by which time is cut.

    Attributes
    ----------
    text : str
        How it is written as ``split``.
    months : int
        Its length in calendar months; 0 if it is none of these.
    length : int
        Its length in milliseconds, nominal for months and offsets.
    phase : int or None
        The month since 1970, or the moment, that one of them begins at; None: at the first day
        that is asked for.
    offset : object
        An offset of pandas that is neither.
    """

    text: str
    months: int = 0
    length: int = 0
    phase: int | None = None
    offset: Any = None

    @classmethod
    def of_months(cls, count: int, *, first: int = 0, text: str | None = None) -> Step:
        """Return a step of calendar months; `first` is a month (January is 0) that begins one."""
        fits = 12 % count == 0 or count % 12 == 0
        name = {1: "month", 12: "year"}.get(count) if first == 0 else None
        plain = f"{count // 12}YS" if count % 12 == 0 else f"{count}MS"
        length = count * 30 * DAY + count * 10 * HOUR
        return cls(text or name or plain, count, length, first % count if fits else None)

    @classmethod
    def of_length(cls, length: int, *, text: str | None = None) -> Step:
        """Return a step of always the same length in milliseconds."""
        phase = 0 if DAY % length == 0 else _MONDAY if text == "week" else None
        plain = f"{length}ms"
        for word, unit in (("min", MINUTE), ("h", HOUR), ("D", DAY)):
            if length % unit == 0:
                plain = f"{length // unit}{word}"
        return cls(text or ("day" if length == DAY else plain), 0, length, phase)

    @property
    def is_whole_days(self) -> bool:
        """Whether it cuts no day."""
        return self.offset is not None or self.months > 0 or self.length % DAY == 0

    def is_finer_than(self, data: DataStep) -> bool:
        """Whether some pieces would hold no time of a data set with such a step."""
        count, unit = data
        months = {"month": count, "year": 12 * count}.get(unit, 0)
        if months and self.months:
            return self.months < months
        if months:
            return self.length < 31 * DAY * months - (3 * DAY if self.offset is not None else 0)
        wanted = count * UNIT_LENGTHS[unit]
        return (self.months * 31 * DAY or self.length) < wanted

    def cuts(self, first: int, last: int) -> Milliseconds:
        """Return the moments after the first and up to the last that a piece begins at.

        Raises
        ------
        QueryError
            There are more than a million.
        """
        if self.offset is not None:
            return self._offset_cuts(first, last)
        if self.months:
            begin, end = month_of(np.array([first, last])).tolist()
            phase = begin if self.phase is None else self.phase
            return month_starts(self._marks(begin, end, self.months, phase))
        phase = first // DAY * DAY if self.phase is None else self.phase
        return self._marks(first, last, self.length, phase)

    def _marks(self, first: int, last: int, length: int, phase: int) -> npt.NDArray[np.int64]:
        following = first + 1
        begin = following + (phase - following) % length
        if (last - begin) // length > MAX_PIECES:
            raise too_many((last - begin) // length, self.text)
        return np.arange(begin, last + 1, length, dtype=np.int64)

    def _offset_cuts(self, first: int, last: int) -> Milliseconds:
        import pandas as pd

        day = first // DAY * DAY
        ends = type(self.offset).__name__.endswith("End")
        try:
            span = (pd.Timestamp(day, unit="ms"), pd.Timestamp(last, unit="ms"))
            marks = pd.date_range(*span, freq=self.offset)
        except (ValueError, OverflowError) as err:
            msg = f"Cannot cut a range by split={printable(self.text)!r}: {printable(err)}. Use "
            raise QueryError(f"{msg}{_EXAMPLES}.", key="split") from err
        found = marks.to_numpy().astype("datetime64[ms]").astype(np.int64)
        found = found // DAY * DAY + (DAY if ends else 0)
        cuts: Milliseconds = found[(found > first) & (found <= last)]
        return cuts


def too_many(count: int, split: object) -> QueryError:
    """Return the error of a split into more pieces than anybody could order."""
    msg = (
        f"split={printable(split)!r} would make {count} pieces, more than {MAX_PIECES}: each of "
        "them is an order, and 100 an hour are allowed. Use a longer step, or a shorter range."
    )
    return QueryError(msg, key="split")


def parse_step(value: object) -> Step:
    """Read a calendar step: a word, or anything that pandas takes for an offset.

    Raises
    ------
    QueryError
        It is neither, or is not longer than nothing.
    """
    if isinstance(value, str) and (match := _WORD.fullmatch(value.strip())):
        count, word = int(match[1] or 1), match[2].lower()
        if count > 0 and word in _MONTHS:
            return Step.of_months(count * _MONTHS[word])
        if count > 0:
            name = word if count == 1 else None
            return Step.of_length(count * _FIXED[word], text=name)
        raise _not_positive(value)
    if isinstance(value, np.timedelta64) and np.datetime_data(value)[0] in {"M", "Y"}:
        count = int(value.astype(np.int64)) * (12 if np.datetime_data(value)[0] == "Y" else 1)
        if count < 1:
            raise _not_positive(value)
        return Step.of_months(count)
    return _of_offset(_offset(value))


def _offset(value: object) -> Any:
    from pandas import Timedelta
    from pandas.tseries.frequencies import to_offset

    is_duration = isinstance(value, (timedelta, np.timedelta64))
    offset = None
    # Some words that are no offsets are warned of before they are refused.
    with contextlib.suppress(ValueError, TypeError, OverflowError), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        offset = to_offset(Timedelta(value) if is_duration else value)
    if offset is None:
        msg = f"split={printable(value)!r} is no step of time. Use {_EXAMPLES}."
        raise QueryError(msg, key="split", suggestions=("day", "week", "month", "year"))
    return offset


def _of_offset(offset: Any) -> Step:
    import pandas as pd

    if offset.n < 1:
        raise _not_positive(offset.freqstr)
    kind, text = type(offset).__name__, str(offset.freqstr)
    if isinstance(offset, (pd.offsets.Tick, pd.offsets.Day)):
        length, rest = divmod(offset.n * int(pd.Timedelta(type(offset)(1)).value), 1_000_000)
        if rest or length < 1:
            msg = f"split={text!r} is finer than a millisecond. Use {_EXAMPLES}."
            raise QueryError(msg, key="split")
        return Step.of_length(length)
    if isinstance(offset, pd.offsets.Week):
        if offset.weekday is None:
            return Step.of_length(offset.n * WEEK)
        # Named by their last day.
        phase = (_MONDAY + offset.weekday * DAY + DAY) % WEEK
        return Step(text, 0, offset.n * WEEK, phase)
    months = _CALENDAR.get(kind.removesuffix("Begin").removesuffix("End"))
    if months is not None:
        month = getattr(offset, "startingMonth", None) or getattr(offset, "month", None)
        if kind.endswith("Begin"):
            first = 0 if month is None else month - 1
        else:
            first = 0 if month is None else month % 12
        first %= months * offset.n
        name = "year" if text in {"YS-JAN", "YE-DEC"} else None
        return Step.of_months(
            months * offset.n, first=first, text=name or (text if first else None)
        )
    start = pd.Timestamp(2001, 1, 1)
    length = int((start + offset - start) // pd.Timedelta(milliseconds=1))
    if length < DAY:
        msg = f"split={printable(text)!r} is finer than a day. Use {_EXAMPLES}."
        raise QueryError(msg, key="split")
    return Step(text, 0, length, None, offset)


def _not_positive(value: object) -> QueryError:
    msg = f"split={printable(value)!r} is not longer than nothing. Use {_EXAMPLES}."
    return QueryError(msg, key="split")


def step_of_layer(dataset_id: str) -> DataStep | None:
    """Return the step that the name of a layer tells: ``…_P1D-m_202411`` has a time each day.

    Only Copernicus Marine (EO:MO) writes names so; it tells no step of some.

    Examples
    --------
    >>> step_of_layer("EO:MO:DAT:WIND:cmems_obs-wind_glo_phy_nrt_l4_0.125deg_PT1H_202207")
    (1, 'hour')
    """
    if not dataset_id.startswith("EO:MO:"):
        return None
    found = _LAYER.search(dataset_id.rpartition(":")[2])
    match = _DURATION.fullmatch(found[1]) if found else None
    unit = _DURATION_UNITS.get((match[1], match[3])) if match else None
    if match is None or unit is None or int(match[2]) < 1:
        return None
    return int(match[2]) * unit[0], unit[1]
