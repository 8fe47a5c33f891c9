"""Every kind of netCDF through the engine, and files that only one library of them reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

from hda_fsspec.emulator import dated_product
from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import Format, sniff

KINDS = {
    "NETCDF3_CLASSIC": b"CDF\x01",
    "NETCDF3_64BIT_OFFSET": b"CDF\x02",
    "NETCDF3_64BIT_DATA": b"CDF\x05",
}


def _write(path: Path, kind: Any, day: int = 1) -> Path:
    """Write a day with an unlimited time; CDF-5 with integers that only it has."""
    has_more = kind == "NETCDF3_64BIT_DATA"
    with netCDF4.Dataset(path, "w", format=kind) as file:
        file.createDimension("time", None)
        file.createDimension("lat", 3)
        times = file.createVariable("time", "f8", ("time",))
        times.units = "hours since 2024-01-01"
        times[:] = [(30 * 4 + day) * 24.0 + 12]
        file.createVariable("lat", "f4", ("lat",))[:] = [3.0, 2.0, 1.0]
        packed = file.createVariable("sst", "i2", ("time", "lat"), fill_value=-1)
        packed.scale_factor = 0.5
        packed[:] = np.ma.masked_equal([[day, 0.0, day + 2.5]], 0.0)
        for name, dtype in (("count", "u8"), ("total", "i8"), ("flag", "u1")) if has_more else ():
            values = np.array([[2**40 + day, 2, 3]]) if dtype != "u1" else [[200, 2, 3]]
            file.createVariable(name, dtype, ("time", "lat"))[:] = values
    assert path.read_bytes()[:4] == KINDS[kind]
    assert sniff(path) is Format.NETCDF3
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_netcdf3(stacks: Any, tmp_path: Path, kind: str) -> None:
    """Classic, 64-bit offset and CDF-5: one by one and stacked, now and from the cache."""
    names = [f"sst_2024050{day}.nc" for day in (1, 2, 3)]
    paths = {name: _write(tmp_path / name, kind, day) for day, name in enumerate(names, start=1)}
    stacks.serve(paths)
    wanted = [xr.load_dataset(path, engine="netcdf4") for path in paths.values()]
    whole = xr.concat(wanted, "time", data_vars="minimal")

    xr.testing.assert_identical(stacks.open(f"hda://{stacks.dataset}/{names[1]}"), wanted[1])
    for _ in range(2):
        xr.testing.assert_identical(stacks.open(chunks={}).load(), whole)
        stacks.forget()


@pytest.mark.parametrize("kind", KINDS)
def test_netcdf3_that_is_cut_short_is_refused(bench: Any, tmp_path: Path, kind: str) -> None:
    """What is missing would read as zeros: it never gets into the cache."""
    body = _write(tmp_path / "whole.nc", kind).read_bytes()[:-8]
    emulator = bench.start(products=[dated_product("sst_20240501.nc", body)])

    with pytest.raises(ProductFormatError, match="cut short"):
        xr.open_dataset(
            f"{bench.query}/sst_20240501.nc",
            engine="hda",
            storage_options=bench.settings(emulator),
        )


def _refused_by_one_library(path: Path, day: int) -> Path:
    """Write what the netCDF library refuses as a whole, for the sake of one variable in a group."""
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("h5netcdf")
    with h5py.File(path, "w") as file:
        file["time"] = np.array([(30 * 4 + day) * 24.0 + 12])
        file["time"].attrs["units"] = "hours since 2024-01-01"
        file["lat"] = np.array([3.0, 2.0, 1.0])
        file["sst"] = np.array([[day, 2.0, 3.0]])
        for axis, name in enumerate(("time", "lat")):
            file[name].make_scale(name)
            file["sst"].dims[axis].attach_scale(file[name])
        inner, space = file.create_group("inner"), h5py.h5s.create_simple((3,))
        h5py.h5d.create(inner.id, b"moment", h5py.h5t.UNIX_D32LE, space)
    with pytest.raises(OSError, match="HDF error"):
        netCDF4.Dataset(path)
    return path


@pytest.mark.slow
def test_files_that_only_h5netcdf_reads(stacks: Any, tmp_path: Path) -> None:
    """They are read with it of themselves: one by one and stacked, now and from the cache."""
    names = [f"sst_2024050{day}.nc" for day in (1, 2, 3)]
    stacks.serve({n: _refused_by_one_library(tmp_path / n, day) for day, n in enumerate(names, 1)})

    one = stacks.open(f"hda://{stacks.dataset}/{names[1]}")

    assert one.sst.values.tolist() == [[2.0, 2.0, 3.0]]
    assert str(one.time.values[0])[:13] == "2024-05-02T12"
    for _ in range(2):
        found = stacks.open(chunks={})
        np.testing.assert_array_equal(found.sst.isel(lat=0).values, [1.0, 2.0, 3.0])
        stacks.forget()
    with pytest.raises(ProductFormatError, match="HDF error"):
        stacks.open(f"hda://{stacks.dataset}/{names[1]}", product_engine="netcdf4")
