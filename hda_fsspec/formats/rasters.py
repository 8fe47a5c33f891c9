"""Completeness of image files: TIFF, BigTIFF and JPEG 2000.

Each check follows the places and lengths that the format stores, and raises CorruptFileError if one
lies beyond the file. It decodes no pixel.
"""

from __future__ import annotations

import itertools
import operator
import struct
import sys
from array import array
from collections.abc import Container, Iterator
from typing import NamedTuple

from hda_fsspec.formats.file_reader import CorruptFileError, FileBytes

#: Bytes of one value, by TIFF type number. Readers skip the types that are not here.
_TIFF_TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8,
    13: 4, 16: 8, 17: 8, 18: 8,
}  # fmt: skip
#: The unsigned types that can hold a place or a length, with their code in :mod:`array`.
_TIFF_NUMBER_CODES = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_TIFF_SUB_IFDS = 330
#: The tags that place the pixels: offsets and byte counts of strips, and of tiles.
_TIFF_PIXEL_TAGS = ((273, 279), (324, 325))
#: Bounds on work, far above any real image.
_TIFF_MAX_DIRECTORIES = 65_536
_TIFF_MAX_ENTRIES = 4_096
_TIFF_MAX_PIECES = 16_000_000
_TIFF_PIECES_AT_ONCE = 65_536
#: Of a value that is text: more than GDAL's metadata ever take.
_MOST_TEXT_BYTES = 1 << 26

_JP2_MAX_BOXES = 65_536
_JP2_MAX_TILE_PARTS = 1_000_000


class _Layout(NamedTuple):
    """The differences between TIFF and BigTIFF: formats of numbers, and the size of an entry."""

    order: str
    entry_count: str
    pointer: str
    entry_bytes: int
    inline_bytes: int


class _Entry(NamedTuple):
    """An entry of a directory: the type, count and place of its values."""

    type: int
    values: int
    offset: int


def _read_number(data: FileBytes, layout: _Layout, code: str, offset: int) -> int:
    form = layout.order + code
    piece = data.read(offset, struct.calcsize(form), "a TIFF directory")
    return int(struct.unpack(form, piece)[0])


def _read_directory(
    data: FileBytes, layout: _Layout, offset: int
) -> tuple[list[tuple[int, _Entry]], int]:
    """Return tag and entry of all that a directory holds, and the place of the next directory."""
    count = _read_number(data, layout, layout.entry_count, offset)
    first = offset + struct.calcsize(layout.order + layout.entry_count)
    end = first + count * layout.entry_bytes
    data.require(end, f"the TIFF directory at byte {offset}")
    if count > _TIFF_MAX_ENTRIES:
        msg = f"the TIFF directory at byte {offset} announces {count} entries: it is damaged"
        raise CorruptFileError(msg)
    table = data.read(first, count * layout.entry_bytes, "a TIFF directory")
    form = f"{layout.order}HH{layout.pointer}{layout.inline_bytes}x"
    entries = []
    for index, (tag, kind, values) in enumerate(struct.iter_unpack(form, table)):
        place = first + (index + 1) * layout.entry_bytes - layout.inline_bytes
        size = values * _TIFF_TYPE_BYTES.get(kind, 0)
        if size > layout.inline_bytes:
            place = _read_number(data, layout, layout.pointer, place)
            data.require(place + size, f"the value of TIFF tag {tag}")
        entries.append((tag, _Entry(kind, values, place)))
    return entries, _read_number(data, layout, layout.pointer, end)


def _as_read(entries: list[tuple[int, _Entry]]) -> dict[int, _Entry]:
    """Return the entries that readers look at, by tag: of several of one tag the first.

    One of a type that does not exist is skipped by them, and still hides those that follow it.
    """
    found: dict[int, _Entry] = {}
    for tag, entry in entries:
        found.setdefault(tag, entry)
    return {tag: entry for tag, entry in found.items() if entry.type in _TIFF_TYPE_BYTES}


def _read_numbers(data: FileBytes, layout: _Layout, entry: _Entry) -> Iterator[array[int]]:
    """Yield the values of an entry, in blocks of bounded length."""
    if entry.type not in _TIFF_NUMBER_CODES:
        msg = f"a TIFF tag that holds places or lengths has the type {entry.type}"
        raise CorruptFileError(msg)
    width = _TIFF_TYPE_BYTES[entry.type]
    for first in range(0, entry.values, _TIFF_PIECES_AT_ONCE):
        count = min(_TIFF_PIECES_AT_ONCE, entry.values - first)
        piece = data.read(entry.offset + first * width, count * width, "a list of TIFF offsets")
        numbers = array(_TIFF_NUMBER_CODES[entry.type], piece)
        if (layout.order == ">") != (sys.byteorder == "big"):
            numbers.byteswap()
        yield numbers


def _pixels_end(data: FileBytes, layout: _Layout, offsets: _Entry, lengths: _Entry | None) -> int:
    """Return where the last strip or tile ends; one left out has place and length zero."""
    end = 0
    if lengths is None:
        for starts in _read_numbers(data, layout, offsets):
            end = max(end, max(starts) + 1)
        return end
    # Some writers store too many of the one or the other; readers use what has a partner.
    pairs = zip(
        _read_numbers(data, layout, offsets), _read_numbers(data, layout, lengths), strict=False
    )
    for starts, counts in pairs:
        end = max(itertools.chain((end,), map(operator.add, starts, counts)))
    return end


def _tiff_layout(head: bytes) -> tuple[_Layout, int]:
    """Return the layout, and the place of the pointer to the first directory."""
    order = "<" if head[:2] == b"II" else ">"
    if struct.unpack(order + "H", head[2:4])[0] == 43:
        return _Layout(order, "Q", "Q", 20, 8), 8
    return _Layout(order, "H", "I", 12, 4), 4


def _directories(data: FileBytes) -> Iterator[tuple[_Layout, int, list[tuple[int, _Entry]]]]:
    """Yield each directory of a TIFF file with its place and its entries, sub-directories too."""
    layout, pointer = _tiff_layout(data.read(0, 8, "its TIFF header"))
    waiting = [_read_number(data, layout, layout.pointer, pointer)]
    seen: set[int] = set()
    while waiting:
        offset = waiting.pop()
        if not offset or offset in seen:
            continue
        seen.add(offset)
        entries, following = _read_directory(data, layout, offset)
        yield layout, offset, entries
        waiting.append(following)
        children = _as_read(entries).get(_TIFF_SUB_IFDS)
        announced = len(seen) + len(waiting) + (children.values if children else 0)
        if announced > _TIFF_MAX_DIRECTORIES:
            msg = "it announces more TIFF directories than any image has"
            raise CorruptFileError(msg)
        if children is not None:
            for numbers in _read_numbers(data, layout, children):
                waiting.extend(numbers)


def check_tiff(data: FileBytes) -> None:
    """Walk all directories; every value, strip and tile must lie within the file."""
    pieces = 0
    offset = 0
    for layout, offset, stored in _directories(data):
        entries = _as_read(stored)
        for offsets_tag, counts_tag in _TIFF_PIXEL_TAGS:
            offsets = entries.get(offsets_tag)
            if offsets is None:
                continue
            pieces += offsets.values
            if pieces > _TIFF_MAX_PIECES:
                msg = f"it announces {pieces} strips and tiles, where far fewer are possible"
                raise CorruptFileError(msg)
            end = _pixels_end(data, layout, offsets, entries.get(counts_tag))
            data.require(end, f"the last strip or tile of the TIFF directory at byte {offset}")
    if not offset:
        msg = "its TIFF header names no directory: it was not finished"
        raise CorruptFileError(msg)


def tiff_values(data: FileBytes, tag: int) -> Iterator[bytes]:
    """Yield all values of a tag, in all directories, those of sub-directories included.

    Of several in one directory a reader may take any.
    """
    for _, _, entries in _directories(data):
        for stored, entry in entries:
            if stored == tag:
                size = entry.values * _TIFF_TYPE_BYTES.get(entry.type, 0)
                if size > _MOST_TEXT_BYTES:
                    msg = f"the value of TIFF tag {tag} has {size} bytes, more than any product's"
                    raise CorruptFileError(msg)
                yield data.read(entry.offset, size, f"the value of TIFF tag {tag}")


def _read_box(data: FileBytes, position: int, limit: int) -> tuple[bytes, int, int]:
    """Return the type of a JP2 box, and where its content starts and ends."""
    length, kind = struct.unpack(">I4s", data.read(position, 8, "a JP2 box"))
    header = 8
    if length == 1:
        length, header = int.from_bytes(data.read(position + 8, 8, "a JP2 box"), "big"), 16
    end = position + length if length else limit
    if end < position + header:
        raise _wrong_length(position, end - position)
    return kind, position + header, end


def _wrong_length(position: int, length: int) -> CorruptFileError:
    return CorruptFileError(f"the JP2 box at byte {position} gives its length as {length}")


def jp2_boxes(
    data: FileBytes, super_boxes: Container[bytes]
) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield each box of a JP2 file: its place, its type, and where its content starts and ends.

    Boxes that hold other boxes come before what they hold.
    """
    waiting = [(0, data.size)]
    for _ in range(_JP2_MAX_BOXES):
        if not waiting:
            return
        position, limit = waiting.pop()
        if position + 8 > limit or not any(data.peek(position, 8)):
            continue
        kind, start, end = _read_box(data, position, limit)
        if end > limit:
            raise _wrong_length(position, end - position)
        yield position, kind, start, end
        waiting.append((end, limit))
        if kind in super_boxes:
            waiting.append((start, end))
    msg = f"it holds more than {_JP2_MAX_BOXES} JP2 boxes"
    raise CorruptFileError(msg)


def _tile_parts_start(data: FileBytes, position: int) -> int:
    """Return where the first tile-part starts: behind the main header of a codestream."""
    if data.read(position, 2, "its JPEG 2000 codestream") != b"\xff\x4f":
        msg = f"no JPEG 2000 codestream starts at byte {position}"
        raise CorruptFileError(msg)
    position += 2
    while True:
        marker, length = struct.unpack(">HH", data.read(position, 4, "its JPEG 2000 header"))
        if marker == 0xFF90:
            return position
        if marker < 0xFF00 or length < 2:
            msg = f"its JPEG 2000 header is damaged at byte {position}"
            raise CorruptFileError(msg)
        position += 2 + length


def _check_codestream(data: FileBytes, start: int, end: int) -> int:
    """Walk from tile-part to tile-part; return where the end marker ends."""
    what = "its JPEG 2000 codestream"
    position = _tile_parts_start(data, start)
    for _ in range(_JP2_MAX_TILE_PARTS):
        marker = data.read(position, 2, what)
        if marker == b"\xff\xd9":
            return position + 2
        if marker != b"\xff\x90":
            msg = f"a tile-part or the end of its JPEG 2000 codestream misses at byte {position}"
            raise CorruptFileError(msg)
        length = int.from_bytes(data.read(position + 6, 4, what), "big")
        if length == 0:
            return _last_end_marker(data, position + 12, end)
        if length < 14:
            msg = f"the JPEG 2000 tile-part at byte {position} gives its length as {length}"
            raise CorruptFileError(msg)
        position += length
        data.require(position + 2, what)
    msg = f"it holds more than {_JP2_MAX_TILE_PARTS} JPEG 2000 tile-parts"
    raise CorruptFileError(msg)


def _last_end_marker(data: FileBytes, start: int, end: int) -> int:
    """Return where a codestream of unknown length ends; only zeros may follow its end marker."""
    first = max(start, end - 65_536)
    tail = data.read(first, max(0, end - first), "its JPEG 2000 codestream").rstrip(b"\0")
    if not tail.endswith(b"\xff\xd9"):
        msg = "its JPEG 2000 codestream has no end marker: it is cut short"
        raise CorruptFileError(msg)
    return first + len(tail)


def check_jp2(data: FileBytes) -> None:
    """Walk the boxes of a JP2 file, or a bare codestream, to the end of the codestream."""
    if data.peek(0, 2) == b"\xff\x4f":
        _check_codestream(data, 0, data.size)
        return
    position, has_codestream = 0, False
    for _ in range(_JP2_MAX_BOXES):
        if position == data.size or (
            has_codestream and not any(data.peek(position, 8))  # zeros after the last box
        ):
            break
        kind, start, end = _read_box(data, position, data.size)
        data.require(end, f"the JP2 box at byte {position}")
        if kind == b"jp2c":
            has_codestream = True
            if _check_codestream(data, start, end) > end:
                msg = f"its JPEG 2000 codestream is longer than the JP2 box at byte {position}"
                raise CorruptFileError(msg)
        position = end
    else:
        msg = f"it holds more than {_JP2_MAX_BOXES} JP2 boxes"
        raise CorruptFileError(msg)
    if not has_codestream:
        msg = "it holds no JPEG 2000 codestream: it is cut short"
        raise CorruptFileError(msg)
