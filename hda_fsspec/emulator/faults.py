"""Scripted faults: what goes wrong, where, how often.

A fault is a value. This module decides which faults a request meets, and makes the answers of those
that are the whole answer; what spoils a transfer or a job is done where those are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hda_fsspec.emulator.messages import (
    Answer,
    Request,
    error_answer,
    html_answer,
    json_answer,
)
from hda_fsspec.emulator.process_lock import ProcessLock
from hda_fsspec.errors import ConfigurationError

_BROKEN = "<!DOCTYPE html><html><body><h1>Something went wrong</h1></body></html>"
_FILE = "dataaccess/download/"

# Where a fault strikes if it does not say so: method and path prefix.
_ANYWHERE = (None, None)
_FILE_GET = ("GET", _FILE)
_ORDER = ("POST", "dataaccess/download")
_SEARCH = ("POST", "dataaccess/search")

#: Faults that are the whole answer; of these a request meets one.
_ANSWERS: dict[str, tuple[str | None, str | None]] = {
    "status": _ANYWHERE,
    "html": _ANYWHERE,
    "cut-json": _ANYWHERE,
    "hang": _ANYWHERE,
    "closed": _ANYWHERE,
    "cut-head": _ANYWHERE,
    "expired": _ANYWHERE,
    "order-failed": _ORDER,
    "quota": _ORDER,
    "empty-page": _SEARCH,
    "duplicate-ids": _SEARCH,
    "redirect": _FILE_GET,
}

#: Faults in the transfer of a file; one request can meet several of different kinds.
_TRANSFERS = (
    "cut",
    "reset",
    "stall",
    "slow",
    "wrong-length",
    "no-length",
    "name",
    "no-validator",
    "other-bytes",
    "truncated-file",
    "range-ignored",
    "range-other-total",
    "range-416",
)

#: Those that show in the headers of a HEAD already. A HEAD sees them and does not use them up.
_SEEN_BY_HEAD = (
    "wrong-length",
    "no-length",
    "name",
    "no-validator",
    "other-bytes",
    "truncated-file",
)

KINDS = (*_ANSWERS, *_TRANSFERS)


@dataclasses.dataclass(frozen=True)
class Fault:
    """One scripted fault.

    Parameters
    ----------
    kind : str
        "cut" and "reset" end the connection in the body of a file after ``after_bytes`` (half of
        it for a cut, before any answer for a reset, if not given); "stall" sends so many (or half)
        and no more; "status" answers ``status`` and ``body``; "html" an HTML page; "cut-json" half
        of the true JSON; "hang" nothing for ``seconds``; "closed" ends the connection without an
        answer; "cut-head" ends it ("close") or resets it (``value`` is "reset") in the middle of
        the headers, or after ``after_bytes``; "expired" lets the request's token expire;
        "order-failed" lets the order fail; "quota" refuses one order; "empty-page" and
        "duplicate-ids" spoil a page of a search; "redirect" goes to the URL ``value``; "slow"
        sends ``value`` bytes a second; "wrong-length"
        is off by ``value``; "no-length" is chunked (or ends by closing, if ``value`` is "close");
        "name" delivers under the name ``value``; "no-validator" has neither ETag nor
        Last-Modified; "other-bytes" sends other bytes of equal length at each GET;
        "truncated-file" is consistently cut at ``after_bytes``; "range-ignored",
        "range-other-total" (``value``, or one more than true) and "range-416" answer a Range.
    method, path : str or None
        Only requests of this method, whose path (relative to ``api/v1/``) starts so. By default
        the place where the kind makes sense.
    product_id : str or None
        Only orders and files of this product.
    times : int or None
        How often; None for always.
    skip : int
        Let so many matching requests pass first.
    """

    kind: str
    _: dataclasses.KW_ONLY
    method: str | None = None
    path: str | None = None
    product_id: str | None = None
    times: int | None = 1
    after_bytes: int | None = None
    status: int | None = None
    body: Any = None
    seconds: float | None = None
    value: Any = None
    skip: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            msg = f"The emulator has no fault {self.kind!r}: it has {', '.join(KINDS)}."
            raise ConfigurationError(msg)

    @property
    def is_transfer(self) -> bool:
        """True for a fault that spoils the transfer of a file, and is not the whole answer."""
        return self.kind in _TRANSFERS and not self.is_early_reset

    @property
    def is_early_reset(self) -> bool:
        """True for a reset before any answer, which can meet any request."""
        return self.kind == "reset" and self.after_bytes is None

    def _place(self) -> tuple[str | None, str | None]:
        if self.is_early_reset:
            return _ANYWHERE
        return _ANSWERS.get(self.kind, _FILE_GET)

    def matches(self, request: Request, product_id: str | None) -> bool:
        """Return True if this fault strikes a request, which may be about a product."""
        place_method, place_path = self._place()
        method, path = self.method, self.path
        # "redirect" can be sent elsewhere; a transfer is always that of a file.
        if self.is_transfer or (method is None and path is None):
            method, path = method or place_method, path or place_path
        if self.kind.startswith("range-") and "Range" not in request.headers:
            return False
        return (
            (method is None or method == request.method or self.is_only_seen(request))
            and (path is None or request.api.startswith(path) or self._is_elsewhere(request))
            and (self.product_id is None or self.product_id == product_id)
        )

    def _is_elsewhere(self, request: Request) -> bool:
        return self.is_transfer and self.path is None and request.path.startswith("/files/")

    def is_only_seen(self, request: Request) -> bool:
        """Return True if the request shows the fault without using it up."""
        return request.method == "HEAD" and self.method is None and self.kind in _SEEN_BY_HEAD


class FaultScript:
    """The faults to come, in order. Safe for threads: each fault strikes as often as it says."""

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._faults: list[Fault] = []
        self._left: dict[int, tuple[int, int | None]] = {}

    def add(self, fault: Fault) -> None:
        """Script a fault."""
        with self._lock:
            self._left[len(self._faults)] = (fault.skip, fault.times)
            self._faults.append(fault)

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()
            self._left.clear()

    def take(self, request: Request, product_id: str | None) -> tuple[Fault, ...]:
        """Return the faults that a request meets, and count them."""
        if not self._faults:
            return ()
        with self._lock:
            met: list[Fault] = []
            for number, fault in enumerate(self._faults):
                if not _fits(fault, met) or not fault.matches(request, product_id):
                    continue
                skip, times = self._left[number]
                if times == 0:
                    continue
                is_seen = fault.is_only_seen(request)
                if skip:
                    self._left[number] = (skip - (not is_seen), times)
                    continue
                met.append(fault)
                if times is not None and not is_seen:
                    self._left[number] = (0, times - 1)
                if not fault.is_transfer:
                    break
            return tuple(met)


def _fits(fault: Fault, met: Sequence[Fault]) -> bool:
    """Return True if a fault can strike together with those before it."""
    return not met or (fault.is_transfer and fault.kind not in {other.kind for other in met})


#: The faults that a request meets, by their kinds.
Faults = Mapping[str, Fault]


def instead(faults: Faults) -> Answer | None:
    """Return the answer to a request that is not even looked at, None if it is."""
    if "reset" in faults and faults["reset"].is_early_reset:
        return Answer(0, ending="reset")
    if "hang" in faults or "closed" in faults:
        return Answer(0, ending="close")
    if "html" in faults:
        return html_answer(_BROKEN, faults["html"].status or 200)
    if "redirect" in faults:
        return Answer(302, {"Location": str(faults["redirect"].value)})
    return _with_status(faults["status"]) if "status" in faults else None


def _with_status(fault: Fault) -> Answer:
    status = fault.status or 500
    if isinstance(fault.body, str):
        return html_answer(fault.body, status)
    if fault.body is not None:
        return json_answer(fault.body, status)
    return error_answer(status, "Internal Server Error" if status == 500 else None, "Task Error")


def spoil(answer: Answer, faults: Faults) -> Answer:
    """Return an answer as the faults leave it that cut it short."""
    if "cut-json" in faults and answer.file is None:
        answer = dataclasses.replace(answer, body=answer.body[: len(answer.body) // 2])
    if "cut-head" in faults:
        fault = faults["cut-head"]
        ending = str(fault.value or "close")
        return dataclasses.replace(answer, head_bytes=fault.after_bytes or -1, ending=ending)
    return answer
