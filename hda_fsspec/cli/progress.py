"""Progress bars of many files: one for each that arrives, one for all, and what is waited for.

What is shown is told by fsspec's callbacks, in whatever thread they are called.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from fsspec.callbacks import Callback
from rich.console import Console, RenderableType
from rich.console import Group as Rows
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import clock_time, elapsed, format_bytes, plural, printable

if TYPE_CHECKING:
    from typing import Self

    from hda_fsspec.fetching.quota import QuotaView

_GRACE_SECONDS = 2.0  # from when on it is told that nothing comes
_TIMES_A_SECOND = 4
_MOST_FILES = 8
_BAR_COLUMNS = 20
_NUMBER_COLUMNS = len("999.9 MB of 999.9 MB")
_NARROW_COLUMNS = 60  # with fewer there are no bars, but names and numbers
_SHORTEST_NAME = 12
_LEFT_OUT = "..."
#: Where what many names begin with ends in a word, that word counts to what differs.
_WORD_AT_END = re.compile(r"[^\W_]*\Z")


def console_of(stream: TextIO) -> Console:
    """Return how to draw on a stream; nothing that is drawn is taken for markup."""
    return Console(file=stream, markup=False, emoji=False, highlight=False)


class Bars(Callback):  # type: ignore[misc]  # fsspec is untyped
    """The bars of a transfer of many files, shown from entering it to its exit.

    Parameters
    ----------
    quota : callable
        Returns how the quota stands.
    console : Console
        Where to draw.
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        quota: Callable[[], QuotaView],
        console: Console,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._quota = quota
        self._console = console
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._files: list[_FileBar] = []
        self._ended = 0
        self._failed = 0
        self._same: str | None = None
        self._bytes = 0
        self._live = Live(
            console=console,
            get_renderable=self.drawn,
            refresh_per_second=_TIMES_A_SECOND,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc_args: object) -> None:
        self._live.stop()

    def branched(self, path_1: Any, path_2: Any, **kwargs: Any) -> _FileBar:  # noqa: ARG002
        """Return what is told of one of the files."""
        name = printable(Location.parse(path_1).product or path_1)
        file = _FileBar(self, name, self._clock())
        with self._lock:
            self._files.append(file)
            self._same = name if self._same is None else _common_start(self._same, name)
        return file

    def end(self, file: _FileBar) -> None:
        """Take note that nothing more comes of a file."""
        with self._lock:
            self._files.remove(file)
            self._ended += 1
            self._failed += not file.is_complete
            self._bytes += file.value

    def drawn(self) -> RenderableType:
        """Return what is to be seen now."""
        now = self._clock()
        with self._lock:
            files, ended, failed = list(self._files), self._ended, self._failed
            same = len(_WORD_AT_END.sub("", self._same or ""))
            received = self._bytes + sum(file.value for file in files)
        count = self.size or 0
        ended = max(ended, self.value)  # where files are counted, and not told of one by one
        arriving = [file for file in files if file.value]
        is_narrow = self._console.width < _NARROW_COLUMNS
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True, overflow="ellipsis")
        if not is_narrow:
            table.add_column(width=_BAR_COLUMNS)
        table.add_column(no_wrap=True, overflow="ellipsis")
        taken = _NUMBER_COLUMNS + (1 if is_narrow else _BAR_COLUMNS + 2)
        longest = max(_SHORTEST_NAME, self._console.width - taken)

        def add(name: str, done: int, total: int | None, told: str) -> None:
            bar = ProgressBar(total=total, completed=done, pulse=total is None)
            table.add_row(Text(name), *([] if is_narrow else [bar]), Text(told))

        for file in arriving[:_MOST_FILES]:
            size = "" if file.size is None else f" of {format_bytes(file.size)}"
            told = f"{format_bytes(file.value)}{size}"
            add(_shortened(file.name, same, longest), file.value, file.size, told)
        bad = f", {failed} failed" if failed else ""
        told = f"{format_bytes(received)}, " if received else ""
        told += elapsed(now - self._began)
        add(f"{ended} of {plural(count, 'file')}{bad}", ended, count or None, told)
        waiting = [file for file in files if not file.value]
        return Rows(table, *self._waiting(waiting, count - ended - len(arriving), now))

    def _waiting(self, files: list[_FileBar], left: int, now: float) -> Iterator[Text]:
        """Yield what is told of files of which nothing is here."""
        since = min((file.began for file in files), default=self._began)
        if left <= 0 or now - since < _GRACE_SECONDS:
            return
        what = plural(left, "file")
        if files:
            what = files[0].name
            what += f" and {left - 1} more" if left > 1 else ""
        told = f"waiting for {what} since {clock_time(since)} ({elapsed(now - since)})"
        quota = self._quota()
        if quota.closed_until is not None and quota.closed_until > now:
            told += f"; order quota used up until {clock_time(quota.closed_until)}"
        elif quota.left is not None and quota.limit is not None:
            told += f"; {quota.left} of {quota.limit} orders an hour left"
        yield Text(told)


class _FileBar(Callback):  # type: ignore[misc]  # fsspec is untyped
    """The progress of one file: its length in bytes, and how many are here."""

    def __init__(self, bars: Bars, name: str, began: float) -> None:
        super().__init__()
        self._bars = bars
        self.name = name
        self.began = began

    @property
    def is_complete(self) -> bool:
        """Whether all of it is here."""
        return self.size is not None and bool(self.value >= self.size)

    def close(self) -> None:
        """Take note that nothing more comes."""
        self._bars.end(self)


def _shortened(name: str, same: int, longest: int) -> str:
    """Return a name that is not too long: without what all begin with, then without its middle.

    >>> _shortened("S3A_OL_20240501T095858.SEN3", 7, 19)
    '...20240501T...SEN3'
    """
    if len(name) > longest and len(_LEFT_OUT) < same < len(name):
        name = _LEFT_OUT + name[same:]
    if len(name) <= longest:
        return name
    # What differs from file to file is rather in front.
    end = (longest - len(_LEFT_OUT)) // 4
    return f"{name[: longest - len(_LEFT_OUT) - end]}{_LEFT_OUT}{name[-end:]}"


def _common_start(one: str, other: str) -> str:
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "".join(char for char, _ in pairs)
