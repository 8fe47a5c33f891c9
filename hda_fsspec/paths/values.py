"""Values of a query as text: numbers, dates, and the scalars and arrays of numpy and pandas.

It knows how each kind of value is written in a path; it has never heard of keys and what they mean.
numpy is loaded only for a value that is numpy's, since the package is imported without it.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from hda_fsspec.errors import LocationError
from hda_fsspec.records import format_time


def values_in(value: Any, key: str) -> Sequence[Any]:
    """Return the values that one argument holds: those of a list or array, or the value itself.

    Raises
    ------
    LocationError
        It is an array of several dimensions.
    """
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return value
    if not hasattr(value, "__array__"):
        return (value,)
    import numpy as np

    array = np.asarray(value)
    if array.ndim > 1:
        msg = (
            f"Cannot use an array of {array.ndim} dimensions as values of {key!r}: a list has "
            "one. Its method ravel makes it one."
        )
        raise LocationError(msg)
    return list(array) if array.ndim else (array[()],)


def text_of_value(value: Any, key: str) -> str:
    """Return one value as it is written in a path, before it is percent-encoded.

    A time without zone is UTC. Of a time the microseconds are kept, what is finer is dropped; a
    day, month or year of numpy stays a whole day, month or year.

    Raises
    ------
    LocationError
        It is empty, not a number or time (NaN, NaT), or of a type that has no text.
    """
    plain = _without_numpy(value) if hasattr(value, "__array__") else value
    text = None
    if isinstance(plain, str):
        text = plain
    elif isinstance(plain, bool):
        text = "true" if plain else "false"
    elif isinstance(plain, numbers.Integral):
        text = str(int(plain))
    elif isinstance(plain, numbers.Real) and math.isfinite(plain):
        text = text_of_number(float(plain))
    elif isinstance(plain, datetime) and str(plain) != "NaT":  # pandas.NaT is one, too
        text = format_time(plain if plain.tzinfo else plain.replace(tzinfo=UTC))
    elif isinstance(plain, date) and not isinstance(plain, datetime):
        text = plain.isoformat()
    if text is None:
        msg = f"Cannot use {value!r} as a value of {key!r}: give text, a number, a date, or a list."
        raise LocationError(msg)
    if not text:
        msg = f"Cannot use an empty value for {key!r}: leave the key out instead."
        raise LocationError(msg)
    return text


def text_of_number(value: float) -> str:
    """Write a finite number in its shortest form: ``-6.0`` is ``-6``."""
    return str(int(value)) if value == int(value) else repr(value)


def _without_numpy(value: Any) -> Any:
    """Return the Python value of a scalar of numpy; None for a kind that no query has."""
    import numpy as np

    scalar: Any = np.asarray(value)[()]
    if not isinstance(scalar, np.generic):  # of an array of objects
        return scalar
    dtype: Any = scalar.dtype
    kind = dtype.kind
    if kind == "f":
        # Its shortest text, or a float32 of 0.1 would become 0.10000000149011612.
        return float(str(scalar))
    if kind == "M" and not np.isnat(scalar):
        unit = np.datetime_data(dtype)[0]
        if unit in {"Y", "M"}:
            return str(scalar)
        return scalar.astype("datetime64[D]" if unit in {"W", "D"} else "datetime64[us]").item()
    return scalar.item() if kind in {"b", "i", "u", "U"} else None
