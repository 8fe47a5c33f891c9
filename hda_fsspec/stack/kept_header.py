"""A header as it is kept on disk, together with where the numbers of its file lie."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hda_fsspec.formats.hdf5values import StoredArray
from hda_fsspec.reading.direct_reads import StoredVariable
from hda_fsspec.stack.header import Header, attrs_from_json, attrs_to_json

#: No file is longer.
_MOST = 1 << 62


@dataclasses.dataclass(frozen=True)
class KeptHeader:
    """A header, and the file that it is of.

    Attributes
    ----------
    header : Header
        The header.
    file : tuple
        Tells the file that it was taken from, as it was then.
    stored : mapping of str to StoredVariable, or None
        Where variables lie in the file; None if nobody has looked.
    """

    header: Header
    file: tuple[Any, ...]
    stored: Mapping[str, StoredVariable] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class FittingFile:
    """A file that was found to fit.

    Attributes
    ----------
    file : tuple
        Tells the file.
    lacking : frozenset of str
        The variables that it lacks.
    stored : mapping of str to StoredVariable, or None
        Where variables lie in it; None if nobody has looked.
    """

    file: tuple[Any, ...]
    lacking: frozenset[str]
    stored: Mapping[str, StoredVariable] | None = None


def dump(mark: str, kept: KeptHeader) -> bytes:
    """Return a header as bytes for the disk, marked with what it was taken for."""
    stored = kept.stored
    value = {
        "mark": mark,
        "file": kept.file,
        "header": kept.header.to_json(),
        "stored": None if stored is None else {name: _to_json(v) for name, v in stored.items()},
    }
    return json.dumps(value, separators=(",", ":")).encode()


def load(data: bytes, mark: str) -> KeptHeader | None:
    """Read what :func:`dump` wrote under this mark; None for anything else."""
    try:
        value = json.loads(data)
        header = Header.from_json(value["header"]) if value["mark"] == mark else None
        if header is None:
            return None
        stored = value["stored"]
        if stored is not None:
            stored = {name: _from_json(name, v, header) for name, v in stored.items()}
        return KeptHeader(header, tuple(value["file"]), stored)
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None


def _to_json(stored: StoredVariable) -> list[Any]:
    array = stored.array
    packed = (array.is_deflated, array.is_shuffled)
    return [
        *(array.dtype, array.shape, array.chunk, array.pieces, *packed),
        attrs_to_json(stored.coding),
    ]


def _from_json(name: str, value: Any, header: Header) -> StoredVariable:
    dtype, shape, chunk, pieces, is_deflated, is_shuffled, coding = value
    found = StoredArray(
        str(dtype),
        tuple(map(int, shape)),
        tuple(map(int, chunk)),
        tuple((int(place), int(count)) for place, count in pieces),
        bool(is_deflated),
        bool(is_shuffled),
    )
    # Whoever shares the cache may have written it.
    sides = list(zip(found.shape, found.chunk, strict=True))
    told = tuple(header.sizes[dim] for dim in header.variables[name].dims)
    is_sound = found.shape == told and all(size > 0 and side > 0 for size, side in sides)
    is_sound = is_sound and len(found.pieces) == math.prod(-(-size // side) for size, side in sides)
    is_sound = is_sound and all(0 <= n < _MOST for piece in found.pieces for n in piece)
    if not is_sound or np.dtype(found.dtype).kind not in "iuf":
        msg = "This is no place of numbers."
        raise ValueError(msg)
    return StoredVariable(name, found, attrs_from_json(coding))
