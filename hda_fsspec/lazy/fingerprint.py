"""Fingerprints of opened data sets: whether another file has the same structure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from hda_fsspec.errors import ProductMismatchError
from hda_fsspec.lazy.open_file_pool import FileStamp
from hda_fsspec.printable import printable
from hda_fsspec.reading.essential_attributes import meaning_of

#: Numbers of one kind are hashed as these.
_WIDE = {"b": "<i8", "i": "<i8", "u": "<i8", "f": "<f8", "c": "<c16"}


class StructureFingerprint:
    """The names, shapes, dtypes and meaning of a data set, and its indexes, as they were given out.

    The indexes of a data set are in memory while its values are read later, perhaps from a file
    that was fetched again. Those values must stand where the indexes say.

    Parameters
    ----------
    variables : Mapping
        The variables of the open data set, by name.
    mark : tuple
        The mark of its file.

    Attributes
    ----------
    mark : tuple
        The mark of the last file that was found to fit.
    """

    def __init__(self, variables: Mapping[Any, xr.Variable], mark: FileStamp) -> None:
        self._digest = _digest(variables)
        self.mark = mark

    def check(self, product_id: str, dataset: xr.Dataset, mark: FileStamp) -> None:
        """Raise ProductMismatchError if a file differs from the one that was opened."""
        if _digest(dataset.variables) != self._digest:
            msg = (
                f"The product {printable(product_id)} is another one than when it was opened: its "
                "file was fetched again, and its variables, shapes or coordinates differ. Open it "
                "anew."
            )
            raise ProductMismatchError(msg)
        self.mark = mark


def _digest(variables: Mapping[Any, xr.Variable]) -> str:
    facts = []
    for name, variable in variables.items():
        meaning = sorted(f"{attr}={value}" for attr, value in meaning_of(variable.attrs).items())
        is_index = variable.dims == (name,)
        index = digest_of(variable.to_index_variable().values) if is_index else None
        facts.append(
            (str(name), variable.dims, variable.shape, str(variable.dtype), meaning, index)
        )
    return hashlib.sha256(repr(sorted(facts, key=lambda fact: fact[0])).encode()).hexdigest()


def digest_of(values: np.ndarray[Any, Any]) -> str:
    """Return a hash of values that is equal in all processes.

    Numbers of one kind have it in common however many bytes they take, and in which order.
    """
    if values.dtype.kind in "OUS":
        kind, data = "text", json.dumps(list(map(_as_text, values.ravel()))).encode()
    else:
        own = values.dtype.newbyteorder("<").str
        kind = own if own == "<u8" else _WIDE.get(values.dtype.kind, own)
        data = values.astype(kind).tobytes()
    return hashlib.sha256(f"{kind} {values.shape} ".encode() + data).hexdigest()[:32]


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    # As text, an array of many numbers is cut short.
    return str(value.tolist() if isinstance(value, np.ndarray) else value)
