"""Secrets that answers quote: parsed as they are, shown nowhere, and kept in no file."""

from __future__ import annotations

import dataclasses
import json
import logging
import pickle
import traceback
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from rows import for_each

from hda_fsspec.client import close_clients
from hda_fsspec.emulator import Emulator, Fault, dated_product
from hda_fsspec.errors import BrokerError, HDAError, QueryError
from hda_fsspec.network.api import Broker
from hda_fsspec.network.redaction import Secrets
from hda_fsspec.network.responses import excerpt, parse_problem, redact
from hda_fsspec.network.session import Session
from hda_fsspec.paths.locations import Location
from hda_fsspec.records import Dataset, Product, Term
from hda_fsspec.settings import Settings

TERM = "Copernicus_General_License"

#: Passwords that stand in answers by chance: in ids, in dates, in what JSON itself is made of.
UNLUCKY = [
    "2024",
    "p",
    "0",
    "1",
    "e",
    "20240501",
    "sst_20240501.nc",
    "sst",
    "EO:TEST:DAT:DAILY",
    "true",
    "null",
    "accepted",
    "features",
    "properties",
    "download_id",
    "access_token",
    "Done",
    "status",
    ".",
    '"',
    ":",
    "{",
    "Copernicus",
    "cloudCover",
    TERM,
    "2024-05-01T00:00:00.000Z",
]


def _seen(bench: Any, cache: str, **options: Any) -> dict[str, Any]:
    """Return what a whole job sees, with everything fetched anew and then from the disk."""
    products = [
        dated_product(
            bench.product_id(day),
            bench.body(day),
            metadata={"cloudCover": "0", "year": 2024, "publication": "2024-05-09T00:00:00.000Z"},
        )
        for day in range(1, 3)
    ]
    emulator = bench.start(
        products=products, entry={"terms": [TERM]}, accepted_terms=[TERM], polls=1, **options
    )
    emulator.options = dataclasses.replace(emulator.options, head_supported=False)
    settings = {"cache_dir": bench.folder / cache}
    told: dict[str, Any] = {}
    for name, more in (("first", {}), ("kept", {"offline": True})):
        fs = bench.filesystem(emulator, **settings, **more)
        listed = fs.ls(bench.query, detail=True)
        told[name] = [{k: v for k, v in each.items() if k != "broker"} for each in listed]
        told[f"{name} bytes"] = fs.cat(bench.path(1))
        told[f"{name} ids"] = (
            [d["name"] for d in fs.ls("hda://", detail=True)] if not more else None
        )
        close_clients()
    told["orders"] = emulator.orders
    return told


@pytest.mark.slow
def test_a_password_that_stands_in_answers_changes_nothing(bench: Any) -> None:
    """Ids, dates, accepted licences, orders and files are those that any other password gives."""
    expected = _seen(bench, "one")

    for number, password in enumerate(UNLUCKY):
        assert _seen(bench, f"other {number}", password=password) == expected, password


class Echo:
    """Lets an emulator quote token and password wherever an answer has room for a text."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._answer = emulator._broker.answer
        self.orders: list[Any] = []
        emulator._broker.answer = self.answer  # type: ignore[method-assign, assignment]

    @property
    def text(self) -> str:
        """All secrets, in words."""
        return (
            f"for {' and '.join([*self.emulator.tokens_issued, self.emulator.password])}, of course"
        )

    @property
    def mark(self) -> str:
        """What is added to what must be sent back."""
        return f"?token={self.emulator.tokens_issued[0]}"

    def answer(self, request: Any, faults: Any) -> Any:
        """Answer, and quote."""
        if self.emulator.tokens_issued:
            payload = request.payload.replace(self.mark.encode(), b"")
            if request.api == "dataaccess/download":
                self.orders.append(request.json())
            request = dataclasses.replace(request, payload=payload)
        got = self._answer(request, faults)
        if got.status >= 400 or not self.emulator.tokens_issued or "token" in request.api:
            return got
        if got.file is not None:
            name = f'attachment; filename="a {self.text}.nc"'
            return dataclasses.replace(
                got, headers={**got.headers, "ETag": f'"{self.text}"', "Content-Disposition": name}
            )
        if not got.body:
            return got
        return dataclasses.replace(got, body=json.dumps(self.quoted(json.loads(got.body))).encode())

    def quoted(self, value: Any) -> Any:
        """Return a JSON value with quotes in it."""
        if not isinstance(value, dict):
            return value
        edited = {**value, "comment": self.text, self.text: self.text}
        for key in ("title", "abstract", "message"):
            if key in edited:
                edited[key] = self.text
        if "location" in edited:
            edited["location"] += self.mark
        if "dataset_id" in edited:
            edited["metadata"] = {"_source": {"datasetTitle": self.text}}
        if isinstance(edited.get("properties"), dict):
            edited["properties"] = {
                key: self.quoted(each) for key, each in edited["properties"].items()
            }
            if "location" in edited["properties"]:
                edited["properties"] = self.quoted(edited["properties"])
        if isinstance(edited.get("features"), list):
            edited["features"] = [self.quoted(each) for each in edited["features"]]
        return edited


@pytest.mark.slow
def test_whatever_is_echoed_is_kept_nowhere(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No file of the cache, no record, no log and no pickle has what every answer quotes."""
    caplog.set_level(logging.DEBUG)
    emulator = bench.start(
        days=3, entry={"terms": [TERM]}, accepted_terms=[TERM], polls=1, size=1_500_000
    )
    echo = Echo(emulator)
    fs = bench.filesystem(emulator)
    emulator.fault(Fault("cut", after_bytes=1_200_000))
    texts = [repr(fs.ls("hda://", detail=True)), repr(fs.ls(bench.query, detail=True))]
    products = fs._client.search(Location.parse(bench.query))
    texts += [pickle.dumps(products).decode("latin-1")]

    assert fs.cat(bench.path(1)) == bench.body(1, 1_500_000)
    paths = fs.download(bench.query, bench.folder / "out")
    texts += [str(paths), caplog.text]
    for path in bench.folder.rglob("*"):
        texts.append(str(path))
        texts += [path.read_bytes().decode("latin-1")] if path.is_file() else []

    secrets = [emulator.password, *emulator.tokens_issued]
    found = [
        text[max(0, text.index(s) - 60) : text.index(s) + 60]
        for s in secrets
        for text in texts
        if s in text
    ]
    assert found == []
    # What had to be sent back was sent back as it came.
    assert {order["location"].endswith(echo.mark) for order in echo.orders} == {True}
    assert emulator.orders == 3


@pytest.mark.slow
@pytest.mark.parametrize("secret", ["hunter22", "tok-en", "2024"])
@pytest.mark.parametrize(
    "place", ["dataaccess/search", "dataaccess/download", "dataaccess/queryable", "termsaccepted"]
)
def test_what_is_no_answer_is_told_without_secrets(
    bench: Any, place: str, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer of another shape is quoted in the error, and the password in it is not."""
    emulator = bench.start(days=1, password=secret, entry={"terms": [TERM]}, accepted_terms=[TERM])
    wrong = {"said": f"{secret} by the user {secret}", "features": [{"id": None, "x": secret}]}
    emulator.fault(Fault("status", status=200, path=place, body=wrong, times=None))
    texts: list[str] = []
    try:
        bench.filesystem(emulator).cat(f"hda://{bench.dataset}/x=1/a.nc")
    except (HDAError, OSError) as err:
        texts += ["".join(traceback.format_exception(err)), pickle.dumps(err).decode("latin-1")]
    for text in [*texts, caplog.text]:
        assert f"said': '{secret}" not in text
        assert f"user {secret}" not in text


def test_a_refusal_means_the_same_whatever_the_password_is(bench: Any) -> None:
    """What an error is about is read before its secrets are taken out."""
    no_data = {"detail": "There is no data matching your request"}
    for password in ("data", "matching", "no", "There is no data matching your request"):
        emulator = bench.start(days=1, password=password)
        emulator.fault(Fault("status", path="dataaccess/search", status=400, body=no_data))
        assert bench.filesystem(emulator).ls(bench.query) == []
    licence = {"detail": "You must accept the terms and conditions"}
    for password in ("accept", "terms", "conditions"):
        problem = parse_problem(403, json.dumps(licence).encode(), [password])
        assert (problem.subject, password in problem.text) == ("licences", False)


def test_the_subject_of_a_refusal_survives() -> None:
    """It travels with the error, also to another process."""
    error = BrokerError("no", status=400)
    error.subject = "no data"

    assert pickle.loads(pickle.dumps(error)).subject == "no data"
    assert QueryError("x").subject is None


@for_each(
    ("text", "secret", "shown"),
    [
        ("the password p is wrong", "p", "the password *** is wrong"),
        ("'p' and \"p\", p; (p) p.", "p", "'***' and \"***\", ***; (***) ***."),
        ("user:p@host?x=p&y", "p", "user:***@host?x=***&y"),
        (
            "{'accepted': 0, 'n': 10, 't': '10:00:00'}",
            "0",
            "{'accepted': ***, 'n': 10, 't': '10:00:00'}",
        ),
        ("sst_2024-05-01 0.5 h", "05", "sst_2024-05-01 0.5 h"),
        ("a 05 b", "05", "a *** b"),
        ("sst_20240501.nc of 2024", "2024", "sst_***0501.nc of ***"),
        ("abc xabcx", "abc", "*** xabcx"),
        ("nothing", "", "nothing"),
        ("&lt;a&gt;b&amp;c", "<a>b&c", "***"),
        ("p\u00e4ss p\\u00e4ss p%C3%A4ss", "p\u00e4ss", "*** *** ***"),
    ],
)
def test_what_is_masked(text: str, secret: str, shown: str) -> None:
    """Secrets of less than four characters only where they stand as a value of their own."""
    assert redact(text, [secret]) == shown


def test_no_half_of_a_secret_is_shown() -> None:
    """Where a text is cut nothing is left of a secret that stood there."""
    secret = "correct-horse-battery"
    for begin in range(290, 330):
        said = "x" * begin + secret + " and more" * 10
        assert "corr" not in excerpt(said, [secret], 300)[-8:]
        assert "corr" not in parse_problem(500, said.encode(), [secret]).text[-8:]
    page = b"<html>" + b"<b>" * 21_836 + secret[:15].encode()
    page += b"<i>" * (64 * 1024 - len(page))
    cut = b"<html>" + b"<b>" * 21_840
    cut += secret.encode()[: 64 * 1024 - len(cut)]
    assert len(cut) == 64 * 1024
    assert "cor" not in parse_problem(500, cut, [secret]).text
    # A cut in front of a cut: the mask is shorter than what it stands for.
    many = f"{secret} " * 3000
    assert "corr" not in excerpt(many, [secret], 300)


@pytest.mark.slow
@pytest.mark.parametrize(
    "password", ["password", "hda_fsspec", "username}", "a+b c/%41ä", "2024", "q"]
)
def test_a_kept_list_orders_with_the_locators_that_came(bench: Any, password: str) -> None:
    """A new client that read them from the disk sends them character for character."""
    quoted = urllib.parse.quote(password, safe="")
    places = [f"?p={password}", f"?p={quoted}&u=user#{{hda_fsspec:password}}", f"\x1a{password}"]
    products = [
        dated_product(bench.product_id(day), bench.body(day), location=f"https://x/y{place}")
        for day, place in enumerate(places, 1)
    ]
    emulator = bench.start(products=products, password=password)
    fs = bench.filesystem(emulator)
    assert len(fs.ls(bench.query)) == 3
    close_clients()

    fs = bench.filesystem(emulator)
    assert fs.cat(bench.path(1)) == bench.body(1)
    fs.download(bench.query, bench.folder / "out")

    assert emulator.orders == 3
    assert len(emulator.log.where(lambda r: r.api == "dataaccess/search")) == 1
    listings = [p for p in (bench.folder / "cache").rglob("*") if p.is_file()]
    assert [p for p in listings if len(password) >= 8 and password in p.read_text("latin-1")] == []


TOKEN = "0c2f4e0a-raw0-4b0e-8f0e-1234567890ab"


def test_a_record_holds_places_for_what_must_be_sent_back() -> None:
    """A locator with a token is kept without, and sent with the one in use."""
    secrets = Secrets("a long password", (TOKEN,), TOKEN)
    product = Product("EO:X", "a", location=f"https://x/?t={TOKEN}&p=a%20long%20password")
    kept = secrets.product(product)

    assert TOKEN not in str(dataclasses.asdict(kept))
    assert "long" not in kept.location
    assert secrets.revealed(kept.location) == product.location
    renewed = Secrets("a long password", (TOKEN, "new-token"), "new-token")
    assert renewed.revealed(kept.location) == product.location.replace(TOKEN, "new-token")


def test_a_kept_locator_with_a_token_is_sent_with_one(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that has not logged in yet does so first: it has nothing to put into the place."""
    emulator = bench.start(days=1)
    answer, orders = emulator._broker.answer, []

    def answers(request: Any, faults: Any) -> Any:
        if request.api == "dataaccess/download":
            orders.append(request.json()["location"])
        return answer(request, faults)

    monkeypatch.setattr(emulator._broker, "answer", answers)
    product = Product(bench.dataset, bench.product_id(1), location=f"https://x/?t={TOKEN}")
    kept = Secrets(None, (TOKEN,), TOKEN).product(product)
    session = Session(Settings.resolve(**bench.settings(emulator)))
    with pytest.raises(BrokerError):
        Broker(lambda: session, max_products=10, workers=1).order(kept)
    session.close()

    assert orders == [f"https://x/?t={emulator.tokens_issued[0]}"]


def test_what_describes_a_product_loses_what_it_quotes() -> None:
    """Texts do, dates and numbers do not; nor does what stands in the id for everybody to see."""
    properties = (
        ("comment", f"by {TOKEN}"),
        ("day", "2024-05-01"),
        ("n", 2024),
        ("x", "2024 it is"),
    )
    product = Product("EO:X", "a", properties=properties)
    kept = dict(Secrets("2024", (TOKEN,)).product(product).properties)
    assert kept == {"comment": "by ***", "day": "2024-05-01", "n": 2024, "x": "*** it is"}

    named = dataclasses.replace(product, product_id="a_2024.nc")
    assert dict(Secrets("2024", (TOKEN,)).product(named).properties)["x"] == "2024 it is"
    assert Secrets("password", (TOKEN,)).product(Product("EO:X", "a")) == Product("EO:X", "a")


@for_each(
    "make",
    [
        lambda secrets: secrets.product(Product("EO:X", f"a{TOKEN}")),
        lambda secrets: secrets.dataset(Dataset(f"EO:{TOKEN}")),
        lambda secrets: secrets.dataset(Dataset("EO:X", terms=(TOKEN,))),
        lambda secrets: secrets.term(Term(TOKEN)),
        lambda secrets: secrets.order_id(f"66b3{TOKEN}"),
        lambda secrets: secrets.order_id("66b3-a long password"),
    ],
)
def test_an_id_with_a_secret_is_an_error(make: Any) -> None:
    """It would be a path, a file name and a line in a log: there is no place to hide it."""
    with pytest.raises(BrokerError, match="quotes a secret") as caught:
        make(Secrets("a long password", (TOKEN,)))

    assert TOKEN not in str(caught.value)
    assert "long" not in str(caught.value)


def test_a_schema_keeps_its_vocabulary() -> None:
    """Choices are compared and sent back, so that a password among them stays; a token does not."""
    document = {
        "properties": {
            "year": {"title": "since 2024", "oneOf": [{"const": "2024", "title": "2024"}]},
            "x": {"title": f"for {TOKEN}", "default": f"a{TOKEN}"},
        },
        "required": ["2024"],
    }
    kept = Secrets("2024", (TOKEN,)).schema("EO:X", document)

    assert kept["properties"]["year"]["oneOf"][0]["const"] == "2024"
    assert kept["properties"]["year"]["title"] == "since ***"
    assert kept["required"] == ["2024"]
    assert TOKEN not in str(kept)


def test_headers_that_quote_a_token_are_dropped() -> None:
    """Two files with other tokens in their ETag must not look equal."""
    headers = {"ETag": f'"{TOKEN}"', "Content-Disposition": f"filename={TOKEN}.nc", "X": "y"}

    assert Secrets(None, (TOKEN,)).headers(headers) == {
        "Content-Disposition": "filename=***.nc",
        "X": "y",
    }
    assert Secrets(None).headers(headers) is headers


def test_names_of_files(tmp_path: Path) -> None:
    """A long password is no part of a file's name by chance, unless it is one of the id's."""
    secrets = Secrets("sst_20240501.nc", (TOKEN,))

    assert secrets.file_name("sst_20240501.nc.zip", "sst_20240501.nc") == "sst_20240501.nc.zip"
    assert secrets.file_name("sst_20240501.nc.zip", "other") == "***.zip"
    assert Secrets("2024").file_name("era5_2024.nc", "other") == "era5_2024.nc"
    assert secrets.file_name(f"{TOKEN}.nc", "other") == "***.nc"
    assert secrets.file_name(None, "other") is None
