"""``get``: copies of products in a local folder, under the names that were asked for."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hda_fsspec.cli.terminal import given_settings, open_filesystem, plural, say_paths
from hda_fsspec.errors import LocationError, no_products_error, note_once
from hda_fsspec.fs.writing import explained
from hda_fsspec.paths.locations import PROTOCOL, Location

if TYPE_CHECKING:
    from hda_fsspec.fs.filesystem import HDAFileSystem


def get(args: argparse.Namespace) -> None:
    """Copy products into a folder, and print where they are."""
    fs = open_filesystem(args)
    locations, folder = _split(args.paths, given_settings(args))
    if args.delivered_names:
        say_paths(*fs.download(locations, folder))
        return
    targets = _targets(fs, locations, folder)
    if len(targets) == 1:
        [(path, target)] = targets.items()
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        fs.get_file(path, target)
    else:
        fs.get(list(targets), list(targets.values()))
    say_paths(*targets.values())


def _split(given: list[str], settings: dict[str, Any]) -> tuple[list[Location], Path]:
    """Tell the paths from the folder, which is the last one if it is no ``hda://`` path."""
    from hda_fsspec.fs.targets import local_target

    *first, last = given
    if not first or last.startswith(f"{PROTOCOL}://"):
        return [Location.parse(path) for path in given], Path()
    locations = [Location.parse(path) for path in first]
    try:
        return locations, Path(local_target(locations, last, settings=settings))
    except LocationError as err:
        options = "".join(f", {name}={value!r}" for name, value in settings.items())
        note_once(err, f"where fs is fsspec.filesystem('hda'{options}).")
        raise


def _targets(fs: HDAFileSystem, locations: list[Location], folder: Path) -> dict[str, str]:
    """Return each product's path with the local file to make of it; nothing is ordered."""
    # A product that stands in two of the queries is copied once.
    products: dict[tuple[str | None, str], Location] = {}
    for location in locations:
        for product in _products_of(fs, location):
            products.setdefault((product.dataset, product.name), product)
    names = [name for _, name in products]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        msg = (
            f"Cannot copy {plural(len(names), 'product')} to {folder}: two data sets have a "
            f"product {twice}. Get them into different folders."
        )
        raise LocationError(msg)
    return {p.path: os.fspath(folder / name) for (_, name), p in products.items()}


def _products_of(fs: HDAFileSystem, location: Location) -> list[Location]:
    if location.product is not None:
        return [location]
    if location.dataset is None:
        msg = f"Cannot copy {location.path}: it names data sets. Name a query of one of them."
        raise LocationError(msg)
    found: list[dict[str, Any]] = fs.ls(location)
    if not found:
        raise no_products_error("copy", location.path)
    return [Location.parse(info["name"]) for info in found]
