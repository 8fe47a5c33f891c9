"""Axes of a grid, and arrays of numbers, as JSON values that compress well."""

from __future__ import annotations

from typing import Any

import numpy as np

from hda_fsspec.stack.header import array_from_json, array_to_json
from hda_fsspec.stack.stack_axes import GridAxis
from hda_fsspec.timeindex.overlaps import Segments


def packed_axis(axis: GridAxis) -> dict[str, Any]:
    """Return an axis of a grid as JSON values."""
    segments = axis.segments
    arrays = {
        "lengths": axis.lengths,
        "index": axis.index,
        "shown": axis.shown,
        "products": None if segments is None else segments.products,
        "firsts": None if segments is None else segments.firsts,
        "counts": None if segments is None else segments.counts,
    }
    packed = {
        name: None if array is None else packed_array(array) for name, array in arrays.items()
    }
    return {"name": axis.name, "dim": axis.dim, **packed}


def unpacked_axis(state: dict[str, Any]) -> GridAxis:
    """Read what :func:`packed_axis` returned."""
    name, dim = state.pop("name"), state.pop("dim")
    arrays: dict[str, Any] = {
        key: None if packed is None else unpacked_array(packed) for key, packed in state.items()
    }
    parts = [arrays.pop(key) for key in ("products", "firsts", "counts")]
    segments = None if parts[0] is None else Segments(*parts)
    return GridAxis(name, dim, **arrays, segments=segments)


def packed_array(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return an array as JSON values that compress well: steps of an index are mostly equal."""
    if values.dtype.kind not in "iM":
        return array_to_json(values)
    if values.dtype.itemsize != 8:
        return {"of": values.dtype.str, "steps": array_to_json(values)}
    steps = np.diff(values.view("i8").ravel(), prepend=0)
    return {"of": values.dtype.str, "steps": array_to_json(steps), "shape": list(values.shape)}


def unpacked_array(value: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Read what :func:`packed_array` returned."""
    if "of" not in value:
        return array_from_json(value)
    steps = array_from_json(value["steps"])
    if "shape" not in value:
        return steps
    values: np.ndarray[Any, Any] = np.cumsum(steps).view(value["of"])
    return values.reshape(value["shape"])
