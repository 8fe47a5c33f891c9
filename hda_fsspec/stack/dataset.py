"""A stack as a data set: its variables, coordinates and attributes put together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing  # xarray documents this module for writers of backends

from hda_fsspec.errors import QueryError
from hda_fsspec.lazy.arrays import HDABackendArray, HDAVariable
from hda_fsspec.printable import warn
from hda_fsspec.stack.arrays import StackArray, TemplateArray
from hda_fsspec.stack.header import Header, VariableHeader
from hda_fsspec.stack.stack import Stack


def make_dataset(
    stack: Stack, known: Collection[Header], left_out: Sequence[Collection[str]]
) -> xr.Dataset:
    """Put the variables together: those that products hold parts of, indexes, and the others.

    Parameters
    ----------
    stack : Stack
        The products.
    known : collection of Header
        All headers that are known; a global attribute that differs between them is left out.
    left_out : sequence of collection of str
        For each kind of products the variables that are taken of another kind.
    """
    variables: dict[str, xr.Variable] = {}
    coordinates: dict[str, None] = {}
    for kind, template in enumerate(stack.templates):
        layout, header = template.layout, template.header
        for name, variable in header.variables.items():
            shown = template.shown(name)
            if name in left_out[kind]:
                continue
            if variable.is_coordinate or name in layout.dims:
                coordinates[shown] = None
            if name not in layout.dims:
                variables[shown] = _variable(stack, kind, name, variable)
    for axis in stack.grid.axes:
        coordinate = axis.coordinate
        if axis.dim is None or coordinate is None:
            continue
        mine = next(
            (
                t.header.variables[axis.dim]
                for t in stack.templates
                if axis.dim in t.header.variables
            ),
            None,
        )
        attrs = dict(mine.attrs) if mine is not None else {"standard_name": "time"}
        encoding = dict(mine.encoding) if mine is not None else {}
        variables[axis.dim] = xr.Variable((axis.dim,), coordinate, attrs, encoding)
        coordinates[axis.dim] = None
    attrs_of_all = common_attrs(stack.templates[0].header.attrs, [h.attrs for h in known])
    dataset = xr.Dataset(variables, attrs=attrs_of_all)
    return dataset.set_coords([name for name in coordinates if name in variables])


def _variable(stack: Stack, kind: int, name: str, header: VariableHeader) -> xr.Variable:
    template = stack.templates[kind]
    dims = template.layout.dims_of(template.header, name)
    if not template.layout.is_part(template.header, name):
        if header.values is not None:
            return xr.Variable(header.dims, header.values, header.attrs, dict(header.encoding))
        lazy = TemplateArray(stack, kind, name, number=_holder(stack, kind, name))
        return lazy_variable(header.dims, lazy, header.attrs, header.encoding)
    array = StackArray(stack, kind, name)
    variable = lazy_variable(dims, array, header.attrs, header.encoding)
    preferred = {axis.dim: axis.chunks for axis in stack.grid.axes if axis.dim in dims}
    preferred = {dim: chunks for dim, chunks in preferred.items() if chunks}
    if preferred:
        variable.encoding["preferred_chunks"] = preferred
    return variable


def lazy_variable(
    dims: Sequence[str],
    array: HDABackendArray,
    attrs: Mapping[Any, Any],
    encoding: Mapping[Any, Any],
) -> xr.Variable:
    """Return a variable that reads when it is indexed."""
    return HDAVariable(dims, indexing.LazilyIndexedArray(array), attrs, dict(encoding))


def _holder(stack: Stack, kind: int, name: str) -> int:
    """Return the template, or the first product that has a variable that the template lacks."""
    template = stack.templates[kind]
    absent = stack.absent.get(template.shown(name))
    if absent is None or template.number not in absent:
        return template.number
    numbers = stack.grid.numbers_of(kind)
    return int(numbers[~np.isin(numbers, absent)][0])


def with_product_ids(dataset: xr.Dataset, stack: Stack, name: str) -> xr.Dataset:
    """Return the data set with the ids of products as a coordinate, one for each kind of them.

    Raises
    ------
    QueryError
        Something else has that name.
    """
    grid = stack.grid
    ids = np.array([*(product.product_id for product in stack.source.pieces), ""], dtype=object)
    coordinates: dict[str, Any] = {}
    for kind, template in enumerate(stack.templates):
        parts = [np.array([kind]) if axis.dim is None else axis.part_of_each for axis in grid.axes]
        numbers = grid.numbers(np.ix_(*parts))
        if grid.kind_axis is not None:
            numbers = numbers.take(0, axis=grid.kind_axis)
        dims = tuple(axis.dim for axis in grid.axes if axis.dim is not None)
        label = f"{name}_{template.kind}" if template.kind else name
        coordinates[label] = (dims, ids[numbers])
    for taken in coordinates:
        if taken in dataset.variables or taken in dataset.sizes:
            msg = f"product_coord gives {taken!r}, a name that is taken already. Choose another."
            raise QueryError(msg, key="product_coord")
    return dataset.assign_coords(coordinates)


def tell_absent(stack: Stack, path: str) -> None:
    """Warn, once, of variables that some products lack."""
    lacking = {name: stack.absent[name] for name in sorted(stack.absent)}
    if not lacking:
        return
    holders = {
        template.shown(name): (kind, template.layout.is_part(template.header, name))
        for kind, template in enumerate(stack.templates)
        for name in template.header.variables
    }
    told = "; ".join(
        f"{name!r} in {len(numbers)} of {stack.grid.numbers_of(holders[name][0]).size} products, "
        f"the first of them {stack.source.pieces[int(numbers[0])].product_id}"
        + ("" if holders[name][1] else " (taken from the others)")
        for name, numbers in lacking.items()
    )
    warn(
        f"Some products of {path} lack variables, whose values are missing there: {told}. Open "
        f"with drop_variables={list(lacking)} to do without them.",
        stacklevel=2,
    )


def common_attrs(first: Mapping[Any, Any], others: Collection[Mapping[Any, Any]]) -> dict[Any, Any]:
    """Return the attributes that are the same in all of several datasets."""
    return {
        name: value
        for name, value in first.items()
        if all(name in attrs and np.array_equal(attrs[name], value) for attrs in others)
    }
