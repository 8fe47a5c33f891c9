"""The ledger of order quota on disk: one file for each order that counts, shared by all processes.

Who wants to order writes a file first, then counts all; who counts too many takes his own back. So
two that write at one time may both refrain, and never both go ahead: no lock is needed. The ledger
knows products, files and times; what the service grants is no concern of this module.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hda_fsspec import safefiles
from hda_fsspec.cache.folder import Folder, dump_json
from hda_fsspec.records import Product

logger = logging.getLogger("hda_fsspec")

_ASKED = "asked"
_GRANTED = "granted"
_TOLD_NAME = "told.json"

#: An order without an answer for so long has none coming: its process was killed.
_UNANSWERED_SECONDS = 180.0
#: Grants older than the service counts are removed.
_WINDOW_SECONDS = 3600.0
#: Clocks of two hosts may differ by so much.
_AHEAD_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class OrderCounts:
    """What a ledger counts besides one's own file.

    Attributes
    ----------
    asked : int
        Orders that have not been answered yet.
    granted : tuple of float
        When each of the others was answered, in seconds since 1970.
    """

    asked: int
    granted: tuple[float, ...]

    def since(self, moment: float) -> int:
        """Return how many were granted after a moment."""
        return sum(each > moment for each in self.granted)


class Ledger:
    """The new orders of one account within the last hour.

    Parameters
    ----------
    root : Path
        The cache folder.
    account : str
        What the ledger is kept under.
    clock : callable
        Seconds since 1970. Hosts that share a folder are taken to agree within a second or so.
    """

    def __init__(self, root: Path, account: str, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = Folder(Path(root))
        self._place = self._folder.path / "quota" / account
        self._clock = clock
        self._told_seen: tuple[int, int] | None = None
        self._has_warned = False

    def reserve(self, product: Product) -> float:
        """Write that an order is about to go out, and return the time that was written.

        A product has one file, however many order it at a time: the service counts it once, too.
        """
        now = self._clock()
        self._write(self._path(product, _ASKED), now)
        return now

    def confirm(self, product: Product, moment: float) -> None:
        """Write when the order was answered, or may have been taken in."""
        self._write(self._path(product, _GRANTED), moment)
        self.release(product)

    def release(self, product: Product) -> None:
        """Take back what :meth:`ask` wrote."""
        self._unlink(self._path(product, _ASKED))

    def others(self, product: Product) -> OrderCounts:
        """Count all but those of one product, and remove what is too old to count."""
        return self._count(product.key)

    def all(self) -> OrderCounts:
        """Count all, and remove what is too old to count."""
        return self._count(None)

    def _count(self, left_out: str | None) -> OrderCounts:
        now = self._clock()
        asked: set[str] = set()
        granted: dict[str, float] = {}
        for name, written_at in self._files():
            key, _, state = name.partition(".")
            age_seconds = now - written_at
            # One from the future was written by a clock that has been set back since.
            if not -_AHEAD_SECONDS <= age_seconds <= _WINDOW_SECONDS:
                self._unlink(self._place / name)
            elif key == left_out:
                continue
            elif state == _GRANTED or age_seconds > _UNANSWERED_SECONDS:
                granted[key] = max(written_at, granted.get(key, 0.0))
            else:
                asked.add(key)
        # For a moment an order that was just answered has both files.
        return OrderCounts(len(asked - granted.keys()), tuple(granted.values()))

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Keep what the service told of the quota, for other processes."""
        path = self._place / _TOLD_NAME
        self._tolerantly(lambda: self._folder.write(path, dump_json(dict(facts))))

    def told(self) -> Any:
        """Return what another process kept since this was last asked, None if there is no news."""
        path = self._place / _TOLD_NAME
        try:
            facts = self._folder.look(path)
            seen = None if facts is None else (facts.st_mtime_ns, facts.st_ino)
            if seen is None or seen == self._told_seen:
                return None
            value = json.loads(self._folder.read(path))
        except OSError as err:
            safefiles.tell_once(err)
            return None
        except (ValueError, RecursionError):
            return None
        self._told_seen = seen
        return value

    def _files(self) -> Iterator[tuple[str, float]]:
        for name, facts in self._folder.files(self._place):
            if name.endswith((f".{_ASKED}", f".{_GRANTED}")):
                yield name, facts.st_mtime

    def _path(self, product: Product, state: str) -> Path:
        return self._place / f"{product.key}.{state}"

    def _write(self, path: Path, moment: float) -> None:
        def write() -> None:
            self._folder.prepare()
            self._folder.write(path, b"")
            self._folder.utime(path, moment)

        self._tolerantly(write)

    def _unlink(self, path: Path) -> None:
        self._tolerantly(lambda: self._folder.unlink(path))

    def _tolerantly(self, work: Callable[[], object]) -> None:
        """Do something that a read-only, full or just deleted folder may prevent.

        The ledger saves refusals. Without it the service still counts, and refuses what is too
        much; and the answer to an order, which is at hand, must not be lost over it.
        """
        try:
            work()
        except FileNotFoundError:
            return
        except OSError as err:
            if not self._has_warned:
                self._has_warned = True
                logger.warning("The order quota is not shared with other processes: %s", err)
