"""Subset data sets of the emulator in the manner of EO:MO."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rows import for_each
from subset_sources import MARINE, served, write_marine

from hda_fsspec.emulator import marine_subset

LAYER = "cmems_obs-sl_med_phy-ssh_my_0.125deg_P1D"
MONTH = {"startdate": "2024-05-01T00:00:00.000Z", "enddate": "2024-05-31T23:59:59.999Z"}
BOX = [-3.5, 41.0, 2.25, 43.0]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a source of daily fields of 2024."""
    return write_marine(tmp_path_factory.mktemp("marine") / "source.nc")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({}, "multi-vars"),
        ({"variables": ["adt"]}, "adt"),
        ({"variables": ["adt"], **MONTH}, "adt_2024-05-01-2024-05-31"),
        ({"bbox": BOX, "variables": ["sla", "adt"]}, "multi-vars_3.50W-2.25E_41.00N-43.00N"),
        ({"bbox": [-3, 0, 0, 44], **MONTH}, "multi-vars_3.00W-0.00E_0.00N-44.00N_2024-05-01-202"),
        ({"startdate": MONTH["startdate"]}, "multi-vars_2024-05-01-2024-12-31"),
    ],
)
def test_ids_tell_what_was_asked_for(source: Path, query: dict[str, Any], told: str) -> None:
    """One feature answers whatever is asked; its id tells the request, and ends in a hash."""
    with served(marine_subset(MARINE, source)) as client:
        first, again = (client.search(MARINE, **query) for _ in range(2))

    assert first["id"].startswith(f"{LAYER}_{told}")
    assert len(first["id"].rpartition("_")[2]) == 32
    assert first["id"] == again["id"]


def test_a_number_is_one_number(source: Path) -> None:
    """The same box in other digits is the same job; another day is another one."""
    with served(marine_subset(MARINE, source)) as client:
        boxes = ([0, 41, 2, 43], [0.0, 41.0, 2.0, 43.0])
        ids = {client.search(MARINE, bbox=box)["id"] for box in boxes}
        days = {client.search(MARINE, startdate=f"2024-05-0{n}T00:00:00Z")["id"] for n in (1, 2)}

    assert (len(ids), len(days)) == (1, 2)


def test_the_file_is_the_source_cut(source: Path) -> None:
    """A file holds the points within the box and the times, packed as they were, contiguous."""
    with served(marine_subset(MARINE, source, version="2.1.1")) as client:
        feature = client.search(MARINE, bbox=BOX, variables=["adt"], **MONTH)
        file = client.get(MARINE, bbox=BOX, variables=["adt"], **MONTH)
    with xr.open_dataset(source) as ds:
        wanted = ds[["adt"]].sel(
            time=slice("2024-05-01", "2024-05-31"),
            latitude=slice(BOX[1], BOX[3]),
            longitude=slice(BOX[0], BOX[2]),
        )
        found = file.open()
        assert found.attrs.pop("copernicusmarine_version") == "2.1.1"
        xr.testing.assert_identical(found, wanted.load())
        assert feature["properties"]["size"] == wanted["adt"].nbytes
    assert file.name == f"{feature['id']}.nc"
    stored = file.stored()
    assert stored["adt"].chunking() == "contiguous"
    assert stored["adt"].dtype == np.int16
    assert stored["adt"].scale_factor == 0.01
    assert len(file.body) < wanted["adt"].size * 2 + 20_000
    stored.close()


def test_both_ends_belong_to_the_range(source: Path) -> None:
    """A step at the end of one range and the start of the next is in both."""
    halves = (("2024-04-30", "2024-05-02"), ("2024-05-02", "2024-05-04"))
    with served(marine_subset(MARINE, source)) as client:
        found = [
            client.get(MARINE, startdate=f"{a}T00:00:00.000Z", enddate=f"{b}T00:00:00.000Z")
            .open()
            .time.dt.day.values.tolist()
            for a, b in halves
        ]

    assert found == [[30, 1, 2], [2, 3, 4]]


@pytest.mark.slow
@for_each(
    ("start", "end", "nearest"),
    [
        ("2024-03-20T00:00:00.000Z", "2024-03-20T23:59:59.999Z", "2024-04-01"),
        ("2024-03-05T00:00:00.000Z", "2024-03-30T00:00:00.000Z", "2024-03-01"),
        ("2024-03-16T12:00:00.000Z", "2024-03-16T12:00:00.000Z", "2024-04-01"),
        ("2024-03-16T11:59:59.000Z", "2024-03-16T11:59:59.000Z", "2024-03-01"),
        ("2024-04-01T00:00:00.000Z", "2024-04-01T00:00:00.000Z", "2024-04-01"),
    ],
)
def test_a_range_without_a_step_gets_the_nearest_one(
    tmp_path: Path, start: str, end: str, nearest: str
) -> None:
    """Asked for days of monthly means it delivers the month that begins nearest to the start."""
    months = np.arange("2024-01", "2025-01", dtype="datetime64[M]")
    path = write_marine(tmp_path / "source.nc", times=months)
    with served(marine_subset(MARINE, path)) as client:
        found = client.get(MARINE, startdate=start, enddate=end).open()

    assert found.time.values.astype("datetime64[D]").astype(str).tolist() == [nearest]


@pytest.mark.slow
def test_points_and_depths_get_the_nearest_ones(tmp_path: Path) -> None:
    """A box or depths between the points get the nearest ones, and the rest of the axes is cut."""
    path = write_marine(tmp_path / "source.nc", depths=[0.5, 10, 50], latitudes=[43.0, 42.0, 41.0])
    with served(marine_subset(MARINE, path)) as client:
        told = client.properties(MARINE)
        assert (told["minimum_depth"]["minimum"], told["maximum_depth"]["default"]) == (0.5, 50)
        found = client.get(
            MARINE, bbox=[0.01, 42.1, 0.02, 42.2], minimum_depth=5, maximum_depth=8
        ).open()
        whole = client.get(MARINE, minimum_depth=0.5, maximum_depth=10)
        feature = client.search(MARINE, minimum_depth=0, maximum_depth=4000)

    assert found.depth.values.tolist() == [0.5]
    assert found.latitude.values.tolist() == [42]
    assert found.longitude.values.tolist() == [0.0625]
    assert whole.open().depth.values.tolist() == [0.5, 10]
    assert whole.open().latitude.values.tolist() == [41, 42, 43]
    assert "_0.00-4000.00m_" in feature["id"]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        (
            {"startdate": "2025-02-01T00:00:00.000Z", "enddate": "2025-02-02T00:00:00.000Z"},
            "[2025-02-01 00:00:00+00:00, 2025-02-02 00:00:00+00:00] for the time dimension",
        ),
        ({"bbox": [0, 50, 1, 60]}, "[50.0, 60.0] for the latitude dimension exceed the dataset"),
    ],
)
def test_what_is_wholly_outside_is_an_error(
    source: Path, query: dict[str, Any], detail: str
) -> None:
    """The job fails with the toolbox's words, told by the status, the order or the search."""
    with served(marine_subset(MARINE, source)) as client:
        status, message = client.status(MARINE, client.search(MARINE, **query))
        assert status == "Error"
        assert f"Some of your subset selection {detail}" in str(message)
        assert "exceed the dataset coordinates [" in str(message)
    with served(marine_subset(MARINE, source, outside="order")) as client:
        refused = client.order(MARINE, client.search(MARINE, **query))
        assert (refused.status_code, client.emulator.orders) == (400, 0)
        assert detail in refused.json()["detail"]
    with served(marine_subset(MARINE, source, outside="search")) as client:
        refused = client.api("POST", "search", json={"dataset_id": MARINE, **query})
        assert refused.status_code == 400
        assert detail in refused.json()["detail"]


def test_a_range_that_is_partly_outside_is_shortened(source: Path) -> None:
    """Of a range that goes beyond the coverage what is there is delivered."""
    with served(marine_subset(MARINE, source)) as client:
        found = client.get(MARINE, startdate="2024-12-30T00:00:00Z", enddate="2026-01-01T00:00:00Z")

    assert found.open().sizes["time"] == 2


def test_variables_may_be_a_text_but_not_null(source: Path) -> None:
    """``variables`` may be left out or be a plain text; null and unknown ones are refused."""
    with served(marine_subset(MARINE, source)) as client:
        assert set(client.get(MARINE).open()) == {"adt", "sla"}
        assert set(client.get(MARINE, variables="sla").open()) == {"sla"}
        for wrong in (None, ["vo"], "vo", 1):
            body = {"dataset_id": MARINE, "variables": wrong}
            assert client.api("POST", "search", json=body).status_code == 422
        assert "default" in client.properties(MARINE)["startdate"]


@pytest.mark.slow
@for_each("first", [-180.0, 0.0])
@for_each(
    ("west", "east", "expected"),
    [
        (170, -170, [170, 180, 190]),
        (-180, 180, [-180, *range(-170, 180, 10)]),
        (-20, 10, [-20, -10, 0, 10]),
    ],
)
def test_boxes_over_the_date_line_are_joined(
    tmp_path: Path, first: float, west: int, east: int, expected: list[int]
) -> None:
    """A west end east of the east end goes over the date line; sources from 0 to 360 are rolled."""
    longitudes = np.arange(first, first + 360, 10)
    days = np.arange("2024-01-01", "2024-01-03", dtype="datetime64[D]")
    path = write_marine(tmp_path / "source.nc", times=days, longitudes=longitudes)
    with served(marine_subset(MARINE, path)) as client:
        found = client.get(MARINE, bbox=[west, 40, east, 45]).open()
    if (west, first) == (-180, 0):
        expected = [-170, *range(-160, 190, 10)]

    assert found.longitude.values.tolist() == expected
    with xr.open_dataset(path) as ds:
        at = ds.adt.sel(longitude=(found.longitude - first) % 360 + first)
        np.testing.assert_array_equal(found.adt.values, at.values)


@pytest.mark.slow
@pytest.mark.parametrize("results", ["renewed", "kept"])
def test_data_behind_an_id_grow(source: Path, results: str) -> None:
    """As time goes on the same id delivers more; or, as a setting, what was made at first."""
    now = [datetime(2024, 5, 10, 12, tzinfo=UTC)]
    dataset = marine_subset(MARINE, source, now=lambda: now[0], delay=2, results=results)
    with served(dataset) as client:
        url, name = client.emulator.url, client.search(MARINE, **MONTH)["id"]
        first = client.get(MARINE, **MONTH).open()
        assert client.properties(MARINE)["enddate"]["maximum"] == "2024-05-08T00:00:00.000Z"
        now[0] = datetime(2024, 5, 20, 12, tzinfo=UTC)
        second = client.get(MARINE, **MONTH).open()
        assert client.search(MARINE, **MONTH)["id"] == name
        client.emulator.forget_orders()
        third = client.get(MARINE, **MONTH).open()
        assert (client.emulator.orders, client.emulator.url) == (1, url)

    days = [len(ds.time) for ds in (first, second, third)]
    assert days == ([8, 18, 18] if results == "renewed" else [8, 8, 18])
