"""One request that is tried again: how often, by the kinds of its faults, and for how long in all.

Waits and counts, and says in the end why there is no more of it; which error that is, and what is
sent, is its caller's affair.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from hda_fsspec.network.retries import RETRIES, delay_seconds

logger = logging.getLogger("hda_fsspec")


@dataclasses.dataclass(eq=False, repr=False)
class Patience:
    """The time within which one request may be tried again and again.

    Parameters
    ----------
    seconds : float
        The setting ``max_wait``.
    clock : callable
        Seconds on a clock that never goes back.
    sleep : callable
        How to wait (seconds).
    jitter : callable
        A factor for each delay.
    """

    seconds: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    jitter: Callable[[], float]

    def __post_init__(self) -> None:
        self._began = self.clock()
        self._waited = 0.0

    def wait(self, failures: int, what: str, why: str, told: float | None = None) -> str:
        """Wait before the next try.

        Parameters
        ----------
        failures : int
            How many there were of this kind.
        what, why : str
            What is tried again, and for what fault: for the log.
        told : float, optional
            The seconds that the service asks for.

        Returns
        -------
        str
            Empty; or, where nobody waited because it would be too long, a sentence that says so.
        """
        delay = delay_seconds(failures, self.jitter(), told)
        spent = max(self._waited, self.clock() - self._began)
        if spent + delay > self.seconds:
            wanted = "" if told is None else f"the service asks to wait for {told:.0f} s, "
            return (
                f" It is not tried again: {wanted}the next try would be {spent + delay:.1f} s "
                f"after the first, and max_wait is {self.seconds:g} s. Try again later, or raise "
                "max_wait (HDA_MAX_WAIT)."
            )
        self._waited = spent + delay
        logger.info("%s: %s; trying again in %.1f s", what, why, delay)
        self.sleep(delay)
        return ""


class Tries:
    """The tries of one request, and the faults that it has met so far, by kind.

    Parameters
    ----------
    what : str
        The request, for the log.
    patience : Patience
        How long it may take in all; shared by requests that are one for who waits.
    most_retries : int, optional
        A bound for all kinds, beside their own in :data:`~hda_fsspec.network.retries.RETRIES`.

    Attributes
    ----------
    given_up : str
        Why there is no other try, where it would have come too late.
    """

    def __init__(self, what: str, patience: Patience, most_retries: int | None = None) -> None:
        self._what = what
        self._patience = patience
        self._most_retries = most_retries
        self._counts: dict[int | str, int] = {}
        self.given_up = ""

    def count(self, kind: int | str) -> int:
        """Return how many faults of a kind there were."""
        return self._counts.get(kind, 0)

    def again(
        self, kind: int | str, why: str, told: float | None = None, *, is_final: bool = False
    ) -> bool:
        """Count a fault, and wait if it helps to try again: return whether to do that.

        Parameters
        ----------
        kind : int or str
            A status, or another fault.
        why : str
            The fault, for the log.
        told : float, optional
            The seconds that the service asks for.
        is_final : bool
            Whether the caller knows that it does not help.
        """
        self._counts[kind] = count = self.count(kind) + 1
        retries = RETRIES.get(kind, 0)
        if self._most_retries is not None:
            retries = min(retries, self._most_retries)
        if is_final or count > retries:
            return False
        self.given_up = self._patience.wait(count, self._what, why, told)
        return not self.given_up
