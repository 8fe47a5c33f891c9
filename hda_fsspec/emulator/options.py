"""The behaviour of an emulated service as one checked value; the defaults are friendly."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hda_fsspec.emulator.permanent_faults import check as check_oddities
from hda_fsspec.emulator.random_faults import KINDS as CHANCES
from hda_fsspec.errors import ConfigurationError

_CHOICES: dict[str, tuple[object, ...]] = {
    "quota_reset_unit": ("ms", "s"),
    "token_endpoint": ("identity", "broker", "both"),
    "expired_status": (401, 403),
    "terms_status": (403, 404),
    "paging": ("total", "next"),
    "validators": ("etag", "last-modified", None),
    "sizes": ("exact", "ND", "estimate", "missing"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmulatorOptions:
    """The behaviour of an emulated service.

    Parameters
    ----------
    port : int
        0 for a free one.
    polls : int
        How many status polls of an order say "being prepared".
    preparation_seconds : float
        An order is ready so long after it was placed, and after its polls.
    job_time_scale : float
        What the times of subset jobs are multiplied by, which are minutes at the service: 0 for
        jobs that are ready at once, 1/60 to wait a second in the place of a minute.
    latency_seconds, latency_paths
        Added to every answer, or to those whose path starts with one of ``latency_paths``.
    rate_bytes_per_second : float or None
        Throttle of file bodies, for each connection.
    quota, quota_window_seconds
        So many new orders in a sliding window; None for no quota, and no headers of it.
    quota_reset_unit, quota_headers, quota_nested
        The unit of ``X-Quota-Reset``; False for no headers at all; True for a refusal that is
        wrapped in the ``detail`` of a 500.
    token_seconds : float
        Life of an access token.
    token_endpoint : str
        Which ``gettoken`` there is: at "identity", at the "broker", or at "both".
    origins : collection of str
        A federated account: a login must name one of these origins.
    expired_status : int
        What an expired token gets, 401 or 403; an unknown one always gets 401.
    token_error_in_200 : bool
        A refused login is a 200 with ``error`` and ``error_description``.
    accepted_terms : collection of str or None
        The licences accepted at the beginning; None for all.
    terms_status : int
        What a search or order without its licence gets, 404 or 403.
    paging, max_page
        Pages with ``totalResults`` or with ``nextIndex``, and at most so many products on each.
    ranges, content_length, validators
        Whether files honour Range, tell their length, and which validator they have.
    sizes : str
        What the catalogue makes of true lengths: "exact", "ND", "estimate" or "missing".
    head_supported : bool
        False: HEAD of an order answers 405.
    inclusive_dates : bool
        Searches find neighbours which only touch the range, as at the service.
    redirect_downloads_to : str or None
        GET of a file answers a redirect to this host (the same emulator) or base of an URL.
    quoted_names : bool
        Whether file names in Content-Disposition are quoted.
    odd : collection of str
        What is odd for good, by the names of
        :data:`hda_fsspec.emulator.permanent_faults.ODDITIES`: what a client can do without is
        missing, refused or malformed. With "login-page" the
        ``token_endpoint`` must be "broker" or "both".
    seed : int or None
        What download ids depend on; None for others at each emulator.
    fault_rate : float
        So large a share of all answers is spoilt at random, from 0 to 1; scripted faults go before.
    fault_seed : int
        Which answers, and by what. The draw for a request depends on what is asked and how often
        it was asked before: a job meets the same faults again, as far as it asks the same.
    replay : Path or None
        A recording of a real service (``hda-fsspec doctor --probe``), from which all is answered;
        of the other options only latency, faults and ``odd`` count then.
    fault_kinds : tuple of str
        What is drawn from; by default all of :data:`hda_fsspec.emulator.random_faults.KINDS`.
    """

    port: int = 0
    polls: int = 0
    preparation_seconds: float = 0.0
    job_time_scale: float = 0.0
    latency_seconds: float = 0.0
    latency_paths: tuple[str, ...] = ()
    rate_bytes_per_second: float | None = None
    quota: int | None = None
    quota_window_seconds: float = 3600.0
    quota_reset_unit: str = "ms"
    quota_headers: bool = True
    quota_nested: bool = False
    token_seconds: float = 3600.0
    token_endpoint: str = "identity"  # noqa: S105 - a name, no secret
    origins: Collection[str] = ()
    expired_status: int = 401
    token_error_in_200: bool = False
    accepted_terms: Collection[str] | None = None
    terms_status: int = 404
    paging: str = "total"
    max_page: int = 200
    ranges: bool = True
    content_length: bool = True
    validators: str | None = "etag"
    sizes: str = "exact"
    head_supported: bool = True
    inclusive_dates: bool = True
    redirect_downloads_to: str | None = None
    quoted_names: bool = False
    odd: Collection[str] = ()
    seed: int | None = None
    fault_rate: float = 0.0
    fault_seed: int = 0
    fault_kinds: tuple[str, ...] = CHANCES
    replay: Path | None = None

    def __post_init__(self) -> None:
        check_oddities(self.odd)
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                msg = f"The emulator's option {name} is {value!r}: use one of {allowed}."
                raise ConfigurationError(msg)

    @classmethod
    def of(cls, given: dict[str, Any]) -> EmulatorOptions:
        """Make options of keywords; raises ConfigurationError for an unknown one."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            msg = f"The emulator has no option {unknown[0]!r}: it has {', '.join(known)}."
            raise ConfigurationError(msg)
        return cls(**given)
