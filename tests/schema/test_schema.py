"""The schema of a data set: which keys it takes, what it refuses, and the range it asks for."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_inputs import any_text
from real_schemas import BOX, DATE, TEXT, Query, many_of, one_of, refused, schema
from rows import for_each

from hda_fsspec.errors import BrokerError, QueryError
from hda_fsspec.records import Product
from hda_fsspec.schema.schema import Schema

MONTHS = [f"{n:02d}" for n in range(1, 13)]


DAYS = [f"{n:02d}" for n in range(1, 32)]


PAGING = {"dataset_id", "itemsPerPage", "startIndex", "sortOrder"}


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


ERA5 = schema(
    {
        "variable": many_of("2m_temperature", "total_precipitation"),
        "year": many_of(*(str(n) for n in range(1940, 2026))),
        "month": many_of(*MONTHS),
        "day": many_of(*DAYS),
        "time": many_of("00:00", "12:00"),
        "data_format": one_of("grib", "netcdf"),
        "bbox": BOX,
    }
)


@for_each(
    ("key", "suggestion"),
    [
        ("variabel", "variable"),
        ("VARIABLE", "variable"),
        ("boundingbox", "bbox"),
        ("start_date", "startdate"),
        ("endate", "enddate"),
        ("dtstart", "startdate"),
        ("completionDate", "enddate"),
        ("data-format", "data_format"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(key: str, suggestion: str) -> None:
    """The nearest valid key comes first, common and earlier names included."""
    error = refused(ERA5, {key: ("x",)})
    assert error.key == key
    assert error.suggestions[0] == suggestion
    assert repr(suggestion) in str(error)


def test_an_unknown_key_without_a_near_one_lists_the_keys() -> None:
    """Where nothing is near, the error says what there is."""
    error = refused(OLCI, {"wavelength": ("500",)})
    assert error.suggestions == ()
    assert "Its keys are 'startdate', 'enddate', 'bbox', 'sat'" in str(error)
    assert "It takes none." in str(refused(schema({}), {"wavelength": ("500",)}))


@for_each("key", sorted(PAGING))
def test_paging_and_data_set_are_no_part_of_a_query(key: str) -> None:
    """Reserved keys are refused, also by an open schema, and never suggested."""
    for data_set in (OLCI, Schema.from_queryable("EO:X", {})):
        assert "no part of a query" in str(refused(data_set, {key: ("1",)}))
    for typo in ("itemPerPage", "startIndx", "dataset-id", "sortorder"):
        assert not PAGING & set(refused(OLCI, {typo: ("1",)}).suggestions)


def test_required_and_constraints_refuse_nothing() -> None:
    """Only the service knows what it requires: schemas list too much, and too little."""
    everything = ["dataset_id", "sat", "startdate", "enddate", "bbox", "not_even_there"]
    data_set = schema(
        {"sat": one_of("A", "B"), "startdate": DATE, "enddate": DATE, "bbox": BOX},
        required=everything,
        constraints=[{"sat": ["B"]}],
    )
    assert data_set.request({}) == {}
    assert data_set.request({"sat": ("A",)}) == {"sat": "A"}


def test_empty_values_are_never_sent() -> None:
    """An empty value is left out, but its key must be known all the same."""
    assert OLCI.request({"sat": (), "timeliness": ("",), "bbox": ("",)}) == {}
    assert OLCI.interval({"startdate": ("",)}) == (None, None)
    assert refused(OLCI, {"unknown": ()}).key == "unknown"


@for_each(
    "document",
    [
        {},
        {"type": "object"},
        {"type": "object", "properties": None},
        {"properties": {}},
        {"properties": []},
    ],
)
def test_a_schema_without_properties_passes_everything_through(document: dict[str, Any]) -> None:
    """Nothing is known, so nothing is refused; dates and box keep their documented form."""
    data_set = Schema.from_queryable("EO:X", document)
    query: Query = {
        "startdate": ("2024-05-01",),
        "enddate": ("2024-05-01",),
        "bbox": ("-6", "43", "-1.5", "46"),
        "minimum_depth": ("0",),
        "variables": ("vo", "uo"),
    }
    assert data_set.request(query) == {
        "startdate": "2024-05-01T00:00:00.000Z",
        "enddate": "2024-05-01T23:59:59.999Z",
        "bbox": [-6, 43, -1.5, 46],
        "minimum_depth": "0",
        "variables": ["vo", "uo"],
    }
    assert data_set.request({"dtend": ("2024",)}) == {"dtend": "2024-12-31T23:59:59.999Z"}
    assert (data_set.time_keys, data_set.bbox_key, data_set.name_keys) == (None, None, ())
    assert refused(data_set, {"bbox": ("1",)}).key == "bbox"
    assert refused(data_set, {"startdate": ("soon",)}).key == "startdate"


def test_a_schema_of_paging_alone_takes_nothing() -> None:
    """A data set that tells its properties, and has none of its own, has no keys."""
    assert schema({}).request({}) == {}
    assert schema({}).keys == ()


@for_each(
    "document",
    [
        None,
        [],
        "text",
        {"detail": "Not Found"},
        {"status_code": 500, "title": "Task Error", "detail": "Internal Server Error"},
        {"type": "FeatureCollection", "properties": {"totalResults": 0}},
        {"type": "about:blank", "title": "x"},
    ],
)
def test_what_is_no_schema_is_an_error_of_the_broker(document: Any) -> None:
    """An answer that is no JSON schema is never taken for one that permits everything."""
    with pytest.raises(BrokerError, match="EO:X"):
        Schema.from_queryable("EO:X", document)


def test_name_keys() -> None:
    """Keys that filter by a product's name come most specific first; choices are no names."""
    free = {"type": "string"}
    names = ("uid", "title", "identifier", "datasetIdentifier", "productIdentifier")
    assert schema(dict.fromkeys(names, free)).name_keys == names[::-1]
    assert schema({"uid": TEXT, "datasetIdentifier": one_of("ndvi_v1")}).name_keys == ("uid",)
    assert (
        schema({"title": DATE, "name": {"type": "number"}, "identifier": many_of("a")}).name_keys
        == ()
    )


@for_each(
    ("first", "last", "inside"),
    [
        ("2024-05-01T10:00:00Z", "2024-05-01T11:00:00Z", True),
        ("2024-04-30T12:00:00Z", "2024-05-01T12:00:00Z", True),
        ("2024-05-02T23:00:00Z", "2024-05-03T01:00:00Z", True),
        ("2024-04-30T00:00:00Z", "2024-05-01T00:00:00Z", False),
        ("2024-05-03T00:00:00Z", "2024-05-04T00:00:00Z", False),
        ("2024-05-01T00:00:00Z", "2024-05-01T00:00:00Z", True),
        ("2024-05-02T23:59:59.999Z", "2024-05-02T23:59:59.999Z", True),
        ("2024-05-03T00:00:00Z", "2024-05-03T00:00:00Z", False),
        ("2024-04-30T23:59:59.999Z", "2024-04-30T23:59:59.999Z", False),
    ],
)
def test_answers_are_filtered_by_the_interval(first: str, last: str, inside: bool) -> None:
    """A neighbour that touches the range only at its own end is not in it; an instant may be."""
    days: Query = {"startdate": ("2024-05-01",), "enddate": ("2024-05-02",)}
    product = Product("EO:X", "p", startdate=first, enddate=last)
    assert product.overlaps(*OLCI.interval(days)) is inside
    assert product.overlaps(*OLCI.interval({}))


def test_open_ends_of_the_interval() -> None:
    """A query with one end is open at the other."""
    product = Product("EO:X", "p", startdate="2024-05-01T00:00:00Z", enddate="2024-05-02T00:00:00Z")
    for query, inside in [
        ({"startdate": ("2024-05-01",)}, True),
        ({"startdate": ("2024-05-02",)}, False),
        ({"enddate": ("2024-05-01",)}, True),
        ({"enddate": ("2024-04",)}, False),
    ]:
        assert product.overlaps(*OLCI.interval(query)) is inside


def test_a_schema_is_a_value() -> None:
    """Schemas compare, hash and pickle by what they say, whether used before or not."""
    twin = pickle.loads(pickle.dumps(OLCI))
    assert OLCI.request({"sat": ("Sentinel-3A",)}) == twin.request({"sat": ("Sentinel-3A",)})
    assert twin == OLCI
    assert hash(twin) == hash(OLCI)


texts = any_text(max_size=12) | st.sampled_from(
    ["2024-05-01", "10", "a", "S2A, S2B", "-6", "NT", "1e400"]
)


queries = st.dictionaries(
    st.sampled_from([*OLCI.keys, *ERA5.keys]) | any_text(max_size=8),
    st.lists(texts, max_size=5).map(tuple),
    max_size=3,
)


@pytest.mark.slow
@settings(deadline=None, derandomize=True)
@given(query=queries)
def test_law_a_query_is_a_body_of_finite_json_or_a_query_error(query: Query) -> None:
    """No text whatever leads to another error, or to a body that is not JSON."""
    for data_set in (OLCI, ERA5, Schema("EO:X", is_open=True)):
        try:
            body = data_set.request(query)
        except QueryError:
            continue
        json.dumps(body, allow_nan=False)
        assert None not in body.values()
        assert set(body) <= set(query) | {"year", "month", "day"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | any_text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "oneOf", "anyOf", "enum", "const", "items", "minimum", "format", "title"]
            ),
            inner | st.sampled_from(["array", "string", "number", "date-time"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)


@pytest.mark.slow
@settings(deadline=None, derandomize=True)
@given(
    properties=st.dictionaries(
        st.sampled_from(["startdate", "bbox", "year", "day", "x"]), json_values
    ),
    value=texts.filter(bool),
)
def test_law_no_property_however_odd_breaks_a_schema(
    properties: dict[str, Any], value: str
) -> None:
    """Whatever the service writes into a schema, using it ends in a body or a QueryError."""
    data_set = Schema.from_queryable("EO:X", {"type": "object", "properties": properties})
    assert len(data_set.keys) >= len(properties)
    for key in [*properties, "startdate", "bbox"]:
        try:
            body = data_set.request({key: (value,)})
        except QueryError:
            continue
        assert len(body) == 1
        assert all(not isinstance(v, float) or math.isfinite(v) for v in body.values())
