"""Licences: what a data set asks for, what the account has accepted, and saying so.

Nothing is accepted without being asked for. "Accepted" is remembered on disk, since it is for
ever; "not accepted" never is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from hda_fsspec.disk.notes import Notes
from hda_fsspec.errors import BrokerError, HDAError, TermsNotAcceptedError
from hda_fsspec.network.broker import Broker
from hda_fsspec.records import Term

logger = logging.getLogger("hda_fsspec")


class Licences:
    """The licences of one account.

    Parameters
    ----------
    broker : Broker
        Whom to ask, as that account.
    notes : Notes
        Where accepted licences are remembered.
    account : str
        The name under which they are.
    accept : bool
        The setting ``accept_terms``: accept what is missing without being asked.
    terms_of : callable
        Returns the ids of the licences of a data set.
    """

    def __init__(
        self,
        broker: Broker,
        notes: Notes,
        account: str,
        *,
        accept: bool,
        terms_of: Callable[[str], tuple[str, ...]],
    ) -> None:
        self._broker = broker
        self._notes = notes
        self._account = account
        self._accept_all = accept
        self._terms_of = terms_of
        self._lock = threading.Lock()
        self._accepted: frozenset[str] = frozenset()

    def allow(self, dataset_id: str) -> tuple[str, ...]:
        """Return the licences of a data set, all of which are accepted.

        Raises
        ------
        TermsNotAcceptedError
            Some are not accepted, and ``accept_terms`` is not set.
        """
        terms = self._terms_of(dataset_id)
        if not self._accepted.issuperset(terms):
            with self._lock:
                self._accept_or_refuse(dataset_id, self._missing(terms, trust_notes=True))
        return terms

    def explain_refusal(self, dataset_id: str) -> bool:
        """Look whether a licence is why the service just refused something of a data set.

        What is remembered is not trusted here: a licence may have been withdrawn.

        Returns
        -------
        bool
            Whether asking again can help, since a licence was accepted now.

        Raises
        ------
        TermsNotAcceptedError
            It is, and ``accept_terms`` is not set.
        """
        with self._lock:
            missing = self._missing(self._terms_of(dataset_id), trust_notes=False)
            self._accept_or_refuse(dataset_id, missing)
        return bool(missing)

    def accept(self, dataset_id: str) -> list[str]:
        """Accept what is missing for a data set; return the ids of what was accepted now."""
        with self._lock:
            missing = self._missing(self._terms_of(dataset_id), trust_notes=False)
            self._accept(missing)
        return missing

    def states(self) -> dict[str, bool]:
        """Return all licences of the service by id, and whether each is accepted."""
        accepted = self._broker.accepted_terms()
        return {term_id: term_id in accepted for term_id in self._broker.terms()}

    def _missing(self, terms: Iterable[str], *, trust_notes: bool) -> list[str]:
        if trust_notes:
            self._accepted |= self._notes.accepted_terms(self._account)
            if self._accepted.issuperset(terms):
                return []
        try:
            accepted = self._broker.accepted_terms()
        except BrokerError as err:
            if err.status not in {404, 405, 410, 501}:
                raise
            # A broker without this call: whether something is missing, its other answers tell.
            logger.warning("The accepted licences cannot be asked for (%s)", err)
            return []
        self._accepted = accepted
        self._notes.add_accepted_terms(self._account, accepted)
        return [term for term in terms if term not in accepted]

    def _accept_or_refuse(self, dataset_id: str, missing: list[str]) -> None:
        if missing and not self._accept_all:
            raise self._not_accepted(dataset_id, missing)
        if missing:
            self._accept(missing)

    def _accept(self, terms: Iterable[str]) -> None:
        for term in terms:
            self._broker.accept_term(term)
            logger.info("accepted the licence %s", term)
            self._accepted |= {term}
        self._notes.add_accepted_terms(self._account, self._accepted)

    def _not_accepted(self, dataset_id: str, missing: list[str]) -> TermsNotAcceptedError:
        known: dict[str, Term] = {}
        try:
            known = self._broker.terms()
        except HDAError as err:
            logger.debug("Titles of licences cannot be had: %s", err)
        shown = "".join(f"\n  - {_describe(known.get(term, Term(term)))}" for term in missing)
        msg = (
            f"The data set {dataset_id} has licences that this account has not accepted:{shown}\n"
            f'Read them, then accept them once and for ever: fs.accept_terms("{dataset_id}"), or '
            f'on the command line: hda-fsspec terms accept "{dataset_id}"'
        )
        return TermsNotAcceptedError(msg, dataset_id=dataset_id, terms=missing)


def _describe(term: Term) -> str:
    title = f"{term.title} ({term.term_id})" if term.title else term.term_id
    return f"{title}: {term.link}" if term.link else title
