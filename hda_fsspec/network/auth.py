"""Credentials on requests, set by the package itself: ~/.netrc neither adds nor replaces any.

Each is what requests calls an auth: it is handed a request, and returns it.
"""

from __future__ import annotations

from typing import Any


class Bearer:
    """Sets the token as requests' own auth, so that a line of ~/.netrc cannot replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        """Add the token."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def no_auth(request: Any) -> Any:
    """Add nothing."""
    return request


def stranger(request: Any) -> Any:
    """Take with it nothing that the broker gave us: a cookie may be as good as a token."""
    request.headers.pop("Cookie", None)
    return request
