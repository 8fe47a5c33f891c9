"""Licences: asked for before anything else, told with what to do, remembered once accepted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from ready_processes import run_script

from hda_fsspec.client import close_clients
from hda_fsspec.emulator import Emulator, Fault
from hda_fsspec.errors import BrokerError, OrderError, TermsNotAcceptedError

_TERMS = ("Copernicus_General_License", "EUMETSAT_Core_Products_Licence")


def start(bench: Any, accepted: Sequence[str] = (), **options: Any) -> Emulator:
    """Start a service whose data set has two licences."""
    emulator: Emulator = bench.start(
        days=2, entry={"terms": _TERMS}, accepted_terms=accepted, **options
    )
    return emulator


@pytest.mark.slow
@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("verb", ["ls", "cat", "glob", "exists", "prefetch"])
def test_not_accepted(verb: str, status: int, bench: Any) -> None:
    """Before the first search or order the error tells title, link, and the line to paste."""
    emulator = start(bench, accepted=_TERMS[:1], terms_status=status)
    path = {"ls": bench.query, "glob": f"{bench.query}/*"}.get(verb, bench.path(1))

    with pytest.raises(TermsNotAcceptedError) as caught:
        getattr(bench.filesystem(emulator), verb)(path)

    told = str(caught.value)
    assert "EUMETSAT Core Products Licence (EUMETSAT_Core_Products_Licence)" in told
    assert "https://licences.example/EUMETSAT_Core_Products_Licence.pdf" in told
    assert f'fs.accept_terms("{bench.dataset}")' in told
    assert f'hda-fsspec terms accept "{bench.dataset}"' in told
    assert "Copernicus_General_License" not in told
    assert caught.value.terms == _TERMS[1:]
    assert caught.value.dataset_id == bench.dataset
    assert emulator.count("POST", "dataaccess") == 0
    assert emulator.count("PUT", "termsaccepted") == 0


def test_not_accepted_is_never_remembered(bench: Any) -> None:
    """Who accepts on the web page goes on at once: "not accepted" is asked anew each time."""
    emulator = start(bench)
    fs = bench.filesystem(emulator)
    for _ in range(2):
        with pytest.raises(TermsNotAcceptedError):
            fs.ls(bench.query)
    assert list((bench.cache_dir / "v1" / "terms").rglob("*.note")) == []

    for term in _TERMS:
        emulator._broker.licences.set(term, accepted=True)

    assert len(fs.ls(bench.query)) == 2


def test_accepting_by_hand(bench: Any) -> None:
    """`accept_terms` accepts what is missing, says what it was, and only once."""
    emulator = start(bench, accepted=_TERMS[:1])
    fs = bench.filesystem(emulator)

    assert fs.accept_terms(bench.dataset) == [_TERMS[1]]
    assert fs.accept_terms(bench.query) == []

    assert fs.cat(bench.path(1)) == bench.body(1)
    assert emulator.count("PUT", "termsaccepted") == 1


def test_accepting_by_setting(bench: Any) -> None:
    """With the setting `accept_terms` what is missing is accepted, no more."""
    emulator = start(bench, accepted=_TERMS[:1])

    assert bench.filesystem(emulator, accept_terms=True).cat(bench.path(1)) == bench.body(1)

    puts = [record.path for record in emulator.log if record.method == "PUT"]
    assert [path.rpartition("/")[2] for path in puts] == [_TERMS[1]]


@pytest.mark.slow
def test_accepted_is_asked_once_per_account(bench: Any) -> None:
    """One `termsaccepted` call serves all threads and all processes of an account on a cache."""
    emulator = start(bench, accepted=_TERMS)
    fs = bench.filesystem(emulator)
    fs.prefetch(bench.query)
    bench.filesystem(emulator, timeout=33).ls(bench.query, refresh=True)
    close_clients()
    script = (
        "import json, sys; from hda_fsspec import HDAFileSystem; "
        "fs = HDAFileSystem(**json.loads(sys.argv[1])); "
        "fs.ls(sys.argv[2], refresh=True); fs.prefetch(sys.argv[2])"
    )
    settings = json.dumps(bench.settings(emulator), default=str)

    run_script(script, [settings, bench.query], folder=bench.folder)

    assert emulator.count("GET", "termsaccepted") == 1
    assert emulator.count("POST", "dataaccess/search") == 3


def test_another_account_is_asked_for_itself(bench: Any) -> None:
    """What one account accepted is not taken for the acceptance of another."""
    emulator = start(bench, accepted=_TERMS)
    bench.filesystem(emulator).ls(bench.query)
    other = bench.start(days=1, entry={"terms": _TERMS}, accepted_terms=(), user="other")

    with pytest.raises(TermsNotAcceptedError):
        bench.filesystem(other).ls(bench.query)


@pytest.mark.parametrize("status", [403, 404])
def test_a_licence_that_was_withdrawn(status: int, bench: Any) -> None:
    """A search refused for a withdrawn licence is told from one of an unknown data set."""
    emulator = start(bench, accepted=_TERMS, terms_status=status)
    fs = bench.filesystem(emulator)
    fs.ls(bench.query)
    emulator._broker.licences.set(_TERMS[0], accepted=False)

    with pytest.raises(TermsNotAcceptedError) as caught:
        fs.ls(bench.query, refresh=True)

    assert caught.value.terms == _TERMS[:1]
    assert fs.accept_terms(bench.dataset) == [_TERMS[0]]
    assert len(fs.ls(bench.query, refresh=True)) == 2


@pytest.mark.parametrize("status", [403, 404])
def test_a_withdrawn_licence_at_an_order(status: int, bench: Any) -> None:
    """An order refused for a withdrawn licence says so, instead of "cannot be prepared"."""
    emulator = start(bench, accepted=_TERMS, terms_status=status)
    fs = bench.filesystem(emulator)
    fs.ls(bench.query)
    emulator._broker.licences.set(_TERMS[0], accepted=False)

    with pytest.raises(TermsNotAcceptedError):
        fs.cat(bench.path(1))

    emulator._broker.licences.set(_TERMS[0], accepted=True)
    assert fs.cat(bench.path(1)) == bench.body(1)


@pytest.mark.parametrize("status", [403, 404])
def test_a_withdrawn_licence_is_accepted_again_by_setting(status: int, bench: Any) -> None:
    """With the setting `accept_terms` a withdrawn licence is accepted, and the work goes on."""
    emulator = start(bench, accepted=_TERMS, terms_status=status)
    fs = bench.filesystem(emulator, accept_terms=True)
    fs.ls(bench.query)
    emulator._broker.licences.set(_TERMS[0], accepted=False)

    assert len(fs.ls(bench.query, refresh=True)) == 2

    emulator._broker.licences.set(_TERMS[0], accepted=False)
    assert fs.cat(bench.path(1)) == bench.body(1)


def test_a_data_set_that_is_gone(bench: Any) -> None:
    """A search refused since the data set is gone says that, and names the nearest ones."""
    emulator = start(bench, accepted=_TERMS)
    fs = bench.filesystem(emulator)
    fs.ls(bench.query)
    emulator.fault(Fault("status", method="POST", path="dataaccess/search", status=404))
    emulator.fault(Fault("status", path=f"datasets/{bench.dataset}", status=404))

    with pytest.raises(FileNotFoundError, match="no data set"):
        fs.ls(bench.query, refresh=True)


def test_a_refusal_for_no_reason_we_know(bench: Any) -> None:
    """A search refused with all licences accepted keeps the error of the service."""
    emulator = start(bench, accepted=_TERMS)
    emulator.fault(Fault("status", method="POST", path="dataaccess/search", status=404, times=None))

    with pytest.raises(BrokerError) as caught:
        bench.filesystem(emulator).ls(bench.query)

    assert caught.value.status == 404


def test_a_broker_without_that_call(bench: Any) -> None:
    """Where accepted licences cannot be asked for, the work goes on."""
    emulator = start(bench, accepted=_TERMS)
    emulator.fault(Fault("status", path="termsaccepted", status=404, times=None))
    fs = bench.filesystem(emulator)

    assert fs.cat(bench.path(1)) == bench.body(1)

    emulator.fault(
        Fault("status", method="POST", path="dataaccess/download", status=404, times=None)
    )
    with pytest.raises(OrderError):
        fs.cat(bench.path(2))
