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

from hda_fsspec.cache.metadata import JsonStore
from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import ALL_SUFFIXES, Format, check_complete, name_contradicts
from hda_fsspec.records import Product


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

    def note(self, product: Product, path: Path) -> None:
        """Note that a file was copied from a product."""
        facts = {"product": product.to_json(), "stamp": _stamp(path)}
        self._notes.put(os.path.abspath(path), facts)  # noqa: PTH100  (not resolved)

    def is_ours(self, path: Path) -> bool:
        """Whether a file was copied from a product, as it was noted, and nobody changed it since.

        A link to such a file is none.
        """
        try:
            is_file = stat.S_ISREG(path.lstat().st_mode)
        except OSError:
            return False
        return is_file and self._noted(path) is not None

    def is_complete_copy(self, product: Product, path: Path) -> bool:
        """Whether a file is all of a product, as far as can be told without ordering it.

        It has the length of the product where that is known, and its format shows no damage. A
        file of no known format needs a known length. One that was copied from another product, or
        from another version of it, is none of this.
        """
        noted = self._noted(path)
        if noted is not None and not (noted.key == product.key and noted.is_same_version(product)):
            return False
        return _is_complete(path, self._size_of(product))

    def find(self, products: Sequence[Product], folder: Path) -> dict[Product, Path]:
        """Return the complete copies of products that lie in a folder; one file is of one product.

        A file is told by what was noted of it, else by its name: the id of a product, with the
        suffix of a format or without. Names that begin with a dot are not looked at.
        """
        files = {path.name: path for path in _files_in(folder)}
        found: dict[Product, Path] = {}

        def take(pairs: Iterable[tuple[Product, str]]) -> None:
            for product, name in pairs:
                path = files.get(name) if product not in found else None
                if path is not None and self.is_complete_copy(product, path):
                    found[product] = files.pop(name)

        by_key = {product.key: product for product in products}
        noted = {name: one.key for name, path in files.items() if (one := self._noted(path))}
        take((by_key[key], name) for name, key in noted.items() if key in by_key)
        # Products of two data sets may have one id, which then tells nothing.
        ids = collections.Counter(product.product_id for product in dict.fromkeys(products))
        by_id = {one.product_id: one for one in products if ids[one.product_id] == 1}
        # The ids themselves first: p.nc is the copy of the product p.nc rather than of p.
        take((product, product_id) for product_id, product in by_id.items())
        take(_with_suffixes(by_id, files))
        return found

    def _noted(self, path: Path) -> Product | None:
        """Return the product that a file was copied from, if it was not changed since."""
        facts = self._notes.get(os.path.abspath(path))  # noqa: PTH100  (not resolved)
        if not isinstance(facts, dict) or facts.get("stamp") != _stamp(path):
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


def _files_in(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if not path.name.startswith("."):
                yield path


def _stamp(path: Path) -> list[int] | None:
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
    is_told = size is not None or format_ is not Format.OTHER
    return is_told and not name_contradicts(format_, path.name)
