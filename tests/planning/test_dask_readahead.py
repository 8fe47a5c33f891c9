"""A compute orders what its graph reads ahead of its tasks, and nothing else does."""

from __future__ import annotations

import concurrent.futures
import importlib
import signal
import threading
import time
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from ready_processes import ready_processes

from hda_fsspec.emulator import Fault
from hda_fsspec.errors import OrderError

dask: Any = importlib.import_module("dask")  # its types are of no use here

_PATIENCE_SECONDS = 20.0


def days(count: int) -> dict[str, xr.Dataset]:
    """Return one small data set for each day of a year."""
    made = {}
    for number in range(count):
        day = np.datetime64("2024-01-01", "ns") + np.timedelta64(number, "D")
        values = np.full((1, 2, 3), number, np.float32)
        made[f"sst_{str(day)[:10].replace('-', '')}.nc"] = xr.Dataset(
            {"sst": (("time", "y", "x"), values), "ice": (("time", "y", "x"), values + 1)},
            coords={"time": [day]},
        )
    return made


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_orders_overlap(scheduler: str, stacks: Any) -> None:
    """With fewer threads than products all orders are in preparation at one time."""
    stacks.serve(days(7))
    dataset = stacks.open(chunks={})
    stacks.emulator.hold_orders(6)

    found = dataset["sst"].mean().compute(scheduler=scheduler, num_workers=2)

    assert float(found) == 3.0
    assert stacks.emulator.max_in_preparation == 6  # the template is local
    assert stacks.emulator.orders == stacks.emulator.downloads == 7


@pytest.mark.slow
def test_processes_are_ahead_too(stacks: Any) -> None:
    """The process scheduler's parent orders for its children, and each product once."""
    stacks.serve(days(5))
    dataset = stacks.open(chunks={})
    stacks.emulator.hold_orders(4)

    with ready_processes():
        found = dataset["sst"].mean().compute(scheduler="processes", num_workers=1)

    assert float(found) == 2.0
    assert stacks.emulator.max_in_preparation == 4
    assert stacks.emulator.order_posts == stacks.emulator.downloads == 5


@pytest.mark.slow
def test_only_what_is_computed_is_ordered(stacks: Any) -> None:
    """A selection orders its own products, in the order of its tasks."""
    stacks.serve(days(8))
    dataset = stacks.open(chunks={})

    (dataset["sst"].isel(time=slice(4, 7)) * 2).compute(scheduler="threads")

    assert sorted(stacks.ordered) == sorted(
        ["sst_20240101.nc", *(f"sst_202401{day:02}.nc" for day in (5, 6, 7))]
    )


@pytest.mark.slow
def test_two_of_a_kind_under_one_compute(stacks: Any) -> None:
    """Two expressions that are computed together share their products."""
    stacks.serve(days(6))
    dataset = stacks.open(chunks={})
    stacks.emulator.hold_orders(5)

    dask.compute(dataset["sst"].mean(), dataset["ice"].max("time"), num_workers=2)

    assert stacks.emulator.order_posts == stacks.emulator.downloads == 6
    assert stacks.emulator.max_in_preparation == 5


@pytest.mark.slow
def test_looking_at_a_graph_orders_nothing(stacks: Any) -> None:
    """Optimising, pickling and drawing a graph order nothing, nor do other computes."""
    stacks.serve(days(5))
    dataset = stacks.open(chunks={})
    before = stacks.emulator.order_posts

    (optimised,) = dask.optimize(dataset["sst"].mean())
    optimised.data.dask.to_dict()
    assert float(da.ones(10, chunks=2).sum().compute()) == 10.0

    assert stacks.emulator.order_posts == before == 1


@pytest.mark.slow
def test_a_graph_that_cannot_be_read_costs_only_speed(
    stacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Dask's tasks are of a kind that is not understood the values come all the same."""
    stacks.serve(days(4))
    dataset = stacks.open(chunks={})

    def fail(*_: object) -> None:
        raise TypeError

    monkeypatch.setattr("hda_fsspec.planning.dask_graphs.products_in_order", fail)

    assert float(dataset["sst"].mean().compute()) == 1.5


@pytest.mark.slow
def test_a_fault_is_told_by_the_task_that_reads(stacks: Any) -> None:
    """What fails ahead of its reader raises where it is read, and the others are local."""
    stacks.serve(days(6))
    stacks.emulator.fault(Fault("order-failed", product_id="sst_20240104.nc", times=None))
    dataset = stacks.open(chunks={})

    with pytest.raises(OrderError, match="sst_20240104"):
        dataset["sst"].compute(scheduler="threads", num_workers=1)

    assert dataset["sst"].isel(time=[1, 2, 4]).compute().shape[0] == 3


@pytest.mark.slow
def test_offline_nothing_is_asked_for(stacks: Any) -> None:
    """With all products local and the service gone a compute works, and asks nobody."""
    stacks.serve(days(4))
    stacks.open(chunks={})["sst"].compute()
    stacks.forget()
    requests = len(stacks.emulator.log)
    dataset = stacks.open(chunks={}, settings={"offline": True})

    assert float(dataset["sst"].mean().compute()) == 1.5
    assert len(stacks.emulator.log) == requests


@pytest.mark.slow
def test_a_cache_of_three_products_is_enough(stacks: Any) -> None:
    """What is fetched ahead drives out nothing that was not read: each comes over the line once."""
    files = stacks.serve(days(8))
    dataset = stacks.open(
        chunks={}, settings={"cache_max_bytes": 3 * files[0].stat().st_size + 2000}
    )

    found = dataset["sst"].mean().compute(scheduler="threads", num_workers=1)

    assert float(found) == 3.5
    assert stacks.emulator.order_posts == 8
    assert stacks.emulator.downloads <= 9


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_an_interrupt_ends_the_wait(scheduler: str, stacks: Any) -> None:
    """Ctrl-C ends a compute that waits for orders, and leaves no thread of Dask's waiting."""
    stacks.serve(days(5), preparation_seconds=0.0)
    dataset = stacks.open(chunks={})
    stacks.emulator._broker.delivery.orders._preparation_seconds = 600.0

    def interrupt() -> None:
        until = time.monotonic() + _PATIENCE_SECONDS
        while stacks.emulator.order_posts < 5 and time.monotonic() < until:
            time.sleep(0.01)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        dataset["sst"].mean().compute(scheduler=scheduler, num_workers=2)
    began = time.monotonic()

    # The two threads of the pool are free again.
    two = [dask.delayed(time.sleep)(0.01) for _ in range(2)]
    dask.compute(*two, scheduler=scheduler, num_workers=2)
    assert time.monotonic() - began < 60.0  # and the orders take ten minutes


@pytest.mark.slow
def test_another_reader_is_not_interrupted(stacks: Any) -> None:
    """A compute that fails ends its own waits, not that of a thread that reads by itself."""
    stacks.serve(days(6), preparation_seconds=1.0)
    stacks.emulator.fault(Fault("order-failed", product_id="sst_20240102.nc", times=None))
    dataset = stacks.open(chunks={})
    alone = stacks.open()["sst"].isel(time=5)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        read = executor.submit(alone.load)

        with pytest.raises(OrderError):
            dataset["sst"].mean().compute(scheduler="threads", num_workers=2)

        assert float(read.result(_PATIENCE_SECONDS).mean()) == 5.0


@pytest.mark.slow
def test_a_compute_after_one_that_failed_is_not_cancelled(stacks: Any) -> None:
    """What reads the same products right after, hidden in a closure, waits for them in peace."""
    stacks.serve(days(6), preparation_seconds=0.5)
    stacks.emulator.fault(Fault("order-failed", product_id="sst_20240102.nc", times=None))
    lazy = stacks.open()["sst"]
    with pytest.raises(OrderError):
        stacks.open(chunks={})["sst"].mean().compute(scheduler="threads", num_workers=2)

    def read(number: int) -> float:
        return float(lazy.isel(time=number).mean())

    tasks = [dask.delayed(read)(number) for number in range(2, 6)]
    assert dask.compute(*tasks, scheduler="threads", num_workers=4) == (2.0, 3.0, 4.0, 5.0)
