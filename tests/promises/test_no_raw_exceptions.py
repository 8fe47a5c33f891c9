"""Whatever the machine, its environment or the service comes up with: typed errors, no tracebacks.

Ids that are no text, encodings that lack characters, names that no file system takes, bytes that
are no UTF-8, files that are missing, disks that are full, pipes that are closed.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from rows import for_each

from hda_fsspec import Location, Settings
from hda_fsspec.cli import main
from hda_fsspec.emulator import Emulator, Fault, ProductEntry
from hda_fsspec.errors import BrokerError, ConfigurationError, LocationError, OrderError
from hda_fsspec.network.session import Session

DAY = ("2024-05-01T00:00:00Z", "2024-05-02T00:00:00Z")
#: Ids that no encoding but UTF-8 has, of which the last has a sign that shows in none.
FOREIGN = ["naïve.nc", "海面水温.nc", "\U0001f30a.nc", "a\u202eb.nc"]
HALVES = ["\ud800.nc", "a\udfffb", "\udcff\udcfe"]


def _serve(bench: Any, ids: list[str], **options: Any) -> Emulator:
    products = [ProductEntry(name, bench.body(1), *DAY, delivered_name="") for name in ids]
    emulator: Emulator = bench.start(products=products, **options)
    return emulator


def _environment(bench: Any, emulator: Emulator, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        **emulator.environment,
        "HDA_CACHE_DIR": str(bench.cache_dir),
        "PYTHONPATH": str(ROOT),
        **more,
    }


def _command(
    *words: str, env: dict[str, str], shell: str = "", **more: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a process of its own, or a line of a shell in which it is "$@"."""
    call = [sys.executable, "-m", "hda_fsspec.cli", *words]
    if shell:
        call = ["sh", "-c", shell, "sh", *call]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run(call, env=env, check=False, timeout=60, **streams)


_SEVERAL = """
import json, sys
from hda_fsspec.cli import main
for encoding, words in json.loads(sys.argv[1]):
    sys.stdout.reconfigure(encoding=encoding)
    sys.stderr.reconfigure(encoding=encoding)
    code = main(words)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        stream.buffer.write(b"\\0%d\\0" % code)
"""


def _commands(
    lines: list[tuple[str, list[str]]], env: dict[str, str]
) -> list[tuple[int, bytes, bytes]]:
    """Run command lines in one process, each in an encoding; return codes, output and errors."""
    call = [sys.executable, "-c", _SEVERAL, json.dumps(lines)]
    done = subprocess.run(call, env=env, check=True, timeout=60, capture_output=True)
    out, err = (stream.split(b"\0") for stream in (done.stdout, done.stderr))
    codes = [int(code) for code in out[1::2]]
    assert len(codes) == len(lines)
    return list(zip(codes, out[::2], err[::2], strict=False))


@pytest.mark.parametrize("verb", ["ls", "find", "glob"])
def test_ids_that_are_no_text_end_no_listing(
    verb: str, bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Products whose ids hold halves of surrogate pairs are left out, and the log says so."""
    emulator = _serve(bench, ["good.nc", *HALVES, *FOREIGN])
    fs = bench.filesystem(emulator)
    path = f"{bench.query}/*" if verb == "glob" else bench.query

    found = getattr(fs, verb)(path)

    names = {Location.parse(str(each)).product for each in found}
    if verb == "ls":
        names = {info["product_id"] for info in found}
    assert names == {"good.nc", *FOREIGN}
    [told] = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert "3" in told
    assert told.isprintable()


def test_data_sets_whose_ids_are_no_text_are_left_out(bench: Any) -> None:
    """One such data set, its title and its licences spoil neither the list nor the others."""
    body = {
        "totalResults": 2,
        "features": [
            {"dataset_id": "EO:\ud800", "metadata": {"_source": {"datasetTitle": "x"}}},
            {"dataset_id": "EO:GOOD", "title": "half \ud800", "terms": ["\udfff"]},
        ],
    }
    emulator = bench.start(1)
    emulator.fault(Fault("status", path="datasets", status=200, body=body, times=None))
    fs = bench.filesystem(emulator)

    assert fs.ls("hda://", detail=False) == ["EO:GOOD"]
    again = bench.filesystem(emulator, listings_expiry_time=7200)  # reads what is kept on disk
    assert again.ls("hda://")[0]["title"] == "half \ud800"


def test_facts_that_are_no_text_are_kept_as_they_are(bench: Any) -> None:
    """Titles and metadata with halves of surrogate pairs are listed, opened and found again."""
    entry = ProductEntry("a.nc", bench.body(1), *DAY, location="\ud800", metadata={"k": "\udc00"})
    emulator = bench.start(products=[entry], entry={"title": "\ud800"})

    for expiry in (3600, 7200):
        fs = bench.filesystem(emulator, listings_expiry_time=expiry)
        [info] = fs.ls(bench.query)
        assert info["properties"]["k"] == "\udc00"
        assert fs.cat(f"{bench.query}/a.nc") == bench.body(1)
    assert emulator.orders == 1


def test_an_order_whose_id_is_no_text_is_no_order(bench: Any) -> None:
    """A download id that cannot be asked for is told as a broken answer."""
    emulator = bench.start(1)
    body = {"download_id": "a\ud800"}
    emulator.fault(
        Fault(
            "status", method="POST", path="dataaccess/download", status=200, body=body, times=None
        )
    )

    with pytest.raises(BrokerError, match="without a download_id"):
        bench.filesystem(emulator).cat(bench.path(1))


@pytest.mark.slow
def test_every_listing_fits_every_encoding(bench: Any) -> None:
    """What an encoding lacks is percent-encoded in paths, which open; elsewhere it is escaped."""
    emulator = _serve(bench, ["good.nc", *FOREIGN], entry={"title": "海\x1b"})
    encodings = ["ascii", "cp1252", "shift_jis"]
    query, path = bench.query, f"{bench.query}/{FOREIGN[1]}"
    commands = [["ls", query], ["ls", "-l", query], ["info", "--json", path], ["info", f"{path}2"]]

    told = _commands(
        [(encoding, words) for encoding in encodings for words in commands],
        env=_environment(bench, emulator, PYTHONIOENCODING="ascii"),
    )

    for number, encoding in enumerate(encodings):
        listed, table, info, missing = told[4 * number : 4 * number + 4]
        code, out, err = listed
        assert (code, err) == (0, b""), encoding
        paths = out.decode(encoding).splitlines()
        assert {Location.parse(path).product for path in paths} == {"good.nc", *FOREIGN}
        assert (table[0], len(table[1].splitlines())) == (0, 6)
        assert (info[0], info[1].isascii()) == (0, True)
        code, _, err = missing
        assert (code, err == b"", b"Traceback" in err) == (1, False, False)


@pytest.mark.slow
def test_the_c_locale_lists(bench: Any) -> None:
    """Under LC_ALL=C, without Python's own help, nothing ends a listing."""
    emulator = _serve(bench, ["good.nc", *FOREIGN])
    more = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}

    done = _command("ls", bench.query, env=_environment(bench, emulator, **more))

    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == 5
    assert done.stdout.isascii()


@pytest.mark.slow
@for_each("name", ["HDA_PASSWORD", "HDA_USER", "HDA_ENDPOINT_URL"])
def test_bytes_of_the_environment_that_are_no_text(
    name: str, bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An undecodable byte is told as a setting that cannot be used, without showing a password."""
    emulator = bench.start(1)
    for setting, value in emulator.environment.items():
        monkeypatch.setenv(setting, value)
    monkeypatch.setitem(os.environb, name.encode(), b"http://secr\xe9t.example/")

    with pytest.raises(ConfigurationError, match="not UTF-8") as caught:
        Settings.resolve(cache_dir=bench.cache_dir)
    assert main(["ls"]) == 1
    told = capsys.readouterr().err

    assert name in str(caught.value)
    assert ("secr" in str(caught.value)) == (name != "HDA_PASSWORD")
    assert name in told
    assert ("secr" in told) == (name != "HDA_PASSWORD")
    if name == "HDA_PASSWORD":
        # As a process finds it at its beginning.
        done = _command("ls", env={**os.environ})
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
        assert name.encode() in done.stderr


@for_each("kind", ["bytes", "folder", "unreadable", "long", "of nobody", "nul"])
def test_an_rc_file_that_cannot_be_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told with its path and the next step; one that is not there counts as none."""
    path = tmp_path / "rc"
    if kind == "folder":
        path.mkdir()
    elif kind == "unreadable":
        path.symlink_to(path)
    else:
        path.write_bytes(b"user: a\npassword: \xff\xfe\n")
    given = {"long": "/" + "x" * 5000, "of nobody": "~nobody-of-that-name/rc"}.get(kind, str(path))
    monkeypatch.setenv("HDA_RC", given)
    if kind == "nul":
        path.write_bytes(b"user: a\0b\n")
        assert Settings.resolve().user == "a\0b"
    elif kind == "of nobody":
        assert Settings.resolve().user is None
    else:
        with pytest.raises(ConfigurationError, match="Cannot read user and password") as caught:
            Settings.resolve()
        assert "HDA_RC" in str(caught.value)
        assert "xxxx" in str(caught.value) or str(path) in str(caught.value)


@for_each(
    ("name", "value"),
    [
        ("verify", "/nope.pem"),
        ("verify", "x" * 5000),
        ("verify", "/a\0b.pem"),
        ("verify", "/\ud800.pem"),
        ("verify", "~nobody-of-that-name/a.pem"),
        ("verify", Path("/nope.pem")),
        ("cache_dir", "/tmp/a\0b"),
        ("cache_dir", "/tmp/\ud800"),
        ("user", "a\udcff"),
        ("password", "a\udcff"),
        ("endpoint_url", "http://x/\udcff"),
        ("endpoint_url", "http://x:99999/"),
    ],
)
def test_settings_that_the_system_does_not_take(name: str, value: Any) -> None:
    """A path or a text that cannot be is told as the setting that it is."""
    with pytest.raises(ConfigurationError, match=f"setting '{name}'") as caught:
        Settings.resolve(**{name: value})

    assert len(str(caught.value)) < 2000
    assert all(char.isprintable() for char in str(caught.value))


def _ask(**settings: Any) -> Any:
    given = Settings.resolve(user="ann", password="pW-9xKq", timeout=5, **settings)
    return Session(given, sleep=lambda _: None).json("GET", "datasets")


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_ca_bundle_of_the_environment_that_is_missing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told with its path, and the names by which it is set."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(name, "/nope/bundle.pem")

    with pytest.raises(ConfigurationError, match="/nope/bundle") as caught:
        _ask(endpoint_url="https://127.0.0.1:9/")

    assert name in str(caught.value)
    assert "HDA_VERIFY" in str(caught.value)


def test_a_ca_bundle_that_goes_away(tmp_path: Path) -> None:
    """A bundle that was there when the settings were resolved is told when it is needed."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("")
    settings = Settings.resolve(
        endpoint_url="https://127.0.0.1:9/", user="ann", password="pW-9xKq", verify=bundle
    )
    bundle.unlink()

    with pytest.raises(ConfigurationError, match="bundle"):
        Session(settings, sleep=lambda _: None).json("GET", "datasets")


@pytest.mark.parametrize("content", ["", "no certificate at all"])
def test_a_ca_bundle_that_is_none(content: str, tmp_path: Path) -> None:
    """What is in the file is told as a fault of TLS, with where to look."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(content)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}/"

        with pytest.raises(BrokerError, match="is a bundle in PEM form") as caught:
            _ask(endpoint_url=url, verify=bundle)

    assert "HDA_VERIFY" in str(caught.value)


@for_each("host", ["a" * 70, "a..b", "\u202e", "[::", "xn--" + "a" * 60])
def test_hosts_that_cannot_be(host: str) -> None:
    """A host that no resolver takes is a typed error, whoever finds out."""
    with pytest.raises((BrokerError, ConfigurationError)) as caught:
        _ask(endpoint_url=f"http://{host}.invalid/")

    assert all(char.isprintable() for char in str(caught.value))


@pytest.mark.parametrize("verb", ["get", "get_file", "download", "command"])
def test_names_that_are_too_long(
    verb: str, bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path longer than a path may be: an OSError that says which, and what to do."""
    emulator = bench.start(1)
    fs = bench.filesystem(emulator)
    target = f"{tmp_path}/" + "d/" * 2500

    if verb == "command":
        with pytest.MonkeyPatch.context() as patch:
            for name, value in bench.settings(emulator).items():
                patch.setenv(f"HDA_{name.upper()}", str(value))
            assert main(["get", bench.path(1), target]) == 1
        told = capsys.readouterr().err
        assert told.startswith("hda-fsspec: error: File name too long")
    else:
        with pytest.raises(OSError, match="too long") as caught:
            getattr(fs, verb)(bench.path(1), f"{target}x" if verb == "get_file" else target)
        assert caught.value.errno == errno.ENAMETOOLONG
        told = str(caught.value)
    assert "shorter path" in told


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", "a/\0/"])
@pytest.mark.parametrize("verb", ["get", "get_file", "download"])
def test_targets_that_no_path_can_be(verb: str, bad: str, bench: Any, tmp_path: Path) -> None:
    """NUL and what cannot be encoded are refused before anything is ordered."""
    emulator = bench.start(1)

    with pytest.raises(LocationError, match="no local path can hold"):
        getattr(bench.filesystem(emulator), verb)(bench.path(1), f"{tmp_path}/{bad}")

    assert emulator.orders == 0


@for_each("text", ["x" * 5000, "~nobody-of-that-name/x.json", "a\0b", "\ud800"])
def test_requests_that_are_neither_text_nor_a_path(text: str) -> None:
    """What is neither JSON nor a file is told in one way."""
    with pytest.raises((LocationError, FileNotFoundError)) as caught:
        Location.from_request(text)

    assert len(str(caught.value)) < 2000


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Let no file of this process grow beyond a bound, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["get", "get_file", "download"])
def test_a_full_disk(
    verb: str, bench: Any, tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    """The copy is told, with what to do; no part of it stays, and the product stays local."""
    fs = bench.filesystem(bench.start(1, size=200_000))
    fs.cat(bench.path(1))
    target = tmp_path / "out"
    target.mkdir()

    small_files(100_000)
    with pytest.raises(OSError, match="Free some space") as caught:
        getattr(fs, verb)(bench.path(1), f"{target}/x.nc")

    assert caught.value.errno == errno.EFBIG
    assert f"{target}/x.nc" in str(caught.value)
    assert list(target.iterdir()) == []
    assert fs.cat(bench.path(1)) == bench.body(1, 200_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "what"),
    [
        *(
            (v, w)
            for v in ("get", "get_file", "download")
            for w in ("a file in the way", "read-only")
        ),
        ("get_file", "a folder in the way"),  # the others copy into it
    ],
)
def test_folders_that_cannot_be_written(verb: str, what: str, bench: Any, tmp_path: Path) -> None:
    """The class is that which the system's number has; the message has the path and a way out."""
    fs = bench.filesystem(bench.start(1))
    if what == "read-only":
        if not Path("/sys").is_dir():
            pytest.skip("there is no folder in which nobody makes files")
        target = "/sys/none/x.nc"
        kinds: tuple[type[OSError], ...] = (PermissionError,)
    elif what == "a file in the way":
        (tmp_path / "file").write_text("")
        target, kinds = f"{tmp_path}/file/below/x.nc", (NotADirectoryError, FileExistsError)
    else:
        (tmp_path / "x.nc" / "below").mkdir(parents=True)
        target, kinds = f"{tmp_path}/x.nc", (IsADirectoryError,)

    with pytest.raises(kinds) as caught:
        getattr(fs, verb)(bench.path(1), target)

    assert "cannot write the copy" in str(caught.value)
    assert "Copy to" in str(caught.value)
    assert ".part" not in str(caught.value)


@pytest.mark.slow
@for_each(
    ("shell", "code", "words"),
    [
        # A query, which has most to tidy up at the end, and commands that start in less time.
        ('"$@" >&-', 1, ["ls", "{query}"]),
        ('"$@" >/dev/full', 1, ["cache", "ls"]),
        ('"$@" 2>&-', 0, ["cache", "ls"]),
        ('"$@" 2>/dev/full', 0, ["cache", "ls"]),
    ],
)
def test_streams_that_take_nothing(shell: str, code: int, words: list[str], bench: Any) -> None:
    """Closed and full streams end a command with a code, and never with a traceback."""
    emulator = bench.start(3)
    bench.filesystem(emulator).prefetch(bench.query)  # so that there is something to print
    words = [word.format(query=bench.query) for word in words]

    done = _command(*words, env=_environment(bench, emulator), shell=shell)

    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


@pytest.mark.slow
def test_the_first_line_of_a_long_list(bench: Any) -> None:
    """``hda-fsspec ls … | head -1`` is quiet, however long the list."""
    env = _environment(bench, bench.start_many(1000))  # which fill a pipe

    done = _command("ls", bench.query, env=env, shell='"$@" | head -1')

    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.slow
def test_an_interrupted_command(bench: Any) -> None:
    """Control-C while a service does not answer: code 130 and one line."""
    emulator = bench.start(1)
    emulator.fault(Fault("hang", path="dataaccess/search", seconds=30.0))
    call = [sys.executable, "-m", "hda_fsspec.cli", "ls", bench.query]
    with subprocess.Popen(
        call, env=_environment(bench, emulator), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            while not emulator.count("POST", "dataaccess/search"):
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()

    assert (process.returncode, out) == (130, b"")
    assert err.decode().split("\n") == ["", "hda-fsspec: interrupted", ""]


def test_what_nobody_foresaw_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exception of another package is told by its kind; ``--debug`` shows the traceback."""

    def fail(*_: object) -> None:
        raise KeyError("a\x1b[31mb\nhda-fsspec: error: forged")

    def fail_in_lines(*_: object) -> None:
        raise RuntimeError("first\nhda-fsspec: error: forged \x9b")

    monkeypatch.setattr("hda_fsspec.fs.filesystem.HDAFileSystem.ls", fail)
    assert main(["ls"]) == 1
    first = capsys.readouterr().err
    monkeypatch.setattr("hda_fsspec.fs.filesystem.HDAFileSystem.ls", fail_in_lines)
    assert main(["ls"]) == 1
    second = capsys.readouterr().err
    with pytest.raises(RuntimeError):
        main(["ls", "--debug"])

    assert first.startswith("hda-fsspec: error: KeyError: ")
    assert "--debug" in first
    for told in (first, second):
        assert "Traceback" not in told
        assert sum(line.startswith("hda-fsspec: error") for line in told.splitlines()) == 1
        assert all(char.isprintable() or char == "\n" for char in told)


def test_orders_that_fail_for_many(bench: Any) -> None:
    """The notes of a fault name the others in lines of their own, one for each."""
    emulator = _serve(bench, ["a\nFORGED.nc", "b\nFORGED.nc"])
    emulator.fault(Fault("order-failed", times=None))

    with pytest.raises(OrderError) as caught:
        bench.filesystem(emulator).prefetch(bench.query)

    told = [str(caught.value), *getattr(caught.value, "__notes__", [])]
    assert not any(line.startswith("FORGED") for text in told for line in text.splitlines())
