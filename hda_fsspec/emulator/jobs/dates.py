"""The times that a request of a data store names, as pure functions.

Requests are those of upstream: lists of years, months, days and hours, of which every combination
is meant, or a ``date`` of two days (subset-services A3, "ECMWF: time": A).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hda_fsspec.emulator.jobs.job import JobFailedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The keys of lists, by what they name.
YEARS, MONTHS, DAYS = ("year", "hyear"), ("month", "hmonth"), ("day", "hday", "nominal_day")
HOURS = "time"
PERIOD, HYDROLOGICAL = "period", "hydrological_year"

MONTH_NAMES = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september"),
    *("october", "november", "december"),
)

_HOUR = re.compile(r"([0-9]{1,2})(?:[:_]?([0-9]{2}))?\Z")
_NO_DATA = "MARS returned no data, please check your selection."

Request = Mapping[str, Any]


def values_of(request: Request, *keys: str) -> list[str] | None:
    """Return the values of the first of some keys that a request has, None if it has none."""
    for key in keys:
        if key in request:
            value = request[key]
            return [str(item) for item in value] if isinstance(value, list) else [str(value)]
    return None


def number_of(text: str) -> int:
    """Return a number, or that of a month by its name.

    >>> number_of("06"), number_of("june")
    (6, 6)
    """
    name = text.strip().lower()
    return MONTH_NAMES.index(name) + 1 if name in MONTH_NAMES else int(name)


def minutes_of(text: str) -> int:
    """Return a time of day in minutes: ``06:00``, ``06_00`` and ``0600`` are the same.

    >>> minutes_of("06:30"), minutes_of("06_30"), minutes_of("6")
    (390, 390, 360)
    """
    match = _HOUR.match(text.strip())
    if match is None:
        msg = f"Invalid time string: {text}"
        raise JobFailedError(msg, title="invalid request", status=400)
    return int(match[1]) * 60 + int(match[2] or 0)


def days_of(request: Request) -> list[date] | None:
    """Return the days that a request names; None if it names none.

    Dates that do not exist are dropped; of months without days it is the first day.

    Raises
    ------
    JobFailedError
        None of the dates exists.
    """
    if "date" in request:
        first, _, last = str(request["date"]).partition("/")
        begin, end = date.fromisoformat(first), date.fromisoformat(last or first)
        return [begin + timedelta(days=n) for n in range((end - begin).days + 1)]
    named = [values_of(request, *keys) for keys in (YEARS, MONTHS, DAYS)]
    years, months, days = ([] if texts is None else list(map(number_of, texts)) for texts in named)
    if not years:
        return None
    whole = named[2] is not None
    found = sorted(set(_existing(years, months or range(1, 13), days if whole else [1])))
    if whole and months and not found:
        msg = f"No valid dates from year={years} month={months} day={days}"
        raise JobFailedError(msg, title="invalid request", status=400)
    return found


def _existing(years: Any, months: Any, days: Any) -> Iterator[date]:
    for year, month, day in itertools.product(years, months, days):
        try:
            yield date(year, month, day)
        except ValueError:  # the 31st of some month
            continue


def wanted_steps(times: NDArray[np.datetime64], request: Request) -> NDArray[np.bool_]:
    """Return which steps a request names."""
    import numpy as np

    days = times.astype("datetime64[D]")
    years = times.astype("datetime64[Y]").astype(int) + 1970
    months = times.astype("datetime64[M]").astype(int) % 12 + 1
    in_month = (days - times.astype("datetime64[M]").astype("datetime64[D]")).astype(int) + 1
    minutes = (times - days).astype("timedelta64[m]").astype(int)
    wanted = np.ones(len(times), np.bool_)
    for keys, found, read in (
        (YEARS, years, number_of),
        (MONTHS, months, number_of),
        (DAYS, in_month, number_of),
        ((HOURS,), minutes, minutes_of),
    ):
        texts = values_of(request, *keys)
        if texts is not None:
            wanted &= np.isin(found, list(map(read, texts)))
    if "date" in request:
        first, _, last = str(request["date"]).partition("/")
        wanted &= (days >= np.datetime64(first)) & (days <= np.datetime64(last or first))
    for key, read_span in ((PERIOD, _period), (HYDROLOGICAL, _hydrological)):
        texts = values_of(request, key)
        if texts is not None:
            spans = [read_span(text) for text in texts]
            wanted &= np.any([(days >= a) & (days <= b) for a, b in spans], axis=0)
    return wanted


def _period(text: str) -> tuple[np.datetime64, np.datetime64]:
    import numpy as np

    first, _, last = text.partition("-")
    ends = [f"{day[:4]}-{day[4:6]}-{day[6:8]}" for day in (first, last)]
    return np.datetime64(ends[0]), np.datetime64(ends[1])


def _hydrological(text: str) -> tuple[np.datetime64, np.datetime64]:
    """Return the ends of a year such as ``1980_81``: October to September."""
    import numpy as np

    year = int(text[:4])
    return np.datetime64(f"{year}-10-01"), np.datetime64(f"{year + 1}-09-30")


def check_available(request: Request, latest: datetime) -> None:
    """Raise JobFailedError if nothing of what is asked for exists yet."""
    days = days_of(request)
    if days is None:
        return
    hours = [minutes_of(text) // 60 for text in values_of(request, HOURS) or ["0"]]
    latest = latest.astimezone(UTC)
    last = latest.date()
    if any(day < last or (day == last and min(hours) <= latest.hour) for day in days):
        return
    msg = (
        "None of the data you have requested is available yet, please revise the period "
        f"requested. The latest date available for this dataset is: {latest:%Y-%m-%d %H:00}"
    )
    raise JobFailedError(msg, title="invalid request", status=400)


def existing_steps(times: NDArray[np.datetime64], latest: datetime) -> NDArray[np.bool_]:
    """Return which steps exist: those up to the hour of the latest one."""
    import numpy as np

    hour = latest.astimezone(UTC).replace(tzinfo=None, minute=59, second=59, microsecond=0)
    return times <= np.datetime64(hour, "ms")


def no_data() -> JobFailedError:
    """Return the error of a request for which there is nothing."""
    return JobFailedError(_NO_DATA)


def count_fields(request: Request) -> int:
    """Return how many fields a request asks for: the product of the lengths of its lists.

    The box is not counted (subset-services A4: A).
    """
    count = 1
    for key, value in request.items():
        if key == "date":
            count *= len(days_of({"date": value}) or [])
        elif isinstance(value, list) and key not in {"area", "grid"}:
            count *= len(value)
    return count


def check_duplicates(request: Request) -> None:
    """Raise JobFailedError for a list with a value twice; the text is unknown (A3: A)."""
    for key, value in request.items():
        if isinstance(value, list) and key != "area" and len(set(map(str, value))) < len(value):
            msg = f"Duplicate values in the request: {key}={value}"
            raise JobFailedError(msg, title="invalid request", status=400)
