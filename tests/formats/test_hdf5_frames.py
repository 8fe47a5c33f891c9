"""Files that are told by the bytes of another one: those that are the same but for values."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest

from hda_fsspec.formats.file_reader import FileBytes
from hda_fsspec.formats.hdf5frames import Contents, Frame, checksum_of, take_frame
from hda_fsspec.formats.hdf5storage import Hdf5Bytes
from hda_fsspec.formats.hdf5values import array_header, find_arrays, members_of, place_array

_ARRAYS = ("time", "lat", "t2m", "flags")


def _write(path: Path, change: dict[str, Any]) -> Path:
    """Write a product: plain, packed and compressed numbers, and few or many attributes."""
    with netCDF4.Dataset(path, "w") as file:
        file.setncatts({"history": change.get("history", "made on day 01"), "version": 3})
        file.setncatts({f"more_{n}": f"text {n}" for n in range(change.get("more", 0))})
        for dim, size in (("time", 2), ("lat", 40)):
            file.createDimension(dim, size)
        file.createVariable("time", "i8", ("time",))[:] = change.get("first", 0) + np.arange(2)
        file.createVariable("lat", "f8", ("lat",))[:] = np.arange(40.0)
        flags = file.createVariable("flags", "i2", ("lat",), chunksizes=(15,))
        flags.long_name = change.get("long_name", "flags")
        flags[:] = change.get("flags", 1)
        data = file.createVariable("t2m", "f4", ("time", "lat"), zlib=True)
        data[:] = np.random.default_rng(change.get("seed", 1)).normal(size=(2, 40))
    return path


def _texts(path: Path) -> dict[str, str]:
    with netCDF4.Dataset(path) as file:
        told = {name: file.getncattr(name) for name in file.ncattrs()}
    return {name: value for name, value in told.items() if isinstance(value, str)}


def _frame(path: Path) -> Frame:
    with path.open("rb") as stream:
        found = take_frame(FileBytes(stream), _ARRAYS, _texts(path))
    assert found is not None
    return found


def _look(frame: Frame, data: bytes) -> Contents | None:
    return frame.look(FileBytes(io.BytesIO(data)))


@pytest.mark.parametrize("more", [0, 20])
@pytest.mark.parametrize(
    "change", [{}, {"first": 24}, {"seed": 2}, {"history": "made on day 31"}, {"flags": 7}]
)
def test_other_values_are_of_the_same_frame(
    tmp_path: Path, change: dict[str, Any], more: int
) -> None:
    """Where values lie, and what attributes say, is what a walk through the other file finds."""
    frame = _frame(_write(tmp_path / "first.nc", {"more": more}))
    other = _write(tmp_path / "other.nc", {"more": more, **change})

    found = _look(frame, other.read_bytes())

    assert found is not None
    with other.open("rb") as stream:
        assert found.arrays == find_arrays(FileBytes(stream), _ARRAYS)
    texts = {name: text.decode() for name, text in found.texts.items()}
    assert texts == _texts(other)


@pytest.mark.parametrize(
    "change", [{"history": "made on day 100"}, {"long_name": "fives"}, {"more": 1}]
)
def test_another_file_is_of_another_frame(tmp_path: Path, change: dict[str, Any]) -> None:
    """Texts of another length move what follows, and what a variable says is compared."""
    frame = _frame(_write(tmp_path / "first.nc", {}))

    assert _look(frame, _write(tmp_path / "other.nc", change).read_bytes()) is None


@pytest.mark.slow
@pytest.mark.parametrize("more", [0, 20])
def test_no_byte_but_those_of_values_may_be_another(tmp_path: Path, more: int) -> None:
    """Each byte of a file is changed: it is told apart, or belongs to a value or its index.

    An attribute, or the place of values, that is another one has another checksum, too.
    """
    path = _write(tmp_path / "first.nc", {"more": more})
    frame, data = _frame(path), bytearray(path.read_bytes())
    assert _look(frame, bytes(data)) is not None
    free = set(_where_values_lie(bytes(data)))

    kept = []
    for place in range(len(data)):
        data[place] ^= 0x55
        if _look(frame, bytes(data)) is not None:
            kept.append(place)
        data[place] ^= 0x55

    assert set(kept) <= free


def _where_values_lie(data: bytes) -> Iterator[int]:
    file = Hdf5Bytes(FileBytes(io.BytesIO(data)), 0)
    assert file.root is not None
    members = members_of(file, file.root)
    for name in _ARRAYS:
        nodes: list[tuple[int, int]] = []
        kind, layout, _ = array_header(file, members[name])
        for first, count in (*place_array(file, kind, layout, 0, nodes).pieces, *nodes):
            yield from range(first, first + count)


def test_a_file_that_is_cut_short_is_of_no_frame(tmp_path: Path) -> None:
    """Not even where only values are missing at its end."""
    path = _write(tmp_path / "first.nc", {})
    frame, data = _frame(path), path.read_bytes()

    assert all(_look(frame, data[:end]) is None for end in range(0, len(data), 97))
    assert _look(frame, data[:-1]) is None
    assert _look(frame, data + b"more") is not None


def test_values_that_lie_over_other_things_have_no_frame(tmp_path: Path) -> None:
    """What is compared would have a hole, where a damaged address leads."""
    path = _write(tmp_path / "first.nc", {})
    data = path.read_bytes()
    with path.open("rb") as stream:
        arrays = find_arrays(FileBytes(stream), _ARRAYS)
    (flags, _), *_ = arrays["flags"].pieces
    (lat, _), *_ = arrays["lat"].pieces
    assert data.count(flags.to_bytes(8, "little")) == 1
    damaged = data.replace(flags.to_bytes(8, "little"), lat.to_bytes(8, "little"))

    assert take_frame(FileBytes(io.BytesIO(damaged)), _ARRAYS, {}) is None


@pytest.mark.parametrize("how", [{}, {"libver": "latest"}, {"userblock_size": 512}])
def test_files_of_other_versions_have_a_frame_or_none(tmp_path: Path, how: dict[str, Any]) -> None:
    """Objects of the former kind have no checksums; after a user block nothing is told."""
    files = []
    for number in range(2):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w", **how) as file:
            file.attrs["history"] = np.bytes_(f"made on day {number}")
            file.create_dataset("lat", data=np.arange(5.0) + number, track_times=False)
        files.append(path.read_bytes())

    frame = take_frame(FileBytes(io.BytesIO(files[0])), ["lat"], {"history": "made on day 0"})

    if "userblock_size" in how:
        assert frame is None
        return
    assert frame is not None
    found = _look(frame, files[1])
    assert found is not None
    assert found.texts == {"history": b"made on day 1"}
    assert found.arrays == find_arrays(FileBytes(io.BytesIO(files[1])), ["lat"])


def test_the_checksum_is_that_of_the_format() -> None:
    """The values that Bob Jenkins tells of his function, and one of an empty text."""
    assert checksum_of(b"") == 0xDEADBEEF
    assert checksum_of(b"Four score and seven years ago") == 0x17770551
