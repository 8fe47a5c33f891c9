"""Local targets are understood as fsspec does; ``get`` names the line that copies elsewhere."""

from __future__ import annotations

import itertools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from rows import for_each
from upath import UPath

from hda_fsspec import Location
from hda_fsspec.cli import main
from hda_fsspec.emulator import Emulator
from hda_fsspec.errors import ConfigurationError, LocationError
from hda_fsspec.localpaths import local_path, remote_scheme, shown
from hda_fsspec.settings import Settings, rc_path

REMOTE: dict[str, Any] = {
    "a bucket": "s3://bucket/prefix",
    "an unknown scheme": "rados+x://pool/a",
    "in capitals": "S3://bucket",
    "with a blank before it": " gs://bucket",
    "our own": "hda://EO:X/startdate=2024-05-01",
    "a chain": "zip://a.nc::file:///tmp/b.zip",
    "a chain without slashes": "simplecache::out",
    "a chain at its end": "mine::s3://bucket/x",
    "through pathlib": Path("s3://bucket/prefix"),
    "a UPath": UPath("memory://bucket/prefix"),
    "an open file to be": fsspec.open("memory://bucket/x", "wb"),
    "bytes": b"s3://bucket/prefix",
}
LOCAL = {
    "file:///data/out": "/data/out",
    "file:/data/out/": "/data/out/",
    "local://out": "out",
    "~/out/": "{home}/out/",
    "file://~/out": "{home}/out",
    "a:b": "a:b",
    "EO:MO:DAT:X::Y": "EO:MO:DAT:X::Y",
    "C:/data": "C:/data",
    "out/s3://bucket": "out/s3://bucket",
    "x:/y": "x:/y",
}


@pytest.fixture
def emulator(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Emulator:
    """Three days of products, where the environment leads; the working folder is empty."""
    running: Emulator = bench.start(3)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return running


@for_each("target", REMOTE.values())
def test_what_is_elsewhere(target: Any) -> None:
    """Whatever leads to another filesystem is told, and has no local path."""
    assert remote_scheme(target) is not None
    with pytest.raises(ValueError, match="no local path"):
        local_path(target)


@for_each(("target", "path"), LOCAL.items())
def test_what_is_local(target: str, path: str) -> None:
    """Local targets are those of fsspec's own local filesystem, as text, bytes and paths."""
    expected = path.format(home=os.environ["HOME"])

    assert local_path(target) == local_path(target.encode()) == expected
    if not expected.startswith("C:"):
        theirs = fsspec.filesystem("file")._strip_protocol(target)
        assert os.path.abspath(expected) == os.path.abspath(theirs)  # noqa: PTH100


def test_a_target_is_shown_without_secrets() -> None:
    """Neither a password nor a signature of an address gets into a message."""
    assert shown("simplecache::ftp://me:s3@cret@host/x?sig=abc") == "simplecache::ftp://host/x"


VERBS: dict[str, Callable[[Any, str, Any], Any]] = {
    "get": lambda fs, path, to: fs.get(path, to, recursive=True),
    "get of a list": lambda fs, path, to: fs.get([path], [to]),
    "get of a list into one": lambda fs, path, to: fs.get([path], to),
    "get_file": lambda fs, path, to: fs.get_file(path, to),
}


@pytest.mark.slow
@for_each("verb", VERBS.values())
@pytest.mark.parametrize("target", REMOTE.values(), ids=REMOTE)
def test_no_verb_makes_a_folder_of_a_url(
    verb: Callable[[Any, str, Any], Any], target: Any, bench: Any, emulator: Emulator
) -> None:
    """``get`` refuses another filesystem before it asks or writes anything."""
    fs = bench.filesystem(emulator)

    with pytest.raises(LocationError, match="another filesystem") as refused:
        verb(fs, bench.path(1), target)

    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)
    assert len(emulator.log) == 0
    assert list(Path().iterdir()) == []
    assert MemoryFileSystem.store == {}


def _run_line(message: str, fs: Any) -> None:
    """Run the Python that a message offers."""
    _, _, line = message.partition("delivers:\n")
    exec(line.strip(), {"fs": fs})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "target", "is_from_environment"),
    [
        (kind, target, number % 2 == 0)
        for number, (kind, target) in enumerate(
            itertools.product(
                ["query", "data set", "pattern", "product", "list"],
                ["memory://bucket/x", "memory://bucket/x/"],
            )
        )
    ],
)
def test_the_line_that_is_named_works(
    kind: str, target: str, bench: Any, emulator: Emulator, is_from_environment: bool
) -> None:
    """What the message offers copies the products to the other filesystem."""
    fs = fsspec.filesystem("hda") if is_from_environment else bench.filesystem(emulator)
    source = {
        "query": bench.query,
        "data set": Location(bench.dataset),
        "pattern": f"{bench.query}/*0[1-3].nc",
        "product": bench.path(1),
        "list": [bench.path(1), bench.path(2)],
    }[kind]
    with pytest.raises(LocationError) as refused:
        fs.get(source, target)

    _run_line(str(refused.value), fs)

    found = {path: file.getvalue() for path, file in MemoryFileSystem.store.items()}
    days = {"product": 1, "list": 2}.get(kind, 3)
    if kind == "product" and not target.endswith("/"):
        assert found == {"/bucket/x": bench.body(1)}
    else:
        assert found == {
            f"/bucket/x/{bench.product_id(day)}": bench.body(day) for day in range(1, days + 1)
        }
    assert list(Path().iterdir()) == []


def test_all_data_sets_have_no_line(bench: Any, emulator: Emulator) -> None:
    """No line is offered for a source that no line can copy."""
    with pytest.raises(LocationError, match="every data set"):
        bench.filesystem(emulator).get("hda://", "s3://bucket", recursive=True)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["file://{}", "local://{}", "file:{}", "{}"])
def test_local_urls_are_local(form: str, bench: Any, emulator: Emulator, tmp_path: Path) -> None:
    """``file://`` and ``local://`` are local targets of all verbs."""
    fs = bench.filesystem(emulator)
    out = form.format(tmp_path / "out")

    fs.get(bench.query, f"{out}/a/", recursive=True)
    fs.get_file(bench.path(1), f"{out}/b")
    fs.get([bench.path(1)], [f"{out}/c/x"])
    paths = fs.download(bench.query, f"{out}/d")

    days = [bench.product_id(day) for day in (1, 2, 3)]
    assert sorted(path.name for path in (tmp_path / "out" / "a").rglob("*.nc")) == days
    assert (tmp_path / "out" / "b").read_bytes() == bench.body(1)
    assert (tmp_path / "out" / "c" / "x").read_bytes() == bench.body(1)
    assert paths == [str(tmp_path / "out" / "d" / day) for day in days]
    assert list(Path().iterdir()) == []


def test_a_tilde_is_the_home_folder(bench: Any, emulator: Emulator) -> None:
    """``~`` is understood by every verb, as text, in pathlib's paths and after ``file://``."""
    fs = bench.filesystem(emulator)
    home = Path.home()

    fs.get(bench.path(1), "~/a.nc")
    fs.get([bench.path(1)], ["~/b.nc"])
    fs.get_file(bench.path(1), Path("~/c.nc"))
    fs.download(bench.path(1), Path("~/d.nc"))
    fs.download(bench.path(1), UPath("file://~/e.nc"))
    [product] = fs.download(bench.path(1), "~/f/")

    found = [*(home / f"{name}.nc" for name in "abcde"), home / "f" / bench.product_id(1)]
    assert [path.read_bytes() for path in found] == [bench.body(1)] * 6
    assert product == str(found[-1])
    assert list(Path().iterdir()) == []


def test_an_open_file_is_written_to(bench: Any, emulator: Emulator) -> None:
    """``get_file`` into an open file writes it, wherever that file is."""
    with fsspec.open("memory://bucket/x", "wb") as copy:
        bench.filesystem(emulator).get_file(bench.path(1), copy)

    assert MemoryFileSystem.store["/bucket/x"].getvalue() == bench.body(1)


def test_the_command_takes_local_urls(
    bench: Any, emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``hda-fsspec get`` to ``file://`` writes there and prints plain paths."""
    assert main(["get", bench.path(1), f"file://{tmp_path}/out"]) == 0

    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "out" / bench.product_id(1))]


@pytest.mark.parametrize("given", ["s3://bucket/cache", Path("s3://bucket"), UPath("memory://x")])
def test_a_cache_folder_is_local(given: Any, emulator: Emulator, tmp_path: Path) -> None:
    """The cache folder is local, too: a bucket is refused, ``file://`` is taken."""
    with pytest.raises(ConfigurationError, match="give a local folder"):
        Settings.resolve(cache_dir=given)

    assert Settings.resolve(cache_dir=f"file://{tmp_path}/c").cache_dir == tmp_path / "c"
    assert list(Path().iterdir()) == []


def test_an_rc_file_and_a_demo_are_local(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """``HDA_RC`` and ``--keep`` name local files and folders, or are refused."""
    monkeypatch.setenv("HDA_RC", "s3://bucket/hdarc")
    with pytest.raises(ConfigurationError, match="HDA_RC"):
        rc_path()
    monkeypatch.setenv("HDA_RC", f"file://{tmp_path}/rc")
    assert rc_path() == tmp_path / "rc"

    with pytest.raises(SystemExit) as ended:
        main(["demo", "--keep", "s3://bucket/demo"])
    assert ended.value.code == 2
    assert "no local path" in capsys.readouterr().err
