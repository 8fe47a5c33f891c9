"""A GeoTIFF of one band in memory, without the libraries that not everybody has installed."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

_SHORT, _LONG, _DOUBLE, _ASCII = 3, 4, 12, 2
_FORMATS = {_SHORT: "H", _LONG: "I", _DOUBLE: "d"}
_DEFLATE = 8


def geotiff_bytes(
    values: npt.NDArray[Any],
    *,
    west: float,
    north: float,
    pixel: float,
    epsg: int,
    scale: float | None = None,
    no_data: int | None = None,
) -> bytes:
    """Return a raster as the bytes of a file.

    Parameters
    ----------
    values : numpy.ndarray
        Rows from north to south, of little-endian whole numbers.
    west, north : float
        The outer corner of the first pixel.
    pixel : float
        The length of its sides.
    epsg : int
        The code of the projected reference system that these numbers are in.
    scale, no_data : optional
        What stored numbers are multiplied by, and the one that stands for none.
    """
    height, width = values.shape
    strip = zlib.compress(values.tobytes(), 6)
    tags: dict[int, tuple[int, list[Any] | bytes]] = {
        256: (_LONG, [width]),
        257: (_LONG, [height]),
        258: (_SHORT, [values.dtype.itemsize * 8]),
        259: (_SHORT, [_DEFLATE]),
        262: (_SHORT, [1]),  # black is zero
        273: (_LONG, [8]),  # the only strip follows the head of the file
        277: (_SHORT, [1]),
        278: (_LONG, [height]),
        279: (_LONG, [len(strip)]),
        339: (_SHORT, [2 if values.dtype.kind == "i" else 1]),
        33550: (_DOUBLE, [pixel, pixel, 0.0]),
        33922: (_DOUBLE, [0.0, 0.0, 0.0, west, north, 0.0]),
        # Version; then key, place, count, value: projected, pixels are areas, the system.
        34735: (_SHORT, [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, epsg]),
    }
    if scale is not None:
        items = f'<Item name="SCALE" sample="0" role="scale">{scale!r}</Item>'
        tags[42112] = (_ASCII, f"<GDALMetadata>{items}</GDALMetadata>\0".encode())
    if no_data is not None:
        tags[42113] = (_ASCII, f"{no_data}\0".encode())
    strip += b"\0" * (len(strip) % 2)
    offset = 8 + len(strip)
    beyond = offset + 2 + 12 * len(tags) + 4
    entries, more = [], b""
    for tag, (kind, given) in sorted(tags.items()):
        count = len(given)
        packed = (
            given if isinstance(given, bytes) else struct.pack(f"<{count}{_FORMATS[kind]}", *given)
        )
        if len(packed) > 4:
            field = struct.pack("<I", beyond + len(more))
            more += packed + b"\0" * (len(packed) % 2)
        else:
            field = packed.ljust(4, b"\0")
        entries.append(struct.pack("<HHI", tag, kind, count) + field)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, offset) + strip + directory + more
