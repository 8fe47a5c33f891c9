"""A variable of a stack: which products an index lies in, and reading across them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hda_fsspec.lazy.arrays import HDABackendArray, Key, is_empty, key_lengths
from hda_fsspec.stack.stack import Stack

_NONE = np.zeros(0, dtype=np.int64)


class TemplateArray(HDABackendArray):
    """A variable that is the same in all products of a stack, read from its template.

    Dask knows it by what it is, and not by which product it is read from.

    Parameters
    ----------
    stack : Stack
        The products.
    name : str
        The variable.
    number : int
        Which product is the template.
    """

    def __init__(self, stack: Stack, name: str, *, number: int) -> None:
        header = stack.template.variables[name]
        sizes = [stack.template.sizes[dim] for dim in header.dims]
        super().__init__(stack.source, name, sizes, header.dtype)
        self.stack = stack
        self.number = number

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        token = (*super().__dask_tokenize__(), str(self.dtype))
        if self.stack.grid_tolerance is None:
            return token
        # Within a tolerance it does matter which product it is read from.
        return (*token, self.stack.source.pieces[self.number].product_id)

    def read(self, key: Key) -> Any:
        """Return the values at a key; the file may be another than when the stack was opened."""
        values = self.stack.read_present(self.number, self.name, key)
        return values.astype(self.dtype, copy=False)

    def product_numbers_at(self, key: Key) -> np.ndarray[Any, Any]:
        """Return the number of the template; none if the key selects nothing."""
        numbers = [] if is_empty(key, self.shape) else [self.number]
        return np.array(numbers, dtype=np.int64)


class StackArray(HDABackendArray):
    """A variable that lies along the dimension of a stack.

    Parameters
    ----------
    stack : Stack
        The products.
    name : str
        The variable.
    dims : sequence of str
        Its dimensions in the stack.
    """

    def __init__(self, stack: Stack, name: str, dims: Sequence[str]) -> None:
        dim = stack.layout.dim
        sizes = {**stack.template.sizes, dim: stack.total}
        dtype = stack.template.variables[name].dtype
        if dtype.kind in "SU":
            # Its width is that of one product.
            dtype = np.dtype(object)
        if stack.on_missing == "nan" or name in stack.absent:
            dtype = _with_missing(dtype)
        super().__init__(stack.source, name, [sizes[d] for d in dims], dtype)
        self.stack = stack
        self.dims = tuple(dims)
        self._axis = self.dims.index(dim)
        # Variables that lack the dimension get it as a new first one.
        self._is_added = dim not in stack.template.variables[name].dims

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (type(self).__name__, self.stack.digest, self.name, str(self.dtype))

    def product_numbers_at(self, key: Key) -> np.ndarray[Any, Any]:
        """Return the numbers of the products that reading a key would read, sorted, each once."""
        if any(length == 0 for length in key_lengths(key, self.shape)):
            return np.zeros(0, dtype=np.int64)
        numbers = np.unique(self.stack.numbers_at(np.atleast_1d(self._positions(key))))
        return np.setdiff1d(numbers, self._absent, assume_unique=True)

    @property
    def _absent(self) -> np.ndarray[Any, Any]:
        """The products that are known to lack the variable, whose values are missing."""
        return self.stack.absent.get(self.name, _NONE)

    def _positions(self, key: Key) -> Any:
        """Return the positions along the dimension: an integer, or an array of them."""
        one = key[self._axis]
        if isinstance(one, slice):
            return np.arange(*one.indices(self.stack.total))
        positions = np.asarray(one)
        return np.where(positions < 0, positions + self.stack.total, positions)

    def read(self, key: Key) -> Any:
        """Return the values at a key, across products; what is not local is fetched first."""
        positions = np.asarray(self._positions(key))
        flat = np.atleast_1d(positions)
        lengths = key_lengths(key, self.shape)
        shape = [length for length, one in zip(lengths, key, strict=True) if np.ndim(_array(one))]
        if 0 in lengths:
            return np.empty(shape, dtype=self.dtype)
        numbers, steps = self.stack.located(flat)
        found = list(dict.fromkeys(numbers.tolist()))
        absent = set(self._absent.tolist())
        wanted = [number for number in found if number not in absent]
        out_axis = sum(np.ndim(_array(one)) > 0 for one in key[: self._axis])
        full = list(shape)
        if positions.ndim == 0:
            full.insert(out_axis, 1)
        out: np.ndarray[Any, Any] | None = None
        if len(wanted) < len(found):
            out = np.full(full, _missing_value(self.dtype), dtype=self.dtype)
        for number, fetch in self.stack.fetch_ahead(wanted):
            where = np.flatnonzero(numbers == number)
            read = functools.partial(self.stack.read, fetch, number, self.name)
            values = self._read_piece(read, steps[where], key)
            # xarray calls lists of several lengths by the dtype of their numbers.
            is_ragged = values is not None and values.dtype == object != self.dtype
            dtype = np.dtype(object) if is_ragged else self.dtype
            if len(found) == 1 and values is not None:
                out = values.astype(dtype, copy=False)
                break
            if out is None:
                out = np.empty(full, dtype=dtype)
            elif is_ragged:
                out = out.astype(object, copy=False)
            target: tuple[Any, ...] = (*[slice(None)] * out_axis, where)
            out[target] = _missing_value(self.dtype) if values is None else values
        if out is None:
            raise AssertionError
        # With an ellipsis an object that is taken out of an array stays one.
        first: tuple[Any, ...] = (*[slice(None)] * out_axis, 0, ...)
        return out[first] if positions.ndim == 0 else out

    def _read_piece(
        self,
        read: Callable[[Key], np.ndarray[Any, Any] | None],
        local: np.ndarray[Any, Any],
        key: Key,
    ) -> np.ndarray[Any, Any] | None:
        """Read positions of one product, along the dimension as an axis of its own."""
        axis = self._axis
        if not self._is_added:
            return read((*key[:axis], _compact(local), *key[axis + 1 :]))
        values = read((*key[:axis], *key[axis + 1 :]))
        if values is None:
            return None
        out_axis = sum(np.ndim(_array(one)) > 0 for one in key[:axis])
        return np.repeat(np.expand_dims(values, out_axis), len(local), axis=out_axis)


def _with_missing(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that also holds missing values, as xarray promotes it."""
    if dtype.kind in "fcmMO":
        return dtype
    if dtype.kind in "iu":
        return np.dtype("float32" if dtype.itemsize <= 2 else "float64")
    return np.dtype(object)


def _missing_value(dtype: np.dtype[Any]) -> Any:
    return np.array("NaT", dtype=dtype) if dtype.kind in "mM" else np.nan


def _array(one: Any) -> Any:
    """Return something whose ndim tells whether a key keeps its axis."""
    return [0] if isinstance(one, slice) else one


def _compact(positions: np.ndarray[Any, Any]) -> Any:
    """Return positions as a slice where they are one: formats read slices faster."""
    if len(positions) == 1:
        return slice(int(positions[0]), int(positions[0]) + 1)
    steps = np.diff(positions)
    if (steps == steps[0]).all() and steps[0] > 0:
        return slice(int(positions[0]), int(positions[-1]) + 1, int(steps[0]))
    return positions
