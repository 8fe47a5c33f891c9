"""What WEkEO's page shows under "Show API request" becomes a path, in both of its forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkout import SHARED
from rows import for_each

from hda_fsspec import Location
from hda_fsspec.errors import LocationError
from hda_fsspec.paths.renamed_datasets import RENAMED

RECORDED = SHARED / "recorded" / "requests"
NAMES = sorted(path.name for path in RECORDED.glob("*.json")) or ["absent"]
DATASET = "EO:EUM:DAT:SENTINEL-3:OL_1_EFR___"
PAGING = {"dataset_id", "itemsPerPage", "startIndex", "sortOrder"}
V1: dict[str, Any] = {
    "datasetId": DATASET,
    "boundingBoxValues": [{"name": "bbox", "bbox": [-6.5, 43.0, -1.0, 46.0]}],
    "dateRangeSelectValues": [
        {"name": "dtrange", "start": "2021-07-17T00:00:00.000Z", "end": "2021-07-18T00:00:00.000Z"}
    ],
    "stringChoiceValues": [
        {"name": "platformname", "value": "Sentinel-3"},
        {"name": "timeliness", "value": "NT"},
    ],
    "multiStringSelectValues": [{"name": "variable", "value": ["a", "b,c"]}],
    "stringInputValues": [{"name": "productName", "value": "S3A*x"}],
}


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_request_becomes_a_path(name: str) -> None:
    """The file, its text and its dictionary are one location, with every key of the request."""
    if not RECORDED.is_dir():
        pytest.skip("the folder ../shared/recorded is absent")
    path = RECORDED / name
    text = path.read_text(encoding="utf-8")
    body = json.loads(text)

    location = Location.from_request(body)

    assert location == Location.from_request(text)
    assert location == Location.from_request(path)
    assert location == Location.from_request(str(path))
    assert location == Location.parse(str(location))
    assert location.dataset == body["dataset_id"]
    assert set(location.query) == set(body) - PAGING
    for key, texts in location.query.items():
        values = body[key] if isinstance(body[key], list) else [body[key]]
        assert len(texts) == len(values)
        for shown, value in zip(texts, values, strict=True):
            assert shown == value if isinstance(value, str) else float(shown) == value


def test_the_old_form() -> None:
    """Every kind of field of a v1 request becomes keys of the query."""
    location = Location.from_request(V1)

    assert location == Location.from_request(json.dumps(V1))
    assert str(location) == (
        f"hda://{DATASET}/bbox=-6.5,43,-1,46/enddate=2021-07-18T00:00:00.000Z/"
        "platformname=Sentinel-3/productName=S3A%2Ax/startdate=2021-07-17T00:00:00.000Z/"
        "timeliness=NT/variable=a,b%2Cc"
    )


@for_each(
    ("more", "named"),
    [
        ({"rangeValues": [{"name": "cloud", "value": 5}]}, "rangeValues"),
        ({"cloud": 0}, "cloud"),
        ({"filter": False}, "filter"),
        ({"dataset_id": "EO:OTHER"}, "dataset_id"),
        ({"dateRangeSelectValues": [{"start": "2021", "step": 2}]}, "step of dateRangeSelectV"),
        ({"stringChoiceValues": [{"name": "a", "value": "b", "not": True}]}, "not of stringCh"),
        ({"boundingBoxValues": [{"bbox": [0, 1, 2, 3], "crs": "EPSG:3035"}]}, "crs of boundingB"),
    ],
)
def test_the_old_form_with_more(more: dict[str, Any], named: str) -> None:
    """What a path has no place for is named, and no path is made that finds more."""
    with pytest.raises(LocationError, match=f"Cannot translate {named}"):
        Location.from_request({**V1, **more})


def test_the_old_form_with_less() -> None:
    """Missing, null and empty fields and open ranges of a v1 request are left out."""
    request = {
        "datasetId": DATASET,
        "boundingBoxValues": None,
        "dateRangeSelectValues": [{"name": "dtrange", "start": "2021-07-17", "end": None}],
        "stringChoiceValues": [{"name": "timeliness", "value": ""}],
        "multiStringSelectValues": [{"name": "variable", "value": []}],
    }

    assert str(Location.from_request(request)) == f"hda://{DATASET}/startdate=2021-07-17"
    assert Location.from_request({"datasetId": DATASET}) == Location(DATASET)


def test_a_name_that_comes_twice_has_both_values() -> None:
    """The old form may list the values of one parameter one by one."""
    choices = [{"name": "band", "value": "B1"}, {"name": "band", "value": "B2"}]
    many = [{"name": "band", "value": ["B3", "B4"]}]
    request = {
        "datasetId": DATASET,
        "stringChoiceValues": choices,
        "multiStringSelectValues": many,
    }

    assert Location.from_request(request).query == {"band": ("B1", "B2", "B3", "B4")}


def test_paging_and_empty_values_are_left_out() -> None:
    """What is no part of a query, or says nothing, is not in the path."""
    request = {
        "dataset_id": DATASET,
        "itemsPerPage": 200,
        "startIndex": 0,
        "sortOrder": "DESC",
        "timeliness": None,
        "type": "",
        "variables": [],
        "orbit": 0,
        "flag": False,
    }

    assert Location.from_request(request).query == {"flag": ("false",), "orbit": ("0",)}


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Files and texts that an editor on Windows saved are read."""
    text = "\ufeff\n" + json.dumps({"dataset_id": DATASET})
    path = tmp_path / "request.json"
    path.write_text(text, encoding="utf-8")

    assert Location.from_request(path) == Location.from_request(text) == Location(DATASET)


@for_each(
    ("request_", "told"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("a\0b", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "one JSON object"),
        ('[{"dataset_id": "x"}]', "one JSON object"),
        ("{}", "no 'dataset_id' (v2)"),
        ({"dataset_id": ""}, "Show API request"),
        ({"dataset_id": 5}, "Show API request"),
        ({"datasetId": None}, "Show API request"),
        ({"dataset_id": DATASET, "bbox": [1, 2, 3]}, "west,south,east,north"),
        ({"dataset_id": DATASET, "a": {"b": 1}}, "give text, a number"),
        ('{"dataset_id": "EO:X", "a": NaN}', "give text, a number"),
        ({**V1, "stringChoiceValues": [{"name": "x"}]}, "lacks a field"),
        ({**V1, "stringChoiceValues": [5]}, "lacks a field"),
        ({**V1, "stringChoiceValues": 5}, "lacks a field"),
        ({**V1, "boundingBoxValues": [{}]}, "lacks a field"),
        ({**V1, "boundingBoxValues": {"bbox": [1, 2, 3, 4]}}, "lacks a field"),
        ({**V1, "boundingBoxValues": V1["boundingBoxValues"] * 2}, "a query has one"),
        ({**V1, "dateRangeSelectValues": V1["dateRangeSelectValues"] * 2}, "a query has one"),
        ({**V1, "dateRangeSelectValues": 5}, "lacks a field"),
    ],
)
def test_what_is_no_request_is_refused(request_: Any, told: str) -> None:
    """The error says what is missing, and where to copy a request from."""
    with pytest.raises(LocationError) as caught:
        Location.from_request(request_)

    assert told in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_file_that_is_no_request(tmp_path: Path) -> None:
    """A missing file is FileNotFoundError; a folder, or bytes that are no text, a LocationError."""
    with pytest.raises(FileNotFoundError):
        Location.from_request(tmp_path / "absent.json")
    with pytest.raises(LocationError):
        Location.from_request(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LocationError):
        Location.from_request(tmp_path / "binary.json")


@for_each(("old", "new"), sorted(RENAMED.items()))
def test_renamed_data_sets(old: str, new: str) -> None:
    """A v1 request for a data set that was renamed asks for the same data under its new id."""
    location = Location.from_request({**V1, "datasetId": old})

    assert location.dataset == new
    assert location.query == Location.from_request(V1).query
    assert new not in RENAMED
    assert Location.from_request({"datasetId": new}).dataset == new
    # The present form is taken at its word.
    assert Location.from_request({"dataset_id": old}).dataset == old


def test_the_new_names_are_those_of_the_official_client() -> None:
    """The pairs are facts that the client which the service offers carries, too."""
    official = pytest.importorskip("hda.utils")

    assert official.DATASET_MAPPING == RENAMED


def test_a_new_name_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log names both ids, once for each data set; others are not spoken of."""
    monkeypatch.setattr("hda_fsspec.paths.api_requests._told", {})

    for _ in range(3):
        Location.from_request({**V1, "datasetId": "EO:ESA:DAT:SENTINEL-1:SAR"})
        Location.from_request({**V1, "datasetId": "EO:ESA:DAT:SENTINEL-2:MSI"})
        Location.from_request(V1)

    assert [record.args for record in caplog.records] == [
        ("EO:ESA:DAT:SENTINEL-1:SAR", "EO:ESA:DAT:SENTINEL-1"),
        ("EO:ESA:DAT:SENTINEL-2:MSI", "EO:ESA:DAT:SENTINEL-2"),
    ]


def test_a_former_id_in_a_path_is_told_its_new_one(bench: Any) -> None:
    """The service does not know it; the error does."""
    fs = bench.filesystem(bench.start(days=1))

    with pytest.raises(FileNotFoundError, match=r"it is EO:ESA:DAT:SENTINEL-1\."):
        fs.ls("hda://EO:ESA:DAT:SENTINEL-1:SAR/startdate=2024-05-01")
