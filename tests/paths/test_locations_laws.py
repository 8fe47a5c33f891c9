"""Laws of paths, over arbitrary data sets, queries, products and texts."""

from __future__ import annotations

import fnmatch
import pickle
import re
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_inputs import any_text

from hda_fsspec import HDAFileSystem, Location
from hda_fsspec.errors import LocationError

names = st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12
) | st.sampled_from(
    [".", "..", "a::b", ":", "%41", "*", "[a]", "a=b", "hda://", "hda::", "a,b", "\\", "\u2028"]
)
boxes = st.tuples(
    st.floats(-180, 180), st.floats(-90, 0), st.floats(-180, 180), st.floats(0, 90)
).map(list)
queries = st.dictionaries(
    names.filter(lambda key: key != "bbox"), names | st.lists(names, min_size=1, max_size=3)
)
products = st.builds(
    lambda dataset, query, box, product: Location(
        dataset, query | ({} if box is None else {"bbox": box}), product
    ),
    names,
    queries,
    st.none() | boxes,
    st.none() | names,
)
# Patterns: raw glob characters, and everything else percent-encoded or safe.
pieces = st.sampled_from(["*", "?", "[", "]", "[!", "-", "!", "a", "b", "c", "^", ".", "&&", "z-a"])
escapes = st.sampled_from("*?[]!-%/,#= é\\:^").map(lambda char: quote(char, safe=""))
patterns = st.lists(pieces | escapes, min_size=1, max_size=9).map("".join)
laws = settings(deadline=None, derandomize=True)


@pytest.mark.slow
@laws
@given(location=products)
def test_parse_and_str_are_inverse(location: Location) -> None:
    """What a location writes is read as the same location, whatever its names hold."""
    again = Location.parse(str(location))

    assert again == location
    assert hash(again) == hash(location)
    assert (again.dataset, again.query, again.product) == (
        location.dataset,
        location.query,
        location.product,
    )


@pytest.mark.slow
@laws
@given(location=products)
def test_canonical_paths_are_safe(location: Location) -> None:
    """No glob character, chain, fragment or space stands in a canonical path; fsspec keeps it."""
    path = str(location)

    assert not re.search(r"[*?\[\]#\s\\]|::|[\x00-\x1f\x7f]", path)
    assert "//" not in path.removeprefix("hda://")
    assert not any(part in {".", ".."} for part in path.split("/"))
    assert Location.parse(HDAFileSystem._strip_protocol(path)) == location
    assert Location.parse(HDAFileSystem._strip_protocol(location)) == location


@pytest.mark.slow
@laws
@given(location=products)
def test_parents_lead_to_the_root(location: Location) -> None:
    """Each parent takes away one segment, ours and fsspec's alike, and the last is the root."""
    steps = len(str(location).removeprefix("hda://").split("/"))
    here = location
    for _ in range(steps):
        assert here != Location()
        assert Location.parse(HDAFileSystem._parent(str(here))) == here.parent
        assert str(here).startswith(str(here.parent))
        here = here.parent

    assert here == here.parent == Location()


@pytest.mark.slow
@laws
@given(location=products, ids=st.lists(names, max_size=5))
@example(Location("EO:X"), ["S3A_OL_2_WFR____20240501.SEN3", "a b", "..", "a::b", "%2E", "\u00fc"])
def test_many_paths_at_once(location: Location, ids: list[str]) -> None:
    """The paths of many products of a query are those of its children."""
    assert location.paths_of(ids) == [location.directory.child(name).path for name in ids]
    assert Location().paths_of(ids) == [Location(name).path for name in ids]


@pytest.mark.slow
@laws
@given(location=products, other=products)
def test_locations_are_equal_if_their_paths_are(location: Location, other: Location) -> None:
    """Equality, hash and pickle follow the canonical path."""
    assert (location == other) == (str(location) == str(other))
    assert pickle.loads(pickle.dumps(location)) == location


@pytest.mark.slow
@laws
@given(
    text=any_text(max_size=40) | st.lists(pieces | escapes | st.sampled_from("/=,")).map("".join)
)
@example("hda://EO:X/bbox=1e999,0,0,0")
@example("hda://EO:X/bbox=\u0661,\u0662,3,4")
@example("hda://EO:X/[")
@example("hda://hda://hda://")
def test_any_text_is_a_path_or_a_location_error(text: str) -> None:
    """No text leads to another error, and the canonical form is a fixed point."""
    try:
        location = Location.parse(text)
    except LocationError:
        return
    canonical = str(location)

    assert Location.parse(canonical) == location
    assert str(Location.parse(canonical)) == canonical


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text(max_size=5), inner),
    max_leaves=6,
)
fields = st.sampled_from(
    [
        *("datasetId", "dataset_id", "bbox", "boundingBoxValues", "dateRangeSelectValues"),
        *("stringChoiceValues", "multiStringSelectValues", "x"),
    ]
)
entries = st.lists(
    st.dictionaries(st.sampled_from(["name", "value", "bbox", "start", "end"]), json_values)
)


@pytest.mark.slow
@laws
@given(request=st.dictionaries(fields, json_values | entries))
def test_any_request_is_a_location_or_a_location_error(request: dict[str, Any]) -> None:
    """Whatever JSON object is taken for a request, no other error comes out."""
    try:
        location = Location.from_request(request)
    except LocationError:
        return

    assert Location.parse(str(location)) == location


def _is_raw(pattern: str) -> bool:
    return "%" not in pattern and ("*" in pattern or "?" in pattern or "[" in pattern)


@pytest.mark.slow
@laws
@given(
    pattern=st.lists(pieces, min_size=1, max_size=9).map("".join).filter(_is_raw),
    ids=st.lists(st.text("abcz-!^]&.[*", max_size=6), max_size=8),
)
def test_patterns_without_escapes_are_fnmatch(pattern: str, ids: list[str]) -> None:
    """Without escapes a pattern matches what the standard library says it matches."""
    location = Location("EO:X", pattern=pattern)

    assert [name for name in ids if location.matches(name)] == [
        name for name in ids if fnmatch.fnmatchcase(name, pattern)
    ]


@pytest.mark.slow
@laws
@given(name=names, others=st.lists(names, max_size=5))
def test_an_escaped_name_matches_itself_alone(name: str, others: list[str]) -> None:
    """A name with every character escaped, and one star, matches what begins with the name."""
    escaped = "".join(f"%{byte:02X}" for byte in name.encode())
    location = Location.parse(f"EO:X/{escaped}*")

    assert location.matches(name)
    for other in others:
        assert location.matches(other) == other.startswith(name)


@pytest.mark.slow
@laws
@given(pattern=patterns)
def test_canonical_patterns_mean_the_same(pattern: str) -> None:
    """Writing a pattern canonically changes neither its meaning nor, a second time, its form."""
    try:
        location = Location("EO:X", pattern=pattern)
    except LocationError:
        return
    again = Location.parse(str(location))

    assert again == location
    assert again.pattern is not None
    assert not re.search(r"[#\s\\,]|::", again.pattern)
