"""Real products: each opens to what xarray gives for the same local file, or says why not."""

from __future__ import annotations

import collections
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from checkout import SHARED
from rows import for_each

from hda_fsspec.errors import ConfigurationError, ProductFormatError
from hda_fsspec.formats.detect import Format, sniff
from hda_fsspec.reading.opening import OpenOptions, open_local

SHARED = SHARED / "data"
ENGINES = {
    Format.HDF5: "netcdf4",
    Format.NETCDF3: "netcdf4",
    Format.GRIB: "cfgrib",
    Format.TIFF: "rasterio",
    Format.JP2: "rasterio",
}
MODULES = {"netcdf4": "netCDF4", "cfgrib": "cfgrib", "rasterio": "rioxarray"}
#: Of what is larger only a corner is compared.
MAX_VALUES = 200_000

#: What lies there once more in parts.
CUT_UP = "c3s/era5-2t-uk-2019-03-grib/source/"

#: Files that xarray opens, but not as what they hold, and why they are refused here.
REFUSED = {
    "sentinel-5p/": "root group .* is empty",
    "sentinel-6/": "root group .* is empty",
    "grib/ERA5_AN_20100101_0000.grb": "differ in depthBelowLandLayer",
    "grib/cams-egg4-monthly.grib": "differ in time",
    "grib/t_on_different_level_types.grib": "differ in typeOfLevel",
    "grib/tp_on_different_grid_resolutions.grib": "differ in numberOfPoints",
}

#: What the engines say of some of these files, with and without this package.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{message}")
    for message in (
        # rasters in the geometry of the sensor
        "Dataset has no geotransform",
        # fill values of two kinds, or of another type, in files of the climate archives
        "variable '.*' has (multiple fill values|non-conforming)",
        # rioxarray, with the affine of 2026
        "Use `@` matmul instead of:PendingDeprecationWarning",
    )
]


def _manifest() -> list[str]:
    """Return the files of the manifest, of each series the last."""
    if not (SHARED / "MANIFEST.tsv").is_file():
        return []
    with (SHARED / "MANIFEST.tsv").open(encoding="utf-8", newline="") as stream:
        rows = [row["path"] for row in csv.DictReader(stream, delimiter="\t")]
    kinds = collections.defaultdict(list)
    for path in sorted(rows):
        kinds[Path(path).parent, Path(path).suffix].append(path)
    chosen = []
    for paths in kinds.values():
        chosen += paths if len(paths) < 4 else [paths[-1]]
    return [
        path
        for path in chosen
        if sniff(SHARED / path) is not Format.OTHER and not path.startswith(CUT_UP)
    ]


FILES = _manifest()
DAMAGED = [path for path in FILES if path.startswith("damaged/")]
SOUND = [path for path in FILES if path not in DAMAGED and not path.endswith(".zip")]


def _open_plainly(path: Path, engine: str) -> xr.Dataset:
    more = {"indexpath": ""} if engine == "cfgrib" else {}
    return xr.open_dataset(path, engine=engine, cache=False, chunks=None, **more)  # type: ignore[arg-type]


def _encoding(variable: xr.Variable) -> dict[str, str]:
    return {key: repr(value) for key, value in variable.encoding.items() if key != "source"}


def _corner(ds: xr.Dataset) -> xr.Dataset:
    largest = max((variable.size for variable in ds.variables.values()), default=0)
    return ds if largest <= MAX_VALUES else ds.isel({dim: slice(3) for dim in ds.sizes})


def _without_clock(ds: xr.Dataset) -> xr.Dataset:
    """Leave out the line that cfgrib writes with the minute in which it opened the file."""
    return ds.drop_attrs(deep=False).assign_attrs(
        {key: value for key, value in ds.attrs.items() if key != "history"}
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", SOUND)
def test_a_real_file_opens_as_xarray_opens_it(path: str, tmp_path: Path) -> None:
    """Values, coordinates, attributes and encodings are the same, or an error says why not."""
    file = SHARED / path
    engine = ENGINES[sniff(file)]
    pytest.importorskip(MODULES[engine])
    reason = next((why for start, why in REFUSED.items() if path.startswith(start)), None)
    if reason is not None:
        with pytest.raises(ProductFormatError, match=reason):
            open_local(file, OpenOptions.make(), name="product", scratch=tmp_path / "scratch")
        return

    with (
        _open_plainly(file, engine) as plain,
        open_local(file, OpenOptions.make(), name="product", scratch=tmp_path / "s") as ours,
    ):
        assert {name: _encoding(ours[name].variable) for name in ours.variables} == {
            name: _encoding(plain[name].variable) for name in plain.variables
        }
        assert ours.encoding == plain.encoding
        assert list(ours.variables) == list(plain.variables)
        xr.testing.assert_identical(
            _without_clock(_corner(ours)).load(), _without_clock(_corner(plain)).load()
        )


@for_each("path", DAMAGED)
def test_a_damaged_file_is_refused(path: str, tmp_path: Path) -> None:
    """A file that is cut short is an error of ours, also where xarray would read zeros."""
    with pytest.raises(ProductFormatError, match=r"the product cannot be opened.*not complete"):
        open_local(SHARED / path, OpenOptions.make(), name="the product", scratch=tmp_path)


@pytest.mark.slow
def test_opening_writes_nothing_beside_the_file(shared_data: Path, tmp_path: Path) -> None:
    """Neither an index nor unpacked members ever stand next to a product."""
    before = sorted((shared_data / "grib").iterdir())
    pytest.importorskip("cfgrib")

    open_local(
        shared_data / "grib/optical-cams.grib",
        OpenOptions.make(),
        name="product",
        scratch=tmp_path / "scratch",
    ).close()

    assert sorted((shared_data / "grib").iterdir()) == before


def test_a_dataset_is_lazy_and_closes_twice(tmp_path: Path) -> None:
    """No values are kept in memory by reading them, and closing again does no harm."""
    path = tmp_path / "product"
    xr.Dataset({"sst": ("x", np.arange(5.0))}).to_netcdf(path, engine="netcdf4")

    ds = open_local(path, OpenOptions.make(), name="product", scratch=tmp_path / "scratch")
    first = ds["sst"].values

    assert not ds["sst"].variable._in_memory
    np.testing.assert_array_equal(first, np.arange(5.0))
    ds.close()
    ds.close()


def test_the_name_of_a_file_means_nothing(tmp_path: Path) -> None:
    """A netCDF file that is called .grib, or has no suffix, is opened as what it is."""
    for name in ("product.grib", "product.zip", "product"):
        path = tmp_path / name
        xr.Dataset({"sst": ("x", [1.0])}).to_netcdf(path, engine="netcdf4")

        with open_local(path, OpenOptions.make(), name="product", scratch=tmp_path / "s") as ds:
            assert ds["sst"].item() == 1.0


def test_options_reach_the_engine(tmp_path: Path) -> None:
    """Decoders, dropped variables, the group and engine options are those that were given."""
    path = tmp_path / "product.nc"
    attributes = {"scale_factor": 0.5}
    data = xr.Dataset({"a": ("x", [1, 2], attributes), "b": ("x", [3, 4])})
    data.to_netcdf(path, group="inner", engine="netcdf4")
    options = OpenOptions.make(
        group="inner",
        drop_variables="b",
        mask_and_scale=False,
        product_engine="netcdf4",
        product_engine_kwargs={"auto_complex": True},
    )

    with open_local(path, options, name="product", scratch=tmp_path / "scratch") as ds:
        assert list(ds.variables) == ["a"]
        assert ds["a"].values.tolist() == [1, 2]
        assert ds["a"].attrs == attributes


@pytest.mark.parametrize("extra", [("cfgrib", "grib"), ("rioxarray", "geotiff")])
def test_a_missing_extra_is_named(
    extra: tuple[str, str], shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the package that a format needs, the error is the command that installs it."""
    module, name = extra
    file = {"cfgrib": "grib/optical-cams.grib", "rioxarray": "sentinel-2/S2_20250602_SCL.jp2"}
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ConfigurationError, match=rf'pip install "hda-fsspec\[{name}\]"'):
        open_local(shared_data / file[module], OpenOptions.make(), name="p", scratch=tmp_path)


def test_h5netcdf_opens_what_the_netcdf_library_refuses(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An HDF5 file that one library cannot read is tried with the other one, if it is there."""
    pytest.importorskip("h5netcdf")
    plain = xr.open_dataset
    engines = []

    def open_dataset(path: Path, *, engine: str, **options: Any) -> xr.Dataset:
        engines.append(engine)
        if engine == "netcdf4":
            raise OSError(-101, "NetCDF: HDF error")
        assert options.pop("phony_dims") == "sort"
        return plain(path, engine="netcdf4", **options)

    monkeypatch.setattr("xarray.open_dataset", open_dataset)
    file = shared_data / "sentinel-3/FRP_in.nc"
    with open_local(file, OpenOptions.make(), name="p", scratch=tmp_path) as ds:
        assert "FRP" in ds

    assert engines == ["netcdf4", "h5netcdf"]
    with pytest.raises(ProductFormatError, match="NetCDF: HDF error"):
        open_local(file, OpenOptions.make(product_engine="netcdf4"), name="p", scratch=tmp_path)
