"""``get``: copies of products in a folder or a bucket, under the names that were asked for."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.first_and_last import slice_options, take
from hda_fsspec.cli.terminal import echo_json, echo_paths, is_terminal
from hda_fsspec.errors import LocationError, no_products_error
from hda_fsspec.paths.locations import PROTOCOL, Location
from hda_fsspec.printable import plural

if TYPE_CHECKING:
    from hda_fsspec.fs.filesystem import HDAFileSystem


@command(
    "hda-fsspec get hda://DATASET/startdate=2024-05-01/enddate=2024-05-31 data/",
    "hda-fsspec get --last 10 hda://DATASET/startdate=2024-05-01 data/",
    "hda-fsspec get hda://DATASET/startdate=2024-05-01/PRODUCT",
    "hda-fsspec get --delivered-names 'hda://DATASET/startdate=2024-05-01/*_NT_*' data/",
    "hda-fsspec get --skip-existing hda://DATASET/startdate=2024-05-01 s3://bucket/prefix/",
)
@click.argument("paths", metavar="PATH... [FOLDER|URL]", nargs=-1, required=True)
@click.option(
    "--delivered-names",
    "is_delivered",
    is_flag=True,
    help="name files as the service delivers them, not by product id; so it is in a bucket",
)
@click.option(
    "--skip-existing", "is_skipping", is_flag=True, help="leave complete copies there alone"
)
@click.option(
    "--target-option",
    "target_options",
    metavar="NAME=VALUE",
    multiple=True,
    help="of the filesystem of a URL, such as profile=mine; a VALUE may be JSON; repeatable",
)
@slice_options
@json_option
def get(
    options: Options,
    paths: Sequence[str],
    *,
    first: int | None,
    last: int | None,
    is_delivered: bool,
    is_skipping: bool,
    target_options: Sequence[str],
    is_json: bool,
) -> None:
    """Copy products into a folder or a bucket.

    The words are products, queries and patterns, then a local folder, by default this one, or the
    address of a folder elsewhere. What is not local is ordered, many at a time; a file appears when
    it is complete. A terminal sees how far each file is. The paths of the copies are printed.
    """
    fs = options.filesystem
    locations, folder = _split(list(paths))
    if not isinstance(folder, Path):
        from hda_fsspec.fetching.remote_folder import RemoteFolder

        RemoteFolder(folder, _options_of(target_options))  # refused before anything is listed
    if first is not None or last is not None:
        found = [info for location in locations for info in _listed(fs, location)]
        locations = [Location.parse(info["name"]) for info in take(found, first, last)]
    if is_delivered or target_options or not isinstance(folder, Path):
        with _progress(options) as callback:
            done: list[str] = fs.download(
                locations,
                folder,
                skip_existing=is_skipping,
                target_options=_options_of(target_options),
                **callback,
            )
    else:
        targets = _targets(fs, locations, folder)
        done = list(targets.values())
        with _progress(options) as callback:
            _get(fs, targets, folder, callback, skip_existing=is_skipping)
    if is_json:
        echo_json(done)
    else:
        echo_paths(*done)


def _get(
    fs: HDAFileSystem,
    targets: dict[str, str],
    folder: Path,
    callback: dict[str, Any],
    *,
    skip_existing: bool,
) -> None:
    from hda_fsspec.fs.write_errors import explained

    if len(targets) > 1:
        fs.get(list(targets), list(targets.values()), skip_existing=skip_existing, **callback)
        return
    [(path, target)] = targets.items()
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not callback:
        fs.get_file(path, target, skip_existing=skip_existing)
        return
    bars = callback["callback"]
    bars.set_size(1)
    with bars.branched(path, target) as bar:
        fs.get_file(path, target, callback=bar, skip_existing=skip_existing)


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


def _split(given: list[str]) -> tuple[list[Location], Path | str]:
    """Tell the paths from the target, which is the last one if it is no ``hda://`` path.

    A Path is a local folder, and text is the address of another one.
    """
    from hda_fsspec.fs.targets import local_target
    from hda_fsspec.localpaths import remote_scheme

    *first, last = given
    if first and last.startswith(f"{PROTOCOL}://") and _is_folder(first[0]):
        msg = f"{first[0]!r} is a folder, and the folder goes last: get {last} {first[0]}"
        raise LocationError(msg)
    if not first or last.startswith(f"{PROTOCOL}://"):
        return [Location.parse(path) for path in given], Path()
    locations = [Location.parse(path) for path in first]
    is_local = remote_scheme(last) is None
    return locations, Path(local_target(locations, last)) if is_local else last


def _is_folder(word: str) -> bool:
    """Whether a word is the place of copies rather than a path of products."""
    from hda_fsspec.localpaths import remote_scheme

    if word.startswith(f"{PROTOCOL}://"):
        return False
    is_path = word.startswith((".", "/", "~")) or word.endswith("/")
    return is_path or Path(word).is_dir() or remote_scheme(word) is not None


def _options_of(given: Sequence[str]) -> dict[str, Any]:
    """Return storage options by their names; a value that is no JSON is text."""
    found: dict[str, Any] = {}
    for option in given:
        name, equals, value = option.partition("=")
        if not (name and equals):
            msg = f"{option!r} is no NAME=VALUE"
            raise click.BadParameter(msg, param_hint="--target-option")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


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
    return [Location.parse(info["name"]) for info in _listed(fs, location)]


def _listed(fs: HDAFileSystem, location: Location) -> list[dict[str, Any]]:
    if location.dataset is None:
        msg = f"Cannot copy {location.path}: it names data sets. Name a query of one of them."
        raise LocationError(msg)
    found: list[dict[str, Any]] = fs.ls(location)
    if not found:
        raise no_products_error("copy", location.path)
    return found
