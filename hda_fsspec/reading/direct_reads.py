"""Numbers read straight from where a netCDF-4 file keeps them, decoded as xarray decodes them.

To open a small file with the library takes several times as long as to read it, and is done by one
thread at a time. Where the values lie is found once, by :func:`find_stored`; who keeps that must
make sure that the file is still the same.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, BinaryIO

import numpy as np
import xarray as xr

from hda_fsspec.formats.file_reader import FileBytes
from hda_fsspec.formats.hdf5values import StoredArray, find_arrays
from hda_fsspec.reading.variables import VariableFacts, decoded

_Array = np.ndarray[Any, Any]
#: Returns so many bytes from a place on, or fewer at the end.
_Read = Callable[[int, int], bytes]

#: The attributes by which xarray decodes numbers to other numbers.
_CODING = ("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "dtype")
#: More at a time is left to the library, which holds less in memory.
_MOST_BYTES = 1 << 26
#: So much is read for any part of it. Of more a small part is left to the library, which reads less
#: where nothing is compressed, and where it is keeps what it has unpacked for the next part.
_FEW_BYTES = 1 << 18
_LEAST_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class StoredVariable:
    """Where the values of a variable of plain numbers lie, and how they are decoded.

    Attributes
    ----------
    name : str
        The variable.
    array : StoredArray
        Where they lie.
    coding : mapping
        Those of its attributes that say what its numbers stand for.
    """

    name: str
    array: StoredArray
    coding: Mapping[str, Any]


def find_stored(
    stream: BinaryIO,
    facts_of: Callable[[str], VariableFacts | None],
    names: Collection[str],
    *,
    group: str | None,
) -> dict[str, StoredVariable]:
    """Return where variables of an open netCDF-4 file lie; those are left out that cannot be told.

    Parameters
    ----------
    stream : binary file
        The file.
    facts_of : callable
        Returns what the netCDF library says of a variable.
    names : collection of str
        The variables.
    group : str or None
        The group that they are in.
    """
    found = {}
    for name, array in find_arrays(FileBytes(stream), names, group=group).items():
        facts = facts_of(name)
        # Along an unlimited dimension a variable may be shorter than others, and is filled up.
        if facts is not None and facts[:2] == (array.shape, np.dtype(array.dtype)):
            found[name] = StoredVariable(name, array, coding_of(facts[2]))
    return found


def coding_of(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a variable's attributes that say what its numbers stand for."""
    return {key: attrs[key] for key in _CODING if key in attrs}


def read_raw(data: FileBytes, array: StoredArray) -> _Array | None:
    """Return all values of an array as they are stored; None where they make no sense."""
    dtype = np.dtype(array.dtype)
    is_one_piece = array.chunk == array.shape and len(array.pieces) == 1
    if is_one_piece and math.prod(array.shape) * dtype.itemsize <= _FEW_BYTES:
        return _piece(data.peek, array, dtype, *array.pieces[0])
    key = (slice(None),) * len(array.shape)
    spans = [_Span(at, *sides) for at, *sides in zip(key, array.shape, array.chunk, strict=True)]
    is_read = _is_worth_it(array, spans, at_any_cost=True)
    return _block(data.peek, array, spans) if is_read else None


def read_stored(
    descriptor: int, stored: StoredVariable, key: tuple[Any, ...], *, at_any_cost: bool = False
) -> _Array | None:
    """Return decoded values of a variable at a key of one integer, slice or list for each axis.

    None where the bytes make no sense, and, unless it is to be read at any cost, where the library
    reads it better.
    """
    array = stored.array
    spans = [_Span(at, *sides) for at, *sides in zip(key, array.shape, array.chunk, strict=True)]
    if any(not span.count for span in spans) or not _is_worth_it(
        array, spans, at_any_cost=at_any_cost
    ):
        return None
    block = _block(lambda offset, count: os.pread(descriptor, count, offset), array, spans)
    if block is None:
        return None
    for axis in range(len(spans) - 1, -1, -1):
        inside = spans[axis].inside
        if inside is not None:
            block = block[(*[slice(None)] * axis, inside)]
    values = _decode(stored.name, np.asarray(block), stored.coding)
    # As the library gives them: to be written to, and no part of something larger.
    is_own = values.flags.writeable and values.flags.c_contiguous
    return values if is_own else values.copy()


def _is_worth_it(array: StoredArray, spans: list[_Span], *, at_any_cost: bool) -> bool:
    item_bytes = np.dtype(array.dtype).itemsize
    piece_bytes = math.prod(array.chunk) * item_bytes
    read = piece_bytes * math.prod(len(span.pieces) for span in spans)
    wanted = item_bytes * math.prod(span.count for span in spans)
    is_small_part = wanted < _LEAST_SHARE * read and not at_any_cost
    return read <= _FEW_BYTES or (read <= _MOST_BYTES and not is_small_part)


class _Span:
    """What a key selects along one axis: which pieces, and what of these side by side.

    Attributes
    ----------
    count : int
        How much it selects.
    pieces : range
        The pieces from the first to the last that it needs.
    inside : object
        What selects of them; None for all.
    """

    __slots__ = ("count", "inside", "pieces", "shape")

    def __init__(self, key: Any, size: int, side: int) -> None:
        steps: Any
        if isinstance(key, slice):
            steps = range(*key.indices(size))
            first, last = (min(steps[0], steps[-1]), max(steps[0], steps[-1])) if steps else (0, -1)
        else:
            steps = np.asarray(key)
            steps = np.where(steps < 0, steps + size, steps)
            first, last = (int(steps.min()), int(steps.max())) if steps.size else (0, -1)
        is_inside = 0 <= first <= last < size
        length = len(steps) if isinstance(steps, range) else steps.size
        self.count = length if is_inside else 0
        self.pieces = range(first // side, last // side + 1)
        before = self.pieces.start * side
        self.shape = min(self.pieces.stop * side, size) - before
        self.inside: Any
        if not isinstance(key, slice):
            self.inside = steps - before
        elif steps == range(before, before + self.shape):
            self.inside = None
        elif steps.step > 0:
            self.inside = slice(first - before, last + 1 - before, steps.step)
        else:
            self.inside = np.arange(first - before, last + 1 - before, -steps.step)[::-1]


def _block(read: _Read, array: StoredArray, spans: list[_Span]) -> _Array | None:
    """Return the pieces that are needed, side by side."""
    dtype = np.dtype(array.dtype)
    shape = tuple(span.shape for span in spans)
    if len(array.pieces) == 1:
        piece = _piece(read, array, dtype, *array.pieces[0])
        cut = tuple(map(slice, shape))
        return None if piece is None else piece if array.chunk == shape else piece[cut]
    counts = [-(-size // side) for size, side in zip(array.shape, array.chunk, strict=True)]
    out = np.empty(shape, dtype)
    for place in itertools.product(*(span.pieces for span in spans)):
        piece = _piece(read, array, dtype, *array.pieces[int(np.ravel_multi_index(place, counts))])
        if piece is None:
            return None
        target = []
        for at, span, side, size in zip(place, spans, array.chunk, shape, strict=True):
            first = (at - span.pieces.start) * side
            target.append(slice(first, min(first + side, size)))
        cut = tuple(slice(part.stop - part.start) for part in target)
        out[tuple(target)] = piece[cut]
    return out


def _piece(
    read: _Read, array: StoredArray, dtype: np.dtype[Any], offset: int, count: int
) -> _Array | None:
    size = math.prod(array.chunk) * dtype.itemsize
    if count > 2 * size + _FEW_BYTES:
        return None
    data = read(offset, count)
    if array.is_deflated:
        inflate = zlib.decompressobj()
        try:
            data = inflate.decompress(data, size + 1)
        except zlib.error:
            return None
        if not inflate.eof:
            return None
    if len(data) != size:
        return None
    if array.is_shuffled and dtype.itemsize > 1:
        sorted_bytes = np.frombuffer(data, "u1").reshape(dtype.itemsize, -1)
        return np.ascontiguousarray(sorted_bytes.T).view(dtype).reshape(array.chunk)
    return np.frombuffer(data, dtype).reshape(array.chunk)


def _decode(name: str, values: _Array, coding: Mapping[str, Any]) -> _Array:
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    if not coding or _only_marks_missing(native.dtype, coding):
        return native
    dims = tuple(f"d{axis}" for axis in range(values.ndim))
    return np.asarray(decoded(name, xr.Variable(dims, values, dict(coding))).data)


def _only_marks_missing(dtype: np.dtype[Any], coding: Mapping[str, Any]) -> bool:
    """Whether numbers stand for themselves: what is missing is NaN already."""
    if dtype.kind != "f" or not coding.keys() <= {"_FillValue", "missing_value"}:
        return False
    return all(np.ndim(value) == 0 and value != value for value in coding.values())  # noqa: PLR0124
