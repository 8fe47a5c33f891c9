"""Grids that differ by noise, and odd products: each opens as it is, or is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from daily_products import HOUR, name, product, serve

import hda_fsspec
from hda_fsspec.errors import ProductMismatchError, QueryError


def _grid(day: int, lat: Any) -> xr.Dataset:
    values = np.full((1, 4), float(day))
    return product(day).drop_dims("x").assign(v=(("time", "lat"), values)).assign_coords(lat=lat)


LAT = np.array([0.1, 0.2, 0.3, 0.4])
NOISE = {
    "noise": LAT + np.array([0, 1e-9, -1e-9, 0]),
    "four bytes": LAT.astype("f4"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", NOISE)
def test_coordinates_that_differ_by_noise(stacks: Any, case: str) -> None:
    """They are refused with the number that lets them pass, and pass with it."""
    serve(stacks, {day: _grid(day, NOISE[case] if day == 2 else LAT) for day in (1, 2)})

    for scan in (False, True):
        told = r"'lat' .*is noise.*grid_tolerance="
        with pytest.raises(ProductMismatchError, match=told) as caught:
            stacks.open(scan=scan).load()
        enough = float(str(caught.value).split("grid_tolerance=")[1].split(",")[0])

        found = stacks.open(scan=scan, grid_tolerance=enough).load()
        np.testing.assert_array_equal(found["lat"], LAT)
        assert found["v"][:, 0].to_numpy().tolist() == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [None, 0.01])
def test_another_grid_is_no_noise(stacks: Any, tolerance: float | None) -> None:
    """By how much it is off is told, in its own units and in steps of the grid."""
    serve(stacks, {1: _grid(1, LAT), 2: _grid(2, LAT + 0.05)})

    with pytest.raises(
        ProductMismatchError, match=r"up to 0.05, which is 0.5 steps .*another grid"
    ):
        stacks.open(grid_tolerance=tolerance).load()


@pytest.mark.slow
def test_two_dimensional_coordinates(stacks: Any) -> None:
    """Coordinates of curved grids are compared with a tolerance, too."""
    lat = np.linspace(0.0, 1.0, 12).reshape(3, 4)

    def curved(day: int, noise: float) -> xr.Dataset:
        values = np.full((1, 3, 4), float(day))
        ds = product(day).drop_dims("x").assign(v=(("time", "j", "i"), values))
        return ds.assign_coords(lat=(("j", "i"), lat + noise))

    serve(stacks, {1: curved(1, 0), 2: curved(2, 1e-8)})

    with pytest.raises(ProductMismatchError, match=r"'lat' has other values.*grid_tolerance"):
        stacks.open().load()
    assert stacks.open(grid_tolerance=1e-7).load()["v"][:, 0, 0].to_numpy().tolist() == [1, 2]
    with pytest.raises(ProductMismatchError, match=r"'lat' .*up to 1e-08.*noise"):
        stacks.open(grid_tolerance=1e-9).load()


@pytest.mark.parametrize("value", [-1, "0.1", float("nan"), True, 10**400])
def test_a_tolerance_is_a_number(stacks: Any, value: Any) -> None:
    """Anything else is refused before anything is ordered."""
    serve(stacks, {1: product(1)})

    with pytest.raises(QueryError, match="grid_tolerance"):
        stacks.open(grid_tolerance=value)
    assert stacks.emulator.orders == 0


@pytest.mark.slow
def test_a_first_product_without_a_step(stacks: Any, cases: Path) -> None:
    """It is a product of no step, with all headers known or without."""
    paths = sorted((cases / "empty-first").glob("*.nc"))
    stacks.serve({path.name: path for path in paths})
    wanted = xr.concat([xr.load_dataset(path) for path in paths], "time", join="exact")

    for scan in (False, True):
        xr.testing.assert_equal(stacks.open(scan=scan, chunks={}).load(), wanted)


def test_a_query_of_products_without_a_step(stacks: Any) -> None:
    """A data set of no step is one, too."""
    serve(stacks, {day: product(day).isel(time=[]) for day in (1, 2)})

    assert stacks.open(scan=True).load().sizes["time"] == 0


@pytest.mark.slow
def test_missing_times_are_kept_as_they_are(stacks: Any) -> None:
    """Without a scan they are told in a documented error; with it they are in the index."""
    made = {day: product(day) for day in (1, 2, 3)}
    time = np.array(["2024-05-02", "NaT"], "M8[ns]")
    made[2] = xr.concat([made[2], made[2]], "time", data_vars="minimal").assign_coords(time=time)
    serve(stacks, made)

    with pytest.raises(ProductMismatchError, match=f"{name(2)} .*2 steps.*scan=True"):
        stacks.open().load()
    found = stacks.open(scan=True).load()
    wanted = xr.concat([made[day] for day in (1, 2, 3)], "time", data_vars="minimal")
    np.testing.assert_array_equal(found["time"], wanted["time"])
    np.testing.assert_array_equal(found["v"], wanted["v"])


def test_missing_times_in_the_first_product(stacks: Any) -> None:
    """They tell nothing of where the others stand: it is said so, and a scan helps."""
    made = {day: product(day) for day in (1, 2)}
    made[1] = made[1].assign_coords(time=np.array(["NaT"], "M8[ns]"))
    serve(stacks, made)

    with pytest.raises(ProductMismatchError, match=r"missing values in its index.*scan=True"):
        stacks.open()
    assert np.isnat(stacks.open(scan=True)["time"].to_numpy()).tolist() == [True, False]


@pytest.mark.slow
def test_several_calendars(stacks: Any) -> None:
    """Dates of two calendars are no index; the error does not advise what was given."""
    made = {day: product(day) for day in (1, 2, 3)}
    times = xr.date_range("2024-05-02T12", periods=1, calendar="360_day", use_cftime=True)
    made[2] = made[2].assign_coords(time=times)
    serve(stacks, made)

    for scan in (False, True):
        with pytest.raises(ProductMismatchError, match=r"360_day|calendar") as caught:
            stacks.open(scan=scan).load()
        assert "use_cftime" in str(caught.value)
        assert "scan=True" not in str(caught.value)


def test_two_calendars_of_dates(stacks: Any) -> None:
    """Neither of them is numpy's, and they do not stack either."""
    made = {}
    for day, calendar in ((1, "360_day"), (2, "noleap")):
        times = xr.date_range(f"2024-05-{day:02}T12", periods=1, calendar=calendar, use_cftime=True)
        made[day] = product(day).assign_coords(time=times)
    serve(stacks, made)

    for scan in (False, True):
        with pytest.raises(ProductMismatchError, match="calendar"):
            stacks.open(scan=scan).load()


@pytest.mark.slow
def test_ragged_variables(stacks: Any) -> None:
    """A dimension that is longer in one product than in another is a documented error."""
    made = {
        day: product(day, obs=("row", np.arange(float(day))), n=("time", [day])) for day in (1, 2)
    }
    serve(stacks, made)

    for scan in (False, True):
        with pytest.raises(ProductMismatchError, match=r"'row' has 2 elements, not 1"):
            stacks.open(scan=scan).load()
        found = stacks.open(scan=scan, drop_variables="obs").load()
        assert found["n"].to_numpy().tolist() == [1, 2]


@pytest.mark.slow
def test_lists_of_several_lengths(stacks: Any) -> None:
    """NetCDF's lists are stacked as lists; one that lacks the dimension is compared to its end."""
    netcdf = pytest.importorskip("netCDF4")
    paths = {}
    for day in (1, 2, 3):
        paths[name(day)] = stacks.folder / name(day)
        product(day).to_netcdf(paths[name(day)])
        with netcdf.Dataset(paths[name(day)], "a") as file:
            kind = file.createVLType(np.int32, "numbers")
            file.createVariable("obs", kind, ("time", "x"))
            file.createVariable("fixed", kind, ("x",))
            for column in range(3):
                file["obs"][0, column] = np.arange(day + column, dtype="i4")
                file["fixed"][column] = np.arange(3000, dtype="i4") + (day == 3) * 5
    stacks.serve(paths)

    for scan in (False, True):
        with pytest.raises(ProductMismatchError, match=f"{name(3)} .*'fixed'"):
            stacks.open(scan=scan).load()
        found = stacks.open(scan=scan, drop_variables="fixed")["obs"]
        lengths = [len(numbers) for numbers in found.load().to_numpy().ravel()]
        assert lengths == [1, 2, 3, 2, 3, 4, 3, 4, 5]
        assert found.isel(time=1, x=2).item().tolist() == [0, 1, 2, 3]


def test_nothing_advises_a_scan_that_was_given(stacks: Any) -> None:
    """With all headers read, what does not fit is told with another step."""
    made = {day: product(day) for day in (1, 2, 3)}
    made[3] = made[3].assign(v=(("time", "x"), [["a", "b", "c"]]))
    serve(stacks, made)

    with pytest.raises(ProductMismatchError) as caught:
        stacks.open(scan=True)
    assert "scan=True" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("narrow", [1, 2])
def test_whichever_product_has_coordinates_of_four_bytes(stacks: Any, narrow: int) -> None:
    """The tolerance lets it pass, and the error tells by how much, as template or as another."""
    made = {day: _grid(day, LAT.astype("f4") if day == narrow else LAT) for day in (1, 2)}
    serve(stacks, made)

    for scan in (False, True):
        with pytest.raises(ProductMismatchError, match=r"'lat' .*by up to .*noise of float"):
            stacks.open(scan=scan).load()
        found = stacks.open(scan=scan, grid_tolerance=np.float32(1e-6)).load()
        assert found["v"][:, 0].to_numpy().tolist() == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("away", "told"), [(1e-8, "noise"), (1.0, "another grid")])
def test_curved_coordinates_tell_by_how_much(stacks: Any, away: float, told: str) -> None:
    """Coordinates of two dimensions, and others that are no index, are judged like an index."""
    lat = np.linspace(0.0, 1.0, 12).reshape(3, 4)

    def curved(day: int) -> xr.Dataset:
        ds = product(day).drop_dims("x").assign(v=(("time", "j", "i"), np.zeros((1, 3, 4)) + day))
        return ds.assign_coords(lat=(("j", "i"), lat + away * (day == 2)))

    serve(stacks, {day: curved(day) for day in (1, 2)})

    for scan in (False, True):
        with pytest.raises(ProductMismatchError, match=f"'lat' .*by up to .*{told}"):
            stacks.open(scan=scan).load()


def test_bounds_and_single_coordinates_have_the_tolerance_of_the_grid(stacks: Any) -> None:
    """The bounds of a coordinate are as far apart as it is itself; a height is one, too."""

    def bounded(day: int, noise: float) -> xr.Dataset:
        ds = _grid(day, LAT + noise).assign_coords(height=2.0 + noise)
        ds["lat"].attrs["bounds"] = "lat_bnds"
        return ds.assign(lat_bnds=(("lat", "nv"), np.stack([LAT - 0.05, LAT + 0.05], 1) + noise))

    serve(stacks, {1: bounded(1, 0), 2: bounded(2, 1e-9)})

    for scan in (False, True):
        assert stacks.open(scan=scan, grid_tolerance=1e-8).load().sizes["time"] == 2
    with pytest.raises(ProductMismatchError, match="grid_tolerance"):
        stacks.open().load()


@pytest.mark.filterwarnings("ignore:.*use_cftime:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*use_cftime:DeprecationWarning")
def test_calendars_of_other_names_are_the_same(stacks: Any) -> None:
    """The Gregorian calendar is the standard one; others are told without what was given."""
    made = {}
    for day, calendar in ((1, "standard"), (2, "gregorian"), (3, "noleap")):
        attrs = {"units": "hours since 2000-01-01", "calendar": calendar}
        ds = product(day).drop_vars("time")
        hours = (np.datetime64(f"2024-05-{day:02}T12") - np.datetime64("2000-01-01T00")) / HOUR
        hours -= 24 * 7 * (calendar == "noleap")
        made[day] = ds.assign_coords(time=("time", [int(hours)], attrs))
    serve(stacks, made)
    cftime = xr.coders.CFDatetimeCoder(use_cftime=True)

    same = f"hda://{stacks.dataset}/p_2024050[12]*"
    assert stacks.open(same, decode_times=cftime).load().sizes["time"] == 2
    with pytest.raises(ProductMismatchError, match="calendar") as caught:
        stacks.open(decode_times=cftime).load()
    assert "use_cftime" not in str(caught.value)


@pytest.mark.parametrize("start", ["9999-12-31", "2400-01-01", "0001-01-01", "1500-06-01"])
def test_a_start_beyond_what_nanoseconds_hold(stacks: Any, start: str) -> None:
    """The catalogue's time of a product that has none is not another one in silence."""
    made = {f"d{day}.nc": product(day).isel(time=0, drop=True) for day in (1, 2)}
    starts = {"d1.nc": "2024-05-01", "d2.nc": start}
    fields = {"startdate": lambda name: f"{starts[name]}T00:00:00.000Z", "enddate": None}
    stacks.serve(made, fields=fields)
    query = f"hda://{stacks.dataset}"

    with pytest.raises(QueryError, match=rf"{start}.*d2\.nc.*1678 to 2261"):
        stacks.open(query)
    with pytest.raises(QueryError, match=rf"{start}.*d2\.nc.*1678 to 2261"):
        hda_fsspec.open_mfdataset(query, storage_options=stacks.options)
    with pytest.raises(QueryError, match=rf"{start}.*d2\.nc.*1678 to 2261"):
        hda_fsspec.map_products(
            query,
            lambda ds: ds.mean(),
            storage_options=stacks.options,
            concat_dim="time",
        ).compute(scheduler="sync")
