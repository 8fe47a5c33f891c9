"""Archives of one file a day, and what xarray makes of the files in them."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from written_files import write_netcdf

HOURS = {"units": "hours since 1970-01-01", "dtype": "i8", "calendar": "proleptic_gregorian"}


def day(number: int, *, steps: int = 1, month: int = 5, **more: Any) -> xr.Dataset:
    """Return the data of a day, of which every value is another one."""
    start = np.datetime64(f"2024-{month:02}-{number:02}", "ns")
    time = start + np.arange(steps) * np.timedelta64(24 // steps, "h")
    values = 1000 * month + 100.0 * number + np.arange(steps * 6).reshape(steps, 2, 3)
    ds = xr.Dataset(
        {"v": (("time", "lat", "lon"), values.astype("f4"), {"units": "K"})},
        coords={"time": time, "lat": [2.0, 1.0], "lon": [10.0, 20.0, 30.0]},
        attrs={"title": "daily", "history": f"made on {number}"},
    )
    ds["time"].encoding.update(HOURS)
    return ds.assign(more)


class Archives:
    """Archives that a test writes, and what xarray makes of their unpacked members."""

    def __init__(self, stacks: Any) -> None:
        self.stacks = stacks
        self.members: dict[str, list[Path]] = {}
        self._paths: dict[str, Path] = {}

    def write(self, product_id: str, members: Mapping[str, Any]) -> None:
        """Write one archive of data sets, or of files."""
        folder = self.stacks.folder / f"in {product_id}"
        folder.mkdir()
        path = self.stacks.folder / product_id
        with zipfile.ZipFile(path, "w") as archive:
            for name, member in members.items():
                if isinstance(member, xr.Dataset):
                    write_netcdf(member, folder / name)
                else:
                    shutil.copyfile(member, folder / name)
                archive.write(folder / name, f"top/{name}")
        self._paths[product_id] = path
        self.members[product_id] = sorted(folder.iterdir())

    def serve(self, **options: Any) -> None:
        """Serve what was written."""
        self.stacks.serve(self._paths, **options)

    def open(self, what: str | None = None, **options: Any) -> Any:
        """Open a product, or all of them as one, along time unless something else is asked for."""
        given = {"member": "*.nc", "concat_dim": "time", "cache": False, **options}
        path = f"hda://{self.stacks.dataset}/{what or '*'}"
        return xr.open_dataset(path, engine="hda", storage_options=self.stacks.options, **given)

    def one(self, members: Mapping[str, Any], **options: Any) -> Any:
        """Open an archive of some members."""
        self.write("a_20240501.zip", members)
        self.serve(profile="month")
        return self.open("a_20240501.zip", **options)

    def nested(self, product_id: str = "a_20240501.zip", **options: Any) -> xr.Dataset:
        """Return what xarray makes of the sorted members."""
        given: dict[str, Any] = {
            "combine": "nested", "concat_dim": "time", "data_vars": "minimal",
            "coords": "minimal", "compat": "override", "combine_attrs": "drop_conflicts",
            **options,
        }  # fmt: skip
        with xr.open_mfdataset(self.members[product_id], **given) as ds:
            return ds.load()
