"""Archives that are Zarr stores say which line opens them."""

from __future__ import annotations

import re
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import Format
from hda_fsspec.reading import archives


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [["zarr.json", "v/zarr.json", "v/c/0"], [".zgroup", "v/.zarray", "v/0"]]
)
@pytest.mark.parametrize("root", ["", "a.zarr/"])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_zarr_store_is_named(stacks: Any, names: list[str], root: str, suffix: str) -> None:
    """An archive that is a Zarr store says which line opens it, whatever its chunks look like."""
    folder = stacks.folder / "store"
    for name in names:
        path = folder / root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A chunk that gzip has packed looks like a file of its own.
        path.write_bytes(b"{}" if "z" in path.name else b"\x1f\x8b\x08" + bytes(40))
    kind = suffix.removeprefix(".")
    made = shutil.make_archive(str(stacks.folder / "z_20240501.zarr"), kind, root_dir=folder)
    stacks.serve({"z_20240501.zarr": Path(made)})
    chain = f"{kind}://{root.rstrip('/')}" if root else kind

    ways: list[dict[str, Any]] = [{}, {"member": "*"}]
    for options in ways:
        with pytest.raises(ProductFormatError, match="Zarr store") as caught:
            xr.open_dataset(
                f"hda://{stacks.dataset}/z_20240501.zarr",
                engine="hda", storage_options=stacks.options, **options,
            )  # fmt: skip
        assert f'xr.open_zarr("{chain}::hda://…/z_20240501.zarr")' in str(caught.value)
    with pytest.raises(ProductFormatError, match=re.escape(f'"{chain}::hda://')):
        xr.open_datatree(
            f"hda://{stacks.dataset}/z_20240501.zarr", engine="hda", storage_options=stacks.options
        )


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_line_that_is_named_opens_it(stacks: Any, zarr_format: int) -> None:
    """With the package zarr, the line of the error reads the store out of the archive."""
    pytest.importorskip("zarr")
    want = xr.Dataset({"v": (("t", "x"), np.arange(6.0).reshape(2, 3))})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want.to_zarr(stacks.folder / "in" / "a.zarr", zarr_format=zarr_format)
    made = shutil.make_archive(
        str(stacks.folder / "z_20240501.zarr"), "zip", root_dir=stacks.folder / "in"
    )
    stacks.serve({"z_20240501.zarr.zip": Path(made)})
    path = f"hda://{stacks.dataset}/z_20240501.zarr.zip"
    with pytest.raises(ProductFormatError) as caught:
        xr.open_dataset(path, engine="hda", storage_options=stacks.options)
    line = re.search(r'xr\.open_zarr\("([^"]+)"\)', str(caught.value))
    assert line is not None
    chain = line.group(1).partition("::")[0]

    with xr.open_zarr(f"{chain}::{path}", storage_options={"hda": stacks.options}) as found:
        xr.testing.assert_equal(found.load(), want)


def test_data_beside_a_zarr_store(stacks: Any) -> None:
    """Files outside of the store are data files as ever."""
    path = stacks.folder / "m_20240501.zip"
    xr.Dataset({"v": ("x", [5100.0])}).to_netcdf(stacks.folder / "d.nc")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.zarr/.zgroup", "{}")
        archive.write(stacks.folder / "d.nc", "d.nc")
    stacks.serve({path.name: path})

    ds = xr.open_dataset(
        f"hda://{stacks.dataset}/{path.name}", engine="hda", storage_options=stacks.options
    )

    assert float(ds["v"][0]) == 5100.0
    assert [m.format for m in archives.list_members(path)] == [Format.OTHER, Format.HDF5]
