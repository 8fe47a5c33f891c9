"""Bad input: one typed error of a few lines, within seconds, and nothing on disk.

Each case is tried through the filesystem and through the command line.
"""

from __future__ import annotations

import dataclasses
import http.server
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hda_fsspec.cli import main
from hda_fsspec.errors import (
    AuthenticationError,
    BrokerError,
    ConfigurationError,
    LocationError,
    QueryError,
    TermsNotAcceptedError,
)

DATASET = "EO:TEST:DAT:DAILY"
WRONG_PASSWORD = "wR0ng-Sec-ret"
MOST_LINES = 8
MOST_SECONDS = 30.0  # far less than the retries of what may come back


@dataclasses.dataclass(frozen=True)
class Case:
    """One kind of bad input.

    ``verbs`` are those of the filesystem; ``told`` must all stand in the message: what was tried,
    on what, and the next step.
    """

    path: str
    error: type[Exception]
    told: tuple[str, ...]
    verbs: tuple[str, ...] = ("ls", "info", "find", "prefetch", "get", "open", "exists")
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    entry: dict[str, Any] = dataclasses.field(default_factory=dict)
    commands: tuple[str, ...] = ("ls", "info", "get")


MAY = "startdate=2024-05-01/enddate=2024-05-02"
SEARCHES = ("ls", "find", "prefetch", "get")
MODES = ["day", "night"]

CASES = {
    "wrong password": Case(
        f"hda://{DATASET}/{MAY}",
        AuthenticationError,
        ("Cannot log in at http://127.0.0.1", "as 'user'", "Check user and password"),
        settings={"password": WRONG_PASSWORD},
    ),
    "unknown data set": Case(
        f"hda://EO:TEST:DAT:DIALY/{MAY}",
        FileNotFoundError,
        ("no data set 'EO:TEST:DAT:DIALY'", "http://127.0.0.1", f"The nearest: {DATASET}"),
        verbs=("ls", "info", "prefetch", "open"),
    ),
    "unknown key": Case(
        f"hda://{DATASET}/{MAY}/timelines=day",
        QueryError,
        ("'timelines'", DATASET, "timeliness"),
        entry={"parameters": {"timeliness": MODES}},
    ),
    "unknown value": Case(
        f"hda://{DATASET}/{MAY}/timeliness=nigth",
        QueryError,
        ("'nigth'", "timeliness", "night"),
        entry={"parameters": {"timeliness": MODES}},
    ),
    "malformed bbox": Case(
        f"hda://{DATASET}/bbox=-6,43,-1/{MAY}",
        LocationError,
        ("bbox=-6,43,-1", "four finite numbers", "west,south,east,north"),
    ),
    "bbox off the globe": Case(
        f"hda://{DATASET}/bbox=-6,43,-1,146/{MAY}",
        LocationError,
        ("bbox", "146", "within -90 and 90"),
    ),
    "reversed dates": Case(
        f"hda://{DATASET}/startdate=2024-05-02/enddate=2024-05-01",
        QueryError,
        ("2024-05-02", "2024-05-01", DATASET),
    ),
    "no date": Case(
        f"hda://{DATASET}/startdate=yesterday", QueryError, ("startdate", "'yesterday'")
    ),
    "glob in the query": Case(
        f"hda://{DATASET}/startdate=2024-05-*/x", LocationError, ("glob", "startdate", "%2A")
    ),
    "pattern without match": Case(
        f"hda://{DATASET}/{MAY}/*_NT_*",
        FileNotFoundError,
        ("*_NT_*",),
        verbs=("info", "prefetch", "get", "open"),
    ),
    "unaccepted licence": Case(
        f"hda://{DATASET}/{MAY}",
        TermsNotAcceptedError,
        (DATASET, "Copernicus_General_License", "https://", "hda-fsspec terms accept"),
        verbs=SEARCHES,
        options={"accepted_terms": ()},
        commands=("ls", "get"),
    ),
    "licence refused as rights": Case(
        f"hda://{DATASET}/{MAY}",
        TermsNotAcceptedError,
        (DATASET, "Copernicus_General_License", "fs.accept_terms"),
        verbs=("ls",),
        options={"accepted_terms": (), "terms_status": 403},
        commands=("ls",),
    ),
    "no address": Case(
        f"hda://{DATASET}/{MAY}",
        ConfigurationError,
        ("'gateway.example'", "'endpoint_url'", "give an address such as https://"),
        settings={"endpoint_url": "gateway.example"},
    ),
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty working folder, where commands copy to."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def _products_on_disk(bench: Any) -> list[Path]:
    """Return whatever is not a note of the catalogue's answers."""
    kept = ("listings", "terms", "quota", "locks")
    return [
        path
        for path in bench.cache_dir.rglob("*")
        if path.is_file() and path.relative_to(bench.cache_dir).parts[1] not in kept
    ]


def _call(fs: Any, verb: str, path: str) -> None:
    if verb == "get":
        fs.get(path, "out/", recursive=True)
    elif verb == "open" and not path.endswith("*"):
        fs.open(f"{path}/sst_20240501.nc")
    else:
        getattr(fs, verb)(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_filesystem_raises_one_typed_error(name: str, bench: Any, work: Path) -> None:
    """Each verb raises the error, whose message says what, on what, and the next step."""
    case = CASES[name]
    emulator = bench.start(3, entry=case.entry, **case.options)
    for verb in case.verbs:
        began = time.monotonic()
        bench.cache_dir = bench.folder / f"cache of {verb}"
        fs = bench.filesystem(emulator, **case.settings)

        with pytest.raises(case.error) as caught:
            _call(fs, verb, case.path)

        message = str(caught.value)
        assert type(caught.value) is case.error, verb
        assert len(message.splitlines()) <= MOST_LINES, verb
        if name != "pattern without match" or verb == "prefetch":
            assert [part for part in case.told if part not in message] == [], verb
        _assert_clean(bench, work, emulator)
        assert time.monotonic() - began < MOST_SECONDS, verb


#: What the command line calls what errors name in Python.
_ON_THE_COMMAND_LINE = {
    "fs.accept_terms": "hda-fsspec terms accept",
    "'endpoint_url'": "'--endpoint-url'",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_command_line_tells_one_error(
    name: str,
    bench: Any,
    work: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each command ends with code 1 and one message, without traceback or password."""
    case = CASES[name]
    emulator = bench.start(3, entry=case.entry, **case.options)
    for command in case.commands:
        began = time.monotonic()
        bench.cache_dir = bench.folder / f"cache of {command}"
        settings = {**bench.settings(emulator), **case.settings}
        for setting, value in settings.items():
            monkeypatch.setenv(f"HDA_{setting.upper()}", str(value))

        code = main([command, case.path])

        out, err = capsys.readouterr()
        assert (code, out) == (1, ""), command
        assert err.startswith("hda-fsspec: error: "), command
        assert err.count("hda-fsspec: error") == 1, command
        assert "Traceback" not in err, command
        assert len(err.splitlines()) <= MOST_LINES, command
        told = [_ON_THE_COMMAND_LINE.get(part, part) for part in case.told]
        assert [part for part in told if part not in err] == [], command
        assert str(settings["password"]) not in err, command
        _assert_clean(bench, work, emulator)
        assert time.monotonic() - began < MOST_SECONDS, command


def _assert_clean(bench: Any, work: Path, emulator: Any) -> None:
    assert _products_on_disk(bench) == []
    assert [path for path in work.rglob("*") if path.is_file()] == []
    assert emulator.order_posts == 0


def _closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("host", ["a closed port", "gateway.invalid"])
def test_an_unreachable_host(
    host: str, bench: Any, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host that cannot be reached is told after a few tries, once, with what to check."""
    address = f"127.0.0.1:{_closed_port()}" if host == "a closed port" else host
    began = time.monotonic()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HDA_PASSWORD", WRONG_PASSWORD)
        words = ["--endpoint-url", f"http://{address}/hda-broker", "--user", "ann"]
        code = main([*words, "--cache-dir", str(bench.cache_dir), "get", f"hda://{DATASET}/{MAY}"])

    err = capsys.readouterr().err
    assert code == 1
    assert len(err.splitlines()) <= MOST_LINES
    for part in (address, "got no answer in 3 tries", "Check the network"):
        assert part in err
    assert WRONG_PASSWORD not in err
    assert time.monotonic() - began < MOST_SECONDS
    assert _products_on_disk(bench) == []
    assert list(work.iterdir()) == []


class _Page(http.server.BaseHTTPRequestHandler):
    """A web server that has never heard of brokers."""

    status = 200

    def do_GET(self) -> None:
        body = b"<!doctype html><html><title>Welcome</title><body>Hello</body></html>"
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        self.send_response(self.status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  (the name is inherited)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (likewise)
        pass


@pytest.mark.parametrize("status", [200, 404])
def test_a_url_that_is_no_broker(
    status: int, bench: Any, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A web site at the address is told as such: typed, at once, by its address."""
    handler = type("Page", (_Page,), {"status": status})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/"
            given = {"endpoint_url": url, "user": "ann", "password": WRONG_PASSWORD}
            began = time.monotonic()
            fs = bench.filesystem(bench.start(1), **given)
            with pytest.raises(BrokerError) as caught:
                fs.ls(f"hda://{DATASET}/{MAY}")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("HDA_PASSWORD", WRONG_PASSWORD)
                words = [
                    "--endpoint-url",
                    url,
                    "--user",
                    "ann",
                    "--cache-dir",
                    str(bench.cache_dir),
                ]
                code = main(["ls", *words, f"hda://{DATASET}/{MAY}"])
        finally:
            server.shutdown()
            thread.join()

    err = capsys.readouterr().err
    assert url in str(caught.value)
    assert "address of a broker?" in str(caught.value)
    assert code == 1
    assert len(err.splitlines()) <= MOST_LINES
    assert WRONG_PASSWORD not in err
    assert time.monotonic() - began < MOST_SECONDS
    assert _products_on_disk(bench) == []


@pytest.mark.parametrize("verb", ["ls", "info", "prefetch", "get"])
def test_a_world_writable_cache_folder(
    verb: str, bench: Any, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cache folder that everybody may write to is refused, and stays empty."""
    bench.cache_dir.mkdir()
    bench.cache_dir.chmod(0o777)
    emulator = bench.start(3)
    fs = bench.filesystem(emulator)

    with pytest.raises(ConfigurationError, match="chmod o-w"):
        _call(fs, verb, f"hda://{DATASET}/{MAY}")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in bench.settings(emulator).items():
            patch.setenv(f"HDA_{name.upper()}", str(value))
        code = main(["ls", f"hda://{DATASET}/{MAY}"])

    err = capsys.readouterr().err
    assert code == 1
    assert len(err.splitlines()) <= MOST_LINES
    assert str(bench.cache_dir) in err
    assert list(bench.cache_dir.iterdir()) == []
    assert emulator.order_posts == 0
