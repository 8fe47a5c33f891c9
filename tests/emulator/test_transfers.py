"""Orders, files and scripted faults of the emulator, asked by plain ``requests``."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from rows import for_each

from hda_fsspec.emulator import Catalogue, DatasetEntry, Emulator, Fault, dated_product
from hda_fsspec.errors import ConfigurationError

DATASET = "EO:TEST:DAT:DAILY"
BODY = bytes(range(256)) * 8
LARGE = BODY * 512


class Client:
    """A client that is logged in, and has ordered the first product."""

    def __init__(self, emulator: Emulator, session: requests.Session) -> None:
        self.emulator = emulator
        self.session = session
        account = {"username": emulator.user, "password": emulator.password}
        url = emulator.url.replace("hda-broker", "identity") + "gettoken"
        token = session.post(url, json=account).json()["access_token"]
        session.headers["Authorization"] = f"Bearer {token}"
        self.features = self.api("POST", "search", json={"dataset_id": DATASET}).json()["features"]
        self.path = ""

    def api(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send one request below ``dataaccess``."""
        url = f"{self.emulator.url}api/v1/dataaccess/{path}"
        return self.session.request(method, url, timeout=10, **kwargs)

    def order(self, index: int = 0) -> requests.Response:
        """Order a product."""
        feature = self.features[index]
        order = {"product_id": feature["id"], "location": feature["properties"]["location"]}
        answer = self.api("POST", "download", json={"dataset_id": DATASET, **order})
        if answer.ok:
            self.path = f"download/{answer.json()['download_id']}"
        return answer

    def head(self) -> requests.Response:
        """Ask for the status of the order."""
        return self.api("HEAD", self.path)

    def get(self, part: str | None = None, **headers: str) -> requests.Response:
        """Fetch the file, or a part of it."""
        return self.api("GET", self.path, headers={"Range": part, **headers} if part else headers)


@contextmanager
def ordered(body: bytes | Path = BODY, **options: Any) -> Iterator[Client]:
    """Serve two products, the first of which is ordered."""
    products = [dated_product(f"p_2024050{day}.nc", body) for day in (1, 2)]
    catalogue = Catalogue([DatasetEntry(DATASET, products)])
    with Emulator(catalogue, **options) as emulator, requests.Session() as session:
        client = Client(emulator, session)
        client.order()
        yield client


def test_orders_take_polls_and_time() -> None:
    """An order is prepared for some polls and for some time, in both kinds of status."""
    with ordered(polls=3, preparation_seconds=0.03, head_supported=True) as client:
        client.order(1)  # while the first one has polls left, however slow this machine is
        client.order(0)
        listed = f"downloads?download_id={client.path.removeprefix('download/')}"
        assert client.head().status_code == client.get().status_code == 202
        assert client.api("GET", listed).json()["features"][0]["status"] == "Running"
        time.sleep(0.04)
        assert client.head().status_code == 200
        assert client.emulator.max_in_preparation == 2
    with ordered(head_supported=False) as client:
        assert client.head().status_code == 405
        assert client.get().content == BODY


def test_orders_are_checked_and_can_be_forgotten() -> None:
    """An order must repeat the location; a forgotten id is unknown, and a new one is free."""
    with ordered(quota=1, seed=1) as client:
        old = client.path
        client.emulator.forget_orders()
        assert client.head().status_code == 404
        assert client.order().ok
        assert client.path != old
        assert client.emulator.orders == 1
        client.features[0]["properties"]["location"] += "x"
        assert client.order().status_code == 404
        bare = {"dataset_id": DATASET, "product_id": "p"}
        assert client.api("POST", "download", json=bare).status_code == 422


@pytest.mark.parametrize("unit", ["ms", "s"])
def test_quota_is_a_sliding_window(unit: str) -> None:
    """New orders are refused until the oldest one leaves the window; repeated ones are free."""
    with ordered(quota=1, quota_window_seconds=60, quota_reset_unit=unit) as client:
        refused = client.order(1)
        reset = float(refused.headers["X-Quota-Reset"]) / (1000 if unit == "ms" else 1)
        assert (refused.status_code, refused.headers["X-Quota-Remaining"]) == (429, "0")
        assert refused.headers["X-Quota-Limit"] == "1"
        assert 0 < reset - time.time() < 62
        assert client.order(0).ok
        uses = client.emulator._broker.delivery.orders._uses
        uses[0] -= 60  # a minute later
        assert client.order(1).ok
        assert client.emulator.orders == 2


def test_other_refusals_of_quota() -> None:
    """A refusal can lack headers, and can be wrapped in the detail of a 500."""
    with ordered(quota=1, quota_headers=False, quota_nested=True) as client:
        refused = client.order(1)
        assert refused.status_code == 500
        assert '"status_code": 429' in refused.json()["detail"]
        assert "X-Quota-Limit" not in refused.headers


@for_each("validator", ["etag", "last-modified", None])
def test_ranges(validator: str | None) -> None:
    """Parts are answered with 206 and the total; If-Range protects from another version."""
    with ordered(validators=validator) as client:
        part = client.get("bytes=5-")
        name = {"etag": "ETag", "last-modified": "Last-Modified"}.get(validator or "", "none")
        assert (part.status_code, part.content) == (206, BODY[5:])
        assert part.headers["Content-Range"] == "bytes 5-2047/2048"
        assert client.get("bytes=-3").content == BODY[-3:]
        assert client.get("bytes=2048-").status_code == 416
        assert (name in part.headers) is (validator is not None)
        if validator:
            condition = {"If-Range": part.headers[name]}
            assert client.get("bytes=0-0", **condition).status_code == 206
            client.emulator.republish(DATASET, "p_20240501.nc", BODY[::-1])
            assert client.get("bytes=0-0", **condition).content == BODY[::-1]
        assert client.emulator.log[-1].range == ("bytes=0-0" if validator else "bytes=2048-")


def test_files_without_ranges_or_length() -> None:
    """Range can be ignored, and the length can be unknown until the last chunk."""
    with ordered(ranges=False, content_length=False, quoted_names=True) as client:
        whole = client.get("bytes=5-")
        assert (whole.status_code, whole.content) == (200, BODY)
        assert whole.headers["Transfer-Encoding"] == "chunked"
        assert whole.headers["Content-Disposition"] == 'attachment; filename="p_20240501.nc"'
        assert "Content-Length" not in client.head().headers
        assert client.emulator.max_connections == 1


def test_large_files_and_rates(tmp_path: Path) -> None:
    """A large file is sent from the disk; a throttled body takes its time."""
    path = tmp_path / "large.nc"
    path.write_bytes(LARGE)
    with ordered(path) as client:
        assert client.get().content == LARGE
        assert client.get("bytes=300000-").content == LARGE[300000:]
        assert client.emulator.bytes_sent == 2 * len(LARGE) - 300000
    with ordered(rate_bytes_per_second=40_000, latency_seconds=0.01) as client:
        before = time.monotonic()
        assert client.get().content == BODY
        assert time.monotonic() - before > 0.055


def test_a_redirect_leads_to_another_host() -> None:
    """A download can be redirected to a host that needs no token, and where one would show."""
    with ordered(redirect_downloads_to="localhost") as client:
        assert client.get().content == BODY
        assert client.emulator.log[-1].path.startswith("/files/")
        assert "Authorization" not in client.emulator.log[-1].headers
        assert "Authorization" in client.emulator.log[-2].headers


def test_republished_products_show_their_change() -> None:
    """A new version has other bytes, size and date under the same ids."""
    with ordered() as client:
        client.emulator.republish(DATASET, "p_20240501.nc", b"new", updated="2025-01-01T00:00:00Z")
        told = client.api("POST", "search", json={"dataset_id": DATASET}).json()["features"][0]
        assert (told["properties"]["size"], told["properties"]["updated"][:4]) == (3, "2025")
        assert client.get().content == b"new"
        with pytest.raises(ConfigurationError, match="not offered"):
            client.emulator.republish(DATASET, "nothing", b"")


def test_a_stopped_emulator_comes_back() -> None:
    """Stopping ends every connection at once, hanging ones included; orders are kept."""
    with ordered() as client:
        client.emulator.fault(Fault("hang", seconds=60))
        errors: list[Exception] = []

        def hang() -> None:
            try:
                client.head()
            except requests.ConnectionError as err:
                errors.append(err)

        thread = threading.Thread(target=hang)
        thread.start()
        while "hang" not in client.emulator.log[-1].faults:
            time.sleep(0.001)
        client.emulator.stop()
        thread.join()
        assert len(errors) == 1
        with pytest.raises(requests.ConnectionError):
            client.head()
        client.emulator.start()
        assert client.get().content == BODY


CUT = requests.exceptions.ChunkedEncodingError


@for_each("large", [False, True])
@for_each("kind", ["cut", "reset"])
def test_connections_end_in_the_body(kind: str, large: bool, tmp_path: Path) -> None:
    """A cut is a clean end, a reset is not; both leave exactly what was sent before."""
    path = tmp_path / "f.nc"
    path.write_bytes(LARGE if large else BODY)
    with ordered(path) as client:
        client.emulator.fault(Fault(kind, after_bytes=1000, product_id="p_20240501.nc"))
        expected = "IncompleteRead" if kind == "cut" else "reset"
        with pytest.raises((CUT, requests.ConnectionError), match=expected):
            client.get()
        assert client.emulator.log[-1].faults == (kind,)
        assert (client.emulator.bytes_sent, client.emulator.downloads) == (1000, 0)
        assert client.get("bytes=1000-").status_code == 206
        assert client.emulator.downloads == 1


def test_cuts_without_a_length() -> None:
    """A chunked body can be cut; one that ends by closing looks complete to a client."""
    with ordered() as client:
        client.emulator.fault(Fault("no-length"))
        client.emulator.fault(Fault("cut", after_bytes=7))
        with pytest.raises(CUT):
            client.get()
        client.emulator.fault(Fault("no-length", value="close"))
        client.emulator.fault(Fault("cut", after_bytes=7))
        assert client.get().content == BODY[:7]


def test_faulty_answers() -> None:
    """A status, a page of HTML, half a JSON or nothing can stand for any answer."""
    with ordered() as client:
        state, emulator = "downloads?download_id=x", client.emulator
        emulator.fault(Fault("status", status=503, path="dataaccess/downloads", times=2, skip=1))
        codes = [client.api("GET", state).status_code for _ in range(4)]
        assert codes == [200, 503, 503, 200]
        emulator.fault(Fault("status", status=502, body="<html>bad</html>"))
        assert client.api("GET", state).headers["Content-Type"].startswith("text/html")
        emulator.fault(Fault("status", status=418, body={"a": 1}))
        assert client.api("GET", state).json() == {"a": 1}
        emulator.fault(Fault("html"))
        assert "<html>" in client.api("GET", state).text
        emulator.fault(Fault("cut-json"))
        with pytest.raises(requests.exceptions.JSONDecodeError):
            client.api("GET", state).json()
        emulator.fault(Fault("reset"))
        emulator.fault(Fault("hang", seconds=0.01))
        for _ in range(2):
            with pytest.raises(requests.ConnectionError):
                client.api("GET", state)
        emulator.fault(Fault("redirect", value=emulator.url.replace("/hda-broker/", "/")))
        assert "<h1>" in client.get().text
        with pytest.raises(ConfigurationError, match="no fault 'cute'"):
            Fault("cute")


def test_failed_and_refused_orders() -> None:
    """A failed order says so in both kinds of status until it is placed again."""
    with ordered() as client:
        client.emulator.fault(Fault("order-failed", product_id="p_20240502.nc", body="no tape"))
        client.emulator.fault(Fault("quota", seconds=5))
        assert client.order(1).ok
        listed = f"downloads?download_id={client.path.removeprefix('download/')}"
        told = client.api("GET", listed).json()["features"][0]
        assert (told["status"], told["message"]) == ("Error", "no tape")
        assert client.head().status_code == 500
        assert client.order(1).headers["X-Quota-Remaining"] == "0"
        assert client.order(1).ok
        assert client.get().content == BODY


def test_faulty_headers_of_files() -> None:
    """Names, lengths and validators can be wrong; a HEAD shows it and does not use it up."""
    with ordered() as client:
        client.emulator.fault(Fault("name", value="../../étc/passwd"))
        client.emulator.fault(Fault("wrong-length", value=5))
        client.emulator.fault(Fault("no-validator"))
        assert client.head().headers["Content-Length"] == "2053"
        name = client.head().headers["Content-Disposition"].encode("latin-1").decode()
        assert name == "attachment; filename=../../étc/passwd"
        with pytest.raises(CUT, match="2048 bytes read, 5 more expected"):
            client.get()
        client.emulator.fault(Fault("wrong-length", value=-5))
        assert client.get().content == BODY[:-5]
        client.emulator.fault(Fault("truncated-file", after_bytes=9))
        assert client.head().headers["Content-Length"] == "9"
        assert client.get().content == BODY[:9]
        assert (client.get().content, "ETag" in client.head().headers) == (BODY, True)


def test_faulty_ranges() -> None:
    """A Range can be ignored, refused, or answered from another total."""
    with ordered() as client:
        client.emulator.fault(Fault("range-ignored"))
        assert client.get().status_code == client.get("bytes=9-").status_code == 200
        client.emulator.fault(Fault("range-other-total", value=7, skip=1))
        assert client.get("bytes=0-").headers["Content-Range"] == "bytes 0-2047/2048"
        assert client.get("bytes=9-").headers["Content-Range"] == "bytes 9-2047/7"
        client.emulator.fault(Fault("range-416"))
        assert client.get("bytes=9-").status_code == 416


def test_other_bytes_of_equal_length() -> None:
    """An archive that is made on the fly differs at each GET, and is a good one each time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in "abc":
            archive.writestr(name, name * 100)
    with ordered(buffer.getvalue(), validators=None) as client:
        client.emulator.fault(Fault("other-bytes", times=None))
        bodies = [client.get().content for _ in range(3)]
        assert len(set(bodies)) == 3
        assert len({*map(len, bodies), len(buffer.getvalue())}) == 1
        for body in bodies:
            with zipfile.ZipFile(io.BytesIO(body)) as archive:
                assert archive.testzip() is None
                assert archive.read("b") == b"b" * 100
    with ordered() as client:
        client.emulator.fault(Fault("other-bytes", times=None))
        assert client.get().content != client.get().content


def test_a_slow_body() -> None:
    """One transfer can be throttled."""
    with ordered() as client:
        client.emulator.fault(Fault("slow", value=40_000))
        before = time.monotonic()
        assert client.get().content == BODY
        assert time.monotonic() - before > 0.04
