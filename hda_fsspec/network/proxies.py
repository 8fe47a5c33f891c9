"""Proxies: addresses that are reached without one, and messages that hide its password."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit


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


def shown_proxy(proxy: str) -> str:
    """Return the address of a proxy without user and password.

    >>> shown_proxy("http://me:secret@proxy.example:3128/")
    'http://proxy.example:3128'
    """
    # A password may hold what ends a host, so that no library finds it there.
    scheme, mark, rest = proxy.rpartition("://")
    host = rest.rpartition("@")[2].partition("/")[0]
    return f"{scheme.rpartition('/')[2]}{mark}{host}"


def secrets_of_proxy(proxy: str) -> tuple[str, ...]:
    """Return what must not be told of a proxy's address: its password, as it is and as it is meant.

    >>> secrets_of_proxy("http://me:a%40b@proxy.example:3128")
    ('a%40b', 'a@b')
    >>> secrets_of_proxy("proxy.example:3128")
    ()
    """
    _, _, password = proxy.partition("://")[2].rpartition("@")[0].partition(":")
    return tuple(dict.fromkeys(filter(None, (password, unquote(password)))))
