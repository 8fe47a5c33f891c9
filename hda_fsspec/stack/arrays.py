"""A variable of a stack: which products an index lies in, and reading across them."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from hda_fsspec.lazy.arrays import HDABackendArray, is_empty
from hda_fsspec.reading.indexing import (
    Key,
    as_axis,
    compact,
    key_lengths,
    missing_value,
    with_missing,
)
from hda_fsspec.stack.stack import Stack
from hda_fsspec.stack.stack_axes import NOTHING, GridAxis

_Array = np.ndarray[Any, Any]
_NONE = np.zeros(0, dtype=np.int64)
_ALL = slice(None)


class TemplateArray(HDABackendArray):
    """A variable that is the same in all products of a kind, read from one of them.

    Dask knows it by what it is, and not by which product it is read from.

    Parameters
    ----------
    stack : Stack
        The products.
    kind : int
        Which kind of them has the variable.
    name : str
        What the kind calls it.
    number : int
        Which product is read.
    """

    def __init__(self, stack: Stack, kind: int, name: str, *, number: int) -> None:
        template = stack.templates[kind].header
        header = template.variables[name]
        super().__init__(
            stack.source, name, [template.sizes[dim] for dim in header.dims], header.dtype
        )
        self.stack = stack
        self.kind = kind
        self.number = number

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        token = (*super().__dask_tokenize__(), str(self.dtype), self.kind)
        if self.stack.grid_tolerance is None:
            return token
        # Within a tolerance it does matter which product it is read from.
        return (*token, self.stack.source.pieces[self.number].product_id)

    def read(self, key: Key) -> Any:
        """Return the values at a key; the file may be another than when the stack was opened."""
        values = self.stack.read_present(self.number, self.name, key)
        return values.astype(self.dtype, copy=False)

    def product_numbers_at(self, key: Key) -> _Array:
        """Return the number of the product; none if the key selects nothing."""
        numbers = [] if is_empty(key, self.shape) else [self.number]
        return np.array(numbers, dtype=np.int64)


@dataclasses.dataclass(frozen=True)
class _Span:
    """The extent of a variable along one axis of the grid.

    Attributes
    ----------
    grid_axis : int
        The axis of the grid.
    axis : int
        The axis of the variable that it splits.
    is_added : bool
        Whether products lack the dimension: each is then one step.
    """

    grid_axis: int
    axis: int
    is_added: bool


class StackArray(HDABackendArray):
    """A variable of which each product holds a part.

    Along an axis of the grid that does not split any of its dimensions all products hold the same
    of it, and those of the first part are read.

    Parameters
    ----------
    stack : Stack
        The products.
    kind : int
        Which kind of them has the variable.
    name : str
        What the kind calls it.
    """

    def __init__(self, stack: Stack, kind: int, name: str) -> None:
        template, grid = stack.templates[kind], stack.grid
        header = template.header.variables[name]
        self.dims = template.layout.dims_of(template.header, name)
        sizes = dict(template.header.sizes)
        sizes |= {axis.dim: axis.total for axis in grid.axes if axis.dim is not None}
        self.shown = template.shown(name)
        dtype = header.dtype
        if dtype.kind in "SU":
            # Its width is that of one product.
            dtype = np.dtype(object)
        if stack.on_missing == "nan" or self.shown in stack.absent or grid.has_gaps(kind):
            dtype = with_missing(dtype)
        super().__init__(stack.source, name, [sizes[dim] for dim in self.dims], dtype)
        self.stack = stack
        self.kind = kind
        self._spans = tuple(
            _Span(number, self.dims.index(axis.dim), axis.dim not in header.dims)
            for number, axis in enumerate(grid.axes)
            if axis.dim in self.dims
        )

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (type(self).__name__, self.stack.digest, self.shown, str(self.dtype))

    def product_numbers_at(self, key: Key) -> _Array:
        """Return the numbers of the products that reading a key would read, sorted, each once."""
        if is_empty(key, self.shape):
            return _NONE
        grid = self.stack.grid
        parts = [grid.axes[span.grid_axis].parts_at(key[span.axis]) for span in self._spans]
        numbers = self._numbers(*np.ix_(*parts)) if len(parts) > 1 else self._numbers(*parts)
        numbers = np.unique(numbers) if numbers.size > 1 else numbers.ravel()
        numbers = numbers[numbers != NOTHING] if grid.cells is not None else numbers
        absent = self._absent
        return np.setdiff1d(numbers, absent, assume_unique=True) if absent.size else numbers

    def steps_with_products(self, dim: str) -> _Array:
        """Return for each step of a dimension whether some product has it, as flags."""
        lengths = dict(zip(self.dims, self.shape, strict=True))
        axis = next(span for span in self._spans if self.dims[span.axis] == dim)
        parts: list[Any] = [
            np.arange(self.stack.grid.axes[span.grid_axis].count) for span in self._spans
        ]
        numbers = self._numbers(*np.ix_(*parts))
        place = self._spans.index(axis)
        others = tuple(n for n in range(numbers.ndim) if n != place)
        there: _Array = (numbers != NOTHING).any(axis=others)
        found: _Array = there[self.stack.grid.axes[axis.grid_axis].part_of_each]
        if len(found) != lengths[dim]:
            raise AssertionError
        return found

    def _numbers(self, *parts: Any) -> _Array:
        """Return the products at parts of the axes that the variable is split along."""
        grid = self.stack.grid
        if len(parts) == len(grid.axes):
            return grid.numbers(parts)
        every: list[Any] = [0] * len(grid.axes)
        if grid.kind_axis is not None:
            every[grid.kind_axis] = self.kind
        for span, part in zip(self._spans, parts, strict=True):
            every[span.grid_axis] = part
        return grid.numbers(every)

    @property
    def _absent(self) -> _Array:
        """The products that are known to lack the variable, whose values are missing."""
        return self.stack.absent.get(self.shown, _NONE)

    def read(self, key: Key) -> Any:
        """Return the values at a key, across products; what is not local is fetched first."""
        lengths = key_lengths(key, self.shape)
        is_kept = [np.ndim(as_axis(part)) > 0 for part in key]
        if 0 in lengths:
            shape = [length for length, kept in zip(lengths, is_kept, strict=True) if kept]
            return np.empty(shape, dtype=self.dtype)
        split = {span.axis for span in self._spans}
        # While it is put together, all axes are there that products hold parts of.
        axes = [axis for axis, kept in enumerate(is_kept) if kept or axis in split]
        values = self._assembled(key, [lengths[axis] for axis in axes], axes)
        # With an ellipsis an object that is taken out of an array stays one.
        taken = tuple(_ALL if is_kept[axis] else 0 for axis in axes)
        return values if all(is_kept[axis] for axis in axes) else values[(*taken, ...)]

    def _assembled(self, key: Key, shape: list[int], axes: list[int]) -> _Array:
        selected = [
            _Selected(self.stack.grid.axes[span.grid_axis], key[span.axis]) for span in self._spans
        ]
        numbers = self._numbers(*np.ix_(*(selection.parts for selection in selected)))
        absent = set(self._absent.tolist())
        cells: dict[int, tuple[int, ...]] = {
            number: cell
            for number, cell in zip(
                numbers.ravel().tolist(),
                itertools.product(*(range(len(along.parts)) for along in selected)),
                strict=True,
            )
            if number != NOTHING and number not in absent
        }
        out: _Array | None = None
        if len(cells) < numbers.size:
            out = np.full(shape, missing_value(self.dtype), dtype=self.dtype)
        for number, fetch in self.stack.fetch_ahead(list(cells)):
            cell = cells[number]
            read = functools.partial(self.stack.read, fetch, number, self.name)
            steps = [along.steps[at] for along, at in zip(selected, cell, strict=True)]
            values = self._read_part(read, steps, key, axes)
            # xarray calls lists of several lengths by the dtype of their numbers.
            is_ragged = values is not None and values.dtype == object != self.dtype
            dtype = np.dtype(object) if is_ragged else self.dtype
            if numbers.size == 1 and values is not None:
                return values.astype(dtype, copy=False)
            if out is None:
                out = np.empty(shape, dtype=dtype)
            elif is_ragged:
                out = out.astype(object, copy=False)
            target: list[Any] = [_ALL] * len(shape)
            for span, along, at in zip(self._spans, selected, cell, strict=True):
                target[axes.index(span.axis)] = along.where[at]
            out[together(target, shape)] = missing_value(self.dtype) if values is None else values
        if out is None:
            raise AssertionError
        return out

    def _read_part(
        self,
        read: Callable[[Key], _Array | None],
        steps: list[_Array],
        key: Key,
        axes: list[int],
    ) -> _Array | None:
        """Read steps of one product; all axes that products hold parts of are there."""
        part: list[Any] = list(key)
        added: list[tuple[int, int]] = []
        for span, its_steps in zip(self._spans, steps, strict=True):
            part[span.axis] = compact(its_steps)
            if span.is_added:
                added.append((axes.index(span.axis), len(its_steps)))
        left_out = {span.axis for span in self._spans if span.is_added}
        values = read(tuple(indexer for axis, indexer in enumerate(part) if axis not in left_out))
        if values is None:
            return None
        for at, count in sorted(added):
            values = np.repeat(np.expand_dims(values, at), count, axis=at)
        return values


class _Selected:
    """The selection of a key along one axis of a grid, by the parts that it lies in.

    Attributes
    ----------
    parts : list of int
        The parts, each once, in the order in which they come first.
    where : list of numpy.ndarray
        For each of them, where its values come among those that are selected.
    steps : list of numpy.ndarray
        For each of them, which of its steps these are.
    """

    def __init__(self, axis: GridAxis, key: Any) -> None:
        parts, steps = axis.located(np.atleast_1d(axis.positions(key)))
        if (parts == parts[0]).all():
            self.parts, self.where, self.steps = [int(parts[0])], [np.arange(len(parts))], [steps]
            return
        order = np.argsort(parts, kind="stable")
        edges = np.flatnonzero(np.diff(parts[order])) + 1
        groups = sorted(np.split(order, edges), key=lambda group: int(group[0]))
        self.where = groups
        self.steps = [steps[group] for group in groups]
        self.parts = [int(parts[group[0]]) for group in groups]


def together(target: list[Any], shape: list[int]) -> tuple[Any, ...]:
    """Return what selects a block by lists of positions along some of its axes."""
    if sum(isinstance(part, np.ndarray) for part in target) < 2:
        return tuple(target)
    found = [compact(part) if isinstance(part, np.ndarray) else part for part in target]
    if sum(isinstance(part, np.ndarray) for part in found) < 2:
        return tuple(found)
    lists = [
        np.arange(size) if isinstance(part, slice) else part
        for part, size in zip(target, shape, strict=True)
    ]
    return np.ix_(*lists)
