"""What a check costs: milliseconds, however large the file is."""

from __future__ import annotations

import os
import runpy
import struct
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.fileformats.formats import check_complete

if TYPE_CHECKING:
    import sample_files
else:  # pytest imports tests without their folder on the path
    sample_files = SimpleNamespace(
        **runpy.run_path(str(Path(__file__).with_name("sample_files.py")))
    )


def _best_seconds(path: Path) -> float:
    best = 1.0
    for _ in range(7):
        started = time.perf_counter()
        check_complete(path)
        best = min(best, time.perf_counter() - started)
    return best


def test_check_of_a_gigabyte_takes_milliseconds(tmp_path: Path) -> None:
    """The cost of a check does not grow with the length of the file."""
    size = 1 << 30
    hdf5 = tmp_path / "large.nc"
    content = bytearray(sample_files.hdf5_superblock(3, 8))
    content[28:36] = size.to_bytes(8, "little")
    hdf5.write_bytes(content)
    tiff = tmp_path / "large.tif"
    tiles = 4096
    head = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2)
    head += struct.pack("<HHQQ", 324, 16, tiles, 100) + struct.pack("<HHQQ", 325, 4, tiles, 40_000)
    offsets = [size - (tiles - i) * 100_000 for i in range(tiles)]
    body = (head + b"\0" * 8).ljust(100, b"\0") + struct.pack(f"<{tiles}Q", *offsets)
    tiff.write_bytes(body.ljust(40_000, b"\0") + struct.pack(f"<{tiles}I", *[100_000] * tiles))
    for path in (hdf5, tiff):
        os.truncate(path, size)

        assert _best_seconds(path) < 0.010

        os.truncate(path, size - 1)
        with pytest.raises(ProductFormatError, match="cut short"):
            check_complete(path)


def test_check_of_many_messages_takes_milliseconds(tmp_path: Path) -> None:
    """A month of hourly fields is walked in small reads."""
    path = tmp_path / "month.grib"
    path.write_bytes((sample_files.grib1(b"\x01" * 20_000) + b"\0" * 8) * 744)

    assert _best_seconds(path) < 0.030
