"""Text from outside, made safe to show in terminals, logs and notebooks.

The one sanitiser. Errors, warnings and log records pass through it here and in
:mod:`hda_fsspec.errors`, what the command line prints in :mod:`hda_fsspec.cli.terminal`. Values
that code works with (ids, attributes) are left as they are.
"""

from __future__ import annotations

import functools
import logging
import re
import traceback
import unicodedata
import warnings
from datetime import UTC, datetime

#: From so many characters on, a word or a message loses its middle: both ends tell most.
LONGEST_WORD = 1_000
LONGEST_TEXT = 4_000
LONGEST_LINES = 20_000

_MARGIN = 100  # for what is said in the place of the middle

#: What Unicode calls printable although nothing is seen of it.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


def is_shown(char: str) -> bool:
    """Whether a character shows as itself, and changes nothing around it.

    Control characters, line breaks, escapes, marks of direction, of no width or of no meaning, and
    halves of surrogate pairs do not.
    """
    return char.isprintable() and _INVISIBLE.match(char) is None


def escaped(text: str) -> str:
    r"""Return a text in one line, with what does not show written as Python writes it.

    Spaces of other widths become plain ones.

    >>> print(escaped("a\x1b[31m\nb\u202ec\ud800"))
    a\x1b[31m\nb\u202ec\ud800
    """
    if text.isprintable() and _INVISIBLE.search(text) is None:
        return text
    return "".join(char if is_shown(char) else _spelled(char) for char in text)


def printable(text: object) -> str:
    """Return what may be shown of a text: in one line, :func:`escaped`, and of bounded length."""
    return _shortened(escaped(str(text)))


def printable_lines(text: str) -> str:
    """Return what may be shown of a text of several lines, each of them :func:`printable`.

    Who makes such a text sees to it that none of its lines is from outside.
    """
    shown = "\n".join(map(printable, text.split("\n")))
    return _without_middle(shown, LONGEST_LINES)


def lines(*texts: str) -> str:
    """Return a text of several lines, each of them :func:`printable`."""
    return "\n".join(map(printable, texts))


def python_text(text: str) -> str:
    """Return a text as Python reads it, in double quotes where they do.

    >>> print(python_text("a.nc"), python_text('a"+x+".nc'))
    "a.nc" 'a"+x+".nc'
    """
    is_plain = text.isprintable() and not set(text) & set('"\\')
    return f'"{text}"' if is_plain else repr(text)


def flat(text: object) -> str:
    """Return a text, such as that of another error, as part of a line."""
    return " ".join(str(text).split())


def format_bytes(count: float) -> str:
    """Return a number of bytes as people read it.

    >>> format_bytes(999), format_bytes(1_234_567), format_bytes(50e9)
    ('999 B', '1.2 MB', '50.0 GB')
    """
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} PB"


def plural(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 product``, ``10,000 products``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def warn(message: str, category: type[Warning] = UserWarning, *, stacklevel: int = 1) -> None:
    """Warn as :func:`warnings.warn` does, with what may be shown of a message."""
    warnings.warn(printable(message), category, stacklevel=stacklevel + 1)


class PrintableRecords(logging.Filter):
    """Makes log records printable; those that are so already stay as they are."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record where that is needed, and let it pass."""
        message = record.getMessage()
        shown = printable(message)
        if shown != message:
            record.msg, record.args = shown, ()
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            told = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            record.exc_text = printable_lines(told)
        return True


@functools.lru_cache(maxsize=256)
def _spelled(char: str) -> str:
    is_space = unicodedata.category(char) == "Zs"
    return " " if is_space else char.encode("unicode_escape").decode()


def _shortened(text: str) -> str:
    if len(text) <= LONGEST_WORD:
        return text
    text = _WORD.sub(lambda match: _without_middle(match.group(), LONGEST_WORD), text)
    return _without_middle(text, LONGEST_TEXT)


def _without_middle(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    end = (longest - _MARGIN) // 2
    left_out = len(text) - 2 * end
    return f"{text[:end]}[… {left_out} characters …]{text[-end:]}"


def clock_time(seconds: float) -> str:
    """Return a moment, in seconds since 1970, as a local time of day."""
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%H:%M:%S}"


def elapsed(seconds: float) -> str:
    """Return a length of time as hours, minutes and seconds."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}"
