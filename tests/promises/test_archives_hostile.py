"""Archives made to harm: members that clash, names that mean something, sums that fill a disk."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.filenames import is_plain
from hda_fsspec.reading import unpacking
from hda_fsspec.reading.archives import list_members
from hda_fsspec.reading.opening import OpenOptions, open_local
from hda_fsspec.reading.trees import open_tree
from hda_fsspec.reading.unpacking import unpack

NETCDF = b"CDF\x01" + bytes(28)

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")


def _zip(names: Sequence[str], body: bytes = NETCDF) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, body)
    return made.getvalue()


def _tar(names: Sequence[str], body: bytes = NETCDF) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return made.getvalue()


MAKERS = [_zip, _tar]


@for_each("make", MAKERS)
@for_each(
    ("names", "told"),
    [
        (["a.nc", "a.nc/b.nc"], "a.nc/b.nc"),
        (["a.nc/b/c.nc", "a.nc"], "a.nc/b/c.nc"),
        (["x", "a.nc", "a.nc"], "a.nc"),
        (["P/a.nc", "P//./a.nc"], "P/a.nc"),
        (["P/a.nc", "p/A.NC"], "p/A.NC"),
        (["A.nc", "a.nc/b.nc"], "a.nc/b.nc"),
        (["é.nc", "e\u0301.nc"], "e\u0301.nc"),
        (["STRASSE.nc", "straße.nc"], "straße.nc"),
    ],
)
def test_members_that_clash(
    make: Callable[[Sequence[str]], bytes], names: list[str], told: str, tmp_path: Path
) -> None:
    """Two that would be one file, or one that is the folder of another: both are named."""
    path = tmp_path / "p"
    path.write_bytes(make(names))
    options = OpenOptions.make(member=names[0])

    for door in (
        lambda: list_members(path),
        lambda: open_local(path, options, name="p", scratch=tmp_path / "scratch"),
        lambda: open_tree(path, OpenOptions(), name="p", scratch=tmp_path / "scratch"),
    ):
        with pytest.raises(ProductFormatError, match="cannot both be unpacked") as caught:
            door()
        assert repr(told) in str(caught.value)
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("make", MAKERS)
def test_members_that_only_resemble(make: Callable[[Sequence[str]], bytes], tmp_path: Path) -> None:
    """Equal names in several folders, folders of one beginning, a suffix more: no clash."""
    names = ["a/x.nc", "b/x.nc", "ab/x.nc", "a.nc", "a.nc.idx", "a/a.nc", "A/y.nc"]
    path = tmp_path / "p"
    path.write_bytes(make(names))

    assert [member.name for member in list_members(path)] == names


@pytest.fixture
def inner(tmp_path: Path) -> bytes:
    """Return a small netCDF file."""
    path = tmp_path / "inner.nc"
    xr.Dataset({"v": ("x", np.arange(3.0))}).to_netcdf(path, format="NETCDF3_CLASSIC")
    return path.read_bytes()


@pytest.mark.slow
@for_each("make", MAKERS)
@for_each(
    "name",
    [
        *("CON", "P/nul.nc", "aux/x.nc", ".bashrc", "-rf", "P/a.", "P. /x.nc", 'a<b>:"|?*.nc'),
        *("x" * 300 + ".nc", "é" * 200, "/".join(["deep"] * 600) + "/x.nc", "a\x1b[31m.nc"),
        *("a\\..\\..\\x.nc", "e\u0301.nc", "a\u202egpj.nc"),
    ],
)
def test_members_with_names_that_mean_something(
    make: Callable[[Sequence[str]], bytes], name: str, inner: bytes, tmp_path: Path
) -> None:
    """They are unpacked under harmless ones, however long they are, and found by their own."""
    path = tmp_path / "p"
    path.write_bytes(make([name, "other.nc"], inner))  # type: ignore[call-arg]
    member = next(each for each in list_members(path) if each.name != "other.nc")

    target = unpack(path, member, tmp_path / "scratch")
    options = OpenOptions.make(member=member.name)
    with open_local(path, options, name="p", scratch=tmp_path / "scratch") as ds:
        assert ds["v"].values.tolist() == [0.0, 1.0, 2.0]

    assert target.read_bytes() == inner
    assert all(is_plain(part) for part in target.relative_to(tmp_path / "scratch").parts)


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a bomb be small."""
    monkeypatch.setattr(unpacking, "BOMB_BYTES", 1 << 20)
    monkeypatch.setattr(unpacking, "BOMB_RATIO", 50)


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.usefixtures("small_bounds")
def test_many_members_of_which_none_is_large(tmp_path: Path) -> None:
    """What all of them have together counts, and is known before the first is unpacked."""
    path = tmp_path / "p"
    path.write_bytes(_zip([f"{n}.nc" for n in range(10)], NETCDF + bytes(200_000)))

    with pytest.raises(ProductFormatError, match="made to fill a disk"):
        unpack(path, list_members(path)[0], tmp_path / "scratch")
    for options in (OpenOptions.make(member="0.nc"), OpenOptions.make(member="*.nc")):
        with pytest.raises(ProductFormatError, match="made to fill a disk"):
            open_local(path, options, name="p", scratch=tmp_path / "scratch")
    assert _size_of(tmp_path / "scratch") == 0


@pytest.mark.usefixtures("small_bounds")
@pytest.mark.parametrize("inner", ["zip", "gzip", "tar.gz"])
def test_archives_in_an_archive_count_together(inner: str, tmp_path: Path) -> None:
    """Each of them is within bounds; together they are not, at any depth."""
    body = NETCDF + bytes(600_000)
    packed = {
        "zip": _zip(["x.nc"], body),
        "gzip": gzip.compress(body),
        "tar.gz": gzip.compress(_tar(["x.nc"], body)),
    }[inner]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for number in range(8):
            archive.writestr(f"{number}.{inner}", packed)
    path = tmp_path / "p"
    path.write_bytes(made.getvalue())

    with pytest.raises(ProductFormatError, match="made to fill a disk"):
        open_tree(path, OpenOptions(), name="p", scratch=tmp_path / "scratch")

    assert _size_of(tmp_path / "scratch") < 3 << 20


@pytest.mark.usefixtures("small_bounds")
def test_a_bomb_in_a_bomb(tmp_path: Path) -> None:
    """The bound is that of the product, and not of what it became on the way."""
    body = NETCDF + bytes(900_000)
    for _ in range(2):
        body = _zip(["x"], body) + b""
    outer = gzip.compress(_tar([f"{n}.zip" for n in range(6)], body))
    path = tmp_path / "p"
    path.write_bytes(outer)

    with pytest.raises(ProductFormatError, match="made to fill a disk"):
        open_tree(path, OpenOptions(), name="p", scratch=tmp_path / "scratch")


def test_several_members_need_room_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that has room for some of them is not filled with those."""
    inner = tmp_path / "inner.nc"
    xr.Dataset({"v": ("x", np.arange(3000.0))}).to_netcdf(inner, format="NETCDF3_CLASSIC")
    body = inner.read_bytes()
    path = tmp_path / "p"
    path.write_bytes(_zip(["a.nc", "b.nc", "c.nc"], body))
    room = shutil.disk_usage(tmp_path)._replace(free=2 * len(body))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    scratch = tmp_path / "scratch"

    with pytest.raises(OSError, match=rf"3 files of .* needs {3 * len(body)} bytes"):
        open_local(path, OpenOptions.make(member="*"), name="p", scratch=scratch)
    with pytest.raises(OSError, match=r"3 files of .* needs \d+ bytes"):
        open_tree(path, OpenOptions(), name="p", scratch=scratch)
    assert _size_of(scratch) == 0
    with open_local(path, OpenOptions.make(member="a.nc"), name="p", scratch=scratch) as ds:
        assert ds.sizes["x"] == 3000
    # What is unpacked needs no room any more.
    with open_local(path, OpenOptions.make(member="*"), name="p", scratch=scratch) as ds:
        assert ds.sizes["x"] == 3000
