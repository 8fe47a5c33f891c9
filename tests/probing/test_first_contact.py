"""A first contact finds out how a service behaves, whichever way that is, and records it."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from conftest import Bench
from subset_sources import ERA5, MARINE, write_era5, write_marine

from hda_fsspec import HDAFileSystem, Location
from hda_fsspec.emulator import (
    Catalogue,
    DatasetEntry,
    Emulator,
    Fault,
    dated_product,
    ecmwf_subset,
    marine_subset,
)
from hda_fsspec.errors import ConfigurationError, OfflineError
from hda_fsspec.probing.contact import first_contact
from hda_fsspec.probing.facts import Fact
from hda_fsspec.probing.query import small_query
from hda_fsspec.schema.schema import Schema
from hda_fsspec.settings import Settings

Contact = Callable[..., dict[str, Fact]]


@pytest.fixture
def contact(tmp_path: Path) -> Contact:
    """Return what probes an emulator, and gives the facts by name."""

    def run(
        emulator: Emulator,
        path: str,
        *,
        consent: bool = True,
        recording: Path | None = None,
        **more: Any,
    ) -> dict[str, Fact]:
        settings = Settings.resolve(cache_dir=tmp_path / "none", **emulator.storage_options)
        facts = first_contact(
            settings,
            Location.parse(path),
            may_order=lambda _: consent,
            recording=recording,
            sleep=lambda _: None,
            **more,
        )
        return {fact.fact: fact for fact in facts}

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write small netCDF files of three days."""
    paths = []
    for day in range(1, 4):
        time = np.array([f"2024-05-{day:02}T12:00"], "datetime64[ns]")
        ds = xr.Dataset({"sst": (("time", "lat"), [[280.0, 281.0]])}, {"time": time})
        paths.append(tmp_path_factory.getbasetemp() / f"sst_202405{day:02}.nc")
        ds.to_netcdf(paths[-1])
    return paths


@pytest.fixture
def serve(bench: Any, files: list[Path]) -> Callable[..., Emulator]:
    """Return what starts an emulator with some days of small netCDF files."""

    def start(days: int = 3, **options: Any) -> Emulator:
        products = [dated_product(path.name, path) for path in files[:days]]
        started: Emulator = bench.start(products=products, polls=3, **options)
        return started

    return start


#: Options of the emulator, and what a probe then says of facts: state, and part of what is seen.
READINGS: dict[str, tuple[dict[str, Any], dict[str, tuple[str, str]]]] = {
    "as expected": (
        {"quota": 100},
        {
            "login at /identity/gettoken": ("as expected", "200"),
            "login at /hda-broker/gettoken": ("as expected", "404"),
            "a token that is none": ("as expected", "401"),
            "style of paging": ("as expected", "totalResults 3"),
            "unit of X-Quota-Reset": ("settled", "ms since 1970"),
            "quota of a repeated order": ("as expected", "100, 99, 99"),
            "GET before it is ready": ("as expected", "202"),
            "HEAD of an order": ("as expected", "then 200"),
            "Content-Length of HEAD": ("as expected", ""),
            "name of HEAD": ("as expected", "sst_20240501.nc"),
            "Range of the first byte": ("settled", "honoured"),
            "Content-Length of the file": ("as expected", "by length"),
            "the catalogue's size is exact": ("as expected", "came"),
            "delivered format": ("settled", "hdf5, suffix of the name: .nc"),
            "times of the file": ("settled", "2024-05-01T12:00:00.000Z"),
            "startIndex counts": ("as expected", "products"),
        },
    ),
    "the login of before": (
        {"token_endpoint": "broker"},
        {
            "login at /identity/gettoken": ("otherwise", "404"),
            "login at /hda-broker/gettoken": ("as expected", "200"),
            "quota headers": ("open", "on none"),
        },
    ),
    "a federated account": (
        {"token_endpoint": "both", "origins": ("cmems",)},
        {
            "login at /identity/gettoken": ("as expected", "origin cmems"),
            "login at /hda-broker/gettoken": ("as expected", "origin cmems"),
        },
    ),
    "seconds, and another quota": (
        {"quota": 7, "quota_reset_unit": "s"},
        {
            "unit of X-Quota-Reset": ("settled", "s since 1970"),
            "quota headers": ("otherwise", "limit 7"),
        },
    ),
    "no totals": ({"paging": "next"}, {"style of paging": ("as expected", "totalResults None")}),
    "no ranges, no length": (
        {"ranges": False, "content_length": False, "validators": None, "sizes": "ND"},
        {
            "Range of the first byte": ("settled", "ignored"),
            "Content-Length of HEAD": ("otherwise", "None"),
            "Content-Length of the file": ("otherwise", "chunked"),
            "ETag": ("settled", "not there"),
            "the catalogue's size is exact": ("open", "tells none"),
            "size in the catalogue": ("settled", "'ND'"),
        },
    ),
    "estimates": (
        {"sizes": "estimate", "validators": "last-modified"},
        {
            "the catalogue's size is exact": ("otherwise", "in the catalogue"),
            "Last-Modified": ("settled", "GMT"),
        },
    ),
    "no HEAD": (
        {"head_supported": False},
        {
            "HEAD of an order": ("otherwise", "405"),
            "GET of an order": ("as expected", "then 206"),
            "delivered format": ("settled", "hdf5"),
        },
    ),
    "files elsewhere": (
        {"redirect_downloads_to": "localhost"},
        {
            "where the file is": ("settled", "302 to http://localhost"),
            "the file": ("open", "elsewhere"),
        },
    ),
    "lists that are refused": (
        {"odd": ("accepted-500", "titles-html", "orders-404")},
        {
            "accepted licences": ("otherwise", "500"),
            "titles of licences": ("otherwise", "200"),
            "the list of orders": ("settled", "404"),
            "delivered format": ("settled", "hdf5"),
        },
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("options", "expected"), READINGS.values(), ids=READINGS)
def test_each_reading_is_told_and_replayed(
    options: dict[str, Any],
    expected: Mapping[str, tuple[str, str]],
    serve: Callable[..., Emulator],
    contact: Contact,
    bench: Any,
    tmp_path: Path,
) -> None:
    """The facts say how the service behaves; replayed, the recording gives the same ones.

    One product is ordered; requests are few; no secret is in the facts or in the recording.
    """
    emulator = serve(**options)
    recording = tmp_path / "r.jsonl"

    facts = contact(emulator, f"hda://{bench.dataset}", recording=recording)

    seen = {name: facts[name] for name in expected}
    for name, (state, part) in expected.items():
        assert seen[name].state == state, seen[name]
        assert part in seen[name].seen, seen[name]
    assert emulator.orders == 1
    assert len(emulator.log) < 40
    assert recording.stat().st_mode & 0o777 == 0o600
    text = recording.read_text() + str(facts)
    for secret in (emulator.password, *emulator.tokens_issued):
        assert secret not in text
    with Emulator(Catalogue(), replay=recording) as replay:
        again = contact(replay, f"hda://{bench.dataset}")
    assert again == facts


@pytest.mark.slow
def test_a_recording_serves_the_package(
    serve: Callable[..., Emulator],
    contact: Contact,
    bench: Any,
    files: list[Path],
    tmp_path: Path,
) -> None:
    """What was probed can be listed and opened from the recording; what was not is refused."""
    emulator = serve(quota=100)
    recording = tmp_path / "r.jsonl"
    query = f"hda://{bench.dataset}/enddate=2024-05-02/startdate=2024-05-02"
    contact(emulator, query, recording=recording)

    with Emulator(Catalogue(), replay=recording) as replay:
        fs = HDAFileSystem(**replay.storage_options, cache_dir=tmp_path / "cache")
        [path] = fs.ls(query, detail=False)
        body = fs.cat_file(path)
        with pytest.raises(OSError, match="was not asked when this was recorded"):
            fs.ls(f"hda://{bench.dataset}/startdate=2024-05-03")
        replay.fault(Fault("status", status=503, times=1))
        assert fs.ls(query, detail=False, refresh=True) == [path]

    assert body == files[1].read_bytes()


def test_consent_is_asked(serve: Callable[..., Emulator], contact: Contact, bench: Any) -> None:
    """Without it nothing is ordered, and all that costs nothing is told."""
    emulator = serve(quota=100)

    facts = contact(emulator, f"hda://{bench.dataset}", consent=False)

    assert emulator.order_posts == 0
    assert facts["what an order tells"].state == "open"
    assert facts["quota headers"].state == "as expected"
    assert facts["search"].state == "as expected"


@pytest.mark.slow
@pytest.mark.parametrize("page", [40, 1000])
def test_the_largest_page(page: int, bench: Any, contact: Contact) -> None:
    """Where a query finds more than is on a page, the largest page is seen."""
    emulator = bench.start_many(250, max_page=page)

    facts = contact(emulator, f"hda://{bench.dataset}", consent=False)

    fact = facts["largest page"]
    assert fact.state == "settled"
    assert f" {min(page, 250)} came" in fact.seen


def test_an_order_that_is_never_ready_ends(bench: Any, contact: Contact) -> None:
    """Polls are bounded, and so are requests; a fault of one fact is a row."""
    emulator = bench.start(2, polls=10_000)

    facts = contact(emulator, f"hda://{bench.dataset}")

    assert facts["HEAD of an order"].state == "FAIL"
    assert emulator.count("HEAD", "dataaccess") == 41
    few = contact(emulator, f"hda://{bench.dataset}", most_requests=10)
    assert "as many requests" in few["search"].seen
    assert few["other addresses"].state == "FAIL"


def test_a_large_file_is_not_fetched(
    serve: Callable[..., Emulator], contact: Contact, bench: Any
) -> None:
    """Bytes are bounded as well; what could not be seen is told as open."""
    emulator = serve()

    facts = contact(emulator, f"hda://{bench.dataset}", most_bytes=100)

    assert facts["what the file holds"].state == "open"
    assert "delivered format" not in facts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (Fault("closed", path="dataaccess/queryable", times=None), "data set"),
        (Fault("order-failed", times=None), "HEAD of an order"),
        (Fault("cut", path="dataaccess/download/", times=None, after_bytes=100), "file"),
        (Fault("status", path="termsaccepted", status=500, times=None), None),
    ],
    ids=["no answer", "a failed order", "a cut file", "an error"],
)
def test_a_fault_is_a_row(
    fault: Fault,
    name: str | None,
    serve: Callable[..., Emulator],
    contact: Contact,
    bench: Any,
    tmp_path: Path,
) -> None:
    """What fails is told, the rest is asked for, and all of it is recorded."""
    emulator = serve()
    emulator.fault(fault)
    recording = tmp_path / "r.jsonl"

    facts = contact(emulator, f"hda://{bench.dataset}/startdate=2024-05-01", recording=recording)

    assert [fact.fact for fact in facts.values() if fact.state == "FAIL"] == (
        [name] if name else []
    )
    lines = [json.loads(line) for line in recording.read_text().splitlines()]
    assert len(lines) == len(emulator.log) + 1


def test_a_refused_login_ends_it(bench: Any, tmp_path: Path) -> None:
    """A wrong password is told, tried few times, and quoted nowhere."""
    emulator = bench.start(1, token_endpoint="both")
    settings = Settings.resolve(**emulator.storage_options | {"password": "wr0ng-pass"})
    recording = tmp_path / "r.jsonl"
    detail = "user does not have the password wr0ng-pass"
    emulator.fault(Fault("status", path="gettoken", status=401, body={"detail": detail}))

    facts = list(
        first_contact(
            settings, Location(bench.dataset), may_order=lambda _: True, recording=recording
        )
    )

    assert [(fact.fact, fact.state) for fact in facts][-1] == ("login", "FAIL")
    assert len(emulator.log) == 4
    assert "wr0ng-pass" not in recording.read_text() + str(facts)


def test_what_cannot_be_probed(bench: Any, tmp_path: Path) -> None:
    """No login, no data set, a file that is there, offline: an error before any request."""
    emulator = bench.start(1)
    there = tmp_path / "there"
    there.write_text("mine")
    cases: list[tuple[dict[str, Any], str, Path | None, type[Exception]]] = [
        ({"user": None, "password": None}, bench.dataset, None, ConfigurationError),
        ({}, "", None, ConfigurationError),
        ({}, f"{bench.dataset}/x.nc", None, ConfigurationError),
        ({}, bench.dataset, there, ConfigurationError),
    ]
    for more, path, recording, error in cases:
        settings = Settings.resolve(**emulator.storage_options | more)
        facts: Iterator[Fact] = first_contact(
            settings,
            Location.parse(f"hda://{path}"),
            may_order=lambda _: True,
            recording=recording,
        )
        with pytest.raises(error):
            list(facts)
    assert len(emulator.log) == 0
    assert there.read_text() == "mine"
    settings = Settings.resolve(**emulator.storage_options, offline=True)
    with pytest.raises(OfflineError):
        list(first_contact(settings, Location(bench.dataset), may_order=lambda _: True))


@pytest.mark.slow
def test_a_marine_subset(tmp_path: Path, contact: Contact) -> None:
    """Box and ends of a subset are told; a range between two steps shows the nearest one."""
    source = write_marine(tmp_path / "m.nc")
    with Emulator(Catalogue([marine_subset(MARINE, source)])) as emulator:
        box = "bbox=-3,41,3,43"
        whole = contact(emulator, f"hda://{MARINE}/{box}/startdate=2024-02-01/enddate=2024-02-03")
        between = contact(
            emulator,
            f"hda://{MARINE}/{box}/startdate=2024-02-01T01:00:00Z/enddate=2024-02-01T02:00:00Z",
        )

    assert whole["times of the file"].state == "as expected"
    assert "3 in all" in whole["times of the file"].seen
    assert whole["nearest step"].state == "open"
    assert whole["latitude of the file"].seen.startswith("41.0625 to 42.5625, ascending")
    assert whole["latitude of the file"].state == "as expected"
    assert "another hash" in whole["id of the product"].seen
    assert between["nearest step"].state == "as expected"
    assert between["times of the file"].state == "otherwise"


@pytest.mark.parametrize(
    ("covered", "box"),
    [
        (None, "-20,40,-18.5,41.5"),
        ((-180.0, -90.0, 180.0, 90.0), "-20,40,-18.5,41.5"),
        ((6.0, 44.0, 10.0, 48.0), "7.25,45.25,8.75,46.75"),
        ((8.0, 45.0, 9.0, 46.0), "8,45,9,46"),
    ],
)
def test_the_small_query_lies_in_the_data_set(
    covered: tuple[float, float, float, float] | None, box: str
) -> None:
    """Its box is one of the Atlantic, or of what the entry tells that the data set covers."""
    document = DatasetEntry("EO:X", []).schema
    schema = Schema.from_queryable("EO:X", document)

    told = None if covered is None else ",".join(map(str, covered))
    assert ",".join(small_query(schema, document, told).query["bbox"]) == box


def test_a_box_that_finds_nothing_is_left_out(bench: Bench, contact: Contact) -> None:
    """A data set may cover its box only here and there: then it is searched without."""
    products = [dated_product(bench.product_id(1), bench.body(1), bbox=(20.0, 60.0, 21.0, 61.0))]
    emulator = bench.start(products=products, entry={"bbox": (0.0, 40.0, 30.0, 70.0)})

    facts = contact(emulator, f"hda://{bench.dataset}")

    assert facts["search"].state == "as expected"
    assert "bbox" not in facts["search"].seen


@pytest.mark.slow
def test_a_computed_id_and_a_query_of_its_own(tmp_path: Path, contact: Contact) -> None:
    """Without a query one is made of the schema, which the service takes; the id is computed."""
    source = write_era5(tmp_path / "e.nc")
    with Emulator(Catalogue([ecmwf_subset(ERA5, source)])) as emulator:
        facts = contact(
            emulator,
            f"hda://{ERA5}/bbox=-1,41,1,43/variable=t2m/year=2024/month=02/day=01"
            "/time=00:00,06:00/data_format=netcdf",
        )
        made = contact(emulator, f"hda://{ERA5}")

    assert facts["id of the product"].state == "as expected"
    assert facts["latitude of the file"].seen.startswith("43 to 41, descending")
    assert "2 in all" in facts["times of the file"].seen
    assert made["search"].seen.startswith("200: hda://")


@pytest.mark.parametrize("status", [404, 403])
def test_a_licence_that_is_missing(status: int, bench: Any, contact: Contact) -> None:
    """The refusal is seen, nothing is accepted, and the next step is told."""
    emulator = bench.start(2, accepted_terms=(), terms_status=status)

    facts = contact(emulator, f"hda://{bench.dataset}")

    state = "as expected" if status == 404 else "otherwise"
    assert facts["search without the licence"].state == state
    assert "hda-fsspec terms accept" in facts["search"].seen
    assert "Copernicus_General_License" in facts["licences of the data set"].seen
    assert emulator.count("PUT", "termsaccepted") == emulator.order_posts == 0


@pytest.mark.slow
def test_a_recording_that_is_none(tmp_path: Path) -> None:
    """Damaged and foreign files are refused with what is wrong."""
    path = tmp_path / "r.jsonl"
    head = '{"format": "hda_fsspec recording 1"}\n'
    bomb = base64.b64encode(zlib.compress(bytes(80 << 20), 1)).decode()
    request = '{"request": {"method": "GET", "path": "/"}, "response": '
    for text in (
        *("", "no json", "[]", '{"format": "other"}', f"{head}{{}}", head + '{"request": 1}'),
        head + request + '{"status": "x"}}',
        head + request + f'{{"status": 200, "base64": "{bomb}"}}}}',
        head + request + '{"status": 200, "base64": "eJwDAAAAAAE=", "length": 9999999999}}',
        head + "[" * 100_000,
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match="Cannot replay"):
            Emulator(Catalogue(), replay=path)
