"""The folder of the cache: private or a team's, never everybody's, and useful read-only."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cached_products import accept, product, put
from clocks import Clock

from hda_fsspec.cache.cache import Cache
from hda_fsspec.cache.folder import Folder
from hda_fsspec.cache.metadata import MetadataStore
from hda_fsspec.cache.product_entries import RECORD_NAME
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.untrusted_files import UntrustedFileError

_NOBODY = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Make a folder that other users can reach, which pytest's are not."""
    for base in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):
        above = [Path(base).resolve(), *Path(base).resolve().parents]
        if all(each.is_dir() and each.stat().st_mode & 0o005 == 0o005 for each in above):
            folder = Path(tempfile.mkdtemp(dir=base))
            folder.chmod(0o755)
            yield folder
            shutil.rmtree(folder)
            return
    pytest.skip("there is no folder for temporary files that other users can reach")


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


def test_new_folder_is_private(tmp_path: Path) -> None:
    """A folder that we make is for this user alone, whatever the umask."""
    with _umask(0):
        cache = Cache(tmp_path / "a" / "cache", max_bytes=None)
        entry = put(cache, product())

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
        entry = put(cache, product())
        cache.usage()

    assert stat.S_IMODE(root.stat().st_mode) == 0o2770
    for path in (
        root / "v1" / "products",
        entry.folder,
        entry.folder.parent,
        root / "v1" / "partial",
    ):
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

    entry = put(Cache(root, max_bytes=None), product())

    for path in (root, root / "v1", entry.folder, entry.path, entry.folder / RECORD_NAME):
        assert path.stat().st_gid == others[0]


def test_world_writable_folder_is_refused(tmp_path: Path) -> None:
    """A folder to which everybody may write is neither read nor written."""
    root = tmp_path / "everybody"
    root.mkdir()
    root.chmod(0o777)
    cache = Cache(root)

    for act in (cache.prepare, lambda: cache.lookup(product()), lambda: cache.stage(product())):
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
    put(Cache(root, max_bytes=None, clock=Clock()), product("hit"))
    MetadataStore(root).put_header(product("hit"), b"{}")
    # For others to read, whatever the umask; for nobody to write.
    for folder, _, files in os.walk(root):
        Path(folder).chmod(0o555)
        for name in files:
            Path(folder, name).chmod(0o444)
    try:
        with _as_ordinary_user():
            cache = Cache(root)
            entry = cache.lookup(product("hit"))
            assert entry is not None
            assert entry.path.read_bytes() == b"data"
            assert cache.lookup(product("miss")) is None
            assert cache.max_bytes is not None
            with pytest.raises(PermissionError, match="is read-only"):
                cache.stage(product("miss"))
            with pytest.raises(PermissionError, match="is read-only"):
                MetadataStore(root).forget()
            checked = list(cache.verify(accept))
            assert [error for _, error in checked] == [None]
    finally:
        for folder, _, _ in os.walk(root):
            Path(folder).chmod(0o755)


def test_a_file_that_another_thread_is_making(tmp_path: Path) -> None:
    """While it is made it has a second name; whoever writes to it in that moment looks again."""
    folder = Folder(tmp_path / "cache")
    folder.prepare()
    path = folder.path / "lengths" / "0.tsv"
    folder.write(path, b"a\n", is_first=True)
    second = path.with_name(".second.tmp")
    os.link(path, second)
    gone = threading.Timer(0.005, second.unlink)
    gone.start()

    descriptor = folder.open_own(path, os.O_WRONLY | os.O_APPEND)

    os.close(descriptor)
    gone.join()


def test_a_file_that_keeps_a_second_name(tmp_path: Path) -> None:
    """What has another name for long is somebody's file, and is not written to."""
    folder = Folder(tmp_path / "cache")
    folder.prepare()
    path = folder.path / "lengths" / "0.tsv"
    folder.write(path, b"a\n", is_first=True)
    os.link(path, tmp_path / "victim")

    with pytest.raises(UntrustedFileError, match="not a file of this user alone"):
        folder.open_own(path, os.O_WRONLY | os.O_APPEND)
