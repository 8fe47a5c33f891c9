"""``fs.download`` into a bucket: whole objects under the delivered names, on any filesystem."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import s3_parts
import xarray as xr
from fsspec.callbacks import Callback
from fsspec.implementations.local import LocalFileSystem
from s3_parts import PART_BYTES, in_parts
from upath import UPath

from hda_fsspec import Location
from hda_fsspec.cli import main
from hda_fsspec.emulator import Fault, ProductEntry
from hda_fsspec.errors import ConfigurationError, HDAError, LocationError
from hda_fsspec.fetching.remote_folder import RemoteFolder, UploadCancelledError


class Shelf(LocalFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """A filesystem that writes bit by bit and renames, as those of disks elsewhere do."""

    protocol = "shelf"
    cut_after: int | None = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("shelf://")))

    def unstrip_protocol(self, name: str) -> str:
        """Return the address of a path."""
        return f"shelf://{name}"

    def put_file(self, lpath: str, rpath: str, callback: Any = None, **kwargs: Any) -> None:
        """Copy a file, of which it takes no more than it may."""
        data = Path(lpath).read_bytes()
        Path(rpath).write_bytes(data[: self.cut_after])

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Rename a file, but over none that is there."""
        if Path(path2).exists():
            raise FileExistsError(path2)
        Path(path1).rename(path2)


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """Options of a real S3 server on loopback."""
    from moto.server import ThreadedMotoServer  # which takes its time, in all processes of a run

    for name in ("HTTP_PROXY", "http_proxy"):
        os.environ.pop(name, None)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "key": "a",
        "secret": "not-shown",
        "endpoint_url": f"http://{host}:{port}",
        "client_kwargs": {"region_name": "eu-central-1"},
    }
    server.stop()


@pytest.fixture
def bucket(s3: dict[str, Any]) -> Iterator[Any]:
    """Return the filesystem of an S3 server with an empty bucket."""
    fs = fsspec.filesystem("s3", **s3)
    fs.mkdir("bucket")
    yield fs
    for upload in fs.list_multipart_uploads("bucket"):
        fs.abort_mpu("bucket", upload["Key"], upload["UploadId"])
    fs.rm("bucket", recursive=True)


@pytest.fixture
def _bucket_if_needed(kind: str, request: pytest.FixtureRequest) -> None:
    """Make an empty bucket where a test is about that kind."""
    if kind == "s3":
        request.getfixturevalue("bucket")


@pytest.fixture
def targets(s3: dict[str, Any], tmp_path: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Folders of three kinds of filesystems, with their options."""
    fsspec.register_implementation("shelf", Shelf, clobber=True)
    return {
        "s3": ("s3://bucket/p/x/", s3),
        "memory": ("memory://bucket/p/x/", {}),
        "shelf": (f"shelf://{tmp_path}/elsewhere/x/", {}),
    }


def named(names: dict[str, str | None], size: int = 10) -> list[ProductEntry]:
    """Return products that are delivered under these names, each with its id in it."""
    return [
        ProductEntry(
            product_id,
            product_id.encode() * size,
            f"2024-05-{day:02}T00:00:00.000Z",
            f"2024-05-{day:02}T23:59:59.999Z",
            delivered_name=name,
        )
        for day, (product_id, name) in enumerate(names.items(), start=1)
    ]


def content(url: str, options: dict[str, Any]) -> dict[str, bytes]:
    """Return what is in a folder, by name; hidden files as well."""
    fs, path = fsspec.url_to_fs(url, **options)
    fs.invalidate_cache()
    found = fs.find(path) if fs.exists(path) else []
    return {name.rpartition("/")[2]: fs.cat_file(name) for name in found}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "memory", "shelf"])
@pytest.mark.usefixtures("_bucket_if_needed")
def test_copies_go_there_and_are_found_again(
    kind: str, bench: Any, targets: Any, tmp_path: Path
) -> None:
    """Delivered names, addresses in order; with skip_existing only what lacks is ordered.

    That holds on another machine too, where nothing was noted and no length is known.
    """
    url, options = targets[kind]
    whole = tmp_path / "whole.nc"
    xr.Dataset({"sst": ("x", list(range(500)))}).to_netcdf(whole, engine="netcdf4")
    ids = ("a", "b", "c")
    products = [
        ProductEntry(name, whole, f"2024-05-0{day}T00:00:00Z", f"2024-05-0{day}T23:00:00Z")
        for day, name in enumerate(ids, start=1)
    ]
    emulator = bench.start(products=products)
    fs = bench.filesystem(emulator)

    urls = fs.download(bench.query, url, target_options=options)

    target_fs, root = fsspec.url_to_fs(url, **options)
    assert urls == [target_fs.unstrip_protocol(f"{root.rstrip('/')}/{name}.nc") for name in ids]
    assert content(url, options) == {f"{name}.nc": whole.read_bytes() for name in ids}
    target_fs.rm_file(f"{root.rstrip('/')}/b.nc")
    target_fs.pipe_file(f"{root.rstrip('/')}/c.nc", whole.read_bytes()[:-100])
    shutil.rmtree(bench.cache_dir / "v1" / "products")
    for cache, orders in ((bench.cache_dir, 2), (tmp_path / "other", 0)):
        before = emulator.downloads
        elsewhere = bench.filesystem(emulator, cache_dir=cache)
        assert elsewhere.download(bench.query, url, skip_existing=True, target_options=options) == (
            urls
        )
        assert emulator.downloads == before + orders
        assert content(url, options) == {f"{name}.nc": whole.read_bytes() for name in ids}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "memory", "shelf"])
@pytest.mark.usefixtures("_bucket_if_needed")
def test_equal_names_and_foreign_files(
    kind: str, bench: Any, targets: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Products of one name get their ids; what somebody else wrote stays as it is.

    A file that holds just what is to be written, or its beginning, is none of that kind.
    """
    url, options = targets[kind]
    products = named(
        {"a": "same.csv", "b": "same.csv", "c": "foreign.csv", "d": "equal.csv", "e": "begun.csv"}
    )
    fs = bench.filesystem(bench.start(products=products))
    target_fs, root = fsspec.url_to_fs(url, **options)
    root = root.rstrip("/")
    with contextlib.suppress(NotImplementedError):
        if kind == "shelf":
            target_fs.makedirs(root)
    for name, body in {"foreign": b"not mine", "equal": b"d" * 10, "begun": b"e" * 3}.items():
        target_fs.pipe_file(f"{root}/{name}.csv", body)

    urls = fs.download(bench.query, url, target_options=options)

    names = ["a_same.csv", "b_same.csv", "c_foreign.csv", "equal.csv", "begun.csv"]
    assert [one.rpartition("/")[2] for one in urls] == names
    assert content(url, options) == {
        "foreign.csv": b"not mine",
        **{name: product.encode() * 10 for name, product in zip(names, "abcde", strict=True)},
    }
    assert "Another name was taken for c" in caplog.text
    # What is ours is replaced, with no second copy.
    fs.download(bench.query + "/d", url, target_options=options)
    assert len(content(url, options)) == 6


@pytest.mark.slow
def test_one_product_may_be_named(bench: Any, bucket: Any, s3: dict[str, Any]) -> None:
    """One product and a target that is no folder is that object; a bucket and a slash are folders.

    UPaths bring their own options.
    """
    fs = bench.filesystem(bench.start(3))
    query, path = bench.query, bench.path(1)
    name = bench.product_id(1)

    assert fs.download(path, "s3://bucket/mine.nc", target_options=s3) == ["s3://bucket/mine.nc"]
    fs.download(path, "s3://bucket/mine.nc", target_options=s3)
    assert fs.download(path, "s3://bucket", target_options=s3) == [f"s3://bucket/{name}"]
    assert fs.download([path], UPath("s3://bucket/u", **s3)) == [f"s3://bucket/u/{name}"]
    assert fs.download(path, " S3://bucket/v/", target_options=s3) == [f"s3://bucket/v/{name}"]
    assert fs.download([Location.parse(query)], Path("s3://bucket/w"), target_options=s3) == [
        f"s3://bucket/w/{bench.product_id(day)}" for day in (1, 2, 3)
    ]
    assert bucket.cat_file("bucket/mine.nc") == bench.body(1)
    assert len(bucket.find("bucket")) == 7


@pytest.mark.slow
def test_a_large_object_goes_in_parts(bench: Any, bucket: Any, s3: dict[str, Any]) -> None:
    """An upload that is cut between its parts leaves neither an object nor a part behind."""
    body = bench.body(1, 3 * PART_BYTES)
    path = bench.folder / "large"
    path.write_bytes(body)
    cancelled = threading.Event()

    class Cut(in_parts(s3)):  # type: ignore[misc]
        """Says in the middle of an upload that nobody wants it."""

        async def _call_s3(self, method: str, *args: Any, **kwargs: Any) -> Any:
            if method == "upload_part" and kwargs["PartNumber"] == 2:
                cancelled.set()
            return await super()._call_s3(method, *args, **kwargs)

    folder = RemoteFolder("s3://bucket/large/", s3)
    folder.fs = Cut(**s3, skip_instance_cache=True)
    with path.open("rb") as source, pytest.raises(UploadCancelledError):
        folder.put(source, "large.nc", cancelled)
    assert cancelled.is_set()
    assert bucket.find("bucket") == []
    assert list(bucket.list_multipart_uploads("bucket")) == []

    folder.fs = in_parts(s3)(**s3, skip_instance_cache=True)
    with path.open("rb") as source:
        folder.put(source, "large.nc", threading.Event())
    bucket.invalidate_cache()
    assert bucket.cat_file("bucket/large/large.nc") == body
    assert bucket.info("bucket/large/large.nc")["ETag"].endswith('-4"')


@pytest.mark.slow
def test_a_killed_process_leaves_no_object(bench: Any, bucket: Any, s3: dict[str, Any]) -> None:
    """What a process was putting when it was killed is not there; the next run puts it."""
    path = bench.folder / "large"
    path.write_bytes(bench.body(1, 2 * PART_BYTES))

    ended = subprocess.run(
        [sys.executable, s3_parts.__file__, json.dumps([str(path), s3])], check=False, timeout=100
    )

    assert ended.returncode == -signal.SIGKILL
    assert bucket.find("bucket") == []
    assert len(list(bucket.list_multipart_uploads("bucket"))) == 1
    with path.open("rb") as source:
        file = RemoteFolder("s3://bucket/x/", s3).put(source, "large.nc", threading.Event())
    assert file is not None
    assert file.size == path.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "shelf"])
def test_an_interrupt_leaves_whole_files(kind: str, bench: Any, bucket: Any, targets: Any) -> None:
    """It ends what is under way; nothing hidden stays, and the next run copies the rest."""
    url, options = targets[kind]
    emulator = bench.start(8)
    fs = bench.filesystem(emulator)

    class Interrupted(Callback):  # type: ignore[misc]  # fsspec is untyped
        """What a user does when the first copy is there."""

        def relative_update(self, inc: int = 1) -> None:
            if inc:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fs.download(bench.query, url, callback=Interrupted(), target_options=options)

    bodies = {bench.product_id(day): bench.body(day) for day in range(1, 9)}
    found = content(url, options)
    assert found.items() <= bodies.items()
    assert list(bucket.list_multipart_uploads("bucket")) == []
    fs.download(bench.query, url, target_options=options, skip_existing=True)
    assert content(url, options) == bodies
    assert emulator.orders == 8


def test_a_disk_elsewhere_that_is_cut(bench: Any, targets: Any) -> None:
    """What arrives short is an error, and nothing of it stays under any name."""
    url, options = targets["shelf"]
    fs = bench.filesystem(bench.start(2))
    Shelf.cut_after = 100
    try:
        with pytest.raises(OSError, match="100 bytes of 2032 arrived") as failed:
            fs.download(bench.query, url)
    finally:
        Shelf.cut_after = None

    assert "stays in the cache" in str(failed.value)
    assert content(url, options) == {}
    assert len(fs.download(bench.query, url)) == 2


@pytest.mark.slow
def test_what_cannot_work_orders_nothing(bench: Any, bucket: Any, s3: dict[str, Any]) -> None:
    """A bucket that is not there, chains, unknown filesystems and options are refused first."""
    emulator = bench.start(3)
    fs = bench.filesystem(emulator)

    with pytest.raises(FileNotFoundError, match=r"no absent.*Make the bucket") as missing:
        fs.download(bench.query, "s3://absent/x/", target_options=s3)
    for url in (
        *("simplecache::s3://bucket/x", "hda://EO:X/startdate=2024", "nosuch://bucket/x"),
        *("memory://bucket/..", "memory://bucket/../x/", "s3://bucket/./x/"),
    ):
        with pytest.raises(LocationError, match="Cannot copy to"):
            fs.download(bench.query, url)
    with pytest.raises(ConfigurationError, match="is local"):
        fs.download(bench.query, "out", target_options=s3)
    with pytest.raises(OSError, match="Cannot reach s3://bucket/x/: TypeError"):
        fs.download(bench.query, "s3://bucket/x/", target_options={"no_such_option": 1})

    assert str(pickle.loads(pickle.dumps(missing.value))) == str(missing.value)
    assert emulator.downloads == 0
    assert emulator.log.where(lambda record: record.method == "POST") == []


@pytest.mark.slow
def test_a_refusal_for_all_ends_the_orders(bench: Any, s3: dict[str, Any], bucket: Any) -> None:
    """Who may look but not write gets a PermissionError, and what had not begun is not ordered."""
    emulator = bench.start(12)
    fs = bench.filesystem(emulator, max_orders=1, max_connections=1)
    target = RemoteFolder("s3://bucket/x/", s3)

    class Refusing(type(target.fs)):  # type: ignore[misc]
        """A filesystem whose credentials may not write."""

        protocol = ("refusing",)

        async def _put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
            raise PermissionError("Access Denied")

    fsspec.register_implementation("refusing", Refusing, clobber=True)
    with pytest.raises(PermissionError, match=r"Access Denied.*credentials") as refused:
        fs.download(bench.query, "refusing://bucket/x/", target_options=s3)

    assert "not-shown" not in str(refused.value)
    assert 0 < emulator.downloads < 12
    assert bucket.find("bucket") == []


def test_a_failure_leaves_the_others(bench: Any, targets: Any) -> None:
    """One product that cannot be had stops none of the others."""
    url, options = targets["memory"]
    emulator = bench.start(products=named({"a": "A.csv", "b": "B.csv", "c": "C.csv"}))
    emulator.fault(Fault("order-failed", product_id="b", times=None))

    with pytest.raises(HDAError, match="b"):
        bench.filesystem(emulator).download(bench.query, url)

    assert sorted(content(url, options)) == ["A.csv", "C.csv"]


@pytest.mark.slow
def test_the_command_copies_there(
    bench: Any,
    bucket: Any,
    s3: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``hda-fsspec get … s3://…`` prints addresses, and skips what is there if asked to."""
    emulator = bench.start(3)
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    options = [
        f"--target-option={name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in s3.items()
    ]

    assert main(["get", *options, bench.query, "s3://bucket/p"]) == 0
    urls = [f"s3://bucket/p/{bench.product_id(day)}" for day in (1, 2, 3)]
    assert capsys.readouterr().out.splitlines() == urls
    shutil.rmtree(bench.cache_dir)
    assert main(["get", "--skip-existing", "--json", *options, bench.query, "s3://bucket/p"]) == 0
    assert json.loads(capsys.readouterr().out) == urls
    assert emulator.downloads == 3
    with pytest.raises(SystemExit) as ended:
        main(["get", "--target-option=x", bench.query, "s3://bucket/p"])
    assert ended.value.code == 2
    assert "NAME=VALUE" in capsys.readouterr().err


@pytest.mark.slow
def test_a_bucket_is_a_second_cache(bench: Any, bucket: Any, s3: dict[str, Any]) -> None:
    """What one machine put into a bucket another takes from there, and orders nothing."""
    emulator = bench.start(days=2)
    shared = {"shared_cache": "s3://bucket/team", "shared_cache_options": s3}
    fs = bench.filesystem(emulator, **shared, cache_dir=bench.folder / "a")
    fs.prefetch(bench.query)
    fs.flush_shared_cache()
    assert len(bucket.find("bucket/team")) == 4
    assert emulator.order_posts == 2

    other = bench.filesystem(emulator, **shared, cache_dir=bench.folder / "b")
    assert [other.cat_file(bench.path(day)) for day in (1, 2)] == [bench.body(1), bench.body(2)]

    assert emulator.order_posts == 2
