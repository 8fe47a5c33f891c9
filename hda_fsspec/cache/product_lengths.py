"""True lengths of products, remembered after their files are gone.

One folder per data set of a broker, and in it one text file for each user, to which the processes
of that user append whole lines: no lock, no rewriting, and a line that is damaged is skipped. From
the same lines it is known whether the catalogue's sizes of the data set are exact.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path

from hda_fsspec.cache.folder import Folder
from hda_fsspec.records import Product
from hda_fsspec.untrusted_files import read_all, tell_once

_UNKNOWN = "ND"
_SUFFIX = ".tsv"


@dataclasses.dataclass(slots=True)
class _Known:
    """The lengths of one data set, and up to where its files were read (number, offset)."""

    read: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    #: By key of the product, then by tag of its version.
    lengths: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    right: int = 0
    wrong: int = 0

    @property
    def catalogue_is_exact(self) -> bool:
        return self.right > 0 and self.wrong == 0

    def length_of(self, product: Product) -> int | None:
        """Return a true length; nothing is hashed as long as nothing is known."""
        of_versions = self.lengths.get(product.key) if self.lengths else None
        return None if of_versions is None else of_versions.get(product.version_tag)


class KnownSizes:
    """Lengths of products in a cache folder, for all processes that use it."""

    def __init__(self, root: Path) -> None:
        self._folder = Folder(Path(root))
        self._known: dict[tuple[str, str], _Known] = {}
        self._guard = threading.Lock()

    def length_of(self, product: Product) -> int | None:
        """Return the true length of this version of a product in bytes, if it is known."""
        return self._read(product.broker, product.dataset_id).length_of(product)

    def sizes_of(self, products: Iterable[Product]) -> list[int | None]:
        """Return the length of each product, None where it is not known for certain.

        Where the true length is not known, the catalogue's size serves if the sizes of its data
        set have proved exact. The disk is looked at once for each data set.
        """
        read: dict[tuple[str, str], _Known | None] = {}
        sizes: list[int | None] = []
        for product in products:
            whose = (product.broker, product.dataset_id)
            if whose not in read:
                found = self._read(*whose)
                read[whose] = found if found.lengths else None
            known = read[whose]
            length = None if known is None else known.length_of(product)
            if length is None and known is not None and known.catalogue_is_exact:
                length = product.size
            sizes.append(length)
        return sizes

    def record(self, product: Product, length: int) -> None:
        """Remember the true length of a product beside the size which the catalogue gave.

        A folder that is read-only or full loses the note, and says so once in the log.
        """
        if self.length_of(product) == length:
            return
        size = _UNKNOWN if product.size is None else str(product.size)
        line = f"{product.key}\t{product.version_tag}\t{length}\t{size}"
        # The file at hand is complete, whether or not its length is remembered.
        with self._folder.losing("Lengths of products"):
            folder = self._dataset_folder(product.broker, product.dataset_id)
            self._append(folder, f"\n{line}\t{_checksum(line)}".encode())

    def _append(self, folder: Path, data: bytes) -> None:
        self._folder.prepare()
        path = folder / f"{os.geteuid()}{_SUFFIX}"
        flags = os.O_WRONLY | os.O_APPEND
        try:
            descriptor = self._folder.open_own(path, flags)
        except FileNotFoundError:
            self._folder.write(path, b"", is_first=True)
            descriptor = self._folder.open_own(path, flags)
        try:
            # A line begins with its line break: what a full disk cut off spoils no later line.
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def _read(self, broker: str, dataset_id: str) -> _Known:
        whose, folder = (broker, dataset_id), self._dataset_folder(broker, dataset_id)
        with self._guard:
            known = self._known.setdefault(whose, _Known())
            found = self._files(folder) if self._folder.is_present() else {}
            if any(not _goes_on(found.get(name), seen) for name, seen in known.read.items()):
                known = self._known[whose] = _Known()
            for name, facts in found.items():
                _, offset = known.read.get(name, (facts.st_ino, 0))
                if facts.st_size > offset:
                    self._take_in(known, folder / name, offset)
            return known

    def _files(self, folder: Path) -> dict[str, os.stat_result]:
        # Most data sets have no lengths yet, and thousands of products are asked for in a row.
        if not os.path.isdir(folder):  # noqa: PTH112
            return {}
        return {name: f for name, f in self._folder.files(folder) if name.endswith(_SUFFIX)}

    def _take_in(self, known: _Known, path: Path, offset: int) -> None:
        try:
            with os.fdopen(self._folder.open(path), "rb") as handle:
                number = os.fstat(handle.fileno()).st_ino
                handle.seek(offset)
                read = _take_in(known, read_all(handle, path))
        except OSError as err:
            # Gone, or a colleague's private one: then nothing is known of it.
            tell_once(err)
            return
        known.read[path.name] = (number, offset + read)

    def _dataset_folder(self, broker: str, dataset_id: str) -> Path:
        name = f"{broker} {dataset_id}".encode(errors="surrogatepass")
        digest = hashlib.sha256(name).hexdigest()
        return self._folder.path / "lengths" / digest


def _goes_on(facts: os.stat_result | None, seen: tuple[int, int]) -> bool:
    """Whether a file is still the one that was read, with perhaps more at its end."""
    number, offset = seen
    return facts is not None and facts.st_ino == number and facts.st_size >= offset


def _take_in(known: _Known, data: bytes) -> int:
    """Read lines, and return how many bytes of them need not be looked at again."""
    *whole, last = data.split(b"\n")
    for line in whole:
        _take_in_line(known, line)
    # Perhaps another process is writing the last one: it is looked at again next time.
    is_whole = not last or _take_in_line(known, last)
    return len(data) - (0 if is_whole else len(last))


def _take_in_line(known: _Known, line: bytes) -> bool:
    try:
        text, _, checksum = line.decode("ascii").rpartition("\t")
        if checksum != _checksum(text):
            return False
        key, tag, length, size = text.split("\t")
        of_versions = known.lengths.setdefault(key, {})
        is_news = of_versions.get(tag) != int(length)
        of_versions[tag] = int(length)
        if size != _UNKNOWN and is_news:
            if int(size) == int(length):
                known.right += 1
            else:
                known.wrong += 1
    except ValueError:
        return False
    return True


def _checksum(line: str) -> str:
    return f"{zlib.crc32(line.encode()):08x}"
