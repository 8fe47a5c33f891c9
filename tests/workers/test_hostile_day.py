"""The hostile day on a cluster: what breaks costs time, never a value, an order or a worker."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from clusters import DAYS, VALUES, Job, Workers, cluster, wait_until
from distributed import Client, LocalCluster

from hda_fsspec.cache.locks import FileLocks, Lock
from hda_fsspec.emulator import Catalogue, Emulator

#: Values of a day whose file takes a moment to arrive, and bytes a second for that.
WIDE = 60_000
RATE = WIDE * 8 / 0.4


@pytest.fixture(scope="module")
def shared_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Two workers of two threads; one that is started anew can log in, too."""
    of_all = Emulator(Catalogue([]))
    account = {"HDA_USER": of_all.user, "HDA_PASSWORD": of_all.password}
    home = tmp_path_factory.mktemp("workers")
    with cluster(account, account, home=home, threads=2) as client:
        yield Workers(client)


@pytest.fixture
def workers(shared_workers: Workers) -> Workers:
    """Two workers, both there again if a test has killed one."""
    shared_workers.client.wait_for_workers(2, timeout=60)
    return shared_workers


def polls(emulator: Emulator) -> int:
    """Return how often orders were asked after."""
    return emulator.count("HEAD", "dataaccess/download")


def asked_after(emulator: Emulator) -> set[str]:
    """Return which orders were asked after."""
    heads = emulator.log.where(
        lambda r: r.method == "HEAD" and r.api.startswith("dataaccess/download")
    )
    return {record.api for record in heads}


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["mid-download", "mid-wait"])
def test_a_worker_is_killed(moment: str, stacks: Any, workers: Workers) -> None:
    """A worker that is killed while it loads, or waits, costs no second order of any product."""
    options: dict[str, Any] = {"preparation_seconds": 1.0}
    if moment == "mid-download":
        options = {"rate_bytes_per_second": RATE}
    job = Job(stacks, width=WIDE, **options)
    sent = job.emulator.bytes_sent
    pid = workers.pids()[0]

    future = workers.client.compute(job.mean)
    if moment == "mid-download":
        # Of three products: so each worker is loading, of its two threads.
        wait_until(lambda: job.emulator.bytes_sent > sent + 3 * WIDE * 8)
    else:
        # What was asked after is noted; an order that is on its way is not, and is sent again.
        wait_until(lambda: len(asked_after(job.emulator)) == DAYS)
    os.kill(pid, signal.SIGKILL)

    np.testing.assert_allclose(future.result(timeout=60).values, VALUES)
    assert (job.emulator.orders, job.emulator.order_posts) == (DAYS, DAYS)
    # Twice at most what the killed one had under way, which is not more than its half of all.
    assert job.emulator.downloads <= DAYS + DAYS // 2


@pytest.mark.slow
def test_two_clusters_on_one_cache(
    stacks: Any, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clusters that compute the same over one cache order and load each product once."""
    job = Job(stacks, preparation_seconds=0.2)
    for name, value in job.account.items():
        monkeypatch.setenv(name, value)

    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=4,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as other,
        Client(other, set_as_default=False) as client,
    ):
        futures = [each.compute(job.mean) for each in (workers.client, client)]
        for future in futures:
            np.testing.assert_allclose(future.result(timeout=60).values, VALUES)

    assert (job.emulator.orders, job.emulator.order_posts) == (DAYS, DAYS)
    assert job.emulator.downloads == DAYS


def _lie() -> None:
    """Run on a worker: let every lock of a file succeed, as on some network disks."""
    for lie in _lies:
        lie.start()


def _be_honest() -> None:
    """Run on a worker: let locks lock again."""
    for lie in _lies:
        lie.stop()


def _always(_: FileLocks, name: str) -> Lock:
    return Lock(Path(name), is_shared=False, on_release=lambda: None)


_lies: list[Any] = [
    mock.patch.object(FileLocks, "acquire", _always),
    mock.patch("fcntl.flock", return_value=None),
]


@pytest.mark.slow
def test_locks_that_always_succeed(stacks: Any, workers: Workers) -> None:
    """Where locks exclude nobody the bytes are right all the same, and nothing is newly ordered."""
    job = Job(stacks, width=WIDE, preparation_seconds=0.1)
    workers.client.run(_lie)
    try:
        both = [workers.client.compute(job.mean + number, workers=[number]) for number in range(2)]
        for number, future in enumerate(both):
            np.testing.assert_allclose(future.result(timeout=60).values, VALUES + number)
    finally:
        workers.client.run(_be_honest)

    assert job.emulator.orders == DAYS


@pytest.mark.slow
def test_a_cache_of_two_products(stacks: Any, workers: Workers) -> None:
    """Products that are evicted while others are read are fetched again, and not ordered anew."""
    bound = int(2.5 * WIDE * 8)
    job = Job(stacks, width=WIDE, settings={"cache_max_bytes": bound})

    first = workers.client.compute(job.mean)
    second = workers.client.compute(job.ds["sst"].isel(time=slice(None, None, -1)).max("x"))

    np.testing.assert_allclose(first.result(timeout=60).values, VALUES)
    assert (second.result(timeout=60).values > VALUES[::-1]).all()
    assert job.emulator.orders == DAYS
    held = [path.stat().st_size for path in stacks.bench.cache_dir.rglob("*.nc")]
    # A worker knows at once of what it has published itself only, and each of the four threads
    # may keep what it is about to open.
    assert sum(held) <= bound + held[0] * 4
    stacks.client.cache.evict()
    assert stacks.client.cache.usage().total_bytes <= bound


@pytest.mark.slow
def test_the_cache_is_deleted_meanwhile(stacks: Any, workers: Workers) -> None:
    """A cache folder that somebody removes under a running cluster costs downloads, no value."""
    job = Job(stacks, width=WIDE, rate_bytes_per_second=RATE)
    futures = [workers.client.compute(job.mean + number) for number in range(3)]

    # A product that loses its folder a third time is given up, and both may hit the same one.
    for _ in range(2):
        time.sleep(0.2)
        shutil.rmtree(stacks.bench.cache_dir, ignore_errors=True)

    for number, future in enumerate(futures):
        np.testing.assert_allclose(future.result(timeout=60).values, VALUES + number)
    assert job.emulator.orders == DAYS


@pytest.mark.slow
def test_all_tokens_expire_at_once(stacks: Any, workers: Workers) -> None:
    """When the service drops all tokens, each worker logs in once more, and no task fails."""
    job = Job(stacks, width=WIDE, rate_bytes_per_second=RATE, preparation_seconds=0.3)
    future = workers.client.compute(job.mean)
    wait_until(lambda: job.emulator.orders >= 4)
    before = job.emulator.logins

    job.emulator.expire_tokens(refresh=True)

    np.testing.assert_allclose(future.result(timeout=60).values, VALUES)
    assert (job.emulator.orders, job.emulator.order_posts) == (DAYS, DAYS)
    assert 1 <= job.emulator.logins - before <= 3


@pytest.mark.slow
def test_a_cancelled_compute_ends(stacks: Any, workers: Workers) -> None:
    """What waits for orders when its futures are cancelled gives back the worker at once."""
    job = Job(stacks)
    before = polls(job.emulator)
    # From now on: the template had to be had.
    job.emulator._broker.delivery.orders._preparation_seconds = 600.0
    future = workers.client.compute(job.mean)
    wait_until(lambda: polls(job.emulator) > before)

    future.cancel()

    began = time.monotonic()
    assert workers.client.submit(sum, [1, 2], pure=False).result(timeout=100) == 3
    assert time.monotonic() - began < 60  # and the orders take ten minutes
