"""Kinds of products that stack: each gives what xarray joins of the local files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec.errors import ProductMismatchError, QueryError

DAYS = 3
LAT, LON = [10.0, 5.0, 0.0], [1.0, 2.0, 3.0, 4.0]
HOUR = np.timedelta64(1, "h")


def noon(day: int) -> np.datetime64:
    """Return the middle of a day of May 2024."""
    return np.datetime64(f"2024-05-{day:02}T12:00", "ns")


def one_step(day: int, *, steps: int = 1) -> xr.Dataset:
    """Return a product with a time step, or several, of a day."""
    values = np.arange(steps * 12.0).reshape(steps, 3, 4) + 100 * day
    times = noon(day) + np.arange(steps) * HOUR
    return xr.Dataset(
        {"sst": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={"time": times, "lat": LAT, "lon": LON},
        attrs={"title": "a day"},
    )


def scalar_time(day: int) -> xr.Dataset:
    """Return a product whose time is no dimension."""
    return one_step(day).isel(time=0)


def no_time(day: int) -> xr.Dataset:
    """Return a product that does not tell its time."""
    return scalar_time(day).drop_vars("time")


def no_coordinate(day: int) -> xr.Dataset:
    """Return a product with a time dimension that has no coordinate."""
    return one_step(day).drop_vars("time")


def descending(day: int) -> xr.Dataset:
    """Return a product from north to south, and from 360 to 0 degrees."""
    return one_step(day).assign_coords(lat=[60.0, 50.0, 40.0], lon=[359.0, 240.0, 120.0, 0.0])


def packed(day: int) -> xr.Dataset:
    """Return a product of packed integers, with numbers that differ from day to day."""
    ds = one_step(day)
    ds["sst"][0, 0, day % 4] = np.nan
    ds["sst"].encoding = {
        "dtype": "i2",
        "scale_factor": 0.5 / day,
        "add_offset": 100.0 * day,
        "_FillValue": -9 - day,
    }
    return ds


def static(day: int) -> xr.Dataset:
    """Return a product with variables that lack the dimension, and scalars of every kind."""
    ds = one_step(day).assign(
        mask=(("lat", "lon"), np.eye(3, 4, dtype="i1")), crs=((), 4326), name=((), "a text")
    )
    return ds.assign_coords(area=(("lat", "lon"), np.ones((3, 4))), number=0, expver="0001")


def texts(day: int) -> xr.Dataset:
    """Return a product with texts along the dimension."""
    ds = one_step(day, steps=2)
    return ds.assign_coords(expver=("time", np.array(["0001", f"{day:04}"], dtype=object)))


def bounds(day: int) -> xr.Dataset:
    """Return a product with bounds, a second time and a number along the dimension."""
    ds = one_step(day)
    ends = np.array([[noon(day) - 12 * HOUR, noon(day) + 12 * HOUR]])
    ds["time"].attrs["bounds"] = "time_bnds"
    ds["time"].encoding["units"] = "hours since 2024-01-01"
    ds = ds.assign(time_bnds=(("time", "nv"), ends))
    return ds.assign_coords(run=("time", ds.time.data - 6 * HOUR), orbit=("time", [day * 7]))


def of_360_days(day: int) -> xr.Dataset:
    """Return a product with the calendar of a climate model."""
    ds = one_step(day)
    times = xr.date_range(f"2024-05-{day:02}T12", periods=1, calendar="360_day", use_cftime=True)
    return ds.assign_coords(time=times)


def since_1950(day: int) -> xr.Dataset:
    """Return a product whose times are stored as those of other days are."""
    ds = one_step(day)
    ds["time"].encoding = {"units": "hours since 1950-01-01", "dtype": "f8"}
    return ds


def dates(day: int) -> xr.Dataset:
    """Return a product with data that are times and durations, some of them missing."""
    ds = one_step(day)
    seen = np.full((1, 3, 4), noon(day))
    seen[0, 0, 0] = np.datetime64("NaT", "ns")
    return ds.assign(seen=(("time", "lat", "lon"), seen), age=("time", [day * HOUR]))


@dataclasses.dataclass(frozen=True)
class Case:
    """A kind of product, and how it is opened."""

    make: Callable[[int], xr.Dataset]
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    netcdf: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    index: Callable[[int], Any] | None = None
    dim: str = "time"


def start(day: int) -> np.datetime64:
    """Return where the catalogue's interval of a day begins."""
    return np.datetime64(f"2024-05-{day:02}", "ns")


CASES = {
    "one step": Case(one_step),
    "netCDF-3": Case(one_step, netcdf={"format": "NETCDF3_64BIT"}),
    "many steps": Case(lambda day: one_step(day, steps=6)),
    "different lengths": Case(lambda day: one_step(day, steps=1 + day % 3), {"scan": True}),
    "no coordinate, different lengths": Case(
        lambda day: no_coordinate(day) if day % 2 else one_step(day, steps=3).drop_vars("time"),
        {"scan": True},
    ),
    "scalar time": Case(scalar_time),
    "no time": Case(no_time, index=start),
    "no coordinate": Case(no_coordinate, index=start),
    "descending": Case(descending),
    "packed": Case(packed),
    "static variables": Case(static),
    "texts": Case(texts),
    "bounds": Case(bounds),
    "360 days": Case(of_360_days),
    "times as data": Case(dates, {"decode_timedelta": True}),
    "along another dimension": Case(
        lambda day: (
            one_step(day).isel(time=0, drop=True).assign_coords(lat=np.arange(3.0) + 3 * day)
        ),
        {"concat_dim": "lat", "scan": True},
        dim="lat",
    ),
    "along a new dimension": Case(no_time, {"concat_dim": "run"}, index=start, dim="run"),
    "raw": Case(
        lambda _: packed(1), {"mask_and_scale": False, "drop_variables": ["time"]}, index=start
    ),
    "undecoded times": Case(since_1950, {"decode_times": False, "scan": True}),
    "without a variable": Case(static, {"drop_variables": ["mask", "name"]}),
    "by another engine": Case(one_step, {"product_engine": "netcdf4"}),
}


def joined(paths: list[Path], case: Case) -> xr.Dataset:
    """Join the local files as xarray does."""
    known = {"drop_variables", "mask_and_scale", "decode_times", "decode_timedelta"}
    given = {name: value for name, value in case.given.items() if name in known}
    parts = [xr.load_dataset(path, engine="netcdf4", **given) for path in paths]
    if case.index is not None:
        parts = [
            part.assign_coords({case.dim: [case.index(day)]})
            if case.dim in part.dims
            else part.assign_coords({case.dim: case.index(day)})
            for day, part in enumerate(parts, start=1)
        ]
    is_new = case.dim not in parts[0].dims
    return xr.concat(
        parts,
        case.dim,
        data_vars="all" if is_new else "minimal",
        coords="minimal",
        compat="override",
        join="exact",
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_products_stack(stacks: Any, name: str) -> None:
    """Each kind of products opens as the local files joined, and saves and opens as such.

    First without knowing any product, by tasks or not; then with all that was read before.
    """
    case = CASES[name]
    made = {f"p_202405{day:02}.nc": case.make(day) for day in range(1, DAYS + 1)}
    paths = stacks.serve(made, netcdf=case.netcdf)
    wanted = joined(paths, case)
    if case.index is not None:
        wanted[case.dim].attrs["standard_name"] = "time"

    chunks: Any
    bound = DAYS if case.given.get("scan") else 2
    for chunks in ({}, None) if list(CASES).index(name) % 2 else (None, {}):
        found = stacks.open(chunks=chunks, **case.given)
        assert stacks.emulator.orders <= bound
        bound = DAYS
        assert found.encoding["source"] == stacks.query
        assert found.encoding["hda_template"] == "p_20240501.nc"
        xr.testing.assert_identical(found.load(), wanted)
    saved = stacks.folder / "saved.nc"
    found.to_netcdf(saved)
    decoders = {k: v for k, v in case.given.items() if k in {"decode_times", "decode_timedelta"}}
    if name != "raw":
        xr.testing.assert_allclose(xr.load_dataset(saved, **decoders), wanted, rtol=0, atol=0)


def test_packing_is_not_passed_on(stacks: Any) -> None:
    """A stacked variable is not packed with the numbers of the template when it is saved."""
    stacks.serve({f"p_202405{day:02}.nc": packed(day) for day in range(1, DAYS + 1)})

    found = stacks.open(chunks={})

    assert set(found["sst"].encoding) <= {"preferred_chunks", "chunks", "units", "calendar"}
    assert set(found["time"].encoding) <= {"units", "calendar"}


def test_one_task_reads_one_product(stacks: Any) -> None:
    """The chunks that products prefer are the products, whatever their lengths."""
    made = {f"p_202405{day:02}.nc": one_step(day, steps=day) for day in (1, 2, 3)}
    stacks.serve(made)

    found = stacks.open(chunks={}, scan=True)

    assert found["sst"].chunks == ((1, 2, 3), (3,), (4,))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The specified chunks separate:UserWarning")
@pytest.mark.parametrize("chunks", [{"time": 2}, {"time": 5, "lat": 1}, "auto"])
def test_other_chunks_read_the_same(stacks: Any, chunks: Any) -> None:
    """A task may read a part of a product, or several products."""
    paths = stacks.serve({f"p_202405{day:02}.nc": one_step(day, steps=3) for day in (1, 2, 3)})

    found = stacks.open(chunks=chunks)

    xr.testing.assert_identical(found.load(), joined(paths, CASES["one step"]))


def test_product_ids_as_a_coordinate(stacks: Any) -> None:
    """Each step can tell which product it is from, and can be chosen by it."""
    stacks.serve({f"p_202405{day:02}.nc": one_step(day, steps=2) for day in (1, 2)})

    found = stacks.open(product_coord="product", chunks={})

    names = [f"p_202405{day:02}.nc" for day in (1, 1, 2, 2)]
    assert found["product"].dims == ("time",)
    assert found["product"].to_numpy().tolist() == names
    assert found.sst[np.asarray(found["product"] == names[-1])].mean() == 211.5
    assert stacks.ordered == [names[0], names[-1]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sst", "time", "lat"])
def test_the_coordinate_of_products_takes_no_other_name(stacks: Any, name: str) -> None:
    """No variable is lost to the coordinate of product ids."""
    stacks.serve({f"p_202405{day:02}.nc": one_step(day) for day in (1, 2)})

    with pytest.raises(QueryError, match="product_coord"):
        stacks.open(product_coord=name)


@pytest.mark.slow
def test_attributes_known_to_differ_are_dropped(stacks: Any) -> None:
    """An attribute of one product does not pass for one of all."""
    stacks.serve(
        {f"p_202405{day:02}.nc": one_step(day).assign_attrs(day=day) for day in range(1, 4)}
    )

    assert stacks.open().attrs == {"title": "a day", "day": 1}
    assert stacks.open(scan=True).attrs == {"title": "a day"}


@pytest.mark.slow
def test_different_lengths_ask_for_a_scan(stacks: Any) -> None:
    """A second product of another length, once seen, is no longer guessed at."""
    stacks.serve({f"p_202405{day:02}.nc": one_step(day, steps=day) for day in (1, 2, 3)})

    with pytest.raises(ProductMismatchError, match=r"2 steps along 'time', not 1.*scan=True"):
        stacks.open().load()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Times can't be serialized faithfully")
@pytest.mark.parametrize(
    ("units", "unit", "dtype"),
    [
        ("days since 1950-01-01", np.timedelta64(1, "D"), "f4"),
        ("minutes since 1950-01-01", np.timedelta64(1, "m"), "i4"),
    ],
)
def test_times_are_predicted_as_exactly_as_files_store_them(
    stacks: Any, units: str, unit: np.timedelta64, dtype: str
) -> None:
    """A file that stores minutes, or days in four bytes, has no seconds; it is no mismatch."""
    made = {}
    for day in range(1, 6):
        ds = one_step(day)
        time = noon(day) + np.timedelta64(1800 + 37 * day, "s")
        stored = (time - np.datetime64("1950-01-01")) / unit
        ds = ds.assign_coords(time=[np.floor(stored) if dtype == "i4" else stored])
        ds["time"].attrs["units"] = units
        ds["time"].encoding["dtype"] = dtype
        seconds = f"{day * 37 // 60:02}{day * 37 % 60:02}"
        made[f"p_202405{day:02}T12{seconds}.nc"] = ds
    paths = stacks.serve(made, profile="exact")

    wanted = joined(paths, CASES["one step"])

    found = stacks.open(chunks={})

    assert stacks.emulator.orders <= 3
    exactness = np.timedelta64(169 if dtype == "f4" else 0, "s")
    assert (abs(found.time.data - wanted.time.data) <= exactness).all()
    np.testing.assert_array_equal(found.sst, wanted.sst)
    # All products were read by now, and what they told was kept.
    xr.testing.assert_identical(stacks.open().load(), wanted)
