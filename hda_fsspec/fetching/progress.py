"""The progress shown while orders are waited for: products, time passed, products left, quota.

What to say is decided by a pure function. One reporter watches all fetches of its process with
some settings, and says it on a terminal or in a notebook, else in the log. A worker, a child
process or a test writes to the log alone.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import dataclasses
import importlib.util
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Protocol

from hda_fsspec.concurrency import tasks
from hda_fsspec.fetching.quota import QuotaView
from hda_fsspec.printable import clock_time, elapsed, printable
from hda_fsspec.records import Product

logger = logging.getLogger("hda_fsspec")

GRACE_SECONDS = 2.0
_LOOK_EVERY_SECONDS = 1.0
_LOG_EVERY_SECONDS = 60.0
_LONGEST_NAME = 34
_COLUMNS = 120

_purpose: contextvars.ContextVar[str | None] = contextvars.ContextVar("purpose", default=None)
_is_quiet: contextvars.ContextVar[bool] = contextvars.ContextVar("is quiet", default=False)


@contextlib.contextmanager
def waiting_for(purpose: str) -> Iterator[None]:
    """Say of all fetches that this thread begins what they are for."""
    token = _purpose.set(purpose)
    try:
        yield
    finally:
        _purpose.reset(token)


@contextlib.contextmanager
def quietly(*, is_so: bool = True) -> Iterator[None]:
    """Show nothing of all fetches that this thread begins."""
    token = _is_quiet.set(is_so or _is_quiet.get())
    try:
        yield
    finally:
        _is_quiet.reset(token)


@dataclasses.dataclass
class Wait:
    """A product that is waited for.

    Attributes
    ----------
    product : Product
        Which.
    since : float
        Seconds since 1970.
    purpose : str or None
        What it is for, if that is not plain.
    waiters : int
        How many who asked for it wait still.
    is_quiet : bool
        Whether nothing shall be shown of it.
    received, size : int or None
        Bytes of its file: how many are here, and how many there are.
    """

    product: Product
    since: float
    purpose: str | None = None
    waiters: int = 0
    is_quiet: bool = False
    received: int | None = None
    size: int | None = None


def what_to_say(
    waits: Sequence[Wait],
    now: float,
    quota: QuotaView,
    *,
    finished: int = 0,
    longest_name: int | None = None,
) -> str | None:
    """Return one line about products that are waited for; None while it is too early for one.

    Parameters
    ----------
    waits : sequence of Wait
        What is waited for, in the order in which it was asked for.
    now : float
        Seconds since 1970.
    quota : QuotaView
        How the quota stands.
    finished : int
        How many products came since the waiting began.
    longest_name : int, optional
        To how many characters names are shortened, so that a line has room for the rest.
    """
    if not waits or now - waits[0].since < GRACE_SECONDS:
        return None
    first = waits[0]
    what = f"waiting for {_shortened(first.product.product_id, longest_name)}"
    if first.purpose is not None:
        what += f" ({_shortened(first.purpose, longest_name)})"
    if len(waits) > 1:
        what += f" and {len(waits) - 1} more"
    parts = [f"{what} since {clock_time(first.since)} ({elapsed(now - first.since)})"]
    if len(waits) + finished > 1:
        parts.append(f"{len(waits)} of {len(waits) + finished} left")
    arriving = [wait for wait in waits if wait.received is not None]
    if arriving:
        received = sum(wait.received or 0 for wait in arriving)
        sizes = [wait.size for wait in arriving]
        total = "" if None in sizes else f" of {_megabytes(sum(filter(None, sizes)))}"
        parts.append(f"downloading {len(arriving)}: {_megabytes(received)}{total} MB")
    if quota.closed_until is not None and quota.closed_until > now:
        parts.append(f"order quota used up until {clock_time(quota.closed_until)}")
    elif quota.left is not None and quota.limit is not None:
        parts.append(f"{quota.left} of {quota.limit} orders an hour left")
    return "hda: " + "; ".join(parts)


def _shortened(text: str, longest: int | None) -> str:
    """Return a text without its middle if it is too long: what differs is at both ends.

    >>> _shortened("S3A_OL_2_WFR____20240501T095858.SEN3", 16)
    'S3A_OL_2…58.SEN3'
    """
    text = printable(text)
    if longest is None or len(text) <= longest:
        return text
    end = (longest - 1) // 2
    return f"{text[: longest - 1 - end]}…{text[-end:]}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f}"


class Screen(Protocol):
    """A terminal or notebook that can show one line, change it and take it away."""

    def show(self, text: str | None) -> None:
        """Show a line in place of the one before; None for none."""


class Line:
    """The line on standard error, or in a notebook with widgets one of them, drawn by tqdm.

    So it stands well beside other bars.

    Parameters
    ----------
    modules : mapping
        Which modules are loaded, which tells where this runs.
    """

    def __init__(self, modules: Mapping[str, Any] = sys.modules) -> None:
        self._modules = modules
        self._bar: Any = None

    def show(self, text: str | None) -> None:
        """Show a line in place of the one before; None for none."""
        if text is None:
            if self._bar is not None:
                self._bar.close()
            self._bar = None
            return
        if self._bar is None:
            self._bar = _bar(text, self._modules)
        self._bar.ncols = _columns()
        self._bar.set_description_str(text)


def _bar(text: str, modules: Mapping[str, Any]) -> Any:
    """Return a bar that is nothing but a text: a widget in a notebook that has them."""
    if _is_notebook(modules) and importlib.util.find_spec("ipywidgets") is not None:
        # Not tqdm.auto, which warns of missing widgets where text does as well.
        from tqdm.notebook import tqdm as widget

        with contextlib.suppress(ImportError):  # widgets of a version that tqdm does not know
            return widget(bar_format="{desc}", leave=False, desc=text)
    from tqdm import tqdm

    return tqdm(bar_format="{desc}", leave=False, file=sys.stderr, ncols=_columns(), desc=text)


def _columns() -> int:
    """Return how wide the terminal is now; some terminals, and notebooks, do not tell."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except (OSError, ValueError, AttributeError):
        return _COLUMNS


def somebody_looks(modules: Mapping[str, Any] = sys.modules) -> bool:
    """Whether standard error of this process is a terminal or a notebook in front of somebody.

    What runs here is told by which modules are loaded.
    """
    is_child = multiprocessing.parent_process() is not None
    if is_child or "pytest" in modules or _is_worker(modules):
        return False
    return _is_notebook(modules) or (sys.stderr is not None and sys.stderr.isatty())


def _is_worker(modules: Mapping[str, Any]) -> bool:
    """Whether this process is a worker of Dask and nothing else; a client's process is not."""
    distributed = modules.get("distributed")
    workers = getattr(getattr(distributed, "Worker", None), "_instances", ())
    clients = getattr(getattr(distributed, "Client", None), "_instances", ())
    return bool(workers) and not clients


def _is_notebook(modules: Mapping[str, Any]) -> bool:
    get_ipython = getattr(modules.get("IPython"), "get_ipython", None)
    shell = None if get_ipython is None else get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


@dataclasses.dataclass(eq=False, repr=False)
class Reporter:
    """Watches fetches, and says what is waited for; for several threads.

    Parameters
    ----------
    quota : callable
        Returns how the quota stands.
    is_shown : bool
        Whether anything may be shown at all.
    screen : Screen
        Where to show it.
    looks : callable
        Says whether somebody looks there; else the log is told.
    clock : callable
        Seconds since 1970.
    begin : callable
        Has the coroutine that it is given run, when there is something to wait for.
    """

    quota: Callable[[], QuotaView]
    is_shown: bool = True
    screen: Screen = dataclasses.field(default_factory=Line)
    looks: Callable[[], bool] = somebody_looks
    clock: Callable[[], float] = time.time
    begin: Callable[[Coroutine[Any, None, None]], object] = lambda work: work.close()

    def __post_init__(self) -> None:
        # Of what is watched, and of what is said: a slow terminal must hold no fetch.
        self._lock = threading.Lock()
        self._saying = threading.Lock()
        self._waits: dict[Product, Wait] = {}
        self._finished = 0
        self._has_begun = False
        self._is_showing = False
        self._logged_at: float | None = None

    def watch(self, product: Product, waiter: concurrent.futures.Future[Any]) -> None:
        """Watch a fetch until it ends, or until all who wait for it have cancelled."""
        with self._lock:
            wait = self._waits.get(product)
            if wait is None:
                quiet = _is_quiet.get()
                wait = Wait(product, self.clock(), _purpose.get(), is_quiet=quiet)
                self._waits[product] = wait
            wait.waiters += 1
            begins, self._has_begun = not self._has_begun, True
        waiter.add_done_callback(lambda ended: self._end(wait, ended))
        if begins:
            self.begin(self._look_on())

    def tell(self, product: Product, received: int, size: int | None) -> None:
        """Take note of how much of a file is here."""
        wait = self._waits.get(product)
        if wait is not None:
            wait.received, wait.size = received, size

    def look(self) -> float | None:
        """Say what is to be said now; return in how many seconds to look again, None for never."""
        with self._saying:
            now = self.clock()
            with self._lock:
                waits = [*self._waits.values()]
                finished = self._finished
                if not waits:
                    self._logged_at = None
            is_early = not waits or now - waits[0].since < GRACE_SECONDS
            loud = [wait for wait in waits if not wait.is_quiet] if self.is_shown else []
            if not is_early and loud and self.looks():
                self._show(
                    what_to_say(
                        loud, now, self.quota(), finished=finished, longest_name=_LONGEST_NAME
                    )
                )
            else:
                self._show(None)
                if not is_early:
                    self._log(waits, now, finished)
            if not waits:
                return None
            early = GRACE_SECONDS - (now - waits[0].since)
            return early if early > 0 else _LOOK_EVERY_SECONDS

    def _show(self, text: str | None) -> None:
        if text is None and not self._is_showing:
            return
        self._is_showing = text is not None
        try:
            self.screen.show(text)
        except (OSError, ValueError) as err:
            # The terminal is gone; what is fetched has nothing to do with it.
            logger.debug("Cannot show what is waited for: %s", err)
            self.is_shown = self._is_showing = False

    def _log(self, waits: Sequence[Wait], now: float, finished: int) -> None:
        if self._logged_at is not None and now - self._logged_at < _LOG_EVERY_SECONDS:
            return
        self._logged_at = now
        logger.info("%s", what_to_say(waits, now, self.quota(), finished=finished))

    def _end(self, wait: Wait, ended: concurrent.futures.Future[Any]) -> None:
        with self._lock:
            wait.waiters -= 1
            if wait.waiters:
                return
            del self._waits[wait.product]
            is_over = not self._waits
            self._finished = 0 if is_over else self._finished + (not ended.cancelled())
        if self._is_showing and is_over:
            self.look()

    async def _look_on(self) -> None:
        """Look now and then, as long as there is something to wait for."""
        while True:
            seconds = self.look()
            with self._lock:
                if not self._waits:
                    self._has_begun = False
                    return
            # What has come since is not told before its time.
            await tasks.sleep(_LOOK_EVERY_SECONDS if seconds is None else seconds)
