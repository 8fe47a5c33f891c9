"""What cannot be opened says so in one error of a few lines, with the next step."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.errors import ConfigurationError, HDAError, ProductFormatError
from hda_fsspec.formats.detect import Format
from hda_fsspec.reading import engines
from hda_fsspec.reading.opening import OpenOptions, open_local


def _open(path: Path, tmp_path: Path, **options: Any) -> xr.Dataset:
    return open_local(path, OpenOptions.make(**options), name="P1", scratch=tmp_path / "scratch")


def _message(path: Path, tmp_path: Path, **options: Any) -> str:
    with pytest.raises(ProductFormatError) as caught:
        _open(path, tmp_path, **options)
    return str(caught.value)


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """Write a netCDF-4 file with an empty root and three groups."""
    path = tmp_path / "grouped.nc"
    ds = xr.Dataset({"a": ("x", [1])})
    for group in ("PRODUCT", "PRODUCT/DETAILS", "META"):
        ds.to_netcdf(path, group=group, mode="a" if path.exists() else "w", engine="netcdf4")
    return path


def test_an_empty_root_names_the_groups(grouped: Path, tmp_path: Path) -> None:
    """Data that lie in groups are not an empty dataset in silence."""
    message = _message(grouped, tmp_path)

    for part in ("P1", "PRODUCT (1 variables)", "META", "group='PRODUCT'", "xr.open_datatree"):
        assert part in message
    with _open(grouped, tmp_path, group="/PRODUCT/DETAILS/") as ds:
        assert ds["a"].item() == 1


def test_an_empty_file_is_an_empty_dataset(tmp_path: Path) -> None:
    """A file without groups and variables, such as a cut SEN3 header, is what it is."""
    path = tmp_path / "empty.nc"
    xr.Dataset(attrs={"title": "nothing"}).to_netcdf(path, engine="netcdf4")

    with _open(path, tmp_path) as ds:
        assert not ds.variables


@pytest.mark.parametrize(
    ("group", "near"), [("PRODUKT", "'PRODUCT'"), ("details", "'PRODUCT/DETAILS'")]
)
def test_a_wrong_group_names_the_nearest(
    grouped: Path, tmp_path: Path, group: str, near: str
) -> None:
    """A group that is not there is an error with those that are."""
    message = _message(grouped, tmp_path, group=group)

    assert f"P1 has no group {group!r}. Did you mean {near}" in message


def test_a_file_without_groups_says_so(tmp_path: Path) -> None:
    """Where a format knows groups, but a file has none, that is said."""
    path = tmp_path / "plain.nc"
    xr.Dataset({"v": ("x", [1.0])}).to_netcdf(path, engine="netcdf4")

    assert "has no group 'PRODUCT': it has none. Leave group" in _message(
        path, tmp_path, group="/PRODUCT"
    )


def test_a_format_without_groups_says_so(shared_data: Path, tmp_path: Path) -> None:
    """``group`` and ``member`` are refused where the format has no such thing."""
    file = shared_data / "cams/test_adaptor.cams_regional_fc.nc"

    assert "netcdf3 file, which has no groups" in _message(file, tmp_path, group="PRODUCT")
    assert "not an archive" in _message(file, tmp_path, member="*.nc")


@pytest.mark.slow
@for_each(
    ("body", "looks"),
    [
        (b"<!DOCTYPE html><html><body>Sorry</body></html>", "page instead of the product"),
        (b"<HTML>" + b"x" * 70_000, "an HTML page"),
        (b"<?xml version='1.0'?><manifest/>", "an XML document"),
        (b"time,value\n1,2\n" * 99, "text"),
        (b'{"features": []}', "a JSON document"),
        (b"%PDF-1.7 \x00", "a PDF document"),
        (b"\x0e\x03\x13\x01rest of it", "HDF4"),
        (b"BUFR\x00\x00", "BUFR"),
        (b"\x00\x01\x02\x03" * 20, "begins with"),
        (b"", "it is empty"),
    ],
)
def test_an_unknown_format_says_what_it_looks_like(body: bytes, looks: str, tmp_path: Path) -> None:
    """Whatever its name says, a file that is no data says what it is."""
    path = tmp_path / "product.nc"
    path.write_bytes(body)

    message = _message(path, tmp_path)

    assert "P1" in message
    assert looks in message
    assert message.count("\n") < 4


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    """A file that was evicted is a plain FileNotFoundError, so that it can be fetched again."""
    with pytest.raises(FileNotFoundError):
        _open(tmp_path / "gone.nc", tmp_path)


def test_a_file_that_disappears_meanwhile_is_not_found(
    grouped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine's own words for a missing file become the same error."""

    def open_dataset(path: Path, **options: Any) -> xr.Dataset:
        path.unlink()
        raise RuntimeError("no such thing")

    monkeypatch.setattr("xarray.open_dataset", open_dataset)

    with pytest.raises(FileNotFoundError, match="P1"):
        _open(grouped, tmp_path, group="PRODUCT")


def test_errors_of_the_disk_stay_what_they_are(
    grouped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files, or a failing disk, says nothing about the format of a product."""

    def open_dataset(path: Path, **options: Any) -> xr.Dataset:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("xarray.open_dataset", open_dataset)

    with pytest.raises(OSError, match="Too many open files") as caught:
        _open(grouped, tmp_path, group="PRODUCT")
    assert not isinstance(caught.value, HDAError)


def test_an_unknown_engine_lists_those_that_are(grouped: Path, tmp_path: Path) -> None:
    """A misspelt ``product_engine`` is an error of configuration."""
    with pytest.raises(ConfigurationError, match=r"no engine 'netcdf5'.*netcdf4"):
        _open(grouped, tmp_path, product_engine="netcdf5")


def test_an_option_that_the_engine_does_not_know(grouped: Path, tmp_path: Path) -> None:
    """A misspelt option of the engine is told, and not ignored."""
    with pytest.raises(ConfigurationError, match=r"P1 with these options: .*filter_by_keys"):
        _open(grouped, tmp_path, product_engine_kwargs={"filter_by_keys": {}})


@pytest.mark.parametrize(
    ("said", "is_blamed"),
    [
        ("open_dataset() got an unexpected keyword argument 'squeeze'", True),
        ("squeeze must be a bool", True),
        ("unsupported operand type(s) for *: 'int' and 'str'", False),
        ("'squeezed' is no dimension", False),
    ],
)
def test_an_option_is_blamed_where_it_is_named(
    grouped: Path, tmp_path: Path, said: str, *, is_blamed: bool
) -> None:
    """What a file holds makes engines raise the same kind of error."""
    options = OpenOptions.make(product_engine_kwargs={"squeeze": 1})
    file = engines.DataFile(grouped, Format.HDF5, "P1", tmp_path / "scratch")
    kind = ConfigurationError if is_blamed else ProductFormatError

    with pytest.raises(kind, match="P1") as caught, engines._explained(file, "x", options):
        raise TypeError(said)
    assert ("change squeeze" in str(caught.value)) == is_blamed


def test_the_wrong_engine_is_named(shared_data: Path, tmp_path: Path) -> None:
    """What another engine says of a file stands beside the format that the file has."""
    file = shared_data / "grib/optical-cams.grib"

    message = _message(file, tmp_path, product_engine="netcdf4")

    assert "engine 'netcdf4' could not open the grib file of P1" in message


def test_times_that_cannot_be_decoded_are_told(tmp_path: Path) -> None:
    """The advice of xarray on decoding reaches the user."""
    path = tmp_path / "odd.nc"
    xr.Dataset({"a": ("x", [1], {"units": "days since the flood"})}).to_netcdf(
        path, engine="netcdf4"
    )

    assert "decode_times" in _message(path, tmp_path)
    with _open(path, tmp_path, decode_times=False) as ds:
        assert ds["a"].item() == 1


def test_a_cut_file_is_refused_before_it_is_opened(shared_data: Path, tmp_path: Path) -> None:
    """One byte less at the end is enough, in every format."""
    for file in ("sentinel-3/FRP_in.nc", "c3s/era5-2files/era5_2t_1.nc", "grib/optical-cams.grib"):
        path = tmp_path / "cut"
        shutil.copy(shared_data / file, path)
        path.write_bytes(path.read_bytes()[:-4])

        assert "cut short" in _message(path, tmp_path)


def test_whatever_a_library_makes_of_a_file_names_the_product(tmp_path: Path) -> None:
    """What no library of formats expects in a file is told as one error, with the first reason."""
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("h5netcdf")
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file["named"] = np.dtype("f4")
        file["v"] = np.arange(3.0)
        file["v"].attrs["to"] = file["v"].ref

    with pytest.raises(ProductFormatError, match=r"could not open the hdf5 file of odd: .*maps"):
        open_local(
            path,
            OpenOptions.make(product_engine="h5netcdf"),
            name="odd",
            scratch=tmp_path / "scratch",
        )
