"""A cache of a team: what one account makes, and what another may do with it.

Ann and Bob are two accounts in one group. Only root can be both, so most of this is skipped for
others; what can be shown without is in ``test_promise_neighbours.py``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import plants
import pytest
from cached_products import accept
from plants import ANN, BOB, TEAM, account

from hda_fsspec.cache import partial_writers
from hda_fsspec.cache.cache import Cache
from hda_fsspec.cache.locks import FileLocks
from hda_fsspec.cache.metadata import JsonStore, MetadataStore
from hda_fsspec.cache.product_lengths import KnownSizes
from hda_fsspec.reading.archives import list_members
from hda_fsspec.reading.unpacking import unpack
from hda_fsspec.records import Product

PRODUCT = Product("EO:TEST:DAT", "p1")
STEM = f"{PRODUCT.key}.{PRODUCT.version_tag}"


@pytest.fixture
def root() -> Iterator[Path]:
    """Return the folder of a team, which both accounts can reach."""
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    above = Path(tempfile.mkdtemp(dir="/tmp"))
    above.chmod(0o755)
    # Python reads some modules when they are first needed, which others may have no right to.
    _half(above / "warm", b"half")
    _put(above / "warm")
    folder = above / "team"
    folder.mkdir()
    os.chown(folder, ANN, TEAM)
    folder.chmod(0o2770)
    yield folder
    shutil.rmtree(above)


def _put(root: Path, data: bytes = b"data") -> Path:
    with Cache(root, max_bytes=None).stage(PRODUCT) as staging:
        with staging.open() as handle:
            handle.write(data)
        return staging.publish("p1.nc", check=accept).path


def _half(root: Path, data: bytes) -> Path:
    """Leave half of the product, and return the folder that holds it."""
    with Cache(root, max_bytes=None).stage(PRODUCT) as staging:
        with staging.open() as handle:
            handle.write(data)
        staging.remember(total=8)
    (place,) = (root / "v1" / "partial").glob(f"{STEM}.*")
    return place


def _of(user: int, root: Path) -> dict[Path, tuple[int, ...]]:
    """Return owner, group, mode and number of all that belongs to a user."""
    found = {path: path.lstat() for path in root.rglob("*")}
    return {
        path: (facts.st_uid, facts.st_gid, facts.st_mode, facts.st_ino)
        for path, facts in found.items()
        if facts.st_uid == user
    }


def test_a_published_product_serves_all(root: Path) -> None:
    """What Ann published Bob reads, verifies and evicts; he changes neither owner nor mode."""
    with account(ANN):
        path = _put(root)
    before = _of(ANN, root)
    with account(BOB):
        cache = Cache(root, max_bytes=None)
        entry = cache.lookup(PRODUCT)
        assert entry is not None
        with entry.open() as handle:
            assert handle.read() == b"data"
        assert [fault for _, fault in cache.verify(accept)] == [None]
        assert {k: v for k, v in _of(ANN, root).items() if k.name != "record.json"} == {
            k: v for k, v in before.items() if k.name != "record.json"
        }
        assert cache.remove(PRODUCT) > 0
    assert not path.exists()


def test_a_partial_of_another_user_is_copied(root: Path) -> None:
    """Bob goes on with what Ann's held, in a file of his own, into which she cannot write on."""
    with account(ANN):
        place = _half(root, b"half")
        # She is only suspended: her file is still open.
        suspended = (place / ".data").open("r+b")
    with account(BOB):
        cache = Cache(root, max_bytes=None)
        with cache.stage(PRODUCT) as staging:
            assert staging.path.read_bytes() == b"half"
            assert staging.facts == {"total": 8}
            assert staging.path.stat().st_uid == BOB
            assert staging.path.parent.stat().st_uid == BOB
            suspended.seek(0)
            suspended.write(b"HALF and more")
            suspended.flush()
            with staging.open() as handle:
                handle.write(b"done")
            entry = staging.publish("p1.nc", check=accept, expected_bytes=8)
        assert entry.path.read_bytes() == b"halfdone"
    suspended.close()


def test_a_partial_that_is_alive_is_left_alone(root: Path) -> None:
    """As long as Ann writes, Bob begins by himself; what she has stays hers."""
    with account(ANN):
        theirs = Cache(root, max_bytes=None).stage(PRODUCT)
        with theirs.open() as handle:
            handle.write(b"half")
    before = _of(ANN, root / "v1" / "partial")
    with account(BOB), Cache(root, max_bytes=None).stage(PRODUCT) as staging:
        assert staging.offset == 0
    assert _of(ANN, root / "v1" / "partial") == before


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["holes", "private", "second name", "own folder, foreign file"])
def test_partials_that_are_not_copied(shape: str, root: Path) -> None:
    """One of holes would fill the disk, a private one cannot be read, a second name may be a theft.

    A foreign file in a folder of one's own is copied like any other.
    """
    with account(ANN):
        place = _half(root, b"half")
    data = place / ".data"
    if shape == "holes":
        os.truncate(data, 1 << 30)
    elif shape == "private":
        place.chmod(0o700)
    elif shape == "second name":
        os.link(data, root / "other")
    else:
        os.chown(place, BOB, TEAM)
    with account(BOB), Cache(root, max_bytes=None).stage(PRODUCT) as staging:
        assert staging.offset == (4 if "foreign" in shape else 0)
        assert staging.path.stat().st_uid == BOB
        assert staging.path.stat().st_nlink == 1


def test_a_partial_is_not_taken_in_place_by_its_folder_alone(root: Path) -> None:
    """A folder of Ann's with a file of Bob's own in it is hers: he does not write there."""
    with account(BOB):
        _half(root, b"half")
    (mine,) = (root / "v1" / "partial").glob(f"{STEM}.*")
    theirs = mine.with_name(f"{STEM}.{partial_writers.new_released()}")
    with account(ANN):
        theirs.mkdir()
        theirs.chmod(0o2770)
    (mine / ".data").rename(theirs / ".data")
    plants.remove(mine)
    number = (theirs / ".data").stat().st_ino
    with account(BOB), Cache(root, max_bytes=None).stage(PRODUCT) as staging:
        assert staging.path.read_bytes() == b"half"
        assert staging.path.stat().st_ino != number
        assert staging.path.parent.stat().st_uid == BOB


def test_folders_of_others_keep_their_modes(root: Path) -> None:
    """A folder of the layout that Ann made, with whatever mode, is used as it is."""
    with account(ANN):
        (root / "v1").mkdir()
        (root / "v1" / "products").mkdir()
        (root / "v1" / "partial").mkdir()
    for path in (root / "v1", root / "v1" / "products", root / "v1" / "partial"):
        path.chmod(0o2775)
    before = _of(ANN, root)
    with account(BOB):
        _put(root)
    assert _of(ANN, root) == before


def test_lengths_of_others_count_and_are_not_written_to(root: Path) -> None:
    """Each account appends to a file of its own, and reads those of all."""
    other = Product("EO:TEST:DAT", "p2")
    with account(ANN):
        KnownSizes(root).record(PRODUCT, 7)
    (file,) = (root / "v1" / "lengths").rglob("*.tsv")
    before = plants.state_of(file.parent)[file.name]
    with account(BOB):
        lengths = KnownSizes(root)
        assert lengths.length_of(PRODUCT) == 7
        lengths.record(other, 8)
        assert KnownSizes(root).sizes_of([PRODUCT, other]) == [7, 8]
    assert plants.state_of(file.parent)[file.name] == before
    assert len(list((root / "v1" / "lengths").rglob("*.tsv"))) == 2
    with account(ANN):
        assert KnownSizes(root).length_of(other) == 8


def test_notes_are_shared_and_replaced_whole(root: Path) -> None:
    """Orders, listings and headers of Ann are read by Bob; what he keeps is a file of his."""
    with account(ANN):
        MetadataStore(root).put_header(PRODUCT, b"hers")
    with account(BOB):
        notes = MetadataStore(root)
        assert notes.header(PRODUCT) == b"hers"
        notes.put_header(PRODUCT, b"his")
    (file,) = (root / "v1" / "headers").rglob("*.note")
    assert (file.stat().st_uid, file.read_bytes()) == (BOB, b"his")


def test_copies_are_believed_of_oneself_alone(root: Path) -> None:
    """What Ann notes of files outside of the cache says nothing to Bob about his files."""
    with account(ANN):
        JsonStore(root, "copies", is_own=True).put("/home/bob/x.nc", {"product": 1})
        assert JsonStore(root, "copies", is_own=True).get("/home/bob/x.nc") == {"product": 1}
    with account(BOB):
        shelf = JsonStore(root, "copies", is_own=True)
        assert shelf.get("/home/bob/x.nc") is None
        shelf.put("/home/bob/x.nc", 2)
        assert shelf.get("/home/bob/x.nc") == 2


@pytest.mark.slow
def test_locks_exclude_across_accounts(root: Path) -> None:
    """A lock or a slot that Ann took Bob does not get, and the file stays as she made it."""
    with account(ANN):
        lock = FileLocks(root).acquire("a")
        assert lock is not None
        slot = FileLocks(root).acquire_slot("orders", range(1))
        assert slot is not None
    before = _of(ANN, root)
    with account(BOB):
        # In a process that holds none, as it would be his.
        code = _in_a_child(root)
    assert code == 0
    assert _of(ANN, root) == before
    lock.release()
    slot.release()


def _in_a_child(root: Path) -> int:
    """Return 0 if another process gets neither the lock nor the slot."""
    pid = os.fork()
    if pid == 0:
        locks = FileLocks(root)
        got = [locks.acquire("a"), locks.acquire_slot("orders", range(1))]
        os._exit(0 if got == [None, None] else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_what_others_unpacked_is_not_read(root: Path) -> None:
    """Members of an archive are unpacked by each account for itself."""
    archive = root / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.nc", b"CDF\x01" + bytes(100))
    archive.chmod(0o644)
    (member,) = list_members(archive)
    with account(ANN):
        hers = unpack(archive, member, root / ".scratch")
        hers.write_bytes(b"CDF\x01" + b"\x01" * 100)
        hers.chmod(0o660)
    with account(BOB):
        his = unpack(archive, member, root / ".scratch")
        assert his != hers
        assert his.read_bytes() == b"CDF\x01" + bytes(100)
    forged = his.with_name("forged")
    forged.write_bytes(b"CDF\x01" + b"\x01" * 100)
    os.chown(forged, ANN, TEAM)
    forged.replace(his)
    # A file of hers in a folder of his is hers all the same.
    with account(BOB):
        again = unpack(archive, member, root / ".scratch")
        assert again.read_bytes() == b"CDF\x01" + bytes(100)
        assert again.stat().st_uid == BOB
