"""Completeness of files that hold other files: ZIP, TAR, and streams of gzip.

Each check raises CorruptFileError if the end that the format prescribes is missing. It extracts
nothing, and trusts no name, length or place that it reads.
"""

from __future__ import annotations

import contextlib
import errno
import re
import struct
import zipfile
import zlib
from typing import Any, NamedTuple

from hda_fsspec.formats.file_reader import BLOCK_BYTES, CorruptFileError, FileBytes

_ZIP_END = b"PK\x05\x06"
_ZIP64_END = b"PK\x06\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP_ENTRY = b"PK\x01\x02"
#: The end record with the longest comment (or as many bytes after it).
_ZIP_TAIL_BYTES = 22 + 65_535

_TAR_BLOCK_BYTES = 512
#: Type flags of links, devices and folders, which no data follow whatever their size says.
_TAR_WITHOUT_DATA = b"123456"
_PAX_MAX_BYTES = 1 << 20
_PAX_LENGTH = re.compile(rb"(\d{1,9}) ")
_PAX_SIZE = re.compile(rb"size=(\d{1,20})\n")


class _ZipDirectory(NamedTuple):
    """The central directory as the end record describes it."""

    entries: int
    size: int
    offset: int
    limit: int  # where the end record itself starts


def _zip_directory(data: FileBytes, tail: bytes, tail_start: int, at: int) -> _ZipDirectory:
    """Read the end record at ``tail[at:]``, and the ZIP64 one where there is one."""
    form = "<4H2IH"
    disk, first_disk, _, entries, size, offset, comment = struct.unpack_from(form, tail, at + 4)
    limit = tail_start + at
    data.require(limit + 22 + comment, "the comment in its ZIP end record")
    locator = data.peek(limit - 20, 20)
    if locator[:4] == _ZIP64_LOCATOR and len(locator) == 20:
        limit = int.from_bytes(locator[8:16], "little")
        record = data.read(limit, 56, "its ZIP64 end record")
        if record[:4] != _ZIP64_END:
            msg = f"no ZIP64 end record stands at byte {limit}, where its locator points"
            raise CorruptFileError(msg)
        disk, first_disk, _, entries, size, offset = struct.unpack("<2I4Q", record[16:])
    if disk or first_disk:
        msg = "it is one part of a split ZIP archive"
        raise CorruptFileError(msg)
    if offset + size > limit:
        msg = (
            f"its ZIP central directory should stand at bytes {offset} to {offset + size}, but "
            f"its end record already at byte {limit}"
        )
        raise CorruptFileError(msg)
    return _ZipDirectory(entries, size, offset, limit)


def _find_zip_directory(data: FileBytes) -> _ZipDirectory:
    """Return the central directory of the last end record that fits the file."""
    start = max(0, data.size - _ZIP_TAIL_BYTES)
    tail = data.peek(start, _ZIP_TAIL_BYTES)
    first_problem: CorruptFileError | None = None
    at = tail.rfind(_ZIP_END)
    while at >= 0:
        if at + 22 <= len(tail):
            try:
                return _zip_directory(data, tail, start, at)
            except CorruptFileError as problem:
                # Bytes after the end, or a comment, may look like an end record by chance.
                first_problem = first_problem or problem
        at = tail.rfind(_ZIP_END, 0, at + 3)
    if first_problem is not None:
        raise first_problem
    msg = f"it holds {data.size} bytes and no ZIP end record in the last ones: it is cut short"
    raise CorruptFileError(msg)


def _zip64_values(extra: bytes, values: list[int]) -> list[int]:
    """Replace the values that did not fit into 32 bits by those of the ZIP64 extra field."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == 1:
            field = extra[position + 4 : position + 4 + length]
            large = (int.from_bytes(field[i : i + 8], "little") for i in range(0, len(field), 8))
            return [next(large, value) if value == 0xFFFFFFFF else value for value in values]
        position += 4 + length
    return values


def check_zip(data: FileBytes, *, deep: bool = False) -> None:
    """Read the central directory; each member it names must have room before it.

    With ``deep`` every member is read too and its CRC compared; a member that cannot be read (it
    is encrypted, or packed by a method that Python lacks) then counts as damaged.
    """
    directory = _find_zip_directory(data)
    what = "its ZIP central directory"
    position, end, count, packed_bytes = directory.offset, directory.offset + directory.size, 0, 0
    while position < end:
        head = data.read(position, 46, what)
        if head[:4] != _ZIP_ENTRY:
            msg = f"{what} is damaged at byte {position}"
            raise CorruptFileError(msg)
        packed, unpacked, name, extra, comment = struct.unpack("<2I3H", head[20:34])
        offset = int.from_bytes(head[42:46], "little")
        more = data.read(position + 46 + name, extra, what)
        _, packed, offset = _zip64_values(more, [unpacked, packed, offset])
        if offset + 30 + packed > directory.offset:
            msg = f"member {count + 1} of {what} ends beyond byte {directory.offset}, its start"
            raise CorruptFileError(msg)
        position += 46 + name + extra + comment
        packed_bytes += packed + 30
        count += 1
    if position != end or count & 0xFFFF != directory.entries & 0xFFFF:
        msg = f"{what} holds {count} members, its end record says {directory.entries}"
        raise CorruptFileError(msg)
    # Members that share their bytes make a "zip bomb"; no product has them.
    if packed_bytes > directory.offset:
        msg = f"the members of {what} overlap"
        raise CorruptFileError(msg)
    if deep:
        _test_members(data)


def _test_members(data: FileBytes) -> None:
    name = "its list of members"
    try:
        with zipfile.ZipFile(data.stream) as archive:
            for member in archive.infolist():
                name = f"its member {member.filename!r}"
                with archive.open(member) as stream:
                    while stream.read(BLOCK_BYTES):
                        pass
    except damage_errors() as err:
        if not is_damage(err):
            raise
        msg = f"{name} cannot be read: {err or type(err).__name__}"
        raise CorruptFileError(msg) from err


def damage_errors() -> tuple[type[Exception], ...]:
    """Return what reading a damaged archive may raise: readers let their libraries' errors out."""
    import tarfile

    errors = [zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError]
    # NotImplementedError: an unknown method; RuntimeError: encryption; OSError: damage of bzip2;
    # MemoryError: the size of an LZMA dictionary.
    errors += [ValueError, OverflowError, NotImplementedError, RuntimeError, OSError, MemoryError]
    with contextlib.suppress(ImportError):
        import lzma

        errors.append(lzma.LZMAError)
    return tuple(errors)


def is_damage(err: Exception) -> bool:
    """Whether one of :func:`damage_errors` tells of content, and not of the file system.

    Damage is an OSError without a number, and a seek to a wild place an invalid argument.
    """
    return not isinstance(err, OSError) or err.errno in (None, errno.EINVAL)


def is_tar_header(block: bytes) -> bool:
    """Whether a block of 512 bytes is a TAR header: its checksum fits (both ways of adding)."""
    if len(block) < _TAR_BLOCK_BYTES or not block[0]:
        return False
    try:
        stored = int(block[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    blanked = block[:148] + b" " * 8 + block[156:_TAR_BLOCK_BYTES]
    unsigned = sum(blanked)
    return stored in (unsigned, unsigned - 256 * sum(byte > 127 for byte in blanked))


def _tar_size(header: bytes) -> int:
    field = header[124:136]
    if field[0] & 0x80:  # GNU and star write large sizes in binary
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return -1


def _pax_size(records: bytes) -> int | None:
    """Return the size that a pax header gives for the next member, if it gives one."""
    position, size = 0, None
    while match := _PAX_LENGTH.match(records, position):
        end = position + int(match[1])
        told = _PAX_SIZE.fullmatch(records, match.end(), end)
        if told is not None:
            size = int(told[1])
        if end <= match.end():
            break
        position = end
    return size


def check_tar(data: FileBytes) -> None:
    """Walk from header to header, up to the block of zeros that ends an archive."""
    position, size_told = 0, None
    while True:
        what = f"the TAR block at byte {position}"
        header = data.read(position, _TAR_BLOCK_BYTES, what)
        if not any(header):
            return
        if not is_tar_header(header):
            msg = f"{what} is neither a header nor the end of the archive"
            raise CorruptFileError(msg)
        kind = header[156:157]
        size = _tar_size(header)
        position += _TAR_BLOCK_BYTES
        if kind == b"S":
            position = _skip_sparse_headers(data, position, is_extended=header[482] != 0)
        if kind not in b"xgXLK":
            size = size if size_told is None else size_told
            size_told = None
            if kind in _TAR_WITHOUT_DATA:
                size = 0
        if size < 0:
            msg = f"{what} gives a size that is no number"
            raise CorruptFileError(msg)
        if kind in b"xX":
            size_told = _pax_size(data.read(position, min(size, _PAX_MAX_BYTES), "a pax header"))
        position += size + -size % _TAR_BLOCK_BYTES
        data.require(position, f"the member of {what}")


def _skip_sparse_headers(data: FileBytes, position: int, *, is_extended: bool) -> int:
    while is_extended:
        is_extended = data.read(position, _TAR_BLOCK_BYTES, "a TAR header")[504] != 0
        position += _TAR_BLOCK_BYTES
    return position


def check_gzip(data: FileBytes) -> None:
    """Unpack a gzip stream, since nothing else shows its end and its checksum.

    It may be of several parts; only zeros may follow the last one.
    """
    inflater = zlib.decompressobj(wbits=31)
    for block in data.blocks():
        rest = block
        while rest:
            if inflater.eof:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                inflater = zlib.decompressobj(wbits=31)
            try:
                _inflate(inflater, rest)
            except zlib.error as err:
                msg = f"its gzip stream is damaged: {err}"
                raise CorruptFileError(msg) from err
            rest = inflater.unused_data if inflater.eof else b""
    if not inflater.eof:
        msg = f"it holds {data.size} bytes and its gzip stream goes on: it is cut short"
        raise CorruptFileError(msg)


def _inflate(inflater: Any, packed: bytes) -> None:
    """Unpack bytes piece by piece, and drop what comes out: all of it may not fit into memory."""
    while not inflater.eof:
        unpacked = inflater.decompress(packed, BLOCK_BYTES)
        packed = inflater.unconsumed_tail
        # After a full piece more may follow although all bytes are used up.
        if not packed and len(unpacked) < BLOCK_BYTES:
            return
