"""Names that data sets had for their time range in earlier years still mean it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from checkout import SHARED
from real_schemas import BOX, DATE
from rows import for_each

from hda_fsspec import Location
from hda_fsspec.errors import QueryError
from hda_fsspec.schema.schema import Schema
from hda_fsspec.schema.time_and_box import TIME_PAIRS

RECORDED = SHARED / "recorded" / "requests"
NAMES = sorted(path.name for path in RECORDED.glob("*.json")) or ["absent"]
RESERVED = {"dataset_id", "itemsPerPage", "startIndex", "sortOrder"}
START, END = "2024-05-01T00:00:00.000Z", "2024-05-02T23:59:59.999Z"
EARLIER = [pair for pair in TIME_PAIRS if pair != ("startdate", "enddate")]


def schema(*names: str, **properties: Any) -> Schema:
    """Return a schema with times of these names."""
    told = dict.fromkeys(names, DATE) | properties
    return Schema.from_queryable("EO:X", {"type": "object", "properties": told})


def todays_schema(body: dict[str, Any]) -> Schema:
    """Return what today's schema of a recorded request looks like: with today's names of times."""
    today = dict(zip(("dtstart", "dtend"), ("startdate", "enddate"), strict=True))
    properties: dict[str, Any] = {}
    for key, value in body.items():
        if key == "bbox":
            properties[key] = BOX
        elif isinstance(value, list):
            choices = [{"const": each, "title": each} for each in value]
            properties[key] = {"type": "array", "items": {"oneOf": choices}}
        elif isinstance(value, (int, float)):
            properties[key] = {"type": "number"}
        elif value.endswith("Z") and "T" in value:
            properties[today.get(key, key)] = DATE
        else:
            properties[key] = {"type": "string"}
    return schema(**properties)


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_request_works_today(name: str) -> None:
    """A request of any year becomes one that today's schema of its data set understands."""
    if not RECORDED.is_dir():
        pytest.skip("the folder ../shared/recorded is absent")
    document = json.loads((RECORDED / name).read_text(encoding="utf-8"))
    body = {key: value for key, value in document.items() if key not in RESERVED}
    expected = {
        {"dtstart": "startdate", "dtend": "enddate"}.get(key, key): value
        for key, value in body.items()
    }

    assert todays_schema(body).request(Location.from_request(document).query) == expected


@for_each("earlier", EARLIER)
@for_each("now", [("startdate", "enddate"), ("start", "end"), ("dtstart", "dtend")])
def test_earlier_names_mean_the_names_of_now(
    earlier: tuple[str, str], now: tuple[str, str]
) -> None:
    """Whatever a data set called its range, and calls it now, days are whole and ends are sent."""
    data_set = schema(*now)
    query = {earlier[0]: ("2024-05-01",), earlier[1]: ("2024-05-02",)}

    assert data_set.request(query) == {now[0]: START, now[1]: END}
    assert data_set.interval(query) == data_set.interval(
        {"startdate": ("2024-05-01",), "enddate": ("2024-05-02",)}
    )
    assert set(data_set.keys) == {"startdate", "enddate", *now}


def test_one_end_may_have_an_earlier_name() -> None:
    """The two ends are read apart, and may be given by names of different years."""
    data_set = schema("startdate", "enddate")

    assert data_set.request({"dtstart": ("2024-05-01",)}) == {"startdate": START}
    assert data_set.request({"dtstart": ("2024-05-01",), "completionDate": ("2024-05-02",)}) == {
        "startdate": START,
        "enddate": END,
    }


def test_two_names_of_one_end_must_agree() -> None:
    """The same instant twice is fine; two different ones are refused, with both names."""
    data_set = schema("startdate", "enddate")
    same = {"startdate": ("2024-05-01",), "dtstart": ("2024-05-01T00:00:00Z",)}
    assert data_set.request(same) == {"startdate": START}
    for other in ({"startdate": ("2024-05-01",)}, {"start": ("2024-05-01",)}):
        with pytest.raises(QueryError, match="two names of one thing") as caught:
            data_set.request({**other, "dtstart": ("2024-05-03",)})
        assert next(iter(other)) in str(caught.value)
        assert "dtstart" in str(caught.value)


def test_faults_are_told_by_the_name_that_was_given() -> None:
    """Reversed and malformed dates are refused under the names of the query."""
    data_set = schema("startdate", "enddate")
    with pytest.raises(QueryError, match="dtstart is 2024-05-03") as caught:
        data_set.request({"dtstart": ("2024-05-03",), "dtend": ("2024-05-01",)})
    assert caught.value.key == "dtstart"
    with pytest.raises(QueryError, match="dtend=soon"):
        data_set.interval({"dtend": ("soon",)})


def test_a_name_that_means_something_else_here_is_left_alone() -> None:
    """A parameter of the schema is itself, even if another data set once named its range so."""
    data_set = schema("startdate", "enddate", start={"type": "number"}, creationDateStart=DATE)

    assert data_set.request({"start": ("5",), "creationDateStart": ("2024-05-01",)}) == {
        "start": 5,
        "creationDateStart": START,
    }
    assert data_set.interval({"start": ("5",), "creationDateStart": ("2024-05-01",)}) == (
        None,
        None,
    )


@for_each(("start", "end"), EARLIER)
def test_without_a_time_range_earlier_names_are_unknown(start: str, end: str) -> None:
    """A data set without a range has none under any name, and says so."""
    lists = {
        unit: {"type": "array", "items": {"oneOf": [{"const": "01", "title": "01"}]}}
        for unit in ("year", "month", "day")
    }
    for data_set in (schema(sat={"type": "string"}), schema(**lists)):
        for key in (start, end):
            with pytest.raises(QueryError, match="no key of this data set"):
                data_set.request({key: ("2024-05-01",)})
