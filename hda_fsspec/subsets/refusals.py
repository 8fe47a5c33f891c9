"""What the service says when it refuses an order as too large, read from its words."""

from __future__ import annotations

import re

_TOO_LARGE = re.compile(
    r"cost limits? exceeded"
    r"|(?:request|selection|subset|query|area|result|job)\b[^.;]{0,60}\btoo (?:large|big)\b"
    r"|too (?:large|big) (?:a )?(?:request|selection|subset)"
    r"|\breduce (?:your|the) (?:selection|request)"
    r"|requesting [0-9][0-9,._ ]* (?:items|fields)\b.{0,40}\blimit"
    r"|\bcost [0-9][0-9,._]* (?:is )?over\b.{0,40}\blimit",
    re.IGNORECASE | re.DOTALL,
)
_NOT_OF_DATA = re.compile(r"entity too large|payload too large|header", re.IGNORECASE)
_LIMIT = re.compile(
    r"limit (?:is|of) ([0-9][0-9,._]*)|\bover (?:the )?([0-9][0-9,._]*) limit", re.IGNORECASE
)


def is_too_large(text: str) -> bool:
    """Whether the service refused an order since it asks for too much.

    Limits of jobs, of requests and of licences are not that.
    """
    return _TOO_LARGE.search(text) is not None and _NOT_OF_DATA.search(text) is None


def limit_in(text: str) -> int | None:
    """Return how many fields a refusal says are allowed; None where it does not."""
    match = _LIMIT.search(text)
    digits = re.sub(r"\D", "", next(filter(None, match.groups()))) if match else ""
    return int(digits) if digits and int(digits) > 0 else None
