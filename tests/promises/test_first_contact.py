"""First contact: what only helps may be missing, refused or malformed, and the job is done."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from hda_fsspec.client import close_clients
from hda_fsspec.emulator import dated_product
from hda_fsspec.emulator.faults import Fault
from hda_fsspec.emulator.permanent_faults import ODDITIES
from hda_fsspec.errors import (
    AuthenticationError,
    BrokerError,
    ConfigurationError,
    HDAError,
    QueryError,
    TermsNotAcceptedError,
)

_TERMS = ("Copernicus_General_License", "EUMETSAT_Core_Products_Licence")
_UNREADABLE_LISTS = [name for name in ODDITIES if name.startswith("accepted-")]
_SEARCH = ("POST", "dataaccess/search")
_ORDER = ("POST", "dataaccess/download")

# What is odd, and what the log says of it; None where nothing is missed.
_SAID = {
    **dict.fromkeys(_UNREADABLE_LISTS, "The list of accepted licences cannot be had"),
    "data-set-500": "The entry of EO:TEST:DAT:DAILY cannot be had",
    "data-set-html": "The entry of EO:TEST:DAT:DAILY cannot be had",
    "schema-404": "The schema of EO:TEST:DAT:DAILY cannot be had",
    "schema-500": "The schema of EO:TEST:DAT:DAILY cannot be had",
    "schema-html": "The schema of EO:TEST:DAT:DAILY cannot be had",
    "schema-bare-list": "The schema of EO:TEST:DAT:DAILY cannot be had",
    "head-403": "The head of an order's file cannot be had",
    "head-405": "The head of an order's file cannot be had",
    "head-503": "The head of an order's file cannot be had",
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hda_fsspec.network.retries._FIRST_DELAY_SECONDS", 0.005)
    monkeypatch.setattr("hda_fsspec.network.retries._LONGEST_DELAY_SECONDS", 0.02)


def start(bench: Any, *odd: str, days: int = 3, **options: Any) -> Any:
    """Start a service that is odd in some way, with a data set of two licences."""
    if "login-page" in odd:
        options["token_endpoint"] = "broker"
    if "features-number-ids" in odd:
        options["products"] = [
            dated_product(f"2024050{day}", bench.body(day)) for day in range(1, days + 1)
        ]
    return bench.start(days=days, odd=odd, entry={"terms": _TERMS}, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("odd", "accept_terms"),
    [
        *((odd, True) for odd in ODDITIES),
        *((odd, False) for odd in ODDITIES if "terms" in odd or "dataset" in odd),
    ],
)
def test_the_job_is_done(
    odd: str, accept_terms: bool, bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is odd: list, look, order, download; and the log says so once."""
    said = _SAID.get(odd)
    # Twice where it could be said twice, and where several products are told.
    count = 2 if said or odd.startswith(("features", "page")) else 1
    emulator = start(bench, odd, days=count, polls=1)
    fs = bench.filesystem(emulator, accept_terms=accept_terms)
    caplog.set_level(logging.WARNING, logger="hda_fsspec")

    for _ in range(count):
        names = fs.ls(bench.query, detail=False, refresh=True)
        assert len(names) == count
        assert fs.isdir(bench.query)
    assert fs.cat(names[0]) == bench.body(1)
    fs.prefetch(bench.query)

    assert fs.cat(names) == {name: bench.body(day) for day, name in enumerate(names, 1)}
    assert bench.dataset in {info["dataset_id"] for info in fs.ls("hda://", detail=True)}
    assert emulator.orders == count
    messages = [record.getMessage() for record in caplog.records]
    assert sum(message.startswith(said or "no such") for message in messages) == (said is not None)
    assert len(messages) == len(set(messages))


@pytest.mark.slow
@pytest.mark.parametrize("pair", [("orders-404", "head-404"), ("orders-html", "head-403")])
def test_nothing_tells_how_an_order_stands(pair: tuple[str, str], bench: Any) -> None:
    """Where neither HEAD nor the list tells, the file itself is asked for until it is there."""
    emulator = start(bench, *pair, polls=2, days=2)

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1)
    assert emulator.order_posts == 1


def test_everything_is_odd_at_once(bench: Any) -> None:
    """A service of which only search, order and file are as expected is enough."""
    odd = (
        "accepted-html",
        "titles-404",
        "data-set-500",
        "schema-404",
        "head-403",
        "orders-wrong-shape",
        "quota-headers-garbage",
        "features-null-properties",
        "page-without-properties",
    )
    emulator = start(bench, *odd, polls=1)

    assert bench.filesystem(emulator).cat(bench.path(2)) == bench.body(2)


@pytest.mark.slow
@pytest.mark.parametrize("odd", _UNREADABLE_LISTS[::2])
def test_accepted_by_setting_without_a_list(odd: str, bench: Any) -> None:
    """With `accept_terms` all that the data set names is accepted, once for all processes."""
    emulator = start(bench, odd, accepted_terms=())
    settings = {"accept_terms": True}

    for _ in range(2):
        fs = bench.filesystem(emulator, **settings)
        assert len(fs.ls(bench.query, refresh=True)) == 3
        assert fs.cat(bench.path(1)) == bench.body(1)
        close_clients()

    puts = [record.path.rpartition("/")[2] for record in emulator.log if record.method == "PUT"]
    assert puts == list(_TERMS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("odd", "status"),
    [*((odd, 403) for odd in _UNREADABLE_LISTS[1::2]), (_UNREADABLE_LISTS[0], 404)],
)
def test_refused_without_a_list(odd: str, status: int, bench: Any) -> None:
    """Without it the service is asked, and its refusal is explained with the line to paste."""
    emulator = start(bench, odd, accepted_terms=_TERMS[:1], terms_status=status)
    fs = bench.filesystem(emulator)

    with pytest.raises(TermsNotAcceptedError) as caught:
        fs.ls(bench.query)

    told = str(caught.value)
    assert "not accepted" in told
    assert f'fs.accept_terms("{bench.dataset}")' in told
    assert f'hda-fsspec terms accept "{bench.dataset}"' in told
    assert "https://licences.example/EUMETSAT_Core_Products_Licence.pdf" in told
    assert caught.value.dataset_id == bench.dataset
    assert caught.value.terms == _TERMS
    assert isinstance(caught.value.__cause__, (AuthenticationError, BrokerError))
    assert emulator.count("PUT", "termsaccepted") == 0
    assert fs.accept_terms(bench.dataset) == list(_TERMS)
    assert len(fs.ls(bench.query)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "place", "is_listed"),
    [
        *((status, _SEARCH, False) for status in (403, 404, 409, 451)),
        *((status, _ORDER, True) for status in (400, 403, 404, 422)),
        (403, _SEARCH, True),
        (403, _ORDER, False),
    ],
)
def test_a_refusal_in_words_is_believed(
    status: int, place: tuple[str, str], is_listed: bool, bench: Any
) -> None:
    """A refusal that speaks of licences is explained, of any status, against the list."""
    emulator = start(bench, *(() if is_listed else ("accepted-404",)))
    fs = bench.filesystem(emulator)
    body = {"detail": "You must accept the licence of this data set first."}
    fault = Fault("status", method=place[0], path=place[1], status=status, body=body, times=None)
    if place == _ORDER:
        fs.ls(bench.query)
    emulator.fault(fault)

    with pytest.raises(TermsNotAcceptedError, match="You must accept") as caught:
        fs.cat(bench.path(1))

    assert caught.value.terms == _TERMS


@pytest.mark.parametrize("place", [_SEARCH, _ORDER], ids=["search", "order"])
def test_a_bare_403_without_a_list(place: tuple[str, str], bench: Any) -> None:
    """A refusal without words may be for a licence where nobody can tell, and is said as that."""
    emulator = start(bench, "accepted-html")
    fs = bench.filesystem(emulator)
    fs.ls(bench.query)
    emulator.fault(Fault("status", method=place[0], path=place[1], status=403, times=None))

    with pytest.raises(TermsNotAcceptedError, match="could not be found out"):
        fs.ls(bench.query, refresh=True) if place == _SEARCH else fs.cat(bench.path(1))


@pytest.mark.parametrize("status", [403, 404])
def test_an_acceptance_that_is_refused(status: int, bench: Any) -> None:
    """Where licences cannot be accepted here the job is tried, and its refusal is explained."""
    emulator = start(bench, "acceptance-405", accepted_terms=(), terms_status=status)

    with pytest.raises(TermsNotAcceptedError):
        bench.filesystem(emulator, accept_terms=True).ls(bench.query)
    with pytest.raises(BrokerError, match="405"):
        bench.filesystem(emulator).accept_terms(bench.dataset)

    for term in _TERMS:
        emulator._broker.licences.set(term, accepted=True)
    assert len(bench.filesystem(emulator, accept_terms=True).ls(bench.query)) == 3


def test_licences_of_a_data_set_that_cannot_be_told(bench: Any) -> None:
    """Where the data set does not name its licences accepting them by hand says so."""
    emulator = start(bench, "data-set-500", accepted_terms=())
    fs = bench.filesystem(emulator)

    with pytest.raises(TermsNotAcceptedError, match=r"fs\.accept_terms"):
        fs.ls(bench.query)
    with pytest.raises(BrokerError, match="500"):
        fs.accept_terms(bench.dataset)


@pytest.mark.parametrize("odd", [name for name in ODDITIES if name.startswith("titles-")])
def test_titles_that_are_missing(odd: str, bench: Any) -> None:
    """Without titles the licences are named by their ids."""
    emulator = start(bench, odd, accepted_terms=())

    with pytest.raises(TermsNotAcceptedError, match=_TERMS[1]) as caught:
        bench.filesystem(emulator).ls(bench.query)

    assert caught.value.terms == _TERMS


@pytest.mark.slow
@pytest.mark.parametrize("odd", ["schema-404", "schema-500", "schema-html", "schema-bare-list"])
def test_without_a_schema_the_service_judges(odd: str, bench: Any) -> None:
    """An unknown key goes out, and the service's refusal says that nothing was checked here."""
    emulator = start(bench, odd)
    fs = bench.filesystem(emulator)

    with pytest.raises(QueryError, match="extra fields") as caught:
        fs.ls(f"{bench.query}/colour=red")

    assert any("told no schema" in note for note in caught.value.__notes__)
    assert emulator.count(*_SEARCH) == 1


@pytest.mark.slow
@pytest.mark.parametrize("odd", ["schema-404", "schema-500"])
@pytest.mark.parametrize("verb", ["ls", "exists", "isdir"])
def test_a_data_set_that_is_not_there_has_no_schema(odd: str, verb: str, bench: Any) -> None:
    """A missing schema does not make a data set of an id that is none."""
    emulator = start(bench, odd)
    fs = bench.filesystem(emulator)
    path = "hda://EO:NO:DAT:SUCH/startdate=2024-05-01"

    if verb in {"exists", "isdir"}:
        assert getattr(fs, verb)(path) is False
    else:
        with pytest.raises(FileNotFoundError):
            getattr(fs, verb)(path)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["exists", "isdir", "ls"])
def test_a_data_set_of_which_nothing_tells_is_not_taken_for_there(verb: str, bench: Any) -> None:
    """With neither entry nor schema, "is it there" is an error, and not a guess."""
    emulator = start(bench, "schema-500", "data-set-500")
    if verb == "ls":
        assert len(bench.filesystem(emulator).ls(bench.query)) == 3
        return
    for path in (bench.query, f"hda://{bench.dataset}"):
        with pytest.raises(HDAError, match="500"):
            getattr(bench.filesystem(emulator), verb)(path)


def test_a_schema_is_asked_for_again(bench: Any) -> None:
    """A schema that could not be had is not kept: another process checks by the one that is."""
    emulator = bench.start(days=1)
    fault = Fault("status", path="dataaccess/queryable", status=404, times=1)
    emulator.fault(fault)
    bench.filesystem(emulator).ls(bench.query)
    close_clients()

    with pytest.raises(QueryError, match="no key"):
        bench.filesystem(emulator).ls(f"{bench.query}/colour=red")


def test_a_login_that_is_refused_is_no_convenience(bench: Any) -> None:
    """A wrong password is told as that, and asked no more often than it was."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator, password="wrong")

    with pytest.raises(AuthenticationError, match="Cannot log in"):
        fs.ls(bench.query)

    assert emulator.count("POST", "identity/gettoken") == 3


@pytest.mark.slow
@pytest.mark.parametrize("paging", ["page-without-properties", None])
def test_a_full_page_is_not_the_last_one(paging: str | None, bench: Any) -> None:
    """Where nothing tells how many products there are, none is left out."""
    emulator = bench.start_many(450, odd=[paging] if paging else [])

    assert len(bench.filesystem(emulator).ls(bench.query)) == 450


def test_an_oddity_that_is_none() -> None:
    """An unknown name is refused, with the names that there are."""
    from hda_fsspec.emulator import Catalogue, Emulator

    with pytest.raises(ConfigurationError, match="head-405"):
        Emulator(Catalogue(), odd=["head-405", "no-such"])
