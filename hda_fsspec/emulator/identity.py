"""What tells one emulated service from another at the same port: a name made of what it offers.

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

from hda_fsspec.emulator.catalogue import Catalogue, DatasetEntry

_OPENED_ELSEWHERE = ("source", "products", "queryable")


def name_of(catalogue: Catalogue) -> str:
    """Return a name that differs as soon as anything differs that the catalogue offers.

    Bytes in memory count as they are. Of files their path, length and times count, the last of
    which nobody can set back; so a file that was written anew is another, whatever is in it.

    >>> name_of(Catalogue())
    'emulator-e3b0c44298fc1c14'
    """
    digest = hashlib.sha256()
    for dataset in sorted(catalogue, key=lambda entry: entry.dataset_id):
        for fact in _facts(dataset):
            digest.update(json.dumps(fact, sort_keys=True, default=str).encode())
    return f"emulator-{digest.hexdigest()[:16]}"


def _facts(dataset: DatasetEntry) -> Iterator[Any]:
    yield [_fields(dataset), dataset.schema]
    for product in dataset.products:
        yield [_fields(product), _state(product.source)]


def _fields(entry: Any) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(entry))
    return {name: getattr(entry, name) for name in names if name not in _OPENED_ELSEWHERE}


def _state(source: Path | bytes) -> Any:
    """Return what tells the bytes of a product from others."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    path = Path(os.path.abspath(source))  # noqa: PTH100  (absolute, not resolved)
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    return [[str(file), *_times(file)] for file in files]


def _times(file: Path) -> list[int]:
    try:
        facts = file.stat()
    except FileNotFoundError:
        return []  # told to who orders it
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
