"""Which tasks of the local schedulers are wanted, and whose task a thread runs."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from hda_fsspec.lazy import computes

dask: Any = importlib.import_module("dask")  # its types are of no use here


def test_a_task_is_dropped_when_its_computation_broke_off() -> None:
    """One that ended well, or never began, drops nothing; another that wants the task keeps it."""
    first, second = computes.begin(["a", "b"]), computes.begin(["b", "c"])
    assert not computes.is_dropped("a")

    computes.end(first, is_broken=True)
    assert [computes.is_dropped(key) for key in "abcd"] == [True, False, False, False]
    computes.end(second, is_broken=False)
    assert computes.is_dropped("b")
    third = computes.begin(["a"])
    assert not computes.is_dropped("a")
    computes.end(third, is_broken=False)


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_a_thread_knows_its_task(scheduler: str) -> None:
    """Within a task its key is known, and elsewhere there is none."""
    task = dask.delayed(computes.current_task)(dask_key_name="mine")

    assert task.compute(scheduler=scheduler) == "mine"
    assert computes.current_task() is None
