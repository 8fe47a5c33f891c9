"""The values of a query: typed by the schema, kept to its choices and bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_inputs import any_text
from real_schemas import BOX, DATE, TEXT, Query, many_of, one_of, refused, schema
from rows import for_each

from hda_fsspec.errors import QueryError
from hda_fsspec.records import format_time
from hda_fsspec.schema.parameters import Parameter

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


def as_path(body: dict[str, Any]) -> Query:
    """Write a request as the query of a path: texts only."""
    many = {key: value if isinstance(value, list) else [value] for key, value in body.items()}
    return {key: tuple(str(value) for value in values) for key, values in many.items()}


YEARS = schema({"year": many_of(*(str(n) for n in range(1940, 2026)))})
TYPED = schema(
    {
        "number": {"type": "number"},
        "bounded": {"type": "number", "minimum": 0, "maximum": 100},
        "whole": {"type": "integer"},
        "text": {"type": "string"},
        "flag": {"type": "boolean"},
        "list": {"type": "array", "items": {"type": "string"}},
        "numbers": {"type": "array", "items": {"type": "number", "minimum": 0}},
        "dates": {"type": "array", "items": {"type": "string", "format": "date-time"}},
        "enum": {"type": "string", "enum": ["a", "b"]},
        "list_enum": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
        "any_of": {"anyOf": [{"const": "a"}, {"enum": ["b", "c"]}, {"type": "null"}]},
        "either": {
            "anyOf": [
                {"type": "string", "enum": ["a"]},
                {"type": "array", "items": {"enum": ["a", "b"]}},
            ]
        },
        "half_open": {"anyOf": [{"const": "a"}, {"type": "string"}]},
        "nullable": {"type": ["number", "null"]},
        "odd_const": {"type": "string", "oneOf": [{"const": 10, "title": "ten"}, {"const": 0.5}]},
        "comma": one_of("S2A, S2B", "S2A"),
        "untold": {},
        "nonsense": {"type": 7, "oneOf": "x", "items": 3, "minimum": "low"},
        "not_even_a_mapping": True,
        "thing": {"type": "object"},
    }
)


@for_each(
    ("key", "values", "wanted"),
    [
        ("number", ("15",), 15),
        ("number", ("1.50",), 1.5),
        ("number", ("-1e3",), -1000.0),
        ("bounded", ("100",), 100),
        ("whole", ("2.0",), 2),
        ("text", ("007",), "007"),
        ("text", ("0.0",), "0.0"),
        ("flag", ("True",), True),
        ("list", ("a",), ["a"]),
        ("list", ("a", "b"), ["a", "b"]),
        ("numbers", ("1", "2.5"), [1, 2.5]),
        ("dates", ("2024", "2025"), ["2024-01-01T00:00:00.000Z", "2025-01-01T00:00:00.000Z"]),
        ("enum", ("b",), "b"),
        ("list_enum", ("b",), ["b"]),
        ("any_of", ("c",), "c"),
        ("either", ("a",), "a"),
        ("either", ("a", "b"), ["a", "b"]),
        ("half_open", ("z",), "z"),
        ("nullable", ("3",), 3),
        ("odd_const", ("10",), 10),
        ("odd_const", ("10.0",), 10),
        ("odd_const", ("0.50",), 0.5),
        ("comma", ("S2A, S2B",), "S2A, S2B"),
        ("untold", ("5",), "5"),
        ("untold", ("5", "6"), ["5", "6"]),
        ("nonsense", ("5",), "5"),
        ("not_even_a_mapping", ("5",), "5"),
        ("thing", ("{}",), "{}"),
    ],
)
def test_values_are_typed_by_the_schema(key: str, values: tuple[str, ...], wanted: Any) -> None:
    """Each text becomes the JSON value that the schema asks for."""
    body = TYPED.request({key: values})
    assert json.dumps(body) == json.dumps({key: wanted})


@for_each(
    ("key", "values", "problem", "suggestions"),
    [
        ("number", ("many",), "not a finite number", ()),
        ("number", ("inf",), "not a finite number", ()),
        ("number", ("1_000",), "not a finite number", ()),
        ("number", ("9" * 9999,), "not a finite number", ()),
        ("number", ("1", "2"), "takes one value", ()),
        ("bounded", ("101",), "largest value", ("100",)),
        ("bounded", ("-0.1",), "smallest value", ("0",)),
        ("whole", ("2.5",), "whole number", ()),
        ("flag", ("maybe",), "true or false", ("true", "false")),
        ("text", ("a", "b"), "takes one value", ()),
        ("numbers", ("1", "-2"), "smallest value", ("0",)),
        ("enum", ("A",), "Did you mean 'a'?", ("a",)),
        ("list_enum", ("a", "z"), "Its values are 'a', 'b'", ()),
        ("any_of", ("z",), "Its values are 'a', 'b', 'c'", ()),
        ("either", ("z",), "Its values are", ()),
        ("odd_const", ("Ten",), "Did you mean '10'?", ("10",)),
        ("comma", ("S2A, S2X",), "Did you mean 'S2A, S2B'", ("S2A, S2B",)),
        ("comma", ("S2A", " S2B"), "%2C", ("S2A, S2B",)),
    ],
)
def test_values_that_do_not_fit_are_refused(
    key: str, values: tuple[str, ...], problem: str, suggestions: tuple[str, ...]
) -> None:
    """The error names data set, key and value, what is wrong, and the nearest valid ones."""
    error = refused(TYPED, {key: values})
    assert problem in str(error)
    assert str(error).startswith(f"Did not ask EO:X for {key}=")
    assert len(str(error)) < 500
    assert error.key == key
    assert error.suggestions == suggestions


def test_a_title_leads_to_its_value() -> None:
    """Who writes what the web page shows is told what the service calls it."""
    assert refused(OLCI, {"timeliness": ("non time critical",)}).suggestions == ("NT",)


def test_a_long_list_of_choices_is_cut_in_the_message() -> None:
    """A message stays a few lines long however many choices there are."""
    error = refused(YEARS, {"year": ("x" * 5000,)})
    assert "and 74 more" in str(error)
    assert len(str(error)) < 500


def test_pattern_is_left_to_the_service() -> None:
    """Patterns of schemas are wrong (a product's name holds dots), so they refuse nothing."""
    assert schema({"uid": TEXT}).request({"uid": ("a b.c",)}) == {"uid": "a b.c"}


numbers = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-(10**9), 10**9)


bodies = st.fixed_dictionaries(
    {},
    optional={
        "number": numbers,
        "numbers": st.lists(numbers.map(abs), min_size=1),
        "text": any_text(min_size=1),
        "list": st.lists(any_text(min_size=1), min_size=1),
        "list_enum": st.lists(st.sampled_from("ab"), min_size=1),
        "odd_const": st.sampled_from([10, 0.5]),
        "flag": st.booleans(),
    },
)


@pytest.mark.slow
@settings(deadline=None, derandomize=True)
@given(body=bodies)
def test_law_a_body_survives_the_way_through_texts(body: dict[str, Any]) -> None:
    """Texts of a typed body, typed again, are that body, floats to the last bit."""
    again = TYPED.request(as_path(body))
    assert again == body
    assert again.keys() == body.keys()


texts = any_text(max_size=12) | st.sampled_from(
    ["2024-05-01", "10", "a", "S2A, S2B", "1e400", "9" * 9999]
)


@pytest.mark.slow
@settings(deadline=None, derandomize=True)
@given(key=st.sampled_from(TYPED.keys), values=st.lists(texts, max_size=4).map(tuple))
def test_law_any_text_is_finite_json_or_a_query_error(key: str, values: tuple[str, ...]) -> None:
    """No text whatever leads to another error, or to a value that is not JSON."""
    try:
        body = TYPED.request({key: values})
    except QueryError:
        return
    json.dumps(body, allow_nan=False)
    assert body.keys() <= {key}
    assert None not in body.values()


@for_each(
    "told",
    [
        {"type": "x-choice"},
        {"type": ["x-choice", 5, None]},
        {"type": {"of": "string"}},
        {"type": "geo:point", "x-widget": {"rows": 3}, "allOf": [{"$ref": "#/a"}]},
        {"oneOf": [{"const": {"a": 1}}, {"const": None}]},
        {"enum": "a,b", "minimum": "0", "maximum": None, "format": 5},
        {"items": 5, "not": {}, "if": True},
    ],
)
def test_unknown_words_leave_a_parameter_free(told: dict[str, Any]) -> None:
    """What a schema says in words that JSON schemas have not is no reason to refuse a value."""
    parameter = Parameter.from_json("p", told)

    assert parameter.convert(["a"], key="p") == "a"
    assert parameter.convert(["a", "5"], key="p") == ["a", "5"]


@pytest.mark.slow
def test_nesting_without_end_leaves_a_parameter_free() -> None:
    """A schema deeper than Python can follow is as good as none."""
    told: dict[str, Any] = {"type": "string"}
    for _ in range(100_000):
        told = {"oneOf": [told]}

    assert Parameter.from_json("p", told).convert(["a"], key="p") == "a"


@for_each(
    ("told", "expected"),
    [
        ("2024-10-12", "2024-10-12T23:59:59.999Z"),
        ("2024-10-12T06:00:00Z", "2024-10-12T06:00:00.000Z"),
        ("2024", "2024-12-31T23:59:59.999Z"),
        ("soon", None),
        (5, None),
        (None, None),
    ],
)
def test_a_date_has_bounds(told: object, expected: str | None) -> None:
    """The schema says where a data set ends; what is no date says nothing."""
    date = {"type": "string", "format": "date-time", "minimum": "1993-01-01", "maximum": told}

    parameter = Parameter.from_json("enddate", date)

    assert parameter.earliest is not None
    assert format_time(parameter.earliest) == "1993-01-01T00:00:00.000Z"
    assert (parameter.latest and format_time(parameter.latest)) == expected
    assert parameter.convert(["2020-01-01"], key="enddate") == "2020-01-01T00:00:00.000Z"
