"""The bytes of a product: from memory, from a file, or a folder zipped as the service does it.

It knows where bytes come from, not what they mean, nor how they are sent.
"""

from __future__ import annotations

import functools
import hashlib
import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

CHUNK_BYTES = 1 << 20

#: Extensions of products which the service delivers as a ZIP with one top folder.
ARCHIVED_SUFFIXES = (".SEN3", ".SAFE")

# The earliest time that a ZIP can hold: a folder always gives the same archive.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class Content:
    """Bytes in memory or on disk, and the two validators of this state of them."""

    def __init__(self, source: Path | bytes) -> None:
        self._source = source

    @functools.cached_property
    def _bytes_or_file(self) -> bytes | Path:
        if isinstance(self._source, Path) and self._source.is_dir():
            return zip_folder(self._source)
        return self._source

    @property
    def file(self) -> Path | None:
        """The file which holds the bytes as they are, None if they are in memory."""
        found = self._bytes_or_file
        return found if isinstance(found, Path) else None

    @functools.cached_property
    def length(self) -> int:
        """The number of bytes."""
        found = self._bytes_or_file
        return found.stat().st_size if isinstance(found, Path) else len(found)

    @functools.cached_property
    def etag(self) -> str:
        """A strong validator, quoted."""
        found = self._bytes_or_file
        if isinstance(found, Path):
            found = f"{found} {found.stat().st_mtime_ns} {self.length}".encode()
        return f'"{hashlib.sha256(found).hexdigest()[:32]}"'

    @functools.cached_property
    def modified(self) -> float:
        """When the bytes last changed, in whole seconds since 1970."""
        if isinstance(self._source, Path):
            return float(int(self._source.stat().st_mtime))
        # Bytes in memory have no age: two contents should differ in this validator, too.
        return 1.6e9 + int.from_bytes(hashlib.sha256(self._source).digest()[:3], "big")

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Return a part of the bytes."""
        return b"".join(self.chunks(start, self.length if stop is None else stop))

    def chunks(self, start: int, stop: int, size: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Yield a part of the bytes in pieces."""
        found = self._bytes_or_file
        if isinstance(found, bytes):
            for offset in range(start, stop, size):
                yield found[offset : min(offset + size, stop)]
            return
        with found.open("rb") as file:
            file.seek(start)
            left = stop - start
            while left > 0 and (piece := file.read(min(size, left))):
                left -= len(piece)
                yield piece


def zip_folder(folder: Path) -> bytes:
    """Return a ZIP with one top folder of the same name, always the same for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
            member = zipfile.ZipInfo(name, date_time=_ZIP_EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, path.read_bytes())
    return buffer.getvalue()


def variant(content: bytes, number: int) -> bytes:
    """Return other bytes of equal length, as a server that makes archives on the fly sends.

    The members of a ZIP change their order and their times, and the archive stays valid. In any
    other file one byte of each 4 KiB changes.
    """
    if number == 0:
        return content
    if content.startswith(b"PK"):
        return _rotate_zip(content, number)
    changed = bytearray(content)
    for offset in range(min(2048, len(content) // 2), len(content), 4096):
        changed[offset] ^= number % 255 + 1
    return bytes(changed)


def _rotate_zip(content: bytes, number: int) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        offsets = sorted(member.header_offset for member in archive.infolist())
        directory = archive.start_dir
    ends = [*offsets[1:], directory]
    turn = number % len(offsets) if offsets else 0
    order = [*range(turn, len(offsets)), *range(turn)]
    body = bytearray(content[: offsets[0]] if offsets else b"")
    moved: dict[int, int] = {}
    for index in order:
        moved[offsets[index]] = len(body)
        body += content[offsets[index] : ends[index]]
        # Two-second resolution; the field is at 10 in a local header and at 12 in the directory.
        struct.pack_into("<H", body, moved[offsets[index]] + 10, number % 30)
    tail = bytearray(content[directory:])
    position = 0
    while tail[position : position + 4] == b"PK\x01\x02":
        name, extra, comment = struct.unpack_from("<3H", tail, position + 28)
        (old,) = struct.unpack_from("<I", tail, position + 42)
        struct.pack_into("<H", tail, position + 12, number % 30)
        struct.pack_into("<I", tail, position + 42, moved[old])
        position += 46 + name + extra + comment
    return bytes(body + tail)
