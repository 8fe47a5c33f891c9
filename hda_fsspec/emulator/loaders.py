"""Catalogues from a folder of files, or from a JSON file.

It reads descriptions and makes entries of them; it opens no product.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hda_fsspec.emulator.content import ARCHIVED_SUFFIXES
from hda_fsspec.emulator.dataset_entries import DatasetEntry, ProductEntry
from hda_fsspec.emulator.jobs.ecmwf import EcmwfSubset, ecmwf_subset
from hda_fsspec.emulator.jobs.marine import MarineSubset, marine_subset
from hda_fsspec.emulator.profiles import interval, nominal_times
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.records import format_time

_DATASET_KEYS = {field.name for field in dataclasses.fields(DatasetEntry)} - {
    "dataset_id",
    "products",
}
_PRODUCT_KEYS = {field.name for field in dataclasses.fields(ProductEntry)} - {
    "product_id",
    "source",
}


#: Subset data sets by the manner that a description names.
_MANNERS: dict[str, tuple[type[DatasetEntry], Callable[..., DatasetEntry]]] = {
    "marine": (MarineSubset, marine_subset),
    "ecmwf": (EcmwfSubset, ecmwf_subset),
}


def dated_product(
    product_id: str, source: Path | bytes, *, profile: str = "day", **fields: Any
) -> ProductEntry:
    """Return a product whose catalogue times follow from its name and a profile.

    ``fields`` go to :class:`ProductEntry`; dates among them win over the profile.
    """
    start, end = interval(profile, *nominal_times(product_id), seed_text=product_id)
    if profile == "nominal+publication":
        fields.setdefault("publication", format_time(end))
    fields.setdefault("startdate", format_time(start))
    fields.setdefault("enddate", format_time(end))
    return ProductEntry(product_id, source, **fields)


def datasets_of_folder(
    folder: Path, *, profile: str, overrides: Mapping[str, Mapping[str, Any]]
) -> list[DatasetEntry]:
    """Return a data set for each sub-folder of a folder."""
    if not folder.is_dir():
        msg = f"The emulator cannot serve {folder}: it is not a folder."
        raise ConfigurationError(msg)
    found = {
        unquote(path.name): path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }
    unknown = sorted(set(overrides) - set(found))
    if unknown or not found:
        what = f"it has no sub-folder {unknown[0]}" if unknown else "it has no sub-folders"
        msg = f"The emulator cannot serve {folder}: {what}; each one is a data set named by its id."
        raise ConfigurationError(msg)
    return [
        _dataset_of_folder(dataset_id, path, {"profile": profile, **overrides.get(dataset_id, {})})
        for dataset_id, path in found.items()
    ]


def _dataset_of_folder(dataset_id: str, folder: Path, given: dict[str, Any]) -> DatasetEntry:
    profile = given.pop("profile")
    fields = dict(given.pop("product", {}))
    _check_keys(dataset_id, given, _DATASET_KEYS | {"profile", "product"})
    _check_keys(dataset_id, fields, _PRODUCT_KEYS)
    products = [
        dated_product(path.name, path, profile=profile, **fields)
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and (path.is_file() or _is_archive_folder(path))
    ]
    return DatasetEntry(dataset_id, products, **given)


def _is_archive_folder(path: Path) -> bool:
    return path.is_dir() and path.name.endswith(ARCHIVED_SUFFIXES)


def datasets_of_json(path: Path) -> list[DatasetEntry]:
    """Return the data sets which a JSON file lists."""
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        listed = described["datasets"]
        return [_dataset_of_json(path, dict(entry)) for entry in listed]
    except (OSError, ValueError, KeyError, TypeError) as err:
        if isinstance(err, ConfigurationError):
            raise
        msg = f"The emulator cannot read the catalogue {path}: {type(err).__name__}: {err}"
        raise ConfigurationError(msg) from err


def _dataset_of_json(path: Path, given: dict[str, Any]) -> DatasetEntry:
    dataset_id = given.pop("dataset_id")
    if given.get("date_keys"):
        given["date_keys"] = tuple(given["date_keys"])
    if "subset" in given:
        return _subset_of_json(path, dataset_id, given)
    profile = given.pop("profile", "day")
    products = [
        _product_of_json(path, dataset_id, profile, dict(entry))
        for entry in given.pop("products", [])
    ]
    _check_keys(dataset_id, given, _DATASET_KEYS | {"profile", "products"})
    return DatasetEntry(dataset_id, products, **given)


def _subset_of_json(path: Path, dataset_id: str, given: dict[str, Any]) -> DatasetEntry:
    manner = given.pop("subset")
    if manner not in _MANNERS:
        msg = f"The catalogue {path} has subset={manner!r}: use {' or '.join(_MANNERS)}."
        raise ConfigurationError(msg)
    kind, make = _MANNERS[manner]
    source = _file_of_json(path, given)
    fields = {field.name for field in dataclasses.fields(kind) if field.init}
    _check_keys(dataset_id, given, fields - {"dataset_id", "products", "source"})
    return make(dataset_id, source, **given)


def _product_of_json(
    path: Path, dataset_id: str, profile: str, given: dict[str, Any]
) -> ProductEntry:
    source = _file_of_json(path, given)
    product_id = given.pop("product_id", source.name)
    _check_keys(dataset_id, given, _PRODUCT_KEYS | {"file", "product_id"})
    if "bbox" in given:
        given["bbox"] = tuple(given["bbox"])
    return dated_product(product_id, source, profile=profile, **given)


def _file_of_json(path: Path, given: dict[str, Any]) -> Path:
    source = path.parent / str(given.pop("file"))
    if not source.exists():
        msg = f"The catalogue {path} lists {source}, which is not there."
        raise ConfigurationError(msg)
    return source


def _check_keys(dataset_id: str, given: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        msg = (
            f"The catalogue entry of {dataset_id} has an unknown key {unknown[0]!r}: "
            f"use {', '.join(sorted(known))}."
        )
        raise ConfigurationError(msg)
