"""Good files of every format, made in memory, for tests of how files are checked.

The tests run this file by its path, since pytest keeps their folder off the path of imports.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import struct
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import netCDF4
import pytest

from hda_fsspec.formats.detect import Format


@dataclasses.dataclass(frozen=True)
class Sample:
    """A good file: every cut below ``needed`` bytes, but those in ``unseen``, must be refused."""

    format: Format
    content: bytes
    needed: int
    unseen: range = range(0)
    zeros_only: bool = False


def _whole(format_: Format, content: bytes, *, zeros_only: bool = False) -> Sample:
    return Sample(format_, content, len(content), zeros_only=zeros_only)


def _netcdf(kind: Any, *, record_variables: int) -> bytes:
    # A file made in memory would have free space at its end.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.nc"
        with netCDF4.Dataset(path, "w", format=kind) as dataset:
            _fill(dataset, record_variables)
        return path.read_bytes()


def _fill(dataset: netCDF4.Dataset, record_variables: int) -> None:
    dataset.title = "a title"
    dataset.createDimension("time", None)
    dataset.createDimension("x", 3)
    x = dataset.createVariable("x", "i2", ("x",))
    x.units = "m"
    x[:] = [1, 2, 3]
    for number in range(record_variables):
        # Three values of two bytes: a record that is only padded if it is not alone.
        dataset.createVariable(f"v{number}", "i2", ("time", "x"))[:] = [[1, 2, 3]] * 5


def _netcdf3(kind: str, *, record_variables: int) -> Sample:
    content = _netcdf(kind, record_variables=record_variables)
    # Each variable, or its last record, has three values of two bytes, padded to 8 bytes; only
    # the records of a variable that is alone have no padding.
    padding = 0 if record_variables == 1 else 2
    return Sample(Format.NETCDF3, content, len(content) - padding)


def tiff(order: str, *, big: bool) -> bytes:
    """Two directories: one of two strips, and one of two tiles, of which one is left out."""
    count, pointer, inline = ("Q", "Q", 8) if big else ("H", "I", 4)
    number = 16 if big else 4

    def entry(tag: int, kind: int, values: int, value: bytes) -> bytes:
        return struct.pack(f"{order}HH{pointer}", tag, kind, values) + value.ljust(inline, b"\0")

    def numbers(*values: int) -> bytes:
        return struct.pack(f"{order}{len(values)}{pointer}", *values)

    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    head += struct.pack(f"{order}HH", 8, 0) if big else b""
    first = len(head) + inline
    entry_bytes = 4 + 2 * inline
    size = struct.calcsize(order + count) + 3 * entry_bytes + inline
    lists = first + 2 * size
    pixels = lists + 4 * inline
    width = entry(256, 3, 1, struct.pack(f"{order}H", 10))
    strips = (
        struct.pack(order + count, 3)
        + width
        + entry(273, number, 2, numbers(lists))
        + entry(279, 3, 2, struct.pack(f"{order}HH", 30, 20))
        + numbers(first + size)
    )
    tiles = (
        struct.pack(order + count, 3)
        + width
        + entry(324, number, 2, numbers(lists + 2 * inline))
        + entry(325, 3, 2, struct.pack(f"{order}HH", 0, 25))
        + numbers(0)
    )
    offsets = numbers(pixels, pixels + 30, 0, pixels + 50)
    return head + numbers(first) + strips + tiles + offsets + b"\x07" * 75


def grib1(body: bytes = b"\x01" * 60) -> bytes:
    """Write a message of edition 1."""
    length = 8 + len(body) + 4
    return b"GRIB" + length.to_bytes(3, "big") + b"\x01" + body + b"7777"


def _grib1_large(units: int = 3, surplus: int = 50) -> bytes:
    """Write a message whose length counts units of 120 bytes, as ECMWF's convention has it."""
    length = units * 120 - surplus + 4
    sections = b"\0\0\x1c" + b"\0" * 4 + b"\xc0" + b"\0" * 20  # flags: sections 2 and 3 follow
    sections += b"\0\0\x20" + b"\0" * 29 + b"\0\0\x0a" + b"\0" * 7
    sections += surplus.to_bytes(3, "big")
    head = b"GRIB" + (0x800000 | units).to_bytes(3, "big") + b"\x01"
    return (head + sections).ljust(length - 4, b"\x01") + b"7777"


def grib2(body: bytes = b"\x02" * 90) -> bytes:
    """Write a message of edition 2."""
    return b"GRIB\0\0\0\x02" + (16 + len(body) + 4).to_bytes(8, "big") + body + b"7777"


def _codestream(*, open_end: bool = False) -> bytes:
    def tile_part(pixels: bytes, *, is_open: bool = False) -> bytes:
        length = 0 if is_open else 14 + len(pixels)
        return b"\xff\x90" + struct.pack(">HHIBB", 10, 0, length, 0, 1) + b"\xff\x93" + pixels

    header = b"\xff\x4f\xff\x51" + struct.pack(">H", 41) + b"\0" * 39 + b"\xff\x64\0\x04ab"
    # An end marker inside the first tile-part must not be taken for the end.
    parts = tile_part(b"\xff\xd9" * 20) + tile_part(b"\x05" * 40, is_open=open_end)
    return header + parts + b"\xff\xd9"


def _box(kind: bytes, content: bytes, *, form: str = "short") -> bytes:
    if form == "long":
        return struct.pack(">I4sQ", 1, kind, 16 + len(content)) + content
    return struct.pack(">I4s", 8 + len(content) if form == "short" else 0, kind) + content


def _jp2(*, form: str, open_end: bool = False, after: bytes = b"") -> bytes:
    head = _box(b"jP  ", b"\r\n\x87\n") + _box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    head += _box(b"jp2h", _box(b"ihdr", b"\0" * 14))
    return head + _box(b"jp2c", _codestream(open_end=open_end), form=form) + after


def zip_archive(*, comment: bytes = b"", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Write an archive of two members."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr("X.SEN3/manifest.xml", "<manifest/>" * 20)
        archive.writestr("X.SEN3/data.nc", bytes(range(256)) * 2)
        archive.comment = comment
    return target.getvalue()


def zip64_archive() -> bytes:
    """Write an archive with ZIP64 fields everywhere, by lowering the limit of zipfile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile, "ZIP64_LIMIT", 10)
        return zip_archive(method=zipfile.ZIP_STORED)


def tar_archive(kind: int = tarfile.PAX_FORMAT, *, pax_size: bool = False) -> bytes:
    """Write an archive of three files and a link."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=kind) as archive:
        for name in ("first.nc", "folder/" * 20 + "second.nc", "größer.nc"):
            member = tarfile.TarInfo(name)
            member.size = 700
            if pax_size:  # how sizes from 8 GiB on are written
                member.pax_headers = {"size": "700"}
            archive.addfile(member, io.BytesIO(b"x" * 700))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "first.nc"
        archive.addfile(link)
    return target.getvalue()


def _tar_sample(content: bytes) -> Sample:
    end = len(content.rstrip(b"\0"))
    needed = end + -end % 512 + 512
    return Sample(Format.TAR, content, needed, unseen=range(1, 262))


def _samples() -> dict[str, Sample]:
    hdf5 = _netcdf("NETCDF4", record_variables=1)
    padded = grib1() + b"\0" * 48
    made = {
        "netcdf4": _whole(Format.HDF5, hdf5),
        "netcdf4 after a user block": Sample(
            Format.HDF5, b"\0" * 1024 + hdf5, 1024 + len(hdf5), unseen=range(4, 1032)
        ),
        "hdf5 version 1": _whole(Format.HDF5, hdf5_superblock(1, 4) + b"\x01" * 80),
        "hdf5 version 3": _whole(Format.HDF5, hdf5_superblock(3, 8) + b"\x01" * 80),
        "tiff little": _whole(Format.TIFF, tiff("<", big=False)),
        "tiff big-endian": _whole(Format.TIFF, tiff(">", big=False)),
        "bigtiff little": _whole(Format.TIFF, tiff("<", big=True)),
        "bigtiff big-endian": _whole(Format.TIFF, tiff(">", big=True)),
        "grib1": _whole(Format.GRIB, grib1(), zeros_only=True),
        "grib1 large": _whole(Format.GRIB, _grib1_large(), zeros_only=True),
        "grib2": _whole(Format.GRIB, grib2(), zeros_only=True),
        "grib padded": Sample(
            Format.GRIB, padded + grib2(), len(padded + grib2()), range(72, 121), zeros_only=True
        ),
        "jp2": _whole(Format.JP2, _jp2(form="short"), zeros_only=True),
        "jp2 long box": _whole(Format.JP2, _jp2(form="long"), zeros_only=True),
        "jp2 box to the end": _whole(Format.JP2, _jp2(form="open")),
        "jp2 with a box behind": Sample(
            Format.JP2,
            _jp2(form="short", after=_box(b"xml ", b"<a/>" * 9)),
            len(_jp2(form="short")) + 44,
            range(len(_jp2(form="short")), len(_jp2(form="short")) + 4),
            zeros_only=True,
        ),
        "jp2 open tile-part": _whole(Format.JP2, _jp2(form="open", open_end=True), zeros_only=True),
        "codestream": _whole(Format.JP2, _codestream()),
        "zip": _whole(Format.ZIP, zip_archive()),
        "zip with comment": _whole(Format.ZIP, zip_archive(comment=b"made by hand")),
        "zip of a zip": _whole(Format.ZIP, _zip_of_zip()),
        "zip64": _whole(Format.ZIP, zip64_archive()),
        "tar ustar-like": _tar_sample(tar_archive(tarfile.GNU_FORMAT)),
        "tar pax": _tar_sample(tar_archive()),
        "tar pax sizes": _tar_sample(tar_archive(pax_size=True)),
        "tar.gz": _whole(Format.GZIP, gzip.compress(tar_archive(), mtime=0), zeros_only=True),
    }
    for kind in ("NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"):
        for count in (0, 1, 2):
            made[f"{kind} {count}"] = _netcdf3(kind, record_variables=count)
    return made


def hdf5_superblock(version: int, width: int) -> bytes:
    """Write a superblock, of a file with 80 bytes after it."""
    if version < 2:
        fixed = bytes([version, 0, 0, 0, 0, width, 8, 0]) + b"\0" * (12 if version else 8)
    else:
        fixed = bytes([version, width, 8, 0])
    size = 8 + len(fixed) + 4 * width
    addresses = (0, 0xFF, size + 80, 0xFF)
    return b"\x89HDF\r\n\x1a\n" + fixed + b"".join(a.to_bytes(width, "little") for a in addresses)


def _zip_of_zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("inner.zip", zip_archive())
        archive.writestr("more.txt", "x" * 100)
    return target.getvalue()


SAMPLES = _samples()
