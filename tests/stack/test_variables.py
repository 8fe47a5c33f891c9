"""Which variables a stack has, and that their values mean the same in all products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from daily_products import dataset_path, name, product, serve

from hda_fsspec import HDAFileSystem
from hda_fsspec.errors import ProductMismatchError


@pytest.mark.slow
def test_a_variable_that_comes_late(stacks: Any, cases: Path) -> None:
    """With all headers it is there and missing where it lacks; without, it is told of once."""
    paths = sorted((cases / "late-variable").glob("*.nc"))
    stacks.serve({path.name: path for path in paths})

    found = stacks.open(chunks={})
    assert list(found.data_vars) == ["v"]
    with pytest.warns(
        UserWarning, match=r"p_2024050[23].nc has variables .*'w'.*scan=True"
    ) as told:
        found["v"].load()
    assert len(told) == 1
    assert "drop_variables" in str(told[0].message)

    with pytest.warns(UserWarning, match=r"'w' in 1 of 3 products.*drop_variables") as told:
        scanned = stacks.open(scan=True, chunks={})
    assert len(told) == 1
    parts = [xr.load_dataset(path) for path in paths]
    wanted = xr.concat(parts, "time", data_vars="all", join="exact")
    xr.testing.assert_equal(scanned.load(), wanted)
    assert list(stacks.open(drop_variables="w").data_vars) == ["v"]


@pytest.mark.slow
def test_a_scan_gives_two_machines_the_same(stacks: Any, cases: Path) -> None:
    """Which products were local before makes no difference to a data set of all headers."""
    paths = sorted((cases / "late-variable").glob("*.nc"))
    stacks.serve({path.name: path for path in paths})
    other = {"cache_dir": stacks.bench.folder / "other"}
    fs = HDAFileSystem(**stacks.options | other)
    fs.prefetch(f"hda://{stacks.dataset}/p_20240503.nc")

    with pytest.warns(UserWarning, match="lack variables"):
        here = stacks.open(scan=True, chunks={})
    with pytest.warns(UserWarning, match="lack variables"):
        there = stacks.open(scan=True, chunks={}, settings=other)

    assert here["w"].data.name == there["w"].data.name
    assert here.encoding == there.encoding
    xr.testing.assert_identical(here.compute(), there.compute())


@pytest.mark.slow
def test_a_product_that_lacks_a_variable_fails_reads_of_that_alone(stacks: Any) -> None:
    """What it has is read; what it lacks names itself, and the ways to go on."""
    made = {day: product(day, w=("time", [day])) for day in (1, 2, 3)}
    made[2] = made[2].drop_vars("w")
    serve(stacks, made)
    found = stacks.open(chunks={})

    assert found["v"].isel(x=0).load().to_numpy().tolist() == [1, 2, 3]
    assert found["w"].isel(time=[0, 2]).load().to_numpy().tolist() == [1, 3]
    for _ in range(2):
        with pytest.raises(ProductMismatchError, match=f"{name(2)} .*lacks the variable 'w'") as e:
            found["w"].load()
    assert "drop_variables=['w']" in str(e.value)
    assert "scan=True" in str(e.value)
    with pytest.warns(UserWarning, match="'w' in 1 of 3"):
        scanned = stacks.open(scan=True)
    np.testing.assert_array_equal(scanned["w"], [1, np.nan, 3])


@pytest.mark.slow
@pytest.mark.parametrize("local", [None, 1, 3])
def test_what_is_missing_is_not_ordered(stacks: Any, local: int | None) -> None:
    """A read of steps that all lack a variable needs no product, and plans none."""
    made = {day: product(day) for day in (1, 2, 3)}
    made[2] = product(2, w=("time", [2], {"units": "m"}))
    serve(stacks, made)
    if local is not None:
        HDAFileSystem(**stacks.options).prefetch(dataset_path(stacks, local))
    with pytest.warns(UserWarning, match="'w' in 2 of 3"):
        found = stacks.open(scan=True, chunks={})
    stacks.evict()
    orders = stacks.emulator.orders

    assert np.isnan(found["w"].isel(time=[0, 2]).load()).all()
    assert stacks.emulator.orders == orders
    assert found["w"].attrs == {"units": "m"}
    assert [p.product_id for p in found["w"].hda.products] == [name(2)]
    assert found["w"].load().to_numpy()[1] == 2


MISSING = {
    "integers": (np.array([5], "i2"), np.float32),
    "long integers": (np.array([5], "i8"), np.float64),
    "floats": (np.array([5], "f4"), np.float32),
    "times": (np.array(["2024-05-01"], "M8[ns]"), "M8[ns]"),
    "texts": (np.array(["abc"], object), object),
}


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, {}], ids=["in memory", "chunked"])
def test_missing_values_of_every_kind(stacks: Any, chunks: Any) -> None:
    """Where a variable lacks, it has the missing value that xarray gives its kind."""
    kinds = {kind: ("time", values) for kind, (values, _) in MISSING.items()}
    serve(stacks, {1: product(1), 2: product(2, **kinds), 3: product(3)})
    with pytest.warns(UserWarning, match="'floats'.* in 2 of 3"):
        found = stacks.open(scan=True, chunks=chunks)

    for kind, (values, dtype) in MISSING.items():
        assert found[kind].dtype == dtype
        assert found[kind].isnull().to_numpy().tolist() == [True, False, True]
        assert found[kind].to_numpy()[1] == values[0]


@pytest.mark.slow
@pytest.mark.parametrize("first", ["i2", "f4"])
def test_fill_values_in_some_files_only(stacks: Any, first: str) -> None:
    """Whole numbers that some files decode to floats: the dtype of all once headers are known."""
    made = {}
    for day in (1, 2, 3):
        ds = product(day, k=("time", np.array([day], "i2")))
        if (day == 1) == (first == "f4"):
            ds["k"].encoding["_FillValue"] = np.int16(-9)
        made[day] = ds
    serve(stacks, made)

    plain = stacks.open(chunks={})
    if first == "f4":
        assert plain["k"].load().to_numpy().tolist() == [1, 2, 3]
    else:
        with pytest.raises(ProductMismatchError, match=r"'k' is of dtype float32.*scan=True"):
            plain["k"].load()
    found = stacks.open(scan=True, chunks={})
    assert found["k"].dtype == np.float32
    assert found["k"].load().to_numpy().tolist() == [1, 2, 3]


@pytest.mark.slow
def test_texts_of_any_width_are_stacked(stacks: Any) -> None:
    """The first product says nothing of how long the texts of others are."""
    words = {1: "ab", 2: "abcdefgh", 3: "a"}
    made = {day: product(day, label=("time", [text])) for day, text in words.items()}
    for ds in made.values():
        ds["label"].encoding["dtype"] = "S1"
    serve(stacks, made)

    for scan in (False, True):
        found = stacks.open(scan=scan, chunks={})

        assert found["label"].dtype == object
        assert [str(text) for text in found["label"].load().to_numpy()] == list(words.values())
        found.to_netcdf(stacks.folder / "saved.nc")
        saved = xr.load_dataset(stacks.folder / "saved.nc")
        assert [str(text) for text in saved["label"].to_numpy()] == list(words.values())


def _raw(day: int, **attrs: Any) -> xr.Dataset:
    return product(day).assign(k=("time", np.array([day], "i2"), attrs))


RAW: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another scale": ({"scale_factor": 0.1}, {"scale_factor": 0.2}),
    "a scale in one only": ({"scale_factor": 0.1}, {}),
    "another offset": ({"add_offset": 1.0}, {"add_offset": 2.0}),
    "another fill value": ({"_FillValue": np.int16(-1)}, {"_FillValue": np.int16(-9)}),
    "a fill value in one only": ({}, {"_FillValue": np.int16(-9)}),
    "another missing value": (
        {"missing_value": np.int16(-1)},
        {"missing_value": np.int16(-9)},
    ),
    "unsigned numbers in one only": ({"_Unsigned": "true"}, {}),
}


def _pair(stacks: Any, number: int) -> tuple[str, str]:
    """Return the query of a pair of products, and the name of the second one."""
    first, second = 2 * number + 1, 2 * number + 2
    days = f"startdate=2024-05-{first:02}/enddate=2024-05-{second:02}"
    return f"hda://{stacks.dataset}/{days}", name(second)


@pytest.mark.slow
def test_raw_numbers_of_other_packing_are_refused(stacks: Any) -> None:
    """Numbers that are not decoded are no numbers of the first product's attributes."""
    pairs = [
        tuple(_raw(day, **attrs) for day, attrs in enumerate(pair, start=2 * number + 1))
        for number, pair in enumerate(RAW.values())
    ]
    serve(stacks, dict(enumerate((ds for pair in pairs for ds in pair), start=1)))

    for number, (case, pair) in enumerate(zip(RAW, pairs, strict=True)):
        query, second = _pair(stacks, number)
        found = stacks.open(query, chunks={}, mask_and_scale=False)

        assert found["k"].isel(time=[0]).load().to_numpy().tolist() == [2 * number + 1], case
        with pytest.raises(ProductMismatchError, match=f"{second} .*of 'k' is.*mask_and_scale"):
            found["k"].load()
        decoded = stacks.open(query, chunks={}, scan=True)["k"].load()
        parts = [xr.decode_cf(ds)["k"].values for ds in pair]
        np.testing.assert_array_equal(decoded, np.concatenate(parts), err_msg=case)


@pytest.mark.slow
def test_packing_of_the_case(stacks: Any, cases: Path) -> None:
    """Decoded, each product has its own values; raw ones do not stack."""
    paths = sorted((cases / "packing").glob("*.nc"))
    stacks.serve({path.name: path for path in paths})

    with pytest.raises(ProductMismatchError, match="mask_and_scale"):
        stacks.open(mask_and_scale=False).load()
    found = stacks.open().load()
    wanted = xr.concat([xr.load_dataset(path) for path in paths], "time")
    for variable in wanted.data_vars:
        np.testing.assert_array_equal(found[variable], wanted[variable])


def _flags(meanings: str = "sea land ice", **attrs: Any) -> Callable[[int], xr.Dataset]:
    values = {"flag_values": np.array([0, 1, 2], "i1"), "flag_meanings": meanings, **attrs}
    return lambda day: product(day, flag=("time", np.array([day % 3], "i1"), values))


def _crs(**attrs: Any) -> Callable[[int], xr.Dataset]:
    mapping = {"grid_mapping_name": "polar_stereographic", "standard_parallel": 70.0, **attrs}
    return lambda day: product(day, crs=((), 0, mapping))


def _units(units: str) -> Callable[[int], xr.Dataset]:
    return lambda day: product(day, t=("time", [300.0], {"units": units}))


def _named(attrs: Mapping[str, Any]) -> Callable[[int], xr.Dataset]:
    return lambda day: product(day, t=("time", [300.0], dict(attrs)))


MEANING: dict[str, tuple[Callable[[int], xr.Dataset], Callable[[int], xr.Dataset], str]] = {
    "flags in another order": (_flags(), _flags("land sea ice"), "flag_meanings of 'flag'"),
    "other flag values": (
        _flags(),
        _flags(flag_values=np.array([0, 1, 4], "i1")),
        "flag_values of 'flag'",
    ),
    "masks": (
        _flags(flag_masks=np.array([1, 2], "i1")),
        _flags(flag_masks=np.array([2, 1], "i1")),
        "flag_masks of 'flag'",
    ),
    "another pole": (
        _crs(straight_vertical_longitude_from_pole=0.0),
        _crs(straight_vertical_longitude_from_pole=-45.0),
        "straight_vertical_longitude_from_pole of 'crs'",
    ),
    "another projection": (
        _crs(),
        _crs(grid_mapping_name="lambert_azimuthal_equal_area"),
        "grid_mapping_name of 'crs'",
    ),
    "units": (_units("K"), _units("degC"), "units of 't'"),
    "up and down": (_named({"positive": "up"}), _named({"positive": "down"}), "positive of 't'"),
    "means and maxima": (
        _named({"cell_methods": "time: mean"}),
        _named({"cell_methods": "time: maximum"}),
        "cell_methods of 't'",
    ),
}


@pytest.mark.slow
def test_attributes_that_carry_meaning(stacks: Any) -> None:
    """A product whose values mean something else does not stack, and the attribute is named."""
    made = [make for one, other, _ in MEANING.values() for make in (one, other)]
    serve(stacks, {day: make(day) for day, make in enumerate(made, start=1)})

    for number, (_, _, told) in enumerate(MEANING.values()):
        query, second = _pair(stacks, number)
        for scan in (False, True):
            with pytest.raises(ProductMismatchError, match=f"{second} .*{told}"):
                stacks.open(query, scan=scan).load()
    assert stacks.open(f"hda://{stacks.dataset}/p_20240501*").load().sizes["time"] == 1


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_tiles_of_two_zones(stacks: Any, cases: Path) -> None:
    """Equal x and y in two reference systems are two places."""
    pytest.importorskip("rioxarray")
    paths = sorted((cases / "utm-tiles").glob("*.tif"))
    stacks.serve({path.name: path for path in paths})

    with pytest.raises(ProductMismatchError, match=r"T32TLP_20240502.tif .*crs_wkt.*zone 32N"):
        stacks.open().load()


@pytest.mark.slow
def test_a_product_that_is_fetched_again_means_the_same(stacks: Any) -> None:
    """A single product whose flags have changed since it was opened is another one."""
    serve(stacks, {1: _flags()(1)})
    found = stacks.open(dataset_path(stacks, 1))
    stacks.evict()
    _flags("land sea ice")(1).to_netcdf(stacks.folder / "changed.nc")
    data = (stacks.folder / "changed.nc").read_bytes()
    stacks.emulator.republish(stacks.dataset, name(1), data)

    with pytest.raises(ProductMismatchError, match="another one than when it was opened"):
        found["flag"].load()


@pytest.mark.slow
@pytest.mark.parametrize("first", ["duration", "number"])
def test_numbers_are_no_durations(stacks: Any, first: str) -> None:
    """Six without a unit is not six nanoseconds, though numpy would say so."""
    lag = {"duration": np.array([6], "m8[h]").astype("m8[ns]"), "number": np.array([6], "i8")}
    second = "number" if first == "duration" else "duration"
    made = {day: product(day, lag=("time", lag[second if day == 2 else first])) for day in (1, 2)}
    serve(stacks, made)

    for scan in (False, True):
        with pytest.raises(ProductMismatchError, match=f"{name(2)} .*'lag' is of dtype"):
            stacks.open(scan=scan, decode_timedelta=True).load()


@pytest.mark.slow
def test_names_tell_the_dtype(stacks: Any) -> None:
    """What was opened with all headers known is another array where its dtype is another."""
    import dask

    made = {1: product(1, q=("time", np.array([0.5], "f4")))}
    made |= {day: product(day, q=("time", np.array([day + 0.1], "f8"))) for day in (2, 3)}
    serve(stacks, made)
    narrow, wide = stacks.open(chunks={}), stacks.open(chunks={}, scan=True)

    assert (narrow["q"].dtype, wide["q"].dtype) == (np.float32, np.float64)
    assert narrow["q"].data.name != wide["q"].data.name
    both = dask.compute(narrow["q"][0], wide["q"])  # type: ignore[attr-defined, no-untyped-call]
    assert [array.dtype for array in both] == [np.float32, np.float64]
    assert both[1].to_numpy().tolist() == [0.5, 2.1, 3.1]


@pytest.mark.slow
def test_a_static_variable_that_comes_late_is_told(stacks: Any) -> None:
    """What does not lie along time is taken from those that have it, with the one warning."""
    made = {day: product(day) for day in (1, 2, 3)}
    made[2] = product(2, mask=("x", np.array([1, 0, 1], "i1")))
    serve(stacks, made)

    with pytest.warns(UserWarning, match=r"'mask' in 2 of 3 .*taken from the others") as told:
        found = stacks.open(scan=True)
    assert len(told) == 1
    assert found["mask"].to_numpy().tolist() == [1, 0, 1]
