"""Members of archives: what is listed, what is unpacked, and what is refused."""

from __future__ import annotations

import atexit
import gzip
import io
import os
import shutil
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import plants
import pytest
from rows import for_each

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import Format
from hda_fsspec.reading import archives, unpacking
from hda_fsspec.reading.archives import Member, Reader, list_members
from hda_fsspec.reading.unpacking import unpack

NETCDF = b"CDF\x01" + bytes(28) + b"values " * 400


def _zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return path


def _tar(path: Path, files: Mapping[str, bytes], *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        for info in more:
            archive.addfile(info)
    return path


def _link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("make", [_zip, _tar])
def test_members_are_listed_with_their_formats(
    make: Callable[[Path, Mapping[str, bytes]], Path], tmp_path: Path
) -> None:
    """Names, lengths and formats are there without unpacking; folders are no members."""
    path = make(tmp_path / "a", {"./X.SEN3/b.nc": NETCDF, "X.SEN3/manifest.xml": b"<x/>"})

    members = list_members(path)

    assert [(each.name, each.size, each.format) for each in members] == [
        ("X.SEN3/b.nc", len(NETCDF), Format.NETCDF3),
        ("X.SEN3/manifest.xml", 4, Format.OTHER),
    ]
    assert _files(tmp_path) == [path]


@for_each(
    ("name", "inner"),
    [
        ("a.nc.gz", "a.nc"),
        ("a.tgz", "a.tar"),
        ("A.TGZ", "A.tar"),
        (".gz", ".gz"),
        ("product", "product"),
    ],
)
def test_a_compressed_file_has_one_member(name: str, inner: str, tmp_path: Path) -> None:
    """A stream holds one file, named after it; its length shows when it is unpacked."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(NETCDF))

    (member,) = list_members(path)

    assert (member.name, member.size, member.format) == (inner, None, Format.NETCDF3)
    assert unpack(path, member, tmp_path / "scratch").read_bytes() == NETCDF


def test_other_files_have_no_members(tmp_path: Path) -> None:
    """A file that is no archive has none, which is no error."""
    path = tmp_path / "a.zip"
    path.write_bytes(NETCDF)

    assert list_members(path) == []


def test_a_member_is_unpacked_once(tmp_path: Path) -> None:
    """The same file serves again; only what was asked for is there."""
    path = _zip(tmp_path / "a.zip", {"x/a.nc": NETCDF, "x/b.nc": NETCDF + b"b"})
    first, second = list_members(path)
    scratch = tmp_path / "scratch"

    local = unpack(path, first, scratch)
    facts = local.stat()

    assert local.name == "a.nc"
    assert local.is_relative_to(scratch)
    assert unpack(path, first, scratch) == local
    assert local.stat().st_ino == facts.st_ino
    assert _files(scratch) == [local]
    assert unpack(path, second, scratch).read_bytes().endswith(b"b")


def test_a_new_version_of_a_product_is_unpacked_anew(tmp_path: Path) -> None:
    """What an older archive of the same name held is not taken for the new one."""
    for body in (NETCDF, NETCDF[::-1]):
        path = _zip(tmp_path / "a.zip", {"a.nc": body})
        (member,) = list_members(path)

        assert unpack(path, member, tmp_path / "scratch").read_bytes() == body


def test_a_member_of_wrong_length_is_replaced(tmp_path: Path) -> None:
    """A file that a power cut left empty under the right name is not data."""
    path = _zip(tmp_path / "a.zip", {"a.nc": NETCDF})
    (member,) = list_members(path)
    unpack(path, member, tmp_path / "scratch").write_bytes(b"")

    assert unpack(path, member, tmp_path / "scratch").read_bytes() == NETCDF


@pytest.mark.slow
@for_each("name", ["scratch", "scratch/members", "scratch/members/key", "a.nc"])
@for_each("plant", [each for each in plants.PLANTS if each != "file"])
def test_what_is_planted_where_members_are_unpacked(
    plant: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member is never read through a link, nor written through one; it is unpacked elsewhere."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(unpacking, "_temporary", {})
    monkeypatch.setattr(atexit, "register", lambda *_: None)
    victim = plants.Victim(tmp_path / "victim")
    path = _zip(tmp_path / "a.zip", {"a.nc": NETCDF})
    (member,) = list_members(path)
    local = unpack(path, member, tmp_path / "scratch")
    above = {"scratch": 2, "scratch/members": 1, "scratch/members/key": 0}
    plants.put(plant, local.parents[above[name]] if name in above else local, victim)

    again = unpack(path, member, tmp_path / "scratch")

    assert again.read_bytes() == NETCDF
    assert again.is_file()
    assert not again.is_symlink()
    assert (again == local) == (plant == "folder" or name == "a.nc")
    victim.check()


def test_a_member_with_a_second_name_is_unpacked_again(tmp_path: Path) -> None:
    """A private file of the same length that was given the name of a member is not read."""
    path = _zip(tmp_path / "a.zip", {"a.nc": NETCDF})
    (member,) = list_members(path)
    local = unpack(path, member, tmp_path / "scratch")
    private = tmp_path / "private"
    private.write_bytes(NETCDF[::-1])
    local.unlink()
    os.link(private, local)

    assert unpack(path, member, tmp_path / "scratch").read_bytes() == NETCDF
    assert private.read_bytes() == NETCDF[::-1]


def test_a_temporary_folder_that_was_tidied_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has the name of ours later, and may be anybody's, is not used."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(unpacking, "_temporary", {})
    monkeypatch.setattr(atexit, "register", lambda *_: None)
    folder = unpacking.temporary_folder()
    assert unpacking.temporary_folder() == folder
    folder.rename(tmp_path / "away")
    folder.mkdir(mode=0o755)

    assert unpacking.temporary_folder() not in {folder, tmp_path / "away"}


def test_many_threads_unpack_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who come second wait, and read what the first one wrote."""
    path = _zip(tmp_path / "a.zip", {"a.nc": NETCDF})
    (member,) = list_members(path)
    calls = []

    def opened(each: Path) -> AbstractContextManager[Reader]:
        calls.append(each)
        return archives.opened(each)

    monkeypatch.setattr("hda_fsspec.reading.unpacking.opened", opened)
    threads = [
        threading.Thread(target=unpack, args=(path, member, tmp_path / "scratch")) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert calls == [path]


def test_modes_follow_the_folder(tmp_path: Path) -> None:
    """In a team's cache the team can read what one of them unpacked; elsewhere nobody else can."""
    path = _zip(tmp_path / "a.zip", {"x/a.nc": NETCDF})
    (member,) = list_members(path)
    for mode in (0o700, 0o770):
        cache = tmp_path / f"{mode:o}"
        cache.mkdir()
        cache.chmod(mode)

        local = unpack(path, member, cache / "scratch")

        assert stat.S_IMODE(local.stat().st_mode) == mode & 0o666
        assert stat.S_IMODE(local.parent.stat().st_mode) == mode


def test_a_temporary_folder_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cache cannot be written, members go elsewhere, and are found there again."""
    path = _zip(tmp_path / "a.zip", {"a.nc": NETCDF})
    (member,) = list_members(path)
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(unpacking, "_temporary", {})
    monkeypatch.setattr(atexit, "register", lambda *_: None)

    local = unpack(path, member, tmp_path / "scratch")

    assert local.read_bytes() == NETCDF
    assert not local.is_relative_to(tmp_path / "scratch")
    assert unpack(path, member, tmp_path / "scratch") == local


def test_members_of_equal_ends_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two archives of equal length, beginning and end never have each other's members."""
    bodies = [NETCDF * 2 + bytes([number]) * 9000 + NETCDF * 4 for number in (1, 2)]
    paths = [
        _tar(tmp_path / f"{number}.tar", {"a.nc": body, "b.nc": NETCDF * 4})
        for number, body in enumerate(bodies)
    ]
    assert unpacking.content_key(paths[0]) == unpacking.content_key(paths[1])
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(unpacking, "_temporary", {})
    monkeypatch.setattr(atexit, "register", lambda *_: None)
    for path, body in zip(paths, bodies, strict=True):
        member, _ = list_members(path)

        assert unpack(path, member, tmp_path / path.stem / ".scratch").read_bytes() == body


@for_each("name", ["/etc/a.nc", "../a.nc", "x/../../a.nc", "..", "x/.."])
@for_each("make", [_zip, _tar])
def test_names_that_lead_out_are_refused(
    make: Callable[[Path, Mapping[str, bytes]], Path], name: str, tmp_path: Path
) -> None:
    """An archive with such a name is not unpacked at all."""
    path = make(tmp_path / "a", {"good.nc": NETCDF, name: NETCDF})

    with pytest.raises(ProductFormatError, match="outside its folder"):
        list_members(path)


@for_each("name", ["/", "./", ".//", "//", "././", "P/", "./P/./"])
def test_a_folder_entry_that_is_the_archive_itself(name: str, tmp_path: Path) -> None:
    """It leads nowhere, and the files beside it are read."""
    path = _zip(tmp_path / "a.zip", {name: b"", "P/a.nc": NETCDF})
    assert [member.name for member in list_members(path)] == ["P/a.nc"]

    folder = tarfile.TarInfo(name)
    folder.type = tarfile.DIRTYPE
    path = _tar(tmp_path / "a.tar", {"P/a.nc": NETCDF}, folder)
    assert [member.name for member in list_members(path)] == ["P/a.nc"]


@for_each("name", ["../", "/../", "./../", "/etc/", "P/../../", ".../../"])
def test_a_folder_entry_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    """Also one that holds nothing."""
    path = _zip(tmp_path / "a.zip", {name: b"", "P/a.nc": NETCDF})
    with pytest.raises(ProductFormatError, match="outside its folder"):
        list_members(path)

    folder = tarfile.TarInfo(name)
    folder.type = tarfile.DIRTYPE
    path = _tar(tmp_path / "a.tar", {"P/a.nc": NETCDF}, folder)
    with pytest.raises(ProductFormatError, match="outside its folder"):
        list_members(path)


@for_each(
    "info",
    [
        _link("a.nc", tarfile.SYMTYPE, "/etc/passwd"),
        _link("a.nc", tarfile.LNKTYPE, "good.nc"),
        _link("a.nc", tarfile.FIFOTYPE, ""),
        _link("a.nc", tarfile.CHRTYPE, ""),
    ],
)
def test_links_and_devices_are_refused(info: tarfile.TarInfo, tmp_path: Path) -> None:
    """Only plain files and folders are in a product."""
    path = _tar(tmp_path / "a.tar", {"good.nc": NETCDF}, info)

    with pytest.raises(ProductFormatError, match="is a link or a device"):
        list_members(path)


def test_symbolic_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    """ZIP keeps them in the attributes that Unix knows."""
    info = zipfile.ZipInfo("a.nc")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")

    with pytest.raises(ProductFormatError, match="is a link or a device"):
        list_members(tmp_path / "a.zip")


def test_a_wrong_checksum_leaves_nothing(tmp_path: Path) -> None:
    """A member whose bytes are not what the archive says never stands under its name."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.nc", NETCDF * 9)
    body = bytearray(path.read_bytes())
    body[-300] ^= 1
    path.write_bytes(body)
    (member,) = list_members(path)

    with pytest.raises(ProductFormatError, match=r"a\.nc in .* failed: Bad CRC-32"):
        unpack(path, member, tmp_path / "scratch")

    assert _files(tmp_path / "scratch") == []


def test_a_stream_that_ends_too_early_leaves_nothing(tmp_path: Path) -> None:
    """A compressed file that is cut short is told when it is unpacked."""
    path = tmp_path / "a.nc"
    packed = gzip.compress(os.urandom(50_000))
    path.write_bytes(packed[:-2000])
    member = Member("a.nc", None, len(packed))

    with pytest.raises(ProductFormatError, match="not complete"):
        unpack(path, member, tmp_path / "scratch")

    assert _files(tmp_path / "scratch") == []


def test_an_encrypted_member_is_told(tmp_path: Path) -> None:
    """There is no password to ask for."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.nc", NETCDF)
    body = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(header) + flags] |= 1
    path.write_bytes(body)

    with pytest.raises(ProductFormatError, match=r"a\.nc in .*encrypted"):
        list_members(path)


@pytest.mark.parametrize("compress", [None, gzip.compress])
def test_a_bomb_is_refused(
    compress: Callable[[bytes], bytes] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What grows beyond all measure is stopped, whether the archive tells its length or not."""
    monkeypatch.setattr(unpacking, "BOMB_BYTES", 1 << 20)
    monkeypatch.setattr(unpacking, "BOMB_RATIO", 100)
    body = bytes(4 << 20)
    path = tmp_path / "a"
    if compress is None:
        _zip(path, {"a.nc": body})
    else:
        path.write_bytes(compress(body))
    (member,) = list_members(path)

    with pytest.raises(ProductFormatError, match="made to fill a disk"):
        unpack(path, member, tmp_path / "scratch")

    assert _files(tmp_path / "scratch") == []


def test_a_full_disk_is_told_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that does not fit is not begun."""
    path = _zip(tmp_path / "a.zip", {"a.nc": NETCDF})
    (member,) = list_members(path)
    room = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)

    with pytest.raises(OSError, match=r"needs \d+ bytes.* has 10 left"):
        unpack(path, member, tmp_path / "scratch")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk in the middle passes on as it is, and takes its part with it."""
    path = _zip(tmp_path / "a.zip", {"a.nc": NETCDF})
    (member,) = list_members(path)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)

    with pytest.raises(OSError, match="No space left on device"):
        unpack(path, member, tmp_path / "scratch")
    assert _files(tmp_path / "scratch") == []
