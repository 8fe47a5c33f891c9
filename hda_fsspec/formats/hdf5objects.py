"""Every object of an HDF5 file, walked for what leads out of the file.

Links to other files, values kept in other files, and virtual data sets are told by messages in
the headers of objects. All groups are followed, in each of the ways in which the format stores
them, and so are the references that attributes hold. No value of a data set is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from hda_fsspec.formats.file_reader import CorruptFileError, FileBytes, Reference
from hda_fsspec.formats.hdf5storage import Hdf5Bytes, TooMuchWorkError

_LINK_INFO, _LINK, _EXTERNAL_FILES, _LAYOUT = 0x02, 0x06, 0x07, 0x08
_ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE = 0x0C, 0x10, 0x11
_DRIVER_INFO, _ATTRIBUTE_INFO = 0x14, 0x15
_VIRTUAL = 3
_SOFT_LINK, _EXTERNAL_LINK = 1, 64
_REFERENCE_CLASS, _VLEN_CLASS = 7, 9


def hdf5_references(data: FileBytes, start: int) -> Iterator[Reference]:
    """Yield what leads out of an HDF5 file, whose signature stands at byte ``start``.

    Raises
    ------
    CorruptFileError
        A structure that has to be followed is damaged, of a kind that is not known, or more than
        any file has.
    """
    yield from _Walk(Hdf5Bytes(data, start)).references()


def link_parts(body: bytes) -> tuple[int, str, bytes]:
    """Return the type of a link, its name, and what it leads to."""
    flags = body[1]
    kind = body[2] if flags & 8 else 0
    position = 2 + bool(flags & 8) + (8 if flags & 4 else 0) + bool(flags & 16)
    end = position + (1 << (flags & 3))
    size = int.from_bytes(body[position:end], "little")
    return kind, body[end : end + size].decode("utf-8", "replace"), body[end + size :]


def dense_heap(
    file: Hdf5Bytes, body: bytes, index_bytes: int
) -> tuple[int | None, list[int | None]]:
    """Return the heap that holds links or attributes, and its indexes, that of names first."""
    flags = body[1]
    position = 2 + (index_bytes if flags & 1 else 0)
    heap, *trees = (
        file.address(body, position + number * file.width)
        for number in range(3 if flags & 2 else 2)
    )
    return heap, trees


def attribute_parts(body: bytes) -> tuple[bytes, bytes, bytes, int] | None:
    """Return name, type and dataspace of an attribute, and where in its message the values begin.

    None where its type is kept elsewhere in the file, with others that are equal.
    """
    version = body[0]
    sizes = [int.from_bytes(body[2 + 2 * i : 4 + 2 * i], "little") for i in range(3)]
    position = 9 if version == 3 else 8
    if version == 1:
        sizes = [size + -size % 8 for size in sizes]
    start = position + sizes[0]
    after = start + sizes[1]
    kind = body[start:after]
    if not kind or (version > 1 and body[1] & 1):
        return None
    return body[position:start], kind, body[after : after + sizes[2]], after + sizes[2]


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "replace")


class _Walk:
    """A walk through all objects of a file; each is visited once.

    What links lead to from the root has to be in order. What only references lead to need not be:
    an object that was deleted, or not copied along, may still be referred to. So links are
    followed first, to their end, and nothing that they lead to is forgiven any damage.
    """

    def __init__(self, file: Hdf5Bytes) -> None:
        self._file = file
        self._seen: set[int] = set()
        #: What an index finds depends on the heap, too, and on what its objects are read as.
        self._indexes: set[tuple[int, int, int]] = set()
        #: Address and path of what is still to be visited.
        self._linked: list[tuple[int, str]] = []
        self._referred_to: list[tuple[int, str]] = []
        self._is_forgiving = False
        self._handlers: dict[int, Callable[[bytes, int, str], Iterable[Reference]]] = {
            _LINK_INFO: self._dense_links,
            _LINK: self._link,
            _EXTERNAL_FILES: self._external_files,
            _LAYOUT: self._layout,
            _SYMBOL_TABLE: self._symbol_table,
            _DRIVER_INFO: self._driver_info,
            _ATTRIBUTE: self._attribute,
            _ATTRIBUTE_INFO: self._dense_attributes,
        }

    def references(self) -> Iterator[Reference]:
        file = self._file
        if file.driver_info is not None:
            head = file.read(file.driver_info, 16, "its driver information block")
            yield from self._driver_info(head[7:], 0, "/")
        for address in (file.root, file.extension):
            self._follow(address, "/")
        while self._linked or self._referred_to:
            self._is_forgiving = not self._linked
            address, path = (self._linked or self._referred_to).pop()
            if address in self._seen:
                continue
            self._seen.add(address)
            yield from self._all(self._visit(address, path))

    def _follow(self, address: int | None, path: str) -> None:
        """Visit, later on, what a link leads to; from a reference on, links are no more sure."""
        if address is not None and address not in self._seen:
            (self._referred_to if self._is_forgiving else self._linked).append((address, path))

    def _all(self, found: Iterable[Reference]) -> Iterator[Reference]:
        """Yield what was found, up to damage that may be."""
        try:
            yield from found
        except TooMuchWorkError:
            raise
        except CorruptFileError:
            if not self._is_forgiving:
                raise

    def _visit(self, address: int, path: str) -> Iterator[Reference]:
        for kind, flags, body, _ in self._file.messages(address):
            handle = self._handlers.get(kind)
            if handle is not None:
                yield from self._all(self._handled(handle, body, flags, path))

    def _handled(
        self,
        handle: Callable[[bytes, int, str], Iterable[Reference]],
        body: bytes,
        flags: int,
        path: str,
    ) -> Iterator[Reference]:
        try:
            yield from handle(body, flags, path)
        except IndexError:
            msg = f"a message of its HDF5 object {path!r} is cut short"
            raise CorruptFileError(msg) from None

    def _link(self, body: bytes, _: int, path: str) -> Iterator[Reference]:
        kind, name, rest = link_parts(body)
        inside = f"{path.rstrip('/')}/{name}"
        if kind == 0:
            self._follow(self._file.address(rest, 0), inside)
        elif kind == _EXTERNAL_LINK:
            other, *target = map(_text, rest[3:].split(b"\0")[:2])
            yield Reference("an external link", inside, f"{other} ({''.join(target)})")
        elif kind > _EXTERNAL_LINK:
            yield Reference(f"a link of the user-defined type {kind}", inside, "unknown")
        elif kind != _SOFT_LINK:
            msg = f"its HDF5 link {inside!r} has the type {kind}, which does not exist"
            raise CorruptFileError(msg)

    def _dense_links(self, body: bytes, _: int, path: str) -> Iterator[Reference]:
        for link in self._dense(body, 8, _LINK):
            yield from self._link(link, 0, path)

    def _dense_attributes(self, body: bytes, _: int, path: str) -> Iterator[Reference]:
        for attribute in self._dense(body, 2, _ATTRIBUTE):
            yield from self._attribute(attribute, 0, path)

    def _dense(self, body: bytes, index_bytes: int, kind: int) -> Iterator[bytes]:
        """Yield what a heap holds, by all of its indexes, to be read as messages of a kind."""
        file = self._file
        heap, trees = dense_heap(file, body, index_bytes)
        if heap is None:
            return
        given: set[bytes] = set()  # most files have two indexes of the same objects
        for tree in trees:
            if tree is not None and (kind, heap, tree) not in self._indexes:
                yield from file.heap_objects(heap, tree, given)
                self._indexes.add((kind, heap, tree))

    def _symbol_table(self, body: bytes, _: int, path: str) -> Iterable[Reference]:
        file = self._file
        tree, heap = file.address(body, 0), file.address(body, file.width)
        if tree is None or heap is None or (_SYMBOL_TABLE, heap, tree) in self._indexes:
            return ()
        names = file.local_heap(heap)
        for name, address in file.symbols(tree):
            inside = f"{path.rstrip('/')}/{_text(names[name : name + 1024])}"
            self._follow(address, inside)
        self._indexes.add((_SYMBOL_TABLE, heap, tree))
        return ()  # no symbol leads out of a file: other links are messages

    def _external_files(self, body: bytes, _: int, path: str) -> Iterator[Reference]:
        file, target = self._file, "other files"
        heap = file.address(body, 8)
        if heap is not None:
            try:
                first = int.from_bytes(body[8 + file.width :][: file.lengths], "little")
                target = _text(file.local_heap(heap)[first : first + 4096])
            except CorruptFileError:
                pass  # where the values lie is not needed to refuse them
        yield Reference("external storage of values", path, target)

    def _layout(self, body: bytes, _: int, path: str) -> Iterator[Reference]:
        version = body[0]
        if not 1 <= version <= 5:
            msg = f"the layout of its HDF5 object {path!r} has version {version}; 1 to 5 are known"
            raise CorruptFileError(msg)
        if body[1 if version > 2 else 2] != _VIRTUAL:
            return
        target, file = "other files", self._file
        try:
            mapping = file.global_object(body[2:])
            target = _text(mapping[1 + file.lengths :])
        except CorruptFileError:
            pass  # as above
        yield Reference("a virtual data set", path, target)

    def _driver_info(self, body: bytes, _: int, path: str) -> Iterator[Reference]:
        name = body[1:9].decode("ascii", "replace")
        yield Reference("a driver of several files", path, name)

    def _attribute(self, body: bytes, flags: int, path: str) -> Iterable[Reference]:
        """Follow the references to objects that an attribute holds."""
        if flags & 2:
            return ()  # kept elsewhere in the file, with others that are equal
        parts = attribute_parts(body)
        if parts is not None:
            name, kind, _, start = parts
            for address in self._referred(kind, body[start:]):
                if address is not None:
                    self._referred_to.append((address, f"{path}@{_text(name)}"))
        return ()  # an attribute itself leads nowhere

    def _referred(self, kind: bytes, values: bytes) -> Iterator[int | None]:
        file = self._file
        if kind[0] & 15 == _REFERENCE_CLASS and kind[1] & 15 == 0:
            for position in range(0, len(values) - file.width + 1, file.width):
                file.step()
                yield file.address(values, position)
        elif kind[0] & 15 == _VLEN_CLASS and len(kind) > 9 and kind[8] & 15 == _REFERENCE_CLASS:
            step = 8 + file.width
            for position in range(0, len(values) - step + 1, step):
                file.step()
                try:
                    held = file.global_object(values[position + 4 : position + step])
                except CorruptFileError:
                    continue  # a value that is not there refers to nothing
                yield from self._referred(kind[8:], held)
