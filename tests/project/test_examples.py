"""The examples run as a user runs them: as scripts, in a process of their own."""

from __future__ import annotations

import ast
import io
import os
import re
import runpy
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path

import netCDF4
import pytest
from checkout import ROOT
from rows import for_each

from hda_fsspec.emulator import Catalogue, DatasetEntry, Emulator, dated_product

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DATASET = "EO:TEST:DAT:SST"
QUERY = f"hda://{DATASET}/startdate=2024-05-01/enddate=2024-05-03"


def _product(path: Path) -> Path:
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", 3)
        file.createVariable("sst", "f4", ("x",))[:] = [280.0, 281.0, 282.0]
    return path


def _run(
    script: Path, *arguments: str, environment: dict[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(script), *arguments],
        env={**os.environ, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@for_each("script", EXAMPLES)
def test_header_names_what_the_script_needs(script: Path) -> None:
    """Each example has inline metadata that names this package and the Python it needs."""
    block = re.search(
        r"^# /// script\n((?:#.*\n)+?)# ///$", script.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert block is not None
    metadata = tomllib.loads(re.sub(r"^# ?", "", block.group(1), flags=re.MULTILINE))
    assert metadata["requires-python"] == ">=3.11"
    (needed,) = metadata["dependencies"]
    assert re.fullmatch(r"hda-fsspec(\[[a-z,]+\])?", needed)


def _lines_of_code(text: str) -> int:
    """Count lines that are neither empty, nor a comment, nor a docstring."""
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {
        line
        for token in tokens
        if token.type not in nothing | {tokenize.ENDMARKER}
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            code -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    return len(code)


def test_lines_of_code_are_counted_as_the_page_says() -> None:
    """A comment, a docstring and an empty line are none; a text over two lines is two."""
    text = '"""A module."""\n\n# A comment.\nx = (\n    "a"\n    "b"\n)\n'

    assert _lines_of_code(text) == 4


def test_the_page_of_examples_tells_their_lengths() -> None:
    """Each script of the page is shown, and has as many lines of code as the table says."""
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| .*? \| `(\w+\.py)` \| \d+ \| (\d+) \|", page, re.MULTILINE)
    shown = re.findall(r'^--8<-- "examples/(\w+\.py)"$', page, re.MULTILINE)

    scripts = {path.name: path.read_text(encoding="utf-8") for path in EXAMPLES}
    scripts.pop("open_products.py")  # the quickstart of all
    assert dict(told) == {name: str(_lines_of_code(text)) for name, text in scripts.items()}
    assert shown == [name for name, _ in told]


@pytest.mark.slow
def test_open_products(tmp_path: Path) -> None:
    """The example lists three products, orders each once, and names what is in them."""
    products = [
        dated_product(f"sst_2024050{day}.nc", _product(tmp_path / f"sst_2024050{day}.nc"))
        for day in (1, 2, 3)
    ]
    with Emulator(Catalogue([DatasetEntry(DATASET, products)])) as emulator:
        done = _run(
            ROOT / "examples" / "open_products.py",
            QUERY,
            environment=emulator.environment,
            cwd=tmp_path,
        )

        assert done.returncode == 0, done.stderr
        assert emulator.orders == 3

    lines = done.stdout.splitlines()
    assert lines[0].startswith("3 products")
    assert [line.split()[0] for line in lines[1:]] == [product.product_id for product in products]
    assert all(line.endswith("sst") for line in lines[1:])


def test_open_products_tells_an_error_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that is not well formed ends in one typed message and no traceback."""
    script = str(ROOT / "examples" / "open_products.py")
    monkeypatch.setattr(sys, "argv", [script, f"hda://{DATASET}/bbox=1,2,3"])

    with Emulator(Catalogue([DatasetEntry(DATASET, [])])) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit, match=r"^LocationError: ") as ended:
            runpy.run_path(script, run_name="__main__")

    assert "Traceback" not in str(ended.value)
