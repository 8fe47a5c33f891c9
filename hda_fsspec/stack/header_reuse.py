"""Headers of files that are stored just as another one: told without decoding what is equal.

To open a file as a dataset decodes everything in it. Most products of a series differ from each
other in their data and times alone: the same variables with the same attributes, and coordinates of
the same bytes, which are decoded to the same. Many are even written by the same program in the same
way, so that all of their bytes are the same but for those: they need not be opened at all.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Collection
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from hda_fsspec.formats.file_reader import BytesInMemory, FileBytes
from hda_fsspec.formats.hdf5frames import Contents, Frame, take_frame
from hda_fsspec.lazy.fingerprint import digest_of
from hda_fsspec.reading.direct_reads import StoredVariable, coding_of, find_stored, read_raw
from hda_fsspec.reading.variables import NetCDFVariables, StoredStructure, decode_stored
from hda_fsspec.reading.whole_steps import WholeSteps
from hda_fsspec.stack.header import Header

#: Products that differ in more are opened as datasets; after so many in a row nobody looks again.
_MOST_UNLIKE = 3
#: So many ways are known at a time in which files alike may be written.
_MOST_WAYS = 3
#: A file of no more bytes is read as a whole, to be compared.
_READ_AT_ONCE = 1 << 18
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


#: The bytes of a file, and what it consists of.
_Way = tuple[Frame, StoredStructure]


class Told(NamedTuple):
    """What a file is, as told by another one.

    Attributes
    ----------
    header : Header
        Its header.
    stored : dict of str to StoredVariable
        Where its variables lie.
    way : tuple or None
        In which way it is written, if that is worth to be noted.
    """

    header: Header
    stored: dict[str, StoredVariable]
    way: _Way | None = None


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
        self._coding = {
            name: coding_of(attrs) for name, (_, _, attrs) in structure.variables.items()
        }
        #: How times are decoded, once it was asked for; None for what is no matter of whole steps.
        self._steps: dict[str, WholeSteps | None] = {}
        #: The ways in which files alike are written, the one that was found last first.
        self._ways: list[_Way] = []
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

    def look(self, variables: NetCDFVariables, stream: BinaryIO) -> Told | None:
        """Return what a file is; None if it differs in more than values and times.

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

    def _told(self, variables: NetCDFVariables, stream: BinaryIO) -> Told | None:
        structure = variables.structure()
        if structure is None or not structure.is_alike(self._structure):
            return None
        stored = dict[str, StoredVariable]()
        data = FileBytes(stream)
        if self._placed:
            names = self._placed | self._values.keys()
            stored = find_stored(stream, structure.facts, names, group=variables.group)

        def read(name: str) -> np.ndarray[Any, Any]:
            theirs = None
            if name in stored:
                theirs = read_raw(data, stored[name].array)
            return variables.stored(name) if theirs is None else theirs

        told = self._told_by(structure, stored, read)
        if told is None or not self._values.keys() <= stored.keys():
            return told
        if len(self._ways) >= _MOST_WAYS:
            return told
        texts = {
            name: text
            for name, text in structure.attrs.items()
            if isinstance(text, str) and "\0" not in text
        }
        frame = take_frame(data, stored, texts, group=variables.group)
        return told if frame is None else told._replace(way=(frame, structure))

    def note(self, told: Told) -> None:
        """Note in which way a file is written, which was the same for as long as it was looked at.

        Others that are written so are told by :meth:`look_at_bytes`.
        """
        if told.way is not None:
            with self._lock:
                self._ways = [told.way, *self._ways][:_MOST_WAYS]

    def look_at_bytes(self, stream: BinaryIO) -> Told | None:
        """Return what a file is, without the netCDF library.

        None if it differs from each of those that were noted in more than numbers, where these lie,
        and texts of the file that are as long.
        """
        head = stream.read(_READ_AT_ONCE + 1)
        is_small = len(head) <= _READ_AT_ONCE
        data = BytesInMemory(head) if is_small else FileBytes(stream)
        try:
            for frame, structure in self._ways:
                contents = frame.look(data)
                if contents is not None:
                    return self._of_contents(data, structure, contents)
        except _NOT_UNDERSTOOD:
            pass
        return None

    def _of_contents(
        self, data: FileBytes, structure: StoredStructure, contents: Contents
    ) -> Told | None:
        texts = {name: text.decode() for name, text in contents.texts.items()}
        if any("\0" in text for text in texts.values()):
            return None  # how the library reads it is for the library to say
        stored = {
            name: StoredVariable(name, array, self._coding[name])
            for name, array in contents.arrays.items()
        }

        its_own = dataclasses.replace(structure, attrs={**structure.attrs, **texts})
        return self._told_by(its_own, stored, lambda name: read_raw(data, stored[name].array))

    def _told_by(
        self,
        structure: StoredStructure,
        stored: dict[str, StoredVariable],
        read: Callable[[str], np.ndarray[Any, Any] | None],
    ) -> Told | None:
        told = dict(self._header.variables)
        for name, mine in self._values.items():
            theirs = read(name)
            if theirs is None:
                return None
            if theirs.dtype == mine.dtype and theirs.tobytes() == mine.tobytes():
                continue
            if name in self._related:
                return None
            known = told[name]
            values = self._decoded(name, theirs)
            if values.dtype != known.dtype or values.shape != theirs.shape:
                return None
            told[name] = dataclasses.replace(
                known,
                values=None if known.values is None else values,
                digest=digest_of(values),
            )
        placed = {name: stored[name] for name in stored if name in self._placed}
        return Told(Header(self._header.sizes, told, structure.attrs), placed)

    def _decoded(self, name: str, stored: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if name not in self._steps:
            attrs = self._structure.variables[name][2]
            self._steps[name] = WholeSteps.of(self._values[name], attrs)
        steps = self._steps[name]
        times = None if steps is None else steps.times(stored)
        if times is not None:
            return times
        return np.asarray(decode_stored(self._structure, name, stored).values)
