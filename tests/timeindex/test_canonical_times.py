"""Times as the service writes them take a short way through the parser, and mean the same."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hda_fsspec.records import Product, format_time, parse_time

_FORM = "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}"
_LARGEST = (9999, 13, 32, 25, 61, 61, 999)

texts = st.tuples(*(st.integers(0, largest) for largest in _LARGEST)).map(
    lambda numbers: _FORM.format(*numbers)
)


def _time_or_error(text: str) -> datetime | None:
    try:
        return parse_time(text)
    except ValueError:
        return None


@pytest.mark.slow
@settings(deadline=None, derandomize=True)
@given(text=texts)
@example("2024-02-29T23:59:59.999")
@example("2024-02-30T00:00:00.000")
@example("2024-05-01T24:00:00.000")
@example("2024-05-01T23:60:00.000")
@example("0000-05-01T00:00:00.000")
@example("2024-05-01T12:00:00.\u0661\u0662\u0663")
def test_a_time_in_the_form_of_the_service(text: str) -> None:
    """With Z or with +0000 a time is the same instant in UTC, or in both forms no time."""
    time = _time_or_error(f"{text}Z")
    feature = {"id": "a", "properties": {"startdate": f"{text}Z"}}

    assert time == _time_or_error(f"{text}+0000")
    told = Product.from_feature("EO:X", feature).startdate
    if time is None:
        assert told is None
    else:
        assert time.tzinfo is UTC
        assert told == format_time(time)


def test_what_follows_a_time_is_not_overlooked() -> None:
    """A line break behind a time is a blank, and a letter makes it none."""
    assert parse_time("2024-05-01T00:00:00.000Z\n") == datetime(2024, 5, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="not an ISO 8601 time"):
        parse_time("2024-05-01T00:00:00.000ZZ")
