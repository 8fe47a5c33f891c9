"""Glob patterns over ids: ``*``, ``?`` and ``[…]`` as in :mod:`fnmatch`, escapes for the literal.

A percent-encoded character stands for itself wherever it stands, inside of brackets too. That is
why the patterns are translated here: fnmatch knows no escapes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from hda_fsspec.paths.quoting import escape, quote, unquote

MAGIC = re.compile(r"[*?\[]")

_ESCAPES = re.compile(r"((?:%[0-9A-Fa-f]{2})+)")
_SPECIAL_IN_BRACKETS = frozenset("!-")

#: A character of a pattern, and whether it stands for itself since it was escaped.
_Token = tuple[str, bool]


def canonical_pattern(raw: str, whole: str) -> str:
    """Rewrite a pattern so that only glob characters stand raw in it.

    Raises
    ------
    LocationError
        A percent sign escapes nothing; the message shows the `whole` path.
    """
    tokens = _tokens(raw, whole)
    written: list[str] = []
    position = 0
    while position < len(tokens):
        end = _end_of_brackets(tokens, position)
        stop = position + 1 if end is None else end
        written += [_write(token, in_brackets=end is not None) for token in tokens[position:stop]]
        position = stop
    # Two colons chain URLs, however they came to stand side by side.
    return re.sub("::+", lambda match: escape(match.group(0)), "".join(written))


@functools.lru_cache(maxsize=256)
def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Translate a canonical pattern; the regular expression must match a whole id."""
    tokens = _tokens(pattern, pattern)
    # What stands between stars; each but the first and the last is found at its first place.
    fixed: list[str] = [""]
    position = 0
    while position < len(tokens):
        end = _end_of_brackets(tokens, position)
        if end is not None:
            fixed[-1] += _brackets(tokens[position + 1 : end - 1])
        elif tokens[position] == ("*", False):
            fixed.append("")
        elif tokens[position] == ("?", False):
            fixed[-1] += "."
        else:
            fixed[-1] += re.escape(tokens[position][0])
        position = position + 1 if end is None else end
    first, *rest = fixed
    if not rest:
        return re.compile(rf"(?s:{first})\Z")
    *middle, last = rest
    # Atomic groups keep a pattern of many stars from trying all their combinations.
    found = "".join(f"(?>.*?{part})" for part in middle if part)
    return re.compile(rf"(?s:{first}{found}.*{last})\Z")


def _tokens(raw: str, whole: str) -> list[_Token]:
    pieces = _ESCAPES.split(raw)
    return [
        (char, index % 2 == 1)
        for index, piece in enumerate(pieces)
        for char in unquote(piece, whole)
    ]


def _end_of_brackets(tokens: Sequence[_Token], start: int) -> int | None:
    """Return where the brackets that open at `start` end; None if none open, or never close."""
    if tokens[start] != ("[", False):
        return None
    position = start + 1
    if tokens[position : position + 1] == [("!", False)]:
        position += 1
    position += 1  # a closing bracket that stands first is a member
    while position < len(tokens):
        if tokens[position] == ("]", False):
            return position + 1
        position += 1
    return None


def _brackets(members: Sequence[_Token]) -> str:
    is_negated = members[0] == ("!", False)
    members = members[1:] if is_negated else members
    classes: list[str] = []
    position = 0
    while position < len(members):
        char = members[position][0]
        if members[position + 1 : position + 2] == [("-", False)] and position + 2 < len(members):
            last = members[position + 2][0]
            if char <= last:
                classes.append(f"{re.escape(char)}-{re.escape(last)}")
            position += 3
        else:
            classes.append(re.escape(char))
            position += 1
    if not classes:
        return "." if is_negated else "(?!)"
    return f"[{'^' if is_negated else ''}{''.join(classes)}]"


def _write(token: _Token, *, in_brackets: bool) -> str:
    char, is_literal = token
    if not is_literal and char in "*?[]":
        return char
    if is_literal and in_brackets and char in _SPECIAL_IN_BRACKETS:
        return escape(char)
    return char if char == "." else quote(char)
