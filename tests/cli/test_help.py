"""What the command line says of itself: help, examples, misuse, completion; what it costs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest
from checkout import ROOT
from rows import for_each

from hda_fsspec import cli
from hda_fsspec.cli import main
from hda_fsspec.cli.commands import EXIT_CODES


def _commands(group: click.Group, *before: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield all commands with their words, those that have commands of their own as well."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield (*before, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, *before, name)


COMMANDS = dict(_commands(cli._program))
each_command = for_each("words", COMMANDS)


#: What takes longer to import than such a command may take. What draws on a terminal is needed
#: while something is waited for.
HEAVY = {
    *("xarray", "pandas", "dask", "numpy", "netCDF4"),
    *("requests", "urllib3", "rich", "tqdm"),
}


_LOADED = """
import os, sys
from hda_fsspec.cli import main
for line in sys.argv[1:]:
    if (pid := os.fork()):
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert ended == 0, line
        continue
    sys.exit(main(line.split()) or print("loaded", *sys.modules, file=sys.stderr))
"""


def _loaded_by(*lines: str) -> list[set[str]]:
    """Run commands in new processes, and return all modules that each of them has at its end."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LOADED, *lines],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = (line.split() for line in done.stderr.splitlines())
    return [set(words[1:]) for words in told if words[0] == "loaded"]


def test_all_commands_are_there() -> None:
    """No command is lost, and none is there that the help of all does not name."""
    assert {words[0] for words in COMMANDS} == {
        *("ls", "info", "get", "open", "plan", "cache", "datasets", "path", "terms", "login"),
        *("orders", "doctor", "emulator", "demo"),
    }
    assert {words[1] for words in COMMANDS if words[0] == "cache" and len(words) > 1} == {
        *("ls", "du", "prune", "verify", "clear"),
    }


@each_command
@for_each("option", ["--help", "-h"])
def test_help_of_a_command(
    words: tuple[str, ...], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what the command does, has an example that begins with its words, and fits."""
    assert main([*words, option]) == 0

    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"Usage: hda-fsspec {' '.join(words)} ")
    assert "--endpoint-url URL" in out
    examples = out.partition("\nExample")[2].splitlines()[1:]
    assert examples
    assert all(f"hda-fsspec {' '.join(words)}" in line for line in examples)
    assert max(map(len, out.splitlines())) <= 100
    assert out.isascii()


def _context(command: click.Command, name: str, given: list[str]) -> click.Context:
    # Which options ask for help, a command keeps from the first time.
    return command.make_context(name, given, **cli._program.context_settings)


@for_each("words", [w for w, command in COMMANDS.items() if not isinstance(command, click.Group)])
def test_each_example_is_a_command(words: tuple[str, ...]) -> None:
    """The words of an example are taken by the command that they are an example of."""
    command = COMMANDS[words]
    for line in command._paragraphs[1:]:  # type: ignore[attr-defined]
        # What stands beside it in a pipe is another program.
        [mine] = [part for part in line.split(" | ") if part.lstrip().startswith("hda-fsspec")]
        given = shlex.split(mine)[1 + len(words) :]
        with _context(command, words[-1], given) as ctx:
            assert ctx.args == []


def _documented() -> Iterator[tuple[str, list[str]]]:
    """Yield the lines of the documents that call the command line, and their words."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("hda-fsspec "):
                mine = line.partition(" | ")[0]
                yield f"{path.name}: {line}", shlex.split(mine, comments=True)[1:]


@for_each("words", [words for _, words in _documented()])
def test_documented_commands_are_commands(words: list[str]) -> None:
    """What a document says to type is taken as it stands there."""
    known = next(words[:n] for n in (2, 1) if tuple(words[:n]) in COMMANDS)
    command = COMMANDS[tuple(known)]

    with _context(command, known[-1], words[len(known) :]) as ctx:
        assert ctx.args == []
    assert not isinstance(command, click.Group)


@each_command
def test_json_is_there_for_all(words: tuple[str, ...]) -> None:
    """Every command that prints something prints JSON for programs, too."""
    command = COMMANDS[words]
    names = [option for param in command.params for option in param.opts]

    assert ("--json" in names) is not isinstance(command, click.Group)


def test_help_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    """It names each command with a line, the exit codes, and how to get completion."""
    assert main(["--help"]) == 0

    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines() if line.startswith("  ")]
    assert {line[0] for line in lines} >= {words[0] for words in COMMANDS}
    assert [code for code in EXIT_CODES if [str(code)] in [line[:1] for line in lines]] == [
        *(0, 1, 2, 130, 141),
    ]
    assert "_HDA_FSSPEC_COMPLETE=bash_source" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Commands:"),
        (["cache"], "Commands:"),
        (["lss"], "No such command 'lss'. Did you mean hda-fsspec ls?"),
        (["list"], "No such command 'list'. Did you mean hda-fsspec ls?"),
        (["Search", "ice"], "No such command 'Search'. Did you mean hda-fsspec datasets?"),
        (["zzz"], "No such command 'zzz'.\n"),
        (["plan", "--sel=lat=1", "--last=2", "hda://X/a=1"], "give one of them"),
        (["ls", "--jsn"], "Did you mean "),
        (["get"], "Missing argument"),
        (["ls", "a", "b"], "unexpected extra argument"),
        (["cache", "prune", "--older-than", "30"], "write a number and s, m, h, d or w"),
        (["emulator", "data", "--polls", "x"], "'x' is not a valid integer"),
    ],
)
def test_misuse_says_what_would_be_right(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, on standard error, and no traceback."""
    with pytest.raises(SystemExit) as ended:
        main(words)

    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert says in err
    assert err.startswith(" ".join(["Usage: hda-fsspec", *words[:1]])[:18])
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["pl"], ["plan"]),
        (["cache", "v"], ["verify"]),
        (["ls", "--js"], ["--json"]),
        (["plan", "--o"], ["--order-template", "--offline"]),
    ],
)
def test_completion(
    typed: list[str],
    offered: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A shell that asks gets the commands and options that begin as what was typed."""
    monkeypatch.setenv("_HDA_FSSPEC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["hda-fsspec", *typed]))
    monkeypatch.setenv("COMP_CWORD", str(len(typed)))

    with pytest.raises(SystemExit) as ended:
        main([])

    assert ended.value.code == 0
    words = [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()]
    assert sorted(words) == sorted(offered)


@pytest.mark.slow
def test_help_loads_nothing_heavy() -> None:
    """The help of all commands needs neither the client nor what draws on a terminal."""
    (loaded,) = _loaded_by("--help")

    assert HEAVY & loaded == set()
    assert {"fsspec", "hda_fsspec.settings", "hda_fsspec.emulator", "asyncio"} & loaded == set()


@pytest.mark.slow
def test_what_is_kept_is_told_without_what_asks_and_counts(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked before, by anyone, loads neither what speaks HTTP nor what holds arrays."""
    emulator = bench.start()
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    lines = [
        *("datasets test", f"ls -l {bench.query}", f"info {bench.query}"),
        *(f"info hda://{bench.dataset}", "cache ls", "orders --offline"),
    ]
    for line in (*lines, f"get {bench.path(1)} {bench.folder}/out"):
        assert main(line.split()) == 0
    requests = len(emulator.log)

    loaded = _loaded_by(*lines)

    assert len(loaded) == len(lines)
    assert [HEAVY & found for found in loaded] == [set()] * len(lines)
    assert len(emulator.log) == requests


def test_settings_count_on_either_side_of_a_command(
    bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the program's command, before and after the command of a group; the last one wins."""
    first, second = str(bench.folder / "first"), str(bench.folder / "second")
    told = []
    for words in (
        ["--cache-dir", second, "cache", "du"],
        ["cache", "--cache-dir", second, "du"],
        ["--cache-dir", first, "cache", "--cache-dir", first, "du", "--cache-dir", second],
    ):
        assert main(words) == 0
        told.append(capsys.readouterr().out.splitlines()[0])

    assert told == [f"folder: {second}"] * 3
