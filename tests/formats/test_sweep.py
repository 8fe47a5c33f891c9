"""What a file is, and that a cut or damaged one is told from a whole one."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from checkout import TESTS
from rows import for_each

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import Format, check_complete, sniff

if TYPE_CHECKING:
    import sample_files
else:  # pytest imports tests without their folder on the path
    sample_files = SimpleNamespace(**runpy.run_path(str(TESTS.joinpath("sample_files.py"))))


each_sample = for_each("sample", sample_files.SAMPLES.values())


def _cuts(needed: int) -> list[int]:
    step = max(1, needed // 40)
    return sorted({*range(0, needed, step), *range(1, 30), *range(needed - 6, needed)})


@pytest.mark.slow
def test_every_real_product_passes_and_every_damaged_one_is_refused(shared_data: Path) -> None:
    """Each file of the collection is told right; the damaged ones are refused by name."""
    refused: list[str] = []
    wrongly_refused: list[str] = []
    passed = 0
    for path in sorted(path for path in shared_data.rglob("*") if path.is_file()):
        try:
            check_complete(path, deep=True)
            passed += 1
        except ProductFormatError:
            is_damaged = path.parent.name == "damaged"
            (refused if is_damaged else wrongly_refused).append(path.name)

    assert wrongly_refused == []
    assert refused == sorted(path.name for path in (shared_data / "damaged").iterdir())
    assert passed > 700


def test_formats_of_real_products_agree_with_the_manifest(shared_data: Path) -> None:
    """What is found by content is what the list of files says."""
    names = {
        "netCDF-4": Format.HDF5, "netCDF-3": Format.NETCDF3, "GRIB": Format.GRIB, "zip": Format.ZIP,
        "GeoTIFF": Format.TIFF, "JPEG2000": Format.JP2, "XML": Format.OTHER, "md5": Format.OTHER,
        "empty": Format.OTHER,
    }  # fmt: skip
    for line in (shared_data / "MANIFEST.tsv").read_text().splitlines()[1:]:
        name, _, _, told = line.split("\t")[:4]
        expected = next(value for key, value in names.items() if told.startswith(key))

        assert sniff(shared_data / name) is expected, name


@each_sample
def test_good_file_passes(check: Callable[..., Format], sample: sample_files.Sample) -> None:
    """A whole file passes, and its format is found whatever its name."""
    assert sample.format is check(sample.content) is check(sample.content, deep=True)
    assert sample.format is sniff(sample.content)


@pytest.mark.slow
@each_sample
def test_cut_file_is_refused(check: Callable[..., Format], sample: sample_files.Sample) -> None:
    """A file cut anywhere is refused, except where the docstring says that no check can see it."""
    for length in _cuts(sample.needed):
        if length not in sample.unseen:
            with pytest.raises(ProductFormatError):
                pytest.fail(f"cut to {length}: {check(sample.content[:length])}")


@each_sample
def test_bytes_after_the_end_pass(
    check: Callable[..., Format], sample: sample_files.Sample
) -> None:
    """Zeros after the end are no damage; other bytes are none where the end is told."""
    assert check(sample.content + b"\0" * 100) is sample.format
    assert check(sample.content + b"\0" * 5000) is sample.format
    if sample.zeros_only:
        with pytest.raises(ProductFormatError):
            check(sample.content + b"<html>a page after it</html>")
    else:
        assert check(sample.content + b"<html>a page after it</html>") is sample.format


@each_sample
def test_unseen_cuts_are_really_unseen(
    check: Callable[..., Format], sample: sample_files.Sample
) -> None:
    """The docstring tells the truth about what cannot be seen."""
    assert check(sample.content[: sample.needed]) is sample.format
    if not sample.unseen:
        return
    for length in (sample.unseen.start, sample.unseen.stop - 1):
        check(sample.content[:length])


def test_missing_file_is_an_error_of_the_file_system(tmp_path: Path) -> None:
    """A file that is not there, or is a folder, is not called damaged."""
    with pytest.raises(FileNotFoundError):
        check_complete(tmp_path / "missing.nc")
    with pytest.raises(IsADirectoryError):
        check_complete(tmp_path)


def test_message_says_what_was_found(tmp_path: Path) -> None:
    """The error names file and format, both lengths, and what to do."""
    sample = sample_files.SAMPLES["netcdf4"]
    path = tmp_path / "day.nc"
    path.write_bytes(sample.content[:3000])

    with pytest.raises(ProductFormatError) as caught:
        check_complete(path)

    assert str(caught.value) == (
        f"The hdf5 file {path} is not complete: it holds 3000 bytes, its HDF5 end-of-file address "
        f"is {len(sample.content)}: it is cut short. Fetch it again."
    )
