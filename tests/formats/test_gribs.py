"""GRIB messages: their editions, their lengths, and what may stand between them."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from checkout import TESTS

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import Format

if TYPE_CHECKING:
    import sample_files
else:  # pytest imports tests without their folder on the path
    sample_files = SimpleNamespace(**runpy.run_path(str(TESTS.joinpath("sample_files.py"))))


def test_grib_padding_must_be_zeros(check: Callable[..., Format]) -> None:
    """Zeros may stand between and after messages, anything else is damage."""
    assert (
        check(sample_files.grib1() + b"\0" * 7 + sample_files.grib2() + b"\0" * 500) is Format.GRIB
    )
    with pytest.raises(ProductFormatError, match="not a GRIB message"):
        check(sample_files.grib1() + b"padding" + sample_files.grib2())
    with pytest.raises(ProductFormatError, match="not a GRIB message"):
        check(sample_files.grib1() + b"\0" * 7 + b"GRI")


def test_grib1_of_eight_megabytes_is_read_without_the_convention(
    check: Callable[..., Format],
) -> None:
    """A 24-bit length with its top bit set is the plain length if section 4 is a real one."""
    sections = b"\0\0\x1c" + b"\0" * 4 + b"\0" + b"\0" * 20 + b"\x80\0\0"
    message = sample_files.grib1(sections + b"\0" * 0x800000)
    assert message[4] & 0x80

    assert check(message) is Format.GRIB
    with pytest.raises(ProductFormatError):
        check(message[:-1])


def test_grib_of_unknown_edition_is_refused(check: Callable[..., Format]) -> None:
    """An edition whose length cannot be read is not waved through."""
    with pytest.raises(ProductFormatError, match="edition 0"):
        check(b"GRIB\0\0\x28\0" + b"\0" * 32)
