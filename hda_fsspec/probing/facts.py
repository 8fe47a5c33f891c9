"""Facts that a probe finds out of a service: one a row, as values."""

from __future__ import annotations

import dataclasses

#: It is as it was expected; it is otherwise; nothing was expected, and now it is known; it could
#: not be found out; to ask failed.
AS_EXPECTED, OTHERWISE, SETTLED, OPEN, FAILED = (
    "as expected",
    "otherwise",
    "settled",
    "open",
    "FAIL",
)


@dataclasses.dataclass(frozen=True)
class Fact:
    """One fact.

    Attributes
    ----------
    fact : str
        What it is about.
    expected : str
        What public sources say, "" if they say nothing.
    seen : str
        What the service did.
    state : str
        One of the words of this module.
    """

    fact: str
    expected: str
    seen: str
    state: str


def compared(fact: str, expected: str, seen: object, *, is_as_expected: bool) -> Fact:
    """Return a fact of which something was expected."""
    return Fact(fact, expected, str(seen), AS_EXPECTED if is_as_expected else OTHERWISE)


def settled(fact: str, seen: object, expected: str = "not known") -> Fact:
    """Return a fact of which nothing was known."""
    return Fact(fact, expected, str(seen), SETTLED)


def left_open(fact: str, why: object, expected: str = "not known") -> Fact:
    """Return a fact that this probe could not find out."""
    return Fact(fact, expected, str(why), OPEN)
