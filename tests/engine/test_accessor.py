"""``ds.hda`` tells what an expression reads and costs, orders nothing by it, and fetches it."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from xarray.core import indexing

import hda_fsspec.engine.accessor  # noqa: F401  (registers it)
from hda_fsspec import Location
from hda_fsspec.cache.cache import Cache
from hda_fsspec.client import Client, get_client
from hda_fsspec.emulator import Fault
from hda_fsspec.errors import OfflineError, OrderError, QuotaError
from hda_fsspec.lazy.arrays import HDABackendArray
from hda_fsspec.lazy.product_table import ProductTable, Source
from hda_fsspec.reading.indexing import key_lengths
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.records import Product
from hda_fsspec.settings import Settings

SIZE = 2032


class Daily(HDABackendArray):
    """A variable with one product for each step of its only axis."""

    def product_numbers_at(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        """Return the steps of a key."""
        if 0 in key_lengths(key, self.shape):
            return np.zeros(0, dtype="i8")
        return np.unique(np.arange(self.shape[0])[key[0]])

    def read(self, key: tuple[Any, ...]) -> Any:
        """Make the products local, and return their numbers."""
        client = get_client(self.source.settings)
        for number in self.product_numbers_at(key).tolist():
            client.fetch(self.source.pieces[number]).result()
        return np.arange(float(self.shape[0]))[key[0]]


def settings_of(bench: Any, emulator: Any, **given: Any) -> Settings:
    """Return settings for an emulator."""
    return Settings.resolve(**bench.settings(emulator, **given))


def products_of(bench: Any, emulator: Any, **given: Any) -> Client:
    """Return the shared products object of such settings."""
    return get_client(settings_of(bench, emulator, **given))


def stack(bench: Any, emulator: Any, *, chunked: bool = True, **given: Any) -> xr.Dataset:
    """Return all days of an emulator as one lazy data set."""
    settings = settings_of(bench, emulator, **given)
    found = get_client(settings).search(Location.parse(bench.query))
    source = Source(settings, ProductTable(found), OpenOptions())
    recipe = Daily(source, "sst", (len(found),), np.dtype("f8"))
    variable = xr.Variable(("time",), indexing.LazilyIndexedArray(recipe))
    dataset = xr.Dataset({"sst": variable}, coords={"time": np.arange(len(found))})
    return dataset.chunk(time=1) if chunked else dataset


def ids(products: Sequence[Product]) -> list[str]:
    """Return the ids of products."""
    return [product.product_id for product in products]


def local(bench: Any, emulator: Any, **given: Any) -> list[str]:
    """Return the ids of what is local, sorted."""
    cache = products_of(bench, emulator, **given).cache
    return sorted(entry.product.product_id for entry in cache.entries())


@pytest.mark.parametrize("chunked", [True, False])
def test_products(bench: Any, chunked: bool) -> None:
    """The products are told in the order of the catalogue, and are those that computing fetches."""
    emulator = bench.start(days=6)
    days = stack(bench, emulator, chunked=chunked)

    selected = days.isel(time=[4, 1, 4])
    told = ids(selected.hda.products)

    assert told == [bench.product_id(2), bench.product_id(5)]
    assert ids(selected.sst.hda.products) == told
    assert emulator.orders == 0
    assert selected.compute().sst.values.tolist() == [4, 1, 4]
    assert local(bench, emulator) == told
    assert selected.load().hda.products == []


def test_looking_orders_nothing(bench: Any) -> None:
    """Products, plan and both of its pictures cost no order, no download, and no request at all."""
    emulator = bench.start(days=5)
    days = stack(bench, emulator)
    before = len(emulator.log.snapshot())

    assert len((days - days.mean()).hda.products) == 5
    text = repr(days.hda) + repr(days.hda.plan()) + days.hda._repr_html_()

    assert "5 products" in text
    assert len(emulator.log.snapshot()) == before
    assert local(bench, emulator) == []


def test_plan_of_what_was_never_fetched(bench: Any) -> None:
    """Before the first product was fetched, the catalogue's sizes are estimates."""
    emulator = bench.start(days=4)

    plan = stack(bench, emulator).isel(time=slice(0, 3)).hda.plan()

    assert (plan.local, plan.orders_needed, len(plan.products)) == (0, 3, 3)
    assert (plan.bytes_known, plan.bytes_estimated, plan.sizes_unknown) == (0, 3 * SIZE, 0)
    assert plan.bytes_needed == 3 * SIZE
    assert plan.fits_cache
    assert plan.fits_disk
    assert plan.fits
    assert plan.disk_free is not None
    assert plan.cache_bound is not None
    assert (plan.quota_limit, plan.quota_left, plan.seconds_at_quota) == (None, None, None)


def test_plan_learns(bench: Any) -> None:
    """What was fetched is local and of known size; then the catalogue's sizes have proved exact."""
    emulator = bench.start(days=4)
    days = stack(bench, emulator)
    days.isel(time=0).compute()

    plan = days.hda.plan()

    assert (plan.local, plan.orders_needed) == (1, 3)
    assert (plan.bytes_known, plan.bytes_estimated, plan.bytes_needed) == (4 * SIZE, 0, 3 * SIZE)


def test_plan_without_catalogue_sizes(bench: Any) -> None:
    """Where the catalogue tells no sizes they are unknown, then estimated by the first products."""
    emulator = bench.start(days=4, sizes="ND")
    days = stack(bench, emulator)

    dark = days.hda.plan()
    days.isel(time=0).compute()
    plan = days.hda.plan()

    assert (dark.sizes_unknown, dark.bytes_needed, dark.fits) == (4, 0, True)
    assert "4 of unknown size" in repr(dark)
    assert (plan.bytes_known, plan.bytes_estimated, plan.sizes_unknown) == (SIZE, 3 * SIZE, 0)


def test_looking_is_no_use(bench: Any) -> None:
    """Planning counts as no use of what is local, so that it ends no protection."""
    emulator = bench.start(days=2)
    days = stack(bench, emulator)
    days.hda.prefetch(progress=False)
    before = [entry.used_at for entry in products_of(bench, emulator).cache.entries()]

    assert days.hda.plan().local == 2
    assert [e.used_at for e in products_of(bench, emulator).cache.entries()] == before


@pytest.mark.slow
def test_prefetch(bench: Any) -> None:
    """All is ordered at one time and fetched."""
    emulator = bench.start(days=6, polls=2)
    days = stack(bench, emulator).isel(time=slice(1, 5))
    days.isel(time=0).compute()

    fetched = days.hda.prefetch()

    assert ids(fetched) == [bench.product_id(day) for day in (2, 3, 4, 5)]
    assert local(bench, emulator) == ids(fetched)
    assert days.hda.plan().orders_needed == 0
    assert emulator.orders == 4
    requests = len(emulator.log.snapshot())
    assert ids(days.hda.prefetch()) == ids(fetched)
    assert days.compute().sst.sum() == 1 + 2 + 3 + 4
    assert len(emulator.log.snapshot()) == requests


def test_a_quick_prefetch_is_silent(bench: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """What takes no two seconds writes nothing, and neither does a prefetch of no products."""
    emulator = bench.start(days=2)
    days = stack(bench, emulator)

    assert days.isel(time=slice(0, 0)).hda.prefetch() == []
    assert len(days.hda.prefetch(progress=False)) == 2
    assert len(days.hda.prefetch()) == 2
    assert capfd.readouterr().err == ""


def test_what_does_not_fit_is_refused(bench: Any) -> None:
    """A selection that is larger than the bound is refused before anything is ordered."""
    emulator = bench.start(days=5)
    days = stack(bench, emulator, cache_max_bytes=3 * SIZE)

    with pytest.raises(OSError, match=r"5 products of about 10\.2 kB.*6\.1 kB") as caught:
        days.hda.prefetch(progress=False)

    assert caught.value.errno == errno.ENOSPC
    assert emulator.orders == 0
    assert not days.hda.plan().fits_cache
    assert "does not fit" in repr(days.hda.plan())
    assert len(days.isel(time=slice(0, 3)).hda.prefetch(progress=False)) == 3


def test_part_of_what_does_not_fit(bench: Any) -> None:
    """With allow_partial the first products that fit are fetched, and only they are ordered."""
    emulator = bench.start(days=5)
    days = stack(bench, emulator, cache_max_bytes=3 * SIZE + 100)

    fetched = days.hda.prefetch(progress=False, allow_partial=True)

    assert ids(fetched) == [bench.product_id(day) for day in (1, 2, 3)]
    assert emulator.orders == 3


@pytest.mark.slow
@pytest.mark.parametrize("allow_partial", [True, False])
def test_unknown_sizes_that_turn_out_not_to_fit(bench: Any, allow_partial: bool) -> None:
    """Where nobody knew the sizes, fetching stops when the cache is full: told, or allowed."""
    emulator = bench.start(days=12, sizes="ND")
    few: dict[str, Any] = {"cache_max_bytes": 3 * SIZE + 100, "max_orders": 1, "max_connections": 1}
    days = stack(bench, emulator, **few)

    told = pytest.raises(OSError, match=r"12 products at one time.*, and 3 of them have filled it")
    full = contextlib.nullcontext() if allow_partial else told
    with full as caught:
        fetched = days.hda.prefetch(progress=False, allow_partial=allow_partial)

    if allow_partial:
        assert len(fetched) == 3
        assert set(ids(fetched)) <= set(local(bench, emulator, **few))
    else:
        assert caught is not None
        assert caught.value.errno == errno.ENOSPC
    assert emulator.orders < 12


def test_a_full_disk(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk has no room for is refused, or cut; other products in the cache may go."""
    emulator = bench.start(days=5)
    days = stack(bench, emulator)
    days.isel(time=[0]).compute()
    monkeypatch.setattr("hda_fsspec.cache.eviction.free_bytes", lambda folder: 2 * SIZE)

    rest = days.isel(time=slice(1, 4))
    assert rest.hda.plan().fits_disk, "day 1 may go"
    plan = days.hda.plan()
    assert (plan.fits_cache, plan.fits_disk, plan.disk_room) == (True, False, 2 * SIZE)
    with pytest.raises(OSError, match=r"disk has room for 4\.1 kB"):
        days.hda.prefetch(progress=False)
    fetched = days.hda.prefetch(progress=False, allow_partial=True)
    assert ids(fetched) == [bench.product_id(day) for day in (1, 2, 3)]


@pytest.mark.slow
def test_what_was_fetched_is_protected_until_read(bench: Any) -> None:
    """Prefetched products survive the arrival of others, until each was read once."""
    emulator = bench.start(days=6)
    bound: dict[str, Any] = {"cache_max_bytes": 4 * SIZE + 100}
    days = stack(bench, emulator, **bound)
    days.isel(time=0).compute()
    days.isel(time=slice(0, 3)).hda.prefetch(progress=False)

    days.isel(time=slice(3, 6)).compute()
    kept = set(local(bench, emulator, **bound))

    assert {bench.product_id(day) for day in (1, 2, 3)} <= kept
    days.isel(time=slice(0, 2)).compute()
    cache = products_of(bench, emulator, **bound).cache
    until = {entry.product.product_id: entry.used_at for entry in cache.entries()}
    is_protected = {name: used_at > time.time() + 60 for name, used_at in until.items()}
    assert [is_protected[bench.product_id(day)] for day in (1, 2, 3)] == [False, False, True]


def test_what_is_local_is_not_driven_out(bench: Any) -> None:
    """What was local already is not evicted for what is fetched, however long ago it was used."""
    emulator = bench.start(days=5)
    bound: dict[str, Any] = {"cache_max_bytes": 3 * SIZE + 100}
    days = stack(bench, emulator, **bound)
    days.isel(time=slice(0, 2)).compute()
    cache: Cache = products_of(bench, emulator, **bound).cache
    for entry in cache.entries():
        os.utime(entry.folder / "record.json", (1, 1))

    days.isel(time=slice(0, 3)).hda.prefetch(progress=False)

    assert local(bench, emulator, **bound) == [bench.product_id(day) for day in (1, 2, 3)]


def test_faults(bench: Any) -> None:
    """A product that cannot be had is told when all the others were fetched."""
    emulator = bench.start(days=3)
    emulator.fault(Fault("order-failed", product_id=bench.product_id(2), times=None))
    days = stack(bench, emulator)

    with pytest.raises(OrderError, match=bench.product_id(2)):
        days.hda.prefetch(progress=False)

    assert local(bench, emulator) == [bench.product_id(1), bench.product_id(3)]


def test_offline(bench: Any) -> None:
    """Offline, the plan tells what is missing, and prefetching it fails with a clear error."""
    emulator = bench.start(days=2)
    stack(bench, emulator).isel(time=0).compute()
    days = stack(bench, emulator, offline=True)

    assert days.hda.plan().orders_needed == 1
    with pytest.raises(OfflineError, match=bench.product_id(2)):
        days.hda.prefetch(progress=False)


def test_quota(bench: Any) -> None:
    """A used-up quota is an error of prefetching where the settings say so."""
    emulator = bench.start(days=3, quota=1)
    days = stack(bench, emulator, on_quota="raise", max_orders=1)

    with pytest.raises(QuotaError):
        days.hda.prefetch(progress=False)
    assert days.hda.plan().local == 1


@pytest.mark.slow
def test_two_services(bench: Any, tmp_path: Path) -> None:
    """An expression over two services is planned and fetched in both of their caches."""
    one, other = bench.start(days=2), bench.start(days=3)
    elsewhere: dict[str, Any] = {"cache_dir": tmp_path / "other"}
    both = stack(bench, one).sst.sum() + stack(bench, other, **elsewhere).sst.sum()

    assert len(both.hda.plan().products) == 5, "ids are the same in both, products are not"
    assert both.hda.plan().orders_needed == 5
    both.hda.prefetch(progress=False)

    assert len(local(bench, one)) == 2
    assert len(local(bench, other, **elsewhere)) == 3
    assert both.hda.plan().local == 5


def test_not_ours() -> None:
    """A data set of other origin has no products, and a plan that says so."""
    dataset = xr.Dataset({"a": ("x", [1.0])})

    assert dataset.hda.products == dataset.a.hda.products == dataset.hda.prefetch() == []
    assert repr(dataset.hda) == "Plan: no products are read"
    assert "no products" in dataset.hda._repr_html_()
