"""The layout of products along one dimension: which dimension, which variables, what must agree.

Decided from the header of one product. Pure: no product is opened here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np

from hda_fsspec.errors import QueryError
from hda_fsspec.stack.header import Header, VariableHeader

_TIME_NAMES = ("time", "valid_time", "time_counter", "TIME", "Time", "t", "times", "date")
_TIME_STANDARD_NAMES = ("time", "forecast_reference_time", "forecast_period")
_NEW_NAMES = ("time", "start_time", "catalogue_time", "hda_time")


@dataclasses.dataclass(frozen=True, slots=True)
class ConcatLayout:
    """The layout of the products of a stack along one dimension.

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
    split_dims : tuple of str
        Other dimensions of which each product holds a part, such as levels.
    """

    dim: str
    is_new: bool
    has_index: bool
    is_from_catalogue: bool
    stacked: tuple[str, ...]
    split_dims: tuple[str, ...] = ()

    @property
    def dims(self) -> tuple[str, ...]:
        """All dimensions of which products hold a part."""
        return (self.dim, *self.split_dims)

    def dims_of(self, header: Header, name: str) -> tuple[str, ...]:
        """Return the dimensions of a variable in the stack: those that it gets stand first."""
        variable = header.variables[name]
        # A product of one level may hold it as a scalar: then all its data lie at that.
        got = [dim for dim in self.split_dims if dim not in header.sizes]
        got = [] if variable.is_coordinate else got
        if name in self.stacked:
            got.insert(0, self.dim)
        return (*(dim for dim in got if dim not in variable.dims), *variable.dims)

    def is_part(self, header: Header, name: str) -> bool:
        """Whether products hold a part of a variable each; an index is none."""
        return name not in self.dims and not {*self.dims}.isdisjoint(self.dims_of(header, name))

    def length(self, header: Header, dim: str | None = None) -> int:
        """Return how many steps a product has along a dimension, that of concatenation if None."""
        dim = self.dim if dim is None else dim
        is_single = self.is_new if dim == self.dim else dim not in header.sizes
        return 1 if is_single else header.sizes.get(dim, 0)

    def index_values(self, header: Header, dim: str | None = None) -> np.ndarray[Any, Any] | None:
        """Return a product's part of an index, 1-D, where its header holds it."""
        dim = self.dim if dim is None else dim
        is_there = self.has_index or dim != self.dim
        variable = header.variables.get(dim) if is_there else None
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

    def bounds_of(self, header: Header) -> tuple[str, ...]:
        """Return the name of the bounds of the index, where a product has any."""
        name = self._bounds_name(header)
        return () if name is None else (name,)

    def _bounds_name(self, header: Header) -> str | None:
        variable = header.variables.get(self.dim) if self.has_index else None
        if variable is None:
            return None
        # xarray moves the name among the encodings where decode_coords is "all".
        name = variable.attrs.get("bounds", variable.encoding.get("bounds"))
        return name if isinstance(name, str) and name in header.variables else None

    def variables_to_store(self, header: Header) -> set[str]:
        """Return the variables whose values a header must hold.

        Those are index coordinates, the bounds of the index, and scalars.
        """
        names = {name for name, v in header.variables.items() if v.dims == (name,)}
        scalars = {n for n, v in header.variables.items() if not v.dims} & self.variables_to_match(
            header
        )
        # Whether they differ is looked at anew with each header.
        scalars |= scalar_times(header)
        bounds = self._bounds_name(header)
        names |= set() if bounds is None else {bounds}
        indexes = {dim for dim in self.split_dims if dim in header.variables}
        return names | scalars | indexes | ({self.dim} if self.has_index else set())

    def variables_to_match(self, header: Header) -> set[str]:
        """Return the variables that must be equal in all products."""
        is_new = self.is_new or any(dim not in header.sizes for dim in self.split_dims)
        return {
            name
            for name, v in header.variables.items()
            # Along a new dimension all data get it, those that the template lacks, too.
            if name not in self.dims
            and not self.is_part(header, name)
            and (v.is_coordinate or not is_new)
        }


def scalar_times(header: Header) -> set[str]:
    """Return the times and durations of a product that are single values."""
    return {
        name
        for name, v in header.variables.items()
        if not v.dims and (_is_time(v) or v.attrs.get("standard_name") in _TIME_STANDARD_NAMES)
    }


def loose_times(header: Header) -> set[str]:
    """Return the times and durations of a product that are coordinates, and no index."""
    scalars = scalar_times(header)
    return scalars | {
        name
        for name, v in header.variables.items()
        if v.is_coordinate and v.dims and v.dims != (name,) and _is_time(v)
    }


def run_start(header: Header) -> int | None:
    """Return when the run of a forecast began that a product is of, in microseconds since 1970.

    None for a product that does not tell, or tells several.
    """
    for variable in header.variables.values():
        values = variable.values
        if not _is_run(variable) or values is None or values.dtype.kind != "M":
            continue
        if values.size == 1 and not np.isnat(values).any():
            return int(values.astype("datetime64[us]").astype(np.int64).item())
    return None


def grid_names(header: Header) -> set[str]:
    """Return the coordinates of a product, and the bounds of these."""
    names = {name for name, v in header.variables.items() if v.is_coordinate}
    for name in tuple(names):
        variable = header.variables[name]
        bounds = variable.attrs.get("bounds", variable.encoding.get("bounds"))
        if isinstance(bounds, str) and bounds in header.variables:
            names.add(bounds)
    return names


def differing_times(headers: Collection[Header]) -> set[str]:
    """Return the times of products that are known not to be the same in all of them.

    Times and durations that are an index are among them, single values, and other coordinates.
    """
    digests: dict[str, set[str]] = {}
    for header in headers:
        indexes = {n for n, v in header.variables.items() if v.dims == (n,) and _is_time(v)}
        for name in loose_times(header) | indexes:
            digest = header.variables[name].digest
            if digest is not None:
                digests.setdefault(name, set()).add(digest)
    return {name for name, found in digests.items() if len(found) > 1}


def find_layout(
    header: Header,
    concat_dim: str | None,
    concat_variables: Collection[str] = (),
    differing: Collection[str] = (),
) -> ConcatLayout:
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
    differing : collection of str
        Times that are known to differ between products: one of them is the dimension if products
        have no time dimension, and all others but indexes are stacked too.

    Raises
    ------
    QueryError
        A name in ``concat_variables`` is no variable, or an index; or the dimension has the name
        of a variable that cannot be its coordinate.
    """
    known = (_time_dim(header), _duration_dim(header, differing), _scalar_time(header, differing))
    dim = concat_dim or next(filter(None, known), None) or _free_name(header)
    _refuse(header, dim, concat_variables)
    is_new = dim not in header.sizes
    variable = header.variables.get(dim)
    has_index = variable is not None
    if is_new:
        # As xarray concatenates: along a new dimension all data variables get it.
        stacked = [n for n, v in header.variables.items() if not v.is_coordinate]
    else:
        stacked = [n for n, v in header.variables.items() if dim in v.dims and n != dim]
    loose = loose_times(header) & set(differing)
    more = [*concat_variables, *sorted(loose)]
    stacked += [name for name in dict.fromkeys(more) if name not in stacked and name != dim]
    one_step = is_new or header.sizes[dim] == 1
    return ConcatLayout(
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


def _is_moment(variable: VariableHeader) -> bool:
    return variable.dtype.kind == "M" or variable.is_date


def _is_time(variable: VariableHeader) -> bool:
    return _is_moment(variable) or variable.dtype.kind == "m"


def _rank(name: str, variable: VariableHeader) -> tuple[bool, bool, bool, int]:
    """Order candidates: what is marked as time first, then by type, then by name."""
    attrs = variable.attrs
    is_marked = attrs.get("standard_name") == "time" or attrs.get("axis") == "T"
    known = _TIME_NAMES.index(name) if name in _TIME_NAMES else len(_TIME_NAMES)
    return (not is_marked, not _is_moment(variable), known == len(_TIME_NAMES), known)


def _time_dim(header: Header) -> str | None:
    """Return the dimension that has a time coordinate, or at least the name of one."""
    found = [
        (name, v)
        for name, v in header.variables.items()
        if v.dims == (name,)
        and (_is_moment(v) or name in _TIME_NAMES or v.attrs.get("axis") == "T")
    ]
    if found:
        return min(found, key=lambda item: _rank(*item))[0]
    return next((name for name in _TIME_NAMES if name in header.sizes), None)


def _duration_dim(header: Header, differing: Collection[str]) -> str | None:
    """Return the steps of a run that products share, each with a part of them."""
    if any(name in differing for name in scalar_times(header)):
        return None
    steps = [
        name
        for name, v in header.variables.items()
        if v.dims == (name,) and v.dtype.kind == "m" and name in differing
    ]
    return steps[0] if steps else None


def _free_name(header: Header) -> str:
    """Return a name for a new dimension; a variable may hold the time of each pixel."""
    return next(name for name in _NEW_NAMES if name not in header.variables)


def _scalar_time(header: Header, differing: Collection[str]) -> str | None:
    """Return the time of a single value that tells products apart.

    The steps of one run of a forecast differ in their duration, and its runs in the time of the
    analysis. Where both differ, only the time that a step is valid at tells.
    """
    found = {name: v for name, v in header.variables.items() if not v.dims and _is_time(v)}
    found = {name: found[name] for name in found if name in differing} or found
    if not found:
        return None
    durations = [name for name in found if found[name].dtype.kind == "m"]
    moments = [name for name in found if name not in durations]
    if "time" in moments and not (durations and _is_run(found["time"])):
        return "time"
    valid = [name for name in moments if not _is_run(found[name])]
    runs = [name for name in moments if _is_run(found[name])]
    if durations and not runs:
        return durations[0]
    return min(valid or moments or durations, key=lambda name: _rank(name, found[name]))


def _is_run(variable: VariableHeader) -> bool:
    return variable.attrs.get("standard_name") == "forecast_reference_time"
