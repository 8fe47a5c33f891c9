"""The licences of an account: which are accepted, and what to do about those that are not.

Nothing is accepted without being asked for. "Accepted" is remembered on disk, since it is for
ever; "not accepted" never is.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Iterable

from hda_fsspec.cache.metadata import MetadataStore
from hda_fsspec.catalogue.datasets import Datasets
from hda_fsspec.errors import HDAError, TermsNotAcceptedError
from hda_fsspec.network.api import Broker
from hda_fsspec.network.optional_requests import UnavailableError
from hda_fsspec.network.responses import is_about_licences
from hda_fsspec.network.retries import RETRIES_OF_CONVENIENCES
from hda_fsspec.paths.quoting import shell_word
from hda_fsspec.printable import lines, python_text
from hda_fsspec.records import Term

logger = logging.getLogger("hda_fsspec")


@dataclasses.dataclass(eq=False, repr=False)
class Terms:
    """The licences of one account.

    Parameters
    ----------
    broker : Broker
        Whom to ask, as that account.
    metadata : MetadataStore
        Where accepted licences are remembered.
    account : str
        The name under which they are.
    datasets : Datasets
        Which licences a data set has.
    accepts_all : bool
        The setting ``accept_terms``: accept what is missing without being asked.
    """

    broker: Broker
    metadata: MetadataStore
    account: str
    datasets: Datasets
    accepts_all: bool

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._accepted: frozenset[str] = frozenset()

    def ensure_accepted(self, dataset_id: str) -> tuple[str, ...]:
        """Return the licences of a data set, none of which is known to be missing.

        Where it cannot be found out which are accepted the service is left to say so itself:
        :meth:`check_after_refusal` then says what it means.

        Raises
        ------
        TermsNotAcceptedError
            Some are not accepted, and ``accept_terms`` is not set.
        """
        terms = self._terms_if_told(dataset_id)
        if not self._accepted.issuperset(terms):
            with self._lock:
                self._accept_or_refuse(dataset_id, terms)
        return terms

    def check_after_refusal(self, dataset_id: str, refusal: HDAError, *, is_likely: bool) -> bool:
        """Look whether a licence is why the service just refused something of a data set.

        What is remembered is not trusted here: a licence may have been withdrawn.

        Parameters
        ----------
        dataset_id : str
            The data set.
        refusal : HDAError
            What the service said.
        is_likely : bool
            Whether a refusal of this kind, at this place, is mostly for want of a licence.

        Returns
        -------
        bool
            Whether asking again can help, since a licence was accepted now.

        Raises
        ------
        TermsNotAcceptedError
            It is, and ``accept_terms`` is not set or did not help.
        """
        says_so = is_about_licences(refusal)
        with self._lock:
            terms = self._terms_if_told(dataset_id)
            try:
                missing = self._missing(terms, anew=True)
            except UnavailableError:
                missing, is_known = list(terms) if is_likely or says_so else [], False
            else:
                is_known = bool(missing)
                # The service knows better than its list.
                missing = missing or (list(terms) if says_so else [])
            if not missing and not says_so:
                return False
            if self.accepts_all and missing and self._try_to_accept(missing, anew=True):
                return True
        raise self._not_accepted(dataset_id, missing, None if is_known else refusal) from refusal

    def accept(self, dataset_id: str) -> list[str]:
        """Accept what is missing for a data set; return the ids of what was accepted now.

        Where it cannot be found out what is missing, all that the data set names is accepted.
        """
        with self._lock:
            terms = self.datasets.get(dataset_id).terms
            try:
                missing = self._missing(terms, anew=True)
            except UnavailableError:
                missing = list(terms)
            self._accept(missing)
        return missing

    def status(self) -> dict[str, bool]:
        """Return all licences of the service by id, and whether each is accepted."""
        accepted = self.broker.accepted_terms()
        return {term_id: term_id in accepted for term_id in self.broker.terms()}

    def _terms_if_told(self, dataset_id: str) -> tuple[str, ...]:
        try:
            return self.datasets.get_if_told(dataset_id).terms
        except UnavailableError:
            return ()

    def _missing(self, terms: Iterable[str], *, anew: bool) -> list[str]:
        """Return which are not accepted, not by notes if anew; raises UnavailableError."""
        if not anew:
            self._accepted |= self.metadata.accepted_terms(self.account)
            if self._accepted.issuperset(terms):
                return []
        accepted = self.broker.conveniences.ask(
            "the list of accepted licences",
            self.broker.accepted_terms,
            "The service itself will say if one is missing.",
            anew=anew,
        )
        self._accepted = accepted
        self.metadata.add_accepted_terms(self.account, accepted)
        return [term for term in terms if term not in accepted]

    def _accept_or_refuse(self, dataset_id: str, terms: tuple[str, ...]) -> None:
        try:
            missing = self._missing(terms, anew=False)
        except UnavailableError:
            missing = list(terms) if self.accepts_all else []
        if missing and not self.accepts_all:
            raise self._not_accepted(dataset_id, missing)
        if missing:
            self._try_to_accept(missing)

    def _try_to_accept(self, terms: list[str], *, anew: bool = False) -> bool:
        """Accept licences, and return whether all of them are; if not, the log says why."""
        try:
            self.broker.conveniences.ask(
                "the acceptance of licences",
                lambda: self._accept(terms, most_retries=RETRIES_OF_CONVENIENCES),
                "The service itself will say if one is missing.",
                anew=anew,
            )
        except UnavailableError:
            return False
        return True

    def _accept(self, terms: Iterable[str], *, most_retries: int | None = None) -> None:
        accepted: set[str] = set()
        try:
            for term in terms:
                self.broker.accept_term(term, most_retries=most_retries)
                logger.info("accepted the licence %s", term)
                accepted.add(term)
        finally:
            self._accepted |= accepted
            if accepted:
                self.metadata.add_accepted_terms(self.account, self._accepted)

    def _not_accepted(
        self, dataset_id: str, missing: list[str], refusal: HDAError | None = None
    ) -> TermsNotAcceptedError:
        """Return the error; with a refusal, that is all which is known to be missing."""
        known: dict[str, Term] = {}
        try:
            known = self.broker.conveniences.ask(
                "the list of licences", self.broker.terms, "They are named by their ids."
            )
        except UnavailableError:
            logger.debug("The licences of %s are named by their ids.", dataset_id)
        shown = [f"  - {_describe(known.get(term, Term(term)))}" for term in missing]
        said = f"The data set {dataset_id} has licences that this account has not accepted:"
        if refusal is not None:
            said = (
                f"The service refused the data set {dataset_id} ({str(refusal).rstrip('.')}), as "
                "it does while a licence is not accepted. Which ones this account has accepted "
                f"could not be found out.{' The data set has:' if shown else ''}"
            )
        step = (
            "Read them, then accept them once and for ever: "
            f"fs.accept_terms({python_text(dataset_id)}), or on "
            f"the command line: hda-fsspec terms accept {shell_word(dataset_id)}"
        )
        return TermsNotAcceptedError(
            lines(said, *shown, step), dataset_id=dataset_id, terms=missing
        )


def _describe(term: Term) -> str:
    title = f"{term.title} ({term.term_id})" if term.title else term.term_id
    return f"{title}: {term.link}" if term.link else title
