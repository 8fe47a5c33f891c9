"""Names of time and box, and how their values are read, whatever a data set calls them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from real_schemas import BOX, DATE, Query, many_of, one_of, refused, schema
from rows import for_each

from hda_fsspec.errors import QueryError

OLCI = schema(
    {
        "sat": one_of("Sentinel-3A", "Sentinel-3B"),
        "timeliness": one_of({"const": "NT", "title": "Non time critical"}, {"const": "NR"}),
        "orbit": {"type": "number", "minimum": 1, "maximum": 385},
        "startdate": DATE,
        "enddate": DATE,
        "publication": DATE,
        "bbox": BOX,
    }
)


PAIRS = [
    ("startdate", "enddate"),
    ("start", "end"),
    ("dtstart", "dtend"),
    ("min_date", "max_date"),
    ("start_datetime", "end_datetime"),
    ("startDate", "completionDate"),
    ("startDate", "endDate"),
    ("observed_start", "observed_end"),
    ("creationDateStart", "creationDateEnd"),
]


SPELLED = [
    ("beginPosition", "endPosition"),
    ("sensing_start_time", "sensing_stop_time"),
    ("dateFrom", "dateTo"),
    ("fromdate", "todate"),
    ("temporal_min", "temporal_max"),
    ("beginningDateTime", "endingDateTime"),
    ("startTime", "completionTime"),
]


@for_each(("start", "end"), PAIRS + SPELLED)
def test_the_common_dates_work_whatever_the_data_set_calls_them(start: str, end: str) -> None:
    """`startdate` and `enddate` are sent, and typed, under the data set's own names."""
    data_set = schema({"publication": DATE, start: DATE, end: DATE})
    wanted = {start: "2024-05-01T00:00:00.000Z", end: "2024-05-02T23:59:59.999Z"}
    query: Query = {"startdate": ("2024-05-01",), "enddate": ("2024-05-02",)}
    assert data_set.time_keys == (start, end)
    assert data_set.request(query) == wanted
    assert data_set.request({start: ("2024-05-01",), end: ("2024-05-02",)}) == wanted
    assert data_set.request({start: ("2024-05-01",), "enddate": ("2024-05-02",)}) == wanted
    assert data_set.interval(query) == (
        datetime(2024, 5, 1, tzinfo=UTC),
        datetime(2024, 5, 2, 23, 59, 59, 999_000, tzinfo=UTC),
    )


@for_each(("start", "end"), PAIRS)
def test_a_pair_of_known_names_needs_no_format(start: str, end: str) -> None:
    """The known names are dates even where the schema calls them plain strings."""
    data_set = schema({start: {"type": "string"}, end: {}})
    body = data_set.request({"startdate": ("2024",), "enddate": ("2024-02",)})
    assert body == {start: "2024-01-01T00:00:00.000Z", end: "2024-02-29T23:59:59.999Z"}


@pytest.mark.parametrize(
    ("key", "choice"), [("period", "19790101-20091231"), ("hydrological_year", "1980_81")]
)
def test_other_namings_of_time_are_given_natively(key: str, choice: str) -> None:
    """A period or hydrological year is no range: it is taken as it is, and dates are refused."""
    data_set = schema({key: many_of(choice, "other")})
    assert data_set.request({key: (choice,)}) == {key: [choice]}
    assert refused(data_set, {"startdate": ("2024",)}).key == "startdate"


def test_a_data_set_without_dates_refuses_them() -> None:
    """Dates for a data set that has none are an error, not silently dropped."""
    corine = schema(
        {"productType": one_of("Corine Land Cover 2012"), "format": one_of("GeoPackage")}
    )
    error = refused(corine, {"startdate": ("2012",)})
    assert error.key == "startdate"
    assert "'productType'" in str(error)


def test_one_end_alone_is_handled() -> None:
    """A data set with a start only takes a start, and refuses an end."""
    data_set = schema({"dtstart": DATE})
    assert data_set.request({"startdate": ("2024-05-01",)}) == {
        "dtstart": "2024-05-01T00:00:00.000Z"
    }
    assert data_set.time_keys is None
    assert refused(data_set, {"enddate": ("2024-05-01",)}).key == "enddate"
    assert "enddate" not in data_set.keys


def test_a_range_of_publication_dates_never_stands_in_for_observation() -> None:
    """When something was published or processed is not when it was observed."""
    data_set = schema({"publicationStart": DATE, "publicationEnd": DATE, "processingDate": DATE})
    assert data_set.time_keys is None
    assert refused(data_set, {"startdate": ("2024",)}).key == "startdate"


def test_both_names_of_one_thing_must_agree() -> None:
    """The common and the native name together are fine while they say the same."""
    data_set = schema({"dtstart": DATE, "dtend": DATE, "area": BOX})
    same: Query = {"startdate": ("2024-05-01",), "dtstart": ("2024-05-01T00:00:00Z",)}
    assert data_set.request(same) == {"dtstart": "2024-05-01T00:00:00.000Z"}
    error = refused(data_set, {"startdate": ("2024-05-01",), "dtstart": ("2024-05-02",)})
    assert "two names of one thing" in str(error)
    boxes: Query = {"bbox": ("1", "2", "3", "4"), "area": ("1.0", "2", "3", "4")}
    assert data_set.request(boxes) == {"area": [1, 2, 3, 4]}
    assert "differ" in str(refused(data_set, {**boxes, "area": ("0", "2", "3", "4")}))


@for_each(
    ("text", "start", "end"),
    [
        ("2024-05-01", "2024-05-01T00:00:00.000Z", "2024-05-01T23:59:59.999Z"),
        ("2024-02", "2024-02-01T00:00:00.000Z", "2024-02-29T23:59:59.999Z"),
        ("2023", "2023-01-01T00:00:00.000Z", "2023-12-31T23:59:59.999Z"),
        ("2024-05-01T10:11", "2024-05-01T10:11:00.000Z", "2024-05-01T10:11:00.000Z"),
        ("2024-05-01T10:11:12Z", "2024-05-01T10:11:12.000Z", "2024-05-01T10:11:12.000Z"),
        ("2024-05-01T10:11:12.5+02:00", "2024-05-01T08:11:12.500Z", "2024-05-01T08:11:12.500Z"),
    ],
)
def test_dates(text: str, start: str, end: str) -> None:
    """A day, month or year is its first or last instant; a time is itself."""
    assert OLCI.request({"startdate": (text,)}) == {"startdate": start}
    assert OLCI.request({"enddate": (text,)}) == {"enddate": end}


@for_each(
    "text",
    [
        "yesterday",
        "2024-13",
        "2024-02-30",
        "01-05-2024",
        "2024-05-01T25:00",
        "0000",
        "٢٠٢٤",
        "20240501",
        "2024-05-01+02:00",
        "0001-01-01T00:00+05:00",
        "2024-05-01Tx",
        "2024-05-01/2024-06",
    ],
)
@for_each("key", ["startdate", "enddate", "publication"])
def test_malformed_dates_are_refused(key: str, text: str) -> None:
    """The error names the key, and shows how a date is written."""
    error = refused(OLCI, {key: (text,)})
    assert error.key == key
    assert f"{key}=2024-05-01" in str(error)


def test_reversed_dates_are_refused() -> None:
    """An end before its start is an error; one instant is not."""
    error = refused(OLCI, {"startdate": ("2024-05-02",), "enddate": ("2024-05-01",)})
    assert "ends before it starts" in str(error)
    with pytest.raises(QueryError, match="ends before"):
        OLCI.interval({"startdate": ("2024-05-02",), "enddate": ("2024-05-01",)})
    instant = ("2024-05-02T10:00:00Z",)
    assert len(OLCI.request({"startdate": instant, "enddate": instant})) == 2


def test_other_dates_are_written_as_the_service_does() -> None:
    """A date that is no end of a range is one instant."""
    assert OLCI.request({"publication": ("2024-05-01",)}) == {
        "publication": "2024-05-01T00:00:00.000Z"
    }


@for_each(
    ("values", "problem"),
    [
        (("1", "2", "3"), "four numbers"),
        (("1", "2", "3", "4", "5"), "four numbers"),
        (("a", "2", "3", "4"), "finite number"),
        (("nan", "2", "3", "4"), "finite number"),
        (("1e999", "2", "3", "4"), "finite number"),
        (("-181", "2", "3", "4"), "longitude"),
        (("1", "2", "361", "4"), "longitude"),
        (("1", "-91", "3", "4"), "latitude"),
        (("43", "-6", "46", "91"), "latitude"),
        (("-6", "46", "-1", "43"), "lies north of north"),
    ],
)
def test_malformed_boxes_are_refused(values: tuple[str, ...], problem: str) -> None:
    """The error says what is wrong, and the order of the four numbers."""
    error = refused(OLCI, {"bbox": values})
    assert error.key == "bbox"
    assert problem in str(error)
    assert "W,S,E,N" in str(error)


@for_each(
    ("name", "told"),
    [
        ("bbox", BOX),
        ("bbox", {"type": "array"}),
        ("bbox", {}),
        ("area", BOX),
        (
            "extent",
            {
                "type": "array",
                "minItems": 4,
                "maxItems": 4,
                "items": {"type": "number", "minimum": -180},
            },
        ),
    ],
)
def test_the_common_box_works_whatever_the_data_set_calls_it(name: str, told: Any) -> None:
    """`bbox` is four numbers, whole ones as integers, and may cross the date line."""
    data_set = schema({"levels": {"type": "array", "items": {"type": "number"}}, name: told})
    body = data_set.request({"bbox": ("170.0", "-20.5", "-170", "1e1")})
    assert data_set.bbox_key == name
    assert json.dumps(body) == json.dumps({name: [170, -20.5, -170, 10]})


def test_a_data_set_without_a_box_refuses_one() -> None:
    """A list of four is no box unless it starts at -180."""
    data_set = schema({"levels": {"type": "array", "items": [{"minimum": 0}] * 4}})
    assert data_set.bbox_key is None
    assert refused(data_set, {"bbox": ("1", "2", "3", "4")}).key == "bbox"
