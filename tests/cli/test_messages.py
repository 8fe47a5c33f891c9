"""The command line tells errors in its own words, and says which ones are Python's."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from checkout import nodes_of

import hda_fsspec
from hda_fsspec.cli import main
from hda_fsspec.cli.commands import Options, command
from hda_fsspec.cli.messages import as_command_says
from hda_fsspec.emulator import dated_product
from hda_fsspec.printable import warn

SOURCES = Path(hda_fsspec.__file__).parent
OPTIONS = {"member", "group", "split", "skip-existing", "target-option", "period", "bbox", "json"}
FILESYSTEM = re.compile(r"\bfs\.(?!unstrip_protocol|open\b)\w+\b(?!\([^()]*'name')")
PYTHON = re.compile(r"\bxr\.[a-z]\w+|\bhda_fsspec\.[a-z]\w+|\b[a-z]+(?:_[a-z]+)*=(?:True\b|[\"'{])")


def messages() -> Iterator[tuple[str, str]]:
    """Yield the texts of the package that are sentences, each with where it stands."""
    for path in sorted(SOURCES.rglob("*.py")):
        if {"emulator", "cli", "probing"} & set(path.relative_to(SOURCES).parts):
            continue  # whose words are of no Python that a user writes
        left_out = set()
        for node in nodes_of(path):
            if isinstance(node, ast.Expr):
                left_out.add(id(node.value))
            if isinstance(node, ast.JoinedStr):
                left_out |= {id(inner) for inner in ast.walk(node) if inner is not node}
        for node in nodes_of(path):
            if id(node) in left_out:
                continue
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if " " in node.value and "<" not in node.value:
                    yield where, node.value
            elif isinstance(node, ast.JoinedStr):
                yield where, "".join(_spelled(part) for part in node.values)


def _spelled(part: ast.expr) -> str:
    """Return a part of a message, with a word in the place of what it is filled with."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    return "'X'" if part.conversion == ord("r") else "X"


@pytest.mark.slow
def test_no_message_of_the_package_speaks_python_on_the_command_line() -> None:
    """What a command can do is said as its option; all else is marked, once for a line."""
    told = [(where, as_command_says(text, OPTIONS)) for where, text in messages()]

    assert len(told) > 500
    assert [one for one in told if FILESYSTEM.search(one[1])] == []
    spoken = [one for one in told if PYTHON.search(one[1]) and "(in Python)" not in one[1]]
    assert spoken == []


@pytest.mark.parametrize(
    ("python", "command"),
    [
        ('Choose with member="chl_nn.nc".', "Choose with --member chl_nn.nc."),
        ("Choose with member='a b.nc'.", "Choose with --member 'a b.nc'."),
        ('as in split={"time": "month", "variable": 1}', "as in --split time=month,variable=1"),
        (
            "Open with split=None, or leave split out.",
            "Open with --split none, or leave --split out.",
        ),
        ("again with skip_existing=True", "again with --skip-existing"),
        ("credentials in target_options", "credentials in --target-option"),
        ("fs.ls('hda://') lists them", "hda-fsspec ls lists them"),
        ("Find one: fs.datasets('…'), or hda-fsspec datasets …", "Find one: hda-fsspec datasets …"),
        ("fs.get, fs.download and fs.prefetch do", "hda-fsspec get do"),
        ("with period='2020/2023'", "with --period 2020/2023"),
        ("bbox=-6,43,-1,46 is west", "--bbox -6,43,-1,46 is west"),
        ("or raise max_wait (HDA_MAX_WAIT)", "or raise HDA_MAX_WAIT"),
        ("set cache_dir (HDA_CACHE_DIR)", "set HDA_CACHE_DIR"),
        ("with scan=True, or xr.open_datatree", "with scan=True (in Python), or xr.open_datatree"),
        ("fs.get_file(product, 'name')", "fs.get_file(product, 'name') (in Python)"),
        ("hda://X/member=1/split=2 finds", "hda://X/member=1/split=2 finds"),
        ("a split of two, a member, a group", "a split of two, a member, a group"),
    ],
)
def test_words(python: str, command: str) -> None:
    """Arguments become options, functions become commands, and paths stay as they are."""
    assert as_command_says(python, OPTIONS) == command


def test_a_command_names_its_own_options_only() -> None:
    """What another command would take is not offered, and a key of queries is no option."""
    text = "Choose with member='a.nc', within bbox=1,2,3,4."

    assert as_command_says(text, {"json"}) == (
        "Choose with member='a.nc' (in Python), within bbox=1,2,3,4."
    )


@pytest.fixture
def archive(bench: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Serve an archive of two files, and return its path."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for day in (1, 2):
            made.writestr(f"day{day}.nc", bench.body(day))
    product_id = bench.product_id(1)
    emulator = bench.start(products=[dated_product(product_id, buffer.getvalue())])
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    return str(bench.path(1))


def test_errors_of_commands(archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each names what its command can be given."""

    def told(*words: str) -> str:
        assert main(words) == 1
        return capsys.readouterr().err

    query = archive.rpartition("/")[0]
    several = told("open", archive)
    assert "Choose with --member day1.nc, or with a glob" in several
    assert 'and with concat_dim="time" (in Python) for files' in several
    assert "with hda-fsspec ls." in told("get", query.replace("2024-05", "2023-05"))
    assert "by words: hda-fsspec datasets …" in told("info", "hda://EO:NONE")
    assert "Write --period 2020/2023, or --period 2024-05" in told("datasets", "--period", "1/2/3")
    assert "as in --bbox -6,43,-1,46" in told("datasets", "--bbox", "1,2")
    assert "engine=" not in told("open", "some/file.nc")
    assert "leave --split out" in told("open", "--split", "month", archive)


def test_warnings_are_the_command_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    """What is warned of is one line in the command's words, and not a line of Python's source."""

    @command("odd hda://X")
    @click.option("--split")
    def odd(_options: Options, split: str | None) -> None:
        assert split is None
        logging.getLogger("hda_fsspec").info("Nobody asked for this.")
        logging.getLogger("hda_fsspec").warning("A size is not known; use fs.prefetch(path).")
        warn("The box is off the grid.\x1b[2J Choose with split='month'.")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown = warnings.showwarning
        odd.main([], standalone_mode=False)
        assert warnings.showwarning is shown

    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        "hda-fsspec: warning: A size is not known; use hda-fsspec get.",
        r"hda-fsspec: warning: The box is off the grid.\x1b[2J Choose with --split month.",
    ]


def test_a_warning_that_nobody_reads_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard error takes nothing, what was warned of is lost, and the command goes on."""
    done: list[bool] = []

    @command("odd hda://X")
    def odd(_options: Options) -> None:
        logging.getLogger("hda_fsspec").warning("A size is not known.")
        warn("The box is off the grid.")
        done.append(True)

    with Path("/dev/full").open("w", buffering=1) as full, warnings.catch_warnings():
        monkeypatch.setattr("sys.stderr", full)
        warnings.simplefilter("always")
        odd.main([], standalone_mode=False)
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()

    assert done == [True]
