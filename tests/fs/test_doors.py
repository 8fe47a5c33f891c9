"""The ways into the filesystem that other libraries use: URLs, chains, UPath, generic copies."""

from __future__ import annotations

import bz2
import contextlib
import gc
import gzip
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.exceptions import BlocksizeMismatchError
from fsspec.generic import GenericFileSystem, rsync
from fsspec.implementations.dirfs import DirFileSystem
from packaging.version import Version
from upath import UPath

from hda_fsspec.emulator import Fault, ProductEntry
from hda_fsspec.errors import HDAError
from hda_fsspec.fs.upath import HDAPath

FSSPEC = Version(fsspec.__version__)


@pytest.fixture
def slow(bench: Any) -> Any:
    """Serve five products that take a while to be prepared."""
    return bench.start(days=5, preparation_seconds=0.2)


def one(product_id: str, body: bytes) -> list[ProductEntry]:
    """Return a single product."""
    return [ProductEntry(product_id, body, "2024-05-02T00:00:00Z", "2024-05-02T23:59:59Z")]


def zipped(members: dict[str, bytes]) -> bytes:
    """Return a ZIP."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return buffer.getvalue()


def test_open_by_url(bench: Any) -> None:
    """fsspec.open takes the URL with the settings, plain or under the protocol's name."""
    options = bench.settings(bench.start(days=1))

    for given in (options, {"hda": options}):
        with fsspec.open(bench.path(1), **given) as handle:
            assert handle.read() == bench.body(1)
            assert Path(handle.name).is_file()
            assert handle.full_name == bench.path(1)
            assert handle.size == 2032


#: fsspec's cache of blocks leaves a file of its own to the garbage collector.
_fsspec_leaves_a_file = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.mark.slow
@_fsspec_leaves_a_file
@pytest.mark.parametrize("how", ["simplecache", "filecache", "blockcache", "cached"])
def test_caches_of_fsspec_in_front(bench: Any, tmp_path: Path, how: str) -> None:
    """The caches that fsspec puts before a filesystem read what is there, cold and warm."""
    emulator = bench.start(days=2, size=100_000)
    options = {"hda": bench.settings(emulator), how: {"cache_storage": str(tmp_path / how)}}

    for _ in range(2):
        with fsspec.open(f"{how}::{bench.path(1)}", **options) as handle:
            handle.seek(50_000)
            assert handle.read(9) == bench.body(1, 100_000)[50_000:50_009]
            handle.seek(0)
            assert handle.read() == bench.body(1, 100_000)
        assert handle.closed
        fs, path = fsspec.url_to_fs(f"{how}::{bench.path(2)}", **options)
        assert fs.info(path)["product_id"] == bench.product_id(2)
        assert len(fs.ls(bench.query, detail=False)) == 2
        assert fs.cat(path) == bench.body(2, 100_000)
    assert emulator.orders == 2


@pytest.mark.slow
@_fsspec_leaves_a_file
def test_blocks_of_a_file(bench: Any, tmp_path: Path) -> None:
    """A file says what it was opened with, which blockcache:: keeps books by."""
    options = bench.settings(bench.start(days=1))
    fs = fsspec.filesystem("hda", **options)
    for block_size in (None, 4096, 1 << 20):
        with fs.open(bench.path(1), block_size=block_size) as handle:
            assert handle.blocksize == (block_size or fs.blocksize)

        blocks = {"cache_storage": str(tmp_path / f"blocks of {block_size}")}
        chain = {"hda": options, "blockcache": blocks}
        cached, path = fsspec.url_to_fs(f"blockcache::{bench.path(1)}", **chain)
        for _ in range(2):
            with cached.open(path, block_size=block_size) as handle:
                assert handle.read() == bench.body(1)
        with pytest.raises(BlocksizeMismatchError):
            cached.open(path, block_size=512)
    # The refused files are fsspec's to close, which leaves them to the garbage collector.
    gc.collect()


@pytest.mark.slow
def test_open_local_of_one_and_of_many(bench: Any, slow: Any) -> None:
    """A path or a list of local paths; a list is ordered together, in the order it was asked."""
    options = bench.settings(slow)

    path = fsspec.open_local(bench.path(3), hda=options)
    paths = fsspec.open_local([bench.path(day) for day in (2, 1, 3, 5)], hda=options)
    matching = fsspec.open_local(bench.query + "/*0[45].nc", hda=options)

    assert Path(path).read_bytes() == bench.body(3)
    assert [Path(p).read_bytes() for p in paths] == [bench.body(day) for day in (2, 1, 3, 5)]
    assert [Path(p).read_bytes() for p in matching] == [bench.body(day) for day in (4, 5)]
    assert slow.max_in_preparation > 1
    assert slow.orders == 5


@pytest.mark.slow
def test_open_files_are_fetched_together(bench: Any, slow: Any) -> None:
    """Entering a list orders all of it; leaving it closes all files."""
    files = fsspec.open_files(bench.query + "/*.nc", hda=bench.settings(slow))

    assert slow.order_posts == 0
    with files as handles:
        assert [handle.read() for handle in handles] == [bench.body(d) for d in range(1, 6)]
    assert all(handle.closed for handle in handles)
    assert slow.max_in_preparation > 1


@pytest.mark.slow
def test_open_files_of_which_one_fails_leaves_none_open(bench: Any) -> None:
    """The error of one is raised, and nothing stays open for it."""
    emulator = bench.start(days=3)
    emulator.fault(Fault("order-failed", product_id=bench.product_id(2), times=None))
    files = fsspec.open_files(bench.query + "/*.nc", hda=bench.settings(emulator))

    with pytest.raises(HDAError), files:
        pass
    fs = bench.filesystem(emulator)
    missing = fsspec.core.OpenFile(fsspec.filesystem("memory"), "/nope")
    mixed = fsspec.core.OpenFiles([fsspec.core.OpenFile(fs, bench.path(1)), missing], fs=fs)
    with pytest.raises(FileNotFoundError), mixed:
        pass
    gc.collect()


def test_open_files_to_write_order_nothing(bench: Any) -> None:
    """A list that is to be written is refused before anything is fetched."""
    emulator = bench.start(days=2)
    fs = bench.filesystem(emulator)
    files = [fsspec.core.OpenFile(fs, bench.path(day), mode="wb") for day in (1, 2)]

    with pytest.raises(OSError, match="read-only"):
        fs.open_many(fsspec.core.OpenFiles(files, mode="wb", fs=fs))

    assert emulator.order_posts == 0


@pytest.mark.skipif(Version("2026.4") > FSSPEC, reason="it leaves a file open")
def test_members_of_archives_open_in_a_with_block(bench: Any) -> None:
    """``zip://member::hda://…`` reads a file inside a product."""
    body = zipped({"X.SEN3/a.txt": b"inside", "X.SEN3/b.txt": b"other"})
    emulator = bench.start(products=one("X.SEN3", body))

    with fsspec.open(
        f"zip://X.SEN3/a.txt::{bench.query}/X.SEN3", hda=bench.settings(emulator)
    ) as handle:
        assert handle.read() == b"inside"
    with bench.filesystem(emulator).open(f"{bench.query}/X.SEN3") as outer:
        names = fsspec.filesystem("zip", fo=outer).find("")
    assert names == ["X.SEN3/a.txt", "X.SEN3/b.txt"]
    pattern = f"zip://*/b.txt::{bench.query}/X.SEN3"
    with fsspec.open(pattern, expand=True, hda=bench.settings(emulator)) as handle:
        assert handle.read() == b"other"
    with pytest.raises((KeyError, FileNotFoundError)):
        fsspec.open(pattern, hda=bench.settings(emulator)).open()
    assert emulator.orders == 1


@pytest.mark.skipif(Version("2026.9") > FSSPEC, reason="it leaves a file open")
@pytest.mark.parametrize("cache", ["simplecache", "filecache"])
def test_fsspecs_own_caches_work_on_top(bench: Any, cache: str, tmp_path: Path) -> None:
    """They are not needed, and do no harm."""
    emulator = bench.start(days=2)
    options = {"hda": bench.settings(emulator), cache: {"cache_storage": str(tmp_path / "c")}}

    with fsspec.open(f"{cache}::{bench.path(1)}", **options) as handle:
        assert handle.read() == bench.body(1)
    with fsspec.open_files([f"{cache}::{bench.path(d)}" for d in (1, 2)], **options) as handles:
        assert [handle.read() for handle in handles] == [bench.body(1), bench.body(2)]
    assert emulator.orders == 2


def test_a_directory_as_root(bench: Any) -> None:
    """Fsspec's DirFileSystem works below a query."""
    fs = DirFileSystem(path=bench.query, fs=bench.filesystem(bench.start(days=2)))

    assert fs.ls("", detail=False) == [bench.product_id(1), bench.product_id(2)]
    assert fs.cat(bench.product_id(1)) == bench.body(1)
    assert fs.glob("*1.nc") == [bench.product_id(1)]


def test_a_mapper_reads_products(bench: Any) -> None:
    """The mapping that Zarr uses holds the bytes of the products."""
    mapper = bench.filesystem(bench.start(days=2)).get_mapper(bench.query)

    assert sorted(mapper) == [bench.product_id(1), bench.product_id(2)]
    assert mapper[bench.product_id(2)] == bench.body(2)
    assert "nope" not in mapper
    with pytest.raises(KeyError):
        mapper["nope"]


def test_upath_goes_about_like_pathlib(bench: Any) -> None:
    """UPath finds our class by its entry point; parents, children and patterns work."""
    options = bench.settings(bench.start(days=3))
    query = UPath(bench.query, **options)
    product = query / bench.product_id(2)

    assert isinstance(query, HDAPath)
    assert isinstance(product, HDAPath)
    assert [query.is_dir(), query.exists(), product.is_file(), product.is_dir()] == [
        *(True, True, True, False),
    ]
    assert not (query / "nope").exists()
    assert sorted(path.name for path in query.iterdir()) == [bench.product_id(d) for d in (1, 2, 3)]
    assert sorted(p.name for p in query.glob("*0[12].nc")) == [bench.product_id(d) for d in (1, 2)]
    assert product.read_bytes() == bench.body(2)
    assert str(product) == bench.path(2)
    assert (product.name, product.suffix) == (bench.product_id(2), ".nc")
    assert product.parent == query
    assert str(query.parent) == f"hda://{bench.dataset}/enddate=2024-05-31"
    assert str(query.parent.parent).rstrip("/") == f"hda://{bench.dataset}"
    with product.open("rb") as handle:
        assert handle.read(4) == b"CDF\x01"
    assert product.stat().st_size == 2032
    with pytest.raises(OSError, match="read-only"):
        product.write_bytes(b"x")


def test_block_caches_are_accepted(bench: Any) -> None:
    """What xarray's h5netcdf passes to ``open`` changes nothing: the file is local."""
    fs = bench.filesystem(bench.start(days=1))

    with fs.open(bench.path(1), cache_type="blockcache", block_size=4 << 20) as handle:
        assert handle.read() == bench.body(1)
    with fs.open(bench.path(1), "rb", cache_options={"maxblocks": 2}, cache_type="none") as handle:
        assert handle.seek(-1, os.SEEK_END) == 2031


def test_text_mode(bench: Any) -> None:
    """Text is decoded, with the line ends and the errors that were asked for."""
    body = "é\r\nb\n".encode("latin-1")
    fs = bench.filesystem(bench.start(products=one("notes.txt", body)))
    path = f"{bench.query}/notes.txt"

    for mode in ("r", "rt"):
        with fs.open(path, mode, encoding="latin-1", newline="") as handle:
            assert list(handle) == ["é\r\n", "b\n"]
    assert fs.read_text(path, encoding="utf-8", errors="replace") == "\ufffd\nb\n"
    with pytest.raises(UnicodeDecodeError):
        fs.read_text(path, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "compress", "asked"),
    [
        ("a.gz", gzip.compress, "infer"),
        ("a.gz", gzip.compress, "gzip"),
        ("a.bz2", bz2.compress, "bz2"),
    ],
)
def test_compression(bench: Any, name: str, compress: Any, asked: str) -> None:
    """``compression=`` unpacks on the fly, by name or by suffix."""
    emulator = bench.start(products=one(name, compress(b"words\n" * 50)))

    with fsspec.open(
        f"{bench.query}/{name}", "rt", compression=asked, hda=bench.settings(emulator)
    ) as handle:
        assert handle.read() == "words\n" * 50


@contextlib.contextmanager
def environment(monkeypatch: pytest.MonkeyPatch, bench: Any, emulator: Any) -> Iterator[None]:
    """Let filesystems without options find the emulator."""
    with monkeypatch.context() as patch:
        for name, value in emulator.environment.items():
            patch.setenv(name, value)
        patch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
        yield


@pytest.mark.slow
@pytest.mark.parametrize("how", ["rsync", "copy", "storage options"])
def test_generic_copies_run_in_parallel(
    bench: Any, slow: Any, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copying to another filesystem orders all products together."""
    names = [bench.product_id(day) for day in range(1, 6)]

    with environment(monkeypatch, bench, slow):
        if how == "rsync":
            rsync(bench.query, "memory://bucket")
        elif how == "copy":
            sources = [f"{bench.query}/{name}" for name in names]
            GenericFileSystem().copy(sources, [f"memory://bucket/{name}" for name in names])
        else:
            options = {"hda": bench.settings(slow), "memory": {}}
            given = {"default_method": "options", "storage_options": options}
            rsync(bench.query, "memory://bucket", inst_kwargs=given)

    memory = fsspec.filesystem("memory")
    assert {path.rpartition("/")[2]: memory.cat(path) for path in memory.find("/bucket")} == {
        name: bench.body(day) for day, name in enumerate(names, start=1)
    }
    assert slow.max_in_preparation > 1


@pytest.mark.slow
def test_rsync_copies_only_what_differs(
    bench: Any, slow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeated rsync copies nothing, since lengths are known after the first."""
    with environment(monkeypatch, bench, slow):
        rsync(bench.query, "memory://bucket")
        again = rsync(bench.query, "memory://bucket")

    assert again == {}
