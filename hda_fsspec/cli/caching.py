"""``cache``: what the cache folder holds, whether it is sound, and how to make it smaller."""

from __future__ import annotations

import argparse

from hda_fsspec.cache.cache import Cache
from hda_fsspec.cache.metadata import MetadataStore
from hda_fsspec.cli.terminal import (
    ask,
    format_bytes,
    local_time,
    location_word,
    plural,
    remark,
    resolve_settings,
    say,
    say_table,
)
from hda_fsspec.paths.locations import Location


def _cache(args: argparse.Namespace) -> Cache:
    settings = resolve_settings(args)
    return Cache(settings.cache_dir, max_bytes=settings.cache_max_bytes)


def ls(args: argparse.Namespace) -> None:
    """List the products in the cache, the one that was used last first.

    Paths open with the broker that their products are of; where that is another one than the
    settings name, it is shown.
    """
    cache = _cache(args)
    mine = resolve_settings(args).endpoint_url
    entries = sorted(cache.entries(), key=lambda entry: entry.used_at, reverse=True)
    if not entries:
        remark(f"no products in {cache.root}")
        return
    others = any(entry.product.broker != mine for entry in entries)
    rows = [
        (
            format_bytes(entry.size),
            local_time(entry.used_at),
            location_word(
                Location(entry.product.dataset_id, product=entry.product.product_id).path
            ),
            *([entry.product.broker] if others else []),
        )
        for entry in entries
    ]
    head = ("SIZE", "LAST USED", "PATH", *(["HDA_ENDPOINT_URL"] if others else []))
    say_table([head, *rows], right=[0], whole=[2])


def du(args: argparse.Namespace) -> None:
    """Show how much the cache holds, and how much it may hold."""
    cache = _cache(args)
    usage, bound = cache.usage(), cache.max_bytes
    say(
        f"folder: {cache.root}",
        f"products: {format_bytes(usage.bytes)} in {plural(usage.files, 'file')}",
        f"unfinished downloads: {format_bytes(usage.partial_bytes)}",
        f"bound: {'none' if bound is None else format_bytes(bound)}",
    )


def prune(args: argparse.Namespace) -> None:
    """Remove what is of no use, what is old, and what is beyond the bound."""
    cache = _cache(args)
    freed = cache.prune(older_than_seconds=args.older_than)
    freed += sum(entry.size for entry in cache.evict())
    say(f"Removed {format_bytes(freed)}; {format_bytes(cache.usage().total_bytes)} are left.")


def verify(args: argparse.Namespace) -> int:
    """Read all products again; exit code 1 if one is damaged."""
    from hda_fsspec.formats.detect import check_complete

    cache = _cache(args)
    sound = damaged = 0
    for entry, fault in cache.verify(check_complete):
        if fault is None:
            sound += 1
            continue
        damaged += 1
        say(f"DAMAGED {entry.product}: {fault}")
        if args.remove:
            cache.remove(entry.key)
            say(f"  removed {entry.path}")
    say(f"{plural(sound, 'product')} sound, {damaged} damaged, in {cache.root}")
    return 1 if damaged else 0


def clear(args: argparse.Namespace) -> int:
    """Remove all products and what is remembered of them, after asking."""
    cache = _cache(args)
    usage = cache.usage()
    what = f"{plural(usage.files, 'product')}, {format_bytes(usage.total_bytes)}, in {cache.root}"
    if not args.yes and not _confirm(f"Remove {what}? [y/N] "):
        remark("nothing was removed; --yes removes without asking")
        return 1
    freed = cache.clear()
    MetadataStore(cache.root).forget()
    say(f"Removed {format_bytes(freed)} from {cache.root}.")
    return 0


def _confirm(question: str) -> bool:
    return ask(question).lower() in {"y", "yes"}
