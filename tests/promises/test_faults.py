"""Faults are bounded and told: retried only where that helps, then a typed error."""

from __future__ import annotations

import logging
import re
import threading
import time
from typing import Any

import pytest

from hda_fsspec.emulator import Fault
from hda_fsspec.errors import (
    AuthenticationError,
    BrokerError,
    DownloadError,
    HDAError,
    OrderError,
    OrderTimeoutError,
    ProductFormatError,
)

_SEARCH = ("POST", "dataaccess/search")
_ORDER = ("POST", "dataaccess/download")
_STATUS = ("HEAD", "dataaccess/download/")
_FILE = ("GET", "dataaccess/download/")
_LOGIN = ("POST", "identity/gettoken")
_SCHEMA = ("GET", "dataaccess/queryable/")
_TERMS = ("GET", "termsaccepted")
_DATA_SETS = ("GET", "datasets")
_BEFORE = [_SEARCH, _LOGIN, _SCHEMA, _TERMS]
_PAGE = "<!DOCTYPE html><html><body>Bad Gateway</body></html>"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hda_fsspec.network.retries._FIRST_DELAY_SECONDS", 0.005)
    monkeypatch.setattr("hda_fsspec.network.retries._LONGEST_DELAY_SECONDS", 0.02)


def fault(kind: str, place: tuple[str, str], **more: Any) -> Fault:
    """Return a fault at one of the places above."""
    return Fault(kind, method=place[0], path=place[1], **more)


_PASSING: dict[str, tuple[str, dict[str, Any]]] = {
    "500": ("status", {"status": 500, "times": 2}),
    "502 with HTML": ("status", {"status": 502, "body": _PAGE, "times": 2}),
    "503": ("status", {"status": 503, "times": 2}),
    "408": ("status", {"status": 408, "times": 1}),
    "reset": ("reset", {"times": 2}),
}


@pytest.mark.slow
@pytest.mark.parametrize("place", [_ORDER, _FILE], ids=" ".join)
def test_what_passes_of_a_product_is_retried(place: tuple[str, str], bench: Any) -> None:
    """Where JSON and where a file is answered a fault costs time and nothing else."""
    emulator = bench.start(days=len(_PASSING))
    fs = bench.filesystem(emulator)
    for day, (name, (kind, more)) in enumerate(_PASSING.items(), start=1):
        emulator.fault(fault(kind, place, **more))
        before = len(emulator.log)

        assert fs.cat(bench.path(day)) == bench.body(day), name
        spoilt = [record for record in list(emulator.log)[before:] if record.faults]
        assert len(spoilt) == more["times"], name
    assert emulator.orders == len(_PASSING)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "place"),
    [
        *((name, place) for place in _BEFORE for name in ("502 with HTML", "reset")),
        *((name, _STATUS) for name in _PASSING),
    ],
)
def test_what_passes_of_a_job_is_retried(name: str, place: tuple[str, str], bench: Any) -> None:
    """A fault that strikes before there is a file costs time and nothing else."""
    kind, more = _PASSING[name]
    emulator = bench.start(days=1)
    emulator.fault(fault(kind, place, **more))

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)
    assert emulator.orders == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "tries"), [(500, 4), (502, 10), (503, 10), (504, 10), (418, 1), (400, 1)]
)
def test_retries_are_bounded(status: int, tries: int, bench: Any) -> None:
    """A fault that stays is told after a bounded number of tries, with its status."""
    emulator = bench.start(days=1)
    emulator.fault(fault("status", _DATA_SETS, status=status, times=None))

    with pytest.raises(BrokerError, match=str(status)) as caught:
        bench.filesystem(emulator).ls("hda://")

    assert caught.value.status == status
    assert emulator.count(*_DATA_SETS) == tries


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "status"),
    [
        *((verb, 500) for verb in ("exists", "glob", "find", "walk", "isdir", "ls", "cat")),
        *((verb, status) for verb in ("exists", "glob", "cat") for status in (401, 429)),
    ],
)
def test_a_fault_never_looks_like_an_absence(verb: str, status: int, bench: Any) -> None:
    """`exists`, `glob`, `find`, `walk` raise when the service cannot be asked."""
    emulator = bench.start(days=1)
    emulator.fault(Fault("status", path="data", status=status, times=None))
    fs = bench.filesystem(emulator)
    path = f"{bench.query}/*" if verb == "glob" else bench.query

    with pytest.raises(HDAError):
        list(getattr(fs, verb)(path if verb != "cat" else bench.path(1)))


def test_a_server_that_never_answers(bench: Any) -> None:
    """A server that accepts and says nothing is given up after a few time-outs."""
    emulator = bench.start(days=1)
    emulator.fault(fault("hang", _SCHEMA, times=None))

    with pytest.raises(BrokerError, match="no answer in 3 tries"):
        bench.filesystem(emulator, timeout=0.1).ls(bench.query)


@pytest.mark.slow
@pytest.mark.parametrize("expired_status", [401, 403])
@pytest.mark.parametrize("refresh", [True, False])
def test_a_token_that_expires_in_mid_job(expired_status: int, refresh: bool, bench: Any) -> None:
    """Tokens that expire while many products are under way are renewed once, by one thread."""
    emulator = bench.start(days=6, preparation_seconds=0.2, expired_status=expired_status)
    fs = bench.filesystem(emulator)
    fs.ls(bench.query)
    job = threading.Thread(target=fs.prefetch, args=(bench.query,))

    job.start()
    while emulator.orders < 3:
        time.sleep(0.005)
    emulator.expire_tokens(refresh=refresh)
    job.join()

    assert emulator.downloads == 6
    assert emulator.logins == (2 if refresh else 1)
    assert emulator.count("POST", "refreshtoken") == 1


def test_a_refused_account_is_told_at_once(bench: Any) -> None:
    """A wrong password is refused once, whatever waits for it."""
    emulator = bench.start(days=8)

    with pytest.raises(AuthenticationError, match="Check user and password"):
        bench.filesystem(emulator, password="wrong").prefetch(bench.query)

    assert emulator.count(*_LOGIN) <= 3
    assert emulator.order_posts == 0


@pytest.mark.slow
def test_a_failed_order(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A failed order is typed, tells what the service said, once; the next attempt orders anew."""
    emulator = bench.start(days=1, preparation_seconds=0.05)
    emulator.fault(Fault("order-failed", body="The tape is torn"))
    fs = bench.filesystem(emulator)

    with caplog.at_level(logging.DEBUG), pytest.raises(OrderError) as caught:
        fs.cat(bench.path(1))

    assert caught.value.product_id == bench.product_id(1)
    assert caught.value.download_id
    assert str(caught.value).count("The tape is torn") == 1
    assert bench.product_id(1) in str(caught.value)
    assert emulator.order_posts == 1
    assert fs.cat(bench.path(1)) == bench.body(1)
    assert emulator.order_posts == 2


@pytest.mark.slow
def test_an_order_that_failed_in_an_earlier_run(bench: Any) -> None:
    """An order of an earlier run that failed since is repeated, and nothing is told."""
    emulator = bench.start(days=1)
    emulator.hold_orders(2)
    emulator.fault(Fault("order-failed"))
    impatient = bench.filesystem(emulator, max_wait=0.05)
    with pytest.raises(OrderTimeoutError):
        impatient.open(bench.path(1))
    emulator.hold_orders(0)

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)
    assert emulator.order_posts == 2


def test_an_order_that_is_refused(bench: Any) -> None:
    """A product that the service does not know any more is an OrderError, and not retried."""
    emulator = bench.start(days=1)
    emulator.fault(fault("status", _ORDER, status=404, times=None))

    with pytest.raises(OrderError, match=re.escape(bench.product_id(1))):
        bench.filesystem(emulator).cat(bench.path(1))

    assert emulator.count(*_ORDER) == 1


@pytest.mark.slow
def test_an_order_that_is_gone_in_mid_job(bench: Any) -> None:
    """An order that the service forgets while it is waited for is placed anew."""
    emulator = bench.start(days=1)
    emulator.hold_orders(2)
    fs = bench.filesystem(emulator)
    got: list[bytes] = []
    job = threading.Thread(target=lambda: got.append(fs.cat(bench.path(1))))

    job.start()
    while not emulator.count(*_STATUS):
        time.sleep(0.005)
    emulator.forget_orders()
    emulator.hold_orders(0)
    job.join()

    assert got == [bench.body(1)]
    assert (emulator.orders, emulator.order_posts) == (1, 2)


@pytest.mark.slow
def test_an_order_that_is_gone_at_a_restart(bench: Any) -> None:
    """An order of an earlier run that the service forgot is placed anew."""
    emulator = bench.start(days=1)
    emulator.hold_orders(2)
    with pytest.raises(OrderTimeoutError):
        bench.filesystem(emulator, max_wait=0.05).open(bench.path(1))
    emulator.hold_orders(0)
    emulator.forget_orders()

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)


def test_a_service_that_forgets_every_order(bench: Any) -> None:
    """A service that forgets each order is given up after a few, and the reason is told."""
    emulator = bench.start(days=1)
    emulator.fault(fault("status", _FILE, status=404, times=None))

    with pytest.raises(OrderError, match="404"):
        bench.filesystem(emulator).cat(bench.path(1))

    assert emulator.order_posts == 3


@pytest.mark.slow
def test_not_ready_after_all(bench: Any) -> None:
    """A 202 for a file that was said to be ready is waited for."""
    emulator = bench.start(days=1)
    emulator.fault(fault("status", _FILE, status=202, times=2))

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)
    assert emulator.order_posts == 1


@pytest.mark.slow
def test_an_order_that_takes_too_long_is_kept(bench: Any) -> None:
    """After `max_wait` the wait is over, and the order is taken up later."""
    emulator = bench.start(days=1)
    emulator.hold_orders(2)

    with pytest.raises(OrderTimeoutError, match="The order is kept") as caught:
        bench.filesystem(emulator, max_wait=0.1).open(bench.path(1))
    emulator.hold_orders(0)

    assert caught.value.product_id == bench.product_id(1)
    assert isinstance(caught.value, TimeoutError)
    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)
    assert emulator.order_posts == 1


@pytest.mark.slow
def test_a_coroutine_tells_that_an_order_takes_too_long(bench: Any) -> None:
    """`cat` and `get` say the same as `open` when an order takes too long."""
    emulator = bench.start(days=1)
    emulator.hold_orders(2)

    with pytest.raises(OrderTimeoutError, match="The order is kept"):
        bench.filesystem(emulator, max_wait=0.1).cat(bench.path(1))


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["prefetch", "download"])
def test_two_of_many_fail(verb: str, bench: Any, tmp_path: Any) -> None:
    """Where two of several products fail the others are fetched, and the error names both."""
    emulator = bench.start(days=6)
    for day in (2, 5):
        emulator.fault(Fault("order-failed", product_id=bench.product_id(day), times=None))
    fs = bench.filesystem(emulator)
    target = [] if verb == "prefetch" else [tmp_path / "out"]

    with pytest.raises(OrderError) as caught:
        getattr(fs, verb)(bench.query, *target)

    told = "\n".join([str(caught.value), *caught.value.__notes__])
    assert bench.product_id(2) in told
    assert bench.product_id(5) in told
    assert (emulator.order_posts, emulator.downloads) == (6, 4)


def test_cat_can_return_faults(bench: Any) -> None:
    """`cat(on_error="return")` gives the bytes of what can be had, and the error of what cannot."""
    emulator = bench.start(days=3)
    emulator.fault(Fault("truncated-file", after_bytes=3, product_id=bench.product_id(2), times=9))

    got = bench.filesystem(emulator).cat(f"{bench.query}/*", on_error="return")

    (first, second, third) = (got[bench.path(day).removeprefix("hda://")] for day in (1, 2, 3))
    assert (first, third) == (bench.body(1), bench.body(3))
    assert isinstance(second, ProductFormatError)


@pytest.mark.slow
def test_an_error_without_a_name_gets_one(bench: Any) -> None:
    """An error of the network says which product it hit."""
    emulator = bench.start(days=2)
    emulator.fault(Fault("cut", after_bytes=0, times=None, product_id=bench.product_id(2)))

    with pytest.raises(DownloadError) as caught:
        bench.filesystem(emulator).prefetch(bench.query)

    assert bench.product_id(2) in "\n".join([str(caught.value), *caught.value.__notes__])
    assert emulator.downloads == 1
