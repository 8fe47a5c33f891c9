"""Jobs of the emulator's subset data sets: containers, limits, failures, times, catalogues."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from subset_sources import ERA5, MARINE, File, served, write_era5, write_marine

from hda_fsspec.emulator import Catalogue, DatasetEntry, ecmwf_subset, marine_subset
from hda_fsspec.emulator.jobs.job import Job
from hda_fsspec.errors import ConfigurationError

NETCDF = {"data_format": "netcdf", "download_format": "unarchived"}
DAY = {"year": ["2024"], "month": ["02"], "day": ["03"], "time": ["00:00", "12:00"]}
INSTANT, ACCUM = (f"data_stream-oper_stepType-{kind}.nc" for kind in ("instant", "accum"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a source with instantaneous and accumulated variables."""
    return write_era5(tmp_path_factory.mktemp("jobs") / "source.nc")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "query", "suffix", "members"),
    [
        ({}, {"variable": ["t2m", "msl"]}, ".nc", None),
        ({}, {"variable": ["tp"]}, ".nc", None),
        ({"suffix": False}, {"variable": ["tp"]}, "", None),
        ({}, {"variable": ["t2m", "tp"]}, ".zip", {INSTANT: ["t2m"], ACCUM: ["tp"]}),
        ({}, {}, ".zip", {INSTANT: ["msl", "t2m"], ACCUM: ["tp"]}),
        ({}, {"variable": ["t2m"], "download_format": "zip"}, ".zip", {INSTANT: ["t2m"]}),
        ({"step_types": {"tp": "instant"}}, {}, ".nc", None),
        (
            {"files_per": "variable", "stream": "moda"},
            {"variable": ["t2m", "msl"]},
            ".zip",
            {"t2m_stream-moda.nc": ["t2m"], "msl_stream-moda.nc": ["msl"]},
        ),
    ],
)
def test_containers(
    source: Path,
    settings: dict[str, Any],
    query: dict[str, Any],
    suffix: str,
    members: dict[str, list[str]] | None,
) -> None:
    """Variables of two kinds come in a ZIP of two files, although none was asked for."""
    with served(ecmwf_subset(ERA5, source, **settings)) as client:
        file = client.get(ERA5, **DAY, **(NETCDF | query))

    assert file.name.partition(".")[1:] == suffix.partition(".")[1:]
    files = {"": file} if members is None else file.members
    found = {name: sorted(map(str, member.open())) for name, member in files.items()}
    assert found == (members or {"": sorted(query.get("variable", ["msl", "t2m", "tp"]))})


@pytest.mark.slow
@pytest.mark.parametrize(("mixed", "suffix"), [("file", "nc"), ("zip", "zip")])
def test_preliminary_data_beside_final_ones(source: Path, mixed: str, suffix: str) -> None:
    """Where preliminary and final data are mixed they are one file, or, as a setting, a ZIP."""
    now = datetime(2024, 2, 20, tzinfo=UTC)
    entry = ecmwf_subset(ERA5, source, now=now, preliminary=10, mixed_versions=mixed)
    query = {**DAY, **NETCDF, "variable": ["t2m"]}
    with served(entry) as client:
        both = client.get(ERA5, **(query | {"day": ["05", "15"]}))
        final = client.get(ERA5, **query)

    found = both if mixed == "file" else both.members[INSTANT]
    assert (both.name.rpartition(".")[2], final.name.rpartition(".")[2]) == (suffix, "nc")
    assert found.open().expver.values.tolist() == ["0001", "0001", "0005", "0005"]


@pytest.mark.slow
def test_grib_is_what_comes_by_default(source: Path, tmp_path: Path) -> None:
    """Where ecCodes is installed a request without a format is answered by GRIB."""
    pytest.importorskip("cfgrib", reason="cfgrib is not installed")
    query = {**DAY, "variable": ["t2m"], "bbox": [-1.125, 41, 1, 42.2]}
    with served(ecmwf_subset(ERA5, source)) as client:
        told = client.properties(ERA5)["data_format"]
        file = client.get(ERA5, **query)
        archive = client.get(ERA5, **query, download_format="zip")
        netcdf = client.get(ERA5, **query, **NETCDF).open()
        both = client.get(ERA5, **(query | {"variable": ["t2m", "tp"]}))
    (tmp_path / "file.grib").write_bytes(file.body)
    found = xr.open_dataset(
        tmp_path / "file.grib", engine="cfgrib", backend_kwargs={"indexpath": ""}
    )

    assert told["default"] == "grib"
    assert file.name.endswith(".grib")
    assert archive.members["data.grib"].body == file.body
    assert both.body.count(b"GRIB") == 4
    assert both.name.endswith(".grib")
    np.testing.assert_allclose(found.latitude, netcdf.latitude, atol=2e-3)
    np.testing.assert_allclose(found.longitude, netcdf.longitude, atol=2e-3)
    np.testing.assert_allclose(found.t2m, netcdf.t2m, atol=1e-4)
    np.testing.assert_array_equal(found.time + found.step, netcdf.valid_time)


def test_sources_without_parameter_numbers_have_no_grib(tmp_path: Path) -> None:
    """A source that does not name ECMWF's parameters can only be delivered as netCDF."""
    entry = ecmwf_subset(ERA5, write_marine(tmp_path / "s.nc"))
    with served(entry) as client:
        told = client.properties(ERA5)["data_format"]
        found = client.get(ERA5, year=["2024"], month=["02"], day=["29"]).open()

    assert [choice["const"] for choice in told["oneOf"]] == ["netcdf"]
    assert found.adt.dims == ("valid_time", "latitude", "longitude")
    assert found.latitude[0] > found.latitude[-1]
    assert "scale_factor" not in found.adt.encoding
    with xr.open_dataset(tmp_path / "s.nc") as ds:
        wanted = ds.adt.sel(time="2024-02-29", latitude=found.latitude)
        np.testing.assert_allclose(found.adt[0], wanted, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("told_by", "text", "expected"),
    [
        ("status", "new", "Your request is too large, please reduce your selection."),
        ("order", "new", "Your request is too large, please reduce your selection."),
        ("search", "old", "Request too large. Requesting 8 items, limit is 7."),
        ("order", "old", "Request too large. Requesting 8 items, limit is 7."),
    ],
)
def test_a_request_beyond_the_limit(source: Path, told_by: str, text: str, expected: str) -> None:
    """Fields are counted, not the box; the refusal has upstream's words, wherever it is told."""
    settings: dict[str, Any] = {"too_large_text": text, "told_by": told_by}
    entry = ecmwf_subset(ERA5, source, max_fields=8, max_fields_netcdf=7, **settings)
    large = {**DAY, **NETCDF, "variable": ["t2m", "msl"], "day": ["03", "04"]}
    with served(entry) as client:
        small = client.get(ERA5, **(large | {"day": ["03"]}), bbox=[-3, 40, 3, 45])
        if told_by == "search":
            answer = client.api("POST", "search", json={"dataset_id": ERA5, **large})
        else:
            feature = client.search(ERA5, **large)
            answer = client.order(ERA5, feature)
        if told_by == "status":
            status, detail = client.status(ERA5, feature)
            assert (status, answer.status_code) == ("Error", 200)
            told = str(detail)
            polled = client.api("GET", f"download/{answer.json()['download_id']}")
            assert polled.status_code == 500
        else:
            assert answer.status_code == (403 if text == "new" else 400)
            told = answer.json()["title"] + answer.json()["detail"]
        if told_by == "order":  # of all variables, and at all times of day
            for left_out in ("variable", "time"):
                rest = {key: value for key, value in large.items() if key != left_out}
                assert not client.order(ERA5, client.search(ERA5, **rest)).ok
        grib = client.search(ERA5, **(large | {"data_format": "grib"}))
        assert client.status(ERA5, grib)[0] == "Done"

    assert small.open().sizes["valid_time"] == 2
    assert expected in told
    assert ("cost limits exceeded" in told) is (text == "new")


def test_a_failed_job_is_made_again(source: Path) -> None:
    """An order of a job that failed starts it again, and costs no quota."""
    now = [datetime(2024, 1, 1, tzinfo=UTC)]
    with served(ecmwf_subset(ERA5, source, now=lambda: now[0]), quota=1) as client:
        feature = client.search(ERA5, **DAY)
        assert client.status(ERA5, feature)[0] == "Error"
        now[0] = datetime(2024, 5, 1, tzinfo=UTC)
        assert client.status(ERA5, feature) == ("Done", None)
        assert client.emulator.orders == 1


def _start(entry: Any, **query: Any) -> Job:
    job: Job = entry.start(entry.request_of(query))
    return job


def test_large_jobs_take_longer(source: Path, tmp_path: Path) -> None:
    """A job takes a time in the queue and more for each field, scaled by one option."""
    marine = marine_subset(MARINE, write_marine(tmp_path / "s.nc"), seconds_per_unit=3600)
    entry = ecmwf_subset(ERA5, source, seconds_per_job=60, seconds_per_unit=2)
    small, large = (_start(entry, **DAY, variable=v) for v in (["t2m"], ["t2m", "msl"]))
    day, whole = (_start(marine, **q) for q in ({"enddate": "2024-01-01T00:00:00Z"}, {}))

    assert (small.seconds, large.seconds) == (64, 68)
    assert day.seconds - 60 == pytest.approx((whole.seconds - 60) / 366)
    for scale, expected in ((0.0, "Done"), (1000.0, "Running")):
        with served(entry, job_time_scale=scale) as client:
            assert client.status(ERA5, client.search(ERA5, **DAY))[0] == expected


def test_orders_without_a_search(source: Path) -> None:
    """An id and a location that fit together can be ordered unseen; as a setting they cannot."""
    with served(ecmwf_subset(ERA5, source)) as client:
        feature = client.search(ERA5, **DAY)
    wrong = feature | {"id": feature["id"][:-1] + "x"}
    for allowed in (True, False):
        entry = ecmwf_subset(ERA5, source, order_without_search=allowed)
        with served(entry) as client:
            answers = [client.order(ERA5, f).status_code for f in (feature, wrong)]
            odd = [feature | {"properties": {"location": text}} for text in ("", "%5B%5D", "a")]
            assert {client.order(ERA5, f).status_code for f in odd} == {404}
            if allowed:
                strange = entry.product_of({"date": "soon/later", "variable": ["absent"]})
                told = {"id": strange.product_id, "properties": {"location": strange.locator}}
                status, message = client.status(ERA5, told)
                assert (status, "invalid request" in str(message)) == ("Error", True)
        assert answers == [200 if allowed else 404, 404]


def test_the_same_file_again(source: Path) -> None:
    """A file is made once for an order, and is the same again for the same request."""
    with served(ecmwf_subset(ERA5, source)) as client:
        bodies = {client.get(ERA5, **DAY, **NETCDF, variable=["t2m"]).body for _ in range(2)}
        client.emulator.forget_orders()
        bodies.add(client.get(ERA5, **DAY, **NETCDF, variable=["t2m"]).body)
        address = client.emulator.url.split("/")[3]
    with served(ecmwf_subset(ERA5, source, now=lambda: datetime.now(UTC))) as client:
        again = client.emulator.url.split("/")[3]
    with served(ecmwf_subset(ERA5, source, max_fields=5)) as client:
        other = client.emulator.url.split("/")[3]

    assert len(bodies) == 1
    assert address == again != other


def test_json_catalogues_have_subset_data_sets(source: Path, tmp_path: Path) -> None:
    """A JSON catalogue lists subset data sets beside others, with their settings."""
    write_marine(tmp_path / "sea.nc")
    described: list[dict[str, Any]] = [
        {"dataset_id": MARINE, "subset": "marine", "file": "sea.nc", "now": "2024-03-01T00:00:00Z"},
        {"dataset_id": ERA5, "subset": "ecmwf", "file": str(source), "single": ["year"]},
        {
            "dataset_id": "EO:ECMWF:DAT:CAMS",
            "subset": "ecmwf",
            "file": str(source),
            "date_keys": ["startdate", "enddate"],
            "preliminary": 90,
        },
        {"dataset_id": "EO:X", "products": [{"file": "sea.nc"}]},
    ]
    path = tmp_path / "catalogue.json"
    path.write_text(json.dumps({"datasets": described}), encoding="utf-8")
    datasets: list[DatasetEntry] = list(Catalogue.from_json(path))
    with served(*datasets) as client:
        assert client.get(MARINE).open().sizes["time"] == 61
        assert "oneOf" in client.properties(ERA5)["year"]
        assert "startdate" in client.properties("EO:ECMWF:DAT:CAMS")
        listed = client.session.get(f"{client.emulator.url}api/v1/datasets/{MARINE}", timeout=10)
    assert listed.json()["metadata"]["_source"]["tempextent_end"] == "2024-03-01"
    for wrong in ({"subset": "air"}, {"subset": "marine", "grid": "corner"}, {"file": "no.nc"}):
        described[0] |= {"subset": "marine"} | wrong
        path.write_text(json.dumps({"datasets": described[:1]}), encoding="utf-8")
        with pytest.raises(ConfigurationError, match=r"subset='air'|'grid'|is not there"):
            Catalogue.from_json(path)


def test_what_is_no_source(tmp_path: Path) -> None:
    """A file that is absent, no netCDF or has no grid is a typed error, as is a wrong setting."""
    with pytest.raises(ConfigurationError, match="is no file"):
        marine_subset(MARINE, tmp_path / "absent.nc")
    (tmp_path / "text.nc").write_text("text")
    entry = marine_subset(MARINE, tmp_path / "text.nc")
    with pytest.raises(ConfigurationError, match="cannot cut subsets of"):
        _ = entry.schema
    with served(entry) as client:
        answer = client.api("GET", f"queryable/{MARINE}")
        assert (answer.status_code, answer.json()["title"]) == (500, "Task Error")
    xr.Dataset({"v": ("x", [1, 2])}).to_netcdf(tmp_path / "x.nc")
    with pytest.raises(ConfigurationError, match="no dimension of time"):
        _ = ecmwf_subset(ERA5, tmp_path / "x.nc").schema
    with pytest.raises(
        ConfigurationError, match=r"grid='middle': use one of \('corner', 'inside'\)"
    ):
        ecmwf_subset(ERA5, tmp_path / "x.nc", grid="middle")


def test_files_are_complete(source: Path) -> None:
    """A delivered file ends where HDF5 says that it ends."""
    with served(ecmwf_subset(ERA5, source)) as client:
        file: File = client.get(ERA5, **DAY, **NETCDF, variable=["t2m"])
    at = 40 if file.body[8] < 2 else 28

    assert int.from_bytes(file.body[at : at + 8], "little") == len(file.body)


def test_a_file_that_cannot_be_made_is_answered(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is taken, its file is an error 500 each time, and the service goes on."""
    with served(ecmwf_subset(ERA5, source), job_time_scale=0) as client:
        feature = client.search(ERA5, **DAY, **NETCDF, variable=["t2m"])
        with monkeypatch.context() as patch:
            patch.setattr("hda_fsspec.emulator.jobs.ecmwf.call", _fail)
            download_id = client.order(ERA5, feature).json()["download_id"]
        for method in ("GET", "HEAD", "GET"):
            answer = client.api(method, f"download/{download_id}")
            assert answer.status_code == 500
            assert method == "HEAD" or "The file cannot be made: KeyError" in answer.text
        assert client.get(ERA5, **DAY, **NETCDF, variable=["msl"]).name


def _fail(*_: object) -> bytes:
    raise KeyError("no such thing")
