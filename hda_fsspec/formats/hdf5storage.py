"""The storage of HDF5: object headers, heaps and trees, read from bytes.

It knows where the pieces lie and how long they are; what they mean is told elsewhere. No piece is
trusted: addresses, counts and lengths are checked, and the work for one file has a bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hda_fsspec.formats.file_reader import CorruptFileError, FileBytes

#: Bounds on work, far above what real files need: things that are looked at, and bytes of them.
_MOST_STEPS = 1_000_000
_MOST_BYTES = 1 << 28
_MOST_AT_ONCE = 1 << 26
_FIRST_LOOK_BYTES = 512
#: Blocks of a heap that are held, and bytes of each: larger heaps are read object by object.
_MOST_BLOCKS, _MOST_HELD = 64, 1 << 16
_DEEPEST = 64

_MANAGED, _HUGE, _TINY = 0, 1, 2
#: Where the id in a heap stands in a record of a tree, by the type of the tree.
_HEAP_ID_AT = {5: 4, 6: 8, 8: 0, 9: 0}


class SealedPiece(NamedTuple):
    """A piece of a file that may have a checksum.

    Attributes
    ----------
    address, size : int
        Where it lies, and its bytes, those of the checksum included.
    checksum : int or None
        Where in it the checksum stands, of all of its other bytes; None if it has none.
    """

    address: int
    size: int
    checksum: int | None


class TooMuchWorkError(CorruptFileError):
    """A file that cannot be followed to its end: no damage, and nowhere to be overlooked."""


class Hdf5Bytes:
    """The structures of one HDF5 file.

    Addresses are those of the file: relative to its signature. One that is not set is None.

    Attributes
    ----------
    width, lengths : int
        Bytes of an address, and of a length.
    root, extension, driver_info, end : int or None
        The addresses in the superblock; the library reads nothing from that of the end on.
    """

    def __init__(self, data: FileBytes, start: int) -> None:
        self._data = data
        self._start = start
        self._steps = 0
        self._bytes = 0
        self._collections: dict[int, dict[int, bytes]] = {}
        self._heaps: dict[int, _Heap] = {}
        version = self.read(8, 1, "its superblock")[0]
        if version > 3:
            msg = f"its HDF5 superblock has version {version}; 0 to 3 are known"
            raise CorruptFileError(msg)
        head = self.read(0, 16, "its superblock")
        self.width, self.lengths = head[13:15] if version < 2 else head[9:11]
        if self.width not in (2, 4, 8) or self.lengths not in (2, 4, 8):
            msg = f"its HDF5 addresses have {self.width} and {self.lengths} bytes"
            raise CorruptFileError(msg)
        first = {0: 24, 1: 28, 2: 12, 3: 12}[version]
        rest = self.read(first, 4 * self.width, "its superblock")
        base, second, end, fourth = (self.address(rest, n * self.width) for n in range(4))
        # It alone is told from the start of the file, which need not be that of its user block.
        self.end = None if end is None or base is None else end - base
        if version < 2:
            # Before the address of the root stands the place of its name, which it does not have.
            entry = self.read(first + 4 * self.width, self.lengths + self.width, "its superblock")
            self.root = self.address(entry, self.lengths)
            self.extension, self.driver_info = None, fourth
        else:
            self.root, self.extension, self.driver_info = fourth, second, None

    def address(self, raw: bytes, position: int) -> int | None:
        """Read an address from a piece; None if it is not set.

        Raises IndexError where the piece is too short.
        """
        piece = raw[position : position + self.width]
        if len(piece) < self.width:
            raise IndexError
        found = int.from_bytes(piece, "little")
        return None if found == (1 << 8 * self.width) - 1 else found

    def read(self, address: int, count: int, what: str) -> bytes:
        """Return bytes from an address, within the bounds on work."""
        if count > _MOST_AT_ONCE:
            msg = f"{what} of HDF5 has {count} bytes, more than that of any product"
            raise CorruptFileError(msg)
        self.require(address + count, f"{what} of HDF5")
        self.step(count)  # what is not there is no work
        return self._data.read(self._start + address, count, f"{what} of HDF5")

    def require(self, end: int, what: str) -> None:
        """Raise CorruptFileError unless the file goes on to an address."""
        self._data.require(self._start + end, what)

    def step(self, count: int = 0) -> None:
        """Count one more thing that is looked at, and bytes of it.

        Raises TooMuchWorkError where that is more than any product needs.
        """
        self._steps += 1
        self._bytes += count
        if self._steps > _MOST_STEPS or self._bytes > _MOST_BYTES:
            msg = "to follow its HDF5 structure takes more work than that of any product"
            raise TooMuchWorkError(msg)

    def signed(self, address: int, count: int, signature: bytes) -> bytes:
        """Return bytes that begin with the signature of a structure."""
        what = f"the {signature.decode()} block at address {address}"
        piece = self.read(address, count, what)
        if piece[:4] != signature:
            msg = f"{what} does not begin as one: its HDF5 structure is damaged"
            raise CorruptFileError(msg)
        return piece

    def number(self, raw: bytes, position: int) -> int:
        """Read a length or a size from a piece."""
        return int.from_bytes(raw[position : position + self.lengths], "little")

    # Headers of objects

    def messages(
        self, address: int, pieces: list[SealedPiece] | None = None
    ) -> Iterator[tuple[int, int, bytes, int]]:
        """Yield type, flags, body and the body's address of each message in an object's header.

        To ``pieces`` are added those that the header is made of.
        """
        what = f"the object header at address {address}"
        look = self.look(address, _FIRST_LOOK_BYTES)
        if look[:4] == b"OHDR" and len(look) > 5:
            flags = look[5]
            position = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            size = int.from_bytes(look[position : position + width], "little")
            position += width
            head_bytes = 6 if flags & 4 else 4
        elif look[:1] == b"\x01" and len(look) >= 16:
            size, position, head_bytes = int.from_bytes(look[8:12], "little"), 16, 8
        else:
            msg = f"{what} does not begin as one: its HDF5 structure is damaged"
            raise CorruptFileError(msg)
        if position + size <= len(look):
            chunk = look[position : position + size]
        else:
            chunk = self.read(address + position, size, what)
        is_former = head_bytes == 8
        if pieces is not None:
            count = position + size
            pieces.append(
                SealedPiece(address, count + (not is_former) * 4, None if is_former else count)
            )
        waiting, seen = [(chunk, address + position)], set[tuple[int, int]]()
        while waiting:
            chunk, first = waiting.pop()
            for kind, flags, body, position in _split(chunk, head_bytes):
                self.step()
                if kind != 0x10:
                    yield kind, flags, body, first + position
                    continue
                if len(body) < self.width + self.lengths:
                    msg = f"{what} goes on nowhere: its HDF5 structure is damaged"
                    raise CorruptFileError(msg)
                place, length = self.address(body, 0), self.number(body, self.width)
                if place is None or (place, length) in seen:
                    continue
                seen.add((place, length))
                piece = self.read(place, length, what)
                if pieces is not None:
                    pieces.append(SealedPiece(place, length, None if is_former else length - 4))
                waiting.append((piece, place) if is_former else (piece[4:-4], place + 4))

    def look(self, address: int, count: int) -> bytes:
        """Return up to so many bytes from an address: fewer at the end of the file."""
        self.step(count)
        return self._data.peek(self._start + address, count)

    # Groups of the former kind

    def local_heap(self, address: int) -> bytes:
        """Return the names that a local heap holds."""
        head = self.signed(address, 8 + 2 * self.lengths + self.width, b"HEAP")
        place = self.address(head, 8 + 2 * self.lengths)
        size = self.number(head, 8)
        return b"" if place is None else self.read(place, size, "a local heap")

    def symbols(self, address: int) -> Iterator[tuple[int, int]]:
        """Yield where the name of each member of a group stands in its heap, and its address."""
        waiting, seen = [address], set[int]()
        head_bytes, entry_bytes = 8 + 2 * self.width, self.lengths + self.width + 24
        while waiting:
            place = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            if self.read(place, 4, "a group") == b"SNOD":
                count = int.from_bytes(self.read(place + 6, 2, "a group"), "little")
                table = self.read(place + 8, count * entry_bytes, "a group")
                for position in range(0, count * entry_bytes, entry_bytes):
                    self.step()
                    name = self.number(table, position)
                    found = self.address(table, position + self.lengths)
                    # The type is 2 for a symbolic link, which has no address.
                    kind = table[position + self.lengths + self.width]
                    if found is not None and kind != 2:
                        yield name, found
                continue
            head = self.signed(place, head_bytes, b"TREE")
            count = int.from_bytes(head[6:8], "little")
            step = self.lengths + self.width
            table = self.read(place + head_bytes, count * step, "a group")
            for position in range(self.lengths, count * step, step):
                self.step()
                child = self.address(table, position)
                if child is not None:
                    waiting.append(child)

    # Groups of the present kind

    def heap_objects(self, heap: int, tree: int, given: set[bytes]) -> Iterator[bytes]:
        """Yield what a tree finds in a fractal heap, but for ids that were given before."""
        found = self._heaps.get(heap)
        if found is None:
            found = self._heaps[heap] = _Heap(self, heap)
        for key in self._heap_keys(found, tree):
            if key not in given:
                yield found.get(key)
                given.add(key)

    def placed_objects(self, heap: int, tree: int) -> Iterator[tuple[int, bytes, SealedPiece]]:
        """Yield address and bytes of what a tree finds in a fractal heap, and the block it is in.

        Those are left out that lie in no block, or in one that has no checksum.
        """
        found = _Heap(self, heap)
        for key in self._heap_keys(found, tree):
            placed = found.placed(key)
            if placed is not None:
                yield placed

    def _heap_keys(self, heap: _Heap, tree: int) -> Iterator[bytes]:
        for kind, record in self.records(tree):
            if kind not in _HEAP_ID_AT:
                msg = f"the tree at address {tree} has the type {kind}, which finds no names"
                raise CorruptFileError(msg)
            yield record[_HEAP_ID_AT[kind] :][: heap.id_bytes]

    def records(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Yield the records of a B-tree of version 2, each with the type of the tree."""
        head = self.signed(address, 16 + self.width + 2 + self.lengths, b"BTHD")
        kind = head[5]
        node_bytes = int.from_bytes(head[6:10], "little")
        record_bytes = int.from_bytes(head[10:12], "little")
        depth = int.from_bytes(head[12:14], "little")
        root = self.address(head, 16)
        count = int.from_bytes(head[16 + self.width : 18 + self.width], "little")
        if root is None or not count:
            return
        if not record_bytes or node_bytes <= 10 + record_bytes or depth > _DEEPEST:
            msg = f"the tree at address {address} cannot be as it says: it is damaged"
            raise CorruptFileError(msg)
        count_bytes, totals = self._tree_widths(node_bytes, record_bytes, depth)
        waiting, seen = [(root, count, depth)], set[tuple[int, int, int]]()
        while waiting:
            # How many records a node has, and of what kind it is, says what leads to it.
            node_key = place, count, level = waiting.pop()
            if node_key in seen:
                continue
            seen.add(node_key)
            pointer_bytes = self.width + count_bytes + totals[level - 1] if level else 0
            size = 6 + count * record_bytes + ((count + 1) * pointer_bytes if level else 0)
            node = self.signed(place, size, b"BTIN" if level else b"BTLF")
            for position in range(6, 6 + count * record_bytes, record_bytes):
                self.step()
                yield kind, node[position : position + record_bytes]
            for position in range(6 + count * record_bytes, size, pointer_bytes or size):
                self.step()
                child = self.address(node, position)
                after = position + self.width
                number = int.from_bytes(node[after : after + count_bytes], "little")
                if level and child is not None:
                    waiting.append((child, number, level - 1))

    def _tree_widths(self, node_bytes: int, record_bytes: int, depth: int) -> tuple[int, list[int]]:
        """Return the bytes of a count of records, and of a total at each level of a tree."""
        most = (node_bytes - 10) // record_bytes
        count_bytes = _bytes_for(most)
        total, totals = most, [0]
        for _ in range(depth):
            pointer = self.width + count_bytes + totals[-1]
            fits = (node_bytes - 10 - pointer) // (record_bytes + pointer)
            total = (fits + 1) * total + fits
            totals.append(_bytes_for(total) if fits > 0 else 1)
        return count_bytes, totals

    # Values of several objects

    def global_object(self, reference: bytes) -> bytes:
        """Return an object of a global heap, by its address and number.

        Raises CorruptFileError where it is not.
        """
        try:
            address = self.address(reference, 0)
        except IndexError:
            address = None
        number = int.from_bytes(reference[self.width : self.width + 4], "little")
        if not address:
            msg = "a value in a global heap of HDF5 has no address"
            raise CorruptFileError(msg)
        found = self._collections.get(address)
        if found is None:
            found = self._collections[address] = self._collection(address)
        if number not in found:
            msg = f"the global heap at address {address} holds no object {number}"
            raise CorruptFileError(msg)
        return found[number]

    def _collection(self, address: int) -> dict[int, bytes]:
        size = self.number(self.signed(address, 8 + self.lengths, b"GCOL"), 8)
        piece = self.read(address, size, f"the global heap at address {address}")
        head_bytes = 8 + self.lengths + -self.lengths % 8
        position, found = head_bytes, dict[int, bytes]()
        while position + head_bytes <= size:
            self.step()
            number = int.from_bytes(piece[position : position + 2], "little")
            length = self.number(piece, position + 8)
            if not number:  # free space, whose length is that of its head, too
                position += max(length, head_bytes)
                continue
            found[number] = piece[position + head_bytes : position + head_bytes + length]
            position += head_bytes + length + -length % 8
        return found


class _Heap:
    """A fractal heap: objects by ids that tell where they are."""

    def __init__(self, file: Hdf5Bytes, address: int) -> None:
        self._file = file
        width, lengths = file.width, file.lengths
        size = 14 + 10 * lengths + 2 * width + 2 + 2 * lengths + 4 + width + 2
        head = file.signed(address, size, b"FRHP")
        self.id_bytes = int.from_bytes(head[5:7], "little")
        if head[7:9] != b"\0\0":
            msg = f"the heap at address {address} is packed, which no product needs"
            raise CorruptFileError(msg)
        #: Whether its blocks have checksums.
        self._is_sealed = bool(head[9] & 2)
        most_managed = int.from_bytes(head[10:14], "little")
        self._huge_tree = file.address(head, 14 + lengths)
        position = 14 + 10 * lengths + 2 * width
        self._columns = int.from_bytes(head[position : position + 2], "little")
        self._first = file.number(head, position + 2)
        most_direct = file.number(head, position + 2 + lengths)
        position += 2 + 2 * lengths
        bits = int.from_bytes(head[position : position + 2], "little")
        self._offset_bytes = (bits + 7) // 8
        self._root = file.address(head, position + 4)
        self._rows = int.from_bytes(head[position + 4 + width : position + 6 + width], "little")
        # A row has blocks of twice the size of the one before.
        is_small = bits <= 64 and self._rows <= 64
        powers = (self._columns, self._first, most_direct)
        if not most_managed or not is_small or any(not n or n & (n - 1) for n in powers):
            msg = f"the heap at address {address} cannot be as it says: it is damaged"
            raise CorruptFileError(msg)
        direct_bits = most_direct.bit_length() - 1
        self._direct_rows = direct_bits - (self._first.bit_length() - 1) + 2
        self._length_bytes = min((direct_bits + 7) // 8, (most_managed.bit_length() + 6) // 8)
        self._huge: dict[int, tuple[int | None, int]] | None = None
        self._blocks: dict[int, bytes] = {}
        #: What indirect blocks lead to, by the place where they tell it.
        self._children: dict[int, int | None] = {}

    def get(self, key: bytes) -> bytes:
        """Return an object by its id."""
        kind = key[0] >> 4 & 3 if len(key) == self.id_bytes and key else -1
        if kind == _MANAGED:
            end = 1 + self._offset_bytes
            offset = int.from_bytes(key[1:end], "little")
            length = int.from_bytes(key[end : end + self._length_bytes], "little")
            return self._managed(offset, length)
        if kind == _TINY:
            if self.id_bytes - 1 <= 16:
                return key[1 : 2 + (key[0] & 15)]
            return key[2 : 3 + ((key[0] & 15) << 8 | key[1])]
        if kind == _HUGE:
            address, length = self._huge_object(key)
            if address is not None:
                return self._file.read(address, length, "a large object in a heap")
        msg = "an id of an object in a heap of HDF5 is damaged"
        raise CorruptFileError(msg)

    def placed(self, key: bytes) -> tuple[int, bytes, SealedPiece] | None:
        """Return address and bytes of an object by its id, and the block that it lies in.

        None if it lies in none, or in one without a checksum.
        """
        if not self._is_sealed or len(key) != self.id_bytes or not key or key[0] >> 4 & 3:
            return None
        found = self.get(key)
        offset = int.from_bytes(key[1 : 1 + self._offset_bytes], "little")
        block, size, within = self._locate(offset)
        checksum = 5 + self._file.width + self._offset_bytes
        return block + within, found, SealedPiece(block, size, checksum)

    def _managed(self, offset: int, length: int) -> bytes:
        block, size, within = self._locate(offset)
        held = self._blocks.get(block, b"")
        if not held and size <= _MOST_HELD and len(self._blocks) < _MOST_BLOCKS:
            # Its objects are asked for one by one.
            held = self._blocks[block] = self._file.look(block, size)
        if within + length <= len(held):
            self._file.step(length)
            return held[within : within + length]
        return self._file.read(block + within, length, "an object in a heap")

    def _huge_object(self, key: bytes) -> tuple[int | None, int]:
        file = self._file
        width, lengths = file.width, file.lengths
        if self.id_bytes - 1 >= width + lengths:
            return file.address(key, 1), file.number(key, 1 + width)
        if self._huge is None:
            self._huge = {}
            records = () if self._huge_tree is None else file.records(self._huge_tree)
            for _, record in records:
                place, length = file.address(record, 0), file.number(record, width)
                self._huge[file.number(record, width + lengths)] = place, length
        return self._huge.get(int.from_bytes(key[1 : 1 + lengths], "little"), (None, 0))

    def _locate(self, offset: int) -> tuple[int, int, int]:
        """Return address and size of the block that holds an object, and the place in it.

        The object is told by its place among all blocks of the heap.
        """
        block, rows, size = self._root, self._rows, self._first
        file = self._file
        for _ in range(_DEEPEST):
            if block is None:
                break
            if rows == 0:
                return block, size, offset
            row, size, before = 0, self._first, 0
            while offset - before >= size * self._columns and row < rows:
                before += size * self._columns
                size <<= bool(row)
                row += 1
            if row >= rows:
                break
            column, offset = divmod(offset - before, size)
            place = block + 5 + file.width + self._offset_bytes
            place += (row * self._columns + column) * file.width
            if place not in self._children:
                file.signed(block, 4, b"FHIB")
                child = file.address(file.read(place, file.width, "a heap"), 0)
                self._children[place] = child
            block = self._children[place]
            # A row of direct blocks ends the way; other rows hold blocks of the same kind.
            first_row = self._first * self._columns
            rows = 0 if row < self._direct_rows else size.bit_length() - first_row.bit_length() + 1
        msg = "an object in a heap of HDF5 has no place"
        raise CorruptFileError(msg)


def _split(chunk: bytes, head_bytes: int) -> Iterator[tuple[int, int, bytes, int]]:
    """Yield type, flags, body and the body's place of the messages in a piece of a header."""
    position = 0
    is_former = head_bytes == 8
    while position + head_bytes <= len(chunk):
        if is_former:
            kind = chunk[position] | chunk[position + 1] << 8
            size = chunk[position + 2] | chunk[position + 3] << 8
            flags = chunk[position + 4]
        else:
            kind = chunk[position]
            size = chunk[position + 1] | chunk[position + 2] << 8
            flags = chunk[position + 3]
        start = position + head_bytes
        position = start + size
        if position > len(chunk):
            msg = f"message {kind} of an HDF5 object is cut short"
            raise CorruptFileError(msg)
        yield kind, flags, chunk[start:position], start


def _bytes_for(number: int) -> int:
    """Return how many bytes HDF5 takes for a number up to this one."""
    return (max(number, 1).bit_length() - 1) // 8 + 1
