"""The end of HDF5, netCDF-3 and TIFF files, where their headers make it hard to tell."""

from __future__ import annotations

import os
import runpy
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from checkout import TESTS
from rows import for_each

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import Format, check_complete

if TYPE_CHECKING:
    import sample_files
else:  # pytest imports tests without their folder on the path
    sample_files = SimpleNamespace(**runpy.run_path(str(TESTS.joinpath("sample_files.py"))))


def test_hdf5_behind_a_removed_user_block_passes(check: Callable[..., Format]) -> None:
    """The end-of-file address counts from the file's old start, as the HDF5 library has it."""
    with_block = bytearray(sample_files.hdf5_superblock(3, 8) + b"\x01" * 80)
    size = len(with_block)
    with_block[12:20] = (512).to_bytes(8, "little")
    with_block[28:36] = (512 + size).to_bytes(8, "little")

    assert check(b"\0" * 512 + bytes(with_block)) is Format.HDF5
    assert check(bytes(with_block)) is Format.HDF5
    with pytest.raises(ProductFormatError):
        check(bytes(with_block[:-1]))


def test_netcdf3_stream_of_unknown_length_ends_with_a_record(check: Callable[..., Format]) -> None:
    """Where the number of records is left open, a cut inside a record is refused."""
    content = bytearray(sample_files.SAMPLES["NETCDF3_CLASSIC 2"].content)
    content[4:8] = b"\xff" * 4

    assert check(bytes(content)) is Format.NETCDF3
    assert check(bytes(content[:-16])) is Format.NETCDF3
    for missing in (4, 8, 10):
        with pytest.raises(ProductFormatError, match="cut short"):
            check(bytes(content[:-missing]))


@for_each(
    "header",
    [
        b"CDF\x01" + b"\0" * 4 + b"\0\0\0\x0a\x7f\xff\xff\xff",  # dimensions
        b"CDF\x05" + b"\0" * 8 + b"\0\0\0\x0a" + b"\x7f" * 8,
        b"CDF\x01" + b"\0" * 12 + b"\0\0\0\x0c\0\0\0\x01\x7f\xff\xff\xf0",  # a name
        b"CDF\x01" + b"\0" * 20 + b"\0\0\0\x0b\0\0\xff\xff",  # variables
    ],
)
def test_netcdf3_header_that_lies_costs_nothing(tmp_path: Path, header: bytes) -> None:
    """Huge counts are refused before memory or time is spent on them, in a large file too."""
    path = tmp_path / "liar.nc"
    path.write_bytes(header)
    os.truncate(path, 1 << 30)
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises(ProductFormatError):
            check_complete(path)
        assert time.perf_counter() - started < 2
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_tiff_that_runs_in_a_circle_ends(check: Callable[..., Format]) -> None:
    """A directory that names itself as the next is walked once."""
    content = bytearray(sample_files.tiff("<", big=False))
    first = 8
    content[first + 2 + 36 : first + 2 + 40] = first.to_bytes(4, "little")

    assert check(bytes(content)) is Format.TIFF
