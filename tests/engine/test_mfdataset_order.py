"""The classical way loses nothing: products without a time get the catalogue's, or are refused."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from ready_processes import ready_processes

import hda_fsspec
from hda_fsspec.errors import ProductMismatchError

rasterio = pytest.importorskip("rasterio")
pytest.importorskip("rioxarray")

pytestmark = [
    # rioxarray, with the affine of 2026
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:In a future version of xarray:FutureWarning"),
]

HEIGHT, WIDTH = 3, 4


def write(path: Path, value: float, *, west: int = 0, crs: str = "EPSG:3035") -> Path:
    """Write a raster of one value, of tiles that lie side by side."""
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": crs}
    place = rasterio.Affine(10, 0, west, 0, -10, 0)
    with rasterio.open(path, "w", height=HEIGHT, width=WIDTH, transform=place, **profile) as raster:
        raster.write(np.full((1, HEIGHT, WIDTH), value, "u1"))
    return path


class Rasters:
    """Rasters that a test writes and opens the classical way."""

    def __init__(self, stacks: Any) -> None:
        self.stacks = stacks

    def serve(self, rasters: dict[str, dict[str, Any]], **more: Any) -> None:
        """Write and serve rasters by id."""
        folder = self.stacks.folder
        self.stacks.serve(
            {name: write(folder / name, **each) for name, each in rasters.items()}, **more
        )

    def combine(self, **options: Any) -> Any:
        """Open all of them, and return them with their values."""
        with hda_fsspec.open_mfdataset(
            self.stacks.query, storage_options=self.stacks.options, **options
        ) as ds:
            return ds.load()


@pytest.fixture
def rasters(stacks: Any) -> Rasters:
    """No rasters yet."""
    return Rasters(stacks)


@pytest.fixture(scope="module")
def dates(tmp_path_factory: pytest.TempPathFactory, make_stacks: Any) -> Iterator[Rasters]:
    """Serve rasters of several dates."""
    rasters = Rasters(make_stacks(tmp_path_factory.mktemp("dates")))
    rasters.serve(DATES)
    yield rasters
    rasters.stacks.bench.close()


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory, make_stacks: Any) -> Iterator[Rasters]:
    """Serve rasters of two reference systems, each of a date of its own."""
    rasters = Rasters(make_stacks(tmp_path_factory.mktemp("zones")))
    rasters.serve(
        {
            f"T3{zone}_2024050{zone}.tif": {"value": zone, "crs": f"EPSG:3263{zone}"}
            for zone in (1, 2)
        }
    )
    yield rasters
    rasters.stacks.bench.close()


DATES: dict[str, dict[str, Any]] = {f"r_2024050{day}.tif": {"value": day} for day in (1, 2, 3)}
TILES: dict[str, dict[str, Any]] = {
    f"{tile}_2024050{day}.tif": {"value": day + value, "west": west}
    for day in (1, 2)
    for tile, value, west in (("A", 0, 40), ("B", 10, 0))
}
WAYS: list[dict[str, Any]] = [
    {},
    {"combine": "by_coords"},
    {"combine": "nested", "concat_dim": "time"},
    {"combine": "nested", "concat_dim": ["time"]},
    {"parallel": True},
]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_dates_are_all_there(dates: Rasters, way: dict[str, Any]) -> None:
    """Rasters of several dates lie along the catalogue's time, as the lazy query has them."""
    ds = dates.combine(**way)

    whole = xr.open_dataset(dates.stacks.query, engine="hda", storage_options=dates.stacks.options)
    assert ds["band_data"].dims == whole["band_data"].dims == ("time", "band", "y", "x")
    assert ds["band_data"].dtype == whole["band_data"].dtype
    assert ds["time"].dtype == whole["time"].dtype
    assert ds["time"].attrs == whole["time"].attrs
    xr.testing.assert_equal(ds, whole.load())
    assert ds["band_data"][:, 0, 0, 0].to_numpy().tolist() == [1.0, 2.0, 3.0]
    assert ds["time"].to_numpy().astype("M8[D]").astype(str).tolist() == [
        f"2024-05-0{day}" for day in (1, 2, 3)
    ]


@pytest.mark.slow
def test_tiles_of_several_dates(rasters: Rasters) -> None:
    """Two tiles at two dates are a grid of four, and none stands where another belongs."""
    rasters.serve(TILES)

    ds = rasters.combine()

    assert dict(ds.sizes) == {"time": 2, "band": 1, "y": HEIGHT, "x": 2 * WIDTH}
    assert ds["x"].to_numpy().tolist() == [5.0 + 10 * step for step in range(8)]
    assert ds["band_data"][:, 0, 0, :].to_numpy().tolist() == [
        [11.0] * WIDTH + [1.0] * WIDTH,
        [12.0] * WIDTH + [2.0] * WIDTH,
    ]
    # The affine transform of the first product would put the whole four columns aside.
    assert ds.rio.transform() == rasterio.Affine(10, 0, 0, 0, -10, 0)
    assert str(ds.rio.crs) == "EPSG:3035"


@pytest.mark.slow
def test_tiles_that_lack_a_date(rasters: Rasters) -> None:
    """Where there is no product there are missing values, not those of another date."""
    rasters.serve({name: TILES[name] for name in list(TILES)[:3]})

    values = rasters.combine()["band_data"][:, 0, 0, :].to_numpy()

    assert values[0].tolist() == [11.0] * WIDTH + [1.0] * WIDTH
    assert np.isnan(values[1, :WIDTH]).all()
    assert values[1, WIDTH:].tolist() == [2.0] * WIDTH


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "more"),
    [({}, {"S_B02_20240502.tif": {"value": 5, "west": 40}}), ({"parallel": True}, {})],
    ids=str,
)
def test_bands_are_refused(rasters: Rasters, way: dict[str, Any], more: dict[str, Any]) -> None:
    """Two bands of one date would be one: the error names both, and the ways that exist."""
    bands = {f"S_B0{band}_20240501.tif": {"value": band} for band in (2, 3)}
    rasters.serve({**bands, **more})

    with pytest.raises(ProductMismatchError, match=r"B02_20240501.* and .*B03_20240501") as caught:
        rasters.combine(**way)

    for word in ("preprocess", "rename", "nested", "open_datatree", "pattern"):
        assert word in str(caught.value)
    assert "two versions" not in str(caught.value)


@pytest.mark.slow
def test_bands_that_are_told_apart(rasters: Rasters) -> None:
    """Variables with names of their own are kept, each at its time."""
    rasters.serve({f"S_B0{band}_2024050{day}.tif": {"value": band + 10 * day}
                   for band in (2, 3) for day in (1, 2)})  # fmt: skip

    def named(ds: xr.Dataset) -> xr.Dataset:
        return ds.rename(band_data=ds.encoding["source"].rpartition("/")[2].split("_")[1])

    ds = rasters.combine(preprocess=named)

    assert ds["B02"][:, 0, 0, 0].to_numpy().tolist() == [12.0, 22.0]
    assert ds["B03"][:, 0, 0, 0].to_numpy().tolist() == [13.0, 23.0]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_zones_are_refused(zones: Rasters, way: dict[str, Any]) -> None:
    """Equal numbers in two coordinate reference systems are not one place."""
    with pytest.raises(
        ProductMismatchError, match=r"spatial_ref mean other things.*attribute crs_wkt differs"
    ):
        zones.combine(**way)


def test_a_time_of_the_caller_counts(dates: Rasters) -> None:
    """What preprocess makes of a product is not touched where it has a time."""
    hours = iter(range(3))

    def timed(ds: xr.Dataset) -> xr.Dataset:
        return ds.expand_dims(time=[np.datetime64(f"2020-01-01T0{next(hours)}", "ns")])

    times = dates.combine(preprocess=timed)["time"].to_numpy()

    assert times.astype("M8[h]").astype(str).tolist() == [f"2020-01-01T0{n}" for n in range(3)]


@pytest.mark.slow
def test_other_dimensions_get_no_time(dates: Rasters) -> None:
    """Who asks for a dimension of his own gets that one alone."""
    ds = dates.combine(combine="nested", concat_dim="product")

    assert ds["band_data"].dims == ("product", "band", "y", "x")
    assert "time" not in ds.variables


def test_without_a_time_anywhere(rasters: Rasters) -> None:
    """Where the catalogue tells none either, it is refused."""
    rasters.serve(DATES, fields={"startdate": "", "enddate": ""})

    with pytest.raises(ProductMismatchError, match="at the same coordinates"):
        rasters.combine()


def grid(day: int, value: float, **coords: Any) -> xr.Dataset:
    """Return a netCDF grid of one value."""
    data = xr.Dataset(
        {"v": (("y", "x"), np.full((2, 2), value))}, coords={"x": [1, 2], "y": [1, 2]}
    )
    return data.assign_coords({name: each(day) for name, each in coords.items()})


def noon(day: int) -> np.datetime64:
    """Return the noon of a day."""
    return np.datetime64(f"2024-05-{day:02}T12:00", "ns")


@pytest.mark.slow
def test_a_scalar_time_is_a_step(stacks: Any) -> None:
    """Files of one scalar time lie along it, at the time that they store."""
    stacks.serve({f"n_2024050{day}.nc": grid(day, day, time=noon) for day in (1, 2, 3)})

    with hda_fsspec.open_mfdataset(stacks.query, storage_options=stacks.options) as ds:
        assert ds["time"].to_numpy().tolist() == [noon(day).tolist() for day in (1, 2, 3)]
        assert ds["v"][:, 0, 0].to_numpy().tolist() == [1.0, 2.0, 3.0]


@pytest.mark.slow
def test_versions_of_one_product_are_refused(stacks: Any) -> None:
    """Of two products at one time none is dropped in silence."""
    days = {"NR_20240501.nc": (1, 1.0), "NT_20240501.nc": (1, 2.0), "NT_20240502.nc": (2, 3.0)}
    stacks.serve(
        {
            name: grid(day, value).expand_dims(time=[noon(day)])
            for name, (day, value) in days.items()
        }
    )

    with pytest.raises(ProductMismatchError, match=r"NR_20240501\.nc and NT_20240501\.nc"):
        hda_fsspec.open_mfdataset(stacks.query, storage_options=stacks.options)
    narrow = f"{stacks.query}NT_*"
    with hda_fsspec.open_mfdataset(narrow, storage_options=stacks.options) as ds:
        assert ds["v"][:, 0, 0].to_numpy().tolist() == [2.0, 3.0]


@pytest.mark.slow
@pytest.mark.parametrize("attribute", ["units", "flag_meanings", "grid_mapping_name"])
def test_other_meanings_are_refused(stacks: Any, attribute: str) -> None:
    """Numbers of other units, flags or grids are not put under the attributes of the first."""
    days = {f"n_2024050{day}.nc": grid(day, float(day), time=noon) for day in (1, 2)}
    for ds, value in zip(days.values(), ("one thing", "other thing"), strict=True):
        ds["v"].attrs[attribute] = value
    stacks.serve(days)

    with pytest.raises(ProductMismatchError, match=f"{attribute} differs.*one thing") as caught:
        hda_fsspec.open_mfdataset(stacks.query, storage_options=stacks.options)
    assert "n_20240501.nc and n_20240502.nc" in str(caught.value)

    def agreeing(ds: xr.Dataset) -> xr.Dataset:
        ds["v"].attrs[attribute] = "one thing"
        return ds

    with hda_fsspec.open_mfdataset(
        stacks.query, storage_options=stacks.options, preprocess=agreeing
    ) as ds:
        assert ds["v"][:, 0, 0].to_numpy().tolist() == [1.0, 2.0]


def test_raw_numbers_of_other_packing_are_refused(stacks: Any) -> None:
    """What is not decoded is not put under the scale of the first."""
    days = {f"n_2024050{day}.nc": grid(day, float(day), time=noon) for day in (1, 2)}
    for ds, factor in zip(days.values(), (0.5, 0.25), strict=True):
        ds["v"].encoding.update(dtype="i2", scale_factor=factor, _FillValue=-1)
    stacks.serve(days)
    with hda_fsspec.open_mfdataset(stacks.query, storage_options=stacks.options) as ds:
        assert ds["v"][:, 0, 0].to_numpy().tolist() == [1.0, 2.0]

    with pytest.raises(ProductMismatchError, match="scale_factor differs"):
        hda_fsspec.open_mfdataset(
            stacks.query, storage_options=stacks.options, mask_and_scale=False
        )


@pytest.mark.slow
def test_products_opened_elsewhere_are_looked_at(
    rasters: Rasters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In processes of their own products get their times, and what would be lost is refused."""
    rasters.serve({**DATES, "S_20240502.tif": {"value": 9}})
    for name, value in rasters.stacks.emulator.environment.items():
        monkeypatch.setenv(name, value)

    with (
        ready_processes(),
        dask.config.set(scheduler="processes", num_workers=1),
        pytest.raises(ProductMismatchError, match=r"S_20240502\.tif and r_20240502\.tif|r_2024"),
    ):
        rasters.combine(parallel=True)


def test_what_prepares_products_travels_light() -> None:
    """It carries times, and nothing of what was seen here."""
    from hda_fsspec.engine.mfdataset import _Prepare

    prepare = _Prepare({"hda://EO:X/a": "2024-05-01T00:00:00.000Z"}, None, along=None)
    dataset = xr.Dataset({"v": ("x", [1.0])}, coords={"x": [1]})
    dataset.encoding["source"] = "hda://EO:X/a"
    assert prepare(dataset)["time"].to_numpy().astype(str).tolist() == [
        "2024-05-01T00:00:00.000000000"
    ]

    again = pickle.loads(pickle.dumps(prepare))

    assert prepare.seen
    assert not again.seen
    xr.testing.assert_identical(again(dataset), prepare(dataset))
