"""Texts that are sent back as they came, and kept with places where they quote secrets.

Writing places and filling them are inverse to each other for any text, also for one that looks as
if it had places. A place tells whose it is and how the secret was written there, so that one that
has changed since is sent in the same way. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from hda_fsspec.network.secret_spellings import (
    FORMS,
    Needle,
    Spot,
    encoded,
    find,
    needles_of,
    way_of,
    written,
)

# A text with places begins with one of these, and that one stands before and after each of them:
# doubled it is itself. Of so many one is in no secret, and nothing else in a place can be one.
_MARKS = "\x1a" + "".join(map(chr, range(0xE000, 0xE080)))


class NoPlaceError(ValueError):
    """A secret is written in a way for which there is no place."""


class UnknownPlaceError(ValueError):
    """A text has a place for something else, or for what is not known now."""


class Places:
    """Writes and fills the places of the secrets of an account.

    Parameters
    ----------
    password : str or None
        The password.
    user : str or None
        Whose it is: headers quote both as one.
    tokens : tuple of str
        All that are known.
    access : str or None
        The one in use, which takes the place of those that are known no more.
    shortest : int
        A shorter password stands in a text by chance, unless it is a value of its own.
    """

    def __init__(
        self,
        *,
        password: str | None,
        user: str | None,
        tokens: tuple[str, ...],
        access: str | None,
        shortest: int,
    ) -> None:
        self._known: dict[str, str] = {}
        if password:
            self._known["p"] = password
            if user:
                self._known["u"] = f"{user}:{password}"
        if access:
            self._known["a"] = access
        for token in tokens:
            if token != access:
                self._known[f"t{hashlib.sha256(token.encode()).hexdigest()[:16]}"] = token
        self._shortest = shortest
        self._wanted: dict[bool, Mapping[Needle, str]] = {}

    def written(self, text: str, *, with_password: bool) -> str:
        """Return a text with places for secrets; raises NoPlaceError."""
        needles = self.needles(with_password=with_password)
        parts = list(_parts(text, needles))
        if not any(isinstance(part, Spot) for part in parts) and not has_mark(text):
            return text
        secrets = self._known.values()
        free = (mark for mark in _MARKS if not any(mark in secret for secret in secrets))
        mark = next(free, _MARKS[0])
        return mark + "".join(
            part.replace(mark, 2 * mark)
            if isinstance(part, str)
            else f"{mark}{_name(needles[part.needle], part)}{mark}"
            for part in parts
        )

    def filled(self, text: str) -> str:
        """Return a text with the secrets in their places; raises UnknownPlaceError."""
        if not has_mark(text):
            return text
        mark = text[0]
        parts = text[1:].split(mark)
        if len(parts) % 2 == 0:
            msg = "it ends within a place"
            raise UnknownPlaceError(msg)
        parts[1::2] = [self._secret(name) if name else mark for name in parts[1::2]]
        return "".join(parts)

    def needles(self, *, with_password: bool) -> Mapping[Needle, str]:
        """Return what is looked for, with whose it is."""
        if with_password in self._wanted:
            return self._wanted[with_password]
        needles: dict[Needle, str] = {}
        for owner, secret in self._known.items():
            if with_password or owner not in {"p", "u"}:
                # A pair is a secret only where it is written as one.
                found = needles_of(secret, self._shortest)
                for needle in found:
                    if owner != "u" or needle.form in FORMS:
                        needles.setdefault(needle, owner)
        self._wanted[with_password] = needles
        return needles

    def _secret(self, name: str) -> str:
        owner, _, rest = name.partition("-")
        form, _, way = rest.partition("-")
        is_token = owner[:1] == "t"
        secret = self._known.get(owner, self._known.get("a") if is_token else None)
        if secret is None or (form != "p" and form not in FORMS):
            msg = "it has a place for what is not known"
            raise UnknownPlaceError(msg)
        try:
            return written(encoded(secret, form), way)
        except KeyError as err:
            msg = "it has a place for what is written in no known way"
            raise UnknownPlaceError(msg) from err


def has_mark(text: str) -> bool:
    """Whether a text begins as one with places does."""
    return text != "" and text[0] in _MARKS


def _name(owner: str, spot: Spot) -> str:
    way = way_of(spot) if spot.needle.form else None
    if way is None:
        msg = "a secret is written in an unknown way"
        raise NoPlaceError(msg)
    return f"{owner}-{spot.needle.form}-{way}"


def _parts(text: str, needles: Mapping[Needle, str]) -> Iterator[str | Spot]:
    """Cut a text into secrets and what is none, in order."""
    left: list[str | Spot] = [text]
    while left:
        part = left.pop()
        spots = [] if isinstance(part, Spot) else find(part, needles)
        if isinstance(part, Spot) or not spots:
            yield part
            continue
        # A part of longer digits counts where no digits are there that are a secret as a whole.
        spots = [spot for spot in spots if spot.needle.form] or spots
        cut: list[str | Spot] = []
        end = 0
        for spot in spots:
            if spot.start >= end:
                # Looked at again: what overlapped a spot that was taken may leave another one.
                cut += [part[end : spot.start], spot]
                end = spot.end
        left += reversed([*cut, part[end:]])
