"""Translation between locations and fsspec: names, entries, and paths that cannot be opened.

Pure translation between :class:`Location`, :class:`Product` and fsspec's dictionaries; what the
service holds is asked of :class:`Client`.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from hda_fsspec.errors import LocationError, no_products_error
from hda_fsspec.paths.locations import PROTOCOL, AnyPath, Location, is_remote_path
from hda_fsspec.records import Product, parse_time

if TYPE_CHECKING:
    from hda_fsspec.client import Client


class PathsOfView(Protocol):
    """A view of a query, as far as its paths are asked for."""

    @property
    def paths(self) -> list[str]:
        """The paths of its products."""


Paths = AnyPath | Iterable[AnyPath] | PathsOfView

#: Storage options that are the filesystem's own, and no settings.
FILESYSTEM_OPTIONS = frozenset(
    {"use_listings_cache", "asynchronous", "loop", "batch_size", "skip_instance_cache"}
)

_PREFIX = f"{PROTOCOL}://"
_PORT_BY_CHANCE = re.compile(r"\Ahttp://127\.0\.0\.1:\d+(?=/emulator-[0-9a-f]{16}/)")
_IDENTITY = ("dataset_id", "product_id", "catalogue_size", "startdate", "enddate", "updated")


def name_of(location: Location) -> str:
    """Return a path as fsspec names it, without protocol."""
    return location.path.removeprefix(_PREFIX)


def to_strings(paths: Any) -> Any:
    """Return paths as strings, in a list if there are several: fsspec knows no other ones."""
    if isinstance(paths, str):  # as it is, since a slash at its end means something
        return paths
    if is_one_path(paths):
        return Location.parse(paths).path
    return [to_strings(path) for path in list_of(paths)]


def list_of(paths: Any) -> list[Any]:
    """Return the paths that one argument holds, each as it was given; of a view, its products'."""
    if is_one_path(paths):
        return [paths]
    return list(getattr(paths, "paths", paths))


def is_one_path(paths: Any) -> bool:
    """Whether a value is one path, and not several of them."""
    is_path = isinstance(paths, (str, bytes, Location, os.PathLike, io.IOBase))
    return is_path or is_remote_path(paths) or not isinstance(paths, Iterable)


def product_name(paths: Any) -> str | None:
    """Return the last part of a path that names one product; None for all other paths."""
    location = Location.parse(paths) if is_one_path(paths) else None
    return None if location is None or location.product is None else location.name


def list_infos(
    client: Client, location: Location, *, refresh: bool = False
) -> list[dict[str, Any]]:
    """Return what is below a location, or matches it, as fsspec's dictionaries."""
    if location.dataset is None:
        every = client.datasets(refresh=refresh)
        wanted = (d for d in every if location.pattern is None or location.matches(d.dataset_id))
        return [directory_entry(Location(d.dataset_id), title=d.title) for d in wanted]
    if location.product is not None:
        found = [client.product(location, refresh=refresh)]
    else:
        found = client.search(location, refresh=refresh)
    paths = location.paths_of(product.product_id for product in found)
    origin = client.catalogue.origin(location)
    more = {} if origin is None else {"origin": origin}
    return [
        {**_file_entry(path, product, size), **more}
        for path, product, size in zip(paths, found, client.sizes(found), strict=True)
    ]


def directory_entry(location: Location, **more: str) -> dict[str, Any]:
    """Return the dictionary of a directory."""
    told = {"dataset_id": location.dataset} if location.dataset else {}
    return {"name": name_of(location), "size": 0, "type": "directory", **told, **more}


def _file_entry(path: str, product: Product, size: int | None) -> dict[str, Any]:
    return {
        "name": path.removeprefix(_PREFIX),
        "size": size,
        "type": "file",
        "product_id": product.product_id,
        "dataset_id": product.dataset_id,
        "startdate": product.startdate,
        "enddate": product.enddate,
        "updated": product.updated,
        "catalogue_size": product.size,
        "properties": dict(product.properties),
    }


def date_of(entry: dict[str, Any], *keys: str) -> datetime:
    """Return the first of some dates that an entry has; raises NotImplementedError for none."""
    for key in keys:
        if entry.get(key):
            return parse_time(entry[key])
    msg = f"The catalogue tells no {' and no '.join(keys)} of {entry['name']}."
    raise NotImplementedError(msg)


def identity_of(entry: dict[str, Any], *, broker: str) -> str:
    """Return a hash of what an entry of a broker is, and of its version as the catalogue has it.

    The true length is left out: it gets known when a product is fetched, which changes nothing.
    """
    # An emulator's address names what it offers; which port it got says nothing.
    facts = [_PORT_BY_CHANCE.sub("", broker), *(entry.get(key) for key in _IDENTITY)]
    if entry["type"] == "directory":
        facts.append(entry["name"])
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def products_of(client: Client, paths: Paths) -> list[Product]:
    """Return the products that paths, queries and patterns mean, in order.

    Raises
    ------
    FileNotFoundError
        A query or pattern finds nothing, or a product is not there.
    LocationError
        A path is that of all data sets.
    """
    expanded: list[Product] = []
    for location in map(Location.parse, list_of(paths)):
        if location.product is not None:
            expanded.append(client.product_to_open(location))
            continue
        refuse_root(location, None)
        found = client.search(location)
        if not found:
            raise no_products_error("fetch", location.path)
        expanded += found
    return expanded


def product_to_open(client: Client, location: Location) -> Product:
    """Return the record of a product that will be read; raises OSError if it is none."""
    if location.pattern is not None:
        raise pattern_is_no_path(location)
    if location.product is None:
        _refuse_directory(location)
    return client.product_to_open(location)


def pattern_is_no_path(location: Location) -> FileNotFoundError:
    """Return the error for a pattern where one path is meant."""
    msg = f"There is no file {location.path}: it is a pattern. fs.glob expands it."
    return FileNotFoundError(errno.ENOENT, msg)


def refuse_root(location: Location, maxdepth: int | None) -> None:
    """Raise LocationError for a walk through all data sets."""
    if location.dataset is None and maxdepth != 1:
        msg = (
            "Going through hda:// itself would search every data set of the service. Start at a "
            "data set or a query; fs.ls('hda://') lists the data sets."
        )
        raise LocationError(msg)


def _refuse_directory(location: Location) -> NoReturn:
    msg = (
        f"Cannot open {location.path} as a file: it is a directory. fs.ls lists its products; "
        "fs.get, fs.download and fs.prefetch fetch them all."
    )
    raise IsADirectoryError(errno.EISDIR, msg)
