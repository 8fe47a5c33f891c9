"""What the catalogue says, as records: odd times, sizes and features never break one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from checkout import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from random_inputs import CHARACTERS, any_text
from rows import for_each

from hda_fsspec.errors import BrokerError
from hda_fsspec.records import Dataset, Product, Term, format_time, parse_time

RECORDED = SHARED / "recorded"
DATASET = "EO:X:DAT:Y"


def feature(**properties: Any) -> dict[str, Any]:
    """Write a feature of a search answer."""
    return {"type": "Feature", "id": "p.nc", "geometry": None, "properties": properties}


def at(text: str | None) -> datetime | None:
    """Read a time of May 2024: day, and hour if it is given."""
    if text is None:
        return None
    day, _, hour = text.partition("T")
    return datetime(2024, 5, int(day), int(hour or 0), tzinfo=UTC)


@for_each(
    ("text", "time"),
    [
        ("2024-05-01", "2024-05-01T00:00:00.000Z"),
        ("2024-05-01Z", "2024-05-01T00:00:00.000Z"),
        ("2024-05-01 12:30:15", "2024-05-01T12:30:15.000Z"),
        ("2024-05-01t12:30:15z", "2024-05-01T12:30:15.000Z"),
        (" 2024-05-01T12:30:15.5Z ", "2024-05-01T12:30:15.500Z"),
        ("2024-05-01T12:30:15.123456Z", "2024-05-01T12:30:15.123456Z"),
        ("2024-05-01T12:30:15.123456789Z", "2024-05-01T12:30:15.123456Z"),
        ("2024-05-01T23:59:59.999+0000", "2024-05-01T23:59:59.999Z"),
        ("2024-05-01T00:30:00+02:00", "2024-04-30T22:30:00.000Z"),
        ("2024-05-01T00:30:00-0530", "2024-05-01T06:00:00.000Z"),
    ],
)
def test_times_of_all_shapes(text: str, time: str) -> None:
    """Every ISO form is an instant in UTC, and is written the way the service does."""
    parsed = parse_time(text)

    assert parsed.tzinfo is UTC
    assert format_time(parsed) == time
    assert Product.from_feature(DATASET, feature(startdate=text)).startdate == time


@for_each(
    "text",
    [
        "",
        "soon",
        "2024",
        "2024-13-01",
        "2024-02-30",
        "2024-05-01T25:00",
        "2024-05-01T12:00+99:00",
        "20240501",
        "2024-05-01T12:00 CEST",
        "0001-01-01T00:00:00+02:00",
        "9999-12-31T23:59:59-02:00",
        "2024-05-01\n2024-05-02",
    ],
)
def test_what_is_no_time(text: str) -> None:
    """A text that is no time is a ValueError, and in an answer of the service just not told."""
    with pytest.raises(ValueError, match=r"not a|must be|out of range|month|offset"):
        parse_time(text)
    product = Product.from_feature(DATASET, feature(startdate=text, enddate=text, updated=text))

    assert (product.startdate, product.enddate, product.updated) == (None, None, None)
    assert (product.start, product.end) == (None, None)


@pytest.mark.slow
@settings(deadline=None, derandomize=True)
@given(time=st.datetimes(timezones=st.timezones() | st.just(UTC)))
def test_written_times_are_read_as_they_were(time: datetime) -> None:
    """Format and parse are inverse, to the microsecond, at any zone."""
    try:
        instant = time.astimezone(UTC)
    except OverflowError:
        return
    assert parse_time(format_time(time)) == instant


@for_each(
    ("size", "known"),
    [
        (1000, 1000),
        ("1000", 1000),
        (1000.0, 1000),
        (0, None),
        ("0", None),
        (-5, None),
        ("ND", None),
        ("", None),
        (None, None),
        (True, None),
        ([1], None),
        ("1.5 GB", None),
        (float("nan"), None),
        (float("inf"), None),
        ("9" * 5000, None),
        (2**70, 2**70),
    ],
)
def test_sizes(size: object, known: int | None) -> None:
    """A size is a positive number of bytes, or not known: "ND", 0 and all else are not."""
    assert Product.from_feature(DATASET, feature(size=size)).size == known


@for_each(
    ("box", "known"),
    [
        ([-180, -90, 180.0, 90], "-180,-90,180,90"),
        ([1.25, 2, 3, 4], "1.25,2,3,4"),
        ([0.0, 0, 1, 1], "0,0,1,1"),
        ([-0.0, 0, 1, 1], "0,0,1,1"),
        ([float("nan"), 0, 1, 1], None),
        ([0, float("nan"), 1, 1], None),
        ([0, 0, float("nan"), 1], None),
        ([0, 0, 1, float("nan")], None),
        ([0, 0, 1, float("inf")], None),
        ([float("-inf"), 0, 1, 1], None),
        ([0, 0, 1, 10**400], None),
        ([True, 0, 1, 1], None),
        (["0", 0, 1, 1], None),
        ([0, 0, 1], None),
        ((0, 0, 1, 1), None),
        ("0,0,1,1", None),
    ],
)
def test_boxes(box: object, known: str | None) -> None:
    """A box is four finite numbers, of which zero has one spelling."""
    assert Product.from_feature(DATASET, {**feature(), "bbox": box}).bbox == known


def test_a_feature_in_full() -> None:
    """Known fields have their names; other scalars are kept, nested values are not."""
    product = Product.from_feature(
        DATASET,
        feature(
            location="a/b?c",
            size=5,
            startdate="2024-05-01",
            enddate="2024-05-02",
            publication="2024-05-03",
            thumbnail="https://x/y.png",
            localpath="/internal",
            odd=float("nan"),
            nested={"a": 1},
            metadata={"cloudCover": 12.5, "orbitNumber": 7, "list": [1], "thumbnail": "other"},
        ),
    )

    assert product == Product(
        DATASET,
        "p.nc",
        "a/b?c",
        5,
        "2024-05-01T00:00:00.000Z",
        "2024-05-02T00:00:00.000Z",
        "2024-05-03T00:00:00.000Z",
        (
            ("cloudCover", 12.5),
            ("orbitNumber", 7),
            ("publication", "2024-05-03"),
            ("thumbnail", "https://x/y.png"),
        ),
    )


@for_each(
    "given_feature", [None, [], "p", {}, {"id": None}, {"id": ""}, {"id": [5]}, {"properties": {}}]
)
def test_a_feature_without_an_id_is_an_error(given_feature: object) -> None:
    """What could not be ordered is not dropped in silence."""
    with pytest.raises(BrokerError, match="without an id"):
        Product.from_feature(DATASET, given_feature)


@for_each(("told", "product_id"), [(5, "5"), (0, "0"), (-7, "-7"), (10**20, "1" + 20 * "0")])
def test_an_id_that_is_a_number(told: int, product_id: str) -> None:
    """A number is an id as good as any other, and is sent back as text."""
    product = Product.from_feature(DATASET, {"id": told, "properties": None})

    assert product == Product(DATASET, product_id)


@for_each("told", [True, 1.5, 10**1001, {"a": 1}])
def test_what_is_no_id(told: object) -> None:
    """A truth, a fraction, or a number without end names nothing."""
    with pytest.raises(BrokerError, match="without an id"):
        Product.from_feature(DATASET, {"id": told})


@for_each(
    ("terms", "names"),
    [
        (["a", "b"], ("a", "b")),
        ("a", ("a",)),
        ([{"term_id": "a", "title": "A"}], ("a",)),
        ([None, "", {}, [], "a"], ("a",)),
        (None, ()),
        ({}, ()),
    ],
)
def test_odd_licences_of_a_data_set(terms: object, names: tuple[str, ...]) -> None:
    """What names a licence is read, whatever it stands in; what names none is left out."""
    assert Dataset.from_json({"dataset_id": "d", "terms": terms}).terms == names


def test_recorded_features() -> None:
    """The features that were recorded at the service are understood."""
    if not RECORDED.is_dir():
        pytest.skip("the folder ../shared/recorded is absent")
    found = {}
    for name in ("04_v2_search_ecmwf_fragment.json", "05_v2_search_CDSE_S2_REVERSE_MAPPED.json"):
        document = json.loads((RECORDED / name).read_text(encoding="utf-8"))
        for each in _features(document):
            product = Product.from_feature(DATASET, each)
            assert product.product_id == each["id"]
            assert product.location == each["properties"].get("location", "")
            again = Product.from_json(json.loads(json.dumps(product.to_json())))
            assert dataclasses.astuple(again) == dataclasses.astuple(product)
            found[name] = product

    assert len(found) == 2


def _features(value: Any) -> list[Any]:
    if isinstance(value, dict):
        own = value.get("features")
        nested = [each for part in value.values() for each in _features(part)]
        return list(own) if isinstance(own, list) else nested
    return [each for part in value for each in _features(part)] if isinstance(value, list) else []


def test_versions() -> None:
    """Two states differ in size or a date; what one of them does not tell matches anything."""
    first = Product(DATASET, "p", "loc", 10, "2024-05-01T00:00:00.000Z", None, "2024-06-01")

    assert first.is_same_version(Product(DATASET, "p"))
    assert Product(DATASET, "p").is_same_version(first)
    assert first.is_same_version(Product(DATASET, "p", "elsewhere", 10))
    assert not first.is_same_version(Product(DATASET, "p", size=11))
    assert not first.is_same_version(Product(DATASET, "p", updated="2024-06-02"))
    assert not first.is_same_version(Product(DATASET, "p", startdate="2024-05-02T00:00:00.000Z"))
    assert first.is_same_version(Product(DATASET, "p", properties=(("a", 1),)))


def test_a_record_is_equal_to_all_of_one_version_of_one_product() -> None:
    """How a catalogue was asked changes nothing of what is meant; a version or a broker does."""
    listed = Product(DATASET, "p", "loc", 10, properties=(("a", 1),), bbox="0,0,1,1", broker="b")

    bare = Product(DATASET, "p", size=10, broker="b")

    assert (bare, hash(bare), bare.key) == (listed, hash(listed), listed.key)
    assert bare.version_tag == listed.version_tag
    newer = dataclasses.replace(listed, size=11)
    assert (newer.key, newer == listed) == (listed.key, False)
    assert newer.version_tag != listed.version_tag
    for other in (
        dataclasses.replace(listed, broker="c"),
        dataclasses.replace(listed, product_id="q"),
        dataclasses.replace(listed, dataset_id=f"{DATASET}2"),
    ):
        assert other.key != listed.key
        assert other != listed


def test_a_piece_that_was_not_searched_yet_has_its_key() -> None:
    """A sub-query is known by its canonical request; a locator that comes later changes nothing."""
    request = '{"dataset_id": "EO:ECMWF:DAT:X", "month": ["01"], "variable": ["t2m"]}'
    piece = Product("EO:ECMWF:DAT:X", request, broker="https://b/")

    searched = dataclasses.replace(piece, location="opaque", bbox="0,0,1,1")

    assert (searched, hash(searched), searched.key) == (piece, hash(piece), piece.key)
    assert len(piece.key) == 64
    # Folders of caches are named by it: these are the bytes that have always been hashed.
    named = json.dumps(["https://b/", "EO:ECMWF:DAT:X", request])
    assert piece.key == hashlib.sha256(named.encode()).hexdigest()


def test_keys_travel_in_no_pickle() -> None:
    """What is computed from a record is computed again where it is needed."""
    product = Product(DATASET, "p", size=1)
    before = pickle.dumps(product)

    assert (product.key, product.version_tag) != ("", "")
    assert pickle.dumps(product) == before
    assert pickle.loads(before).key == product.key


@for_each(
    ("start", "end", "expected"),
    [
        (None, None, True),
        ("1", "2", False),
        ("3", "4", True),  # inside
        ("1", "9", True),  # around
        ("5", "6", False),  # touches the product's end
        ("5", None, False),
        ("4T23", None, True),
        ("1", "3", True),  # the range ends, inclusive, where the product starts
        ("1", "2T23", False),
        (None, "3", True),
        (None, "2", False),
        ("3", "3", True),
        ("5", "5", False),
        ("4", "4", True),
    ],
)
def test_overlap_of_intervals(start: str | None, end: str | None, expected: bool) -> None:
    """Interval and range overlap; touching the range at the product's own end is not enough."""
    product = Product(
        DATASET, "p", startdate="2024-05-03T00:00:00Z", enddate="2024-05-05T00:00:00Z"
    )

    assert product.overlaps(at(start), at(end)) is expected


@for_each(
    ("start", "end", "expected"),
    [
        ("3", "4", True),
        ("1", "3", True),
        ("3", None, True),
        (None, "3", True),
        ("3", "3", True),
        ("3T01", None, False),
    ],
)
@for_each("shape", ["both", "start", "end"])
def test_overlap_of_instants(
    shape: str, start: str | None, end: str | None, expected: bool
) -> None:
    """An instant is in a range that holds it, ends included; one known date is an instant."""
    time = "2024-05-03T00:00:00.000Z"
    product = {
        "both": Product(DATASET, "p", startdate=time, enddate=time),
        "start": Product(DATASET, "p", startdate=time),
        "end": Product(DATASET, "p", enddate=time),
    }[shape]

    assert product.overlaps(at(start), at(end)) is expected


def test_a_product_without_dates_is_in_every_range() -> None:
    """What is not known cannot leave a product out."""
    assert Product(DATASET, "p").overlaps(at("1"), at("2"))


scalars = any_text(max_size=5) | st.integers() | st.floats(allow_nan=False) | st.booleans()


@pytest.mark.slow
@settings(deadline=None, derandomize=True)
@given(
    record=st.builds(
        Product,
        any_text(min_size=1),
        any_text(min_size=1),
        any_text(),
        st.none() | st.integers(1),
        *[st.none() | any_text()] * 3,
        st.dictionaries(any_text(), scalars).map(lambda d: tuple(sorted(d.items()))),
    )
)
def test_records_survive_json_and_pickle(record: Product) -> None:
    """A record read from a cache file or sent to a worker is the record."""
    again = Product.from_json(json.loads(json.dumps(record.to_json())))

    assert (again, hash(again), again.key) == (record, hash(record), record.key)
    for other in (
        again,
        pickle.loads(pickle.dumps(record)),
        Product.from_json({**record.to_json(), "unknown": 1}),
    ):
        assert dataclasses.astuple(other) == dataclasses.astuple(record)


@for_each(
    "value",
    [
        *(None, [], "x", {}, {"dataset_id": "a"}),
        {"dataset_id": "a", "product_id": "b", "properties": 5},
        {"dataset_id": "a", "product_id": "b", "properties": [[1, 2, 3]]},
    ],
)
def test_what_is_no_record(value: Any) -> None:
    """A damaged cache file is told by one of three plain errors."""
    with pytest.raises((TypeError, ValueError, KeyError)):
        Product.from_json(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text(max_size=5), inner),
    max_leaves=5,
)
KEYS = ["location", "size", "startdate", "enddate", "metadata", "updated", "publication", "x"]


@pytest.mark.slow
@settings(deadline=None, derandomize=True)
@given(
    properties=json_values
    | st.dictionaries(
        st.sampled_from(KEYS),
        json_values | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d[+-]\d\d:\d\d", alphabet=CHARACTERS),
    )
)
def test_no_feature_with_an_id_breaks(properties: Any) -> None:
    """Whatever the service writes into a feature, a hashable record comes out of it."""
    product = Product.from_feature(DATASET, {"id": "p", "properties": properties})

    again = Product.from_json(product.to_json())
    assert dataclasses.astuple(again) == dataclasses.astuple(product)
    hash(product)
    product.overlaps(at("1"), at("2"))


def test_data_sets() -> None:
    """Titles are found where the service puts them; terms are a tuple of text."""
    source = {"metadata": {"_source": {"datasetTitle": "T"}}}

    assert Dataset.from_json({"dataset_id": "a", "terms": ["t", 5], **source}) == Dataset(
        "a", ("t", "5"), "T"
    )
    assert Dataset.from_json({"dataset_id": "a", "metadata": {"title": "M"}}).title == "M"
    assert Dataset.from_json({"dataset_id": "a", "title": {"en": "x"}}) == Dataset("a")
    assert Dataset.from_json({"dataset_id": "a", "terms": None, "metadata": []}) == Dataset("a")


def test_licences() -> None:
    """The link of a licence is the first one in its text."""
    abstract = 'Read <a href="https://x.int/licence.pdf">this</a> or http://y.int.'

    assert Term.from_json({"term_id": "t", "title": "T", "abstract": abstract}) == Term(
        "t", "T", "https://x.int/licence.pdf"
    )
    assert Term.from_json({"term_id": "t", "abstract": "see http://y.int/a)."}).link == (
        "http://y.int/a"
    )
    assert Term.from_json({"term_id": "t", "abstract": None}) == Term("t")
