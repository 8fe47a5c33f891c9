"""The options to open a product with are one small value, the same in every process."""

from __future__ import annotations

import operator
import os
import pickle
import subprocess
import sys

import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.errors import ConfigurationError
from hda_fsspec.reading.options import OpenOptions, freeze, thaw

VALUES = [
    None,
    True,
    1.5,
    "text",
    ["a", 1],
    ("a", [1, {"b": 2}]),
    {"z": 1, "a": {"typeOfLevel": ["surface", "sfc"]}},
    {"one", "two"},
    frozenset({1, 2}),
    operator.neg,
]


@for_each("value", VALUES)
def test_frozen_values_come_back(value: object) -> None:
    """Whatever was given is hashable while it is kept, and given to the engine as it was."""
    frozen = freeze(value)

    hash(frozen)
    assert pickle.loads(pickle.dumps(frozen)) == frozen
    assert thaw(frozen) == value
    assert type(thaw(frozen)) is type(value)


def test_equal_options_are_equal_values() -> None:
    """The order of keys does not matter, nor that an object of xarray was made twice."""

    def make(**filters: object) -> OpenOptions:
        return OpenOptions.make(
            drop_variables=["a"],
            decode_times=xr.coders.CFDatetimeCoder(use_cftime=True),
            mask_and_scale={"x": False, "y": True},
            product_engine_kwargs={"filter_by_keys": filters},
        )

    one, other = make(a=1, b=2), make(b=2, a=1)

    assert one == other
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one != make(a=1, b=3)
    assert len(pickle.dumps(one)) < 1000


def test_thawed_options_are_what_xarray_takes() -> None:
    """Only what was given becomes an argument, and each call makes new objects."""
    options = OpenOptions.make(
        decode_times=xr.coders.CFDatetimeCoder(time_unit="s"),
        mask_and_scale=None,
        product_engine_kwargs={"filter_by_keys": {"shortName": "2t"}, "squeeze": None},
    )

    arguments = options.arguments()

    assert set(arguments) == {"decode_times", "filter_by_keys", "squeeze"}
    assert arguments["decode_times"].time_unit == "s"
    assert arguments["filter_by_keys"] == {"shortName": "2t"}
    assert arguments["filter_by_keys"] is not options.arguments()["filter_by_keys"]


def test_one_dropped_variable_is_no_list_of_letters() -> None:
    """A string and a list of one string mean the same."""
    assert OpenOptions.make(drop_variables="sst") == OpenOptions.make(drop_variables=["sst"])


def test_what_cannot_travel_is_refused() -> None:
    """A value that no other process could have is told where it is given."""
    with pytest.raises(ConfigurationError, match="cannot be sent to other processes"):
        OpenOptions.make(product_engine_kwargs={"preprocess": lambda ds: ds})


@pytest.mark.slow
def test_the_spelling_is_the_same_in_every_process() -> None:
    """Names of tasks may be made of it: no address of memory, no order of a hash."""
    code = (
        "import xarray as xr; from hda_fsspec.reading.options import OpenOptions;"
        "print(OpenOptions.make(decode_times=xr.coders.CFDatetimeCoder(),"
        " product_engine_kwargs={'keys': {'b', 'a', 'c'}}))"
    )
    here = OpenOptions.make(
        decode_times=xr.coders.CFDatetimeCoder(), product_engine_kwargs={"keys": {"b", "a", "c"}}
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"

    elsewhere = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
        timeout=60,
    )

    assert elsewhere.stdout == f"{here}\n"
