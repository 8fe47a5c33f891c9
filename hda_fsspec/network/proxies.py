"""Which addresses are reached without a proxy."""

from __future__ import annotations

from urllib.parse import urlsplit


def proxies_for(url: str) -> dict[str, str]:
    """Return what requests takes for "none": no proxy reaches this machine's own loopback.

    >>> proxies_for("http://127.0.0.1:8080/x")
    {'no_proxy': '127.0.0.1'}
    >>> proxies_for("https://gateway.example/x")
    {}
    """
    host = urlsplit(url).hostname or ""
    is_loopback = host in {"localhost", "::1"} or host.startswith("127.")
    return {"no_proxy": host} if is_loopback else {}
