"""Groups of a product, and files of an archive product, as the nodes of a tree."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.reading.archives import Member
from hda_fsspec.reading.opening import OpenOptions
from hda_fsspec.reading.trees import node_names, open_tree

#: rioxarray, with the affine of 2026.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def _tree(path: Path, tmp_path: Path, **options: Any) -> dict[str, xr.Dataset]:
    return open_tree(path, OpenOptions.make(**options), name="P1", scratch=tmp_path / "scratch")


def _close(tree: dict[str, xr.Dataset]) -> None:
    for ds in tree.values():
        ds.close()


@pytest.mark.slow
@for_each(
    "file",
    [
        "sentinel-6/ref04_standard_measurement_S6.nc",
        "sentinel-5p/S5P_OFFL_L2__O3_TCL*.nc",
        "sentinel-3/FRP_in.nc",
        "cams/test_adaptor.cams_regional_fc.nc",
    ],
)
def test_groups_are_those_of_xarray(file: str, shared_data: Path, tmp_path: Path) -> None:
    """Every group is there, with the same values that xarray's own engine gives."""
    (product,) = shared_data.glob(file)
    ours = _tree(product, tmp_path)
    plain = xr.open_groups(product, engine="netcdf4")

    assert list(ours) == list(plain)
    for path, ds in ours.items():
        xr.testing.assert_identical(ds.load(), plain[path].load())
    tree = xr.DataTree.from_dict(ours)
    assert set(tree.groups) == set(plain)
    _close(ours)
    _close(plain)


@pytest.mark.slow
def test_a_group_is_the_root_of_its_tree(shared_data: Path, tmp_path: Path) -> None:
    """With ``group`` the paths begin below it."""
    tree = _tree(
        shared_data / "sentinel-6/ref04_standard_measurement_S6.nc", tmp_path, group="data_01"
    )

    assert list(tree) == ["/", "/c", "/ku"]
    _close(tree)


@pytest.mark.slow
def test_a_wrong_group_is_told(shared_data: Path, tmp_path: Path) -> None:
    """As when a single dataset is opened."""
    path = shared_data / "sentinel-6/ref04_standard_measurement_S6.nc"

    with pytest.raises(ProductFormatError, match="Did you mean 'data_01'"):
        _tree(path, tmp_path, group="data01")
    with pytest.raises(ProductFormatError, match="Leave member out"):
        _tree(path, tmp_path, member="*.nc")


def test_files_of_an_archive_are_nodes(shared_data: Path, tmp_path: Path) -> None:
    """A SEN3 product is a tree of its data files; a glob leaves out the others."""
    (path,) = (shared_data / "sentinel-3/sen3-layout").glob("S3A_SR_2_WAT*.zip")

    tree = _tree(path, tmp_path)
    chosen = _tree(path, tmp_path, member="*standard*")

    names = ["enhanced", "reduced", "standard"]
    assert sorted(tree) == [f"/{name}_measurement" for name in names]
    assert list(chosen) == ["/standard_measurement"]
    assert set(xr.DataTree.from_dict(tree).children) == {f"{name}_measurement" for name in names}
    xr.testing.assert_identical(
        chosen["/standard_measurement"].load(), tree["/standard_measurement"].load()
    )
    _close(tree)
    _close(chosen)


def test_groups_of_files_are_nodes_below_them(tmp_path: Path) -> None:
    """A file with groups is a branch, also in an archive within the archive."""
    ds = xr.Dataset({"a": ("x", [1.0])})
    ds.to_netcdf(tmp_path / "flat.nc", engine="netcdf4")
    ds.to_netcdf(tmp_path / "grouped.nc", group="inner", engine="netcdf4")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(tmp_path / "flat.nc", "one.nc")
        archive.write(tmp_path / "flat.nc", "two.nc")
    path = tmp_path / "product"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("flat.nc", "grouped.nc", "more.zip"):
            archive.write(tmp_path / name, f"P.SEN3/{name}")

    tree = _tree(path, tmp_path)

    nodes = ["/flat", "/grouped", "/grouped/inner", "/more/one", "/more/two"]
    assert list(tree) == nodes
    assert tree["/grouped/inner"]["a"].item() == tree["/more/two"]["a"].item() == 1.0
    _close(tree)


def test_one_data_file_is_the_tree_itself(tmp_path: Path) -> None:
    """An archive around a single file adds no level, as when it is opened as a dataset."""
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    with zipfile.ZipFile(tmp_path / "product", "w") as archive:
        archive.write(tmp_path / "a.nc", "P/a.nc")

    tree = _tree(tmp_path / "product", tmp_path)

    assert list(tree) == ["/"]
    assert "a" in tree["/"]
    _close(tree)


def test_one_bad_file_closes_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stays open when the tree cannot be made."""
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    with zipfile.ZipFile(tmp_path / "product", "w") as archive:
        archive.write(tmp_path / "a.nc", "a.nc")
        archive.writestr("b.nc", (tmp_path / "a.nc").read_bytes()[:-50])
    closed: list[str] = []
    monkeypatch.setattr("hda_fsspec.reading.trees.close_all", closed.extend)

    with pytest.raises(ProductFormatError, match=r"b\.nc of P1"):
        _tree(tmp_path / "product", tmp_path)

    assert closed == ["/a"]


@pytest.mark.slow
def test_parts_of_a_grib_are_nodes(shared_data: Path, tmp_path: Path) -> None:
    """Messages that do not form one dataset are a tree of those that do."""
    pytest.importorskip("cfgrib")

    tree = _tree(shared_data / "grib/t_on_different_level_types.grib", tmp_path)
    whole = _tree(shared_data / "grib/era5-levels-members.grib", tmp_path)

    assert list(tree) == ["/isobaricInhPa", "/hybrid"]
    assert all("t" in ds for ds in tree.values())
    assert list(whole) == ["/"]
    _close(tree)
    _close(whole)


def test_a_raster_is_a_tree_of_one(shared_data: Path, tmp_path: Path) -> None:
    """Formats without groups have the root only."""
    pytest.importorskip("rioxarray")

    tree = _tree(shared_data / "sentinel-2/S2_20250602_SCL.jp2", tmp_path)

    assert list(tree) == ["/"]
    _close(tree)


@for_each(
    ("files", "nodes"),
    [
        (["P/a.nc", "P/b.nc"], ["a", "b"]),
        (["a.nc", "x/b.nc"], ["a", "x/b"]),
        (["P/a.nc", "P/a.tif"], ["a.nc", "a.tif"]),
        (["P/a.nc", "P/a/b.nc"], ["a.nc", "a/b"]),
        (["P/x/a.nc", "P/y/a.nc"], ["x/a", "y/a"]),
        (["only/one.nc"], ["one"]),
    ],
)
def test_nodes_are_short_and_distinct(files: list[str], nodes: list[str]) -> None:
    """The shared folder and the suffix go, unless two names would become one."""
    assert node_names([Member(name, 1, 1) for name in files]) == nodes
