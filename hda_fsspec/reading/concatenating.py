"""Several files of one product along one dimension: an archive of one file a day, for instance.

As for the products of a query: what lies along the dimension stays on disk, everything else must
agree, and no value is put under an attribute that means something else.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing  # xarray documents this module for writers of backends

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.printable import warn
from hda_fsspec.reading.essential_attributes import PACKING, different_meaning
from hda_fsspec.reading.indexing import (
    as_axis,
    compact,
    key_lengths,
    missing_value,
    with_missing,
)
from hda_fsspec.reading.merging import close_all, conflict, difference, merge_files

_Array = np.ndarray[Any, Any]

#: How one file stores its values: it says nothing of many.
_STORAGE_ENCODINGS = frozenset(
    {"source", "original_shape", "chunksizes", "preferred_chunks", "contiguous", "rasterio_dtype"}
)
#: Encodings that mean something together only.
_TOGETHER = (("dtype", *PACKING), ("dtype", "units"))


def put_together(
    files: Mapping[str, xr.Dataset], dim: str, *, name: str, in_any_case: bool
) -> xr.Dataset:
    """Return one dataset: files of the same variables along a dimension, others side by side.

    Closing it closes the files. Files stand in the order of their coordinate, else of their names.

    Parameters
    ----------
    files : mapping
        The datasets by the names of their files.
    dim : str
        The dimension; files may have it, or a scalar coordinate of that name.
    name : str
        What to call the product in messages.
    in_any_case : bool
        Whether files that have neither are put along a new dimension without a coordinate.

    Raises
    ------
    ProductFormatError
        Two files have different grids, overlap, or hold values that mean different things.
    """
    files = {file: files[file] for file in sorted(files)}
    along = {
        file: ds
        for file, ds in files.items()
        if in_any_case or dim in ds.sizes or _is_scalar(ds, dim)
    }
    parts: dict[str, xr.Dataset] = {f: ds for f, ds in files.items() if f not in along}
    for group in _groups(along, dim):
        parts[group[0]] = _concat({file: along[file] for file in group}, dim, name=name)
    whole = merge_files(parts, name=name) if len(parts) > 1 else next(iter(parts.values()))
    if all(whole is not ds for ds in files.values()):
        # Not a lambda: a dataset is pickled with what closes it.
        whole.set_close(functools.partial(close_all, dict(files)))
    return whole


def _groups(files: Mapping[str, xr.Dataset], dim: str) -> list[list[str]]:
    """Return the files that hold a variable in common, each in one group."""
    groups: list[tuple[set[str], list[str]]] = []
    for file, ds in files.items():
        names = _along(ds, dim) or {""}
        joined = [group for group in groups if group[0] & names]
        merged = (
            names.union(*(group[0] for group in joined)),
            [member for group in joined for member in group[1]] + [file],
        )
        groups = [group for group in groups if group not in joined] + [merged]
    return [sorted(files_of) for _, files_of in groups]


def _along(ds: xr.Dataset, dim: str) -> set[str]:
    """Return the data variables that lie along the dimension, or shall."""
    return {str(n) for n, v in ds.data_vars.items() if dim not in ds.sizes or dim in v.dims}


def _is_scalar(ds: xr.Dataset, dim: str) -> bool:
    return dim in ds.variables and not ds.variables[dim].dims


def _concat(files: Mapping[str, xr.Dataset], dim: str, *, name: str) -> xr.Dataset:
    first, *others = files
    if not others and dim in files[first].sizes:
        return files[first]
    for file in others:
        _check_dimensions(files, first, file, dim, name=name)
    if dim in files[first].variables:
        files = _in_order(files, dim, name=name)
    return _Concatenation(files, dim, name).dataset()


def _check_dimensions(
    files: Mapping[str, xr.Dataset], first: str, other: str, dim: str, *, name: str
) -> None:
    here, there = files[first], files[other]
    if (dim in here.sizes, dim in here.variables) != (dim in there.sizes, dim in there.variables):
        raise conflict(name, first, other, f"{dim} is a coordinate in one of them only")
    if dim in here.variables:
        attribute = different_meaning(here.variables[dim].attrs, there.variables[dim].attrs)
        if attribute is not None:
            raise conflict(name, first, other, f"{dim} differs in its attribute {attribute}")
    for size in (here.sizes.keys() | there.sizes.keys()) - {dim}:
        if here.sizes.get(size) != there.sizes.get(size):
            why = f"dimension {size} has {here.sizes.get(size)} and {there.sizes.get(size)} steps"
            raise conflict(name, first, other, why)


def _in_order(files: Mapping[str, xr.Dataset], dim: str, *, name: str) -> dict[str, xr.Dataset]:
    """Return the files in the order of their coordinate; raises for two that overlap."""
    values = {file: _values(ds.variables[dim]) for file, ds in files.items()}
    kinds = {file: _kind(array) for file, array in values.items() if array.size}
    for file, kind in kinds.items():
        if kind != next(iter(kinds.values())):
            why = f"{dim} is told in different ways ({next(iter(kinds.values()))} and {kind})"
            raise conflict(name, next(iter(kinds)), file, why)
    is_comparable = all(kind[0] in "fiumMO" and kind[1] != "text" for kind in kinds.values())
    if not is_comparable or any(map(_has_gaps, values.values())):
        return dict(files)
    is_falling = any(len(v) > 1 and v[0] > v[-1] for v in values.values())
    filled = sorted(kinds, key=lambda file: values[file].min(), reverse=is_falling)
    for one, other in itertools.pairwise(filled):
        earlier, later = (other, one) if is_falling else (one, other)
        if not values[earlier].max() < values[later].min():
            why = f"{dim} overlaps ({_span(values[earlier])}, and {_span(values[later])})"
            raise conflict(name, earlier, later, why)
    return {file: files[file] for file in (*filled, *(f for f in files if f not in kinds))}


def _values(variable: xr.Variable) -> _Array:
    return np.atleast_1d(np.asarray(variable.values))


def _has_gaps(values: _Array) -> bool:
    return bool((values != values).any())  # noqa: PLR0124  (no number, and no time, equals itself)


def _kind(values: _Array) -> tuple[str, str]:
    """Return what can be compared with what: numbers, times of one calendar, text."""
    kind = values.dtype.kind
    if kind == "O":
        return kind, str(getattr(values.ravel()[0], "calendar", "text"))
    return "f" if kind in "iu" else kind, ""


def _span(values: _Array) -> str:
    return f"{values.min()} to {values.max()}"


@dataclasses.dataclass
class _Concatenation:
    """Files that are put one behind the other along a dimension, in this order."""

    files: Mapping[str, xr.Dataset]
    dim: str
    name: str

    def dataset(self) -> xr.Dataset:
        """Return all of them as one."""
        first, *_ = self.files.values()
        lengths = [ds.sizes.get(self.dim, 1) for ds in self.files.values()]
        names = dict.fromkeys(str(n) for ds in self.files.values() for n in ds.variables)
        variables: dict[str, xr.Variable] = {}
        coords: list[str] = []
        for name in names:
            holders = {f: ds for f, ds in self.files.items() if name in ds.variables}
            if any(name in ds.coords for ds in holders.values()):
                coords.append(name)
            variables[name] = self._variable(name, holders, lengths)
        attrs = {
            key: value
            for key, value in first.attrs.items()
            if all(_is_equal(ds.attrs.get(key), value) for ds in self.files.values())
        }
        return xr.Dataset(variables, attrs=attrs).set_coords(coords)

    def _variable(
        self, name: str, holders: Mapping[str, xr.Dataset], lengths: Sequence[int]
    ) -> xr.Variable:
        parts = {file: ds.variables[name] for file, ds in holders.items()}
        first, *others = parts
        for other in others:
            attribute = different_meaning(parts[first].attrs, parts[other].attrs)
            if attribute is not None:
                raise self._differ(name, first, other, f"attribute {attribute}")
            if parts[first].dims != parts[other].dims:
                raise self._differ(name, first, other, "dimensions")
        if not self._is_along(name, parts):
            return self._equal(name, parts)
        if len(parts) < len(self.files):
            lacking = next(file for file in self.files if file not in parts)
            warn(
                f"{name} is not in {lacking} of {self.name}, where its values are missing. "
                f"drop_variables={name!r} leaves it out.",
                stacklevel=2,
            )
        variable = self._stacked(name, [parts.get(file) for file in self.files], lengths)
        if name == self.dim:
            del variable.encoding["preferred_chunks"]
            variable = xr.Variable(
                variable.dims, variable.values, variable.attrs, variable.encoding
            )
        return variable

    def _is_along(self, name: str, parts: Mapping[str, xr.Variable]) -> bool:
        first, *others = parts.values()
        if self.dim in first.dims or name == self.dim:
            return True
        holder = next(iter(self.files.values()))
        if self.dim not in holder.sizes and any(name in ds.data_vars for ds in self.files.values()):
            return True
        # As a stack of products has it: single values that differ are a series of them.
        return not first.dims and any(not first.equals(other) for other in others)  # type: ignore[no-untyped-call]

    def _equal(self, name: str, parts: Mapping[str, xr.Variable]) -> xr.Variable:
        first, *others = parts
        for other in others:
            why = difference(parts[first], parts[other])
            if why:
                raise self._differ(name, first, other, why)
        return parts[first]

    def _stacked(
        self, name: str, parts: Sequence[xr.Variable | None], lengths: Sequence[int]
    ) -> xr.Variable:
        there = [part for part in parts if part is not None]
        first = there[0]
        is_added = self.dim not in first.dims
        dims = (self.dim, *first.dims) if is_added else first.dims
        axis = dims.index(self.dim)
        dtype = self._dtype(name, [part.dtype for part in there])
        if len(there) < len(parts):
            dtype = with_missing(dtype)
        bare = first.shape if is_added else first.shape[:axis] + first.shape[axis + 1 :]
        shape = (*bare[:axis], sum(lengths), *bare[axis:])
        array = _Parts(parts, lengths, axis, shape, dtype, is_added=is_added)
        encoding = _common_encoding([part.encoding for part in there])
        encoding["preferred_chunks"] = {self.dim: tuple(lengths)}
        lazy = indexing.LazilyIndexedArray(array)
        return xr.Variable(dims, lazy, dict(first.attrs), encoding)

    def _dtype(self, name: str, dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
        is_text = {dtype.kind in "OUS" for dtype in dtypes}
        if is_text == {True}:
            same = len({dtype.kind for dtype in dtypes}) == 1
            return np.result_type(*dtypes) if same else np.dtype(object)
        try:
            if len(is_text) == 1 and len({dtype.kind in "mM" for dtype in dtypes}) == 1:
                return np.result_type(*dtypes)
        except TypeError:
            pass
        files = list(self.files)
        kinds = " and ".join(sorted({str(dtype) for dtype in dtypes}))
        raise self._differ(name, files[0], files[-1], f"type ({kinds})")

    def _differ(self, name: str, one: str, other: str, what: str) -> ProductFormatError:
        return conflict(self.name, one, other, f"{name} differs in its {what}")


@dataclasses.dataclass(eq=False, repr=False)
class _Parts(BackendArray):
    """The values of a variable, one file behind the other; each is read when it is indexed."""

    parts: Sequence[xr.Variable | None]
    lengths: Sequence[int]
    axis: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_added: bool

    def __post_init__(self) -> None:
        self._ends = np.cumsum(self.lengths)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> Any:
        indexer = key[self.axis]
        total = self.shape[self.axis]
        is_single = not isinstance(indexer, slice) and np.ndim(indexer) == 0
        positions = (
            np.arange(total)[indexer]
            if isinstance(indexer, slice)
            else np.atleast_1d(indexer) % total
        )
        lengths = key_lengths(key, self.shape)
        lengths[self.axis] = len(positions)
        is_kept = [np.ndim(as_axis(part)) > 0 for part in key]
        is_kept[self.axis] = True
        shape = [n for n, kept in zip(lengths, is_kept, strict=True) if kept]
        found = np.empty(shape, dtype=self.dtype)
        place = sum(is_kept[: self.axis])
        numbers = np.searchsorted(self._ends, positions, side="right")
        for number in np.unique(numbers).tolist():
            where = numbers == number
            start = int(self._ends[number - 1]) if number else 0
            target = (slice(None),) * place + (where,)
            found[target] = self._of_part(number, key, positions[where] - start)
        return found.take(0, axis=place) if is_single else found

    def _of_part(self, number: int, key: tuple[Any, ...], steps: _Array) -> Any:
        part = self.parts[number]
        if part is None:
            return missing_value(self.dtype)
        rest = list(key)
        if self.is_added:
            del rest[self.axis]
            values = np.asarray(part[tuple(rest)].values)
            return np.expand_dims(values, sum(np.ndim(as_axis(k)) for k in rest[: self.axis]))
        rest[self.axis] = compact(steps)
        return np.asarray(part[tuple(rest)].values)


def _common_encoding(encodings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all files say of how a variable is stored, and of how values are written."""
    first, *others = encodings
    same = {
        key for key, value in first.items() if all(_is_equal(e.get(key), value) for e in others)
    }
    every = {key for encoding in encodings for key in encoding}
    for group in _TOGETHER:
        if not same.issuperset(every.intersection(group)):
            same.difference_update(group)
    return {key: first[key] for key in first if key in same - _STORAGE_ENCODINGS}


def _is_equal(one: Any, other: Any) -> bool:
    if isinstance(one, Iterable) or isinstance(other, Iterable):
        return bool(np.array_equal(one, other))
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124  (not a number)
