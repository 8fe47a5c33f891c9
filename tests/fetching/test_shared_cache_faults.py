"""A shared cache that hangs, quotes secrets, or holds what was corrected since."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import sync
from rows import for_each
from shared_caches import SECRET, Team, Vault, run, warnings_in

from hda_fsspec import client
from hda_fsspec.cli import main
from hda_fsspec.client import get_client
from hda_fsspec.emulator import Fault
from hda_fsspec.fetching.shared_cache import SharedCache, is_settled
from hda_fsspec.records import Product

NOW = datetime.datetime(2026, 11, 27, tzinfo=datetime.UTC)
JOB = f"reanalysis-{'0' * 32}"


@pytest.fixture(autouse=True)
def _vault(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("vault", Vault, clobber=True)
    monkeypatch.setattr(Vault, "fails", staticmethod(lambda verb, path: None))


@pytest.fixture
def team(bench: Any) -> Team:
    """Machines that share a folder elsewhere."""
    return Team(bench, bench.start(days=4))


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let whatever is asked of the vault, once this is set, wait until the test ends."""
    begins, ends = threading.Event(), threading.Event()

    def fails(verb: str, path: str) -> None:
        if begins.is_set() and not path.endswith("record.json"):
            ends.wait()

    def impatient(settings: Any) -> SharedCache | None:
        if settings.shared_cache is None:
            return None
        timeout = 0.05 if begins.is_set() else 30.0
        return SharedCache(settings.shared_cache, settings.shared_cache_options, timeout=timeout)

    monkeypatch.setattr(Vault, "fails", staticmethod(fails))
    monkeypatch.setattr(client, "_shared_cache", impatient)
    yield begins
    ends.set()


def test_one_that_hangs_while_data_arrive(
    team: Team, bench: Any, hanging: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """What does not answer is given up, and the product is ordered; its lock is free again."""
    team.give(1)
    hanging.set()

    assert team.machine("second").cat_file(bench.path(1)) == bench.body(1)

    assert any("did not answer within 0.05 s" in told for told in warnings_in(caplog))
    plain = team.machine("second", shared_cache=None, shared_cache_options=None)
    assert plain.cat_file(bench.path(2)) == bench.body(2)


def test_one_that_quotes_its_options(
    team: Team,
    bench: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Errors of a filesystem are shown without any text of its options, however deep."""
    error = ValueError(f"Invalid connection string: AccountKey={SECRET};n3sted-one")
    monkeypatch.setattr(Vault, "fails", staticmethod(lambda verb, path: error))
    options = {"key": SECRET, "client_kwargs": [{"token": "n3sted-one"}]}
    shared = SharedCache(team.url, options, timeout=30)
    [product] = team.machine("x").query(f"{bench.query}/{bench.product_id(1)}")
    caplog.clear()

    assert run(shared.find(product)) is None

    [told] = warnings_in(caplog)
    assert "AccountKey=…;…" in told
    assert SECRET not in told


def test_what_is_there_waits_for_no_quota(bench: Any) -> None:
    """While others wait for the quota, a product that is in the shared cache is taken at once."""
    team = Team(bench, bench.start(days=4, quota=1))
    team.give(1)
    fs = team.machine("second", max_orders=1, max_connections=1)
    products = {p.product_id: p for p in fs.query(bench.query)}
    waiting = [get_client(fs.settings).fetch(products[bench.product_id(day)]) for day in (2, 3, 4)]

    assert fs.cat_file(bench.path(1)) == bench.body(1)

    for future in waiting:
        future.cancel()


def test_a_download_that_was_killed_goes_on_there(team: Team, bench: Any) -> None:
    """Bytes that a killed process had taken from there are no beginning of an order."""
    team.give(1)
    fs = team.machine("second")
    [product] = fs.query(f"{bench.query}/{bench.product_id(1)}")
    with get_client(fs.settings).cache.stage(product) as staging:
        staging.remember(shared="0" * 64)
        with staging.open() as handle:
            handle.write(b"CDF\x01 and no more")

    assert fs.cat_file(bench.path(1)) == bench.body(1)

    assert team.emulator.order_posts == 1


def test_what_an_order_brought_goes_on(team: Team, bench: Any) -> None:
    """Bytes of an order are not dropped for a copy that is there."""
    team.give(1)
    fs = team.machine("second")
    [product] = fs.query(f"{bench.query}/{bench.product_id(1)}")
    body = bench.body(1)
    with get_client(fs.settings).cache.stage(product) as staging:
        staging.remember(total=len(body), etag='"of-an-order"')
        with staging.open() as handle:
            handle.write(body[:100])

    assert fs.cat_file(bench.path(1)) == body

    assert team.emulator.order_posts == 2


def test_a_wrong_record_evicts_nothing(team: Team, bench: Any) -> None:
    """For a copy that is not what its record tells of no room is made."""
    team.give(1)
    record = team.files()["record"]
    record.write_text(json.dumps(json.loads(record.read_bytes()) | {"size": 10**15}))
    fs = team.machine("second", cache_max_bytes=3 * len(bench.body(1)) + 30_000)
    fs.prefetch([bench.path(2), bench.path(3)])

    assert fs.cat_file(bench.path(1)) == bench.body(1)

    cached = {entry.product.product_id for entry in get_client(fs.settings).cache.entries()}
    assert {bench.product_id(day) for day in (1, 2, 3)} <= cached


@for_each(
    ("facts", "settled"),
    [
        ({"size": 5}, True),
        ({"updated": "2026-11-26T00:00:00Z"}, True),
        ({}, False),
        ({"enddate": "2020-01-01T00:00:00Z"}, False),
        ({"product_id": JOB, "size": 5}, False),
        ({"product_id": JOB, "size": 5, "enddate": "2026-10-01T00:00:00Z"}, False),
        ({"product_id": JOB, "enddate": "2026-01-01T00:00:00Z"}, True),
        ({"request": "hda://EO:X/a=1", "enddate": "2026-08-20T00:00:00Z"}, False),
        ({"request": "hda://EO:X/a=1", "enddate": "2026-08-18T00:00:00Z"}, True),
        ({"request": "hda://EO:X/a=1", "enddate": "soon"}, False),
        ({"request": "hda://EO:X/a=1", "enddate": "2099-12-31T00:00:00Z"}, False),
        ({"request": "hda://EO:X/a=1", "updated": "2026-11-27", "size": 5}, False),
    ],
)
def test_what_may_be_corrected_is_not_shared(facts: dict[str, Any], settled: bool) -> None:
    """Without size or date of update two versions are one name; jobs are final after 100 days."""
    product = Product(**{"dataset_id": "EO:X", "product_id": "a.nc", **facts})

    assert is_settled(product, NOW) is settled


def test_a_product_without_a_version_is_ordered(bench: Any) -> None:
    """Where the catalogue tells neither size nor update, nothing is put there nor taken."""
    team = Team(bench, bench.start(days=1, sizes="missing"))

    data = team.give(1)
    assert team.machine("second").cat_file(bench.path(1)) == data

    assert team.emulator.order_posts == 2
    assert team.files() == {}


@pytest.mark.parametrize(("lost", "code"), [(0, 0), (1, 1)])
def test_the_command_line_waits_for_what_it_fetched(
    team: Team, bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int, code: int
) -> None:
    """When a command ends, what it fetched is in the shared cache, even if another one failed."""
    if lost:
        team.emulator.fault(Fault("order-failed", product_id=bench.product_id(2), times=None))
    environment = {
        **team.emulator.environment,
        "HDA_CACHE_DIR": str(tmp_path / "cli"),
        "HDA_SHARED_CACHE": team.url,
        "HDA_SHARED_CACHE_OPTIONS": json.dumps({"key": SECRET}),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert main(["get", bench.query, str(tmp_path / "out")]) == code

    assert len(list(team.folder.rglob("record.json"))) == 4 - lost


def test_flush_is_not_called_in_the_loop_that_it_needs(team: Team) -> None:
    """In fsspec's own loop it would wait for itself: it says so, and can be awaited there."""
    fs = team.machine("first")

    async def wrong() -> None:
        fs.flush_shared_cache()

    with pytest.raises(NotImplementedError, match="await it"):
        sync(fs.loop, wrong)
    sync(fs.loop, fs._flush_shared_cache)


def test_flush_waits_for_all_clients_of_a_process(
    team: Team, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that differ otherwise share an address, and are waited for."""
    begun, goes_on = threading.Event(), threading.Event()

    def fails(verb: str, path: str) -> None:
        if verb == "put":
            begun.set()
            goes_on.wait()

    monkeypatch.setattr(Vault, "fails", staticmethod(fails))
    team.machine("first", progress=False).cat_file(bench.path(1))
    begun.wait()
    flush = threading.Thread(target=team.machine("first").flush_shared_cache)
    flush.start()
    assert flush.is_alive()
    goes_on.set()
    flush.join()

    assert len(list(team.folder.rglob("record.json"))) == 1
