"""The examples run as a user runs them: as scripts, in a process of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import netCDF4
import pytest
from checkout import ROOT

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


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
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


@pytest.mark.slow
def test_open_products_tells_an_error_in_a_line(tmp_path: Path) -> None:
    """A query that is not well formed ends in one typed message and no traceback."""
    with Emulator(Catalogue([DatasetEntry(DATASET, [])])) as emulator:
        done = _run(
            ROOT / "examples" / "open_products.py",
            f"hda://{DATASET}/bbox=1,2,3",
            environment=emulator.environment,
            cwd=tmp_path,
        )

    assert done.returncode == 1
    assert done.stderr.startswith("LocationError: ")
    assert "Traceback" not in done.stderr
