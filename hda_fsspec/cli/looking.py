"""``ls`` and ``info``: what the catalogue says of a path. Nothing here orders."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from hda_fsspec.cli.terminal import (
    format_bytes,
    open_filesystem,
    remark,
    say,
    say_json,
    say_locations,
    say_table,
)
from hda_fsspec.errors import not_there
from hda_fsspec.paths.locations import PROTOCOL, Location


def ls(args: argparse.Namespace) -> None:
    """List what is below a path, as paths to be used again or as a table to be read."""
    location = Location.parse(args.path)
    found: list[dict[str, Any]] = open_filesystem(args).ls(location)
    if not found and location.pattern is not None:
        wider = shlex.quote(location.directory.path)
        msg = f"Nothing matches {location.path}. hda-fsspec ls {wider} lists what there is."
        raise not_there(msg)
    if not found:
        remark(f"no products in {location.path}")
    elif not args.is_long:
        say_locations(*(f"{PROTOCOL}://{info['name']}" for info in found))
    elif found[0]["type"] == "directory":
        say_table([(info["dataset_id"], info.get("title", "")) for info in found])
    else:
        rows = [(_size(info), info["startdate"] or "-", info["product_id"]) for info in found]
        say_table([("SIZE", "START", "PRODUCT"), *rows], right=[0])


def info(args: argparse.Namespace) -> None:
    """Show what is known of one path."""
    facts = open_filesystem(args).info(Location.parse(args.path))
    if args.json:
        say_json(facts)
        return
    for key, value in facts.items():
        if key == "name":
            say_locations(f"path: {PROTOCOL}://{value}")
        elif key == "properties":
            say(*(f"{name}: {one}" for name, one in value.items()))
        else:
            say(f"{key}: {'unknown' if value is None else value}")


def _size(info: dict[str, Any]) -> str:
    """Return the size of a product; the catalogue's word, which may be wrong, gets a tilde."""
    if info["size"] is not None:
        return format_bytes(info["size"])
    told = info["catalogue_size"]
    return "-" if told is None else f"~{format_bytes(told)}"
