"""Data sets close: no file stays open for them, and nothing is pulled from under another."""

from __future__ import annotations

import contextlib
import pickle
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hda_fsspec

DAYS = (1, 2, 3)

pytestmark = [
    # rioxarray, with the affine of 2026
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:In a future version of xarray:FutureWarning"),
]
SUM = sum(DAYS) * 1.5 * 3


def name(day: int) -> str:
    """Return the id of a day's product."""
    return f"p_202405{day:02}.nc"


def product(day: int) -> xr.Dataset:
    """Return a day's product."""
    time = np.datetime64(f"2024-05-{day:02}T12:00", "ns")
    return xr.Dataset(
        {
            "sst": (("time", "x"), np.full((1, 3), day * 1.5)),
            "mask": ("x", np.array([1, 0, 1], dtype="i1")),
        },
        coords={"time": [time], "x": [1.0, 2.0, 3.0], "orbit": ("time", [day])},
    )


@pytest.fixture
def served(stacks: Any) -> Any:
    """Three daily products, and how they are reached."""
    stacks.serve({name(day): product(day) for day in DAYS})
    return stacks


def files_open_below(folder: Path) -> list[str]:
    """Return the data files of a cache that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the folder itself
            if str(link.readlink()).startswith(f"{folder}/v1/products"):
                found.append(str(link.readlink()))
    return found


def path(served: Any, day: int) -> str:
    """Return the path of a day's product."""
    return f"hda://{served.dataset}/{name(day)}"


def paths(served: Any) -> list[str]:
    """Return the paths of all products."""
    return [path(served, day) for day in DAYS]


def by_query(served: Any, **given: Any) -> Any:
    """Open the query as one data set."""
    return xr.open_dataset(
        served.query, engine="hda", storage_options=served.options, cache=False, **given
    )


def by_chunks(served: Any) -> Any:
    """Open the query with Dask."""
    return by_query(served, chunks={})


def by_scan(served: Any) -> Any:
    """Open the query with all headers known."""
    return by_query(served, scan=True)


def by_xarray_mfdataset(served: Any) -> Any:
    """Open the products as xarray's users do."""
    return xr.open_mfdataset(paths(served), engine="hda", storage_options=served.options)


def by_parallel_mfdataset(served: Any) -> Any:
    """Open them by Dask."""
    return xr.open_mfdataset(
        paths(served), engine="hda", storage_options=served.options, parallel=True
    )


def by_nested_mfdataset(served: Any) -> Any:
    """Open them in the order that was given, each handed to a function first."""
    return xr.open_mfdataset(
        paths(served),
        engine="hda",
        storage_options=served.options,
        combine="nested",
        concat_dim="time",
        preprocess=lambda ds: ds[["sst"]],
    )


def by_own_mfdataset(served: Any) -> Any:
    """Open the query the classical way."""
    return hda_fsspec.open_mfdataset(served.query, storage_options=served.options)


STACKS = (
    by_query,
    by_chunks,
    by_scan,
    by_xarray_mfdataset,
    by_parallel_mfdataset,
    by_nested_mfdataset,
    by_own_mfdataset,
)


@pytest.mark.slow
@pytest.mark.parametrize("way", STACKS)
def test_a_with_block_ends_well(served: Any, way: Callable[[Any], Any]) -> None:
    """No file of the cache is open afterwards; closing again is nothing, reading opens again."""
    with way(served) as ds:
        assert float(ds["sst"].sum()) == SUM
        assert files_open_below(served.bench.cache_dir)

    assert files_open_below(served.bench.cache_dir) == []
    ds.close()
    assert float(ds["sst"].sum()) == SUM
    assert len(served.ordered) == 3


@pytest.mark.slow
def test_one_product_closes(served: Any) -> None:
    """A data set and an array of one product, with and without Dask, in a with block."""
    one = {"engine": "hda", "storage_options": served.options}
    chunked: dict[str, int] = {}
    for chunks in (None, chunked):
        with xr.open_dataset(path(served, 1), chunks=chunks, **one) as ds:
            assert float(ds["sst"].sum()) == 4.5
        assert files_open_below(served.bench.cache_dir) == []
    with xr.open_dataarray(
        path(served, 1), drop_variables=["mask", "orbit"], cache=False, **one
    ) as array:
        assert float(array.sum()) == 4.5
    assert files_open_below(served.bench.cache_dir) == []


@pytest.mark.slow
def test_trees_and_groups_close(served: Any) -> None:
    """A tree closes with all of its nodes; so does each data set of a dict of groups."""
    for what, count in ((path(served, 1), 1), (served.query, 3)):
        one = {"engine": "hda", "storage_options": served.options}
        with xr.open_datatree(what, **one) as tree:
            leaves = [node for node in tree.subtree if "sst" in node.data_vars]
            assert len(leaves) == count
            assert all(float(leaf["sst"].sum()) > 0 for leaf in leaves)
        assert files_open_below(served.bench.cache_dir) == []
        tree.close()
        groups = xr.open_groups(what, **one)
        assert sum(float(ds["sst"].sum()) > 0 for ds in groups.values() if "sst" in ds) == count
        assert files_open_below(served.bench.cache_dir)
        for ds in groups.values():
            ds.close()
            ds.close()
        assert files_open_below(served.bench.cache_dir) == []


def test_closing_one_leaves_the_others(served: Any) -> None:
    """Two data sets of one product: the other is read as if nothing had been closed."""
    one, other = (
        xr.open_dataset(path(served, 1), engine="hda", storage_options=served.options, cache=False)
        for _ in range(2)
    )
    whole = by_query(served)
    assert float(other["sst"].sum()) == 4.5

    one.close()

    assert float(other["sst"].sum()) == 4.5
    assert float(whole["sst"].sum()) == SUM
    assert float(one["sst"].sum()) == 4.5
    whole.close()
    assert float(other["sst"].sum()) == 4.5


def test_only_its_own_files_are_closed(served: Any) -> None:
    """Closing a data set of one product leaves the file of another one open."""
    one, other = (
        xr.open_dataset(
            path(served, day), engine="hda", storage_options=served.options, cache=False
        )
        for day in (1, 2)
    )
    assert float(one["sst"].sum() + other["sst"].sum()) == 13.5

    one.close()

    assert [Path(each).name for each in files_open_below(served.bench.cache_dir)] == [name(2)]


@pytest.mark.slow
def test_closing_while_others_read(served: Any) -> None:
    """Whoever reads in the very moment goes on with right values."""
    ds = by_query(served)
    reader = by_query(served)
    faults: list[object] = []
    is_over = threading.Event()

    def read() -> None:
        try:
            while not is_over.is_set():
                found = reader["sst"].to_numpy()
                if found.sum() != SUM:
                    faults.append(found)
        except Exception as err:
            faults.append(err)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        ds.close()
        ds["sst"].load()
    is_over.set()
    for thread in threads:
        thread.join()

    assert faults == []


@pytest.mark.slow
@pytest.mark.parametrize("way", [by_query, by_chunks, by_xarray_mfdataset])
def test_a_pickled_copy_closes(served: Any, way: Callable[[Any], Any]) -> None:
    """What closes a data set travels with it, without a password, and small."""
    ds = way(served)
    data = pickle.dumps(ds)
    assert served.options["password"].encode() not in data

    with pytest.MonkeyPatch.context() as patch:
        for variable, value in served.emulator.environment.items():
            patch.setenv(variable, value)
        with pickle.loads(data) as again:
            assert float(again["sst"].sum()) == SUM

    ds.set_close(None)
    assert len(data) - len(pickle.dumps(ds)) < 1500 * (3 if way is by_xarray_mfdataset else 1)


def test_a_variable_that_was_taken_out_survives(served: Any) -> None:
    """What was selected before closing is read after it, as with every recipe."""
    with by_query(served) as ds:
        part = ds["sst"].isel(time=1)

    assert part.to_numpy().tolist() == [3.0] * 3


@pytest.mark.slow
def test_files_of_other_kinds_close(stacks: Any) -> None:
    """netCDF-3, a member of an archive, merged members, and groups of an archive."""
    folder = stacks.folder
    product(1).drop_vars("mask").to_netcdf(folder / "three.nc", format="NETCDF3_64BIT")
    product(2)[["sst"]].to_netcdf(folder / "sst.nc")
    product(2)[["mask"]].to_netcdf(folder / "mask.nc")
    archive = folder / "two.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for each in ("sst.nc", "mask.nc"):
            packed.write(folder / each, each)
    stacks.serve({"a_20240501.nc": folder / "three.nc", "b_20240502.zip": archive})
    one = {"engine": "hda", "storage_options": stacks.options, "cache": False}
    where = f"hda://{stacks.dataset}"
    members: tuple[tuple[str, dict[str, Any]], ...] = (
        ("a_20240501.nc", {}),
        ("b_20240502.zip", {"member": "sst.nc"}),
        ("b_20240502.zip", {"member": "*.nc"}),
    )
    for product_id, more in members:
        with xr.open_dataset(f"{where}/{product_id}", **one, **more) as ds:
            assert float(ds["sst"].sum()) > 0
        assert files_open_below(stacks.bench.cache_dir) == []
    with xr.open_datatree(
        f"{where}/b_20240502.zip", engine="hda", storage_options=stacks.options
    ) as tree:
        assert np.asarray(tree["sst/sst"]).sum() > 0
    assert files_open_below(stacks.bench.cache_dir) == []


@pytest.mark.slow
def test_rasters_close(stacks: Any) -> None:
    """The handle of a raster is given back, too."""
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("rioxarray")
    file = stacks.folder / "r.tif"
    with rasterio.open(
        file, "w", driver="GTiff", width=4, height=3, count=1, dtype="uint8", crs="EPSG:3035",
        transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
    ) as raster:  # fmt: skip
        raster.write(np.arange(12, dtype="u1").reshape(1, 3, 4))
    stacks.serve({"r_20240501.tif": file})
    one = {"engine": "hda", "storage_options": stacks.options, "cache": False}

    with xr.open_dataset(f"hda://{stacks.dataset}/r_20240501.tif", **one) as ds:
        assert int(ds["band_data"].sum()) == 66

    assert files_open_below(stacks.bench.cache_dir) == []
