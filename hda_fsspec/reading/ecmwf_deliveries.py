"""Products computed by the data stores, laid out in one way, whatever container they came in.

One request may be delivered as a netCDF file, as a ZIP of several, or as GRIB: dimensions are named
as their netCDF names them.
"""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from hda_fsspec.errors import ProductFormatError, note_once
from hda_fsspec.reading.concatenating import put_together
from hda_fsspec.reading.merging import merge_files

#: What the dimension of time is called.
_TIMES = ("valid_time", "time")
#: What GRIB calls dimensions, and netCDF files of the data stores.
_NAMES = {"isobaricInhPa": "pressure_level", "hybrid": "model_level"}
#: Single values that GRIB has, and those files have not.
_ONLY_IN_GRIB = (
    *("time", "step", "surface", "heightAboveGround", "meanSea", "entireAtmosphere"),
    *("depthBelowLandLayer", "depthBelowLand"),
)


def join_files(files: Mapping[str, xr.Dataset], *, name: str) -> xr.Dataset:
    """Return the files of one request as one dataset: by variable, or by time.

    There is a file for the variables of each kind of step, and there may be one for preliminary
    data.

    Parameters
    ----------
    files : mapping
        The datasets by the names of their files.
    name : str
        What to call the product in messages.

    Raises
    ------
    ProductFormatError
        Their grids or their times differ.
    """
    dims = {dim for ds in files.values() for dim in ds.dims}
    dim = next((dim for dim in _TIMES if dim in dims), None)
    try:
        if dim is None:
            return merge_files(files, name=name)
        return put_together(files, dim, name=name, in_any_case=False)
    except ProductFormatError as err:
        note_once(err, 'Or ask for each variable alone, as with split={"variable": 1}.')
        raise


def laid_out(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset with the dimensions and coordinates that netCDF of the data stores has.

    Of GRIB that is one that counts by the time for which values are valid. Other datasets are
    returned as they are.
    """
    if "GRIB_edition" not in dataset.attrs or "valid_time" not in dataset.coords:
        return dataset
    found = dataset.rename({old: new for old, new in _NAMES.items() if old in dataset.variables})
    dims = dataset["valid_time"].dims
    if dims not in {("time",), ("step",)}:
        return found
    found = found.swap_dims({dims[0]: "valid_time"})
    mine = [name for name in _ONLY_IN_GRIB if name in found.coords and name not in found.dims]
    found = found.drop_vars(mine)
    found.set_close(dataset.close)
    return found
