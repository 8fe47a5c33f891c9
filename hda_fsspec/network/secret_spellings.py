"""Spellings of a secret in a text: plain, or encoded for addresses, JSON, HTML and headers.

What is looked for is found in whatever mixture it was written, and up to three times over: escapes
are decoded, and each character knows where it stood. Base64, hexadecimal digits and UTF-8 that was
taken for Latin-1 are looked for as texts of their own. Pure; the time is linear in the text.
"""

from __future__ import annotations

import base64
import bisect
import contextlib
import dataclasses
import functools
import html.entities
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from urllib.parse import quote

_TIMES = 3
_MOST_READINGS = 30
_FEWEST_DIGITS = 5  # fewer stand in half of all digits

_PERCENT = r"""%(?:[cC][2-9a-fA-F]|[dD][0-9a-fA-F])%[89abAB][0-9a-fA-F]
    |%[eE][0-9a-fA-F](?:%[89abAB][0-9a-fA-F]){2}
    |%[fF][0-4](?:%[89abAB][0-9a-fA-F]){3}
    |%[0-9a-fA-F]{2}|%u[0-9a-fA-F]{4}"""
_BACKSLASH = r"""\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}
    |\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\x[0-9a-fA-F]{2}|\\["'\\/bfnrt]"""
_ENTITY = r"&(?:\#[0-9]{1,8}|\#[xX][0-9a-fA-F]{1,7}|[A-Za-z][A-Za-z0-9]{1,31});"
# A text may look as if it were escaped, and be so in another way: each is undone by itself, too.
_KINDS = {
    kind: re.compile(pattern, re.VERBOSE)
    for kind, pattern in (("%", _PERCENT), ("\\", _BACKSLASH), ("&", _ENTITY))
}
_ANY = re.compile(f"{_PERCENT}|{_BACKSLASH}|{_ENTITY}", re.VERBOSE)
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_BASE64_WORD = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
# What stands before and after a value: neither a part of a word nor one of a time.
_ALONE = (
    r"(?<![^\s\"'`=:&,;()\[\]{}<>|])(?<!\d:)",
    r"(?=[\s\"'`&,;()\[\]{}<>|@]|:(?!\d)|[.!?]?(?:\s|$))",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Needle:
    """A secret text that is looked for.

    Attributes
    ----------
    text : str
        Characters, before any of them is escaped.
    form : str
        Of what text this is: one of :data:`FORMS`, or empty where it is the part of a longer one
        that is the same whatever surrounds it.
    is_alone : bool
        Whether it counts only where it is a value of its own.
    """

    text: str
    form: str = "p"
    is_alone: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Spot:
    """The place of a text in another one.

    Attributes
    ----------
    start, end : int
        In the text.
    needle : Needle
        What stands there.
    pieces : tuple of str
        How each character of it is written.
    """

    start: int
    end: int
    needle: Needle
    pieces: tuple[str, ...]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _base64_of_addresses(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


#: How a text is written as a text of its own, by the letter that stands for it.
FORMS: dict[str, Callable[[bytes], str]] = {
    "B": lambda data: base64.b64encode(data).decode(),
    "C": lambda data: base64.urlsafe_b64encode(data).decode(),
    "b": _base64,
    "c": _base64_of_addresses,
    "m": lambda data: data.decode("latin-1"),
    "h": bytes.hex,
    "H": lambda data: data.hex().upper(),
}


def encoded(text: str, form: str) -> str:
    """Return a text in one of its forms; "p" is the text itself."""
    return text if form == "p" else FORMS[form](text.encode("utf-8", "surrogatepass"))


@functools.lru_cache(maxsize=512)
def needles_of(text: str, shortest: int) -> tuple[Needle, ...]:
    """Return what is to be looked for; in less than `shortest` characters only as a value alone."""
    is_short = len(text) < shortest
    found = [Needle(text, is_alone=is_short)]
    for form in FORMS:
        written = encoded(text, form)
        if len(written) >= _FEWEST_DIGITS and written not in {needle.text for needle in found}:
            found.append(Needle(written, form, is_alone=is_short))
    if not is_short:
        data = text.encode("utf-8", "surrogatepass")
        inner = {part for form in (_base64, _base64_of_addresses) for part in _inside(data, form)}
        found.extend(Needle(part, "") for part in sorted(inner) if len(part) >= _FEWEST_DIGITS)
    return tuple(found)


def _inside(data: bytes, encode: Callable[[bytes], str]) -> Iterator[str]:
    """Return the digits of base64 that data has behind any other and before any other."""
    for before in range(3):
        first, last = -(-8 * before // 6), 8 * (before + len(data)) // 6
        yield encode(bytes(before) + data)[first:last]


def may_hold(text: str, wanted: Iterable[str]) -> bool:
    """Whether texts of needles may stand in another text, or in a part of it, told in short."""
    return any(kind in text for kind in _KINDS) or any(
        needle in text or " " in needle for needle in wanted
    )


def find(text: str, needles: Iterable[Needle]) -> list[Spot]:
    """Return all places where needles stand, by their start, the longest and plainest first."""
    wanted = tuple(needles)
    # Nothing is there most of the time.
    if not may_hold(text, {needle.text for needle in wanted}):
        return []
    found: dict[tuple[int, int, bool], Spot] = {}
    for decoded, starts in _readings(text):
        there = [n for n in wanted if n.text in decoded or " " in n.text]
        for needle in there:
            for start in _places(decoded, needle):
                bounds = starts[start : start + len(needle.text) + 1]
                pieces = tuple(text[a:b] for a, b in itertools.pairwise(bounds))
                spot = Spot(bounds[0], bounds[-1], needle, pieces)
                found.setdefault((spot.start, spot.end, needle.form == ""), spot)
    whole = _whole_words(text, found.values())
    return sorted(whole, key=lambda spot: (spot.start, -spot.end))


def _readings(text: str) -> Iterator[tuple[str, Sequence[int]]]:
    """Return a text as it is and without escapes, and where each character of it began.

    What was escaped in several ways, one after another, is read in each order of them.
    """
    level: list[tuple[str, Sequence[int]]] = [(text, range(len(text) + 1))]
    known = {text}
    for depth in range(_TIMES + 1):
        yield from level
        deeper: list[tuple[str, Sequence[int]]] = []
        for spelling, starts in level if depth < _TIMES else ():
            kinds = [pattern for kind, pattern in _KINDS.items() if kind in spelling]
            for pattern in [_ANY, *kinds] if len(kinds) > 1 else kinds:
                found = _decoded(spelling, pattern)
                if found is not None and found[0] not in known and len(known) < _MOST_READINGS:
                    known.add(found[0])
                    deeper.append((found[0], [starts[position] for position in found[1]]))
        level = deeper


def _places(text: str, needle: Needle) -> Iterator[int]:
    wanted = needle.text
    if not wanted:
        return
    if " " in wanted:  # forms write it as a plus
        text, wanted = text.replace(" ", "+"), wanted.replace(" ", "+")
    if wanted not in text:
        return
    if needle.is_alone:
        for match in re.finditer(_ALONE[0] + re.escape(wanted) + _ALONE[1], text):
            yield match.start()
        return
    start = text.find(wanted)
    while start >= 0:
        yield start
        start = text.find(wanted, start + len(wanted))


def _whole_words(text: str, spots: Iterable[Spot]) -> Iterator[Spot]:
    """Return spots with all digits about them, where those that they share tell a part of them."""
    words: list[tuple[int, int]] = []
    for spot in spots:
        if spot.needle.form:
            yield spot
            continue
        words = words or [match.span() for match in _BASE64_WORD.finditer(text)]
        first = bisect.bisect_right(words, (spot.start, len(text))) - 1
        last = bisect.bisect_left(words, (spot.end, 0)) - 1
        start, end = min(spot.start, words[first][0]), max(spot.end, words[last][1])
        yield dataclasses.replace(spot, start=start, end=end)


def _decoded(text: str, escape: re.Pattern[str]) -> tuple[str, list[int]] | None:
    """Return a text with its escapes decoded once, and where each character of it began.

    None where it has no escapes.
    """
    parts: list[str] = []
    starts: list[int] = []
    end = 0
    for match in escape.finditer(text):
        character = _character(match.group())
        if character is None:
            continue
        parts += [text[end : match.start()], character]
        starts += [*range(end, match.start()), match.start()]
        end = match.end()
    if not parts:
        return None
    starts += range(end, len(text) + 1)
    return "".join([*parts, text[end:]]), starts


def _character(escape: str) -> str | None:
    """Return the one character that an escape is; None where it is none, or several."""
    if escape[0] == "&":
        return _of_entity(escape)
    if escape[0] == "%" and escape[1] != "u":
        # None for what is longer than need be, or beyond the last character.
        data = bytes.fromhex(escape.replace("%", ""))
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode("latin-1" if len(data) == 1 else "utf-8", "surrogatepass")
        return None
    if len(escape) == 2:
        return _LETTERS.get(escape[1], escape[1])
    units = escape[2:].split("\\u")
    if len(units) == 2:
        return bytes.fromhex("".join(units)).decode("utf-16-be")
    code = int(units[0], 16)
    return chr(code) if code <= sys.maxunicode else None


def _of_entity(escape: str) -> str | None:
    if escape[1] != "#":
        character = html.unescape(escape)
        return character if len(character) == 1 else None
    is_hex = escape[2] in "xX"
    code = int(escape[3:-1] if is_hex else escape[2:-1], 16 if is_hex else 10)
    return chr(code) if code <= sys.maxunicode else None


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _units(character: str) -> list[str]:
    data = character.encode("utf-16-be", "surrogatepass")
    return [data[at : at + 2].hex() for at in range(0, len(data), 2)]


def _is_unreserved(character: str) -> bool:
    return quote(character, safe="", errors="surrogatepass") == character


def _is_plain_json(character: str) -> bool:
    return json.dumps(character)[1:-1] == character


def _is_plain_html(character: str) -> bool:
    return html.escape(character) == character


def _json_with_slashes(character: str) -> str:
    return json.dumps(character)[1:-1].replace("/", "\\/")


def _named(character: str) -> str:
    name = html.entities.codepoint2name.get(ord(character))
    return f"&{name};" if name else character


def _percent_latin(character: str) -> str:
    return f"%{ord(character):02X}" if ord(character) < 256 else _percent(character)


# How one character is written, by a letter: how, and which ones that leaves alone. What fits comes
# first that is right for the most texts: most are addresses.
_WAYS: dict[str, tuple[Callable[[str], str], Callable[[str], bool]]] = {
    "U": (_percent, _is_unreserved),
    "r": (lambda c: c, lambda _: True),
    "L": (lambda c: _percent(c).lower(), _is_unreserved),
    "P": (lambda c: "+" if c == " " else _percent(c), _is_unreserved),
    "Q": (lambda c: "+" if c == " " else _percent(c).lower(), _is_unreserved),
    "W": (_percent, lambda c: c in "!*'()" or _is_unreserved(c)),
    "K": (_percent, lambda c: c == "/" or _is_unreserved(c)),
    "T": (_percent, lambda c: c in "!#$&'()*+,/:;=?@[]~" or _is_unreserved(c)),
    "D": (lambda c: _percent(c).replace("%", "%25"), _is_unreserved),
    "E": (lambda c: _percent(c).lower().replace("%", "%25"), _is_unreserved),
    "F": (lambda c: _percent(c).replace("%", "%2525"), _is_unreserved),
    "w": (lambda c: " " if c == "+" else c, lambda c: c != "+"),
    "1": (_percent_latin, _is_unreserved),
    "j": (lambda c: json.dumps(c)[1:-1], _is_plain_json),
    "J": (lambda c: json.dumps(c, ensure_ascii=False)[1:-1], _is_plain_json),
    "k": (_json_with_slashes, lambda c: _json_with_slashes(c) == c),
    "s": (lambda c: f"\\{c}", _is_plain_json),
    "u": (lambda c: "".join(f"\\u{unit}" for unit in _units(c)), _is_plain_json),
    "V": (lambda c: "".join(f"\\u{unit.upper()}" for unit in _units(c)), _is_plain_json),
    "p": (lambda c: "".join(f"%u{unit.upper()}" for unit in _units(c)), _is_unreserved),
    "x": (lambda c: repr(c)[1:-1], lambda c: repr(c)[1:-1] == c),
    "X": (lambda c: f"\\x{ord(c):02x}", _is_plain_json),
    "h": (html.escape, _is_plain_html),
    "a": (lambda c: {"'": "&apos;", "/": "&#x2F;"}.get(c, html.escape(c)), _is_plain_html),
    "N": (_named, lambda c: _named(c) == c),
    "n": (lambda c: f"&#{ord(c)};", _is_plain_html),
    "o": (lambda c: f"&#{ord(c):02d};", _is_plain_html),
    "y": (lambda c: f"&#x{ord(c):x};", _is_plain_html),
    "Y": (lambda c: f"&#x{ord(c):X};", _is_plain_html),
}


def way_of(spot: Spot) -> str | None:
    """Return how a spot is written: a word for :func:`written`, None if there is none."""
    whole = "".join(spot.pieces)
    for letter in _WAYS:
        if written(spot.needle.text, letter) == whole:
            return letter
    letters = []
    for character, piece in zip(spot.needle.text, spot.pieces, strict=True):
        fitting = (letter for letter, (write, _) in _WAYS.items() if write(character) == piece)
        letters.append(next(fitting, ""))
    if not all(letters):
        return None
    return f".{''.join(letters)}"


def written(text: str, way: str) -> str:
    """Write a text in the way of another one.

    Raises KeyError for a word that :func:`way_of` never returns.
    """
    if way.startswith("."):
        letters = way[1:]
        if len(letters) == len(text):
            return "".join(_WAYS[letter][0](c) for letter, c in zip(letters, text, strict=True))
        # Of another length it is another text: in the way in which anything was written at all.
        way = next((letter for letter in letters if letter != "r"), "r")
    write, is_left_alone = _WAYS[way]
    return "".join(c if is_left_alone(c) else write(c) for c in text)


def merged(spots: Sequence[Spot]) -> list[tuple[int, int]]:
    """Return what sorted spots cover, each stretch once."""
    stretches: list[tuple[int, int]] = []
    for spot in spots:
        if stretches and spot.start < stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(stretches[-1][1], spot.end))
        else:
            stretches.append((spot.start, spot.end))
    return stretches
