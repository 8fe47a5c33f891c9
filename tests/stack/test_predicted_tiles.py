"""Tiles whose codes tell where they lie are opened when they are read, and checked then."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hda_fsspec.engine.accessor  # noqa: F401  (registers ds.hda)
from hda_fsspec.errors import ProductMismatchError

rasterio: Any = pytest.importorskip("rasterio")
pytest.importorskip("rioxarray")

#: rioxarray, with the affine of 2026.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

DEM = "geotiff/Copernicus_DSM_COG_10_N00_00_E006_00_DEM.tif"


def serve_degrees(stacks: Any, shared_data: Path, shift: Mapping[int, float] | None = None) -> Any:
    """Serve four tiles of a degree each, of every sixtieth pixel of a real one, and return that."""
    files = {}
    with rasterio.open(shared_data / DEM) as source:
        values = source.read(1)[::60, ::60]
        transform = source.transform
    for number, east in enumerate((6, 7, 8, 10)):
        name = f"Copernicus_DSM_COG_10_N00_00_E{east:03}_00_DEM"
        files[name] = stacks.folder / f"{number}.tif"
        west = transform.c + east - 6 + (shift or {}).get(east, 0.0)
        place = rasterio.Affine(1 / 60, 0, west, 0, -1 / 60, transform.f)
        profile = {"driver": "GTiff", "crs": "EPSG:4326", "dtype": "float32", "count": 1}
        with rasterio.open(
            files[name], "w", width=60, height=60, transform=place, **profile
        ) as target:
            target.write(values[None] + 1000 * number)
    day = {"startdate": "2020-02-19T00:00:00.000Z", "enddate": "2020-02-19T12:00:00.000Z"}
    stacks.serve(files, fields=day)
    return values


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, {}])
def test_tiles_whose_codes_tell_their_places(
    stacks: Any, shared_data: Path, chunks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them are looked at, and the others when they are read: a box orders its tile."""
    values = serve_degrees(stacks, shared_data)
    for name in ("user", "password"):
        monkeypatch.setenv(f"HDA_{name.upper()}", stacks.options[name])
    ids = [f"Copernicus_DSM_COG_10_N00_00_E{east:03}_00_DEM" for east in (6, 7, 8, 10)]

    dataset = stacks.open(mosaic=True, chunks=chunks)
    data = pickle.loads(pickle.dumps(dataset)).band_data[0, 0]

    assert set(stacks.ordered) == {ids[0], ids[3]}
    assert data.shape == (60, 300)
    box = data.sel(x=slice(8.1, 8.4), y=slice(0.6, 0.3))
    assert [product.product_id for product in box.hda.products] == [ids[2]]
    np.testing.assert_array_equal(box, (values + 2000)[24:42, 6:24])
    assert set(stacks.ordered) == {ids[0], ids[3], ids[2]}
    expected = [values, values + 1000, values + 2000, values * np.nan, values + 3000]
    np.testing.assert_array_equal(data, np.concatenate(expected, axis=1))
    assert stacks.emulator.order_posts == stacks.emulator.downloads == 4


@pytest.mark.slow
def test_a_tile_that_is_not_where_its_code_says(stacks: Any, shared_data: Path) -> None:
    """It is an error that names it when it is read; the others are read as ever."""
    values = serve_degrees(stacks, shared_data, shift={8: 0.5})

    data = stacks.open(mosaic=True).band_data[0, 0]

    np.testing.assert_array_equal(data[:, :120], np.concatenate([values, values + 1000], axis=1))
    with pytest.raises(ProductMismatchError, match=r"E008_00_DEM cannot .*begins at x = 8\.5"):
        data[:, 130:140].load()
    found = stacks.open(mosaic=True, scan=True)
    assert found.sizes["x"] == 300
    np.testing.assert_array_equal(found.band_data[0, 0, :, 150:210], values + 2000)


@pytest.mark.slow
@pytest.mark.parametrize("is_far", [False, True])
def test_tiles_whose_values_mean_other_things(stacks: Any, is_far: bool) -> None:
    """Another unit or packing is an error: of tiles that are looked at when they are read, then."""

    def tile(number: int, units: str) -> Path:
        path: Path = stacks.folder / f"{number}.tif"
        transform = rasterio.Affine(10_000, 0, 4_300_000 + 100_000 * number, 0, -10_000, 3_100_000)
        profile = {"driver": "GTiff", "crs": "EPSG:3035", "dtype": "int16", "count": 1}
        with rasterio.open(
            path, "w", width=10, height=10, transform=transform, **profile
        ) as target:
            target.write(np.full((1, 10, 10), number, "i2"))
            target.update_tags(1, units=units)
            target.scales = (0.5 if units == "K" else 0.25,)
        return path

    units = ["K", "C" if is_far else "K", "K" if is_far else "C"]
    names = [f"T_R10km_E{43 + number}N30_V1.tif" for number in range(3)]
    stacks.serve(
        {name: tile(n, units[n]) for n, name in enumerate(names)},
        fields={"startdate": "2018-01-01T00:00:00.000Z"},
    )

    with pytest.raises(
        ProductMismatchError, match=r"(units|scale_factor) of 'band_data' is"
    ) as odd:
        stacks.open(mosaic=True, mask_and_scale=False).band_data[0, 0, 0, 15].load()

    assert names[1 if is_far else 2] in str(odd.value)
    assert set(stacks.ordered) == (set(names) if is_far else {names[0], names[2]})


@pytest.mark.parametrize(
    ("change", "is_far"),
    [
        ("system", True),
        ("height", False),
        ("height", True),
        ("unit of a side", False),
        ("lacks height", True),
    ],
)
def test_tiles_that_differ_in_what_they_share(stacks: Any, is_far: bool, change: str) -> None:
    """What lies along neither side is compared of every tile, at once or when it is read."""

    def tile(number: int, *, is_odd: bool) -> Path:
        odd = change if is_odd else None
        path: Path = stacks.folder / f"{number}.nc"
        side = {"units": "km" if odd == "unit of a side" else "m"}
        ds = xr.Dataset(
            {
                "v": (("y", "x"), np.full((10, 10), float(number)), {"grid_mapping": "crs"}),
            },
            {
                "crs": ((), 0, {"grid_mapping_name": "lambert_azimuthal_equal_area"}),
                "x": ("x", 4_305_000.0 + 100_000 * number + 10_000 * np.arange(10), side),
                "y": ("y", 3_095_000.0 - 10_000 * np.arange(10), {"units": "m"}),
                "height": ((), 10.0 if odd == "height" else 2.0, {"units": "m"}),
            },
        )
        if odd == "system":
            ds.crs.attrs.clear()
        if odd == "lacks height":
            ds = ds.drop_vars("height")
        ds.to_netcdf(path)
        return path

    names = [f"T_R10km_E{43 + number}N30_V1.nc" for number in range(3)]
    odd = 1 if is_far else 2
    stacks.serve(
        {name: tile(n, is_odd=n == odd) for n, name in enumerate(names)},
        fields={"startdate": "2018-01-01T00:00:00.000Z"},
    )

    with pytest.raises(ProductMismatchError) as caught:
        stacks.open(mosaic=True).v[0, 0, 15].load()

    assert names[odd] in str(caught.value)


def test_what_a_grid_mapping_holds_is_no_difference(stacks: Any) -> None:
    """Its attributes count, and not its value, which may be missing or any number."""

    def tile(number: int) -> Path:
        path: Path = stacks.folder / f"{number}.nc"
        name = {"grid_mapping_name": "lambert_azimuthal_equal_area"}
        xr.Dataset(
            {"v": (("y", "x"), np.full((10, 10), float(number)), {"grid_mapping": "crs"})},
            {
                "x": 4_305_000.0 + 100_000 * number + 10_000 * np.arange(10),
                "y": 3_095_000.0 - 10_000 * np.arange(10),
                "crs": ((), np.nan if number else 0.0, name),
                "height": ((), np.nan, {"units": "m"}),
            },
        ).to_netcdf(path)
        return path

    stacks.serve(
        {f"T_R10km_E{43 + number}N30_V1.nc": tile(number) for number in range(3)},
        fields={"startdate": "2018-01-01T00:00:00.000Z"},
    )

    for options in ({}, {"scan": True}):
        values = stacks.open(mosaic=True, **options).v[0, 0].values
        assert values.tolist() == [0.0] * 10 + [1.0] * 10 + [2.0] * 10
