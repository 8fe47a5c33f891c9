"""What commands print: lines, tables and JSON, numbers for people, and questions.

All of it goes through here, so that nothing raw reaches the terminal, and that no encoding of it
ends a listing. JSON and paths come out so that they can be read back. What is no terminal gets
plain columns; a terminal gets tables that fit its width.
"""

from __future__ import annotations

import errno
import io
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from hda_fsspec.paths.percent import escape
from hda_fsspec.printable import escaped, printable

#: A column of free text that would be narrower is no use.
_NARROWEST = 24
_GAP = 2


def echo(*lines: str) -> None:
    """Write lines to standard output, each as one line, and long ones without their middle."""
    _write(sys.stdout, map(printable, lines))


def echo_block(text: str) -> None:
    """Write a text of several lines to standard output."""
    _write(sys.stdout, map(escaped, text.split("\n")))


def echo_paths(*paths: str) -> None:
    """Write local paths to standard output, whole."""
    _write(sys.stdout, map(escaped, paths))


def echo_json(value: Any) -> None:
    """Write a value as JSON, which loses nothing of its text and is plain ASCII.

    Numbers that are none are null, and what JSON does not know is text.
    """
    text = json.dumps(_as_json(value), indent=2).replace("\x7f", "\\u007f")
    _write(sys.stdout, [text])


def echo_locations(*paths: str) -> None:
    """Write ``hda://`` paths to standard output so that they open, whatever its encoding."""
    _write(sys.stdout, map(location_word, paths))


def location_word(path: str) -> str:
    """Return an ``hda://`` path with what standard output cannot encode percent-encoded."""
    return _fitting(path, sys.stdout, escape)


def note(line: str) -> None:
    """Write a line that is no result, and does not belong into a pipe."""
    echo_error(f"hda-fsspec: {line}")


def echo_error(*lines: str) -> None:
    """Write lines to standard error, each as one line."""
    if sys.stderr is not None:  # where it is closed there is nobody to tell
        _write(sys.stderr, map(printable, lines))


def echo_error_block(text: str) -> None:
    """Write a text of several lines to standard error."""
    echo_error(*text.split("\n"))


def ask(question: str) -> str:
    """Ask on standard error, and return the line that comes from standard input."""
    if sys.stderr is not None:
        sys.stderr.write(_fitting(printable(question), sys.stderr, _backslashed))
        sys.stderr.flush()
    return "" if sys.stdin is None else sys.stdin.readline().strip()


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at a stream."""
    return stream is not None and stream.isatty()


def width_of_terminal() -> int:
    """Return how many columns the terminal has."""
    return max(1, shutil.get_terminal_size().columns)


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


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(one) for one in value]
    if hasattr(value, "tolist"):  # of numpy
        return _as_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such number
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def echo_table(
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    whole: Sequence[int] = (),
    wide: Sequence[int] = (),
) -> None:
    """Write rows, of which the first one is the head, in columns.

    On a terminal they fit its width: columns of free text are folded, and where there is no room
    for columns a row takes several lines.

    Parameters
    ----------
    rows : sequence of sequences of str
        All of one length.
    right : sequence of int
        The columns that end on one line.
    whole : sequence of int
        The columns in which long cells keep their middle.
    wide : sequence of int
        The columns of free text, which may be folded; without any it is the last one.
    """

    def shown(number: int, cell: str) -> str:
        text = escaped(cell) if number in whole else printable(cell)
        return _fitting(text, sys.stdout, _backslashed)

    table = [[shown(*numbered) for numbered in enumerate(row)] for row in rows]
    if is_terminal(sys.stdout):
        _write(sys.stdout, _folded(table, right, wide or [len(table[0]) - 1], width_of_terminal()))
        return
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    )
    _write(sys.stdout, (line.rstrip() for line in lines))


def _folded(
    rows: list[list[str]], right: Sequence[int], wide: Sequence[int], width: int
) -> Iterable[str]:
    """Return the lines of a table on a terminal, with what makes it bold where that is possible."""
    from rich import cells
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    file = io.StringIO()
    console = Console(
        file=file,
        force_terminal=True,
        width=width,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )
    columns = range(len(rows[0]))
    narrow = [max(cells.cell_len(row[n]) for row in rows) for n in columns if n not in wide]
    if width - sum(narrow) - _GAP * (len(columns) - 1) < _NARROWEST * len(wide):
        for row in rows[1:]:
            first = " ".join(row[number] for number in wide)
            rest = "  ".join(
                row[number] for number in columns if number not in wide and row[number]
            )
            console.print(Text(first, overflow="fold"), style="bold")
            if rest:
                console.print(Text(f"  {rest}", overflow="fold"))
        return file.getvalue().splitlines()
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), collapse_padding=True)
    for number, name in enumerate(rows[0]):
        table.add_column(
            Text(name, style="bold"),
            justify="right" if number in right else "left",
            no_wrap=number not in wide,
            overflow="fold",
        )
    for row in rows[1:]:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    console.print(table)
    return [line.rstrip() for line in file.getvalue().splitlines()]


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
