"""Archive products as datasets: one file, or those that are chosen and share a grid."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.reading.opening import OpenOptions, open_local

#: rioxarray, with the affine of 2026.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def _dataset(name: str, value: float, size: int = 3, **attrs: Any) -> xr.Dataset:
    return xr.Dataset(
        {name: ("y", np.full(size, value))}, {"y": np.arange(size)}, {"title": name, **attrs}
    )


def _body(ds: xr.Dataset, tmp_path: Path) -> bytes:
    path = tmp_path / "body.nc"
    ds.to_netcdf(path, engine="netcdf4")
    return path.read_bytes()


def _zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return path


def _tar(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return stream.getvalue()


def _open(path: Path, tmp_path: Path, **options: Any) -> xr.Dataset:
    return open_local(path, OpenOptions.make(**options), name="P1", scratch=tmp_path / "scratch")


def _message(path: Path, tmp_path: Path, **options: Any) -> str:
    with pytest.raises(ProductFormatError) as caught:
        _open(path, tmp_path, **options)
    return str(caught.value)


@pytest.fixture
def sen3(tmp_path: Path) -> Path:
    """Write a product with three bands of one grid, a coarser file and a manifest."""
    files = {
        "P.SEN3/xfdumanifest.xml": b"<manifest/>",
        "P.SEN3/Oa01_radiance.nc": _body(_dataset("Oa01", 1), tmp_path),
        "P.SEN3/Oa02_radiance.nc": _body(_dataset("Oa02", 2), tmp_path),
        "P.SEN3/Oa03_radiance.nc": _body(_dataset("Oa03", 3), tmp_path),
        "P.SEN3/tie_meteo.nc": _body(_dataset("wind", 9, size=2), tmp_path),
        "P.SEN3/browse.png": b"\x89PNG...",
    }
    return _zip(tmp_path / "product", files)


def test_one_data_file_is_the_product(tmp_path: Path) -> None:
    """Manifests and pictures beside it do not count."""
    inner = _dataset("sst", 1)
    path = _zip(
        tmp_path / "product", {"a/readme.txt": b"hello", "a/data.nc": _body(inner, tmp_path)}
    )

    with _open(path, tmp_path) as ds:
        xr.testing.assert_identical(ds.load(), inner)


def test_archives_in_archives_are_opened(tmp_path: Path) -> None:
    """A ZIP of a compressed TAR of a compressed file is still one product."""
    inner = _dataset("sst", 1)
    tar = _tar({"x/data.nc.gz": gzip.compress(_body(inner, tmp_path)), "x/readme": b"hello"})
    path = _zip(tmp_path / "product", {"x.tar.gz": gzip.compress(tar)})

    with _open(path, tmp_path) as ds:
        xr.testing.assert_identical(ds.load(), inner)


def test_a_nest_without_end_is_refused(tmp_path: Path) -> None:
    """An archive that holds archives only, level after level, is not followed for ever."""
    body = _body(_dataset("sst", 1), tmp_path)
    for _ in range(9):
        body = gzip.compress(body)
    path = tmp_path / "product"
    path.write_bytes(body)

    assert "more than 4 archives" in _message(path, tmp_path)


def test_several_files_ask_for_a_choice(sen3: Path, tmp_path: Path) -> None:
    """Without ``member`` the error lists the data files and how to choose among them."""
    message = _message(sen3, tmp_path)

    for part in ("P1", "4 data files", 'member="Oa01_radiance.nc"', 'member="*_radiance.nc"'):
        assert part in message
    assert "\n  tie_meteo.nc" in message
    assert "xr.open_datatree" in message
    assert "manifest" not in message
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(
    "member", ["Oa02_radiance.nc", "P.SEN3/Oa02_radiance.nc", "*02*", "P.SEN3/*2_*"]
)
def test_a_member_is_chosen_by_name_or_glob(member: str, sen3: Path, tmp_path: Path) -> None:
    """The glob is that of the whole path or of the name; only what matches is unpacked."""
    with _open(sen3, tmp_path, member=member) as ds:
        assert list(ds.data_vars) == ["Oa02"]

    unpacked = [path.name for path in (tmp_path / "scratch").rglob("*") if path.is_file()]
    assert unpacked == ["Oa02_radiance.nc"]


def test_members_that_share_a_grid_are_merged(sen3: Path, tmp_path: Path) -> None:
    """All variables stand in one dataset, still lazy; attributes that differ are left out."""
    ds = _open(sen3, tmp_path, member="*radiance*")

    assert list(ds.data_vars) == ["Oa01", "Oa02", "Oa03"]
    assert [ds[name].values[0] for name in ds.data_vars] == [1, 2, 3]
    assert not ds["Oa01"].variable._in_memory
    assert ds.attrs == {}
    again = pickle.loads(pickle.dumps(ds))
    assert again["Oa03"].values.tolist() == [3, 3, 3]
    again.close()
    ds.close()
    ds.close()


def test_members_of_different_grids_are_told(sen3: Path, tmp_path: Path) -> None:
    """The error names the two files and the dimension."""
    message = _message(sen3, tmp_path, member="*.nc")

    assert "The files Oa01_radiance.nc and tie_meteo.nc of P1 do not fit" in message
    assert "dimension y has 3 and 2 steps" in message


@pytest.mark.slow
@for_each(
    ("other", "why"),
    [
        (_dataset("a", 2), "a differs in its values"),
        (_dataset("b", 2).assign_coords(y=[5, 6, 7]), "y differs in its values"),
        (
            _dataset("b", 2).assign(crs=((), 0, {"crs_wkt": "UTM zone 32"})),
            "crs differs in its attribute crs_wkt",
        ),
        (xr.Dataset({"a": ("z", [1.0, 1.0, 1.0])}), "a differs in its dimensions"),
    ],
)
def test_members_that_disagree_are_told(other: xr.Dataset, why: str, tmp_path: Path) -> None:
    """Nothing is filled or overridden: what both files hold must be equal."""
    one = _dataset("a", 1).assign(crs=((), 0, {"crs_wkt": "UTM zone 31"}))
    bodies = {"one.nc": _body(one, tmp_path), "two.nc": _body(other, tmp_path)}
    path = _zip(tmp_path / "product", bodies)

    assert why in _message(path, tmp_path, member="*.nc")


def test_equal_values_with_gaps_are_merged(tmp_path: Path) -> None:
    """A missing value equals a missing value, as in masks that every file repeats."""
    mask = ("y", [np.nan, 1.0, 2.0])
    bodies = {
        f"{name}.nc": _body(_dataset(name, 1).assign(mask=mask), tmp_path) for name in ("a", "b")
    }

    with _open(_zip(tmp_path / "product", bodies), tmp_path, member="*") as ds:
        assert set(ds.data_vars) == {"a", "b", "mask"}


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ("Oa01_radience.nc", "Did you mean 'Oa01_radiance.nc'"),
        ("*.xml", "fits only files that hold no data, such as xfdumanifest.xml"),
        ("nothing like it", "It has:\n  Oa01_radiance.nc"),
    ],
)
def test_a_member_that_is_not_there(member: str, says: str, sen3: Path, tmp_path: Path) -> None:
    """The error names the nearest, and all there are."""
    assert says in _message(sen3, tmp_path, member=member)


def test_an_archive_without_data_says_what_it_holds(shared_data: Path, tmp_path: Path) -> None:
    """A SAFE product without measurements cannot be opened."""
    (path,) = (shared_data / "sentinel-1").glob("S1A_IW_GRDH*.zip")

    message = _message(path, tmp_path)

    assert "P1 is an archive without a data file" in message
    assert "\n  manifest.safe" in message


def test_groups_are_those_of_the_member(tmp_path: Path) -> None:
    """``group`` and the error on an empty root reach into the archive."""
    file = tmp_path / "grouped.nc"
    _dataset("a", 1).to_netcdf(file, group="PRODUCT", engine="netcdf4")
    path = _zip(tmp_path / "product", {"grouped.nc": file.read_bytes()})

    assert "root group of grouped.nc of P1 is empty" in _message(path, tmp_path)
    with _open(path, tmp_path, group="PRODUCT") as ds:
        assert "a" in ds


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    """A whole archive may hold a file that was cut short before it was packed."""
    body = _body(_dataset("a", 1), tmp_path)[:-100]

    message = _message(_zip(tmp_path / "product", {"a.nc": body}), tmp_path)

    assert "a.nc of P1 cannot be opened" in message
    assert "cut short" in message


def test_an_engine_that_knows_archives_gets_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``product_engine``, an archive of files that are no data here is left to it."""
    path = _zip(tmp_path / "product", {"zarr.json": b"{}", "c/0": b"chunk"})
    calls = []

    def open_dataset(path: Path, *, engine: str, **options: Any) -> xr.Dataset:
        calls.append((path, engine))
        return _dataset("a", 1)

    monkeypatch.setattr("xarray.open_dataset", open_dataset)

    assert "a" in _open(path, tmp_path, product_engine="scipy")
    assert calls == [(path, "scipy")]
    assert "without a data file" in _message(path, tmp_path)


def test_rasters_are_named_after_their_files(shared_data: Path, tmp_path: Path) -> None:
    """Bands have no names of their own; several of them in one dataset need some."""
    pytest.importorskip("rioxarray")
    folder = shared_data / "geotiff/S2A_29RKH_20200219_0_L2A"
    path = _zip(
        tmp_path / "product",
        {f"P.SAFE/{name}.tif": (folder / f"{name}.tif").read_bytes() for name in ("B8A", "SCL")},
    )

    with _open(path, tmp_path, member="*.tif") as ds:
        assert set(ds.data_vars) == {"B8A", "SCL"}
    with _open(path, tmp_path, member="SCL*") as ds:
        assert set(ds.data_vars) == {"band_data"}


def test_a_real_sentinel_2_product_opens(shared_data: Path, tmp_path: Path) -> None:
    """A SAFE folder in a ZIP with one band."""
    pytest.importorskip("rioxarray")
    (path,) = (shared_data / "sentinel-2").glob("*.zip")

    with _open(path, tmp_path) as ds:
        assert ds["band_data"].sizes == {"band": 1, "y": 1830, "x": 1830}


def test_a_real_sen3_product_is_chosen_from(shared_data: Path, tmp_path: Path) -> None:
    """The three files of an altimeter product share their time axes."""
    (path,) = (shared_data / "sentinel-3/sen3-layout").glob("S3A_SR_2_WAT*.zip")

    with _open(path, tmp_path, member="*measurement*") as ds:
        assert {"time_01", "time_20_ku", "time_20_c"} <= set(ds.coords)
