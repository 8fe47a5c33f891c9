"""Looking never takes a fault for "not there", never pages without end, and costs little."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hda_fsspec.emulator import DatasetEntry, Fault
from hda_fsspec.errors import (
    AuthenticationError,
    BrokerError,
    LocationError,
    QueryError,
    QuotaError,
    TooManyProductsError,
)
from hda_fsspec.network.session import Session

VERBS: dict[str, Callable[[Any, str, str], Any]] = {
    "ls": lambda fs, q, p: fs.ls(q),
    "exists": lambda fs, q, p: fs.exists(p),
    "lexists": lambda fs, q, p: fs.lexists(p),
    "isfile": lambda fs, q, p: fs.isfile(p),
    "isdir": lambda fs, q, p: fs.isdir(p),
    "isdir of a query": lambda fs, q, p: fs.isdir(q),
    "exists of a query": lambda fs, q, p: fs.exists(q),
    "isdir of a data set": lambda fs, q, p: fs.isdir(q.split("/enddate")[0]),
    "info": lambda fs, q, p: fs.info(p),
    "find": lambda fs, q, p: fs.find(q),
    "find with directories": lambda fs, q, p: fs.find(q, withdirs=True),
    "glob": lambda fs, q, p: fs.glob(q + "/*"),
    "glob of one": lambda fs, q, p: fs.glob(p),
    "glob of the root": lambda fs, q, p: fs.glob("hda://EO*"),
    "walk": lambda fs, q, p: list(fs.walk(q)),
    "walk and omit": lambda fs, q, p: list(fs.walk(q, on_error="omit")),
    "walk and call": lambda fs, q, p: list(fs.walk(q, on_error=lambda err: None)),
    "du": lambda fs, q, p: fs.du(q),
    "expand_path": lambda fs, q, p: fs.expand_path(q + "/*"),
    "expand_path deep": lambda fs, q, p: fs.expand_path(q, recursive=True),
    "get": lambda fs, q, p: fs.get(q + "/", "never", recursive=True),
    "cat": lambda fs, q, p: fs.cat(q, recursive=True, on_error="omit"),
    "size": lambda fs, q, p: fs.size(p),
    "prefetch": lambda fs, q, p: fs.prefetch(q),
    "ls of the root": lambda fs, q, p: fs.ls("hda://"),
    "open": lambda fs, q, p: fs.open(p),
}
REFUSED = (AuthenticationError, BrokerError)
LIMITED = (QuotaError, BrokerError)
FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
    "wrong password": ({}, {"password": "wrong"}, AuthenticationError),
    "403": ({"kind": "status", "status": 403, "path": "data"}, {}, REFUSED),
    "500": ({"kind": "status", "status": 500, "path": "data"}, {}, BrokerError),
    "429": ({"kind": "status", "status": 429, "path": "data"}, {}, LIMITED),
    "no answer": ({"kind": "hang", "seconds": 5, "path": "data"}, {"timeout": 0.05}, BrokerError),
    "HTML": ({"kind": "html", "path": "data"}, {}, BrokerError),
}


@pytest.fixture
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the pauses between the attempts of a session, which no setting shortens."""
    session = functools.partial(Session, sleep=lambda _: None)
    monkeypatch.setattr("hda_fsspec.network.session.Session", session)


@pytest.mark.slow
@pytest.mark.usefixtures("_hurry")
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_never_absence(bench: Any, fault: str, tmp_path: Path) -> None:
    """A refused login, a used-up quota or a dead service raises in every verb that looks."""
    script, settings, expected = FAULTS[fault]
    emulator = bench.start(days=1)
    if script:
        emulator.fault(Fault(**script, times=None))
    verbs = ["exists", "find", "glob", "walk", "isdir"] if fault == "no answer" else list(VERBS)

    quiet = {}
    for verb in verbs:
        fs = bench.filesystem(emulator, **settings)
        with contextlib.suppress(expected):
            quiet[verb] = VERBS[verb](fs, bench.query, bench.path(1))

    assert quiet == {}
    assert emulator.order_posts == 0
    assert not Path("never").exists()


def test_absence_is_no_fault(bench: Any) -> None:
    """Where the service answers, a missing product, query or data set is not there."""
    fs = bench.filesystem(bench.start(days=1))
    missing = [f"{bench.query}/nope", "hda://EO:NOPE", "hda://EO:NOPE/startdate=2024-05-01/x"]

    for path in missing:
        assert [fs.exists(path), fs.isfile(path), fs.isdir(path)] == [False] * 3
        assert fs.glob(path) == fs.find(path) == []
        assert [files for _, dirs, files in fs.walk(path) if files or dirs] == []
        with pytest.raises(FileNotFoundError):
            fs.info(path)
    with pytest.raises(FileNotFoundError):
        fs.open(missing[0])
    told: list[OSError] = []
    list(fs.walk(missing[0], on_error=told.append))
    assert [type(err) for err in told] == [FileNotFoundError]


ROOT: dict[str, Callable[[Any], Any]] = {
    "find": lambda fs: fs.find("hda://"),
    "find with directories": lambda fs: fs.find("", withdirs=True),
    "walk": lambda fs: list(fs.walk("hda://")),
    "walk of a pattern": lambda fs: list(fs.walk("hda://EO*")),
    "du": lambda fs: fs.du("hda://"),
    "du in detail": lambda fs: fs.du("", total=False),
    "glob": lambda fs: fs.glob("hda://**"),
    "get": lambda fs: fs.get("hda://", "never", recursive=True),
    "get of a pattern": lambda fs: fs.get("hda://*", "never", recursive=True),
    "cat of a pattern": lambda fs: fs.cat("hda://EO*", recursive=True),
    "expand_path": lambda fs: fs.expand_path("hda://*", recursive=True),
    "expand_path of many": lambda fs: fs.expand_path(["hda://"], recursive=True),
    "prefetch": lambda fs: fs.prefetch("hda://"),
    "download": lambda fs: fs.download("hda://*", "never"),
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", ROOT)
def test_going_through_the_whole_service_is_refused(bench: Any, verb: str) -> None:
    """Nothing walks down from the root: not one search is made."""
    emulator = bench.start(days=1)

    with pytest.raises(LocationError, match="every data set"):
        ROOT[verb](bench.filesystem(emulator))

    assert emulator.count("POST", "dataaccess/search") == 0
    assert not Path("never").exists()


def test_the_root_lists_data_sets(bench: Any) -> None:
    """ls, glob and a walk of depth one find the data sets, and search none."""
    emulator = bench.start(days=1)
    emulator.catalogue._datasets["EO:OTHER"] = DatasetEntry("EO:OTHER", [], title="Other")
    fs = bench.filesystem(emulator)
    names = ["EO:OTHER", bench.dataset]

    assert fs.ls("hda://", detail=False) == fs.ls("", detail=False) == names
    assert fs.glob("hda://*") == names
    assert fs.glob("hda://EO:O*") == ["EO:OTHER"]
    assert fs.glob("hda://*", withdirs=False) == []
    assert [dirs for _, dirs, _ in fs.walk("hda://", maxdepth=1)] == [names]
    assert fs.ls("hda://")[0]["title"] == "Other"
    assert [fs.exists("hda://"), fs.isdir(""), fs.isfile("hda://")] == [True, True, False]
    assert emulator.count("POST", "dataaccess/search") == 0


@pytest.mark.parametrize("paging", ["total", "next"])
def test_too_many_products_are_told_early(bench: Any, paging: str) -> None:
    """At the first page where there is a total, else as soon as the count passes the bound."""
    emulator = bench.start(days=31, paging=paging, max_page=3)
    fs = bench.filesystem(emulator, max_products=10)

    for verb in ("ls", "find", "du", "prefetch"):
        emulator.clear_log()
        with pytest.raises(TooManyProductsError, match="Narrow it"):
            getattr(fs, verb)(f"hda://{bench.dataset}")
        searches = emulator.count("POST", "dataaccess/search")
        assert searches == (1 if paging == "total" else 4)
    assert len(fs.ls(f"hda://{bench.dataset}/startdate=2024-05-01/enddate=2024-05-10")) == 10
    assert emulator.order_posts == 0


def test_looking_at_a_query_costs_no_search(bench: Any) -> None:
    """Every query that the schema accepts is a directory, even an empty one."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator)
    empty = f"hda://{bench.dataset}/startdate=1999-01-01/enddate=1999-01-02"

    for path in (bench.query, empty, f"hda://{bench.dataset}", f"{empty}/bbox=-6,43,-1,46"):
        assert [fs.exists(path), fs.isdir(path), fs.isfile(path)] == [True, True, False]
        assert fs.info(path)["type"] == "directory"
        assert fs.glob(path) == [fs._strip_protocol(path)]
        assert fs.size(path) == 0
    assert emulator.count("POST", "dataaccess/search") == 0
    assert fs.ls(empty) == fs.find(empty) == fs.glob(empty + "/*") == []
    assert fs.du(empty) == 0
    with pytest.raises(FileNotFoundError):
        fs.prefetch(empty)


@pytest.mark.parametrize("verb", ["ls", "find", "exists", "isdir", "isfile", "info", "glob", "du"])
def test_a_refused_query_is_an_error_everywhere(bench: Any, verb: str) -> None:
    """A key that the data set does not have is told, with the nearest one, before any search."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator)

    with pytest.raises(QueryError, match="startdate"):
        getattr(fs, verb)(f"hda://{bench.dataset}/startdat=2024-05-01")

    assert emulator.count("POST", "dataaccess/search") == 0


@pytest.mark.parametrize("path", ["/startdate=2024-05-*/x", "/start?ate=2024", "/a[b]c/x", "/*/x"])
def test_a_pattern_in_a_query_is_an_error(bench: Any, path: str) -> None:
    """A glob character may stand in the last segment only; nothing is asked for such a path."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator)

    for verb in ("ls", "find", "exists", "info", "glob", "open", "cat", "prefetch"):
        with pytest.raises(LocationError, match="glob character"):
            getattr(fs, verb)(f"hda://{bench.dataset}{path}")

    assert len(emulator.log) == 0


@pytest.mark.usefixtures("_hurry")
@pytest.mark.parametrize("verb", ["ls", "info", "exists", "find", "open", "glob"])
def test_an_unreachable_service_is_told(bench: Any, verb: str) -> None:
    """A service that is down raises one error that names its address."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator, timeout=2)
    emulator.stop()

    with pytest.raises(BrokerError, match=r"127\.0\.0\.1"):
        getattr(fs, verb)(bench.path(1))
