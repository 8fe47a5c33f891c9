"""Keys and dtypes of arrays that are put together of files: lengths, slices, missing values.

Pure: it has never heard of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: One integer, slice or 1-D integer array for each axis.
Key = tuple[Any, ...]


def as_axis(indexer: Any) -> Any:
    """Return something whose ndim tells whether one part of a key keeps its axis."""
    return [0] if isinstance(indexer, slice) else indexer


def key_lengths(key: Key, shape: Sequence[int]) -> list[int]:
    """Return how many elements a key selects along each axis (1 for an integer)."""
    lengths = []
    for indexer, size in zip(key, shape, strict=True):
        if isinstance(indexer, slice):
            lengths.append(len(range(*indexer.indices(size))))
        else:
            lengths.append(int(np.size(indexer)))
    return lengths


def compact(positions: np.ndarray[Any, Any]) -> Any:
    """Return positions as a slice where they are one: formats read slices faster."""
    if len(positions) == 1:
        return slice(int(positions[0]), int(positions[0]) + 1)
    steps = np.diff(positions)
    if (steps == steps[0]).all() and steps[0] > 0:
        return slice(int(positions[0]), int(positions[-1]) + 1, int(steps[0]))
    return positions


def with_missing(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that also holds missing values, as xarray promotes it."""
    if dtype.kind in "fcmMO":
        return dtype
    if dtype.kind in "iu":
        return np.dtype("float32" if dtype.itemsize <= 2 else "float64")
    return np.dtype(object)


def missing_value(dtype: np.dtype[Any]) -> Any:
    """Return what stands for a missing value."""
    return np.array("NaT", dtype=dtype) if dtype.kind in "mM" else np.nan
