"""Texts that are kept with places for secrets: sent back character for character."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_inputs import any_text, examples
from rows import for_each

from hda_fsspec.errors import BrokerError
from hda_fsspec.network.redaction import Secrets
from hda_fsspec.network.secret_placeholders import NoPlaceError, Places
from hda_fsspec.records import Product

SECRETS = [
    *("password", "username", "hda_fsspec", "{hda_fsspec:password}", "{", "}", "a", "7", "2024"),
    *("\x1a", "\x1ap-p-r\x1a", "\ue000p-p-r\ue000", "aaaaaaaa", "abababab", "(.*)[x]\\d+$^|?"),
    *("a+b c&d%20e", "pä$$w/ö\"'<x>", "%41%41%41%41", "\\u0041\\n", "&amp;&lt;", "😀 😀 😀 😀 ."),
]
WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": lambda secret: secret,
    "in an address": lambda secret: quote(secret, safe="", errors="replace"),
    "in small letters": lambda secret: quote(secret, safe="", errors="replace").lower(),
    "in a form": lambda secret: quote_plus(secret, errors="replace"),
    "as a browser does": lambda secret: quote(secret, safe="!*'()", errors="replace"),
    "twice": lambda secret: quote(quote(secret, safe="", errors="replace"), safe=""),
    "each byte": lambda secret: "".join(f"%{byte:02X}" for byte in _bytes(secret)),
    "in JSON": lambda secret: json.dumps(secret)[1:-1],
    "in JSON with escaped slashes": lambda secret: json.dumps(secret)[1:-1].replace("/", "\\/"),
    "in HTML": html.escape,
    "in HTML by numbers": lambda secret: "".join(f"&#{ord(c)};" for c in secret),
    "in base64": lambda secret: base64.b64encode(_bytes(secret)).decode(),
    "in hexadecimal digits": lambda secret: _bytes(secret).hex(),
}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _read(text: str) -> str:
    return html.unescape(unquote(text))


secrets_of_any_kind = st.one_of(st.sampled_from(SECRETS), any_text(min_size=1, max_size=12))
tokens = st.lists(st.text("0123abcp-{}:%+_\\&", min_size=1, max_size=30), max_size=3)
# Words, or a secret (by its number, modulo) in one of the ways.
parts = st.lists(
    st.one_of(secrets_of_any_kind, st.tuples(st.integers(0, 4), st.sampled_from(list(WRITTEN)))),
    max_size=8,
)


@pytest.mark.slow
@settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(secrets_of_any_kind, secrets_of_any_kind, tokens, parts)
def test_what_is_kept_is_sent_back_as_it_came(
    password: str, user: str, issued: list[str], given_parts: list[str | tuple[int, str]]
) -> None:
    """For any secrets and any text, also one that looks as if it had places; and none is left."""
    all_secrets = [password, f"{user}:{password}", *issued]
    text = "".join(
        part if isinstance(part, str) else WRITTEN[part[1]](all_secrets[part[0] % len(all_secrets)])
        for part in given_parts
    )
    access = issued[-1] if issued else None
    places = Places(password=password, user=user, tokens=tuple(issued), access=access, shortest=8)
    secrets = Secrets(password, tuple(issued), access, user)

    try:
        kept = places.written(text, with_password=True)
    except NoPlaceError:
        # Some mixture of characters, such as "%2561" beside "&#98;", that quotes a secret in all.
        assert secrets.shown(text, len(text) + 1) != text
        return
    assert places.filled(kept) == text
    assert secrets.revealed(kept) == text
    assert [secret for secret in [password, *issued] if len(secret) >= 8 and secret in kept] == []
    again = places.written(kept, with_password=True)
    assert places.filled(again) == kept


@for_each("way", WRITTEN)
@for_each("password", ["password", "hda_fsspec", "a+b c&d%20e", "pä$$w/ö\"'<x>"])
def test_a_place_is_for_the_secret_of_today(password: str, way: str) -> None:
    """A locator that quoted the password is sent with the one that is valid now, written alike."""
    write = WRITTEN[way]
    product = Product("EO:X", "a", location=f"https://x/y?p={write(password)}&q=1")
    kept = Secrets(password, user="me").product(product)

    assert password not in kept.location
    assert write(password) not in kept.location
    assert Secrets(password, user="me").revealed(kept.location) == product.location
    new = "another/ one"
    sent = Secrets(new, user="me").revealed(kept.location)
    # Ways that wrote the old one alike cannot be told from each other.
    alike = [each for each in WRITTEN.values() if each(password) == write(password)]
    meant = {f"https://x/y?p={each(new)}&q=1" for each in alike}
    # What an escape is for is read alike, however many characters are escaped that need not be.
    assert sent in meant or _read(sent) in {_read(each) for each in meant}


def test_places_that_cannot_be_filled() -> None:
    """A token is missing until there is a login; what no one wrote is an error that says so."""
    token = "0c2f4e0a-4b0e-8f0e-1234567890ab"
    product = Product("EO:X", "a", location=f"https://x/?t={token}")
    kept = Secrets("a long password", (token,), token).product(product).location
    unknown = Secrets("a long password")

    assert not unknown.can_reveal(kept)
    for text in (kept, "\x1aa\x1ax", "\x1aa\x1ap-p-??\x1a", "\x1a\x1ap-z-r\x1a", "\x1a\x1aq\x1a"):
        with pytest.raises(BrokerError, match="cannot be sent back"):
            unknown.revealed(text)
    assert Secrets("x", ("new",), "new").revealed(kept) == "https://x/?t=new"


def test_a_locator_with_a_secret_for_which_there_is_no_place() -> None:
    """It is told without the secret, and not kept."""
    mixture = "&#x0000070;%2561ssword"
    with pytest.raises(BrokerError, match="quotes a secret") as caught:
        Secrets("password").product(Product("EO:X", "a", location=f"https://x/?p={mixture}"))
    assert "ssword" not in str(caught.value)


@for_each("password", ["password", "abc", "a b/c&d", "p"])
def test_many_records_are_kept_as_each_by_itself(password: str) -> None:
    """One that quotes a secret, or looks as if it did, changes, and the others do not."""
    token = "0c2f4e0a-4b0e-8f0e-1234567890ab"
    secrets = Secrets(password, (token,), token, user="me")
    odd = [
        Product("EO:X", "plain"),
        Product("EO:X", f"id-{password}", location=f"https://x/?p={password}"),
        Product("EO:X", "a", location=f"https://x/?t={token}"),
        Product("EO:X", "b", location=f"https://x/?t={WRITTEN[next(iter(WRITTEN))](password)}"),
        Product("EO:X", "c", location="\x1ano place"),
        Product("EO:X", "d", location="https://x/?one=1&two=%20"),
        Product("EO:X", "e", properties=(("note", f"by {password}"), (token, 3))),
        Product("EO:X", "f", properties=(("note", token[::-1]),)),
    ]
    for products in (odd, [odd[0]] * 150 + odd, odd[:1] * 250):
        assert [(p.location, p.properties) for p in secrets.products(products)] == [
            (p.location, p.properties) for p in map(secrets.product, products)
        ]
    with pytest.raises(BrokerError, match="quotes a secret"):
        secrets.products([*odd, Product("EO:X", f"id-{token}")])
