"""Small products of a day each, for tests of what a stack makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

DAY, HOUR = np.timedelta64(1, "D"), np.timedelta64(1, "h")


def name(day: int) -> str:
    """Return the id of a day's product."""
    return f"p_202405{day:02}.nc"


def product(day: int, **variables: Any) -> xr.Dataset:
    """Return a product of one step."""
    time = np.datetime64(f"2024-05-{day:02}T12", "ns")
    ds = xr.Dataset(
        {"v": (("time", "x"), np.full((1, 3), float(day)))},
        coords={"time": [time], "x": [1.0, 2.0, 3.0]},
    )
    ds["time"].encoding = {"units": "hours since 1950-01-01", "dtype": "i4"}
    return ds.assign(variables)


def serve(stacks: Any, made: Mapping[int, xr.Dataset], **options: Any) -> None:
    """Serve products of some days."""
    stacks.serve({name(day): ds for day, ds in made.items()}, **options)


def dataset_path(stacks: Any, day: int) -> str:
    """Return the path of a day's product."""
    return f"hda://{stacks.dataset}/{name(day)}"
