"""``get``: copies of products in a local folder, under the names that were asked for."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.terminal import echo_json, echo_paths, is_terminal
from hda_fsspec.errors import LocationError, no_products_error, note_once
from hda_fsspec.paths.locations import PROTOCOL, Location
from hda_fsspec.printable import plural

if TYPE_CHECKING:
    from hda_fsspec.fs.filesystem import HDAFileSystem


@command(
    "hda-fsspec get hda://DATASET/startdate=2024-05-01/enddate=2024-05-31 data/",
    "hda-fsspec get hda://DATASET/startdate=2024-05-01/PRODUCT",
    "hda-fsspec get --delivered-names 'hda://DATASET/startdate=2024-05-01/*_NT_*' data/",
)
@click.argument("paths", metavar="PATH... [FOLDER]", nargs=-1, required=True)
@click.option(
    "--delivered-names",
    "is_delivered",
    is_flag=True,
    help="name files as the service delivers them, not by product id",
)
@json_option
def get(options: Options, paths: Sequence[str], is_delivered: bool, is_json: bool) -> None:
    """Copy products into a folder, and print the paths of the copies.

    The words are products, queries and patterns, then a local folder, by default this one. What is
    not local is ordered, many at a time; a file appears when it is complete. A terminal sees how
    far each file is.
    """
    fs = options.filesystem
    locations, folder = _split(list(paths), options.given)
    if is_delivered:
        with _progress(options) as callback:
            done: list[str] = fs.download(locations, folder, **callback)
    else:
        targets = _targets(fs, locations, folder)
        done = list(targets.values())
        with _progress(options) as callback:
            _get(fs, targets, folder, callback)
    if is_json:
        echo_json(done)
    else:
        echo_paths(*done)


def _get(
    fs: HDAFileSystem, targets: dict[str, str], folder: Path, callback: dict[str, Any]
) -> None:
    from hda_fsspec.fs.writing import explained

    if len(targets) > 1:
        fs.get(list(targets), list(targets.values()), **callback)
        return
    [(path, target)] = targets.items()
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not callback:
        fs.get_file(path, target)
        return
    bars = callback["callback"]
    bars.set_size(1)
    with bars.branched(path, target) as bar:
        fs.get_file(path, target, callback=bar)


@contextlib.contextmanager
def _progress(options: Options) -> Iterator[dict[str, Any]]:
    """Show progress bars if somebody looks; give what tells them as a keyword argument, or none.

    Where there are none the filesystem itself says what is waited for.
    """
    if options.is_debug or not is_terminal(sys.stderr) or not options.settings.progress:
        yield {}
        return
    from hda_fsspec.cli.progress import Bars, console_of
    from hda_fsspec.client import quietly

    console = console_of(sys.stderr)
    if console.is_dumb_terminal:  # which can take back nothing that was drawn
        yield {}
        return
    with quietly(), Bars(options.client.quota, console) as bars:
        yield {"callback": bars}


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
