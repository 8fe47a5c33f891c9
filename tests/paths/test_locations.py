"""What a path names, how it is written, and which paths are refused with which advice."""

from __future__ import annotations

import os
import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import pytest
from rows import for_each

from hda_fsspec import HDAFileSystem, Location
from hda_fsspec.errors import LocationError

DATASET = "EO:EUM:DAT:SENTINEL-3:OL_2_WFR___"


@for_each(
    ("path", "canonical"),
    [
        ("hda://", "hda://"),
        ("", "hda://"),
        ("/", "hda://"),
        (f"{DATASET}/", f"hda://{DATASET}"),
        (f"hda://{DATASET}//startdate=2024//", f"hda://{DATASET}/startdate=2024"),
        (f"hda::{DATASET}", f"hda://{DATASET}"),
        (f"{DATASET}/b=2/a=1", f"hda://{DATASET}/a=1/b=2"),
        (f"{DATASET}/variable=b,a", f"hda://{DATASET}/variable=b,a"),
        (f"{DATASET}/bbox=-6.0,43,-1.50,4.6e1", f"hda://{DATASET}/bbox=-6,43,-1.5,46"),
        (f"{DATASET}/bbox=-0.0,0,1_0,2", f"hda://{DATASET}/bbox=0,0,10,2"),
        (f"{DATASET}/k=%61%2fb", f"hda://{DATASET}/k=a%2Fb"),
        (f"{DATASET}/time=00:00", f"hda://{DATASET}/time=00:00"),
        (f"{DATASET}/key=a::b", f"hda://{DATASET}/key=a%3A%3Ab"),
        (f"{DATASET}/a b.nc", f"hda://{DATASET}/a%20b.nc"),
        (f"{DATASET}/..", f"hda://{DATASET}/%2E%2E"),
        (f"{DATASET}/k=./.", f"hda://{DATASET}/k=%2E/%2E"),
        (f"{DATASET}/k=é\u00a0x", f"hda://{DATASET}/k=é%C2%A0x"),
        (f"{DATASET}/S3A_*_NT_*.SEN3", f"hda://{DATASET}/S3A_*_NT_*.SEN3"),
        (f"{DATASET}/[!%21%2d]*%2A::", f"hda://{DATASET}/[!%21%2D]*%2A%3A%3A"),
        ("EO:EUM:*", "hda://EO:EUM:*"),
    ],
)
def test_canonical_form(path: str, canonical: str) -> None:
    """Every way of writing a path has one canonical form, which reads as the same location."""
    location = Location.parse(path)

    assert str(location) == location.path == canonical
    assert Location.parse(canonical) == location
    assert Location.parse(location) is location


def test_parts_of_a_path() -> None:
    """Segments with '=' are the query, decoded; the last one without is the product."""
    location = Location.parse(f"hda://{DATASET}/variable=a%2Cb,c/startdate=2024-05-01/x%3Dy.SEN3")

    assert location.dataset == DATASET
    assert location.query == {"startdate": ("2024-05-01",), "variable": ("a,b", "c")}
    assert (location.product, location.pattern) == ("x=y.SEN3", None)
    assert location.name == "x%3Dy.SEN3"
    assert Location.parse("hda://").name == ""


@for_each(
    ("path", "advice"),
    [
        ("https://example.com/a", "not an hda:// path"),
        (f"hda://startdate=2024/{DATASET}", "the data set goes first"),
        (f"{DATASET}/start*=1/x", "only in the last segment"),
        (f"{DATASET}/k=S3?_*", "write them as %2A, %3F and %5B"),
        (f"{DATASET}/*/x.nc", "only in the last segment"),
        ("EO:*/startdate=2024", "only in the last segment"),
        (f"{DATASET}/a.nc/b.nc", "nothing is below it"),
        (f"{DATASET}/a.nc/startdate=2024", "neither key=value nor the last segment"),
        (f"{DATASET}/a.nc/*", "nothing is below a product"),
        (f"{DATASET}/a=1/a=2", "'a' stands twice"),
        (f"{DATASET}/a=1=2", "%3D"),
        (f"{DATASET}/=2024", "neither it nor its values may be empty"),
        (f"{DATASET}/startdate=", "empty value"),
        (f"{DATASET}/variable=a,,b", "empty value"),
        (f"{DATASET}/k=100%", "%25"),
        (f"{DATASET}/k=%zz", "%25"),
        (f"{DATASET}/*%", "%25"),
        (f"{DATASET}/k=%FF", "not UTF-8"),
        (f"{DATASET}/k=\ud800", "not valid Unicode"),
        (f"{DATASET}/\ud800*", "not valid Unicode"),
        (f"{DATASET}/bbox=1,2,3", "four finite numbers"),
        (f"{DATASET}/bbox=1,2,3,x", "four finite numbers"),
        (f"{DATASET}/bbox=nan,2,3,4", "four finite numbers"),
        (f"{DATASET}/bbox=-inf,2,3,4", "four finite numbers"),
        (f"{DATASET}/bbox=1,46,2,43", "south must not be above north"),
        (f"{DATASET}/bbox=1,43,2,91", "within -90 and 90"),
        (f"{DATASET}/bbox=-361,43,2,46", "within -360 and 360"),
    ],
)
def test_malformed_paths_are_refused_with_advice(path: str, advice: str) -> None:
    """The error says what is wrong with the path, and what to write instead."""
    with pytest.raises(LocationError) as caught:
        Location.parse(path)

    assert advice in str(caught.value)


@for_each(
    ("value", "texts"),
    [
        ("a,b", ("a,b",)),
        (["a", "b"], ("a", "b")),
        (("a",), ("a",)),
        (10, ("10",)),
        (10.0, ("10",)),
        (0.25, ("0.25",)),
        (-0.0, ("0",)),
        (1e22, ("10000000000000000000000",)),
        (Fraction(1, 4), ("0.25",)),
        (True, ("true",)),
        ([False, 1], ("false", "1")),
        (date(2024, 5, 1), ("2024-05-01",)),
        (datetime(2024, 5, 1, 12, tzinfo=UTC).replace(tzinfo=None), ("2024-05-01T12:00:00.000Z",)),
        (datetime(2024, 5, 1, 12, tzinfo=UTC), ("2024-05-01T12:00:00.000Z",)),
        (
            datetime(2024, 5, 1, 1, tzinfo=timezone(timedelta(hours=2))),
            ("2024-04-30T23:00:00.000Z",),
        ),
    ],
)
def test_values_of_a_query(value: Any, texts: tuple[str, ...]) -> None:
    """Text, numbers, dates and lists become the text that the path shows."""
    location = Location(DATASET, {"key": value})

    assert location.query == {"key": texts}
    assert Location.parse(location.path) == location


def test_numbers_of_numpy_are_numbers() -> None:
    """What arrays yield can be given as it is."""
    numpy = pytest.importorskip("numpy")
    box = [numpy.float32(-6), numpy.float64(43), numpy.int16(-1), 46]

    assert Location(DATASET, {"bbox": box}).path.endswith("/bbox=-6,43,-1,46")


@for_each(
    "arguments",
    [
        {"query": {"a": "1"}},
        {"product": "x"},
        {"dataset": ""},
        {"dataset": DATASET, "product": ""},
        {"dataset": DATASET, "pattern": ""},
        {"dataset": DATASET, "product": "a", "pattern": "*"},
        {"dataset": DATASET, "pattern": "no-magic"},
        {"dataset": DATASET, "pattern": "a/*"},
        {"dataset": DATASET, "pattern": "a=*"},
        {"dataset": DATASET, "query": {"": "1"}},
        {"dataset": DATASET, "query": {1: "1"}},
        {"dataset": DATASET, "query": {1: "1", "a": "2"}},
        {"dataset": DATASET, "query": {"a": []}},
        {"dataset": DATASET, "query": {"a": ""}},
        {"dataset": DATASET, "query": {"a": {"b": 1}}},
        {"dataset": DATASET, "query": {"a": [None]}},
        {"dataset": DATASET, "query": {"a": float("nan")}},
        {"dataset": DATASET, "query": {"a": float("inf")}},
        {"dataset": DATASET, "query": {"bbox": 5}},
        {"dataset": "\udcff"},
    ],
)
def test_what_cannot_be_written_as_a_path_is_refused(arguments: dict[str, Any]) -> None:
    """No location exists that has no path."""
    with pytest.raises(LocationError):
        Location(**arguments)


def test_none_leaves_a_key_out_and_a_text_box_is_split() -> None:
    """Optional arguments can be passed through, and a box may be text."""
    location = Location(DATASET, {"startdate": None, "bbox": "-6,43,-1,46"})

    assert location.query == {"bbox": ("-6", "43", "-1", "46")}


def test_parents_and_children() -> None:
    """The parent is one segment up, as for fsspec, until the root, which is its own parent."""
    location = Location.parse(f"{DATASET}/a=1/b=2/x.nc")
    steps = [location]
    while steps[-1].parent != steps[-1]:
        steps.append(steps[-1].parent)

    assert [str(step) for step in steps] == [
        f"hda://{DATASET}/a=1/b=2/x.nc",
        f"hda://{DATASET}/a=1/b=2",
        f"hda://{DATASET}/a=1",
        f"hda://{DATASET}",
        "hda://",
    ]
    for above, below in zip(steps[1:], steps, strict=False):
        parent = HDAFileSystem._parent(str(below))
        assert Location.parse(parent) == above
    assert steps[1].child("x.nc") == location
    assert Location().child(DATASET) == Location(DATASET)
    assert Location(DATASET, pattern="*").parent == Location(DATASET)
    assert location.directory == steps[1]


def test_locations_are_values() -> None:
    """Equal paths are equal, hash and pickle alike; locations are frozen and name no local file."""
    one = Location(DATASET, {"b": 1, "a": ["x", "y"]}, "p")
    other = Location.parse(f"{DATASET}/a=x,y/b=1.0/p".replace("1.0", "1"))

    assert one == other
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one != Location(DATASET, {"a": "x,y", "b": 1}, "p")
    assert eval(repr(one), {"Location": Location.parse}) == one
    assert not isinstance(one, os.PathLike)
    with pytest.raises(AttributeError):
        one.product = "q"  # type: ignore[misc]
    changed = one.query
    changed["a"] = ()
    assert one.query["a"] == ("x", "y")


@for_each(
    ("pattern", "matching", "others"),
    [
        ("*_NT_*", ["S3A_NT_1.SEN3", "_NT_"], ["S3A_NR_1.SEN3", "S3A_nt_1"]),
        ("a?c", ["abc", "a?c", "a\nc"], ["ac", "abbc"]),
        ("*.n%2Ac", ["x.n*c"], ["x.nc", "x.nabc"]),
        ("a%3F*", ["a?", "a?x"], ["ab"]),
        ("[%2A%3F]*", ["*x", "?x"], ["ax", "[x"]),
        ("[!%21-a]*", ["b"], ["!", "A", "a", "-"]),
        ("[%21a]*", ["!", "a"], ["b"]),
        ("[a%2Dc]?", ["-x", "ax", "cx"], ["bx"]),
        ("[a%5Dc]?", ["]x", "ax", "cx"], ["bx", "a"]),
        ("[]a]x", ["]x", "ax"], ["x"]),
        ("[ab", ["[ab"], ["a", "b"]),
        ("%5Bab]*", ["[ab]", "[ab]c"], ["a"]),
        ("*%25*", ["50%"], ["50"]),
        ("*%2F*", ["a/b"], ["ab"]),
    ],
)
def test_patterns_match_decoded_ids(pattern: str, matching: list[str], others: list[str]) -> None:
    """Glob characters are fnmatch's; an escaped one is the character, in brackets too."""
    location = Location.parse(f"{DATASET}/{pattern}")
    again = Location.parse(str(location))

    assert again == location
    for one in (location, again):
        assert [name for name in matching if not one.matches(name)] == []
        assert [name for name in others if one.matches(name)] == []


def test_without_a_pattern_a_location_matches_its_product() -> None:
    """A product is matched by its own id alone."""
    assert Location(DATASET, product="a*").matches("a*")
    assert not Location(DATASET, product="a*").matches("ab")


def test_a_pattern_of_many_stars_is_decided_at_once() -> None:
    """No combination of stars makes the search for a match explode."""
    location = Location(DATASET, pattern="*a" * 40 + "*b")

    assert not location.matches("a" * 5000)
