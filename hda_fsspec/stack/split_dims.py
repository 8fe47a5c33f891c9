"""Keys of which products were asked for a part each, such as levels: the dimension they lie along.

Pure: it compares values with headers, and has never seen a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from hda_fsspec.errors import QueryError
from hda_fsspec.printable import printable
from hda_fsspec.records import Scalar
from hda_fsspec.stack.header import Header, VariableHeader
from hda_fsspec.stack.product_grid import KeyAxis
from hda_fsspec.stack.stack_axes import GridAxis
from hda_fsspec.timeindex.overlaps import Segments

_Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class KeySplit:
    """The dimension along which a key splits the products of a kind.

    Attributes
    ----------
    dim : str
        The dimension.
    dtype : numpy.dtype
        That of its coordinate.
    is_reversed : bool
        Whether files hold the values in the opposite order of that in which they were asked for.
    """

    dim: str
    dtype: np.dtype[Any]
    is_reversed: bool


def split_dimension(key: KeyAxis, part: int, header: Header, other: str) -> KeySplit | None:
    """Return the dimension that a key splits, told by one product that was asked for a part of it.

    Parameters
    ----------
    key : KeyAxis
        The key, with the values of all parts.
    part : int
        Which part of it the product was asked for.
    header : Header
        That of the product, with the values of its indexes and scalar coordinates.
    other : str
        The dimension of time, which it cannot be.

    Returns
    -------
    KeySplit or None
        None where the product has no coordinate of just these values: its variables lie along no
        such dimension.
    """
    found: list[tuple[bool, KeySplit]] = []
    for name, variable in header.variables.items():
        if name == other or variable.values is None or variable.dims not in {(name,), ()}:
            continue
        wanted = _as(key.parts[part], variable.dtype)
        values = np.atleast_1d(variable.values)
        if wanted is None or wanted.shape != values.shape:
            continue
        directions = (True, False) if _is_decreasing(variable) else (False, True)
        for is_reversed in directions:
            if np.array_equal(wanted[::-1] if is_reversed else wanted, values):
                is_index = variable.dims == (name,)
                found.append((is_index, KeySplit(name, variable.dtype, is_reversed)))
                break
    # Rather the coordinate of the key's own name; rather an index than a scalar.
    found.sort(key=lambda item: (item[1].dim != key.name, not item[0]))
    return found[0][1] if found else None


def _is_decreasing(variable: VariableHeader) -> bool:
    """Whether a file says that its values fall, which one alone does not show.

    They are asked for from the least on.
    """
    return variable.attrs.get("stored_direction") == "decreasing"


def key_axis(key: KeyAxis, splits: Sequence[KeySplit | None]) -> GridAxis:
    """Return the axis of a key, as it splits the products of several kinds.

    Raises
    ------
    QueryError
        It splits no dimension of any, or another one in each.
    """
    found = [split for split in splits if split is not None]
    names = {split.dim for split in found}
    if len(names) != 1:
        shown = ", ".join(str(value) for value in key.parts[0][:3])
        what = (
            f"lie along several dimensions: {', '.join(sorted(names))}"
            if len(names) > 1
            else f"are no coordinate of what was delivered ({shown}, …)"
        )
        msg = (
            f"The products cannot be put together along {printable(key.name)!r}: its values "
            f"{what}. Leave it out of split."
        )
        raise QueryError(printable(msg), key="split")
    split = found[0]
    parts = [_as(values, split.dtype) for values in key.parts]
    told = [values for values in parts if values is not None]
    if len(told) < len(parts) or len(np.unique(np.concatenate(told))) < sum(map(len, told)):
        msg = f"The values of {printable(key.name)!r} are no different coordinates: {key.parts}."
        raise QueryError(printable(msg), key="split")
    lengths = np.array([len(values) for values in told], np.int64)
    segments = None
    if split.is_reversed:
        told = [values[::-1] for values in told]
        order = np.arange(len(told))[::-1]
        segments = Segments(order, np.zeros(len(told), np.int64), lengths[order])
    return GridAxis(key.name, split.dim, lengths, np.concatenate(told), segments=segments)


def _as(values: Sequence[Scalar], dtype: np.dtype[Any]) -> _Array | None:
    """Return values as those of a coordinate; None where they are none of its kind."""
    try:
        if dtype.kind in "iuf":
            numbers = np.array([float(value) for value in values])
            found = numbers.astype(dtype)
            is_same = np.array_equal(found, numbers) or dtype.kind == "f"
            return found if is_same else None
        if dtype.kind in "OSU":
            return np.array([str(value) for value in values], dtype=object)
    except (TypeError, ValueError, OverflowError):
        return None
    return None
