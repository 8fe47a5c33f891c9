"""A product on its way into the cache: only what is whole and in order appears there."""

from __future__ import annotations

import errno
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cached_products import accept, leave_partial, partials_in, product, put

from hda_fsspec.cache import partials
from hda_fsspec.cache.cache import Cache, Entry
from hda_fsspec.cache.folder import Folder
from hda_fsspec.errors import DownloadError, ProductFormatError


def _receive(
    cache: Cache,
    data: bytes,
    *,
    check: Callable[[Path], object] | None = None,
    expected_bytes: int | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> Entry:
    """Receive bytes on top of what is held, with something that happens before they are whole."""
    with cache.stage(product()) as staging:
        staging.remember(etag='"x"')
        with staging.open() as handle:
            handle.write(data)
        meanwhile()
        return staging.publish("x.nc", check=check or accept, expected_bytes=expected_bytes)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return a cache without bound."""
    return Cache(tmp_path / "cache", max_bytes=None)


def test_unfinished_product_is_not_there(cache: Cache) -> None:
    """While it is written, and after an error, a product is not found."""

    def look_and_fail() -> None:
        assert cache.lookup(product()) is None
        raise InterruptedError

    with pytest.raises(InterruptedError):
        _receive(cache, b"half", meanwhile=look_and_fail)

    assert cache.lookup(product()) is None
    assert list(cache.entries()) == []


def test_short_file_is_refused_and_resumed(cache: Cache) -> None:
    """A file shorter than the server said is an error, and its bytes serve the next writer."""
    with pytest.raises(DownloadError) as caught:
        _receive(cache, b"abc", expected_bytes=6)
    assert (caught.value.expected, caught.value.received) == (6, 3)
    assert cache.lookup(product()) is None

    with cache.stage(product()) as staging:
        assert staging.offset == 3
        assert staging.facts == {"etag": '"x"'}
        with staging.open() as handle:
            handle.write(b"def")
        entry = staging.publish("f", check=accept, expected_bytes=6)

    assert entry.path.read_bytes() == b"abcdef"


def test_long_file_is_refused_and_dropped(cache: Cache) -> None:
    """A file longer than the server said is an error, and nothing of it is used again."""
    with pytest.raises(DownloadError):
        _receive(cache, b"abcdef", expected_bytes=3)

    with cache.stage(product()) as staging:
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
    assert cache.lookup(product()) is None
    assert partials_in(cache) == []


def test_check_that_the_machine_stops_keeps_the_bytes(cache: Cache) -> None:
    """An I/O error during the check says nothing of the bytes: they are kept."""

    def stumble(path: Path) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with pytest.raises(OSError, match="too many"):
        _receive(cache, b"good", check=stumble)

    with cache.stage(product()) as staging:
        assert staging.offset == 4
        assert staging.publish("x.nc", check=accept).path.read_bytes() == b"good"


def test_restart_drops_bytes_and_facts(cache: Cache) -> None:
    """A writer that cannot resume begins from nothing."""
    leave_partial(cache, product(), b"old", etag="1")

    with cache.stage(product()) as staging:
        assert staging.offset == 3
        staging.restart()
        assert staging.offset == 0
        assert staging.facts == {}


def test_empty_and_discarded_stagings_leave_nothing(cache: Cache) -> None:
    """Without bytes, or after discard, there is nothing to hand over."""
    with cache.stage(product()):
        pass
    with cache.stage(product()) as staging:
        with staging.open() as handle:
            handle.write(b"abc")
        staging.discard()

    assert partials_in(cache) == []
    with pytest.raises(ValueError, match="stage it again"):
        staging.open()


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
    assert cache.lookup(product()) is None


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
            cache.stage(product(), expected_bytes=400_000)
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="cache_dir") as caught:
            _receive(cache, bytes(400_000))
        assert caught.value.errno == errno.ENOSPC
        assert cache.lookup(product()) is None
        cache.clear()
        assert put(cache, product(), b"small").size == 5
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_disk_too_small_for_a_known_size_is_told_before(tmp_path: Path) -> None:
    """A product that cannot fit is refused before a byte is written, after evicting what can go."""
    cache = Cache(tmp_path / "cache", max_bytes=None, free_bytes=lambda _: 1000)
    put(cache, product("old"))

    with pytest.raises(OSError, match="1,000 bytes free, and 2,000 are needed") as caught:
        cache.stage(product(), expected_bytes=2000)

    assert caught.value.errno == errno.ENOSPC
    assert cache.lookup(product("old")) is None
    assert partials_in(cache) == []


def test_folder_deleted_under_the_job(cache: Cache) -> None:
    """A writer whose folder is removed gets a clear error, and staging again works."""
    with pytest.raises(OSError, match="disappeared") as caught:
        _receive(cache, b"abc", meanwhile=lambda: shutil.rmtree(cache.root))
    assert caught.value.errno == errno.ESTALE
    assert not isinstance(caught.value, FileNotFoundError)

    with cache.stage(product()) as staging:
        shutil.rmtree(cache.root)
        with pytest.raises(OSError, match="disappeared"):
            staging.remember(etag="x")
        with pytest.raises(OSError, match="disappeared"):
            staging.open()
    assert put(cache, product()).path.exists()


@pytest.mark.parametrize("times", [1, 3, 1000])
def test_a_folder_that_is_removed_at_the_beginning(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A writer begins anew where its folder is removed before it has begun, within reason."""
    claim = partials._claim
    removed: list[Path] = []

    def remove_and_claim(folder: Folder, place: Path, stem: str, *, now: float) -> bool:
        if len(removed) < times:
            removed.append(cache.root)
            shutil.rmtree(cache.root)
        return claim(folder, place, stem, now=now)

    monkeypatch.setattr(partials, "_claim", remove_and_claim)

    if times == 1000:
        with pytest.raises(OSError, match="disappears again") as caught:
            put(cache, product())
        assert caught.value.errno == errno.ESTALE
    else:
        assert put(cache, product()).path.read_bytes() == b"data"
    assert len(removed) == min(times, 4)
