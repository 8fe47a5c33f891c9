"""What a product of a stack must be like, and what to say of one that differs.

Pure: it compares headers, and has never seen a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from hda_fsspec.errors import ProductMismatchError
from hda_fsspec.lazy.headers import UNIT_ATTRS, Header, VariableHeader
from hda_fsspec.lazy.layouts import Layout

_KIND_STEP = "Narrow the query to products of one kind."
_DECODE_STEP = "Leave decode_times and decode_cf as they are: only decoded times can be compared."
_SCAN_STEP = "Open with scan=True, which reads the header of every product first."
_GRID_STEP = (
    "Products without a common grid (swaths, tiles) do not stack: open them one by one with "
    'xr.open_datatree(…, engine="hda"), or bring them to one grid with '
    "hda_fsspec.open_mfdataset(…, preprocess=…)."
)


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
        check_kind(self.product_id, header, self.template, self.layout)
        layout = self.layout
        found = layout.length(header)
        if found != self.length:
            what = f"it has {found} steps along {layout.dim!r}, not {self.length}"
            raise _differs(self.product_id, what, _SCAN_STEP)
        values = layout.index_values(header)
        if self.index is not None and values is not None and not self._is_close(values):
            found_at, wanted = _shown(values), _shown(self.index)
            what = f"its {layout.dim} is {found_at}, where {wanted} was predicted"
            raise _differs(self.product_id, what, _SCAN_STEP)

    def _is_close(self, values: np.ndarray[Any, Any]) -> bool:
        wanted = self.index
        if wanted is None or values.shape != wanted.shape:
            return False
        kinds = {values.dtype.kind, wanted.dtype.kind}
        if kinds == {"O"}:
            return _are_close_dates(values, wanted, self.tolerance)
        if ("M" in kinds and kinds != {"M"}) or not kinds <= set("mMiuf"):
            return bool((values == wanted).all())
        same = (values == wanted) | (_is_missing(values) & _is_missing(wanted))
        return bool((same | (np.abs(values - wanted) <= self.tolerance)).all())


def check_kind(product_id: str, header: Header, template: Header, layout: Layout) -> None:
    """Raise ProductMismatchError unless a product has what the template has, on the same grid."""
    for name, mine in template.variables.items():
        theirs = header.variables.get(name)
        if theirs is None:
            raise _differs(product_id, f"it lacks the variable {name!r}")
        _check_variable(product_id, name, mine, theirs)
    _check_sizes(product_id, header.sizes, template.sizes, layout.dim)
    for name in sorted(layout.compared(template)):
        mine, theirs = template.variables[name], header.variables[name]
        if mine.digest is not None and theirs.digest != mine.digest:
            raise _value_differs(product_id, name, theirs, template, layout)


def _check_variable(
    product_id: str, name: str, mine: VariableHeader, theirs: VariableHeader
) -> None:
    if theirs.dims != mine.dims:
        raise _differs(product_id, f"{name!r} has dimensions {theirs.dims}, not {mine.dims}")
    if not np.can_cast(theirs.dtype, mine.dtype, "safe"):
        raise _differs(product_id, f"{name!r} is of dtype {theirs.dtype}, not {mine.dtype}")
    for attr in UNIT_ATTRS:
        here, there = theirs.attrs.get(attr), mine.attrs.get(attr)
        if here is not None and there is not None and not np.array_equal(here, there):
            is_time = all(" since " in str(units) for units in (here, there))
            what = f"the {attr} of {name!r} are {here!r}, not {there!r}"
            raise _differs(product_id, what, _DECODE_STEP if is_time else _KIND_STEP)


def _check_sizes(
    product_id: str, sizes: Mapping[str, int], wanted: Mapping[str, int], along: str
) -> None:
    for dim, size in wanted.items():
        if dim != along and sizes.get(dim) != size:
            what = f"its dimension {dim!r} has {sizes.get(dim)} elements, not {size}"
            raise _differs(product_id, what, _GRID_STEP)


def _value_differs(
    product_id: str, name: str, theirs: VariableHeader, template: Header, layout: Layout
) -> ProductMismatchError:
    mine = template.variables[name]
    values = ""
    if mine.values is not None and theirs.values is not None:
        values = f" ({_shown(theirs.values)}, not {_shown(mine.values)})"
    if mine.dims and mine.is_coordinate:
        step = _GRID_STEP
        if layout.is_new and mine.dims == (name,) and template.sizes[name] == 1:
            step = (
                f"No product has the dimension {layout.dim!r} that they are stacked along: was "
                f"concat_dim={name!r} meant?"
            )
        return _differs(product_id, f"its coordinate {name!r} has other values{values}", step)
    what = f"{name!r}, which lacks the dimension {layout.dim!r}, has another value{values}"
    step = f"Open with concat_variables=[{name!r}] to stack it too, or drop_variables=[{name!r}]."
    return _differs(product_id, what, step)


def _differs(product_id: str, what: str, step: str = _KIND_STEP) -> ProductMismatchError:
    msg = f"The product {product_id} does not fit the others: {what}. {step}"
    return ProductMismatchError(msg)


def _are_close_dates(
    values: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], tolerance: Any
) -> bool:
    """Whether dates of a calendar of its own are close; other objects must be equal."""
    if bool((values == wanted).all()):
        return True
    calendars = {getattr(v, "calendar", None) for v in (*values.ravel(), *wanted.ravel())}
    if len(calendars) > 1 or None in calendars or not isinstance(tolerance, np.timedelta64):
        return False
    return all(abs(np.timedelta64(each, "us")) <= tolerance for each in (values - wanted).ravel())


def _is_missing(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if values.dtype.kind in "mMf":
        # Both kinds of missing value are not equal to themselves.
        missing: np.ndarray[Any, np.dtype[np.bool_]] = values != values  # noqa: PLR0124
        return missing
    return np.zeros(values.shape, dtype=np.bool_)


def _shown(values: np.ndarray[Any, Any]) -> str:
    flat = values.ravel()
    if flat.size == 1:
        return str(flat[0])
    return f"{flat[0]} … {flat[-1]}" if flat.size else "empty"
