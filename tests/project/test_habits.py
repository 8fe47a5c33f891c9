"""Habits of the code that a reader would otherwise have to check by eye."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT, nodes_of, parse
from conftest import line_of_skips

PACKAGE = ROOT / "hda_fsspec"
#: Lines of code: blank lines, comments and docstrings do not count.
MAX_LINES = 400
TERMINAL = {"cli"}
HEAVY = {"xarray", "netCDF4", "dask", "requests", "numpy", "pandas", "aiohttp", "tqdm", "rich"}


@pytest.mark.slow
def test_libraries_do_not_print() -> None:
    """Only the terminal's modules write to the terminal."""
    printing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") not in TERMINAL
        for node in nodes_of(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"print", "pprint"}
    ]

    assert printing == []


@functools.cache
def _calls() -> tuple[tuple[str, str, ast.Call], ...]:
    """Return all calls of the package, the emulator's left out: module, what is called, call."""
    return tuple(
        (module, ast.unparse(node.func), node)
        for path in sorted(PACKAGE.rglob("*.py"))
        if not (module := path.relative_to(PACKAGE).as_posix()).startswith("emulator/")
        for node in nodes_of(path)
        if isinstance(node, ast.Call)
    )


@pytest.mark.slow
def test_what_lies_in_the_cache_is_reached_in_one_way() -> None:
    """In the cache no file is opened or changed by its path, but through :mod:`untrusted_files`."""
    by_path = {
        *("open", "read_bytes", "read_text", "write_bytes", "write_text", "chmod", "mkdir"),
        *("iterdir", "glob", "rglob", "touch", "exists", "is_file", "is_dir", "symlink_to"),
        *("unlink", "rename", "replace", "stat", "resolve", "hardlink_to", "rmdir"),
        *("scandir", "listdir", "utime", "truncate", "link", "rmtree", "copyfile", "chown"),
    }
    safe = ("folder", "self._folder", "safe", "self", "super()", "dataclasses", "name", "archive")
    known = {
        # The cache folder itself is where the user said that it is.
        "cache/folder.py: self.root.parent.mkdir",
        "cache/folder.py: self.root.mkdir",
        "cache/folder.py: self.root.stat",
        # By a descriptor, or a descriptor and a name.
        "cache/folder.py: os.listdir",
        "cache/product_entries.py: os.stat",
        "cache/folder.py: os.utime",
        "cache/staging.py: os.utime",
        "cache/staging.py: handle.truncate",
        "reading/gribs.py: os.stat",
        "reading/gribs.py: os.replace",
        "reading/gribs.py: os.unlink",
        # Outside of the cache: what the system tells, and private folders.
        "cache/partial_writers.py: Path(f'/proc/{pid}/stat').read_text",
        "cache/partial_writers.py: Path('/proc/sys/kernel/random/boot_id').read_text",
        "cache/eviction.py: p.exists",
        "reading/unpacking.py: path.stat",
        # Of the disk that a folder is on, only its room is asked.
        "reading/unpacking.py: parent.is_dir",
        "reading/unpacking.py: scratch.parent.mkdir",
        "reading/unpacking.py: shutil.rmtree",
    }
    found = {
        f"{module}: {name}"
        for module, name, _ in _calls()
        if module.startswith("cache/") or module in {"reading/unpacking.py", "reading/gribs.py"}
        if name.rpartition(".")[2] in by_path
        if name.rpartition(".")[0] not in safe
    }

    assert found - known == set()
    assert known - found == set()


@pytest.mark.slow
def test_what_is_shown_goes_through_the_one_sanitiser() -> None:
    """Warnings, notes and log records pass where they are made printable; commands, too."""
    doors = {
        "warnings.warn": {"printable.py"},
        "error.add_note": {"errors.py"},
        "err.add_note": set(),
        "sys.stdout.write": set(),
        "sys.stdout.writelines": set(),
        "sys.stderr.write": {"cli/terminal.py"},
    }
    beside = [
        f"{module}: {name}"
        for module, name, _ in _calls()
        if name in doors and module not in doors[name]
    ]
    loggers = {
        ast.unparse(call.args[0]) for _, name, call in _calls() if name == "logging.getLogger"
    }

    assert beside == []
    assert loggers == {"'hda_fsspec'"}  # the filter is on this one, and not on what is below it


def _lines_of_code(path: Path) -> int:
    """Return how many lines of a file hold code, or of a short file how many it has."""
    text = path.read_text(encoding="utf-8")
    if len(text.splitlines()) <= MAX_LINES:
        return len(text.splitlines())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        line
        for node in nodes_of(path)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and number not in docstrings
        for number, line in enumerate(text.splitlines(), 1)
    )


@pytest.mark.slow
def test_files_stay_short() -> None:
    """A module is one idea, and one idea fits in 400 lines of code."""
    lengths = {
        str(path.relative_to(ROOT)): _lines_of_code(path)
        for folder in ("hda_fsspec", "tests", "examples", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }

    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


IMPORTS = [
    ("os", "hda_fsspec"),
    ("os", "hda_fsspec.settings"),
    ("os", "hda_fsspec.fs.filesystem"),
    ("os", "hda_fsspec.cli"),
    ("xarray", "hda_fsspec.engine.backend"),
]
_LOADED = f"""
import importlib, json, os, sys
for first, module in {IMPORTS}:
    if pid := os.fork():
        assert os.waitpid(pid, 0) == (pid, 0), module
        continue
    importlib.import_module(first)
    before = set(sys.modules)
    importlib.import_module(module)
    print(json.dumps(sorted(set(sys.modules) - before)))
    break
"""


@pytest.mark.slow
def test_import_is_light() -> None:
    """Importing the front door, the filesystem or the terminal loads no heavy library.

    Nor does the engine, which xarray imports whatever it opens.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LOADED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    loaded = [set(json.loads(line)) for line in done.stdout.splitlines()]
    assert [module in found for (_, module), found in zip(IMPORTS, loaded, strict=True)] == (
        [True] * len(IMPORTS)
    )
    assert [sorted(HEAVY & found) for found in loaded] == [[]] * len(IMPORTS)


def test_skips_are_told_in_one_line() -> None:
    """However many tests are skipped, the last page of the suite is its result."""
    told = [("a.py", 1, "Skipped: no data")] * 300 + [("b.py", 2, "Skipped: no cfgrib"), "odd"]

    line = line_of_skips(told)

    assert line == "302 skipped: 300 since no data; 1 since no cfgrib; 1 since odd"
    assert '"-ra"' not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


#: What may live as long as the process, and why it is no client's.
PROCESS_STATE = {
    "cache/locks.py:_held": "locks of files exclude threads of all clients of a cache folder",
    "cache/locks.py:_guard": "guards the locks that are held",
    "cache/locks.py:_all": "descriptors that a forked child must close",
    "client.py:_of_the_parent": "in a forked child: kept alive, so that nothing of theirs ends",
    "client.py:_shared": "the clients themselves",
    "client.py:_shared_lock": "guards the clients",
    "concurrency/forks.py:_locks": "the locks that the one fork handler renews",
    "concurrency/forks.py:_resets": "what the one fork handler calls",
    "fetching/quota.py:_random": "a source of chance that nobody seeds",
    "lazy/product_table.py:_known": "tables by their content, as often as they are unpickled",
    "lazy/product_table.py:_known_lock": "guards the tables",
    "network/response_limits.py:_of_this_thread": "how often a thread is inside of a meter",
    "network/session.py:_random": "a source of chance that nobody seeds",
    "network/connection_errors.py:_unverified": "addresses that the user was warned of",
    "paths/api_requests.py:_told": "requests that the user was warned of",
    "planning/dask_readahead.py:_register_lock": "guards the registry of Dask's callbacks",
    "planning/dask_readahead.py:_registered": "Dask knows callbacks by process",
    "reading/selfcontained.py:_trusted": "files, by stamp, that were found to lead nowhere",
    "reading/unpacking.py:_guard": "guards the locks and the folder below",
    "reading/unpacking.py:_locks": "one writer for each member of an archive, by its path",
    "reading/unpacking.py:_temporary": "the folder that this process removes at its end",
    "untrusted_files.py:_told": "files of others that the user was warned of",
    "settings/rcfile.py:_known": "what rc files hold, by path and stamp; settings are made of it",
    "settings/rcfile.py:_lock": "guards what rc files hold",
    "settings/rcfile.py:_told": "rc files that the user was warned of",
    "stack/stack.py:_known": "stacks by their content, as often as they are unpickled",
    "stack/stack.py:_known_lock": "guards the stacks",
    "workers/computations.py:_broken": "Dask computes over products of any client",
    "workers/computations.py:_lock": "guards the computations",
    "workers/computations.py:_numbers": "numbers of computations",
    "workers/computations.py:_under_way": "Dask computes over products of any client",
    "workers/waiting.py:_away": "slots of the Dask worker that this process is",
}
#: Values that a name may hold in all modules: they are never changed.
CONSTANTS = {"TypeVar", "ContextVar", "getLogger"}


def _names_of_modules() -> Iterator[tuple[str, str, ast.expr]]:
    """Yield what modules of the client keep under names that are not those of constants."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        if module.startswith(("emulator/", "cli/")):
            continue
        for node in parse(path).body:
            if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
                continue
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield module, target.id, node.value


@pytest.mark.slow
def test_state_hangs_on_a_client() -> None:
    """What outlives a call belongs to a client and ends with it, but for what is listed."""
    found = {
        f"{module}:{name}"
        for module, name, value in _names_of_modules()
        if name != name.upper() and not name.startswith("__") and name.lower() == name
        if isinstance(value, ast.Call | ast.Dict | ast.List | ast.Set | ast.ListComp | ast.DictComp)
        if not (
            isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] in CONSTANTS
        )
    }
    rebound = {
        f"{path.relative_to(PACKAGE).as_posix()}:{name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in nodes_of(path)
        if isinstance(node, ast.Global)
        for name in node.names
    }

    assert found | rebound == set(PROCESS_STATE)


@pytest.mark.slow
def test_one_handler_begins_anew_after_a_fork() -> None:
    """So that the order is known; but HDF5's lock is taken before the fork, too."""
    handlers = [module for module, name, _ in _calls() if name.endswith("at_fork")]

    assert handlers == ["concurrency/forks.py", "reading/library_locks.py"]
