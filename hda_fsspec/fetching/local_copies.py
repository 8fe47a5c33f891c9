"""Copies of products outside of the cache: which file is one of which product, and is it complete.

It is noted in the cache folder which product a file was copied from; what was changed since is told
by its name again, if that is the id of a product.
"""

from __future__ import annotations

import collections
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from hda_fsspec.cache.metadata import JsonStore
from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import ALL_SUFFIXES, Format, check_complete, name_contradicts
from hda_fsspec.records import Product

F = TypeVar("F", bound="Path | RemoteCopy")


class RemoteCopy(Protocol):
    """A file of another filesystem that may be a copy of a product."""

    @property
    def url(self) -> str:
        """The address under which it is noted."""

    @property
    def name(self) -> str:
        """The last part of its path."""

    @property
    def stamp(self) -> list[int | str] | None:
        """What changes when it is written anew; None where nothing tells."""

    def is_complete(self, size: int | None) -> bool:
        """Whether it has a length, where that is known, and its format is whole."""


class Copies:
    """Finds complete copies, so that they need not be ordered again.

    Parameters
    ----------
    notes : JsonStore
        Where copies are noted.
    size_of : callable
        Returns the length of a product's file in bytes, None where it is not known.
    """

    def __init__(self, notes: JsonStore, size_of: Callable[[Product], int | None]) -> None:
        self._notes = notes
        self._size_of = size_of

    def note(self, product: Product, path: Path | RemoteCopy) -> None:
        """Note that a file was copied from a product."""
        facts = {"product": product.to_json(), "stamp": _stamp(path)}
        self._notes.put(_key(path), facts)

    def is_ours(self, path: Path | RemoteCopy) -> bool:
        """Whether a file was copied from a product, as it was noted, and nobody changed it since.

        A link to such a file is none.
        """
        if isinstance(path, Path):
            try:
                is_file = stat.S_ISREG(path.lstat().st_mode)
            except OSError:
                return False
            if not is_file:
                return False
        return self._noted(path) is not None

    def is_complete_copy(self, product: Product, path: Path | RemoteCopy) -> bool:
        """Whether a file is all of a product, as far as can be told without ordering it.

        It has the length of the product where that is known, and its format shows no damage. A
        file of no known format needs a known length. One that was copied from another product, or
        from another version of it, is none of this.
        """
        noted = self._noted(path)
        if noted is not None and not (noted.key == product.key and noted.is_same_version(product)):
            return False
        size = self._size_of(product)
        return _is_complete(path, size) if isinstance(path, Path) else path.is_complete(size)

    def find(self, products: Sequence[Product], given: Iterable[F]) -> dict[Product, F]:
        """Return those of some files that are complete copies of products, one of each.

        A file is told by what was noted of it, else by its name: the id of a product, with the
        suffix of a format or without. Names that begin with a dot are not looked at.
        """
        files = {path.name: path for path in given if not path.name.startswith(".")}
        found: dict[Product, F] = {}

        def take(pairs: Iterable[tuple[Product, str]]) -> None:
            for product, name in pairs:
                path = files.get(name) if product not in found else None
                if path is not None and self.is_complete_copy(product, path):
                    found[product] = files.pop(name)

        by_key = {product.key: product for product in products}
        noted = {name: note.key for name, path in files.items() if (note := self._noted(path))}
        take((by_key[key], name) for name, key in noted.items() if key in by_key)
        # Products of two data sets may have one id, which then tells nothing.
        ids = collections.Counter(product.product_id for product in dict.fromkeys(products))
        by_id = {
            product.product_id: product for product in products if ids[product.product_id] == 1
        }
        # The ids themselves first: p.nc is the copy of the product p.nc rather than of p.
        take((product, product_id) for product_id, product in by_id.items())
        take(_with_suffixes(by_id, files))
        return found

    def _noted(self, path: Path | RemoteCopy) -> Product | None:
        """Return the product that a file was copied from, if it was not changed since."""
        facts, stamp = self._notes.get(_key(path)), _stamp(path)
        if not isinstance(facts, dict) or stamp is None or facts.get("stamp") != stamp:
            return None
        try:
            return Product.from_json(facts["product"])
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def _with_suffixes(
    by_id: Mapping[str, Product], names: Iterable[str]
) -> Iterator[tuple[Product, str]]:
    """Pair products with those names that are their ids with the suffix of a format."""
    for name in list(names):
        for suffix in ALL_SUFFIXES:
            product = by_id.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
            if product is not None:
                yield product, name


def files_in(folder: Path) -> Sequence[Path]:
    """Return what lies in a local folder, by name; nothing where there is none."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _key(path: Path | RemoteCopy) -> str:
    return os.path.abspath(path) if isinstance(path, Path) else path.url  # noqa: PTH100


def _stamp(path: Path | RemoteCopy) -> Sequence[int | str] | None:
    if not isinstance(path, Path):
        return path.stamp
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _is_complete(path: Path, size: int | None) -> bool:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or size not in {None, found.st_size}:
            return False
        format_ = check_complete(path)
    except (OSError, ProductFormatError):
        # Not there, not readable, or damaged: copied anew, which then says what is wrong.
        return False
    return is_whole(format_, path.name, size)


def is_whole(format_: Format, name: str, size: int | None) -> bool:
    """Whether a file without damage is all of a product, whose length is known or is not."""
    is_told = size is not None or format_ is not Format.OTHER
    return is_told and not name_contradicts(format_, name)
