"""Several files of one product as one dataset, if they share a grid.

Nothing is aligned, filled or overridden: two files that disagree are an error that names them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import xarray as xr

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.printable import printable
from hda_fsspec.reading.essential_attributes import different_meaning


def merge_files(files: Mapping[str, xr.Dataset], *, name: str, hint: str = "") -> xr.Dataset:
    """Return one dataset with the variables of all files; closing it closes them.

    A variable that several files hold, such as a coordinate, must be equal in all of them; it is
    read for that. Attributes of the dataset that differ are left out.

    Parameters
    ----------
    files : mapping
        The datasets by the names of their files.
    name : str
        What to call the product in messages.
    hint : str
        What else an error should say.

    Raises
    ------
    ProductFormatError
        Two files have different grids, or different variables of the same name.
    """
    first_with_size: dict[str, str] = {}
    first_with_variable: dict[str, str] = {}
    for file, ds in files.items():
        for dim, size in ds.sizes.items():
            other = first_with_size.setdefault(str(dim), file)
            if files[other].sizes[dim] != size:
                why = f"dimension {dim} has {files[other].sizes[dim]} and {size} steps"
                raise conflict(name, other, file, why, more=hint)
        for variable in ds.variables:
            other = first_with_variable.setdefault(str(variable), file)
            if other != file:
                why = difference(files[other].variables[variable], ds.variables[variable])
                if why:
                    why = f"{variable} differs in its {why}"
                    raise conflict(name, other, file, why, more=hint)
    merged = xr.merge(
        files.values(), join="exact", compat="override", combine_attrs="drop_conflicts"
    )
    # Not a lambda: a dataset is pickled with what closes it.
    merged.set_close(functools.partial(close_all, dict(files)))
    return merged


def close_all(datasets: Mapping[str, xr.Dataset]) -> None:
    """Close datasets, every one of them."""
    for ds in datasets.values():
        ds.close()


def difference(one: xr.Variable, other: xr.Variable) -> str:
    """Say in what two variables of the same name differ; "" if they may be taken for each other."""
    if one.dims != other.dims:
        return "dimensions"
    # What is told by attributes alone is compared, too: variables of a grid often hold no values.
    attribute = different_meaning(one.attrs, other.attrs)
    if attribute is not None:
        return f"attribute {attribute}"
    is_equal: bool = one.equals(other)  # type: ignore[no-untyped-call]
    return "" if is_equal else "values"


def conflict(name: str, one: str, other: str, why: str, *, more: str = "") -> ProductFormatError:
    """Return the error for two files of a product that cannot be one dataset."""
    msg = (
        f"The files {one} and {other} of {name} do not fit into one dataset: {why}. {more}Open "
        "fewer files with a narrower member=…, or all of them as a tree with xr.open_datatree."
    )
    return ProductFormatError(printable(msg))
