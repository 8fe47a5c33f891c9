"""Versions and sizes: what the catalogue says now is compared with what it said before."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from hda_fsspec.cache.cache import Cache
from hda_fsspec.client import Client, close_clients
from hda_fsspec.emulator import Emulator, Fault, dated_product
from hda_fsspec.paths.locations import Location


def republish(bench: Any, emulator: Emulator, body: bytes, **changes: Any) -> None:
    """Let the service replace the product of day 1."""
    emulator.republish(bench.dataset, bench.product_id(1), body, **changes)


def test_another_size_is_another_version(bench: Any) -> None:
    """A product that is republished with another size is fetched anew, once the listing is."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator)
    assert fs.cat(bench.path(1)) == bench.body(1)
    republish(bench, emulator, bench.body(1) + b"more")

    assert fs.cat(bench.path(1)) == bench.body(1)
    fs.ls(bench.query, refresh=True)

    assert fs.cat(bench.path(1)) == bench.body(1) + b"more"
    assert fs.info(bench.path(1))["size"] == len(bench.body(1)) + 4
    assert emulator.downloads == 2


def test_another_date_is_another_version(bench: Any) -> None:
    """A product of equal size whose entry was updated is fetched anew, once the listing is."""
    old = dated_product(bench.product_id(1), bench.body(1), updated="2024-06-01T00:00:00Z")
    emulator = bench.start(products=[old])
    fs = bench.filesystem(emulator)
    assert fs.cat(bench.path(1)) == bench.body(1)
    republish(bench, emulator, bench.body(2), updated="2024-07-01T00:00:00Z")

    fs.ls(bench.query, refresh=True)

    assert fs.cat(bench.path(1)) == bench.body(2)


def test_an_old_record_opens_the_old_version(bench: Any) -> None:
    """Who holds the record of the old version reads the old file as long as it is there."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator)
    products = fs._client
    location = Location.parse(bench.path(1))
    old = products.product(location)
    products.fetch(old).result()
    republish(bench, emulator, bench.body(1) + b"more")
    new = products.product(location, refresh=True)

    new_entry = products.fetch(new).result()
    old_entry = products.fetch(old).result()

    assert old_entry.path.read_bytes() == bench.body(1)
    assert new_entry.path.read_bytes() == bench.body(1) + b"more"
    assert len(list(Cache(bench.cache_dir).entries())) == 2
    assert emulator.downloads == 2


@pytest.mark.parametrize("sizes", ["ND", "missing"])
def test_no_size_matches_anything(sizes: str, bench: Any) -> None:
    """Where the catalogue tells no size a product in the cache stays valid."""
    emulator = bench.start(days=1, sizes=sizes)
    fs = bench.filesystem(emulator)
    fs.cat(bench.path(1))

    fs.ls(bench.query, refresh=True)

    assert fs.cat(bench.path(1)) == bench.body(1)
    assert emulator.downloads == 1


def test_a_size_that_is_no_longer_told_matches(bench: Any) -> None:
    """A size that the catalogue told before and does not tell now is no other version."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator)
    fs.cat(bench.path(1))
    republish(bench, emulator, bench.body(1), size="ND")

    fs.ls(bench.query, refresh=True)

    assert fs.cat(bench.path(1)) == bench.body(1)
    assert emulator.downloads == 1


def test_estimates_are_no_lengths(bench: Any) -> None:
    """A catalogue of estimates neither refuses what arrives, nor makes it another version."""
    emulator = bench.start(days=3, sizes="estimate")
    fs = bench.filesystem(emulator)

    fs.prefetch(bench.query)
    fs.ls(bench.query, refresh=True)
    fs.prefetch(bench.query)

    infos = fs.ls(bench.query)
    assert [info["size"] for info in infos] == [len(bench.body(1))] * 3
    assert all(info["catalogue_size"] > info["size"] for info in infos)
    assert emulator.downloads == 3


@pytest.mark.slow
def test_sizes_are_unknown_until_proved(bench: Any) -> None:
    """A size is None until the product was fetched, or until the catalogue proved exact."""
    emulator = bench.start(days=12)
    fs = bench.filesystem(emulator)
    assert {info["size"] for info in fs.ls(bench.query)} == {None}

    fs.prefetch([bench.path(day) for day in range(1, 11)])

    assert {info["size"] for info in fs.ls(bench.query)} == {len(bench.body(1))}
    assert {info["catalogue_size"] for info in fs.ls(bench.query)} == {len(bench.body(1))}


@pytest.mark.slow
def test_estimates_never_prove(bench: Any) -> None:
    """However many products are fetched, estimates do not become lengths of others."""
    emulator = bench.start(days=12, sizes="estimate")
    fs = bench.filesystem(emulator)

    fs.prefetch([bench.path(day) for day in range(1, 12)])

    sizes = {info["product_id"]: info["size"] for info in fs.ls(bench.query)}
    assert sizes[bench.product_id(1)] == len(bench.body(1))
    assert sizes[bench.product_id(12)] is None


def test_lengths_are_remembered_after_eviction(bench: Any) -> None:
    """The length of a product that was evicted is known, also in the next process."""
    emulator = bench.start(days=2, sizes="ND")
    fs = bench.filesystem(emulator)
    fs.cat(bench.path(1))
    fs._client.cache.clear()
    close_clients()

    again = bench.filesystem(emulator)

    assert again.info(bench.path(1))["size"] == len(bench.body(1))
    assert again.info(bench.path(2))["size"] is None
    with pytest.warns(UserWarning, match="1 of 2"):
        assert again.du(bench.query) == len(bench.body(1))
    assert emulator.downloads == 1


def test_du_of_known_sizes_warns_of_nothing(bench: Any) -> None:
    """`du` warns only of sizes that are not known."""
    emulator = bench.start(days=2, sizes="ND")
    fs = bench.filesystem(emulator)
    fs.prefetch(bench.query)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fs.du(bench.query) == 2 * len(bench.body(1))


def test_an_order_belongs_to_a_version(bench: Any) -> None:
    """The order of an old version is not taken up for the new one."""
    emulator = bench.start(days=1)
    emulator.fault(Fault("status", method="GET", path="dataaccess/download/", status=401, times=2))
    fs = bench.filesystem(emulator)
    with pytest.raises(PermissionError):
        fs.cat(bench.path(1))
    republish(bench, emulator, bench.body(1) + b"more")

    fs.ls(bench.query, refresh=True)

    assert fs.cat(bench.path(1)) == bench.body(1) + b"more"
    assert emulator.order_posts == 2


def test_an_evicted_product_is_fetched_by_its_old_order(bench: Any) -> None:
    """What was ordered once is downloaded again without a new order."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator)
    fs.cat(bench.path(1))

    fs._client.cache.clear()

    assert fs.cat(bench.path(1)) == bench.body(1)
    assert (emulator.order_posts, emulator.downloads) == (1, 2)


def test_eviction_between_fetch_and_open(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that is evicted in the moment when it is opened is fetched again."""
    emulator = bench.start(days=1)
    client = Client(bench.filesystem(emulator).settings)
    product = client.product(Location.parse(bench.path(1)))
    fetch = client.fetch
    evicted = 0

    def fetch_and_evict(*given: Any, **more: Any) -> Any:
        nonlocal evicted
        future = fetch(*given, **more)
        future.result()
        if evicted < 2:
            evicted += 1
            client.cache.clear()
        return future

    monkeypatch.setattr(client, "fetch", fetch_and_evict)
    entry, handle = client.open(product).result(10)

    with handle:
        assert handle.read() == bench.body(1)
    assert entry.size == len(bench.body(1))
    assert emulator.downloads == 3


def test_a_fault_while_an_evicted_product_is_opened_again(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a fault in the second attempt reaches who waits: nobody waits for ever."""
    emulator = bench.start(days=1)
    client = Client(bench.filesystem(emulator).settings)
    product = client.product(Location.parse(bench.path(1)))
    fetch = client.fetch
    calls = 0

    def fetch_once(*given: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise PermissionError("the folder was closed meanwhile")
        future = fetch(*given, **more)
        future.result()
        client.cache.clear()
        return future

    monkeypatch.setattr(client, "fetch", fetch_once)

    with pytest.raises(PermissionError, match="closed meanwhile"):
        client.open(product).result(10)
