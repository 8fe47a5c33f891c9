"""Archives and compressed files: what a look finds, and what only the deep check finds."""

from __future__ import annotations

import gzip
import runpy
import zipfile
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


def test_deep_check_finds_a_changed_byte_in_a_zip(check: Callable[..., Format]) -> None:
    """Only the deep check reads the members, as is needed after a resumed transfer."""
    for content in (
        sample_files.zip_archive(method=zipfile.ZIP_STORED),
        sample_files.zip64_archive(),
    ):
        changed = bytearray(content)
        changed[content.index(b"<manifest/>")] ^= 0xFF

        assert check(bytes(changed)) is Format.ZIP
        with pytest.raises(ProductFormatError, match=r"manifest\.xml"):
            check(bytes(changed), deep=True)


@pytest.mark.parametrize(("local", "central", "value"), [(6, 8, 1), (8, 10, 99)])
def test_zip_member_that_cannot_be_read_fails_the_deep_check_only(
    check: Callable[..., Format], local: int, central: int, value: int
) -> None:
    """Encryption and unknown methods are no damage at sight, but cannot be tested."""
    changed = bytearray(sample_files.zip_archive())
    changed[local] = value
    changed[changed.index(b"PK\x01\x02") + central] = value

    assert check(bytes(changed)) is Format.ZIP
    with pytest.raises(ProductFormatError, match="cannot be read"):
        check(bytes(changed), deep=True)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_deep_check_of_other_methods(check: Callable[..., Format], method: int) -> None:
    """Damage inside bzip2 and LZMA members comes out as the same error."""
    content = sample_files.zip_archive(method=method)
    assert check(content, deep=True) is Format.ZIP
    start = content.index(b"manifest.xml") + len(b"manifest.xml")
    # Not the head of an LZMA member, whose sizes may be larger than needed, nor its end marker.
    for place in range(start + 9, start + 20):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        with pytest.raises(ProductFormatError, match="cannot be read"):
            check(bytes(changed), deep=True)


def test_zip_with_64_kilobytes_behind_it_passes(check: Callable[..., Format]) -> None:
    """The end record is found in the last 64 kB, and not further away."""
    assert check(sample_files.zip_archive() + b"x" * 65_535) is Format.ZIP
    with pytest.raises(ProductFormatError, match="no ZIP end record"):
        check(sample_files.zip_archive() + b"x" * 65_536)


def test_end_record_by_chance_behind_a_zip_is_passed_over(check: Callable[..., Format]) -> None:
    """Bytes after the end, or a comment, that look like an end record do not hide the true one."""
    assert check(sample_files.zip_archive() + b"PK\x05\x06" * 9 + b"x" * 30) is Format.ZIP


def test_zip_whose_members_overlap_is_refused(check: Callable[..., Format]) -> None:
    """Two entries for the same bytes, as in a zip bomb, are refused before any is read."""
    content = bytearray(sample_files.zip_archive(method=zipfile.ZIP_STORED))
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    content[second + 20 : second + 24] = (700).to_bytes(4, "little")
    content[second + 42 : second + 46] = (0).to_bytes(4, "little")

    with pytest.raises(ProductFormatError, match="overlap"):
        check(bytes(content))


def test_gzip_of_several_parts(check: Callable[..., Format]) -> None:
    """Streams may be joined; a cut inside the second is found."""
    joined = gzip.compress(b"x" * 3_000_000, mtime=0) + gzip.compress(b"second", mtime=0)

    assert check(joined) is Format.GZIP
    with pytest.raises(ProductFormatError, match="cut short"):
        check(joined[:-1])


def test_tar_header_with_wrong_checksum_is_refused(check: Callable[..., Format]) -> None:
    """A changed header is damage; so is an archive without its end."""
    content = bytearray(sample_files.tar_archive())
    content[3] ^= 1

    with pytest.raises(ProductFormatError, match="neither a header nor the end"):
        check(bytes(content))
