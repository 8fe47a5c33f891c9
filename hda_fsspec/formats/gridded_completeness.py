"""Completeness of gridded data: HDF5 (and so netCDF-4), netCDF-3 and GRIB.

Each check reads what the format itself says of its length, and raises CorruptFileError if the file
is shorter. It knows nothing of variables beyond their place in the file.
"""

from __future__ import annotations

from collections.abc import Callable

from hda_fsspec.formats.file_reader import CorruptFileError, FileBytes

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
GRIB_END = b"7777"

#: Bytes of one value, by netCDF-3 type number.
_NETCDF_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
#: More dimensions, attributes and variables than any real header has; a bound on work.
_NETCDF_MAX_ITEMS = 100_000
#: No file is longer. Products of dimensions stop here, so that they stay small numbers.
_HUGE = 1 << 64


def find_hdf5(peek: Callable[[int, int], bytes], size: int) -> int | None:
    """Return the place of the HDF5 signature: 0, or 512, 1024, 2048, … after a user block."""
    offset = 0
    while offset + len(HDF5_SIGNATURE) <= size:
        if peek(offset, len(HDF5_SIGNATURE)) == HDF5_SIGNATURE:
            return offset
        offset = offset * 2 or 512
    return None


def check_hdf5(data: FileBytes) -> None:
    """Compare the file with the end-of-file address in its superblock (versions 0 to 3)."""
    start = find_hdf5(data.peek, data.size)
    if start is None:
        msg = "it holds no HDF5 signature"
        raise CorruptFileError(msg)
    version = data.read(start + 8, 1, "its HDF5 superblock")[0]
    if version > 3:
        msg = f"its HDF5 superblock has version {version}; 0 to 3 are known"
        raise CorruptFileError(msg)
    head = data.read(start, 16, "its HDF5 superblock")
    width = head[13] if version < 2 else head[9]
    if width not in (2, 4, 8):
        msg = f"its HDF5 superblock has addresses of {width} bytes; 2, 4 and 8 are known"
        raise CorruptFileError(msg)
    first = start + {0: 24, 1: 28, 2: 12, 3: 12}[version]
    addresses = data.read(first, 4 * width, "its HDF5 superblock")
    base = int.from_bytes(addresses[:width], "little")
    stored = int.from_bytes(addresses[2 * width : 3 * width], "little")
    # The HDF5 library moves the address in the same way if a user block was put in or taken off.
    end = stored + start - base
    if end < first + 4 * width:
        msg = f"its HDF5 end-of-file address is {end}, which lies inside its superblock"
        raise CorruptFileError(msg)
    if data.size < end:
        msg = f"it holds {data.size} bytes, its HDF5 end-of-file address is {end}: it is cut short"
        raise CorruptFileError(msg)


class _NetCDFHeader:
    """The header of a netCDF-3 file, read from front to back; values of attributes are skipped."""

    def __init__(self, data: FileBytes) -> None:
        self._data = data
        self._position = 4
        self._items = 0
        version = data.read(0, 4, "its netCDF-3 header")[3]
        self._count_bytes = 8 if version == 5 else 4
        self._offset_bytes = 4 if version == 1 else 8
        data.stream.seek(4)
        self._streaming = (1 << 8 * self._count_bytes) - 1
        self._records = self._number(self._count_bytes)
        self._dimensions = self._read_dimensions()
        self._skip_attributes()
        self._read_variables()

    def _number(self, width: int) -> int:
        piece = self._data.stream.read(width)
        self._position += width
        if len(piece) != width:
            msg = f"it holds {self._data.size} bytes and ends inside its netCDF-3 header"
            raise CorruptFileError(msg)
        return int.from_bytes(piece, "big")

    def _skip(self, count: int) -> None:
        self._position += count + -count % 4
        self._data.require(self._position, "its netCDF-3 header")
        self._data.stream.seek(self._position)

    def _count(self) -> int:
        count = self._number(self._count_bytes)
        self._items += count
        if self._items > _NETCDF_MAX_ITEMS:
            msg = f"its netCDF-3 header announces {count} items where far fewer are possible"
            raise CorruptFileError(msg)
        return count

    def _list(self, expected_tag: int) -> range:
        tag = self._number(4)
        count = self._count()
        if tag not in (0, expected_tag) or (tag == 0 and count):
            msg = f"its netCDF-3 header has tag {tag} at byte {self._position}: it is damaged"
            raise CorruptFileError(msg)
        return range(count)

    def _type_bytes(self) -> int:
        number = self._number(4)
        if number not in _NETCDF_TYPE_BYTES:
            msg = f"its netCDF-3 header names the data type {number}, which does not exist"
            raise CorruptFileError(msg)
        return _NETCDF_TYPE_BYTES[number]

    def _skip_name(self) -> None:
        self._skip(self._number(self._count_bytes))

    def _read_dimensions(self) -> list[int]:
        lengths = []
        for _ in self._list(0x0A):
            self._skip_name()
            lengths.append(self._number(self._count_bytes))
        return lengths

    def _skip_attributes(self) -> None:
        for _ in self._list(0x0C):
            self._skip_name()
            width = self._type_bytes()
            self._skip(width * self._number(self._count_bytes))

    def _read_variables(self) -> None:
        self.fixed: list[tuple[int, int]] = []
        self.recorded: list[tuple[int, int]] = []
        for _ in self._list(0x0B):
            self._skip_name()
            numbers = [self._number(self._count_bytes) for _ in range(self._count())]
            if any(number >= len(self._dimensions) for number in numbers):
                msg = "its netCDF-3 header has a variable with a dimension that does not exist"
                raise CorruptFileError(msg)
            shape = [self._dimensions[number] for number in numbers]
            self._skip_attributes()
            size = self._type_bytes()
            # The stored size is not read: it is capped at 4 GiB and wrong in some real files.
            self._number(self._count_bytes)
            begin = self._number(self._offset_bytes)
            is_recorded = bool(shape) and shape[0] == 0
            for length in shape[1:] if is_recorded else shape:
                size = min(size * length, _HUGE)
            (self.recorded if is_recorded else self.fixed).append((begin, size))

    def end(self) -> int:
        """Return the length that the header asks for, without the padding after the last value."""
        ends = [self._position]
        ends += [begin + size for begin, size in self.fixed if size]
        begins = [begin for begin, size in self.fixed + self.recorded if size]
        if begins and min(begins) < self._position:
            msg = f"a variable starts at byte {min(begins)}, inside its netCDF-3 header"
            raise CorruptFileError(msg)
        # A single record variable is stored without padding between its records.
        alone = len(self.recorded) == 1
        stride = sum(size if alone else size + -size % 4 for _, size in self.recorded)
        records = self._records
        if records == self._streaming:
            records = self._count_records(stride)
        if records:
            ends += [begin + (records - 1) * stride + size for begin, size in self.recorded]
        return max(ends)

    def _count_records(self, stride: int) -> int:
        """Return how many records a file has whose writer did not know the number beforehand."""
        if not stride:
            return 0
        room = self._data.size - min(begin for begin, _ in self.recorded)
        # A few bytes over are trailing padding, a few bytes under are padding left out.
        return max(0, room - 5) // stride + 1 if room > 4 else 0


def check_netcdf3(data: FileBytes) -> None:
    """Compare the file with the size computed from its header (classic, 64-bit offset, CDF-5)."""
    end = _NetCDFHeader(data).end()
    if data.size < end:
        msg = f"it holds {data.size} bytes, its netCDF-3 header asks for {end}: it is cut short"
        raise CorruptFileError(msg)


def _grib_message_end(data: FileBytes, start: int) -> int:
    """Return where the message that starts at ``start`` ends, by the length in its section 0."""
    what = f"the GRIB message at byte {start}"
    head = data.read(start, 16, what)
    edition = head[7]
    if edition == 2:
        length, shortest = int.from_bytes(head[8:16], "big"), 20
    elif edition == 1:
        length, shortest = int.from_bytes(head[4:7], "big"), 12
        if length & 0x800000:
            length = _grib1_large_length(data, start, length)
    else:
        msg = f"{what} has edition {edition}; 1 and 2 are known"
        raise CorruptFileError(msg)
    if length < shortest:
        msg = f"{what} gives its length as {length}, which no message can have"
        raise CorruptFileError(msg)
    return start + length


def _grib1_large_length(data: FileBytes, start: int, length: int) -> int:
    """Return the true length of an edition 1 message whose 24-bit length has its top bit set.

    By the convention of ECMWF such a length counts units of 120 bytes if the length of section 4
    is below 120, which no true section 4 of so large a message is: it then holds what the last
    unit has too much. Otherwise the message really has between 8 and 16 MiB.
    """
    what = f"the GRIB message at byte {start}"
    position = start + 8
    section = data.read(position, 8, what)
    position += int.from_bytes(section[:3], "big")
    for flag in (0x80, 0x40):
        if section[7] & flag:
            position += int.from_bytes(data.read(position, 3, what), "big")
    surplus = int.from_bytes(data.read(position, 3, what), "big")
    return length if surplus >= 120 else (length & 0x7FFFFF) * 120 - surplus + 4


def check_grib(data: FileBytes) -> None:
    """Walk message by message; between and after them nothing but zeros may stand."""
    position = 0
    while position < data.size:
        end = _grib_message_end(data, position)
        data.require(end, f"the GRIB message at byte {position}")
        # One read gives the end of this message and the start of the next.
        piece = data.peek(end - 4, 8)
        if piece[:4] != GRIB_END:
            msg = f"the GRIB message at byte {position} does not end in 7777 at byte {end}"
            raise CorruptFileError(msg)
        following = piece[4:]
        position = end
        if following and following != b"GRIB":
            position = data.skip_zeros(end)
            if position < data.size and data.peek(position, 4) != b"GRIB":
                msg = f"something that is not a GRIB message stands at byte {position}"
                raise CorruptFileError(msg)
