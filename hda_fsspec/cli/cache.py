"""``cache``: what the cache folder holds, whether it is sound, and how to make it smaller."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import click

from hda_fsspec.cli.commands import Options, command, command_group, json_option
from hda_fsspec.cli.terminal import (
    ask,
    echo,
    echo_json,
    echo_table,
    local_time,
    location_word,
    note,
)
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import duration, format_bytes, plural

if TYPE_CHECKING:
    from hda_fsspec.cache.cache import Cache
    from hda_fsspec.settings import Settings

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def _age(
    ctx: click.Context,  # noqa: ARG001  (click's signature)
    param: click.Parameter,  # noqa: ARG001
    value: str | None,
) -> float | None:
    """Return the seconds of ``30d``."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value.strip().lower())
    if match is None:
        msg = f"{value!r} is no age: write a number and s, m, h, d or w, such as 30d"
        raise click.BadParameter(msg)
    return float(match.group(1)) * _SECONDS[match.group(2)]


@command_group("hda-fsspec cache du", "hda-fsspec cache clear --older-than 30d")
def cache() -> None:
    """Look after the cache folder."""


def _cache(settings: Settings) -> Cache:
    from hda_fsspec.cache.cache import Cache

    return Cache(settings.cache_dir, max_bytes=settings.cache_max_bytes)


@command("hda-fsspec cache ls", group=cache)
@json_option
def ls(options: Options, is_json: bool) -> None:
    """List the products, last used first.

    Paths open with the broker that their products are of; where that is another one than the
    settings name, it is shown.
    """
    settings = options.settings
    cache = _cache(settings)
    entries = sorted(cache.entries(), key=lambda entry: entry.used_at, reverse=True)
    paths = [
        Location(entry.product.dataset_id, product=entry.product.product_id).path
        for entry in entries
    ]
    if is_json:
        found = [
            {
                "path": path,
                "product_id": entry.product.product_id,
                "dataset_id": entry.product.dataset_id,
                "endpoint_url": entry.product.broker,
                "size": entry.size,
                "used_at": entry.used_at,
                "file": str(entry.path),
            }
            for path, entry in zip(paths, entries, strict=True)
        ]
        echo_json(found)
        return
    if not entries:
        note(f"no products in {cache.root}")
        return
    others = any(entry.product.broker != settings.endpoint_url for entry in entries)
    rows = [
        (
            format_bytes(entry.size),
            local_time(entry.used_at),
            location_word(path),
            *([entry.product.broker] if others else []),
        )
        for path, entry in zip(paths, entries, strict=True)
    ]
    head = ("SIZE", "LAST USED", "PATH", *(["HDA_ENDPOINT_URL"] if others else []))
    echo_table([head, *rows], right=[0], whole=[2])


@command("hda-fsspec cache du", group=cache)
@json_option
def du(options: Options, is_json: bool) -> None:
    """Show how much the cache holds and may hold."""
    cache = _cache(options.settings)
    usage, bound = cache.usage(), cache.max_bytes
    if is_json:
        facts = {
            "folder": str(cache.root),
            "files": usage.files,
            "bytes": usage.bytes,
            "partial_bytes": usage.partial_bytes,
            "bound": bound,
        }
        echo_json(facts)
        return
    echo(
        f"folder: {cache.root}",
        f"products: {format_bytes(usage.bytes)} in {plural(usage.files, 'file')}",
        f"unfinished downloads: {format_bytes(usage.partial_bytes)}",
        f"bound: {'none' if bound is None else format_bytes(bound)}",
    )


@command("hda-fsspec cache prune --older-than 30d", group=cache)
@click.option(
    "--older-than",
    metavar="AGE",
    callback=_age,
    help="and what was not used for 30d, 12h, 2w, ...",
)
@json_option
def prune(options: Options, older_than: float | None, is_json: bool) -> None:
    """Remove what is of no use, and what is beyond the bound.

    Of no use is what interrupted downloads left that nobody took up again for a day.
    """
    cache = _cache(options.settings)
    freed = cache.prune(older_than_seconds=older_than)
    freed += sum(entry.size for entry in cache.evict())
    left = cache.usage().total_bytes
    if is_json:
        echo_json({"removed_bytes": freed, "left_bytes": left})
    else:
        echo(f"Removed {format_bytes(freed)}; {format_bytes(left)} are left.")


@command("hda-fsspec cache verify --remove", group=cache)
@click.option("--remove", is_flag=True, help="remove what is damaged")
@json_option
def verify(options: Options, remove: bool, is_json: bool) -> int:
    """Read every product again and check it.

    The exit code is 1 if one is damaged.
    """
    from hda_fsspec.formats.detect import check_complete

    cache = _cache(options.settings)
    sound = 0
    damaged: list[dict[str, Any]] = []
    for entry, fault in cache.verify(check_complete):
        if fault is None:
            sound += 1
            continue
        product = entry.product
        damaged.append(
            {
                "product_id": product.product_id,
                "dataset_id": product.dataset_id,
                "file": str(entry.path),
                "fault": str(fault),
                "removed": remove,
            }
        )
        if not is_json:
            echo(f"DAMAGED {product}: {fault}")
        if remove:
            cache.remove(entry.key)
            if not is_json:
                echo(f"  removed {entry.path}")
    if is_json:
        echo_json({"folder": str(cache.root), "sound": sound, "damaged": damaged})
    else:
        echo(f"{plural(sound, 'product')} sound, {len(damaged)} damaged, in {cache.root}")
    return 1 if damaged else 0


@command(
    "hda-fsspec cache clear --yes",
    "hda-fsspec cache clear --older-than 30d",
    group=cache,
)
@click.option("--yes", "is_sure", is_flag=True, help="do not ask")
@click.option(
    "--older-than",
    metavar="AGE",
    callback=_age,
    help="only products that were not used for 30d, 12h, 2w, ...",
)
@json_option
def clear(options: Options, is_sure: bool, older_than: float | None, is_json: bool) -> int:
    """Remove all products, headers and listings, after asking.

    With --older-than only the products that were not used for so long. Orders under way, the quota
    and accepted licences stay. The exit code is 1 if the answer is no.
    """
    from hda_fsspec.cache.metadata import MetadataStore

    cache = _cache(options.settings)
    if older_than is None:
        usage = cache.usage()
        count, size, which = usage.files, usage.total_bytes, ""
    else:
        old = [entry for entry in cache.entries() if time.time() - entry.used_at > older_than]
        count, size = len(old), sum(entry.size for entry in old)
        which = f" not used for {duration(older_than)}"
        is_sure = is_sure or not old
    what = f"{plural(count, 'product')}{which}, {format_bytes(size)}, in {cache.root}"
    if not is_sure and ask(f"Remove {what}? [y/N] ").lower() not in {"y", "yes"}:
        note("nothing was removed; --yes removes without asking")
        return 1
    if older_than is None:
        freed = cache.clear()
        MetadataStore(cache.root).forget()
    else:
        freed = cache.prune(older_than_seconds=older_than)
    if is_json:
        echo_json({"folder": str(cache.root), "removed_bytes": freed})
    else:
        echo(f"Removed {format_bytes(freed)} from {cache.root}.")
    return 0
