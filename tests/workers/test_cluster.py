"""One lazy data set on a cluster: equal values, one order a product, and errors that say where."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import pytest
import xarray as xr
from clusters import DAYS, VALUES, Job, Workers, cluster, read_and_meet
from dask.base import tokenize

import hda_fsspec
from hda_fsspec.errors import (
    AuthenticationError,
    ConfigurationError,
    ProductFunctionError,
    QuotaError,
)
from hda_fsspec.workers.pickling import PICKLE_FORMAT


@pytest.fixture(scope="module")
def shared_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Two workers of two threads, for all tests of this module."""
    with cluster({}, {}, home=tmp_path_factory.mktemp("workers"), threads=2) as client:
        yield Workers(client)


@pytest.fixture
def workers(shared_workers: Workers) -> Workers:
    """Two workers that know of no account."""
    shared_workers.forget()
    return shared_workers


@pytest.mark.slow
def test_a_shared_cache_folder(stacks: Any, workers: Workers) -> None:
    """Workers that share a cache folder fetch each product once, with credentials of their own."""
    job = Job(stacks, preparation_seconds=0.1)
    workers.set(job.account, job.account)

    np.testing.assert_allclose(job.compute(workers.client), VALUES)
    assert (job.emulator.orders, job.emulator.order_posts) == (DAYS, DAYS)
    assert job.emulator.downloads == DAYS
    assert job.emulator.logins == 3


@pytest.mark.slow
def test_a_cache_folder_for_each_worker(stacks: Any, workers: Workers, tmp_path: Path) -> None:
    """With a folder of its own a worker fetches each product once; no product is newly ordered."""
    folders = [tmp_path / "first", tmp_path / "second"]
    job = Job(stacks, settings={"cache_dir": None}, preparation_seconds=0.1)
    workers.set(*({**job.account, "HDA_CACHE_DIR": folder} for folder in folders))

    for number in range(2):
        future = workers.client.compute(job.mean + number, workers=[number])
        np.testing.assert_allclose(future.result(timeout=60).values, VALUES + number)

    held = [len(list(folder.rglob("*.nc"))) for folder in folders]
    assert held == [DAYS, DAYS]
    # The template was fetched where the data set was opened.
    assert job.emulator.downloads == 1 + 2 * DAYS
    assert job.emulator.orders == DAYS


@pytest.mark.slow
def test_a_task_takes_its_slot_again_when_it_has_waited(stacks: Any, workers: Workers) -> None:
    """Many wait for orders at one time; no more go on than the worker has threads."""
    job = Job(stacks)
    workers.set(job.account, job.account)
    lazy = stacks.open()["sst"]
    job.emulator.hold_orders(3)
    days = [lazy.isel(time=day) for day in range(DAYS)]

    met = workers.client.gather(workers.client.map(read_and_meet, days, workers=[0]))

    assert job.emulator.max_in_preparation > 2
    assert max(met) <= 2


@pytest.mark.slow
def test_tokens_are_those_of_other_processes(stacks: Any, workers: Workers) -> None:
    """The same query has the same deterministic token here and on a worker, and so has a pickle."""
    job = Job(stacks)
    workers.set(job.account, job.account)
    options = {name: stacks.options[name] for name in ("endpoint_url", "user", "cache_dir")}

    def token(query: str, options: dict[str, Any]) -> str:
        with dask.config.set({"tokenize.ensure-deterministic": True}):
            ds = xr.open_dataset(query, engine="hda", chunks={}, storage_options=options)
            return str(tokenize(ds))

    with dask.config.set({"tokenize.ensure-deterministic": True}):
        here = [tokenize(job.ds), tokenize(pickle.loads(pickle.dumps(job.ds)))]
    there = workers.client.submit(token, stacks.query, options).result(timeout=30)

    assert [*here, there] == [here[0]] * 3


@pytest.mark.slow
@pytest.mark.parametrize("is_in_rc", [False, True], ids=["environment", "rc file"])
def test_no_password(is_in_rc: bool, stacks: Any, workers: Workers, tmp_path: Path) -> None:
    """A worker without a password fails at once, and says what is missing, and where."""
    job = Job(stacks)
    rc = tmp_path / "rc"
    rc.write_text(f"user: {job.emulator.user}\npassword: {job.emulator.password}\n")
    nothing = {"HDA_RC": tmp_path / "nothing"}
    workers.set({"HDA_RC": rc} if is_in_rc else job.account, nothing)

    with pytest.raises(ConfigurationError, match="HDA_USER and HDA_PASSWORD") as caught:
        workers.client.compute(job.mean, workers=[1]).result(timeout=30)

    assert str(tmp_path / "nothing") in str(caught.value)
    assert "each Dask worker needs its own" in str(caught.value)
    (note,) = caught.value.__notes__
    assert "Dask worker 1 at tcp://127.0.0.1" in note
    np.testing.assert_allclose(
        workers.client.compute(job.mean + 1, workers=[0]).result(timeout=30).values, VALUES + 1
    )


@pytest.mark.slow
def test_a_wrong_password(stacks: Any, workers: Workers) -> None:
    """The refusal of a worker's password reaches the client as what it is."""
    job = Job(stacks)
    wrong = {**job.account, "HDA_PASSWORD": "a wrong one"}
    workers.set(wrong, wrong)

    with pytest.raises(AuthenticationError, match="Check user and password") as caught:
        job.compute(workers.client)

    assert "a wrong one" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"HDA_CACHE_DIR": "/proc/nowhere/cache"}, r"/proc/nowhere/cache cannot be made"),
        ({"HDA_CACHE_DIR": "/dev/null/cache"}, r"/dev/null/cache, which is not a folder"),
        ({"HDA_MAX_ORDERS": "many"}, r"'many' of setting 'max_orders' .*HDA_MAX_ORDERS"),
        ({"HDA_CACHE": "/tmp"}, None),
    ],
    ids=["cannot be made", "no folder", "no number", "unknown"],
)
def test_a_worker_with_bad_settings(
    variables: dict[str, str], said: str | None, stacks: Any, workers: Workers, tmp_path: Path
) -> None:
    """What is wrong with a worker's settings is told, with the variable; the worker lives on."""
    job = Job(stacks, settings={"cache_dir": None})
    good = {**job.account, "HDA_CACHE_DIR": tmp_path / "cache"}
    workers.set(good, {**good, **variables})
    pids = workers.pids()

    if said is None:
        np.testing.assert_allclose(job.compute(workers.client), VALUES)
    else:
        with pytest.raises(ConfigurationError, match=said) as caught:
            workers.client.compute(job.mean, workers=[1]).result(timeout=30)
        told = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
        assert "Dask worker 1 at tcp://127.0.0.1" in told

    assert workers.pids() == pids


@pytest.mark.slow
def test_a_relative_folder_is_that_of_the_client(stacks: Any, workers: Workers) -> None:
    """A relative cache folder, or one with a tilde, means what it meant where it was given."""
    folder = Path("~/some-cache").expanduser()
    job = Job(stacks, settings={"cache_dir": "~/some-cache"})
    workers.set(job.account, job.account)

    np.testing.assert_allclose(job.compute(workers.client), VALUES)

    assert len(list(folder.rglob("*.nc"))) == DAYS
    assert job.emulator.downloads == DAYS


def _become(state: int, version: str) -> None:
    """Run on a worker: be another version of the package."""
    from hda_fsspec.workers import pickling

    pickling.PICKLE_FORMAT = state
    vars(pickling)["__version__"] = version


@pytest.mark.slow
def test_a_worker_of_another_version(stacks: Any, workers: Workers) -> None:
    """A worker of another version names both versions, and lives on."""
    job = Job(stacks)
    workers.set(job.account, job.account)
    pids = workers.pids()
    workers.client.run(_become, 0, "0.0.9")
    try:
        with pytest.raises(ConfigurationError, match="Install one and the same version") as caught:
            job.compute(workers.client)
    finally:
        workers.client.run(_become, PICKLE_FORMAT, hda_fsspec.__version__)

    assert f"hda_fsspec {hda_fsspec.__version__} made this" in str(caught.value)
    assert "hda_fsspec 0.0.9 (state 0) cannot read it" in str(caught.value)
    assert "Dask worker" in str(caught.value)
    assert workers.pids() == pids
    # Under another name: Dask remembers that the former has failed, as long as it is referred to.
    again = workers.client.compute(job.mean + 1).result(timeout=30)
    np.testing.assert_allclose(again.values, VALUES + 1)


@pytest.mark.slow
def test_errors_arrive_whole(stacks: Any, workers: Workers) -> None:
    """An error of a worker arrives with its attributes, however often it is pickled."""
    job = Job(stacks, quota=2, quota_window_seconds=600.0)
    raising = {**job.account, "HDA_ON_QUOTA": "raise"}
    workers.set(raising, raising)

    with pytest.raises(QuotaError, match="try again then") as caught:
        job.compute(workers.client)

    again = pickle.loads(pickle.dumps(caught.value))
    assert again.reset_at == caught.value.reset_at is not None
    assert again.errno == caught.value.errno is not None
    assert again.__notes__ == caught.value.__notes__


class _Kept(logging.Handler):
    """Keeps what is logged on a worker."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _keep_log(level: int) -> None:
    logger = logging.getLogger("hda_fsspec")
    logger.setLevel(level)
    logger.addHandler(_Kept())


def _kept_log() -> list[str]:
    logger = logging.getLogger("hda_fsspec")
    kept = [handler for handler in logger.handlers if isinstance(handler, _Kept)]
    for handler in kept:
        logger.removeHandler(handler)
    return [text for handler in kept for text in handler.texts]


@pytest.mark.slow
def test_waiting_is_told_in_the_log_of_the_worker(stacks: Any, workers: Workers) -> None:
    """A worker that waits for the quota says so, with the time; no task fails for it."""
    job = Job(stacks, quota=3, quota_window_seconds=0.6)
    workers.set(job.account, job.account)
    workers.client.run(_keep_log, logging.INFO)

    np.testing.assert_allclose(job.compute(workers.client), VALUES)

    kept = [text for texts in workers.client.run(_kept_log).values() for text in texts]
    assert [text for text in kept if "quota is used up until" in text]
    assert job.emulator.orders == DAYS


@pytest.mark.slow
def test_no_secret_travels(stacks: Any, workers: Workers) -> None:
    """Password and tokens are in no graph, no task, no message and no log of a cluster."""
    job = Job(stacks, settings={"max_wait": 60.0}, token_seconds=2)
    workers.set(job.account, job.account)
    workers.client.run(_keep_log, logging.DEBUG)
    lazy = job.mean
    texts = [
        dumps(thing) for dumps in (pickle.dumps, cloudpickle.dumps) for thing in (job.ds, lazy)
    ]
    graph = dict(lazy.data.dask)
    texts += [cloudpickle.dumps(graph), repr(job.ds).encode()]

    future = workers.client.compute(lazy)
    future.result(timeout=60)
    scheduler = workers.client.cluster.scheduler
    for task in list(scheduler.tasks.values()):
        texts += [
            repr(task).encode(),
            cloudpickle.dumps(task.run_spec),
            repr(task.run_spec).encode(),
        ]
    job.emulator.expire_tokens(refresh=True)
    wrong = {**job.account, "HDA_PASSWORD": "another"}
    stacks.evict()
    workers.set(wrong, wrong)
    with pytest.raises(AuthenticationError) as caught:
        workers.client.compute(job.mean + 1).result(timeout=60)
    texts += [cloudpickle.dumps(caught.value), repr(caught.value).encode()]
    texts += [repr(workers.client.get_worker_logs()).encode()]
    texts += [repr(workers.client.get_scheduler_logs()).encode()]
    texts += [repr(workers.client.get_events()).encode(), repr(scheduler.transition_log).encode()]
    texts += [repr(workers.client.run(_kept_log)).encode()]

    secrets = [job.emulator.password, *job.emulator.tokens_issued]
    assert len(secrets) >= 7
    assert len(b"".join(texts)) > 20_000
    assert [secret for secret in secrets if any(secret.encode() in text for text in texts)] == []


@pytest.mark.slow
def test_open_mfdataset_sends_no_password(stacks: Any, workers: Workers) -> None:
    """The tasks of the classical way in parallel carry no password either."""
    job = Job(stacks)
    workers.set(job.account, job.account)
    seen: list[bytes] = []

    with workers.client.as_current():
        scheduler = workers.client.cluster.scheduler
        ds = hda_fsspec.open_mfdataset(
            stacks.query,
            storage_options=stacks.options,
            parallel=True,
            preprocess=lambda one: one.assign_attrs(pid=os.getpid()),
            combine="nested",
            concat_dim="time",
            combine_attrs="drop",
        )
        seen += [cloudpickle.dumps(task.run_spec) for task in list(scheduler.tasks.values())]
        np.testing.assert_allclose(ds["sst"].mean("x").values, VALUES)

    assert [job.emulator.password in text.decode("latin-1") for text in seen] == [False] * len(seen)


def fail(_: xr.Dataset) -> None:
    """Fail with an error that names no product."""
    raise KeyError("sst")


@pytest.mark.slow
def test_a_task_for_each_product(stacks: Any, workers: Workers) -> None:
    """Orders go out together, though few products are worked on at a time; each is one order."""
    job = Job(stacks)
    job.emulator.hold_orders(3)
    workers.set(job.account, job.account)
    tasks = hda_fsspec.map_products(
        stacks.query,
        lambda ds: ds[["sst"]].mean("x"),
        concat_dim="time",
        storage_options=stacks.options,
    )

    each = workers.client.gather(workers.client.compute(list(tasks)))
    whole = workers.client.compute(tasks).result(timeout=60)

    np.testing.assert_allclose([float(one.sst[0]) for one in each], VALUES)
    np.testing.assert_allclose(whole.sst.values, VALUES)
    assert (job.emulator.orders, job.emulator.order_posts) == (DAYS, DAYS)
    assert job.emulator.max_in_preparation > 2
    failing = hda_fsspec.map_products(stacks.query, fail, storage_options=stacks.options)
    with pytest.raises(ProductFunctionError, match=r"on the product sst_20240503\.nc: KeyError"):
        workers.client.compute(failing[2]).result(timeout=60)
