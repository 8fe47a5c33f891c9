"""What travels with the tasks of a stack is small, however many products there are."""

from __future__ import annotations

import hashlib
import json
import pickle
import uuid
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import xarray as xr

from hda_fsspec.lazy.arrays import recipe_under
from hda_fsspec.stack.arrays import StackArray

FEW, MANY = 20, 170


def product_id(number: int) -> str:
    """Return an id of a hundred characters, of which some cannot be guessed from the one before."""
    time = (
        f"2024{1 + number // 28:02}{1 + number % 28:02}T{number * 7 % 24:02}{number * 13 % 60:02}00"
    )
    digest = hashlib.sha256(str(number).encode()).hexdigest()[:8].upper()
    base = f"S3A_OL_2_WFR____{time}_{time}_{time}_0179_111_222_1980_MAR_O_NT_003_{digest}"
    return base.ljust(97, "_") + ".nc"


def of_odata(number: int) -> str:
    """Return a locator as the ESA part of the service has it."""
    unique = uuid.UUID(bytes=hashlib.sha256(f"o{number}".encode()).digest()[:16])
    return f"https://download.dataspace.copernicus.eu/odata/v1/Products({unique})/$value"


def of_ecmwf(number: int) -> str:
    """Return a locator as the ECMWF part has it: a request of 800 characters, percent-encoded."""
    request = {
        "product_type": ["reanalysis"],
        "variable": ["2m_temperature", "total_precipitation", "10m_u_component_of_wind"],
        "year": ["2024"],
        "month": [f"{1 + number // 28:02}"],
        "day": [f"{1 + number % 28:02}"],
        "time": [f"{hour:02}:00" for hour in range(24)],
        "area": [60, -10, 50, 5],
        "data_format": "netcdf",
    }
    return quote(json.dumps(request)).ljust(800, "+")


def product(path: Any, steps: int) -> None:
    """Write a product on a grid that does not compress, with some variables."""
    rng = np.random.default_rng(1)
    lat, lon = np.sort(rng.random(720)), np.sort(rng.random(1440))
    values = np.zeros((steps, 720), dtype="f4")
    ds = xr.Dataset(
        {f"variable_{n}": (("time", "lat"), values) for n in range(3)},
        coords={
            "time": np.datetime64("2024-01-01", "ns") + np.arange(steps) * np.timedelta64(1, "h"),
            "lat": lat,
            "lon": lon,
        },
        attrs={"history": "x" * 5000},
    )
    ds["variable_0"].attrs["comment"] = "y" * 200
    ds.to_netcdf(path)


def stacked(stacks: Any, count: int, locator: Any, steps: int, **given: Any) -> xr.Dataset:
    """Open so many products, of which only the first is looked at."""
    path = stacks.folder / "product.nc"
    if not path.exists():
        product(path, steps)
    first = np.datetime64("2024-01-01", "ms")
    ids = [product_id(number) for number in range(count)]
    number_of = {each: number for number, each in enumerate(ids)}

    def date(each: str, more: int) -> str:
        time = first + np.timedelta64(steps * number_of[each], "h") + np.timedelta64(more, "ms")
        return f"{time}Z"

    stacks.serve(
        dict.fromkeys(ids, path),
        fields={
            "location": lambda each: locator(number_of[each]),
            "startdate": lambda each: date(each, 0),
            "enddate": lambda each: date(each, steps * 3_600_000 - 1),
        },
    )
    found: xr.Dataset = stacks.open(**given)
    assert found.sizes["time"] == count * steps
    stacks.emulator.stop()
    stacks.forget()
    return found


def weight(array: xr.DataArray) -> int:
    """Return how many bytes a variable takes, with the tasks that make it."""
    return len(pickle.dumps(array.variable))


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, {}], ids=["in memory", "chunked"])
@pytest.mark.parametrize("locator", [of_odata, of_ecmwf])
def test_a_variable_of_one_product_is_small(stacks: Any, locator: Any, chunks: Any) -> None:
    """A recipe for one product takes less than 10 kB, whatever its grid and its attributes."""
    found = stacked(stacks, 1, locator, 1, chunks=chunks)

    for name in found.data_vars:
        assert weight(found[name]) < 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("locator", "chunks", "steps"),
    [(of_odata, None, 1), (of_odata, {}, 24), (of_ecmwf, {}, 1), (of_ecmwf, None, 24)],
)
def test_a_stack_grows_slowly(stacks: Any, locator: Any, chunks: Any, steps: int) -> None:
    """Each further product takes less than 150 bytes, its times and its tasks included."""
    few = stacked(stacks, FEW, locator, steps, chunks=chunks)
    many = stacked(stacks, MANY, locator, steps, chunks=chunks)

    for name in few.data_vars:
        assert weight(many[name]) - weight(few[name]) < 150 * (MANY - FEW)


@pytest.mark.slow
def test_all_variables_share_one_table(stacks: Any) -> None:
    """Ten variables of a stack weigh little more than one."""
    found = stacked(stacks, MANY, of_odata, 1)

    one = len(pickle.dumps(found["variable_0"].variable))
    three = len(pickle.dumps([found[name].variable for name in found.data_vars]))
    assert three < one + 4_000


@pytest.mark.slow
def test_a_pickle_restores_what_it_was_made_of(stacks: Any) -> None:
    """Times, lengths and products come back as they were, in one table for all variables."""
    found = stacked(stacks, 50, of_ecmwf, 24)

    again = pickle.loads(pickle.dumps(found))

    arrays = [recipe_under(each["variable_0"].variable._data) for each in (found, again)]
    assert all(isinstance(array, StackArray) for array in arrays)
    stack, restored = (array.stack for array in arrays if isinstance(array, StackArray))
    (axis,), (its_axis,) = stack.grid.axes, restored.grid.axes
    np.testing.assert_array_equal(its_axis.index, axis.index)
    np.testing.assert_array_equal(its_axis.lengths, axis.lengths)
    assert restored.digest == stack.digest
    assert list(restored.source.pieces) == list(stack.source.pieces)
