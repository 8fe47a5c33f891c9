"""The bytes of netCDF files, and of archives of them.

It knows names, arrays and attributes; it has never heard of requests.
"""

from __future__ import annotations

import dataclasses
import io
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclasses.dataclass(frozen=True)
class Written:
    """A variable to write: stored values, ``dtype`` of them, and attributes, ``_FillValue`` too."""

    name: str
    dims: tuple[str, ...]
    values: Any
    attrs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dtype: Any = None


def netcdf_bytes(
    variables: Sequence[Written], attrs: Mapping[str, Any], *, is_compressed: bool
) -> bytes:
    """Return a netCDF-4 file.

    Parameters
    ----------
    variables : sequence of Written
        In their order in the file; their shapes make the dimensions.
    attrs : mapping
        Of the file.
    is_compressed : bool
        Gridded variables in one chunk, deflated; else all are contiguous.
    """
    import netCDF4
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="hda-emulator-") as folder:
        # Not in memory: a file there is padded to whole blocks.
        path = Path(folder, "subset.nc")
        file = netCDF4.Dataset(str(path), "w")
        file.setncatts(attrs)
        for variable in variables:
            # Of text a dtype str is more than an array can tell.
            values = np.asarray(variable.values)
            for name, size in zip(variable.dims, values.shape, strict=True):
                if name not in file.dimensions:
                    file.createDimension(name, size)
            rest = dict(variable.attrs)
            layout: dict[str, Any] = {"fill_value": rest.pop("_FillValue", None)}
            if is_compressed and len(variable.dims) > 1 and values.size:
                layout |= {"zlib": True, "complevel": 1, "shuffle": True}
                layout["chunksizes"] = values.shape
            elif variable.dtype is not str:
                layout["contiguous"] = True
            dtype = variable.dtype or values.dtype
            created = file.createVariable(variable.name, dtype, variable.dims, **layout)
            created.set_auto_maskandscale(False)
            created.setncatts(rest)
            if values.size:
                created[...] = values.astype(object) if dtype is str else values
        file.close()
        return path.read_bytes()


def zip_bytes(members: Mapping[str, bytes]) -> bytes:
    """Return an archive of files by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name, date_time=_ZIP_EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    return buffer.getvalue()
