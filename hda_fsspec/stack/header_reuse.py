"""Headers of files that are stored just as another one: told without decoding what is equal.

To open a file as a dataset decodes everything in it. Most products of a series differ from each
other in their data and times alone: the same variables with the same attributes, and coordinates of
the same bytes, which are decoded to the same.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Collection
from typing import Any, BinaryIO

import numpy as np

from hda_fsspec.lazy.fingerprint import digest_of
from hda_fsspec.reading.direct_reads import StoredVariable, find_stored, read_raw
from hda_fsspec.reading.variables import NetCDFVariables, StoredStructure, decode_stored
from hda_fsspec.stack.header import Header

#: Products that differ in more are opened as datasets; after so many in a row nobody looks again.
_MOST_UNLIKE = 3
#: What xarray decodes by more than the variable itself.
_RELATED = ("bounds", "climatology")
#: What reading and decoding raise of a file that is damaged, or of values that cannot be decoded.
#: What is wrong with it is told when it is opened as a dataset.
_NOT_UNDERSTOOD = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class AlikeFiles:
    """The stored structure of one product of a kind, and its header, to compare others with.

    Parameters
    ----------
    structure : StoredStructure
        What its file holds.
    values : dict of str to numpy.ndarray
        What is stored of the variables whose values its header tells something of.
    header : Header
        Its header, taken of the open dataset.
    placed : collection of str
        The variables of which is known where they lie in it.
    """

    def __init__(
        self,
        structure: StoredStructure,
        values: dict[str, np.ndarray[Any, Any]],
        header: Header,
        placed: Collection[str],
    ) -> None:
        self._structure = structure
        self._placed = frozenset(placed)
        self._values = values
        self._header = header
        self._related = {
            str(attrs[name])
            for _, _, attrs in structure.variables.values()
            for name in _RELATED
            if name in attrs
        }
        self._unlike = 0
        self._lock = threading.Lock()

    @classmethod
    def of(
        cls, variables: NetCDFVariables, header: Header, placed: Collection[str] = ()
    ) -> AlikeFiles | None:
        """Take what a file is stored like; None if others cannot be told by that."""
        try:
            return cls._of(variables, header, placed)
        except _NOT_UNDERSTOOD:
            return None

    @classmethod
    def _of(
        cls, variables: NetCDFVariables, header: Header, placed: Collection[str]
    ) -> AlikeFiles | None:
        structure = variables.structure()
        if structure is None or not header.variables.keys() <= structure.variables.keys():
            return None
        for variable in header.variables.values():
            if variable.digest is None and variable.dtype.kind not in "iuf":
                return None  # how it is decoded hangs on its values
        looked_at = [name for name, v in header.variables.items() if v.digest is not None]
        values = {name: variables.stored(name) for name in looked_at}
        return cls(structure, values, header, placed)

    def look(
        self, variables: NetCDFVariables, stream: BinaryIO
    ) -> tuple[Header, dict[str, StoredVariable]] | None:
        """Return the header of another file, and where its variables lie.

        None if it differs in more than values and times.

        Parameters
        ----------
        variables : NetCDFVariables
            The file.
        stream : binary file
            The same.
        """
        if self._unlike >= _MOST_UNLIKE:
            return None
        try:
            found = self._told(variables, stream)
        except _NOT_UNDERSTOOD:
            found = None
        with self._lock:
            self._unlike = self._unlike + 1 if found is None else 0
        return found

    def _told(
        self, variables: NetCDFVariables, stream: BinaryIO
    ) -> tuple[Header, dict[str, StoredVariable]] | None:
        structure = variables.structure()
        if structure is None or not structure.is_alike(self._structure):
            return None
        told, stored = dict(self._header.variables), dict[str, StoredVariable]()
        if self._placed:
            names = self._placed | self._values.keys()
            stored = find_stored(stream, structure.facts, names, group=variables.group)
        for name, mine in self._values.items():
            theirs = None
            if name in stored:
                theirs = read_raw(stream.fileno(), stored[name].array)
            if theirs is None:
                theirs = variables.stored(name)
            if theirs.dtype == mine.dtype and theirs.tobytes() == mine.tobytes():
                continue
            if name in self._related:
                return None
            decoded = decode_stored(structure, name, theirs)
            known = told[name]
            values = np.asarray(decoded.values)
            if decoded.dtype != known.dtype or decoded.dims != known.dims:
                return None
            told[name] = dataclasses.replace(
                known,
                values=None if known.values is None else values,
                digest=digest_of(values),
            )
        placed = {name: stored[name] for name in stored if name in self._placed}
        return Header(self._header.sizes, told, structure.attrs), placed
