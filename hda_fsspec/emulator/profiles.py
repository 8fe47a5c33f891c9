"""Profiles of catalogue times, which are seldom the bare time coordinate of a product.

A profile turns the nominal time of a product into the interval that a catalogue shows. The
module knows times and file names; it has never heard of a product.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hda_fsspec.errors import ConfigurationError

#: Where a name tells no time.
UNDATED = datetime(2000, 1, 1, tzinfo=UTC)

_MILLISECOND = timedelta(milliseconds=1)
_FIRST_YEAR, _LAST_YEAR = 1850, 2100

# The most telling pattern first: a stamp to the second must not be read as a bare year.
_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"(\d{8}T\d{6})_(\d{8}T\d{6})", "%Y%m%dT%H%M%S"),
    (r"(\d{8}T\d{6})", "%Y%m%dT%H%M%S"),
    (r"(\d{14})", "%Y%m%d%H%M%S"),
    (r"(\d{12})", "%Y%m%d%H%M"),
    (r"(\d{8})-(\d{8})", "%Y%m%d"),
    (r"(\d{8})", "%Y%m%d"),
    (r"(\d{4}-\d{2}-\d{2})", "%Y-%m-%d"),
    (r"(\d{6})", "%Y%m"),
    (r"(\d{4}-\d{2})(?!-?\d)", "%Y-%m"),
    (r"(\d{4})", "%Y"),
)
_COMPILED = tuple((re.compile(rf"(?<!\d){text}(?!\d)"), form) for text, form in _PATTERNS)


def _plausible(text: str, form: str) -> datetime | None:
    try:
        time = datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None
    return time if _FIRST_YEAR <= time.year <= _LAST_YEAR else None


def nominal_times(name: str) -> tuple[datetime, datetime]:
    """Return the first and last nominal time that a file name tells; 2000-01-01 if none.

    >>> nominal_times("S3A_OL_1_EFR____20211021T073827_20211021T074112_x.SEN3")[1].minute
    41
    >>> nominal_times("dt_med_allsat_phy_l4_20050504_2005T2.nc")[0].isoformat()
    '2005-05-04T00:00:00+00:00'
    """
    for pattern, form in _COMPILED:
        for match in pattern.finditer(name):
            times = [_plausible(text, form) for text in match.groups()]
            first, last = times[0], times[-1]
            if first is not None:
                return first, first if last is None or last < first else last
    return UNDATED, UNDATED


def _chance(seed_text: str, salt: str, below: int) -> int:
    digest = hashlib.sha256(f"{salt} {seed_text}".encode()).digest()
    return int.from_bytes(digest[:6], "big") % below


def _midnight(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)


def _exact(first: datetime, last: datetime, _seed: str) -> tuple[datetime, datetime]:
    return first, last


def _day(first: datetime, last: datetime, _seed: str) -> tuple[datetime, datetime]:
    return _midnight(first), _midnight(last) + timedelta(days=1) - _MILLISECOND


def _day_before(first: datetime, last: datetime, _seed: str) -> tuple[datetime, datetime]:
    noon = timedelta(hours=12)
    return _midnight(first) - noon + timedelta(seconds=1), _midnight(last) + noon


def _month(first: datetime, last: datetime, _seed: str) -> tuple[datetime, datetime]:
    begin = _midnight(first).replace(day=1)
    later = _midnight(last).replace(day=1) + timedelta(days=32)
    return begin, later.replace(day=1) - _MILLISECOND


def _sensing(first: datetime, last: datetime, seed: str) -> tuple[datetime, datetime]:
    start = first + timedelta(milliseconds=_chance(seed, "start", 1000))
    minutes = 3 + _chance(seed, "length", 40)
    end = last if last > first else first + timedelta(minutes=minutes)
    return start, end + timedelta(milliseconds=1000 + _chance(seed, "end", 1000))


def _publication(first: datetime, last: datetime, seed: str) -> tuple[datetime, datetime]:
    return first, last + timedelta(minutes=120 + _chance(seed, "publication", 4 * 24 * 60))


PROFILES: dict[str, Callable[[datetime, datetime, str], tuple[datetime, datetime]]] = {
    "exact": _exact,
    "day": _day,
    "day-before": _day_before,
    "month": _month,
    "sensing": _sensing,
    "nominal+publication": _publication,
}


def interval(
    profile: str, first: datetime, last: datetime, *, seed_text: str
) -> tuple[datetime, datetime]:
    """Return the interval that a catalogue shows for a product.

    Parameters
    ----------
    profile : str
        One of :data:`PROFILES`.
    first, last : datetime
        The nominal times of the product, aware.
    seed_text : str
        What chance depends on, so that the same product always has the same times.

    Raises
    ------
    ConfigurationError
        There is no such profile.
    """
    if profile not in PROFILES:
        msg = f"The emulator has no time profile {profile!r}: use one of {', '.join(PROFILES)}."
        raise ConfigurationError(msg)
    return PROFILES[profile](first, last, seed_text)
