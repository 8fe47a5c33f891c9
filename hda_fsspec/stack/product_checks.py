"""Checks of the products of a stack against the template, and the errors for those that differ.

Pure: it compares headers, and has never seen a file.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from hda_fsspec.errors import ProductMismatchError
from hda_fsspec.printable import plural, printable
from hda_fsspec.reading.essential_attributes import GRID_MAPPING, PACKING, different_meaning
from hda_fsspec.stack.concat_dim import ConcatLayout, grid_names
from hda_fsspec.stack.header import Header, VariableHeader

_KIND_STEP = "Narrow the query to products of one kind."
_DECODE_STEP = "Leave decode_times and decode_cf as they are: only decoded times can be compared."
_SCAN_STEP = "Open with scan=True, which reads the header of every product first."
_ANEW_STEP = "Its file was replaced since it was looked at: open the data set anew."
_PACKING_STEP = (
    "Leave mask_and_scale as it is: then each product is decoded with its own numbers. Or open "
    "products one by one."
)
_CALENDAR_STEP = (
    "Narrow the query to products of one calendar; or open with use_cftime=True, where they differ "
    "only in which dates numpy can hold."
)
#: Coordinates that differ by less than this part of a grid step differ by noise.
_NOISE = 0.01
_MAX_SHOWN = 80
#: What holds more, as grids that are compared with a tolerance do, is too large to be remembered.
_FEW_VALUES = 4096
_GRID_STEP = (
    "Products without a common grid (swaths, tiles) do not stack: mosaic=True puts tiles of one "
    'reference system side by side; xr.open_datatree(…, engine="hda") opens each tile or product '
    "as a node; hda_fsspec.map_products(query, function) hands each to a function, and "
    "hda_fsspec.open_mfdataset(…, preprocess=…) brings them to one grid."
)


@dataclasses.dataclass(frozen=True)
class ExpectedPart:
    """The part of one dimension that a product of a stack should hold.

    Attributes
    ----------
    dim : str
        The dimension.
    length : int
        Its steps.
    index : numpy.ndarray or None
        Its part of the coordinate, as it was predicted.
    """

    dim: str
    length: int
    index: np.ndarray[Any, Any] | None = None


@dataclasses.dataclass(frozen=True)
class ExpectedProduct:
    """The structure that one product of a stack must have.

    Attributes
    ----------
    product_id : str
        Which product, for messages.
    template : Header
        The header it must agree with.
    layout : ConcatLayout
        How the stack is laid.
    parts : tuple of ExpectedPart
        What it holds of each dimension that products split between them.
    grid_tolerance : float or None
        How far its coordinates may be from those of the template.
    is_scanned : bool
        Whether the headers of all products were read first.
    asked : tuple of numpy.datetime64, or None
        The first and the last moment that it was asked for, if it is made of a request.
    """

    product_id: str
    template: Header
    layout: ConcatLayout
    parts: tuple[ExpectedPart, ...] = ()
    grid_tolerance: float | None = None
    is_scanned: bool = False
    asked: tuple[np.datetime64, np.datetime64] | None = None

    def check(self, header: Header) -> frozenset[str]:
        """Return the variables that a product lacks, if it fits in all that it has.

        Raises ProductMismatchError, which says what differs, unless it fits.
        """
        lacking = self._check_structure(header)
        for part in self.parts:
            self._check_part(header, part)
        return lacking

    def _check_part(self, header: Header, part: ExpectedPart) -> None:
        if not part.length:
            return  # none of its steps is part of the stack
        dim = part.dim
        found = self.layout.length(header, dim)
        if found != part.length:
            self._refuse_nearest(header)
            what = f"it has {found} steps along {dim!r}, not {part.length}"
            raise _differs(self.product_id, what, self._scan_step)
        values, wanted = self.layout.index_values(header, dim), part.index
        if wanted is None or values is None:
            return
        encoding = header.variables[dim].time_encoding
        if values.shape != wanted.shape or not encoding.stores(wanted, values).all():
            self._refuse_nearest(header)
            what = f"its {dim} is {_shown(values)}, where {_shown(wanted)} was predicted"
            raise _differs(self.product_id, what, self._scan_step)

    def _refuse_nearest(self, header: Header) -> None:
        """Raise if no time is one that was asked for: the service delivers the nearest then."""
        values = self.layout.index_values(header)
        if self.asked is None or values is None or values.dtype.kind != "M" or not values.size:
            return
        first, last = self.asked
        if ((values < first) | (values > last)).all():
            what = (
                f"it was asked for {first} to {last}, where there are no data, so that the service "
                f"delivered the nearest time, {_shown(values[:1])}"
            )
            step = (
                "Open the data set anew: it is known now that this piece is empty. Or open with "
                "scan=True, which reads the header of every piece first."
            )
            raise _differs(self.product_id, what, step)

    def check_grid(self, header: Header) -> None:
        """Raise ProductMismatchError unless a product of another kind stands on the same grid.

        The coordinates and dimensions that both have are compared.
        """
        template, layout = self.template, self.layout
        shared = [
            name
            for name, variable in template.variables.items()
            if variable.is_coordinate
            and variable.dims
            and name in header.variables
            and not layout.is_part(template, name)
        ]
        mine, theirs = (
            dataclasses.replace(h, variables={name: h.variables[name] for name in shared})
            for h in (template, header)
        )
        alone = dataclasses.replace(layout, stacked=(), split_dims=(), has_index=False)
        expected = dataclasses.replace(self, template=mine, layout=alone)
        dims = template.sizes.keys() & header.sizes.keys() - {*layout.dims}
        expected._check_sizes(header.sizes, dims)
        expected.check(theirs)

    @functools.cached_property
    def _matched(self) -> tuple[frozenset[str], frozenset[str]]:
        is_small = sum(v.size for v in self.template.variables.values()) <= _FEW_VALUES
        compared = _compared if is_small else _compared.__wrapped__
        return compared(self.layout, self.template)

    @property
    def _grid(self) -> frozenset[str]:
        return self._matched[1]

    @property
    def _scan_step(self) -> str:
        return _ANEW_STEP if self.is_scanned else _SCAN_STEP

    def _check_structure(self, header: Header) -> frozenset[str]:
        """Return the variables that a product lacks; raise if it differs in others."""
        template, layout = self.template, self.layout
        lacking = frozenset(template.variables.keys() - header.variables.keys())
        indexes = {*layout.split_dims, *([layout.dim] if layout.has_index else [])}
        for dim in sorted(lacking & indexes):
            raise lacks(self.product_id, dim, is_scanned=True)
        shared = [name for name in template.variables if name not in lacking]
        for name in shared:
            self._check_variable(name, template.variables[name], header.variables[name])
        dims = {dim for name in shared for dim in template.variables[name].dims}
        self._check_sizes(header.sizes, dims - {*layout.dims})
        for name in sorted(self._matched[0] - lacking):
            mine, theirs = template.variables[name], header.variables[name]
            if mine.digest is None or theirs.digest == mine.digest:
                continue
            if not self._is_close(name, mine, theirs):
                raise self._value_differs(name, theirs)
        return lacking

    def _check_variable(self, name: str, mine: VariableHeader, theirs: VariableHeader) -> None:
        is_small = mine.size + theirs.size <= _FEW_VALUES
        difference = _difference if is_small else _difference.__wrapped__
        found = difference(
            name, mine, theirs, is_grid=name in self._grid, scan_step=self._scan_step
        )
        if found is not None:
            raise self._differs(*found)

    def _check_sizes(self, sizes: Mapping[str, int], dims: Collection[str]) -> None:
        """Raise unless some dimensions have as many elements as in the template."""
        for dim in sorted(dims):
            size = self.template.sizes[dim]
            if sizes.get(dim) != size:
                what = f"its dimension {dim!r} has {sizes.get(dim)} elements, not {size}"
                raise self._differs(what, _GRID_STEP)

    def _is_close(self, name: str, mine: VariableHeader, theirs: VariableHeader) -> bool:
        if self.grid_tolerance is None or name not in self._grid:
            return False
        away = largest_difference(mine, theirs)
        return away is not None and away <= self.grid_tolerance

    def _value_differs(self, name: str, theirs: VariableHeader) -> ProductMismatchError:
        layout, template = self.layout, self.template
        mine = template.variables[name]
        values = ""
        if mine.values is not None and theirs.values is not None and mine.values.size == 1:
            values = f" ({_shown(theirs.values)}, not {_shown(mine.values)})"
        is_odd_name = layout.is_new and mine.dims == (name,) and template.sizes[name] == 1
        is_time = bool({mine.dtype.kind, theirs.dtype.kind} & set("mMO"))
        if name in self._grid and mine.dims and is_time and not is_odd_name:
            what = f"its coordinate {name!r} has other values{values}"
            way = f"concat_variables=[{name!r}] to stack it too"
            if mine.dims == (name,):
                way = f"concat_dim={name!r} to stack along it"
            return self._differs(what, f"Open with {way}, or with drop_variables=[{name!r}].")
        if mine.dims and name in self._grid:
            what = f"its coordinate {name!r} has other values{values}"
            if is_odd_name:
                step = (
                    f"No product has the dimension {layout.dim!r} that they are stacked along: was "
                    f"concat_dim={name!r} meant?"
                )
                return self._differs(what, step)
            how_much, step = _about_grid(mine, theirs)
            return self._differs(what + how_much, step)
        what = f"{name!r}, which lacks the dimension {layout.dim!r}, has another value{values}"
        step = (
            f"Open with concat_variables=[{name!r}] to stack it too, or drop_variables=[{name!r}]."
        )
        how_much, other_step = _about_grid(mine, theirs) if name in self._grid else ("", "")
        if "grid_tolerance" in other_step:
            return self._differs(what + how_much, f"{other_step} {step}")
        return self._differs(what, step)

    def _differs(self, what: str, step: str = _KIND_STEP) -> ProductMismatchError:
        return _differs(self.product_id, what, step)


def lacks(product_id: str, name: str, *, is_scanned: bool) -> ProductMismatchError:
    """Return the error for a variable that a product does not have."""
    step = f"Open with drop_variables=[{name!r}] to do without it"
    if not is_scanned:
        step += ", or with scan=True, which shows it as missing there"
    return _differs(product_id, f"it lacks the variable {name!r}", f"{step}.")


@functools.lru_cache(maxsize=64)
def _compared(layout: ConcatLayout, template: Header) -> tuple[frozenset[str], frozenset[str]]:
    """Return the variables that must be equal in all products, and those of them of the grid."""
    names = layout.variables_to_match(template)
    return frozenset(names), frozenset(names & grid_names(template))


@functools.lru_cache(maxsize=256)
def _difference(
    name: str, mine: VariableHeader, theirs: VariableHeader, *, is_grid: bool, scan_step: str
) -> tuple[str, str] | None:
    """Return what differs in two variables but for their values, and what to do; None if nothing.

    Products that are stored alike share the very same variables, of which it is told once.
    """
    if theirs.dims != mine.dims:
        return f"{name!r} has dimensions {theirs.dims}, not {mine.dims}", _KIND_STEP
    if not (mine.is_text and theirs.is_text):
        found = _other_dtype(name, mine, theirs, is_grid=is_grid, scan_step=scan_step)
        if found is not None:
            return found
    attr = different_meaning(mine.meaning, theirs.meaning)
    if attr is None:
        return None
    here, there = (v.meaning.get(attr) for v in (theirs, mine))
    is_time = attr == "calendar" or (
        attr == "units" and all(" since " in str(units) for units in (here, there))
    )
    verb = "are" if attr.endswith("s") else "is"
    what = f"the {attr} of {name!r} {verb} {_brief(here)}, not {_brief(there)}"
    if attr in PACKING:
        return what, _PACKING_STEP
    if attr in GRID_MAPPING:
        return what, _GRID_STEP
    return what, _DECODE_STEP if is_time else _KIND_STEP


def _other_dtype(
    name: str, mine: VariableHeader, theirs: VariableHeader, *, is_grid: bool, scan_step: str
) -> tuple[str, str] | None:
    calendars = [v.encoding.get("calendar") for v in (theirs, mine)]
    is_same = different_meaning(*({"calendar": calendar} for calendar in calendars)) is None
    if mine.is_date and theirs.is_date and not is_same:
        what = f"the calendar of {name!r} is {calendars[0]!r}, not {calendars[1]!r}"
        return what, "Narrow the query to products of one calendar."
    if mine.is_date != theirs.is_date and {mine.dtype.kind, theirs.dtype.kind} == {"O", "M"}:
        return f"{name!r} holds {_kind_of(theirs)}, not {_kind_of(mine)}", _CALENDAR_STEP
    kinds = [_class_of(v) for v in (theirs, mine)]
    is_other = kinds[0] != kinds[1] and kinds != ["b", "numbers"]
    if is_grid and {mine.dtype.kind, theirs.dtype.kind} == {"f"}:
        return None  # by how much they differ is told of their values
    if is_other or not np.can_cast(theirs.dtype, mine.dtype, "safe"):
        is_wider = not is_other and is_promoted(theirs.dtype, mine.dtype)
        what = f"{name!r} is of dtype {theirs.dtype}, not {mine.dtype}"
        return what, scan_step if is_wider else _KIND_STEP
    return None


def _class_of(variable: VariableHeader) -> str:
    """Return what kind of thing a variable holds: values of two kinds never stand for another."""
    if variable.is_date:
        return "dates"
    if variable.is_text:
        return "text"
    return "numbers" if variable.dtype.kind in "iufc" else variable.dtype.kind


def is_promoted(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Whether numpy has a dtype that holds the values of two, which are of one kind of thing."""
    kinds = {"numbers" if dtype.kind in "iufc" else dtype.kind for dtype in (one, other)}
    return len(kinds) == 1 and kinds <= {"numbers", "m", "M", "b"}


def largest_difference(mine: VariableHeader, theirs: VariableHeader) -> float | None:
    """Return by how much the numbers of two coordinates differ at most; None if that is not known.

    Missing values that are missing in both are no difference.
    """
    here, there = theirs.values, mine.values
    if here is None or there is None or here.shape != there.shape or not here.size:
        return None
    if not {here.dtype.kind, there.dtype.kind} <= set("iuf"):
        return None
    wide, other = np.atleast_1d(here.astype("f8")), np.atleast_1d(there.astype("f8"))
    away = np.where(np.isnan(wide) & np.isnan(other), 0.0, np.abs(wide - other))
    return None if np.isnan(away).any() else float(away.max())


def _about_grid(mine: VariableHeader, theirs: VariableHeader) -> tuple[str, str]:
    """Say by how much two coordinates differ, and whether it is noise; and what to do."""
    away = largest_difference(mine, theirs)
    if away is None or mine.values is None:
        if mine.dtype.kind != "f":
            return "", _GRID_STEP
        return "", f"{_GRID_STEP} If it is only noise, let it pass with grid_tolerance=…."
    steps = np.abs(np.diff(np.atleast_1d(mine.values.astype("f8")), axis=-1))
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    size = max(float(np.nanmax(np.abs(mine.values.astype("f8")))), 1.0)
    if not (away <= _NOISE * step or away <= np.finfo("f4").eps * size):
        apart = f", which is {away / step:.3g} steps of the grid" if step else ""
        return f": by up to {away:.3g}{apart}: it is another grid", _GRID_STEP
    precisions = {
        values.dtype.name for values in (mine.values, theirs.values) if values is not None
    }
    whence = f" of {' and '.join(sorted(precisions))}" if len(precisions) > 1 else ""
    enough = float(f"{2 * away:.0e}")
    return (
        f": by up to {away:.3g}, which is noise{whence} and no other grid",
        f"Open with grid_tolerance={enough:g}, which takes the coordinates of one product for all.",
    )


def _kind_of(variable: VariableHeader) -> str:
    if variable.is_date:
        return f"dates of the calendar {variable.encoding['calendar']!r}"
    return f"values of dtype {variable.dtype}"


def _brief(value: Any) -> str:
    text = repr(value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _differs(product_id: str, what: str, step: str = _KIND_STEP) -> ProductMismatchError:
    msg = f"The product {product_id} does not fit the others: {what}. {step}"
    return ProductMismatchError(printable(msg))


def _shown(values: np.ndarray[Any, Any]) -> str:
    flat = values.ravel()
    if not flat.size:
        return "empty"
    first, last = (_text(value) for value in (flat[0], flat[-1]))
    return first if flat.size == 1 else f"{first} … {last}"


def _text(value: Any) -> str:
    """Return a value as people say it: durations in the longest unit that they are whole of."""
    if not isinstance(value, np.timedelta64) or np.isnat(value):
        return str(value)
    seconds = value / np.timedelta64(1, "s")
    for unit, name in ((3600.0, "hour"), (60.0, "minute"), (1.0, "second"), (0.001, "millisecond")):
        number = seconds / unit
        if number == int(number):
            return plural(int(number), name)
    return str(value)
