"""The calls of the service over real sockets: what is sent, and what becomes of the answers."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from hda_fsspec.emulator import DatasetEntry, Emulator, Fault, dated_product
from hda_fsspec.errors import (
    BrokerError,
    OrderError,
    QueryError,
    QuotaError,
    TooManyProductsError,
)
from hda_fsspec.network.api import Broker, OrderState, OrderStatus
from hda_fsspec.network.session import Session
from hda_fsspec.records import Dataset, Product
from hda_fsspec.settings import Settings

TERM = "Copernicus_General_License"


@pytest.fixture
def connect(bench: Any) -> Any:
    """Return a function from an emulator to a broker that waits for nothing."""
    sessions: list[Session] = []

    def connect(emulator: Emulator, *, max_products: int = 10_000, workers: int = 4) -> Broker:
        settings = Settings.resolve(**bench.settings(emulator))
        session = Session(settings, sleep=lambda seconds: None)
        sessions.append(session)
        return Broker(lambda: session, max_products=max_products, workers=workers)

    yield connect
    for session in sessions:
        session.close()


def many(bench: Any, count: int) -> list[Any]:
    """Return products of one day."""
    body = bench.body(1)
    return [dated_product(f"p{n:04}_20240501.nc", body) for n in range(count)]


def searches(emulator: Emulator) -> list[Any]:
    """Return the bodies of all searches."""
    return [r.body for r in emulator.log if r.api == "dataaccess/search"]


@pytest.mark.slow
@pytest.mark.parametrize("paging", ["total", "next"])
@pytest.mark.parametrize("max_page", [200, 60])
def test_searches_page_through(bench: Any, connect: Any, paging: str, max_page: int) -> None:
    """Both styles of paging give every product once and in order, also below the size asked."""
    emulator = bench.start(products=many(bench, 250), paging=paging, max_page=max_page)
    found = connect(emulator).search(bench.dataset, {"startdate": "2024-05-01T00:00:00.000Z"})

    assert [p.product_id for p in found] == [f"p{n:04}_20240501.nc" for n in range(250)]
    assert {p.dataset_id for p in found} == {bench.dataset}
    assert all(p.location and p.size and p.startdate for p in found)
    first = searches(emulator)[0]
    assert first == {
        "dataset_id": bench.dataset,
        "startdate": "2024-05-01T00:00:00.000Z",
        "itemsPerPage": 200,
        "startIndex": 0,
    }


def test_pages_overlap_in_time(bench: Any, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a total the pages after the first are asked for at once."""
    emulator = bench.start(products=many(bench, 250), max_page=50)
    all_came = threading.Barrier(4)
    answer = emulator._broker.answer

    def answer_together(request: Any, faults: Any) -> Any:
        if request.api == "dataaccess/search" and request.json()["startIndex"]:
            all_came.wait(60)
        return answer(request, faults)

    monkeypatch.setattr(emulator._broker, "answer", answer_together)

    assert len(connect(emulator).search(bench.dataset, {})) == 250
    assert len(searches(emulator)) == 5


def test_spoilt_pages(bench: Any, connect: Any) -> None:
    """An empty page ends its part; repeated products come once."""
    emulator = bench.start(products=many(bench, 120), max_page=50)
    broker = connect(emulator)
    emulator.fault(Fault("duplicate-ids", times=1))
    assert len({p.product_id for p in broker.search(bench.dataset, {})}) >= 119
    emulator.clear_faults()
    emulator.fault(Fault("empty-page", times=1))
    assert broker.search(bench.dataset, {}) == []
    emulator.fault(Fault("empty-page", skip=1, times=1))
    assert 50 <= len(broker.search(bench.dataset, {})) < 120


@pytest.mark.parametrize(("paging", "found"), [("total", 250), ("next", None)])
def test_too_many(bench: Any, connect: Any, paging: str, found: int | None) -> None:
    """A search of more than ``max_products`` is refused, told before paging where that can be."""
    emulator = bench.start(products=many(bench, 250), paging=paging, max_page=50)
    with pytest.raises(TooManyProductsError, match=bench.dataset) as caught:
        connect(emulator, max_products=100).search(bench.dataset, {})

    assert (caught.value.found, caught.value.limit) == (found, 100)
    assert len(searches(emulator)) == (1 if found else 3)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_no_data_is_an_empty_list(bench: Any, connect: Any, status: int) -> None:
    """EO:ECMWF says "empty" with an error of any status, in words."""
    emulator = bench.start()
    body = {"title": "Task Error", "detail": "There is no data matching your request. Check it."}
    fault = Fault("status", path="dataaccess/search", status=status, body=body, times=None)
    emulator.fault(fault)

    assert connect(emulator).search(bench.dataset, {}) == []


def test_refused_queries(bench: Any, connect: Any) -> None:
    """A 400 or 422 is a QueryError in the service's words, with what was asked."""
    emulator = bench.start(entry={"needed": ["sat"], "parameters": {"level": "number"}})
    broker = connect(emulator)
    with pytest.raises(QueryError, match="not valid: sat") as caught:
        broker.search(bench.dataset, {"level": 3})
    assert "'level': 3" in str(caught.value)
    assert isinstance(caught.value.__cause__, BrokerError)
    with pytest.raises(QueryError, match="level"):
        broker.search(bench.dataset, {"level": "three"})
    emulator.fault(Fault("status", path="dataaccess/search", status=409))
    with pytest.raises(BrokerError) as other:
        broker.search(bench.dataset, {"sat": "x"})
    assert other.value.status == 409


def test_data_sets(bench: Any, connect: Any) -> None:
    """The catalogue comes in one request, a single data set with its licences."""
    emulator = bench.start()
    for number in range(400):
        name = f"EO:X:DAT:{number}"
        emulator.catalogue._datasets[name] = DatasetEntry(name, [], title=f"T{number}")
    broker = connect(emulator)
    emulator.clear_log()
    found = broker.datasets()

    assert len(found) == 401
    assert found[-1] == Dataset("EO:X:DAT:399", (TERM,), "T399")
    assert emulator.count("GET", "datasets") == 1
    assert broker.dataset(bench.dataset).terms == (TERM,)
    assert "startdate" in broker.queryable(bench.dataset)["properties"]


@pytest.mark.parametrize(
    "dataset_id", ["EO:NO:DAT:SUCH", "a/b", "..", ".", "a b?c#d", "%41", "../terms", "é"]
)
def test_an_unknown_data_set(bench: Any, connect: Any, dataset_id: str) -> None:
    """An id that is not there is FileNotFoundError, and no id leads to another address."""
    emulator = bench.start()
    broker = connect(emulator)
    for call in (broker.dataset, broker.queryable):
        with pytest.raises(FileNotFoundError) as caught:
            call(dataset_id)
        assert repr(dataset_id) in str(caught.value)

    asked = [record.path for record in emulator.log if record.method == "GET"]
    prefixes = ("/hda-broker/api/v1/datasets/", "/hda-broker/api/v1/dataaccess/queryable/")
    assert all(path.startswith(prefixes) for path in asked)


def test_odd_answers_about_data_sets(bench: Any, connect: Any) -> None:
    """An answer that is no object is told as a fault of the service."""
    emulator = bench.start()
    emulator.fault(Fault("status", path="datasets/", status=200, body=[1], times=1))
    with pytest.raises(BrokerError, match="instead of an object"):
        connect(emulator).dataset(bench.dataset)


def test_licences(bench: Any, connect: Any) -> None:
    """Licences are listed, told apart by whether they are accepted, and accepted one by one."""
    emulator = bench.start(accepted_terms=())
    broker = connect(emulator)

    assert TERM in broker.terms()
    assert broker.accepted_terms() == frozenset()
    broker.accept_term(TERM)
    assert broker.accepted_terms() == {TERM}
    assert emulator.log[-2].body == {"accepted": True}
    with pytest.raises(BrokerError):
        broker.accept_term("../datasets")
    assert emulator.log[-1].path.startswith("/hda-broker/api/v1/termsaccepted/")


def first(bench: Any, broker: Broker) -> Product:
    """Return the first product."""
    return broker.search(bench.dataset, {})[0]


def test_orders(bench: Any, connect: Any) -> None:
    """An order repeats id and location verbatim; ordering again is the same order."""
    emulator = bench.start()
    broker = connect(emulator)
    product = first(bench, broker)

    assert broker.order(product) == broker.order(product)
    assert emulator.orders == 1
    assert emulator.log[-1].body == {
        "dataset_id": bench.dataset,
        "product_id": product.product_id,
        "location": product.location,
    }


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("unit", ["s", "ms"])
def test_orders_over_the_quota(bench: Any, connect: Any, nested: bool, unit: str) -> None:
    """A used-up quota is a QuotaError at once, in either unit, also wrapped in a 500."""
    emulator = bench.start(quota=1, quota_nested=nested, quota_reset_unit=unit)
    broker = connect(emulator)
    one, two, *_ = broker.search(bench.dataset, {})
    broker.order(one)
    with pytest.raises(QuotaError) as caught:
        broker.order(two)

    assert caught.value.reset_at is not None
    assert 3500 < caught.value.reset_at - time.time() < 3700
    assert emulator.count("POST", "dataaccess/download") == 2
    assert broker.order(one)


@pytest.mark.parametrize("body", [{}, {"download_id": None}, {"download_id": 5}, [], "null", "5"])
def test_an_order_without_an_id(bench: Any, connect: Any, body: Any) -> None:
    """An order is not placed until the service has given it an id."""
    emulator = bench.start()
    broker = connect(emulator)
    product = first(bench, broker)
    emulator.fault(Fault("status", path="dataaccess/download", status=200, body=body))
    with pytest.raises(BrokerError, match=f"{product.product_id}.*download_id") as caught:
        broker.order(product)

    assert not isinstance(caught.value, OrderError)


def test_an_order_that_is_answered_by_a_page_is_repeated(bench: Any, connect: Any) -> None:
    """Repeating an order costs nothing, so a spoilt answer does not end it."""
    emulator = bench.start()
    broker = connect(emulator)
    product = first(bench, broker)
    for kind in ("html", "cut-json"):
        emulator.fault(Fault(kind, method="POST", path="dataaccess/download"))

    assert len(broker.order(product)) == 24
    assert (emulator.orders, emulator.count("POST", "dataaccess/download")) == (1, 3)


@pytest.mark.parametrize("head_supported", [True, False])
def test_status_of_an_order(bench: Any, connect: Any, head_supported: bool) -> None:
    """Waiting, then ready, by HEAD or, where there is none, by the list of downloads."""
    emulator = bench.start(polls=2, head_supported=head_supported)
    broker = connect(emulator)
    download_id = broker.order(first(bench, broker))
    states = [broker.status(download_id) for _ in range(3)]

    assert [status.state for status in states] == [OrderState.WAITING] * 2 + [OrderState.READY]
    assert states[-1].name == (bench.product_id(1) if head_supported else None)
    assert emulator.count("HEAD", "") == (3 if head_supported else 1)
    assert emulator.count("GET", "dataaccess/downloads") == (0 if head_supported else 3)


@pytest.mark.parametrize("head_supported", [True, False])
def test_failed_and_forgotten_orders(bench: Any, connect: Any, head_supported: bool) -> None:
    """A failure is told in the service's words; an order that is not known is gone."""
    emulator = bench.start(head_supported=head_supported)
    broker = connect(emulator)
    product = first(bench, broker)
    emulator.fault(Fault("order-failed", body="tape is broken"))
    download_id = broker.order(product)

    assert broker.status(download_id) == OrderStatus(OrderState.FAILED, "tape is broken")
    emulator.forget_orders()
    assert broker.status(download_id) == OrderStatus(OrderState.GONE)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("Done", OrderState.READY),
        (" COMPLETED ", OrderState.READY),
        ("Error", OrderState.FAILED),
        ("rejected", OrderState.FAILED),
        ("Running", OrderState.WAITING),
        ("", OrderState.WAITING),
        (None, OrderState.WAITING),
        (5, OrderState.WAITING),
    ],
)
def test_words_of_the_list(bench: Any, connect: Any, word: Any, state: OrderState) -> None:
    """The list's words are told apart, and only the order that was asked for counts."""
    emulator = bench.start(head_supported=False)
    features = ["junk", {"_id": "other", "status": "Error"}, {"_id": "mine", "status": word}]
    body = {"features": features}
    emulator.fault(Fault("status", path="dataaccess/downloads", status=200, body=body, times=None))

    assert connect(emulator).status("mine").state is state
    assert connect(emulator).status("absent").state is OrderState.GONE


def test_downloads(bench: Any, connect: Any) -> None:
    """A file comes whole, or from a byte on where that was asked for."""
    emulator = bench.start()
    broker = connect(emulator)
    download_id = broker.order(first(bench, broker))
    with broker.download(download_id) as (answer, pieces):
        assert (answer.status, b"".join(pieces)) == (200, bench.body(1))
    with broker.download(download_id, first_byte=100) as (answer, pieces):
        assert (answer.status, b"".join(pieces)) == (206, bench.body(1)[100:])
    with broker.download(download_id, first_byte=10**6, accept={416}) as (answer, _):
        assert answer.status == 416
    assert [r.range for r in emulator.log if r.method == "GET"] == [
        None,
        "bytes=100-",
        "bytes=1000000-",
    ]


def test_an_address_without_a_login_is_no_missing_data_set(bench: Any, connect: Any) -> None:
    """Where even the login is not there, the address is wrong, and not the data set's id."""
    emulator = bench.start()
    emulator.fault(Fault("status", status=404, times=None))
    with pytest.raises(BrokerError, match="HDA_URL"):
        connect(emulator).dataset(bench.dataset)
