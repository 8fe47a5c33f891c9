"""Headers: what they hold of a product, compared and written down without loss."""

from __future__ import annotations

import dataclasses
import gc
import json
import weakref
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.formats.hdf5values import StoredArray
from hda_fsspec.lazy.fingerprint import digest_of
from hda_fsspec.reading.direct_reads import StoredVariable
from hda_fsspec.stack.concat_dim import find_layout
from hda_fsspec.stack.header import Header, array_from_json, array_to_json
from hda_fsspec.stack.kept_header import KeptHeader, dump, load
from hda_fsspec.stack.product_checks import ExpectedProduct


def header_of(dataset: xr.Dataset) -> Header:
    """Take a header that keeps index coordinates and looks at everything."""
    kept = [str(name) for name, v in dataset.variables.items() if v.dims == (name,)]
    return Header.of(dataset, keep=kept, digest=map(str, dataset.variables))


@pytest.fixture
def dataset() -> xr.Dataset:
    """Return a small product with an attribute of every kind."""
    times = np.array(["2024-05-01T12:00", "2024-05-02T12:00"], dtype="datetime64[ns]")
    return xr.Dataset(
        {
            "sst": (("time", "lat"), np.arange(6.0).reshape(2, 3), {"units": "K"}),
            "mask": (("lat",), np.array([1, 0, 1], dtype="i1")),
            "expver": ((), "0001"),
        },
        coords={"time": times, "lat": [3.0, 2.0, 1.0]},
        attrs={"title": "x", "version": np.int16(3), "range": np.array([1.5, 2.5]), "n": 1},
    )


def test_a_header_survives_the_disk(dataset: xr.Dataset) -> None:
    """What was kept is read back equal: sizes, dtypes, attributes and values."""
    header = header_of(dataset)
    kept = load(dump("mark", KeptHeader(header, ("file",))), "mark")

    assert kept is not None
    assert kept.file == ("file",)
    again = kept.header
    assert again.sizes == header.sizes
    assert again.attrs.keys() == header.attrs.keys()
    for name, value in header.attrs.items():
        np.testing.assert_array_equal(again.attrs[name], value)
        assert np.asarray(again.attrs[name]).dtype == np.asarray(value).dtype
    for name, variable in header.variables.items():
        other = again.variables[name]
        assert (other.dims, other.dtype, other.is_coordinate, other.digest) == (
            variable.dims,
            variable.dtype,
            variable.is_coordinate,
            variable.digest,
        )
        if variable.values is not None:
            assert other.values is not None
            np.testing.assert_array_equal(other.values, variable.values)
            assert other.values.dtype == variable.values.dtype


@for_each(
    "values",
    [
        np.array(["2024-05-01", "NaT"], dtype="datetime64[ns]"),
        np.array([1, 2], dtype="timedelta64[ns]"),
        np.array([[1.5, np.nan]], dtype="f4"),
        np.array(7, dtype=">i2"),
        np.array(["a", "bcd"]),
        np.array(["a", "bcd"], dtype=object),
        np.array([b"ab", b"c"]),
        np.array([cftime.Datetime360Day(2015, 2, 30, 12)], dtype=object),
        np.zeros((0, 3)),
        np.array([True, False]),
    ],
)
def test_arrays_of_every_kind_survive_json(values: np.ndarray[Any, Any]) -> None:
    """An array is read back with its dtype, shape and values."""
    again = array_from_json(json.loads(json.dumps(array_to_json(values))))

    assert again.dtype == values.dtype
    assert again.shape == values.shape
    np.testing.assert_array_equal(again, values)
    assert digest_of(again) == digest_of(values)


@for_each("data", [b"", b"{}", b"[]", b"\xff", b'{"mark":"m","header":{"format":1}}'])
def test_a_damaged_note_is_no_header(data: bytes) -> None:
    """What cannot be read is not known, and nothing is raised."""
    assert load(data, "m") is None


def test_a_header_kept_for_other_options_is_not_known(dataset: xr.Dataset) -> None:
    """A header that was taken in another way is of no use."""
    assert load(dump("mark", KeptHeader(header_of(dataset), ("file",))), "other") is None


_STORED = StoredVariable(
    "mask", StoredArray("<i2", (3,), (2,), ((8, 4), (12, 4))), {"add_offset": 1.5}
)


def test_where_numbers_lie_is_kept_with_a_header(dataset: xr.Dataset) -> None:
    """What was found of a file is read back, and so is that nobody has looked yet."""
    header = header_of(dataset)
    for stored in (None, {}, {"mask": _STORED}):
        kept = load(dump("mark", KeptHeader(header, ("file",), stored)), "mark")

        assert kept is not None
        assert kept.stored == stored


@pytest.mark.parametrize(
    "changed",
    [
        {"dtype": "O"},
        {"dtype": "S2"},
        {"dtype": "nonsense"},
        {"shape": (5,)},
        {"shape": (4,)},
        {"shape": (3, 1), "chunk": (2, 1)},
        {"shape": (-3,)},
        {"chunk": (0,)},
        {"chunk": (2, 2)},
        {"pieces": ((8, 4),)},
        {"pieces": ((8, 4), (-4, 4))},
        {"pieces": ((8, 4), "ab")},
        {"pieces": ((8, 4), (1 << 63, 4))},
    ],
)
def test_places_that_make_no_sense_are_not_read(
    changed: dict[str, Any], dataset: xr.Dataset
) -> None:
    """Whoever may write to a shared cache cannot have anything but numbers of the file read."""
    bad = dataclasses.replace(_STORED, array=dataclasses.replace(_STORED.array, **changed))

    assert load(dump("", KeptHeader(header_of(dataset), (), {"mask": bad})), "") is None
    assert load(dump("", KeptHeader(header_of(dataset), (), {"mask": _STORED})), "") is not None


def test_equal_values_of_another_kind_or_shape_differ() -> None:
    """A hash tells shapes, and kinds of numbers, apart, and not only bytes."""
    zeros = np.zeros(4, "i4")
    digests = {digest_of(zeros), digest_of(zeros.reshape(2, 2)), digest_of(zeros.view("f4"))}

    assert len(digests) == 3


@for_each("kinds", [("i1", "u2", ">i4", "<i8"), ("<f4", ">f4", "f8"), ("U3", "O")])
def test_equal_values_of_another_width_or_byte_order_are_equal(kinds: tuple[str, ...]) -> None:
    """One grid is one grid, whether a product stores it in 4 or 8 bytes, this or that end first."""
    values = np.array([1, 2, 5])

    assert len({digest_of(values.astype(kind)) for kind in kinds}) == 1


def test_bytes_that_stand_for_objects_are_refused() -> None:
    """A damaged note is never taken for addresses in memory."""
    with pytest.raises(ValueError, match="not read from bytes"):
        array_from_json({"bytes": "AAAAAAAAAAA=", "dtype": "|O", "shape": [1]})


def test_essentials_leave_out_what_no_check_needs(dataset: xr.Dataset) -> None:
    """What travels with tasks holds hashes and units, and neither grids nor attributes."""
    header = header_of(dataset)
    small = header.essentials()

    assert small.attrs == {}
    assert small.variables["sst"].attrs == {"units": "K"}
    assert small.variables["lat"].values is None
    assert small.variables["lat"].digest == header.variables["lat"].digest


def test_headers_of_real_products_survive(shared_data: Path) -> None:
    """Real products of every series give headers that can be kept."""
    names = [
        "cmems/duacs-med-adt-2005q2/daily",
        "cmems/sst-med-l3s-2022-jja/daily",
        "cams/eac4-co-2022/daily",
        "other/nemo-360day-3months",
    ]
    for name in names:
        path = min((shared_data / name).glob("*.nc"))
        with xr.open_dataset(path, use_cftime=None) as dataset:
            header = header_of(dataset)
        again = load(dump("", KeptHeader(header, ("file",))), "")
        assert again is not None
        digests = {n: v.digest for n, v in again.header.variables.items()}
        assert digests == {n: v.digest for n, v in header.variables.items()}


def test_grids_that_were_checked_are_not_held() -> None:
    """Headers that hold grids, which are large, go with those who had them."""
    lat = np.linspace(0.0, 1.0, 10_000)
    dataset = xr.Dataset(
        {"sst": (("time", "lat"), np.zeros((1, 10_000), "i1"))}, {"time": [0], "lat": lat}
    )
    template = header_of(dataset)
    expected = ExpectedProduct("p", template, find_layout(template, None), grid_tolerance=1e-3)
    grids = []
    for _ in range(3):
        header = header_of(dataset.assign_coords(lat=lat + 1e-4))
        expected.check(header)
        grids.append(weakref.ref(header.variables["lat"]))
    grids.append(weakref.ref(template.variables["lat"]))

    del header, template, expected
    gc.collect()

    assert [grid() for grid in grids] == [None] * 4
