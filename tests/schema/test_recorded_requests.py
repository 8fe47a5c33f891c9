"""Requests that were recorded at the real service, made again from the query of a path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from checkout import SHARED
from real_schemas import Query, in_the_real_style

from hda_fsspec.errors import QueryError
from hda_fsspec.schema.schema import Schema

RECORDED = SHARED / "recorded"


PAGING = {"dataset_id", "itemsPerPage", "startIndex", "sortOrder"}


RECORDED_NAMES = (
    sorted(path.name for path in (RECORDED / "requests").glob("*.json"))
    if RECORDED.is_dir()
    else ["absent"]
)


def as_path(body: dict[str, Any]) -> Query:
    """Write a request as the query of a path: texts only."""
    many = {key: value if isinstance(value, list) else [value] for key, value in body.items()}
    return {key: tuple(str(value) for value in values) for key, values in many.items()}


@pytest.mark.parametrize("name", RECORDED_NAMES)
def test_recorded_requests_survive_the_way_through_a_path(name: str) -> None:
    """What WEkEO's own page asked for is asked for again, value by value and type by type."""
    if not RECORDED.is_dir():
        pytest.skip("the folder ../shared/recorded is absent")
    document = json.loads((RECORDED / "requests" / name).read_text(encoding="utf-8"))
    body = {key: value for key, value in document.items() if key not in PAGING}
    data_set = in_the_real_style(body)
    again = data_set.request(as_path(body))
    assert again == body
    assert {k: type(v) for k, v in again.items()} == {k: type(v) for k, v in body.items()}
    for common, key in zip(("startdate", "enddate"), data_set.time_keys or (), strict=False):
        body_in_common = {common if k == key else k: v for k, v in as_path(body).items()}
        assert data_set.request(body_in_common) == body


@pytest.mark.parametrize(
    ("name", "dates"),
    [
        ("EO_ECMWF_ERA5_DAILY_STATS.json", ("2024-09", "2024-09")),
        ("EO_ECMWF_GLOFAS_HISTORICAL.json", ("2024", "2024")),
    ],
)
def test_recorded_lists_of_days_are_what_the_common_dates_become(
    name: str, dates: tuple[str, str]
) -> None:
    """The lists that people clicked together are those a range is expanded to."""
    if not RECORDED.is_dir():
        pytest.skip("the folder ../shared/recorded is absent")
    document = json.loads((RECORDED / "requests" / name).read_text(encoding="utf-8"))
    body = {key: value for key, value in document.items() if key not in PAGING}
    prefix = "h" if "hyear" in body else ""
    lists = {f"{prefix}{unit}" for unit in ("year", "month", "day")}
    query = {key: value for key, value in as_path(body).items() if key not in lists}
    query |= {"startdate": (dates[0],), "enddate": (dates[1],)}
    assert in_the_real_style(body).request(query) == body


def test_the_recorded_schema() -> None:
    """The schema put together from a public client's template is understood in full."""
    found = sorted(RECORDED.glob("10b_*.json"))
    if not found:
        pytest.skip("the folder ../shared/recorded is absent")
    document = json.loads(found[0].read_text(encoding="utf-8"))
    data_set = Schema.from_queryable("EO:EEA:DAT:CLMS_HRVPP_ST", document)
    assert data_set.time_keys == ("start", "end")
    assert data_set.bbox_key == "bbox"
    assert data_set.name_keys == ("uid",)
    assert data_set.keys[:3] == ("startdate", "enddate", "bbox")
    assert not PAGING & set(data_set.keys)
    assert data_set.request(
        {
            "startdate": ("2018-03-01",),
            "enddate": ("2018-03-01",),
            "bbox": ("7", "46", "8", "47"),
            "productType": ("PPI",),
            "platformSerialIdentifier": ("S2A, S2B",),
            "resolution": ("10",),
            "processingDate": ("2021-01-01",),
        }
    ) == {
        "start": "2018-03-01T00:00:00.000Z",
        "end": "2018-03-01T23:59:59.999Z",
        "bbox": [7, 46, 8, 47],
        "productType": "PPI",
        "platformSerialIdentifier": "S2A, S2B",
        "resolution": "10",
        "processingDate": "2021-01-01T00:00:00.000Z",
    }
    with pytest.raises(QueryError) as caught:
        data_set.request({"productType": ("ppi",)})
    assert caught.value.suggestions == ("PPI",)
