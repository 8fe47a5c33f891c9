"""Every way to index a lazy stack gives what indexing the loaded values gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from hda_fsspec.emulator import Catalogue, DatasetEntry, Emulator, dated_product

LENGTHS = [3, 1, 4, 2]
SIZES = {"time": sum(LENGTHS), "lat": 3, "lon": 4}
NAMES = ["sst", "turned", "quality", "label", "run"]


def _product(number: int) -> xr.Dataset:
    """Return a product of some hours, with one variable of each kind."""
    steps = LENGTHS[number]
    first = np.datetime64(f"2024-05-{number + 1:02}", "ns")
    values = np.arange(steps * 12.0).reshape(steps, 3, 4) + 100 * number
    labels = np.array([f"{number}:{step}" for step in range(steps)], dtype=object)
    ds = xr.Dataset(
        {
            "sst": (("time", "lat", "lon"), values),
            "turned": (("lon", "time", "lat"), values.transpose(2, 0, 1).copy()),
            "quality": (("time",), np.arange(steps, dtype="i2") + 10 * number),
        },
        coords={
            "time": first + np.arange(steps) * np.timedelta64(1, "h"),
            "label": ("time", labels),
            "run": first - np.timedelta64(6, "h"),
        },
    )
    ds["sst"][0, 0, 0] = np.nan
    ds["sst"].encoding = {"dtype": "i2", "scale_factor": 0.5, "_FillValue": -1}
    return ds


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[xr.Dataset, xr.Dataset]]:
    """Open products of different lengths lazily, and loaded; both serve all tests."""
    folder: Path = tmp_path_factory.mktemp("stack")
    products = []
    for number in range(len(LENGTHS)):
        path = folder / f"p_202405{number + 1:02}.nc"
        _product(number).to_netcdf(path)
        products.append(dated_product(path.name, path))
    with Emulator(Catalogue([DatasetEntry("EO:X", products)])) as emulator:
        options = emulator.storage_options
        lazy = xr.open_dataset(
            "hda://EO:X/*",
            engine="hda",
            scan=True,
            concat_variables=["run"],
            cache=False,
            storage_options=options | {"cache_dir": folder / "cache"},
        )
        yield lazy, lazy.compute()


@st.composite
def indexers(draw: st.DrawFn, dim: str) -> Any:
    """Draw an index of one dimension: an integer, a slice, or an array of either kind."""
    size = SIZES[dim]
    place = st.integers(-size, size - 1)
    kind = draw(st.sampled_from(["none", "integer", "slice", "list", "mask"]))
    if kind == "integer":
        return draw(place)
    if kind == "slice":
        return draw(st.slices(size))
    if kind == "list":
        return np.array(draw(st.lists(place, max_size=2 * size)), dtype=np.int64)
    if kind == "mask":
        return np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    return slice(None)


keys = st.fixed_dictionaries({dim: indexers(dim) for dim in SIZES})


def chosen(array: xr.DataArray, key: dict[str, Any]) -> xr.DataArray:
    """Index an array by those of the dimensions that it has."""
    return array.isel({dim: one for dim, one in key.items() if dim in array.dims})


@pytest.mark.slow
@settings(deadline=None, derandomize=True)
@given(name=st.sampled_from(NAMES), key=keys)
def test_outer_indexing(
    stack: tuple[xr.Dataset, xr.Dataset], name: str, key: dict[str, Any]
) -> None:
    """Integers, slices, lists and masks, forwards and backwards, of every dimension."""
    lazy, loaded = stack

    found = chosen(lazy[name], key).compute()

    xr.testing.assert_identical(found, chosen(loaded[name], key))
    assert found.dtype == loaded[name].dtype


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=settings().max_examples // 2)
@given(name=st.sampled_from(["sst", "turned"]), first=keys, second=st.data())
def test_indexing_what_was_indexed(
    stack: tuple[xr.Dataset, xr.Dataset], name: str, first: dict[str, Any], second: Any
) -> None:
    """Indexes are composed, and nothing is read in between."""
    lazy, loaded = (chosen(each[name], first) for each in stack)
    again = {
        dim: second.draw(st.slices(size), label=str(dim)) for dim, size in loaded.sizes.items()
    }

    xr.testing.assert_identical(lazy.isel(again).compute(), loaded.isel(again))


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=settings().max_examples // 2)
@given(
    name=st.sampled_from(["sst", "turned"]),
    dims=st.sets(st.sampled_from(sorted(SIZES)), min_size=2),
    points=st.data(),
)
def test_vectorised_indexing(
    stack: tuple[xr.Dataset, xr.Dataset], name: str, dims: set[str], points: Any
) -> None:
    """Points are read one by one, in the order that they are asked for."""
    lazy, loaded = stack
    count = points.draw(st.integers(0, 6), label="count")
    key = {}
    for dim in sorted(dims):
        place = st.integers(-SIZES[dim], SIZES[dim] - 1)
        places = points.draw(st.lists(place, min_size=count, max_size=count), label=dim)
        key[dim] = xr.DataArray(np.array(places, dtype=np.int64), dims="point")

    xr.testing.assert_identical(lazy[name].isel(key).compute(), loaded[name].isel(key))


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=settings().max_examples // 2)
@given(key=keys, chunks=st.sampled_from([{}, {"time": 1}, {"time": 4, "lat": 2}, {"time": -1}]))
def test_indexing_chunks(
    stack: tuple[xr.Dataset, xr.Dataset], key: dict[str, Any], chunks: dict[str, int]
) -> None:
    """The same holds where Dask reads."""
    lazy, loaded = stack

    found = chosen(lazy.chunk(chunks)["sst"], key).compute(scheduler="sync")

    xr.testing.assert_identical(found, chosen(loaded["sst"], key))


@pytest.mark.slow
def test_selecting_by_label(stack: tuple[xr.Dataset, xr.Dataset]) -> None:
    """The index is there, so that times can be chosen as in any data set."""
    lazy, loaded = stack
    first = np.datetime64("2024-05-01T02:00", "ns")

    for key in (slice("2024-05-01", "2024-05-02"), "2024-05-03", first):
        xr.testing.assert_identical(lazy.sel(time=key).compute(), loaded.sel(time=key))
    lazy, loaded = (
        each.sel(time=first + np.timedelta64(5, "h"), method="nearest") for each in stack
    )
    xr.testing.assert_identical(lazy.compute(), loaded)


def test_an_index_out_of_bounds_is_an_error(stack: tuple[xr.Dataset, xr.Dataset]) -> None:
    """There is no step after the last one."""
    with pytest.raises(IndexError):
        stack[0]["sst"].isel(time=10).compute()
