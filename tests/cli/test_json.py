"""``--json``: what programs read of each command, and what ``ls`` tells of the cache."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hda_fsspec import HDAFileSystem
from hda_fsspec.cache.cache import Cache
from hda_fsspec.cache.metadata import MetadataStore
from hda_fsspec.cli import main
from hda_fsspec.cli.terminal import echo_json
from hda_fsspec.client import close_clients
from hda_fsspec.emulator import Emulator

Run = Callable[..., Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with ``--json``, and return what it printed, which is strict JSON."""

    def call(*words: object, code: int = 0) -> Any:
        capsys.readouterr()
        assert main([*map(str, words), "--json"]) == code
        out = capsys.readouterr().out
        assert out.isascii()
        return json.loads(out, parse_constant=pytest.fail)

    return call


@pytest.fixture
def emulator(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Five days of products, where the environment leads."""
    running: Emulator = bench.start()
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    return running


def test_ls_of_products(bench: Any, emulator: Emulator, run: Run) -> None:
    """A list of objects; what was fetched is cached. A size is null until one is known."""
    assert run("ls", bench.query)[0]["size"] is None
    HDAFileSystem().prefetch(bench.path(2))

    first, second, *_ = found = run("ls", bench.query)

    assert len(found) == 5
    assert first == {
        "name": bench.path(1).removeprefix("hda://"),
        "product_id": bench.product_id(1),
        "size": 2032,  # since the catalogue was right of the one that was fetched
        "catalogue_size": 2032,
        "startdate": "2024-05-01T00:00:00.000Z",
        "enddate": "2024-05-01T23:59:59.999Z",
        "cached": False,
    }
    assert (second["size"], second["cached"]) == (2032, True)
    assert [each["cached"] for each in found] == [False, True, False, False, False]
    assert run("ls", bench.path(2)) == [second]
    assert run("ls", f"{bench.query}/*02.nc") == [second]
    assert run("--offline", "ls", bench.query)[1]["cached"]


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["-l"], ["--json"], ["-1"]])
def test_ls_costs_what_listing_costs(
    words: list[str], bench: Any, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether products are cached is seen on the disk: no request more, no order, no use."""
    used_at = _fetch_one_and_forget_the_listing(bench)
    before = len(emulator.log)
    HDAFileSystem().ls(bench.query)
    needed = len(emulator.log) - before
    MetadataStore(bench.cache_dir).forget()
    close_clients()
    before = len(emulator.log)

    assert main(["ls", *words, bench.query]) == 0

    assert len(emulator.log) - before == needed
    assert main(["ls", *words, bench.query]) == 0
    assert len(emulator.log) - before == needed  # the listing is kept
    assert emulator.orders == 1
    assert [entry.used_at for entry in Cache(bench.cache_dir).entries()] == [used_at]


def _fetch_one_and_forget_the_listing(bench: Any) -> float:
    """Fetch a product, and have it used an hour ago; return when that was."""
    HDAFileSystem().prefetch(bench.path(1))
    MetadataStore(bench.cache_dir).forget()
    close_clients()
    [entry] = Cache(bench.cache_dir).entries()
    used_at = round(entry.used_at) - 3600.0
    os.utime(entry.folder / "record.json", (used_at, used_at))
    return used_at


@pytest.mark.parametrize("change", [{}, {"updated": "2024-07-01T00:00:00Z"}])
def test_another_version_is_not_cached(
    change: dict[str, str], bench: Any, emulator: Emulator, run: Run
) -> None:
    """A product that the catalogue has changed since is another one than that in the cache."""
    emulator.republish(
        bench.dataset, bench.product_id(1), bench.body(1), updated="2024-06-01T00:00:00Z"
    )
    HDAFileSystem().prefetch(bench.path(1))
    assert run("ls", bench.query)[0]["cached"] is True

    body = bench.body(1) if change else bench.body(1) + b"more"
    emulator.republish(bench.dataset, bench.product_id(1), body, **change)
    HDAFileSystem().ls(bench.query, refresh=True)

    assert run("ls", bench.query)[0]["cached"] is False


def test_ls_of_data_sets_and_of_nothing(bench: Any, emulator: Emulator, run: Run) -> None:
    """Data sets are directories with a title; an empty query is an empty list."""
    [found] = run("ls")

    assert (found["name"], found["type"]) == (bench.dataset, "directory")
    assert run("ls", f"hda://{bench.dataset}/startdate=2023-01-01/enddate=2023-01-02") == []


def test_info_tells_whether_it_is_cached(bench: Any, emulator: Emulator, run: Run) -> None:
    """Of a product; a query is in no cache."""
    assert run("info", bench.path(1))["cached"] is False
    HDAFileSystem().prefetch(bench.path(1))
    assert run("info", bench.path(1))["cached"] is True
    assert "cached" not in run("info", bench.query)


def test_get_is_a_list_of_files(bench: Any, emulator: Emulator, run: Run) -> None:
    """The copies, in the order of the products, under either kind of name."""
    by_id = run("get", bench.query, bench.folder / "a")
    delivered = run("get", "--delivered-names", bench.query, bench.folder / "b")

    assert [Path(path).parent.name for path in (by_id[0], delivered[0])] == ["a", "b"]
    assert len(by_id) == len(delivered) == 5
    assert all(Path(path).is_file() for path in (*by_id, *delivered))


def test_cache(bench: Any, emulator: Emulator, run: Run) -> None:
    """Each command for the cache says in numbers what it says in words."""
    HDAFileSystem().prefetch([bench.path(1), bench.path(2)])

    listed = run("cache", "ls")
    usage = run("cache", "du")
    damaged = Path(listed[0]["file"])
    damaged.write_bytes(damaged.read_bytes()[:-1])
    verified = run("cache", "verify", "--remove", code=1)
    pruned = run("cache", "prune", "--older-than", "1d")
    cleared = run("cache", "clear", "--yes")

    assert {each["path"] for each in listed} == {
        f"hda://{bench.dataset}/{bench.product_id(day)}" for day in (1, 2)
    }
    assert {each["endpoint_url"] for each in listed} == {HDAFileSystem().settings.endpoint_url}
    assert (usage["files"], usage["bytes"]) == (2, 2 * 2032)
    assert (verified["sound"], len(verified["damaged"])) == (1, 1)
    assert verified["damaged"][0]["product_id"] == listed[0]["product_id"]
    assert pruned["removed_bytes"] == 0
    assert cleared["removed_bytes"] == 2032
    assert run("cache", "ls") == []


@pytest.mark.slow
def test_account(bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> None:
    """Licences, login and the doctor; no password is in any of it."""
    monkeypatch.setattr("sys.stdin", io.StringIO("ann\n"))
    monkeypatch.setattr("getpass.getpass", lambda prompt: "secret-9")

    login = run("login")
    terms = run("terms", "list", bench.dataset)
    accepted = run("terms", "accept", bench.dataset)
    findings = run("doctor")

    assert login == {"user": "ann", "file": str(Path.home() / ".hdarc"), "checked": False}
    assert terms == [{"term_id": "Copernicus_General_License", "accepted": True}]
    assert accepted == {"dataset_id": bench.dataset, "accepted": []}
    assert {finding["state"] for finding in findings} == {"ok", "-"}
    assert "secret-9" not in json.dumps(findings)
    assert emulator.password not in json.dumps(findings)


def test_errors_stay_on_standard_error(
    bench: Any, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that reads JSON gets none, and an exit code."""
    assert main(["ls", "--json", f"{bench.query}/*none*"]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hda-fsspec: error: Nothing matches")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": math.inf}, {"a": None}),
        ([1, (2, 3.5)], [1, [2, 3.5]]),
        ({1: Path("x")}, {"1": "x"}),
        ("\x7f\ud800\x1b", "\x7f\ud800\x1b"),
        (True, True),
    ],
)
def test_json_of_anything(value: Any, text: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What JSON has no word for is null or text; nothing of it is raw."""
    echo_json(value)

    out = capsys.readouterr().out
    assert json.loads(out) == text
    assert out.replace("\n", "").isprintable()
