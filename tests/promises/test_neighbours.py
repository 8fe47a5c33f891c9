"""Promise: in a cache that others may write to, nothing of theirs is followed or written through.

Each name that a working cache has is replaced, one at a time, by what a neighbour may plant there.
Everything that uses a cache must then work, or say in a typed error what is in its way; it must end
at once; and nothing outside of the cache may change.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plants
import pytest
import xarray as xr
from plants import Victim

from hda_fsspec.cache import partial_writers
from hda_fsspec.cache.cache import Cache
from hda_fsspec.cli import main
from hda_fsspec.client import close_clients
from hda_fsspec.emulator import dated_product
from hda_fsspec.errors import HDAError
from hda_fsspec.fs.filesystem import HDAFileSystem
from hda_fsspec.paths.locations import Location
from hda_fsspec.records import Product
from hda_fsspec.untrusted_files import UntrustedFileError

ARCHIVE = "sst_20240502.zip"
ARRAY = xr.Dataset({"v": ("x", np.arange(5.0))}, coords={"x": np.arange(5)})


class Team:
    """A cache of a team with everything in it that this package keeps, and a service."""

    def __init__(self, bench: Any, folder: Path) -> None:
        self.bench = bench
        self.root: Path = bench.cache_dir
        self.victim = Victim(folder / "victim")
        self.outside = folder / "out"
        inside = folder / "inside.nc"
        ARRAY.to_netcdf(inside, engine="netcdf4")
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w") as archive:
            archive.writestr("a.nc", inside.read_bytes())
        self.archive = body.getvalue()
        products = [
            dated_product(bench.product_id(1), bench.body(1)),
            dated_product(ARCHIVE, self.archive),
        ]
        self.emulator = bench.start(products=products, polls=0, quota=100_000)
        self.root.mkdir()
        self.root.chmod(0o2770)
        self.work()
        self.partial = self.leave_partial()
        close_clients()
        self._kept = folder / "kept"
        shutil.copytree(self.root, self._kept)
        for each, _, _ in os.walk(self._kept):
            Path(each).chmod(0o2770)

    def filesystem(self) -> HDAFileSystem:
        """Return a filesystem of a process that remembers nothing."""
        close_clients()
        HDAFileSystem.clear_instance_cache()
        fs: HDAFileSystem = self.bench.filesystem(self.emulator, cache_dir=self.root)
        return fs

    @property
    def paths(self) -> tuple[str, str]:
        """The two products."""
        return self.bench.path(1), f"{self.bench.query}/{ARCHIVE}"

    def work(self) -> None:
        """Use the cache in every way that reads or writes it."""
        fs = self.filesystem()
        bodies = (self.bench.body(1), self.archive)
        assert len(fs.ls(self.bench.query)) == 2
        assert tuple(fs.cat(path) for path in self.paths) == bodies
        with fs.open(self.paths[0]) as handle:
            assert handle.read() == bodies[0]
        fs.du(self.bench.query)
        options = self.bench.settings(self.emulator, cache_dir=self.root)
        with xr.open_dataset(self.paths[1], engine="hda", storage_options=options) as ds:
            np.testing.assert_array_equal(ds["v"].values, ARRAY["v"].values)
        copies = fs.download(self.bench.query, self.outside, skip_existing=True)
        assert sorted(Path(each).read_bytes() for each in copies) == sorted(bodies)

    def leave_partial(self) -> Path:
        """Leave half of another product, whose writer is gone."""
        cache = Cache(self.root, max_bytes=None)
        with cache.stage(self.unfinished) as staging:
            with staging.open() as handle:
                handle.write(b"half")
            staging.remember(total=8)
        return next((self.root / "v1" / "partial").iterdir())

    unfinished = Product("EO:TEST:DAT:DAILY", "unfinished.nc")

    def finish(self) -> None:
        """Finish that other product."""
        cache = Cache(self.root, max_bytes=None)
        with cache.stage(self.unfinished) as staging:
            held = staging.offset
            with staging.open() as handle:
                handle.write(b"halfdone"[held:])
            entry = staging.publish("unfinished.nc", check=lambda path: None, expected_bytes=8)
        with entry.open() as opened:
            assert opened.read() == b"halfdone"

    def look_after(self) -> None:
        """Do what the commands for the cache do."""
        words = ["--cache-dir", str(self.root)]
        for verb in (["ls"], ["du"], ["verify"], ["prune"], ["clear", "--yes"]):
            assert main(["cache", *verb, *words]) in {0, 1}

    def again(self) -> None:
        """Put everything in the cache back."""
        # Several hundred times: a tenth of what Python's own functions take.
        subprocess.run(["rm", "-rf", self.root, self.outside], check=True)
        subprocess.run(["cp", "-a", self._kept, self.root], check=True)

    def names(self) -> list[str]:
        """Return a path of each kind in the cache, folders and files."""
        found = (str(path.relative_to(self._kept)) for path in self._kept.rglob("*"))
        # Hashes and numbers tell two products apart, and not what is done with them.
        kinds = {re.sub(r"[0-9a-f]{2,}|\d+", "#", name): name for name in sorted(found)}
        return sorted(name for name in kinds.values() if (self._kept / name).exists())


@pytest.fixture(scope="module")
def shared_team(
    make_stacks: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Team]:
    """Make a cache of a team, and serve its products."""
    folder = tmp_path_factory.mktemp("team")
    bench = make_stacks(folder).bench
    yield Team(bench, folder)
    bench.close()


@pytest.fixture
def team(shared_team: Team, tmp_path: Path) -> Iterator[Team]:
    """Return the cache of a team as it was at first, with a victim and a target of this test."""
    shared_team.victim = Victim(tmp_path / "victim")
    shared_team.outside = tmp_path / "out"
    shared_team.again()
    yield shared_team
    close_clients()
    HDAFileSystem.clear_instance_cache()


@pytest.fixture
def new_team(bench: Any, tmp_path: Path) -> Iterator[Team]:
    """Make a cache of a team at a place of which nothing was told yet."""
    yield Team(bench, tmp_path)
    close_clients()
    HDAFileSystem.clear_instance_cache()


def _attempt(act: Callable[[], None]) -> HDAError | None:
    """Do something, and return the typed error that it ended with."""
    try:
        act()
    except HDAError as err:
        return err
    return None


def in_turns(plants: list[str]) -> list[tuple[str, bool]]:
    """Return plants, the first one both with True and with False, and all others in turn."""
    return [(plants[0], False), *((each, n % 2 == 0) for n, each in enumerate(plants))]


LINKS = ["link to a file", "link to a folder", "link to nothing", "link to itself"]
SPECIAL = ["FIFO", "socket", "device"]
SORTS = ["link", "special", "file", "folder"]


def test_each_plant_is_of_one_sort() -> None:
    """What is planted is a link, a special file, a file or a folder."""
    assert {*LINKS, *SPECIAL, "file", "folder"} == set(plants.PLANTS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("shift", "sort"), [*enumerate([LINKS, SPECIAL, ["file"], ["folder"]])], ids=SORTS
)
def test_whatever_is_planted_under_any_name(shift: int, sort: list[str], team: Team) -> None:
    """All works or ends in a typed error, at once, and nothing outside is read, made or changed."""
    names = team.names()
    kinds = {name.split("/")[1] for name in names if "/" in name}
    assert kinds >= {"products", "partial", "locks", "orders", "listings", "lengths", "quota"}
    assert kinds >= {"copies"}
    acts = (team.work, team.finish, team.look_after)
    failed = {}
    for n, name in enumerate(names):
        # Of links one for each name, of the other sorts one of them, and an act for that: the
        # fuzzer makes all triples.
        if shift and n % 3 != shift - 1:
            continue
        plant = sort[n // 3 % len(sort)] if shift else sort[n % len(sort)]
        if plant == "file" and name.endswith("/.data"):
            continue  # whether bytes are those of the product is for the transfer to find out
        act = acts[(n // (3 if shift else len(sort)) + shift) % 3]
        team.again()
        plants.put(plant, team.root / name, team.victim)
        error = _attempt(act)
        team.victim.check()
        if error is not None:
            failed[name] = error
    for name, error in failed.items():
        # What is in the way is named; only folders of the layout cannot be gone round.
        assert isinstance(error, UntrustedFileError), (name, error)
        assert error.path == str(team.root / name)
        assert stat.S_ISDIR((team._kept / name).lstat().st_mode), name


@pytest.mark.slow
@pytest.mark.parametrize("plant", plants.PLANTS)
def test_what_is_planted_beside_the_bytes_of_a_partial(plant: str, team: Team) -> None:
    """An abandoned partial with anything in it is taken up without it, or not at all."""
    names = (".data", ".facts.json", ".copy", "unfinished.nc", "record.json", "x")
    turn = list(plants.PLANTS).index(plant) % 2
    for name in (*names[:2], *names[2 + turn :: 2]):  # those that are read, and some of the others
        if (plant, name) == ("file", ".data"):
            continue  # whether bytes are those of the product is for the transfer to find out
        team.again()
        plants.put(plant, team.root / team.partial.relative_to(team.root) / name, team.victim)

        team.finish()

        team.victim.check()


@pytest.mark.slow
@pytest.mark.parametrize("plant", plants.PLANTS)
def test_what_is_planted_under_a_partials_name(plant: str, bench: Any, tmp_path: Path) -> None:
    """What looks like an abandoned partial, and is none, is neither filled nor followed."""
    victim = Victim(tmp_path / "victim")
    bench.cache_dir.mkdir()
    bench.cache_dir.chmod(0o2770)
    emulator = bench.start(1)
    fs = bench.filesystem(emulator)
    (product,) = fs._client.search(Location.parse(bench.query))
    stem = f"{product.key}.{product.version_tag}"
    partial = bench.cache_dir / "v1" / "partial"
    partial.mkdir(exist_ok=True)
    plants.put(plant, partial / f"{stem}.{partial_writers.new_released()}", victim)

    assert fs.cat(bench.path(1)) == bench.body(1)

    victim.check()


def test_a_hard_link_is_never_written_to(team: Team) -> None:
    """A partial that is a second name of a private file gives nothing, and takes nothing."""
    data = team.root / team.partial.relative_to(team.root) / ".data"
    data.unlink()
    os.link(team.victim.file, data)
    before = plants.state_of(team.victim.folder)

    team.finish()

    plants.remove(team.root)
    assert team.victim.file.stat().st_nlink == 1
    assert plants.state_of(team.victim.folder) != before  # the number of names alone
    team.victim.check()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:du of")
def test_lengths_are_not_appended_to_a_hard_link(team: Team) -> None:
    """A file of lengths that has another name is not written to; the job goes on."""
    (file,) = (team.root / "v1" / "lengths").rglob("*.tsv")
    file.unlink()
    os.link(team.victim.file, file)

    team.work()
    team.finish()

    plants.remove(team.root)
    team.victim.check()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "is_remembered"),
    in_turns([each for each in plants.PLANTS if each != "file"]),
)
def test_a_product_that_is_replaced(
    plant: str, is_remembered: bool, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of the file of a product nothing is read but what is fetched anew."""
    fs = team.filesystem()
    path = team.paths[0]
    local = Path(fs.prefetch(path)[0])
    plants.put(plant, local, team.victim)
    if not is_remembered:
        fs = team.filesystem()

    for _ in range(2):
        assert fs.cat(path) == team.bench.body(1)
        with fs.open(path) as handle:
            assert handle.read() == team.bench.body(1)
        assert Path(fs.prefetch(path)[0]).read_bytes() == team.bench.body(1)
    team.victim.check()


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "is_member"), in_turns(list(plants.PLANTS)))
def test_lazy_data_whose_file_is_replaced(plant: str, is_member: bool, team: Team) -> None:
    """Data that are open read what is fetched or unpacked anew, and nothing that was planted."""
    team.filesystem()
    options = team.bench.settings(team.emulator, cache_dir=team.root)
    with xr.open_dataset(team.paths[1], engine="hda", storage_options=options) as ds:
        (entry,) = (each for each in Cache(team.root).entries() if each.path.suffix == ".zip")
        (member,) = entry.folder.glob(".scratch/**/a.nc")
        close_clients()
        plants.put(plant, member if is_member else entry.path, team.victim)

        np.testing.assert_array_equal(ds["v"].values, ARRAY["v"].values)

    team.victim.check()


def test_a_file_is_opened_only_if_it_is_the_one_that_was_found(team: Team) -> None:
    """Between the look and the opening a neighbour has time to put another file there."""
    (entry,) = (each for each in Cache(team.root).entries() if each.path.suffix == ".zip")
    copy = entry.path.with_name("copy")
    shutil.copy2(entry.path, copy)
    with entry.open() as handle:
        assert handle.read() == team.archive
    for plant in ("link to a file", "FIFO"):
        plants.put(plant, entry.path, team.victim)
        with pytest.raises(OSError, match="neither followed nor opened"):
            entry.open()
    entry.path.unlink()
    copy.rename(entry.path)

    with pytest.raises(FileNotFoundError, match="replaced"):
        entry.open()


@pytest.mark.slow
@pytest.mark.parametrize("plant", [each for each in plants.PLANTS if each != "file"])
def test_a_writer_whose_folder_is_replaced(plant: str, team: Team) -> None:
    """What is put in place of a folder that is being written is not written to."""
    cache = Cache(team.root, max_bytes=None)
    staging = cache.stage(Product("EO:TEST:DAT:DAILY", "new.nc"))
    # Not deleted: a new folder could have its number.
    staging.path.parent.rename(team.root / "away")
    plants.put(plant, staging.path.parent, team.victim)

    acts: list[Callable[[], object]] = [
        staging.open,
        staging.restart,
        lambda: staging.remember(etag="x"),
        lambda: staging.publish("new.nc", check=lambda path: None),
    ]
    for act in acts:
        with pytest.raises(OSError, match=r"disappeared|not a folder"):
            act()
    staging.release()
    team.victim.check()


@pytest.mark.slow
@pytest.mark.parametrize("plant", plants.PLANTS)
def test_a_writer_whose_file_is_replaced(plant: str, team: Team) -> None:
    """What is put in place of a file that is being written is neither written to nor published."""
    cache = Cache(team.root, max_bytes=None)
    product = Product("EO:TEST:DAT:DAILY", "new.nc")
    with cache.stage(product) as staging:
        with staging.open() as handle:
            handle.write(b"{}")
        plants.put(plant, staging.path, team.victim)
        if plant == "file":
            os.link(staging.path, team.root / "second name")
        for act in (staging.open, staging.restart, lambda: staging.publish("new.nc")):
            with pytest.raises(OSError, match="disappeared"):
                act()

    assert cache.lookup(product) is None
    team.victim.check()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["record.json", "new.nc"])
@pytest.mark.parametrize("plant", plants.PLANTS)
def test_what_is_planted_before_the_last_step(plant: str, name: str, team: Team) -> None:
    """While a file is checked, a neighbour may put something beside or in place of it."""
    cache = Cache(team.root, max_bytes=None)
    product = Product("EO:TEST:DAT:DAILY", "new.nc")

    def check(path: Path) -> None:
        plants.put(plant, path.with_name(name), team.victim)

    with cache.stage(product) as staging:
        with staging.open() as handle:
            handle.write(b"content")
        if name == "record.json":
            entry = staging.publish("new.nc", check=check)
            assert entry.path.read_bytes() == b"content"
            assert stat.S_ISREG((entry.folder / name).lstat().st_mode)
        else:
            with pytest.raises(OSError, match="disappeared"):
                staging.publish("new.nc", check=check)
    team.victim.check()


def test_what_was_met_is_told_once(new_team: Team, caplog: pytest.LogCaptureFixture) -> None:
    """A FIFO in place of a record counts as no record; the log names it, and how to remove it."""
    (record,) = (new_team.root / "v1" / "products").rglob("*.zip")
    record = record.with_name("record.json")
    plants.put("FIFO", record, new_team.victim)

    for _ in range(3):
        assert len(list(Cache(new_team.root).entries())) == 1

    (told,) = (each for each in caplog.records if each.levelname == "WARNING")
    assert f"`rm -r {record}`" in told.getMessage()
    assert "counts as not there" in told.getMessage()


def test_an_order_is_not_wasted(bench: Any, tmp_path: Path) -> None:
    """Where a product could not be kept, this is said before it is ordered."""
    bench.cache_dir.mkdir()
    emulator = bench.start(1)
    fs = bench.filesystem(emulator)
    fs.ls(bench.query)
    plants.put("link to a folder", bench.cache_dir / "v1" / "products", Victim(tmp_path / "v"))

    with pytest.raises(UntrustedFileError, match="products is a link and not a folder"):
        fs.cat(bench.path(1))
    assert emulator.order_posts == 0


@pytest.mark.slow
def test_locks_that_are_none_are_told(new_team: Team, caplog: pytest.LogCaptureFixture) -> None:
    """What lies in place of a lock is left alone: work may be done twice, which is told."""
    for lock in (new_team.root / "v1" / "locks").iterdir():
        plants.put("link to a file", lock, new_team.victim)

    new_team.work()
    new_team.finish()
    plants.remove(new_team.root / "v1" / "products")
    new_team.work()

    assert "cannot lock files" in caplog.text
    new_team.victim.check()
