"""One parameter of a data set, as its schema describes it: the type of its values, its choices.

A parameter turns texts into the JSON value that the service expects. It does not know whether it
is required, since schemas are wrong about that, nor what other parameters there are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from hda_fsspec.errors import QueryError
from hda_fsspec.records import Scalar, format_time
from hda_fsspec.schema.time_and_box import (
    BOX,
    read_box,
    read_instant,
    read_number,
    shown,
    single,
)

_NUMBERS = frozenset({"number", "integer"})
_KINDS = _NUMBERS | {"string", "boolean", "array", "object", "null"}
_LISTED = 12  # choices that a message names where none is near


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One value that a parameter may take: as it is sent, and its title for people."""

    value: Scalar
    title: str = ""

    @property
    def text(self) -> str:
        """The value as it stands in a path."""
        return text_of(self.value)

    def matches(self, text: str) -> bool:
        """Whether a text means this value; a number may be written in any way."""
        if self.text == text:
            return True
        if isinstance(self.value, (bool, str)):
            return False
        try:
            return read_number("", text) == self.value
        except QueryError:
            return False


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """One property of a schema.

    Attributes
    ----------
    name : str
        The name the service knows it by.
    kinds : frozenset of str
        JSON types that one value may have; empty if the schema does not tell.
    is_list : bool or None
        Whether values are sent as a list; None: only where there are several.
    choices : tuple of Choice
        The only values it takes; empty if any.
    minimum, maximum : float or None
        Bounds of a number.
    earliest, latest : datetime or None
        Bounds of a date, in UTC: where the data set begins and ends, as far as the schema knows.
    is_time : bool
        Whether a value is a date and time.
    is_box : bool
        Whether the values are a box in degrees.
    default : tuple of str, int, float or bool
        What the schema proposes; empty if nothing.
    title, pattern : str
        A title for people, and a regular expression that values match; empty where not told.
    """

    name: str
    kinds: frozenset[str] = frozenset()
    is_list: bool | None = None
    choices: tuple[Choice, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    is_time: bool = False
    is_box: bool = False
    default: tuple[Scalar, ...] = ()
    title: str = ""
    pattern: str = ""

    @classmethod
    def from_json(cls, name: str, value: object) -> Parameter:
        """Read a property of a schema; what is odd about it leaves the parameter free."""
        if not isinstance(value, Mapping):
            return cls(name, is_box=name == BOX)
        try:
            return cls._from_mapping(name, value)
        except RecursionError:  # nested without end
            return cls(name, is_box=name == BOX)

    @classmethod
    def _from_mapping(cls, name: str, value: Mapping[str, Any]) -> Parameter:
        outer = _kinds(value)
        branches = [value, *_branches(value)]
        items = [b["items"] for b in branches if isinstance(b.get("items"), Mapping)]
        of_items = frozenset[str]().union(*(_kinds(item) for item in items))
        kinds = (outer - {"array", "null"}) | (of_items - {"array", "null"})
        choices = tuple(_choices(value) or ())
        texts = not choices and kinds <= {"string"}
        dated = any(part.get("format") == "date-time" for part in [*branches, *items])
        only_list = "array" in outer and outer <= {"array", "null"}
        return cls(
            name=name,
            kinds=kinds,
            is_list=True if only_list else None if "array" in outer or not outer else False,
            choices=choices,
            minimum=_bound([*branches, *items], "minimum"),
            maximum=_bound([*branches, *items], "maximum"),
            earliest=_dated_bound(branches, "minimum"),
            latest=_dated_bound(branches, "maximum"),
            is_time=dated and texts,
            is_box=not choices and (name == BOX or (only_list and _is_box(value))),
            default=_default(value.get("default")),
            title=_first_text([value], "title"),
            pattern=_first_text([*branches, *items], "pattern"),
        )

    @property
    def is_free_text(self) -> bool:
        """Whether it takes any one text, as far as the schema tells: a date, or a name."""
        return self.is_list is not True and not self.choices and self.kinds <= {"string"}

    def convert(self, values: Sequence[str], *, key: str) -> Any:
        """Return the values as the service expects them.

        Parameters
        ----------
        values : sequence of str
            At least one text.
        key : str
            The name that the user wrote, for messages.

        Raises
        ------
        QueryError
            A value has the wrong type or is not among the choices, or there are too many.
        """
        if self.is_box:
            return read_box(key, values)
        if self.is_list is False and len(values) > 1:
            joined = ",".join(values)
            if any(choice.text == joined for choice in self.choices):
                msg = f"{joined!r} is one value of {key}: write its comma as %2C in a path."
                raise QueryError(msg, key=key, suggestions=(joined,))
            single(key, values)
        converted = [self._one(value, key) for value in values]
        return converted if self.is_list or len(converted) > 1 else converted[0]

    def _one(self, text: str, key: str) -> Scalar:
        if self.choices:
            return self._choose(text, key)
        if self.is_time:
            return format_time(read_instant(key, text))
        if "boolean" in self.kinds and text.lower() in {"true", "false"}:
            return text.lower() == "true"
        if self.kinds and self.kinds <= _NUMBERS:
            return self._number(text, key)
        if self.kinds == {"boolean"}:
            msg = f"{key} takes true or false, not {shown([text])!r}."
            raise QueryError(msg, key=key, suggestions=("true", "false"))
        return text

    def _number(self, text: str, key: str) -> int | float:
        number = read_number(key, text)
        if "number" not in self.kinds and isinstance(number, float):
            if not number.is_integer():
                msg = f"{key} takes a whole number, not {text}."
                raise QueryError(msg, key=key)
            number = int(number)
        if self.minimum is not None and number < self.minimum:
            msg = f"{text} is less than {text_of(self.minimum)}, the smallest value of {key}."
            raise QueryError(msg, key=key, suggestions=(text_of(self.minimum),))
        if self.maximum is not None and number > self.maximum:
            msg = f"{text} is more than {text_of(self.maximum)}, the largest value of {key}."
            raise QueryError(msg, key=key, suggestions=(text_of(self.maximum),))
        return number

    def _choose(self, text: str, key: str) -> Scalar:
        for choice in self.choices:
            if choice.matches(text):
                return choice.value
        near = nearest(text, ((choice.text, choice.title) for choice in self.choices))
        msg = f"{shown([text])!r} is not a value of {key}. " + hint(
            near, [choice.text for choice in self.choices], "Its values are"
        )
        raise QueryError(msg, key=key, suggestions=near)


def nearest(text: str, names: Iterable[Sequence[str]], *, limit: int = 3) -> tuple[str, ...]:
    """Return the names most like a text, nearest first.

    Each name is a sequence: the name itself, then other spellings that mean it (a title). One
    that differs only in case comes first.
    """
    spellings: dict[str, list[str]] = {}
    for name in names:
        for spelling in name:
            if spelling:
                spellings.setdefault(spelling.casefold(), []).append(name[0])
    word = text.casefold()[:100]
    near = difflib.get_close_matches(word, spellings, n=limit, cutoff=0.6)
    hits = (name for spelling in [word, *near] for name in spellings.get(spelling, ()))
    return tuple(dict.fromkeys(hits))[:limit]


def hint(near: Sequence[str], names: Sequence[str], otherwise: str) -> str:
    """Say what may have been meant, or, where nothing is near, what there is."""
    if near:
        return f"Did you mean {' or '.join(repr(name) for name in near)}?"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{otherwise} {', '.join(repr(name) for name in names[:_LISTED])}{more}."


def text_of(value: Scalar) -> str:
    """Return a value of a schema as it stands in a path."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _branches(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the alternatives of a schema (`oneOf`, `anyOf`), without that of null."""
    members: list[Any] = []
    for word in ("oneOf", "anyOf"):
        given = value.get(word)
        members += given if isinstance(given, list) else []
    return [m for m in members if isinstance(m, Mapping) and m.get("type") != "null"]


def _kinds(value: Mapping[str, Any]) -> frozenset[str]:
    """Return the JSON types that a schema allows, as far as it tells."""
    told = value.get("type")
    named = [told] if isinstance(told, str) else told if isinstance(told, list) else []
    # A type that JSON has not says nothing that could be relied on.
    known = frozenset(kind for kind in named if isinstance(kind, str)) & _KINDS
    if known:
        return known
    if isinstance(value.get("items"), (Mapping, list)):
        return frozenset({"array"})
    fixed = value.get("enum")
    constants = [*(fixed if isinstance(fixed, list) else []), value.get("const")]
    return frozenset(
        "boolean" if isinstance(c, bool) else "string" if isinstance(c, str) else "number"
        for c in constants
        if isinstance(c, (bool, str, int, float))
    ).union(*(_kinds(branch) for branch in _branches(value)))


def _choices(value: Mapping[str, Any]) -> list[Choice] | None:
    """Return the only values that a schema allows; None if it allows any."""
    branches = _branches(value)
    fixed = value.get("enum")
    constants: list[Any] = fixed if isinstance(fixed, list) else []
    if "const" in value:
        constants = [value["const"]]
    if constants:
        title = value.get("title") if "const" in value else None
        title = title if isinstance(title, str) else ""
        return [Choice(c, title) for c in constants if isinstance(c, (bool, str, int, float))]
    found: list[Choice] = []
    for branch in branches:
        choices = _choices(branch)
        if choices is None:
            # One free alternative makes the whole free.
            return None
        found += choices
    items = value.get("items")
    return found or (_choices(items) if isinstance(items, Mapping) else None)


def _default(told: object) -> tuple[Scalar, ...]:
    """Return the values that a schema proposes; what is no value is none."""
    values: list[Any] = told if isinstance(told, list) else [told]
    are_values = all(isinstance(value, (bool, str, int, float)) for value in values)
    return tuple(values) if are_values and "" not in values else ()


def _first_text(parts: Iterable[Mapping[str, Any]], word: str) -> str:
    return next((text for part in parts if isinstance(text := part.get(word), str)), "")


def _bound(parts: Iterable[Mapping[str, Any]], word: str) -> float | None:
    """Return the bound of a number; where alternatives differ there is none."""
    told = {
        bound
        for part in parts
        if isinstance(bound := part.get(word), (int, float)) and not isinstance(bound, bool)
    }
    return told.pop() if len(told) == 1 and all(map(math.isfinite, told)) else None


def _dated_bound(parts: Iterable[Mapping[str, Any]], word: str) -> datetime | None:
    """Return the bound of a date; what is no date is none."""
    for part in parts:
        if isinstance(text := part.get(word), str):
            with contextlib.suppress(QueryError):
                return read_instant("", text, last=word == "maximum")
    return None


def _is_box(value: Mapping[str, Any]) -> bool:
    items = value.get("items")
    if isinstance(items, Mapping) and value.get("minItems") == 4 == value.get("maxItems"):
        items = [items] * 4
    if not isinstance(items, list) or len(items) != 4 or not isinstance(items[0], Mapping):
        return False
    return items[0].get("minimum") == -180
