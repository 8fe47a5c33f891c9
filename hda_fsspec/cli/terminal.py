"""What all commands share: settings from options, lines and tables, numbers for people."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hda_fsspec.fs.filesystem import HDAFileSystem
    from hda_fsspec.settings import Settings

_OPTIONS = ("endpoint_url", "user", "cache_dir", "offline")


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given as options."""
    return {name: getattr(args, name) for name in _OPTIONS if hasattr(args, name)}


def resolve_settings(args: argparse.Namespace) -> Settings:
    """Return all settings."""
    from hda_fsspec.settings import Settings

    return Settings.resolve(**given_settings(args))


def open_filesystem(args: argparse.Namespace) -> HDAFileSystem:
    """Return the filesystem with the settings of the options."""
    from hda_fsspec.fs.filesystem import HDAFileSystem

    return HDAFileSystem(**given_settings(args))


def say(*lines: str) -> None:
    """Write lines to standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def remark(line: str) -> None:
    """Write a line that is no result, and does not belong into a pipe."""
    sys.stderr.write(f"hda-fsspec: {line}\n")


def say_table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Write rows in columns; the columns whose numbers are in ``right`` end on one line."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())


def human_bytes(count: float) -> str:
    """Return a number of bytes as people read it.

    >>> human_bytes(999), human_bytes(1_234_567), human_bytes(50e9)
    ('999 B', '1.2 MB', '50.0 GB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"


def plural(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 product``, ``2 products``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def local_time(seconds: float) -> str:
    """Return a time since 1970 as the clock on the wall shows it."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
