"""One transfer: the bytes of a finished order into a staging place, resumed where that is safe.

What to do with an answer is decided in :func:`plan`, a pure function; the rest carries it out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from hda_fsspec.cache.folder import NO_ROOM_ERRNOS
from hda_fsspec.concurrency import tasks
from hda_fsspec.errors import BrokerError, DownloadError
from hda_fsspec.network.api import Broker
from hda_fsspec.network.responses import ResponseHead, content_length, content_range, is_encoded
from hda_fsspec.printable import printable
from hda_fsspec.records import Product

logger = logging.getLogger("hda_fsspec")

OVERLAP_BYTES = 64 * 1024
# Facts for resuming are written down only where there is something worth resuming.
_REMEMBER_FROM_BYTES = 1 << 20
# So much is written before the disk is told to begin with it.
_SETTLED_BYTES = 8 << 20
_FRUITLESS_TRIES = 5
# A try that brings less than this is progress, but not so often: a service could go on for ever.
_WORTHWHILE_BYTES = 64 * 1024
_THIN_TRIES = 100
# Answers that bring a file; others may have a body as well.
_WHOLE = frozenset({200, 203})
#: What is remembered of bytes, and as what.
_FACTS = {"total": int, "name": str, "resumed": bool, "etag": str, "last_modified": str}
_FIRST_DELAY_SECONDS = 0.05


class Place(Protocol):
    """The target of the bytes: a staging of the cache."""

    @property
    def product(self) -> Product: ...  # noqa: D102
    @property
    def path(self) -> Any: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def facts(self) -> dict[str, Any]: ...  # noqa: D102
    def remember(self, **facts: Any) -> None: ...  # noqa: D102
    def restart(self) -> None: ...  # noqa: D102
    def open(self) -> Any: ...  # noqa: D102
    def settle(self, handle: Any, start: int, stop: int) -> None: ...  # noqa: D102
    def admit(self, held: int, more: int, total: int | None) -> None: ...  # noqa: D102


class NotReadyError(Exception):
    """The service says, against its own earlier word, that the file is still being prepared."""


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """The result of a transfer.

    Attributes
    ----------
    name : str or None
        The delivered name, just as sent.
    total : int or None
        The length in bytes that the service told; None where it told none.
    resumed : bool
        Whether the file was put together from more than one answer.
    """

    name: str | None
    total: int | None
    resumed: bool


class Action(enum.Enum):
    """The ways to go on after an answer."""

    WRITE = "write it from the first byte"
    APPEND = "compare what overlaps, then append the rest"
    RESTART = "drop what is held and ask for the whole"
    DONE = "nothing is missing"
    WAIT = "the file is not ready"
    REFUSE = "it is not what was asked for"


def plan(  # noqa: PLR0911  (one return for each kind of answer)
    answer: ResponseHead, *, held: int, first_byte: int, facts: Mapping[str, Any]
) -> tuple[Action, int | None]:
    """Decide what to do with an answer, and return the file's total length if it tells it.

    Parameters
    ----------
    answer : ResponseHead
        Status and headers.
    held : int
        Bytes that are held already.
    first_byte : int
        Where the range that was asked for starts; 0 if the whole was asked for.
    facts : mapping
        What was remembered of the bytes held: ``total``, ``etag``, ``last_modified``.
    """
    if answer.status == 202:
        return Action.WAIT, None
    if first_byte == 0:
        length = content_length(answer.headers)
        is_whole = answer.status == 206 and content_range(answer.headers) == (0, length)
        if answer.status not in _WHOLE and not is_whole:
            return Action.REFUSE, None
        return Action.WRITE, length
    if answer.status == 416:
        is_whole = facts.get("total") == held
        return (Action.DONE, held) if is_whole else (Action.RESTART, None)
    if answer.status != 206:
        if answer.status not in _WHOLE:
            return Action.REFUSE, None
        # The range was ignored, as the protocol allows: this is the whole file. Never append it.
        return Action.WRITE, content_length(answer.headers)
    told = content_range(answer.headers)
    if told is None or told[0] != first_byte or is_encoded(answer.headers):
        return Action.RESTART, None
    total = told[1]
    if total is None or total < held or facts.get("total") not in {None, total}:
        return Action.RESTART, None
    now = validators(answer.headers)
    for name in ("etag", "last_modified"):
        if facts.get(name) is not None and now.get(name) != facts[name]:
            return Action.RESTART, None
    return Action.APPEND, total


def validators(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that tell two states of a file apart; a weak ETag does not."""
    found = {}
    etag = headers.get("ETag", "").strip()
    if etag and not etag.startswith("W/"):
        found["etag"] = etag
    modified = headers.get("Last-Modified", "").strip()
    if modified:
        found["last_modified"] = modified
    return found


async def transfer(
    broker: Broker,
    download_id: str,
    place: Place,
    tell: Callable[[int, int | None], None],
) -> Received:
    """Fetch the file of a finished order, going on after faults as long as there is progress.

    It holds its thread while bytes arrive, and none while it waits to try again.

    Parameters
    ----------
    broker : Broker
        Where from.
    download_id : str
        The order.
    place : Place
        Where to; what it holds already is kept if it can be proved to be of the same file.
    tell : callable
        Called with (bytes held, total or None) as the transfer goes on.

    Raises
    ------
    DownloadError
        Several tries in a row brought nothing new, or there is no end and no room for it.
    NotReadyError
        The file is not there yet after all.
    BrokerError
        The service refuses; a ``status`` of 404 or 410 means that it forgot the order.
    """
    best, fruitless, thin = -1, 0, 0
    while True:
        try:
            received = _once(broker, download_id, place, tell)
        except _BrokenOff as err:
            held = place.offset
            is_worthwhile = best < 0 or held - best >= _WORTHWHILE_BYTES
            if not is_worthwhile and held > best and not err.is_stalled and thin < _THIN_TRIES:
                is_worthwhile, thin = True, thin + 1
            fruitless = 0 if is_worthwhile else fruitless + 1
            best = max(best, held)
            if fruitless >= _FRUITLESS_TRIES:
                of = "" if err.total is None else f" of {err.total}"
                msg = (
                    f"The download {printable(download_id)} broke off {fruitless + 1} times "
                    f"without getting further than {best} bytes{of}: {err.cause} Open it again "
                    "later; what is held is kept."
                )
                raise DownloadError(msg, expected=err.total, received=best) from err.cause
            logger.info("download %s broke off at %d bytes; going on", download_id, held)
            if fruitless:
                await tasks.sleep(_FIRST_DELAY_SECONDS * 2**fruitless)
            continue
        if received is not None:
            return received
        place.restart()


class _BrokenOff(Exception):
    def __init__(self, cause: BrokerError, total: int | None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.total = total

    @property
    def is_stalled(self) -> bool:
        """Whether too little arrived for too long."""
        why: BaseException | None = self.cause
        while why is not None and not isinstance(why, TimeoutError):
            why = why.__cause__
        return why is not None


def _once(
    broker: Broker,
    download_id: str,
    place: Place,
    tell: Callable[[int, int | None], None],
) -> Received | None:
    """Ask once for what is missing; None if what is held must be dropped first."""
    held, facts = place.offset, believed(place.facts)
    if held and facts.get("total") == held:
        return Received(facts.get("name"), held, resumed=bool(facts.get("resumed")))
    first_byte = range_start(held, facts)
    with broker.download(download_id, first_byte=first_byte, accept={416}) as (answer, body):
        action, total = plan(answer, held=held, first_byte=first_byte, facts=facts)
        if action is Action.WAIT:
            raise NotReadyError(download_id)
        if action is Action.REFUSE:
            whose = printable(download_id)
            msg = f"The whole file of {whose} was asked for, and {answer.status} answered."
            raise BrokerError(msg, status=answer.status)
        if action is Action.DONE:
            return Received(facts.get("name"), total, resumed=True)
        pieces = _Pieces(body)
        is_resumed = action is Action.APPEND
        if action is Action.RESTART or (
            is_resumed and not _overlap_is_equal(place, pieces, first_byte, held, total)
        ):
            return None
        if not is_resumed and held:
            place.restart()
        name = broker.file_name(answer, place.product.product_id) or facts.get("name")
        told = {"total": total, "name": name, "resumed": is_resumed, **validators(answer.headers)}
        is_remembered = total is None or total >= _REMEMBER_FROM_BYTES or is_resumed
        if is_remembered:
            place.remember(**told)
        try:
            _write(place, pieces, total, tell)
        except _BrokenOff:
            if not is_remembered:
                place.remember(**told)
            raise
        except OSError as err:
            if total is None and (isinstance(err, DownloadError) or err.errno in NO_ROOM_ERRNOS):
                # What has no end must not go on from here next time, nor fill the disk till then.
                place.restart()
            raise
    return Received(name, total, resumed=is_resumed)


def range_start(held: int, facts: Mapping[str, Any]) -> int:
    """Return the first byte to ask for, given the bytes held and what was remembered of them.

    Bytes of which nothing is known (a small file, whose writer was killed) are fetched again;
    without a validator the last ones are, to be compared.
    """
    if not facts:
        return 0
    has_validator = facts.get("etag") is not None or facts.get("last_modified") is not None
    return held if has_validator else max(0, held - OVERLAP_BYTES)


def believed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was remembered of bytes, without what is of no use: others may have written it.

    >>> believed({"total": 5, "name": ["x"], "etag": None, "resumed": 1})
    {'total': 5}
    """
    return {name: facts[name] for name, kind in _FACTS.items() if type(facts.get(name)) is kind}


class _Pieces:
    """The pieces of a body, of which the first bytes can be taken off."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def take(self, count: int) -> bytes:
        taken = bytearray()
        while len(taken) < count:
            piece = self._rest or next(self._pieces, b"")
            self._rest = b""
            if not piece:
                break
            taken += piece
        self._rest = bytes(taken[count:])
        return bytes(taken[:count])

    def __iter__(self) -> Iterator[bytes]:
        if self._rest:
            yield self._rest
            self._rest = b""
        yield from self._pieces


def _overlap_is_equal(
    place: Place, pieces: _Pieces, first_byte: int, held: int, total: int | None
) -> bool:
    with _broken_is_told(total):
        again = pieces.take(held - first_byte)
    with place.open() as handle:
        handle.seek(first_byte)
        return bool(handle.read(held - first_byte) == again)


def _write(
    place: Place, pieces: _Pieces, total: int | None, tell: Callable[[int, int | None], None]
) -> None:
    with place.open() as handle:
        done = settled = handle.tell()
        tell(done, total)
        with _broken_is_told(total):
            for piece in pieces:
                if total is not None and done + len(piece) > total:
                    done += len(piece)
                    break
                place.admit(done, len(piece), total)
                handle.write(piece)
                done += len(piece)
                tell(done, total)
                if done - settled >= _SETTLED_BYTES:
                    place.settle(handle, settled, done)
                    settled = done
    if total is not None and done > total:
        # Of another file than the one that was told of: nothing of it can be used.
        place.restart()
        msg = f"the body goes on after the {total} bytes that it was to have."
        raise _BrokenOff(BrokerError(msg), total)
    if total is not None and done < total:
        raise _BrokenOff(BrokerError(f"the body ended after {done} of {total} bytes."), total)


@contextlib.contextmanager
def _broken_is_told(total: int | None) -> Iterator[None]:
    try:
        yield
    except BrokerError as err:
        raise _BrokenOff(err, total) from err
