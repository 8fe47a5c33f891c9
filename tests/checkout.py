"""The checkout, its source as it is parsed, and the folder of real files beside it."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
#: Absent where the project was cloned on its own.
SHARED = ROOT.parent / "shared"


@functools.cache
def parse(path: Path) -> ast.Module:
    """Return a file's syntax tree, parsed once for all tests that look at it."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@functools.cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of a file's syntax tree."""
    return tuple(ast.walk(parse(path)))
