"""Logins and token renewals, at the endpoints where the service has them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from hda_fsspec.emulator.messages import Answer, Request, error_answer, invalid_answer, json_answer
from hda_fsspec.emulator.options import EmulatorOptions
from hda_fsspec.emulator.state import IssuedTokens

#: Path of each endpoint that gives tokens, by the name it has in the options.
LOGIN_PATHS = {"/identity/gettoken": "identity", "/hda-broker/gettoken": "broker"}
REFRESH_PATH = "/hda-broker/refreshtoken"


class Accounts:
    """The one account of an emulator, and its tokens."""

    def __init__(self, user: str, password: str, options: EmulatorOptions) -> None:
        self._user = user
        self._password = password
        self._options = options
        self.tokens = IssuedTokens(options.token_seconds)
        self.logins = 0

    def answer(self, request: Request) -> Answer | None:
        """Answer a login or renewal; None if the request is neither."""
        endpoint = LOGIN_PATHS.get(request.path)
        if endpoint is None and request.path != REFRESH_PATH:
            return None
        if endpoint is not None and self._options.token_endpoint not in (endpoint, "both"):
            return error_answer(404, "Not Found")
        if request.method != "POST":
            return error_answer(405, "Method Not Allowed")
        return self._renew(request) if endpoint is None else self._log_in(request)

    def refusal(self, request: Request) -> Answer | None:
        """Return the answer to a request without a valid token, None if it has one."""
        state = self.tokens.state(request.token)
        if state == "valid":
            return None
        status = self._options.expired_status if state == "expired" else 401
        return json_answer({"detail": "Invalid or missed token"}, status)

    def _log_in(self, request: Request) -> Answer:
        given = request.json()
        if not isinstance(given, dict):
            return invalid_answer("username", "field required", "value_error.missing")
        for key in ("username", "password"):
            if not isinstance(given.get(key), str):
                return invalid_answer(key, "field required", "value_error.missing")
        origin = given.get("origin")
        origins = self._options.origins
        is_right_origin = origin in origins if origins else origin is None
        credentials = (given["username"], given["password"])
        if credentials == (self._user, self._password) and is_right_origin:
            self.logins += 1
            return json_answer(self._tokens(*self.tokens.issue()))
        if self._options.token_error_in_200:
            refusal = {
                "error": "invalid_grant",
                "error_description": "Invalid user credentials",
            }
            return json_answer(refusal)
        return error_answer(401, "Invalid user credentials")

    def _renew(self, request: Request) -> Answer:
        form = parse_qs(request.payload.decode("utf-8", "replace"))
        pair = self.tokens.renew(form.get("refresh_token", [""])[0])
        if pair is None:
            return error_answer(400, "Invalid refresh token")
        return json_answer(self._tokens(*pair))

    def _tokens(self, access: str, refresh: str) -> dict[str, Any]:
        return {
            "access_token": access,
            "refresh_token": refresh,
            "scope": "openid",
            "id_token": "token",
            "token_type": "Bearer",
            "expires_in": int(self._options.token_seconds),
        }
