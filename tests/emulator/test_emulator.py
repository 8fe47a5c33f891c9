"""The emulator speaks the protocol: asked by plain ``requests``, as any client would."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from checkout import ROOT
from forking import in_a_fork, status_of
from rows import for_each

from hda_fsspec.emulator import (
    Catalogue,
    DatasetEntry,
    Emulator,
    Fault,
    ProductEntry,
    dated_product,
    multiple_choice,
)

DATASET = "EO:TEST:DAT:DAILY"
BODY = bytes(range(256)) * 8


def days(count: int = 5, **fields: Any) -> list[ProductEntry]:
    """Return one product a day from the first of May."""
    return [dated_product(f"p_202405{day:02}.nc", BODY, **fields) for day in range(1, count + 1)]


class Api:
    """A client with a token and as little else as possible."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.session = requests.Session()
        self.base = f"{emulator.url}api/v1/"

    def login(self, endpoint: str = "identity", **more: str) -> requests.Response:
        """Log in, and keep the token if there is one."""
        url = self.emulator.url.replace("hda-broker", endpoint) + "gettoken"
        account = {"username": self.emulator.user, "password": self.emulator.password}
        answer = self.session.post(url, json={**account, **more})
        if answer.ok and "access_token" in answer.json():
            self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return answer

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send one request, without following redirects."""
        return self.session.request(
            method, self.base + path, allow_redirects=False, timeout=10, **kwargs
        )

    def search(self, **query: Any) -> requests.Response:
        """Search the data set of this test."""
        return self.call("POST", "dataaccess/search", json={"dataset_id": DATASET, **query})

    def ids(self, **query: Any) -> list[str]:
        """Return the ids that a search answers."""
        return [each["id"] for each in self.search(**query).json()["features"]]

    def order(self, feature: dict[str, Any]) -> requests.Response:
        """Order a feature."""
        location = feature["properties"]["location"]
        order = {"dataset_id": DATASET, "product_id": feature["id"], "location": location}
        return self.call("POST", "dataaccess/download", json=order)

    def file(self, index: int = 0) -> str:
        """Order a product, and return the path of its file."""
        feature = self.search().json()["features"][index]
        return f"dataaccess/download/{self.order(feature).json()['download_id']}"


@contextmanager
def serving(*products: ProductEntry, entry: dict[str, Any] | None = None, **options: Any) -> Any:
    """Serve some products (five days by default), and yield a client that is logged in."""
    dataset = DatasetEntry(DATASET, products or days(), **(entry or {}))
    with Emulator(Catalogue([dataset]), **options) as emulator:
        api = Api(emulator)
        with api.session:
            api.login()
            yield api


@pytest.fixture
def api() -> Iterator[Api]:
    """Yield a client of an emulator with default options."""
    with serving() as api:
        yield api


def test_search_order_download(api: Api) -> None:
    """The whole way of a product, with the counters which tests rely on."""
    feature = api.search().json()["features"][0]
    first, again = api.order(feature).json(), api.order(feature).json()
    head = api.call("HEAD", f"dataaccess/download/{first['download_id']}")
    file = api.call("GET", f"dataaccess/download/{first['download_id']}")
    state = api.call("GET", f"dataaccess/downloads?download_id={first['download_id']}").json()

    assert first == again
    assert len(first["download_id"]) == 24
    assert feature["properties"]["size"] == int(head.headers["Content-Length"]) == len(BODY)
    assert head.headers["Content-Disposition"] == "attachment; filename=p_20240501.nc"
    assert file.content == BODY
    assert state["features"][0]["status"] == "Done"
    emulator = api.emulator
    assert (emulator.orders, emulator.order_posts) == (1, 2)
    assert (emulator.downloads, emulator.bytes_sent, emulator.logins) == (1, len(BODY), 1)
    assert emulator.count("POST", "dataaccess/download") == 2
    assert emulator.count("POST", "identity/gettoken") == 1
    assert emulator.log[-1].headers["Authorization"] in emulator.tokens_issued
    assert emulator.log[-2].bytes_sent == len(BODY)


def test_catalogue_paths(api: Api) -> None:
    """Data sets, schemas and the refusals of unknown ones; ids raw or percent-encoded."""
    assert api.call("GET", "datasets?q=EO:TEST*").json()["properties"]["totalResults"] == 1
    assert api.call("GET", "datasets?q=nowhere").json()["features"] == []
    quoted = api.call("GET", f"datasets/{DATASET.replace(':', '%3A')}").json()
    assert quoted["terms"] == ["Copernicus_General_License"]
    schema = api.call("GET", f"dataaccess/queryable/{DATASET}").json()
    assert {"startdate", "enddate", "bbox"} < set(schema["properties"])
    for path in ("datasets/EO:NO", "dataaccess/queryable/EO:NO", "nothing"):
        answer = api.call("GET", path)
        assert (answer.status_code, answer.json()["status_code"]) == (404, 404)
    assert "<h1>" in api.session.get(api.emulator.url.removesuffix("hda-broker/")).text


def test_searches_filter() -> None:
    """Dates, box, names and metadata filter; neighbours that touch the range are answered."""
    products = days(4, profile="day-before", bbox=(0.0, 0.0, 5.0, 5.0), metadata={"sat": "A"})
    parameters = {
        "sat": ["A", "B"],
        "productIdentifier": "string",
        "depth": "number",
        "variable": multiple_choice(["t", "s"]),
    }
    with serving(*products, entry={"parameters": parameters}) as api:
        noon = "2024-05-02T12:00:00.000Z"
        assert api.ids(startdate=noon, enddate=noon) == ["p_20240502.nc"]
        assert api.ids(startdate=noon)[0] == "p_20240502.nc"
        assert api.ids(bbox=[4, 4, 9, 9]) == api.ids(sortOrder="DESC")[::-1]
        assert api.ids(bbox=[6, 4, 9, 9]) == api.ids(sat="B") == []
        assert len(api.ids(bbox=[170, 0, 1, 1])) == len(api.ids(sat="A")) == 4
        assert api.ids(productIdentifier="p_20240503") == ["p_20240503.nc"]
        assert len(api.ids(variable=["t"], depth=3)) == 4
        wrong: list[dict[str, Any]] = [
            {"depth": "3"},
            {"variable": "t"},
            {"sat": "C"},
            {"sat": None},
            {"sta": "A"},
        ]
        wrong += [{"bbox": [1, 2, 3]}, {"startdate": 5}]
        for query in wrong:
            answer = api.search(**query)
            assert (answer.status_code, answer.json()["detail"][0]["loc"][0]) == (422, "body")
        assert api.search(startdate="soon").status_code == 400
    with serving(*products, inclusive_dates=False) as api:
        assert api.ids(startdate=noon) == ["p_20240503.nc", "p_20240504.nc"]


def test_older_date_keys() -> None:
    """A data set can have other names for its dates, and keys it needs without saying so."""
    with serving(entry={"date_keys": ("dtstart", "dtend"), "needed": ("dtstart",)}) as api:
        assert api.ids(dtstart="2024-05-05T00:00:00Z") == ["p_20240505.nc"]
        assert api.search(startdate="2024-05-05T00:00:00Z").status_code == 422
        assert "not valid" in api.search().json()["detail"]


def test_both_paging_styles() -> None:
    """Pages count items; the total is told, or only where the next page begins."""
    with serving(max_page=2) as api:
        told = api.search(startIndex=4, itemsPerPage=100).json()["properties"]
        assert told == {"itemsPerPage": 2, "startIndex": 4, "totalResults": 5}
    with serving(entry={"paging": "next"}) as api:
        assert api.search(itemsPerPage=3).json()["properties"]["nextIndex"] == 3
        assert "nextIndex" not in api.search(startIndex=3).json()["properties"]


@for_each(
    ("sizes", "shown"), [("exact", 2048), ("ND", "ND"), ("estimate", 5529), ("missing", None)]
)
def test_sizes(sizes: str, shown: object) -> None:
    """The catalogue can be right, silent or wrong about sizes."""
    with serving(sizes=sizes) as api:
        assert api.search().json()["features"][0]["properties"].get("size") == shown


def test_tokens() -> None:
    """Tokens expire, are renewed by form, and unknown ones are refused."""
    with serving(expired_status=403, token_endpoint="both") as api:
        pair = api.login("hda-broker").json()
        api.emulator.expire_tokens()
        expired = api.call("GET", "terms")
        renew = f"{api.emulator.url}refreshtoken"
        renewed = api.session.post(renew, data={"refresh_token": pair["refresh_token"]})
        api.session.headers["Authorization"] = f"Bearer {renewed.json()['access_token']}"
        assert (expired.status_code, expired.json()["detail"]) == (403, "Invalid or missed token")
        assert api.call("GET", "terms").ok
        assert api.session.post(renew, data={"refresh_token": "x"}).status_code == 400
        api.session.headers["Authorization"] = "Bearer x"
        assert api.call("GET", "terms").status_code == 401


def test_refused_logins() -> None:
    """A wrong password, a wrong endpoint or a missing origin gets no token."""
    with serving(origins=("eumetsat",)) as api:
        assert api.login().status_code == api.login(password="no").status_code == 401
        assert api.login("hda-broker").status_code == 404
        assert api.login(origin="eumetsat").ok
    with serving(token_error_in_200=True, token_endpoint="broker") as api:
        assert "error_description" in api.login("hda-broker", password="no").json()


@pytest.mark.parametrize("status", [404, 403])
def test_licences(status: int) -> None:
    """Searches wait for a licence, and say so; it can be accepted and withdrawn."""
    with serving(accepted_terms=(), terms_status=status) as api:
        answer = api.search()
        assert answer.status_code == status
        assert "Copernicus_General_License" in answer.json()["detail"]
        accept = "termsaccepted/Copernicus_General_License"
        assert api.call("PUT", accept).json()["accepted"] is True
        assert api.search().ok
        listed = api.call("GET", "termsaccepted?itemsPerPage=100").json()["features"]
        assert [each["term_id"] for each in listed if each["accepted"]] == [accept[14:]]
        assert "https://" in api.call("GET", "terms").json()["features"][0]["abstract"]
        api.call("DELETE", accept)
        assert api.search().status_code == status
        assert api.call("PUT", "termsaccepted/nothing").status_code == 404


def test_faulty_pages(api: Api) -> None:
    """A page can be empty although there are products, or repeat ids."""
    api.emulator.fault(Fault("empty-page"))
    empty = api.search().json()
    api.emulator.fault(Fault("duplicate-ids"))

    assert (empty["features"], empty["properties"]["totalResults"]) == ([], 5)
    assert api.ids(startIndex=3) == [f"p_2024050{day}.nc" for day in (3, 4, 5, 5)]


@pytest.mark.slow
def test_the_command_prints_four_lines_and_ends_cleanly(tmp_path: Path) -> None:
    """It first says how to be reached, and a signal ends it with success."""
    (tmp_path / "served" / "EO:X").mkdir(parents=True)
    code = (
        "import sys, pathlib; from hda_fsspec.emulator.serve_command import serve;"
        "serve(pathlib.Path(sys.argv[1]), cache_dir=pathlib.Path('a folder'))"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "served")]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        words = [shlex.split(process.stdout.readline()) for _ in range(4)]
        lines = dict(word[1].split("=", 1) for word in words)
        home = requests.get(lines["HDA_URL"].removesuffix("hda-broker/"), timeout=5)
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=10)

    assert [word[0] for word in words] == ["export"] * 4
    assert list(lines) == ["HDA_URL", "HDA_USER", "HDA_PASSWORD", "HDA_CACHE_DIR"]
    assert lines["HDA_CACHE_DIR"] == "a folder"
    assert home.ok
    assert (process.returncode, rest) == (0, ("", ""))


@pytest.mark.slow
def test_requests_under_way_are_counted_and_idle_sockets_apart() -> None:
    """The most requests at one time are told, and the most sockets, of which some are idle."""
    catalogue = Catalogue([DatasetEntry(DATASET, days(1))])
    with Emulator(catalogue, latency_seconds=0.3, latency_paths=("datasets",)) as emulator:
        clients = [Api(emulator) for _ in range(4)]
        for client in clients:
            client.login()  # and keeps its socket
        assert (emulator.max_requests, emulator.max_connections) == (1, 4)

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda client: client.call("GET", "datasets"), clients[:3]))

        assert (emulator.max_requests, emulator.max_connections) == (3, 4)
        for client in clients:
            client.session.close()


@pytest.mark.slow
def test_a_fork_stops_nothing_and_waits_for_nothing(bench: Any) -> None:
    """In a child the emulator of its parent cannot be stopped, and asking it works."""
    emulator = bench.start(days=1)

    def work() -> bool:
        emulator.stop()
        with emulator.log._lock:
            return bool(bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1))

    with emulator.log._lock:
        child = in_a_fork(emulator.stop)
    # It returns nothing, which in_a_fork tells as 2: it ended by itself.
    assert status_of(child) == 2
    assert status_of(in_a_fork(work)) == 0
    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)


def test_who_asks_after_the_end_is_refused_while_a_fork_lives(bench: Any) -> None:
    """A child has a copy of the socket, on which nobody would ever answer."""
    emulator = bench.start(days=1)
    port = urlsplit(emulator.url).port
    read, write = os.pipe()
    child = in_a_fork(lambda: os.read(read, 1) == b"x")
    emulator.stop()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    emulator.start()
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    os.write(write, b"x")
    assert status_of(child) == 0
    os.close(read)
    os.close(write)


def test_a_file_that_went_away_is_answered(bench: Any) -> None:
    """A product whose file was removed is an error of the service, and no thread ends by it."""
    path = bench.folder / "gone.nc"
    path.write_bytes(bench.body(1))
    emulator = bench.start(products=[dated_product(bench.product_id(1), path)])
    fs = bench.filesystem(emulator, max_wait=1)
    assert len(fs.ls(bench.query)) == 1
    path.unlink()

    with pytest.raises(OSError, match=r"500.*No such file"):
        fs.cat(bench.path(1))
    assert len(bench.filesystem(emulator).ls(bench.query, refresh=True)) == 1
