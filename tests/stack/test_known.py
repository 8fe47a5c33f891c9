"""Products whose headers are kept: read variable by variable, checked anew if a file changed."""

from __future__ import annotations

import gc
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.errors import ProductMismatchError
from hda_fsspec.lazy import openfiles
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.reading.variables import NetCDFVariables, are_numbers, open_variables

PRODUCTS = (
    "cmems/duacs-med-adt-2005q2/daily/*.nc",
    "cmems/sst-med-l3s-2022-jja/daily/*.nc",
    "cmems/ostia-anomaly-3days/*.nc",
    "cams/eac4-co-2022/daily/*.nc",
    "cams/*.nc",
    "c3s/*.nc",
    "clms/ssm1km-3days/*.nc",
    "other/nemo-360day-3months/*.nc",
    "other/oisst*.nc",
    "sentinel-3/*.nc",
)


def _assert_read_singly(path: Path, group: str | None = None) -> int:
    """Assert that each variable of numbers is the same by itself; return how many there are."""
    single = open_variables(path, OpenOptions(group=group))
    assert single is not None
    count = 0
    with xr.open_dataset(path, engine="netcdf4", group=group) as dataset:
        for name, variable in dataset.variables.items():
            if not are_numbers(variable.dtype, variable.encoding) or variable.size > 300_000:
                continue
            found = single[str(name)]
            assert found.dtype == variable.dtype
            np.testing.assert_array_equal(found.values, variable.values)
            count += 1
    return count


@pytest.mark.slow
@for_each("pattern", PRODUCTS)
def test_a_variable_by_itself_is_that_of_the_dataset(shared_data: Path, pattern: str) -> None:
    """Real products: the rest of the file does not change the values of a variable of numbers."""
    paths = sorted(shared_data.glob(pattern))[: 1 if "daily" in pattern else 3]
    assert paths

    assert sum(map(_assert_read_singly, paths)) > 0


def test_variables_of_every_packing_by_themselves(tmp_path: Path) -> None:
    """Scale, offset, fill, unsigned numbers, boundaries of times, text: decoded or left aside."""
    path = tmp_path / "packed.nc"
    xr.Dataset(
        {
            "scaled": ("x", np.array([1.0, np.nan, 3.0])),
            "unsigned": ("x", np.array([1, 200, 255], "u1")),
            "flag": ("x", np.array([True, False, True])),
            "whole": ("x", np.array([1, 2, 3], "i2")),
            "text": ("x", np.array(["a", "bc", ""])),
            "moment": ("x", np.array(["2024-05-01", "2024-05-02", "NaT"], "M8[ns]")),
            "lead": ("x", np.array([1, 2, 3], "m8[D]").astype("m8[ns]")),
            "letters": (("x", "n"), np.array([[b"a", b"b"]] * 3)),
        }
    ).to_netcdf(
        path,
        group="/inner",
        encoding={"scaled": {"dtype": "i2", "scale_factor": 0.1, "_FillValue": -1}},
    )

    assert _assert_read_singly(path, "inner") >= 3


@for_each(
    "options",
    [
        {"decode_times": False},
        {"mask_and_scale": False},
        {"product_engine": "h5netcdf"},
        {"product_engine_kwargs": {"autoclose": True}},
        {"member": "*"},
    ],
)
def test_other_options_leave_reading_to_the_dataset(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """What is not xarray's default way is not read in another way."""
    path = tmp_path / "one.nc"
    xr.Dataset({"v": ("x", [1.0])}).to_netcdf(path)

    assert open_variables(path, OpenOptions.make(drop_variables="w")) is not None
    assert open_variables(path, OpenOptions.make(**options)) is None


def _day(day: int, size: int = 3) -> xr.Dataset:
    return xr.Dataset(
        {"sst": (("time", "lat"), np.full((1, size), float(day)))},
        coords={"time": [np.datetime64(f"2024-05-{day:02}T12", "ns")], "lat": np.arange(size)},
    )


@pytest.fixture
def days(stacks: Any) -> Any:
    """Three daily products that were read once, of which nothing is open."""
    stacks.serve({f"sst_2024050{day}.nc": _day(day) for day in (1, 2, 3)})
    stacks.open(chunks={}).load()
    stacks.forget()
    return stacks


def _local_file(stacks: Any, day: int) -> Path:
    entries = {entry.product.product_id: entry.path for entry in stacks.client.cache.entries()}
    return Path(entries[f"sst_2024050{day}.nc"])


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before opening", "after opening"])
def test_a_file_that_changed_is_checked_anew(days: Any, when: str) -> None:
    """Somebody put a file of another grid in its place, just as long: it does not pass unseen."""
    path = _local_file(days, 2)
    found = days.open(chunks={}) if when == "after opening" else None
    other = days.folder / "other.nc"
    _day(2).assign_coords(lat=[5.0, 6.0, 7.0]).assign_coords(lat=[5, 6, 7]).to_netcdf(other)
    assert other.stat().st_size == path.stat().st_size
    other.replace(path)
    if found is None:
        found = days.open(chunks={})

    with pytest.raises(ProductMismatchError, match="sst_20240502"):
        found.load()
    np.testing.assert_array_equal(found.sst.isel(time=[0, 2]).values[:, 0], [1.0, 3.0])


@pytest.mark.slow
def test_a_file_that_was_only_touched_is_read(days: Any) -> None:
    """A copy of a cache has other times of change: its products are checked anew, and fit."""
    os.utime(_local_file(days, 2), (0, 0))

    np.testing.assert_array_equal(days.open(chunks={}).sst.values[:, 0], [1.0, 2.0, 3.0])


@pytest.mark.slow
def test_notes_that_are_lost_or_spoilt_do_no_harm(days: Any) -> None:
    """Where recipes arrive, notes that cannot be read are made anew from the files."""
    recipes = pickle.dumps(days.open(chunks={}))
    gc.collect()
    notes = sorted((Path(days.options["cache_dir"]) / "v1" / "headers").rglob("*.note"))
    assert len(notes) == 3
    kept = [note.read_bytes() for note in notes]
    notes[0].unlink()
    notes[1].write_bytes(b"{")

    found = pickle.loads(recipes)

    np.testing.assert_array_equal(found.sst.values[:, 0], [1.0, 2.0, 3.0])
    assert [note.read_bytes() for note in notes] == kept


@pytest.fixture
def library_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which every read with the netCDF library adds the variable's name."""
    seen: list[str] = []
    get = NetCDFVariables.__getitem__

    def getitem(self: NetCDFVariables, name: str) -> xr.Variable:
        seen.append(name)
        return get(self, name)

    monkeypatch.setattr(NetCDFVariables, "__getitem__", getitem)
    return seen


@pytest.mark.slow
def test_numbers_are_read_where_they_lie(days: Any, library_reads: list[str]) -> None:
    """Of files that were read before; parts of them, too, here and where recipes go."""
    found = days.open(chunks={})
    again = pickle.loads(pickle.dumps(found))

    np.testing.assert_array_equal(found.sst.values, [[day] * 3 for day in (1.0, 2.0, 3.0)])
    np.testing.assert_array_equal(days.open().sst[::-1, 1].values, [3.0, 2.0, 1.0])
    np.testing.assert_array_equal(again.sst[1:, [2, 0]].values, [[2.0, 2.0], [3.0, 3.0]])
    assert library_reads == []


@pytest.mark.slow
def test_bytes_that_are_damaged_are_told_by_the_library(
    stacks: Any, library_reads: list[str]
) -> None:
    """A disk has spoilt a file that looks as before: what is read of it ends as without a note."""
    made = {f"sst_2024050{day}.nc": _day(day, 400) for day in (1, 2, 3)}
    stacks.serve(made, netcdf={"encoding": {"sst": {"zlib": True}}})
    stacks.open(chunks={}).load()
    stacks.forget()
    library_reads.clear()
    path = _local_file(stacks, 2)
    before, data = path.stat(), path.read_bytes()
    with netCDF4.Dataset(path) as file:
        assert file["sst"].filters()["zlib"]
    place = data.index(zlib.compress(np.full(400, 2.0).tobytes(), 4)[:2])
    with path.open("r+b") as spoilt:
        spoilt.seek(place)
        spoilt.write(b"\0\0")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = stacks.open(chunks={})

    np.testing.assert_array_equal(found.sst.isel(time=[0, 2]).values[:, 0], [1.0, 3.0])
    assert library_reads == []
    with pytest.raises((RuntimeError, OSError)):
        found.sst.isel(time=1).load()
    assert set(library_reads) == {"sst"}


@pytest.mark.slow
def test_files_whose_numbers_lie_otherwise_than_they_are_read(
    stacks: Any, monkeypatch: pytest.MonkeyPatch, library_reads: list[str]
) -> None:
    """Where what was found is not what the library reads, the library goes on reading."""
    wrong = np.zeros((1, 3))
    monkeypatch.setattr(openfiles, "read_stored", lambda *_, **__: wrong)
    stacks.serve({f"sst_2024050{day}.nc": _day(day) for day in (1, 2, 3)})
    stacks.open(chunks={}).load()
    stacks.forget()
    library_reads.clear()

    np.testing.assert_array_equal(stacks.open(chunks={}).sst.values[:, 0], [1.0, 2.0, 3.0])
    assert sorted(set(library_reads)) == ["sst"]
