"""Inputs made of others: bytes changed here and there, and JSON changed within its grammar."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

_MOST_BYTES = 1 << 16

#: What readers stumble over.
_ODD_BYTES = (
    *(b"\0", b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0" * 16),
    *(
        b"%",
        b"%2e%2e/",
        b"../",
        b"\\",
        b"::",
        b"*?[",
        b'"',
        b"''",
        b"\r\n",
        b"\xc3",
        b"\xe2\x80\xae",
    ),
    *(b"9" * 30, b"-1", b"1e999", b"nan", b"=", b",", b";", b"\xed\xa0\x80"),
)
_ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 10**18, 10**40, 1.5, -0.0, 1e308, float("inf"), float("nan")),
    *(
        "",
        "ND",
        "null",
        "\ud800",
        "\0",
        "../../x",
        "9" * 5000,
        "x" * 300,
        "2024-02-30",
        "0001-01-01",
    ),
    *("9999-12-31T23:59:59.999+00:01", "%", "[", "date-time", "2024-05-01T00:00:00Z"),
    *([], {}, [[]], [None], {"": None}, [1, 2, 3, 4], [0, 0, float("nan"), 1], ["a", "a"]),
)


def mutate(data: bytes, others: Sequence[bytes], chance: random.Random, *, is_json: bool) -> bytes:
    """Return other bytes that are near to some given ones.

    Parameters
    ----------
    data : bytes
        What is changed.
    others : sequence of bytes
        Where pieces may be taken from.
    chance : random.Random
        Decides everything, so that its seed gives the same again.
    is_json : bool
        Change values of JSON, and keep it JSON, most of the time.
    """
    if is_json and chance.random() < 0.8:
        # What is nested too deeply for Python's own tools is changed byte by byte.
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(data)
            for _ in range(chance.choice((1, 1, 2, 4))):
                value = _change(value, chance)
            # Lone surrogates go out as escapes, which is how a service would send them.
            return json.dumps(value).encode()
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        chance.choice(_CHANGES)(changed, others, chance)
    return bytes(changed[:_MOST_BYTES])


def _change(value: Any, chance: random.Random) -> Any:
    """Return a JSON value in which one thing is different."""
    holders = list(_holders(value))
    if not holders or chance.random() < 0.05:
        return _odd(value, chance)
    holder = chance.choice(holders)
    keys: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key = chance.choice(keys)
    what = chance.random()
    if what < 0.15:
        del holder[key]
    elif what < 0.25 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif what < 0.3 and isinstance(holder, dict):
        holder[chance.choice(("", "id", "\ud800", "properties", "x" * 300))] = holder.pop(key)
    elif what < 0.4:
        other = chance.choice(holders)
        holder[key] = copy.deepcopy(other[chance.choice(list(other))] if _is_dict(other) else other)
    else:
        holder[key] = _odd(holder[key], chance)
    return value


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


def _odd(value: Any, chance: random.Random) -> Any:
    if chance.random() < 0.1:
        deep: Any = value
        for _ in range(chance.choice((3, 50, 400))):
            deep = [deep] if chance.random() < 0.5 else {"detail": deep}
        return deep
    if isinstance(value, str) and chance.random() < 0.4:
        cut = chance.randrange(len(value) + 1)
        odd = chance.choice(_ODD_BYTES).decode("latin-1")
        return value[:cut] + odd + value[cut:]
    return copy.deepcopy(chance.choice(_ODD_VALUES))


def _holders(value: Any) -> list[Any]:
    """Return all lists and objects in a value that hold something."""
    found: list[Any] = []
    left = [value]
    while left:
        one = left.pop()
        inner = list(one.values()) if isinstance(one, dict) else one
        if isinstance(inner, list) and inner:
            found.append(one)
            left.extend(inner)
    return found


def _flip(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    if data:
        # Most of what steers a reader stands near the beginning.
        most = len(data) if chance.random() < 0.5 else min(len(data), 64)
        data[chance.randrange(most)] = chance.choice(
            (0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))
        )


def _cut(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    del data[start : start + chance.choice((1, 2, 4, 16, len(data)))]


def _insert(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = chance.choice(_ODD_BYTES)


def _overwrite(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    odd = chance.choice(_ODD_BYTES)
    start = chance.randrange(len(data) + 1)
    data[start : start + len(odd)] = odd


def _splice(data: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    if others:
        other = chance.choice(others)
        start, stop = sorted(chance.randrange(len(other) + 1) for _ in range(2))
        place = chance.randrange(len(data) + 1)
        data[place : place + (stop - start)] = other[start:stop]


def _repeat(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    start, stop = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    data[start:start] = data[start:stop] * chance.choice((1, 2, 20))


_CHANGES: tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...] = (
    *(_flip, _flip, _cut, _insert, _overwrite, _splice, _repeat),
)
