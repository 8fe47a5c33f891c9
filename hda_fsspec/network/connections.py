"""Connections to the service, pooled: no answer is followed elsewhere, and each is counted.

Credentials are set here, each as what requests calls an auth, which is handed a request and returns
it: ~/.netrc neither adds nor replaces any.
"""

from __future__ import annotations

from typing import Any

import requests
import requests.adapters
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict

from hda_fsspec._version import __version__
from hda_fsspec.network.response_limits import meter

#: A connection is waited for no longer, whatever the setting ``timeout`` says of answers.
CONNECT_SECONDS = 10.0


class _Http(requests.Session):
    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Return a request with the headers and cookies of this session, which has nothing else.

        The library merges each setting by comparing its type with protocols, which takes as long as
        all the rest of a small request. It also reads ~/.netrc where a request has no auth; each of
        ours has one.
        """
        headers = CaseInsensitiveDict(self.headers)
        headers.update(request.headers or {})
        cookies = RequestsCookieJar()
        cookies.update(self.cookies)
        prepared = requests.PreparedRequest()
        prepared.prepare(
            method=request.method,
            url=request.url,
            headers=headers,
            data=request.data,
            json=request.json,
            params=request.params,
            auth=request.auth,
            cookies=cookies,
            hooks=request.hooks,
        )
        return prepared

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow nothing: where an answer leads is looked at here, before anything goes there."""


class _Adapter(requests.adapters.HTTPAdapter):
    """Connections whose answers are counted, and which urllib3 does not warn of at each request."""

    def __init__(self, *, is_verified: bool, **kwargs: Any) -> None:
        self._is_verified = is_verified
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        meter(self.poolmanager, is_verified=self._is_verified)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the pools of connections through a proxy."""
        if proxy not in self.proxy_manager:
            meter(super().proxy_manager_for(proxy, **kwargs), is_verified=self._is_verified)
        return self.proxy_manager[proxy]


def open_connections(*, is_verified: bool, most: int) -> requests.Session:
    """Return the pools of connections of a session.

    Parameters
    ----------
    is_verified : bool
        Whether certificates are checked.
    most : int
        How many connections to one host are open at a time.
    """
    http = _Http()
    http.headers.update(
        {
            # Compression on the fly would hide the true length of a product, and a few bytes of
            # it can stand for all the memory that there is.
            "Accept-Encoding": "identity",
            "User-Agent": f"hda_fsspec/{__version__}",
        }
    )
    adapter = _Adapter(
        is_verified=is_verified, pool_connections=4, pool_maxsize=most, pool_block=True
    )
    http.mount("http://", adapter)
    http.mount("https://", adapter)
    return http


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
