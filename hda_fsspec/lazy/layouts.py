"""How products are laid along one dimension: which dimension, which variables, what must agree.

Decided from the header of one product. Pure: no product is opened here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np

from hda_fsspec.errors import QueryError
from hda_fsspec.lazy.headers import Header, VariableHeader

_TIME_NAMES = ("time", "valid_time", "time_counter", "TIME", "Time", "t", "times", "date")
_NEW_NAMES = ("time", "start_time", "catalogue_time", "hda_time")


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """How the products of a stack lie along one dimension.

    Attributes
    ----------
    dim : str
        The dimension of concatenation.
    is_new : bool
        Whether products lack it: each is then one step.
    has_index : bool
        Whether the products hold the coordinate of that name.
    is_from_catalogue : bool
        Whether the coordinate is made from the catalogue's start times.
    stacked : tuple of str
        The variables that lie along the dimension, the index coordinate left out.
    """

    dim: str
    is_new: bool
    has_index: bool
    is_from_catalogue: bool
    stacked: tuple[str, ...]

    def length(self, header: Header) -> int:
        """Return how many steps a product has."""
        return 1 if self.is_new else header.sizes.get(self.dim, 0)

    def index_values(self, header: Header) -> np.ndarray[Any, Any] | None:
        """Return a product's part of the index, 1-D, where its header holds it."""
        variable = header.variables.get(self.dim) if self.has_index else None
        if variable is None or variable.values is None:
            return None
        return np.atleast_1d(variable.values)

    def bounds_values(self, header: Header) -> np.ndarray[Any, Any] | None:
        """Return the bounds of a product's part of the index, two for each value, where it has any.

        Those of another kind than the index, or with missing values, are none.
        """
        values = self.index_values(header)
        name = self._bounds_name(header)
        bounds = header.variables[name].values if name is not None else None
        if values is None or bounds is None or bounds.size != 2 * values.size:
            return None
        return bounds if _kinds(bounds) == _kinds(values) else None

    def _bounds_name(self, header: Header) -> str | None:
        variable = header.variables.get(self.dim) if self.has_index else None
        if variable is None:
            return None
        # xarray moves the name among the encodings where decode_coords is "all".
        name = variable.attrs.get("bounds", variable.encoding.get("bounds"))
        return name if isinstance(name, str) and name in header.variables else None

    def kept(self, header: Header) -> set[str]:
        """Return the variables whose values a header must hold.

        Those are index coordinates, the bounds of the index, and scalars.
        """
        names = {name for name, v in header.variables.items() if v.dims == (name,)}
        scalars = {n for n, v in header.variables.items() if not v.dims} & self.compared(header)
        bounds = self._bounds_name(header)
        names |= set() if bounds is None else {bounds}
        return names | scalars | ({self.dim} if self.has_index else set())

    def compared(self, header: Header) -> set[str]:
        """Return the variables that must be equal in all products."""
        along = {*self.stacked, self.dim}
        return {n for n, v in header.variables.items() if n not in along and self.dim not in v.dims}


def find_layout(
    header: Header, concat_dim: str | None, concat_variables: Collection[str] = ()
) -> Layout:
    """Decide the layout from the header of a product.

    Parameters
    ----------
    header : Header
        No values are needed.
    concat_dim : str, optional
        The dimension; found by itself if None: along a time coordinate, else of a scalar time,
        else a new one, ``time``.
    concat_variables : collection of str
        Variables to stack although they lack the dimension.

    Raises
    ------
    QueryError
        A name in ``concat_variables`` is no variable, or an index; or the dimension has the name
        of a variable that cannot be its coordinate.
    """
    dim = concat_dim or _time_dim(header) or _scalar_time(header) or _free_name(header)
    _refuse(header, dim, concat_variables)
    is_new = dim not in header.sizes
    variable = header.variables.get(dim)
    has_index = variable is not None
    if is_new:
        # As xarray concatenates: along a new dimension all data variables get it.
        stacked = [n for n, v in header.variables.items() if not v.is_coordinate]
    else:
        stacked = [n for n, v in header.variables.items() if dim in v.dims and n != dim]
    stacked += [name for name in concat_variables if name not in stacked and name != dim]
    one_step = is_new or header.sizes[dim] == 1
    return Layout(
        dim=dim,
        is_new=is_new,
        has_index=has_index,
        is_from_catalogue=not has_index and one_step,
        stacked=tuple(stacked),
    )


def _refuse(header: Header, dim: str, concat_variables: Collection[str]) -> None:
    for name in sorted(set(concat_variables) - {dim}):
        if name not in header.variables:
            msg = (
                f"concat_variables names {name!r}, which the products do not have. They have: "
                f"{', '.join(sorted(header.variables))}."
            )
            raise QueryError(msg, key="concat_variables")
        if header.variables[name].dims == (name,):
            msg = (
                f"concat_variables names {name!r}, which is the index of its own dimension and "
                f"cannot lie along {dim!r} too. Leave it out."
            )
            raise QueryError(msg, key="concat_variables")
    mine = header.variables.get(dim)
    if mine is not None and mine.dims not in {(dim,), ()}:
        msg = (
            f"Products cannot be stacked along {dim!r}: the products have a variable of that name, "
            f"with the dimensions {mine.dims}. Choose another concat_dim."
        )
        raise QueryError(msg, key="concat_dim")


def _kinds(values: np.ndarray[Any, Any]) -> set[Any]:
    """Return what can be compared with what: kinds of numbers, calendars, missing values."""
    if values.dtype.kind == "O":
        return {getattr(value, "calendar", None) for value in values.ravel().tolist()}
    has_gaps = values.dtype.kind == "M" and bool(np.isnat(values).any())
    return {values.dtype.kind, has_gaps}


def _is_time(variable: VariableHeader) -> bool:
    return variable.dtype.kind == "M" or (
        variable.dtype == object and "calendar" in variable.encoding
    )


def _rank(name: str, variable: VariableHeader) -> tuple[bool, bool, bool, int]:
    """Order candidates: what is marked as time first, then by type, then by name."""
    attrs = variable.attrs
    is_marked = attrs.get("standard_name") == "time" or attrs.get("axis") == "T"
    known = _TIME_NAMES.index(name) if name in _TIME_NAMES else len(_TIME_NAMES)
    return (not is_marked, not _is_time(variable), known == len(_TIME_NAMES), known)


def _time_dim(header: Header) -> str | None:
    """Return the dimension that has a time coordinate, or at least the name of one."""
    found = [
        (name, v)
        for name, v in header.variables.items()
        if v.dims == (name,) and (_is_time(v) or name in _TIME_NAMES or v.attrs.get("axis") == "T")
    ]
    if found:
        return min(found, key=lambda item: _rank(*item))[0]
    return next((name for name in _TIME_NAMES if name in header.sizes), None)


def _free_name(header: Header) -> str:
    """Return a name for a new dimension; a variable may hold the time of each pixel."""
    return next(name for name in _NEW_NAMES if name not in header.variables)


def _scalar_time(header: Header) -> str | None:
    found = [(name, v) for name, v in header.variables.items() if v.dims == () and _is_time(v)]
    return min(found, key=lambda item: _rank(*item))[0] if found else None
