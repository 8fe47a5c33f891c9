"""True lengths of products, remembered after their files are gone.

One text file per data set of a broker, to which every process appends whole lines: no lock, no
rewriting, and a line that is damaged is skipped. From the same lines it is known whether the
catalogue's sizes of the data set are exact.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path

from hda_fsspec.disk.entries import product_key, version_tag
from hda_fsspec.disk.folder import NO_ROOM_ERRNOS, READ_ONLY_ERRNOS, Folder
from hda_fsspec.records import Product

logger = logging.getLogger("hda_fsspec")

_UNKNOWN = "ND"


@dataclasses.dataclass(slots=True)
class _Known:
    """What was read of one data set, and up to where."""

    offset: int = 0
    #: By key of the product, then by tag of its version.
    lengths: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    right: int = 0
    wrong: int = 0

    @property
    def catalogue_is_exact(self) -> bool:
        return self.right > 0 and self.wrong == 0

    def length_of(self, product: Product) -> int | None:
        """Return a true length; nothing is hashed as long as nothing is known."""
        of_versions = self.lengths.get(product_key(product)) if self.lengths else None
        return None if of_versions is None else of_versions.get(version_tag(product))


class Lengths:
    """Lengths of products in a cache folder, for all processes that use it."""

    def __init__(self, root: Path) -> None:
        self._folder = Folder(Path(root))
        self._known: dict[tuple[str, str], _Known] = {}
        self._guard = threading.Lock()
        self._has_warned = False

    def length_of(self, product: Product) -> int | None:
        """Return the true length of this version of a product in bytes, if it is known."""
        return self._read(product.broker, product.dataset_id).length_of(product)

    def sizes_of(self, products: Iterable[Product]) -> list[int | None]:
        """Return the length of each product, None where it is not known for certain.

        Where the true length is not known, the catalogue's size serves if the sizes of its data
        set have proved exact. The disk is looked at once for each data set.
        """
        read: dict[tuple[str, str], _Known] = {}
        sizes = []
        for product in products:
            whose = (product.broker, product.dataset_id)
            known = read.get(whose)
            if known is None:
                known = read[whose] = self._read(*whose)
            length = known.length_of(product)
            if length is None and known.catalogue_is_exact:
                length = product.size
            sizes.append(length)
        return sizes

    def catalogue_is_exact(self, dataset_id: str, *, broker: str = "") -> bool:
        """Whether a broker's sizes of a data set were compared, and never were wrong."""
        return self._read(broker, dataset_id).catalogue_is_exact

    def note(self, product: Product, length: int) -> None:
        """Remember the true length of a product beside the size which the catalogue gave.

        A folder that is read-only or full loses the note, and says so once in the log.
        """
        if self.length_of(product) == length:
            return
        size = _UNKNOWN if product.size is None else str(product.size)
        line = f"{product_key(product)}\t{version_tag(product)}\t{length}\t{size}"
        try:
            path = self._path(product.broker, product.dataset_id)
            self._append(path, f"\n{line}\t{_checksum(line)}".encode())
        except OSError as err:
            # The file at hand is complete, whether or not its length is remembered.
            if err.errno not in READ_ONLY_ERRNOS | NO_ROOM_ERRNOS:
                raise
            if not self._has_warned:
                self._has_warned = True
                logger.warning("Lengths of products are not kept: %s", err)

    def _append(self, path: Path, data: bytes) -> None:
        self._folder.prepare()
        self._folder.make(path.parent)
        is_new = not path.exists()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, self._folder.file_mode())
        try:
            # A line begins with its line break: what a full disk cut off spoils no later line.
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
        if is_new:
            self._folder.adopt(path)

    def _read(self, broker: str, dataset_id: str) -> _Known:
        whose, path = (broker, dataset_id), self._path(broker, dataset_id)
        with self._guard:
            known = self._known.setdefault(whose, _Known())
            try:
                size = path.stat().st_size if self._folder.is_present() else 0
                if size < known.offset:
                    known = self._known[whose] = _Known()
                if size > known.offset:
                    with path.open("rb") as handle:
                        handle.seek(known.offset)
                        _take_in(known, handle.read())
            except OSError:
                # Missing, or a colleague's private one: in both cases nothing is known.
                self._known[whose] = known = _Known()
            return known

    def _path(self, broker: str, dataset_id: str) -> Path:
        name = f"{broker} {dataset_id}".encode(errors="surrogatepass")
        digest = hashlib.sha256(name).hexdigest()
        return self._folder.path / "lengths" / f"{digest}.tsv"


def _take_in(known: _Known, data: bytes) -> None:
    *whole, last = data.split(b"\n")
    for line in whole:
        _take_in_line(known, line)
    known.offset += len(data)
    if last and not _take_in_line(known, last):
        # Perhaps another process is writing it: look at it again next time.
        known.offset -= len(last)


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
