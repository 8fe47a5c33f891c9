"""Layouts: along which dimension products lie, what is stacked, and what must agree."""

from __future__ import annotations

import dataclasses
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.errors import QueryError
from hda_fsspec.stack.concat_dim import ConcatLayout, find_layout
from hda_fsspec.stack.header import Header

DAY = np.datetime64("2024-05-01", "ns")
GRID = (("y", "x"), np.zeros((2, 3)))


def header(variables: dict[str, Any], coords: dict[str, Any] | None = None) -> Header:
    """Take a header as it is taken of a product to find its layout."""
    return Header.of(xr.Dataset(variables, coords=coords))


def with_time(name: str, count: int = 1, **attrs: str) -> Header:
    """Return the header of a product with a time coordinate."""
    times = DAY + np.arange(count).astype("timedelta64[D]")
    return header({"v": ((name, "x"), np.zeros((count, 3)))}, {name: (name, times, attrs)})


YEAR_OF_360 = [cftime.Datetime360Day(2024, 2, 30)]


@dataclasses.dataclass(frozen=True)
class Case:
    """A product, and how it is laid."""

    header: Header
    dim: str
    is_new: bool = False
    has_index: bool = True
    is_from_catalogue: bool = False
    stacked: tuple[str, ...] = ("v",)
    concat_dim: str | None = None
    concat_variables: tuple[str, ...] = ()


CASES = {
    "one time": Case(with_time("time"), "time"),
    "many times": Case(with_time("time", 24), "time"),
    "another name": Case(with_time("valid_time", 2), "valid_time"),
    "any name that holds times": Case(with_time("when"), "when"),
    "numbers under a known name": Case(
        header({"v": ("time_counter", [1.0])}, {"time_counter": [0.0]}), "time_counter"
    ),
    "numbers that are marked": Case(
        header({"v": ("when", [1.0])}, {"when": ("when", [36.0], {"axis": "T"})}), "when"
    ),
    "a calendar of its own": Case(
        Header.of(
            xr.decode_cf(
                xr.Dataset(
                    {"v": ("month", [1.0])},
                    {
                        "month": (
                            "month",
                            [59],
                            {"units": "days since 2024-01-01", "calendar": "360_day"},
                        )
                    },
                )
            )
        ),
        "month",
    ),
    "two times, of which one is marked": Case(
        header(
            {"v": (("time", "run"), [[1.0]])},
            {"run": ("run", [DAY], {"standard_name": "time"}), "time": [DAY]},
        ),
        "run",
    ),
    "two times, of which one is known": Case(
        header({"v": (("run", "time"), [[1.0]])}, {"run": [DAY], "time": [DAY]}), "time"
    ),
    "a scalar time": Case(
        header({"v": GRID, "w": GRID}, {"time": DAY}), "time", is_new=True, stacked=("v", "w")
    ),
    "no time at all": Case(
        header({"v": GRID}), "time", is_new=True, has_index=False, is_from_catalogue=True
    ),
    "a dimension without a variable": Case(
        header({"v": ("time", [1.0])}), "time", has_index=False, is_from_catalogue=True
    ),
    "a longer dimension without a variable": Case(
        header({"v": ("time", [1.0, 2.0])}), "time", has_index=False
    ),
    "a time for each pixel": Case(
        header({"v": GRID, "time": (("y", "x"), np.full((2, 3), DAY))}),
        "start_time",
        is_new=True,
        has_index=False,
        is_from_catalogue=True,
        stacked=("v", "time"),
    ),
    "a dimension that was asked for": Case(
        header({"v": ("x", [1.0])}, {"x": [5.0], "time": DAY}), "x", concat_dim="x"
    ),
    "a new dimension that was asked for": Case(
        header({"v": GRID}, {"time": DAY}),
        "run",
        is_new=True,
        has_index=False,
        is_from_catalogue=True,
        concat_dim="run",
    ),
    "variables that were asked for": Case(
        header({"v": ("time", [1.0]), "w": ((), 1.0)}, {"time": [DAY], "run": DAY}),
        "time",
        stacked=("v", "run", "w"),
        concat_variables=("run", "w", "v", "time"),
    ),
    "bounds and auxiliary coordinates": Case(
        header(
            {"v": ("time", [1.0]), "time_bnds": (("time", "nv"), [[DAY, DAY]]), "mask": GRID},
            {"time": [DAY], "valid_time": ("time", [DAY])},
        ),
        "time",
        stacked=("v", "time_bnds", "valid_time"),
    ),
}


@for_each("name", CASES)
def test_layout(name: str) -> None:
    """Each kind of product is laid as xarray would join it."""
    case = CASES[name]

    found = find_layout(case.header, case.concat_dim, case.concat_variables)

    assert set(found.stacked) == set(case.stacked)
    assert len(found.stacked) == len(case.stacked)
    assert dataclasses.replace(found, stacked=()) == ConcatLayout(
        dim=case.dim,
        is_new=case.is_new,
        has_index=case.has_index,
        is_from_catalogue=case.is_from_catalogue,
        stacked=(),
    )


def test_what_must_agree_and_what_is_kept() -> None:
    """All that lacks the dimension must agree; of it scalars and indexes are kept with values."""
    given = header(
        {"v": (("time", "x"), [[1.0, 2.0]]), "mask": ("x", [1, 0]), "crs": ((), 3)},
        {"time": [DAY], "x": [1.0, 2.0], "number": 0, "area": ("x", [1.0, 1.0])},
    )

    layout = find_layout(given, None)

    assert layout.variables_to_match(given) == {"mask", "crs", "x", "number", "area"}
    assert layout.variables_to_store(given) == {"time", "x", "crs", "number"}


def test_an_unknown_variable_to_stack_is_refused() -> None:
    """A misspelt name is told, with the names there are."""
    with pytest.raises(QueryError, match=r"'runn', which .*: run, v\."):
        find_layout(header({"v": GRID}, {"run": DAY}), None, ["runn"])


def test_an_index_of_the_grid_cannot_be_stacked() -> None:
    """The index of one dimension cannot lie along another one too."""
    given = header({"v": (("time", "x"), [[1.0]])}, {"time": [DAY], "x": [1.0]})

    with pytest.raises(QueryError, match=r"'x'.*index"):
        find_layout(given, None, ["x"])


@pytest.mark.parametrize("concat_dim", ["v", None])
def test_a_dimension_named_like_another_variable_is_refused(concat_dim: str | None) -> None:
    """A variable is never lost because the dimension took its name."""
    name = concat_dim or "time"
    size = {"v": ("x", "y"), "time": ("time", "x")}[name]
    given = Header.of(xr.Dataset({name: xr.Variable(size, np.zeros((2, 3)))}))

    with pytest.raises(QueryError, match="another concat_dim"):
        find_layout(given, concat_dim)
