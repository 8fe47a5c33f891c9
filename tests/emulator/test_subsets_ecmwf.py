"""Subset data sets of the emulator in the manner of EO:ECMWF: what is asked, and what comes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from checkout import SHARED
from rows import for_each
from subset_sources import ERA5, File, served, write_era5

from hda_fsspec.emulator import ecmwf_subset
from hda_fsspec.emulator.jobs.grid import regular

CAMS = "EO:ECMWF:DAT:CAMS_GLOBAL_REANALYSIS_EAC4"
NETCDF = {"data_format": "netcdf", "download_format": "unarchived"}
MONTHS = [f"{n:02}" for n in range(1, 13)]
DAYS = [f"{n:02}" for n in range(1, 32)]
GFAS = {
    "variable": "wildfire_flux_of_total_carbon_in_aerosols",
    "data_format": "grib",
    "bbox": [0.25, 43.2, 2.8, 43.9],
    "startdate": "2018-01-01T00:00:00.000Z",
    "enddate": "2018-01-02T00:00:00.000Z",
}
MEANS = {
    "product_type": ["monthly_averaged_reanalysis"],
    "variable": ["2m_temperature", "soil_temperature_level_1", "snow_albedo"],
    "year": [str(year) for year in range(2000, 2026)],
    "month": MONTHS,
    "time": ["00:00"],
    **NETCDF,
    "bbox": [-170, 51, -130, 72],
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a source of six-hourly fields of February and March 2024."""
    return write_era5(tmp_path_factory.mktemp("ecmwf") / "source.nc")


@pytest.fixture(scope="module")
def instant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same without the accumulated variable."""
    path = tmp_path_factory.mktemp("ecmwf") / "source.nc"
    return write_era5(path, names=("t2m", "msl"))


def lists(month: Any = "02", day: Any = "01", time: Any = "00:00", **more: Any) -> dict[str, Any]:
    """Return the query of some times."""
    listed = {"month": month, "day": day, "time": time}
    found = {key: value if isinstance(value, list) else [value] for key, value in listed.items()}
    return {"year": ["2024"], **found, **NETCDF, **more}


def steps(ds: xr.Dataset) -> list[str]:
    """Return the times of a data set, to the hour."""
    hours: list[str] = ds.valid_time.values.astype("datetime64[h]").astype(str).tolist()
    return hours


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "query", "product_id"),
    [
        (
            "CAMS_GLOBAL_FIRE_EMISSIONS_GFAS",
            GFAS,
            "cams-global-fire-emissions-gfas-e6bed340557b2d9d6f914c7810c14cde",
        ),
        (
            "REANALYSIS_ERA5_SINGLE_LEVELS_MONTHLY_MEANS",
            MEANS,
            "reanalysis-era5-single-levels-monthly-means-b11a1433282588ae743ec586549eab39",
        ),
    ],
)
def test_ids_are_those_of_the_service(
    instant: Path, dataset: str, query: dict[str, Any], product_id: str
) -> None:
    """Requests of public notebooks have the ids that were printed there; digits matter."""
    entry = ecmwf_subset(f"EO:ECMWF:DAT:{dataset}", instant)
    other = query | {"bbox": [float(edge) + 0.0 for edge in [0.25, 43.2, 2.8, 44]]}

    assert [product.product_id for product in entry.search(query)] == [product_id]
    assert entry.search(other)[0].product_id != product_id


def test_the_id_of_a_recorded_request(instant: Path) -> None:
    """The recorded request of daily statistics has the id that the service gave it."""
    recorded = SHARED / "recorded" / "requests" / "EO_ECMWF_ERA5_DAILY_STATS.json"
    if not recorded.is_file():
        pytest.skip("the folder ../shared with recorded requests is absent")
    query = json.loads(recorded.read_text(encoding="utf-8"))
    (product,) = ecmwf_subset(query["dataset_id"], instant).search(query)

    assert product.product_id == (
        "derived-era5-single-levels-daily-statistics-3e39d5e237d504ee0690327cd2536605"
    )


def test_lists_are_multiplied(instant: Path) -> None:
    """Every combination is delivered; dates that do not exist are left out without a word."""
    with served(ecmwf_subset(ERA5, instant)) as client:
        feature = client.search(ERA5, **lists(["02", "03"], ["01", "30", "31"], ["12:00", "06:00"]))
        found = client.get(ERA5, **lists(["02", "03"], ["01", "30", "31"], ["12:00", "06:00"]))
        status = client.status(ERA5, client.search(ERA5, **lists("02", ["30", "31"])))
        twice = client.status(ERA5, client.search(ERA5, **lists("02", ["01", "01"])))
        empty = client.status(ERA5, client.search(ERA5, **lists("07")))

    days = ("02-01", "03-01", "03-30", "03-31")
    assert steps(found.open()) == [f"2024-{day}T{hour}" for day in days for hour in ("06", "12")]
    assert feature["properties"]["size"] == "ND"
    assert found.name == f"{feature['id']}.nc"
    assert status[0] == twice[0] == empty[0] == "Error"
    assert "invalid request\nNo valid dates from year=[2024] month=[2] day=[30, 31]" in str(
        status[1]
    )
    assert "day=['01', '01']" in str(twice[1])
    assert empty[1] == "MARS returned no data, please check your selection."


@pytest.mark.slow
def test_both_days_of_a_range_are_delivered(instant: Path) -> None:
    """Times of day are dropped from the two ends of a range; ``time`` chooses among its days."""
    entry = ecmwf_subset(CAMS, instant, date_keys=("startdate", "enddate"))
    ends = {"startdate": "2024-02-28T18:00:00.000Z", "enddate": "2024-03-01T00:00:00.000Z"}
    with served(entry) as client:
        whole = client.get(CAMS, **NETCDF, **ends).open()
        noons = client.get(CAMS, **NETCDF, **ends, time=["12:00"]).open()
        feature = client.search(CAMS, **ends)
        answers = [
            client.api("POST", "search", json={"dataset_id": CAMS, **query})
            for query in ({}, ends | {"enddate": "soon"})
        ]

    days = ("02-28", "02-29", "03-01")
    assert len(whole.valid_time) == 12
    assert steps(noons) == [f"2024-{day}T12" for day in days]
    assert feature["properties"]["startdate"] == "2024-02-28T00:00:00.000Z"
    assert "2024-02-28/2024-03-01" in feature["properties"]["location"]
    assert [answer.status_code for answer in answers] == [400, 400]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "query"),
    [
        ({"single": ("year",)}, {"year": "2024", "month": ["02"], "day": ["03"]}),
        ({"single": ("year", "month")}, {"year": "2024", "month": "02", "day": ["03"]}),
        (
            {"lists": ("hyear", "hmonth", "hday"), "month_names": True},
            {"hyear": ["2024"], "hmonth": ["february"], "hday": ["03"]},
        ),
        ({"lists": ("year", "month", "nominal_day")}, {"year": ["2024"], "nominal_day": ["03"]}),
    ],
)
def test_keys_of_time(instant: Path, settings: dict[str, Any], query: dict[str, Any]) -> None:
    """Lists have the names, the months and the single values that a data set has."""
    with served(ecmwf_subset(ERA5, instant, **settings)) as client:
        found = client.get(ERA5, **query, **NETCDF).open()
        wrong = {
            key: ["2024", "2024"] if value == "2024" else ["1"] for key, value in query.items()
        }
        answer = client.api("POST", "search", json={"dataset_id": ERA5, **wrong})

    assert set(found.valid_time.dt.day.values.tolist()) == {3}
    assert len(found.valid_time) == (8 if "nominal_day" in query else 4)
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("key", "choices", "expected"),
    [
        ("period", ["20240201-20240215", "20240331-20240331"], 15 * 4 + 4),
        ("hydrological_year", ["2023_24"], 60 * 4),
    ],
)
def test_times_that_are_no_dates(
    instant: Path, key: str, choices: list[str], expected: int
) -> None:
    """Periods and hydrological years choose what lies within them."""
    from hda_fsspec.emulator import multiple_choice

    parameters = {key: multiple_choice([*choices, "2030_31"])}
    with served(ecmwf_subset(ERA5, instant, lists=(key,), parameters=parameters)) as client:
        found = client.get(ERA5, **{key: choices}, **NETCDF).open()

    assert len(found.valid_time) == expected


@pytest.mark.slow
def test_variables_and_levels(tmp_path: Path) -> None:
    """Variables have the names of requests, and levels are chosen by theirs."""
    hours = np.arange("2024-02-01", "2024-02-02", 12, dtype="datetime64[h]")
    path = write_era5(tmp_path / "s.nc", times=hours, names=("u", "v"), levels=[1000, 850, 10])
    names = {"u_component_of_wind": "u", "wind": ["u", "v"]}
    with served(ecmwf_subset(ERA5, path, variables=names)) as client:
        offered = client.properties(ERA5)["pressure_level"]["items"]["oneOf"]
        query = lists(variable=["u_component_of_wind"], pressure_level=["10", "1000"])
        found = client.get(ERA5, **query).open()
        both = client.get(ERA5, **lists(variable="wind")).open()

    assert [choice["const"] for choice in offered] == ["1000", "850", "10"]
    assert (list(found), found.pressure_level.values.tolist()) == (["u"], [1000, 10])
    with xr.open_dataset(path) as ds:
        wanted = ds.u.sel(pressure_level=[1000, 10])[:1]
        np.testing.assert_array_equal(found.u.values, wanted.values)
    assert (set(both), both.sizes["pressure_level"]) == ({"u", "v"}, 3)


def test_lead_times(tmp_path: Path) -> None:
    """Forecasts are chosen by the day of their run and the hours after it."""
    runs = np.arange("2024-02-01", "2024-02-04", dtype="datetime64[D]").astype("datetime64[ns]")
    dims = ("forecast_reference_time", "forecast_period", "latitude", "longitude")
    shape = (3, 4, 2, 2)
    ds = xr.Dataset(
        {"pm10": (dims, np.arange(48, dtype=np.float32).reshape(shape))},
        dict(zip(dims, (runs, [0, 1, 24, 48], [41.0, 40], [0.0, 1]), strict=True)),
    )
    ds["forecast_period"].attrs["units"] = "hours"
    ds.to_netcdf(tmp_path / "s.nc")
    entry = ecmwf_subset(CAMS, tmp_path / "s.nc", date_keys=("startdate", "enddate"))
    ends = {"startdate": "2024-02-02T00:00:00.000Z", "enddate": "2024-02-03T00:00:00.000Z"}
    with served(entry) as client:
        found = client.get(CAMS, **ends, leadtime_hour=["24", "1"]).open(decode_timedelta=False)

    assert found.pm10.dims == dims
    assert found.forecast_period.values.tolist() == [1, 24]
    np.testing.assert_array_equal(found.pm10, ds.pm10[1:, 1:3])


def test_the_layout_of_files(instant: Path) -> None:
    """Files are laid out as the data stores convert them: north first, deflated, in one chunk."""
    with served(ecmwf_subset(ERA5, instant)) as client:
        file = client.get(ERA5, **lists(day=["01", "02"], bbox=[-1, 41, 1.1, 42.2]))
    found, stored = file.open(), file.stored()

    assert found.t2m.dims == ("valid_time", "latitude", "longitude")
    assert found.latitude.values.tolist() == [42, 41.75, 41.5, 41.25, 41]
    assert found.longitude.values.tolist() == [-1 + 0.25 * n for n in range(9)]
    assert set(found.coords) == {"valid_time", "latitude", "longitude", "number", "expver"}
    assert found.expver.values.tolist() == ["0001", "0001"]
    assert stored["t2m"].filters()["zlib"]
    assert stored["t2m"].chunking() == [2, 5, 9]
    assert "GRIB to CDM+CF via cfgrib" in found.attrs["history"]
    stored.close()
    with xr.open_dataset(instant) as ds:
        wanted = ds.t2m.sel(latitude=found.latitude, longitude=found.longitude)[[0, 4]]
        np.testing.assert_array_equal(found.t2m, wanted)


@pytest.mark.slow
def test_boxes_off_the_grid_are_interpolated(instant: Path) -> None:
    """The grid begins at the south-west corner, whatever the native one is."""
    with served(ecmwf_subset(ERA5, instant)) as client:
        found = client.get(ERA5, **lists(bbox=[-1.1, 41.2, 1, 42.2])).open()
        point = client.get(ERA5, **lists(bbox=[0.5 - 1e-14, 42, 0.5 + 1e-14, 42 + 1e-14])).open()
        failed = client.status(ERA5, client.search(ERA5, **lists(bbox=[1, 42, 1, 42])))
        nowhere = client.status(ERA5, client.search(ERA5, **lists(bbox=[50, 10, 60, 20])))

    np.testing.assert_allclose(found.latitude, [42.2, 41.95, 41.7, 41.45, 41.2])
    np.testing.assert_allclose(found.longitude, np.arange(-1.1, 1, 0.25))
    with xr.open_dataset(instant) as ds:
        places = {"latitude": found.latitude, "longitude": found.longitude}
        wanted = ds.t2m[:1].astype(float).interp(places)
        np.testing.assert_allclose(found.t2m, wanted, rtol=1e-6)
    assert dict(point.sizes) == {"valid_time": 1, "latitude": 1, "longitude": 1}
    assert failed == ("Error", "MARS has returned an error, please check your selection.")
    assert nowhere == ("Error", "MARS returned no data, please check your selection.")


def test_corners_are_those_of_a_delivered_file() -> None:
    """A recorded box of 0.25 degrees has the four edges that a delivered file shows."""
    latitudes, longitudes = np.arange(90, -90.1, -0.25), np.arange(0, 360, 0.25)
    rows = regular(latitudes, 34.820549818950624, 59.88529321568774, is_longitude=False)
    columns = regular(longitudes, -13.045555904899189, 47.69591545824196, is_longitude=True)

    assert (len(rows.values), len(columns.values)) == (101, 243)
    np.testing.assert_allclose(rows.values[[0, -1]], [34.82, 59.821], atol=1e-9)
    np.testing.assert_allclose(columns.values[[0, -1]], [-13.046, 47.455], atol=1e-9)


@for_each("first", [-180, 0])
@for_each(
    ("west", "east", "count"),
    [(-180, 180, 36), (-15, 25, 5), (170, -150, 5), (0, 350, 36), (-200, -150, 6), (355, 365, 2)],
)
def test_longitudes_go_round(first: int, west: float, east: float, count: int) -> None:
    """A source of all longitudes is cut across its edge, as the box names them."""
    known = np.arange(first, first + 360, 10.0)
    points = regular(known, west, east, is_longitude=True)
    mixed = np.cos(np.deg2rad(known))
    found = mixed[points.before] * (1 - points.weights) + mixed[points.after] * points.weights

    assert len(points.values) == count
    np.testing.assert_allclose(points.values, west + 10 * np.arange(count))
    np.testing.assert_allclose(found, np.cos(np.deg2rad(points.values)), atol=0.01)


def test_data_sets_of_files_keep_their_layout(instant: Path) -> None:
    """Data sets that are files deliver existing points in a ZIP, named by the box."""
    with served(ecmwf_subset(ERA5, instant, grid="inside")) as client:
        file = client.get(ERA5, **lists(bbox=[-1.1, 41.2, 1, 42.2]))
        (name,) = file.members
        found = file.members[name].open()

    assert (file.name[-4:], name) == (".zip", "source.area-subset.42.2.-1.1.41.2.1.nc")
    assert found.latitude.values.tolist() == [42, 41.75, 41.5, 41.25]
    with xr.open_dataset(instant) as ds:
        wanted = ds.sel(latitude=slice(42.2, 41.2), longitude=slice(-1.1, 1))[["t2m", "msl"]]
        xr.testing.assert_identical(found, wanted.isel(valid_time=[0]).load())


@pytest.mark.slow
def test_what_is_not_available_yet_is_left_out(instant: Path) -> None:
    """Steps after the latest hour are left out; an error tells it where none is left."""
    now = [datetime(2024, 2, 10, 13, tzinfo=UTC)]
    entry = ecmwf_subset(ERA5, instant, now=lambda: now[0], delay=5, preliminary=7)
    query = lists(day=["02", "03", "04", "05", "06"], time=["06:00", "18:00"])
    with served(entry) as client:
        first = client.get(ERA5, **query).open()
        failed = client.status(ERA5, client.search(ERA5, **lists(day=["06", "07"])))
        now[0] = datetime(2024, 2, 20, tzinfo=UTC)
        second = client.get(ERA5, **query).open()
        client.status(ERA5, client.search(ERA5, **lists(day=["06", "07"])))
        assert client.status(ERA5, client.search(ERA5, **lists(day=["06"])))[0] == "Done"

    assert steps(first)[-2:] == ["2024-02-04T18", "2024-02-05T06"]
    assert first.expver.values.tolist() == ["0001"] * 3 + ["0005"] * 4
    assert len(second.valid_time) == 10
    assert second.expver.values.tolist() == ["0001"] * 10
    assert failed[0] == "Error"
    assert str(failed[1]).endswith(
        "None of the data you have requested is available yet, please revise the period "
        "requested. The latest date available for this dataset is: 2024-02-05 13:00"
    )


@pytest.mark.slow
@for_each(
    ("west", "east", "expected"),
    [
        (350, 10, [0, 10, 350]),
        (-10, 10, [0, 10, 350]),
        (20, 40, [20, 30, 40]),
        (-180, 180, [*range(0, 360, 10)]),
    ],
)
def test_files_are_cut_across_the_edge(
    tmp_path: Path, west: float, east: float, expected: list[float]
) -> None:
    """A data set of files from 0 to 360 has the points of a box, however that is written."""
    hours = np.arange("2024-02-01", "2024-02-02", 24, dtype="datetime64[h]")
    path = write_era5(tmp_path / "s.nc", times=hours, longitudes=np.arange(0, 360, 10.0))
    entry = ecmwf_subset(ERA5, path, grid="inside")
    request = {"area": [45, west, 40, east]}
    (file,) = File("", entry.start(request).content.read()).members.values()

    assert file.open().longitude.values.tolist() == expected
