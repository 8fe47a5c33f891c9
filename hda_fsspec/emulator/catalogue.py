"""The catalogue of an emulator: data sets by id.

The catalogue knows what can be searched and where the bytes are; it knows no orders.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hda_fsspec.emulator.dataset_entries import DatasetEntry, ProductEntry
from hda_fsspec.emulator.loaders import datasets_of_folder, datasets_of_json
from hda_fsspec.emulator.process_lock import ProcessLock
from hda_fsspec.errors import ConfigurationError


class Catalogue:
    """Data sets by id. Products can be republished while it is served."""

    def __init__(self, datasets: Iterable[DatasetEntry] = ()) -> None:
        self._datasets = {entry.dataset_id: entry for entry in datasets}
        self._lock = ProcessLock()

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        *,
        profile: str = "day",
        datasets: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Catalogue:
        """Offer a folder: each sub-folder is a data set, named by its id, each file a product.

        In a folder's name ``%3A`` may stand for a colon. A folder inside that ends in .SEN3 or
        .SAFE is a product, too. ``datasets`` maps ids to keywords of :class:`DatasetEntry`, to
        ``profile``, and to ``product``: keywords of every :class:`ProductEntry`.
        """
        return cls(datasets_of_folder(Path(path), profile=profile, overrides=datasets or {}))

    @classmethod
    def from_json(cls, path: str | Path) -> Catalogue:
        """Offer what a JSON file lists; relative files are relative to it."""
        return cls(datasets_of_json(Path(path)))

    def __iter__(self) -> Iterator[DatasetEntry]:
        return iter(list(self._datasets.values()))

    def __len__(self) -> int:
        return len(self._datasets)

    def get(self, dataset_id: str) -> DatasetEntry | None:
        """Return a data set, None if there is none of this id."""
        return self._datasets.get(dataset_id)

    def product(self, dataset_id: str, product_id: str) -> ProductEntry | None:
        """Return a product, None if there is none of these ids."""
        dataset = self.get(dataset_id)
        return None if dataset is None else dataset.by_id.get(product_id)

    def replace(self, dataset_id: str, product_id: str, /, **changes: Any) -> ProductEntry:
        """Replace fields of a product and return it; the order of products stays by time."""
        with self._lock:
            dataset = self._datasets.get(dataset_id)
            products = () if dataset is None else dataset.products
            product = next((p for p in products if p.product_id == product_id), None)
            if dataset is None or product is None:
                msg = f"The emulator cannot republish {product_id} of {dataset_id}: not offered."
                raise ConfigurationError(msg)
            new = dataclasses.replace(product, **changes)
            others = [p for p in products if p.product_id != product_id]
            # Ids have lost their suffix already, if they should.
            self._datasets[dataset_id] = dataclasses.replace(
                dataset, products=[*others, new], ids_with_suffix=True
            )
            return new
