"""Numbers read from where they lie: those that the library reads, or nothing."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.formats.file_reader import FileBytes
from hda_fsspec.formats.hdf5values import StoredArray, find_arrays
from hda_fsspec.reading import direct_reads as stored_module
from hda_fsspec.reading.direct_reads import StoredVariable, find_stored, read_stored
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.reading.variables import NetCDFVariables, open_variables

_SHAPE = (5, 4, 3)
_VALUES = np.arange(60.0).reshape(_SHAPE)
_EVERYTHING = (slice(None),) * 3


def _find(path: Path, *names: str, group: str | None = None) -> dict[str, StoredArray]:
    with path.open("rb") as stream:
        return find_arrays(FileBytes(stream), names, group=group)


def _read(path: Path, array: StoredArray, key: tuple[Any, ...], **how: bool) -> Any:
    with path.open("rb") as stream:
        return read_stored(stream.fileno(), StoredVariable("v", array, {}), key, **how)


def _assert_identical(found: Any, expected: Any) -> None:
    assert found is not None
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()
    assert found.flags.writeable


WAYS: list[dict[str, Any]] = [
    {},
    {"chunks": _SHAPE},
    {"chunks": (2, 4, 2)},
    {"chunks": (2, 3, 2), "shuffle": True},
    {"chunks": (5, 4, 1), "compression": "gzip"},
    {"chunks": (3, 3, 3), "compression": "gzip", "shuffle": True},
]


@pytest.mark.slow
@for_each("way", WAYS)
@for_each("dtype", ["<f4", ">f8", "<i2", ">u4", "i1", "u1", "<i8"])
@for_each("more", [{}, {"libver": "latest"}, {"userblock_size": 1024}])
def test_arrays_that_are_stored_in_common_ways(
    tmp_path: Path, way: dict[str, Any], dtype: str, more: dict[str, Any]
) -> None:
    """In one piece or many, sorted, compressed, of either byte order, after a user block."""
    path = tmp_path / "made.h5"
    with h5py.File(path, "w", **more) as file:
        file.create_dataset("inner/v", data=_VALUES, dtype=dtype, **way)
        file["inner"].create_dataset("scalar", data=7, dtype=dtype)
    if "libver" in more and "chunks" in way:
        assert _find(path, "v", group="inner") == {}  # found by indexes of later versions
        return

    found = _find(path, "v", "scalar", "absent", group="/inner")

    native = np.dtype(dtype).newbyteorder("=")
    assert found.keys() == {"v", "scalar"}
    _assert_identical(_read(path, found["v"], _EVERYTHING), _VALUES.astype(native))
    _assert_identical(_read(path, found["scalar"], ()), np.array(7, native))
    assert _find(path, "v") == _find(path, "v", group="other") == {}


def _leave_unwritten(file: Any) -> None:
    file.create_dataset("v", shape=(4,), dtype="f4", chunks=(2,))[:2] = 1


def _leave_unfiltered(file: Any) -> None:
    made = file.create_dataset("v", shape=(4,), dtype="f4", chunks=(4,), compression="gzip")
    made.id.write_direct_chunk((0,), np.zeros(4, "f4").tobytes(), filter_mask=1)


def _store_in_itself(file: Any) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    space, kind = h5py.h5s.create_simple((4,)), h5py.h5t.IEEE_F32LE
    h5py.h5d.create(file.id, b"v", kind, space, creation).write(
        h5py.h5s.ALL, h5py.h5s.ALL, np.ones(4, "f4")
    )


def _odd_precision(file: Any) -> None:
    kind = h5py.h5t.STD_I32LE.copy()
    kind.set_precision(20)
    h5py.h5d.create(file.id, b"v", kind, h5py.h5s.create_simple((4,)))[...]


ELSEWHERE: dict[str, Callable[[Any], object]] = {
    "never written": lambda file: file.create_dataset("v", shape=(4,), dtype="f4"),
    "written in part": _leave_unwritten,
    "in its header": _store_in_itself,
    "a filter left out": _leave_unfiltered,
    "checksum": lambda f: f.create_dataset("v", data=_VALUES, chunks=True, fletcher32=True),
    "other compression": lambda f: f.create_dataset("v", data=_VALUES, compression="lzf"),
    "scale and offset": lambda f: f.create_dataset("v", data=[1, 2], chunks=True, scaleoffset=4),
    "half precision": lambda f: f.create_dataset("v", data=_VALUES, dtype="f2"),
    "true or false": lambda f: f.create_dataset("v", data=[True, False]),
    "text": lambda f: f.create_dataset("v", data=[b"ab", b"c"]),
    "complex": lambda f: f.create_dataset("v", data=[1j]),
    "empty": lambda f: f.create_dataset("v", data=h5py.Empty("f4")),
    "no value": lambda f: f.create_dataset("v", shape=(0, 3), dtype="f4"),
    "many pieces": lambda f: f.create_dataset("v", data=np.ones(65), chunks=(1,)),
    "a group": lambda file: file.create_group("v"),
    "a link": lambda file: file.__setitem__("v", h5py.SoftLink("/w")),
    "another file": lambda file: file.create_dataset(
        "v", shape=(4,), dtype="f4", external=[("other.bin", 0, 16)]
    ),
}


@for_each("way", ELSEWHERE)
def test_what_is_stored_in_other_ways_is_left_to_the_library(tmp_path: Path, way: str) -> None:
    """Nothing is said of it, and of the array beside it nothing else."""
    path = tmp_path / "made.h5"
    with h5py.File(path, "w") as file:
        file["w"] = np.ones(4, "f4")
        ELSEWHERE[way](file)

    assert _find(path, "v", "w").keys() == {"w"}


def test_an_index_of_many_links_and_a_tree_of_many_pieces(tmp_path: Path) -> None:
    """A group of many members is found by its index, and pieces by a tree."""
    path = tmp_path / "made.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", 64)
        for number in range(40):
            variable = file.createVariable(f"v{number}", "f4", ("x",), zlib=True, chunksizes=[1])
            variable[:] = number + np.arange(64)

    found = _find(path, "v0", "v39")

    assert len(found["v39"].pieces) == 64
    _assert_identical(_read(path, found["v39"], (slice(None),)), np.arange(39.0, 103, dtype="f4"))
    _assert_identical(_read(path, found["v39"], (17,)), np.array(56, "f4"))


def test_a_file_that_is_cut_anywhere(tmp_path: Path) -> None:
    """What cannot be followed is not found; nothing is raised, and nothing is made up."""
    path, cut = tmp_path / "made.h5", tmp_path / "cut.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=_VALUES, chunks=(5, 4, 1), compression="gzip")
    data = path.read_bytes()
    whole = _find(path, "v")

    for end in range(0, len(data), 7):
        cut.write_bytes(data[:end])
        found = _find(cut, "v")
        assert found in ({}, whole)


def _put(data: bytes, place: int, form: str, value: int) -> bytes:
    piece = struct.pack(form, value)
    return data[:place] + piece + data[place + len(piece) :]


#: What is changed in an index of four pieces along an axis, as places after its signature: a count,
#: entries of 40 bytes from byte 24 on (size, filters left out, three offsets, address), a last key.
DAMAGE: dict[str, tuple[int, str, int]] = {
    "another kind of tree": (4, "<B", 0),
    "another level": (5, "<B", 1),
    "a piece too few": (6, "<H", 3),
    "a piece too many": (6, "<H", 5),
    "no piece": (6, "<H", 0),
    "a filter left out": (24 + 4, "<I", 1),
    "pieces out of order": (24 + 40 + 8, "<Q", 6),
    "a piece twice": (24 + 40 + 8, "<Q", 0),
    "a piece between others": (24 + 40 + 8, "<Q", 3),
    "a part of a number": (24 + 40 + 24, "<Q", 4),
    "a last key before its piece": (24 + 160 + 8, "<Q", 4),
    "a last key between pieces": (24 + 160 + 8, "<Q", 9),
    "a piece after the end": (24, "<I", 5000),
}


@for_each("damage", DAMAGE)
def test_an_index_that_the_library_may_search_otherwise(tmp_path: Path, damage: str) -> None:
    """It is left to the library, which may find fewer pieces or refuse it."""
    path = tmp_path / "made.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=_VALUES[..., 0].repeat(2, 0)[:8], chunks=(2, 4))
        file["w"] = np.ones(4, "f4")
    # Longer than the file says of itself: what lies there is not read by the library.
    data = path.read_bytes() + bytes(8000)
    index = data.index(b"TREE\x01")
    path.write_bytes(data)
    assert _find(path, "v", "w").keys() == {"v", "w"}
    place, form, value = DAMAGE[damage]

    path.write_bytes(_put(data, index + place, form, value))

    assert _find(path, "v", "w").keys() == {"w"}


def test_bytes_that_were_sorted_by_another_size_of_number(tmp_path: Path) -> None:
    """They are put back by the library."""
    path = tmp_path / "made.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=_VALUES, chunks=_SHAPE, shuffle=True)
    data = path.read_bytes()
    assert _find(path, "v").keys() == {"v"}

    path.write_bytes(_put(data, data.index(b"shuffle\0") + 8, "<I", 4))

    assert _find(path, "v") == {}


def test_pieces_of_an_array_that_was_cut(tmp_path: Path) -> None:
    """They are found by a tree of two levels, whose keys lie within those above them."""
    path = tmp_path / "made.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=np.arange(140.0), chunks=(2,), maxshape=(None,))
    with h5py.File(path, "a") as file:
        file["v"].resize((119,))
    data = path.read_bytes()
    assert (data.count(b"TREE\x01\x01"), data.count(b"TREE\x01\0")) == (1, 2)

    found = _find(path, "v")["v"]

    assert len(found.pieces) == 60
    _assert_identical(_read(path, found, (slice(None),)), np.arange(119.0))
    above = data.index(b"TREE\x01\x01")
    for place, form, value in (
        (data.index(b"TREE\x01\0") + 5, "<B", 1),
        (data.rindex(b"TREE\x01\0") + 5, "<B", 1),
        (above + 24 + 32 + 8, "<Q", 4),  # where the second of its children begins
    ):
        path.write_bytes(_put(data, place, form, value))
        assert _find(path, "v") == {}


KEYS: list[Any] = [
    slice(None),
    slice(1, 4),
    slice(0, 5, 2),
    slice(4, None, -1),
    slice(3, 0, -2),
    2,
    -1,
    np.int64(0),
    np.array([0, 2, 1, 2]),
    np.array([-1, 0]),
]


PAIRS = [
    ((first, second), (KEYS[first], KEYS[second]))
    for first, second in itertools.product(range(len(KEYS)), repeat=2)
]


@pytest.mark.slow
@for_each("way", WAYS)
def test_parts_are_those_of_the_whole(tmp_path: Path, way: dict[str, Any]) -> None:
    """Whatever is selected along each axis, in whatever pieces it lies."""
    path = tmp_path / "made.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=np.pad(_VALUES, [(0, 0), (0, 1), (0, 2)]), **way)
    array = _find(path, "v")["v"]

    # All of them together where pieces are cut along each axis; each pair in turn elsewhere.
    together = itertools.product(KEYS, repeat=3)
    turn = ((*pair, KEYS[sum(at) % len(KEYS)]) for at, pair in PAIRS)
    for key in together if way.get("chunks") == (2, 4, 2) else turn:
        expected = np.pad(_VALUES, [(0, 0), (0, 1), (0, 2)])
        for axis in (2, 1, 0):
            expected = expected[(*[slice(None)] * axis, key[axis])]
        _assert_identical(_read(path, array, key), np.asarray(expected))


def test_bytes_that_make_no_sense_are_left_to_the_library(tmp_path: Path) -> None:
    """Damaged, cut short or longer than they should be: the library says what is wrong."""
    path = tmp_path / "made.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=_VALUES, chunks=(5, 4, 2), compression="gzip")
    array = _find(path, "v")["v"]
    data, (place, count) = path.read_bytes(), array.pieces[1]

    for spoilt in (
        data[:place] + b"\xff" * count + data[place + count :],
        data[: place + count - 1],
        data[:place] + data[array.pieces[0][0] :][:count],
        data[:place],
    ):
        path.write_bytes(spoilt)
        assert _read(path, array, _EVERYTHING) is None
        assert _read(path, array, (slice(None), slice(None), slice(0, 2))) is not None


def test_large_parts_are_left_to_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds less in memory."""
    path = tmp_path / "made.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=_VALUES, chunks=(1, 4, 3))
    monkeypatch.setattr(stored_module, "_MOST_BYTES", 200)
    monkeypatch.setattr(stored_module, "_FEW_BYTES", 200)
    array = _find(path, "v")["v"]

    assert _read(path, array, _EVERYTHING) is None
    _assert_identical(_read(path, array, (slice(1, 3), slice(None), 0)), _VALUES[1:3, :, 0].copy())


def test_a_file_that_claims_more_than_any_memory_holds(tmp_path: Path) -> None:
    """It is left to the library before anything of that size is made."""
    path = tmp_path / "made.h5"
    side = 1 << 28
    with h5py.File(path, "w") as file:
        kind = {"shape": (side,), "dtype": "f8", "chunks": (side,), "compression": "gzip"}
        file.create_dataset("v", **kind).id.write_direct_chunk((0,), b"anything")
    array = dataclasses.replace(_find(path, "v")["v"], shape=(1 << 60,), chunk=(1 << 60,))

    assert _read(path, array, (slice(None),), at_any_cost=True) is None
    assert _read(path, array, (0,), at_any_cost=True) is None


@pytest.mark.parametrize("way", [{}, {"chunks": (2, 300, 300), "compression": "gzip"}])
def test_small_parts_of_large_pieces_are_left_to_the_library(
    tmp_path: Path, way: dict[str, Any]
) -> None:
    """It reads no more than it needs, and keeps what it has unpacked."""
    path = tmp_path / "made.h5"
    values = np.arange(360_000.0).reshape(4, 300, 300)
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=values, **way)
    array = _find(path, "v")["v"]

    assert _read(path, array, (0, 7, slice(None))) is None
    assert _read(path, array, (slice(None), 7, 8)) is None
    found = _read(path, array, (slice(None), 7, 8), at_any_cost=True)
    _assert_identical(found, values[:, 7, 8].copy())
    _assert_identical(
        _read(path, array, (slice(0, 2), slice(None), slice(0, 299))), values[:2, :, :299].copy()
    )


def _assert_as_the_library(path: Path, group: str | None = None) -> int:
    """Assert that what is found of a file is what the library reads; return how much is found."""
    single = open_variables(path, OpenOptions(group=group))
    assert single is not None
    with netCDF4.Dataset(path) as file:
        names = list((file[group] if group else file).variables)
    with path.open("rb") as stream:
        found = find_stored(stream, single.facts, names, group=group)
        for name, stored in found.items():
            expected = single[name]
            key = tuple(slice(size // 3, None) for size in expected.shape)
            if expected.dtype.kind not in "iuf" or expected.size > 300_000:
                continue
            whole = read_stored(stream.fileno(), stored, (slice(None),) * expected.ndim)
            _assert_identical(whole, np.asarray(expected.values))
            part = read_stored(stream.fileno(), stored, key)
            _assert_identical(part, np.asarray(expected[key].values))
    return len(found)


def test_numbers_of_every_packing_are_decoded_as_in_a_dataset(tmp_path: Path) -> None:
    """Scale, offset, fill, unsigned numbers, true and false: as xarray reads them."""
    path = tmp_path / "packed.nc"
    gaps = np.array([1.0, np.nan, 3.0])
    xr.Dataset(
        {
            "scaled": ("x", gaps),
            "float": ("x", gaps.astype("f4")),
            "marked": ("x", gaps, {"missing_value": -9.0}),
            "unsigned": ("x", np.array([1, 200, 255], "u1")),
            "flag": ("x", np.array([True, False, True])),
            "whole": ("x", np.array([1, 2, 3], "i2"), {"units": "1"}),
        }
    ).to_netcdf(
        path,
        encoding={
            "scaled": {"dtype": "i2", "scale_factor": 0.1, "add_offset": 5.0, "_FillValue": -1},
            "unsigned": {"dtype": "i1", "_Unsigned": "true", "_FillValue": -1},
            "marked": {"_FillValue": -9.0},
        },
    )

    assert _assert_as_the_library(path) == 6


def test_what_the_library_calls_otherwise_is_left_to_it(tmp_path: Path) -> None:
    """A variable named as a dimension that it does not lie on, and one that is filled up."""
    path = tmp_path / "odd.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", 3)
        file.createDimension("time", None)
        file.createVariable("time", "f4", ("x",))[:] = [1, 2, 3]
        file.createVariable("x", "f4", ())[...] = 4
        file.createVariable("long", "f4", ("time",))[:] = np.arange(6)
        file.createVariable("short", "f4", ("time",))[:] = np.arange(2)
        file.createVariable("plain", "f4", ("x",))[:] = [1, 2, 3]
    variables = NetCDFVariables(path, None)

    with path.open("rb") as stream:
        names = ["time", "x", "long", "short", "plain", "absent"]
        found = find_stored(stream, variables.facts, names, group=None)

    assert found.keys() == {"long", "plain"}
    assert _assert_as_the_library(path) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:variable '.*' has multiple fill values")
def test_numbers_of_real_products(shared_data: Path) -> None:
    """In every file, what is found is what the library reads, bit by bit; of series in one."""
    folders = collections.defaultdict(list)
    for source in ("c3s", "cams", "clms", "cmems", "other", "sentinel-3", "sentinel-5p"):
        for path in sorted((shared_data / source).rglob("*.nc")):
            folders[path.parent].append(path)
    count = 0
    for folder, paths in folders.items():
        is_series = len(paths) > 10 and folder.suffix != ".SEN3"
        for path in paths[-1:] if is_series else paths:
            if os.fspath(path).endswith("FRP_in.nc") or path.read_bytes()[:4] != b"\x89HDF":
                continue
            count += _assert_as_the_library(path)

    assert count > 300
