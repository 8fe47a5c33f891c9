"""How products are laid along one dimension: which dimension, which variables, what must agree.

Decided from the header of one product, and checked against those of the others. Pure: no product
is opened here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from hda_fsspec.errors import ProductMismatchError, QueryError
from hda_fsspec.headers import Header, VariableHeader

_TIME_NAMES = ("time", "valid_time", "time_counter", "TIME", "Time", "t", "times", "date")


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

    def axis(self, dims: Sequence[str]) -> int:
        """Return at which axis a stacked variable is stacked."""
        return list(dims).index(self.dim) if self.dim in dims else 0

    def kept(self, header: Header) -> set[str]:
        """Return the variables whose values a header must hold: index coordinates."""
        names = {name for name, v in header.variables.items() if v.dims == (name,)}
        return names | ({self.dim} if self.has_index else set())

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
        A name in ``concat_variables`` is no variable.
    """
    unknown = sorted(set(concat_variables) - set(header.variables))
    if unknown:
        msg = (
            f"concat_variables names {unknown[0]!r}, which the products do not have. They have: "
            f"{', '.join(sorted(header.variables))}."
        )
        raise QueryError(msg, key="concat_variables")
    dim = concat_dim or _time_dim(header) or _scalar_time(header) or "time"
    is_new = dim not in header.sizes
    variable = header.variables.get(dim)
    has_index = variable is not None and variable.dims in {(dim,), ()}
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
        is_from_catalogue=not has_index and variable is None and one_step,
        stacked=tuple(stacked),
    )


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


def _scalar_time(header: Header) -> str | None:
    found = [(name, v) for name, v in header.variables.items() if v.dims == () and _is_time(v)]
    return min(found, key=lambda item: _rank(*item))[0] if found else None


@dataclasses.dataclass(frozen=True)
class Expected:
    """What one product of a stack must be like.

    Attributes
    ----------
    product_id : str
        Which product, for messages.
    template : Header
        The header it must agree with.
    layout : Layout
        How the stack is laid.
    index : numpy.ndarray or None
        Its part of the index.
    length : int
        Its steps.
    tolerance : numpy.timedelta64 or float
        How far its index may be from the predicted one.
    """

    product_id: str
    template: Header
    layout: Layout
    index: np.ndarray[Any, Any] | None
    length: int
    tolerance: Any

    def check(self, header: Header) -> None:
        """Raise ProductMismatchError, which says what differs, unless a product fits."""
        layout = self.layout
        for name, mine in self.template.variables.items():
            theirs = header.variables.get(name)
            if theirs is None:
                raise self._differs(f"it lacks the variable {name!r}")
            if theirs.dims != mine.dims:
                raise self._differs(f"{name!r} has dimensions {theirs.dims}, not {mine.dims}")
            if not np.can_cast(theirs.dtype, mine.dtype, "safe"):
                raise self._differs(f"{name!r} is of dtype {theirs.dtype}, not {mine.dtype}")
        self._check_sizes(header.sizes)
        for name in sorted(layout.compared(self.template)):
            mine, theirs = self.template.variables[name], header.variables[name]
            if mine.digest is not None and theirs.digest != mine.digest:
                raise self._value_differs(name, mine, theirs)
        values = layout.index_values(header)
        if self.index is not None and values is not None and not self._is_close(values):
            found, wanted = _shown(values), _shown(self.index)
            raise self._differs(
                f"its {layout.dim} is {found}, where {wanted} was predicted from the catalogue",
                step="Open with scan=True, which reads the header of every product first.",
            )

    def _check_sizes(self, sizes: Mapping[str, int]) -> None:
        for dim, size in self.template.sizes.items():
            if dim != self.layout.dim and sizes.get(dim) != size:
                raise self._differs(
                    f"its dimension {dim!r} has {sizes.get(dim)} elements, not {size}",
                    step=_GRID_STEP,
                )
        found = 1 if self.layout.is_new else sizes.get(self.layout.dim, 0)
        if found != self.length:
            raise self._differs(
                f"it has {found} steps along {self.layout.dim!r}, not {self.length}",
                step="Open with scan=True, which reads the header of every product first.",
            )

    def _value_differs(self, name: str, mine: VariableHeader, theirs: VariableHeader) -> Exception:
        if mine.dims and mine.is_coordinate:
            what = f"its coordinate {name!r} has other values"
            if mine.values is not None and theirs.values is not None:
                what += f" ({_shown(theirs.values)}, not {_shown(mine.values)})"
            return self._differs(what, step=_GRID_STEP)
        return self._differs(
            f"{name!r}, which lacks the dimension {self.layout.dim!r}, has another value",
            step=f"Open with concat_variables=[{name!r}] to stack it too, or with "
            f"drop_variables=[{name!r}].",
        )

    def _is_close(self, values: np.ndarray[Any, Any]) -> bool:
        wanted = self.index
        if wanted is None or values.shape != wanted.shape:
            return False
        if object in (values.dtype, wanted.dtype):
            return bool((values == wanted).all())
        if np.issubdtype(values.dtype, np.datetime64) != np.issubdtype(wanted.dtype, np.datetime64):
            return False
        if values.dtype.kind not in "mMiuf":
            return bool((values == wanted).all())
        same = (values == wanted) | (_is_missing(values) & _is_missing(wanted))
        return bool((same | (np.abs(values - wanted) <= self.tolerance)).all())

    def _differs(self, what: str, step: str = "") -> ProductMismatchError:
        step = step or "Narrow the query to products of one kind."
        msg = f"The product {self.product_id} does not fit the others: {what}. {step}"
        return ProductMismatchError(msg)


_GRID_STEP = (
    "Products without a common grid (swaths, tiles) do not stack: use xr.open_datatree, or "
    "open_mfdataset with preprocess=."
)


def _is_missing(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if values.dtype.kind in "mM":
        return np.asarray(np.isnat(values))
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values))
    return np.zeros(values.shape, dtype=bool)


def _shown(values: np.ndarray[Any, Any]) -> str:
    flat = values.ravel()
    if flat.size == 1:
        return str(flat[0])
    return f"{flat[0]} … {flat[-1]}" if flat.size else "empty"
