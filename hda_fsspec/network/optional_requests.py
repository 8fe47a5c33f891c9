"""Requests that only help: made with little patience, and left out where they fail.

The list of accepted licences, titles, schemas and HEAD tell beforehand what the job itself would be
told. A service that lacks one of them, or answers something unreadable, must stop nobody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from hda_fsspec.errors import AuthenticationError, BrokerError, HDAError, QuotaError

logger = logging.getLogger("hda_fsspec")

T = TypeVar("T")

# What could not be had is not asked for again so soon.
_PAUSE_SECONDS = 60.0
_SHOWN_CHARACTERS = 400


class UnavailableError(Exception):
    """A convenience cannot be had; the job goes on without it. Never leaves the package."""


class Conveniences:
    """Asks for what only helps, and says once of each in the log that it is missing.

    Parameters
    ----------
    log_in : callable
        Gets a token where there is none. A login is no convenience: its faults are raised.
    """

    def __init__(self, log_in: Callable[[], object]) -> None:
        self._log_in = log_in
        self._lock = threading.Lock()
        self._failed_at: dict[str, float] = {}
        self._told: set[str] = set()

    def ask(
        self,
        what: str,
        ask: Callable[[], T],
        consequence: str,
        *,
        anew: bool = False,
        silence: bool = True,
    ) -> T:
        """Return what a function returns.

        Parameters
        ----------
        what : str
            What is asked for, for the log; also the name under which a failure is remembered.
        ask : callable
            Asks the service.
        consequence : str
            What is done without it: a sentence for the log.
        anew : bool
            Ask even if it could not be had a moment ago.
        silence : bool
            Whether no answer at all is one more reason to do without. If not, it is raised.

        Raises
        ------
        UnavailableError
            It cannot be had, now or a moment ago; its cause says why.
        HDAError
            The login is refused, a setting forbids to ask, or nobody answers (see `silence`).
        """
        self._log_in()
        with self._lock:
            failed_at = self._failed_at.get(what)
        if not anew and failed_at is not None and time.monotonic() - failed_at < _PAUSE_SECONDS:
            raise UnavailableError(what)
        try:
            value = ask()
        except (AuthenticationError, BrokerError, QuotaError) as err:
            if isinstance(err, BrokerError) and err.status is None and not silence:
                raise
            with self._lock:
                self._failed_at[what] = time.monotonic()
            self.tell(what, err, consequence)
            raise UnavailableError(what) from err
        with self._lock:
            self._failed_at.pop(what, None)
        return value

    def tell(self, what: str, why: HDAError | str, consequence: str) -> None:
        """Say in the log, once, that something cannot be had and what is done without it."""
        with self._lock:
            if what in self._told:
                return
            self._told.add(what)
        logger.warning(
            "%s cannot be had (%s). %s",
            what[:1].upper() + what[1:],
            " ".join(str(why).split())[:_SHOWN_CHARACTERS],
            consequence,
        )
