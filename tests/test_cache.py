"""The cache: what is in it is complete; it is bounded, private, and survives what disks do."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import resource
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hda_fsspec.cache import Cache, Entry
from hda_fsspec.entries import RECORD_NAME, product_key, safe_name, version_tag
from hda_fsspec.errors import ConfigurationError, DownloadError, ProductFormatError
from hda_fsspec.records import Product

_NOBODY = 65534


class _Clock:
    """A clock that is moved by hand."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def _accept(path: Path) -> None:
    """Find every file in order."""


def _product(name: str = "p1", **facts: object) -> Product:
    return dataclasses.replace(Product("EO:TEST:DAT", name), **facts)  # type: ignore[arg-type]


def _put(cache: Cache, record: Product, data: bytes = b"data", name: str = "file.nc") -> Entry:
    with cache.stage(record, expected_bytes=len(data)) as staging:
        staging.restart()
        with staging.open() as handle:
            handle.write(data)
        return staging.publish(name, check=_accept, expected_bytes=len(data))


def _receive(
    cache: Cache,
    data: bytes,
    *,
    check: Callable[[Path], object] | None = None,
    expected_bytes: int | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> Entry:
    """Receive bytes on top of what is held, with something that happens before they are whole."""
    with cache.stage(_product()) as staging:
        staging.remember(etag='"x"')
        with staging.open() as handle:
            handle.write(data)
        meanwhile()
        return staging.publish("x.nc", check=check or _accept, expected_bytes=expected_bytes)


def _leave_partial(cache: Cache, record: Product, data: bytes, **facts: object) -> None:
    with cache.stage(record) as staging:
        staging.remember(**facts)
        with staging.open() as handle:
            handle.write(data)


def _partials_in(cache: Cache) -> list[Path]:
    return sorted((cache.root / "v1" / "partial").iterdir())


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return a cache without bound."""
    return Cache(tmp_path / "cache", max_bytes=None)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Make a folder that other users can reach, which pytest's are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def _as_ordinary_user() -> Iterator[None]:
    """Drop root's powers for a while, since root may write to read-only folders."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(_NOBODY)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_looking_makes_nothing(tmp_path: Path) -> None:
    """A lookup, a listing and a measure of a cache that does not exist leave nothing on disk."""
    cache = Cache(tmp_path / "cache")

    assert cache.lookup(_product()) is None
    assert list(cache.entries()) == []
    assert cache.usage().bytes == 0
    assert cache.max_bytes is not None
    assert not (tmp_path / "cache").exists()


def test_published_product_is_found_by_a_new_process(cache: Cache) -> None:
    """What one cache object published, another finds with all its facts."""
    _put(cache, _product(size=3), b"data", "S3A.SEN3.zip")

    entry = Cache(cache.root).lookup(_product(size=3))

    assert entry is not None
    assert entry.path.read_bytes() == b"data"
    assert entry.path.name == entry.delivered_name == "S3A.SEN3.zip"
    assert entry.product == _product(size=3)
    assert entry.size == 4
    assert entry.sha256 is None
    assert list(cache.entries()) == [entry]
    assert _partials_in(cache) == []


def test_extra_facts_are_kept(cache: Cache) -> None:
    """What the publisher adds is in the record."""
    with cache.stage(_product()) as staging:
        staging.publish("f", check=_accept, extra={"licence": ["a"]})

    entry = Cache(cache.root).lookup(_product())

    assert entry is not None
    assert entry.extra == {"licence": ["a"]}


def test_unfinished_product_is_not_there(cache: Cache) -> None:
    """While it is written, and after an error, a product is not found."""

    def look_and_fail() -> None:
        assert cache.lookup(_product()) is None
        raise InterruptedError

    with pytest.raises(InterruptedError):
        _receive(cache, b"half", meanwhile=look_and_fail)

    assert cache.lookup(_product()) is None
    assert list(cache.entries()) == []


def test_short_file_is_refused_and_resumed(cache: Cache) -> None:
    """A file shorter than the server said is an error, and its bytes serve the next writer."""
    with pytest.raises(DownloadError) as caught:
        _receive(cache, b"abc", expected_bytes=6)
    assert (caught.value.expected, caught.value.received) == (6, 3)
    assert cache.lookup(_product()) is None

    with cache.stage(_product()) as staging:
        assert staging.offset == 3
        assert staging.facts == {"etag": '"x"'}
        with staging.open() as handle:
            handle.write(b"def")
        entry = staging.publish("f", check=_accept, expected_bytes=6)

    assert entry.path.read_bytes() == b"abcdef"


def test_long_file_is_refused_and_dropped(cache: Cache) -> None:
    """A file longer than the server said is an error, and nothing of it is used again."""
    with pytest.raises(DownloadError):
        _receive(cache, b"abcdef", expected_bytes=3)

    with cache.stage(_product()) as staging:
        assert staging.offset == 0


def test_damaged_file_is_refused_and_dropped(cache: Cache) -> None:
    """What the check of the format refuses never appears, and is not resumed."""
    seen: list[str] = []

    def refuse(path: Path) -> None:
        seen.append(path.name)
        raise ProductFormatError(path.name)

    with pytest.raises(ProductFormatError):
        _receive(cache, b"junk", check=refuse)

    assert seen == ["x.nc"]
    assert cache.lookup(_product()) is None
    assert _partials_in(cache) == []


def test_check_that_the_machine_stops_keeps_the_bytes(cache: Cache) -> None:
    """An I/O error during the check says nothing of the bytes: they are kept."""

    def stumble(path: Path) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with pytest.raises(OSError, match="too many"):
        _receive(cache, b"good", check=stumble)

    with cache.stage(_product()) as staging:
        assert staging.offset == 4
        assert staging.publish("x.nc", check=_accept).path.read_bytes() == b"good"


def test_restart_drops_bytes_and_facts(cache: Cache) -> None:
    """A writer that cannot resume begins from nothing."""
    _leave_partial(cache, _product(), b"old", etag="1")

    with cache.stage(_product()) as staging:
        assert staging.offset == 3
        staging.restart()
        assert staging.offset == 0
        assert staging.facts == {}


def test_empty_and_discarded_stagings_leave_nothing(cache: Cache) -> None:
    """Without bytes, or after discard, there is nothing to hand over."""
    with cache.stage(_product()):
        pass
    with cache.stage(_product()) as staging:
        with staging.open() as handle:
            handle.write(b"abc")
        staging.discard()

    assert _partials_in(cache) == []
    with pytest.raises(ValueError, match="stage it again"):
        staging.open()


def test_partial_of_another_version_is_not_resumed(cache: Cache) -> None:
    """Bytes of one version are never the beginning of another."""
    _leave_partial(cache, _product(size=1), b"abc")

    with cache.stage(_product(size=2)) as staging:
        assert staging.offset == 0


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 2}', b'{"format": 1, "key": 3}', None],
)
def test_garbled_record_means_absent(cache: Cache, damage: bytes | None) -> None:
    """A record that is missing or cannot be read hides the product, and it can be fetched anew."""
    record = _put(cache, _product()).folder / RECORD_NAME
    if damage is None:
        record.unlink()
    else:
        record.write_bytes(damage)
    cache = Cache(cache.root)

    assert cache.lookup(_product()) is None
    assert list(cache.entries()) == []

    assert _put(cache, _product(), b"new").path.read_bytes() == b"new"
    found = Cache(cache.root).lookup(_product())
    assert found is not None
    assert found.size == 3


@pytest.mark.parametrize("name", ["../../../../x", "/etc/passwd", "", ".x", RECORD_NAME, 7])
def test_record_cannot_lead_elsewhere(cache: Cache, name: object) -> None:
    """A record edited by hand cannot make the cache serve a file outside its folder."""
    record = _put(cache, _product()).folder / RECORD_NAME
    record.write_text(json.dumps({**json.loads(record.read_text()), "name": name}))

    assert Cache(cache.root).lookup(_product()) is None


def test_truncated_file_means_absent(cache: Cache) -> None:
    """A file that lost its end, in a power cut, is not there, remembered or not."""
    entry = _put(cache, _product(), b"12345")
    os.truncate(entry.path, 3)

    assert cache.lookup(_product()) is None
    assert Cache(cache.root).lookup(_product()) is None
    assert _put(cache, _product(), b"12345").path.read_bytes() == b"12345"


def test_full_disk_leaves_no_entry(cache: Cache) -> None:
    """Where writing fails for lack of room, the error says what to do and nothing appears."""
    cache.prepare()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="cache_dir") as caught:
            _receive(cache, bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert caught.value.errno == errno.EFBIG
    assert cache.lookup(_product()) is None


def test_really_full_disk_leaves_no_entry(tmp_path: Path) -> None:
    """On a disk of 256 kB a product of 400 kB fails with ENOSPC, and a small one still fits."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        cache = Cache(disk, max_bytes=None)
        with pytest.raises(OSError, match="are needed") as caught:
            cache.stage(_product(), expected_bytes=400_000)
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="cache_dir") as caught:
            _receive(cache, bytes(400_000))
        assert caught.value.errno == errno.ENOSPC
        assert cache.lookup(_product()) is None
        cache.clear()
        assert _put(cache, _product(), b"small").size == 5
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_disk_too_small_for_a_known_size_is_told_before(tmp_path: Path) -> None:
    """A product that cannot fit is refused before a byte is written, after evicting what can go."""
    cache = Cache(tmp_path / "cache", max_bytes=None, free_bytes=lambda _: 1000)
    _put(cache, _product("old"))

    with pytest.raises(OSError, match="1,000 bytes free, and 2,000 are needed") as caught:
        cache.stage(_product(), expected_bytes=2000)

    assert caught.value.errno == errno.ENOSPC
    assert cache.lookup(_product("old")) is None
    assert _partials_in(cache) == []


def test_folder_deleted_under_the_job(cache: Cache) -> None:
    """A writer whose folder is removed gets a clear error, and staging again works."""
    with pytest.raises(OSError, match="disappeared") as caught:
        _receive(cache, b"abc", meanwhile=lambda: shutil.rmtree(cache.root))
    assert caught.value.errno == errno.ESTALE
    assert not isinstance(caught.value, FileNotFoundError)

    with cache.stage(_product()) as staging:
        shutil.rmtree(cache.root)
        with pytest.raises(OSError, match="disappeared"):
            staging.remember(etag="x")
        with pytest.raises(OSError, match="disappeared"):
            staging.open()
    assert _put(cache, _product()).path.exists()


def test_versions_are_told_apart(cache: Cache) -> None:
    """Another size or date in the catalogue is another file; both can be there."""
    _put(cache, _product(size=1), b"one")
    _put(cache, _product(size=2), b"two")

    for size, data in ((1, b"one"), (2, b"two")):
        entry = cache.lookup(_product(size=size))
        assert entry is not None
        assert entry.path.read_bytes() == data
    assert cache.lookup(_product(size=3)) is None
    assert len(list(cache.entries())) == 2


@pytest.mark.parametrize(
    ("told", "other"),
    [
        (_product(size=1), _product(size=2)),
        (_product(updated="2024-05-01"), _product(updated="2024-05-02")),
        (_product(startdate="2024-05-01"), _product(startdate="2024-05-02")),
        (_product(enddate="2024-05-01"), _product(enddate="2024-05-02")),
    ],
)
def test_what_the_catalogue_does_not_tell_matches(
    cache: Cache, told: Product, other: Product
) -> None:
    """A missing fact, in the record or in the question, is no difference; a different one is."""
    _put(cache, told)
    assert cache.lookup(_product()) is not None
    assert cache.lookup(other) is None
    cache.remove(told)
    _put(cache, _product())
    assert cache.lookup(told) is not None
    assert cache.lookup(other) is not None


def test_newest_of_several_versions_answers_a_vague_question(tmp_path: Path) -> None:
    """A record without size or date gets what was fetched last."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=None, clock=clock)
    for size in (2, 3, 1):
        clock.now += 10
        _put(cache, _product(size=size), bytes(size))

    entry = cache.lookup(_product())

    assert entry is not None
    assert entry.size == 1


def test_keys_are_unambiguous() -> None:
    """No two pairs of data set and product id share a key."""
    pairs = [("a", "bc"), ("ab", "c"), ("a\0b", "c"), ("a", "b\0c"), ('a","b', "c"), ("a", 'b","c')]

    assert len({product_key(Product(*pair)) for pair in pairs}) == len(pairs)
    assert version_tag(_product(size=1)) != version_tag(_product(updated="1"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("S3A.SEN3.zip", "S3A.SEN3.zip"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\x\\y.nc", "y.nc"),
        ("..", "fallback"),
        (".", "fallback"),
        ("", "fallback"),
        ("/", "fallback"),
        ("a/..", "fallback"),
        (".bashrc", "bashrc"),
        ("...x", "x"),
        ("a\0b\nc\x1b.nc", "abc.nc"),
        ("a\u202egnp.nc", "agnp.nc"),
        ("%2e%2e%2fx", "%2e%2e%2fx"),
        ("record.json", "product-record.json"),
        ("RECORD.JSON", "product-RECORD.JSON"),
        ("  ", "fallback"),
        ("a" * 300 + ".nc", "a" * 197 + ".nc"),
        ("é" * 200 + ".zip", "é" * 98 + ".zip"),
        ("a." + "b" * 300, "a." + "b" * 198),
    ],
)
def test_hostile_names_stay_in_their_folder(name: str, expected: str) -> None:
    """Separators, dots, control characters and length cannot lead elsewhere."""
    assert safe_name(name, "fallback") == expected


@given(st.text(), st.text())
def test_safe_names_are_safe_and_stable(name: str, fallback: str) -> None:
    """Whatever comes in, the name is one path component, printable, and safe once more."""
    safe = safe_name(name, fallback)

    assert safe
    assert safe not in {".", "..", RECORD_NAME}
    assert not safe.startswith(".")
    assert not set(safe) & {"/", "\\", "\0"}
    assert len(safe.encode()) <= 200
    assert safe_name(safe, "") == safe


def test_hostile_name_is_published_inside(cache: Cache) -> None:
    """A delivered name that points outside ends up in the entry's folder."""
    entry = _put(cache, _product(), name="../../../../../../tmp/evil.nc")

    assert entry.path.name == "evil.nc"
    assert cache.root in entry.path.parents


def test_new_folder_is_private(tmp_path: Path) -> None:
    """A folder that we make is for this user alone, whatever the umask."""
    with _umask(0):
        cache = Cache(tmp_path / "a" / "cache", max_bytes=None)
        entry = _put(cache, _product())

    for path in (cache.root, cache.root / "v1", entry.folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry.path.stat().st_mode) == 0o600


def test_existing_folder_keeps_its_mode_and_shares_it(tmp_path: Path) -> None:
    """In a folder of a team, files and folders are for the group, whatever the umask."""
    root = tmp_path / "team"
    root.mkdir()
    root.chmod(0o2770)
    with _umask(0o077):
        cache = Cache(root, max_bytes=None)
        entry = _put(cache, _product())
        cache.usage()

    assert stat.S_IMODE(root.stat().st_mode) == 0o2770
    for path in (cache.products_dir, entry.folder, entry.folder.parent, root / "v1" / "partial"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o770 == 0o770
    for path in (entry.path, entry.folder / RECORD_NAME):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_existing_group_is_kept(tmp_path: Path) -> None:
    """What is made in a folder of a team belongs to the team's group."""
    others = [12345] if os.geteuid() == 0 else [g for g in os.getgroups() if g != os.getegid()]
    if not others:
        pytest.skip("this user is in one group only")
    root = tmp_path / "team"
    root.mkdir()
    os.chown(root, -1, others[0])
    root.chmod(0o770)

    entry = _put(Cache(root, max_bytes=None), _product())

    for path in (root, root / "v1", entry.folder, entry.path, entry.folder / RECORD_NAME):
        assert path.stat().st_gid == others[0]


def test_world_writable_folder_is_refused(tmp_path: Path) -> None:
    """A folder to which everybody may write is neither read nor written."""
    root = tmp_path / "everybody"
    root.mkdir()
    root.chmod(0o777)
    cache = Cache(root)

    for act in (cache.prepare, lambda: cache.lookup(_product()), lambda: cache.stage(_product())):
        with pytest.raises(ConfigurationError, match=f"chmod o-w {root}"):
            act()
    assert list(root.iterdir()) == []


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """A setting that names a file is told as such."""
    (tmp_path / "file").write_text("")

    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match="not a folder"):
            Cache(root).prepare()


def test_read_only_folder_serves_hits(open_folder: Path) -> None:
    """A read-only cache serves what it holds, and says what to do about what it does not."""
    root = open_folder / "cache"
    root.mkdir()
    _put(Cache(root, max_bytes=None, clock=_Clock()), _product("hit"))
    for folder, _, _ in os.walk(root):
        Path(folder).chmod(0o555)
    try:
        with _as_ordinary_user():
            cache = Cache(root)
            entry = cache.lookup(_product("hit"))
            assert entry is not None
            assert entry.path.read_bytes() == b"data"
            assert cache.lookup(_product("miss")) is None
            assert cache.max_bytes is not None
            with pytest.raises(PermissionError, match="is read-only"):
                cache.stage(_product("miss"))
            checked = list(cache.verify(_accept))
            assert [error for _, error in checked] == [None]
    finally:
        for folder, _, _ in os.walk(root):
            Path(folder).chmod(0o755)


def test_oldest_use_goes_first(tmp_path: Path) -> None:
    """Eviction follows the last use, not the order in which products came."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=30, clock=clock)
    for name in "abc":
        clock.now += 100
        _put(cache, _product(name), bytes(10))
    clock.now += 100
    cache.lookup(_product("a"))
    clock.now += 100

    _put(cache, _product("d"), bytes(10))

    assert [n for n in "abcd" if cache.lookup(_product(n))] == ["a", "c", "d"]


def test_looking_without_touching_is_no_use(tmp_path: Path) -> None:
    """A plan that looks what is local does not change what is evicted."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    for name in "ab":
        clock.now += 100
        _put(cache, _product(name), bytes(10))
    clock.now += 100
    cache.lookup(_product("a"), touch=False)

    assert [entry.product.product_id for entry in cache.evict(10)] == ["a"]


def test_bound_holds_with_two_products(tmp_path: Path) -> None:
    """A cache for two products never holds three."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    for number in range(6):
        clock.now += 1
        _put(cache, _product(str(number)), bytes(10))
        assert cache.usage().total_bytes <= 20

    assert {e.product.product_id for e in cache.entries()} == {"4", "5"}


def test_bound_counts_what_other_processes_put(tmp_path: Path) -> None:
    """Files of another cache object in the same folder count, and can be evicted."""
    clock = _Clock()
    ours, theirs = (Cache(tmp_path / "cache", max_bytes=20, clock=clock) for _ in range(2))
    _put(ours, _product("a"), bytes(10))
    clock.now += 1
    _put(theirs, _product("b"), bytes(10))
    clock.now += 1
    _put(ours, _product("c"), bytes(10))

    assert {e.product.product_id for e in Cache(ours.root).entries()} == {"b", "c"}


def test_unknown_size_is_evicted_for_afterwards(tmp_path: Path) -> None:
    """Where the size is known only in the end, the bound is restored then."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    _put(cache, _product("a"), bytes(15))
    clock.now += 1
    with cache.stage(_product("b")) as staging:
        with staging.open() as handle:
            handle.write(bytes(15))
        staging.publish("f", check=_accept)

    assert {e.product.product_id for e in cache.entries()} == {"b"}


def test_kept_keys_stay(tmp_path: Path) -> None:
    """What is in use now is not evicted, even if it was used longest ago."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    for name in "ab":
        clock.now += 1
        _put(cache, _product(name), bytes(10))

    evicted = cache.evict(10, keep={cache.key(_product("a"))})

    assert [entry.product.product_id for entry in evicted] == ["b"]


def test_protection_ends_with_the_first_use_or_a_day(tmp_path: Path) -> None:
    """Protected products stay while others go, until they are read once or a day has passed."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=30, clock=clock)
    for name in "abc":
        clock.now += 1
        entry = _put(cache, _product(name), bytes(10))
        if name != "c":
            cache.protect(entry)
    other = Cache(cache.root, max_bytes=30, clock=clock)

    assert [e.product.product_id for e in other.evict(10)] == ["c"]
    assert other.evict(25) == []
    other.lookup(_product("b"))
    clock.now += 100
    assert [e.product.product_id for e in other.evict(25)] == ["b"]
    clock.now += 90_000
    assert [e.product.product_id for e in other.evict(25)] == ["a"]


def test_product_larger_than_the_bound_is_allowed_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One product that is too large for the bound is kept, with a warning."""
    cache = Cache(tmp_path / "cache", max_bytes=10)

    with caplog.at_level(logging.WARNING, "hda_fsspec"):
        _put(cache, _product(), bytes(20))

    assert cache.lookup(_product()) is not None
    assert "cache_max_bytes" in caplog.text


def test_abandoned_partials_are_evicted_in_their_turn(tmp_path: Path) -> None:
    """Bytes of an interrupted download count, and go when they are the oldest."""
    clock = _Clock(now=4_000_000_000.0)  # later than the partial, whose time is the disk's
    cache = Cache(tmp_path / "cache", max_bytes=20, clock=clock)
    _leave_partial(cache, _product("half"), bytes(10))
    _put(cache, _product("a"), bytes(10))
    assert cache.usage().partial_bytes == 10

    _put(cache, _product("b"), bytes(10))

    assert {e.product.product_id for e in cache.entries()} == {"a", "b"}
    assert _partials_in(cache) == []


def test_automatic_bound_is_agreed_on_by_all(tmp_path: Path) -> None:
    """Half of the free disk at first use, at most 50 GB, and the same for all that come later."""
    first = Cache(tmp_path / "cache", free_bytes=lambda _: 1000)
    _put(first, _product(), b"x")
    later = Cache(tmp_path / "cache", free_bytes=lambda _: 10**15)

    assert first.max_bytes == later.max_bytes == 500
    assert Cache(tmp_path / "new", free_bytes=lambda _: 10**15).max_bytes == 50_000_000_000


def test_garbled_bound_is_measured_again(tmp_path: Path) -> None:
    """A bound that cannot be read is no reason to fail."""
    (tmp_path / "cache" / "v1").mkdir(parents=True)
    (tmp_path / "cache" / "v1" / "bound.json").write_text("{")

    assert Cache(tmp_path / "cache", free_bytes=lambda _: 1000).max_bytes == 500


def test_reader_goes_on_after_eviction(cache: Cache) -> None:
    """Who has a file open reads it to its end, although it was evicted."""
    entry = _put(cache, _product(), b"0123456789")
    with entry.path.open("rb", buffering=0) as handle:
        assert handle.read(5) == b"01234"
        assert cache.remove(_product()) >= 10
        assert cache.lookup(_product()) is None
        assert handle.read() == b"56789"


def test_large_cache_is_not_walked_for_each_product(tmp_path: Path) -> None:
    """A slow walk is not repeated for each product that comes in."""
    clock = _Clock()

    class SlowDisk(_Clock):
        def __call__(self) -> float:
            clock.now += 1
            return clock.now

    cache = Cache(tmp_path / "cache", max_bytes=50, clock=SlowDisk())
    for number in range(12):
        _put(cache, _product(str(number)), bytes(10))

    assert cache.usage().total_bytes <= 50


def test_repeated_hit_costs_one_stat(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hit that is remembered opens nothing: no record, no checksum, no listing."""
    _put(cache, _product())
    cache.lookup(_product())

    def explode(*_: object, **__: object) -> None:
        raise AssertionError

    for name in ("open", "scandir", "utime", "listdir"):
        monkeypatch.setattr(os, name, explode)
    monkeypatch.setattr(Path, "read_bytes", explode)

    assert cache.lookup(_product()) is not None


def test_use_is_noted_once_a_minute(tmp_path: Path) -> None:
    """The time of last use is exact to a minute, and no more is written."""
    clock = _Clock()
    cache = Cache(tmp_path / "cache", max_bytes=None, clock=clock)
    record = _put(cache, _product()).folder / RECORD_NAME
    start = record.stat().st_mtime

    clock.now += 59
    cache.lookup(_product())
    assert record.stat().st_mtime == start
    clock.now += 2
    cache.lookup(_product())
    assert record.stat().st_mtime == start + 61


def test_verify_tells_what_is_wrong_and_records_checksums(tmp_path: Path) -> None:
    """Good, shortened, altered and refused files are told apart, and the time of use stays."""
    cache = Cache(tmp_path / "cache", max_bytes=None, clock=_Clock())
    entries = {name: _put(cache, _product(name), b"abc") for name in ("good", "short", "altered")}

    def refuse_nothing(path: Path) -> None:
        path.stat()

    assert [error for _, error in cache.verify(refuse_nothing)] == [None] * 3
    fresh = Cache(cache.root).lookup(_product("good"), touch=False)
    assert fresh is not None
    assert fresh.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fresh.used_at == entries["good"].used_at

    os.truncate(entries["short"].path, 1)
    entries["altered"].path.write_bytes(b"xyz")
    told = {entry.product.product_id: error for entry, error in cache.verify(refuse_nothing)}

    assert told["good"] is None
    assert "has 1 bytes, and had 3" in str(told["short"])
    assert "other bytes" in str(told["altered"])

    def refuse(path: Path) -> None:
        raise ProductFormatError("no")

    assert [str(error) for entry, error in cache.verify(refuse) if entry.size == 3].count("no") == 1


def test_remove_and_clear(cache: Cache) -> None:
    """A product goes with all its versions; clearing leaves nothing but what is being written."""
    for size in (1, 2):
        _put(cache, _product("a", size=size))
    _put(cache, _product("b"))
    _leave_partial(cache, _product("c"), b"half")

    assert cache.remove(_product("a")) > 0
    assert {e.product.product_id for e in cache.entries()} == {"b"}
    assert cache.remove(cache.key(_product("a"))) == 0
    with cache.stage(_product("d")) as staging:
        with staging.open() as handle:
            handle.write(b"abc")
        assert cache.clear() > 0
        assert _partials_in(cache) == [staging.path.parent]
        staging.publish("f", check=_accept)
    assert {e.product.product_id for e in cache.entries()} == {"d"}


def test_prune_removes_what_is_of_no_use(tmp_path: Path) -> None:
    """Old partials, broken entries, remains and unused products go; the rest stays."""
    clock = _Clock(now=4_000_000_000.0)
    cache = Cache(tmp_path / "cache", max_bytes=None, clock=clock)
    _put(cache, _product("old"))
    (_put(cache, _product("broken")).folder / RECORD_NAME).write_text("{")
    (cache.root / "v1" / "partial" / "trash-1").mkdir()
    _leave_partial(cache, _product("half"), b"half")
    clock.now += 1000
    _put(cache, _product("new"))

    cache.prune(older_than_seconds=500)

    assert {e.product.product_id for e in cache.entries()} == {"new"}
    assert _partials_in(cache) == []


def test_prune_keeps_what_can_be_resumed(cache: Cache) -> None:
    """An interrupted download is not useless on the same day."""
    _leave_partial(cache, _product("half"), b"half")

    cache.prune()

    with cache.stage(_product("half")) as staging:
        assert staging.offset == 4


class CacheAgainstDict(RuleBasedStateMachine):
    """The cache does what a dict with a bound and an order of last use does."""

    BOUND = 40

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = _Clock()
        self.model: dict[str, bytes] = {}  # in the order of last use
        self.held: dict[str, bytes] = {}

    @initialize()
    def start(self) -> None:
        """Open the cache."""
        self.reopen()

    def teardown(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)

    names = st.sampled_from("abcde")
    data = st.binary(min_size=1, max_size=20)

    @rule()
    def reopen(self) -> None:
        """Go on as a new process would."""
        self.cache = Cache(self.folder / "cache", max_bytes=self.BOUND, clock=self.clock)

    @rule(name=names, data=data)
    def publish(self, name: str, data: bytes) -> None:
        """Publish a product, which evicts what was used longest ago."""
        self.clock.now += 100
        if name in self.model:
            # The same version is there already: the one that is there stays.
            assert _put(self.cache, _product(name), data).path.read_bytes() == self.model[name]
            self._shrink(len(data), name)
            return
        self._shrink(len(data), name)
        _put(self.cache, _product(name), data, name)
        self.model[name] = data

    def _shrink(self, needed: int, keep: str) -> None:
        for name in [n for n in self.model if n != keep]:
            if sum(map(len, self.model.values())) + needed <= self.BOUND:
                break
            del self.model[name]

    @rule(name=names)
    def lookup(self, name: str) -> None:
        """Find what is there, which counts as a use."""
        self.clock.now += 100
        entry = self.cache.lookup(_product(name))
        if name not in self.model:
            assert entry is None
            return
        assert entry is not None
        assert entry.path.read_bytes() == self.model[name]
        self.model[name] = self.model.pop(name)

    @rule(name=names)
    def remove(self, name: str) -> None:
        """Remove a product."""
        assert (self.cache.remove(_product(name)) > 0) == (name in self.model)
        self.model.pop(name, None)

    @precondition(lambda self: self.model)
    @rule(cut=st.booleans())
    def damage(self, cut: bool) -> None:
        """Cut a file short or garble its record: it is not there."""
        name = next(iter(self.model))
        entry = self.cache.lookup(_product(name), touch=False)
        assert entry is not None
        if cut:
            os.truncate(entry.path, entry.size - 1)
        else:
            (entry.folder / RECORD_NAME).write_text("{")
        del self.model[name]
        self.reopen()
        self.cache.prune()

    @invariant()
    def agrees(self) -> None:
        """Hold exactly what the model holds, within the bound."""
        found = {e.product.product_id: e.path.read_bytes() for e in self.cache.entries()}
        assert found == self.model
        assert self.cache.usage().bytes <= self.BOUND


TestCacheAgainstDict = CacheAgainstDict.TestCase
TestCacheAgainstDict.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
