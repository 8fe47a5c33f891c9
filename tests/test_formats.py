"""What a file is, and that a cut or damaged one is told from a whole one."""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import gzip
import io
import lzma
import os
import struct
import tarfile
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats import Format, check_complete, extension, sniff


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


def _tiff(order: str, *, big: bool) -> bytes:
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


def _grib1(body: bytes = b"\x01" * 60) -> bytes:
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


def _grib2(body: bytes = b"\x02" * 90) -> bytes:
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


def _zip(*, comment: bytes = b"", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr("X.SEN3/manifest.xml", "<manifest/>" * 20)
        archive.writestr("X.SEN3/data.nc", bytes(range(256)) * 2)
        archive.comment = comment
    return target.getvalue()


def _zip64() -> bytes:
    """Write an archive with ZIP64 fields everywhere, by lowering the limit of zipfile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile, "ZIP64_LIMIT", 10)
        return _zip(method=zipfile.ZIP_STORED)


def _tar(kind: int = tarfile.PAX_FORMAT, *, pax_size: bool = False) -> bytes:
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
    padded = _grib1() + b"\0" * 48
    made = {
        "netcdf4": _whole(Format.HDF5, hdf5),
        "netcdf4 after a user block": Sample(
            Format.HDF5, b"\0" * 1024 + hdf5, 1024 + len(hdf5), unseen=range(4, 1032)
        ),
        "hdf5 version 1": _whole(Format.HDF5, _hdf5_superblock(1, 4) + b"\x01" * 80),
        "hdf5 version 3": _whole(Format.HDF5, _hdf5_superblock(3, 8) + b"\x01" * 80),
        "tiff little": _whole(Format.TIFF, _tiff("<", big=False)),
        "tiff big-endian": _whole(Format.TIFF, _tiff(">", big=False)),
        "bigtiff little": _whole(Format.TIFF, _tiff("<", big=True)),
        "bigtiff big-endian": _whole(Format.TIFF, _tiff(">", big=True)),
        "grib1": _whole(Format.GRIB, _grib1(), zeros_only=True),
        "grib1 large": _whole(Format.GRIB, _grib1_large(), zeros_only=True),
        "grib2": _whole(Format.GRIB, _grib2(), zeros_only=True),
        "grib padded": Sample(
            Format.GRIB, padded + _grib2(), len(padded + _grib2()), range(72, 121), zeros_only=True
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
        "zip": _whole(Format.ZIP, _zip()),
        "zip with comment": _whole(Format.ZIP, _zip(comment=b"made by hand")),
        "zip of a zip": _whole(Format.ZIP, _zip_of_zip()),
        "zip64": _whole(Format.ZIP, _zip64()),
        "tar ustar-like": _tar_sample(_tar(tarfile.GNU_FORMAT)),
        "tar pax": _tar_sample(_tar()),
        "tar pax sizes": _tar_sample(_tar(pax_size=True)),
        "tar.gz": _whole(Format.GZIP, gzip.compress(_tar(), mtime=0), zeros_only=True),
        "tar.bz2": _whole(Format.BZIP2, bz2.compress(_tar()), zeros_only=True),
        "tar.xz": _whole(Format.XZ, lzma.compress(_tar()), zeros_only=True),
    }
    for kind in ("NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"):
        for count in (0, 1, 2):
            made[f"{kind} {count}"] = _netcdf3(kind, record_variables=count)
    return made


def _hdf5_superblock(version: int, width: int) -> bytes:
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
        archive.writestr("inner.zip", _zip())
        archive.writestr("more.txt", "x" * 100)
    return target.getvalue()


SAMPLES = _samples()
each_sample = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., Format]:
    """Write bytes to a file with a name that tells nothing, and check it."""

    def check(content: bytes, *, deep: bool = False) -> Format:
        path = tmp_path / "product"
        path.write_bytes(content)
        return check_complete(path, deep=deep)

    return check


def _cuts(needed: int) -> list[int]:
    step = max(1, needed // 40)
    return sorted({*range(0, needed, step), *range(1, 30), *range(needed - 6, needed)})


def test_every_real_product_passes_and_every_damaged_one_is_refused(shared_data: Path) -> None:
    """Each file of the collection is told right; the damaged ones are refused by name."""
    refused: list[str] = []
    wrongly_refused: list[str] = []
    passed = 0
    for path in sorted(path for path in shared_data.rglob("*") if path.is_file()):
        try:
            check_complete(path, deep=True)
            passed += 1
        except ProductFormatError:
            is_damaged = path.parent.name == "damaged"
            (refused if is_damaged else wrongly_refused).append(path.name)

    assert wrongly_refused == []
    assert refused == sorted(path.name for path in (shared_data / "damaged").iterdir())
    assert passed > 700


def test_formats_of_real_products_agree_with_the_manifest(shared_data: Path) -> None:
    """What is found by content is what the list of files says."""
    names = {
        "netCDF-4": Format.HDF5, "netCDF-3": Format.NETCDF3, "GRIB": Format.GRIB, "zip": Format.ZIP,
        "GeoTIFF": Format.TIFF, "JPEG2000": Format.JP2, "XML": Format.OTHER, "md5": Format.OTHER,
        "empty": Format.OTHER,
    }  # fmt: skip
    for line in (shared_data / "MANIFEST.tsv").read_text().splitlines()[1:]:
        name, _, _, told = line.split("\t")[:4]
        expected = next(value for key, value in names.items() if told.startswith(key))

        assert sniff(shared_data / name) is expected, name


@each_sample
def test_good_file_passes(check: Callable[..., Format], sample: Sample) -> None:
    """A whole file passes, and its format is found whatever its name."""
    assert sample.format is check(sample.content) is check(sample.content, deep=True)
    assert sample.format is sniff(sample.content)


@each_sample
def test_cut_file_is_refused(check: Callable[..., Format], sample: Sample) -> None:
    """A file cut anywhere is refused, except where the docstring says that no check can see it."""
    for length in _cuts(sample.needed):
        if length not in sample.unseen:
            with pytest.raises(ProductFormatError):
                pytest.fail(f"cut to {length}: {check(sample.content[:length])}")


@each_sample
def test_bytes_after_the_end_pass(check: Callable[..., Format], sample: Sample) -> None:
    """Zeros after the end are no damage; other bytes are none where the end is told."""
    assert check(sample.content + b"\0" * 100) is sample.format
    assert check(sample.content + b"\0" * 5000) is sample.format
    if sample.zeros_only:
        with pytest.raises(ProductFormatError):
            check(sample.content + b"<html>a page after it</html>")
    else:
        assert check(sample.content + b"<html>a page after it</html>") is sample.format


@each_sample
def test_unseen_cuts_are_really_unseen(check: Callable[..., Format], sample: Sample) -> None:
    """The docstring tells the truth about what cannot be seen."""
    assert check(sample.content[: sample.needed]) is sample.format
    if not sample.unseen:
        return
    for length in (sample.unseen.start, sample.unseen.stop - 1):
        check(sample.content[:length])


def _mutations(content: bytes) -> st.SearchStrategy[bytes]:
    places = st.integers(0, len(content))
    flips = st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)
    # Most of what steers a check stands in the first bytes.
    heads = st.lists(st.tuples(st.integers(0, 64), st.integers(0, 255)), max_size=3)

    def apply(flips: list[tuple[int, int]], cut: tuple[int, int], insert: bytes) -> bytes:
        changed = bytearray(content)
        for place, value in flips:
            changed[min(place, len(changed) - 1)] = value
        changed[cut[0] : cut[0] + cut[1]] = insert
        return bytes(changed)

    cuts = st.tuples(places, st.sampled_from([0, 0, 1, 4, 8, 100, len(content)]))
    inserts = st.one_of(st.just(b""), st.binary(max_size=16), st.just(b"\xff" * 8))
    return st.builds(lambda f, h, c, i: apply(f + h, c, i), flips, heads, cuts, inserts)


@each_sample
def test_mutated_file_passes_or_is_refused(
    sample: Sample, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever happened to a file, the check ends soon and raises nothing but its own error."""
    path = tmp_path_factory.mktemp("mutated") / "product"

    @settings(
        derandomize=True,
        database=None,
        max_examples=60,
        deadline=1000,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(content=_mutations(sample.content))
    def run(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.suppress(ProductFormatError):
            check_complete(path, deep=True)

    run()


@settings(derandomize=True, database=None, max_examples=200)
@given(head=st.sampled_from(list(SAMPLES.values())), tail=st.binary(max_size=200))
def test_noise_after_a_signature_never_breaks_the_check(
    tmp_path_factory: pytest.TempPathFactory, head: Sample, tail: bytes
) -> None:
    """A right signature with noise behind it passes or is refused, and nothing else."""
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(head.content[:8] + tail)
    with contextlib.suppress(ProductFormatError):
        check_complete(path, deep=True)


def test_missing_file_is_an_error_of_the_file_system(tmp_path: Path) -> None:
    """A file that is not there, or is a folder, is not called damaged."""
    with pytest.raises(FileNotFoundError):
        check_complete(tmp_path / "missing.nc")
    with pytest.raises(IsADirectoryError):
        check_complete(tmp_path)


def test_message_says_what_was_found(tmp_path: Path) -> None:
    """The error names file and format, both lengths, and what to do."""
    sample = SAMPLES["netcdf4"]
    path = tmp_path / "day.nc"
    path.write_bytes(sample.content[:3000])

    with pytest.raises(ProductFormatError) as caught:
        check_complete(path)

    assert str(caught.value) == (
        f"The hdf5 file {path} is not complete: it holds 3000 bytes, its HDF5 end-of-file address "
        f"is {len(sample.content)}: it is cut short. Fetch it again."
    )


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE html>\n<html><body>Sign in</body></html>",
        b"\n  <HTML><head>",
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<!doctype HTML public>',
        b'{"status_code":500,"title":"Task Error","detail":"Internal Server Error"}',
        b'{"detail":[{"loc":["body"],"msg":"field required","type":"value_error"}]}',
        b'{"status": 403, "title": "Forbidden"}',
        b'{"error": "invalid_token"}',
    ],
)
def test_page_instead_of_a_product_is_refused(check: Callable[..., Format], body: bytes) -> None:
    """An HTML page or a JSON error body is not taken for a product."""
    with pytest.raises(ProductFormatError, match="a page instead of the product"):
        check(body)


@pytest.mark.parametrize(
    "body",
    [
        b"d41d8cd98f00b204e9800998ecf8427e",
        b"station;time;value\n1;2024-05-01;3.5\n",
        b"<?xml version='1.0'?><metadata><html_link/></metadata>",
        b'{"type": "FeatureCollection", "features": [], "title": "t"}',
        b'{"stations": [{"id": 1}]}',
        b'[{"detail": 1}]',
        b"{" * 60_000,
        b'{"a":' + b"[" * 60_000,
        b"<html>" + b"x" * 64 * 1024,
    ],
    ids=lambda body: body[:20],
)
def test_text_is_accepted(check: Callable[..., Format], body: bytes) -> None:
    """Files of formats without a stated length pass if there is anything in them."""
    assert check(body) is Format.OTHER


@pytest.mark.parametrize(
    ("format_", "name", "expected"),
    [
        (Format.HDF5, "S6A_P4_2__LR", ".nc"),
        (Format.HDF5, "day.h5", ""),
        (Format.NETCDF3, "day.NC", ""),
        (Format.NETCDF3, "day.zip", ".nc"),
        (Format.GRIB, "adaptor.mars.internal-1", ".grib"),
        (Format.GRIB, "day.grb2", ""),
        (Format.TIFF, "DEM.dt2", ".tif"),
        (Format.JP2, "B02", ".jp2"),
        (Format.ZIP, "X.SEN3", ".zip"),
        (Format.TAR, "X.SAFE", ".tar"),
        (Format.GZIP, "X.tar", ".gz"),
        (Format.GZIP, "X.tgz", ""),
        (Format.BZIP2, "day.nc", ".bz2"),
        (Format.XZ, "day.nc", ".xz"),
        (Format.OTHER, "notes", ""),
    ],
)
def test_extension_is_added_where_none_fits(format_: Format, name: str, expected: str) -> None:
    """A name keeps a suffix that fits its content and else gets the usual one."""
    assert extension(format_, name) == expected


def test_every_format_but_other_has_an_extension() -> None:
    """No format was forgotten."""
    assert [f for f in Format if not extension(f, "name")] == [Format.OTHER]


def test_hdf5_behind_a_removed_user_block_passes(check: Callable[..., Format]) -> None:
    """The end-of-file address counts from the file's old start, as the HDF5 library has it."""
    with_block = bytearray(_hdf5_superblock(3, 8) + b"\x01" * 80)
    size = len(with_block)
    with_block[12:20] = (512).to_bytes(8, "little")
    with_block[28:36] = (512 + size).to_bytes(8, "little")

    assert check(b"\0" * 512 + bytes(with_block)) is Format.HDF5
    assert check(bytes(with_block)) is Format.HDF5
    with pytest.raises(ProductFormatError):
        check(bytes(with_block[:-1]))


def test_netcdf3_stream_of_unknown_length_ends_with_a_record(check: Callable[..., Format]) -> None:
    """Where the number of records is left open, a cut inside a record is refused."""
    content = bytearray(SAMPLES["NETCDF3_CLASSIC 2"].content)
    content[4:8] = b"\xff" * 4

    assert check(bytes(content)) is Format.NETCDF3
    assert check(bytes(content[:-16])) is Format.NETCDF3
    for missing in (4, 8, 10):
        with pytest.raises(ProductFormatError, match="cut short"):
            check(bytes(content[:-missing]))


@pytest.mark.parametrize(
    "header",
    [
        b"CDF\x01" + b"\0" * 4 + b"\0\0\0\x0a\x7f\xff\xff\xff",  # dimensions
        b"CDF\x05" + b"\0" * 8 + b"\0\0\0\x0a" + b"\x7f" * 8,
        b"CDF\x01" + b"\0" * 12 + b"\0\0\0\x0c\0\0\0\x01\x7f\xff\xff\xf0",  # a name
        b"CDF\x01" + b"\0" * 20 + b"\0\0\0\x0b\0\0\xff\xff",  # variables
    ],
)
def test_netcdf3_header_that_lies_costs_nothing(tmp_path: Path, header: bytes) -> None:
    """Huge counts are refused before memory or time is spent on them, in a large file too."""
    path = tmp_path / "liar.nc"
    path.write_bytes(header)
    os.truncate(path, 1 << 30)
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises(ProductFormatError):
            check_complete(path)
        assert time.perf_counter() - started < 2
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_tiff_that_runs_in_a_circle_ends(check: Callable[..., Format]) -> None:
    """A directory that names itself as the next is walked once."""
    content = bytearray(_tiff("<", big=False))
    first = 8
    content[first + 2 + 36 : first + 2 + 40] = first.to_bytes(4, "little")

    assert check(bytes(content)) is Format.TIFF


def test_grib_padding_must_be_zeros(check: Callable[..., Format]) -> None:
    """Zeros may stand between and after messages, anything else is damage."""
    assert check(_grib1() + b"\0" * 7 + _grib2() + b"\0" * 500) is Format.GRIB
    with pytest.raises(ProductFormatError, match="not a GRIB message"):
        check(_grib1() + b"padding" + _grib2())
    with pytest.raises(ProductFormatError, match="not a GRIB message"):
        check(_grib1() + b"\0" * 7 + b"GRI")


def test_grib1_of_eight_megabytes_is_read_without_the_convention(
    check: Callable[..., Format],
) -> None:
    """A 24-bit length with its top bit set is the plain length if section 4 is a real one."""
    sections = b"\0\0\x1c" + b"\0" * 4 + b"\0" + b"\0" * 20 + b"\x80\0\0"
    message = _grib1(sections + b"\0" * 0x800000)
    assert message[4] & 0x80

    assert check(message) is Format.GRIB
    with pytest.raises(ProductFormatError):
        check(message[:-1])


def test_grib_of_unknown_edition_is_refused(check: Callable[..., Format]) -> None:
    """An edition whose length cannot be read is not waved through."""
    with pytest.raises(ProductFormatError, match="edition 0"):
        check(b"GRIB\0\0\x28\0" + b"\0" * 32)


def test_deep_check_finds_a_changed_byte_in_a_zip(check: Callable[..., Format]) -> None:
    """Only the deep check reads the members, as is needed after a resumed transfer."""
    for content in (_zip(method=zipfile.ZIP_STORED), _zip64()):
        changed = bytearray(content)
        changed[content.index(b"<manifest/>")] ^= 0xFF

        assert check(bytes(changed)) is Format.ZIP
        with pytest.raises(ProductFormatError, match=r"manifest\.xml"):
            check(bytes(changed), deep=True)


@pytest.mark.parametrize(("local", "central", "value"), [(6, 8, 1), (8, 10, 99)])
def test_zip_member_that_cannot_be_read_fails_the_deep_check_only(
    check: Callable[..., Format], local: int, central: int, value: int
) -> None:
    """Encryption and unknown methods are no damage at sight, but cannot be tested."""
    changed = bytearray(_zip())
    changed[local] = value
    changed[changed.index(b"PK\x01\x02") + central] = value

    assert check(bytes(changed)) is Format.ZIP
    with pytest.raises(ProductFormatError, match="cannot be read"):
        check(bytes(changed), deep=True)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_deep_check_of_other_methods(check: Callable[..., Format], method: int) -> None:
    """Damage inside bzip2 and LZMA members comes out as the same error."""
    content = _zip(method=method)
    assert check(content, deep=True) is Format.ZIP
    start = content.index(b"manifest.xml") + len(b"manifest.xml")
    # Not the head of an LZMA member, whose sizes may be larger than needed, nor its end marker.
    for place in range(start + 9, start + 20):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        with pytest.raises(ProductFormatError, match="cannot be read"):
            check(bytes(changed), deep=True)


def test_zip_with_64_kilobytes_behind_it_passes(check: Callable[..., Format]) -> None:
    """The end record is found in the last 64 kB, and not further away."""
    assert check(_zip() + b"x" * 65_535) is Format.ZIP
    with pytest.raises(ProductFormatError, match="no ZIP end record"):
        check(_zip() + b"x" * 65_536)


def test_end_record_by_chance_behind_a_zip_is_passed_over(check: Callable[..., Format]) -> None:
    """Bytes after the end, or a comment, that look like an end record do not hide the true one."""
    assert check(_zip() + b"PK\x05\x06" * 9 + b"x" * 30) is Format.ZIP


def test_zip_whose_members_overlap_is_refused(check: Callable[..., Format]) -> None:
    """Two entries for the same bytes, as in a zip bomb, are refused before any is read."""
    content = bytearray(_zip(method=zipfile.ZIP_STORED))
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    content[second + 20 : second + 24] = (700).to_bytes(4, "little")
    content[second + 42 : second + 46] = (0).to_bytes(4, "little")

    with pytest.raises(ProductFormatError, match="overlap"):
        check(bytes(content))


def test_gzip_of_several_parts(check: Callable[..., Format]) -> None:
    """Streams may be joined; a cut inside the second is found."""
    joined = gzip.compress(b"x" * 3_000_000, mtime=0) + gzip.compress(b"second", mtime=0)

    assert check(joined) is Format.GZIP
    with pytest.raises(ProductFormatError, match="cut short"):
        check(joined[:-1])


def test_tar_header_with_wrong_checksum_is_refused(check: Callable[..., Format]) -> None:
    """A changed header is damage; so is an archive without its end."""
    content = bytearray(_tar())
    content[3] ^= 1

    with pytest.raises(ProductFormatError, match="neither a header nor the end"):
        check(bytes(content))


def _best_seconds(path: Path) -> float:
    best = 1.0
    for _ in range(7):
        started = time.perf_counter()
        check_complete(path)
        best = min(best, time.perf_counter() - started)
    return best


def test_check_of_a_gigabyte_takes_milliseconds(tmp_path: Path) -> None:
    """The cost of a check does not grow with the length of the file."""
    size = 1 << 30
    hdf5 = tmp_path / "large.nc"
    content = bytearray(_hdf5_superblock(3, 8))
    content[28:36] = size.to_bytes(8, "little")
    hdf5.write_bytes(content)
    tiff = tmp_path / "large.tif"
    tiles = 4096
    head = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2)
    head += struct.pack("<HHQQ", 324, 16, tiles, 100) + struct.pack("<HHQQ", 325, 4, tiles, 40_000)
    offsets = [size - (tiles - i) * 100_000 for i in range(tiles)]
    body = (head + b"\0" * 8).ljust(100, b"\0") + struct.pack(f"<{tiles}Q", *offsets)
    tiff.write_bytes(body.ljust(40_000, b"\0") + struct.pack(f"<{tiles}I", *[100_000] * tiles))
    for path in (hdf5, tiff):
        os.truncate(path, size)

        assert _best_seconds(path) < 0.010

        os.truncate(path, size - 1)
        with pytest.raises(ProductFormatError, match="cut short"):
            check_complete(path)


def test_check_of_many_messages_takes_milliseconds(tmp_path: Path) -> None:
    """A month of hourly fields is walked in small reads."""
    path = tmp_path / "month.grib"
    path.write_bytes((_grib1(b"\x01" * 20_000) + b"\0" * 8) * 744)

    assert _best_seconds(path) < 0.030
