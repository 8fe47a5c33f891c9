"""Products of one place and time that differ in kind are variables of one data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rows import for_each

import hda_fsspec.engine.accessor  # noqa: F401  (registers ds.hda)
from hda_fsspec.errors import ProductMismatchError, QueryError
from hda_fsspec.records import Product
from hda_fsspec.stack.product_kinds import find_kinds

#: rioxarray, with the affine of 2026.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
BOX = (9.0, 47.0, 10.0, 48.0)
DAYS = (1, 11, 21)


def vpp(day: int, kind: str) -> str:
    """Return an id in the manner of the high-resolution vegetation products."""
    return f"ST_202405{day:02}T000000_S2_T32TPS-010m_V101_{kind}.tif"


def raster(
    path: Path, value: float, dtype: str = "i2", size: int = 4, crs: str = "EPSG:32632"
) -> Path:
    """Write a raster of one value."""
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.Affine(10, 0, 600_000, 0, -10, 5_300_000)
    shape = {"width": size, "height": size, "count": 1}
    options = {"driver": "GTiff", "dtype": np.dtype(dtype).name, "crs": crs}
    with rasterio.open(path, "w", transform=transform, **shape, **options) as target:
        target.write(np.full((1, size, size), value, dtype))
    return path


def serve_rasters(stacks: Any, values: Mapping[str, Mapping[int, float]], **given: Any) -> None:
    """Serve rasters of kinds and days."""
    files = {
        vpp(day, kind): raster(stacks.folder / vpp(day, kind), value, **given.get(kind, {}))
        for kind, days in values.items()
        for day, value in days.items()
    }
    stacks.serve(files, fields={"bbox": lambda _: BOX})


def every_day(offset: float) -> dict[int, float]:
    """Return a value for each day."""
    return {day: offset + day for day in DAYS}


@pytest.mark.slow
def test_rasters_of_two_kinds_are_variables(stacks: Any) -> None:
    """Each is called by what tells its ids from the others; one order of each shows what it is."""
    serve_rasters(stacks, {"PPI": every_day(100), "QFLAG": every_day(0)}, QFLAG={"dtype": "u1"})

    dataset = stacks.open(chunks={})

    assert set(dataset.data_vars) == {"PPI", "QFLAG"}
    assert stacks.ordered == [vpp(1, "PPI"), vpp(1, "QFLAG")]
    assert dataset.encoding["hda_template"] == stacks.ordered
    assert dataset.PPI.dims == ("time", "band", "y", "x")
    np.testing.assert_array_equal(dataset.PPI[:, 0, 0, 0], [101, 111, 121])
    np.testing.assert_array_equal(dataset.QFLAG[:, 0, 0, 0], [1, 11, 21])
    assert dataset.rio.crs.to_epsg() == 32632


@pytest.mark.slow
def test_reading_one_kind_orders_no_other(stacks: Any) -> None:
    """Neither plan() nor reading knows of products of the other kind."""
    serve_rasters(stacks, {"PPI": every_day(100), "QFLAG": every_day(0)})
    dataset = stacks.open()

    planned = [product.product_id for product in dataset.PPI.hda.products]
    dataset.PPI.load()

    assert planned == [vpp(day, "PPI") for day in DAYS]
    assert set(stacks.ordered) == {*planned, vpp(1, "QFLAG")}


@pytest.mark.slow
def test_a_kind_that_has_a_gap(stacks: Any) -> None:
    """Where a kind has no product its values are missing, and those of the others are there."""
    serve_rasters(stacks, {"PPI": every_day(100), "QFLAG": {1: 1, 21: 3}}, QFLAG={"dtype": "u1"})

    dataset = stacks.open(chunks={}, mask_and_scale=False)

    assert dataset.PPI.dtype == "int16"
    assert dataset.QFLAG.dtype == "float32"
    np.testing.assert_array_equal(dataset.PPI[:, 0, 0, 0], [101, 111, 121])
    np.testing.assert_array_equal(dataset.QFLAG[:, 0, 0, 0], [1, np.nan, 3])
    assert [p.product_id for p in dataset.QFLAG[1].hda.products] == []


def test_one_kind_by_itself_is_as_ever(stacks: Any) -> None:
    """A pattern that leaves one kind opens it alone."""
    serve_rasters(stacks, {"PPI": every_day(100), "QFLAG": every_day(0)})

    dataset = stacks.open(f"hda://{stacks.dataset}/*PPI.tif")

    assert list(dataset.data_vars) == ["band_data"]
    assert len(stacks.ordered) == 1


@pytest.mark.slow
def test_ids_of_products(stacks: Any) -> None:
    """A coordinate for each kind names the products of the times."""
    serve_rasters(stacks, {"PPI": every_day(100), "QFLAG": {1: 1, 21: 3}})

    dataset = stacks.open(product_coord="product")

    assert dataset.product_PPI.values.tolist() == [vpp(day, "PPI") for day in DAYS]
    assert dataset.product_QFLAG.values.tolist() == [vpp(1, "QFLAG"), "", vpp(21, "QFLAG")]


@pytest.mark.slow
def test_kinds_of_another_grid(stacks: Any) -> None:
    """Kinds that share no grid are refused when they are opened."""
    serve_rasters(stacks, {"PPI": every_day(100), "QFLAG": every_day(0)}, QFLAG={"size": 5})

    with pytest.raises(ProductMismatchError, match="has 5 elements, not 4"):
        stacks.open()


@pytest.mark.slow
def test_what_a_data_set_holds_is_the_same_whatever_is_local(stacks: Any) -> None:
    """Another template of a kind changes neither names nor Dask's tokens."""
    serve_rasters(stacks, {"PPI": every_day(100), "QFLAG": {1: 1, 21: 3}})
    first = stacks.open(chunks={})
    names = {name: first[name].data.name for name in first.data_vars}
    first.QFLAG[2].load()
    first.PPI[1].load()
    entries = stacks.client.cache.entries()
    for entry in entries:
        if entry.product.startdate.startswith("2024-05-01"):
            stacks.client.cache.remove(entry.product)

    again = stacks.open(chunks={})

    assert {name: again[name].data.name for name in again.data_vars} == names


def gridded(day: int, **values: float) -> xr.Dataset:
    """Return a day's variables on one grid."""
    return xr.Dataset(
        {
            **{name: (("time", "x"), [[v, v]], {"long_name": name}) for name, v in values.items()},
            "crs": ((), 0, {"grid_mapping_name": "latitude_longitude"}),
        },
        coords={"time": [np.datetime64(f"2024-05-{day:02}T12", "ns")], "x": [1.0, 2.0]},
    )


def serve_gridded(
    stacks: Any, kinds: Mapping[str, list[str]], days: tuple[int, ...] = DAYS
) -> None:
    """Serve a day's products of some kinds, each with some variables."""
    stacks.serve(
        {
            f"c_{kind}_202405{day:02}_GLOBE_V1.nc": gridded(
                day, **{name: float(day) for name in names}
            )
            for kind, names in kinds.items()
            for day in days
        }
    )


@pytest.mark.slow
def test_variables_keep_their_names(stacks: Any) -> None:
    """Variables of their own keep their names; one that kinds have each for itself gets another."""
    serve_gridded(stacks, {"LAI": ["lai", "quality"], "FAPAR": ["fapar", "quality"]})

    dataset = stacks.open()

    assert set(dataset.data_vars) == {"lai", "fapar", "quality_LAI", "quality_FAPAR", "crs"}
    assert {p.product_id for p in dataset.quality_LAI[1].hda.products} == {
        "c_LAI_20240511_GLOBE_V1.nc"
    }
    np.testing.assert_array_equal(dataset.fapar[:, 0], DAYS)


@pytest.mark.slow
def test_products_of_the_same_variables_are_no_kinds(stacks: Any) -> None:
    """They are editions of one product, which the error says."""
    serve_gridded(stacks, {"ALPHA": ["sst"], "BETA": ["sst"]})

    with pytest.raises(QueryError, match=r"the same variables.*'sst'.*editions") as refused:
        stacks.open()

    assert refused.value.key == "on_overlap"


def test_kinds_of_other_times(stacks: Any) -> None:
    """Kinds whose own times differ are not put together."""
    stacks.serve(
        {
            "c_LAI_20240501.nc": gridded(1, lai=1.0),
            "c_FAPAR_20240501.nc": gridded(1, fapar=1.0).assign_coords(
                time=[np.datetime64("2024-05-01T06", "ns")]
            ),
        }
    )

    with pytest.raises(ProductMismatchError, match="FAPAR and LAI stand at other times"):
        stacks.open()


@pytest.mark.slow
def test_too_many_kinds(stacks: Any) -> None:
    """More than 20 kinds are refused before an order, unless all headers are read anyway."""
    words = [f"{a}{b}VAR" for a in "ABCDE" for b in "KLMNP"][:21]
    serve_gridded(stacks, {word: [word.lower()] for word in words}, days=(1,))

    with pytest.raises(
        QueryError, match=r"21 kinds.*AKVAR.*no more than 20.*scan=True.*21 products"
    ):
        stacks.open()
    assert stacks.ordered == []
    assert len(stacks.open(scan=True).data_vars) == 22


@pytest.mark.slow
def test_variables_of_some_kinds_to_stack(stacks: Any) -> None:
    """concat_variables may name what one kind alone has, and nothing that none has."""
    files = {
        "c_LAI_20240501.nc": gridded(1, lai=1.0).assign(gain=1.0),
        "c_LAI_20240502.nc": gridded(2, lai=1.0).assign(gain=2.0),
        "c_FAPAR_20240501.nc": gridded(1, fapar=1.0),
        "c_FAPAR_20240502.nc": gridded(2, fapar=1.0),
    }
    stacks.serve(files)

    assert stacks.open(concat_variables=["gain"]).gain.values.tolist() == [1.0, 2.0]
    with pytest.raises(QueryError, match="'nothing', which the products do not have"):
        stacks.open(concat_variables=["nothing"])


@pytest.mark.slow
def test_editions_of_kinds(stacks: Any) -> None:
    """Editions of each kind are refused as those of one kind are, or the latest is taken."""
    published = {"V1": "2024-06-01", "V2": "2024-07-01"}
    stacks.serve(
        {
            f"c_{kind}_20240501_{version}.nc": gridded(1, **{kind.lower(): float(version[1])})
            for kind in ("LAI", "FAPAR")
            for version in published
        },
        fields={"publication": lambda name: f"{published[name[-5:-3]]}T00:00:00.000Z"},
    )

    with pytest.raises(QueryError, match="the same times of 2 of its 2 products"):
        stacks.open()
    dataset = stacks.open(on_overlap="latest")

    assert (dataset.lai.values.tolist(), dataset.fapar.values.tolist()) == ([[2, 2]], [[2, 2]])


@for_each(
    ("ids", "kinds"),
    [
        (["ST_{d}T1_T32TPS_V101_PPI", "ST_{d}T1_T32TPS_V101_QFLAG"], ["PPI", "QFLAG"]),
        (["VPP_2022_S2_T32_s1_AMPL", "VPP_2022_S2_T32_s2_AMPL"], ["s1", "s2"]),
        (
            ["S2A_29RKH_{d}_B04.tif", "S2A_29RKH_{d}_B8A.tif", "S2A_29RKH_{d}_SCL.tif"],
            ["B04", "B8A", "SCL"],
        ),
        (["x_{d}.nc", "x_{d}_QFLAG.nc"], ["", "QFLAG"]),
        (["x_{d}_SUM_RAIN.nc", "x_{d}_MEAN.nc"], ["SUM_RAIN", "MEAN"]),
        (["SST_{d}_NRT_V1.nc", "SST_{d}_NTC_V1.nc"], None),
        (["SST_{d}_V1.nc", "SST_{d}_V2.nc"], None),
        (["SST_{d}_RT1.nc", "SST_{d}_RT6.nc"], None),
        (["SST_{d}_1f3a9c2e.nc", "SST_{d}_8ab0cd1e.nc"], None),
        (["S3A_SST_{d}.nc", "S3B_SST_{d}.nc"], None),
        (["p00_{d}.nc", "p01_{d}.nc"], None),
        (["a_{d}.nc", "b_{d}.nc"], None),
        (["a_{d}.nc", "a_{d}.tif"], None),
    ],
)
def test_what_of_an_id_tells_a_kind(ids: list[str], kinds: list[str] | None) -> None:
    """Words and bands do; versions, timeliness, satellites, hashes and formats do not."""
    day = "2024-05-01T00:00:00.000Z"
    products = [Product("D", name.format(d="20240501"), startdate=day, enddate=day) for name in ids]

    found = find_kinds(products)

    assert sorted(found) == sorted(kinds or [""])
    assert sorted(n for numbers in found.values() for n in numbers) == list(range(len(ids)))


def test_products_of_other_places_or_times_are_no_kinds() -> None:
    """Words of ids mean nothing where no two products share an interval and a box."""
    day = [f"2024-05-0{n}T00:00:00.000Z" for n in range(1, 4)]
    here, there = "0,0,1,1", "5,5,6,6"
    later = [Product("D", "X_PPI", startdate=day[0], enddate=day[1], bbox=here)]
    later += [Product("D", "X_QFLAG", startdate=day[1], enddate=day[2], bbox=here)]
    apart = [
        Product("D", f"X_{n}", startdate=day[0], bbox=b)
        for n, b in (("NORTH", here), ("SOUTH", there))
    ]

    assert find_kinds(later) == {"": [0, 1]}
    assert find_kinds(apart) == {"": [0, 1]}
