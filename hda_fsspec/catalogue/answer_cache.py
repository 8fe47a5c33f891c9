"""Answers of the service that are asked for once, kept in memory and on disk, and trusted a while.

Neither the threads of a process nor the workers of a cluster ask the same thing twice.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from hda_fsspec.cache.metadata import JsonStore
from hda_fsspec.catalogue.json_codecs import Codec
from hda_fsspec.errors import OfflineError
from hda_fsspec.settings import Settings

_REMEMBERED = 512


class Answers:
    """The answers of one broker.

    Parameters
    ----------
    settings : Settings
        Whose answers they are, for how long they are trusted, and whether others can be had.
    store : JsonStore
        Where they are kept on disk.
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self, settings: Settings, store: JsonStore, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._broker = settings.endpoint_url
        self._max_age = None if settings.offline else settings.listings_expiry_time
        self._store = store
        self._clock = clock
        self._memory: collections.OrderedDict[str, tuple[float, Any]] = collections.OrderedDict()
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._invalid_until = float("-inf")

    def get(
        self, codec: Codec, subject: str, ask: Callable[[], Any], *, refresh: bool = False
    ) -> Any:
        """Return an answer that is still trusted, or ask for it; one thread asks, others wait.

        Parameters
        ----------
        codec : Codec
            The kind of the answer.
        subject : str
            What it is about.
        ask : callable
            Asks the service.
        refresh : bool
            Whether to ask whatever is known.

        Raises
        ------
        OfflineError
            It is not here, and nobody may be asked; or whatever else ``ask`` raises.
        """
        name = self._name(codec, subject)
        if not refresh and (known := self.recall(codec, subject)) is not None:
            return known
        asked_at = self._clock()
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            # Another thread may have asked while this one waited for its turn.
            dated = self._recall_dated(codec, subject)
            if dated is not None and (not refresh or dated[0] > asked_at):
                return dated[1]
            try:
                value = ask()
            except OfflineError as err:
                msg = (
                    f"The {codec.name} of {subject or self._broker} is not in the "
                    "cache, and offline is set. Unset offline (or HDA_OFFLINE) and look at it once."
                )
                raise OfflineError(msg) from err
            now = self._clock()
            self._remember(name, now, value)
            self._store.put(name, {"at": now, "name": name, "value": codec.pack(value)})
            return value

    def recall(self, codec: Codec, subject: str) -> Any:
        """Return an answer that is still trusted, without asking; None if there is none."""
        dated = self._recall_dated(codec, subject)
        return None if dated is None else dated[1]

    def stored(self, codec: Codec, beginning: str) -> Iterator[tuple[str, float, Any]]:
        """Go through all answers on disk about what begins so, whatever their age.

        Yields
        ------
        tuple
            What the answer is about, when it was given, and the answer.
        """
        prefix = self._name(codec, "")
        for note in self._store.values():
            name = str(note.get("name")) if isinstance(note, dict) else ""
            if name.startswith(prefix + beginning):
                dated = _unpack(codec, note)
                if dated is not None:
                    yield name.removeprefix(prefix), *dated

    def invalidate(self, codec: Codec, subject: str) -> None:
        """Forget an answer, here and on disk."""
        name = self._name(codec, subject)
        with self._lock:
            self._memory.pop(name, None)
        self._store.delete(name)

    def invalidate_all(self) -> None:
        """Trust no answer that was given until now."""
        with self._lock:
            self._memory.clear()
            self._invalid_until = self._clock()

    def _recall_dated(self, codec: Codec, subject: str) -> tuple[float, Any] | None:
        """Return an answer that is still trusted, with the time when it was given."""
        name = self._name(codec, subject)
        with self._lock:
            known = self._memory.get(name)
            if known is not None and self._is_trusted(codec, known[0]):
                self._memory.move_to_end(name)
                return known
        note = self._store.get(name, max_age_seconds=codec.max_age(self._max_age))
        dated = _unpack(codec, note)
        if dated is None or not self._is_trusted(codec, dated[0]):
            return None
        self._remember(name, *dated)
        return dated

    def _is_trusted(self, codec: Codec, at: float) -> bool:
        # An answer from the future is no younger: a clock was wrong, now or then.
        max_age = codec.max_age(self._max_age)
        is_young = max_age is None or abs(self._clock() - at) <= max_age
        return is_young and at >= self._invalid_until

    def _remember(self, name: str, at: float, value: Any) -> None:
        with self._lock:
            self._memory[name] = (at, value)
            self._memory.move_to_end(name)
            while len(self._memory) > _REMEMBERED:
                self._memory.popitem(last=False)

    def _name(self, codec: Codec, subject: str) -> str:
        return f"{self._broker} {codec.name} {subject}"


def _unpack(codec: Codec, note: Any) -> tuple[float, Any] | None:
    """Return when the answer in a note was given, and the answer; None where it is unreadable."""
    if not isinstance(note, dict) or not isinstance(note.get("at"), (int, float)):
        return None
    value = codec.unpack(note.get("value"))
    return None if value is None else (float(note["at"]), value)
