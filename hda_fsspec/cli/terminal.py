"""What all commands share: settings from options, lines and tables, numbers for people.

All that commands print goes through here, so that nothing raw reaches the terminal, and that no
encoding of it ends a listing. JSON and paths come out so that they can be read back.
"""

from __future__ import annotations

import argparse
import errno
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from hda_fsspec.paths.quoting import escape
from hda_fsspec.printable import escaped, printable

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
    """Write lines to standard output, each as one line, and long ones without their middle."""
    _write(sys.stdout, map(printable, lines))


def say_block(text: str) -> None:
    """Write a text of several lines to standard output."""
    _write(sys.stdout, map(escaped, text.split("\n")))


def say_paths(*paths: str) -> None:
    """Write local paths to standard output, whole."""
    _write(sys.stdout, map(escaped, paths))


def say_json(value: Any) -> None:
    """Write a value as JSON, which loses nothing of it and is plain ASCII."""
    text = json.dumps(value, indent=2).replace("\x7f", "\\u007f")
    _write(sys.stdout, [text])


def say_locations(*paths: str) -> None:
    """Write ``hda://`` paths to standard output so that they open, whatever its encoding."""
    _write(sys.stdout, map(location_word, paths))


def location_word(path: str) -> str:
    """Return an ``hda://`` path with what standard output cannot encode percent-encoded."""
    return _fitting(path, sys.stdout, escape)


def remark(line: str) -> None:
    """Write a line that is no result, and does not belong into a pipe."""
    tell(f"hda-fsspec: {line}")


def tell(*lines: str) -> None:
    """Write lines to standard error, each as one line."""
    if sys.stderr is not None:  # where it is closed there is nobody to tell
        _write(sys.stderr, map(printable, lines))


def ask(question: str) -> str:
    """Ask on standard error, and return the line that comes from standard input."""
    if sys.stderr is not None:
        sys.stderr.write(_fitting(printable(question), sys.stderr, _backslashed))
        sys.stderr.flush()
    return "" if sys.stdin is None else sys.stdin.readline().strip()


def _write(stream: TextIO | None, lines: Iterable[str]) -> None:
    if stream is None:
        raise OSError(errno.EBADF, "Standard output is closed, and there is something to print")
    stream.writelines(f"{_fitting(line, stream, _backslashed)}\n" for line in lines)


def _fitting(text: str, stream: TextIO | None, spell: Callable[[str], str]) -> str:
    """Return a text in which what a stream cannot encode is spelled in ASCII."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if _fits(text, encoding):
        return text
    return "".join(char if _fits(char, encoding) else spell(char) for char in text)


def _fits(text: str, encoding: str) -> bool:
    """Whether an encoding has all of a text: some write one sign for another."""
    try:
        return text.encode(encoding).decode(encoding) == text
    except UnicodeError:
        return False


def _backslashed(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode("ascii")


def say_table(
    rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), whole: Sequence[int] = ()
) -> None:
    """Write rows in columns.

    The columns whose numbers are in ``right`` end on one line; in those of ``whole`` long cells
    keep their middle.
    """

    def shown(number: int, cell: str) -> str:
        text = escaped(cell) if number in whole else printable(cell)
        return _fitting(text, sys.stdout, _backslashed)

    rows = [[shown(*numbered) for numbered in enumerate(row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())


def format_bytes(count: float) -> str:
    """Return a number of bytes as people read it.

    >>> format_bytes(999), format_bytes(1_234_567), format_bytes(50e9)
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
