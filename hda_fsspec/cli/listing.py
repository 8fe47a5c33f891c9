"""``ls`` and ``info``: what the catalogue says of a path, and what is local.

Nothing here orders.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.first_and_last import slice_options, take
from hda_fsspec.cli.terminal import (
    echo,
    echo_block,
    echo_json,
    echo_locations,
    echo_table,
    is_terminal,
    note,
)
from hda_fsspec.errors import OfflineError, QueryError, TooManyProductsError, not_there
from hda_fsspec.paths.locations import PROTOCOL, Location
from hda_fsspec.printable import format_bytes, plural
from hda_fsspec.records import Product

if TYPE_CHECKING:
    from hda_fsspec.fs.filesystem import HDAFileSystem

_KEY = re.compile(r"[A-Za-z]\w*")
_MINUTES = len("2024-05-01T00:00")
#: What ``ls --json`` tells of a product, beside whether it is in the cache.
_FACTS = ("name", "product_id", "size", "catalogue_size", "startdate", "enddate")


@command(
    "hda-fsspec ls hda://DATASET/startdate=2024-05-01/enddate=2024-05-31",
    "hda-fsspec ls --last 10 hda://DATASET/startdate=2024-05-01/bbox=9,53,30,66",
    "hda-fsspec ls -l 'hda://DATASET/startdate=2024-05-01/*_NT_*'",
    "hda-fsspec ls --json hda://DATASET/startdate=2024-05-01 | jq '.[].size'",
)
@click.argument("path", metavar="[PATH]", default="hda://")
@click.option(
    "-l", "is_long", is_flag=True, help="a table with size, start, and whether it is cached"
)
@click.option("-1", "--paths", "is_bare", is_flag=True, help="paths alone, one a line")
@slice_options
@json_option
def ls(  # noqa: PLR0917  (click gives them by name)
    options: Options,
    path: str,
    is_long: bool,
    is_bare: bool,
    first: int | None,
    last: int | None,
    is_json: bool,
) -> None:
    """List the data sets, or the products of a query or pattern.

    A query is made of a data set and what "hda-fsspec info hda://DATASET" shows: dates (both days
    included), a box bbox=W,S,E,N in degrees, and others.

    A terminal gets a table, all else gets paths, one a line. A size with a tilde is the
    catalogue's, which may be wrong. Nothing is ordered.
    """
    location = Location.parse(path)
    found: list[dict[str, Any]] = take(options.filesystem.ls(location), first, last)
    if not found and location.pattern is not None:
        wider = shlex.quote(location.directory.path)
        msg = f"Nothing matches {location.path}. hda-fsspec ls {wider} lists what there is."
        raise not_there(msg)
    is_long = is_long or (is_terminal(sys.stdout) and not is_bare)
    is_products = bool(found) and found[0]["type"] == "file"
    if is_json:
        echo_json(_with_cached(options, found) if is_products else found)
    elif not found:
        note(f"no products in {location.path}")
    elif not is_long:
        echo_locations(*(f"{PROTOCOL}://{info['name']}" for info in found))
    elif is_products:
        _echo_products(found, _cached(options))
    else:
        head = [("DATA SET", "TITLE")] if is_terminal(sys.stdout) else []
        rows = [(info["dataset_id"], info.get("title", "")) for info in found]
        echo_table([*head, *rows], whole=[0])


@command(
    "hda-fsspec info hda://DATASET",
    "hda-fsspec info hda://DATASET pressure_level",
    "hda-fsspec info hda://DATASET/startdate=2024-05-01/enddate=2024-05-31",
    "hda-fsspec info hda://DATASET/startdate=2024-05-01/PRODUCT",
    "hda-fsspec info --json hda://DATASET/startdate=2024-05-01/PRODUCT",
)
@click.argument("path", metavar="PATH")
@click.argument("key", metavar="[KEY]", required=False)
@json_option
def info(options: Options, path: str, key: str | None, is_json: bool) -> None:
    """Show what a data set can be asked, or what is known of a path.

    Of a data set that is its keys with the values that they take, and a path to start from; with
    KEY all values of that one. Of a query it is how many products it finds, and their size. Nothing
    is ordered.
    """
    location = Location.parse(path)
    filesystem = options.filesystem
    if key is not None:
        _tell_key(filesystem, location, key, is_json=is_json)
        return
    if location == Location(location.dataset) and location.dataset is not None:
        _tell_queryables(filesystem, location, is_json=is_json)
        return
    try:
        facts: dict[str, Any] = filesystem.info(location)
    except FileNotFoundError:
        # A key of the data set stands where its products do.
        if location.query or not _is_key(filesystem, location):
            raise
        _tell_key(filesystem, location, str(location.product), is_json=is_json)
        return
    if facts["type"] == "file":
        facts = {**facts, "cached": _cached(options)(facts)}
    elif location.query:
        try:
            found = filesystem.query(location)
        except (TooManyProductsError, OfflineError) as err:
            # What is known without a search is told all the same.
            note(str(err))
        else:
            if not is_json:
                echo_block(repr(found), is_folded=True)
                return
            sizes = [product.size for product in found]
            facts |= {
                "products": len(found),
                "catalogue_size": sum(filter(None, sizes)),
                "sizes_unknown": sizes.count(None),
            }
    if is_json:
        echo_json(facts)
        return
    _tell_facts(facts)


def _tell_facts(facts: Mapping[str, Any]) -> None:
    """Show what is known of a path, a line for each fact."""
    for fact, value in facts.items():
        if fact == "name":
            echo_locations(f"path: {PROTOCOL}://{value}")
        elif fact == "properties":
            echo(*(f"{name}: {item}" for name, item in value.items()))
        elif fact in {"size", "catalogue_size"} and value:
            # As ls shows them: what the catalogue says may be wrong.
            tilde = "~" if fact == "catalogue_size" else ""
            echo(f"{fact}: {tilde}{format_bytes(value)} ({value:,} bytes)")
        elif fact == "cached":
            echo(f"cached: {_yes_or_no(is_so=value)}")
        else:
            echo(f"{fact}: {'unknown' if value is None else value}")


def _tell_queryables(filesystem: HDAFileSystem, location: Location, *, is_json: bool) -> None:
    """Show what a data set can be asked."""
    from hda_fsspec.fs.info import directory_entry

    view = filesystem.queryables(location)
    if is_json:
        echo_json({**directory_entry(location), **view.to_json()})
        return
    echo(f"dataset_id: {view.dataset_id}", *(f"{name}: {text}" for name, text in view.facts))
    echo("")
    echo_table([("KEY", "TAKES", "DEFAULT", "CHOICES OR RANGE"), *view.rows])
    shortened = [parameter.key for parameter in view.values() if parameter.is_shortened]
    if shortened:
        word = shlex.quote(f"{PROTOCOL}://{view.dataset_id}")
        echo("", f"All choices of a key: hda-fsspec info {word} {shortened[0]}")
    echo("", "Start from:")
    echo_locations(view.path)
    echo(*view.remarks)


def _is_key(filesystem: HDAFileSystem, location: Location) -> bool:
    """Whether what stands in the place of a product is a key of the data set."""
    name = location.product
    if name is None or _KEY.fullmatch(name) is None:
        return False
    return name in filesystem.queryables(location)


def _tell_key(filesystem: HDAFileSystem, location: Location, key: str, *, is_json: bool) -> None:
    """Show all that is known of one key."""
    view = filesystem.queryables(location)
    try:
        parameter = view[key]
    except KeyError as err:
        msg = f"{err.args[0]} It has: {', '.join(view)}."
        raise QueryError(msg, key=key) from err
    if is_json:
        echo_json(dataclasses.asdict(parameter))
        return
    of_its_own = "" if parameter.key == parameter.native else f" ({parameter.native})"
    echo(f"key: {parameter.key}{of_its_own}", f"takes: {parameter.type}")
    if parameter.is_list:
        echo("several values: with commas between")
    if parameter.default:
        echo(f"default: {','.join(parameter.default)}")
    if parameter.range:
        echo(f"range: {parameter.range}")
    if parameter.pattern:
        echo(f"matches: {parameter.pattern}")
    if parameter.choices:
        echo("choices:")
        for choice, title in itertools.zip_longest(
            parameter.choices, parameter.titles, fillvalue=""
        ):
            echo(f"  {choice}" + (f"  ({title})" if title not in {"", choice} else ""))


def _cached(options: Options) -> Callable[[dict[str, Any]], bool]:
    """Return what says whether a listed product is local, in its version: it asks nobody."""
    client = options.client
    broker = client.settings.endpoint_url

    def is_cached(info: dict[str, Any]) -> bool:
        listed = Product(
            info["dataset_id"],
            info["product_id"],
            size=info["catalogue_size"],
            startdate=info["startdate"],
            enddate=info["enddate"],
            updated=info["updated"],
            broker=broker,
        )
        return client.cache.lookup(listed, touch=False) is not None

    return is_cached


def _with_cached(options: Options, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    is_cached = _cached(options)
    return [{**{key: info[key] for key in _FACTS}, "cached": is_cached(info)} for info in found]


def _echo_products(
    found: Sequence[dict[str, Any]], is_cached: Callable[[dict[str, Any]], bool]
) -> None:
    cached = [is_cached(info) for info in found]
    rows = [
        (_size(info), _start(info), _yes_or_no(is_so=is_here), info["product_id"])
        for info, is_here in zip(found, cached, strict=True)
    ]
    is_folded = echo_table([("SIZE", "START", "CACHED", "PRODUCT"), *rows], right=[0])
    if is_terminal(sys.stdout):
        known = [info["size"] or info["catalogue_size"] for info in found]
        is_exact = all(info["size"] is not None for info in found)
        told = f"{'' if is_exact else '~'}{format_bytes(sum(filter(None, known)))}"
        unknown = known.count(None)
        told += f" and {unknown} of unknown size" if unknown else ""
        whole = "; ls -1 prints one path a line" if is_folded else ""
        echo(f"{plural(len(found), 'product')}, {told}, {sum(cached)} cached{whole}")


def _start(info: dict[str, Any]) -> str:
    start: str = info["startdate"] or "-"
    return start[:_MINUTES].replace("T", " ") if is_terminal(sys.stdout) else start


def _size(info: dict[str, Any]) -> str:
    """Return the size of a product; the catalogue's word, which may be wrong, gets a tilde."""
    if info["size"] is not None:
        return format_bytes(info["size"])
    told = info["catalogue_size"]
    return "-" if told is None else f"~{format_bytes(told)}"


def _yes_or_no(*, is_so: bool) -> str:
    return "yes" if is_so else "no"
