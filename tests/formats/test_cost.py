"""What a check costs: the same, however large the file is."""

from __future__ import annotations

import os
import runpy
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from checkout import TESTS
from costs import cpu_seconds

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import check_complete

if TYPE_CHECKING:
    import sample_files
else:  # pytest imports tests without their folder on the path
    sample_files = SimpleNamespace(**runpy.run_path(str(TESTS.joinpath("sample_files.py"))))


def _seconds(path: Path) -> float:
    return cpu_seconds(lambda: check_complete(path), tries=7)


def _write(tmp_path: Path, size: int) -> tuple[Path, Path]:
    """Write an HDF5 file and a TIFF of so many bytes, of which most are holes."""
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
    return hdf5, tiff


def test_check_of_a_gigabyte_costs_what_that_of_a_smaller_file_does(tmp_path: Path) -> None:
    """The cost of a check does not grow with the length of the file."""
    tiles, size = 4096, 1 << 30
    small = [_seconds(path) for path in _write(tmp_path, tiles * 100_000)]
    for path, seconds in zip(_write(tmp_path, size), small, strict=True):
        assert _seconds(path) < 5 * seconds

        os.truncate(path, size - 1)
        with pytest.raises(ProductFormatError, match="cut short"):
            check_complete(path)


def test_check_of_many_messages_is_a_walk(tmp_path: Path) -> None:
    """A month of hourly fields is walked in small reads, each message at the same cost."""
    path = tmp_path / "month.grib"
    seconds = {}
    for count, length in [(31, 20_000), (744, 20_000), (744, 400)]:
        message = sample_files.grib1(b"\x01" * length) + b"\0" * 8
        path.write_bytes(message * count)
        seconds[count, length] = _seconds(path)

    assert seconds[744, 20_000] < 3 * 24 * seconds[31, 20_000]
    assert seconds[744, 20_000] < 5 * seconds[744, 400]
