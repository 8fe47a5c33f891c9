"""Products that a test puts into a cache by hand."""

import dataclasses
from pathlib import Path

from hda_fsspec.cache.cache import Cache, Entry
from hda_fsspec.records import Product


def accept(path: Path) -> None:
    """Find every file in order."""


def product(name: str = "p1", **facts: object) -> Product:
    """Return the record of a product, with some facts of its own."""
    return dataclasses.replace(Product("EO:TEST:DAT", name), **facts)  # type: ignore[arg-type]


def put(cache: Cache, record: Product, data: bytes = b"data", name: str = "file.nc") -> Entry:
    """Publish bytes as the file of a product."""
    with cache.stage(record, expected_bytes=len(data)) as staging:
        staging.restart()
        with staging.open() as handle:
            handle.write(data)
        return staging.publish(name, check=accept, expected_bytes=len(data))


def leave_partial(cache: Cache, record: Product, data: bytes, **facts: object) -> None:
    """Leave the first bytes of a product, as a download does that was cut."""
    with cache.stage(record) as staging:
        staging.remember(**facts)
        with staging.open() as handle:
            handle.write(data)


def partials_in(cache: Cache) -> list[Path]:
    """Return the folders of what is not whole."""
    return sorted((cache.root / "v1" / "partial").iterdir())
