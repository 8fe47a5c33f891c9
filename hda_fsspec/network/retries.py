"""Rules of retries: after which fault, with which pause, and the error when they are used up.

Pure decisions over statuses and counts; the session acts on them.
"""

from __future__ import annotations

from collections.abc import Mapping

from hda_fsspec.errors import (
    AuthenticationError,
    BrokerError,
    ConfigurationError,
    HDAError,
    QuotaError,
)
from hda_fsspec.network.responses import Problem, quota_state, retry_after

#: How often each status, or other kind of fault, is asked again; what is not here, never. 500 is
#: often permanent at this service: the official client retried it 500 times and hung for hours
#: (ecmwf/hda#40). Nine retries outlast a gateway that restarts: they take more than a minute.
RETRIES: dict[int | str, int] = {
    408: 6,
    429: 6,
    500: 3,
    502: 9,
    503: 9,
    504: 9,
    "not JSON": 2,
    "not HTTP": 2,
    "timeout": 2,
    "connection": 9,
    "nobody there": 2,
}

#: What only helps is asked for once more, whatever went wrong: see :mod:`.optional_requests`.
RETRIES_OF_CONVENIENCES = 1

_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 16.0
_LONGEST_RETRY_AFTER_SECONDS = 60.0


def delay_seconds(failures: int, factor: float, told: float | None = None) -> float:
    """Return the wait after so many failures.

    Parameters
    ----------
    failures : int
        One or more.
    factor : float
        Near one; it spreads the retries of many clients.
    told : float, optional
        What the service asks for with ``Retry-After``; longer than a minute is not obeyed.
    """
    delay = min(_FIRST_DELAY_SECONDS * 2.0 ** (failures - 1), _LONGEST_DELAY_SECONDS) * factor
    return delay if told is None else max(delay, min(told, _LONGEST_RETRY_AFTER_SECONDS))


def error_for_response(
    asked: str,
    status: int | None,
    problem: Problem,
    headers: Mapping[str, str],
    *,
    user: str | None,
    now: float,
    given_up: str = "",
) -> HDAError:
    """Return the error that an unwanted answer is.

    Parameters
    ----------
    asked : str
        Method and address.
    status, problem, headers
        The HTTP status of the answer, what it says, and its headers. None for the status of another
        server to which the answer led, and which knows nothing of the account.
    user : str or None
        Whose request it was.
    now : float
        Seconds since 1970.
    given_up : str
        Why it was not tried again, as :class:`~hda_fsspec.network.retry_budget.Patience` says it.
    """
    said = f": {problem.text}" if problem.text else ""
    answered = f"{asked} answered {problem.status}{said}."
    error = _error_of(answered + given_up, status, problem, user, is_given_up=bool(given_up))
    error.subject, error.answered = problem.subject, answered
    if isinstance(error, QuotaError):
        error.reset_at = quota_state(headers, now).reset_at
        if error.reset_at is None and (seconds := retry_after(headers, now)) is not None:
            error.reset_at = now + seconds
    return error


def _error_of(
    told: str, status: int | None, problem: Problem, user: str | None, *, is_given_up: bool
) -> HDAError:
    if problem.status == 429:
        return QuotaError(
            f"{told} The account's quota, or that of the service behind the broker, is used up."
        )
    # One that is wrapped in another status is about an account at the service behind the broker.
    if status in {401, 403} and problem.status in {401, 403}:
        msg = f"{told} A new login did not help: has the account {user!r} access?"
        return AuthenticationError(msg)
    step = " Try again later." if problem.status >= 500 and not is_given_up else ""
    return BrokerError(told + step, status=problem.status)


def cannot_send(asked: str, said: str) -> ConfigurationError:
    """Return the error of a request that this machine cannot send; what is said has no secrets."""
    return ConfigurationError(
        f"{asked} cannot be sent: {said.rstrip('.')}. Set verify (HDA_VERIFY), or "
        "REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE in the environment, to a CA bundle that is there "
        "and can be read, or unset them."
    )


def no_answer(asked: str, kind: str, tries: int, said: str, *, given_up: str = "") -> BrokerError:
    """Return the error of a request that got no answer at all.

    Parameters
    ----------
    asked : str
        Method and address.
    kind : str
        The kind of the last fault.
    tries : int
        How often it was met.
    said : str
        What the fault says, without secrets.
    given_up : str
        Why it was not tried again, as :class:`~hda_fsspec.network.retry_budget.Patience` says it.
    """
    if kind == "TLS":
        step = (
            "If your site has its own certificates, set verify (HDA_VERIFY) to their bundle. If it "
            "is set, or REQUESTS_CA_BUNDLE is, look whether that file is a bundle in PEM form"
        )
    else:
        step = (
            "Check the network, the proxies, and the broker's address (endpoint_url, or HDA_URL "
            "in the environment)"
        )
    return BrokerError(
        f"{asked} got no answer in {tries} {'tries' if tries > 1 else 'try'}: {said}. {step}."
        f"{given_up}"
    )


def refused_by_proxy(asked: str, proxy: str | None, said: str) -> BrokerError:
    """Return the error of a request that a proxy on the way wants a password for.

    Parameters
    ----------
    asked : str
        Method and address.
    proxy : str or None
        The proxy, without its password; None where none is set.
    said : str
        What it says, without secrets.
    """
    if proxy is None:
        who = "a proxy on the way, although none is set in the environment"
        step = "Set HTTPS_PROXY and HTTP_PROXY to it, with user and password"
    else:
        who = f"the proxy {proxy}"
        step = (
            "Set user and password in HTTPS_PROXY and HTTP_PROXY "
            f"(http://USER:PASSWORD@{proxy.rpartition('://')[2]})"
        )
    told = f" ({said})" if said else ""
    # No status: it is no answer of the broker.
    return BrokerError(
        f"{asked} was refused by {who}: status 407, proxy authentication required{told}. {step}, "
        "or name the host in NO_PROXY if it can be reached without. The account of the service has "
        "nothing to do with it."
    )


def no_broker(
    asked: str, said: str, address: str, status: int, *, given_up: str = ""
) -> BrokerError:
    """Return the error of an answer that no broker gives; ``said`` goes on after what was asked."""
    return BrokerError(
        f"{asked} {said}. Is {address} the address of a broker? If it is, try again later; else "
        f"set endpoint_url, or HDA_URL in the environment.{given_up}",
        status=status,
    )
