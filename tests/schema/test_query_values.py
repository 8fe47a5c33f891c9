"""Values of queries: numbers and times of Python, numpy, pandas and xarray, alone and in arrays."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec import Location
from hda_fsspec.errors import LocationError

NOON = "2024-05-01T12:00:00.000Z"
MIDNIGHT = "2024-05-01T00:00:00.000Z"
TIME = xr.DataArray(pd.date_range("2024-05-01T12:00", periods=2), dims="time")

VALUES: list[tuple[Any, str]] = [
    ("x", "x"),
    (np.str_("x"), "x"),
    (True, "true"),
    (np.bool_(0), "false"),
    (3, "3"),
    (np.int16(3), "3"),
    (np.uint64(2**63), "9223372036854775808"),
    (-6.0, "-6"),
    (np.float64(-6.0), "-6"),
    (np.float32(0.1), "0.1"),
    (np.float16(0.1), "0.1"),
    (np.longdouble("0.5"), "0.5"),
    (np.array(0.25), "0.25"),
    (np.array("x"), "x"),
    (np.array([1, 2]), "1,2"),
    (np.array(["a", "b"]), "a,b"),
    (np.array([0.1, 2], "float32"), "0.1,2"),
    ([np.int8(1), np.float32(2.5), "x", np.array(3)], "1,2.5,x,3"),
    ((1, 2), "1,2"),
    (range(2000, 2003), "2000,2001,2002"),
    (pd.Series([1.0, 2.5]), "1,2.5"),
    (pd.Index(["a", "b"]), "a,b"),
    (xr.DataArray([1, 2]), "1,2"),
    (xr.DataArray(5), "5"),
    (dt.date(2024, 5, 1), "2024-05-01"),
    (dt.datetime.fromisoformat("2024-05-01"), MIDNIGHT),
    (dt.datetime.fromisoformat("2024-05-01T12:00:00.000007"), "2024-05-01T12:00:00.000007Z"),
    (dt.datetime(2024, 5, 1, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))), NOON),
    (pd.Timestamp("2024-05-01"), MIDNIGHT),
    (pd.Timestamp("2024-05-01T14:00", tz="Europe/Berlin"), NOON),
    (pd.Timestamp("2024-05-01T12:00:00.000000001"), NOON),
    (np.datetime64("2024"), "2024"),
    (np.datetime64("2024-05"), "2024-05"),
    (np.datetime64("2024-05-01"), "2024-05-01"),
    (np.datetime64("2024-05-01T12"), NOON),
    (np.datetime64("2024-05-01T12:00", "ns"), NOON),
    (np.datetime64("2024-05-01T12:00:00.000000001"), NOON),
    (np.datetime64("1850-01-01T00:00", "s"), "1850-01-01T00:00:00.000Z"),
    (TIME.values[0], NOON),
    (TIME[0], NOON),
    (TIME.values, f"{NOON},2024-05-02T12:00:00.000Z"),
    (pd.DatetimeIndex(["2024-05-01T14:00"], tz="Europe/Berlin"), NOON),
    (np.array([pd.Timestamp("2024-05-01")], dtype=object), MIDNIGHT),
]


@for_each(("value", "text"), VALUES)
def test_a_value_is_written_as_its_text(value: Any, text: str) -> None:
    """Whatever a value is an instance of, the path has the plain text of it."""
    found = Location("EO:X", {"key": value})

    assert found.path.partition("key=")[2] == text
    assert Location.parse(found.path) == found
    assert Location.from_request({"dataset_id": "EO:X", "key": value}) == found


BOX = "hda://EO:X/bbox=-6.1,43,-1.5,46"


@for_each(
    "box",
    [
        np.array([-6.1, 43, -1.5, 46]),
        np.array([-6.1, 43, -1.5, 46], "float32"),
        [np.float64(-6.1), np.int64(43), np.float32(-1.5), 46],
        pd.Series({"minx": -6.1, "miny": 43, "maxx": -1.5, "maxy": 46}),
        pd.DataFrame({"minx": [-6.1], "miny": 43, "maxx": -1.5, "maxy": 46}).loc[0],
        xr.DataArray([-6.1, 43, -1.5, 46]),
        "-6.1,43,-1.5,46",
    ],
)
def test_a_box_of_numbers(box: Any) -> None:
    """The bounds of a GeoDataFrame, a Series or an array are a box, in their shortest form."""
    assert Location("EO:X", {"bbox": box}).path == BOX


@for_each(
    "value",
    [
        np.nan,
        np.float32("inf"),
        np.array([1.0, np.nan]),
        pd.NaT,
        pd.NA,
        np.datetime64("NaT", "D"),
        np.datetime64("NaT", "ns"),
        np.timedelta64(1, "D"),
        dt.timedelta(days=1),
        np.complex64(1),
        b"x",
        np.bytes_(b"x"),
        np.array([[1, 2]]),
        [[1, 2]],
        np.array([]),
        [],
        {"a"},
        {"a": 1},
        object(),
    ],
)
def test_what_is_no_value_is_refused(value: Any) -> None:
    """NaN, NaT, spans, bytes, and lists in lists would ask for something else in silence."""
    with pytest.raises(LocationError, match="key"):
        Location("EO:X", {"key": value})


def test_a_box_of_the_wrong_shape_is_refused() -> None:
    """The bounds of each row of a table are not one box."""
    bounds = pd.DataFrame({"minx": [-6.1], "miny": [43], "maxx": [-1.5], "maxy": [46]})

    with pytest.raises(LocationError, match="2 dimensions"):
        Location("EO:X", {"bbox": bounds})


def test_times_of_a_dataset_find_products(bench: Any) -> None:
    """A time taken out of a data set is the start of a query."""
    fs = bench.filesystem(bench.start(days=5))
    times = pd.date_range("2024-05-02T00:00", "2024-05-03T23:00", freq="h").to_numpy()

    query = Location(bench.dataset, {"startdate": times[0], "enddate": times[-1]})

    assert [info["product_id"] for info in fs.ls(query)] == [
        bench.product_id(2),
        bench.product_id(3),
    ]


def test_paths_of_text_load_no_numpy() -> None:
    """The package stays light: numpy is loaded by whoever has values of it."""
    code = (
        "import sys; from hda_fsspec import Location;"
        "Location('EO:X', {'bbox': [1, 2, 3, 4], 'startdate': '2024-05-01'});"
        "print('numpy' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "False"
