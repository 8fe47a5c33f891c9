"""The format of a file, recognised by its first bytes, and a check that no end is missing.

Formats are told by content, never by name. The module knows nothing of services, caches or
xarray, and reads no data values.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.archive_completeness import (
    check_gzip,
    check_tar,
    check_zip,
    is_tar_header,
)
from hda_fsspec.formats.file_reader import CorruptFileError, FileBytes
from hda_fsspec.formats.gridded_completeness import (
    HDF5_SIGNATURE,
    check_grib,
    check_hdf5,
    check_netcdf3,
    find_hdf5,
)
from hda_fsspec.formats.rasters import check_jp2, check_tiff
from hda_fsspec.printable import printable
from hda_fsspec.untrusted_files import reader_of

_HEAD_BYTES = 512
#: Pages and error bodies are small; a product that happens to be HTML or JSON seldom is.
_PAGE_MAX_BYTES = 64 * 1024
_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?<(?:!doctype\s+html|html)\b", re.IGNORECASE
)
_ERROR_KEYS = frozenset({"status_code", "detail", "error", "errors", "error_description", "fault"})
_PRODUCT_KEYS = frozenset({"features", "geometry", "stac_version", "type"})


class Format(enum.StrEnum):
    """The formats that are told apart; everything else is ``OTHER``."""

    NETCDF3 = "netcdf3"
    HDF5 = "hdf5"
    GRIB = "grib"
    TIFF = "tiff"
    JP2 = "jp2"
    ZIP = "zip"
    TAR = "tar"
    GZIP = "gzip"
    OTHER = "other"


_MAGIC = (
    (HDF5_SIGNATURE, Format.HDF5),
    (b"CDF\x01", Format.NETCDF3),
    (b"CDF\x02", Format.NETCDF3),
    (b"CDF\x05", Format.NETCDF3),
    (b"GRIB", Format.GRIB),
    (b"II*\0", Format.TIFF),
    (b"MM\0*", Format.TIFF),
    (b"II+\0\x08\0\0\0", Format.TIFF),
    (b"MM\0+\0\x08\0\0", Format.TIFF),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Format.JP2),
    (b"\xff\x4f\xff\x51", Format.JP2),
    (b"PK\x03\x04", Format.ZIP),
    (b"PK\x05\x06", Format.ZIP),
    (b"\x1f\x8b", Format.GZIP),
)
_LONGEST_MAGIC = max(len(magic) for magic, _ in _MAGIC)

#: The suffixes that fit a format; the first is the one to add where none does.
_SUFFIXES = {
    Format.NETCDF3: (".nc", ".nc3", ".cdf", ".netcdf"),
    Format.HDF5: (".nc", ".nc4", ".h5", ".hdf5", ".he5", ".hdf", ".cdf", ".netcdf"),
    Format.GRIB: (".grib", ".grb", ".grib1", ".grib2", ".grb1", ".grb2", ".gb", ".gb2"),
    Format.TIFF: (".tif", ".tiff", ".gtiff", ".geotiff", ".btf"),
    Format.JP2: (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    Format.ZIP: (".zip", ".kmz"),
    Format.TAR: (".tar",),
    Format.GZIP: (".gz", ".tgz"),
}


#: Every suffix that a delivered name may have.
ALL_SUFFIXES = tuple(
    dict.fromkeys(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
)


def sniff(source: Path | bytes) -> Format:
    """Tell the format of a file, or of the first bytes of one, by its content.

    The first 512 bytes are enough for everything but an HDF5 file with a user block, whose
    signature stands at byte 512, 1024, 2048 or further.
    """
    if isinstance(source, bytes):
        return _sniff(lambda offset, count: source[offset : offset + count], len(source))
    with reader_of(source) as stream:
        data = FileBytes(stream)
        return _sniff(data.peek, data.size)


def _sniff(peek: Callable[[int, int], bytes], size: int) -> Format:
    head = peek(0, _HEAD_BYTES)
    for magic, format_ in _MAGIC:
        if head.startswith(magic):
            return format_
    # Before HDF5: the first member of an archive also starts at byte 512.
    if head[257:262] == b"ustar" or is_tar_header(head):
        return Format.TAR
    return Format.OTHER if find_hdf5(peek, size) is None else Format.HDF5


def extension(format: Format, name: str) -> str:  # noqa: A002
    """Return the suffix to add to a name that has none which fits the format, else "".

    Examples
    --------
    >>> extension(Format.ZIP, "S3A_OL_2_WFR____20240501T095858.SEN3")
    '.zip'
    >>> extension(Format.HDF5, "era5.NC")
    ''
    """
    suffixes = _SUFFIXES.get(format)
    if suffixes is None or name.lower().endswith(suffixes):
        return ""
    return suffixes[0]


_NEEDS_MORE = (Format.GRIB, Format.TIFF, Format.JP2)
_NEEDING_MORE = tuple(suffix for format_ in _NEEDS_MORE for suffix in _SUFFIXES[format_])


def promised_format(name: str) -> Format | None:
    """Return the format that a name promises, where it is one that needs more than netCDF does.

    Examples
    --------
    >>> promised_format("era5_2024.GRIB"), promised_format("PPI.tif"), promised_format("sst.nc")
    (<Format.GRIB: 'grib'>, <Format.TIFF: 'tiff'>, None)
    """
    lower = name.lower()
    if not lower.endswith(_NEEDING_MORE):
        return None  # thousands of names are looked at in a row
    return next(format_ for format_ in _NEEDS_MORE if lower.endswith(_SUFFIXES[format_]))


#: Names that promise a format which is told by its first bytes; .cdf, .hdf and such may be others.
_PROMISING = (
    *(".nc", ".nc4", ".grib", ".grb", ".grib2", ".grb2", ".tif", ".tiff", ".jp2"),
    *(".zip", ".tar", ".gz", ".tgz", ".sen3", ".safe"),
)


def name_contradicts(format: Format, *names: str) -> bool:  # noqa: A002
    """Whether a file of no known format bears a name that promises one.

    Its beginning is then damaged, or it is something else, such as a page.

    Examples
    --------
    >>> name_contradicts(Format.OTHER, "sst_20240501.nc"), name_contradicts(Format.OTHER, "a.csv")
    (True, False)
    """
    return format is Format.OTHER and any(name.lower().endswith(_PROMISING) for name in names)


def check_complete(path: Path, *, deep: bool = False) -> Format:
    """Return the format of a file, after checking that the file is not cut short.

    A check costs a few small reads, whatever the length of the file; for GRIB one for each
    message, for TIFF and JPEG 2000 a few for each directory and tile-part, for ZIP and TAR one
    or two for each member. Streams of gzip are unpacked, since nothing else shows their end.
    Memory is bounded.

    Bytes after the end are accepted; in GRIB, JP2 and gzip they must be zeros. What a file is
    *not* tested for is a wrong byte in its middle, except where a checksum is read (gzip; ZIP
    with ``deep``). These cuts cannot be seen either:

    - GRIB: between two messages. Nothing in the format says how many there are.
    - netCDF-3: within the up to three bytes of padding after the last value; between two records
      (or up to four bytes later) if the writer left their number open: it is then whatever the
      file holds.
    - TIFF: bytes that nothing refers to, such as the trailer of the last tile of a
      cloud-optimised one. HDF5: within a user block, before the signature.
    - TAR: after the first of the blocks of zeros that end it, or before byte 262. JP2: between
      two boxes after the codestream (or up to three bytes later, which are zeros). gzip:
      between the parts of a stream of several.
    - Other formats (text, XML, HDF4, BUFR, …): anywhere, as long as one byte is left.

    Parameters
    ----------
    path : Path
        The file.
    deep : bool
        Also read every member of a ZIP and compare its CRC. A member that cannot be read,
        because it is encrypted or packed by a method that Python lacks, counts as damaged.

    Raises
    ------
    ProductFormatError
        The file is empty, cut short or damaged, or holds an HTML page or an error message in
        place of a product.
    OSError
        The file system could not read it.
    """
    with reader_of(path) as stream:
        return check_stream(stream, str(path), deep=deep)


def check_stream(stream: BinaryIO, name: str, *, deep: bool = False) -> Format:
    """Check an open file that is not on this machine, say, as :func:`check_complete` does.

    Parameters
    ----------
    stream : binary file
        It is read here and there, so it must be able to seek.
    name : str
        What messages call it.
    deep : bool
        As there.

    Raises
    ------
    ProductFormatError, OSError
        As there.
    """
    data = FileBytes(stream)
    format_ = _sniff(data.peek, data.size)
    check = partial(check_zip, deep=deep) if format_ is Format.ZIP else _CHECKS[format_]
    try:
        check(data)
    except CorruptFileError as damage:
        kind = "file" if format_ is Format.OTHER else f"{format_} file"
        msg = f"The {kind} {name} is not complete: {damage}. Fetch it again."
        raise ProductFormatError(printable(msg)) from damage
    return format_


def _check_other(data: FileBytes) -> None:
    """Refuse nothing at all, and the pages that stand where a product should be."""
    if data.size == 0:
        msg = "it is empty"
        raise CorruptFileError(msg)
    if data.size < _LONGEST_MAGIC:
        body = data.read(0, data.size, "the file")
        for magic, format_ in _MAGIC:
            if magic.startswith(body):
                msg = f"it holds only the first {data.size} bytes of a {format_} file"
                raise CorruptFileError(msg)
    if data.size >= _PAGE_MAX_BYTES:
        return
    body = data.read(0, data.size, "the file")
    if _HTML.match(body) or _is_error_message(body):
        msg = f"the service answered a page instead of the product ({body[:60]!r} …)"
        raise CorruptFileError(msg)


def _is_error_message(body: bytes) -> bool:
    """Whether a body is a JSON object that tells of a fault, and no product such as GeoJSON."""
    if not body.lstrip().startswith(b"{"):
        return False
    try:
        keys = json.loads(body).keys()
    except (ValueError, RecursionError):
        return False
    titled = "title" in keys and ("status" in keys or len(keys) <= 3)
    return bool(titled or keys & _ERROR_KEYS) and not keys & _PRODUCT_KEYS


_CHECKS: dict[Format, Callable[[FileBytes], None]] = {
    Format.NETCDF3: check_netcdf3,
    Format.HDF5: check_hdf5,
    Format.GRIB: check_grib,
    Format.TIFF: check_tiff,
    Format.JP2: check_jp2,
    Format.ZIP: check_zip,
    Format.TAR: check_tar,
    Format.GZIP: check_gzip,
    Format.OTHER: _check_other,
}
