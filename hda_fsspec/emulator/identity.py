"""The name of an emulated service, made of what it offers: services at one port differ by it.

Loopback ports are used again. What a client keeps of one service must not be taken for another's,
and must hold for one that is started again over the same files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hda_fsspec.emulator.catalogue import Catalogue
from hda_fsspec.emulator.dataset_entries import DatasetEntry
from hda_fsspec.emulator.jobs.job import SubsetDataset

_TOLD_OTHERWISE = ("source", "products", "queryable")
#: So many bytes of files are looked at, which takes a moment; of what is beyond, paths and times.
_READ_BYTES = 1 << 28


def name_of(catalogue: Catalogue, *, read_bytes: int = _READ_BYTES) -> str:
    """Return a name that differs as soon as anything differs that the catalogue offers.

    Files count by their content; where there is too much of it, by path, length and times, the last
    of which nobody can set back.

    >>> name_of(Catalogue())
    'emulator-e3b0c44298fc1c14'
    """
    digest = hashlib.sha256()
    reader = _Digests(read_bytes)
    for dataset in sorted(catalogue, key=lambda entry: entry.dataset_id):
        for fact in _facts(dataset, reader):
            digest.update(json.dumps(fact, sort_keys=True, default=str).encode())
    return f"emulator-{digest.hexdigest()[:16]}"


def _facts(dataset: DatasetEntry, reader: _Digests) -> Iterator[Any]:
    if isinstance(dataset, SubsetDataset):
        # Its schema moves with its clock, and follows from the source.
        yield [_fields(dataset), dataset.queryable, reader.state(dataset.source)]
        return
    yield [_fields(dataset), dataset.schema]
    for product in dataset.products:
        yield [_fields(product), reader.state(product.source)]


def _fields(entry: Any) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(entry) if field.compare)
    return {name: getattr(entry, name) for name in names if name not in _TOLD_OTHERWISE}


class _Digests:
    """Tells the bytes of products from others, and reads no more files than it may."""

    def __init__(self, read_bytes: int) -> None:
        self._left = read_bytes

    def state(self, source: Path | bytes) -> Any:
        """Return what tells the bytes of a product from others."""
        if isinstance(source, bytes):
            return hashlib.sha256(source).hexdigest()
        if not source.is_dir():
            return self._of_file(source)
        files = sorted(path for path in source.rglob("*") if path.is_file())
        return [[str(path.relative_to(source)), self._of_file(path)] for path in files]

    def _of_file(self, path: Path) -> Any:
        try:
            facts = path.stat()
            if facts.st_size <= self._left:
                self._left -= facts.st_size
                with path.open("rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None  # told to who orders it
        # Absolute, not resolved.
        place = os.path.abspath(path)  # noqa: PTH100
        return [place, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
