"""The layers of the package, as the design draws them: imports point down only."""

from __future__ import annotations

import ast
import dataclasses
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from private_names import PRIVATE_ALLOWED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hda_fsspec"

LAYERS = Path(__file__).with_name("layers.toml")
_TABLES = tomllib.loads(LAYERS.read_text(encoding="utf-8"))


def _expanded(names: list[str]) -> set[str]:
    """Return the parts that names of parts and groups stand for."""
    groups = _TABLES["groups"]
    return {part for name in names for part in (_expanded(groups.get(name, [])) or {name})}


PARTS: dict[str, set[str]] = {part: set(modules) for part, modules in _TABLES["parts"].items()}
PART_OF = {module: part for part, modules in PARTS.items() for module in modules}
VALUES = _expanded(["values"])
ALLOWED = {part: _expanded(names) for part, names in _TABLES["allowed"].items()}

#: Names that the front door offers to everyone, since they cost nothing to load.
FRONT_DOOR_CONSTANTS = {"__version__"}

#: Modules of the network half that only decide.
PURE = {"network.answers", "network.failures"}

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
    def top(self) -> str:
        """The module or sub-package at the top of the package."""
        return self.dotted.split(".")[0]

    @property
    def unit(self) -> str:
        """The part that the module belongs to."""
        return PART_OF.get(self.top, self.top)


def _read(path: Path) -> Source:
    return Source(path, ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))


SOURCES = [_read(path) for path in sorted(PACKAGE.rglob("*.py"))]
MODULES = {source.dotted.removesuffix(".__init__") for source in SOURCES}
PACKAGES = {source.top for source in SOURCES if source.path.parent != PACKAGE}
TOPS = {source.top for source in SOURCES}
UNITS = {source.unit for source in SOURCES}


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, function bodies included, but not what only type checkers execute."""
    yield node
    skipped = node.body if isinstance(node, ast.If) and _is_type_checking(node.test) else []
    for child in ast.iter_child_nodes(node):
        if child not in skipped:
            yield from _nodes(child)


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


def _own_imports(source: Source) -> Iterator[tuple[str, int]]:
    """Yield the entries of the table that a module imports from, with lines."""
    for name, line in _imports(source):
        parts = name.split(".")
        if parts[0] != "hda_fsspec":
            continue
        head = parts[1] if len(parts) > 1 else "__init__"
        if head in FRONT_DOOR_CONSTANTS:
            continue
        yield (PART_OF.get(head, head) if head in TOPS else "__init__"), line


def _module_of(name: str) -> str:
    """Return which module of the package an imported name is, or is of; else "__init__"."""
    parts = name.split(".")[1:] if name.split(".", maxsplit=1)[0] == "hda_fsspec" else []
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts) or "__init__"


def _is_of(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _imports_of(source: Source, packages: tuple[str, ...]) -> Iterator[str]:
    for name, line in _imports(source):
        if _is_of(name, packages):
            yield f"{line} imports {name}"


def _violations(check: Callable[[Source], Iterator[str]]) -> list[str]:
    return [
        f"{source.path.relative_to(ROOT)}:{what}" for source in SOURCES for what in check(source)
    ]


def test_every_module_has_its_place_in_the_table() -> None:
    """A new module must be given a layer before it can be used."""
    missing = sorted(UNITS - ALLOWED.keys())

    assert not missing, f"{missing}: add it to the tables in {LAYERS}"


def _layers(below: dict[str, set[str]]) -> set[str]:
    """Return what cannot be sorted into layers, since it imports itself in a circle."""
    left = {name: set(names) - {name} for name, names in below.items()}
    while ready := [name for name, names in left.items() if not names & left.keys()]:
        for name in ready:
            del left[name]
    return set(left)


def test_modules_have_no_cycle() -> None:
    """No module imports itself by way of others, so that each can be read after those below it."""
    below: dict[str, set[str]] = {module: set() for module in MODULES}
    for source in SOURCES:
        # Within the emulator the catalogue and what it is made of know each other.
        if source.unit != "emulator":
            module = source.dotted.removesuffix(".__init__")
            below[module] |= {_module_of(name) for name, _ in _imports(source)}
    for front_door in {"__init__"} | PACKAGES:
        below.pop(front_door, None)

    assert _layers(below) == set()
    assert _layers(ALLOWED) == set()


def test_network_disk_and_formats_are_strangers() -> None:
    """The network half, the disk half and the readers of formats never know each other."""
    halves = {"network", "disk", "fileformats"}

    assert {half: ALLOWED[half] & halves for half in halves} == {half: set() for half in halves}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.dotted)
def test_imports_point_down(source: Source) -> None:
    """A module imports only what its layer allows, at the top or late."""
    allowed = ALLOWED.get(source.unit, set()) | {source.unit}

    wrong = [f"line {line}: {name}" for name, line in _own_imports(source) if name not in allowed]

    assert not wrong, f"{source.unit} may import {sorted(allowed)}; but {'; '.join(wrong)}"


def test_values_do_no_io() -> None:
    """Errors, records, paths and the schema are values: they import nothing that reads or waits."""

    def check(source: Source) -> Iterator[str]:
        if source.unit not in VALUES | {"schema"} and source.dotted not in PURE:
            return
        # A request may be given as the path of a JSON file.
        free = {"os", "pathlib"} if source.dotted == "paths.api_requests" else set()
        for name, line in _imports(source):
            if _is_of(name, INPUT_OUTPUT) and name.split(".")[0] not in free:
                yield f"{line} imports {name}"

    assert _violations(check) == []


def test_only_settings_reads_the_environment() -> None:
    """No module but settings mentions the environment."""

    def check(source: Source) -> Iterator[str]:
        if source.unit == "settings":
            return
        mentions = [["os", each] for each in sorted(ENVIRONMENT_NAMES)]
        for node in _nodes(source.tree):
            if isinstance(node, ast.Attribute) and _dotted(node) in mentions:
                yield f"{node.lineno} uses os.{node.attr}"
        for name, line in _imports(source):
            if name in {f"os.{each}" for each in ENVIRONMENT_NAMES}:
                yield f"{line} imports {name}"

    assert _violations(check) == []


def test_only_session_speaks_http() -> None:
    """No module but session imports requests, nor any other HTTP client."""

    def check(source: Source) -> Iterator[str]:
        if source.dotted == "network.session":
            return
        # The emulator's server takes the table of reason phrases from http.client.
        standard = () if source.unit == "emulator" else ("http.client",)
        yield from _imports_of(source, (*HTTP_CLIENTS, *standard))

    assert _violations(check) == []


def test_the_emulator_is_independent() -> None:
    """The emulator shares no code with the client beyond errors and records, nor its libraries."""

    def check(source: Source) -> Iterator[str]:
        if source.unit != "emulator":
            return
        client = (*HTTP_CLIENTS, "fsspec", "dask", "platformdirs")
        yield from _imports_of(source, client)

    assert _violations(check) == []
    assert [name for name, below in ALLOWED.items() if "emulator" in below] == ["cli"]


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
