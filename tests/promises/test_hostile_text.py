"""Whatever a broker or a file says, nothing raw of it reaches a terminal, a log or an error.

A broker says hostile things in every place that it has; then everything that can be asked or can
fail is asked and fails, and all that is shown is looked at.
"""

from __future__ import annotations

import ast
import dataclasses
import fnmatch
import functools
import io
import json
import logging
import pickle
import shlex
import subprocess
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec.cli import main
from hda_fsspec.emulator import Emulator, Fault, ProductEntry
from hda_fsspec.errors import ProductFormatError, TermsNotAcceptedError
from hda_fsspec.fetching.progress import Wait, what_to_say
from hda_fsspec.fetching.quota import QuotaView
from hda_fsspec.paths.locations import Location
from hda_fsspec.paths.quoting import shell_word
from hda_fsspec.planning.plan import Plan
from hda_fsspec.printable import LONGEST_WORD
from hda_fsspec.reading.archives import list_members
from hda_fsspec.reading.opening import open_local
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.records import Product

Command = Callable[..., tuple[int, str, str]]

#: In the place of "X"; "FORGED" begins no line, unless a line break got through.
HOSTILE = {
    "escape": "X\x1b]0;title\x07\x1b[31m",
    "line breaks": "X\nFORGED\r\nFORGED\x0bFORGED\x0cFORGED\u2028FORGED\u2029FORGED\x85FORGED",
    "C1": "X\x9b31m\x90\x9c",
    "directions": "X\u202e\u2066\u200f\u061c",
    "no width": "X\u200b\u200d\ufeff\u2060\u00ad\u3164\u034f\ufe0f\U000e0041",
    "nothing": "X\0\x7f\x08\x08",
    "shell": "X'\";$(touch$IFS/pwned)`id`&|\\",
    "markup": "X<script>alert(1)</script><img src=x onerror=alert(1)>&amp;",
    "python": "X\"+__import__('os').system('id')+\"",
    "overlong": "X" + "y" * 40_000,  # more than LONGEST
    "unassigned": "X\U000e0fff\ue000\U0010ffff",
}
LONGEST = 30_000

each_text = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())

#: The same in two, for what takes its time.
BOTH = {
    "all at once": "X" + "".join(text[1:] for text in HOSTILE.values() if len(text) < 100),
    "overlong": HOSTILE["overlong"],
}
both_texts = pytest.mark.parametrize("text", BOTH.values(), ids=BOTH.keys())


def raw_in(shown: str) -> list[str]:
    """Return what is raw in a text that was shown."""
    found = [ascii(char) for char in shown if not (char.isprintable() or char == "\n")]
    found += [ascii(char) for char in shown if char in "\u3164\u034f\ufe0f"]
    found += [line for line in shown.split("\n") if line.lstrip().startswith("FORGED")]
    return found + (["overlong"] if len(shown) > LONGEST else [])


@dataclasses.dataclass
class Shown:
    """All that was shown, by what showed it."""

    texts: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, what: str, text: str) -> None:
        """Take note of a text."""
        self.texts[f"{len(self.texts)} {what}"] = text

    def attempt(self, what: str, work: Callable[[], Any]) -> Any:
        """Do something; note the error that it ends in, with its notes, as it is and unpickled."""
        try:
            return work()
        except Exception as err:
            for error in (err, pickle.loads(pickle.dumps(err))):
                self.add(f"{what}: {type(err).__name__}", str(error))
                for note in getattr(error, "__notes__", ()):
                    self.add(f"{what}: note", note)
            return None

    @property
    def raw(self) -> dict[str, list[str]]:
        """What is raw, by what showed it."""
        return {what: found for what, text in self.texts.items() if (found := raw_in(text))}


@pytest.fixture
def shown() -> Iterator[Shown]:
    """Note all records of the log, as a plain handler writes them, and all warnings."""
    shown = Shown()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("hda_fsspec")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield shown
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    for warning in caught:
        if "hda_fsspec" in warning.filename or "test_hostile_text" in warning.filename:
            shown.add("warning", str(warning.message))
    for number, line in enumerate(stream.getvalue().split("\n")):
        shown.add(f"log line {number}", line)
    assert shown.raw == {}


class Hostile:
    """A broker that says one hostile text in every place that it has."""

    def __init__(self, bench: Any, text: str) -> None:
        self.bench = bench
        self.text = text
        self.dataset = f"EO:{text[:2000]}".replace("/", "_")  # one segment at any server
        self.product = f"{text[:2000]}.nc"
        query = {"startdate": "2024-05-01", "enddate": "2024-05-31"}
        self.query = Location(self.dataset, query)
        self.path = self.query.child(self.product).path

    def start(self, **options: Any) -> Emulator:
        """Start it; it stops with the bench."""
        product = ProductEntry(
            self.product,
            self.bench.body(1),
            "2024-05-01T00:00:00Z",
            "2024-05-02T00:00:00Z",
            delivered_name="".join(c for c in self.text if " " <= c < "\x7f")[
                :500
            ],  # a header is so
            metadata={self.text: self.text},
        )
        more = {
            "title": self.text,
            "terms": (self.text[:2000].replace("/", "_"),),
            "parameters": {"kind": [self.text, "b"]},
        }
        emulator: Emulator = self.bench.start(
            products=[product], entry=more, dataset=self.dataset, **options
        )
        return emulator


@pytest.fixture
def hostile(bench: Any, text: str) -> Hostile:
    """Return a broker that says the text of a test."""
    return Hostile(bench, text)


def _bodies(text: str) -> list[Any]:
    """Return bodies of answers that say a text, each in another place."""
    return [
        {"title": text, "detail": text},
        {"detail": [{"loc": [text], "msg": text}]},
        {"detail": json.dumps({"status_code": 400, "detail": text})},
        {"message": f"400, message={text}"},
        {text: text},
        [text],
        text,
    ]


def _faults(text: str) -> list[Fault]:
    """Return faults that say a text, at a search and at an order, and faults of a product."""
    bodies = _bodies(text)
    searches = [(400, body) for body in bodies]
    searches += [(status, bodies[0]) for status in (403, 404, 422)]
    searches += [(200, body) for body in bodies[:-1]]  # the last one is no JSON
    searches += [(200, {"features": [body]}) for body in bodies]
    orders = [(status, bodies[0]) for status in (400, 403, 404, 200)]
    orders.append((200, {"download_id": text[:2000]}))
    answers = {"dataaccess/search": searches, "dataaccess/download": orders}
    found = [
        Fault("status", method="POST", path=path, times=None, status=status, body=body)
        for path, each in answers.items()
        for status, body in each
    ]
    return [
        *found,
        Fault("order-failed", times=None),
        Fault("truncated-file", times=None, after_bytes=10),
    ]


@pytest.mark.slow
@both_texts
def test_nothing_raw_is_shown_of_a_broker(
    text: str, hostile: Hostile, shown: Shown, tmp_path: Path
) -> None:
    """Whatever verb is tried, errors, notes, warnings and the log are printable and short."""
    emulator = hostile.start(accepted_terms=())
    fs = hostile.bench.filesystem(emulator)
    shown.attempt("refused", lambda: fs.ls(hostile.query))
    shown.attempt("unknown", lambda: fs.ls(Location(f"{hostile.dataset}2", {"kind": "b"})))
    shown.attempt("accept", lambda: fs.accept_terms(Location(hostile.dataset)))
    shown.attempt("choice", lambda: fs.ls(Location(hostile.dataset, {"kind": f"{text[:500]}2"})))
    shown.attempt("key", lambda: fs.ls(Location(hostile.dataset, {f"kind{text[:500]}": "b"})))
    shown.attempt("product", lambda: fs.info(hostile.query.child(f"{hostile.product}2")))
    shown.attempt("pattern", lambda: fs.open(f"{hostile.query.path}/*"))
    shown.attempt("bare", lambda: fs.info(Location(hostile.dataset, product=hostile.product)))
    assert [info["product_id"] for info in fs.ls(hostile.query)] == [hostile.product]
    assert fs.cat(hostile.path) == hostile.bench.body(1)
    shown.attempt("get", lambda: fs.get(hostile.path, f"{tmp_path}/out/"))
    shown.attempt("download", lambda: fs.download(hostile.query, tmp_path / "files"))
    shown.attempt("write", lambda: fs.pipe_file(hostile.path, b""))
    shown.add("reprs", repr((hostile.query, fs.query if hasattr(fs, "query") else None)))


@pytest.mark.slow
@both_texts
def test_nothing_raw_is_shown_of_its_faults(text: str, hostile: Hostile, shown: Shown) -> None:
    """Whatever an answer says instead of what was asked, the errors about it are printable."""
    emulator = hostile.start()
    other = hostile.query.child("b").path
    for number, fault in enumerate(_faults(text)):
        folder = hostile.bench.folder / f"cache {number}"
        fs = hostile.bench.filesystem(emulator, max_wait=0.001, cache_dir=folder)
        if fault.path != "dataaccess/search":
            fs.ls(hostile.query)
        emulator.fault(fault)
        what = f"{fault.kind} {fault.status} {fault.path}"
        shown.attempt(what, functools.partial(fs.cat, hostile.path))
        shown.attempt(what, functools.partial(fs.prefetch, [hostile.path, other]))
        emulator.clear_faults()
    assert len(shown.texts) > 40


@pytest.fixture
def command(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run a command against the hostile broker; return its code and what it printed."""
    emulator = hostile.start()
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(hostile.bench.cache_dir))

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(words))
        return (code, *capsys.readouterr())

    return run


@pytest.mark.slow
@both_texts
def test_commands_print_nothing_raw(
    text: str,
    hostile: Hostile,
    shown: Shown,
    command: Command,
    tmp_path: Path,
) -> None:
    """No command prints anything raw; rows stay rows, and what fails is one message."""
    good = [
        *(["ls"], ["ls", "-l"], ["ls", hostile.query.path], ["ls", "-l", hostile.query.path]),
        *(["info", hostile.path], ["info", "--json", hostile.path], ["plan", hostile.query.path]),
        *(["terms", "list"], ["terms", "list", Location(hostile.dataset).path]),
        *(["terms", "accept", Location(hostile.dataset).path], ["plan", "--debug", hostile.path]),
        *(["get", hostile.path, str(tmp_path / "one.d")], ["cache", "ls"], ["cache", "verify"]),
        ["datasets"],
        ["open", hostile.path],
    ]
    bad = [
        ["ls", f"hda://{text[:500]}"],
        ["ls", f"{hostile.query.path}/*{Location(text[:500]).name}"],
        ["info", hostile.query.child("b").path],
        ["get", hostile.path, "s3://bucket/x"],
        ["open", "--group", text[:500], hostile.path],
        ["plan", "--sel", text[:500], hostile.query.path],
        ["datasets", f"{text[:500]} nowhere"],
        ["path", f"{tmp_path}/{text[1:100]}".replace("\0", "")],
    ]
    is_long = (
        len(Location.parse(hostile.path).name) > 255
    )  # no file system takes the name of its copy

    for words in (*good, *bad):
        code, out, err = command(*words)
        if "--json" not in words:  # which loses nothing
            shown.add(f"{words[:2]} out", out)
        shown.add(f"{words[:2]} err", err)
        if not (is_long and words[0] == "get"):
            assert code == (0 if words in good else 1), (words, out, err)
        if code:
            assert "Traceback" not in err
            assert err.startswith("hda-fsspec: error: ")
    assert len(command("ls", "-l", hostile.query.path)[1].splitlines()) == 2


@pytest.mark.slow
@each_text
def test_listed_paths_open_and_json_is_lossless(
    text: str, hostile: Hostile, command: Command
) -> None:
    """A listed path is pasted as it is printed; JSON says exactly what the broker said."""
    [path] = command("ls", hostile.query.path)[1].splitlines()
    told = json.loads(command("info", "--json", path)[1])

    assert path == hostile.path
    assert Location.parse(path).product == hostile.product
    assert told["product_id"] == hostile.product
    assert told["properties"] == {text: text}
    assert command("info", "--json", path)[1].isascii()


def _offered(message: str, begin: str) -> str:
    """Return what a message offers from some words on, up to the end of a line."""
    return message[message.index(begin) + len(begin) :].split("\n", maxsplit=1)[0]


@pytest.mark.slow
@each_text
def test_offered_lines_do_what_they_say(text: str, hostile: Hostile, tmp_path: Path) -> None:
    """Lines to paste are quoted: a shell and Python read just the id, and run nothing of it."""
    fs = hostile.bench.filesystem(hostile.start(accepted_terms=()))
    with pytest.raises(TermsNotAcceptedError) as caught:
        fs.ls(hostile.query)
    told = str(caught.value)

    python = _offered(told, "fs.accept_terms(").rpartition("), or on the command line")[0]
    words = shlex.split(_offered(told, "hda-fsspec terms accept "))
    if len(hostile.dataset) < LONGEST_WORD:
        assert ast.literal_eval(python) == hostile.dataset
        assert [Location.parse(word).dataset for word in words] == [hostile.dataset]
    done = subprocess.run(
        ["sh", "-c", f"printf %s {_offered(told, 'hda-fsspec terms accept ')}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert [done.stdout] == words
    assert list(tmp_path.glob("pwned")) == []


def test_ids_that_begin_with_a_dash_are_no_options() -> None:
    """A data set that looks like an option is offered as a path."""
    assert shlex.split(shell_word("--user=x")) == ["hda://--user%3Dx"]
    assert shell_word("EO:EUM:DAT:X") == '"EO:EUM:DAT:X"'


@each_text
def test_members_of_archives_are_offered_as_python(text: str, tmp_path: Path) -> None:
    """Names in an archive are shown escaped, in lines of their own, and offered as literals."""
    names = [f"a{text[:200]}_1.nc", f"b{text[:200]}_1.nc"]
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name.replace("/", "_").replace("\0", ""), b"CDF\x01" + bytes(28))
    members = [Path(member.name).name for member in list_members(path)]

    with pytest.raises(ProductFormatError) as caught:
        open_local(path, OpenOptions.make(), name="P", scratch=tmp_path / "scratch")

    told = str(caught.value)
    assert raw_in(told) == []
    assert len(told.splitlines()) == 3
    first, _, rest = _offered(told, "Choose with member=").partition(
        ", or with a glob such as member="
    )
    pattern = rest.partition(" for files that share a grid")[0]
    assert ast.literal_eval(first) == members[0]
    assert all(fnmatch.fnmatchcase(name, ast.literal_eval(pattern)) for name in members)


@each_text
def test_a_plan_in_a_notebook_is_escaped(text: str, hostile: Hostile, shown: Shown) -> None:
    """The HTML of a plan shows a data set's name, and has no markup of it."""
    plan = Plan(products=(Product(hostile.dataset, hostile.product),))

    shown.add("html", plan._repr_html_())
    shown.add("text", repr(plan))
    assert "<script" not in plan._repr_html_()
    assert "<img" not in plan._repr_html_()


@each_text
def test_what_is_waited_for_is_printable(text: str, hostile: Hostile, shown: Shown) -> None:
    """The line of who waits is one line, whatever the product is called."""
    wait = Wait(Product(hostile.dataset, hostile.product), 0.0, purpose=text)

    for longest in (34, None):
        told = what_to_say([wait, wait], 10.0, QuotaView(None, None, None), longest_name=longest)
        assert told is not None
        assert "\n" not in told
        shown.add("waiting", told)


@each_text
def test_usage_errors_repeat_nothing_raw(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was pasted into a command and is none of its words comes back printable."""
    with pytest.raises(SystemExit) as ended:
        main(["ls", "hda://", f"--{text}", text])

    assert ended.value.code == 2
    assert raw_in(capsys.readouterr().err) == []


@pytest.mark.parametrize("text", [BOTH["all at once"]], ids=["all at once"])
def test_what_files_say_is_shown_printable(
    text: str,
    stacks: Any,
    shown: Shown,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Attributes of files are data, left as they are; errors and commands show them escaped."""
    said = text.replace("\0", "")  # netCDF ends a text there

    def product(number: int) -> xr.Dataset:
        attrs = {"units": f"{number}{said}", "flag_meanings": said}
        sst = xr.DataArray([number], dims="time", attrs=attrs)
        time = np.array([f"2024-05-0{number}"], dtype="datetime64[ns]")
        return xr.Dataset({"sst": sst}, {"time": time}, {"title": said})

    stacks.serve({f"sst_2024050{number}.nc": product(number) for number in (1, 2)})
    ds = stacks.open()
    shown.attempt("mismatch", ds.sst.load)
    assert any("units" in told for told in shown.texts.values())
    assert stacks.open(f"{stacks.query[:-2]}/*01.nc").attrs["title"] == said

    for name, value in stacks.options.items():
        monkeypatch.setenv(f"HDA_{name.upper()}", str(value))
    assert main(["open", f"{stacks.query[:-2]}/*01.nc"]) == 0
    shown.add("open", capsys.readouterr().out)
