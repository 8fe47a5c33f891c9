"""The command line against a real emulator: what it prints, what it costs, how it fails."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT

from hda_fsspec import __version__, client
from hda_fsspec.cli import main
from hda_fsspec.client import close_clients
from hda_fsspec.emulator import Emulator, dated_product
from hda_fsspec.errors import ConfigurationError

PASSWORD = "pW-9xKq_77Lr"


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of standard output."""
        return self.out.splitlines()


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; whatever it does, it must not print the password."""

    def call(*words: object) -> Ended:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert PASSWORD not in out + err
        return Ended(code, out, err)

    return call


@pytest.fixture
def emulator(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Five days of products, where the environment leads."""
    running: Emulator = bench.start(password=PASSWORD, quota=50)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    return running


def _run_module(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "hda_fsspec.cli", *words],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
        **more,
    )


def test_version_as_a_module() -> None:
    """``python -m hda_fsspec.cli --version`` tells the version of the package."""
    done = _run_module("--version")

    assert (done.returncode, done.stdout) == (0, f"hda-fsspec {__version__}\n")


@pytest.mark.parametrize("words", [[], ["cache"], ["ls", "--password", "x", "hda://"], ["plan"]])
def test_wrong_words_are_a_usage_error(words: list[str], run: Run) -> None:
    """A missing or unknown word ends with exit code 2; there is no option for a password."""
    with pytest.raises(SystemExit) as ended:
        run(*words)

    assert ended.value.code == 2


def test_ls_prints_paths_that_can_be_used_again(bench: Any, emulator: Emulator, run: Run) -> None:
    """``ls`` of a query prints its products as paths, one a line, and orders nothing."""
    done = run("ls", bench.query)

    assert done.code == 0
    assert done.lines == [bench.path(day) for day in range(1, 6)]
    assert emulator.orders == 0


def test_ls_of_everything_lists_data_sets(bench: Any, emulator: Emulator, run: Run) -> None:
    """``ls`` without a path lists the data sets, and with ``-l`` their titles."""
    assert run("ls").lines == [f"hda://{bench.dataset}"]
    assert run("ls", "-l").lines[0].startswith(bench.dataset)


def test_ls_long_is_a_table(bench: Any, emulator: Emulator, run: Run) -> None:
    """``ls -l`` shows the catalogue's size until the true one is known, and what is local."""
    before = run("ls", "-l", f"{bench.query}/*02.nc")
    run("get", bench.path(2), bench.folder / "out")
    after = run("ls", "-l", f"{bench.query}/*02.nc")

    assert before.lines[0].split() == ["SIZE", "START", "CACHED", "PRODUCT"]
    start, name = "2024-05-02T00:00:00.000Z", "sst_20240502.nc"
    assert before.lines[1].split() == ["~2.0", "kB", start, "no", name]
    assert after.lines[1].split() == ["2.0", "kB", start, "yes", name]


def test_ls_of_an_empty_query_says_so_beside_the_output(
    bench: Any, emulator: Emulator, run: Run
) -> None:
    """A query that finds nothing is no error; standard output stays empty."""
    done = run("ls", f"hda://{bench.dataset}/startdate=2023-01-01/enddate=2023-01-02")

    assert (done.code, done.out) == (0, "")
    assert "no products" in done.err


def test_info_as_lines_and_as_json(bench: Any, emulator: Emulator, run: Run) -> None:
    """``info`` shows the same facts as lines for people and as JSON for programs."""
    lines = run("info", bench.path(1)).lines
    facts = json.loads(run("info", "--json", bench.path(1)).out)

    assert f"path: {bench.path(1)}" in lines
    assert "size: unknown" in lines
    size = facts["catalogue_size"]
    assert f"catalogue_size: ~{size / 1000:.1f} kB ({size:,} bytes)" in lines
    assert facts["product_id"] == "sst_20240501.nc"
    assert facts["size"] is None
    assert emulator.orders == 0


def test_get_copies_queries_and_products_once(bench: Any, emulator: Emulator, run: Run) -> None:
    """``get`` of a query and one of its products makes one copy of each, named by id."""
    folder = bench.folder / "out" / "deep"

    done = run("get", bench.query, bench.path(1), folder)

    assert done.code == 0, done.err
    assert done.lines == [str(folder / bench.product_id(day)) for day in range(1, 6)]
    assert [Path(line).read_bytes() for line in done.lines] == [bench.body(d) for d in range(1, 6)]
    assert emulator.orders == 5


def test_info_of_more_than_may_be_listed(
    bench: Any, emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of a query without a search is told, and why there is no more."""
    monkeypatch.setenv("HDA_MAX_PRODUCTS", "2")
    above = run("info", "--json", bench.query)
    close_clients()
    monkeypatch.setenv("HDA_OFFLINE", "true")
    offline = run("info", "--json", bench.query)

    for told, why in ((above, "max_products"), (offline, "offline")):
        assert json.loads(told.out)["type"] == "directory"
        assert why in told.err
    assert emulator.orders == 0


def test_info_of_a_local_product_needs_no_network(
    bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its id might be the name of a key of the data set."""
    product = dated_product("S3A_SWATH", bench.body(1))
    emulator = bench.start(products=[product])
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    path = f"hda://{bench.dataset}/S3A_SWATH"
    bench.filesystem(emulator).prefetch(path)
    close_clients()
    asked = len(emulator.log)

    facts = json.loads(run("--offline", "info", "--json", path).out)
    online = json.loads(run("info", "--json", path).out)

    assert (facts["type"], facts["cached"]) == (online["type"], online["cached"]) == ("file", True)
    assert len(emulator.log) == asked


def test_info_of_a_query_is_how_many_and_how_large(
    bench: Any, emulator: Emulator, run: Run
) -> None:
    """It tells the number of products, their size, and how many orders they need."""
    lines = run("info", bench.query).lines
    facts = json.loads(run("info", "--json", bench.query).out)

    assert lines[0] == bench.query
    assert "  products: 5" in lines
    assert "  orders: 5 needed" in "".join(lines)
    assert (facts["type"], facts["products"]) == ("directory", 5)
    assert facts["catalogue_size"] == 5 * len(bench.body(1))
    assert facts["sizes_unknown"] == 0
    assert emulator.orders == 0


def test_the_last_ones_by_time(bench: Any, emulator: Emulator, run: Run) -> None:
    """``--last`` and ``--first`` take of all that is named the latest, or the earliest."""
    folder = bench.folder / "out"
    listed = run("ls", "--first", 2, bench.query).lines
    got = run("get", "--last", 2, f"{bench.query}/*[14].nc", bench.path(3), folder).lines

    assert listed == [bench.path(1), bench.path(2)]
    assert got == [str(folder / bench.product_id(day)) for day in (3, 4)]
    assert emulator.orders == 2


@pytest.mark.parametrize("words", [["--first", "1", "--last", "1"], ["--last", "0"]])
def test_first_and_last_are_checked(words: list[str], bench: Any, run: Run) -> None:
    """Both at one time, and none of them, are misuse."""
    bench.start(1)
    with pytest.raises(SystemExit) as ended:
        run("--offline", "--cache-dir", bench.cache_dir, "get", *words, bench.path(1))

    assert ended.value.code == 2


def test_get_without_a_folder_copies_here(
    bench: Any, emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a folder the working folder is meant."""
    here = bench.folder / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    done = run("get", bench.path(3))

    assert done.lines == [bench.product_id(3)]
    assert (here / bench.product_id(3)).read_bytes() == bench.body(3)


def test_get_with_delivered_names(bench: Any, run: Run) -> None:
    """``--delivered-names`` names files as the service does, where that differs from the id."""
    running = bench.start(2, entry={"ids_with_suffix": False}, password=PASSWORD)
    settings = [
        "--endpoint-url",
        running.url,
        "--user",
        running.user,
        "--cache-dir",
        bench.cache_dir,
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HDA_PASSWORD", PASSWORD)
        by_id = run(*settings, "get", bench.query, bench.folder / "a")
        delivered = run("get", "--delivered-names", bench.query, bench.folder / "b", *settings)

    assert [Path(line).name for line in by_id.lines] == ["sst_20240501", "sst_20240502"]
    assert [Path(line).name for line in delivered.lines] == ["sst_20240501.nc", "sst_20240502.nc"]
    assert running.orders == 2


@pytest.mark.parametrize("folder", ["data/", "./data", "s3://bucket/data"])
def test_get_with_the_folder_first(folder: str, bench: Any, emulator: Emulator, run: Run) -> None:
    """It says that the folder goes last, and asks nobody."""
    done = run("get", folder, bench.query)

    assert done.code == 1
    assert f"{folder!r} is a folder, and the folder goes last: get {bench.query}" in done.err
    assert len(emulator.log) == 0


def test_get_to_no_filesystem(bench: Any, emulator: Emulator, run: Run) -> None:
    """An address that no filesystem knows is refused before the query is listed."""
    done = run("get", "--last", "2", bench.query, "foo://bucket/x")

    assert done.code == 1
    assert "Cannot copy to foo://bucket/x" in done.err
    assert len(emulator.log) == 0


def test_get_offline_takes_what_is_local(bench: Any, emulator: Emulator, run: Run) -> None:
    """With ``--offline`` a product in the cache is copied, and another is a typed error."""
    run("get", bench.path(1), bench.folder / "out")
    requests = len(emulator.log)

    local = run("--offline", "get", bench.path(1), bench.folder / "again")
    missing = run("get", "--offline", bench.path(2), bench.folder / "again")

    assert (local.code, missing.code) == (0, 1)
    assert "offline is set" in missing.err
    assert len(emulator.log) == requests
    assert [path.name for path in (bench.folder / "again").iterdir()] == [bench.product_id(1)]


@pytest.mark.parametrize("words", [["hda://"], ["hda://EO:*"]])
def test_get_of_data_sets_is_refused(words: list[str], emulator: Emulator, run: Run) -> None:
    """What names no products is refused before anything is asked."""
    done = run("get", *words)

    assert done.code == 1
    assert "names data sets" in done.err


def test_terms_are_listed_and_accepted(bench: Any, run: Run) -> None:
    """A licence is told as missing, accepted by hand, and told as accepted then."""
    running = bench.start(1, accepted_terms=(), password=PASSWORD)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**running.environment, "HDA_CACHE_DIR": bench.cache_dir}.items():
            patch.setenv(name, str(value))
        before = run("terms", "list", bench.dataset)
        accepted = run("terms", "accept", bench.query)
        again = run("terms", "accept", bench.dataset)
        after = run("terms", "list")

    assert before.lines == ["NOT accepted  Copernicus_General_License"]
    assert accepted.lines[1:] == ["Copernicus_General_License"]
    assert "accepted before" in again.out
    assert "accepted      Copernicus_General_License" in after.lines


def test_errors_are_one_message(emulator: Emulator, run: Run) -> None:
    """An error of the package is one message and exit code 1, and no traceback."""
    done = run("ls", "hda://EO:NOT:DAT:THERE/startdate=2024-05-01")

    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("hda-fsspec: error: There is no data set")
    assert "Traceback" not in done.err


def test_debug_raises_and_logs(emulator: Emulator, run: Run) -> None:
    """With ``--debug`` the error keeps its traceback, and the log is shown without secrets."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), pytest.raises(FileNotFoundError):
        run("ls", "--debug", "hda://EO:NOT:DAT:THERE")

    assert "DEBUG GET http" in err.getvalue()
    assert not any(secret in err.getvalue() for secret in [PASSWORD, *emulator.tokens_issued])


def test_an_error_of_the_system_has_no_number(bench: Any, emulator: Emulator, run: Run) -> None:
    """A local error, such as a folder that is a file, is told by its text and its path."""
    (bench.folder / "file").write_text("")

    done = run("get", bench.path(1), bench.folder / "file" / "below")

    assert done.code == 1
    assert done.err.startswith("hda-fsspec: error: Not a directory")


def test_interruption_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control-C ends a command with 130 and one line; one that orders says what goes on."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hda_fsspec.fs.filesystem.HDAFileSystem.ls", interrupt)

    done = run("ls")
    ordering = run("get", "hda://EO:X/startdate=2024-05-01", "data/")

    assert (done.code, done.err.split()) == (130, ["hda-fsspec:", "interrupted"])
    assert ordering.code == 130
    assert "hda-fsspec orders shows them, and the same command takes them up" in ordering.err


@pytest.mark.slow
def test_a_closed_pipe_is_quiet(bench: Any, emulator: Emulator) -> None:
    """Who reads only the first line of a list is not told of a broken pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "hda_fsspec.cli", "ls", bench.query],
            cwd=ROOT,
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (141, b"")


def _start_emulator(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start one over a folder with one product, as a command."""
    data = folder / "data" / "EO:TEST:DAT:DAILY"
    data.mkdir(parents=True)
    (data / "sst_20240501.nc").write_bytes(b"CDF\x01" + bytes(28))
    command = [sys.executable, "-W", "error", "-m", "hda_fsspec.cli", "emulator", str(data.parent)]
    return subprocess.Popen(
        [*command, "--profile", "month", "--polls", "1", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_emulator_prints_four_lines_and_stops(tmp_path: Path) -> None:
    """A shell takes the emulator's first four lines as they are; Control-C ends it cleanly."""
    with _start_emulator(tmp_path) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        dataset = "hda://EO:TEST:DAT:DAILY"
        command = f"'{sys.executable}' -m hda_fsspec.cli get '{dataset}' '{tmp_path}'"
        try:
            done = subprocess.run(
                ["sh", "-c", f"{''.join(lines)}{command} && env"],
                cwd=ROOT,
                text=True,
                capture_output=True,
                check=False,
                timeout=60,
            )
        finally:
            process.send_signal(signal.SIGINT)
            rest, err = process.communicate(timeout=30)

    names = ["HDA_URL", "HDA_USER", "HDA_PASSWORD", "HDA_CACHE_DIR"]
    assert [line.split("=")[0] for line in lines] == [f"export {name}" for name in names]
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sst_20240501.nc").is_file()
    caches = [path.name for path in (Path.home() / ".cache").iterdir()]
    assert caches == ["hda_fsspec_emulator"]
    assert (process.returncode, rest, err) == (0, "", "")


@pytest.mark.slow
def test_emulator_prints_one_object_and_stops(tmp_path: Path) -> None:
    """With ``--json`` a program takes the same four as one object; SIGTERM ends it cleanly."""
    with _start_emulator(tmp_path, "--json", "--user", "o'hara") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        process.send_signal(signal.SIGTERM)
        rest, err = process.communicate(timeout=30)

    told = json.loads("".join(lines))
    assert list(told) == ["HDA_URL", "HDA_USER", "HDA_PASSWORD", "HDA_CACHE_DIR"]
    assert told["HDA_USER"] == "o'hara"
    assert told["HDA_URL"].startswith("http://127.0.0.1:")
    assert (process.returncode, rest, err) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["{tmp}/nowhere"], "not a folder"),
        (["{tmp}/data", "--profile", "monthly"], "no time profile 'monthly'"),
        (["{tmp}/data", "--sizes", "huge"], "option sizes is 'huge'"),
    ],
)
def test_emulator_refuses_what_it_cannot_serve(
    words: list[str], part: str, tmp_path: Path, run: Run
) -> None:
    """A wrong folder or option is one message, and nothing is served."""
    (tmp_path / "data" / "EO:TEST:DAT:DAILY").mkdir(parents=True)
    (tmp_path / "data" / "EO:TEST:DAT:DAILY" / "a_20240501.nc").write_bytes(b"CDF\x01")

    done = run("emulator", *(word.format(tmp=tmp_path) for word in words))

    assert (done.code, done.out) == (1, "")
    assert part in done.err


def test_what_fails_after_a_command_is_told(
    emulator: Emulator, bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails when the shared cache is waited for is an error in a line, and no traceback."""

    class Unable:
        def flush_shared_cache(self) -> None:
            """Fail."""
            raise ConfigurationError("the cache is not to be trusted any more")

    monkeypatch.setattr(client, "open_clients", lambda: [Unable()])

    ended = run("ls", bench.query)

    assert ended.code == 1
    assert ended.lines, "what the command found stands there"
    assert "error: the cache is not to be trusted any more" in ended.err


def test_who_stops_reading_keeps_nothing_from_the_shared_cache(
    emulator: Emulator, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the reader of the output is gone, the shared cache is waited for all the same."""
    waited: list[str] = []

    class Uploading:
        def flush_shared_cache(self) -> None:
            """Note that it was waited for."""
            waited.append("waited")

    monkeypatch.setattr(client, "open_clients", lambda: [Uploading()])
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)

        assert main(["ls", bench.query]) == 141

    assert waited == ["waited"]
