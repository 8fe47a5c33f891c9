"""Values that hold arrays as few bytes: an index is kept by its steps, which are mostly equal."""

from __future__ import annotations

import io
import pickle
import zlib
from typing import Any

import numpy as np


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Pickle whole numbers and times by their steps."""
        if type(obj) is not np.ndarray or obj.dtype.kind not in "iM" or obj.dtype.itemsize != 8:
            return NotImplemented
        steps = np.diff(obj.view("i8").ravel(), prepend=0)
        return _summed, (steps.tobytes(), obj.dtype.str, obj.shape)


def _summed(steps: bytes, dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = np.cumsum(np.frombuffer(steps, "i8")).view(dtype)
    return values.reshape(shape)


def pack(value: Any) -> bytes:
    """Return a value that can be pickled as bytes."""
    stream = io.BytesIO()
    _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(value)
    return zlib.compress(stream.getvalue(), 6)


def unpack(packed: bytes) -> Any:
    """Return the value of which :func:`pack` made bytes, as part of a pickle of this package."""
    return pickle.loads(zlib.decompress(packed))  # noqa: S301  (it lies within a pickle)
