"""Tiles of a query: each a node of a tree, or side by side in one data set."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hda_fsspec.engine.accessor  # noqa: F401  (registers ds.hda)
from hda_fsspec.errors import ProductMismatchError, QueryError

rasterio: Any = pytest.importorskip("rasterio")
pytest.importorskip("rioxarray")

#: rioxarray, with the affine of 2026.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

#: Four tiles of a made raster of 40 by 30 pixels, with 4 pixels of overlap, by column and row.
WINDOWS = {
    "T32TPS": (0, 15, 22, 15),
    "T32TPT": (0, 0, 22, 19),
    "T32TQS": (18, 15, 22, 15),
    "T32TQT": (18, 0, 22, 19),
}
DAYS = (1, 11)


def vpp(tile: str, day: int = 1, kind: str = "PPI") -> str:
    """Return an id in the manner of the high-resolution vegetation products."""
    return f"ST_202405{day:02}T000000_S2_{tile}-010m_V101_{kind}.tif"


def cut(source: Any, window: tuple[int, int, int, int], path: Path, offset: int = 0) -> Path:
    """Write a window of a raster: first column and row, width and height."""
    area = rasterio.windows.Window(*window)
    values = source.read(window=area) + np.asarray(offset, source.dtypes[0])
    profile = {"driver": "GTiff", "crs": source.crs, "dtype": source.dtypes[0], "count": 1}
    with rasterio.open(
        path,
        "w",
        width=window[2],
        height=window[3],
        transform=source.window_transform(area),
        nodata=source.nodata,
        **profile,
    ) as target:
        target.write(values)
    return path


def made(path: Path, crs: str = "EPSG:32632", pixel: float = 10.0) -> Any:
    """Write a raster whose values tell their places, and open it."""
    profile = {"driver": "GTiff", "crs": crs, "dtype": "float32", "count": 1}
    transform = rasterio.Affine(pixel, 0, 600_000, 0, -pixel, 5_300_000)
    with rasterio.open(path, "w", width=40, height=30, transform=transform, **profile) as target:
        target.write(np.arange(1200, dtype="f4").reshape(1, 30, 40))
    return rasterio.open(path)


def serve(
    stacks: Any,
    windows: Mapping[str, tuple[int, int, int, int]] = WINDOWS,
    days: tuple[int, ...] = DAYS,
    kinds: tuple[str, ...] = ("PPI",),
    without: str = "",
    **options: Any,
) -> None:
    """Serve tiles of the made raster; each day and each kind adds to its values."""
    with made(stacks.folder / "source.tif") as source:
        files = {
            vpp(tile, day, kind): cut(
                source,
                window,
                stacks.folder / vpp(tile, day, kind),
                offset=10_000 * day + 1000_000 * kinds.index(kind),
            )
            for tile, window in windows.items()
            for day in days
            for kind in kinds
            if vpp(tile, day, kind) != without
        }
    stacks.serve(files, **options)


def whole(day: int = 1) -> np.ndarray[Any, Any]:
    """Return what the tiles of a day were cut from."""
    values: np.ndarray[Any, Any] = np.arange(1200.0).reshape(30, 40) + 10_000 * day
    return values


def tree_of(stacks: Any, **options: Any) -> xr.DataTree:
    """Open the query as a tree."""
    return xr.open_datatree(stacks.query, engine="hda", storage_options=stacks.options, **options)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory, make_stacks: Any) -> Iterator[Any]:
    """Serve tiles to all tests that look at their values alone."""
    stacks = make_stacks(tmp_path_factory.mktemp("tiles"))
    serve(stacks)
    yield stacks
    stacks.bench.close()


@pytest.mark.slow
def test_tiles_lie_side_by_side(stacks: Any) -> None:
    """The whole is what they were cut from, in its place; one product of each was looked at."""
    serve(stacks)

    dataset = stacks.open(mosaic=True)

    assert sorted(stacks.ordered) == [vpp(tile) for tile in WINDOWS]
    assert dataset.encoding["hda_template"] == [vpp(tile) for tile in WINDOWS]
    assert dataset.band_data.dims == ("time", "band", "y", "x")
    with xr.open_dataset(stacks.folder / "source.tif", engine="rasterio") as plain:
        np.testing.assert_array_equal(dataset.x, plain.x)
        np.testing.assert_array_equal(dataset.y, plain.y)
        assert dataset.rio.crs == plain.rio.crs
        assert dataset.rio.transform() == plain.rio.transform()
        assert dataset.spatial_ref.attrs["GeoTransform"] == plain.spatial_ref.attrs["GeoTransform"]
    for number, day in enumerate(DAYS):
        np.testing.assert_array_equal(dataset.band_data[number, 0], whole(day))
    assert dataset.band_data.dtype == "float32"
    assert stacks.emulator.order_posts == stacks.emulator.downloads == 8


@pytest.mark.slow
def test_a_selection_reads_the_tiles_that_it_touches(stacks: Any) -> None:
    """Inside one tile it orders one product, and plan() knows; so it is where tiles overlap."""
    serve(stacks)
    chunks: Any
    for chunks in (None, {}):
        data = stacks.open(mosaic=True, chunks=chunks).band_data[1, 0]
        inside, overlap, corner = data[20:25, 30:35], data[0:10, 18:22], data[15:19, 18:22]

        for selection, tile, rows, columns in (
            (inside, "T32TQS", slice(20, 25), slice(30, 35)),
            (overlap, "T32TPT", slice(0, 10), slice(18, 22)),
            (corner, "T32TPS", slice(15, 19), slice(18, 22)),
        ):
            planned = [product.product_id for product in selection.hda.products]
            before = len(stacks.ordered)
            np.testing.assert_array_equal(selection, whole(11)[rows, columns])
            assert planned == [vpp(tile, 11)]
            assert stacks.ordered[before:] == ([] if chunks == {} else planned)


@pytest.mark.slow
def test_keys_of_every_kind(tiles: Any) -> None:
    """Single positions, lists, steps and reversed axes read what an array in memory would give."""
    lazy = tiles.open(mosaic=True).band_data
    values = np.stack([whole(day)[None] for day in DAYS])
    plain = xr.DataArray(values, dims=lazy.dims)

    for key in (
        {"y": 17, "x": 20},
        {"y": -1, "time": 0},
        {"y": [29, 0, 16, 16], "x": [39, 0, 19]},
        {"y": slice(None, None, -3), "x": slice(35, 2, -4)},
        {"time": [1, 0], "x": slice(0, 0)},
        {"y": xr.DataArray([1, 28], dims="p"), "x": xr.DataArray([2, 39], dims="p")},
        {"band": 0, "time": -1},
        {"band": -1},
        {"band": [-1], "y": [-2, 3]},
    ):
        np.testing.assert_array_equal(lazy.isel(key), plain.isel(key))


@pytest.mark.slow
def test_the_first_tile_counts_where_tiles_overlap(stacks: Any) -> None:
    """Of values that differ those of the first tile by id are taken, where it has a product."""
    with made(stacks.folder / "source.tif") as source:
        files = {
            vpp(tile, day): cut(source, WINDOWS[tile], stacks.folder / vpp(tile, day), offset)
            for tile, day, offset in (
                ("T32TPT", 1, 0),
                ("T32TQT", 1, 5000),
                ("T32TQT", 11, 5000),
            )
        }
    stacks.serve(files)

    data = stacks.open(mosaic=True).band_data[:, 0, 3]

    row = np.arange(40.0) + 120
    np.testing.assert_array_equal(data[0], np.where(np.arange(40) < 22, row, row + 5000))
    np.testing.assert_array_equal(data[1], np.where(np.arange(40) < 18, np.nan, row + 5000))
    assert [p.product_id for p in data[1, 18:22].hda.products] == [vpp("T32TQT", 11)]
    assert data[1, :18].hda.products == []


@pytest.mark.slow
def test_gaps_are_missing(stacks: Any) -> None:
    """Where no tile is, values are missing, and nothing is read."""
    windows = {name: WINDOWS[name] for name in ("T32TPT", "T32TQS")}
    serve(stacks, windows, days=(1,))

    data = stacks.open(mosaic=True).band_data[0, 0]

    expected = whole()
    expected[19:, :18] = expected[:15, 22:] = np.nan
    np.testing.assert_array_equal(data, expected)
    assert data[20:, :10].hda.products == []


@pytest.mark.slow
def test_kinds_of_tiles_are_variables(stacks: Any) -> None:
    """In a tree and side by side; a kind that a tile lacks is missing there."""
    serve(stacks, kinds=("PPI", "QFLAG"), days=(1,), without=vpp("T32TQT", kind="QFLAG"))

    tree = tree_of(stacks)
    side_by_side = stacks.open(mosaic=True)

    assert set(tree["T32TPS"].data_vars) == {"PPI", "QFLAG"}
    assert set(tree["T32TQT"].data_vars) == {"PPI"}
    np.testing.assert_array_equal(side_by_side.PPI[0, 0], whole())
    flags = whole() + 1000_000
    flags[:15, 22:] = np.nan
    np.testing.assert_array_equal(side_by_side.QFLAG[0, 0], flags)


@pytest.mark.slow
def test_a_node_for_each_tile(stacks: Any) -> None:
    """Each is a lazy stack, named as ids name it; one product of each was ordered."""
    serve(stacks)

    tree = tree_of(stacks, chunks={}, product_coord="product")

    assert sorted(tree.children) == sorted(WINDOWS)
    assert len(stacks.ordered) == 4
    node = tree["T32TQS"].to_dataset()
    assert node.product.values.tolist() == [vpp("T32TQS", day) for day in DAYS]
    np.testing.assert_array_equal(node.band_data[1, 0], whole(11)[15:, 18:])
    assert len(stacks.ordered) == 5
    assert node.band_data.rio.crs.to_epsg() == 32632


@pytest.mark.slow
def test_archives_of_many_files(stacks: Any) -> None:
    """Without ``member`` each product is a node, its files below; with it, each tile."""
    files = {}
    with made(stacks.folder / "source.tif") as source:
        for tile in ("T32TPS", "T32TQS"):
            name = f"PSA_20240501-142_S2_{tile}_V101"
            part = cut(source, WINDOWS[tile], stacks.folder / f"{tile}.tif")
            files[name] = stacks.folder / f"{tile}.zip"
            with zipfile.ZipFile(files[name], "w") as archive:
                for kind in ("PSA", "QA"):
                    archive.write(part, f"{name}/{name}_{kind}.tif")
    stacks.serve(files)

    tree = tree_of(stacks)
    chosen = tree_of(stacks, member="*_QA.tif")
    mosaic = stacks.open(mosaic=True, member="*_PSA.tif").band_data[0, 0]

    assert sorted(tree.children) == sorted(files)
    assert len(tree[next(iter(files))].children) == 2
    assert sorted(chosen.children) == ["T32TPS", "T32TQS"]
    np.testing.assert_array_equal(mosaic, whole(0)[15:])


@pytest.mark.slow
def test_tiles_open_again_without_an_order(stacks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers are kept, and tasks travel: a mosaic pickles small and reads elsewhere."""
    serve(stacks, days=(1,))
    for name in ("user", "password"):
        monkeypatch.setenv(f"HDA_{name.upper()}", stacks.options[name])
    stacks.open(mosaic=True)
    stacks.evict()
    orders = stacks.emulator.downloads

    again = stacks.open(mosaic=True, chunks={})

    assert stacks.emulator.downloads == orders
    data = pickle.dumps(again.band_data)
    assert len(data) < 60_000
    np.testing.assert_array_equal(pickle.loads(data)[0, 0], whole())
    assert again.band_data.data.name == stacks.open(mosaic=True, chunks={}).band_data.data.name
    assert again.band_data.chunks == ((1,), (1,), (15, 4, 11), (18, 4, 18))


@pytest.mark.slow
def test_orders_of_several_tiles_go_out_together(stacks: Any) -> None:
    """Templates at opening, and what a read without Dask touches."""
    serve(stacks)
    stacks.emulator.hold_orders(2)
    dataset = stacks.open(mosaic=True)
    assert stacks.emulator.max_in_preparation == 2  # where they lie is told by no code
    stacks.emulator.hold_orders(4)

    dataset.band_data[1:].load()

    assert stacks.emulator.max_in_preparation == 4
    assert stacks.emulator.order_posts == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel": 20.0}, r"the resolution along 'y' is 10 and 20"),
        ({"shift": 3.0}, r"pixels are 0\.3 of a pixel apart along 'x'"),
        ({"crs": "EPSG:3035"}, r"systems are WGS 84 / UTM zone 32N and ETRS89.* LAEA"),
    ],
)
def test_tiles_of_other_grids(stacks: Any, change: Mapping[str, Any], message: str) -> None:
    """The error names both tiles, and what differs."""
    paths = {}
    for number, name in enumerate((vpp("T32TPS"), vpp("T32TQS"))):
        own = dict(change) if number else {}
        pixel, crs = own.get("pixel", 10.0), own.get("crs", "EPSG:32632")
        paths[name] = stacks.folder / name
        west = 600_000 + number * 400 + own.get("shift", 0.0)
        transform = rasterio.Affine(pixel, 0, west, 0, -pixel, 5_300_000)
        profile = {"driver": "GTiff", "crs": crs, "dtype": "uint8", "count": 1}
        with rasterio.open(
            paths[name], "w", width=40, height=40, transform=transform, **profile
        ) as target:
            target.write(np.zeros((1, 40, 40), "u1"))
    stacks.serve(paths)

    with pytest.raises(ProductMismatchError, match=message) as refused:
        stacks.open(mosaic=True)

    assert all(name in str(refused.value) for name in paths)
    assert "open_datatree" in str(refused.value)


def test_tiles_of_two_zones_cost_no_order(stacks: Any, cases: Path) -> None:
    """Their names tell their reference systems."""
    paths = sorted((cases / "utm-tiles").glob("*.tif"))
    stacks.serve({path.name: path for path in paths})

    with pytest.raises(ProductMismatchError, match=r"T31TCJ lies in zone 31N.*T32TLP in zone 32N"):
        stacks.open(mosaic=True)

    assert stacks.ordered == []
    assert sorted(tree_of(stacks).children) == ["T31TCJ", "T32TLP"]


@pytest.mark.slow
def test_too_many_tiles(stacks: Any) -> None:
    """More than twenty are refused before an order, unless all headers are read anyway."""
    windows = {f"T32TP{letter}": (0, n, 40, 1) for n, letter in enumerate("ABCDEFGHJKLMNPQRSTUV")}
    serve(stacks, {**windows, "T32TQA": (0, 20, 40, 1)}, days=(1,))

    with pytest.raises(QueryError, match=r"21 tiles .*no more than 20.*scan=True.*21 products"):
        stacks.open(mosaic=True)
    assert stacks.ordered == []
    found = stacks.open(mosaic=True, scan=True)
    np.testing.assert_array_equal(found.band_data[0, 0], whole()[:21])


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        ("T32TPS", {"mosaic": True}, "names one product"),
        (None, {"mosaic": "yes"}, "True or False"),
        (None, {"mosaic": True, "product_coord": "p"}, "a time has several"),
        (None, {"mosaic": True, "split": "month"}, "Leave one of the two out"),
    ],
)
def test_options_that_make_no_mosaic(stacks: Any, query: Any, options: Any, message: str) -> None:
    """They are refused before an order."""
    serve(stacks, days=(1,))
    path = None if query is None else f"{stacks.query[:-1]}{vpp(query)}"

    with pytest.raises(QueryError, match=message):
        stacks.open(path, **options)

    assert stacks.ordered == []


def test_one_stack_of_tiles_is_refused(stacks: Any) -> None:
    """The error names both ways."""
    serve(stacks, days=(1,), fields={"bbox": _box_of})

    with pytest.raises(QueryError, match=r"as tiles do.*mosaic=True.*open_datatree"):
        stacks.open()

    assert stacks.ordered == []


def _box_of(name: str) -> tuple[float, float, float, float]:
    column, row = "PQ".index(name[26]), "ST".index(name[27])
    return (9.0 + column, 47.0 + row, 10.1 + column, 48.1 + row)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "name", "size"),
    [
        (
            "geotiff/Copernicus_DSM_COG_10_N00_00_E006_00_DEM.tif",
            "Copernicus_DSM_COG_10_N00_00_E00{}_00_DEM",
            1200,
        ),
        ("geotiff/S2A_29RKH_20200219_0_L2A/B04.tif", "S2A_29RK{:.0}{}_20200219_L2A.tif", 500),
    ],
)
def test_neighbours_cut_from_a_real_raster(
    stacks: Any, shared_data: Path, path: str, name: str, size: int
) -> None:
    """Side by side they are the raster that they were cut from, in place and values."""
    ids = [name.format("" if "{:.0}" in name else n, "HJK"[n - 6]) for n in (6, 7, 8)]
    with rasterio.open(shared_data / path) as source:
        height = source.height // 4
        paths = {
            each: cut(source, (number * size, 7, size, height), stacks.folder / f"{number}.tif")
            for number, each in enumerate(ids)
            if number * size + size <= source.width
        }
        expected = source.read(1, window=((7, 7 + height), (0, len(paths) * size)))
        transform = source.window_transform(rasterio.windows.Window(0, 7, size, height))
    day = {"startdate": "2020-02-19T00:00:00.000Z", "enddate": "2020-02-19T12:00:00.000Z"}
    stacks.serve(paths, fields=day)

    dataset = stacks.open(mosaic=True, mask_and_scale=False)

    np.testing.assert_array_equal(dataset.band_data[0, 0], expected)
    assert dataset.band_data.dtype == expected.dtype
    np.testing.assert_allclose(dataset.rio.transform(), transform, rtol=1e-12)
    assert dataset.rio.transform(recalc=True).almost_equals(transform, precision=1e-9)
    assert len(paths) > 1


def test_tiles_of_the_european_grid(stacks: Any) -> None:
    """Kilometres east and north are names of tiles; the system is ETRS89-LAEA."""
    names = {"E43N30": (0, 10, 20, 10), "E44N31": (20, 0, 20, 10)}
    with made(stacks.folder / "source.tif", crs="EPSG:3035", pixel=100.0) as source:
        files = {
            f"CLMS_HRLVLCC_GRA_S2018_R100m_{tile}_03035_V01_R00": cut(
                source, window, stacks.folder / f"{tile}.tif"
            )
            for tile, window in names.items()
        }
    year = {"startdate": "2018-01-01T00:00:00.000Z", "enddate": "2018-12-31T23:59:59.999Z"}
    stacks.serve(files, fields=year)

    assert sorted(tree_of(stacks).children) == sorted(names)
    dataset = stacks.open(mosaic=True)
    assert dataset.rio.crs.to_epsg() == 3035
    expected = np.arange(1200.0).reshape(30, 40)[:20]
    expected[:10, :20] = expected[10:, 20:] = np.nan
    np.testing.assert_array_equal(dataset.band_data[0, 0], expected)


@pytest.mark.slow
def test_netcdf_tiles(stacks: Any) -> None:
    """Tiles of latitude and longitude, with times of their own and a coordinate of both."""

    def tile(west: float, days: list[int]) -> xr.Dataset:
        lon, lat = west + np.arange(4.0), 50 - np.arange(3.0)
        times = np.array([f"2024-05-{day:02}" for day in days], "datetime64[ns]")
        values = np.array(days)[:, None, None] + np.zeros((1, 3, 1)) + lon / 100
        return xr.Dataset(
            {"lai": (("time", "lat", "lon"), values), "crs": ((), 0, {"epsg_code": "EPSG:4326"})},
            coords={
                "time": times,
                "lat": ("lat", lat, {"standard_name": "latitude"}),
                "lon": ("lon", lon, {"standard_name": "longitude"}),
                "height": (("lat", "lon"), lon + 10 * lat[:, None]),
            },
        )

    files = {
        "c_LAI_20240501_X00Y01.nc": tile(0, [1]),
        "c_LAI_20240501_X01Y01.nc": tile(4, [1]),
        "c_LAI_20240511_X01Y01.nc": tile(4, [11]),
    }
    stacks.serve(files)

    dataset = stacks.open(mosaic=True, chunks={})

    lon = np.arange(8.0)
    np.testing.assert_array_equal(dataset.lon, lon)
    np.testing.assert_array_equal(dataset.height, lon + 10 * dataset.lat.values[:, None])
    assert "height" in dataset.coords
    expected = np.stack([1 + lon / 100, np.where(lon < 4, np.nan, 11 + lon / 100)])
    np.testing.assert_array_equal(dataset.lai[:, 1], expected)
    assert dataset.lai.hda.products == dataset.hda.products


@pytest.mark.slow
def test_expressions_of_dask(stacks: Any) -> None:
    """Expressions of Dask read each product of what they touch once."""
    serve(stacks)
    data = stacks.open(mosaic=True, chunks={}).band_data

    found = data.mean("time")[0, ::2, ::2].compute(scheduler="threads")

    np.testing.assert_array_equal(found, (whole(1) / 2 + whole(11) / 2)[::2, ::2])

    assert stacks.emulator.order_posts == stacks.emulator.downloads == 8
