"""Read pieces of one file, or say in words which piece is missing.

It knows lengths and offsets; no format.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BLOCK_BYTES = 1 << 20


class CorruptFileError(Exception):
    """The content of a file is damaged; the message says how.

    :func:`hda_fsspec.formats.detect.check_complete` turns it into a ``ProductFormatError``
    that names the file; no caller of that function ever sees it.
    """


class Reference(NamedTuple):
    """Something in a file that leads out of it.

    Attributes
    ----------
    kind : str
        What it is, in words.
    inside : str
        Where in the file it stands: the path of an object, the place of a box, a key.
    target : str
        What it leads to, as the file says it.
    """

    kind: str
    inside: str
    target: str


class FileBytes:
    """An open file, read in pieces of known place and length.

    Attributes
    ----------
    stream : binary file
        The file, for readers that move along it by themselves.
    size : int
        Its length in bytes, as it was when this object was made.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.size = stream.seek(0, os.SEEK_END)

    def require(self, end: int, what: str) -> None:
        """Raise CorruptFileError unless the file holds ``end`` bytes, needed for ``what``."""
        if end > self.size:
            msg = f"it holds {self.size} bytes, {what} ends at byte {end}: it is cut short"
            raise CorruptFileError(msg)

    def read(self, offset: int, count: int, what: str) -> bytes:
        """Return exactly ``count`` bytes from ``offset``; CorruptFileError if some lack."""
        # Checked first: a wild offset would be an OverflowError or an OSError of the seek.
        self.require(offset + count, what)
        self.stream.seek(offset)
        piece = self.stream.read(count)
        if len(piece) != count:
            msg = f"{what} could not be read in full: the file changed while it was checked"
            raise CorruptFileError(msg)
        return piece

    def peek(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes from ``offset``: fewer, or none, at the end of the file."""
        if not 0 <= offset < self.size:
            return b""
        self.stream.seek(offset)
        return self.stream.read(count)

    def blocks(self, offset: int = 0, first_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
        """Yield the file from ``offset`` to its end, in blocks that grow to ``BLOCK_BYTES``."""
        count = first_bytes
        while block := self.peek(offset, count):
            yield block
            offset += len(block)
            count = min(2 * count, BLOCK_BYTES)

    def skip_zeros(self, offset: int) -> int:
        """Return the place of the first byte from ``offset`` on that is not zero, or the size."""
        # Small first: the padding of a GRIB message is below 120 bytes.
        for block in self.blocks(offset, first_bytes=256):
            rest = block.lstrip(b"\0")
            if rest:
                return offset + len(block) - len(rest)
            offset += len(block)
        return offset


class BytesInMemory(FileBytes):
    """A file that was read as a whole: to look at a piece of it asks no system."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._data = data

    def read(self, offset: int, count: int, what: str) -> bytes:
        """Return exactly ``count`` bytes from ``offset``; CorruptFileError if some lack."""
        self.require(offset + count, what)
        return self._data[offset : offset + count]

    def peek(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes from ``offset``: fewer, or none, at the end of the file."""
        return self._data[offset : offset + count] if 0 <= offset < self.size else b""
