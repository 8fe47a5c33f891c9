"""A product on disk: its keys, its folder with the file and a record beside it, and safe names.

A folder is an entry if its record can be read and its file has the length that the record tells;
anything else is not there. Whoever may write to the cache may have put it there: it is data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

from hda_fsspec import untrusted_files
from hda_fsspec.cache.folder import Folder, dump_json
from hda_fsspec.errors import ProductFormatError
from hda_fsspec.filenames import RESERVED, is_device
from hda_fsspec.records import Product

#: The name of the record beside a product's file.
RECORD_NAME = "record.json"

#: To list a folder that holds as many products takes no longer than to look for so many of them.
_MANY = 20_000
_MAX_NAME_BYTES = 200
_MAX_SUFFIX_BYTES = 24
_FORMAT = 1
_AT_THE_ENDS = re.compile(r"^[\s.\-]+|[\s.]+$")
_REPLACED = str.maketrans(dict.fromkeys(RESERVED, "_"))


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A complete product in the cache.

    Attributes
    ----------
    key : str
        The key of the product, the same for all its versions.
    path : Path
        The file, under a readable name.
    product : Product
        The record of the catalogue as it was when the product was ordered.
    size : int
        The true length in bytes.
    fetched_at, used_at : float
        When it was published and last used, in seconds since 1970.
    sha256 : str or None
        The checksum, once :meth:`hda_fsspec.cache.cache.Cache.verify` has computed it.
    delivered_name : str
        The name under which the service delivered the file, made safe.
    extra : Mapping
        What else the publisher wanted to be kept (licence, …), as JSON values.
    file_id : tuple of int
        Device and number of the file on its disk: what lies at the path later may be another one.
    fspath : str
        The path as text.
    changed_ns : int or None
        When the file last changed, as the cache saw it when it was last looked up.
    """

    key: str
    path: Path
    product: Product
    size: int
    fetched_at: float
    used_at: float
    sha256: str | None
    delivered_name: str
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    file_id: tuple[int, int] = dataclasses.field(default=(0, 0), compare=False, repr=False)
    changed_ns: int | None = dataclasses.field(default=None, compare=False, repr=False)
    fspath: str = dataclasses.field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # The hot path asks for it several times, and pathlib takes as long to tell as the system
        # to look at the file.
        object.__setattr__(self, "fspath", os.fspath(self.path))

    def open(self) -> BufferedReader:
        """Open the file; FileNotFoundError if it was evicted, or another lies at its path."""
        handle = untrusted_files.reader_of(self.path, is_given=False)
        facts = os.fstat(handle.fileno())
        if (facts.st_dev, facts.st_ino) != self.file_id:
            handle.close()
            raise FileNotFoundError(errno.ENOENT, "The file was replaced", os.fspath(self.path))
        return handle

    @property
    def folder(self) -> Path:
        """The folder that holds the file and its record."""
        return self.path.parent

    def record(self) -> bytes:
        """Return the record that lies beside the file."""
        return dump_json(
            {
                "format": _FORMAT,
                "key": self.key,
                "product": self.product.to_json(),
                "name": self.delivered_name,
                "size": self.size,
                "fetched_at": self.fetched_at,
                "sha256": self.sha256,
                "extra": dict(self.extra),
            }
        )


def versions_folder(layout: Path, key: str) -> Path:
    """Return the folder in which each version of a product has its own."""
    return layout / versions_name(key)


def versions_name(key: str) -> str:
    """Return the same folder as it is named within ``v1``."""
    return f"products/{key[:2]}/{key}"


def among(products: Sequence[Product], keys: Callable[[], Iterable[str]]) -> list[int]:
    """Return which of some products, by their numbers, may lie in folders that hold some keys.

    Of many products the folders are listed once, instead of a look at the disk for each; of few all
    may.
    """
    if len(products) < _MANY:
        return list(range(len(products)))
    there = set(keys())
    # Nothing is hashed as long as nothing is there.
    return [n for n, product in enumerate(products) if product.key in there] if there else []


def read_entry(folder: Folder, path: Path) -> Entry | None:
    """Return the entry in a folder, or None if there is none; neither network nor checksum."""
    found, facts = _read(folder, path)
    if found is None or facts is None or not stat.S_ISREG(facts.st_mode):
        return None
    # After a power cut a disk may hold the record but not all of the file.
    return found if facts.st_size == found.size else None


def read_record(folder: Folder, path: Path) -> Entry | None:
    """Return the entry that the record in a folder describes, whatever became of the file."""
    return _read(folder, path)[0]


def _read(folder: Folder, path: Path) -> tuple[Entry | None, os.stat_result | None]:
    """Return the entry that a record describes, and the facts of what lies there as its file."""
    try:
        with folder.inside(path) as inside:
            record = untrusted_files.open_regular(
                RECORD_NAME, dir_fd=inside, shown=path / RECORD_NAME
            )
            with os.fdopen(record, "rb") as handle:
                used_at = os.fstat(record).st_mtime
                data = untrusted_files.read_all(handle, path / RECORD_NAME)
            entry = _parse(data, path, used_at)
            if entry is None:
                return None, None
            try:
                facts = os.stat(entry.path.name, dir_fd=inside, follow_symlinks=False)
            except OSError:
                return entry, None
    except OSError as err:
        untrusted_files.tell_once(err)
        return None, None
    return dataclasses.replace(entry, file_id=(facts.st_dev, facts.st_ino)), facts


def _parse(data: bytes, path: Path, used_at: float) -> Entry | None:
    try:
        value = json.loads(data)
        if value["format"] != _FORMAT or value["key"] != path.parent.name:
            return None
        name, size = value["name"], value["size"]
        # Somebody may have written the record by hand: its name must not lead elsewhere.
        if safe_name(name, "") != name or type(size) is not int:
            return None
        sha256, extra = value["sha256"], value["extra"]
        return Entry(
            key=value["key"],
            path=path / name,
            product=Product.from_json(value["product"]),
            size=size,
            fetched_at=float(value["fetched_at"]),
            used_at=used_at,
            sha256=sha256 if isinstance(sha256, str) else None,
            delivered_name=name,
            extra=extra if isinstance(extra, dict) else {},
        )
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError, OverflowError):
        return None


def verify_entry(folder: Folder, entry: Entry, check: Callable[[Path], object]) -> Entry:
    """Compare an entry with its record, call ``check(path)``, and return it with its checksum.

    A checksum that was not known is recorded; the time of last use stays.

    Raises
    ------
    ProductFormatError
        The length or the checksum differs; or whatever ``check`` raises.
    """
    with os.fdopen(folder.open(entry.path), "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        checksum = hashlib.file_digest(handle, "sha256").hexdigest() if size == entry.size else ""
    if size != entry.size:
        msg = (
            f"{entry.path} has {size} bytes, and had {entry.size} when it was fetched. Remove it,"
            " and it is fetched again."
        )
        raise ProductFormatError(msg)
    if entry.sha256 is not None and checksum != entry.sha256:
        msg = (
            f"{entry.path} has other bytes than when it was last verified. Remove it, and it is"
            " fetched again."
        )
        raise ProductFormatError(msg)
    check(entry.path)
    verified = dataclasses.replace(entry, sha256=checksum)
    if entry.sha256 is None:
        _record_checksum(folder, verified)
    return verified


def _record_checksum(folder: Folder, entry: Entry) -> None:
    record = entry.folder / RECORD_NAME
    # The folder may be read-only, or the entry evicted meanwhile: then the next verification
    # computes the checksum again.
    with contextlib.suppress(OSError):
        found = folder.look(record)
        if found is not None:
            folder.write(record, entry.record(), modified_at=found.st_mtime)


def safe_name(name: str, fallback: str) -> str:
    """Return a file name that stays in its folder, however hostile the name that was delivered.

    Only the part after the last separator counts, without control characters, leading dots and
    dashes, or trailing dots, in composed form, and with at most 200 bytes of which the suffix
    survives. What Windows reserves becomes an underscore, and a name of its devices is one no
    more. Where nothing is left, the fallback is made safe in the same way; "product" is the last
    resort.

    >>> safe_name("../../etc/passwd", "product-1")
    'passwd'
    >>> safe_name("..", "S3A/OL_2")
    'OL_2'
    """
    for candidate in (name, fallback):
        cleaned = _clean(candidate)
        if cleaned:
            return cleaned
    return "product"


def _clean(name: str) -> str:
    # The part after the last separator is all that a well-meant name has; Windows' counts too.
    name = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = "".join(c for c in name if unicodedata.category(c)[0] != "C")
    name = _AT_THE_ENDS.sub("", unicodedata.normalize("NFC", name).translate(_REPLACED))
    if name.lower() == RECORD_NAME or is_device(name):
        name = f"product-{name}"
    encoded = name.encode(errors="ignore")
    if len(encoded) <= _MAX_NAME_BYTES:
        return encoded.decode()
    stem, dot, suffix = name.rpartition(".")
    tail = (dot + suffix).encode(errors="ignore") if stem else b""
    if len(tail) > _MAX_SUFFIX_BYTES:
        tail = b""
    # A cut may fall inside a character, whose half is dropped.
    head = encoded[: _MAX_NAME_BYTES - len(tail)].decode(errors="ignore")
    return _AT_THE_ENDS.sub("", head) + tail.decode()
