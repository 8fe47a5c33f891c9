"""A second cache that machines without a common disk share: it saves orders, and costs no truth."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import fsspec
import numpy as np
import pytest
import xarray as xr
from fsspec.implementations.memory import MemoryFileSystem
from rows import for_each
from shared_caches import SECRET, Team, Vault, run, warnings_in

from hda_fsspec import HDAFileSystem
from hda_fsspec.cli import main
from hda_fsspec.errors import TermsNotAcceptedError
from hda_fsspec.fetching.shared_cache import SharedCache, SharedCopy


@pytest.fixture(autouse=True)
def _vault(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("vault", Vault, clobber=True)
    monkeypatch.setattr(Vault, "fails", staticmethod(lambda verb, path: None))


@pytest.fixture
def team(bench: Any) -> Team:
    """Machines that share a folder elsewhere."""
    return Team(bench, bench.start(days=3))


def test_what_one_machine_fetched_the_others_do_not_order(team: Team, bench: Any) -> None:
    """The second machine reads the same bytes under the delivered name, and orders nothing."""
    data = team.give()
    assert data == bench.body(1)
    assert team.emulator.order_posts == 1

    fs = team.machine("second")
    assert fs.cat_file(bench.path(1)) == data
    [local] = fs.prefetch([bench.path(1)])

    assert team.emulator.order_posts == 1
    assert Path(local).name == bench.product_id(1)
    found = team.files()
    record = json.loads(found["record"].read_bytes())
    assert record == {
        "name": bench.product_id(1),
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert found["data"].name == record["sha256"]
    assert found["data"].read_bytes() == data


def test_a_local_product_asks_nobody(team: Team, bench: Any, monkeypatch: Any) -> None:
    """The cache folder comes first: with the product there the shared cache is not touched."""
    team.give()
    touched: list[str] = []
    monkeypatch.setattr(Vault, "fails", staticmethod(lambda verb, path: touched.append(path)))

    team.machine("first").cat_file(bench.path(1))

    assert touched == []


def test_looking_and_offline_touch_it_never(team: Team, bench: Any, monkeypatch: Any) -> None:
    """Listings, plans and what is done offline leave the shared cache alone."""
    team.give()
    touched: list[str] = []
    monkeypatch.setattr(Vault, "fails", staticmethod(lambda verb, path: touched.append(path)))
    fs = team.machine("second")

    fs.ls(bench.query)
    fs.info(bench.path(1))
    offline = team.machine("second", offline=True)
    with pytest.raises(OSError, match="offline is set"):
        offline.cat_file(bench.path(1))

    assert touched == []
    assert team.emulator.order_posts == 1


@pytest.mark.slow
def test_lazy_data_come_from_it(stacks: Any, tmp_path: Path) -> None:
    """A series that one machine computed is computed by another with no order."""
    days = {
        f"sst_2024050{day}.nc": xr.Dataset(
            {"sst": (("time", "x"), [[day, 2.0 * day]])},
            coords={"time": [np.datetime64(f"2024-05-0{day}T12:00", "ns")]},
        )
        for day in (1, 2, 3)
    }
    stacks.serve(days)
    shared = {"shared_cache": str(tmp_path / "shared")}
    first = stacks.open(chunks={}, settings={**shared, "cache_dir": tmp_path / "a"}).load()
    stacks.bench.filesystem(
        stacks.emulator, **shared, cache_dir=tmp_path / "a"
    ).flush_shared_cache()
    assert stacks.emulator.order_posts == 3

    second = stacks.open(chunks={}, settings={**shared, "cache_dir": tmp_path / "b"}).load()

    xr.testing.assert_identical(first, second)
    assert stacks.emulator.order_posts == 3


def spoil_bytes(team: Team) -> None:
    """Change one byte of the data."""
    data = bytearray(team.files()["data"].read_bytes())
    data[100] ^= 1
    team.files()["data"].write_bytes(data)


def cut(team: Team) -> None:
    """Cut the data."""
    data = team.files()["data"]
    data.write_bytes(data.read_bytes()[:-1])


def lengthen(team: Team) -> None:
    """Write more than the record tells of."""
    with team.files()["data"].open("ab") as handle:
        handle.write(bytes(5_000_000))


def empty(team: Team) -> None:
    """Leave an empty file."""
    team.files()["data"].write_bytes(b"")


def another_format(team: Team) -> None:
    """Put a file there that is whole, and no netCDF as its name says."""
    replace(team, b"<html>no data</html>")


def damaged(team: Team) -> None:
    """Put a cut file there with a record that tells of it."""
    replace(team, b"\x89HDF\r\n\x1a\n" + bytes(20))


def replace(team: Team, data: bytes) -> None:
    """Put other bytes there, with their record."""
    files = team.files()
    sha256 = hashlib.sha256(data).hexdigest()
    record = json.loads(files["record"].read_bytes())
    files["record"].write_text(json.dumps(record | {"size": len(data), "sha256": sha256}))
    files["data"].with_name(sha256).write_bytes(data)


def promise_too_much(team: Team) -> None:
    """Let the record tell of more than any disk holds."""
    record = team.files()["record"]
    record.write_text(json.dumps(json.loads(record.read_bytes()) | {"size": 10**18}))


def link(team: Team) -> None:
    """Put a link to another file of the same bytes in the place of the data."""
    data = team.files()["data"]
    data.rename(team.place / "elsewhere")
    data.symlink_to(team.place / "elsewhere")


def no_data(team: Team) -> None:
    """Take the data away."""
    team.files()["data"].unlink()


@pytest.mark.slow
@for_each(
    ("spoil",),
    [(spoil_bytes,), (cut,), (lengthen,), (empty,), (another_format,), (damaged,), (no_data,)],
)
def test_a_copy_that_is_damaged_is_ordered(
    spoil: Callable[[Team], None],
    bench: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Length, checksum and the checks of a download decide; the log says why it is ordered."""
    caplog.clear()
    team = Team(bench, bench.start(days=1), tmp_path)
    data = team.give()
    spoil(team)

    fs = team.machine("second")
    assert fs.cat_file(bench.path(1)) == data
    fs.flush_shared_cache()

    assert team.emulator.order_posts == 2
    [told] = warnings_in(caplog)
    assert "is damaged" in told
    # The one that was ordered has taken its place.
    assert team.machine("third").cat_file(bench.path(1)) == data
    assert team.emulator.order_posts == 2


def record_of(**changed: Any) -> bytes:
    """Return a record in which something is odd."""
    right = {"name": "a.nc", "size": 3, "sha256": "0" * 64}
    return json.dumps(right | changed).encode()


NO_RECORDS = [
    b"",
    b"\xff\xfe",
    b"[1]",
    b"null",
    b"[" * 9000,
    record_of(size="3"),
    record_of(size=-1),
    record_of(size=True),
    record_of(size=1e300),
    record_of(name=None),
    record_of(sha256="../../../../etc/passwd"),
    record_of(sha256="0" * 63),
    record_of(sha256=f"{'0' * 64}\n"),
    record_of(sha256=5),
    record_of(name="a" * 20_000),
]


@pytest.mark.slow
def test_what_is_no_record_counts_as_none(bench: Any) -> None:
    """Whatever lies there in the place of a record, the product is ordered."""
    count = len(NO_RECORDS)
    team = Team(bench, bench.start(days=count))
    first = team.machine("first")
    first.prefetch(bench.query)
    first.flush_shared_cache()
    places = sorted(team.folder.rglob("record.json"))
    for place, record in zip(places, NO_RECORDS, strict=True):
        place.write_bytes(record)

    got = team.machine("second").cat(f"{bench.query}/*")

    assert list(got.values()) == [bench.body(day) for day in range(1, count + 1)]
    assert team.emulator.order_posts == 2 * count


def test_a_name_in_a_record_leads_nowhere(team: Team, bench: Any, tmp_path: Path) -> None:
    """A record's name is made safe as a delivered one is."""
    data = team.give()
    record = team.files()["record"]
    record.write_text(json.dumps(json.loads(record.read_bytes()) | {"name": "../../../x.nc"}))

    [local] = team.machine("second").prefetch([bench.path(1)])

    assert Path(local).read_bytes() == data
    assert Path(local).name == "x.nc"
    assert tmp_path / "second" in Path(local).parents


@for_each(("lies",), [("fifo",), ("folder",)])
def test_what_is_no_file_is_not_opened(lies: str, bench: Any, tmp_path: Path) -> None:
    """A FIFO in the place of a record is waited for by nobody; nor is a folder a fault."""
    team = Team(bench, bench.start(days=1), tmp_path)
    data = team.give()
    record = team.files()["record"]
    record.unlink()
    if lies == "fifo":
        os.mkfifo(record)
    else:
        record.mkdir()

    assert team.machine("second").cat_file(bench.path(1)) == data
    assert team.emulator.order_posts == 2


@pytest.mark.slow
@for_each(
    ("verb", "error"),
    [
        ("info", ConnectionError("nobody is there")),
        ("info", PermissionError("no right to look")),
        ("info", RuntimeError("an error of its own")),
        ("open", TimeoutError("too late")),
        ("put", PermissionError("no right to write")),
        ("put", OSError(28, "No space left on device")),
    ],
)
def test_a_shared_cache_that_is_away(
    verb: str,
    error: Exception,
    bench: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it is away or refuses there is one warning, and products are ordered as without it."""
    caplog.clear()
    team = Team(bench, bench.start(days=3), tmp_path)
    orders = 3
    if verb == "open":
        team.give(1)
        orders += 1
    failed: list[str] = []

    def fails(met: str, path: str) -> Exception | None:
        if met != verb:
            return None
        failed.append(path)
        return error

    monkeypatch.setattr(Vault, "fails", staticmethod(fails))
    fs = team.machine("second")

    for day in (1, 2, 3):
        assert fs.cat_file(bench.path(day)) == bench.body(day)
        fs.flush_shared_cache()

    assert team.emulator.order_posts == orders
    [told] = warnings_in(caplog)
    assert "shared_cache" in told
    assert SECRET not in told
    # What could not be read, or written, is left alone for a while.
    assert len(failed) == 1


def test_options_that_are_refused(team: Team, bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Wrong credentials are told once and cost nothing else."""
    team.give()
    fs = team.machine("second", shared_cache_options={"key": "wrong"})

    assert fs.cat_file(bench.path(1)) == bench.body(1)
    fs.flush_shared_cache()

    [told] = warnings_in(caplog)
    assert "PermissionError" in told
    assert team.emulator.order_posts == 2
    # Corrected in the same process, it works.
    assert team.machine("third").cat_file(bench.path(1)) == bench.body(1)
    assert team.emulator.order_posts == 2


def test_it_is_asked_again_after_a_while(
    team: Team, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was away is asked again a minute later, and twice as long after each failure."""
    team.give()
    now = [0.0]
    shared = SharedCache(team.url, {"key": SECRET}, timeout=30, clock=lambda: now[0])
    [product] = [p for p in products_of(team, bench) if p.product_id == bench.product_id(1)]
    monkeypatch.setattr(Vault, "fails", staticmethod(lambda verb, path: ConnectionError("away")))
    assert run(shared.find(product)) is None
    now[0] = 59.0
    assert run(shared.find(product)) is None
    now[0] = 60.0
    assert run(shared.find(product)) is None
    monkeypatch.setattr(Vault, "fails", staticmethod(lambda verb, path: None))
    now[0] = 179.0
    assert run(shared.find(product)) is None
    now[0] = 180.0
    found = run(shared.find(product))

    assert isinstance(found, SharedCopy)
    assert found.size == len(bench.body(1))


def products_of(team: Team, bench: Any) -> list[Any]:
    """Return the products of the query, as their listing has them."""
    return list(team.machine("first").query(bench.query))


def test_licences_come_first(bench: Any) -> None:
    """What a licence was not accepted for is not taken from there either."""
    term = "Copernicus_General_License"
    team = Team(bench, bench.start(days=1, entry={"terms": [term]}, accepted_terms=[term]))
    team.give()
    team.emulator._broker.licences.set(term, accepted=False)

    with pytest.raises(TermsNotAcceptedError):
        team.machine("second").cat_file(bench.path(1))


def test_another_version_is_another_product(bench: Any) -> None:
    """A product that the service replaced is ordered, and not taken from there as it was."""
    team = Team(bench, bench.start(days=1))
    team.give()
    team.emulator.republish(
        bench.dataset, bench.product_id(1), bench.body(2), updated="2024-06-02T00:00:00Z"
    )

    assert team.machine("second").cat_file(bench.path(1)) == bench.body(2)
    assert team.emulator.order_posts == 2


def test_an_evicted_product_is_put_there_or_not(
    team: Team, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cache of one product all are read, and what is there is whole."""
    size = len(bench.body(1))
    fs = team.machine("small", cache_max_bytes=size + 10_000)
    for day in (1, 2, 3):
        assert fs.cat_file(bench.path(day)) == bench.body(day)
    fs.flush_shared_cache()

    for record in team.folder.rglob("record.json"):
        told = json.loads(record.read_bytes())
        data = record.with_name(told["sha256"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == told["sha256"]
        assert len(data) == told["size"]
    other = team.machine("other")
    assert [other.cat_file(bench.path(day)) for day in (1, 2, 3)] == [
        bench.body(day) for day in (1, 2, 3)
    ]


def test_secrets_travel_nowhere(team: Team, bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Options are in no pickle, repr, token or message; the address is, without a user in it."""
    fs = team.machine("first")
    team.give()
    settings = fs.settings
    dataset = bench.query
    shown = [
        pickle.dumps(fs),
        pickle.dumps(settings),
        repr(settings).encode(),
        repr(fs).encode(),
        fs.to_json().encode(),
        str(dask.base.tokenize(fs)).encode(),
        str(fs.storage_options).encode(),
        dataset.encode(),
        *(file.read_bytes() for file in bench.folder.rglob("*") if file.is_file()),
    ]

    assert not any(SECRET.encode() in data for data in shown)
    again = pickle.loads(pickle.dumps(settings))
    assert again.shared_cache == team.url
    assert again.shared_cache_options == {}
    assert main(["doctor", "--offline"]) in {0, 1}
    assert SECRET not in capsys.readouterr().out


def test_object_stores_get_whole_objects(bench: Any) -> None:
    """Where objects appear whole, no other name is used."""
    team = Team(bench, bench.start(days=2))
    team.url = "memory://team/p"

    def machine(name: str) -> HDAFileSystem:
        return team.machine(name, shared_cache_options=None)

    fs = machine("a")
    assert fs.cat_file(bench.path(2)) == bench.body(2)
    fs.flush_shared_cache()
    assert machine("b").cat_file(bench.path(2)) == bench.body(2)

    assert team.emulator.order_posts == 1
    assert sorted(Path(path).name for path in MemoryFileSystem.store) == sorted(
        [hashlib.sha256(bench.body(2)).hexdigest(), "record.json"]
    )
