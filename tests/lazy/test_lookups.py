"""What one product costs on its way: one hash that names it, one look into the cache to read it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec.cache.cache import Cache
from hda_fsspec.fetching import fetcher
from hda_fsspec.formats import detect
from hda_fsspec.reading import opening

NAME = "sst_20240502.nc"


@pytest.fixture
def days(stacks: Any) -> Any:
    """Three daily products of two variables."""
    stacks.serve(
        {
            f"sst_2024050{day}.nc": xr.Dataset(
                {
                    "sst": (("time", "lon"), [[10.0 * day, 10.0 * day + 1]]),
                    "mask": (("time", "lon"), [[0.0, 2.0]]),
                },
                {"time": [np.datetime64(f"2024-05-0{day}T12:00", "ns")]},
            )
            for day in (1, 2, 3)
        }
    )
    return stacks


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Note all that is hashed."""
    seen: list[bytes] = []
    sha256 = hashlib.sha256

    def hash_it(data: Any = b"", **options: Any) -> Any:
        seen.append(bytes(data))
        return sha256(data, **options)

    monkeypatch.setattr(hashlib, "sha256", hash_it)
    return seen


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the ids of the products that the cache is asked for."""
    seen: list[str] = []
    lookup: Callable[..., Any] = Cache.lookup

    def look(self: Cache, product: Any, **options: Any) -> Any:
        seen.append(product.product_id)
        return lookup(self, product, **options)

    monkeypatch.setattr(Cache, "lookup", look)
    return seen


def test_the_identity_of_a_product_is_hashed_once(days: Any, hashed: list[bytes]) -> None:
    """From the listing to the last read: order, lock, quota, cache and pools go by one key."""
    with days.open(f"{days.query[:-1]}{NAME}") as found:
        assert found["sst"].to_numpy().tolist() == [[20.0, 21.0]]
        assert found["mask"].to_numpy().tolist() == [[0.0, 2.0]]
    before = list(hashed)

    (product,) = (entry.product for entry in days.client.cache.entries())
    name = json.dumps([product.broker, product.dataset_id, product.product_id]).encode()
    assert hashlib.sha256(name).hexdigest() == product.key
    assert before.count(name) == 1


def test_a_read_of_a_cached_product_looks_it_up_once(days: Any, looked_up: list[str]) -> None:
    """Each read of a lazy array asks the cache for its product, and once is enough."""
    found = days.open(f"{days.query[:-1]}{NAME}")
    looked_up.clear()

    for name in ("sst", "mask", "sst"):
        found[name].to_numpy()
        assert looked_up == [NAME]
        looked_up.clear()


def test_a_read_of_a_stack_looks_each_product_up_once(days: Any, looked_up: list[str]) -> None:
    """However many products a selection needs, each is asked for once."""
    found = days.open()
    found["sst"].to_numpy()
    looked_up.clear()

    assert found["sst"][1:].to_numpy().tolist() == [[20.0, 21.0], [30.0, 31.0]]

    assert looked_up == [NAME, "sst_20240503.nc"]


@pytest.mark.slow
def test_opening_a_listed_and_cached_product_looks_it_up_once(
    days: Any, looked_up: list[str]
) -> None:
    """The file that was found is the one that is opened."""
    days.open().load()
    looked_up.clear()

    days.open(f"{days.query[:-1]}{NAME}")

    assert looked_up == [NAME]


def test_the_format_of_a_cached_product_is_checked_once(
    days: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is checked before it gets into the cache, and not again at each opening."""
    checked: list[str] = []

    def check(path: Path, **options: Any) -> Any:
        checked.append(path.parent.name)
        return detect.check_complete(path, **options)

    for module in (fetcher, opening):
        monkeypatch.setattr(module, "check_complete", check)

    for _ in range(3):
        days.open(f"{days.query[:-1]}{NAME}")["sst"].to_numpy()
        days.forget()

    assert len(checked) == 1
