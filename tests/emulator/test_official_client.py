"""The official client, unchanged, works against the emulator as it does against the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from subset_sources import ERA5, MARINE, write_era5, write_marine

from hda_fsspec.emulator import (
    Catalogue,
    DatasetEntry,
    Emulator,
    ProductEntry,
    dated_product,
    ecmwf_subset,
    marine_subset,
)


def hda_api() -> Any:
    """Import the official client, if it is there, where it is needed."""
    return pytest.importorskip("hda.api", reason="the official client is not installed")


DATASET = "EO:TEST:DAT:DAILY"
BODIES = {f"p_202405{day:02}.nc": bytes([day]) * (1000 + day) for day in range(1, 13)}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its order runner sleeps one second before the first poll.
    monkeypatch.setattr(hda_api().time, "sleep", lambda _seconds: None)


def serve(**options: Any) -> Emulator:
    """Return an emulator with twelve products, and licences that are not accepted yet."""
    products = [dated_product(name, body) for name, body in BODIES.items()]
    entry = DatasetEntry(DATASET, products, title="Twelve days")
    return Emulator(Catalogue([entry]), accepted_terms=(), **options)


def connect(emulator: Emulator) -> Any:
    """Return the official client for an emulator."""
    config = hda_api().Configuration(
        url=emulator.url, user=emulator.user, password=emulator.password, path="/nonexistent"
    )
    return hda_api().Client(config, progress=False)


def close(client: Any) -> None:
    """Close the session of a client, which does not do it by itself."""
    if client._session is not None:
        client._session.close()


def read_all(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_catalogue_calls() -> None:
    """It lists data sets, reads one, and reads its schema."""
    with serve() as emulator:
        client = connect(emulator)
        assert [each["dataset_id"] for each in client.datasets()] == [DATASET]
        title = client.dataset(DATASET)["metadata"]["_source"]["datasetTitle"]
        assert title == "Twelve days"
        assert "startdate" in client.metadata(DATASET)["properties"]
        close(client)


@pytest.mark.parametrize("paging", ["total", "next"])
def test_search_and_download(paging: str, tmp_path: Path) -> None:
    """It searches, takes a slice of the matches, and downloads it byte by byte the same."""
    with serve(paging=paging, polls=1) as emulator:
        client = connect(emulator)
        query = {"dataset_id": DATASET, "startdate": "2024-05-03T00:00:00.000Z"}
        matches = client.search(query)
        matches[2:6].download(str(tmp_path / "out"))
        assert len(matches) == 10
        assert len(matches[0]) == 1
        assert matches.volume == sum(map(len, list(BODIES.values())[2:]))
        assert read_all(tmp_path / "out") == dict(list(BODIES.items())[4:8])
        assert emulator.orders == emulator.downloads == 4
        assert emulator.count("PUT", "termsaccepted/Copernicus_General_License") == 5
        close(client)


@pytest.mark.parametrize("paging", ["total", "next"])
def test_many_pages(paging: str) -> None:
    """It follows pages of either style to the end: it asks for a hundred products at a time."""
    day, end = "2024-05-01T00:00:00.000Z", "2024-05-01T23:59:59.999Z"
    products = [ProductEntry(f"p{number:03}", b"x", day, end) for number in range(250)]
    catalogue = Catalogue([DatasetEntry(DATASET, products, paging=paging)])
    with Emulator(catalogue) as emulator:
        client = connect(emulator)
        matches = client.search({"dataset_id": DATASET})
        assert [each["id"] for each in matches.results] == [each.product_id for each in products]
        assert emulator.count("POST", "dataaccess/search") == 3
        close(client)


@pytest.mark.parametrize(
    "options", [{"sizes": "ND"}, {"origins": ("cmems",), "quoted_names": True}]
)
def test_other_behaviour(options: dict[str, Any], tmp_path: Path) -> None:
    """It copes with unknown sizes, federated accounts and quoted names."""
    with serve(**options) as emulator:
        client = connect(emulator)
        client.search({"dataset_id": DATASET})[:2].download(str(tmp_path / "out"))
        assert read_all(tmp_path / "out") == dict(list(BODIES.items())[:2])
        close(client)


def test_it_renews_its_token() -> None:
    """An expired token is renewed by its form; if that is refused, it logs in again."""
    with serve() as emulator:
        client = connect(emulator)
        client.datasets()
        for refresh, logins in ((False, 1), (True, 2)):
            emulator.expire_tokens(refresh=refresh)
            client._invalidate_token()
            client.datasets()
            assert emulator.logins == logins
        assert emulator.count("POST", "refreshtoken") == 2
        close(client)


# It warns of the state of the quota whenever it sees one.
@pytest.mark.filterwarnings(r"ignore:Warning. \d+ requests remaining:UserWarning")
def test_the_quota_stops_it(tmp_path: Path) -> None:
    """It reads the quota's headers: beyond the quota nothing more arrives."""
    with serve(quota=1) as emulator:
        client = connect(emulator)
        matches = client.search({"dataset_id": DATASET})[:2]
        client.max_workers = 1
        matches.download(str(tmp_path / "out"))
        assert read_all(tmp_path / "out") == dict(list(BODIES.items())[:1])
        assert emulator.orders == 1
        with pytest.raises(hda_api().QuotaReachedError, match="0 requests remaining out of 1"):
            matches._get_download_id(matches.results[1])
        close(client)


def test_real_files_arrive_whole(shared_data: Path, tmp_path: Path) -> None:
    """Real daily files of the marine service go through unchanged."""
    catalogue = tmp_path / "catalogue"
    catalogue.mkdir()
    source = shared_data / "cmems" / "duacs-med-adt-2005q2" / "daily"
    (catalogue / DATASET).symlink_to(source)
    with Emulator(Catalogue.from_folder(catalogue)) as emulator:
        client = connect(emulator)
        query = {
            "dataset_id": DATASET,
            "startdate": "2005-04-10T00:00:00.000Z",
            "enddate": "2005-04-12T23:59:59.999Z",
        }
        client.search(query).download(str(tmp_path / "out"))
        close(client)

    arrived = read_all(tmp_path / "out")
    assert len(arrived) == 3
    assert all(body == (source / name).read_bytes() for name, body in arrived.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "query", "times"),
    [
        (MARINE, {"startdate": "2024-05-03T00:00:00.000Z", "variables": ["adt"]}, 243),
        (ERA5, {"year": ["2024"], "month": ["02"], "day": ["29"], "variable": ["t2m"]}, 4),
    ],
)
def test_subset_jobs(dataset: str, query: dict[str, Any], times: int, tmp_path: Path) -> None:
    """A subset data set gives it one match, which it orders, waits for and downloads."""
    sources = write_marine(tmp_path / "sea.nc"), write_era5(tmp_path / "era5.nc")
    entries = [marine_subset(MARINE, sources[0]), ecmwf_subset(ERA5, sources[1])]
    asked = query | ({"data_format": "netcdf"} if dataset == ERA5 else {})
    with Emulator(Catalogue(entries), accepted_terms=(), polls=2) as emulator:
        client = connect(emulator)
        matches = client.search({"dataset_id": dataset, **asked})
        matches.download(str(tmp_path / "out"))
        close(client)

    (file,) = (tmp_path / "out").iterdir()
    assert [match["id"] for match in matches.results] == [file.name.removesuffix(".nc")]
    with xr.open_dataset(file) as ds:
        assert len(ds["time" if dataset == MARINE else "valid_time"]) == times
