"""Removal of secrets that an answer quotes, before anything is made of the answer.

Answers are read as they are. Of the records that are made of them some parts describe, and lose the
secrets that they quote; some are sent back verbatim, and hold a place for each. Ids stay as they
are: a password may well be a part of one, and what the catalogue shows to everybody gives nothing
away. A token in an id is no accident.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from hda_fsspec.errors import BrokerError
from hda_fsspec.network.responses import excerpt, needles_for, quotes, redact
from hda_fsspec.network.secret_placeholders import NoPlaceError, Places, UnknownPlaceError, has_mark
from hda_fsspec.network.secret_spellings import FORMS, encoded, may_hold
from hda_fsspec.records import Dataset, Product, Term, parse_time

# A shorter password stands in a locator by chance.
_LEAST_IN_LOCATOR = 8
_DEEPEST = 100
#: So many records are looked through at once.
_AT_ONCE = 100
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
    user : str or None
        Whose password it is: headers write both as one.
    """

    def __init__(
        self,
        password: str | None,
        tokens: tuple[str, ...] = (),
        access: str | None = None,
        user: str | None = None,
    ) -> None:
        self.password = password or None
        self.tokens = tokens
        both = f"{user}:{password}" if user and password else ""
        pair = tuple(encoded(both, form) for form in FORMS) if both else ()
        self._of_password = (*pair, password) if password else ()
        self.all = (*((password,) if password else ()), *tokens)
        #: The same, and user and password as headers write them.
        self.masked = (*self._of_password, *tokens)
        self._places = Places(
            password=self.password,
            user=user,
            tokens=tokens,
            access=access,
            shortest=_LEAST_IN_LOCATOR,
        )

    def shown(self, value: object, length: int = 300) -> str:
        """Return the beginning of a value as text that may stand in errors and logs."""
        try:
            text = str(value)
        except RecursionError:
            text = "something that is nested without end"
        return excerpt(text, self.masked, length)

    def products(self, products: Sequence[Product]) -> list[Product]:
        """Return records that can be kept; raises as :meth:`product`.

        Of a hundred thousand hardly any quotes a secret. So many are looked through at once.
        """
        found: list[Product] = []
        for first in range(0, len(products), _AT_ONCE):
            some = products[first : first + _AT_ONCE]
            may_quote = self._may_quote(some)
            # One address with an escape makes all of them suspicious.
            found += [self.product(p) if may_quote and self._may_quote([p]) else p for p in some]
        return found

    def _may_quote(self, products: Sequence[Product]) -> bool:
        """Whether any of some records may have to be changed, or refused."""
        texts = [p.product_id for p in products]
        texts += [p.location for p in products]
        texts += [str(part) for p in products for pair in p.properties for part in pair]
        return may_hold("\0".join(texts), self._short) or any(
            has_mark(p.location) for p in products
        )

    @functools.cached_property
    def _short(self) -> frozenset[str]:
        """All texts that are looked for, but for those that hold another one of them."""
        needles = (*needles_for(self.masked), *self._places.needles(with_password=True))
        texts = frozenset(needle.text for needle in needles)
        # A space is written in several ways, so that what holds one may stand where it is not seen.
        return frozenset(
            text
            for text in texts
            if " " in text or not any(other in text for other in texts - {text})
        )

    def product(self, product: Product) -> Product:
        """Return a record that can be kept.

        Raises BrokerError where an id quotes a token, or the locator does so in an unheard-of way.
        """
        self._check_id(product.product_id, f"a product of {product.dataset_id}")
        ids = (product.dataset_id, product.product_id, product.startdate, product.enddate)
        secrets = self._beside(" ".join(filter(None, ids)))
        location = self._kept_locator(product, with_password=secrets is self.masked)
        texts = [str(part) for pair in product.properties for part in pair]
        if quotes("\0".join(texts), secrets):
            properties = {
                self._key(key, secrets): _described(value, secrets)
                for key, value in product.properties
            }
            product = dataclasses.replace(product, properties=tuple(sorted(properties.items())))
        if location == product.location:
            return product
        return dataclasses.replace(product, location=location)

    def dataset(self, dataset: Dataset) -> Dataset:
        """Return a record that can be kept."""
        for name in (dataset.dataset_id, *dataset.terms):
            self._check_id(name, "a data set or a licence")
        secrets = self._beside(dataset.dataset_id)
        return dataclasses.replace(
            dataset,
            title=redact(dataset.title, secrets),
            abstract=redact(dataset.abstract, secrets),
        )

    def term(self, term: Term) -> Term:
        """Return a record that can be kept."""
        self._check_id(term.term_id, "a licence")
        secrets = self._beside(term.term_id)
        link = term.link and redact(term.link, secrets)
        return dataclasses.replace(term, title=redact(term.title, secrets), link=link)

    def schema(self, dataset_id: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a schema that can be kept: its vocabulary loses tokens alone.

        Raises BrokerError for what is nested more deeply than a schema is.
        """
        secrets = self._beside(dataset_id)

        def clean(value: Any, depth: int, *, is_vocabulary: bool) -> Any:
            if depth > _DEEPEST:
                msg = f"The schema of {dataset_id} is nested more than {_DEEPEST} times."
                raise BrokerError(msg, status=200)
            if isinstance(value, str):
                return redact(value, self.tokens if is_vocabulary else secrets)
            if isinstance(value, list):
                return [clean(item, depth + 1, is_vocabulary=is_vocabulary) for item in value]
            if isinstance(value, dict):
                return {
                    self._key(key, secrets): clean(
                        item, depth + 1, is_vocabulary=is_vocabulary or key in _VOCABULARY
                    )
                    for key, item in value.items()
                }
            return value

        return dict(clean(dict(document), 0, is_vocabulary=False))

    def order_id(self, download_id: str) -> str:
        """Return the id of an order; raises BrokerError where it quotes a token or the password.

        It becomes a part of addresses, which libraries write into their logs.
        """
        self._check_id(download_id, "an order")
        if self._is_long and quotes(download_id, self._of_password):
            raise self._quoted(download_id, "an order")
        return download_id

    def file_name(self, name: str | None, product_id: str) -> str | None:
        """Return the name under which a file is delivered, which is that of a file of ours then."""
        secrets = self._beside(product_id)
        return name and redact(name, secrets if self._is_long else self.tokens)

    def headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return headers, without those that quote a token; a name loses the token alone."""
        if not quotes("\n".join(headers.values()), self.tokens):
            return headers
        kept = {}
        for name, value in headers.items():
            if name.lower() == "content-disposition":
                kept[name] = redact(value, self.tokens)
            elif not quotes(value, self.tokens):
                kept[name] = value
        return type(headers)(kept)  # type: ignore[call-arg]

    def can_reveal(self, text: str) -> bool:
        """Whether all is known that has a place in what is sent back."""
        try:
            self._places.filled(text)
        except UnknownPlaceError:
            return False
        return True

    def revealed(self, text: str) -> str:
        """Return what is sent back, with the secrets in their places; raises BrokerError."""
        try:
            return self._places.filled(text)
        except UnknownPlaceError as err:
            msg = (
                f"What was kept of a product's locator cannot be sent back: {err}. List the "
                "product again (refresh=True), or remove the kept listings from the cache folder."
            )
            raise BrokerError(msg) from err

    def _kept_locator(self, product: Product, *, with_password: bool) -> str:
        try:
            return self._places.written(product.location, with_password=with_password)
        except NoPlaceError as err:
            msg = (
                f"The service answered the locator {self.shown(product.location)!r} of {product}, "
                "which quotes a secret of this account in a way in which it cannot be kept and "
                "sent back. Try again later; if it stays so, report it to the service."
            )
            raise BrokerError(msg, status=200) from err

    def _key(self, key: str, secrets: tuple[str, ...]) -> str:
        if not quotes(key, secrets):
            return key
        # A name of the catalogue's may be a password; what is none quotes it.
        return redact(key, self.tokens if key.isidentifier() else secrets)

    def _beside(self, ids: str) -> tuple[str, ...]:
        """Return which secrets are to be masked beside some ids."""
        return self.tokens if self.password is None or self.password in ids else self.masked

    @property
    def _is_long(self) -> bool:
        return self.password is not None and len(self.password) >= _LEAST_IN_LOCATOR

    def _check_id(self, name: str, what: str) -> None:
        if quotes(name, self.tokens):
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
