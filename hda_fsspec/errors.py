"""Every error that this package raises on purpose, as one tree.

HDAError
├── ConfigurationError      (ValueError)       a setting is wrong or missing
├── LocationError           (ValueError)       a path or request is not well formed
├── QueryError              (ValueError)       a query was refused, by its schema or by the service
├── TooManyProductsError    (ValueError)       a listing is larger than ``max_products``
├── AuthenticationError     (PermissionError)  the service does not accept user and password
├── TermsNotAcceptedError   (PermissionError)  a licence of the data set is not accepted yet
├── QuotaError              (OSError)          the orders of this hour are used up
├── OrderError              (OSError)          the service could not prepare a product
│   └── OrderTimeoutError   (TimeoutError)     … within the time allowed
├── DownloadError           (OSError)          a transfer ended short, or was not what was ordered
├── ProductFormatError      (OSError)          a file is damaged, or not of a known format
├── ProductMismatchError    (ValueError)       a product does not fit the data set it is part of
├── ProductFunctionError    (RuntimeError)     a function that was given a product failed
├── OfflineError            (OSError)          the network is needed, and ``offline`` is set
└── BrokerError             (OSError)          any other answer of the service, or none

A path that is not there is a plain :class:`FileNotFoundError`. The module does no I/O.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from typing import Any

from hda_fsspec.printable import flat, printable, printable_lines

#: What the refusals of the service may be about: see :class:`HDAError`.
LICENCES = "licences"
NO_DATA = "no data"

#: More faults than these are counted, and not told.
_SHOWN_OTHERS = 20
#: What differs between two refusals for one reason a moment apart.
_DURATION = re.compile(r"\b\d+(?:\.\d+)? s\b")


def _restore(cls: type[HDAError], args: tuple[Any, ...], state: dict[str, Any]) -> HDAError:
    error = cls.__new__(cls, *args)
    error.args = args
    for name, value in state.items():
        setattr(error, name, value)
    return error


class HDAError(Exception):
    """Base of all errors of this package: a message, and attributes that survive pickling.

    The message is printable, whatever it quotes; its line breaks are those of whoever wrote it.
    The attributes are as they were given.

    Attributes
    ----------
    subject : str or None
        What a refusal of the service is about, where its own words tell it: "licences" that are
        not accepted, or "no data" for a query.
    answered : str or None
        What was asked and answered, for whoever can say better than the message what to do.
    """

    subject: str | None = None
    answered: str | None = None

    def __init__(self, message: str) -> None:
        super().__init__(printable_lines(message))

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructors take keywords, which BaseException.__reduce__ would lose, and errors
        # cross process borders on a Dask cluster.
        state = self.__dict__.copy()
        # OSError keeps this one outside of __dict__.
        if (number := getattr(self, "errno", None)) is not None:
            state["errno"] = number
        return _restore, (type(self), self.args, state)


class ConfigurationError(HDAError, ValueError):
    """A setting is unknown, malformed or missing."""


class LocationError(HDAError, ValueError):
    """A path, or a request to make one from, is not well formed."""


class QueryError(HDAError, ValueError):
    """A query was refused by the schema of its data set, or by the service.

    Attributes
    ----------
    key : str or None
        The query key at fault, where one is known.
    suggestions : tuple of str
        The nearest valid keys or values, nearest first.
    """

    def __init__(
        self, message: str, *, key: str | None = None, suggestions: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.key = key
        self.suggestions = tuple(suggestions)


class TooManyProductsError(HDAError, ValueError):
    """A listing holds more products than ``max_products`` allows.

    Attributes
    ----------
    found : int or None
        How many there are, where the service tells it.
    limit : int or None
        The setting ``max_products``.
    """

    def __init__(self, message: str, *, found: int | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.found = found
        self.limit = limit


class AuthenticationError(HDAError, PermissionError):
    """The service does not accept user and password, or not for this call."""


class TermsNotAcceptedError(HDAError, PermissionError):
    """A data set has licences which the account has not accepted.

    Attributes
    ----------
    dataset_id : str or None
        The data set.
    terms : tuple of str
        The ids of the licences that are missing.
    """

    def __init__(
        self, message: str, *, dataset_id: str | None = None, terms: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.dataset_id = dataset_id
        self.terms = tuple(terms)


class QuotaError(HDAError, OSError):
    """The account's orders of this hour are used up.

    Attributes
    ----------
    reset_at : float or None
        When an order is possible again, in seconds since 1970 (UTC), where the service tells it.
    """

    def __init__(self, message: str, *, reset_at: float | None = None) -> None:
        super().__init__(message)
        self.errno = errno.EDQUOT
        self.reset_at = reset_at


class OrderError(HDAError, OSError):
    """The service could not prepare a product.

    Attributes
    ----------
    product_id, download_id : str or None
        What was ordered, and the id which the service gave the order.
    """

    def __init__(
        self, message: str, *, product_id: str | None = None, download_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.product_id = product_id
        self.download_id = download_id


class OrderTimeoutError(OrderError, TimeoutError):
    """The service did not prepare a product within ``max_wait``."""


class DownloadError(HDAError, OSError):
    """A transfer ended short, or what arrived is not what was ordered.

    Attributes
    ----------
    expected, received : int or None
        Lengths in bytes, where known.
    """

    def __init__(
        self, message: str, *, expected: int | None = None, received: int | None = None
    ) -> None:
        super().__init__(message)
        self.expected = expected
        self.received = received


class ProductFormatError(HDAError, OSError):
    """A file is damaged or cut short, or its format is not known."""


class ProductMismatchError(HDAError, ValueError):
    """A product does not fit the data set that it is part of."""


class ProductFunctionError(HDAError, RuntimeError):
    """A function failed that products of a query were handed to; its own error is the cause.

    Attributes
    ----------
    product_id : str or None
        The product that it failed on.
    """

    def __init__(self, message: str, *, product_id: str | None = None) -> None:
        super().__init__(message)
        self.product_id = product_id


class OfflineError(HDAError, OSError):
    """Something is not in the cache, and ``offline`` forbids to fetch it."""


class BrokerError(HDAError, OSError):
    """The service gave an answer that nothing more precise describes, or none at all.

    Attributes
    ----------
    status : int or None
        The HTTP status; None if there was no answer.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


#: What the service or the network may do to one product alone. Anything else holds for all alike
#: (credentials, licences, quota, offline), or says that a product is another one (a mismatch).
PER_PRODUCT_ERRORS = (OrderError, DownloadError, ProductFormatError)


def note_others(
    first: BaseException, others: Sequence[tuple[str, BaseException]], what: str
) -> None:
    """Name in the notes of a fault what else failed of the same work, each reason in a line.

    Whoever shares a fault may tell of the same others: they are noted once.

    Parameters
    ----------
    first : BaseException
        The fault that is raised.
    others : sequence of (str, BaseException)
        What else failed, and of what.
    what : str
        What those are, as a plural.
    """
    if not others:
        return
    names: dict[str, list[str]] = {}
    reasons: dict[str, str] = {}
    for name, error in others:
        reason = flat(error)
        if not isinstance(error, HDAError | OSError):
            reason = f"{type(error).__name__}: {reason}"  # some say nothing but a key
        alike = _DURATION.sub("", reason)
        names.setdefault(alike, []).append(name)
        reasons.setdefault(alike, reason)
    same = _DURATION.sub("", flat(first))
    if names.keys() == {same}:
        shown = _named([name for name, _ in others])
        note_once(first, f"{len(others)} other {what} failed too, for the same reason: {shown}")
        return
    told = []
    for alike, named in names.items():
        reason = reasons[alike]
        if alike == same:
            told.append(f"{_named(named)}: the same reason")
        elif len(named) == 1 and re.search(rf"(?<!\w){re.escape(flat(named[0]))}(?!\w)", reason):
            told.append(reason)
        else:
            told.append(f"{_named(named)}: {reason}")
    shown = "\n".join(f"  {printable(line)}" for line in told[:_SHOWN_OTHERS])
    left = sum(len(named) for named in list(names.values())[_SHOWN_OTHERS:])
    more = f"\n  and {left} more" if left else ""
    note_once(first, f"{len(others)} other {what} failed too:\n{shown}{more}")


def _named(names: Sequence[str]) -> str:
    """Return some names in a line, the first of them if they are many."""
    left = len(names) - _SHOWN_OTHERS
    shown = ", ".join(map(flat, names[:_SHOWN_OTHERS]))
    return f"{shown} and {left} more" if left > 0 else shown


def not_there(message: str) -> FileNotFoundError:
    """Return the error of something that is not there, with a printable message."""
    error = FileNotFoundError(printable(message))
    error.errno = errno.ENOENT
    return error


def no_products_error(purpose: str, path: str) -> FileNotFoundError:
    """Return the error of a query or pattern that finds nothing; purpose is a verb."""
    msg = (
        f"Nothing to {purpose}: {path} finds no product. Compare dates, box and keys with the data "
        "set's page, or list a wider query with fs.ls."
    )
    return not_there(msg)


def note_once(error: BaseException, note: str) -> None:
    """Add a note to a fault, unless it is there."""
    note = printable_lines(note)
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
