"""Random faults: a share of all answers is spoilt, drawn by a seed.

What is drawn for a request depends on what is asked and how often it was asked before, and not on
what others ask meanwhile: the same job meets the same faults, whatever its threads do.
"""

from __future__ import annotations

import hashlib
from collections import Counter

from hda_fsspec.emulator.faults import Fault
from hda_fsspec.emulator.messages import Request
from hda_fsspec.emulator.process_lock import ProcessLock
from hda_fsspec.errors import ConfigurationError

#: What can be drawn for any request, and what more for the body of a file. No honest client can
#: survive a lie that nothing betrays, so there is none among them; nor a 429, which is no fault.
ANYWHERE = ("500", "502", "503", "reset", "html", "hang", "expired")
IN_JSON = ("cut-json",)
IN_FILES = ("cut", "reset-within", "slow", "no-length", "no-validator", "range-ignored")
KINDS = (*ANYWHERE, *IN_JSON, *IN_FILES)

_FILE = "dataaccess/download/"
# Slow enough to be overtaken by others, short enough to wait for.
_HANG_SECONDS = 0.2
_SLOW_SECONDS = 0.5


class RandomFaults:
    """Draws faults. Safe for threads.

    Parameters
    ----------
    rate : float
        The share of answers that are spoilt, from 0 to 1.
    seed : int
        Another seed, other faults.
    kinds : tuple of str
        What is drawn from.
    """

    def __init__(self, rate: float, seed: int, kinds: tuple[str, ...] = KINDS) -> None:
        if not 0 <= rate <= 1:
            msg = f"The emulator's option fault_rate is {rate!r}: give a share from 0 to 1."
            raise ConfigurationError(msg)
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            msg = f"The emulator draws no fault {unknown[0]!r}: it has {', '.join(KINDS)}."
            raise ConfigurationError(msg)
        self._rate = rate
        self._seed = seed
        self._kinds = kinds
        self._lock = ProcessLock()
        self._asked: Counter[str] = Counter()
        self._drawn: Counter[str] = Counter()

    @property
    def drawn(self) -> Counter[str]:
        """The number of draws of each kind so far."""
        with self._lock:
            return self._drawn.copy()

    def draw(
        self, request: Request, product_id: str | None, length: int | None
    ) -> tuple[Fault, ...]:
        """Return the fault that a request meets, none or one.

        Parameters
        ----------
        request : Request
            What is asked.
        product_id : str or None
            The product that it is about, if it is about one.
        length : int or None
            The length of that product's file in bytes, where it is known.
        """
        if not self._rate:
            return ()
        place = request.api if product_id is None else f"{_FILE}{product_id}"
        asked = f"{request.method} {place}"
        with self._lock:
            number = self._asked[asked]
            self._asked[asked] += 1
        if self._number(asked, number, "whether") >= self._rate:
            return ()
        possible = [kind for kind in self._kinds if _is_possible(kind, request)]
        if not possible:
            return ()
        kind = possible[int(self._number(asked, number, "which") * len(possible))]
        with self._lock:
            self._drawn[kind] += 1
        return (_fault(kind, length or 0, self._number(asked, number, "where")),)

    def _number(self, *facts: object) -> float:
        """Return a number from 0 to 1 that depends on the facts and the seed alone."""
        digest = hashlib.sha256(repr((self._seed, facts)).encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


def _is_possible(kind: str, request: Request) -> bool:
    if kind in IN_FILES:
        return request.method == "GET" and _is_file(request)
    if kind == "expired":
        return request.token is not None
    if kind in IN_JSON:
        return request.method != "HEAD" and not _is_file(request)
    return True


def _is_file(request: Request) -> bool:
    return request.api.startswith(_FILE) or request.path.startswith("/files/")


def _fault(kind: str, length: int, share: float) -> Fault:
    if kind in {"500", "502", "503"}:
        return Fault("status", status=int(kind))
    if kind == "hang":
        return Fault("hang", seconds=_HANG_SECONDS)
    if kind == "cut":
        return Fault("cut", after_bytes=int(share * length))
    if kind == "reset-within":
        return Fault("reset", after_bytes=int(share * length))
    if kind == "slow":
        return Fault("slow", value=max(1000.0, length / _SLOW_SECONDS))
    return Fault(kind)
