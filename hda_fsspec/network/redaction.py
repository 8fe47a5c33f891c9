"""What an answer quotes of our own secrets: none of it stays in what is made of the answer.

Answers are read as they are. Of the records that are made of them some parts describe, and lose the
secrets that they quote; some are sent back verbatim, and hold a place for each. Ids stay as they
are: a password may well be a part of one, and what the catalogue shows to everybody gives nothing
away. A token in an id is no accident.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from hda_fsspec.errors import BrokerError
from hda_fsspec.network.responses import excerpt, forms, redact
from hda_fsspec.records import Dataset, Product, Term, parse_time

_PLACE = "{{hda_fsspec:{}}}"
# A shorter password stands in a locator by chance.
_LEAST_IN_LOCATOR = 8
_DEEPEST = 100
# Of a schema these are compared with what a user writes, and sent back.
_VOCABULARY = frozenset(
    {"const", "enum", "default", "pattern", "format", "type", "required", "constraints"}
)


class Secrets:
    """The password of an account, and the tokens that it was given so far.

    Parameters
    ----------
    password : str or None
        The password.
    tokens : sequence of str
        Newest last.
    access : str or None
        The token in use.
    """

    def __init__(
        self, password: str | None, tokens: tuple[str, ...] = (), access: str | None = None
    ) -> None:
        self.password = password or None
        self.tokens = tokens
        self.all = (*((password,) if password else ()), *tokens)
        self._access = access
        self._token_forms = [form for token in tokens for form in forms(token)]
        self._password_forms = forms(password) if password else []

    def shown(self, value: object, length: int = 300) -> str:
        """Return the beginning of a value as text that may stand in errors and logs."""
        try:
            text = str(value)
        except RecursionError:
            text = "something that is nested without end"
        return excerpt(text, self.all, length)

    def product(self, product: Product) -> Product:
        """Return a record that can be kept; raises BrokerError where an id quotes a token."""
        self._check_id(product.product_id, f"a product of {product.dataset_id}")
        ids = (product.dataset_id, product.product_id, product.startdate, product.enddate)
        secrets, written = self._beside(" ".join(filter(None, ids)))
        texts = [product.location, *(str(part) for pair in product.properties for part in pair)]
        joined = "\0".join(texts)
        if not any(form in joined for form in written):
            return product
        properties = {
            self._key(key, secrets, written): _described(value, secrets)
            for key, value in product.properties
        }
        password = self.password if self._is_long and self.password in secrets else None
        return dataclasses.replace(
            product,
            location=self._hide(product.location, password),
            properties=tuple(sorted(properties.items())),
        )

    def dataset(self, dataset: Dataset) -> Dataset:
        """Return a record that can be kept."""
        for name in (dataset.dataset_id, *dataset.terms):
            self._check_id(name, "a data set or a licence")
        secrets, _ = self._beside(dataset.dataset_id)
        return dataclasses.replace(
            dataset,
            title=redact(dataset.title, secrets),
            abstract=redact(dataset.abstract, secrets),
        )

    def term(self, term: Term) -> Term:
        """Return a record that can be kept."""
        self._check_id(term.term_id, "a licence")
        secrets, _ = self._beside(term.term_id)
        link = term.link and redact(term.link, secrets)
        return dataclasses.replace(term, title=redact(term.title, secrets), link=link)

    def schema(self, dataset_id: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a schema that can be kept: its vocabulary loses tokens alone.

        Raises BrokerError for what is nested more deeply than a schema is.
        """
        secrets, written = self._beside(dataset_id)

        def clean(value: Any, depth: int, *, is_vocabulary: bool) -> Any:
            if depth > _DEEPEST:
                msg = f"The schema of {dataset_id} is nested more than {_DEEPEST} times."
                raise BrokerError(msg, status=200)
            if isinstance(value, str) and any(form in value for form in written):
                return redact(value, self.tokens if is_vocabulary else secrets)
            if isinstance(value, list):
                return [clean(each, depth + 1, is_vocabulary=is_vocabulary) for each in value]
            if isinstance(value, dict):
                return {
                    self._key(key, secrets, written): clean(
                        each, depth + 1, is_vocabulary=is_vocabulary or key in _VOCABULARY
                    )
                    for key, each in value.items()
                }
            return value

        return dict(clean(dict(document), 0, is_vocabulary=False))

    def order_id(self, download_id: str) -> str:
        """Return the id of an order; raises BrokerError where it quotes a token or the password.

        It becomes a part of addresses, which libraries write into their logs.
        """
        self._check_id(download_id, "an order")
        if self._is_long and any(form in download_id for form in self._password_forms):
            raise self._quoted(download_id, "an order")
        return download_id

    def file_name(self, name: str | None, product_id: str) -> str | None:
        """Return the name under which a file is delivered, which is that of a file of ours then."""
        secrets, _ = self._beside(product_id)
        return name and redact(name, secrets if self._is_long else self.tokens)

    def headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return headers, without those that quote a token; a name loses the token alone."""
        if not any(form in value for value in headers.values() for form in self._token_forms):
            return headers
        kept = {}
        for name, value in headers.items():
            is_quoted = any(form in value for form in self._token_forms)
            if name.lower() == "content-disposition":
                kept[name] = redact(value, self.tokens)
            elif not is_quoted:
                kept[name] = value
        return type(headers)(kept)  # type: ignore[call-arg]

    def revealed(self, text: str) -> str:
        """Return what is sent back, with the secrets in their places."""
        for name, secret in (("token", self._access), ("password", self.password)):
            if secret is not None and "hda_fsspec" in text:
                text = text.replace(_PLACE.format(name), secret)
                text = text.replace(_PLACE.format(f"quoted {name}"), quote(secret, safe=""))
        return text

    def _hide(self, text: str, password: str | None) -> str:
        found = [("token", token) for token in self.tokens]
        for name, secret in (*found, *((("password", password),) if password else ())):
            text = text.replace(secret, _PLACE.format(name))
            text = text.replace(
                quote(secret, safe="", errors="replace"), _PLACE.format(f"quoted {name}")
            )
        return text

    def _key(self, key: str, secrets: tuple[str, ...], written: list[str]) -> str:
        if not any(form in key for form in written):
            return key
        # A name of the catalogue's may be a password; what is none quotes it.
        return redact(key, self.tokens if key.isidentifier() else secrets)

    def _beside(self, ids: str) -> tuple[tuple[str, ...], list[str]]:
        """Return which secrets are to be masked beside some ids, and how they may be written."""
        if self.password is None or self.password in ids:
            return self.tokens, self._token_forms
        return self.all, [*self._token_forms, *self._password_forms]

    @property
    def _is_long(self) -> bool:
        return self.password is not None and len(self.password) >= _LEAST_IN_LOCATOR

    def _check_id(self, name: str, what: str) -> None:
        if any(form in name for form in self._token_forms):
            raise self._quoted(name, what)

    def _quoted(self, name: str, what: str) -> BrokerError:
        msg = (
            f"The service answered the id {self.shown(name)!r} of {what}, which quotes a secret of "
            "this account. Try again later; if it stays so, report it to the service."
        )
        return BrokerError(msg, status=200)


def _described(value: Any, secrets: tuple[str, ...]) -> Any:
    if not isinstance(value, str):
        return value
    try:
        parse_time(value)
    except ValueError:
        return redact(value, secrets)
    return value
