"""Output of commands: lines, tables and JSON, numbers for people, and questions.

All of it goes through here, so that nothing raw reaches the terminal, and that no encoding of it
ends a listing. JSON and paths come out so that they can be read back. What is no terminal gets
plain columns; a terminal gets tables that fit its width.
"""

from __future__ import annotations

import errno
import functools
import io
import json
import math
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TextIO

import click

from hda_fsspec.paths.quoting import escape
from hda_fsspec.printable import escaped, printable

_GAP = 2
#: Free text in a column that is narrower is no use.
_NARROWEST_COLUMN = 24


def echo(*lines: str) -> None:
    """Write lines to standard output, each as one line, and long ones without their middle.

    On a terminal those that are wider go on below, broken between words.
    """
    shown = map(printable, lines)
    _write(sys.stdout, _hanging(shown, breaks_words=False) if is_terminal(sys.stdout) else shown)


def echo_block(text: str, *, is_folded: bool = False) -> None:
    """Write a text of several lines to standard output.

    Where it is folded a terminal gets lines of its width, broken within words where they must be.
    """
    shown = map(escaped, text.split("\n"))
    is_folded = is_folded and is_terminal(sys.stdout)
    _write(sys.stdout, _hanging(shown, breaks_words=True) if is_folded else shown)


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
    answer = "" if sys.stdin is None else sys.stdin.readline().strip()
    if not is_terminal(sys.stdin):
        echo_error("")  # nobody has typed the end of the line
    return answer


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at a stream."""
    return stream is not None and stream.isatty()


def _terminal_width() -> int:
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
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    if hasattr(value, "tolist"):  # of numpy
        return _as_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such number
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def echo_table(
    rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), whole: Sequence[int] = ()
) -> bool:
    """Write rows, of which the first one is the head, in columns; return whether any was folded.

    On a terminal they fit its width: the last column is folded, and where there is no room for
    columns a row takes several lines.

    Parameters
    ----------
    rows : sequence of sequences of str
        All of one length.
    right : sequence of int
        The columns that end on one line.
    whole : sequence of int
        The columns of what is copied: long cells keep their middle, and are never folded.
    """

    def shown(number: int, cell: str) -> str:
        text = escaped(cell) if number in whole else printable(cell)
        return _fitting(text, sys.stdout, _backslashed)

    table = [[shown(*numbered) for numbered in enumerate(row)] for row in rows]
    if is_terminal(sys.stdout):
        laid_out = list(_laid_out(table, right, whole, _terminal_width()))
        _write(sys.stdout, laid_out)
        return len(laid_out) > len(table)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    )
    _write(sys.stdout, (line.rstrip() for line in lines))
    return False


def _laid_out(
    rows: list[list[str]], right: Sequence[int], whole: Sequence[int], width: int
) -> Iterator[str]:
    """Yield the lines of a table on a terminal of some width."""
    from rich.cells import cell_len

    head, *rows = rows
    last = len(head) - 1
    widths = [max(map(cell_len, column)) for column in zip(head, *rows, strict=True)]
    before = sum(widths[:-1]) + _GAP * last
    needed = widths[last] if last in whole else min(widths[last], _NARROWEST_COLUMN)
    if before + needed > width:
        yield from _stacked(rows, whole[0] if whole else last, width, is_whole=bool(whole))
        return

    def line(row: list[str], end: str) -> str:
        cells = []
        for number, cell in enumerate(row[:last]):
            filling = " " * (widths[number] - cell_len(cell))
            cells.append(filling + cell if number in right else cell + filling)
        return (" " * _GAP).join([*cells, end]).rstrip()

    bold = _bold()
    yield bold(line(head, head[last]))
    for row in rows:
        first, *more = [row[last]] if last in whole else _folded(row[last], width - before)
        yield line(row, first)
        yield from (" " * before + part for part in more)


def _stacked(rows: list[list[str]], title: int, width: int, *, is_whole: bool) -> Iterator[str]:
    """Yield the lines of rows that take several: the title, then what else there is."""
    bold = _bold()
    for row in rows:
        # What is copied is left to the terminal to wrap, which knows that it is one word.
        yield from map(bold, [row[title]] if is_whole else _folded(row[title], width))
        rest = "  ".join(cell for number, cell in enumerate(row) if cell and number != title)
        yield from (" " * _GAP + part for part in _folded(rest, max(1, width - _GAP)))


def _hanging(lines: Iterable[str], *, breaks_words: bool) -> Iterator[str]:
    """Yield lines as a terminal has room for them; what goes on below stands under its column."""
    from rich.cells import cell_len

    width = _terminal_width()
    for line in lines:
        if cell_len(line) <= width or " " not in line.strip():
            # One word, such as a path, is left to the terminal, which knows that it is one.
            yield line
            continue
        starts = [match.end() for match in re.finditer(r"\A +|  +", line)]
        below = max((start for start in starts if start + _NARROWEST_COLUMN <= width), default=0)
        margin = below or _GAP
        first, *more = _folded(line[below:], max(1, width - margin), breaks_words=breaks_words)
        yield line[:below] + first
        yield from (" " * margin + part for part in more)


def _folded(text: str, width: int, *, breaks_words: bool = True) -> list[str]:
    """Return a text in lines of some width, broken between words where there are any."""
    if text.isascii():  # nearly always, and much faster
        found = textwrap.wrap(
            text,
            width,
            break_on_hyphens=False,
            break_long_words=breaks_words,
            drop_whitespace=True,
        )
        return found or [""]
    from rich.console import Console
    from rich.text import Text

    console = Console(file=io.StringIO(), width=width)
    overflow: Literal["fold", "ignore"] = "fold" if breaks_words else "ignore"
    return [line.plain.rstrip() for line in Text(text).wrap(console, width, overflow=overflow)]


def _bold() -> Callable[[str], str]:
    """Return what makes a line bold where the terminal can: not where TERM says that it is dumb."""
    from rich.console import Console

    if Console(file=io.StringIO(), force_terminal=True).color_system is None:
        return str
    return functools.partial(click.style, bold=True)


def local_time(seconds: float) -> str:
    """Return a time since 1970 as the clock on the wall shows it."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
