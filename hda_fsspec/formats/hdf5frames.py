"""Comparison of HDF5 files: whether one equals another byte for byte, but for some values.

What a library makes of a file hangs on its bytes alone. If those of two files are the same but for
the numbers of some arrays, where these lie, and some texts, then both are built alike, and what was
found of one holds for the other: what it consists of, and that nothing in it leads elsewhere. To
compare bytes takes a small part of the time that it takes to follow them.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
from collections.abc import Collection, Iterator, Mapping

from hda_fsspec.formats.file_reader import FileBytes
from hda_fsspec.formats.gridded_completeness import HDF5_SIGNATURE
from hda_fsspec.formats.hdf5objects import attribute_parts, dense_heap
from hda_fsspec.formats.hdf5storage import Hdf5Bytes, SealedPiece
from hda_fsspec.formats.hdf5values import (
    NOT_MADE_OUT,
    ArrayKind,
    StoredArray,
    address_at,
    array_header,
    group_address,
    is_array_of,
    members_of,
    place_array,
)

_ATTRIBUTE, _ATTRIBUTE_INFO = 0x0C, 0x15
_SHARED = 2
_STRING = 3
_CHECKSUM_BYTES = 4
_32_BITS = 0xFFFFFFFF
#: To compare more takes as long as to open the file.
_MOST_BYTES = 1 << 20
#: The checksum of a larger piece takes as long as to open the file.
_MOST_SEALED_BYTES = 1 << 13


_Extent = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Contents:
    """What files of one frame may differ in.

    Attributes
    ----------
    arrays : dict of str to StoredArray
        Where the values of arrays lie.
    texts : dict of str to bytes
        The values of attributes of the group.
    """

    arrays: dict[str, StoredArray]
    texts: dict[str, bytes]


@dataclasses.dataclass(frozen=True)
class Frame:
    """The bytes of a file, but for the numbers of some arrays, where these lie, and some texts.

    Attributes
    ----------
    fixed : list of (int, bytes)
        What is in each file of this frame, with its address.
    sealed : list of (SealedPiece, bytes)
        The pieces with a checksum in which something may differ, as they are in the first file.
    arrays : dict of str to tuple
        For each array what it is, and address and length of the message that tells where it lies.
    texts : dict of str to (int, int)
        Address and length of the attributes of the group that may differ.
    """

    fixed: list[tuple[int, bytes]]
    sealed: list[tuple[SealedPiece, bytes]]
    arrays: dict[str, tuple[ArrayKind, int, int]]
    texts: dict[str, _Extent]

    def look(self, data: FileBytes) -> Contents | None:
        """Return what a file of this frame holds; None for any other file."""
        try:
            return self._look(data)
        except NOT_MADE_OUT:
            return None

    def _look(self, data: FileBytes) -> Contents | None:
        for place, expected in self.fixed:
            if data.peek(place, len(expected)) != expected:
                return None
        for piece, known in self.sealed:
            found = data.read(piece.address, piece.size, "a piece with a checksum")
            if found != known and not _is_whole(found, piece):
                return None
        file, last = Hdf5Bytes(data, 0), self.fixed[-1]
        if file.end is None or not last[0] + len(last[1]) <= file.end <= data.size:
            return None
        placed = {}
        for name, (kind, place, count) in self.arrays.items():
            layout = data.read(place, count, "the layout of an array")
            placed[name] = place_array(file, kind, layout, 0)
        texts = {
            name: data.read(place, count, "an attribute")
            for name, (place, count) in self.texts.items()
        }
        return Contents(placed, texts)


def take_frame(
    data: FileBytes, arrays: Collection[str], texts: Mapping[str, str], *, group: str | None = None
) -> Frame | None:
    """Take the frame of a file; None if it is stored in a way that is not known here.

    Parameters
    ----------
    data : FileBytes
        The file. It must be one that the library reads.
    arrays : collection of str
        The variables of the group whose numbers may differ. What is stored in another way than
        these are known to be must be equal in all files.
    texts : mapping of str to str
        The attributes of the group that may differ, with what they say in this file. Other texts
        than these are of the same length in bytes.
    group : str or None
        The group.
    """
    try:
        return _Taking(data).frame(arrays, texts, group)
    except NOT_MADE_OUT:
        return None


class _Taking:
    """A file while its frame is taken."""

    def __init__(self, data: FileBytes) -> None:
        self._data = data
        #: What may differ.
        self._holes: list[_Extent] = []
        #: The values of arrays, and what tells where each piece of them lies.
        self._values: list[_Extent] = []
        #: Pieces that hold a hole, and others.
        self._pieces: list[SealedPiece] = []

    def frame(
        self, arrays: Collection[str], texts: Mapping[str, str], group: str | None
    ) -> Frame | None:
        data = self._data
        if data.peek(0, len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
            return None
        file = Hdf5Bytes(data, 0)
        address = group_address(file, group)
        if address is None or file.end is None or not self._superblock(file):
            return None
        placed = {}
        members = members_of(file, address)
        for name in arrays:
            if is_array_of(name, members):
                found = self._array(file, members[name])
                if found is not None:
                    placed[name] = found
        written = self._texts(file, address, texts)
        pieces = list(dict.fromkeys(self._pieces))
        # In a damaged file values may lie where other things are, which must be compared.
        used = sorted([*self._values, *((piece.address, piece.size) for piece in pieces)])
        if any(one + count > after for (one, count), (after, _) in itertools.pairwise(used)):
            return None
        sealed = [piece for piece in pieces if self._is_open(piece)]
        for piece in sealed:
            if piece.checksum is not None:
                self._holes.append((piece.address + piece.checksum, _CHECKSUM_BYTES))
        if any(piece.size > _MOST_SEALED_BYTES for piece in sealed):
            return None
        fixed = list(self._between_holes(file.end))
        if not fixed or sum(count for _, count in fixed) > _MOST_BYTES:
            return None
        return Frame(
            [(place, data.read(place, count, "its frame")) for place, count in fixed],
            [(p, data.read(p.address, p.size, "its frame")) for p in sealed if p.checksum],
            placed,
            written,
        )

    def _superblock(self, file: Hdf5Bytes) -> bool:
        """Add what tells where the file ends; return whether addresses count from its beginning."""
        version = self._data.read(8, 1, "its superblock")[0]
        first = {0: 24, 1: 28}.get(version, 12)
        count = first + 4 * file.width
        self._holes.append((first + 2 * file.width, file.width))
        if version < 2:
            self._pieces.append(SealedPiece(0, count, None))
        else:
            self._pieces.append(SealedPiece(0, count + _CHECKSUM_BYTES, count))
        return not any(self._data.read(first, file.width, "its superblock"))

    def _array(self, file: Hdf5Bytes, address: int) -> tuple[ArrayKind, int, int] | None:
        pieces, nodes = list[SealedPiece](), list[_Extent]()
        try:
            kind, layout, place = array_header(file, address, pieces)
            found = place_array(file, kind, layout, 0, nodes)
        except NOT_MADE_OUT:
            return None  # its bytes are compared, as all others
        self._values += [*found.pieces, *nodes]
        self._holes += [(place + address_at(layout), file.width), *found.pieces, *nodes]
        self._pieces += pieces
        return kind, place, len(layout)

    def _texts(self, file: Hdf5Bytes, address: int, texts: Mapping[str, str]) -> dict[str, _Extent]:
        """Return where the texts of a group stand that may differ."""
        pieces, found = list[SealedPiece](), dict[str, _Extent]()
        for kind, flags, body, place in file.messages(address, pieces):
            attributes = [(place, body)] if kind == _ATTRIBUTE and not flags & _SHARED else []
            if kind == _ATTRIBUTE_INFO:
                heap, trees = dense_heap(file, body, 2)
                if heap is not None and trees and trees[0] is not None:
                    for at, attribute, block in file.placed_objects(heap, trees[0]):
                        if block.size <= _MOST_SEALED_BYTES:
                            attributes.append((at, attribute))
                            pieces.append(block)
            for at, attribute in attributes:
                name, start, text = _text_of(attribute)
                if name in texts and texts[name].encode() == text and text:
                    found[name] = (at + start, len(text))
        self._holes += found.values()
        self._pieces += pieces
        return found

    def _is_open(self, piece: SealedPiece) -> bool:
        """Whether something in a piece may differ."""
        end = piece.address + piece.size
        return any(piece.address <= place < end for place, _ in self._holes)

    def _between_holes(self, end: int) -> Iterator[_Extent]:
        position = 0
        for place, count in sorted(self._holes):
            if place > position:
                yield position, place - position
            position = max(position, place + count)
        if end > position:
            yield position, end - position


def _text_of(attribute: bytes) -> tuple[str, int, bytes]:
    """Return name, place and value of an attribute that is one text; else nothing."""
    parts = attribute_parts(attribute)
    if parts is None:
        return "", 0, b""
    name, kind, space, start = parts
    is_scalar = len(space) > 3 and not space[1] and (space[0] == 1 or space[3] == 0)
    if len(kind) < 8 or kind[0] & 15 != _STRING or not is_scalar:
        return "", 0, b""
    size = int.from_bytes(kind[4:8], "little")
    text = attribute[start : start + size]
    if len(text) != size:
        return "", 0, b""
    return name.partition(b"\0")[0].decode("utf-8", "replace"), start, text


def _is_whole(found: bytes, piece: SealedPiece) -> bool:
    """Whether the checksum of a piece fits."""
    at = piece.checksum
    if at is None:
        return True
    after = at + _CHECKSUM_BYTES
    # At the end it is left out; before other bytes it counts as zeros.
    rest = bytes(_CHECKSUM_BYTES) + found[after:] if after < len(found) else b""
    return checksum_of(found[:at] + rest) == int.from_bytes(found[at:after], "little")


def checksum_of(data: bytes) -> int:
    """Return the checksum of HDF5's metadata, which is lookup3 of Bob Jenkins."""
    a: int
    b: int
    c: int
    a = b = c = (0xDEADBEEF + len(data)) & _32_BITS
    # The last twelve bytes, or what there is of them, are mixed in another way.
    most = max(len(data) - 1, 0) // 12 * 12
    for one, two, three in struct.iter_unpack("<III", data[:most]):
        # Each turn of bits is written out: to call a function takes longer than all of it.
        a, b, c = a + one & _32_BITS, b + two & _32_BITS, c + three & _32_BITS
        a = (a - c & _32_BITS) ^ (c << 4 & _32_BITS | c >> 28)
        c = c + b & _32_BITS
        b = (b - a & _32_BITS) ^ (a << 6 & _32_BITS | a >> 26)
        a = a + c & _32_BITS
        c = (c - b & _32_BITS) ^ (b << 8 & _32_BITS | b >> 24)
        b = b + a & _32_BITS
        a = (a - c & _32_BITS) ^ (c << 16 & _32_BITS | c >> 16)
        c = c + b & _32_BITS
        b = (b - a & _32_BITS) ^ (a << 19 & _32_BITS | a >> 13)
        a = a + c & _32_BITS
        c = (c - b & _32_BITS) ^ (b << 4 & _32_BITS | b >> 28)
        b = b + a & _32_BITS
    if not data:
        return c
    one, two, three = struct.unpack("<III", data[most:].ljust(12, b"\0"))
    a, b, c = a + one & _32_BITS, b + two & _32_BITS, c + three & _32_BITS
    c = (c ^ b) - _turned(b, 14) & _32_BITS
    a = (a ^ c) - _turned(c, 11) & _32_BITS
    b = (b ^ a) - _turned(a, 25) & _32_BITS
    c = (c ^ b) - _turned(b, 16) & _32_BITS
    a = (a ^ c) - _turned(c, 4) & _32_BITS
    b = (b ^ a) - _turned(a, 14) & _32_BITS
    return (c ^ b) - _turned(b, 24) & _32_BITS


def _turned(number: int, bits: int) -> int:
    """Return a number of 32 bits turned to the left."""
    return (number << bits | number >> 32 - bits) & _32_BITS
