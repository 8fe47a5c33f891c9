"""``hda-fsspec orders``: what was ordered and has not come, and how the quota stands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from hda_fsspec.cache.orders import OrderBook
from hda_fsspec.cache.product_lengths import KnownSizes
from hda_fsspec.cli import main
from hda_fsspec.client import close_clients
from hda_fsspec.emulator import Fault
from hda_fsspec.errors import HDAError, OrderTimeoutError
from hda_fsspec.records import Product

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command as another process would, which knows what is on the disk."""

    def call(*words: str) -> tuple[int, str, str]:
        close_clients()
        capsys.readouterr()
        code = main([*words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def _serve(bench: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    emulator = bench.start(3, **options)
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    return emulator


def test_no_orders(bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing was ordered it says so, and asks for nothing."""
    emulator = _serve(bench, monkeypatch)

    code, out, err = run("orders")

    assert (code, out) == (0, "quota: the service has not told it yet\n")
    assert "no orders under way" in err
    assert len(emulator.log) == 0


def test_an_order_is_under_way_until_its_product_is_here(
    bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was given up is shown with its state, and one whose product came is not."""
    emulator = _serve(bench, monkeypatch, polls=1000, quota=50)
    with pytest.raises(OrderTimeoutError):
        bench.filesystem(emulator, max_wait=0.05).prefetch(bench.path(1))

    code, out, _ = run("orders")
    found = json.loads(run("orders", "--json")[1])
    offline = json.loads(run("--offline", "orders", "--json")[1])
    plan = run("plan", bench.query)[1]
    planned = json.loads(run("plan", "--json", bench.query)[1])

    head, row, _, quota = out.splitlines()
    assert code == 0
    assert head.split() == ["STATE", "ORDERED", "PRODUCT"]
    assert row.startswith("being prepared")
    assert row.endswith(bench.product_id(1))
    assert "less than a minute ago" in row
    assert quota == "quota: 49 of 50 orders an hour left"
    [order] = found["orders"]
    assert (order["dataset_id"], order["product_id"], order["state"]) == (
        *(bench.dataset, bench.product_id(1), "being prepared"),
    )
    assert time.time() - 3600 < order["placed_at"] <= time.time()
    assert found["quota"] == {"limit": 50, "left": 49, "closed_until": None}
    assert [order["state"] for order in offline["orders"]] == [None]
    assert "orders 3 needed, 1 of them under way, 0 local already" in plan
    assert (planned["orders_needed"], planned["under_way"]) == (3, 1)
    assert emulator.orders == 1


def test_an_order_whose_product_came(bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is local is not under way, and costs no question."""
    emulator = _serve(bench, monkeypatch)
    bench.filesystem(emulator).prefetch(bench.path(1))
    asked = len(emulator.log)

    code, out, err = run("orders")

    assert code == 0
    assert bench.product_id(1) not in out
    assert "no orders under way" in err
    assert len(emulator.log) == asked


def test_an_order_that_fails_while_nobody_waits(
    bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told in the words of the service, as what may be shown of them."""
    emulator = _serve(bench, monkeypatch, polls=4)
    emulator.fault(Fault("order-failed", body="The tape \x1b[31m is torn"))
    with pytest.raises(OrderTimeoutError):
        bench.filesystem(emulator, max_wait=0.05).prefetch(bench.path(1))

    told = [run("orders")[1].splitlines()[1] for _ in range(5)]

    assert told[0].startswith("being prepared  ")
    assert told[-1].startswith("failed: The tape \\x1b[31m is torn  ")
    assert emulator.orders == 1


def test_a_used_up_quota(bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """``orders`` and ``doctor`` say that it is used up, and when an order is possible again."""
    emulator = _serve(bench, monkeypatch, quota=2)
    with pytest.raises(HDAError):
        bench.filesystem(emulator, on_quota="raise").prefetch([bench.path(n) for n in (1, 2, 3)])

    _, out, err = run("orders")
    code, doctor, _ = run("doctor")

    assert "waits to order is not listed until it is ordered" in err
    assert out.startswith("quota: all 2 orders an hour are used up; the next one goes out at ")
    # It was told seconds ago, and lasts an hour.
    assert out.rstrip().endswith(("in 60 minutes", "in 59 minutes"))
    [line] = [line for line in doctor.splitlines() if "order quota" in line]
    assert "used up; the next one goes out at" in line
    assert "-> what is asked for now waits until then by itself" in doctor
    assert code == 0


def test_orders_of_an_account_on_a_disk(tmp_path: Any) -> None:
    """The newest come first; those of long ago, and files that tell no product, are left out."""
    now = 1_000_000.0
    book = OrderBook(tmp_path, "me", clock=lambda: now)
    products = [Product("EO:TEST:DAT:A", f"{n}.nc", size=n, broker="http://b") for n in range(4)]
    for age, product in zip((10.0, 4000.0, 900_000.0, 5.0), products, strict=True):
        book.place(product, f"order {product.product_id}", now - age)
    book.drop(products[3])
    book.all()  # which moves aside what counts no more
    (tmp_path / "v1" / "orders" / "me" / "old.order").write_text('{"download_id": "x"}')

    found = book.placed(within_seconds=86_400)

    assert [order.product for order in found] == [products[0], products[1]]
    assert [order.download_id for order in found] == ["order 0.nc", "order 1.nc"]
    assert [order.placed_at for order in found] == [now - 10, now - 4000]


def test_what_came_and_was_evicted_is_not_under_way(
    bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its order is over, and would have it again."""
    emulator = _serve(bench, monkeypatch)
    bench.filesystem(emulator).prefetch(bench.path(1))
    assert run("cache", "clear", "--yes")[0] == 0

    assert json.loads(run("orders", "--json")[1])["orders"] == []


def test_what_came_once_and_was_ordered_anew(
    bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is under way as long as the service prepares it, though its length is known."""
    emulator = _serve(bench, monkeypatch, polls=1000)
    fs = bench.filesystem(emulator, max_wait=0.05)
    with pytest.raises(OrderTimeoutError):
        fs.prefetch(bench.path(1))
    [product] = fs.query(bench.path(1))
    KnownSizes(bench.cache_dir).record(product, 17)

    [order] = json.loads(run("orders", "--json")[1])["orders"]

    assert (order["product_id"], order["state"]) == (bench.product_id(1), "being prepared")


def test_a_state_that_cannot_be_asked_for(
    bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody answers the order is told all the same, without its state."""
    emulator = _serve(bench, monkeypatch, polls=1000, quota=50)
    with pytest.raises(OrderTimeoutError):
        bench.filesystem(emulator, max_wait=0.05).prefetch(bench.path(1))
    bench.close()

    code, out, _ = run("orders", "--json")

    assert code == 0
    told = json.loads(out)
    assert [order["product_id"] for order in told["orders"]] == [bench.product_id(1)]
    assert told["orders"][0]["state"] is None
