"""Which tasks of the local schedulers are wanted, and whose task a thread runs."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from hda_fsspec.workers import computations

dask: Any = importlib.import_module("dask")  # its types are of no use here


def test_a_task_is_dropped_when_its_computation_broke_off() -> None:
    """One that ended well, or never began, drops nothing; another that wants the task keeps it."""
    first, second = computations.begin(["a", "b"]), computations.begin(["b", "c"])
    assert not computations.is_cancelled("a")

    computations.end(first, is_broken=True)
    assert [computations.is_cancelled(key) for key in "abcd"] == [True, False, False, False]
    computations.end(second, is_broken=False)
    assert computations.is_cancelled("b")
    third = computations.begin(["a"])
    assert not computations.is_cancelled("a")
    computations.end(third, is_broken=False)


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_a_thread_knows_its_task(scheduler: str) -> None:
    """Within a task its key is known, and elsewhere there is none."""
    task = dask.delayed(computations.current_task)(dask_key_name="mine")

    assert task.compute(scheduler=scheduler) == "mine"
    assert computations.current_task() is None
