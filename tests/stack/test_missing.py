"""Products that cannot be had, and products that do not lie on the same ground."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec.emulator import Fault
from hda_fsspec.errors import (
    OfflineError,
    OrderError,
    ProductFormatError,
    ProductMismatchError,
    QueryError,
)

DAYS = 3


def name(day: int) -> str:
    """Return the id of a day's product."""
    return f"p_202405{day:02}.nc"


def product(day: int, shift: float = 0.0, steps: int = 1) -> xr.Dataset:
    """Return a day's product with a variable of each kind, on a grid that may be shifted."""
    hours = np.arange(steps) * np.timedelta64(1, "h")
    times = np.datetime64(f"2024-05-{day:02}T12:00", "ns") + hours
    return xr.Dataset(
        {
            "sst": (("time", "x"), np.full((steps, 3), day * 1.5, dtype="f4")),
            "flag": (("time", "x"), np.full((steps, 3), day, dtype="i2")),
            "count": ("time", np.full(steps, day, dtype="i8")),
            "label": ("time", np.array([f"day {day}"] * steps, dtype=object)),
            "seen": ("time", times),
        },
        coords={"time": times, "x": [1.0, 2.0 + shift, 3.0]},
    )


def serve(stacks: Any, **options: Any) -> None:
    """Serve three days."""
    stacks.serve({name(day): product(day) for day in range(1, DAYS + 1)}, **options)


def lose(stacks: Any, day: int) -> None:
    """Let every order of a day's product fail."""
    stacks.emulator.fault(Fault("order-failed", product_id=name(day), times=None))


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, {}], ids=["in memory", "chunked"])
def test_a_failed_order_is_an_error(stacks: Any, chunks: Any) -> None:
    """Values are never made up unless that was asked for; the others can be read."""
    serve(stacks)
    lose(stacks, 2)
    found = stacks.open(chunks=chunks)

    with pytest.raises(OrderError, match=name(2)):
        found["sst"].load()

    assert found["count"].isel(time=[0, 2]).to_numpy().tolist() == [1, 3]


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, {}], ids=["in memory", "chunked"])
def test_a_failed_order_becomes_missing_values(stacks: Any, chunks: Any) -> None:
    """With on_missing="nan" it is missing in every variable, and one warning names it."""
    serve(stacks)
    lose(stacks, 2)
    found = stacks.open(chunks=chunks, on_missing="nan")

    with pytest.warns(UserWarning, match=name(2)) as caught:
        loaded = found.load()

    assert len(caught) == 1
    assert {str(key): str(variable.dtype) for key, variable in loaded.items()} == {
        "sst": "float32",
        "flag": "float32",
        "count": "float64",
        "label": "object",
        "seen": "datetime64[ns]",
    }
    assert bool(loaded.isel(time=1).isnull().all().to_array().all())
    for day in (1, 3):
        wanted = product(day).isel(time=0)
        xr.testing.assert_equal(loaded.isel(time=day - 1).astype(wanted.dtypes), wanted)
    assert loaded["time"].to_numpy()[1] == np.datetime64("2024-05-02T12:00")


@pytest.mark.slow
def test_what_can_be_had_later_is_read_later(stacks: Any) -> None:
    """A missing product is not missing for ever."""
    serve(stacks)
    lose(stacks, 2)
    found = stacks.open(on_missing="nan")
    with pytest.warns(UserWarning, match=name(2)):
        assert np.isnan(found["sst"].isel(time=1).to_numpy()).all()

    stacks.emulator.clear_faults()

    assert found["sst"].isel(time=1).to_numpy().tolist() == [3.0] * 3


@pytest.mark.slow
def test_the_first_product_may_be_missing(stacks: Any) -> None:
    """Then the next one is the template."""
    serve(stacks)
    lose(stacks, 1)

    with pytest.raises(OrderError, match=name(1)):
        stacks.open()
    found = stacks.open(on_missing="nan")
    assert found.encoding["hda_template"] == name(2)
    with pytest.warns(UserWarning, match=name(1)):
        assert np.isnan(found["count"].load()).to_numpy().tolist() == [True] + [False] * 2


@pytest.mark.slow
def test_a_service_that_delivers_nothing_is_an_error(stacks: Any) -> None:
    """Where none can be had there is no template, and a few failed orders are enough to say so."""
    stacks.serve({name(day): product(day) for day in range(1, 6)})
    for day in range(1, 6):
        lose(stacks, day)

    with pytest.raises(OrderError, match=name(1)):
        stacks.open(on_missing="nan")
    assert len(stacks.ordered) == 3


@pytest.mark.slow
def test_a_scan_puts_up_with_missing_products(stacks: Any) -> None:
    """The time of one that cannot be had is predicted from all the others."""
    serve(stacks)
    lose(stacks, 2)

    with pytest.raises(OrderError, match=name(2)):
        stacks.open(scan=True)
    found = stacks.open(scan=True, on_missing="nan")
    with pytest.warns(UserWarning, match=name(2)):
        loaded = found["count"].load()
    np.testing.assert_array_equal(loaded, [1, np.nan, 3])
    assert loaded["time"].to_numpy()[1] == np.datetime64("2024-05-02T12:00")


@pytest.mark.slow
def test_a_damaged_product_is_missing_too(stacks: Any, tmp_path: Any) -> None:
    """What is no data is as good as not there."""
    serve(stacks)
    stacks.emulator.republish(stacks.dataset, name(2), b"<html>Sorry</html>")
    with pytest.raises(ProductFormatError):
        stacks.open()["count"].load()

    with pytest.warns(UserWarning, match=name(2)):
        found = stacks.open(on_missing="nan")["count"].load()

    np.testing.assert_array_equal(found, [1, np.nan, 3])


@pytest.mark.slow
def test_a_mismatch_is_never_missing(stacks: Any) -> None:
    """A product that is there and differs is an error all the same."""
    made = {name(day): product(day, shift=0.5 * (day == 2)) for day in range(1, DAYS + 1)}
    stacks.serve(made)
    found = stacks.open(on_missing="nan")

    with pytest.raises(ProductMismatchError, match=name(2)):
        found["sst"].load()


@pytest.mark.slow
def test_what_holds_for_all_products_is_never_missing(stacks: Any) -> None:
    """Offline, or without a login, there would be nothing but missing values."""
    serve(stacks)
    stacks.open(on_missing="nan")
    stacks.forget()

    found = stacks.open(on_missing="nan", settings={"offline": True})
    with pytest.raises(OfflineError):
        found["sst"].load()


def test_an_unknown_way_to_treat_missing_products(stacks: Any) -> None:
    """A misspelt option is refused before anything is ordered."""
    serve(stacks)

    with pytest.raises(QueryError, match=r'"raise" or "nan"'):
        stacks.open(on_missing="NaN")
    assert stacks.ordered == []


@pytest.mark.slow
def test_nothing_is_warned_of_where_nothing_is_missing(stacks: Any) -> None:
    """The option alone changes dtypes, and no values."""
    serve(stacks)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = stacks.open(on_missing="nan").load()

    assert found["count"].dtype == "f8"
    assert found["count"].to_numpy().tolist() == [1, 2, 3]


BOXES = {1: (0.0, 0.0, 10.0, 10.0), 2: (0.05, 0.0, 10.05, 10.0), 3: (3.0, 0.0, 13.0, 10.0)}


def swaths(stacks: Any, *days: int, steps: int = 1) -> None:
    """Serve products, each on the ground of its box."""
    stacks.serve(
        {name(day): product(day, shift=BOXES[day][0], steps=steps) for day in days},
        fields={"bbox": lambda each: BOXES[int(each[8:10])]},
    )


@pytest.mark.slow
def test_swaths_are_told_at_opening(stacks: Any) -> None:
    """Footprints that differ cost a second order, and then the error tells what to do instead."""
    swaths(stacks, 1, 2, 3)

    with pytest.raises(ProductMismatchError, match=f"{name(3)} .*'x' has other values") as caught:
        stacks.open()

    assert stacks.ordered == [name(1), name(3)]
    assert "open_datatree" in str(caught.value)
    assert "preprocess=" in str(caught.value)


@pytest.mark.slow
def test_footprints_that_hardly_differ_cost_nothing(stacks: Any) -> None:
    """Edges of pixels, or their centres: half a percent is no other ground; reading finds out."""
    swaths(stacks, 1, 2)

    found = stacks.open()

    assert stacks.ordered == [name(1)]
    with pytest.raises(ProductMismatchError, match=name(2)):
        found["sst"].load()


@pytest.mark.slow
def test_footprints_may_differ_on_one_grid(stacks: Any) -> None:
    """A product that has data on a part of the grid only is no swath."""
    boxes = {name(day): (0.0, 0.0, 10.0 * day, 10.0) for day in range(1, DAYS + 1)}
    serve(stacks, fields={"bbox": boxes.__getitem__})

    found = stacks.open(chunks={})

    assert stacks.ordered == [name(1), name(3)]
    assert found["count"].to_numpy().tolist() == [1, 2, 3]
    stacks.evict()
    stacks.open()
    assert len(stacks.ordered) == DAYS
