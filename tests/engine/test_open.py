"""``engine="hda"`` opens a product of any format to what xarray gives for the same local file."""

from __future__ import annotations

import inspect
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rows import for_each
from xarray.backends import plugins

from hda_fsspec import Location
from hda_fsspec.emulator import dated_product
from hda_fsspec.engine.backend import HDABackendEntrypoint
from hda_fsspec.errors import ConfigurationError, HDAError, LocationError, ProductFormatError
from hda_fsspec.reading.options import DECODERS
from hda_fsspec.settings import Settings

#: rioxarray, with the affine of 2026.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

NAME = "sst_20240501.nc"
ENGINES = {".nc": "netcdf4", ".grib": "cfgrib", ".tif": "rasterio", ".jp2": "rasterio"}
MODULES = {"netcdf4": "netCDF4", "cfgrib": "cfgrib", "rasterio": "rioxarray"}


def _day() -> xr.Dataset:
    """Return a day of packed values with missing ones, a text, a time and an attribute."""
    sst = np.round(np.linspace(270.0, 300.0, 12), 2).reshape(1, 3, 4)
    sst[0, 1, 1] = np.nan
    ds = xr.Dataset(
        {"sst": (("time", "lat", "lon"), sst, {"units": "K"}), "name": ((), "a text")},
        coords={
            "time": [np.datetime64("2024-05-01T12:00", "ns")],
            "lat": [10.0, 5.0, 0.0],
            "lon": [1.0, 2.0, 3.0, 4.0],
            "area": (("lat", "lon"), np.arange(12.0).reshape(3, 4)),
        },
        attrs={"title": "a day"},
    )
    ds["sst"].encoding = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 273.15}
    ds["sst"].encoding["_FillValue"] = -32768
    return ds


def _written(path: Path, **options: Any) -> Path:
    _day().to_netcdf(path, **options)
    return path


class Served:
    """One product behind an emulator."""

    def __init__(self, bench: Any, body: bytes, name: str = NAME) -> None:
        self.emulator = bench.start(products=[dated_product(name, body)])
        self.options = bench.settings(self.emulator)
        self.path = f"{bench.query}/{name}"

    def open(self, **options: Any) -> xr.Dataset:
        """Open it."""
        return xr.open_dataset(
            self.path, engine="hda", storage_options=self.options, cache=False, **options
        )


@pytest.fixture
def served(bench: Any, tmp_path: Path) -> Served:
    """Serve a netCDF-4 product."""
    return Served(bench, _written(tmp_path / NAME, engine="netcdf4").read_bytes())


def _assert_same(ours: xr.Dataset, plain: xr.Dataset, path: str) -> None:
    for ds in (ours, plain):
        # cfgrib writes the minute in which it opened the file.
        ds.attrs.pop("history", None)
    encodings = [
        {
            str(name): {k: repr(v) for k, v in ds[name].encoding.items() if k != "source"}
            for name in ds.variables
        }
        for ds in (ours, plain)
    ]
    assert encodings[0] == encodings[1]
    assert list(ours.data_vars) == list(plain.data_vars)
    assert list(ours.coords) == list(plain.coords)
    sources = {ours.encoding["source"]} | {
        ours[name].encoding["source"] for name in ours.variables if "source" in ours[name].encoding
    }
    assert sources == {path}
    assert not any(ours[n].variable._in_memory for n in ours.variables if n not in ours.indexes)
    xr.testing.assert_identical(ours.load(), plain.load())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"engine": "netcdf4"},
        {"engine": "netcdf4", "format": "NETCDF4_CLASSIC"},
        {"engine": "netcdf4", "format": "NETCDF3_CLASSIC"},
        {"engine": "netcdf4", "format": "NETCDF3_64BIT"},
    ],
    ids=lambda options: options.get("format", "NETCDF4"),
)
def test_a_netcdf_product(bench: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    """Values, order, attributes and encodings are those of the file, and nothing is loaded."""
    file = _written(tmp_path / NAME, **options)
    served = Served(bench, file.read_bytes())

    with served.open() as ours, xr.open_dataset(file, engine="netcdf4") as plain:
        _assert_same(ours, plain, served.path)
    assert served.emulator.orders == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [
        "grib/era5-single-level-scalar-time.grib",
        "grib/optical-cams.grib",
        "geotiff/S2A_29RKH_20200219_0_L2A/SCL.tif",
        "sentinel-2/S2_20250604_SCL.jp2",
        "cmems/sst/20160707000000-GOS-L4_GHRSST-SSTfnd-OISST_HR_REP-BLK-v02.0-fv01.0.nc",
        "other/oisst_reduced_19811231.nc",
    ],
)
def test_a_real_product(file: str, bench: Any, shared_data: Path) -> None:
    """GRIB, GeoTIFF and JPEG 2000 are told by their content: ids need not end in a suffix."""
    path = shared_data / file
    engine = ENGINES[path.suffix]
    pytest.importorskip(MODULES[engine])
    served = Served(bench, path.read_bytes(), "PRODUCT_20240501_WITHOUT_SUFFIX")
    more: dict[str, Any] = {"backend_kwargs": {"indexpath": ""}} if engine == "cfgrib" else {}

    with served.open() as ours, xr.open_dataset(path, engine=engine, **more) as plain:
        _assert_same(ours, plain, served.path)


@pytest.mark.slow
def test_options_reach_the_file(served: Served, tmp_path: Path) -> None:
    """Decoders, dropped variables and the options of the engine mean what they mean in xarray."""
    file = tmp_path / NAME
    for options in (
        {"mask_and_scale": False},
        {"decode_times": False, "drop_variables": "area"},
        {"drop_variables": ["sst", "name"]},
        {"decode_cf": False},
        {"decode_times": xr.coders.CFDatetimeCoder(use_cftime=True)},
        {"chunks": {"lat": 2}},
    ):
        with (
            served.open(**options) as ours,
            xr.open_dataset(file, engine="netcdf4", **options) as plain,
        ):
            xr.testing.assert_identical(ours, plain)
    with served.open(product_engine="netcdf4", product_engine_kwargs={"format": "NETCDF4"}) as ds:
        assert ds["sst"].shape == (1, 3, 4)
    with pytest.raises(ConfigurationError, match="no_such_option"):
        served.open(product_engine_kwargs={"no_such_option": 1})
    with pytest.raises(ConfigurationError, match="Choose product_engine"):
        served.open(product_engine="nothing")
    assert served.emulator.orders == 1


def test_group_and_member(bench: Any, tmp_path: Path) -> None:
    """A group of a file is chosen by ``group``, a file of an archive by ``member``."""
    _day().to_netcdf(tmp_path / "a.nc", group="inner", engine="netcdf4")
    _written(tmp_path / "b.nc", engine="netcdf4")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for name in ("a.nc", "b.nc"):
            archive.write(tmp_path / name, f"P.SEN3/{name}")
    served = Served(bench, (tmp_path / "p.zip").read_bytes(), "P_20240501.SEN3")

    with xr.open_dataset(tmp_path / "b.nc") as plain:
        xr.testing.assert_identical(served.open(member="b.nc").load(), plain.load())
        xr.testing.assert_identical(served.open(member="a*", group="inner").load(), plain)
    with pytest.raises(ProductFormatError, match="data are in groups: inner"):
        served.open(member="a.nc")
    with pytest.raises(ProductFormatError, match=r"2 data files.*\n *a\.nc\n *b\.nc"):
        served.open()


def test_a_location_needs_no_engine(served: Served, tmp_path: Path) -> None:
    """The engine of our own objects is found by itself."""
    ds = xr.open_dataset(Location.parse(served.path), storage_options=served.options)  # type: ignore[arg-type]

    with xr.open_dataset(tmp_path / NAME) as plain:
        xr.testing.assert_identical(ds.load(), plain.load())


def test_an_address_without_engine_goes_to_netcdf4() -> None:
    """The netCDF4 engine is asked first and takes every address: always write the engine."""
    assert plugins.guess_engine("hda://EO:X/startdate=2024-05-01/p.nc") == "netcdf4"


@for_each(
    ("given", "answer"),
    [
        ("hda://EO:X/p.nc", True),
        ("hda://", True),
        (Location("EO:X"), True),
        ("/tmp/p.nc", False),
        ("https://example.org/p.nc", False),
        ("HDA", False),
        ("", False),
        (b"hda://EO:X/p.nc", False),
        (Path("hda:/EO:X"), False),
        (None, False),
        (object(), False),
        (["hda://EO:X/p.nc"], False),
    ],
)
def test_guessing_costs_nothing(given: Any, answer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It never raises, and looks at nothing but the path."""
    monkeypatch.setattr("hda_fsspec.client.get_client", None)
    monkeypatch.setattr(Settings, "resolve", None)

    assert HDABackendEntrypoint().guess_can_open(given) is answer


@for_each(
    ("given", "says"),
    [
        ("/data/p.nc", "Open other files without engine="),
        (Path("/data/p.nc"), r"hda://"),
        ("p.nc", "opens hda:// paths"),
        ("s3://bucket/p.nc", "opens hda:// paths"),
        ("hda://", "name a data set"),
        (None, r"hda://"),
        (b"CDF\x01", r"hda://"),
    ],
)
def test_what_is_no_product_is_told(given: Any, says: str) -> None:
    """A local path, the root, or another object is an error that says what to do."""
    with pytest.raises(LocationError, match=says):
        HDABackendEntrypoint().open_dataset(given)
    with pytest.raises(LocationError, match=says):
        HDABackendEntrypoint().open_groups_as_dict(given)


def test_options_are_checked_before_anything_is_asked(served: Served, bench: Any) -> None:
    """What no option can be costs no request, and unknown options are refused by name."""
    with pytest.raises(HDAError, match=r'on_missing is "raise" or "nan", not \'skip\''):
        served.open(on_missing="skip")
    with pytest.raises(TypeError, match=r"'on_mising'\. Did you mean 'on_missing'"):
        served.open(on_mising="nan")
    with pytest.raises(TypeError, match=r"'decode_tims'\. Did you mean 'decode_times'"):
        xr.open_datatree(
            served.path, engine="hda", storage_options=served.options, decode_tims=False
        )
    with pytest.raises(ConfigurationError, match="usr"):
        xr.open_dataset(served.path, engine="hda", storage_options={"usr": "x"})
    assert len(served.emulator.log) == 0


def test_xarray_is_told_all_options() -> None:
    """It turns decoders off by their names, which it looks for among those of the engine."""
    told = HDABackendEntrypoint.open_dataset_parameters
    own = inspect.signature(HDABackendEntrypoint.open_dataset).parameters

    assert told is not None
    assert len(set(told)) == len(told)
    assert set(told) >= {"decode_times", "mask_and_scale", "use_cftime", "group", "scan"}
    assert set(told) == {*own, *DECODERS} - {"self", "decoders"}
    taken = xr.backends.list_engines()["hda"].open_dataset_parameters
    assert taken == told


def test_what_is_not_there(served: Served, bench: Any) -> None:
    """A product that the query does not find, and a query that finds none, are not found."""
    for path in (f"{bench.query}/other.nc", f"{bench.query}/*_none_*"):
        with pytest.raises(FileNotFoundError, match=r"other\.nc|_none_"):
            xr.open_dataset(path, engine="hda", storage_options=served.options)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"just text\n" * 30, r"begins with b'just text.*, not as .* report it there"),
        (
            b"<!DOCTYPE html><html><body>Service unavailable</body></html>",
            "a page instead of the product",
        ),
    ],
)
def test_no_data_file(bench: Any, body: bytes, says: str) -> None:
    """A page that is called .nc is told by what it looks like."""
    with pytest.raises(ProductFormatError, match=says):
        Served(bench, body).open()
