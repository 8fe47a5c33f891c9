"""The shape of the package: imports point down only (see ``pyproject.toml``), values do no I/O."""

from __future__ import annotations

import ast
import dataclasses
import functools
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from checkout import ROOT, parse
from private_names import PRIVATE_ALLOWED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE = ROOT / "hda_fsspec"

#: Rooms that only hold values.
VALUES = {"printable", "errors", "filenames", "records", "paths", "schema"}

#: Modules of the network half that only decide.
PURE = {"network.responses", "network.retries"}

ENVIRONMENT_NAMES = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
HTTP_CLIENTS = ("requests", "urllib3", "urllib.request", "httpx", "aiohttp")
INPUT_OUTPUT = (
    *(*HTTP_CLIENTS, "fsspec", "glob", "io", "netCDF4", "os", "pathlib", "shutil", "socket"),
    *("subprocess", "tempfile", "threading", "time", "xarray"),
)


@dataclasses.dataclass(frozen=True)
class Source:
    """One file of the package, parsed."""

    path: Path
    tree: ast.Module

    @property
    def dotted(self) -> str:
        """The module's name below the package: ``emulator.server``."""
        return ".".join(self.path.relative_to(PACKAGE).with_suffix("").parts)

    @property
    def room(self) -> str:
        """The module or sub-package at the top of the package."""
        return self.dotted.split(".")[0]


def _sources() -> list[Source]:
    return [Source(path, parse(path)) for path in sorted(PACKAGE.rglob("*.py"))]


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


@functools.cache
def _nodes(tree: ast.Module) -> list[ast.stmt | ast.Attribute]:
    """Return all imports and attributes, but of what only type checkers execute."""
    found: list[ast.stmt | ast.Attribute] = []
    left: list[ast.AST] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Attribute):
            found.append(node)
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            left += node.orelse
        else:
            left += ast.iter_child_nodes(node)
    return found


def _imports(source: Source) -> Iterator[tuple[str, int]]:
    """Yield imported names with lines: ``a.b`` for ``import a.b`` and ``from a import b``."""
    package = ("hda_fsspec", *source.dotted.split(".")[:-1])
    for node in _nodes(source.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def _is_of(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _violations(check: Callable[[Source], Iterator[str]]) -> list[str]:
    return [
        f"{source.path.relative_to(ROOT)}:{what}" for source in _sources() for what in check(source)
    ]


@pytest.mark.slow
def test_imports_point_down() -> None:
    """The rooms stand in layers, within each room there is no circle, and some know no others."""
    # In a process of its own: it sets up logging, and switches off the loggers that there are.
    program = "import sys, importlinter.cli as cli; sys.exit(cli.lint_imports(cache_dir=None))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_values_do_no_io() -> None:
    """Errors, records, paths and the schema are values: they import nothing that reads or waits."""

    def check(source: Source) -> Iterator[str]:
        if source.room not in VALUES and source.dotted not in PURE:
            return
        # A request may be given as the path of a JSON file.
        free = {"os", "pathlib"} if source.dotted == "paths.api_requests" else set()
        for name, line in _imports(source):
            if _is_of(name, INPUT_OUTPUT) and name.split(".")[0] not in free:
                yield f"{line} imports {name}"

    assert _violations(check) == []


@pytest.mark.slow
def test_only_settings_reads_the_environment() -> None:
    """No module but settings mentions the environment."""

    def check(source: Source) -> Iterator[str]:
        if source.room == "settings":
            return
        for node in _nodes(source.tree):
            if not isinstance(node, ast.Attribute) or node.attr not in ENVIRONMENT_NAMES:
                continue
            if _dotted(node) == ["os", node.attr]:
                yield f"{node.lineno} uses os.{node.attr}"
        for name, line in _imports(source):
            if name in {f"os.{each}" for each in ENVIRONMENT_NAMES}:
                yield f"{line} imports {name}"

    assert _violations(check) == []


def _foreign_private_names(source: Source) -> Iterator[tuple[str, int]]:
    """Yield private names of other packages: imported, or reached through a module's name."""
    bound: dict[str, str] = {}
    for name, line in _imports(source):
        top = name.split(".")[0]
        if top in {"hda_fsspec", "__future__"}:
            continue
        if any(_is_private(part) for part in name.split(".")) or _is_of(name, ("xarray.core",)):
            yield name, line
    for node in _nodes(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound[alias.asname or alias.name.split(".")[0]] = alias.name
    for node in _nodes(source.tree):
        if not isinstance(node, ast.Attribute):
            continue
        chain = _dotted(node)
        if chain is None:
            continue
        root, *rest = chain
        target = bound.get(root)
        if target is None or target.split(".")[0] == "hda_fsspec":
            continue
        if _is_private(node.attr) or (target == "xarray" and rest == ["core"]):
            yield ".".join([target, *rest]), node.lineno


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _dotted(node: ast.expr) -> list[str] | None:
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return None if before is None else [*before, node.attr]
    return None


@pytest.mark.slow
def test_nobody_uses_private_names_of_other_packages() -> None:
    """What another package may change without notice is used only where a reason is given."""
    used: set[tuple[str, str]] = set()

    def check(source: Source) -> Iterator[str]:
        for name, line in _foreign_private_names(source):
            if (source.dotted, name) in PRIVATE_ALLOWED:
                used.add((source.dotted, name))
            else:
                yield f"{line} uses {name}"

    assert _violations(check) == []
    assert all(reason.strip() for reason in PRIVATE_ALLOWED.values())
    assert used == PRIVATE_ALLOWED.keys(), "an entry of PRIVATE_ALLOWED is no longer needed"
