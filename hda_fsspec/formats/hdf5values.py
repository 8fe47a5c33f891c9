"""Where an HDF5 file keeps the values of its arrays of plain numbers, and how they are packed.

Who knows that reads them without the library, which takes longer to open a small file than to read
it. What is stored in any but the common ways is left out: it is for the library to read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import operator
import struct
from collections.abc import Collection, Iterator
from typing import NamedTuple, TypeVar

from hda_fsspec.formats.file_reader import CorruptFileError, FileBytes
from hda_fsspec.formats.gridded_completeness import find_hdf5
from hda_fsspec.formats.hdf5objects import dense_heap, link_parts
from hda_fsspec.formats.hdf5storage import Hdf5Bytes, SealedPiece

_DATASPACE, _LINK_INFO, _DATATYPE, _LINK = 0x01, 0x02, 0x03, 0x06
_EXTERNAL_FILES, _LAYOUT, _FILTERS, _SYMBOL_TABLE = 0x07, 0x08, 0x0B, 0x11
_SHARED = 2
_INTEGER, _FLOAT = 0, 1
_CONTIGUOUS, _CHUNKED = 1, 2
_DEFLATE, _SHUFFLE = 1, 2
#: Offset, precision, exponent, mantissa and bias of the numbers that numpy knows.
_IEEE = {
    4: struct.pack("<HHBBBBI", 0, 32, 23, 8, 0, 23, 127),
    8: struct.pack("<HHBBBBI", 0, 64, 52, 11, 0, 52, 1023),
}
#: An array of more pieces is large enough for the library, and its table as large as a header.
_MOST_PIECES = 64
_DEEPEST = 4
#: More bytes than the netCDF library lets a name have.
_LONGEST_NAME = 1024
#: How the netCDF library calls a variable whose own name is that of a dimension it does not lie on.
_NO_COORDINATE = "_nc4_non_coord_"


_T = TypeVar("_T")


class _OtherwiseStoredError(Exception):
    """An array is stored in a way that is not known here."""


#: What is raised of an array that is stored in another way, or cannot be made out.
NOT_MADE_OUT = (_OtherwiseStoredError, CorruptFileError, IndexError, ValueError, struct.error)


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """Where the values of an array lie in a file.

    Attributes
    ----------
    dtype : str
        What is stored, as numpy names it, with its byte order.
    shape : tuple of int
        Its shape.
    chunk : tuple of int
        The shape of each piece that it is stored in; the last along an axis may reach beyond it.
    pieces : tuple of (int, int)
        First byte in the file and count of bytes of each piece, the last axis running fastest.
    is_deflated, is_shuffled : bool
        Whether pieces are compressed, and whether their bytes were sorted by significance before.
    """

    dtype: str
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    pieces: tuple[tuple[int, int], ...]
    is_deflated: bool = False
    is_shuffled: bool = False


def find_arrays(
    data: FileBytes, names: Collection[str], *, group: str | None = None
) -> dict[str, StoredArray]:
    """Return where arrays of a group of a netCDF-4 file lie, by their names.

    Those are left out that are absent, stored in another way, or cannot be made out.
    """
    start = find_hdf5(data.peek, data.size)
    if start is None:
        return {}
    found = {}
    # What is wrong with a file is told by the library, which reads it then.
    with contextlib.suppress(*NOT_MADE_OUT):
        file = Hdf5Bytes(data, start)
        address = group_address(file, group)
        members = {} if address is None else members_of(file, address)
        for name in names:
            if is_array_of(name, members):
                with contextlib.suppress(*NOT_MADE_OUT):
                    kind, layout, _ = array_header(file, members[name])
                    found[name] = place_array(file, kind, layout, start)
    return found


def is_array_of(name: str, members: Collection[str]) -> bool:
    """Whether the variable of a name is the object of that name."""
    return name in members and f"{_NO_COORDINATE}{name}" not in members


def group_address(file: Hdf5Bytes, group: str | None) -> int | None:
    """Return the address of a group; None if there is none."""
    address = file.root
    for name in (group or "").strip("/").split("/"):
        if name and address is not None:
            address = members_of(file, address).get(name)
    return address


def members_of(file: Hdf5Bytes, address: int) -> dict[str, int]:
    """Return the addresses of the objects that a group has itself, by their names."""
    found: dict[str, int] = {}
    for kind, _, body, _ in file.messages(address):
        if kind == _SYMBOL_TABLE:
            tree, heap = file.address(body, 0), file.address(body, file.width)
            if tree is None or heap is None:
                continue
            names = file.local_heap(heap)
            for place, child in file.symbols(tree):
                name = names[place : place + _LONGEST_NAME].partition(b"\0")[0]
                found[name.decode("utf-8", "replace")] = child
        links = [body] if kind == _LINK else []
        if kind == _LINK_INFO:
            dense, trees = dense_heap(file, body, 8)
            if dense is not None and trees and trees[0] is not None:
                links = list(file.heap_objects(dense, trees[0], set()))
        for link in links:
            what, name_of, rest = link_parts(link)
            child_of = file.address(rest, 0) if what == 0 else None
            if child_of is not None:
                found[name_of] = child_of
    return found


class ArrayKind(NamedTuple):
    """What an array is, but for where its values lie; see :class:`StoredArray`."""

    dtype: str
    shape: tuple[int, ...]
    is_deflated: bool
    is_shuffled: bool


def array_header(
    file: Hdf5Bytes, address: int, pieces: list[SealedPiece] | None = None
) -> tuple[ArrayKind, bytes, int]:
    """Return what an array is, and the message that tells where its values lie, with its address.

    Raises one of ``NOT_MADE_OUT``. See :meth:`Hdf5Bytes.messages` for ``pieces``.
    """
    bodies: dict[int, bytes] = {}
    layout_at = 0
    for kind, flags, body, place in file.messages(address, pieces):
        if kind in (_DATASPACE, _DATATYPE, _LAYOUT, _FILTERS, _EXTERNAL_FILES):
            _require(not flags & _SHARED and kind not in bodies and kind != _EXTERNAL_FILES)
            bodies[kind] = body
            layout_at = place if kind == _LAYOUT else layout_at
    _require({_DATASPACE, _DATATYPE, _LAYOUT} <= bodies.keys())
    shape, dtype = _shape(file, bodies[_DATASPACE]), _dtype(bodies[_DATATYPE])
    filters = _filters(bodies[_FILTERS], int(dtype[2:])) if _FILTERS in bodies else ()
    _require(bodies[_LAYOUT][1] == _CHUNKED or not filters)
    found = ArrayKind(dtype, shape, _DEFLATE in filters, _SHUFFLE in filters)
    return found, bodies[_LAYOUT], layout_at


def place_array(
    file: Hdf5Bytes,
    kind: ArrayKind,
    layout: bytes,
    start: int,
    nodes: list[tuple[int, int]] | None = None,
) -> StoredArray:
    """Return where the values of an array lie in a file whose signature stands at ``start``.

    Address and count of bytes of each node of its index are added to ``nodes``, as far as they are
    in use. Raises one of ``NOT_MADE_OUT``.
    """
    item_bytes = int(kind.dtype[2:])
    chunk, pieces = _laid(file, layout, kind.shape, item_bytes, nodes)
    whole = math.prod(chunk) * item_bytes
    for place, count in pieces:
        _require(count > 0 if kind.is_deflated else count == whole)
        _require(file.end is not None and place + count <= file.end)
        file.require(place + count, "an array")
    placed = tuple((place + start, count) for place, count in pieces)
    return StoredArray(kind.dtype, kind.shape, chunk, placed, *kind[2:])


def address_at(layout: bytes) -> int:
    """Return where in the message of an array's layout the address of values or index stands."""
    return 2 if layout[1] == _CONTIGUOUS else 3


def _require(is_so: bool) -> None:
    if not is_so:
        raise _OtherwiseStoredError


def _shape(file: Hdf5Bytes, body: bytes) -> tuple[int, ...]:
    version, rank = body[0], body[1]
    _require(version == 1 or (version == 2 and body[3] <= 1))
    first = 8 if version == 1 else 4
    _require(len(body) >= first + rank * file.lengths)
    shape = tuple(file.number(body, first + n * file.lengths) for n in range(rank))
    _require(all(shape))
    return shape


def _dtype(body: bytes) -> str:
    kind, version, bits, size = body[0] & 15, body[0] >> 4, body[1], body[4]
    _require(version in (1, 2, 3) and body[5:8] == b"\0\0\0")
    order = ">" if bits & 1 else "<"
    if kind == _INTEGER:
        _require(size in (1, 2, 4, 8) and not bits & 0xF6 and body[2:4] == b"\0\0")
        _require(body[8:12] == struct.pack("<HH", 0, 8 * size))
        return f"{order}{'i' if bits & 8 else 'u'}{size}"
    # The first bit of the mantissa is implied, and the sign is the highest bit.
    _require(kind == _FLOAT and size in _IEEE and bits & 0xFE == 0x20)
    _require(body[2:4] == bytes((8 * size - 1, 0)) and body[8:20] == _IEEE[size])
    return f"{order}f{size}"


def _filters(body: bytes, item_bytes: int) -> tuple[int, ...]:
    """Return the filters in the order of writing."""
    version, count = body[0], body[1]
    _require(version in (1, 2))
    position, found = (8 if version == 1 else 2), []
    for _ in range(count):
        number, length = struct.unpack_from("<HH", body, position)
        _require(number in (_DEFLATE, _SHUFFLE))
        # Of these two the second version tells no name.
        head, length = (8, length + -length % 8) if version == 1 else (6, 0)
        (values,) = struct.unpack_from("<H", body, position + head - 2)
        position += head + length
        if number == _SHUFFLE:
            _require(values == 1 and struct.unpack_from("<I", body, position) == (item_bytes,))
        position += 4 * (values + values % 2 if version == 1 else values)
        found.append(number)
    in_order = tuple(found)
    _require(in_order in ((), (_DEFLATE,), (_SHUFFLE,), (_SHUFFLE, _DEFLATE)))
    return in_order


_Laid = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]


def _laid(
    file: Hdf5Bytes,
    body: bytes,
    shape: tuple[int, ...],
    item_bytes: int,
    nodes: list[tuple[int, int]] | None,
) -> _Laid:
    """Return the shape of the pieces, with address and count of bytes of each."""
    version, kind = body[0], body[1]
    # Later versions have other indexes, and are made by nobody who makes products.
    _require(version == 3 and kind in (_CONTIGUOUS, _CHUNKED))
    if kind == _CHUNKED:
        return _laid_by_tree(file, body, shape, item_bytes, nodes)
    return shape, ((_set(file.address(body, 2)), file.number(body, 2 + file.width)),)


def _laid_by_tree(
    file: Hdf5Bytes,
    body: bytes,
    shape: tuple[int, ...],
    item_bytes: int,
    nodes: list[tuple[int, int]] | None,
) -> _Laid:
    rank, tree = body[2] - 1, _set(file.address(body, 3))
    *chunk, item = struct.unpack_from(f"<{rank + 1}I", body, 3 + file.width)
    _require(rank == len(shape) and all(chunk) and item == item_bytes)
    counts = [-(-size // side) for size, side in zip(shape, chunk, strict=True)]
    _require(math.prod(counts) <= _MOST_PIECES)
    level = file.read(tree + 5, 1, "the index of an array")[0]
    _require(level <= _DEEPEST)
    found = _chunks(file, tree, (*chunk, item), level, None, nodes=nodes)
    corners = itertools.product(*map(range, counts))
    pieces = []
    # One that was never written has the fill value.
    for corner, (key, piece) in zip(corners, found, strict=True):
        _require(key == (*corner, 0))
        pieces.append(piece)
    return tuple(chunk), tuple(pieces)


def _set(value: _T | None) -> _T:
    if value is None:
        raise _OtherwiseStoredError
    return value


_Key = tuple[int, ...]


def _chunks(
    file: Hdf5Bytes,
    address: int,
    sides: _Key,
    level: int,
    bounds: tuple[_Key, _Key] | None,
    *,
    nodes: list[tuple[int, int]] | None,
) -> Iterator[tuple[_Key, tuple[int, int]]]:
    """Yield the pieces that a tree leads to, in order: number along each axis, address and size.

    The library searches the tree. Where keys are not in order, or not within those above them, it
    may not find what is there.
    """
    head = file.signed(address, 8 + 2 * file.width, b"TREE")
    used = int.from_bytes(head[6:8], "little")
    _require(head[4:6] == bytes((1, level)) and 0 < used <= _MOST_PIECES)
    key_format = struct.Struct(f"<II{len(sides)}Q")
    step = key_format.size + file.width
    table = file.read(address + len(head), used * step + key_format.size, "the index of an array")
    if nodes is not None:
        nodes.append((address, len(head) + len(table)))
    entries = [key_format.unpack_from(table, n * step) for n in range(used + 1)]
    _require(not any(any(map(operator.mod, key, sides)) for _, _, *key in entries))
    keys = [tuple(map(operator.floordiv, key, sides)) for _, _, *key in entries]
    _require(all(one < after for one, after in itertools.pairwise(keys)))
    _require(bounds is None or (bounds[0] <= keys[0] and keys[-1] <= bounds[1]))
    for n in range(used):
        child = _set(file.address(table, n * step + key_format.size))
        count, mask = entries[n][:2]
        if level:
            yield from _chunks(file, child, sides, level - 1, (keys[n], keys[n + 1]), nodes=nodes)
        else:
            _require(not mask)  # else some filter was left out
            yield keys[n], (child, count)
