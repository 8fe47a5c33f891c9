"""Small facts that outlive a process: listings, headers, accepted licences.

A note is one file, written whole or not at all, and read tolerantly: what is missing or garbled
is not known, and asked again. Notes know nothing of the service, and hold no secrets.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hda_fsspec.cache.folder import CANNOT_KEEP_ERRNOS, Folder, dump_json, json_or_none
from hda_fsspec.cache.product_entries import among
from hda_fsspec.cache.product_lengths import KnownSizes
from hda_fsspec.records import Product
from hda_fsspec.untrusted_files import files_in, names_in, read_all, tell_once

logger = logging.getLogger("hda_fsspec")

_SUFFIX = ".note"


@dataclasses.dataclass(eq=False, repr=False)
class JsonStore:
    """Notes of one kind, each under a name.

    Parameters
    ----------
    root : Path
        The cache folder.
    kind : str
        The sub-folder of ``v1`` that holds them.
    clock : callable
        The time in seconds since 1970.
    is_own : bool
        Whether only what this user wrote is believed, for what concerns files outside of the cache.
    is_plain : bool
        Whether names are such as files may have, so that they can be listed: no more than letters,
        digits and dots.
    """

    root: Path
    kind: str
    clock: Callable[[], float] = time.time
    is_own: bool = False
    is_plain: bool = False

    def __post_init__(self) -> None:
        self._folder = Folder(Path(self.root))

    def get(self, name: str, *, max_age_seconds: float | None = None) -> Any:
        """Return the value of a note; None if there is none, or none as young as that."""
        data = self.get_bytes(name, max_age_seconds=max_age_seconds)
        return None if data is None else json_or_none(data)

    def get_bytes(self, name: str, *, max_age_seconds: float | None = None) -> bytes | None:
        """Return the content of a note that was put as bytes."""
        if not self._folder.is_present():
            return None
        inside = self._inside(name)
        # A hundred thousand are asked for in a row, and most are not there, which one call tells.
        if not os.path.lexists(f"{self._folder.fspath}/{inside}"):
            return None
        path = self._folder.path / inside
        try:
            with os.fdopen(self._folder.open(path), "rb") as handle:
                facts = os.fstat(handle.fileno())
                # One from the future is no younger: a clock was wrong, now or then.
                age_seconds = abs(self.clock() - facts.st_mtime)
                is_old = max_age_seconds is not None and age_seconds > max_age_seconds
                if is_old or (self.is_own and not self._folder.is_own(facts, path.parent)):
                    return None
                return read_all(handle, path)
        except OSError as err:
            # Missing, a colleague's private one, or no file: in all cases not known here.
            tell_once(err)
            return None

    def values(self) -> Iterator[Any]:
        """Go through the values of all notes, in no particular order."""
        if self._folder.is_present():
            for path in self._all():
                with contextlib.suppress(OSError):  # forgotten just now, or a colleague's own
                    yield json_or_none(self._folder.read(path))

    def put(self, name: str, value: Any) -> None:
        """Keep a JSON value under a name, in place of what was there."""
        self.put_bytes(name, dump_json(value))

    def put_bytes(self, name: str, data: bytes) -> None:
        """Keep bytes under a name, in place of what was there.

        A folder that is read-only or full loses the note, and says so once in the log.
        """
        # A note saves a request later on; the work at hand can go on without it.
        with self._folder.losing(f"Facts of the kind {self.kind!r}"):
            self._folder.prepare()
            self._folder.write(self._path(name), data, modified_at=self.clock())

    def delete(self, name: str) -> None:
        """Forget a note; nothing happens if there is none."""
        try:
            self._folder.unlink(self._path(name))
        except OSError as err:
            if err.errno not in CANNOT_KEEP_ERRNOS:
                raise
            # It will be outdated when it is next read, as it would be without a cache folder.
            logger.debug("The note %s cannot be removed: %s", name, err)

    def clear(self) -> None:
        """Forget all notes."""
        for path in self._all():
            self._folder.unlink(path)

    def _path(self, name: str) -> Path:
        return self._folder.path / self._inside(name)

    def _inside(self, name: str) -> str:
        """Return the path of a note within the folder ``v1``."""
        if not self.is_plain:
            name = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
        # In few folders: one of a note takes longer to be made than the note to be written.
        return f"{self.kind}/{name[:1]}/{name}{_SUFFIX}"

    def names(self) -> Iterator[str]:
        """Go through the names of all notes, where they are plain; none of them is opened."""
        if self._folder.is_present():
            for _, inside in self._folder.subfolders(self._folder.path / self.kind):
                for name in names_in(inside):
                    if name.endswith(_SUFFIX):
                        yield name.removesuffix(_SUFFIX)

    def _all(self) -> list[Path]:
        return [
            folder / name
            for folder, inside in self._folder.subfolders(self._folder.path / self.kind)
            for name, _ in files_in(inside)
            if name.endswith(_SUFFIX)
        ]


class MetadataStore:
    """All notes of a cache folder.

    Attributes
    ----------
    listings : JsonStore
        Answers of the catalogue, under names of the caller's choice.
    lengths : KnownSizes
        True lengths of products.
    subsets : JsonStore
        What was learned of data sets that the service computes, under names of the caller's choice.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.listings = JsonStore(root, "listings", clock=clock)
        self.lengths = KnownSizes(root)
        self.subsets = JsonStore(root, "subsets", clock=clock)
        self._headers = JsonStore(root, "headers", clock=clock, is_plain=True)
        self._terms = JsonStore(root, "terms", clock=clock)

    def header(self, product: Product) -> bytes | None:
        """Return what was kept of this version of a product to describe it without its file."""
        return self._headers.get_bytes(_header_name(product))

    def with_header(self, products: Sequence[Product]) -> list[int]:
        """Return which of some products, by their numbers, a description may be kept of."""
        return among(products, lambda: (n.partition(".")[0] for n in self._headers.names()))

    def put_header(self, product: Product, header: bytes) -> None:
        """Keep a description of a product; it survives the eviction of the file."""
        self._headers.put_bytes(_header_name(product), header)

    def forget(self) -> None:
        """Forget listings, headers and subsets: they are asked for again when they are needed.

        Accepted licences are kept: they are no copies of something.
        """
        self.listings.clear()
        self.subsets.clear()
        self._headers.clear()

    def accepted_terms(self, account: str) -> frozenset[str]:
        """Return the licences that the account is known to have accepted."""
        value = self._terms.get(account)
        return frozenset(str(term) for term in value) if isinstance(value, list) else frozenset()

    def add_accepted_terms(self, account: str, terms: Iterable[str]) -> None:
        """Note that the account accepted licences; there is no note of what is not accepted."""
        known = self.accepted_terms(account)
        # If two processes add at once one addition may be lost, which costs a request later on.
        if not known.issuperset(terms := frozenset(terms)):
            self._terms.put(account, sorted(known | terms))


def _header_name(product: Product) -> str:
    return f"{product.key}.{product.version_tag}"
